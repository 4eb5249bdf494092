/*
 * start.c - the driver and NVML, started when they are first needed, and what state a
 * process is in. See hold.h.
 */
#include "hold/hold.h"

#include "base/clock.h"
#include "hold/internal.h"

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
	rc = vac_target_look(target, err);
	if (rc < 0)
		return rc;
	*out = vac_driver_state(hold, target);
	/* The driver goes on calling checkpointed what it could not restore. */
	if (*out == VAC_HOLD_PARKED && vac_record_find(hold, target, &record) &&
	    record.state == VAC_HOLD_FAILED)
		*out = VAC_HOLD_FAILED;
	return 0;
}
