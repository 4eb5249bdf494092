/*
 * test_nvml.c - readings of devices against an NVML of the test's own: whole GPUs, one
 * that is cut into slices (MIG), and what it says when it does not tell. Not run on
 * hardware: how a real NVML answers for slices.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver/cuda.h"
#include "driver/nvml.h"
#include "engine/engine.h"
#include "fake_cuda.h"

#define GIB ((uint64_t)1 << 30)
/* As fake_cuda.c has it for device 0. */
#define DIGITS "00102030-4050-6070-8090-a0b0c0d0e0f0"

/* Devices 0 and 1 are GPUs, 2 is a slice of the first. */
static struct {
	int cut;       /* the first GPU is */
	int processes; /* result of asking the first GPU who is on it */
	int memory;    /* of asking for memory */
	unsigned mute; /* this one, from 1, is lost; 0: none */
	int init;
	int started; /* init without shutdown */
} nvml;

static struct nvmlDevice_st *handle(unsigned number)
{
	return (struct nvmlDevice_st *)(uintptr_t)(number + 1);
}

static unsigned number_of(const struct nvmlDevice_st *device)
{
	return (unsigned)(uintptr_t)device - 1;
}

static int init(void)
{
	nvml.started += nvml.init == VAC_NVML_OK;
	return nvml.init;
}

static int stop(void)
{
	nvml.started--;
	return VAC_NVML_OK;
}

static int driver_version(char *text, unsigned bytes)
{
	snprintf(text, bytes, "580.159");
	return VAC_NVML_OK;
}

static int count(unsigned *out)
{
	*out = 2;
	return VAC_NVML_OK;
}

static int by_index(unsigned index, struct nvmlDevice_st **device)
{
	*device = handle(index);
	return VAC_NVML_OK;
}

static const char *const uuids[] = {"GPU-" DIGITS, "GPU-other", "MIG-" DIGITS};

static int by_uuid(const char *uuid, struct nvmlDevice_st **device)
{
	for (unsigned i = 0; i < 3; i++) {
		*device = handle(i);
		if (strcmp(uuids[i], uuid) == 0)
			return VAC_NVML_OK;
	}
	return VAC_NVML_NOT_FOUND;
}

static int name(struct nvmlDevice_st *device, char *text, unsigned bytes)
{
	snprintf(text, bytes, "%s", number_of(device) == 2 ? "A100 MIG 1g.5gb" : "A100");
	return VAC_NVML_OK;
}

static int uuid(struct nvmlDevice_st *device, char *text, unsigned bytes)
{
	snprintf(text, bytes, "%s", uuids[number_of(device)]);
	return VAC_NVML_OK;
}

static int memory(struct nvmlDevice_st *device, struct vac_nvml_memory *out)
{
	uint64_t total = number_of(device) == 2 ? 5 * GIB : 40 * GIB;
	*out = (struct vac_nvml_memory){.total = total, .used = GIB, .free = total - GIB};
	return number_of(device) + 1 == nvml.mute ? 15 : nvml.memory;
}

/* This process has a GiB on the slice, and on the GPU if that tells. */
static int processes(struct nvmlDevice_st *device, unsigned *out_count,
		     struct vac_nvml_process *out)
{
	if (number_of(device) == 0 && nvml.processes != VAC_NVML_OK)
		return nvml.processes;
	*out_count = 1;
	out[0] = (struct vac_nvml_process){.pid = number_of(device) == 1 ? 1 : (unsigned)getpid(),
					   .used_bytes = GIB,
					   .gpu_instance = number_of(device) == 2 ? 7 : ~0u};
	return VAC_NVML_OK;
}

static int mig_mode(struct nvmlDevice_st *device, unsigned *current, unsigned *pending)
{
	*current = *pending = number_of(device) == 0 && nvml.cut;
	return VAC_NVML_OK;
}

static const struct vac_nvml table = {
	.init = init,
	.shutdown = stop,
	.driver_version = driver_version,
	.count = count,
	.by_index = by_index,
	.by_uuid = by_uuid,
	.name = name,
	.uuid = uuid,
	.memory = memory,
	.processes = processes,
	.mig_mode = mig_mode,
};

static void test_devices(void **state)
{
	(void)state;
	static struct vac_nvml_device devices[4];
	char version[80];
	struct vac_error err;
	uint32_t there;
	assert_int_equal(vac_nvml_read(devices, 4, &there, version, &err), 0);
	assert_int_equal(there, 2);
	assert_string_equal(version, "580.159");
	assert_string_equal(devices[0].uuid, uuids[0]);
	assert_int_equal(devices[0].memory.total, 40 * GIB);
	assert_non_null(vac_nvml_find(&devices[0], (uint32_t)getpid()));
	assert_null(vac_nvml_find(&devices[1], (uint32_t)getpid()));
	/* fewer than there are */
	assert_int_equal(vac_nvml_read(devices, 1, &there, NULL, &err), 0);
	assert_int_equal(there, 2);
	assert_int_equal(nvml.started, 0);
}

/* A slice has its own memory and its own processes. */
static void test_slice(void **state)
{
	(void)state;
	struct vac_nvml_device slice;
	struct vac_error err;
	assert_int_equal(vac_nvml_read_one(uuids[2], &slice, &err), 0);
	assert_string_equal(slice.uuid, uuids[2]);
	assert_string_equal(slice.name, "A100 MIG 1g.5gb");
	assert_int_equal(slice.memory.total, 5 * GIB);
	assert_int_equal(slice.process_count, 1);
	assert_int_equal(slice.processes[0].gpu_instance, 7);
	assert_int_equal(vac_nvml_read_one("MIG-nowhere", &slice, &err), -EIO);
	assert_non_null(strstr(err.message, "NVML does not tell where the device is"));
	assert_int_equal(nvml.started, 0);
}

/* Who is on a GPU that is cut into slices only some may ask; the rest is told. */
static void test_cut(void **state)
{
	(void)state;
	static struct vac_nvml_device devices[4];
	struct vac_error err;
	uint32_t there;
	nvml.processes = VAC_NVML_NO_PERMISSION;
	assert_int_equal(vac_nvml_read(devices, 4, &there, NULL, &err), -EIO);
	assert_non_null(strstr(err.message, "which processes use the device"));
	nvml.cut = 1;
	assert_int_equal(vac_nvml_read(devices, 4, &there, NULL, &err), 0);
	assert_int_equal(devices[0].process_count, 0);
	assert_int_equal(devices[0].memory.total, 40 * GIB);
	assert_int_equal(devices[1].process_count, 1);
	assert_int_equal(nvml.started, 0);
}

/* The backend measures the slice that it is on, and not the GPU that this is cut of. */
static void measure(const char *driver_name, uint64_t total, bool listed)
{
	const struct vac_engine_options options = {.backend = "cuda"};
	struct vac_device_usage usage;
	struct vac_engine *engine;
	struct vac_error err;
	fake_cuda_reset();
	fake_cuda.name = driver_name;
	assert_int_equal(vac_engine_open(&engine, &options, &err), 0);
	if (vac_engine_measure(engine, &usage, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(usage.total_bytes, total);
	assert_int_equal(usage.used_bytes, GIB);
	assert_int_equal(usage.listed, listed);
	vac_engine_close(engine);
}

static void refuse_to_measure(const char *says)
{
	const struct vac_engine_options options = {.backend = "cuda"};
	struct vac_device_usage usage;
	struct vac_engine *engine;
	struct vac_error err = {0};
	assert_int_equal(vac_engine_open(&engine, &options, &err), 0);
	assert_true(vac_engine_measure(engine, &usage, &err) < 0);
	if (!strstr(err.message, says))
		fail_msg("\"%s\" does not say \"%s\"", err.message, says);
	assert_int_equal(nvml.started, 0);
	vac_engine_close(engine);
}

static void test_backend(void **state)
{
	(void)state;
	measure("NVIDIA A100-SXM4-40GB", 40 * GIB, true);
	/* another that does not answer hides nothing; its own says why */
	nvml.mute = 2;
	measure("NVIDIA A100-SXM4-40GB", 40 * GIB, true);
	nvml.mute = 1;
	refuse_to_measure("NVML does not tell what is on the device: the GPU is lost");
	nvml.mute = 0;
	nvml.cut = 1;
	nvml.processes = VAC_NVML_NO_PERMISSION;
	measure("NVIDIA A100-SXM4-40GB", 40 * GIB, false);
	measure("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5 * GIB, true);
}

/* One sentence each. */
static void test_trouble(void **state)
{
	(void)state;
	static struct vac_nvml_device devices[4];
	static const struct {
		int init, memory;
		const char *says;
	} cases[] = {{9, 0, "NVML does not tell anything: its start failed"},
		     {9, 0, "driver"},
		     {0, 15, "NVML does not tell what is on the device: the GPU is lost"},
		     {0, 4, "NVML does not tell what is on the device: "}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_error err = {0};
		uint32_t there;
		nvml.init = cases[i].init;
		nvml.memory = cases[i].memory;
		assert_int_equal(vac_nvml_read(devices, 4, &there, NULL, &err), -EIO);
		if (!strstr(err.message, cases[i].says))
			fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says);
		assert_int_equal(nvml.started, 0);
	}
}

static int set_up(void **state)
{
	(void)state;
	memset(&nvml, 0, sizeof(nvml));
	vac_nvml_inject(&table);
	fake_cuda_install();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vac_nvml_inject(NULL);
	fake_cuda_remove();
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_devices), TEST(test_slice), TEST(test_cut),
					   TEST(test_backend), TEST(test_trouble)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
