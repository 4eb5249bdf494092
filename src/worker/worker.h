/*
 * worker.h - the loop of a worker process: frames in, loads and batches in
 * turns, frames out.
 *
 * One thread does everything (the backend's team aside): between two layers
 * of a batch and between two steps of a load it looks at its socket, so that
 * heartbeats and cancels are answered while it computes.
 */
#ifndef VAC_WORKER_WORKER_H
#define VAC_WORKER_WORKER_H

#include "engine/engine.h"
#include "wire/spawn.h"

struct vac_worker_options {
	int fd;                    /* stream socket to the server; owned by the caller */
	const char *device;        /* "cpu" or "cuda:0" */
	uint32_t device_number;    /* 0 */
	const char *backend;       /* "cpu", "cuda" or "reference" */
	const char *dtype;         /* "float16", ...; NULL: the backend's choice */
	uint32_t threads;          /* 0: as many as CPUs are allowed */
	uint32_t max_batch_tokens; /* 0: the backend's default */
	enum vac_sandbox_mode sandbox;
	bool plan_only; /* answer PLAN, MEASURE and PING; refuse the rest */
};

/* Serves until SHUTDOWN or until the server closes the socket. 0, or a
 * negative errno with err set when the device or the socket was lost. */
int vac_worker_run(const struct vac_worker_options *options, struct vac_error *err) VAC_MUST_CHECK;

#endif
