/*
 * devices.h - the devices of the machine: found when the server starts, measured
 * when somebody wants room. The loop's thread only.
 */
#ifndef VAC_SERVER_DEVICES_H
#define VAC_SERVER_DEVICES_H

#include "server/gpus.h"

struct vac_server;
struct vac_device;

/* What a GPU's budget is measured with. */
struct vac_gpu_meter {
	struct vac_server *server;
	char device[16];           /* "cuda:0" */
	struct vac_gpus_wait wait; /* for a reading that knows of the last load */
};

/* Fills server->devices: the CPUs, and the GPUs where the settings want one. GPUs
 * that only "auto" would take may be missing or unusable; one that --device names
 * may not. Runs the loop while it waits. */
int vac_devices_find(struct vac_server *server, struct vac_error *err) VAC_MUST_CHECK;
/* A load on that GPU has ended: until there is a reading that knows of it, none is admitted
 * there. */
void vac_devices_read_again(struct vac_server *server, struct vac_device *device);

#endif
