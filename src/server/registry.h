/*
 * registry.h - models by name, what state each is in, and who waits for it.
 *
 * Pure logic: no descriptor, no process, no clock of its own. What has to be
 * done is asked of a table of operations, what happened is told by calls; a
 * test drives it with a fake table and a fake clock. One thread.
 *
 * absent -> loading -> resident -> draining -> absent, or failed (with the
 * reason) until the next request tries again.
 *
 * waiter: a call that wants a model resident (a load) or wants to run on it (a
 * task). watch: a call that wants to hear of an unload.
 */
#ifndef VAC_SERVER_REGISTRY_H
#define VAC_SERVER_REGISTRY_H

#include "memory/receipt.h"
#include "server/modelinfo.h"

struct vac_worker;
struct vac_model;

enum vac_waiter_state { VAC_WAITER_IDLE, VAC_WAITER_QUEUED, VAC_WAITER_RUNNING };

/* Embedded in a call. */
struct vac_waiter {
	struct vac_waiter *prev, *next;
	struct vac_model *model; /* while queued or running */
	enum vac_waiter_state state;
	bool load_only;      /* is answered when the model is resident */
	bool keep_alive_set; /* its own keep_alive holds from when it runs */
	int64_t keep_alive_ms;
	uint32_t losses; /* workers that died under it */
};

struct vac_waiter_list {
	struct vac_waiter *first, *last;
	uint32_t count;
};

/* Embedded in a call; one for each model that it unloads. */
struct vac_watch {
	struct vac_watch *next;
	void (*done)(struct vac_watch *watch, const struct vac_receipt *receipt);
};

enum vac_registry_state {
	VAC_REGISTRY_ABSENT,
	VAC_REGISTRY_LOADING,
	VAC_REGISTRY_RESIDENT,
	VAC_REGISTRY_DRAINING,
	VAC_REGISTRY_FAILED,
};

struct vac_model {
	struct vac_model *next;
	char *name, *dir; /* owned */
	enum vac_registry_state state;
	struct vac_error failure; /* FAILED: why */
	struct vac_waiter_list waiting, running;

	/* LOADING and later */
	uint32_t wire_id; /* a new one for each load */
	struct vac_worker *worker;
	bool load_held; /* LOADING, but not asked yet: an unload is being measured */
	uint32_t load_losses;
	int64_t load_asked_ns, resident_ns;
	int64_t load_ns, worker_start_ns; /* of the last load; the second is part of the first */
	uint64_t done_bytes, total_bytes;
	struct vac_model_info info; /* since it was resident */

	/* RESIDENT and later */
	int64_t idle_since_ns; /* running.count == 0: since when */
	int64_t keep_alive_ms; /* negative: for ever */
	uint64_t requests;     /* answered since the load */

	/* An unload was decided. */
	bool unload_wanted;
	bool unloading; /* the operation was asked */
	bool drop_cache;
	enum vac_unload_reason reason;
	int64_t decided_ns;
	struct vac_watch *watches;

	/* over the server's life, for the metrics */
	uint64_t loads, load_failures, tasks, task_errors;
	void *user; /* whoever carries the operations out keeps its own here */
};

struct vac_registry_ops {
	int64_t (*now_ns)(void *ctx);
	/* Load it; vac_registry_loaded() or _load_failed() follows, even at once. */
	void (*load)(void *ctx, struct vac_model *model);
	/* Ask the worker; vac_registry_done() or _lost() follows, even at once. */
	void (*run)(void *ctx, struct vac_model *model, struct vac_waiter *waiter);
	/* Nothing runs any more: unload it; vac_registry_unloaded() follows. */
	void (*unload)(void *ctx, struct vac_model *model);
	/* The waiter is out of the registry: a load is done (why NULL), or it failed. */
	void (*finish)(void *ctx, struct vac_waiter *waiter, const struct vac_error *why);
	/* The worker under a model died: write the receipt; then the model is absent. */
	void (*died)(void *ctx, struct vac_model *model, struct vac_receipt *receipt);
	/* vac_registry_tick() is wanted at that time (or earlier). */
	void (*wake_at)(void *ctx, int64_t at_ns);
	/* A model leaves the table: free model->user. */
	void (*forget)(void *ctx, struct vac_model *model);
};

struct vac_registry {
	const struct vac_registry_ops *ops;
	void *ctx;
	int64_t keep_alive_ms; /* default of a fresh load */
	uint32_t max_queue;    /* waiting and running calls of one model */
	struct vac_model *models;
	uint32_t model_count, next_wire_id;
	bool closed; /* shutting down: nothing new is taken or loaded */
};

void vac_registry_init(struct vac_registry *registry, const struct vac_registry_ops *ops, void *ctx,
		       int64_t keep_alive_ms, uint32_t max_queue);
void vac_registry_free(struct vac_registry *registry);

/* NULL when the name is not in the table. */
struct vac_model *vac_registry_find(struct vac_registry *registry, const char *name);
/* The entry of a name; dir becomes its directory unless the model is loading,
 * resident or draining. NULL when out of memory. */
struct vac_model *vac_registry_enter(struct vac_registry *registry, const char *name,
				     const char *dir);
/* The only model that is loading, resident or draining; NULL when there is none
 * or more than one (*several says which). */
struct vac_model *vac_registry_only(struct vac_registry *registry, bool *several);
/* Drops entries that are absent or failed and whose name is not wanted any more. */
void vac_registry_sweep(struct vac_registry *registry,
			bool (*keep)(void *ctx, const struct vac_model *model), void *ctx);

/* Takes a waiter in. VAC_E_BUSY when the model's queue is full: it was not taken. */
int vac_registry_submit(struct vac_registry *registry, struct vac_model *model,
			struct vac_waiter *waiter, struct vac_error *err) VAC_MUST_CHECK;
/* Its caller left. The waiter is out; the load goes on. */
void vac_registry_cancel(struct vac_registry *registry, struct vac_waiter *waiter);
/* A running waiter's answer came (or its error: answered = false). */
void vac_registry_done(struct vac_registry *registry, struct vac_waiter *waiter, bool answered);
/* A running waiter's worker died. true: it waits again and will be asked once
 * more; false: that was the second time, it is out and the caller answers. */
bool vac_registry_lost(struct vac_registry *registry, struct vac_waiter *waiter);

/* info: of the LOADED answer. */
void vac_registry_loaded(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_model_info *info);
void vac_registry_load_failed(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why);

/* Decides an unload. false: there is nothing to unload, and watch (which may
 * be NULL) was not taken. */
bool vac_registry_unload(struct vac_registry *registry, struct vac_model *model,
			 enum vac_unload_reason reason, bool drop_cache, struct vac_watch *watch);
/* The unload that was asked for is over. */
void vac_registry_unloaded(struct vac_registry *registry, struct vac_model *model,
			   const struct vac_receipt *receipt);
/* A worker was reaped: its models that were not being loaded or unloaded are
 * absent now. Those that are hear of it through their own exchanges. */
void vac_registry_worker_gone(struct vac_registry *registry, const struct vac_worker *worker);
/* Takes a watch out whose call has left. */
void vac_registry_unwatch(struct vac_registry *registry, struct vac_watch *watch);

/* Idle models whose time has come, unloads that may start, loads that were held. */
void vac_registry_tick(struct vac_registry *registry);
/* A load waits for (or is under way on) that worker, or waits for any. */
bool vac_registry_load_waits(const struct vac_registry *registry, const struct vac_worker *worker);
/* Models that live on that worker. */
uint32_t vac_registry_models_on(const struct vac_registry *registry,
				const struct vac_worker *worker);
/* When an idle resident model will be unloaded; negative: never, or it is busy. */
int64_t vac_registry_expires_at_ns(const struct vac_model *model);
/* No more loads and waiters; what runs ends. */
void vac_registry_close(struct vac_registry *registry);

#endif
