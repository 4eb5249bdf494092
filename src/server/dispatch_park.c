/*
 * dispatch_park.c - models that somebody parks and resumes by name. The loop's thread only.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/state.h"

/* What a client is told to wait before it asks again, seconds. */
#define RETRY_AFTER_S 1

static void fail(struct vac_request *request, const struct vac_error *err)
{
	bool later = err->code == VAC_E_BUSY || err->code == VAC_E_GONE;

	vac_dispatch_fail(request, err, later ? RETRY_AFTER_S : 0);
}

/* What the model is in no state for. */
static void refuse(struct vac_request *request, const struct vac_model *model,
		   const struct vac_error *err)
{
	const struct vac_outcome outcome = {
		.error = *err,
		.model = model->name,
		.retry_after_s = err->code == VAC_E_BUSY ? RETRY_AFTER_S : 0,
		.conflict = true,
	};

	vac_dispatch_answer(request, &outcome);
}

/* The names of the models that went with it. */
static const char **list_names(const struct vac_server *server, const struct vac_model *model,
			       size_t *count)
{
	const char **names = calloc(server->registry.active.count + 1, sizeof(*names));

	*count = 0;
	for (const struct vac_model *other = server->registry.models; names && other;
	     other = other->next) {
		if (other->active.list && vac_registry_shares(other, model))
			names[(*count)++] = other->name;
	}
	return names;
}

void vac_dispatch_held(struct vac_request *request, const struct vac_model *model)
{
	const struct vac_server *server = request->server;
	const struct vac_parked *told = server->parking.told;
	enum vac_wire_held_state state =
		request->call.kind == VAC_CALL_PARK ? VAC_WIRE_HELD_PARKED : VAC_WIRE_HELD_RUNNING;
	struct vac_wire_held_target *nothing = calloc(1, sizeof(*nothing));
	struct vac_outcome outcome = {.model = model->name};
	const char **names = list_names(server, model, &outcome.held_model_count);
	struct vac_error err;

	if (!nothing || !names) {
		vac_fail_nomem(&err, "a receipt", sizeof(*nothing));
		fail(request, &err);
	} else {
		/* Without a word of vacate-gpud's there was nothing to do. */
		nothing->pid = model->worker ? (uint32_t)model->worker->pid : 0;
		nothing->uid = geteuid();
		nothing->before = nothing->after = state;
		outcome.held = told && told->held ? told->held : nothing;
		outcome.held_driver = told && told->held ? server->parking.held->driver : "";
		outcome.held_models = names;
		vac_dispatch_answer(request, &outcome);
	}
	free(nothing);
	free(names);
}

static void park_done(struct vac_park_watch *watch, const struct vac_error *why)
{
	struct vac_request *request = VAC_CONTAINER(watch, struct vac_request, park_watch);

	if (why)
		fail(request, why);
	else
		vac_dispatch_held(request, request->parked_model);
}

/* NULL: it has been answered. */
static struct vac_model *find(struct vac_request *request)
{
	struct vac_error err;
	struct vac_model *model;

	if (request->server->draining) {
		vac_fail(&err, VAC_E_GONE, "the server is shutting down");
		fail(request, &err);
		return NULL;
	}
	model = vac_dispatch_find(request->server, request->call.model, &err);
	if (!model)
		fail(request, &err);
	return model;
}

void vac_dispatch_park(struct vac_request *request)
{
	struct vac_model *model = find(request);
	struct vac_error err;
	int rc;

	if (!model)
		return;
	request->parked_model = model;
	request->park_watch.done = park_done;
	vac_parking_allow_risk(model, request->call.risk);
	rc = vac_registry_park(&request->server->registry, model, &request->park_watch, &err);
	if (rc < 0)
		refuse(request, model, &err);
	else if (rc > 0)
		vac_dispatch_held(request, model);
}

void vac_dispatch_resume(struct vac_request *request)
{
	struct vac_model *model = find(request);
	struct vac_error err;

	if (!model)
		return;
	if (model->state == VAC_REGISTRY_RESIDENT) {
		vac_dispatch_held(request, model);
		return;
	}
	if (model->state != VAC_REGISTRY_PARKED && model->state != VAC_REGISTRY_PARKING &&
	    !model->restoring) {
		vac_fail(&err, VAC_E_INVALID,
			 "model %.200s is not parked, so there is nothing to bring back",
			 model->name);
		refuse(request, model, &err);
		return;
	}
	request->waiter.load_only = request->waiter.resume_only = true;
	request->queued_ns = vac_now_ns();
	if (vac_registry_submit(&request->server->registry, model, &request->waiter, &err) < 0)
		fail(request, &err);
}
