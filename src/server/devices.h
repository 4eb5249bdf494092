/*
 * devices.h - the devices of the machine: found when the server starts, measured
 * when somebody wants room. The loop's thread only.
 */
#ifndef VAC_SERVER_DEVICES_H
#define VAC_SERVER_DEVICES_H

#include "hold/lock.h"
#include "server/gpus.h"

struct vac_device;
struct vac_server;

/* What a GPU's budget is measured with. */
struct vac_gpu_meter {
	struct vac_server *server;
	const char *device; /* "cuda:0"; the gpus' */
	/* Of the device, among all of Vacate's processes: while loads count on room there
	 * nobody restores a process into it (hold/lock.h). */
	struct vac_lock lock;
	int64_t claimed_ns;
	struct vac_gpus_wait reading; /* that began after that */
	bool fresh;                   /* it is there */
	bool used;                    /* a load was admitted since */
	bool unlockable;              /* and that was said: it is done without */
};

/* Fills server->devices: the CPUs, and the GPUs where the settings want one. GPUs
 * that only "auto" would take may be missing or unusable; one that --device names
 * may not. Runs the loop while it waits. */
int vac_devices_find(struct vac_server *server, struct vac_error *err) VAC_MUST_CHECK;
/* The registry's operation claim; ctx is the server. */
bool vac_devices_claim(void *ctx, struct vac_device *device);
/* Gives back what no load is under way for any more. */
void vac_devices_unclaim(struct vac_server *server, bool all);

#endif
