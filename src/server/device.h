/*
 * device.h - one device as admission sees it: its budget, the loads that wait
 * for room on it, and who on it may be made to leave. A load in line on one
 * device never blocks another.
 *
 * The registry works on the lists; whoever sets it up owns the array of devices
 * and it outlives the registry. The loop's thread only.
 */
#ifndef VAC_SERVER_DEVICE_H
#define VAC_SERVER_DEVICE_H

#include "server/budget.h"
#include "server/list.h"

struct vac_model;

struct vac_device {
	const char *name;   /* "cpu", "cuda:0"; not owned */
	const char *option; /* that sets its budget, for messages: "--ram"; not owned */
	bool limited;       /* it has a budget; else every load is admitted */
	struct vac_budget budget;

	struct vac_list line;       /* held loads: higher priority first, then first come */
	struct vac_list idle, busy; /* that may be evicted: lower priority first, then the
				     * least recently used */
	uint32_t planning, loading; /* operations under way */
	struct vac_model *unloading;
	uint32_t parking;         /* models whose worker is to be parked: no load is admitted */
	struct vac_model *moving; /* its worker is being parked or restored: nothing else is done */
	bool stale; /* no reading knows of the last load yet: nobody is admitted by an older one */
	bool advancing; /* the line is being looked at */
	bool held; /* somebody counts on room here: no load is admitted; who lets go wakes the registry */
	/* over the server's life, for the metrics */
	uint64_t evictions, quick_reloads, refusals;
};

/* A device without a budget. Both strings are kept, not copied. */
void vac_device_init(struct vac_device *device, const char *name, const char *option);
/* Gives it one. on_device: it counts the device's bytes of a plan, not the host's. */
void vac_device_limit(struct vac_device *device, bool on_device, const struct vac_size *limit,
		      const struct vac_size *headroom,
		      void (*measure)(void *ctx, struct vac_budget_room *out), void *ctx);

#endif
