/*
 * nvml.c - libnvidia-ml.so.1 for tests: the GPUs and processes of state.h. Processes
 * that are parked are not listed, as with the driver.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "state.h"

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7 };

typedef struct fake_handle *handle; /* a device's index and one */

struct memory {
	unsigned long long total, free, used;
};
struct memory_v2 {
	unsigned version;
	unsigned long long total, reserved, free, used;
};
struct process {
	unsigned pid;
	unsigned long long used;
	unsigned gpu_instance, compute_instance;
};
struct utilization {
	unsigned gpu, memory;
};
struct sample {
	unsigned pid;
	unsigned long long at_us;
	unsigned sm, memory, encoder, decoder;
};
struct value {
	unsigned long long at_us, is;
};

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlShutdown(void);
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned bytes);
EXPORT int nvmlDeviceGetCount_v2(unsigned *count);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *device);
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, handle *device);
EXPORT int nvmlDeviceGetName(handle device, char *text, unsigned bytes);
EXPORT int nvmlDeviceGetUUID(handle device, char *text, unsigned bytes);
EXPORT int nvmlDeviceGetMemoryInfo(handle device, struct memory *out);
EXPORT int nvmlDeviceGetMemoryInfo_v2(handle device, struct memory_v2 *out);
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(handle device, unsigned *count,
						   struct process *out);
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(handle device, unsigned *count,
						    struct process *out);
EXPORT int nvmlDeviceGetMigMode(handle device, unsigned *current, unsigned *pending);
EXPORT int nvmlDeviceGetUtilizationRates(handle device, struct utilization *out);
EXPORT int nvmlDeviceGetProcessUtilization(handle device, struct sample *out, unsigned *count,
					   unsigned long long since_us);
EXPORT int nvmlDeviceGetSamples(handle device, int kind, unsigned long long since_us,
				int *value_kind, unsigned *count, struct value *out);

static void now_are(struct fake_gpus *gpus)
{
	int lock = fake_lock();

	fake_read(gpus);
	fake_unlock(lock);
}

/* It counts who has it, and only the first and the last of them cost anything. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned users;

int nvmlInit_v2(void)
{
	int result = SUCCESS;

	pthread_mutex_lock(&lock);
	if (users == 0)
		fake_call("nvmlInit_v2", 0, &result);
	users += result == SUCCESS;
	pthread_mutex_unlock(&lock);
	return result;
}

int nvmlShutdown(void)
{
	int result = SUCCESS;

	pthread_mutex_lock(&lock);
	if (users == 1)
		fake_call("nvmlShutdown", 0, &result);
	users -= users > 0;
	pthread_mutex_unlock(&lock);
	return result;
}

int nvmlSystemGetDriverVersion(char *text, unsigned bytes)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	snprintf(text, bytes, "%s", gpus.driver_version);
	return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	*count = 0;
	while (*count < gpus.device_count && strncmp(gpus.devices[*count].uuid, "MIG-", 4) != 0)
		++*count;
	return SUCCESS;
}

static handle handle_of(unsigned index)
{
	return (handle)(uintptr_t)(index + 1);
}

static unsigned index_of(handle device)
{
	return (unsigned)(uintptr_t)device - 1;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *device)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	*device = handle_of(index);
	return index < gpus.device_count ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, handle *device)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	for (unsigned i = 0; i < gpus.device_count; i++) {
		*device = handle_of(i);
		if (strcmp(gpus.devices[i].uuid, uuid) == 0)
			return SUCCESS;
	}
	return NOT_FOUND;
}

int nvmlDeviceGetName(handle device, char *text, unsigned bytes)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	snprintf(text, bytes, "%s", gpus.devices[index_of(device)].name);
	return SUCCESS;
}

int nvmlDeviceGetUUID(handle device, char *text, unsigned bytes)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	snprintf(text, bytes, "%s", gpus.devices[index_of(device)].uuid);
	return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(handle device, struct memory *out)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	out->total = gpus.devices[index_of(device)].total_bytes;
	out->used = fake_used(&gpus, index_of(device));
	out->free = out->total > out->used ? out->total - out->used : 0;
	return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(handle device, struct memory_v2 *out)
{
	struct memory memory;

	nvmlDeviceGetMemoryInfo(device, &memory);
	out->total = memory.total;
	out->reserved = 0;
	out->free = memory.free;
	out->used = memory.used;
	return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(handle device, unsigned *count, struct process *out)
{
	unsigned room = *count, index = index_of(device);
	struct fake_gpus gpus;
	int result = SUCCESS;

	if (fake_call("nvmlDeviceGetComputeRunningProcesses_v3", 0, &result))
		return result;
	now_are(&gpus);
	*count = 0;
	for (unsigned i = 0; i < gpus.process_count; i++) {
		const struct fake_process *process = &gpus.processes[i];

		if (process->state == FAKE_PARKED || process->bytes[index] == 0)
			continue;
		if (*count < room)
			out[*count] = (struct process){.pid = (unsigned)process->pid,
						       .used = process->bytes[index],
						       .gpu_instance = ~0u,
						       .compute_instance = ~0u};
		++*count;
	}
	return *count > room ? TOO_SMALL : SUCCESS;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(handle device, unsigned *count, struct process *out)
{
	(void)device;
	(void)out;
	*count = 0;
	return SUCCESS;
}

int nvmlDeviceGetMigMode(handle device, unsigned *current, unsigned *pending)
{
	struct fake_gpus gpus;

	(void)device;
	now_are(&gpus);
	*current = *pending = (unsigned)gpus.mig;
	return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(handle device, struct utilization *out)
{
	(void)device;
	*out = (struct utilization){0};
	return SUCCESS;
}

static unsigned long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
}

/* Samples younger than since_us of those that are on the device. One of time 0 is always
 * of just now, as those of the context that used the device last can be. */
int nvmlDeviceGetProcessUtilization(handle device, struct sample *out, unsigned *count,
				    unsigned long long since_us)
{
	unsigned room = *count, index = index_of(device);
	struct fake_gpus gpus;
	int result = SUCCESS;

	if (fake_call("nvmlDeviceGetProcessUtilization", 0, &result))
		return result;
	now_are(&gpus);
	*count = 0;
	for (unsigned i = 0; i < gpus.process_count; i++) {
		const struct fake_process *process = &gpus.processes[i];
		const char *path = fake_path("samples/%d", (int)process->pid);
		FILE *file = path && process->state != FAKE_PARKED && process->bytes[index]
				     ? fopen(path, "re")
				     : NULL;
		unsigned long long at_us;
		unsigned sm;

		while (file && fscanf(file, "%llu %u", &at_us, &sm) == 2) {
			if (at_us == 0)
				at_us = now_us();
			if (at_us <= since_us)
				continue;
			if (out && *count < room)
				out[*count] = (struct sample){
					.pid = (unsigned)process->pid, .at_us = at_us, .sm = sm};
			++*count;
		}
		if (file)
			fclose(file);
	}
	if (*count == 0)
		return NOT_FOUND;
	return !out || *count > room ? TOO_SMALL : SUCCESS;
}

/* The device's own, five a second, where "reach" says for how many seconds back. */
int nvmlDeviceGetSamples(handle device, int kind, unsigned long long since_us, int *value_kind,
			 unsigned *count, struct value *out)
{
	const char *path = fake_path("reach");
	FILE *file = path ? fopen(path, "re") : NULL;
	unsigned long long now = now_us();
	unsigned seconds = 0, room = *count;

	(void)device;
	(void)kind;
	(void)since_us;
	if (!file)
		return NOT_SUPPORTED;
	if (fscanf(file, "%u", &seconds) != 1)
		seconds = 0;
	fclose(file);
	*value_kind = 1;
	*count = 5 * seconds;
	for (unsigned i = 0; out && i < *count && i < room; i++)
		out[i] = (struct value){.at_us = now - (*count - i) * 200000ull};
	return *count > room ? TOO_SMALL : SUCCESS;
}
