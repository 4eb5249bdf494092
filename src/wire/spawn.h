/*
 * spawn.h - starting a worker process and the socket to it.
 *
 * The worker is `vacate-worker` beside the running executable (or in
 * ../libexec/vacate/, or where $VACATE_WORKER points). It gets one end of a
 * socketpair as descriptor 3, standard error of the parent, /dev/null for the
 * rest, an own process group, and dies with its parent (PR_SET_PDEATHSIG).
 * vacate-gpud is started in the same way ($VACATE_GPUD). Any thread, but see the
 * note at vac_worker_spawn.
 */
#ifndef VAC_WIRE_SPAWN_H
#define VAC_WIRE_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

#define VAC_WORKER_FD 3
/* The "device" of vacate-gpud. */
#define VAC_SPAWN_GPUS "gpus"

struct vac_spawn_options {
	const char *device;        /* "cpu"; NULL: "cpu"; VAC_SPAWN_GPUS: vacate-gpud */
	const char *backend;       /* "cpu" or "reference"; NULL: what fits the device */
	uint32_t threads;          /* of the compute team; 0: as many as CPUs are allowed */
	uint32_t max_batch_tokens; /* 0: the backend's default */
	bool plan_only;            /* it answers PLAN only and never starts a thread team */
};

struct vac_worker_process {
	pid_t pid;
	int pidfd; /* becomes readable when it exits; -1 where the kernel has none */
	int fd;    /* blocking stream socket to it, close-on-exec */
};

#define VAC_WORKER_PATH_BYTES 4096
/* Where vacate-worker is. */
int vac_worker_find(char path[VAC_WORKER_PATH_BYTES], struct vac_error *err) VAC_MUST_CHECK;

/* Starts a worker. The calling thread must live as long as the worker should:
 * PR_SET_PDEATHSIG follows the thread that forked. On error nothing is left.
 * The caller closes fd and pidfd and reaps pid. */
int vac_worker_spawn(const struct vac_spawn_options *options, struct vac_worker_process *out,
		     struct vac_error *err) VAC_MUST_CHECK;

#endif
