/*
 * hold.c - the driver and NVML, started when they are first needed, and what state a
 * process is in. See hold.h.
 */
#include "hold/hold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "hold/internal.h"

const char *vac_hold_state_name(enum vac_hold_state state)
{
	static const char *const names[] = {
		[VAC_HOLD_UNKNOWN] = "unknown", [VAC_HOLD_RUNNING] = "running",
		[VAC_HOLD_LOCKED] = "locked",   [VAC_HOLD_PARKED] = "parked",
		[VAC_HOLD_FAILED] = "failed",
	};

	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

const char *vac_hold_phase_name(enum vac_hold_phase phase)
{
	static const char *const names[] = {
		[VAC_HOLD_CHECKING] = "checking",
		[VAC_HOLD_WAITING] = "waiting",
		[VAC_HOLD_LOCKING] = "locking",
		[VAC_HOLD_CHECKPOINTING] = "checkpointing",
		[VAC_HOLD_RESTORING] = "restoring",
		[VAC_HOLD_UNLOCKING] = "unlocking",
		[VAC_HOLD_ROLLING_BACK] = "rolling back",
		[VAC_HOLD_MEASURING] = "measuring",
	};

	return (size_t)phase < sizeof(names) / sizeof(names[0]) ? names[phase] : "unknown";
}

int vac_hold_open(struct vac_hold *hold, struct vac_error *err)
{
	const char *named = getenv("VACATE_HOLD_DIR"), *shared = vac_lock_directory();
	int n;

	memset(hold, 0, sizeof(*hold));
	hold->host_root = "";
	hold->device_lock_ms = VAC_HOLD_DEVICE_LOCK_MS;
	snprintf(hold->lock_directory, sizeof(hold->lock_directory), "%s", shared);
	if (named && *named)
		n = snprintf(hold->directory, sizeof(hold->directory), "%s", named);
	else
		n = snprintf(hold->directory, sizeof(hold->directory), "%s/vacate-hold-%u", shared,
			     (unsigned)geteuid());
	if (n < 0 || (size_t)n >= sizeof(hold->directory))
		return vac_fail(err, VAC_E_INVALID, "VACATE_HOLD_DIR is longer than %zu bytes",
				sizeof(hold->directory) - 1);
	return 0;
}

void vac_hold_close(struct vac_hold *hold)
{
	if (hold->nvml_started)
		hold->nvml->shutdown();
	hold->nvml_started = false;
}

int vac_hold_start(struct vac_hold *hold, struct vac_error *err)
{
	const struct vac_cuda *cuda;
	int64_t since;
	int rc;

	if (hold->cuda)
		return 0;
	rc = vac_cuda_load(&cuda, err);
	if (rc < 0)
		return rc;
	since = vac_now_ns();
	rc = cuda->init(0);
	hold->init_ns += vac_now_ns() - since;
	if (rc != VAC_CU_OK)
		return vac_cuda_fail(cuda, err, rc, "starting the NVIDIA driver");
	rc = cuda->driver_version(&hold->driver_version);
	if (rc != VAC_CU_OK)
		return vac_cuda_fail(cuda, err, rc, "asking the driver's version");
	/* Without NVML the state can be told, and nothing is parked. */
	if (vac_nvml_load(&hold->nvml, NULL) == 0 && hold->nvml->init() == VAC_NVML_OK) {
		hold->nvml_started = true;
		if (hold->nvml->driver_version(hold->driver_text, sizeof(hold->driver_text)) !=
		    VAC_NVML_OK)
			hold->driver_text[0] = '\0';
	}
	hold->cuda = cuda;
	return 0;
}

int vac_hold_state(struct vac_hold *hold, const struct vac_target *target, enum vac_hold_state *out,
		   struct vac_error *err)
{
	struct vac_record record;
	int rc = vac_hold_start(hold, err);

	if (rc < 0)
		return rc;
	*out = VAC_HOLD_UNKNOWN;
	if (!vac_target_alive(target))
		return vac_fail(err, VAC_E_NOT_FOUND, "process %d has ended", (int)target->pid);
	*out = vac_driver_state(hold, target);
	/* The driver goes on calling checkpointed what it could not restore. */
	if (*out == VAC_HOLD_PARKED && vac_record_find(hold, target, &record) &&
	    record.state == VAC_HOLD_FAILED)
		*out = VAC_HOLD_FAILED;
	return 0;
}
