/*
 * devices.h - the devices of the machine: found when the server starts, measured
 * when somebody wants room. The loop's thread only.
 */
#ifndef VAC_SERVER_DEVICES_H
#define VAC_SERVER_DEVICES_H

#include "base/error.h"

struct vac_server;

/* What a GPU's budget is measured with. */
struct vac_gpu_meter {
	struct vac_server *server;
	const char *device; /* "cuda:0"; the gpus' */
};

/* Fills server->devices: the CPUs, and the GPUs where the settings want one. GPUs
 * that only "auto" would take may be missing or unusable; one that --device names
 * may not. Runs the loop while it waits. */
int vac_devices_find(struct vac_server *server, struct vac_error *err) VAC_MUST_CHECK;

#endif
