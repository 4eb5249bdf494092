/* admission.c - the line of loads and who makes way for them. The loop's thread only. */
#include "server/admission.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "server/registry_private.h"

#define NEVER INT64_MAX
/* Of a set of models that would make room, so many are looked at whether they
 * could stay. */
#define SPARE_TRIES 64

static void wake_at(struct vac_registry *registry, int64_t at_ns)
{
	registry->ops->wake_at(registry->ctx, at_ns);
}

/* ---- lists ---- */

/* A load in line lets one with a higher priority pass, but not for ever. */
static bool lets_pass(const struct vac_registry *registry, const struct vac_model *waits,
		      const struct vac_model *model)
{
	if (waits->settings.priority == model->settings.priority)
		return waits->load_asked_ns > model->load_asked_ns;
	return waits->settings.priority < model->settings.priority &&
	       vac_registry_now(registry) - waits->load_asked_ns < VAC_PATIENCE_MS * NS_PER_MS;
}

static void stand_in_line(const struct vac_registry *registry, struct vac_model *model)
{
	struct vac_list *line = &model->device->line;
	struct vac_link *after;

	vac_list_drop(&model->line);
	after = line->last;
	while (after && lets_pass(registry, VAC_MODEL_AT(after, line), model))
		after = after->prev;
	vac_list_insert(line, after, &model->line);
}

void vac_admission_enter(struct vac_registry *registry, struct vac_model *model, bool first)
{
	model->load_held = true;
	/* The first try's plan stands. */
	model->plan_known = first && model->plan_known;
	model->shortage = (struct vac_shortage){0};
	model->waiting_noted = false;
	if (first)
		vac_list_prepend(&model->device->line, &model->line);
	else
		stand_in_line(registry, model);
}

void vac_admission_leave(struct vac_registry *registry, struct vac_model *model)
{
	(void)registry;
	model->load_held = false;
	vac_list_drop(&model->line);
}

/* a makes way before b does. */
static bool goes_first(const struct vac_model *a, const struct vac_model *b)
{
	if (a->settings.priority != b->settings.priority)
		return a->settings.priority < b->settings.priority;
	return a->use_order < b->use_order;
}

/* From the end, where the model that was used last belongs: it passes only those
 * of a higher priority. */
static void relist(struct vac_model *model)
{
	struct vac_device *device = model->device;
	struct vac_list *list = model->running.count > 0 ? &device->busy : &device->idle;
	struct vac_link *after;

	vac_list_drop(&model->use);
	if (model->state != VAC_REGISTRY_RESIDENT || model->settings.pin)
		return;
	after = list->last;
	while (after && goes_first(model, VAC_MODEL_AT(after, use)))
		after = after->prev;
	vac_list_insert(list, after, &model->use);
}

void vac_admission_used(struct vac_registry *registry, struct vac_model *model)
{
	model->use_order = registry->next_use++;
	relist(model);
}

void vac_admission_sort(struct vac_registry *registry, struct vac_model *model)
{
	relist(model);
	if (model->load_held)
		stand_in_line(registry, model);
}

/* ---- who may be evicted, and when ---- */

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t turn_ends_at(const struct vac_registry *registry, const struct vac_model *model)
{
	int64_t load_ns = model->resident_ns - model->admitted_ns;

	return model->resident_ns +
	       later(registry->options.turn_ms * NS_PER_MS, VAC_TURN_LOADS * load_ns);
}

/* When the model may be made to leave, as long as nothing else changes. */
static int64_t evictable_at(const struct vac_registry *registry, const struct vac_model *model)
{
	int64_t at_ns = turn_ends_at(registry, model);
	int64_t linger_ns = model->idle_since_ns + VAC_LINGER_MS * NS_PER_MS;

	if (model->running.count == 0 && linger_ns < at_ns)
		at_ns = linger_ns;
	return later(at_ns, model->resident_ns + model->settings.min_resident_ms * NS_PER_MS);
}

/* A trial: which models would have to leave for a load. */
struct trial {
	struct vac_registry *registry;
	const struct vac_model *load;
	int64_t now_ns;
	int64_t soonest_ns;       /* when somebody else may leave */
	struct vac_model *marked; /* the last to go first; chained by weighed */
	uint64_t missing_bytes;   /* when all that may ever leave had left */
};

static bool suffices(const struct trial *trial)
{
	const struct vac_model *load = trial->load;

	return vac_shortage_none(vac_budget_shortage(&load->device->budget, &load->charge, true));
}

/* Marks models of a list as leaving until that suffices: those that may leave
 * now, or (at_any_time) the others. */
static bool mark(struct trial *trial, const struct vac_list *list, bool at_any_time)
{
	for (struct vac_link *link = list->first; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, use);
		int64_t at_ns = evictable_at(trial->registry, model);

		if (model->charge.leaving)
			continue;
		if (at_ns > trial->now_ns) {
			if (at_ns < trial->soonest_ns)
				trial->soonest_ns = at_ns;
			if (!at_any_time)
				continue;
		}
		vac_budget_leave(&model->device->budget, &model->charge);
		model->weighed = trial->marked;
		trial->marked = model;
		if (suffices(trial))
			return true;
	}
	return false;
}

/* Takes those out that need not leave. The last that was marked must: without
 * it there was not enough. Returns the first of the rest. */
static struct vac_model *spare(struct trial *trial)
{
	struct vac_model *victim = trial->marked;
	int tries = SPARE_TRIES;

	for (struct vac_model *model = victim->weighed; model; model = model->weighed) {
		if (tries-- > 0) {
			vac_budget_stay(&model->device->budget, &model->charge);
			if (suffices(trial))
				continue;
			vac_budget_leave(&model->device->budget, &model->charge);
		}
		victim = model;
	}
	return victim;
}

static void unmark(struct trial *trial)
{
	for (struct vac_model *model = trial->marked; model; model = model->weighed)
		vac_budget_stay(&model->device->budget, &model->charge);
	trial->marked = NULL;
}

enum way {
	WAY_EVICT,  /* the victim goes */
	WAY_WAIT,   /* enough is on its way, or will be allowed to go */
	WAY_NONE,   /* all of ours together are not enough: others hold memory */
	WAY_PINNED, /* ... or the pinned models hold the budget */
};

static enum way weigh(struct trial *trial, struct vac_model **victim)
{
	const struct vac_model *load = trial->load;
	const struct vac_device *device = load->device;
	enum way way;

	/* Somebody is leaving already: what that gives is measured first. */
	if (device->budget.leaving > 0)
		return WAY_WAIT;
	if (mark(trial, &device->idle, false) || mark(trial, &device->busy, false)) {
		*victim = spare(trial);
		way = WAY_EVICT;
	} else if (mark(trial, &device->idle, true) || mark(trial, &device->busy, true)) {
		way = WAY_WAIT;
	} else {
		struct vac_shortage shortage =
			vac_budget_shortage(&device->budget, &load->charge, true);

		trial->missing_bytes = shortage.measured_bytes;
		way = shortage.budget_bytes > 0 ? WAY_PINNED : WAY_NONE;
	}
	unmark(trial);
	return way;
}

/* ---- refusals ---- */

#define MIB(bytes) ((double)(bytes) / 1048576.0)

static bool can_never_fit(const struct vac_model *model)
{
	uint64_t limit;

	return vac_budget_limit(&model->device->budget, &limit) &&
	       vac_charge_bytes(&model->charge) > limit;
}

static void describe_need(const struct vac_model *model, char *to, size_t room)
{
	const struct vac_charge *need = &model->charge;

	snprintf(to, room, "%.1f MiB (%.1f its own, %.1f scratch, %.1f for a moment while loading)",
		 MIB(vac_charge_bytes(need)), MIB(need->own_bytes), MIB(need->scratch_bytes),
		 MIB(need->load_bytes));
}

void vac_admission_refuse(struct vac_registry *registry, struct vac_model *model,
			  const struct vac_error *why)
{
	model->device->refusals++;
	vac_registry_note_why(registry, model, VAC_EVENT_REFUSED, why);
	vac_registry_load_failed(registry, model, why);
}

static void refuse_for_ever(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_error why;
	uint64_t limit = 0;
	char need[128];

	vac_budget_limit(&model->device->budget, &limit);
	describe_need(model, need, sizeof(need));
	vac_fail(&why, VAC_E_NO_ROOM,
		 "model %.200s can never fit on %s: it takes %s, and the budget is %.1f MiB (%s, "
		 "less --headroom)",
		 model->name, model->device->name, need, MIB(limit), model->device->option);
	vac_admission_refuse(registry, model, &why);
}

static void refuse_without_device(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_error why;

	vac_registry_no_device(registry, model->name, model->settings.device, &why);
	vac_admission_refuse(registry, model, &why);
}

static bool stays(const struct vac_device *device, const struct vac_model *model)
{
	/* What is parked is in RAM. */
	return (model->device == device && model->settings.pin && model->charge.counted) ||
	       (!device->budget.on_device && model->state == VAC_REGISTRY_PARKED);
}

/* Names of what nothing makes leave a device: pinned, or parked into its memory. */
static void list_staying(const struct vac_registry *registry, const struct vac_device *device,
			 char *to, size_t room)
{
	size_t at = 0;

	for (struct vac_link *link = registry->active.first; link; link = link->next) {
		const struct vac_model *model = VAC_MODEL_AT(link, active);
		int n;

		if (!stays(device, model) || at + 4 >= room)
			continue;
		n = snprintf(to + at, room - at, "%s%.64s", at ? ", " : "", model->name);
		at += n > 0 ? (size_t)n : 0;
	}
}

static void refuse_for_pinned(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_error why;
	bool parked = model->device->budget.room.parked_bytes > 0;
	uint64_t limit = 0;
	char need[128], pinned[160] = "";

	vac_budget_limit(&model->device->budget, &limit);
	describe_need(model, need, sizeof(need));
	list_staying(registry, model->device, pinned, sizeof(pinned));
	vac_fail(&why, VAC_E_NO_ROOM,
		 "model %.100s takes %s of the %.1f MiB on %s, and what is %s (%s) leaves less; "
		 "unload %s or raise %s",
		 model->name, need, MIB(limit), model->device->name,
		 parked ? "pinned or parked" : "pinned", pinned,
		 parked ? "one of them" : "a pinned model", model->device->option);
	vac_admission_refuse(registry, model, &why);
}

void vac_admission_explain(const struct vac_registry *registry, const struct vac_model *model,
			   struct vac_error *err)
{
	double waited_s = (double)(vac_registry_now(registry) - model->load_asked_ns) / 1e9;
	const struct vac_budget *budget = &model->device->budget;
	uint64_t limit = 0, free_bytes = 0;
	char need[128];

	if (!model->load_held || !model->plan_known) {
		vac_fail(err, VAC_E_TIMEOUT,
			 "model %.200s was not resident within the request's time: its load began "
			 "%.1f s ago",
			 model->name, waited_s);
		return;
	}
	vac_budget_limit(budget, &limit);
	vac_budget_free(budget, &free_bytes);
	describe_need(model, need, sizeof(need));
	vac_fail(err, VAC_E_TIMEOUT,
		 "model %.100s waited %.1f s for room: it takes %s; of the budget of %.1f MiB %.1f "
		 "are taken, and %.1f MiB are free on %s beyond the headroom",
		 model->name, waited_s, need, MIB(limit), MIB(vac_budget_used(budget)),
		 MIB(free_bytes), model->device->name);
}

/* ---- the line ---- */

static void admit(struct vac_registry *registry, struct vac_model *model)
{
	vac_admission_leave(registry, model);
	if (model->device->limited)
		vac_budget_add(&model->device->budget, &model->charge);
	model->load_asked = true;
	model->device->loading++;
	model->admitted_ns = vac_registry_now(registry);
	if (model->restoring) {
		model->device->moving = model;
		vac_registry_note(registry, model, &(struct vac_event){.kind = VAC_EVENT_LOADING});
		registry->ops->restore(registry->ctx, model);
		return;
	}
	model->wire_id = registry->next_wire_id++;
	if (model->wire_id == 0) /* 0 is never a model */
		model->wire_id = registry->next_wire_id++;
	vac_registry_note(registry, model, &(struct vac_event){.kind = VAC_EVENT_LOADING});
	registry->ops->load(registry->ctx, model);
}

static void evict(struct vac_registry *registry, struct vac_model *victim,
		  const struct vac_model *load)
{
	victim->device->evictions++;
	victim->evicted_ns = vac_registry_now(registry);
	vac_registry_note(registry, victim,
			  &(struct vac_event){.kind = VAC_EVENT_EVICTED,
					      .reason = VAC_UNLOAD_EVICTED,
					      .bytes = victim->charge.own_bytes,
					      .for_model = load->name});
	vac_registry_unload(registry, victim, VAC_UNLOAD_EVICTED, false, NULL);
}

/* true: those behind it may be looked at. */
static bool make_room(struct vac_registry *registry, struct vac_model *model)
{
	struct trial trial = {.registry = registry,
			      .load = model,
			      .now_ns = vac_registry_now(registry),
			      .soonest_ns = NEVER};
	struct vac_model *victim = NULL;

	switch (weigh(&trial, &victim)) {
	case WAY_EVICT:
		evict(registry, victim, model);
		return false;
	case WAY_WAIT:
		if (trial.soonest_ns != NEVER)
			wake_at(registry, trial.soonest_ns);
		return false;
	case WAY_NONE:
		if (registry->ops->lacks)
			registry->ops->lacks(registry->ctx, model, trial.missing_bytes);
		wake_at(registry, trial.now_ns + VAC_ROOM_POLL_MS * NS_PER_MS);
		return true;
	case WAY_PINNED:
		refuse_for_pinned(registry, model);
		return true;
	}
	return true;
}

static void note_waiting(const struct vac_registry *registry, struct vac_model *model)
{
	if (model->waiting_noted)
		return;
	model->waiting_noted = true;
	vac_registry_note(registry, model,
			  &(struct vac_event){.kind = VAC_EVENT_WAITING,
					      .bytes = vac_charge_bytes(&model->charge)});
}

static bool look_at(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_device *device = model->device;

	if (model->no_device) {
		refuse_without_device(registry, model);
		return true;
	}
	/* The end of one lets the next go. */
	if (device->loading >= VAC_LOADS_AT_ONCE)
		return false;
	/* A restore whose room somebody takes under it would be the end of its worker. */
	if (device->moving || (model->restoring && (device->loading > 0 || device->planning > 0)))
		return false;
	if (!device->limited) {
		admit(registry, model);
		return true;
	}
	if (!model->plan_known)
		return false;
	vac_budget_measure(&device->budget, vac_registry_now(registry),
			   VAC_ROOM_AGE_MS * NS_PER_MS);
	if (can_never_fit(model)) {
		refuse_for_ever(registry, model);
		return true;
	}
	model->shortage = vac_budget_shortage(&device->budget, &model->charge, false);
	if (vac_shortage_none(model->shortage)) {
		admit(registry, model);
		return true;
	}
	if (vac_registry_drop(registry, model))
		return true;
	note_waiting(registry, model);
	/* A load's end tells what it took; until then nobody is made to leave. */
	if (device->loading > 0 || device->planning > 0)
		return false;
	return make_room(registry, model);
}

static void ask_plans(struct vac_registry *registry, struct vac_device *device)
{
	if (!device->limited)
		return;
	for (struct vac_link *link = device->line.first, *next; link; link = next) {
		struct vac_model *model = VAC_MODEL_AT(link, line);

		next = link->next;
		if (device->planning >= VAC_LOADS_AT_ONCE)
			return;
		if (model->plan_known || model->plan_asked || model->no_device)
			continue;
		model->plan_asked = true;
		device->planning++;
		registry->ops->plan(registry->ctx, model);
	}
}

static void advance(struct vac_registry *registry, struct vac_device *device)
{
	/* An unload is being measured: a load beside it would be measured with it.
	 * And operations that end at once call back. */
	if (device->advancing || device->unloading || device->held || device->stale ||
	    device->moving || device->parking > 0)
		return;
	device->advancing = true;
	ask_plans(registry, device);
	for (struct vac_link *link = device->line.first, *next; link; link = next) {
		next = link->next;
		if (!look_at(registry, VAC_MODEL_AT(link, line)))
			break;
	}
	device->advancing = false;
}

void vac_admission_advance(struct vac_registry *registry)
{
	for (uint32_t i = 0; i < registry->device_count; i++)
		advance(registry, &registry->devices[i]);
}
