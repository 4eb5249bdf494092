/*
 * step.c - the state machine: which calls of the driver an operation is made of, and
 * one such call with its record around it. docs/hold.md has the same tables in words.
 */
#include "hold/internal.h"

#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/stage.h"

const struct vac_hold_plan *vac_hold_plan(enum vac_hold_operation operation,
					  enum vac_hold_state state)
{
	static const struct vac_hold_plan plans[VAC_HOLD_OPERATIONS][VAC_HOLD_FAILED + 1] = {
		[VAC_HOLD_PARK] =
			{
				[VAC_HOLD_UNKNOWN] =
					{{0},
					 VAC_E_UNSUPPORTED,
					 "uses no CUDA, as far as the driver can tell"},
				[VAC_HOLD_RUNNING] = {{VAC_STEP_LOCK, VAC_STEP_CHECKPOINT},
						      VAC_OK,
						      NULL},
				[VAC_HOLD_LOCKED] = {{VAC_STEP_CHECKPOINT}, VAC_OK, NULL},
				[VAC_HOLD_PARKED] = {{0}, VAC_OK, NULL},
				[VAC_HOLD_FAILED] = {{0},
						     VAC_E_GONE,
						     "is lost: an earlier restore of it failed, "
						     "and it cannot use the GPU again; end it"},
			},
		[VAC_HOLD_RESUME] =
			{
				[VAC_HOLD_UNKNOWN] =
					{{0},
					 VAC_E_UNSUPPORTED,
					 "uses no CUDA, as far as the driver can tell"},
				[VAC_HOLD_RUNNING] = {{0}, VAC_OK, NULL},
				[VAC_HOLD_LOCKED] = {{VAC_STEP_UNLOCK}, VAC_OK, NULL},
				[VAC_HOLD_PARKED] = {{VAC_STEP_RESTORE, VAC_STEP_UNLOCK},
						     VAC_OK,
						     NULL},
				[VAC_HOLD_FAILED] = {{0},
						     VAC_E_GONE,
						     "is lost: an earlier restore of it failed, "
						     "and it cannot use the GPU again; end it"},
			},
	};

	return &plans[operation][state];
}

static const struct {
	enum vac_hold_state to;
	enum vac_record_intent intent;
	enum vac_hold_phase phase;
	size_t time_offset; /* in the receipt */
} steps[VAC_HOLD_STEPS] = {
	[VAC_STEP_LOCK] = {VAC_HOLD_LOCKED, VAC_INTENT_LOCK, VAC_HOLD_LOCKING,
			   offsetof(struct vac_hold_receipt, lock_ns)},
	[VAC_STEP_CHECKPOINT] = {VAC_HOLD_PARKED, VAC_INTENT_CHECKPOINT, VAC_HOLD_CHECKPOINTING,
				 offsetof(struct vac_hold_receipt, checkpoint_ns)},
	[VAC_STEP_RESTORE] = {VAC_HOLD_LOCKED, VAC_INTENT_RESTORE, VAC_HOLD_RESTORING,
			      offsetof(struct vac_hold_receipt, restore_ns)},
	[VAC_STEP_UNLOCK] = {VAC_HOLD_RUNNING, VAC_INTENT_UNLOCK, VAC_HOLD_UNLOCKING,
			     offsetof(struct vac_hold_receipt, unlock_ns)},
};

int vac_target_look(const struct vac_target *target, struct vac_error *err)
{
	int pid = (int)target->pid;

	if (!vac_target_alive(target))
		return vac_fail(err, VAC_E_NOT_FOUND, "process %d has ended", pid);
	if (vac_target_frozen("", target))
		return vac_fail(
			err, VAC_E_BUSY,
			"process %d is frozen with its control group (docker pause, systemctl "
			"freeze) and could not answer the driver; let it go on and try again",
			pid);
	if (!vac_target_stopped(target))
		return 0;
	return vac_fail(err, VAC_E_BUSY,
			"process %d is stopped (SIGSTOP or a debugger) and could not answer "
			"the driver; let it go on (kill -CONT %d) and try again",
			pid, pid);
}

int vac_driver_state(struct vac_hold *hold, const struct vac_target *target,
		     enum vac_hold_state *out, struct vac_error *err)
{
	static const enum vac_hold_state states[] = {
		[VAC_CU_PROCESS_RUNNING] = VAC_HOLD_RUNNING,
		[VAC_CU_PROCESS_LOCKED] = VAC_HOLD_LOCKED,
		[VAC_CU_PROCESS_CHECKPOINTED] = VAC_HOLD_PARKED,
		[VAC_CU_PROCESS_FAILED] = VAC_HOLD_FAILED,
	};
	int state = -1, result;

	*out = VAC_HOLD_UNKNOWN;
	if (!vac_cuda_has_checkpoint(hold->cuda) || vac_target_look(target, NULL) < 0)
		return 0;
	result = hold->cuda->process_state(target->pid, &state);
	/* What it says before it is started may be no word on the process. */
	if (result != VAC_CU_OK && !hold->init_done) {
		int rc = vac_hold_wait_init(hold, err);

		if (rc < 0)
			return rc;
		if (vac_target_look(target, NULL) < 0)
			return 0;
		result = hold->cuda->process_state(target->pid, &state);
	}
	if (result == VAC_CU_OK && state >= 0 && (size_t)state < sizeof(states) / sizeof(states[0]))
		*out = states[state];
	return 0;
}

static int call(const struct vac_hold_run *run, const struct vac_target *target,
		enum vac_hold_step step, struct vac_cu_restore *restore)
{
	const struct vac_cuda *cuda = run->hold->cuda;
	struct vac_cu_lock lock = {.timeout_ms = run->options.lock_timeout_ms};

	switch (step) {
	case VAC_STEP_LOCK:
		return cuda->process_lock(target->pid, &lock);
	case VAC_STEP_CHECKPOINT:
		return cuda->process_checkpoint(target->pid, NULL);
	case VAC_STEP_RESTORE:
		return cuda->process_restore(target->pid, restore);
	case VAC_STEP_UNLOCK:
		return cuda->process_unlock(target->pid, NULL);
	default:
		return VAC_CU_INVALID_VALUE;
	}
}

static int fail_dead(struct vac_hold_member *member)
{
	int pid = (int)member->target->pid;

	member->state = VAC_HOLD_UNKNOWN;
	if (member->touched)
		return vac_fail(&member->receipt->error, VAC_E_GONE,
				"process %d ended while vacate was at it", pid);
	return vac_fail(&member->receipt->error, VAC_E_NOT_FOUND, "process %d has ended", pid);
}

/* Its number means it, and it can answer. */
static int look(struct vac_hold_member *member)
{
	if (!vac_target_alive(member->target))
		return fail_dead(member);
	return vac_target_look(member->target, &member->receipt->error);
}

/* A refusal that came before anything was done: the process is as parked as it was. */
static bool is_harmless(int result, const struct vac_cu_restore *restore)
{
	return result == VAC_CU_NOT_INITIALIZED || result == VAC_CU_ILLEGAL_STATE ||
	       (restore && (result == VAC_CU_INVALID_VALUE || result == VAC_CU_NOT_SUPPORTED));
}

/* The driver refused. What state is it in now? A restore that fails half way leaves a
 * process that is lost, and that the driver goes on calling checkpointed. */
static int judge(struct vac_hold_run *run, struct vac_hold_member *member, enum vac_hold_step step,
		 int result, const struct vac_cu_restore *restore)
{
	struct vac_error *err = &member->receipt->error;
	int rc = vac_hold_refused(err, run->hold, member->target, step, result,
				  run->options.lock_timeout_ms);

	if (!vac_target_alive(member->target)) {
		char detail[sizeof(err->detail)];

		memcpy(detail, err->detail, sizeof(detail));
		rc = fail_dead(member);
		memcpy(err->detail, detail, sizeof(detail));
		return rc;
	}
	(void)!vac_driver_state(run->hold, member->target, &member->state, NULL);
	if (member->state == VAC_HOLD_FAILED ||
	    (step == VAC_STEP_RESTORE && !is_harmless(result, restore) &&
	     (member->state == VAC_HOLD_PARKED || member->state == VAC_HOLD_UNKNOWN))) {
		member->state = VAC_HOLD_FAILED;
		err->code = VAC_E_GONE;
		rc = vac_error_errno(VAC_E_GONE);
		vac_error_prefix(err, "process %d is lost and cannot use the GPU again (end it)",
				 (int)member->target->pid);
	}
	return rc;
}

/* Into a record: one line of plain text. */
static void note_error(struct vac_record *record, const struct vac_error *err)
{
	size_t n = 0;

	for (const char *c = err->message; *c && n < sizeof(record->error) - 1; c++)
		record->error[n++] = (char)(*c >= ' ' && *c <= '~' ? *c : '?');
	record->error[n] = '\0';
}

/* There is nothing to remember of one that runs; but what another user has on record of
 * it is not ours to remove, and must not count any more. */
static void forget(const struct vac_hold_run *run, struct vac_hold_member *member)
{
	struct vac_record other;

	vac_record_remove(run->hold->directory, member->target);
	if (!vac_record_find(run->hold, member->target, &other) || other.state == VAC_HOLD_RUNNING)
		return;
	member->record.state = VAC_HOLD_RUNNING;
	member->record.intent = VAC_INTENT_NONE;
	member->record.error[0] = '\0';
	(void)!vac_record_save(run->hold->directory, &member->record, NULL);
}

static void note_result(struct vac_hold_run *run, struct vac_hold_member *member)
{
	struct vac_record *record = &member->record;

	record->intent = VAC_INTENT_NONE;
	record->state = member->state;
	if (member->state == VAC_HOLD_FAILED)
		note_error(record, &member->receipt->error);
	/* What was written before the call stays if this does not get through: it has all
	 * that is needed. */
	if (member->state == VAC_HOLD_RUNNING)
		forget(run, member);
	else if (vac_target_alive(member->target))
		(void)!vac_record_save(run->hold->directory, record, NULL);
}

void vac_member_note_running(struct vac_hold_run *run, struct vac_hold_member *member)
{
	forget(run, member);
}

void vac_member_note_failure(struct vac_hold_run *run, struct vac_hold_member *member)
{
	note_result(run, member);
}

/* Keeps the time, too; *result: the driver's, where it was called. It takes a bare number:
 * between the look and the moment when it finds the process by that lie some microseconds,
 * in which the process would have to end, be reaped, and its number come round again; and
 * then the driver would find a process that uses CUDA, is ours, and is in the right state
 * for the call. */
static int look_and_call(struct vac_hold_run *run, struct vac_hold_member *member,
			 enum vac_hold_step step, struct vac_cu_restore *restore, int *result)
{
	int64_t *took_ns = (int64_t *)(void *)((char *)member->receipt + steps[step].time_offset);
	int64_t since;
	int rc = look(member);

	if (rc < 0)
		return rc;
	member->touched = true;
	since = vac_now_ns();
	*result = call(run, member->target, step, restore);
	since = vac_stage("call", since) - since;
	*took_ns += since;
	member->receipt->driver_ns += since;
	return 0;
}

int vac_member_step(struct vac_hold_run *run, struct vac_hold_member *member,
		    enum vac_hold_step step, struct vac_cu_restore *restore)
{
	struct vac_error *err = &member->receipt->error;
	bool is_long = step == VAC_STEP_CHECKPOINT || step == VAC_STEP_RESTORE;
	int rc, result;

	member->record.state = member->state;
	member->record.intent = steps[step].intent;
	rc = vac_record_save(run->hold->directory, &member->record, err);
	/* Nothing is taken from a process without a note of what to give back. To give it
	 * back, none is needed. */
	if (rc < 0 && (step == VAC_STEP_LOCK || step == VAC_STEP_CHECKPOINT))
		return rc;
	vac_run_progress(run, member, steps[step].phase);
	if (is_long && run->hold->init == VAC_HOLD_INIT_LATE)
		vac_hold_begin_init(run->hold);
	rc = look_and_call(run, member, step, restore, &result);
	/* This driver does nothing before it is started. */
	if (rc == 0 && result == VAC_CU_NOT_INITIALIZED && !run->hold->init_done) {
		rc = vac_hold_wait_init(run->hold, err);
		if (rc == 0)
			rc = look_and_call(run, member, step, restore, &result);
	}
	if (rc < 0) {
		note_result(run, member);
		return rc;
	}
	if (result == VAC_CU_OK) {
		member->state = steps[step].to;
		memset(err, 0, sizeof(*err));
	} else {
		rc = judge(run, member, step, result, restore);
	}
	note_result(run, member);
	return rc;
}
