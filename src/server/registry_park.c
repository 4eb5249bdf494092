/*
 * registry_park.c - workers that leave their GPU with all their models, and come back:
 * when that may begin, who waits for it, and what it means for unloads. Part of the
 * registry; the loop's thread only.
 */
#include <assert.h>

#include "server/admission.h"
#include "server/registry_private.h"

/* The next model on the worker of one: the first after NULL. */
static struct vac_model *mate(const struct vac_registry *registry, const struct vac_model *model,
			      const struct vac_model *after)
{
	struct vac_link *link = after ? after->active.next : registry->active.first;

	while (link && !vac_registry_shares(VAC_MODEL_AT(link, active), model))
		link = link->next;
	return VAC_MODEL_AT(link, active);
}

static void tell_park_watches(struct vac_model *model, const struct vac_error *why)
{
	struct vac_park_watch *watch = model->park_watches;

	model->park_watches = NULL;
	while (watch) {
		struct vac_park_watch *next = watch->next;

		watch->done(watch, why);
		watch = next;
	}
}

void vac_registry_unwatch_park(struct vac_registry *registry, struct vac_park_watch *watch)
{
	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

		for (struct vac_park_watch **at = &model->park_watches; *at; at = &(*at)->next) {
			if (*at == watch) {
				*at = watch->next;
				return;
			}
		}
	}
}

/* ---- off the GPU ---- */

static int refuse(const struct vac_model *model, struct vac_error *err)
{
	switch (model->state) {
	case VAC_REGISTRY_LOADING:
	case VAC_REGISTRY_PARKED: /* another one of its worker is restoring */
		return vac_fail(err, VAC_E_BUSY, "model %.200s is %s; park it when it is resident",
				model->name,
				model->restoring || model->state == VAC_REGISTRY_PARKED
					? "coming back to its GPU"
					: "being loaded");
	case VAC_REGISTRY_DRAINING:
		return vac_fail(err, VAC_E_BUSY, "model %.200s is being unloaded", model->name);
	default:
		return vac_fail(err, VAC_E_INVALID,
				"model %.200s is not loaded, so it holds nothing that could be "
				"parked",
				model->name);
	}
}

static bool is_restoring(const struct vac_registry *registry, const struct vac_model *model)
{
	struct vac_model *other;

	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->restoring)
			return true;
	}
	return false;
}

static void enter_parking(struct vac_registry *registry, struct vac_model *model)
{
	model->state = VAC_REGISTRY_PARKING;
	model->device->parking++;
	vac_admission_used(registry, model);
}

static void leave_parking(struct vac_model *model)
{
	assert(model->device->parking > 0);
	model->device->parking--;
	model->state = VAC_REGISTRY_RESIDENT;
}

int vac_registry_park(struct vac_registry *registry, struct vac_model *model,
		      struct vac_park_watch *watch, struct vac_error *err)
{
	struct vac_model *other;

	if (registry->closed)
		return vac_fail(err, VAC_E_GONE, "the server is shutting down");
	if (model->state == VAC_REGISTRY_PARKED && !is_restoring(registry, model))
		return 1;
	if (model->state != VAC_REGISTRY_RESIDENT && model->state != VAC_REGISTRY_PARKING)
		return refuse(model, err);
	if (!model->device->budget.on_device)
		return vac_fail(
			err, VAC_E_UNSUPPORTED,
			"model %.200s is on %s and holds no VRAM; `vacate unload` gives its "
			"RAM back",
			model->name, model->device->name);
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->state == VAC_REGISTRY_RESIDENT)
			enter_parking(registry, other);
	}
	if (watch) {
		watch->next = model->park_watches;
		model->park_watches = watch;
	}
	vac_registry_wake_now(registry);
	return 0;
}

void vac_registry_join_park(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_model *other;

	if (model->state != VAC_REGISTRY_RESIDENT)
		return;
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->state != VAC_REGISTRY_PARKING)
			continue;
		enter_parking(registry, model);
		return;
	}
}

/* Everything on the worker has come to an end. */
static bool may_park(struct vac_registry *registry, const struct vac_model *model)
{
	struct vac_model *other;

	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->state != VAC_REGISTRY_PARKING || other->running.count > 0)
			return false;
	}
	return true;
}

void vac_registry_begin_park(struct vac_registry *registry, struct vac_device *device)
{
	if (device->parking == 0 || device->moving || device->unloading || device->held ||
	    device->loading > 0 || device->planning > 0)
		return;
	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);

		if (model->device != device || model->state != VAC_REGISTRY_PARKING ||
		    !may_park(registry, model))
			continue;
		device->moving = model;
		registry->ops->park(registry->ctx, model);
		return;
	}
}

void vac_registry_parked(struct vac_registry *registry, struct vac_model *model, uint64_t bytes,
			 uint64_t return_bytes)
{
	struct vac_model *other;

	assert(model->state == VAC_REGISTRY_PARKING && model->device->moving == model);
	model->device->moving = NULL;
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->state != VAC_REGISTRY_PARKING)
			continue;
		leave_parking(other);
		other->state = VAC_REGISTRY_PARKED;
		other->parked_bytes = bytes;
		other->return_bytes = return_bytes;
		vac_budget_remove(&other->device->budget, &other->charge);
		vac_registry_note(
			registry, other,
			&(struct vac_event){.kind = VAC_EVENT_MODEL_PARKED, .bytes = bytes});
	}
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		tell_park_watches(other, NULL);
	}
	/* Who asked meanwhile. */
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->waiting.count > 0)
			vac_registry_recall(registry, other);
	}
	vac_registry_wake_now(registry);
}

/* It answers, unless it is to leave. */
static void settle(struct vac_registry *registry, struct vac_model *model)
{
	model->state = model->unload_wanted ? VAC_REGISTRY_DRAINING : VAC_REGISTRY_RESIDENT;
	if (model->unload_wanted) {
		vac_budget_leave(&model->device->budget, &model->charge);
		vac_registry_note_draining(registry, model);
	}
}

void vac_registry_not_parked(struct vac_registry *registry, struct vac_model *model,
			     const struct vac_error *why)
{
	const struct vac_error copy = vac_registry_as_told(why);
	struct vac_model *other;

	assert(model->state == VAC_REGISTRY_PARKING && model->device->moving == model);
	model->device->moving = NULL;
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->state != VAC_REGISTRY_PARKING)
			continue;
		leave_parking(other);
		settle(registry, other);
	}
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		tell_park_watches(other, &copy);
		vac_registry_serve(registry, other);
	}
	vac_registry_wake_now(registry);
}

/* ---- back to the GPU ---- */

static void begin_restore(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_budget *budget = &model->device->budget;
	uint64_t bytes = model->return_bytes, limit;

	/* It was there: what its context took beyond the plans is no reason to refuse it. */
	if (vac_budget_limit(budget, &limit) && bytes > limit)
		bytes = limit;
	model->state = VAC_REGISTRY_LOADING;
	model->restoring = true;
	model->load_losses = model->load_tries = 0;
	model->done_bytes = model->total_bytes = 0;
	model->load_asked_ns = vac_registry_now(registry);
	model->charge.own_bytes = bytes;
	model->charge.scratch_bytes = model->charge.load_bytes = 0;
	model->charge.whole = true;
	vac_admission_enter(registry, model, false);
	vac_registry_wake_now(registry);
}

void vac_registry_recall(struct vac_registry *registry, struct vac_model *model)
{
	if (model->state == VAC_REGISTRY_PARKED && !registry->closed &&
	    !is_restoring(registry, model))
		begin_restore(registry, model);
}

bool vac_registry_is_recalled(const struct vac_registry *registry, const struct vac_model *model)
{
	struct vac_model *other;

	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->waiting.count > 0 || other->unload_wanted)
			return true;
	}
	return false;
}

/* Whatever its restore was at, it is not any more. */
static void stop_restoring(struct vac_registry *registry, struct vac_model *model)
{
	if (model->load_asked)
		model->device->loading--;
	model->load_asked = model->restoring = model->charge.whole = false;
	if (model->device->moving == model)
		model->device->moving = NULL;
	vac_admission_leave(registry, model);
	vac_budget_remove(&model->device->budget, &model->charge);
}

void vac_registry_stay_parked(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why)
{
	struct vac_model *other;
	const struct vac_model *leaves = NULL;

	assert(model->restoring);
	stop_restoring(registry, model);
	model->state = VAC_REGISTRY_PARKED;
	vac_registry_note(
		registry, model,
		&(struct vac_event){.kind = VAC_EVENT_MODEL_PARKED, .bytes = model->parked_bytes});
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->unload_wanted)
			leaves = other;
		if (why)
			vac_registry_fail_waiting(registry, other, why);
	}
	/* One that is to leave and cannot come back for it takes the others along. */
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (why && leaves)
			vac_registry_unload(registry, other, leaves->reason, false, NULL);
	}
	vac_registry_wake_now(registry);
}

/* One model of several left its parked worker, which came back for that alone: the others
 * go again. */
static bool goes_again(const struct vac_registry *registry, const struct vac_model *model)
{
	struct vac_model *other;
	bool leaves = false;

	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->waiting.count > 0)
			return false;
		leaves |= other->unload_wanted;
	}
	return leaves && !registry->closed;
}

static void comes_back(struct vac_registry *registry, struct vac_model *model, int64_t asked_ns)
{
	struct vac_device *device = model->device;

	if (device->limited) {
		vac_charge_plan(&device->budget, &model->charge, &model->info.plan);
		vac_budget_add(&device->budget, &model->charge);
		vac_budget_settle(&device->budget, &model->charge, &model->info.plan);
	}
	model->resident_ns = vac_registry_now(registry);
	model->admitted_ns = asked_ns;
	model->decided_ns = model->unload_wanted ? model->resident_ns : model->decided_ns;
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_RESIDENT,
					      .bytes = model->info.ledger_bytes,
					      .load_ns = model->resident_ns - asked_ns});
	settle(registry, model);
}

void vac_registry_restored(struct vac_registry *registry, struct vac_model *model)
{
	bool again = goes_again(registry, model);
	int64_t asked_ns = model->admitted_ns;
	struct vac_model *other;

	assert(model->restoring && model->load_asked);
	stop_restoring(registry, model);
	model->state = VAC_REGISTRY_PARKED;
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (other->state == VAC_REGISTRY_PARKED)
			comes_back(registry, other, asked_ns);
	}
	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (again && other->state == VAC_REGISTRY_RESIDENT)
			enter_parking(registry, other);
		vac_registry_serve(registry, other);
	}
	vac_registry_wake_now(registry);
}

void vac_registry_restore_refused(struct vac_registry *registry, struct vac_model *model,
				  const struct vac_error *why)
{
	const struct vac_error copy = vac_registry_as_told(why);
	uint32_t tries = model->load_tries + 1;

	assert(model->restoring && model->load_asked);
	if ((why->code == VAC_E_NO_ROOM || why->code == VAC_E_BUSY) && tries < VAC_MAX_TRIES &&
	    !registry->closed) {
		stop_restoring(registry, model);
		model->restoring = model->charge.whole = true;
		model->load_tries = tries;
		vac_admission_enter(registry, model, true);
		model->plan_known = false; /* planning begins with a reading */
		vac_registry_wake_now(registry);
		return;
	}
	vac_registry_stay_parked(registry, model, &copy);
}

/* ---- away ---- */

void vac_registry_unpark(struct vac_registry *registry, struct vac_model *model)
{
	const struct vac_model *moving = model->device->moving;
	struct vac_error why;

	(void)registry;
	if (model->state != VAC_REGISTRY_PARKING || (moving && vac_registry_shares(moving, model)))
		return;
	leave_parking(model);
	vac_fail(&why, VAC_E_CANCELLED, "model %.200s is being unloaded", model->name);
	tell_park_watches(model, &why);
}

void vac_registry_park_over(struct vac_registry *registry, struct vac_model *model,
			    const struct vac_error *why)
{
	/* A reading for its plan, which nobody waits for any more. */
	if (model->restoring || model->state == VAC_REGISTRY_PARKED) {
		if (model->plan_asked)
			model->device->planning--;
		model->plan_asked = false;
	}
	if (model->state == VAC_REGISTRY_PARKING)
		leave_parking(model);
	if (model->device->moving == model)
		model->device->moving = NULL;
	if (model->restoring)
		stop_restoring(registry, model);
	tell_park_watches(model, why);
}

int64_t vac_registry_parked_until_ns(const struct vac_registry *registry,
				     const struct vac_model *model)
{
	int64_t latest_ns = 0;
	struct vac_model *other;

	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		int64_t at_ns = vac_registry_expires_at_ns(other);

		if (at_ns < 0 || other->waiting.count > 0)
			return -1;
		if (at_ns > latest_ns)
			latest_ns = at_ns;
	}
	return latest_ns;
}

/* All models on the worker are to leave: nothing is lost with it. */
static bool all_leave(const struct vac_registry *registry, const struct vac_model *model)
{
	struct vac_model *other;

	for (other = mate(registry, model, NULL); other; other = mate(registry, model, other)) {
		if (!other->unload_wanted || other->plan_asked || other->load_asked)
			return false;
	}
	return true;
}

static void leave(struct vac_registry *registry, struct vac_model *model)
{
	if (model->restoring)
		stop_restoring(registry, model);
	model->state = VAC_REGISTRY_DRAINING;
	model->ends_worker = true;
	vac_registry_note_draining(registry, model);
}

void vac_registry_settle_parked(struct vac_registry *registry, struct vac_device *device)
{
	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active), *other;

		if (model->device != device || !model->unload_wanted ||
		    (model->state != VAC_REGISTRY_PARKED && !model->restoring))
			continue;
		if (!all_leave(registry, model)) {
			vac_registry_recall(registry, model);
			continue;
		}
		for (other = mate(registry, model, NULL); other;
		     other = mate(registry, model, other)) {
			leave(registry, other);
		}
	}
}
