/*
 * registry.c - the states of models and the calls that wait for them. Pure
 * logic over a table of operations. One thread.
 */
#include "server/registry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)

static int64_t now(const struct vac_registry *registry)
{
	return registry->ops->now_ns(registry->ctx);
}

static void wake_now(struct vac_registry *registry)
{
	registry->ops->wake_at(registry->ctx, now(registry));
}

void vac_registry_init(struct vac_registry *registry, const struct vac_registry_ops *ops, void *ctx,
		       int64_t keep_alive_ms, uint32_t max_queue)
{
	*registry = (struct vac_registry){
		.ops = ops,
		.ctx = ctx,
		.keep_alive_ms = keep_alive_ms,
		.max_queue = max_queue,
		.next_wire_id = 1,
	};
}

static void free_model(struct vac_registry *registry, struct vac_model *model)
{
	assert(model->waiting.count == 0 && model->running.count == 0);
	if (registry->ops->forget)
		registry->ops->forget(registry->ctx, model);
	free(model->name);
	free(model->dir);
	free(model);
}

void vac_registry_free(struct vac_registry *registry)
{
	while (registry->models) {
		struct vac_model *model = registry->models;

		registry->models = model->next;
		free_model(registry, model);
	}
	registry->model_count = 0;
}

/* ---- the table ---- */

static bool active(const struct vac_model *model)
{
	return model->state == VAC_REGISTRY_LOADING || model->state == VAC_REGISTRY_RESIDENT ||
	       model->state == VAC_REGISTRY_DRAINING;
}

struct vac_model *vac_registry_find(struct vac_registry *registry, const char *name)
{
	for (struct vac_model *model = registry->models; model; model = model->next) {
		if (strcmp(model->name, name) == 0)
			return model;
	}
	return NULL;
}

struct vac_model *vac_registry_enter(struct vac_registry *registry, const char *name,
				     const char *dir)
{
	struct vac_model *model = vac_registry_find(registry, name);
	char *copy;

	if (model && (active(model) || strcmp(model->dir, dir) == 0))
		return model;
	copy = strdup(dir);
	if (!copy)
		return NULL;
	if (model) {
		free(model->dir);
		model->dir = copy;
		return model;
	}
	model = calloc(1, sizeof(*model));
	if (model)
		model->name = strdup(name);
	if (!model || !model->name) {
		free(model);
		free(copy);
		return NULL;
	}
	model->dir = copy;
	model->keep_alive_ms = registry->keep_alive_ms;
	model->next = registry->models;
	registry->models = model;
	registry->model_count++;
	return model;
}

struct vac_model *vac_registry_only(struct vac_registry *registry, bool *several)
{
	struct vac_model *only = NULL;

	*several = false;
	for (struct vac_model *model = registry->models; model; model = model->next) {
		if (!active(model))
			continue;
		if (only)
			*several = true;
		only = model;
	}
	return *several ? NULL : only;
}

void vac_registry_sweep(struct vac_registry *registry,
			bool (*keep)(void *ctx, const struct vac_model *model), void *ctx)
{
	struct vac_model **at = &registry->models;

	while (*at) {
		struct vac_model *model = *at;

		if (active(model) || model->waiting.count || model->running.count ||
		    keep(ctx, model)) {
			at = &model->next;
			continue;
		}
		*at = model->next;
		registry->model_count--;
		free_model(registry, model);
	}
}

/* ---- waiters ---- */

static void link_waiter(struct vac_waiter_list *list, struct vac_waiter *waiter,
			enum vac_waiter_state state)
{
	waiter->state = state;
	waiter->next = NULL;
	waiter->prev = list->last;
	if (list->last)
		list->last->next = waiter;
	else
		list->first = waiter;
	list->last = waiter;
	list->count++;
}

static void unlink_waiter(struct vac_waiter *waiter)
{
	struct vac_waiter_list *list = waiter->state == VAC_WAITER_QUEUED ? &waiter->model->waiting
									  : &waiter->model->running;

	assert(waiter->state != VAC_WAITER_IDLE && list->count > 0);
	if (waiter->prev)
		waiter->prev->next = waiter->next;
	else
		list->first = waiter->next;
	if (waiter->next)
		waiter->next->prev = waiter->prev;
	else
		list->last = waiter->prev;
	list->count--;
	waiter->prev = waiter->next = NULL;
	waiter->state = VAC_WAITER_IDLE;
}

/* Nothing runs on the model any more: its idle clock starts, or its unload may. */
static void rest(struct vac_registry *registry, struct vac_model *model)
{
	int64_t at_ns;

	if (model->running.count > 0)
		return;
	model->idle_since_ns = now(registry);
	if (model->state == VAC_REGISTRY_DRAINING)
		wake_now(registry);
	at_ns = vac_registry_expires_at_ns(model);
	if (at_ns >= 0)
		registry->ops->wake_at(registry->ctx, at_ns);
}

static void run(struct vac_registry *registry, struct vac_model *model, struct vac_waiter *waiter)
{
	assert(model->state == VAC_REGISTRY_RESIDENT || model->state == VAC_REGISTRY_DRAINING);
	if (waiter->keep_alive_set)
		model->keep_alive_ms = waiter->keep_alive_ms;
	if (waiter->load_only) {
		registry->ops->finish(registry->ctx, waiter, NULL);
		/* Its keep_alive may be shorter than what the clock was set to. */
		rest(registry, model);
		return;
	}
	link_waiter(&model->running, waiter, VAC_WAITER_RUNNING);
	registry->ops->run(registry->ctx, model, waiter);
}

static void ask_load(struct vac_registry *registry, struct vac_model *model)
{
	model->load_held = false;
	model->wire_id = registry->next_wire_id++;
	if (model->wire_id == 0) /* 0 is never a model */
		model->wire_id = registry->next_wire_id++;
	registry->ops->load(registry->ctx, model);
}

/* An unload is being measured: a load beside it would be measured with it. */
static bool unload_under_way(const struct vac_registry *registry)
{
	for (const struct vac_model *model = registry->models; model; model = model->next) {
		if (model->unloading)
			return true;
	}
	return false;
}

static bool load_under_way(const struct vac_registry *registry)
{
	for (const struct vac_model *model = registry->models; model; model = model->next) {
		if (model->state == VAC_REGISTRY_LOADING && !model->load_held)
			return true;
	}
	return false;
}

static void begin_load(struct vac_registry *registry, struct vac_model *model)
{
	model->state = VAC_REGISTRY_LOADING;
	model->failure.code = VAC_OK;
	model->keep_alive_ms = registry->keep_alive_ms;
	model->load_losses = 0;
	model->requests = 0;
	model->done_bytes = model->total_bytes = 0;
	model->load_asked_ns = now(registry);
	model->load_held = unload_under_way(registry);
	if (!model->load_held)
		ask_load(registry, model);
}

int vac_registry_submit(struct vac_registry *registry, struct vac_model *model,
			struct vac_waiter *waiter, struct vac_error *err)
{
	assert(waiter->state == VAC_WAITER_IDLE);
	if (registry->closed)
		return vac_fail(err, VAC_E_GONE, "the server is shutting down");
	if (model->waiting.count + model->running.count >= registry->max_queue)
		return vac_fail(
			err, VAC_E_BUSY,
			"%u requests for model %s are waiting already, which is the most; try "
			"again soon or raise --max-queue",
			registry->max_queue, model->name);
	waiter->model = model;
	if (model->state == VAC_REGISTRY_RESIDENT) {
		run(registry, model, waiter);
		return 0;
	}
	link_waiter(&model->waiting, waiter, VAC_WAITER_QUEUED);
	if (!active(model))
		begin_load(registry, model);
	return 0;
}

void vac_registry_cancel(struct vac_registry *registry, struct vac_waiter *waiter)
{
	bool running = waiter->state == VAC_WAITER_RUNNING;

	if (waiter->state == VAC_WAITER_IDLE)
		return;
	unlink_waiter(waiter);
	if (running)
		rest(registry, waiter->model);
}

void vac_registry_done(struct vac_registry *registry, struct vac_waiter *waiter, bool answered)
{
	struct vac_model *model = waiter->model;

	assert(waiter->state == VAC_WAITER_RUNNING);
	unlink_waiter(waiter);
	if (answered) {
		model->requests++;
		model->tasks++;
	} else {
		model->task_errors++;
	}
	rest(registry, model);
}

bool vac_registry_lost(struct vac_registry *registry, struct vac_waiter *waiter)
{
	struct vac_model *model = waiter->model;

	assert(waiter->state == VAC_WAITER_RUNNING);
	unlink_waiter(waiter);
	waiter->losses++;
	if (waiter->losses > 1 || registry->closed) {
		model->task_errors++;
		return false;
	}
	/* It was admitted before: the queue's limit is not asked again. */
	if (model->state == VAC_REGISTRY_RESIDENT) {
		run(registry, model, waiter);
		return true;
	}
	link_waiter(&model->waiting, waiter, VAC_WAITER_QUEUED);
	if (!active(model))
		begin_load(registry, model);
	return true;
}

/* ---- loads ---- */

void vac_registry_loaded(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_model_info *info)
{
	uint32_t count = model->waiting.count;

	assert(model->state == VAC_REGISTRY_LOADING && !model->load_held);
	model->info = *info;
	model->resident_ns = now(registry);
	model->load_ns = model->resident_ns - model->load_asked_ns;
	model->loads++;
	/* An unload was decided while it loaded: who waits is answered first. */
	model->state = model->unload_wanted ? VAC_REGISTRY_DRAINING : VAC_REGISTRY_RESIDENT;
	rest(registry, model);
	/* Those that are here now; a run that fails at once may end the state. */
	while (count-- > 0 && model->waiting.first &&
	       (model->state == VAC_REGISTRY_RESIDENT || model->state == VAC_REGISTRY_DRAINING)) {
		struct vac_waiter *waiter = model->waiting.first;

		unlink_waiter(waiter);
		run(registry, model, waiter);
	}
	wake_now(registry); /* unloads that waited for this load */
}

static void tell_watches(struct vac_model *model, const struct vac_receipt *receipt)
{
	struct vac_watch *watch = model->watches;

	model->watches = NULL;
	while (watch) {
		struct vac_watch *next = watch->next;

		watch->done(watch, receipt);
		watch = next;
	}
}

static void clear_unload(struct vac_model *model)
{
	model->unload_wanted = model->unloading = model->drop_cache = false;
}

static void fail_waiting(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_error *why)
{
	while (model->waiting.first) {
		struct vac_waiter *waiter = model->waiting.first;

		unlink_waiter(waiter);
		registry->ops->finish(registry->ctx, waiter, why);
	}
}

void vac_registry_load_failed(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why)
{
	struct vac_error copy = *why; /* why may live in something that ends below */

	assert(model->state == VAC_REGISTRY_LOADING);
	model->state = VAC_REGISTRY_FAILED;
	model->failure = copy;
	model->worker = NULL;
	model->load_failures++;
	clear_unload(model);
	tell_watches(model, NULL);
	fail_waiting(registry, model, &copy);
	wake_now(registry);
}

/* ---- unloads ---- */

bool vac_registry_unload(struct vac_registry *registry, struct vac_model *model,
			 enum vac_unload_reason reason, bool drop_cache, struct vac_watch *watch)
{
	if (!active(model))
		return false;
	if (!model->unload_wanted) {
		model->unload_wanted = true;
		model->reason = reason;
		model->decided_ns = now(registry);
		if (model->state == VAC_REGISTRY_RESIDENT)
			model->state = VAC_REGISTRY_DRAINING;
	}
	model->drop_cache = model->drop_cache || drop_cache;
	if (watch) {
		watch->next = model->watches;
		model->watches = watch;
	}
	wake_now(registry);
	return true;
}

void vac_registry_unwatch(struct vac_registry *registry, struct vac_watch *watch)
{
	for (struct vac_model *model = registry->models; model; model = model->next) {
		for (struct vac_watch **at = &model->watches; *at; at = &(*at)->next) {
			if (*at == watch) {
				*at = watch->next;
				return;
			}
		}
	}
}

/* The model's bytes are gone. Who waited meanwhile loads it again. */
static void left(struct vac_registry *registry, struct vac_model *model,
		 const struct vac_receipt *receipt)
{
	model->state = VAC_REGISTRY_ABSENT;
	model->worker = NULL;
	clear_unload(model);
	tell_watches(model, receipt);
	wake_now(registry);
	if (model->waiting.count > 0 && model->state == VAC_REGISTRY_ABSENT)
		begin_load(registry, model);
}

void vac_registry_unloaded(struct vac_registry *registry, struct vac_model *model,
			   const struct vac_receipt *receipt)
{
	assert(model->state == VAC_REGISTRY_DRAINING && model->unloading);
	left(registry, model, receipt);
}

void vac_registry_worker_gone(struct vac_registry *registry, const struct vac_worker *worker)
{
	for (struct vac_model *model = registry->models; model; model = model->next) {
		struct vac_receipt receipt;

		if (model->worker != worker || model->unloading ||
		    (model->state != VAC_REGISTRY_RESIDENT &&
		     model->state != VAC_REGISTRY_DRAINING))
			continue;
		/* decided_ns of an unload that had no time to start stays. */
		if (!model->unload_wanted)
			model->decided_ns = now(registry);
		model->reason = VAC_UNLOAD_WORKER_DIED;
		memset(&receipt, 0, sizeof(receipt));
		registry->ops->died(registry->ctx, model, &receipt);
		left(registry, model, &receipt);
	}
}

/* ---- time ---- */

int64_t vac_registry_expires_at_ns(const struct vac_model *model)
{
	if (model->state != VAC_REGISTRY_RESIDENT || model->running.count > 0 ||
	    model->keep_alive_ms < 0)
		return -1;
	/* A keep_alive beyond the clock's range means for ever. */
	if (model->keep_alive_ms > (INT64_MAX - model->idle_since_ns) / NS_PER_MS)
		return -1;
	return model->idle_since_ns + model->keep_alive_ms * NS_PER_MS;
}

static void tick_model(struct vac_registry *registry, struct vac_model *model)
{
	int64_t at_ns = vac_registry_expires_at_ns(model);
	/* One at a time, and never beside a load: its receipt measures a whole
	 * process, and what another model takes meanwhile would be in it. */
	bool may_unload = !unload_under_way(registry) && !load_under_way(registry);

	/* An idle model whose unload must wait answers on meanwhile; the end of
	 * what it waits for wakes this up again. */
	if (at_ns > now(registry))
		registry->ops->wake_at(registry->ctx, at_ns);
	else if (at_ns >= 0 && may_unload)
		vac_registry_unload(registry, model, VAC_UNLOAD_IDLE, false, NULL);
	if (model->state == VAC_REGISTRY_DRAINING && !model->unloading &&
	    model->running.count == 0 && may_unload) {
		model->unloading = true;
		registry->ops->unload(registry->ctx, model);
	}
	if (model->state == VAC_REGISTRY_LOADING && model->load_held && !unload_under_way(registry))
		ask_load(registry, model);
}

void vac_registry_tick(struct vac_registry *registry)
{
	/* Operations called below add no entries and free none. */
	for (struct vac_model *model = registry->models; model; model = model->next)
		tick_model(registry, model);
}

bool vac_registry_load_waits(const struct vac_registry *registry, const struct vac_worker *worker)
{
	for (const struct vac_model *model = registry->models; model; model = model->next) {
		if (model->state == VAC_REGISTRY_LOADING &&
		    (model->load_held || model->worker == worker))
			return true;
		if (model->state == VAC_REGISTRY_DRAINING && model->waiting.count > 0)
			return true;
	}
	return false;
}

uint32_t vac_registry_models_on(const struct vac_registry *registry,
				const struct vac_worker *worker)
{
	uint32_t count = 0;

	for (const struct vac_model *model = registry->models; model; model = model->next)
		count += model->worker == worker && (model->state == VAC_REGISTRY_RESIDENT ||
						     model->state == VAC_REGISTRY_DRAINING);
	return count;
}

void vac_registry_close(struct vac_registry *registry)
{
	struct vac_error why;

	registry->closed = true;
	vac_fail(&why, VAC_E_GONE, "the server is shutting down");
	for (struct vac_model *model = registry->models; model; model = model->next) {
		if (model->state == VAC_REGISTRY_DRAINING || model->load_held)
			fail_waiting(registry, model, &why);
		if (model->load_held) {
			model->load_held = false;
			model->state = VAC_REGISTRY_ABSENT;
			clear_unload(model);
			tell_watches(model, NULL);
		}
	}
}
