/*
 * registry.c - the states of models and the calls that wait for them. Pure
 * logic over a table of operations. One thread.
 */
#include "server/registry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/admission.h"

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
		       const struct vac_registry_options *options, struct vac_budget *budget)
{
	*registry = (struct vac_registry){
		.ops = ops,
		.ctx = ctx,
		.options = *options,
		.budget = budget,
		.next_wire_id = 1,
	};
}

void vac_registry_note(const struct vac_registry *registry, const struct vac_model *model,
		       const struct vac_event *event)
{
	struct vac_event told = *event;

	if (!registry->ops->noted)
		return;
	told.at_ns = now(registry);
	told.model = model->name;
	told.device = model->budget ? model->budget->device : "cpu";
	registry->ops->noted(registry->ctx, &told);
}

static bool active(const struct vac_model *model)
{
	return model->active.list != NULL;
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

/* Where it belongs by the time it came: those that a dead worker gives back came
 * before those that wait already. */
static void link_in_order(struct vac_waiter_list *list, struct vac_waiter *waiter)
{
	struct vac_waiter *after = list->first;

	while (after && after->order < waiter->order)
		after = after->next;
	if (!after) {
		link_waiter(list, waiter, VAC_WAITER_QUEUED);
		return;
	}
	waiter->state = VAC_WAITER_QUEUED;
	waiter->next = after;
	waiter->prev = after->prev;
	if (after->prev)
		after->prev->next = waiter;
	else
		list->first = waiter;
	after->prev = waiter;
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
	vac_admission_used(registry, model);
	/* Its unload may begin, or somebody waits for it to become idle. */
	if (model->state == VAC_REGISTRY_DRAINING || registry->line.count > 0)
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
	vac_admission_used(registry, model);
	registry->ops->run(registry->ctx, model, waiter);
}

static void begin_load(struct vac_registry *registry, struct vac_model *model)
{
	model->state = VAC_REGISTRY_LOADING;
	vac_list_prepend(&registry->active, &model->active);
	model->failure.code = VAC_OK;
	model->keep_alive_ms = registry->options.keep_alive_ms;
	model->load_losses = model->load_tries = 0;
	model->requests = 0;
	model->done_bytes = model->total_bytes = 0;
	model->load_asked_ns = now(registry);
	if (model->evicted_ns > 0 &&
	    model->load_asked_ns - model->evicted_ns < VAC_QUICK_RELOAD_MS * NS_PER_MS)
		registry->quick_reloads++;
	vac_admission_enter(registry, model, false);
	wake_now(registry);
}

/* Whatever its load was at, it is not any more. */
static void stop_loading(struct vac_registry *registry, struct vac_model *model)
{
	if (model->load_asked)
		registry->loading--;
	if (model->plan_asked)
		registry->planning--;
	model->load_asked = model->plan_asked = false;
	vac_admission_leave(registry, model);
	if (model->budget)
		vac_budget_remove(model->budget, &model->charge);
	model->worker = NULL;
}

/* It left, or gave its load up (receipt NULL). */
static void note_absent(const struct vac_registry *registry, const struct vac_model *model,
			const struct vac_receipt *receipt)
{
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_ABSENT,
					      .reason = receipt ? receipt->reason : 0,
					      .receipt = receipt});
}

static void note_why(const struct vac_registry *registry, const struct vac_model *model,
		     enum vac_event_kind kind, const struct vac_error *why)
{
	vac_registry_note(registry, model, &(struct vac_event){.kind = kind, .why = why});
}

/* Neither loading nor resident. */
static void deactivate(struct vac_registry *registry, struct vac_model *model,
		       enum vac_registry_state state)
{
	model->state = state;
	vac_list_drop(&model->active);
	vac_admission_used(registry, model);
}

/* Somebody asks for it by name: it may try again. */
static void forgive(struct vac_model *model)
{
	model->set_aside = false;
	model->strikes = 0;
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

static int refuse_call(const struct vac_registry *registry, const struct vac_model *model,
		       const struct vac_error *why, struct vac_error *err)
{
	note_why(registry, model, VAC_EVENT_REFUSED, why);
	if (err)
		*err = *why;
	return vac_error_errno(why->code);
}

int vac_registry_submit(struct vac_registry *registry, struct vac_model *model,
			struct vac_waiter *waiter, struct vac_error *err)
{
	struct vac_error why;

	assert(waiter->state == VAC_WAITER_IDLE);
	if (registry->closed)
		return vac_fail(err, VAC_E_GONE, "the server is shutting down");
	if (model->set_aside && waiter->load_only)
		forgive(model);
	if (model->set_aside)
		return refuse_call(registry, model, &model->failure, err);
	if (model->waiting.count + model->running.count >= registry->options.max_queue) {
		vac_fail(&why, VAC_E_BUSY,
			 "%u requests for model %s are waiting already, which is the most; try "
			 "again soon or raise --max-queue",
			 registry->options.max_queue, model->name);
		return refuse_call(registry, model, &why, err);
	}
	waiter->model = model;
	waiter->order = registry->next_order++;
	waiter->losses = waiter->tries = 0;
	if (model->state == VAC_REGISTRY_RESIDENT) {
		run(registry, model, waiter);
		return 0;
	}
	link_waiter(&model->waiting, waiter, VAC_WAITER_QUEUED);
	if (!active(model)) {
		begin_load(registry, model);
		vac_admission_advance(registry);
	}
	return 0;
}

bool vac_registry_drop(struct vac_registry *registry, struct vac_model *model)
{
	if (!model->load_held || vac_shortage_none(model->shortage) || model->plan_asked ||
	    model->waiting.count > 0 || model->pinned)
		return false;
	stop_loading(registry, model);
	deactivate(registry, model, VAC_REGISTRY_ABSENT);
	note_absent(registry, model, NULL);
	clear_unload(model);
	tell_watches(model, NULL);
	wake_now(registry);
	return true;
}

void vac_registry_cancel(struct vac_registry *registry, struct vac_waiter *waiter)
{
	bool running = waiter->state == VAC_WAITER_RUNNING;

	if (waiter->state == VAC_WAITER_IDLE)
		return;
	unlink_waiter(waiter);
	if (running)
		rest(registry, waiter->model);
	else
		vac_registry_drop(registry, waiter->model);
}

void vac_registry_done(struct vac_registry *registry, struct vac_waiter *waiter, bool answered)
{
	struct vac_model *model = waiter->model;

	assert(waiter->state == VAC_WAITER_RUNNING);
	unlink_waiter(waiter);
	model->strikes = 0; /* its worker lives */
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
	waiter->tries++;
	if (!model->spared)
		waiter->losses++;
	if (waiter->losses > 1 || waiter->tries >= VAC_MAX_TRIES || model->set_aside ||
	    registry->closed) {
		model->task_errors++;
		return false;
	}
	/* It was admitted before: the queue's limit is not asked again. */
	if (model->state == VAC_REGISTRY_RESIDENT) {
		run(registry, model, waiter);
		return true;
	}
	link_in_order(&model->waiting, waiter);
	if (!active(model)) {
		begin_load(registry, model);
		vac_admission_advance(registry);
	}
	return true;
}

/* ---- loads ---- */

void vac_registry_progress(struct vac_registry *registry, struct vac_model *model,
			   uint64_t done_bytes, uint64_t total_bytes)
{
	model->done_bytes = done_bytes;
	model->total_bytes = total_bytes;
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_LOADING,
					      .done_bytes = done_bytes,
					      .total_bytes = total_bytes});
}

static void note_draining(const struct vac_registry *registry, const struct vac_model *model)
{
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_DRAINING, .reason = model->reason});
}

void vac_registry_loaded(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_model_info *info)
{
	uint32_t count = model->waiting.count;

	assert(model->state == VAC_REGISTRY_LOADING && model->load_asked);
	model->load_asked = false;
	registry->loading--;
	if (model->budget)
		vac_budget_settle(model->budget, &model->charge, &info->plan);
	model->info = *info;
	model->resident_ns = now(registry);
	model->load_ns = model->resident_ns - model->load_asked_ns;
	model->loads++;
	/* An unload was decided while it loaded: who waits is answered first. */
	model->state = model->unload_wanted ? VAC_REGISTRY_DRAINING : VAC_REGISTRY_RESIDENT;
	if (model->budget && model->unload_wanted)
		vac_budget_leave(model->budget, &model->charge);
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_RESIDENT,
					      .bytes = info->ledger_bytes,
					      .load_ns = model->load_ns});
	if (model->unload_wanted)
		note_draining(registry, model);
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

static void fail_waiting(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_error *why)
{
	while (model->waiting.first) {
		struct vac_waiter *waiter = model->waiting.first;

		unlink_waiter(waiter);
		registry->ops->finish(registry->ctx, waiter, why);
	}
}

/* The plan's answer came after the end had begun: nobody needs it. */
static bool plan_is_stale(struct vac_registry *registry, struct vac_model *model)
{
	if (model->state == VAC_REGISTRY_LOADING)
		return false;
	assert(model->plan_asked);
	model->plan_asked = false;
	model->worker = NULL;
	registry->planning--;
	wake_now(registry);
	return true;
}

void vac_registry_planned(struct vac_registry *registry, struct vac_model *model,
			  const struct vac_plan *plan)
{
	if (plan_is_stale(registry, model))
		return;
	assert(model->plan_asked && model->load_held);
	model->plan_asked = false;
	registry->planning--;
	model->worker = NULL; /* the one that planned need not be the one that loads */
	model->plan_known = true;
	vac_charge_plan(model->budget, &model->charge, plan);
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_PLANNED,
					      .bytes = vac_charge_bytes(&model->charge)});
	vac_admission_advance(registry);
}

bool vac_registry_load_lost(struct vac_registry *registry, struct vac_model *model,
			    const struct vac_error *why)
{
	if (plan_is_stale(registry, model))
		return true;
	model->load_tries++;
	if (!model->spared)
		model->load_losses++;
	/* A worker that hung or spoke another version would again. */
	if (why->code != VAC_E_GONE || model->load_losses > 1 ||
	    model->load_tries >= VAC_MAX_TRIES || model->set_aside || registry->closed)
		return false;
	stop_loading(registry, model);
	vac_admission_enter(registry, model, true);
	vac_admission_advance(registry);
	return true;
}

void vac_registry_load_failed(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why)
{
	struct vac_error copy = *why; /* why may live in something that ends below */

	if (plan_is_stale(registry, model))
		return;
	stop_loading(registry, model);
	deactivate(registry, model, VAC_REGISTRY_FAILED);
	if (model->set_aside)
		copy = model->failure; /* says more */
	model->failure = copy;
	model->load_failures++;
	note_why(registry, model, VAC_EVENT_FAILED, &copy);
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
		if (model->state == VAC_REGISTRY_RESIDENT) {
			model->state = VAC_REGISTRY_DRAINING;
			note_draining(registry, model);
		}
		vac_admission_used(registry, model);
		if (model->budget)
			vac_budget_leave(model->budget, &model->charge);
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
	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

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
	bool lost = receipt->reason == VAC_UNLOAD_WORKER_DIED;

	if (registry->unloading == model)
		registry->unloading = NULL;
	if (model->budget)
		vac_budget_remove(model->budget, &model->charge);
	deactivate(registry, model, model->set_aside ? VAC_REGISTRY_FAILED : VAC_REGISTRY_ABSENT);
	model->worker = NULL;
	note_absent(registry, model, receipt);
	clear_unload(model);
	tell_watches(model, receipt);
	wake_now(registry);
	if (model->set_aside)
		fail_waiting(registry, model, &model->failure);
	else if (!active(model) && !registry->closed &&
		 (model->waiting.count > 0 || (lost && model->pinned)))
		begin_load(registry, model);
}

void vac_registry_unloaded(struct vac_registry *registry, struct vac_model *model,
			   const struct vac_receipt *receipt)
{
	assert(model->state == VAC_REGISTRY_DRAINING && model->unloading);
	left(registry, model, receipt);
	vac_admission_advance(registry);
}

/* ---- deaths of workers ---- */

bool vac_registry_works(const struct vac_model *model, const struct vac_worker *worker)
{
	return model->worker == worker &&
	       (model->plan_asked || model->load_asked || model->running.count > 0);
}

struct vac_model *vac_registry_suspect(const struct vac_registry *registry,
				       const struct vac_worker *worker)
{
	struct vac_model *suspect = NULL;

	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

		if (!vac_registry_works(model, worker))
			continue;
		if (suspect)
			return NULL;
		suspect = model;
	}
	return suspect;
}

static void strike(struct vac_registry *registry, struct vac_model *model,
		   const struct vac_error *why)
{
	if (++model->strikes < VAC_MAX_STRIKES)
		return;
	model->set_aside = true;
	registry->set_aside++;
	vac_fail(&model->failure, VAC_E_GONE,
		 "model %.200s brought its worker down %u times in a row and is set aside until "
		 "`vacate load` asks for it; the last time: %s",
		 model->name, model->strikes, why->message);
	note_why(registry, model, VAC_EVENT_SET_ASIDE, &model->failure);
}

static void died(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_receipt receipt;

	/* decided_ns of an unload that had no time to start stays. */
	if (!model->unload_wanted)
		model->decided_ns = now(registry);
	model->reason = VAC_UNLOAD_WORKER_DIED;
	memset(&receipt, 0, sizeof(receipt));
	registry->ops->died(registry->ctx, model, &receipt);
	receipt.reason = VAC_UNLOAD_WORKER_DIED;
	left(registry, model, &receipt);
}

void vac_registry_worker_gone(struct vac_registry *registry, const struct vac_worker *worker,
			      struct vac_model *culprit, const struct vac_error *why)
{
	struct vac_link *link, *next;

	if (culprit)
		strike(registry, culprit, why);
	/* left() takes a model out of the list, or puts it at the front. */
	for (link = registry->active.first; link; link = next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

		next = link->next;
		if (model->worker != worker)
			continue;
		model->spared = culprit && model != culprit;
		if (!model->unloading && (model->state == VAC_REGISTRY_RESIDENT ||
					  model->state == VAC_REGISTRY_DRAINING))
			died(registry, model);
	}
	vac_admission_advance(registry);
}

/* ---- time ---- */

int64_t vac_registry_expires_at_ns(const struct vac_model *model)
{
	if (model->state != VAC_REGISTRY_RESIDENT || model->running.count > 0 ||
	    model->keep_alive_ms < 0 || model->pinned)
		return -1;
	/* A keep_alive beyond the clock's range means for ever. */
	if (model->keep_alive_ms > (INT64_MAX - model->idle_since_ns) / NS_PER_MS)
		return -1;
	return model->idle_since_ns + model->keep_alive_ms * NS_PER_MS;
}

/* One at a time, and never beside a load: its receipt measures a whole process,
 * and what another model takes meanwhile would be in it. */
static bool may_unload(const struct vac_registry *registry)
{
	return !registry->unloading && registry->loading == 0 && registry->planning == 0;
}

/* true: its unload was decided. */
static bool expire(struct vac_registry *registry, struct vac_model *model)
{
	int64_t at_ns = vac_registry_expires_at_ns(model);

	/* An idle model whose unload must wait answers on meanwhile; the end of
	 * what it waits for wakes this up again. */
	if (at_ns > now(registry))
		registry->ops->wake_at(registry->ctx, at_ns);
	else if (at_ns >= 0 && may_unload(registry))
		return vac_registry_unload(registry, model, VAC_UNLOAD_IDLE, false, NULL);
	return false;
}

static void begin_unload(struct vac_registry *registry)
{
	struct vac_link *link = registry->active.first;

	if (!may_unload(registry))
		return;
	for (; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

		if (model->state != VAC_REGISTRY_DRAINING || model->running.count > 0)
			continue;
		model->unloading = true;
		registry->unloading = model;
		registry->ops->unload(registry->ctx, model);
		return;
	}
}

void vac_registry_tick(struct vac_registry *registry)
{
	/* One that is decided is measured before the next. */
	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		if (expire(registry, VAC_MODEL_AT(link, active)))
			break;
	}
	vac_admission_advance(registry);
	begin_unload(registry);
}

bool vac_registry_load_waits(const struct vac_registry *registry, const struct vac_worker *worker)
{
	for (const struct vac_link *link = registry->active.first; link; link = link->next) {
		const struct vac_model *model = VAC_MODEL_AT(link, active);

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

	for (const struct vac_link *link = registry->active.first; link; link = link->next) {
		const struct vac_model *model = VAC_MODEL_AT(link, active);

		count += model->worker == worker && (model->state == VAC_REGISTRY_RESIDENT ||
						     model->state == VAC_REGISTRY_DRAINING);
	}
	return count;
}

void vac_registry_close(struct vac_registry *registry)
{
	struct vac_error why;

	registry->closed = true;
	vac_fail(&why, VAC_E_GONE, "the server is shutting down");
	for (struct vac_link *link = registry->active.first, *next; link; link = next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

		next = link->next;
		if (model->state == VAC_REGISTRY_DRAINING || model->load_held)
			fail_waiting(registry, model, &why);
		if (!model->load_held)
			continue;
		vac_admission_leave(registry, model);
		deactivate(registry, model, VAC_REGISTRY_ABSENT);
		note_absent(registry, model, NULL);
		clear_unload(model);
		tell_watches(model, NULL);
	}
}
