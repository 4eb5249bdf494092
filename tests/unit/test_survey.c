/*
 * test_survey.c - what NVML tells, read through a table of the test's own: with and
 * without the functions that an older one lacks, with devices that do not answer, and
 * the frame that carries it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "driver/survey.h"
#include "wire/who.h"

#define GIB     ((uint64_t)1 << 30)
#define UNKNOWN (~0ull)

/* What the table answers with. */
static struct {
	unsigned count;
	int count_result, handle_result, name_result, list_result, sample_result;
	unsigned list_count, graphics_count, sample_count;
	struct vac_nvml_process list[300], graphics[4];
	struct vac_nvml_sample samples[8], again[2];
	unsigned again_count; /* of those since the last reading; 0: not found */
	int value_result;
	unsigned value_count;
	struct vac_nvml_value values[4];
	struct vac_nvml_memory memory;
	struct vac_nvml_memory_v2 v2;
	unsigned calls;
} nvml;

static int fake_version(char *text, unsigned bytes)
{
	snprintf(text, bytes, "580.159");
	return VAC_NVML_OK;
}

static int fake_count(unsigned *count)
{
	*count = nvml.count;
	return nvml.count_result;
}

static int fake_by_index(unsigned index, struct nvmlDevice_st **device)
{
	*device = (struct nvmlDevice_st *)(uintptr_t)(index + 1);
	return index == 0 ? VAC_NVML_OK : nvml.handle_result;
}

static int fake_name(struct nvmlDevice_st *device, char *text, unsigned bytes)
{
	(void)device;
	snprintf(text, bytes, "Some GPU");
	return nvml.name_result;
}

static int fake_uuid(struct nvmlDevice_st *device, char *text, unsigned bytes)
{
	snprintf(text, bytes, "GPU-%u", (unsigned)(uintptr_t)device);
	return VAC_NVML_OK;
}

static int fake_memory(struct nvmlDevice_st *device, struct vac_nvml_memory *out)
{
	(void)device;
	*out = nvml.memory;
	return VAC_NVML_OK;
}

static int fake_memory_v2(struct nvmlDevice_st *device, struct vac_nvml_memory_v2 *out)
{
	(void)device;
	/* sizeof 40 and version 2, as NVIDIA's macro makes it. */
	assert_int_equal(out->version, 0x02000028);
	*out = nvml.v2;
	return VAC_NVML_OK;
}

static int answer_list(const struct vac_nvml_process *from, unsigned have, unsigned *count,
		       struct vac_nvml_process *out)
{
	unsigned room = *count;

	nvml.calls++;
	*count = have;
	if (nvml.list_result != VAC_NVML_OK)
		return nvml.list_result;
	if (have > room)
		return VAC_NVML_TOO_SMALL;
	memcpy(out, from, have * sizeof(*out));
	return VAC_NVML_OK;
}

static int fake_processes(struct nvmlDevice_st *device, unsigned *count,
			  struct vac_nvml_process *out)
{
	(void)device;
	return answer_list(nvml.list, nvml.list_count, count, out);
}

static int fake_graphics(struct nvmlDevice_st *device, unsigned *count,
			 struct vac_nvml_process *out)
{
	(void)device;
	return answer_list(nvml.graphics, nvml.graphics_count, count, out);
}

static int fake_samples(struct nvmlDevice_st *device, struct vac_nvml_sample *out, unsigned *count,
			unsigned long long since_us)
{
	(void)device;
	if (since_us > 0) {
		/* a second before the last reading */
		assert_int_equal(since_us, 9000000);
		assert_non_null(out);
		assert_int_equal(*count, nvml.sample_count);
		*count = nvml.again_count;
		memcpy(out, nvml.again, nvml.again_count * sizeof(*out));
		return nvml.again_count ? VAC_NVML_OK : VAC_NVML_NOT_FOUND;
	}
	if (nvml.sample_result != VAC_NVML_OK)
		return nvml.sample_result;
	if (!out) {
		*count = nvml.sample_count;
		return VAC_NVML_TOO_SMALL;
	}
	assert_int_equal(*count, nvml.sample_count);
	memcpy(out, nvml.samples, nvml.sample_count * sizeof(*out));
	return VAC_NVML_OK;
}

static int fake_device_samples(struct nvmlDevice_st *device, int type, unsigned long long since_us,
			       int *value_type, unsigned *count, struct vac_nvml_value *out)
{
	(void)device;
	assert_int_equal(type, 1); /* NVML_GPU_UTILIZATION_SAMPLES */
	assert_int_equal(since_us, 0);
	assert_non_null(out);
	assert_true(*count >= 120); /* as many as NVML keeps */
	*value_type = 1;
	*count = nvml.value_count;
	memcpy(out, nvml.values, sizeof(nvml.values));
	return nvml.value_result;
}

static int fake_utilization(struct nvmlDevice_st *device, struct vac_nvml_utilization *out)
{
	(void)device;
	*out = (struct vac_nvml_utilization){37, 21};
	return VAC_NVML_OK;
}

static int fake_mig(struct nvmlDevice_st *device, unsigned *current, unsigned *pending)
{
	(void)device;
	*current = 1;
	*pending = 0;
	return VAC_NVML_OK;
}

static int fake_temperature(struct nvmlDevice_st *device, int sensor, unsigned *celsius)
{
	(void)device;
	assert_int_equal(sensor, 0);
	*celsius = 41;
	return VAC_NVML_OK;
}

static int fake_power(struct nvmlDevice_st *device, unsigned *milliwatts)
{
	(void)device;
	*milliwatts = 123456;
	return VAC_NVML_OK;
}

static int fake_limit(struct nvmlDevice_st *device, unsigned *milliwatts)
{
	(void)device;
	*milliwatts = 700000;
	return VAC_NVML_OK;
}

static int fake_no_fan(struct nvmlDevice_st *device, unsigned *percent)
{
	(void)device;
	*percent = 99;
	return 3; /* not supported */
}

static int fake_encoder(struct nvmlDevice_st *device, unsigned *percent, unsigned *period_us)
{
	(void)device;
	*percent = 5;
	*period_us = 167000;
	return VAC_NVML_OK;
}

/* A table of an NVML that has nothing optional. */
static const struct vac_nvml old = {
	.driver_version = fake_version,
	.count = fake_count,
	.by_index = fake_by_index,
	.name = fake_name,
	.uuid = fake_uuid,
	.memory = fake_memory,
	.processes = fake_processes,
};

static struct vac_nvml full(void)
{
	struct vac_nvml table = old;

	table.graphics = fake_graphics;
	table.memory_v2 = fake_memory_v2;
	table.utilization = fake_utilization;
	table.samples = fake_samples;
	table.mig_mode = fake_mig;
	table.temperature = fake_temperature;
	table.fan = fake_no_fan;
	table.power = fake_power;
	table.power_limit = fake_limit;
	table.encoder = fake_encoder;
	return table;
}

static int reset(void **state)
{
	(void)state;
	memset(&nvml, 0, sizeof(nvml));
	nvml.count = 1;
	nvml.memory = (struct vac_nvml_memory){80 * GIB, 70 * GIB, 10 * GIB};
	nvml.v2 = (struct vac_nvml_memory_v2){0, 80 * GIB, GIB, 70 * GIB, 9 * GIB};
	nvml.list_count = 2;
	nvml.list[0] = (struct vac_nvml_process){11, 5 * GIB, ~0u, ~0u};
	nvml.list[1] = (struct vac_nvml_process){12, UNKNOWN, ~0u, ~0u};
	nvml.graphics_count = 2;
	nvml.graphics[0] = (struct vac_nvml_process){13, GIB, ~0u, ~0u};
	nvml.graphics[1] = (struct vac_nvml_process){11, 5 * GIB, ~0u, ~0u};
	return 0;
}

static void test_an_old_one(void **state)
{
	struct vac_survey survey;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_survey_read(&old, &survey, &err), 0);
	assert_string_equal(survey.driver_version, "580.159");
	assert_int_equal(survey.count, 1);
	const struct vac_survey_device *device = &survey.devices[0];

	assert_string_equal(device->name, "Some GPU");
	assert_string_equal(device->uuid, "GPU-1");
	assert_int_equal(device->total_bytes, 80 * GIB);
	assert_int_equal(device->used_bytes, 10 * GIB);
	assert_int_equal(device->free_bytes, 70 * GIB);
	assert_false(device->reserved_valid);
	assert_false(device->gpu_percent.valid || device->celsius.valid ||
		     device->milliwatts.valid);
	assert_false(device->mig);
	assert_true(device->listed);
	assert_false(device->sampled);
	assert_int_equal(device->process_count, 2);
	assert_true(device->processes[0].bytes_valid && device->processes[0].compute);
	assert_false(device->processes[0].graphics || device->processes[0].sm_percent.valid);
	assert_false(device->processes[1].bytes_valid);
	vac_survey_free(&survey);
	assert_int_equal(survey.count, 0);
}

static void test_a_new_one(void **state)
{
	const struct vac_nvml table = full();
	struct vac_survey survey;
	struct vac_error err;

	(void)state;
	nvml.sample_count = 5;
	nvml.samples[0] = (struct vac_nvml_sample){.pid = 11, .at_us = 1000, .sm = 90};
	nvml.samples[1] = (struct vac_nvml_sample){.pid = 11, .at_us = 3000, .sm = 0};
	nvml.samples[2] = (struct vac_nvml_sample){.pid = 11, .at_us = 2000, .sm = 40};
	nvml.samples[3] = (struct vac_nvml_sample){.pid = 99, .at_us = 500, .sm = 40};
	nvml.samples[4] = (struct vac_nvml_sample){.pid = 12, .at_us = 0, .sm = 77};
	assert_int_equal(vac_survey_read(&table, &survey, &err), 0);
	const struct vac_survey_device *device = &survey.devices[0];

	assert_int_equal(device->used_bytes, 9 * GIB);
	assert_true(device->reserved_valid);
	assert_int_equal(device->reserved_bytes, GIB);
	assert_true(device->gpu_percent.valid && device->celsius.valid);
	assert_int_equal(device->gpu_percent.value, 37);
	assert_int_equal(device->memory_percent.value, 21);
	assert_int_equal(device->celsius.value, 41);
	assert_int_equal(device->milliwatts.value, 123456);
	assert_int_equal(device->limit_milliwatts.value, 700000);
	assert_int_equal(device->encoder_percent.value, 5);
	assert_false(device->fan_percent.valid || device->decoder_percent.valid);
	assert_true(device->mig && device->listed && device->sampled);
	assert_int_equal(device->since_us, 500);
	/* 11 is in both lists and has its bytes once. */
	assert_int_equal(device->process_count, 3);
	assert_true(device->processes[0].compute && device->processes[0].graphics);
	assert_int_equal(device->processes[0].bytes, 5 * GIB);
	assert_int_equal(device->processes[0].sm_percent.value, 0);
	assert_int_equal(device->processes[0].used_at_us, 2000);
	assert_true(device->processes[1].sm_percent.valid); /* no sample: no use */
	assert_int_equal(device->processes[1].sm_percent.value, 0);
	assert_int_equal(device->processes[1].used_at_us, 0);
	assert_int_equal(device->processes[2].pid, 13);
	assert_false(device->processes[2].compute);
	vac_survey_free(&survey);
}

/* NVIDIA's text has the reserved in used, the driver has not: neither is relied on. */
/* As an H200 answers: who was there last is in the newest sample with the average of 14 s;
 * whether it used anything since the last reading only the samples since then say. */
static void test_used_since(void **state)
{
	const struct vac_nvml table = full();
	struct vac_survey survey;
	struct vac_error err;

	(void)state;
	nvml.sample_count = 2;
	nvml.samples[0] = (struct vac_nvml_sample){.pid = 11, .at_us = 11900000, .sm = 10};
	nvml.samples[1] = (struct vac_nvml_sample){.pid = 12, .at_us = 5000000, .sm = 2};
	for (int i = 0; i < 3; i++) {
		/* named without use; not named; used */
		nvml.again_count = i == 1 ? 0 : 1;
		nvml.again[0] = (struct vac_nvml_sample){
			.pid = 11, .at_us = 11900000, .sm = i == 2 ? 30 : 0};
		assert_int_equal(vac_survey_read_since(&table, 10000000, &survey, &err), 0);
		const struct vac_survey_process *on = survey.devices[0].processes;
		assert_int_equal(on[0].pid, 11);
		assert_int_equal(on[0].used_at_us, i == 2 ? 11900000 : 9000000);
		assert_int_equal(on[1].pid, 12);
		assert_int_equal(on[1].used_at_us, 5000000); /* that was before */
		vac_survey_free(&survey);
	}
}

/* How far back NVML sees does not depend on who used the device. */
static void test_reach(void **state)
{
	struct vac_nvml table = full();
	struct vac_survey survey;
	struct vac_error err;

	(void)state;
	table.device_samples = fake_device_samples;
	nvml.value_count = 4;
	nvml.values[0].at_us = 0; /* never written */
	nvml.values[1].at_us = 900;
	nvml.values[2].at_us = 700;
	nvml.values[3].at_us = 1100;
	for (int i = 0; i < 3; i++) {
		/* of a process; of none; and where the device's own cannot be had */
		nvml.sample_count = i == 1 ? 0 : 1;
		nvml.samples[0] = (struct vac_nvml_sample){.pid = 11, .at_us = 1000, .sm = 90};
		nvml.value_result = i == 2 ? VAC_NVML_NOT_SUPPORTED : VAC_NVML_OK;
		assert_int_equal(vac_survey_read(&table, &survey, &err), 0);
		assert_int_equal(survey.devices[0].since_us, i == 2 ? 1000 : 700);
		vac_survey_free(&survey);
	}
}

static void test_used_is_what_is_not_free(void **state)
{
	const struct vac_nvml table = full();
	struct vac_survey survey;

	(void)state;
	nvml.v2.used = 10 * GIB;
	assert_int_equal(vac_survey_read(&table, &survey, NULL), 0);
	assert_int_equal(survey.devices[0].used_bytes, 9 * GIB);
	vac_survey_free(&survey);
	/* Numbers that cannot be: the older call's. */
	nvml.v2.reserved = 11 * GIB;
	assert_int_equal(vac_survey_read(&table, &survey, NULL), 0);
	assert_int_equal(survey.devices[0].used_bytes, 10 * GIB);
	assert_false(survey.devices[0].reserved_valid);
	vac_survey_free(&survey);
}

static void test_many_processes(void **state)
{
	struct vac_survey survey;

	(void)state;
	for (unsigned i = 0; i < 300; i++)
		nvml.list[i] = (struct vac_nvml_process){1000 + i, i, ~0u, ~0u};
	nvml.list_count = 300;
	assert_int_equal(vac_survey_read(&old, &survey, NULL), 0);
	assert_int_equal(survey.devices[0].process_count, 300);
	assert_int_equal(survey.devices[0].processes[299].pid, 1299);
	assert_int_equal(nvml.calls, 3); /* room for 64, 256, 1024 */
	vac_survey_free(&survey);
}

/* One process in two instances of a device. */
static void test_instances(void **state)
{
	struct vac_survey survey;

	(void)state;
	nvml.list[1] = (struct vac_nvml_process){11, 2 * GIB, 3, 0};
	assert_int_equal(vac_survey_read(&old, &survey, NULL), 0);
	assert_int_equal(survey.devices[0].process_count, 1);
	assert_int_equal(survey.devices[0].processes[0].bytes, 7 * GIB);
	vac_survey_free(&survey);
}

/* What one device does not tell is no reason to be silent about the rest. */
static void test_devices_that_do_not_answer(void **state)
{
	const struct vac_nvml table = full();
	struct vac_survey survey;
	struct vac_error err;
	char said[80];

	(void)state;
	nvml.count = 2;
	nvml.handle_result = 15;
	nvml.sample_result = 3;
	assert_int_equal(vac_survey_read(&table, &survey, &err), 0);
	assert_int_equal(survey.count, 2);
	assert_int_equal(survey.devices[0].result, VAC_NVML_OK);
	assert_false(survey.devices[0].sampled || survey.devices[0].processes[0].sm_percent.valid);
	assert_int_equal(survey.devices[1].result, 15);
	assert_int_equal(survey.devices[1].total_bytes, 0);
	assert_string_equal(vac_survey_says(15, said), "the GPU is lost (NVML error 15)");
	assert_string_equal(vac_survey_says(4321, said), "refused (NVML error 4321)");
	vac_survey_free(&survey);
	/* No lists at all, and no samples in the last seconds. */
	nvml.list_result = 3;
	nvml.count = 1;
	assert_int_equal(vac_survey_read(&table, &survey, &err), 0);
	assert_false(survey.devices[0].listed);
	assert_int_equal(survey.devices[0].process_count, 0);
	vac_survey_free(&survey);
	nvml.list_result = VAC_NVML_OK;
	nvml.sample_result = VAC_NVML_NOT_FOUND;
	assert_int_equal(vac_survey_read(&table, &survey, &err), 0);
	assert_true(survey.devices[0].sampled);
	assert_true(survey.devices[0].processes[0].sm_percent.valid);
	assert_int_equal(survey.devices[0].since_us, 0);
	vac_survey_free(&survey);
	nvml.count_result = 9;
	assert_int_equal(vac_survey_read(&table, &survey, &err), -EIO);
	assert_int_equal(err.code, VAC_E_IO);
	assert_non_null(strstr(err.message, "the kernel's driver is not loaded (NVML error 9)"));
	assert_int_equal(survey.count, 0);
}

/* ---- the frame ---- */

static void test_the_frame(void **state)
{
	const struct vac_nvml table = full();
	struct vac_survey survey, back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_wire_header header;
	struct vac_error err;

	(void)state;
	nvml.sample_count = 1;
	nvml.samples[0] = (struct vac_nvml_sample){.pid = 11, .at_us = 1000, .sm = 90};
	nvml.count = 2;
	nvml.handle_result = 15;
	assert_int_equal(vac_survey_read(&table, &survey, &err), 0);
	vac_wire_put_who(&buf, 7, &survey);
	assert_true(vac_buf_ok(&buf));
	assert_int_equal(vac_wire_peek(buf.data, buf.bytes, &header, &err), 1);
	assert_int_equal(header.type, VAC_WIRE_WHO_READ);
	assert_int_equal(header.id, 7);
	assert_int_equal(vac_wire_get_who(buf.data + 16, header.payload_bytes, &back, &err), 0);
	assert_int_equal(back.count, 2);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(back.devices[i].process_count, survey.devices[i].process_count);
		for (uint32_t k = 0; k < back.devices[i].process_count; k++)
			assert_memory_equal(&back.devices[i].processes[k],
					    &survey.devices[i].processes[k],
					    sizeof(struct vac_survey_process));
		/* But for the pointer they are the same. */
		free(back.devices[i].processes);
		back.devices[i].processes = survey.devices[i].processes;
	}
	assert_memory_equal(back.devices, survey.devices, 2 * sizeof(*back.devices));
	assert_string_equal(back.driver_version, survey.driver_version);
	assert_int_equal(back.at_us, survey.at_us);
	free(back.devices);
	vac_survey_free(&survey);
	/* Cut anywhere it is refused, and nothing is left. */
	for (size_t n = 0; n + 8 <= header.payload_bytes; n++) {
		assert_int_equal(vac_wire_get_who(buf.data + 16, n, &back, &err), -EINVAL);
		assert_non_null(strstr(err.message, "WHO_READ"));
		assert_int_equal(back.count, 0);
	}
	vac_buf_free(&buf);
}

/* As many as there are: a machine with 20, and one with more than are looked at. */
static void test_many_devices(void **state)
{
	const struct vac_nvml table = full();
	struct vac_survey survey, back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_wire_header header;
	char uuid[16];

	(void)state;
	nvml.count = 20;
	assert_int_equal(vac_survey_read(&table, &survey, NULL), 0);
	vac_wire_put_who(&buf, 7, &survey);
	vac_survey_free(&survey);
	assert_int_equal(vac_wire_peek(buf.data, buf.bytes, &header, NULL), 1);
	assert_int_equal(vac_wire_get_who(buf.data + 16, header.payload_bytes, &back, NULL), 0);
	assert_int_equal(back.count, 20);
	for (uint32_t i = 0; i < back.count; i++) {
		snprintf(uuid, sizeof(uuid), "GPU-%u", i + 1);
		assert_string_equal(back.devices[i].uuid, uuid);
		assert_int_equal(back.devices[i].index, i);
		assert_int_equal(back.devices[i].process_count, 3);
		assert_int_equal(back.devices[i].processes[0].pid, 11);
	}
	vac_survey_free(&back);
	vac_buf_free(&buf);
	nvml.count = VAC_SURVEY_MOST_DEVICES + 100;
	assert_int_equal(vac_survey_read(&table, &survey, NULL), 0);
	assert_int_equal(survey.count, VAC_SURVEY_MOST_DEVICES);
	assert_string_equal(survey.devices[127].uuid, "GPU-128");
	vac_survey_free(&survey);
	nvml.count = 0;
	assert_int_equal(vac_survey_read(&table, &survey, NULL), 0);
	assert_int_equal(survey.count, 0);
	vac_survey_free(&survey);
}

static void test_the_frame_of_the_document(void **state)
{
	/* A version, a time, no device. */
	static const uint8_t want[] = {
		24,  0, 0, 0, 0x8c, 0,   0,   0, 9, 0, 0, 0, 0, 0, 0, 0, /* header */
		3,   0, 0, 0, '5',  '8', '0',                            /* driver */
		232, 3, 0, 0, 0,    0,   0,   0,                         /* 1000 us */
		0,   0, 0, 0,                                            /* devices */
		0,   0, 0, 0, 0,
	};
	struct vac_survey survey = {.driver_version = "580", .at_us = 1000}, back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	vac_wire_put_who(&buf, 9, &survey);
	assert_int_equal(buf.bytes, sizeof(want));
	assert_memory_equal(buf.data, want, sizeof(want));
	vac_buf_free(&buf);
	/* Counts that cannot be. */
	uint8_t bent[sizeof(want)];

	memcpy(bent, want, sizeof(want));
	bent[31] = VAC_SURVEY_MOST_DEVICES + 1;
	assert_int_equal(vac_wire_get_who(bent + 16, 24, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'count'"));
	bent[31] = 1; /* of which nothing follows */
	assert_int_equal(vac_wire_get_who(bent + 16, 24, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'count'"));
	bent[30] = 0x80; /* a negative time */
	assert_int_equal(vac_wire_get_who(bent + 16, 24, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'at_us'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_an_old_one, reset),
		cmocka_unit_test_setup(test_a_new_one, reset),
		cmocka_unit_test_setup(test_reach, reset),
		cmocka_unit_test_setup(test_used_since, reset),
		cmocka_unit_test_setup(test_used_is_what_is_not_free, reset),
		cmocka_unit_test_setup(test_many_processes, reset),
		cmocka_unit_test_setup(test_instances, reset),
		cmocka_unit_test_setup(test_devices_that_do_not_answer, reset),
		cmocka_unit_test_setup(test_the_frame, reset),
		cmocka_unit_test_setup(test_many_devices, reset),
		cmocka_unit_test_setup(test_the_frame_of_the_document, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
