/*
 * fake_hold.h - a driver that checkpoints and an NVML, without a GPU: targets are
 * real processes, what they have on devices is numbers. A test can make any call
 * fail, and step in before one.
 */
#ifndef FAKE_HOLD_H
#define FAKE_HOLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FAKE_MOST_DEVICES   4
#define FAKE_MOST_PROCESSES 16

enum fake_call {
	FAKE_STATE,
	FAKE_LOCK,
	FAKE_CHECKPOINT,
	FAKE_RESTORE,
	FAKE_UNLOCK,
	FAKE_CALLS,
};

struct fake_process {
	pid_t pid;
	int state; /* VAC_CU_PROCESS_... */
	/* A restore failed for want of room: as with the real driver (cuda-checkpoint
	 * issue 44) it goes on being checkpointed, restore gives 304, unlock 401. */
	bool stuck;
	bool hidden;   /* not in NVML's lists */
	bool in_mig;   /* listed with an instance of a divided GPU */
	bool no_bytes; /* listed, and NVML does not know how much it has */
	uint64_t bytes[FAKE_MOST_DEVICES];
};

struct fake_hold {
	int driver;              /* 13000 */
	const char *driver_text; /* "580.159.03" */
	int init_result;
	unsigned init_us; /* cuInit takes so long */
	/* Until cuInit is through, calls to processes answer 3. Driver 580 does without. */
	bool wants_init;
	uint32_t devices;
	uint64_t total_bytes, reserved_bytes; /* of each; the latter nobody's */
	/* NVML lists so many others on each device, before the processes below. */
	uint32_t strangers;
	uint32_t lost; /* bit n: device n does not answer */
	struct fake_process processes[FAKE_MOST_PROCESSES];
	uint32_t process_count;
	/* This call to this process (0: any) gives this result, the skip-th time, once. */
	enum fake_call fail_call;
	pid_t fail_pid;
	int fail_with, fail_skip;
	bool fail_breaks; /* and its state is failed from then on */
	/* Before each call to a process; the driver's own checks come after it. */
	void (*before)(enum fake_call call, pid_t pid);
	/* how often each was called; of everything that acts (not FAKE_STATE) in order */
	int calls[FAKE_CALLS];
	struct {
		enum fake_call call;
		pid_t pid;
	} log[256];
	int log_count;
	int inits, nvml_depth; /* calls of cuInit; nvmlInit less nvmlShutdown */
	int started;           /* of cuInit's those that are through, and were well */
	unsigned lock_timeout_ms;
	/* A restore with pairs wants so many of them (0: any number), else it is refused. */
	unsigned wants_pairs;
	char remapped[2][41]; /* of the last restore with pairs: the first's from and to */
};
extern struct fake_hold fake_hold;

/* One H100 with nobody on it, and both tables injected. */
void fake_hold_install(void);
/* From the next load on a driver of before 12.8, which cannot checkpoint. */
void fake_hold_old_driver(void);
void fake_hold_remove(void);
/* A process with so much on device 0. */
struct fake_process *fake_hold_add(pid_t pid, uint64_t bytes);
struct fake_process *fake_hold_find(pid_t pid);
/* "GPU-0000000N-0000-..." of device n */
const char *fake_hold_uuid(uint32_t device);
uint64_t fake_hold_free(uint32_t device);
/* A child that sleeps until it is killed, and ends with us; of this user (0: ours). */
pid_t fake_hold_child(uid_t uid);
/* Kills it; reap: and takes its number away. */
void fake_hold_kill(pid_t pid, bool reap);
/* SIGSTOP or SIGCONT, and waits until it is so. */
void fake_hold_stop(pid_t pid, bool stop);

#endif
