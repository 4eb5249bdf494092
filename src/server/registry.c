/*
 * registry.c - the states of models and the calls that wait for them. Pure
 * logic over a table of operations. One thread.
 */
#include <assert.h>

#include "server/admission.h"
#include "server/registry_private.h"

void vac_registry_init(struct vac_registry *registry, const struct vac_registry_ops *ops, void *ctx,
		       const struct vac_registry_options *options, struct vac_device *devices,
		       uint32_t device_count)
{
	assert(device_count > 0);
	*registry = (struct vac_registry){
		.ops = ops,
		.ctx = ctx,
		.options = *options,
		.devices = devices,
		.device_count = device_count,
		.next_wire_id = 1,
	};
}

/* ---- telling ---- */

void vac_registry_note(const struct vac_registry *registry, const struct vac_model *model,
		       const struct vac_event *event)
{
	struct vac_event told = *event;

	if (!registry->ops->noted)
		return;
	told.at_ns = vac_registry_now(registry);
	told.model = model->name;
	told.device = model->device->name;
	registry->ops->noted(registry->ctx, &told);
}

void vac_registry_note_absent(const struct vac_registry *registry, const struct vac_model *model,
			      const struct vac_receipt *receipt)
{
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_ABSENT,
					      .reason = receipt ? receipt->reason : 0,
					      .receipt = receipt});
}

void vac_registry_note_why(const struct vac_registry *registry, const struct vac_model *model,
			   enum vac_event_kind kind, const struct vac_error *why)
{
	vac_registry_note(registry, model, &(struct vac_event){.kind = kind, .why = why});
}

void vac_registry_note_draining(const struct vac_registry *registry, const struct vac_model *model)
{
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_DRAINING, .reason = model->reason});
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
	model->idle_since_ns = vac_registry_now(registry);
	vac_admission_used(registry, model);
	/* Its unload may begin, or somebody waits for it to become idle. */
	if (model->state == VAC_REGISTRY_DRAINING || model->state == VAC_REGISTRY_PARKING ||
	    model->device->line.count > 0)
		vac_registry_wake_now(registry);
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

void vac_registry_begin_load(struct vac_registry *registry, struct vac_model *model)
{
	vac_registry_place(registry, model);
	model->state = VAC_REGISTRY_LOADING;
	vac_list_prepend(&registry->active, &model->active);
	model->failure.code = VAC_OK;
	model->keep_alive_ms = model->settings.keep_alive_ms;
	model->load_losses = model->load_tries = 0;
	model->placed_again = false;
	model->requests = 0;
	model->done_bytes = model->total_bytes = 0;
	model->load_asked_ns = vac_registry_now(registry);
	if (model->evicted_ns > 0 &&
	    model->load_asked_ns - model->evicted_ns < VAC_QUICK_RELOAD_MS * NS_PER_MS)
		model->device->quick_reloads++;
	vac_admission_enter(registry, model, false);
	vac_registry_wake_now(registry);
}

void vac_registry_start_over(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_error why;

	if (model->homeless && vac_registry_find_home(registry, model, &why) < 0) {
		model->changed = false;
		vac_registry_load_failed(registry, model, &why);
		return;
	}
	vac_admission_leave(registry, model);
	vac_registry_place(registry, model);
	vac_admission_enter(registry, model, false);
	vac_registry_wake_now(registry);
}

/* Whatever its load was at, it is not any more. */
static void stop_loading(struct vac_registry *registry, struct vac_model *model)
{
	if (model->load_asked)
		model->device->loading--;
	if (model->plan_asked)
		model->device->planning--;
	model->load_asked = model->plan_asked = false;
	vac_admission_leave(registry, model);
	vac_budget_remove(&model->device->budget, &model->charge);
	model->worker = NULL;
	vac_registry_wake_now(registry); /* unloads that waited for it */
}

void vac_registry_deactivate(struct vac_registry *registry, struct vac_model *model,
			     enum vac_registry_state state)
{
	model->state = state;
	model->homeless = false;
	vac_list_drop(&model->active);
	vac_admission_used(registry, model);
}

/* Somebody asks for it by name: it may try again. */
static void forgive(struct vac_model *model)
{
	model->set_aside = false;
	model->strikes = 0;
}

static int refuse_call(const struct vac_registry *registry, const struct vac_model *model,
		       const struct vac_error *why, struct vac_error *err)
{
	vac_registry_note_why(registry, model, VAC_EVENT_REFUSED, why);
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
	if (!vac_model_active(model)) {
		vac_registry_begin_load(registry, model);
		vac_admission_advance(registry);
	} else if (model->state == VAC_REGISTRY_PARKED) {
		vac_registry_recall(registry, model);
		vac_admission_advance(registry);
	}
	return 0;
}

bool vac_registry_drop(struct vac_registry *registry, struct vac_model *model)
{
	if (!model->load_held || vac_shortage_none(model->shortage) || model->plan_asked ||
	    model->waiting.count > 0 || model->settings.pin)
		return false;
	if (model->restoring) {
		if (vac_registry_is_recalled(registry, model))
			return false;
		vac_registry_stay_parked(registry, model, NULL);
		return true;
	}
	stop_loading(registry, model);
	vac_registry_deactivate(registry, model, VAC_REGISTRY_ABSENT);
	vac_registry_note_absent(registry, model, NULL);
	vac_registry_clear_unload(model);
	vac_registry_tell_watches(model, NULL);
	vac_registry_wake_now(registry);
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
	if (!vac_model_active(model)) {
		vac_registry_begin_load(registry, model);
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

void vac_registry_loaded(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_model_info *info)
{
	assert(model->state == VAC_REGISTRY_LOADING && model->load_asked);
	model->load_asked = false;
	model->device->loading--;
	vac_budget_settle(&model->device->budget, &model->charge, &info->plan);
	model->info = *info;
	model->resident_ns = vac_registry_now(registry);
	model->load_ns = model->resident_ns - model->load_asked_ns;
	model->loads++;
	/* An unload was decided while it loaded: who waits is answered first, and
	 * the unload counts from now on. */
	model->state = model->unload_wanted ? VAC_REGISTRY_DRAINING : VAC_REGISTRY_RESIDENT;
	if (model->unload_wanted) {
		model->decided_ns = model->resident_ns;
		vac_budget_leave(&model->device->budget, &model->charge);
	}
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_RESIDENT,
					      .bytes = info->ledger_bytes,
					      .load_ns = model->load_ns});
	if (model->unload_wanted)
		vac_registry_note_draining(registry, model);
	vac_registry_serve(registry, model);
	vac_registry_join_park(registry, model);
	vac_registry_wake_now(registry); /* unloads that waited for this load */
}

void vac_registry_serve(struct vac_registry *registry, struct vac_model *model)
{
	uint32_t count = model->waiting.count;

	rest(registry, model);
	/* Those that are here now; a run that fails at once may end the state. */
	while (count-- > 0 && model->waiting.first &&
	       (model->state == VAC_REGISTRY_RESIDENT || model->state == VAC_REGISTRY_DRAINING)) {
		struct vac_waiter *waiter = model->waiting.first;

		unlink_waiter(waiter);
		run(registry, model, waiter);
	}
}

void vac_registry_finish(struct vac_registry *registry, struct vac_waiter *waiter,
			 const struct vac_error *why)
{
	unlink_waiter(waiter);
	registry->ops->finish(registry->ctx, waiter, why);
}

void vac_registry_fail_waiting(struct vac_registry *registry, struct vac_model *model,
			       const struct vac_error *why)
{
	while (model->waiting.first)
		vac_registry_finish(registry, model->waiting.first, why);
}

/* The plan's answer came after the end had begun: nobody needs it. */
static bool plan_is_stale(struct vac_registry *registry, struct vac_model *model)
{
	if (model->state == VAC_REGISTRY_LOADING)
		return false;
	assert(model->plan_asked);
	model->plan_asked = false;
	if (!vac_model_active(model)) /* else it is parked still */
		model->worker = NULL;
	model->device->planning--;
	vac_registry_wake_now(registry);
	return true;
}

bool vac_registry_moved(struct vac_registry *registry, struct vac_model *model)
{
	/* What was given up, or is parked, vac_registry_planned() is to hear of. */
	if (model->state != VAC_REGISTRY_LOADING || model->restoring || model->changed ||
	    model->placed_again || !model->settings.device ||
	    strcmp(model->settings.device, "auto") != 0 ||
	    vac_registry_device(registry, "auto") == model->device)
		return false;
	/* Two that are as full are not gone to and fro between. */
	model->placed_again = true;
	model->plan_asked = false;
	model->device->planning--;
	vac_registry_start_over(registry, model);
	vac_admission_advance(registry);
	return true;
}

void vac_registry_planned(struct vac_registry *registry, struct vac_model *model,
			  const struct vac_plan *plan)
{
	if (plan_is_stale(registry, model))
		return;
	assert(model->plan_asked && model->load_held);
	model->plan_asked = false;
	model->device->planning--;
	vac_registry_wake_now(registry); /* unloads that waited for this plan */
	if (model->restoring) {          /* what it takes is known, and now what is free, too */
		model->plan_known = true;
		vac_admission_advance(registry);
		return;
	}
	model->worker = NULL; /* the one that planned need not be the one that loads */
	if (model->changed) {
		vac_registry_start_over(registry, model);
		vac_admission_advance(registry);
		return;
	}
	model->plan_known = true;
	vac_charge_plan(&model->device->budget, &model->charge, plan);
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
	if (model->changed)
		vac_registry_start_over(registry, model);
	else
		vac_admission_enter(registry, model, true);
	vac_admission_advance(registry);
	return true;
}

bool vac_registry_load_lacked(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why)
{
	const struct vac_device *device = model->device;

	if (!model->load_asked || !device->limited || !device->budget.on_device)
		return false;
	model->load_tries++;
	if ((why->code != VAC_E_NO_ROOM && why->code != VAC_E_BUSY) ||
	    model->load_tries >= VAC_MAX_TRIES || model->set_aside || registry->closed)
		return false;
	stop_loading(registry, model);
	if (model->changed) {
		vac_registry_start_over(registry, model);
	} else {
		vac_admission_enter(registry, model, true);
		model->plan_known = false; /* planning begins with a reading */
	}
	vac_admission_advance(registry);
	return true;
}

/* why may live in something that ends with its model: this is a copy. */
struct vac_error vac_registry_as_told(const struct vac_error *why)
{
	struct vac_error told = *why;

	if (told.code == VAC_E_BUSY)
		told.code = VAC_E_NO_ROOM;
	return told;
}

void vac_registry_load_failed(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why)
{
	struct vac_error copy = vac_registry_as_told(why);

	if (plan_is_stale(registry, model))
		return;
	if (model->restoring) {
		vac_registry_stay_parked(registry, model, &copy);
		return;
	}
	stop_loading(registry, model);
	/* A plan with settings that do not hold any more failed. */
	if (model->changed && !model->set_aside && !registry->closed) {
		vac_registry_start_over(registry, model);
		return;
	}
	vac_registry_deactivate(registry, model, VAC_REGISTRY_FAILED);
	if (model->set_aside)
		copy = model->failure; /* says more */
	model->failure = copy;
	model->load_failures++;
	vac_registry_note_why(registry, model, VAC_EVENT_FAILED, &copy);
	vac_registry_clear_unload(model);
	vac_registry_tell_watches(model, NULL);
	vac_registry_fail_waiting(registry, model, &copy);
	vac_registry_wake_now(registry);
}

void vac_registry_refuse(struct vac_registry *registry, struct vac_model *model,
			 const struct vac_error *why)
{
	if (model->state == VAC_REGISTRY_LOADING && model->load_held && !model->plan_asked)
		vac_admission_refuse(registry, model, why);
}
