/*
 * load.c - what is asked of workers before a model is resident: its plan, then
 * the load itself. And who brought a worker down. The loop's thread only.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "server/state.h"

static int make_job(struct vac_server *server, struct vac_model *model)
{
	struct vac_job *job;

	if (model->user)
		return 0;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->server = server;
	job->model = model;
	model->user = job;
	return 0;
}

void vac_load_forget(void *ctx, struct vac_model *model)
{
	struct vac_server *server = ctx;
	struct vac_job *job = model->user;

	if (job) {
		vac_gpus_unwait(&server->gpus, &job->gpus_wait);
		vac_parked_free(job->parked);
	}
	free(model->user);
	model->user = NULL;
}

static void failed(struct vac_job *job, const struct vac_error *why)
{
	vac_log(VAC_LOG_WARN, "model %s cannot be loaded: %s", job->model->name, why->message);
	vac_registry_load_failed(&job->server->registry, job->model, why);
}

/* A device without room is looked at again: another process may have taken it between the
 * reading and the load, which rolled back. */
static void refused(struct vac_job *job, const struct vac_error *refusal)
{
	struct vac_model *model = job->model;
	struct vac_error why = *refusal;

	vac_model_refused(model->dir, &why);
	if (vac_registry_load_lacked(&job->server->registry, model, &why)) {
		vac_log(VAC_LOG_INFO, "%s had less room than it showed, and is looked at again: %s",
			model->device->name, why.message);
		return;
	}
	if (model->load_tries >= VAC_MAX_TRIES)
		vac_error_prefix(&why, "tried %u times", VAC_MAX_TRIES);
	failed(job, &why);
}

/* Of a plan or a load. */
static void lost(struct vac_exchange *exchange, const struct vac_error *why)
{
	struct vac_job *job = VAC_CONTAINER(exchange, struct vac_job, exchange);
	struct vac_model *model = job->model;
	struct vac_error err;

	/* One more try: the kernel's killer may have meant another model. */
	if (vac_registry_load_lost(&job->server->registry, model, why))
		return;
	vac_fail(&err, VAC_E_GONE, "model %.200s cannot be loaded%s: %s", model->name,
		 model->load_losses > 1 ? " (tried on two workers)" : "", why->message);
	vac_log(VAC_LOG_WARN, "%s", err.message);
	vac_registry_load_failed(&job->server->registry, model, &err);
}

static int load_answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
			 const void *payload, struct vac_error *err)
{
	struct vac_job *job = VAC_CONTAINER(exchange, struct vac_job, exchange);
	struct vac_model *model = job->model;
	struct vac_worker *worker = model->worker;
	struct vac_wire_progress progress;
	struct vac_wire_model loaded;
	struct vac_model_info info;
	struct vac_error refusal;

	switch (header->type) {
	case VAC_WIRE_PROGRESS:
		if (vac_wire_get_progress(payload, header->payload_bytes, &progress, err) < 0)
			return -EINVAL;
		vac_registry_progress(&job->server->registry, model, progress.done_bytes,
				      progress.total_bytes);
		return 0;
	case VAC_WIRE_LOADED:
		if (vac_wire_get_model(payload, header->payload_bytes, &loaded, err) < 0)
			return -EINVAL;
		vac_model_info_copy(&info, &loaded);
		model->worker_start_ns = worker->started_ns >= model->load_asked_ns
						 ? worker->ready_ns - worker->started_ns
						 : 0;
		if (model->device->budget.on_device)
			vac_devices_read_again(job->server, model->device);
		vac_registry_loaded(&job->server->registry, model, &info);
		if (model->device->budget.on_device)
			vac_unload_prepare(job->server, worker);
		vac_histogram_add(&job->server->metrics.load, model->load_ns);
		vac_log(VAC_LOG_INFO, "model %s loaded in %.1f ms: %" PRIu64 " bytes", model->name,
			(double)model->load_ns / 1e6, info.ledger_bytes);
		return 0;
	case VAC_WIRE_ERROR:
		if (vac_wire_get_error(payload, header->payload_bytes, &refusal, err) < 0)
			return -EINVAL;
		refused(job, &refusal);
		return 0;
	default:
		return vac_fail(err, VAC_E_INVALID, "LOAD was answered with type %u", header->type);
	}
}

/* Puts a PLAN or LOAD to the worker of the model's device. */
static void ask(struct vac_server *server, struct vac_model *model, enum vac_wire_type type,
		int (*answer)(struct vac_exchange *exchange, const struct vac_wire_header *header,
			      const void *payload, struct vac_error *err))
{
	struct vac_wire_load load = {
		.model = type == VAC_WIRE_LOAD ? model->wire_id : 0,
		.dir = vac_wire_text(model->dir),
		.max_batch_tokens = model->settings.max_batch_tokens,
		.dtype = vac_wire_text(model->settings.dtype),
	};
	struct vac_error err;
	struct vac_job *job;

	if (make_job(server, model) < 0) {
		vac_fail_nomem(&err, "a load", sizeof(*job));
		goto err;
	}
	job = model->user;
	model->worker = vac_supervisor_worker(&server->supervisor, model->device->name,
					      model->isolated ? model->name : NULL, false, &err);
	if (!model->worker)
		goto err;
	job->exchange.answer = answer;
	job->exchange.lost = lost;
	if (vac_worker_ask_load(model->worker, type, &load, &job->exchange, &err) == 0)
		return;
err:
	vac_log(VAC_LOG_WARN, "model %s cannot be loaded: %s", model->name, err.message);
	vac_registry_load_failed(&server->registry, model, &err);
}

void vac_load_begin(void *ctx, struct vac_model *model)
{
	ask(ctx, model, VAC_WIRE_LOAD, load_answered);
}

/* ---- plans ---- */

/* Of its next load, or of the one that is under way. */
static struct vac_plan_key key_of(const struct vac_model *model)
{
	return (struct vac_plan_key){
		.dir = model->dir,
		.device = model->device->name,
		.dtype = model->settings.dtype,
		.max_batch_tokens = model->settings.max_batch_tokens,
	};
}

static int plan_answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
			 const void *payload, struct vac_error *err)
{
	struct vac_job *job = VAC_CONTAINER(exchange, struct vac_job, exchange);
	struct vac_server *server = job->server;
	struct vac_plan_key key = key_of(job->model);
	struct vac_wire_model planned;
	struct vac_model_info info;
	struct vac_error refusal;

	switch (header->type) {
	case VAC_WIRE_PLANNED:
		if (vac_wire_get_model(payload, header->payload_bytes, &planned, err) < 0)
			return -EINVAL;
		vac_model_info_copy(&info, &planned);
		/* It was planned as its settings were then. */
		if (!job->model->changed)
			vac_plans_put(&server->plans, &key, &info);
		vac_registry_planned(&server->registry, job->model, &info.plan);
		return 0;
	case VAC_WIRE_ERROR:
		if (vac_wire_get_error(payload, header->payload_bytes, &refusal, err) < 0)
			return -EINVAL;
		vac_model_refused(job->model->dir, &refusal);
		failed(job, &refusal);
		return 0;
	default:
		return vac_fail(err, VAC_E_INVALID, "PLAN was answered with type %u", header->type);
	}
}

/* From the cache, else asked of the worker that will load it: a process of its
 * own would cost more than the plan. */
static void plan(struct vac_server *server, struct vac_model *model)
{
	struct vac_plan_key key = key_of(model);
	const struct vac_plan_entry *entry;

	/* Of a worker that comes back it is known; the reading was what is wanted. */
	if (model->restoring || model->state == VAC_REGISTRY_PARKED) {
		vac_registry_planned(&server->registry, model, &model->info.plan);
		return;
	}
	entry = vac_plans_known(&server->plans, &key);
	if (entry && entry->error.code == VAC_OK)
		vac_registry_planned(&server->registry, model, &entry->info.plan);
	else
		ask(server, model, VAC_WIRE_PLAN, plan_answered);
}

static void device_read(struct vac_gpus_wait *wait)
{
	struct vac_job *job = VAC_CONTAINER(wait, struct vac_job, gpus_wait);

	/* Without a reading the room is not known, and the device itself will say. */
	if (job->server->gpus.error.code != VAC_OK)
		vac_log(VAC_LOG_WARN, "%s cannot be measured: %s", job->model->device->name,
			job->server->gpus.error.message);
	/* It was placed by what was known when it was asked for. */
	else if (vac_registry_moved(&job->server->registry, job->model))
		return;
	else if (!vac_gpus_find(&job->server->gpus, job->model->device->name))
		vac_log(VAC_LOG_WARN, "%s cannot be measured: NVML does not answer for it",
			job->model->device->name);
	plan(job->server, job->model);
}

void vac_load_plan(void *ctx, struct vac_model *model)
{
	struct vac_server *server = ctx;
	struct vac_job *job;

	/* Room on a GPU is what is free there now. */
	if (model->device->budget.on_device && make_job(server, model) == 0) {
		job = model->user;
		vac_gpus_ask(&server->gpus, &job->gpus_wait, device_read);
	} else {
		plan(server, model);
	}
}

/* ---- deaths ---- */

struct vac_model *vac_load_culprit(const struct vac_server *server, const struct vac_worker *worker)
{
	const struct vac_link *link = server->registry.active.first;

	/* One that never said hello was brought down by nobody's model. */
	if (worker->plan_only || worker->ready_ns == 0)
		return NULL;
	if (worker->working_id == 0)
		return vac_registry_suspect(&server->registry, worker);
	for (; link; link = link->next) {
		struct vac_model *model = VAC_MODEL_AT(link, active);
		const struct vac_job *job = model->user;

		if (!vac_registry_works(model, worker))
			continue;
		if ((model->plan_asked && job->exchange.id == worker->working_id) ||
		    (!model->plan_asked && model->wire_id == worker->working_model))
			return model;
	}
	return NULL;
}
