/*
 * start.c - the driver and NVML, started when they are first needed, and what state a
 * process is in. See hold.h.
 */
#include "hold/hold.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/stage.h"
#include "hold/internal.h"

/* NVML, started on a thread of its own while the driver is: each waits for the kernel. */
struct nvml_start {
	pthread_t thread;
	const struct vac_nvml *nvml; /* NULL: there is none */
	bool started;
	char driver_text[80];
};

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
	struct nvml_start *start = ctx;
	const struct vac_nvml *nvml;
	int64_t since = vac_now_ns();

	if (vac_nvml_load(&nvml, NULL) < 0)
		return NULL;
	since = vac_stage("nvml-load", since);
	start->nvml = nvml;
	start->started = nvml->init() == VAC_NVML_OK;
	since = vac_stage("nvml-init", since);
	if (!start->started)
		return NULL;
	if (nvml->driver_version(start->driver_text, sizeof(start->driver_text)) != VAC_NVML_OK)
		start->driver_text[0] = '\0';
	touch_devices(nvml);
	vac_stage("nvml-devices", since);
	return NULL;
}

/* false: no thread could be had. Signals are for the threads of whoever called. */
static bool begin_nvml(struct nvml_start *start)
{
	sigset_t all, ours;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &ours);
	rc = pthread_create(&start->thread, NULL, start_nvml, start);
	pthread_sigmask(SIG_SETMASK, &ours, NULL);
	return rc == 0;
}

static int start_driver(struct vac_hold *hold, const struct vac_cuda **cuda, struct vac_error *err)
{
	int64_t since = vac_now_ns();
	int rc = vac_cuda_load(cuda, err);

	if (rc < 0)
		return rc;
	since = vac_stage("cuda-load", since);
	rc = (*cuda)->init(0);
	hold->init_ns += vac_stage("cuda-init", since) - since;
	if (rc != VAC_CU_OK)
		return vac_cuda_fail(*cuda, err, rc, "starting the NVIDIA driver");
	rc = (*cuda)->driver_version(&hold->driver_version);
	if (rc != VAC_CU_OK)
		return vac_cuda_fail(*cuda, err, rc, "asking the driver's version");
	return 0;
}

int vac_hold_start(struct vac_hold *hold, struct vac_error *err)
{
	struct nvml_start nvml = {0};
	const struct vac_cuda *cuda = NULL;
	int64_t since = vac_now_ns();
	bool beside;
	int rc;

	if (hold->cuda)
		return 0;
	beside = begin_nvml(&nvml);
	rc = start_driver(hold, &cuda, err);
	if (beside)
		pthread_join(nvml.thread, NULL);
	else if (rc == 0)
		(void)start_nvml(&nvml);
	vac_stage("hold-start", since);
	if (rc < 0) {
		if (nvml.started)
			nvml.nvml->shutdown();
		return rc;
	}
	/* Without NVML the state can be told, and nothing is parked. */
	hold->nvml = nvml.nvml;
	hold->nvml_started = nvml.started;
	memcpy(hold->driver_text, nvml.driver_text, sizeof(hold->driver_text));
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
