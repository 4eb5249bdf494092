/*
 * tell.c - from what the registry notes to journal and streams, and from its
 * models to the state that a new stream is told. It reads the registry and asks
 * nothing of it. The loop's thread only.
 */
#include "server/tell.h"

#include <string.h>

#include "base/clock.h"
#include "server/state.h"

#define NS_PER_MS INT64_C(1000000)

/* ---- how things are ---- */

static void say_waiting(const struct vac_model *model, struct vac_event_more *more)
{
	const struct vac_shortage *shortage = &model->shortage;

	if (!model->plan_known) {
		more->reason = "what it will take is not known yet";
	} else if (vac_shortage_none(*shortage)) {
		more->reason = "other loads came first";
	} else if (shortage->budget_bytes >= shortage->measured_bytes) {
		more->missing_bytes = shortage->budget_bytes;
		more->reason = "other models hold the budget";
	} else {
		more->missing_bytes = shortage->measured_bytes;
		more->reason = "too little memory is free";
	}
}

static void describe_loading(const struct vac_model *model, struct vac_event *event,
			     struct vac_event_more *more)
{
	event->kind = VAC_EVENT_LOADING;
	event->done_bytes = model->done_bytes;
	event->total_bytes = model->total_bytes;
	if (!model->load_held)
		return;
	event->kind = VAC_EVENT_WAITING;
	event->bytes = model->plan_known ? vac_charge_bytes(&model->charge) : 0;
	say_waiting(model, more);
}

/* false: there is nothing to say of it. */
static bool describe(const struct vac_model *model, struct vac_event *event,
		     struct vac_event_more *more)
{
	*event = (struct vac_event){.model = model->name, .device = model->device->name};
	*more = (struct vac_event_more){.wall_ns = vac_wall_ns(), .state = true};
	switch (model->state) {
	case VAC_REGISTRY_LOADING:
		describe_loading(model, event, more);
		return true;
	case VAC_REGISTRY_PARKED:
		event->kind = VAC_EVENT_MODEL_PARKED;
		event->bytes = model->parked_bytes;
		return true;
	case VAC_REGISTRY_PARKING: /* it has its memory still */
	case VAC_REGISTRY_RESIDENT:
		event->kind = VAC_EVENT_RESIDENT;
		event->bytes = model->info.ledger_bytes;
		event->load_ns = model->load_ns;
		return true;
	case VAC_REGISTRY_DRAINING:
		event->kind = VAC_EVENT_DRAINING;
		event->reason = model->reason;
		return true;
	case VAC_REGISTRY_ABSENT:
	case VAC_REGISTRY_FAILED:
		break;
	}
	event->kind = VAC_EVENT_SET_ASIDE;
	event->why = &model->failure;
	return model->set_aside;
}

static bool worth_telling(const struct vac_model *model)
{
	return model->active.list || model->set_aside;
}

/* The first names after that one, in order. */
static size_t next_models(const struct vac_server *server, const char *after,
			  const struct vac_model **found, size_t most)
{
	const struct vac_model *model = server->registry.models;
	size_t count = 0, at;

	for (; model; model = model->next) {
		if (!worth_telling(model) || (after && strcmp(model->name, after) <= 0))
			continue;
		if (count == most && strcmp(model->name, found[count - 1]->name) >= 0)
			continue;
		if (count < most)
			count++;
		for (at = count - 1; at > 0 && strcmp(found[at - 1]->name, model->name) > 0; at--)
			found[at] = found[at - 1];
		found[at] = model;
	}
	return count;
}

size_t vac_tell_states(void *ctx, const char *after, const char *only, struct vac_event *out,
		       struct vac_event_more *more, size_t most)
{
	struct vac_server *server = ctx;
	const struct vac_model *found[VAC_EVENTS_STATES];
	size_t count = 0, told = 0;

	if (only) {
		found[0] = vac_registry_find(&server->registry, only);
		count = found[0] && worth_telling(found[0]) ? 1 : 0;
	} else {
		count = next_models(server, after, found,
				    most < VAC_EVENTS_STATES ? most : VAC_EVENTS_STATES);
	}
	for (size_t i = 0; i < count; i++)
		told += describe(found[i], &out[told], &more[told]);
	return told;
}

/* ---- what happens ---- */

/* A worker says how far it is every few milliseconds. The first and the last
 * word of a load are always told. */
static bool too_soon(const struct vac_event *event, const struct vac_model *model)
{
	struct vac_job *job = model ? model->user : NULL;

	if (event->kind != VAC_EVENT_LOADING || !job)
		return false;
	if (event->total_bytes == 0) { /* it begins */
		job->told_ns = 0;
		return false;
	}
	if (job->told_ns != 0 && event->at_ns - job->told_ns < VAC_TELL_PROGRESS_MS * NS_PER_MS &&
	    (event->done_bytes < event->total_bytes || job->told_bytes == event->done_bytes))
		return true;
	job->told_ns = event->at_ns;
	job->told_bytes = event->done_bytes;
	return false;
}

void vac_tell(void *ctx, const struct vac_event *event)
{
	struct vac_server *server = ctx;
	const struct vac_model *model = vac_registry_find(&server->registry, event->model);
	struct vac_event_more more = {.wall_ns = vac_wall_ns()};

	if (event->kind == VAC_EVENT_REFUSED) {
		more.times = vac_sampler_take(&server->refused, event->model,
					      (uint32_t)event->why->code, event->at_ns);
		if (more.times == 0)
			return;
	}
	if (event->kind == VAC_EVENT_REFUSED || event->kind == VAC_EVENT_EVICTED ||
	    event->kind >= VAC_EVENT_SET_ASIDE)
		vac_journal_event(&server->journal, event, &more);
	if (!vac_events_wanted(&server->events) || too_soon(event, model))
		return;
	if (event->kind == VAC_EVENT_WAITING && model)
		say_waiting(model, &more);
	if (event->receipt)
		vac_events_tell_receipt(&server->events, event->receipt);
	vac_events_tell(&server->events, event, &more);
}
