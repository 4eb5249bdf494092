/*
 * registry.h - models by name, what state each is in, and who waits for it.
 *
 * Pure logic: no descriptor, no process, no clock of its own. What has to be
 * done is asked of a table of operations, what happened is told by calls; a
 * test drives it with a fake table and a fake clock. One thread.
 *
 * absent -> loading -> resident -> draining -> absent, or failed (with the
 * reason) until the next request tries again. A load waits in line first
 * (load_held), until its plan is known and there is room (admission.h). A model
 * that brought its worker down several times in a row is set aside: it stays
 * failed until somebody asks to load it. What the operator says of a model
 * (settings.h) is looked up when its name is first heard and when he changed it.
 *
 * resident -> parking -> parked -> loading (restoring) -> resident: a worker leaves its
 * GPU with all its models, and comes back when somebody asks for one of them. Its models
 * go through that together; one of them, restoring, stands in line for all, for the room
 * that the worker had.
 *
 * waiter: a call that wants a model resident (a load) or wants to run on it (a
 * task). watch: a call that wants to hear of an unload, park watch: of a parking.
 */
#ifndef VAC_SERVER_REGISTRY_H
#define VAC_SERVER_REGISTRY_H

#include "memory/receipt.h"
#include "server/device.h"
#include "server/event.h"
#include "server/modelinfo.h"
#include "server/settings.h"

struct vac_worker;
struct vac_model;

enum vac_waiter_state { VAC_WAITER_IDLE, VAC_WAITER_QUEUED, VAC_WAITER_RUNNING };

/* Embedded in a call. */
struct vac_waiter {
	struct vac_waiter *prev, *next;
	struct vac_model *model; /* while queued or running */
	enum vac_waiter_state state;
	bool load_only;      /* is answered when the model is resident */
	bool resume_only;    /* with load_only: of a parked model that is lost it is refused */
	bool keep_alive_set; /* its own keep_alive holds from when it runs */
	int64_t keep_alive_ms;
	uint64_t order;  /* first come, first served */
	uint32_t losses; /* workers that it, or who knows who, brought down */
	uint32_t tries;  /* workers that died under it */
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

/* The same for a parking; why NULL: it is parked. */
struct vac_park_watch {
	struct vac_park_watch *next;
	void (*done)(struct vac_park_watch *watch, const struct vac_error *why);
};

enum vac_registry_state {
	VAC_REGISTRY_ABSENT,
	VAC_REGISTRY_LOADING,
	VAC_REGISTRY_RESIDENT,
	VAC_REGISTRY_DRAINING,
	VAC_REGISTRY_FAILED,
	VAC_REGISTRY_PARKING, /* it ends what it has, then its worker leaves the GPU */
	VAC_REGISTRY_PARKED,
};

struct vac_model {
	struct vac_model *next;  /* all that are known */
	struct vac_model *chain; /* of the same bucket */
	struct vac_link active;  /* loading, resident, draining, parking or parked */
	char *name, *dir;        /* owned */
	char *next_dir;          /* owned: its settings name another; from the next load on */
	bool homeless; /* active: its settings no longer say where it lies, nor is it found by
			* its name; it leaves, and nobody new is taken in */
	struct vac_model_settings settings; /* strings owned */
	enum vac_registry_state state;
	struct vac_error failure; /* FAILED: why */
	struct vac_waiter_list waiting, running;

	/* LOADING and later */
	uint32_t wire_id; /* a new one for each load */
	struct vac_worker *worker;
	bool load_held;                   /* LOADING, but not asked yet: it waits in line */
	uint32_t load_losses, load_tries; /* as of a waiter */
	bool placed_again;                /* in this load, by a reading made for it */
	int64_t load_asked_ns, resident_ns;
	int64_t load_ns, worker_start_ns; /* of the last load; the second is part of the first */
	uint64_t done_bytes, total_bytes;
	struct vac_model_info info; /* since it was resident */

	/* RESIDENT and later */
	int64_t idle_since_ns; /* running.count == 0: since when */
	int64_t keep_alive_ms; /* negative: for ever */
	uint64_t requests;     /* answered since the load */

	/* admission.c's */
	struct vac_device *device; /* that it is on; while absent, that it was last meant for */
	bool isolated;             /* of this load: a worker of its own */
	bool no_device;            /* its settings name one that there is not */
	struct vac_charge charge;
	struct vac_link line; /* load_held */
	struct vac_link use;  /* resident and not pinned: the device's idle or busy */
	uint64_t use_order;   /* the higher, the more recent */
	bool plan_known;
	bool plan_asked, load_asked;  /* the operation is under way */
	bool changed;                 /* its settings did, since the plan was asked */
	bool waiting_noted;           /* of this place in line */
	int64_t admitted_ns;          /* the load was asked */
	int64_t evicted_ns;           /* last eviction; 0: never */
	struct vac_model *weighed;    /* of a trial */
	struct vac_shortage shortage; /* load_held: what was missing when last looked at */

	/* An unload was decided. */
	bool unload_wanted;
	bool unloading; /* the operation was asked */
	bool drop_cache;
	enum vac_unload_reason reason;
	int64_t decided_ns;
	struct vac_watch *watches;

	/* registry_park.c's */
	bool restoring;        /* LOADING: its parked worker is to come back, nothing is read */
	bool ends_worker;      /* DRAINING: its parked worker ends, all whose models leave */
	uint64_t parked_bytes; /* PARKED: that its worker had on the device, all models */
	uint64_t return_bytes; /* that must be free for it to come back */
	struct vac_park_watch *park_watches;

	/* Deaths of workers. */
	uint32_t strikes; /* brought down in a row, without an answer between */
	bool set_aside;   /* FAILED, and not tried again by itself */
	bool spared;      /* the last death under it was another model's fault */

	/* over the server's life, for the metrics */
	uint64_t loads, load_failures, tasks, task_errors;
	void *user; /* whoever carries the operations out keeps its own here */
};

/* The model that a link belongs to; NULL for NULL. */
#define VAC_MODEL_AT(link, member) ((link) ? VAC_CONTAINER(link, struct vac_model, member) : NULL)

struct vac_registry_ops {
	int64_t (*now_ns)(void *ctx);
	/* What the operator says of a model; *out holds the defaults. NULL: nothing. */
	void (*settings)(void *ctx, const char *name, struct vac_model_settings *out);
	/* The directory of a model (new string) whose settings name none. NULL: a model
	 * stays where it is when its settings name none any more. */
	int (*find)(void *ctx, const char *name, char **dir, struct vac_error *err);
	/* Find out what a load will take; vac_registry_planned() or _load_failed()
	 * follows, even at once. Only asked where there is a budget. */
	void (*plan)(void *ctx, struct vac_model *model);
	/* Load it; vac_registry_loaded() or _load_failed() follows, even at once. */
	void (*load)(void *ctx, struct vac_model *model);
	/* Ask the worker; vac_registry_done() or _lost() follows, even at once. */
	void (*run)(void *ctx, struct vac_model *model, struct vac_waiter *waiter);
	/* Nothing runs any more: unload it; vac_registry_unloaded() follows. ends_worker:
	 * by the end of its worker, which cannot be asked. */
	void (*unload)(void *ctx, struct vac_model *model);
	/* Nothing runs on its worker any more: take that off the GPU; vac_registry_parked() or
	 * _not_parked() follows, even at once, or the worker's end. */
	void (*park)(void *ctx, struct vac_model *model);
	/* There is room: bring its worker back; vac_registry_restored() or
	 * _restore_refused() follows, even at once, or the worker's end. */
	void (*restore)(void *ctx, struct vac_model *model);
	/* The waiter is out of the registry: a load is done (why NULL), or it failed. */
	void (*finish)(void *ctx, struct vac_waiter *waiter, const struct vac_error *why);
	/* The worker under a model died: write the receipt; then the model is absent. */
	void (*died)(void *ctx, struct vac_model *model, struct vac_receipt *receipt);
	/* vac_registry_tick() is wanted at that time (or earlier). */
	void (*wake_at)(void *ctx, int64_t at_ns);
	/* A load waits for memory that others hold, and all models together could not make
	 * room: so much more is needed. Asked again and again; nothing of the registry may
	 * be called from it. NULL: it waits until there is room. */
	void (*lacks)(void *ctx, struct vac_model *model, uint64_t missing_bytes);
	/* Something happened (event.h). NULL: nobody wants to know. */
	void (*noted)(void *ctx, const struct vac_event *event);
	/* A model leaves the table: free model->user. */
	void (*forget)(void *ctx, struct vac_model *model);
};

/* What --max-queue and the like say. Times in milliseconds. */
struct vac_registry_options {
	struct vac_model_settings defaults; /* of a model of which nothing is said; its strings
					     * are not owned */
	uint32_t max_queue;                 /* waiting and running calls of one model */
	int64_t turn_ms;                    /* that a busy model has before it makes way */
};

struct vac_registry {
	const struct vac_registry_ops *ops;
	void *ctx;
	struct vac_registry_options options;
	struct vac_device *devices; /* at least one; the first is the default; not owned */
	uint32_t device_count;
	struct vac_model *models;
	struct vac_model **buckets; /* owned; of the names */
	uint32_t bucket_count;
	uint32_t model_count, next_wire_id;
	struct vac_list active;
	uint64_t next_order, next_use;
	bool closed;        /* shutting down: nothing new is taken or loaded */
	uint64_t set_aside; /* over the server's life, for the metrics */
};

void vac_registry_init(struct vac_registry *registry, const struct vac_registry_ops *ops, void *ctx,
		       const struct vac_registry_options *options, struct vac_device *devices,
		       uint32_t device_count);
void vac_registry_free(struct vac_registry *registry);

/* The device of a name, NULL: the default, "auto": the one with room of its own
 * that has the most of it now, else the default; NULL when there is none. */
struct vac_device *vac_registry_device(const struct vac_registry *registry, const char *name);
/* That a model is to run on a device that there is not. */
void vac_registry_no_device(const struct vac_registry *registry, const char *model,
			    const char *device, struct vac_error *err);
/* What holds for a model of that name. */
void vac_registry_settings(const struct vac_registry *registry, const char *name,
			   struct vac_model_settings *out);
/* The operator changed settings: looks up those of every known model. What can
 * change in place does; a resident that only a new load can give them drains and
 * leaves, and is loaded again if it is pinned or somebody waits. Negative (err
 * set): no memory for those of one model, which keeps its old ones. */
int vac_registry_reconfigure(struct vac_registry *registry, struct vac_error *err) VAC_MUST_CHECK;

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
/* A load that waits for room and that nobody waits for leaves the line: others
 * are not evicted for it. false: it is no such load. */
bool vac_registry_drop(struct vac_registry *registry, struct vac_model *model);
/* A running waiter's answer came (or its error: answered = false). */
void vac_registry_done(struct vac_registry *registry, struct vac_waiter *waiter, bool answered);
/* A running waiter's worker died. true: it waits again and will be asked once
 * more; false: that was the second time (or the model is set aside), it is out
 * and the caller answers. A death that was another model's fault does not count,
 * up to VAC_MAX_TRIES. */
bool vac_registry_lost(struct vac_registry *registry, struct vac_waiter *waiter);
#define VAC_MAX_TRIES 5u
/* The same for a plan or a load: true: it waits in line again (or nobody needs
 * it any more); false: the caller says vac_registry_load_failed(). */
bool vac_registry_load_lost(struct vac_registry *registry, struct vac_model *model,
			    const struct vac_error *why);
/* The device had less room than its reading said: another process was quicker. true: it
 * waits in line again, and is looked at with a fresh reading; false as above. */
bool vac_registry_load_lacked(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why);

/* There is a reading made for the plan that was asked for. true: by that, "auto" means another
 * device, in whose line it stands now; no plan is to be made. */
bool vac_registry_moved(struct vac_registry *registry, struct vac_model *model);
/* The plan that was asked for. */
void vac_registry_planned(struct vac_registry *registry, struct vac_model *model,
			  const struct vac_plan *plan);

/* Of the load that was asked for, now and then. */
void vac_registry_progress(struct vac_registry *registry, struct vac_model *model,
			   uint64_t done_bytes, uint64_t total_bytes);
/* info: of the LOADED answer. */
void vac_registry_loaded(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_model_info *info);
void vac_registry_load_failed(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why);

/* A load that waits in line for room is refused. It does not: nothing happens. */
void vac_registry_refuse(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_error *why);

/* Decides an unload. false: there is nothing to unload, and watch (which may
 * be NULL) was not taken. */
bool vac_registry_unload(struct vac_registry *registry, struct vac_model *model,
			 enum vac_unload_reason reason, bool drop_cache, struct vac_watch *watch);
/* The unload that was asked for is over. */
void vac_registry_unloaded(struct vac_registry *registry, struct vac_model *model,
			   const struct vac_receipt *receipt);
/* Decides that the worker of a model is parked, with all its models. 0: the watch (may be
 * NULL) will hear; 1: it is parked already. Negative: refused; VAC_E_UNSUPPORTED: it holds no
 * memory of a GPU, VAC_E_BUSY: it is being loaded or unloaded, VAC_E_INVALID: it is not
 * loaded. */
int vac_registry_park(struct vac_registry *registry, struct vac_model *model,
		      struct vac_park_watch *watch, struct vac_error *err) VAC_MUST_CHECK;
/* The parking that was asked for is done; bytes: that the worker had on the device,
 * return_bytes: that must be free there for it to come back. */
void vac_registry_parked(struct vac_registry *registry, struct vac_model *model, uint64_t bytes,
			 uint64_t return_bytes);
/* It was refused, and the worker is where it was. */
void vac_registry_not_parked(struct vac_registry *registry, struct vac_model *model,
			     const struct vac_error *why);
/* The worker is back: its models answer. */
void vac_registry_restored(struct vac_registry *registry, struct vac_model *model);
/* It stays parked. Without room it is tried again in its turn, a few times. */
void vac_registry_restore_refused(struct vac_registry *registry, struct vac_model *model,
				  const struct vac_error *why);
/* Takes a watch out whose call has left. */
void vac_registry_unwatch_park(struct vac_registry *registry, struct vac_park_watch *watch);
/* The model shares the worker of another one, or is it. */
static inline bool vac_registry_shares(const struct vac_model *model, const struct vac_model *other)
{
	return model == other || (model->worker && model->worker == other->worker);
}

/* A worker was reaped: its models that were not being loaded or unloaded are
 * absent now. Those that are hear of it through their own exchanges. culprit:
 * the model that it was working for, NULL when that is nobody or not known. */
void vac_registry_worker_gone(struct vac_registry *registry, const struct vac_worker *worker,
			      struct vac_model *culprit, const struct vac_error *why);
/* The only model that had something under way on that worker; NULL: none or
 * more than one. */
struct vac_model *vac_registry_suspect(const struct vac_registry *registry,
				       const struct vac_worker *worker);
/* It has something under way there: a plan, a load, a task. */
bool vac_registry_works(const struct vac_model *model, const struct vac_worker *worker);
/* Deaths in a row after which a model is set aside. */
#define VAC_MAX_STRIKES 3u
/* Takes a watch out whose call has left. */
void vac_registry_unwatch(struct vac_registry *registry, struct vac_watch *watch);

/* Idle models whose time has come, unloads that may start, loads that were held. */
void vac_registry_tick(struct vac_registry *registry);
/* A load is under way on that worker, or waits and would be given to it: to the
 * one of that device and owner (a model's name; NULL: all that are not isolated). */
bool vac_registry_load_waits(const struct vac_registry *registry, const struct vac_worker *worker,
			     const char *device, const char *owner);
/* Models that live on that worker. */
uint32_t vac_registry_models_on(const struct vac_registry *registry,
				const struct vac_worker *worker);
/* When an idle resident model will be unloaded; negative: never, or it is busy. */
int64_t vac_registry_expires_at_ns(const struct vac_model *model);
/* No more loads and waiters; what runs ends. */
void vac_registry_close(struct vac_registry *registry);
/* Nothing is loading, resident or draining. */
static inline bool vac_registry_empty(const struct vac_registry *registry)
{
	return registry->active.count == 0;
}

#endif
