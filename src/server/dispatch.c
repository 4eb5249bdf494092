/*
 * dispatch.c - from a call to what is done about it, and from what came of it
 * to an outcome. The loop's thread only.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/admission.h"
#include "server/state.h"

/* What a client is told to wait before it asks again, seconds. */
#define RETRY_AFTER_S 1

struct request_watch {
	struct vac_watch watch;
	struct vac_request *request;
	bool waits;
};

/* ---- answers ---- */

void vac_dispatch_answer(struct vac_request *request, const struct vac_outcome *outcome)
{
	vac_api_render(&request->call, outcome, &request->reply);
	vac_request_finish(request);
}

void vac_dispatch_fail(struct vac_request *request, const struct vac_error *err,
		       uint32_t retry_after_s)
{
	struct vac_outcome outcome = {.error = *err, .retry_after_s = retry_after_s};

	outcome.model = request->waiter.model ? request->waiter.model->name : request->call.model;
	vac_dispatch_answer(request, &outcome);
}

static uint32_t retry_after(const struct vac_error *err)
{
	return err->code == VAC_E_BUSY || err->code == VAC_E_GONE ? RETRY_AFTER_S : 0;
}

/* ---- models by name ---- */

static struct vac_model *enter(struct vac_server *server, const char *name, const char *dir,
			       struct vac_error *err)
{
	struct vac_model *model = vac_registry_enter(&server->registry, name, dir);

	if (!model)
		vac_fail_nomem(err, "a model's entry", sizeof(*model));
	return model;
}

/* No model was named: the only one that is loaded, else the only one on disk. */
static struct vac_model *find_only(struct vac_server *server, struct vac_error *err)
{
	struct vac_model_entry *entries;
	struct vac_model *model;
	bool several;
	size_t count;

	model = vac_registry_only(&server->registry, &several);
	if (model)
		return model;
	if (several) {
		vac_fail(err, VAC_E_INVALID,
			 "model: is missing, and more than one model is loaded; name one of them");
		return NULL;
	}
	if (vac_catalog_list(&server->catalog, 2, &entries, &count, err) < 0)
		return NULL;
	if (count == 1)
		model = enter(server, entries[0].name, entries[0].dir, err);
	else if (count == 0)
		vac_fail(err, VAC_E_NOT_FOUND,
			 "model: is missing, and there is no model on disk; see --models");
	else
		vac_fail(err, VAC_E_INVALID,
			 "model: is missing, no model is loaded and there is more than one on "
			 "disk; name one");
	vac_model_list_free(entries, count);
	return model;
}

/* The entry of the model that a call names. A model that is loaded is found
 * without a look at the disk: it answers on when its files are gone. */
struct vac_model *vac_dispatch_find(struct vac_server *server, const char *name,
				    struct vac_error *err)
{
	struct vac_model *model;
	char *dir;

	if (!name)
		return find_only(server, err);
	name = vac_catalog_name(&server->catalog, name);
	model = vac_registry_find(&server->registry, name);
	if (model && model->state != VAC_REGISTRY_ABSENT && model->state != VAC_REGISTRY_FAILED &&
	    !model->homeless)
		return model;
	if (vac_catalog_resolve(&server->catalog, name, &dir, err) < 0)
		return NULL;
	model = enter(server, name, dir, err);
	free(dir);
	return model;
}

/* ---- tasks ---- */

static int decode_result(const struct vac_request *request, const struct vac_wire_header *header,
			 const void *payload, struct vac_wire_result *result, struct vac_error *err)
{
	if (vac_wire_get_result(payload, header->payload_bytes, result, err) < 0)
		return -EINVAL;
	if (result->rows != request->call.input_count || result->dimensions == 0)
		return vac_fail(err, VAC_E_INVALID,
				"RESULT has %" PRIu32 " rows of %" PRIu32 " numbers for %zu inputs",
				result->rows, result->dimensions, request->call.input_count);
	return 0;
}

static void answer_task(struct vac_request *request, const struct vac_wire_result *result)
{
	const struct vac_model *model = request->waiter.model;
	int64_t now_ns = vac_now_ns();
	struct vac_outcome outcome = {
		/* By the name that it was asked by, which may be an alias. */
		.model = request->call.model ? request->call.model : model->name,
		/* Frames start at multiples of 8 in a malloc'ed buffer, and the
		 * header of a RESULT is 40 bytes: the floats are aligned. */
		.vectors = (const float *)(const void *)result->vectors,
		.rows = result->rows,
		.dimensions = result->dimensions,
		.tokens = result->tokens,
		.total_ns = now_ns - request->arrived_ns,
		.tokenize_ns = result->tokenize_ns,
		.queue_ns = result->queue_ns,
		.compute_ns = result->compute_ns,
	};

	if (model->resident_ns > request->queued_ns)
		outcome.load_ns = model->resident_ns - request->queued_ns;
	vac_histogram_add(&request->server->metrics.task, outcome.total_ns);
	vac_histogram_add(&request->server->metrics.worker, now_ns - request->asked_ns);
	vac_dispatch_answer(request, &outcome);
}

static int task_answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
			 const void *payload, struct vac_error *err)
{
	struct vac_request *request = VAC_CONTAINER(exchange, struct vac_request, exchange);
	struct vac_registry *registry = &request->server->registry;
	struct vac_wire_result result;
	struct vac_error refusal;

	switch (header->type) {
	case VAC_WIRE_RESULT:
		if (decode_result(request, header, payload, &result, err) < 0)
			return -EINVAL;
		answer_task(request, &result);
		vac_registry_done(registry, &request->waiter, true);
		return 0;
	case VAC_WIRE_ERROR:
		if (vac_wire_get_error(payload, header->payload_bytes, &refusal, err) < 0)
			return -EINVAL;
		vac_dispatch_fail(request, &refusal, retry_after(&refusal));
		vac_registry_done(registry, &request->waiter, false);
		return 0;
	default:
		return vac_fail(err, VAC_E_INVALID, "TASK was answered with type %u", header->type);
	}
}

static void task_lost(struct vac_exchange *exchange, const struct vac_error *why)
{
	struct vac_request *request = VAC_CONTAINER(exchange, struct vac_request, exchange);
	const char *name = request->waiter.model->name;
	struct vac_error err;

	/* No byte of its reply has left: nobody notices the second try. */
	if (vac_registry_lost(&request->server->registry, &request->waiter))
		return;
	if (request->waiter.model->set_aside) {
		vac_dispatch_fail(request, &request->waiter.model->failure, 0);
		return;
	}
	vac_fail(&err, VAC_E_GONE,
		 "%s; the request for model %.200s was tried on %s workers and is given up",
		 why->message, name, request->waiter.tries > 2 ? "several" : "two");
	vac_dispatch_fail(request, &err, RETRY_AFTER_S);
}

static void run_task(void *ctx, struct vac_model *model, struct vac_waiter *waiter)
{
	struct vac_request *request = VAC_CONTAINER(waiter, struct vac_request, waiter);
	struct vac_server *server = ctx;
	struct vac_wire_task task = {
		.model = model->wire_id,
		.options = request->call.options,
		.prompt = vac_wire_text(model->settings.prompt),
		.input_count = (uint32_t)request->call.input_count,
		.inputs = request->call.inputs,
	};
	struct vac_ask ask = vac_worker_begin(model->worker);
	struct vac_error err;

	request->exchange.answer = task_answered;
	request->exchange.lost = task_lost;
	request->asked_ns = vac_now_ns();
	vac_wire_put_task(&model->worker->out, ask.id, &task);
	if (vac_worker_commit(&ask, &request->exchange, &err) == 0)
		return;
	vac_dispatch_fail(request, &err, 0);
	vac_registry_done(&server->registry, waiter, false);
}

static void refuse_draining(struct vac_request *request)
{
	struct vac_error err;

	vac_fail(&err, VAC_E_GONE, "the server is shutting down");
	vac_dispatch_fail(request, &err, RETRY_AFTER_S);
}

/* It answers, or is about to; ?autoload=false asks for no more. */
static bool is_loaded(const struct vac_model *model)
{
	return model->state == VAC_REGISTRY_LOADING || model->state == VAC_REGISTRY_RESIDENT ||
	       model->state == VAC_REGISTRY_PARKING;
}

/* The prompt is written before each text when the frame is: it is counted as what
 * the request holds from now on. */
static int hold_prompts(struct vac_request *request, const struct vac_model *model,
			struct vac_error *err)
{
	const char *prompt = model->settings.prompt;
	size_t texts = 0;

	if (!prompt || request->call.kind != VAC_CALL_TASK)
		return 0;
	for (size_t i = 0; i < request->call.input_count; i++)
		texts += request->call.inputs[i].ids == NULL;
	return vac_http_hold(request, texts * strlen(prompt), err);
}

static void submit(struct vac_request *request, bool load_only)
{
	struct vac_server *server = request->server;
	struct vac_error err;
	struct vac_model *model;

	if (server->draining) {
		refuse_draining(request);
		return;
	}
	model = vac_dispatch_find(server, request->call.model, &err);
	if (!model) {
		vac_dispatch_fail(request, &err, retry_after(&err));
		return;
	}
	if (request->call.no_autoload && !is_loaded(model)) {
		bool parked = model->state == VAC_REGISTRY_PARKED;

		vac_fail(&err, VAC_E_INVALID,
			 "model %.200s is %s, and autoload is false; POST /models/%s", model->name,
			 parked ? "parked" : "not loaded",
			 parked ? "resume brings it back" : "load loads it");
		vac_dispatch_fail(request, &err, 0);
		return;
	}
	request->waiter.load_only = load_only;
	request->waiter.keep_alive_set = request->call.keep_alive_set;
	request->waiter.keep_alive_ms = request->call.keep_alive_ms;
	request->queued_ns = vac_now_ns();
	if (hold_prompts(request, model, &err) < 0) {
		vac_dispatch_fail(request, &err, RETRY_AFTER_S);
		return;
	}
	/* What is set aside stays so, however often it is asked for. */
	if (vac_registry_submit(&server->registry, model, &request->waiter, &err) < 0)
		vac_dispatch_fail(request, &err, model->set_aside ? 0 : retry_after(&err));
}

static void finish_waiter(void *ctx, struct vac_waiter *waiter, const struct vac_error *why)
{
	struct vac_request *request = VAC_CONTAINER(waiter, struct vac_request, waiter);

	(void)ctx;
	if (why)
		vac_dispatch_fail(request, why, waiter->model->set_aside ? 0 : retry_after(why));
	else if (request->call.kind == VAC_CALL_RESUME)
		vac_dispatch_held(request, waiter->model);
	else
		vac_views_loaded(request, waiter->model);
}

/* ---- unloads that somebody asked for ---- */

static void answer_unload(struct vac_request *request)
{
	struct vac_outcome outcome = {
		.model = request->call.model,
		.receipts = request->done_receipts,
		.receipt_count = request->done_receipt_count,
	};

	vac_dispatch_answer(request, &outcome);
}

static void unload_done(struct vac_watch *watch, const struct vac_receipt *receipt)
{
	struct request_watch *own = VAC_CONTAINER(watch, struct request_watch, watch);
	struct vac_request *request = own->request;

	own->waits = false;
	/* NULL: the load that was under way failed; there was nothing to unload. */
	if (receipt)
		request->done_receipts[request->done_receipt_count++] = *receipt;
	if (--request->watches_left == 0)
		answer_unload(request);
}

static int watch_models(struct vac_request *request, struct vac_model *only)
{
	struct vac_registry *registry = &request->server->registry;
	size_t most = only ? 1 : registry->model_count;

	request->watches = calloc(most ? most : 1, sizeof(*request->watches));
	request->done_receipts = calloc(most ? most : 1, sizeof(*request->done_receipts));
	if (!request->watches || !request->done_receipts)
		return -ENOMEM;
	for (struct vac_model *model = registry->models; model; model = model->next) {
		struct request_watch *own = &request->watches[request->watch_count];

		if (only && model != only)
			continue;
		own->request = request;
		own->watch.done = unload_done;
		if (!vac_registry_unload(registry, model, VAC_UNLOAD_REQUEST,
					 request->call.drop_cache, &own->watch))
			continue;
		own->waits = true;
		request->watch_count++;
		request->watches_left++;
	}
	return 0;
}

static void unload(struct vac_request *request, bool all)
{
	struct vac_model *model = NULL;
	struct vac_error err;

	if (!all) {
		model = vac_dispatch_find(request->server, request->call.model, &err);
		if (!model) {
			vac_dispatch_fail(request, &err, 0);
			return;
		}
	}
	if (watch_models(request, model) < 0) {
		vac_fail_nomem(&err, "the receipts", sizeof(struct vac_receipt));
		vac_dispatch_fail(request, &err, RETRY_AFTER_S);
		return;
	}
	/* What is not loaded leaves no receipt, and that is no failure. */
	if (request->watches_left == 0)
		answer_unload(request);
}

/* ---- the registry's other operations ---- */

static void settings(void *ctx, const char *name, struct vac_model_settings *out)
{
	const struct vac_server *server = ctx;

	*out = *vac_catalog_settings(&server->catalog, name);
}

static int find_dir(void *ctx, const char *name, char **dir, struct vac_error *err)
{
	const struct vac_catalog *catalog = &((const struct vac_server *)ctx)->catalog;
	const char *own = vac_catalog_name(catalog, name);

	if (strcmp(own, name) != 0)
		return vac_fail(err, VAC_E_NOT_FOUND,
				"model %.200s is another name of %.200s now; ask again", name, own);
	return vac_catalog_resolve(catalog, name, dir, err);
}

static int64_t now_ns(void *ctx)
{
	(void)ctx;
	return vac_now_ns();
}

static void wake_at(void *ctx, int64_t at_ns)
{
	struct vac_server *server = ctx;

	if (!vac_timer_is_set(&server->registry_timer) || server->registry_timer.at_ns > at_ns)
		vac_timer_set(&server->loop, &server->registry_timer, at_ns);
}

const struct vac_registry_ops vac_dispatch_registry_ops = {
	.now_ns = now_ns,
	.settings = settings,
	.find = find_dir,
	.plan = vac_load_plan,
	.load = vac_load_begin,
	.run = run_task,
	.unload = vac_unload_begin,
	.park = vac_parking_park_model,
	.restore = vac_parking_restore_model,
	.finish = finish_waiter,
	.died = vac_unload_died,
	.wake_at = wake_at,
	.lacks = vac_parking_lacks,
	.noted = vac_tell,
	.forget = vac_load_forget,
};

void vac_dispatch_worker_gone(void *ctx, struct vac_worker *worker, bool expected,
			      const struct vac_error *why)
{
	struct vac_server *server = ctx;
	struct vac_model *culprit = expected ? NULL : vac_load_culprit(server, worker);

	if (culprit)
		vac_log(VAC_LOG_WARN, "worker %d was working for model %s when it died",
			(int)worker->pid, culprit->name);
	vac_unload_worker_gone(server, worker);
	vac_parking_worker_gone(server, worker);
	vac_registry_worker_gone(&server->registry, worker, culprit, why);
}

/* ---- calls ---- */

static void answer_metrics(struct vac_request *request)
{
	struct vac_outcome outcome = {0};
	struct vac_error err;

	vac_api_render(&request->call, &outcome, &request->reply);
	vac_metrics_write(request->server, &request->reply.body);
	if (!vac_buf_ok(&request->reply.body)) {
		vac_reply_free(&request->reply);
		vac_fail_nomem(&err, "the metrics", 0);
		vac_dispatch_fail(request, &err, RETRY_AFTER_S);
		return;
	}
	vac_request_finish(request);
}

/* PLAN and SHOW: of a model on disk, whether or not it is loaded. */
static void describe(struct vac_request *request,
		     void (*answer)(struct vac_request *request, const char *name, const char *dir))
{
	const struct vac_catalog *catalog = &request->server->catalog;
	struct vac_error err;
	const char *name;
	char *dir;

	if (!request->call.model) {
		vac_fail(&err, VAC_E_INVALID, "model: is missing; name the one that is meant");
		vac_dispatch_fail(request, &err, 0);
		return;
	}
	name = vac_catalog_name(catalog, request->call.model);
	if (vac_catalog_resolve(catalog, name, &dir, &err) < 0) {
		vac_dispatch_fail(request, &err, 0);
		return;
	}
	answer(request, name, dir);
	free(dir);
}

static void carry_out(struct vac_request *request)
{
	struct vac_outcome nothing = {0};

	switch (request->call.kind) {
	case VAC_CALL_TASK:
		submit(request, false);
		break;
	case VAC_CALL_LOAD:
		submit(request, true);
		break;
	case VAC_CALL_UNLOAD:
		unload(request, false);
		break;
	case VAC_CALL_UNLOAD_ALL:
		unload(request, true);
		break;
	case VAC_CALL_PARK:
		vac_dispatch_park(request);
		break;
	case VAC_CALL_RESUME:
		vac_dispatch_resume(request);
		break;
	case VAC_CALL_LIST:
		vac_views_list(request);
		break;
	case VAC_CALL_PLAN:
		describe(request, vac_views_plan);
		break;
	case VAC_CALL_SHOW:
		describe(request, vac_views_show);
		break;
	case VAC_CALL_PS:
		vac_views_ps(request);
		break;
	case VAC_CALL_RUNNING:
		vac_views_running(request);
		break;
	case VAC_CALL_RECEIPTS:
		vac_views_receipts(request);
		break;
	case VAC_CALL_METRICS:
		answer_metrics(request);
		break;
	case VAC_CALL_EVENTS:
		vac_http_open_stream(request);
		break;
	case VAC_CALL_READY:
		if (request->server->draining) {
			refuse_draining(request);
			break;
		}
		/* fall through */
	case VAC_CALL_HEALTH:
	case VAC_CALL_VERSION:
		vac_dispatch_answer(request, &nothing);
		break;
	}
}

void vac_dispatch(struct vac_request *request)
{
	struct vac_http_request http;

	vac_http_describe(request, &http);
	if (vac_api_parse(&http, &request->call, &request->reply) < 0) {
		request->stage = VAC_REQUEST_DONE;
		return;
	}
	request->parsed = true;
	request->stage = VAC_REQUEST_WORKING;
	if (request->call.timeout_set)
		request->timeout_ms = request->call.timeout_ms;
	else if (request->call.kind == VAC_CALL_TASK)
		request->timeout_ms = request->server->options.request_timeout_ms;
	carry_out(request);
}

void vac_dispatch_abandon(struct vac_request *request, const struct vac_error *why)
{
	struct vac_registry *registry = &request->server->registry;

	assert(request->stage == VAC_REQUEST_WORKING);
	vac_worker_cancel(&request->exchange);
	vac_registry_cancel(registry, &request->waiter);
	for (size_t i = 0; i < request->watch_count; i++) {
		if (request->watches[i].waits)
			vac_registry_unwatch(registry, &request->watches[i].watch);
	}
	vac_registry_unwatch_park(registry, &request->park_watch);
	vac_views_list_left(request);
	vac_gpus_unwait(&request->server->gpus, &request->gpus_wait);
	vac_dispatch_fail(request, why, 0);
}

void vac_dispatch_expire(struct vac_request *request)
{
	const struct vac_waiter *waiter = &request->waiter;
	struct vac_error why;

	if (waiter->state == VAC_WAITER_QUEUED)
		vac_admission_explain(&request->server->registry, waiter->model, &why);
	else
		vac_fail(&why, VAC_E_TIMEOUT,
			 "the request was not done within its %.3f s (X-Request-Timeout, "
			 "--timeout)",
			 (double)request->timeout_ms / 1e3);
	request->server->metrics.timeouts++;
	vac_dispatch_abandon(request, &why);
}

void vac_dispatch_release(struct vac_request *request)
{
	assert(request->exchange.id == 0 && request->waiter.state == VAC_WAITER_IDLE);
	if (request->parsed)
		vac_call_free(&request->call);
	request->parsed = false;
	free(request->watches);
	request->watches = NULL;
	free(request->done_receipts);
	request->done_receipts = NULL;
}
