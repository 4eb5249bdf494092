/*
 * resume.c - processes back onto their GPUs, one after the other. A cancel stops before
 * a restore; what was restored is unlocked in any case.
 */
#include "base/clock.h"
#include "hold/internal.h"

static int resume(struct vac_hold_run *run, struct vac_hold_member *member)
{
	int rc = vac_run_cancelled(run, &member->receipt->error);

	if (rc == 0)
		rc = vac_member_check(run, member);
	if (rc < 0)
		return rc;
	if (member->plan->steps[0] != VAC_STEP_RESTORE) { /* which reads for itself */
		vac_run_read(run);
		vac_member_measure(run, member, member->receipt->devices_before,
				   &member->receipt->device_count);
	}
	if (member->state == VAC_HOLD_RUNNING)
		vac_member_note_running(run, member);
	for (size_t i = 0; rc == 0 && i < 2; i++) {
		if (member->plan->steps[i] == VAC_STEP_RESTORE)
			rc = vac_member_restore(run, member, run->options.wait_ms,
						run->options.device_uuid);
		else if (member->plan->steps[i] != VAC_STEP_NONE)
			rc = vac_member_step(run, member, member->plan->steps[i], NULL);
	}
	return rc;
}

int vac_hold_resume(struct vac_hold *hold, const struct vac_target *targets, size_t count,
		    const struct vac_hold_options *options, struct vac_hold_receipt *receipts,
		    struct vac_error *err)
{
	struct vac_hold_run *run;
	int rc = vac_run_begin(&run, VAC_HOLD_RESUME, hold, targets, count, options, receipts, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < run->count; i++) {
		struct vac_hold_member *member = &run->members[i];

		(void)!resume(run, member);
		member->receipt->total_ns = vac_now_ns() - run->begun_ns;
	}
	return vac_run_end(run, err);
}
