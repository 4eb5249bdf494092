/*
 * internal.h - what the files of hold share among themselves: one run of park or
 * resume over some targets, and the steps that it is made of. As hold.h: one thread.
 */
#ifndef VAC_HOLD_INTERNAL_H
#define VAC_HOLD_INTERNAL_H

#include "driver/cuda.h"
#include "driver/nvml.h"
#include "hold/hold.h"
#include "hold/lock.h"
#include "hold/record.h"

/* How long another vacate at a device is waited for: it restores some process. */
#define VAC_HOLD_DEVICE_LOCK_MS    60000
#define VAC_HOLD_LOCK_TIMEOUT_MS   10000
#define VAC_HOLD_MOST_READ         64 /* devices of a machine; one process is on fewer */
#define VAC_HOLD_SIZE_TEXT_BYTES   24
#define VAC_HOLD_HOLDER_TEXT_BYTES 256

/* One call of the driver. */
enum vac_hold_step {
	VAC_STEP_NONE,
	VAC_STEP_LOCK,
	VAC_STEP_CHECKPOINT,
	VAC_STEP_RESTORE,
	VAC_STEP_UNLOCK,
	VAC_HOLD_STEPS,
};

enum vac_hold_operation { VAC_HOLD_PARK, VAC_HOLD_RESUME, VAC_HOLD_OPERATIONS };

/* What an operation does to a process in some state: the steps in their order, none if
 * it is done already; or why not. */
struct vac_hold_plan {
	enum vac_hold_step steps[2];
	enum vac_error_code refused; /* VAC_OK: it is not */
	const char *why;             /* "process 12 WHY" */
};
const struct vac_hold_plan *vac_hold_plan(enum vac_hold_operation operation,
					  enum vac_hold_state state);

/* What is on the devices now. */
struct vac_hold_reading {
	bool valid; /* false: NVML does not answer, or there are more than can be read */
	uint32_t count;
	struct vac_nvml_device devices[VAC_HOLD_MOST_READ]; /* those that answer */
};

/* One target of a run. Errors go to its receipt. */
struct vac_hold_member {
	const struct vac_target *target;
	struct vac_hold_receipt *receipt;
	const struct vac_hold_plan *plan;
	enum vac_hold_state state; /* now, as far as is known */
	struct vac_record record;
	struct vac_lock lock;
	bool touched;       /* a call of the driver was made: if it dies now, it dies under it */
	bool use_known;     /* what it has on devices */
	uint64_t use_bytes; /* on all of them: what host RAM must take */
	char group[256];    /* the control group that it is charged to */
};

struct vac_hold_run {
	struct vac_hold *hold;
	struct vac_hold_options options;
	enum vac_hold_operation operation;
	int64_t begun_ns;
	size_t count;
	struct vac_hold_member *refused; /* the one for whose sake all were; NULL: none */
	struct vac_hold_reading reading;
	struct vac_hold_member members[]; /* count of them */
};

/* start.c: all of the hold's owner. */

/* Loads the driver's library, once. */
int vac_hold_load(struct vac_hold *hold, struct vac_error *err) VAC_MUST_CHECK;
/* Loads what is needed, and begins to start NVML, once, and the driver as hold->init has it. */
int vac_hold_start(struct vac_hold *hold, struct vac_error *err) VAC_MUST_CHECK;
/* Before driver_text is looked at or NVML asked. */
void vac_hold_wait_nvml(struct vac_hold *hold);
/* Begins to start the driver on a thread, if it is not started. */
void vac_hold_begin_init(struct vac_hold *hold);
/* Starts the driver, or waits until it is. */
int vac_hold_wait_init(struct vac_hold *hold, struct vac_error *err) VAC_MUST_CHECK;
/* No thread of the hold's runs afterwards, but for what may stay. */
void vac_hold_join(struct vac_hold *hold);

/* run.c */

/* Fills the receipts with who is meant, starts the driver. On error the receipts say
 * so, and there is no run. */
int vac_run_begin(struct vac_hold_run **out, enum vac_hold_operation operation,
		  struct vac_hold *hold, const struct vac_target *targets, size_t count,
		  const struct vac_hold_options *options, struct vac_hold_receipt *receipts,
		  struct vac_error *err) VAC_MUST_CHECK;
/* Measures what came of it, gives locks back, frees the run. Returns the first error
 * of the receipts, which err gets. */
int vac_run_end(struct vac_hold_run *run, struct vac_error *err) VAC_MUST_CHECK;
/* A fresh reading. */
void vac_run_read(struct vac_hold_run *run);
/* NULL: it was not read. */
const struct vac_nvml_device *vac_reading_find(const struct vac_hold_reading *reading,
					       const char *uuid);
void vac_run_progress(const struct vac_hold_run *run, const struct vac_hold_member *member,
		      enum vac_hold_phase phase);
/* VAC_E_CANCELLED if the caller wants to stop. */
int vac_run_cancelled(const struct vac_hold_run *run, struct vac_error *err) VAC_MUST_CHECK;
/* Its entries in the receipt's devices: of the reading, or where it is parked of the
 * record. */
void vac_member_measure(const struct vac_hold_run *run, struct vac_hold_member *member,
			struct vac_hold_device *devices, uint32_t *count);

/* check.c */

/* What must hold for either operation: it lives, is ours, nobody else is at it; then
 * its state and record are read and its plan is made. */
int vac_member_check(struct vac_hold_run *run, struct vac_hold_member *member) VAC_MUST_CHECK;
/* What must hold before it is parked: nothing that the driver refuses, a use that is
 * known. Sets use_known and use_bytes, and the record's devices. */
int vac_member_check_use(struct vac_hold_run *run, struct vac_hold_member *member) VAC_MUST_CHECK;
/* Host RAM has room for what the members will put there, together. *refused: the first
 * for which it has not. */
int vac_run_check_host(struct vac_hold_run *run, struct vac_hold_member **refused) VAC_MUST_CHECK;

/* step.c */

/* The driver's word alone; of one that is stopped it is not asked for: unknown. An error
 * only where the driver does not start. */
int vac_driver_state(struct vac_hold *hold, const struct vac_target *target,
		     enum vac_hold_state *out, struct vac_error *err) VAC_MUST_CHECK;
/* Its number means it, and it can answer the driver; else VAC_E_NOT_FOUND, VAC_E_GONE, or
 * VAC_E_BUSY for one that is stopped. */
int vac_target_look(const struct vac_target *target, struct vac_error *err) VAC_MUST_CHECK;
/* Records the intent, calls the driver, records the result, keeps time and state. The
 * process is looked at just before: it must live and not be stopped. restore: for
 * VAC_STEP_RESTORE, may be NULL. */
int vac_member_step(struct vac_hold_run *run, struct vac_hold_member *member,
		    enum vac_hold_step step, struct vac_cu_restore *restore) VAC_MUST_CHECK;

/* It runs, whoever made it: what is on record of it is no longer so. */
void vac_member_note_running(struct vac_hold_run *run, struct vac_hold_member *member);
/* Its restore failed, and why is known in full now: into the record. */
void vac_member_note_failure(struct vac_hold_run *run, struct vac_hold_member *member);

/* result.c: fills err for what the driver answered to a step. */
int vac_hold_refused(struct vac_error *err, const struct vac_hold *hold,
		     const struct vac_target *target, enum vac_hold_step step, int result,
		     uint32_t lock_timeout_ms);
/* The driver is one that parking was tried with. */
bool vac_hold_driver_tried(const struct vac_hold *hold);

/* move.c */

/* GPUs that a process's own become, the one that is meant first; then all others, too. */
struct vac_hold_move {
	uint32_t count; /* 0: it does not move */
	struct vac_cu_gpu_pair pairs[VAC_HOLD_MOST_READ + 2];
};
/* By a fresh reading. needs: the one device that it needs, which becomes the new one. */
int vac_member_plan_move(struct vac_hold_run *run, struct vac_hold_member *member, const char *uuid,
			 struct vac_record_device *needs,
			 struct vac_hold_move *move) VAC_MUST_CHECK;
/* The driver wanted none of them. */
int vac_member_fail_move(struct vac_hold_member *member, const char *uuid);

/* room.c */

/* Takes the locks of its devices, looks for room, restores, gives them back. wait_ms:
 * for room. uuid: another device, or "". */
int vac_member_restore(struct vac_hold_run *run, struct vac_hold_member *member, uint32_t wait_ms,
		       const char *uuid) VAC_MUST_CHECK;
/* "process 12 (python) holds 3.0 GiB, process 13 512 MiB"; "nobody that NVML lists". */
void vac_room_holders(const struct vac_nvml_device *device, char out[VAC_HOLD_HOLDER_TEXT_BYTES]);

/* pageout.c */

/* There is swap, and this process may ask for it. */
int vac_pageout_check(const struct vac_target *target, struct vac_error *err) VAC_MUST_CHECK;
/* Asks the kernel to move its private anonymous memory to swap; bytes: by how much RSS fell,
 * swapped: by how much its swap rose. */
int vac_pageout(const struct vac_target *target, uint64_t *bytes, uint64_t *swapped,
		struct vac_error *err) VAC_MUST_CHECK;

/* For a failed system call on a file of ours: vac_fail_errno(), whose VAC_E_NOT_FOUND
 * would mean the process here, and becomes VAC_E_IO. */
int vac_hold_fail_file(struct vac_error *err, int errnum, const char *path, const char *what);
/* "512 MiB", "4.5 GiB" */
const char *vac_hold_size_text(uint64_t bytes, char out[VAC_HOLD_SIZE_TEXT_BYTES]);

#endif
