/* fake_hold.c - see fake_hold.h. */
#include "fake_hold.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver/cuda.h"
#include "driver/nvml.h"
#include "hold/target.h"

struct fake_hold fake_hold;
/* With the number of who installed it: children of a test have the same devices. */
static char uuids[FAKE_MOST_DEVICES][48];

const char *fake_hold_uuid(uint32_t device)
{
	return uuids[device];
}

struct fake_process *fake_hold_add(pid_t pid, uint64_t bytes)
{
	struct fake_process *process = &fake_hold.processes[fake_hold.process_count++];

	assert_true(fake_hold.process_count <= FAKE_MOST_PROCESSES);
	*process = (struct fake_process){.pid = pid, .bytes = {bytes}};
	return process;
}

struct fake_process *fake_hold_find(pid_t pid)
{
	for (uint32_t i = 0; i < fake_hold.process_count; i++)
		if (fake_hold.processes[i].pid == pid)
			return &fake_hold.processes[i];
	return NULL;
}

/* As /proc has it: R, S, T, Z, ...; 0: there is none. */
static char proc_state(pid_t pid)
{
	char path[64], text[512], *at;
	FILE *file;
	char state = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fgets(text, sizeof(text), file) && (at = strrchr(text, ')')))
		state = at[2];
	fclose(file);
	return state;
}

static bool is_alive(pid_t pid)
{
	char state = proc_state(pid);

	return state != 0 && state != 'Z';
}

pid_t fake_hold_child(uid_t uid)
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (uid != 0 && setuid(uid) != 0)
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

void fake_hold_kill(pid_t pid, bool reap)
{
	siginfo_t info;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	if (reap)
		assert_int_equal(waitpid(pid, NULL, 0), pid);
}

void fake_hold_stop(pid_t pid, bool stop)
{
	assert_int_equal(kill(pid, stop ? SIGSTOP : SIGCONT), 0);
	for (int i = 0; i < 60000 && (proc_state(pid) == 'T') != stop; i++)
		usleep(1000);
	assert_true((proc_state(pid) == 'T') == stop);
}

/* A process that ended, or is checkpointed, has nothing there. */
static bool is_on(const struct fake_process *process, uint32_t device)
{
	return process->state != VAC_CU_PROCESS_CHECKPOINTED && process->bytes[device] > 0 &&
	       is_alive(process->pid);
}

uint64_t fake_hold_free(uint32_t device)
{
	uint64_t used = fake_hold.reserved_bytes;

	for (uint32_t i = 0; i < fake_hold.process_count; i++)
		if (is_on(&fake_hold.processes[i], device))
			used += fake_hold.processes[i].bytes[device];
	return used < fake_hold.total_bytes ? fake_hold.total_bytes - used : 0;
}

/* The tables may be used by several threads; the tests' own functions by one. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int lock(void)
{
	return pthread_mutex_lock(&mutex);
}

static void unlock(int *guard)
{
	(void)guard;
	pthread_mutex_unlock(&mutex);
}

#define GUARD()                                                                                    \
	__attribute__((cleanup(unlock))) int guard = lock();                                       \
	(void)guard

/* Counts a call; 0, or what it answers without doing anything. */
static int enter(enum fake_call call, int pid, struct fake_process **out)
{
	char path[64];
	struct stat st;

	if (fake_hold.wants_init && fake_hold.started == 0)
		return VAC_CU_NOT_INITIALIZED;
	fake_hold.calls[call]++;
	if (call != FAKE_STATE && fake_hold.log_count < 256) {
		fake_hold.log[fake_hold.log_count].call = call;
		fake_hold.log[fake_hold.log_count++].pid = pid;
	}
	if (fake_hold.before)
		fake_hold.before(call, pid);
	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (stat(path, &st) == 0 && geteuid() != 0 && st.st_uid != geteuid())
		return VAC_CU_OPERATING_SYSTEM;
	/* the real driver does not answer before it goes on */
	assert_false(vac_target_stopped(&(struct vac_target){.pid = pid}));
	*out = fake_hold_find(pid);
	if (!*out || !is_alive(pid))
		return VAC_CU_INVALID_VALUE;
	if (fake_hold.fail_with != 0 && fake_hold.fail_call == call &&
	    (fake_hold.fail_pid == 0 || fake_hold.fail_pid == pid) && fake_hold.fail_skip-- == 0) {
		int result = fake_hold.fail_with;

		fake_hold.fail_with = 0;
		if (fake_hold.fail_breaks)
			(*out)->state = VAC_CU_PROCESS_FAILED;
		return result;
	}
	return VAC_CU_OK;
}

static int process_state(int pid, int *state)
{
	GUARD();
	struct fake_process *process;
	int result = enter(FAKE_STATE, pid, &process);

	if (result == VAC_CU_OK)
		*state = process->state;
	return result;
}

static int move(enum fake_call call, int pid, int from, int to)
{
	GUARD();
	struct fake_process *process;
	int result = enter(call, pid, &process);

	if (result != VAC_CU_OK)
		return result;
	if (process->state != from)
		return VAC_CU_ILLEGAL_STATE;
	process->state = to;
	return VAC_CU_OK;
}

static int process_lock(int pid, struct vac_cu_lock *args)
{
	struct vac_cu_lock zero = {.timeout_ms = args->timeout_ms};

	assert_memory_equal(args, &zero, sizeof(zero));
	lock();
	fake_hold.lock_timeout_ms = args->timeout_ms;
	pthread_mutex_unlock(&mutex);
	return move(FAKE_LOCK, pid, VAC_CU_PROCESS_RUNNING, VAC_CU_PROCESS_LOCKED);
}

static int process_checkpoint(int pid, void *args)
{
	assert_null(args);
	return move(FAKE_CHECKPOINT, pid, VAC_CU_PROCESS_LOCKED, VAC_CU_PROCESS_CHECKPOINTED);
}

static void to_text(const struct vac_cu_uuid *uuid, char out[41])
{
	size_t at = (size_t)snprintf(out, 41, "GPU-");

	for (int i = 0; i < 16; i++)
		at += (size_t)snprintf(out + at, 41 - at, "%s%02x",
				       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
				       (unsigned char)uuid->bytes[i]);
}

static uint32_t find_device(const char *uuid)
{
	for (uint32_t i = 0; i < fake_hold.devices; i++)
		if (strcmp(uuid, fake_hold_uuid(i)) == 0)
			return i;
	return UINT32_MAX;
}

/* Each GPU's to its pair's, and no two to one. */
static bool remap(const struct vac_cu_restore *args, const uint64_t *bytes, uint64_t *wanted)
{
	uint32_t came_to = 0, goes[FAKE_MOST_DEVICES];

	for (uint32_t i = 0; i < FAKE_MOST_DEVICES; i++)
		goes[i] = UINT32_MAX;
	for (unsigned i = 0; i < args->pair_count; i++) {
		char text[2][41];
		uint32_t from, to;

		to_text(&args->pairs[i].from, text[0]);
		to_text(&args->pairs[i].to, text[1]);
		from = find_device(text[0]);
		to = find_device(text[1]);
		if (from == UINT32_MAX || to == UINT32_MAX || goes[from] != UINT32_MAX ||
		    came_to >> to & 1)
			return false;
		goes[from] = to;
		came_to |= 1u << to;
	}
	memset(wanted, 0, FAKE_MOST_DEVICES * sizeof(*wanted));
	for (uint32_t i = 0; i < FAKE_MOST_DEVICES; i++)
		wanted[goes[i] == UINT32_MAX ? i : goes[i]] += bytes[i];
	return true;
}

static int process_restore(int pid, struct vac_cu_restore *args)
{
	GUARD();
	struct fake_process *process;
	uint64_t wanted[FAKE_MOST_DEVICES];
	int result = enter(FAKE_RESTORE, pid, &process);

	if (result != VAC_CU_OK)
		return result;
	if (process->stuck)
		return VAC_CU_OPERATING_SYSTEM;
	if (process->state != VAC_CU_PROCESS_CHECKPOINTED)
		return VAC_CU_ILLEGAL_STATE;
	memcpy(wanted, process->bytes, sizeof(wanted));
	if (args && args->pair_count > 0) {
		assert_true(fake_hold.driver >= 13000);
		if (fake_hold.wants_pairs && args->pair_count != fake_hold.wants_pairs)
			return VAC_CU_INVALID_VALUE;
		if (!remap(args, process->bytes, wanted))
			return VAC_CU_INVALID_VALUE;
		to_text(&args->pairs[0].from, fake_hold.remapped[0]);
		to_text(&args->pairs[0].to, fake_hold.remapped[1]);
	}
	for (uint32_t i = 0; i < fake_hold.devices; i++) {
		if (wanted[i] > fake_hold_free(i)) {
			process->stuck = true;
			return VAC_CU_OUT_OF_MEMORY;
		}
	}
	memcpy(process->bytes, wanted, sizeof(wanted));
	process->state = VAC_CU_PROCESS_LOCKED;
	return VAC_CU_OK;
}

static int process_unlock(int pid, void *args)
{
	assert_null(args);
	return move(FAKE_UNLOCK, pid, VAC_CU_PROCESS_LOCKED, VAC_CU_PROCESS_RUNNING);
}

/* Others' calls go on meanwhile. */
static int init(unsigned flags)
{
	unsigned us;
	int result;

	assert_int_equal(flags, 0);
	lock();
	fake_hold.inits++;
	us = fake_hold.init_us;
	pthread_mutex_unlock(&mutex);
	usleep(us);
	GUARD();
	result = fake_hold.init_result;
	fake_hold.started += result == VAC_CU_OK;
	return result;
}

static int driver_version(int *version)
{
	*version = fake_hold.driver;
	return VAC_CU_OK;
}

static int error_name(int result, const char **name)
{
	(void)result;
	*name = "CUDA_ERROR_FAKE";
	return VAC_CU_OK;
}

static int error_string(int result, const char **text)
{
	(void)result;
	*text = "as the test wanted it";
	return VAC_CU_OK;
}

static int nvml_init(void)
{
	GUARD();
	fake_hold.nvml_depth++;
	return VAC_NVML_OK;
}

static int nvml_shutdown(void)
{
	GUARD();
	assert_true(fake_hold.nvml_depth > 0);
	fake_hold.nvml_depth--;
	return VAC_NVML_OK;
}

static int nvml_driver_version(char *text, unsigned bytes)
{
	snprintf(text, bytes, "%s", fake_hold.driver_text);
	return VAC_NVML_OK;
}

static int nvml_count(unsigned *count)
{
	GUARD();
	assert_true(fake_hold.nvml_depth > 0);
	*count = fake_hold.devices;
	return VAC_NVML_OK;
}

static int nvml_by_index(unsigned index, struct nvmlDevice_st **device)
{
	*device = (struct nvmlDevice_st *)(uintptr_t)(index + 1);
	return fake_hold.lost >> index & 1 ? 15 : VAC_NVML_OK;
}

static uint32_t number_of(const struct nvmlDevice_st *device)
{
	return (uint32_t)(uintptr_t)device - 1;
}

static int nvml_by_uuid(const char *uuid, struct nvmlDevice_st **device)
{
	return nvml_by_index(find_device(uuid), device);
}

static int nvml_name(struct nvmlDevice_st *device, char *text, unsigned bytes)
{
	(void)device;
	snprintf(text, bytes, "NVIDIA H100 80GB HBM3");
	return VAC_NVML_OK;
}

static int nvml_uuid(struct nvmlDevice_st *device, char *text, unsigned bytes)
{
	snprintf(text, bytes, "%s", fake_hold_uuid(number_of(device)));
	return VAC_NVML_OK;
}

static int nvml_memory(struct nvmlDevice_st *device, struct vac_nvml_memory *out)
{
	GUARD();
	out->total = fake_hold.total_bytes;
	out->free = fake_hold_free(number_of(device));
	out->used = out->total - out->free;
	return VAC_NVML_OK;
}

static int nvml_processes(struct nvmlDevice_st *device, unsigned *count,
			  struct vac_nvml_process *out)
{
	GUARD();
	unsigned capacity = *count, listed = fake_hold.strangers;

	for (uint32_t i = 0; i < fake_hold.process_count; i++)
		listed += !fake_hold.processes[i].hidden &&
			  is_on(&fake_hold.processes[i], number_of(device));
	*count = listed;
	if (listed > capacity) /* as the real one: nothing is written */
		return VAC_NVML_TOO_SMALL;
	*count = 0;
	for (; *count < fake_hold.strangers; ++*count)
		out[*count] = (struct vac_nvml_process){.pid = 2000000000 + *count,
							.gpu_instance = UINT32_MAX,
							.compute_instance = UINT32_MAX};
	for (uint32_t i = 0; i < fake_hold.process_count; i++) {
		const struct fake_process *process = &fake_hold.processes[i];
		struct vac_nvml_process one = {.pid = (unsigned)process->pid,
					       .used_bytes = process->bytes[number_of(device)],
					       .gpu_instance = process->in_mig ? 1 : UINT32_MAX,
					       .compute_instance =
						       process->in_mig ? 0 : UINT32_MAX};

		if (process->hidden || !is_on(process, number_of(device)))
			continue;
		if (process->no_bytes)
			one.used_bytes = UINT64_MAX;
		out[(*count)++] = one;
	}
	return VAC_NVML_OK;
}

void fake_hold_install(void)
{
	static struct vac_cuda cuda;
	static const struct vac_nvml nvml = {
		.init = nvml_init,
		.shutdown = nvml_shutdown,
		.driver_version = nvml_driver_version,
		.count = nvml_count,
		.by_index = nvml_by_index,
		.by_uuid = nvml_by_uuid,
		.name = nvml_name,
		.uuid = nvml_uuid,
		.memory = nvml_memory,
		.processes = nvml_processes,
	};

	for (uint32_t i = 0; i < FAKE_MOST_DEVICES; i++)
		snprintf(uuids[i], sizeof(uuids[i]), "GPU-%08x-0000-0000-0000-%012x", i + 1,
			 (unsigned)getpid());
	fake_hold = (struct fake_hold){.driver = 13000,
				       .driver_text = "580.159.03",
				       .devices = 1,
				       .total_bytes = (uint64_t)81559 << 20,
				       .reserved_bytes = (uint64_t)523 << 20};
	cuda = (struct vac_cuda){
		.init = init,
		.driver_version = driver_version,
		.error_name = error_name,
		.error_string = error_string,
		.process_state = process_state,
		.process_lock = process_lock,
		.process_checkpoint = process_checkpoint,
		.process_restore = process_restore,
		.process_unlock = process_unlock,
	};
	vac_cuda_inject(&cuda);
	vac_nvml_inject(&nvml);
}

void fake_hold_old_driver(void)
{
	static const struct vac_cuda cuda = {
		.init = init,
		.driver_version = driver_version,
		.error_name = error_name,
		.error_string = error_string,
	};

	fake_hold.driver = 12020;
	vac_cuda_inject(&cuda);
}

void fake_hold_remove(void)
{
	vac_cuda_inject(NULL);
	vac_nvml_inject(NULL);
}
