/* survey.c - see survey.h. */
#include "driver/survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define FIRST_COUNT  64
#define MOST_SAMPLES 4096
#define MOST_VALUES  512
#define UNKNOWN      (~0ull) /* NVML's word for "not known" */

typedef int list_fn(struct nvmlDevice_st *device, unsigned *count, struct vac_nvml_process *out);

/* Asks for a list whose length is not known. *list is the caller's to free in any
 * case; the result is NVML's, or -1 without memory. */
static int ask_list(list_fn *ask, struct nvmlDevice_st *device, struct vac_nvml_process **list,
		    unsigned *count)
{
	unsigned room = FIRST_COUNT;
	int result;

	for (;;) {
		struct vac_nvml_process *larger = realloc(*list, room * sizeof(**list));

		if (!larger)
			return -1;
		*list = larger;
		*count = room;
		result = ask(device, count, *list);
		if (*count > room)
			*count = room;
		if (result != VAC_NVML_TOO_SMALL || room >= VAC_SURVEY_MOST_PROCESSES)
			break;
		room *= 4;
	}
	/* More than is ever shown: what was told of them. */
	return result == VAC_NVML_TOO_SMALL ? VAC_NVML_OK : result;
}

static struct vac_survey_process *find(struct vac_survey_device *device, uint32_t pid)
{
	for (uint32_t i = 0; i < device->process_count; i++)
		if (device->processes[i].pid == pid)
			return &device->processes[i];
	return NULL;
}

/* A process in both lists is one process, of which each tells the whole; one that is
 * several times in a list is so for the instances of the device. */
static int add_processes(struct vac_survey_device *out, const struct vac_nvml_process *list,
			 unsigned count, bool graphics)
{
	size_t room = out->process_count + (size_t)count;
	struct vac_survey_process *larger;

	if (count == 0)
		return 0;
	larger = realloc(out->processes, room * sizeof(*larger));
	if (!larger)
		return -1;
	out->processes = larger;
	for (unsigned i = 0; i < count; i++) {
		struct vac_survey_process *known = find(out, list[i].pid);
		bool valid = list[i].used_bytes != UNKNOWN;

		if (!known) {
			if (out->process_count == VAC_SURVEY_MOST_PROCESSES)
				break;
			known = &out->processes[out->process_count++];
			*known = (struct vac_survey_process){.pid = list[i].pid};
		}
		bool *listed = graphics ? &known->graphics : &known->compute;

		if (valid && *listed)
			known->bytes += list[i].used_bytes;
		else if (valid && list[i].used_bytes > known->bytes)
			known->bytes = list[i].used_bytes;
		known->bytes_valid |= valid;
		*listed = true;
	}
	return 0;
}

static int list_processes(const struct vac_nvml *nvml, struct nvmlDevice_st *device,
			  struct vac_survey_device *out)
{
	struct vac_nvml_process *list = NULL;
	unsigned count = 0;
	int result = ask_list(nvml->processes, device, &list, &count), rc = result < 0 ? -1 : 0;

	if (result == VAC_NVML_OK) {
		out->listed = true;
		rc = add_processes(out, list, count, false);
	}
	if (rc == 0 && nvml->graphics) {
		result = ask_list(nvml->graphics, device, &list, &count);
		rc = result < 0 ? -1 : 0;
		if (result == VAC_NVML_OK) {
			out->listed = true;
			rc = add_processes(out, list, count, true);
		}
	}
	free(list);
	return rc;
}

static void take_sample(struct vac_survey_device *out, const struct vac_nvml_sample *sample,
			int64_t *newest)
{
	struct vac_survey_process *process = find(out, sample->pid);
	int64_t at = (int64_t)sample->at_us;

	/* Entries that were never written are all zero. */
	if (at <= 0)
		return;
	if (out->since_us == 0 || at < out->since_us)
		out->since_us = at;
	if (!process)
		return;
	if (sample->sm > 0 && at > process->used_at_us)
		process->used_at_us = at;
	if (at >= newest[process - out->processes]) {
		newest[process - out->processes] = at;
		process->sm_percent = (struct vac_gauge){true, sample->sm > 100 ? 100 : sample->sm};
	}
}

/* The device's own samples are made whether it is used or not: 71 of 0.2 s on an H200. A
 * process has some only of when it used the device. */
static void find_reach(const struct vac_nvml *nvml, struct nvmlDevice_st *device,
		       struct vac_survey_device *out)
{
	struct vac_nvml_value values[MOST_VALUES];
	unsigned count = MOST_VALUES;
	int64_t oldest = 0;
	int type, result;

	if (!nvml->device_samples)
		return;
	result = nvml->device_samples(device, VAC_NVML_GPU_UTILIZATION_SAMPLES, 0, &type, &count,
				      values);
	if (result != VAC_NVML_OK)
		return;
	if (count > MOST_VALUES)
		count = MOST_VALUES;
	for (unsigned i = 0; i < count; i++) {
		int64_t at = (int64_t)values[i].at_us;

		if (at > 0 && (oldest == 0 || at < oldest))
			oldest = at;
	}
	if (oldest > 0)
		out->since_us = oldest;
}

/* Who was on the device last is named by each sample, with the average of all that were asked
 * for: as one who uses it, for as long as samples reach. So those since the last reading are
 * asked for by themselves, and whoever used nothing in them did so before. */
static void ask_again(const struct vac_nvml *nvml, struct nvmlDevice_st *device, int64_t since_us,
		      struct vac_survey_device *out, struct vac_nvml_sample *samples, unsigned room)
{
	unsigned count = room;
	int result = nvml->samples(device, samples, &count, (unsigned long long)since_us);

	if (result == VAC_NVML_NOT_FOUND)
		count = 0;
	else if (result != VAC_NVML_OK || count > room)
		return;
	for (uint32_t i = 0; i < out->process_count; i++) {
		struct vac_survey_process *process = &out->processes[i];
		bool used = false;

		for (unsigned k = 0; k < count; k++)
			used |= samples[k].pid == process->pid && samples[k].sm > 0;
		if (!used && process->used_at_us > since_us)
			process->used_at_us = since_us;
	}
}

/* NVML keeps the samples of some seconds. A process without one used nothing in them. */
static int sample_processes(const struct vac_nvml *nvml, struct nvmlDevice_st *device,
			    int64_t last_us, struct vac_survey_device *out)
{
	struct vac_nvml_sample *samples = NULL;
	int64_t *newest = NULL;
	unsigned count = 0, room;
	int result, rc = -1;

	if (!nvml->samples || out->process_count == 0)
		return 0;
	result = nvml->samples(device, NULL, &count, 0);
	if (result != VAC_NVML_OK && result != VAC_NVML_TOO_SMALL && result != VAC_NVML_NOT_FOUND)
		return 0;
	if (result == VAC_NVML_NOT_FOUND || count > MOST_SAMPLES)
		count = count > MOST_SAMPLES ? MOST_SAMPLES : 0;
	room = count;
	samples = calloc((size_t)count + 1, sizeof(*samples));
	newest = calloc(out->process_count, sizeof(*newest));
	if (!samples || !newest)
		goto out;
	if (count > 0) {
		result = nvml->samples(device, samples, &count, 0);
		if (count > room)
			count = room;
	}
	rc = 0;
	if (result != VAC_NVML_OK && result != VAC_NVML_TOO_SMALL && result != VAC_NVML_NOT_FOUND)
		goto out;
	if (result == VAC_NVML_NOT_FOUND)
		count = 0;
	out->sampled = true;
	for (unsigned i = 0; i < count; i++)
		take_sample(out, &samples[i], newest);
	if (last_us > VAC_SURVEY_LAG_US && count > 0)
		ask_again(nvml, device, last_us - VAC_SURVEY_LAG_US, out, samples, room);
	for (uint32_t i = 0; i < out->process_count; i++)
		out->processes[i].sm_percent.valid = true;
	find_reach(nvml, device, out);
out:
	free(newest);
	free(samples);
	return rc;
}

static int read_memory(const struct vac_nvml *nvml, struct nvmlDevice_st *device,
		       struct vac_survey_device *out)
{
	struct vac_nvml_memory_v2 v2 = {.version = VAC_NVML_MEMORY_V2};
	struct vac_nvml_memory memory;
	int result;

	if (nvml->memory_v2 && nvml->memory_v2(device, &v2) == VAC_NVML_OK && v2.total > 0 &&
	    v2.free <= v2.total && v2.reserved <= v2.total - v2.free) {
		out->total_bytes = v2.total;
		out->free_bytes = v2.free;
		out->reserved_valid = true;
		out->reserved_bytes = v2.reserved;
		/* Whether its used has the reserved in it, NVIDIA's text and driver differ. */
		out->used_bytes = v2.total - v2.free - v2.reserved;
		return VAC_NVML_OK;
	}
	result = nvml->memory(device, &memory);
	if (result != VAC_NVML_OK)
		return result;
	out->total_bytes = memory.total;
	out->free_bytes = memory.free;
	out->used_bytes = memory.used;
	return VAC_NVML_OK;
}

typedef int gauge_fn(struct nvmlDevice_st *device, unsigned *value);
typedef int codec_fn(struct nvmlDevice_st *device, unsigned *value, unsigned *period_us);

static void read_gauge(gauge_fn *ask, struct nvmlDevice_st *device, struct vac_gauge *out)
{
	unsigned value;

	if (ask && ask(device, &value) == VAC_NVML_OK)
		*out = (struct vac_gauge){true, value};
}

static void read_codec(codec_fn *ask, struct nvmlDevice_st *device, struct vac_gauge *out)
{
	unsigned value, period;

	if (ask && ask(device, &value, &period) == VAC_NVML_OK)
		*out = (struct vac_gauge){true, value};
}

static void read_gauges(const struct vac_nvml *nvml, struct nvmlDevice_st *device,
			struct vac_survey_device *out)
{
	struct vac_nvml_utilization use;
	unsigned current = 0, pending = 0, celsius;

	if (nvml->utilization && nvml->utilization(device, &use) == VAC_NVML_OK) {
		out->gpu_percent = (struct vac_gauge){true, use.gpu};
		out->memory_percent = (struct vac_gauge){true, use.memory};
	}
	if (nvml->temperature &&
	    nvml->temperature(device, VAC_NVML_TEMPERATURE_GPU, &celsius) == VAC_NVML_OK)
		out->celsius = (struct vac_gauge){true, celsius};
	read_gauge(nvml->fan, device, &out->fan_percent);
	read_gauge(nvml->power, device, &out->milliwatts);
	read_gauge(nvml->power_limit, device, &out->limit_milliwatts);
	read_codec(nvml->encoder, device, &out->encoder_percent);
	read_codec(nvml->decoder, device, &out->decoder_percent);
	out->mig = nvml->mig_mode && nvml->mig_mode(device, &current, &pending) == VAC_NVML_OK &&
		   current != 0;
}

/* 0, or -1 without memory. */
static int read_device(const struct vac_nvml *nvml, unsigned index, int64_t last_us,
		       struct vac_survey_device *out)
{
	struct nvmlDevice_st *device;

	out->index = index;
	out->result = nvml->by_index(index, &device);
	if (out->result == VAC_NVML_OK)
		out->result = nvml->name(device, out->name, sizeof(out->name));
	if (out->result == VAC_NVML_OK)
		out->result = nvml->uuid(device, out->uuid, sizeof(out->uuid));
	if (out->result == VAC_NVML_OK)
		out->result = read_memory(nvml, device, out);
	out->name[sizeof(out->name) - 1] = '\0';
	out->uuid[sizeof(out->uuid) - 1] = '\0';
	if (out->result != VAC_NVML_OK)
		return 0;
	read_gauges(nvml, device, out);
	if (list_processes(nvml, device, out) < 0)
		return -1;
	return sample_processes(nvml, device, last_us, out);
}

int vac_survey_read(const struct vac_nvml *nvml, struct vac_survey *out, struct vac_error *err)
{
	return vac_survey_read_since(nvml, 0, out, err);
}

int vac_survey_read_since(const struct vac_nvml *nvml, int64_t last_us, struct vac_survey *out,
			  struct vac_error *err)
{
	char said[80];
	unsigned count = 0;
	int result, rc = 0;

	memset(out, 0, sizeof(*out));
	result = nvml->count(&count);
	if (result != VAC_NVML_OK)
		return vac_fail(err, VAC_E_IO, "NVML does not tell how many devices there are: %s",
				vac_survey_says(result, said));
	if (nvml->driver_version(out->driver_version, sizeof(out->driver_version)) != VAC_NVML_OK)
		out->driver_version[0] = '\0';
	out->driver_version[sizeof(out->driver_version) - 1] = '\0';
	if (count > VAC_SURVEY_MOST_DEVICES)
		count = VAC_SURVEY_MOST_DEVICES;
	out->devices = calloc((size_t)count + 1, sizeof(*out->devices));
	if (!out->devices)
		rc = -1;
	else
		out->count = count;
	for (uint32_t i = 0; rc == 0 && i < out->count; i++)
		rc = read_device(nvml, i, last_us, &out->devices[i]);
	out->at_us = vac_wall_ns() / 1000;
	if (rc < 0) {
		vac_survey_free(out);
		return vac_fail_nomem(err, "what NVML says", 0);
	}
	return 0;
}
