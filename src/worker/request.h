/*
 * request.h - what VACATE_GPU_SANDBOX asks for:
 *
 *   on, or nothing    the profile of a worker on a GPU is used
 *   on,ITEM[,ITEM...] with something let through, to find out what a driver lacks:
 *                     a system call by its name, a path for reading, "calls" or
 *                     "files" for one of the two walls. CALL=N: the call fails with
 *                     error N instead
 *   off               nothing is confined
 *   trial             nothing is confined, and what would be refused is told (trial.h)
 *
 * The worker's one thread.
 */
#ifndef VAC_WORKER_REQUEST_H
#define VAC_WORKER_REQUEST_H

#include "worker/filter.h"

#define VAC_REQUEST_ITEMS 12

struct vac_sandbox_request {
	enum { VAC_REQUEST_ON, VAC_REQUEST_OFF, VAC_REQUEST_TRIAL } kind;
	bool no_filter, no_landlock;
	struct vac_call_rule calls[VAC_REQUEST_ITEMS];
	size_t call_count;
	char *paths[VAC_REQUEST_ITEMS]; /* point into text */
	size_t path_count;
	char text[512];
};

/* 0, or -EINVAL with what is wrong in *why: out is then as for on. */
int vac_sandbox_request(const char *text, struct vac_sandbox_request *out, const char **why);

#endif
