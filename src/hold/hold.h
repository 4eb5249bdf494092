/*
 * hold.h - processes on a GPU: their state, parked to 0 MiB and resumed.
 *
 * The driver (570 and later) takes everything of a live process off its GPUs, the
 * context included (cuCheckpointProcess*, CUDA driver API 6.41 "Checkpointing"), and
 * keeps it in that process's own host memory:
 *
 *     running --lock--> locked --checkpoint--> parked
 *     running <-unlock- locked <--restore----- parked
 *
 * Parking is lock + checkpoint, resuming restore + unlock. A restore into a device
 * without room leaves the process unusable for good, and the driver goes on calling
 * it checkpointed: so room is looked at first, under a lock of the device that all of
 * Vacate's processes share, and a restore that failed is written to the record
 * (record.h), from where VAC_HOLD_FAILED comes.
 *
 * A call blocks until it is done and belongs to the thread that makes it; a struct
 * vac_hold to one thread at a time. Nothing is printed. docs/hold.md has the states,
 * what is checked, and what each interruption leaves.
 */
#ifndef VAC_HOLD_HOLD_H
#define VAC_HOLD_HOLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "hold/target.h"

struct vac_cuda;
struct vac_nvml;

enum vac_hold_state {
	VAC_HOLD_UNKNOWN, /* the driver does not say: another user's, or no CUDA process */
	VAC_HOLD_RUNNING,
	VAC_HOLD_LOCKED, /* its CUDA calls block; what it has on the GPU is there */
	VAC_HOLD_PARKED, /* nothing of it is on a GPU */
	VAC_HOLD_FAILED, /* a restore failed: it will never run on the GPU again */
};
/* "unknown", "running", "locked", "parked", "failed". */
const char *vac_hold_state_name(enum vac_hold_state state);

#define VAC_HOLD_MOST_DEVICES 16
#define VAC_HOLD_MOST_TARGETS 64 /* of one call: a process and its children */
#define VAC_HOLD_UUID_BYTES   48
#define VAC_HOLD_WHO_BYTES    48

/* What a process has on one device. */
struct vac_hold_device {
	char uuid[VAC_HOLD_UUID_BYTES]; /* "GPU-..." */
	bool listed;                    /* by NVML */
	bool bytes_valid;
	uint64_t bytes;      /* the process's, by NVML */
	uint64_t used_bytes; /* of all processes */
	uint64_t total_bytes;
};

/* When the driver is started (cuInit), which its calls to other processes do without, but
 * are slower: see start.c. $VACATE_CUDA_INIT says otherwise, for measurements. */
enum vac_hold_init {
	VAC_HOLD_INIT_EARLY,  /* beside NVML's start: the default */
	VAC_HOLD_INIT_LATE,   /* beside the first call that takes long */
	VAC_HOLD_INIT_BEFORE, /* before all else, and waited for */
	VAC_HOLD_INIT_NEVER,  /* but where a call is refused */
};

struct vac_hold {
	const struct vac_cuda *cuda; /* NULL: not loaded so far */
	const struct vac_nvml *nvml; /* NULL: not loaded, or there is none */
	enum vac_hold_init init;
	char directory[256];      /* of the records */
	char lock_directory[256]; /* of the locks */
	const char *host_root;    /* for vac_meter_host_of(): ""; tests have another */
	int driver_version;       /* cuDriverGetVersion: 13000 */
	char driver_text[80];     /* by NVML: "580.159"; "": NVML does not say */
	bool nvml_started;        /* kept until the end, so that readings are quick */
	uint32_t device_lock_ms;  /* for another vacate at a device to end: 60,000 */
	int64_t init_ns;          /* that cuInit was waited for; 0 once it stands in a receipt */
	/* start.c: threads that start NVML (nvml_started and driver_text are its until it is
	 * joined) and the driver, and whether that is done. None outlives the call that began
	 * it, unless init_may_stay: then vac_hold_finish() or the process's end ends it. */
	bool nvml_starting, init_running, init_done, init_may_stay;
	pthread_t nvml_thread, init_thread;
	int init_result; /* the thread's until it is joined */
};

/* Where the records are: $VACATE_HOLD_DIR, or vacate-hold-UID where the locks are
 * (vac_lock_directory). No driver is loaded before it is needed. */
int vac_hold_open(struct vac_hold *hold, struct vac_error *err) VAC_MUST_CHECK;
void vac_hold_close(struct vac_hold *hold);
/* Before that, of one with init_may_stay: waits for the driver's start. */
void vac_hold_finish(struct vac_hold *hold);

/* The driver's word, and the record's where that knows better. VAC_HOLD_UNKNOWN is
 * no error; VAC_E_BUSY: it is stopped, and could not let the driver answer. Starts the
 * driver (cuInit) only where it does not answer without, and never a context. */
int vac_hold_state(struct vac_hold *hold, const struct vac_target *target, enum vac_hold_state *out,
		   struct vac_error *err) VAC_MUST_CHECK;

enum vac_hold_phase {
	VAC_HOLD_CHECKING,
	VAC_HOLD_WAITING, /* for room, or for another vacate at the device */
	VAC_HOLD_LOCKING,
	VAC_HOLD_CHECKPOINTING,
	VAC_HOLD_RESTORING,
	VAC_HOLD_UNLOCKING,
	VAC_HOLD_ROLLING_BACK, /* a target of several was refused: the others go back */
	VAC_HOLD_MEASURING,
};
const char *vac_hold_phase_name(enum vac_hold_phase phase); /* "checking", ... */

struct vac_hold_options {
	uint32_t lock_timeout_ms; /* for the target's CUDA calls to end; 0: 10,000 */
	uint32_t wait_ms;         /* resume: for room on the device; 0: refuse at once */
	bool risk;                /* go on where the target's use or the driver is untried */
	bool pageout;             /* park: hand the copy in host RAM to swap afterwards */
	/* park: what asks for it, for whoever reads the record later: "guard"; NULL: nothing
	 * is said. Plain text below VAC_HOLD_WHO_BYTES. */
	const char *who;
	/* resume: on another GPU of the same kind; "": where it was. Driver 580. */
	char device_uuid[VAC_HOLD_UUID_BYTES];
	/* Called between the driver's calls; target: index. NULL: not. */
	void (*progress)(void *ctx, size_t target, enum vac_hold_phase phase);
	/* true: stop at the next safe point and put everything back. NULL: never. */
	bool (*cancelled)(void *ctx);
	void *ctx;
};

/* What one target went through. Times in nanoseconds; 0: that step was not taken. */
struct vac_hold_receipt {
	pid_t pid;
	uid_t uid;
	char command[VAC_TARGET_COMMAND_BYTES];
	enum vac_hold_state before, after;
	uint32_t device_count;
	/* As NVML had it before and after; the same device at the same index. */
	struct vac_hold_device devices_before[VAC_HOLD_MOST_DEVICES];
	struct vac_hold_device devices_after[VAC_HOLD_MOST_DEVICES];
	bool rss_valid;
	uint64_t rss_before_bytes, rss_after_bytes;
	bool pageout_valid;
	uint64_t pageout_bytes; /* by which RSS fell */
	uint64_t swapped_bytes; /* by which its swap rose, shared memory with it */
	int64_t lock_ns, checkpoint_ns, restore_ns, unlock_ns;
	int64_t driver_ns;      /* of those, and of waiting for cuInit */
	int64_t total_ns;       /* from the call to its end */
	struct vac_error error; /* code VAC_OK: done */
};

/* Parks all targets or none: what was done is undone when one is refused (undoing is
 * itself reported in the receipts' after). count: 1 to VAC_HOLD_MOST_TARGETS; receipts:
 * room for as many, filled in any case. A target that is parked already is done; one
 * that is locked is parked. On error err is that of the first target that was refused:
 *   VAC_E_NOT_FOUND    it ended, or its number is another process's by now
 *   VAC_E_UNSUPPORTED  no CUDA process; MIG or MPS; a driver without checkpoints; and,
 *                      unless options->risk, a driver not in the table of those tried
 *   VAC_E_IO           another user's (the driver answers 304)
 *   VAC_E_NO_ROOM      host RAM, or its control group's, has no room for its VRAM
 *   VAC_E_BUSY         another vacate is at it, or it is stopped (SIGSTOP, a debugger)
 *   VAC_E_TIMEOUT      its CUDA calls did not end in lock_timeout_ms: it runs on
 *   VAC_E_GONE         an earlier restore failed, or it died under it
 *   VAC_E_CANCELLED    options->cancelled said so */
int vac_hold_park(struct vac_hold *hold, const struct vac_target *targets, size_t count,
		  const struct vac_hold_options *options, struct vac_hold_receipt *receipts,
		  struct vac_error *err) VAC_MUST_CHECK;

/* Resumes: a parked target is restored and unlocked, a locked one unlocked, a running
 * one is done. Several are resumed one after the other, and those that were go on
 * when a later one is refused. VAC_E_NO_ROOM names who holds the device; the target
 * stays parked, as it does on every error but VAC_E_GONE (the restore itself failed). */
int vac_hold_resume(struct vac_hold *hold, const struct vac_target *targets, size_t count,
		    const struct vac_hold_options *options, struct vac_hold_receipt *receipts,
		    struct vac_error *err) VAC_MUST_CHECK;

#endif
