/*
 * state.h - the GPUs and processes of a driver that is not there, as files of the
 * folder $FAKE_GPU_DIR. libcuda.so.1 and libnvidia-ml.so.1 of this folder are made
 * of it; tests/e2e/fake_gpus.py writes and reads the same files.
 *
 *   driver          "CUDA_VERSION DRIVER_VERSION MIG": "13000 580.159 0"; may be absent
 *   devices         a line a GPU: "UUID TOTAL_BYTES USED_BYTES NAME"; USED_BYTES: of
 *                   nobody who is listed. Slices ("MIG-...") come last: NVML has them by
 *                   their UUIDs only, and the driver as devices like others
 *   processes/PID   "STATE BUSY BROKEN" and pairs "DEVICE_INDEX BYTES"; STATE is running,
 *                   locked or parked; BUSY 1: its CUDA calls do not end; BROKEN 1: a
 *                   restore failed
 *   samples/PID     a line a sample of its use: "MICROSECONDS SM_PERCENT"; 0 0: just now
 *   reach           for how many seconds back the devices' own samples go
 *   on/SYMBOL       what happens inside the next call of that function: a line a step
 *                   (state.c), taken away when it begins unless it starts with "always"
 *   log             a line a call: "CALLER SYMBOL PID"
 *   lock            held while any of it is read and written
 */
#ifndef VAC_FAKE_STATE_H
#define VAC_FAKE_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FAKE_MOST_DEVICES   20
#define FAKE_MOST_PROCESSES 256

enum fake_state { FAKE_RUNNING, FAKE_LOCKED, FAKE_PARKED };

struct fake_device {
	char uuid[48], name[64];
	uint64_t total_bytes, used_bytes;
};

struct fake_process {
	pid_t pid;
	enum fake_state state;
	int busy, broken;
	uint64_t bytes[FAKE_MOST_DEVICES];
};

struct fake_gpus {
	int cuda_version, mig;
	char driver_version[40];
	unsigned device_count, process_count;
	struct fake_device devices[FAKE_MOST_DEVICES];
	struct fake_process processes[FAKE_MOST_PROCESSES]; /* those that live */
};

/* A path below the folder; NULL: FAKE_GPU_DIR is not set. In a buffer of the caller's thread. */
const char *fake_path(const char *format, ...) __attribute__((format(printf, 1, 2)));
int fake_lock(void); /* a descriptor for fake_unlock */
void fake_unlock(int lock);
/* With the lock held. */
void fake_read(struct fake_gpus *out);
void fake_write(const struct fake_process *process);
struct fake_process *fake_find(struct fake_gpus *gpus, pid_t pid);
/* On the device: of everybody, and of those that are not parked. */
uint64_t fake_used(const struct fake_gpus *gpus, unsigned device);

/* Notes the call and does what on/SYMBOL says, without the lock. true: the function
 * shall return *result and do nothing else. */
bool fake_call(const char *symbol, pid_t target, int *result);
/* 'R', 'T', 'Z' as in /proc/PID/stat; 0: there is no such process. */
char fake_proc_state(pid_t pid);

#endif
