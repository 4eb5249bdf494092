/*
 * result.c - what the driver's answers mean, in words, and the drivers that parking was
 * tried with.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hold/internal.h"

/* A line is added here when a run of tests/gpu/hold on that driver was without failure.
 * text: the beginning of NVML's version; version: cuDriverGetVersion. */
static const struct {
	const char *text;
	int version;
	const char *where;
} tried[] = {
	{"580.159", 13000,
	 "H100 80GB: the driver's calls alone; H200 (580.159.04): PyTorch processes parked and "
	 "resumed by this code, outputs equal"},
};

bool vac_hold_driver_tried(const struct vac_hold *hold)
{
	for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
		size_t length = strlen(tried[i].text);

		if (hold->driver_version == tried[i].version &&
		    strncmp(hold->driver_text, tried[i].text, length) == 0 &&
		    (hold->driver_text[length] == '\0' || hold->driver_text[length] == '.'))
			return true;
	}
	return false;
}

const char *vac_hold_size_text(uint64_t bytes, char out[VAC_HOLD_SIZE_TEXT_BYTES])
{
	if (bytes >= (uint64_t)1 << 30)
		snprintf(out, VAC_HOLD_SIZE_TEXT_BYTES, "%.1f GiB",
			 (double)bytes / (double)(1 << 30));
	else
		snprintf(out, VAC_HOLD_SIZE_TEXT_BYTES, "%llu MiB",
			 (unsigned long long)((bytes + (1 << 20) - 1) >> 20));
	return out;
}

static int fail_system(struct vac_error *err, const struct vac_target *target,
		       enum vac_hold_step step)
{
	int pid = (int)target->pid;

	/* To root that is no reason. */
	if (geteuid() != 0 && target->uid != geteuid())
		return vac_fail(err, VAC_E_IO,
				"process %d belongs to another user (uid %u): the driver lets only "
				"that user or root at it",
				pid, (unsigned)target->uid);
	/* What follows a restore that found no room (cuda-checkpoint issue 44). */
	if (step == VAC_STEP_RESTORE)
		return vac_fail(err, VAC_E_IO,
				"process %d: the system refused the driver's restore, as it does "
				"after one that found no room on the GPU",
				pid);
	return vac_fail(err, VAC_E_IO,
			"process %d: the system refused the driver's access to it (another pid "
			"namespace, or a security module)",
			pid);
}

int vac_hold_refused(struct vac_error *err, const struct vac_hold *hold,
		     const struct vac_target *target, enum vac_hold_step step, int result,
		     uint32_t lock_timeout_ms)
{
	static const char *const what[VAC_HOLD_STEPS] = {"asking its state", "locking",
							 "checkpointing", "restoring", "unlocking"};
	int pid = (int)target->pid, rc;
	char text[64];

	switch (result) {
	case VAC_CU_OPERATING_SYSTEM:
		rc = fail_system(err, target, step);
		break;
	case VAC_CU_INVALID_VALUE:
	case VAC_CU_INVALID_HANDLE:
	case VAC_CU_NOT_INITIALIZED:
		rc = vac_fail(
			err, VAC_E_UNSUPPORTED,
			"process %d: %s it was refused: it does not use CUDA (any more), or the "
			"driver cannot reach it",
			pid, what[step]);
		break;
	case VAC_CU_ILLEGAL_STATE:
		rc = vac_fail(err, VAC_E_BUSY,
			      "process %d: its state changed meanwhile: another program parks or "
			      "resumes it",
			      pid);
		break;
	case VAC_CU_NOT_READY:
		rc = vac_fail(
			err, VAC_E_TIMEOUT,
			"process %d: its CUDA calls did not end within %u ms; it runs on, try a "
			"longer --timeout",
			pid, lock_timeout_ms);
		break;
	case VAC_CU_NOT_SUPPORTED:
		rc = vac_fail(
			err, VAC_E_UNSUPPORTED,
			"process %d: the driver cannot do it (%s) with something that the "
			"process uses: managed memory, memory shared between processes, MIG or MPS",
			pid, what[step]);
		break;
	case VAC_CU_OUT_OF_MEMORY:
		rc = vac_fail(err, VAC_E_NO_ROOM,
			      step == VAC_STEP_RESTORE
				      ? "process %d: the GPU had no room for it"
				      : "process %d: the driver found no memory for what it has on "
					"the GPU",
			      pid);
		break;
	default:
		snprintf(text, sizeof(text), "process %d: %s it", pid, what[step]);
		return vac_cuda_fail(hold->cuda, err, result, text);
	}
	vac_error_detail(err, "CUDA error %d", result);
	return rc;
}
