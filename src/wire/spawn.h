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

/* How a worker confines itself; docs/security.md. */
enum vac_sandbox_mode {
	VAC_SANDBOX_AUTO,    /* as far as the kernel lets it */
	VAC_SANDBOX_REQUIRE, /* wholly, or it does not start */
	VAC_SANDBOX_OFF,     /* not at all, for debugging */
};
/* "auto", "require" or "off"; else -EINVAL. */
int vac_sandbox_parse(const char *text, enum vac_sandbox_mode *out);

struct vac_spawn_options {
	const char *device;        /* "cpu"; NULL: "cpu"; VAC_SPAWN_GPUS: vacate-gpud */
	const char *backend;       /* "cpu" or "reference"; NULL: what fits the device */
	uint32_t threads;          /* of the compute team; 0: as many as CPUs are allowed */
	uint32_t max_batch_tokens; /* 0: the backend's default */
	bool plan_only;            /* it answers PLAN only and never starts a thread team */
	enum vac_sandbox_mode sandbox;
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

/* A name for how a process of ours ended: "was killed by its sandbox: system call 41
 * (socket)", "was killed by signal 9 (Killed)", "exited with status 1". Of a process
 * that is not reaped yet: the name of what it was killed for is still with it. */
void vac_worker_describe_end(pid_t pid, bool exited, int status, char *text, size_t room);

#endif
