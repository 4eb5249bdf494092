/*
 * registry_unload.c - how models leave: unloads one at a time, the deaths of
 * workers, and what the clock decides. Part of the registry; the loop's thread
 * only.
 */
#include <assert.h>
#include <string.h>

#include "server/admission.h"
#include "server/registry_private.h"

/* ---- unloads ---- */

void vac_registry_tell_watches(struct vac_model *model, const struct vac_receipt *receipt)
{
	struct vac_watch *watch = model->watches;

	model->watches = NULL;
	while (watch) {
		struct vac_watch *next = watch->next;

		watch->done(watch, receipt);
		watch = next;
	}
}

void vac_registry_clear_unload(struct vac_model *model)
{
	model->unload_wanted = model->unloading = model->drop_cache = false;
	model->ends_worker = false;
}

bool vac_registry_unload(struct vac_registry *registry, struct vac_model *model,
			 enum vac_unload_reason reason, bool drop_cache, struct vac_watch *watch)
{
	if (!vac_model_active(model))
		return false;
	if (!model->unload_wanted) {
		model->unload_wanted = true;
		model->reason = reason;
		model->decided_ns = vac_registry_now(registry);
		vac_registry_unpark(registry, model);
		if (model->state == VAC_REGISTRY_RESIDENT) {
			model->state = VAC_REGISTRY_DRAINING;
			vac_registry_note_draining(registry, model);
		}
		vac_admission_used(registry, model);
		vac_budget_leave(&model->device->budget, &model->charge);
	}
	model->drop_cache = model->drop_cache || drop_cache;
	if (watch) {
		watch->next = model->watches;
		model->watches = watch;
	}
	vac_registry_wake_now(registry);
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

/* Who asked for a parked model to come back, and for no more. */
static void refuse_resumes(struct vac_registry *registry, struct vac_model *model,
			   const struct vac_error *why)
{
	for (struct vac_waiter *waiter = model->waiting.first, *next; waiter; waiter = next) {
		next = waiter->next;
		if (waiter->resume_only)
			vac_registry_finish(registry, waiter, why);
	}
}

/* The model's bytes are gone. Who waited meanwhile loads it again. */
static void left(struct vac_registry *registry, struct vac_model *model,
		 const struct vac_receipt *receipt)
{
	/* Not by anybody's wish: what is pinned comes back. */
	bool comes_back = model->settings.pin && (receipt->reason == VAC_UNLOAD_WORKER_DIED ||
						  receipt->reason == VAC_UNLOAD_SETTINGS);
	bool homeless = model->homeless;
	struct vac_error why;

	if (model->device->unloading == model)
		model->device->unloading = NULL;
	vac_budget_remove(&model->device->budget, &model->charge);
	vac_registry_deactivate(registry, model,
				model->set_aside ? VAC_REGISTRY_FAILED : VAC_REGISTRY_ABSENT);
	model->worker = NULL;
	vac_registry_note_absent(registry, model, receipt);
	vac_registry_clear_unload(model);
	vac_registry_tell_watches(model, receipt);
	vac_registry_wake_now(registry);
	vac_fail(&why, VAC_E_CANCELLED, "model %.200s was unloaded before it was back on its GPU",
		 model->name);
	refuse_resumes(registry, model, &why);
	if (model->set_aside)
		vac_registry_fail_waiting(registry, model, &model->failure);
	else if (homeless && vac_registry_find_home(registry, model, &why) < 0)
		vac_registry_fail_waiting(registry, model, &why);
	else if (!vac_model_active(model) && !registry->closed &&
		 (model->waiting.count > 0 || comes_back))
		vac_registry_begin_load(registry, model);
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
	return model->worker == worker && !model->restoring &&
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
	vac_registry_note_why(registry, model, VAC_EVENT_SET_ASIDE, &model->failure);
}

static void died(struct vac_registry *registry, struct vac_model *model,
		 const struct vac_error *why)
{
	struct vac_receipt receipt;

	vac_registry_park_over(registry, model, why);
	refuse_resumes(registry, model, why);
	/* decided_ns of an unload that had no time to start stays. */
	if (!model->unload_wanted)
		model->decided_ns = vac_registry_now(registry);
	/* It left with the model for whose unload the worker was ended. */
	if (!model->ends_worker)
		model->reason = VAC_UNLOAD_WORKER_DIED;
	memset(&receipt, 0, sizeof(receipt));
	registry->ops->died(registry->ctx, model, &receipt);
	receipt.reason = model->reason;
	left(registry, model, &receipt);
}

/* Its worker has its bytes, or had them on a GPU. */
static bool lives_there(const struct vac_model *model)
{
	return model->state == VAC_REGISTRY_RESIDENT || model->state == VAC_REGISTRY_DRAINING ||
	       model->state == VAC_REGISTRY_PARKING || model->state == VAC_REGISTRY_PARKED ||
	       model->restoring;
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
		if (!model->unloading && lives_there(model))
			died(registry, model, why);
	}
	vac_admission_advance(registry);
}

/* ---- time ---- */

int64_t vac_registry_expires_at_ns(const struct vac_model *model)
{
	if ((model->state != VAC_REGISTRY_RESIDENT && model->state != VAC_REGISTRY_PARKED) ||
	    model->running.count > 0 || model->unload_wanted || model->keep_alive_ms < 0 ||
	    model->settings.pin)
		return -1;
	/* A keep_alive beyond the clock's range means for ever. */
	if (model->keep_alive_ms > (INT64_MAX - model->idle_since_ns) / NS_PER_MS)
		return -1;
	return model->idle_since_ns + model->keep_alive_ms * NS_PER_MS;
}

/* One at a time on a device, and never beside a load: its receipt measures a
 * whole process, and what another model takes meanwhile would be in it. */
static bool may_unload(const struct vac_device *device)
{
	return !device->unloading && !device->moving && device->loading == 0 &&
	       device->planning == 0;
}

/* What is parked together leaves together: its worker need not come back for it. */
static bool unload_parked(struct vac_registry *registry, const struct vac_model *model)
{
	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		struct vac_model *other = VAC_MODEL_AT(link, active);

		if (vac_registry_shares(other, model))
			vac_registry_unload(registry, other, VAC_UNLOAD_IDLE, false, NULL);
	}
	return true;
}

/* true: its unload was decided. */
static bool expire(struct vac_registry *registry, struct vac_model *model)
{
	int64_t at_ns = model->state == VAC_REGISTRY_PARKED
				? vac_registry_parked_until_ns(registry, model)
				: vac_registry_expires_at_ns(model);

	/* An idle model whose unload must wait answers on meanwhile; the end of
	 * what it waits for wakes this up again. */
	if (at_ns > vac_registry_now(registry))
		registry->ops->wake_at(registry->ctx, at_ns);
	else if (at_ns >= 0 && may_unload(model->device) && model->state == VAC_REGISTRY_PARKED)
		return unload_parked(registry, model);
	else if (at_ns >= 0 && may_unload(model->device))
		return vac_registry_unload(registry, model, VAC_UNLOAD_IDLE, false, NULL);
	return false;
}

/* One that is decided is measured before the next. */
static void expire_one(struct vac_registry *registry, const struct vac_device *device)
{
	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

		if (model->device == device && expire(registry, model))
			return;
	}
}

static void begin_unload(struct vac_registry *registry, struct vac_device *device)
{
	struct vac_link *link = registry->active.first;

	if (!may_unload(device))
		return;
	for (; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

		if (model->device != device || model->state != VAC_REGISTRY_DRAINING ||
		    model->running.count > 0)
			continue;
		model->unloading = true;
		device->unloading = model;
		registry->ops->unload(registry->ctx, model);
		return;
	}
}

void vac_registry_tick(struct vac_registry *registry)
{
	for (uint32_t i = 0; i < registry->device_count; i++)
		expire_one(registry, &registry->devices[i]);
	vac_admission_advance(registry);
	for (uint32_t i = 0; i < registry->device_count; i++)
		vac_registry_settle_parked(registry, &registry->devices[i]);
	for (uint32_t i = 0; i < registry->device_count; i++) {
		begin_unload(registry, &registry->devices[i]);
		vac_registry_begin_park(registry, &registry->devices[i]);
	}
}

/* Its load would be given to the worker of that device and owner. */
static bool belongs(const struct vac_model *model, const struct vac_device *on, bool isolated,
		    const char *device, const char *owner)
{
	if (!on || strcmp(on->name, device) != 0 || isolated != (owner != NULL))
		return false;
	return !owner || strcmp(owner, model->name) == 0;
}

bool vac_registry_load_waits(const struct vac_registry *registry, const struct vac_worker *worker,
			     const char *device, const char *owner)
{
	for (const struct vac_link *link = registry->active.first; link; link = link->next) {
		const struct vac_model *model = VAC_MODEL_AT(link, active);

		if (model->state == VAC_REGISTRY_LOADING &&
		    (model->worker == worker ||
		     (model->load_held && !model->restoring &&
		      belongs(model, model->device, model->isolated, device, owner))))
			return true;
		if (model->state == VAC_REGISTRY_DRAINING && model->waiting.count > 0 &&
		    belongs(model, vac_registry_device(registry, model->settings.device),
			    model->settings.isolate, device, owner))
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

		count += model->worker == worker && lives_there(model);
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
		if (model->state != VAC_REGISTRY_LOADING || model->load_held)
			vac_registry_fail_waiting(registry, model, &why);
		if (model->load_held && model->restoring)
			vac_registry_stay_parked(registry, model, NULL);
		if (!model->load_held)
			continue;
		vac_admission_leave(registry, model);
		vac_registry_deactivate(registry, model, VAC_REGISTRY_ABSENT);
		vac_registry_note_absent(registry, model, NULL);
		vac_registry_clear_unload(model);
		vac_registry_tell_watches(model, NULL);
	}
}
