/*
 * unload.h - the way of an unload: measure, UNLOAD, the end of the last
 * worker, measure again, receipt. The loop's thread only.
 */
#ifndef VAC_SERVER_UNLOAD_H
#define VAC_SERVER_UNLOAD_H

#include "memory/meter.h"
#include "memory/receipt.h"
#include "server/gpus.h"
#include "server/supervisor.h"

struct vac_server;
struct vac_model;

enum vac_job_step {
	VAC_JOB_IDLE,        /* or its exchange or gpus_wait says what it waits for */
	VAC_JOB_MEASURES,    /* an unload waits for a reading before it is asked of the worker */
	VAC_JOB_AWAITS_EXIT, /* SHUTDOWN was sent: the worker's end ends the unload */
};

/* What is asked of a worker for one model: a load or an unload, one at a time.
 * model->user, made with the first load. */
struct vac_job {
	struct vac_server *server;
	struct vac_model *model;
	struct vac_exchange exchange;
	int64_t told_ns; /* tell.c's: when progress was told last, and what */
	uint64_t told_bytes;
	int64_t explained_ns; /* parking_why.c's: when the load was asked of which it told */
	/* A reading of its device: before a plan, a parking or an unload, or after one. */
	struct vac_gpus_wait gpus_wait;
	enum vac_job_step step;
	/* Its worker's of an unload, if others stay there; else not valid. */
	struct vac_usage walked;
	struct vac_resident counted;
	/* Of an unload, 0: not come to: asked of the worker, answered, hosts measured. */
	int64_t asked_ns, answered_ns, hosts_ns;
	struct vac_receipt receipt;
	bool risk;                 /* of its next parking */
	struct vac_parked *parked; /* its worker is being parked or restored; parking_model.c's */
};

#define VAC_RECEIPTS_KEPT 1000

/* The newest receipts, for GET /receipts. Mapped and touched at start, so that
 * the server's memory does not grow with the number of unloads. */
struct vac_receipts {
	struct vac_receipt *ring;
	size_t count, next; /* next: slot of the next one */
	uint64_t next_id;
};

int vac_receipts_init(struct vac_receipts *receipts, struct vac_error *err) VAC_MUST_CHECK;
void vac_receipts_free(struct vac_receipts *receipts);
/* The at-th newest, from 0; NULL when there are fewer. */
const struct vac_receipt *vac_receipts_get(const struct vac_receipts *receipts, size_t at);

/* A model has come to a worker on a GPU: soon, but not before it may have answered, readings
 * of unloads are prepared. */
void vac_unload_prepare(struct vac_server *server, struct vac_worker *worker);
/* What the server's walk_timer does. */
void vac_unload_walk(struct vac_timer *timer);
/* The registry's operations of the same names. */
void vac_unload_begin(void *ctx, struct vac_model *model);
void vac_unload_died(void *ctx, struct vac_model *model, struct vac_receipt *receipt);
/* A worker was reaped: ends the unload that waited for it. */
void vac_unload_worker_gone(struct vac_server *server, const struct vac_worker *worker);
/* Publishes what still waits for a reading, which must not come any more. */
void vac_unload_free(struct vac_server *server);

#endif
