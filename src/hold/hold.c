/*
 * hold.c - names of states, and where records and locks are. No driver is called here:
 * this is a part of what `vacate` itself links. See hold.h.
 */
#include "hold/hold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
	static const char *const inits[] = {
		[VAC_HOLD_INIT_LATE] = "late",
		[VAC_HOLD_INIT_EARLY] = "early",
		[VAC_HOLD_INIT_BEFORE] = "before",
		[VAC_HOLD_INIT_NEVER] = "never",
	};
	const char *named = getenv("VACATE_HOLD_DIR"), *shared = vac_lock_directory();
	const char *init = getenv("VACATE_CUDA_INIT");
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
	if (init && *init)
		for (size_t i = 0; i < sizeof(inits) / sizeof(inits[0]); i++)
			if (strcmp(init, inits[i]) == 0)
				hold->init = (enum vac_hold_init)i;
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
