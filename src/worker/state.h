/*
 * state.h - what the parts of the worker share: the models and tasks it has,
 * and its two buffers. Private to src/worker; the worker's one thread.
 */
#ifndef VAC_WORKER_STATE_H
#define VAC_WORKER_STATE_H

#include "base/handed.h"
#include "wire/files.h"
#include "wire/wire.h"
#include "worker/worker.h"

struct worker_model {
	struct worker_model *next;
	struct vac_model *model;
	struct vac_handed_dir *handed; /* owned while it loads: where its files come from */
	uint32_t id;                   /* as the server named it */
	uint64_t load_frame;           /* id of the LOAD frame: answered when resident or failed */
	bool loading;
	int64_t progress_ns; /* when progress was last told */
};

struct worker_task {
	struct worker_task *next;
	struct worker *worker;
	struct vac_job *job;
	uint64_t frame; /* id of the TASK frame */
	uint32_t model;
};

struct worker {
	const struct vac_worker_options *options;
	struct vac_engine *engine;
	char sandbox[160]; /* what confines it, in words */
	struct worker_model *models;
	struct worker_task *tasks;
	uint32_t task_count;
	bool crowded; /* there were many tasks since memory was trimmed */
	struct vac_buf in, out;
	struct vac_wire_inbox inbox; /* descriptors whose frames were not handled yet */
	bool in_engine;    /* a batch or a step of a load runs: only quick frames are handled */
	uint64_t batch_id; /* what the engine is at: a task of the batch, or a LOAD */
	uint32_t batch_model;
	uint32_t told_model; /* of the last WORKING */
	bool ended;          /* SHUTDOWN came or the server left */
	int failure;         /* negative errno: the connection broke; error says how */
	struct vac_error error;
};

/* frames.c: handles the frame whose payload lies at payload. */
void worker_handle(struct worker *w, const struct vac_wire_header *header, const void *payload);
/* Tells the server what it is at, before it may die of it; at most once for each
 * change of the model. id: of the question. */
void worker_tell(struct worker *w, uint64_t id, uint32_t model);
/* Any task of that model has been asked with this id, or else its LOAD; 0: none. */
uint64_t worker_task_of(const struct worker *w, uint32_t model);
/* Frames that must wait while a batch is computed. */
bool worker_must_wait(const struct worker *w, uint16_t type);
/* Closes one model and forgets it; returns what the ledger says went. */
uint64_t worker_close_model(struct worker *w, struct worker_model *m);
/* One step of the first load that is under way, if there is one. */
void worker_load_some(struct worker *w);
bool worker_is_loading(const struct worker *w);
void worker_free_all(struct worker *w);

#endif
