/*
 * start.c - the driver and NVML, started when they are first needed, and what state a
 * process is in. See hold.h.
 *
 * NVML starts on a thread of its own while its caller goes on to the first question that
 * needs it. The driver's calls to other processes do not need cuInit (as seen with 580);
 * but whoever has called it keeps the GPU up for all, so that a checkpoint need not put it
 * down, nor a restore bring it up (90 and 130 ms). So cuInit runs beside NVML's start and
 * whatever comes after, and is waited for before the hold's owner is answered, if it may not
 * stay, or where a call is refused.
 */
#include "hold/hold.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/stage.h"
#include "hold/internal.h"

/* Attaches the devices, which the first question would have to wait for. */
static void touch_devices(const struct vac_nvml *nvml)
{
	struct nvmlDevice_st *device;
	unsigned count = 0;

	if (nvml->count(&count) != VAC_NVML_OK)
		return;
	for (unsigned i = 0; i < count && i < VAC_HOLD_MOST_READ; i++)
		(void)nvml->by_index(i, &device); /* who reads it is told why not */
}

static void *start_nvml(void *ctx)
{
	struct vac_hold *hold = ctx;
	int64_t since = vac_now_ns();

	hold->nvml_started = hold->nvml->init() == VAC_NVML_OK;
	since = vac_stage("nvml-init", since);
	if (!hold->nvml_started)
		return NULL;
	if (hold->nvml->driver_version(hold->driver_text, sizeof(hold->driver_text)) != VAC_NVML_OK)
		hold->driver_text[0] = '\0';
	touch_devices(hold->nvml);
	vac_stage("nvml-devices", since);
	return NULL;
}

static void *start_driver(void *ctx)
{
	struct vac_hold *hold = ctx;
	int64_t since = vac_now_ns();

	hold->init_result = hold->cuda->init(0);
	vac_stage("cuda-init", since);
	return NULL;
}

/* false: no thread could be had. Signals are for the threads of whoever called. */
static bool begin(pthread_t *thread, void *(*fn)(void *ctx), struct vac_hold *hold)
{
	sigset_t all, ours;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &ours);
	rc = pthread_create(thread, NULL, fn, hold);
	pthread_sigmask(SIG_SETMASK, &ours, NULL);
	return rc == 0;
}

void vac_hold_wait_nvml(struct vac_hold *hold)
{
	int64_t since = vac_now_ns();

	if (!hold->nvml_starting)
		return;
	pthread_join(hold->nvml_thread, NULL);
	hold->nvml_starting = false;
	vac_stage("nvml-wait", since);
}

void vac_hold_begin_init(struct vac_hold *hold)
{
	if (!hold->init_running && !hold->init_done)
		hold->init_running = begin(&hold->init_thread, start_driver, hold);
}

/* Where it failed the next who needs it tries again. */
static void end_init(struct vac_hold *hold)
{
	int64_t since = vac_now_ns();

	pthread_join(hold->init_thread, NULL);
	hold->init_running = false;
	hold->init_done = hold->init_result == VAC_CU_OK;
	hold->init_ns += vac_stage("cuda-wait", since) - since;
}

int vac_hold_wait_init(struct vac_hold *hold, struct vac_error *err)
{
	int64_t since = vac_now_ns();

	if (hold->init_done)
		return 0;
	if (hold->init_running) {
		end_init(hold);
	} else {
		(void)start_driver(hold);
		hold->init_done = hold->init_result == VAC_CU_OK;
		hold->init_ns += vac_stage("cuda-wait", since) - since;
	}
	return hold->init_done ? 0
			       : vac_cuda_fail(hold->cuda, err, hold->init_result,
					       "starting the NVIDIA driver");
}

void vac_hold_join(struct vac_hold *hold)
{
	vac_hold_wait_nvml(hold);
	if (hold->init_running && !hold->init_may_stay)
		end_init(hold);
}

void vac_hold_finish(struct vac_hold *hold)
{
	if (hold->init_running)
		end_init(hold);
}

int vac_hold_load(struct vac_hold *hold, struct vac_error *err)
{
	const struct vac_cuda *cuda;
	int64_t since = vac_now_ns();
	int rc;

	if (hold->cuda)
		return 0;
	rc = vac_cuda_load(&cuda, err);
	if (rc < 0)
		return rc;
	vac_stage("cuda-load", since);
	rc = cuda->driver_version(&hold->driver_version);
	if (rc != VAC_CU_OK)
		return vac_cuda_fail(cuda, err, rc, "asking the driver's version");
	hold->cuda = cuda;
	return 0;
}

/* Without NVML the state can be told, and nothing is parked. Its library comes first, since
 * two threads cannot load at once and this one has the longer way to go. */
static void begin_nvml(struct vac_hold *hold)
{
	const struct vac_nvml *nvml;
	int64_t since = vac_now_ns();

	if (hold->nvml || vac_nvml_load(&nvml, NULL) < 0)
		return;
	vac_stage("nvml-load", since);
	hold->nvml = nvml;
	hold->nvml_starting = begin(&hold->nvml_thread, start_nvml, hold);
	if (!hold->nvml_starting)
		(void)start_nvml(hold);
}

int vac_hold_start(struct vac_hold *hold, struct vac_error *err)
{
	int64_t since = vac_now_ns();
	int rc;

	begin_nvml(hold);
	rc = vac_hold_load(hold, err);
	if (rc == 0 && hold->init == VAC_HOLD_INIT_EARLY)
		vac_hold_begin_init(hold);
	if (rc == 0 && hold->init == VAC_HOLD_INIT_BEFORE)
		rc = vac_hold_wait_init(hold, err);
	vac_stage("hold-start", since);
	return rc;
}

int vac_hold_state(struct vac_hold *hold, const struct vac_target *target, enum vac_hold_state *out,
		   struct vac_error *err)
{
	struct vac_record record;
	int rc = vac_hold_load(hold, err);

	if (rc < 0)
		return rc;
	*out = VAC_HOLD_UNKNOWN;
	rc = vac_target_look(target, err);
	if (rc == 0)
		rc = vac_driver_state(hold, target, out, err);
	if (rc < 0)
		return rc;
	/* The driver goes on calling checkpointed what it could not restore. */
	if (*out == VAC_HOLD_PARKED && vac_record_find(hold, target, &record) &&
	    record.state == VAC_HOLD_FAILED)
		*out = VAC_HOLD_FAILED;
	return 0;
}
