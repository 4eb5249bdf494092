/*
 * cuda.c - libcuda.so.1 for tests: finds GPUs and parks and resumes processes that
 * are lines in a folder (state.h). Everything else of the driver is there by name
 * and refuses with CUDA_ERROR_NOT_SUPPORTED. Behaves as driver 580 was seen to: a
 * restore without room fails, and the process counts as checkpointed ever after.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

enum {
	OK = 0,
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NO_DEVICE = 100,
	INVALID_DEVICE = 101,
	OPERATING_SYSTEM = 304,
	ILLEGAL_STATE = 401,
	NOT_READY = 600,
	NOT_SUPPORTED = 801,
	UNKNOWN = 999,
};

struct uuid {
	char bytes[16];
};
struct lock_arguments {
	unsigned timeout_ms, reserved;
	unsigned long long reserved1[7];
};
struct gpu_pair {
	struct uuid from, to;
};
struct restore_arguments {
	struct gpu_pair *pairs;
	unsigned pair_count;
};

__attribute__((visibility("default"))) int cuGetProcAddress_v2(const char *symbol, void **out,
							       int version,
							       unsigned long long flags,
							       int *status);

/* Once is enough: the next one finds it done. */
static int init(unsigned flags)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool started;
	int result = OK;

	(void)flags;
	pthread_mutex_lock(&lock);
	if (!started)
		fake_call("cuInit", 0, &result);
	started = result == OK;
	pthread_mutex_unlock(&lock);
	return result;
}

static void now_are(struct fake_gpus *gpus)
{
	int lock = fake_lock();

	fake_read(gpus);
	fake_unlock(lock);
}

static int driver_version(int *version)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	*version = gpus.cuda_version;
	return OK;
}

/* The ordinal-th device that CUDA_VISIBLE_DEVICES shows, which has UUIDs here, or begins
 * of them; -1: there is none. */
static int visible(const struct fake_gpus *gpus, int ordinal)
{
	const char *at = getenv("CUDA_VISIBLE_DEVICES");

	if (!at || strncmp(at, "GPU-", 4) != 0)
		return ordinal < (int)gpus->device_count ? ordinal : -1;
	for (int seen = 0; *at; seen++) {
		size_t length = strcspn(at, ",");
		unsigned i = 0;

		while (i < gpus->device_count && strncmp(gpus->devices[i].uuid, at, length) != 0)
			i++;
		if (i == gpus->device_count) /* it ends the list, as with the driver */
			return -1;
		if (seen == ordinal)
			return (int)i;
		at += length + (at[length] == ',');
	}
	return -1;
}

static int device_count(int *count)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	*count = 0;
	while (*count < FAKE_MOST_DEVICES && visible(&gpus, *count) >= 0)
		++*count;
	return *count ? OK : NO_DEVICE;
}

static int device_get(int *device, int ordinal)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	*device = visible(&gpus, ordinal);
	return *device >= 0 ? OK : INVALID_DEVICE;
}

/* "GPU-00000000-0000-...": the digits in their order. */
static void uuid_of(const char *text, struct uuid *out)
{
	size_t n = 0;

	memset(out, 0, sizeof(*out));
	for (text += strlen("GPU-"); *text && n < 32; text++) {
		const char *at = strchr("0123456789abcdef", *text);

		if (!at || *text == '-')
			continue;
		out->bytes[n / 2] |= (char)((at - "0123456789abcdef") << (n % 2 ? 0 : 4));
		n++;
	}
}

static int device_uuid(struct uuid *uuid, int device)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	if (device < 0 || (unsigned)device >= gpus.device_count)
		return INVALID_DEVICE;
	uuid_of(gpus.devices[device].uuid, uuid);
	return OK;
}

static int device_name(char *name, int bytes, int device)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	if (device < 0 || (unsigned)device >= gpus.device_count)
		return INVALID_DEVICE;
	snprintf(name, (size_t)bytes, "%s", gpus.devices[device].name);
	return OK;
}

static int device_total(size_t *bytes, int device)
{
	struct fake_gpus gpus;

	now_are(&gpus);
	if (device < 0 || (unsigned)device >= gpus.device_count)
		return INVALID_DEVICE;
	*bytes = gpus.devices[device].total_bytes;
	return OK;
}

static int error_name(int result, const char **name)
{
	*name = result == OPERATING_SYSTEM ? "CUDA_ERROR_OPERATING_SYSTEM"
		: result == OUT_OF_MEMORY  ? "CUDA_ERROR_OUT_OF_MEMORY"
		: result == NOT_READY      ? "CUDA_ERROR_NOT_READY"
					   : "CUDA_ERROR_OF_A_TEST";
	return OK;
}

static int error_string(int result, const char **text)
{
	(void)result;
	*text = "an error of a test's driver";
	return OK;
}

/* Another user's process: as the driver, which writes into its memory. */
static int allowed(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	if (stat(path, &st) != 0)
		return OPERATING_SYSTEM;
	return geteuid() == 0 || st.st_uid == geteuid() ? OK : OPERATING_SYSTEM;
}

/* As on an H200: the answer comes from a thread of the process itself, so that no call
 * returns while that is stopped, whatever time it was given. */
static void wait_until_it_goes_on(pid_t pid)
{
	const struct timespec t = {.tv_nsec = 10000000};

	while (fake_proc_state(pid) == 'T')
		nanosleep(&t, NULL);
}

/* Finds the process with the lock held; else the lock is not. */
static int find(struct fake_gpus *gpus, pid_t pid, struct fake_process **process, int *lock)
{
	int result = allowed(pid);

	if (result != OK)
		return result;
	wait_until_it_goes_on(pid);
	*lock = fake_lock();
	fake_read(gpus);
	*process = fake_find(gpus, pid);
	if (*process)
		return OK;
	fake_unlock(*lock);
	return INVALID_VALUE;
}

static int get_state(int pid, int *state)
{
	struct fake_process *process;
	struct fake_gpus gpus;
	int result, lock;

	if (fake_call("cuCheckpointProcessGetState", pid, &result))
		return result;
	result = find(&gpus, pid, &process, &lock);
	if (result != OK)
		return result;
	*state = (int)process->state;
	fake_unlock(lock);
	return OK;
}

/* From one state to another, which is its whole effect. */
static int move(const char *symbol, int pid, enum fake_state from, enum fake_state to)
{
	struct fake_process *process;
	struct fake_gpus gpus;
	int result, lock;

	if (fake_call(symbol, pid, &result))
		return result;
	result = find(&gpus, pid, &process, &lock);
	if (result != OK)
		return result;
	if (process->state == from && !process->broken) {
		process->state = to;
		fake_write(process);
	} else {
		result = ILLEGAL_STATE;
	}
	fake_unlock(lock);
	return result;
}

/* Its CUDA calls do not end. */
static bool busy(pid_t pid)
{
	struct fake_process *process;
	struct fake_gpus gpus;
	bool is;
	int lock;

	if (find(&gpus, pid, &process, &lock) != OK)
		return false;
	is = process->busy;
	fake_unlock(lock);
	return is;
}

static int lock_process(int pid, struct lock_arguments *arguments)
{
	unsigned limit_ms = arguments ? arguments->timeout_ms : 0;

	for (unsigned ms = 0; busy(pid); ms += 10) {
		struct timespec t = {.tv_nsec = 10000000};

		if (limit_ms && ms >= limit_ms)
			return NOT_READY;
		nanosleep(&t, NULL);
	}
	return move("cuCheckpointProcessLock", pid, FAKE_RUNNING, FAKE_LOCKED);
}

static int checkpoint(int pid, void *arguments)
{
	(void)arguments;
	return move("cuCheckpointProcessCheckpoint", pid, FAKE_LOCKED, FAKE_PARKED);
}

static int unlock(int pid, void *arguments)
{
	(void)arguments;
	return move("cuCheckpointProcessUnlock", pid, FAKE_LOCKED, FAKE_RUNNING);
}

/* To the other devices, where pairs say so. */
static void relocate(const struct fake_gpus *gpus, struct fake_process *process,
		     const struct restore_arguments *arguments)
{
	uint64_t moved[FAKE_MOST_DEVICES] = {0};

	for (unsigned i = 0; i < gpus->device_count; i++) {
		unsigned to = i;
		struct uuid id;

		uuid_of(gpus->devices[i].uuid, &id);
		for (unsigned k = 0; k < arguments->pair_count; k++) {
			if (memcmp(&id, &arguments->pairs[k].from, sizeof(id)) != 0)
				continue;
			for (to = 0; to < gpus->device_count; to++) {
				uuid_of(gpus->devices[to].uuid, &id);
				if (memcmp(&id, &arguments->pairs[k].to, sizeof(id)) == 0)
					break;
			}
			break;
		}
		if (to < gpus->device_count)
			moved[to] += process->bytes[i];
	}
	memcpy(process->bytes, moved, sizeof(moved));
}

/* $FAKE_GPU_PAIRS: so many are wanted of who gives any. */
static bool has_pairs(const struct restore_arguments *arguments)
{
	const char *wanted = getenv("FAKE_GPU_PAIRS");

	return !wanted || !arguments || arguments->pair_count == 0 ||
	       arguments->pair_count == (unsigned)atoi(wanted);
}

static int restore(int pid, struct restore_arguments *arguments)
{
	struct fake_process *process;
	struct fake_gpus gpus;
	int result, lock;

	if (fake_call("cuCheckpointProcessRestore", pid, &result))
		return result;
	result = find(&gpus, pid, &process, &lock);
	if (result != OK)
		return result;
	if (process->state != FAKE_PARKED)
		result = ILLEGAL_STATE;
	else if (process->broken)
		result = UNKNOWN;
	if (result == OK && !has_pairs(arguments))
		result = INVALID_VALUE;
	if (result == OK && arguments && arguments->pair_count)
		relocate(&gpus, process, arguments);
	for (unsigned i = 0; result == OK && i < gpus.device_count; i++)
		if (fake_used(&gpus, i) + process->bytes[i] > gpus.devices[i].total_bytes)
			result = OUT_OF_MEMORY;
	if (result == OK)
		process->state = FAKE_LOCKED;
	else if (result == OUT_OF_MEMORY)
		process->broken = 1;
	fake_write(process);
	fake_unlock(lock);
	return result;
}

static int restore_thread(int pid, int *thread)
{
	*thread = pid;
	return OK;
}

static int refuse(void)
{
	return NOT_SUPPORTED;
}

int cuGetProcAddress_v2(const char *symbol, void **out, int version, unsigned long long flags,
			int *status)
{
	static const struct {
		const char *symbol;
		void (*function)(void);
	} functions[] = {
		{"cuInit", (void (*)(void))init},
		{"cuDriverGetVersion", (void (*)(void))driver_version},
		{"cuDeviceGetCount", (void (*)(void))device_count},
		{"cuDeviceGet", (void (*)(void))device_get},
		{"cuDeviceGetUuid", (void (*)(void))device_uuid},
		{"cuDeviceGetName", (void (*)(void))device_name},
		{"cuDeviceTotalMem", (void (*)(void))device_total},
		{"cuGetErrorName", (void (*)(void))error_name},
		{"cuGetErrorString", (void (*)(void))error_string},
		{"cuCheckpointProcessGetState", (void (*)(void))get_state},
		{"cuCheckpointProcessLock", (void (*)(void))lock_process},
		{"cuCheckpointProcessCheckpoint", (void (*)(void))checkpoint},
		{"cuCheckpointProcessRestore", (void (*)(void))restore},
		{"cuCheckpointProcessUnlock", (void (*)(void))unlock},
		{"cuCheckpointProcessGetRestoreThreadId", (void (*)(void))restore_thread},
	};
	int has = 0;

	(void)flags;
	if (status)
		*status = 0;
	driver_version(&has);
	/* What came with a later CUDA is not there. */
	if (version > has) {
		*out = NULL;
		return NOT_SUPPORTED;
	}
	*(void (**)(void))out = (void (*)(void))refuse;
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (strcmp(symbol, functions[i].symbol) == 0)
			*(void (**)(void))out = functions[i].function;
	return OK;
}
