/*
 * park.c - several processes off their GPUs, all or none: all are checked, all locked,
 * looked at again while none of them can change, and then checkpointed. When one is
 * refused the others go back the way they came.
 */
#include <stdio.h>
#include <string.h>

#include "hold/internal.h"

static bool has_step(const struct vac_hold_member *member, enum vac_hold_step step)
{
	return member->plan && (member->plan->steps[0] == step || member->plan->steps[1] == step);
}

/* What it will need and what it takes of host RAM, by a fresh reading. */
static int look(struct vac_hold_run *run, struct vac_hold_member **refused)
{
	int rc = 0;

	vac_run_read(run);
	for (size_t i = 0; rc == 0 && i < run->count; i++) {
		*refused = &run->members[i];
		if (has_step(*refused, VAC_STEP_CHECKPOINT))
			rc = vac_member_check_use(run, *refused);
	}
	return rc < 0 ? rc : vac_run_check_host(run, refused);
}

static int check(struct vac_hold_run *run, struct vac_hold_member **refused)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < run->count; i++) {
		*refused = &run->members[i];
		rc = vac_member_check(run, *refused);
		if (rc == 0 && run->options.pageout)
			rc = vac_pageout_check((*refused)->target, &(*refused)->receipt->error);
	}
	if (rc < 0)
		return rc;
	rc = look(run, refused);
	for (size_t i = 0; i < run->count; i++)
		vac_member_measure(run, &run->members[i], run->members[i].receipt->devices_before,
				   &run->members[i].receipt->device_count);
	return rc;
}

/* One step of all that need it. */
static int step_all(struct vac_hold_run *run, enum vac_hold_step step,
		    struct vac_hold_member **refused)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < run->count; i++) {
		struct vac_hold_member *member = &run->members[i];

		if (!has_step(member, step))
			continue;
		*refused = member;
		rc = vac_run_cancelled(run, &member->receipt->error);
		if (rc == 0)
			rc = vac_member_step(run, member, step, NULL);
	}
	return rc;
}

/* Back to the state that it was in before; its error stays that of the refusal. */
static void put_back(struct vac_hold_run *run, struct vac_hold_member *member,
		     const struct vac_hold_member *refused)
{
	struct vac_hold_receipt *receipt = member->receipt;
	struct vac_error why = receipt->error;
	int rc = 0;

	if (!member->touched && member != refused)
		return;
	if (member->touched && member->state != receipt->before) {
		vac_run_progress(run, member, VAC_HOLD_ROLLING_BACK);
		if (member->state == VAC_HOLD_PARKED)
			rc = vac_member_restore(run, member, run->hold->device_lock_ms, "");
		if (rc == 0 && member->state == VAC_HOLD_LOCKED &&
		    receipt->before == VAC_HOLD_RUNNING)
			rc = vac_member_step(run, member, VAC_STEP_UNLOCK, NULL);
	}
	if (member == refused) {
		char not_back[128] = "";

		if (rc < 0)
			snprintf(not_back, sizeof(not_back), "; it was left %s",
				 vac_hold_state_name(member->state));
		receipt->error = why;
		strncat(receipt->error.message, not_back,
			sizeof(receipt->error.message) - strlen(receipt->error.message) - 1);
	} else if (rc < 0) {
		vac_error_prefix(&receipt->error, "it was left %s",
				 vac_hold_state_name(member->state));
	} else {
		(void)!vac_fail(&receipt->error, VAC_E_CANCELLED,
				"put back, since process %d was refused",
				(int)refused->target->pid);
	}
}

static void roll_back(struct vac_hold_run *run, struct vac_hold_member *refused)
{
	run->refused = refused;
	/* who wanted to stop does not want to stop this, too */
	run->options.cancelled = NULL;
	for (size_t i = run->count; i > 0; i--)
		put_back(run, &run->members[i - 1], refused);
	for (size_t i = 0; i < run->count; i++)
		if (run->members[i].receipt->error.code == VAC_OK)
			(void)!vac_fail(&run->members[i].receipt->error, VAC_E_CANCELLED,
					"nothing was done, since process %d was refused",
					(int)refused->target->pid);
}

/* Their copies go to swap; what fails here is told, and they are parked all the same. */
static void page_out(struct vac_hold_run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		struct vac_hold_member *member = &run->members[i];
		struct vac_hold_receipt *receipt = member->receipt;

		receipt->pageout_valid = vac_pageout(member->target, &receipt->pageout_bytes,
						     &receipt->swapped_bytes, &receipt->error) == 0;
	}
}

int vac_hold_park(struct vac_hold *hold, const struct vac_target *targets, size_t count,
		  const struct vac_hold_options *options, struct vac_hold_receipt *receipts,
		  struct vac_error *err)
{
	struct vac_hold_member *refused = NULL;
	struct vac_hold_run *run;
	int rc = vac_run_begin(&run, VAC_HOLD_PARK, hold, targets, count, options, receipts, err);

	if (rc < 0)
		return rc;
	rc = check(run, &refused);
	if (rc == 0)
		rc = step_all(run, VAC_STEP_LOCK, &refused);
	if (rc == 0)
		rc = look(run, &refused);
	if (rc == 0)
		rc = step_all(run, VAC_STEP_CHECKPOINT, &refused);
	if (rc < 0)
		roll_back(run, refused);
	else if (run->options.pageout)
		page_out(run);
	return vac_run_end(run, err);
}
