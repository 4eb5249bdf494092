/*
 * views.c - what clients may see: models, workers, plans, receipts. The loop's
 * thread only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/io.h"
#include "server/state.h"

/* For looking at models before others have their turn. */
#define LIST_TURN_NS INT64_C(2000000)

static const enum vac_model_state states[] = {
	[VAC_REGISTRY_ABSENT] = VAC_MODEL_ABSENT,     [VAC_REGISTRY_LOADING] = VAC_MODEL_LOADING,
	[VAC_REGISTRY_RESIDENT] = VAC_MODEL_RESIDENT, [VAC_REGISTRY_DRAINING] = VAC_MODEL_DRAINING,
	[VAC_REGISTRY_FAILED] = VAC_MODEL_FAILED,     [VAC_REGISTRY_PARKING] = VAC_MODEL_PARKING,
	[VAC_REGISTRY_PARKED] = VAC_MODEL_PARKED,
};

static void fail_nomem(struct vac_request *request)
{
	struct vac_error err;

	vac_fail_nomem(&err, "a list of models", 0);
	vac_dispatch_fail(request, &err, 1);
}

/* ---- one model ---- */

static int64_t mtime_of(const char *dir)
{
	char *path = vac_path_join(dir, "config.json");
	struct stat st;
	int64_t mtime_s = 0;

	if (path && stat(path, &st) == 0)
		mtime_s = (int64_t)st.st_mtim.tv_sec;
	free(path);
	return mtime_s;
}

static void view_info(struct vac_model_view *view, const struct vac_model_info *info)
{
	view->planned = true;
	view->plan = info->plan;
	view->architecture = info->architecture;
	view->dtype = info->dtype;
	view->pooling = info->pooling;
	view->normalize = info->normalize;
	view->parameters = info->parameters;
	view->hidden_size = info->hidden_size;
	view->layers = info->layers;
	view->heads = info->heads;
	view->vocab_size = info->vocab_size;
	view->embedding_dimensions = info->embedding_dimensions;
	view->max_tokens = info->max_tokens;
}

static void view_residence(struct vac_model_view *view, const struct vac_model *model)
{
	int64_t expires_at_ns = vac_registry_expires_at_ns(model), now_ns = vac_now_ns();

	view_info(view, &model->info);
	view->load_ns = model->load_ns;
	view->start_ns = model->worker_start_ns;
	memcpy(view->stage_ns, model->info.stage_ns, sizeof(view->stage_ns));
	view->idle_ns = model->running.count > 0 ? 0 : now_ns - model->idle_since_ns;
	view->expires_ns = -1;
	if (expires_at_ns >= 0)
		view->expires_ns = expires_at_ns > now_ns ? expires_at_ns - now_ns : 0;
	else if (model->keep_alive_ms >= 0 &&
		 !model->settings.pin) /* busy: its time has not begun to run */
		view->expires_ns = model->keep_alive_ms * 1000000;
	view->requests = model->requests;
}

static void view_aliases(struct vac_model_view *view, const struct vac_catalog *catalog)
{
	const struct vac_server_model *known = vac_catalog_find(catalog, view->name);

	if (!known || strcmp(known->name, view->name) != 0)
		return;
	view->aliases = known->aliases;
	view->alias_count = known->alias_count;
}

static void view_settings(struct vac_model_view *view, const struct vac_catalog *catalog)
{
	const struct vac_model_settings *settings = vac_catalog_settings(catalog, view->name);

	view->priority = settings->priority;
	view->pinned = settings->pin;
	view->isolate = settings->isolate;
}

/* model may be NULL: never asked for. */
static void view_model(struct vac_model_view *view, const struct vac_catalog *catalog,
		       const char *name, const char *dir, const struct vac_model *model)
{
	*view = (struct vac_model_view){.name = name, .path = dir, .modified_s = mtime_of(dir)};
	view_aliases(view, catalog);
	view_settings(view, catalog);
	if (!model)
		return;
	view->state = states[model->state];
	if (model->load_held)
		view->state = VAC_MODEL_WAITING;
	view->queued = model->waiting.count + model->running.count;
	if (model->state == VAC_REGISTRY_FAILED)
		view->reason = model->failure.message;
	if (model->state == VAC_REGISTRY_ABSENT || model->state == VAC_REGISTRY_FAILED)
		return;
	view->device = model->device->name;
	view->worker_pid = model->worker ? model->worker->pid : 0;
	view->load_done_bytes = model->done_bytes;
	view->load_total_bytes = model->total_bytes;
	if (model->state != VAC_REGISTRY_LOADING)
		view_residence(view, model);
}

/* What its plan is asked and remembered by; the strings are its settings'. False:
 * there is no such device. */
static bool plan_key(const struct vac_server *server, const char *name, const char *dir,
		     struct vac_model_settings *settings, struct vac_plan_key *key)
{
	const struct vac_device *device;

	vac_registry_settings(&server->registry, name, settings);
	device = vac_registry_device(&server->registry, settings->device);
	*key = (struct vac_plan_key){
		.dir = dir,
		.device = device ? device->name : NULL,
		.dtype = settings->dtype,
		.max_batch_tokens = settings->max_batch_tokens,
	};
	return device != NULL;
}

static void view_plan(const struct vac_server *server, struct vac_model_view *view)
{
	const struct vac_plan_entry *entry;
	struct vac_model_settings settings;
	struct vac_plan_key key;

	if (!plan_key(server, view->name, view->path, &settings, &key)) {
		if (view->state == VAC_MODEL_ABSENT) {
			view->state = VAC_MODEL_FAILED;
			view->reason = "it is to run on a device that this server does not have";
		}
		return;
	}
	entry = vac_plans_peek(&server->plans, &key);
	if (!entry || view->planned)
		return;
	if (entry->error.code == VAC_OK) {
		view_info(view, &entry->info);
	} else if (view->state == VAC_MODEL_ABSENT) {
		view->state = VAC_MODEL_FAILED;
		view->reason = entry->error.message;
	}
}

void vac_views_loaded(struct vac_request *request, const struct vac_model *model)
{
	struct vac_model_view view;
	struct vac_outcome outcome = {.models = &view, .model_count = 1};

	/* By the name that it was asked by, which may be an alias. */
	outcome.model = request->call.model ? request->call.model : model->name;
	view_model(&view, &request->server->catalog, model->name, model->dir, model);
	outcome.total_ns = vac_now_ns() - request->arrived_ns;
	if (model->resident_ns > request->queued_ns)
		outcome.load_ns = model->resident_ns - request->queued_ns;
	vac_dispatch_answer(request, &outcome);
}

/* ---- LIST ---- */

static bool on_disk(void *ctx, const struct vac_model *model)
{
	struct stat st;

	(void)ctx;
	return stat(model->dir, &st) == 0;
}

static void answer_list(struct vac_request *request, struct vac_model_entry *entries, size_t count)
{
	struct vac_server *server = request->server;
	struct vac_model_view *views = calloc(count ? count : 1, sizeof(*views));
	struct vac_outcome outcome = {.models = views, .model_count = count};

	if (!views) {
		fail_nomem(request);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		view_model(&views[i], &server->catalog, entries[i].name, entries[i].dir,
			   vac_registry_find(&server->registry, entries[i].name));
		if (!request->call.names_only)
			view_plan(server, &views[i]);
	}
	vac_dispatch_answer(request, &outcome);
	free(views);
}

/* As the disk is now, with what is known of the plans. */
static void list_now(struct vac_request *request)
{
	struct vac_model_entry *entries;
	struct vac_error err;
	size_t count;

	if (vac_catalog_list(&request->server->catalog, VAC_SERVER_MAX_MODELS, &entries, &count,
			     &err) < 0) {
		vac_dispatch_fail(request, &err, 0);
		return;
	}
	answer_list(request, entries, count);
	vac_model_list_free(entries, count);
}

/* The disk is read again: it may have changed meanwhile. */
static void list_planned(struct vac_plan_wait *wait)
{
	list_now(VAC_CONTAINER(wait, struct vac_request, plan_wait));
}

static void list_reset(struct vac_listing *listing)
{
	vac_model_list_free(listing->entries, listing->count);
	listing->entries = NULL;
	listing->count = listing->at = 0;
	listing->begun = listing->missing = false;
}

/* Looks at models until the turn's time is over. */
static void list_look(struct vac_server *server, int64_t until_ns)
{
	struct vac_listing *listing = &server->listing;

	while (listing->at < listing->count) {
		const struct vac_model_entry *entry = &listing->entries[listing->at++];
		struct vac_model_settings settings;
		struct vac_plan_key key;

		if (plan_key(server, entry->name, entry->dir, &settings, &key) &&
		    !vac_plans_get(&server->plans, &key))
			listing->missing = true;
		if (vac_now_ns() >= until_ns)
			break;
	}
}

/* All are looked at. */
static void list_end(struct vac_request *request)
{
	struct vac_server *server = request->server;
	struct vac_listing *listing = &server->listing;

	vac_list_drop(&request->listed);
	vac_plans_sweep(&server->plans);
	vac_registry_sweep(&server->registry, on_disk, NULL);
	if (listing->missing)
		vac_plans_wait(&server->plans, &request->plan_wait, list_planned);
	else
		answer_list(request, listing->entries, listing->count);
	list_reset(listing);
}

/* One list after the other, each with what the loop can spare in a turn. */
static void list_turn(struct vac_timer *timer)
{
	struct vac_server *server = VAC_CONTAINER(timer, struct vac_server, listing.timer);
	struct vac_listing *listing = &server->listing;
	int64_t until_ns = vac_now_ns() + LIST_TURN_NS;
	struct vac_request *request;
	struct vac_error err;

	if (listing->waiting.count == 0)
		return;
	request = VAC_CONTAINER(listing->waiting.first, struct vac_request, listed);
	if (!listing->begun && vac_catalog_list(&server->catalog, VAC_SERVER_MAX_MODELS,
						&listing->entries, &listing->count, &err) < 0) {
		vac_list_drop(&request->listed);
		vac_dispatch_fail(request, &err, 0);
	} else {
		listing->begun = true;
		list_look(server, until_ns);
		if (listing->at == listing->count)
			list_end(request);
	}
	if (listing->waiting.count > 0)
		vac_timer_set(&server->loop, timer, vac_now_ns());
}

void vac_views_list(struct vac_request *request)
{
	struct vac_server *server = request->server;
	struct vac_listing *listing = &server->listing;

	if (request->call.names_only) {
		vac_registry_sweep(&server->registry, on_disk, NULL);
		list_now(request);
		return;
	}
	vac_list_insert(&listing->waiting, listing->waiting.last, &request->listed);
	if (listing->waiting.count == 1)
		list_turn(&listing->timer);
}

void vac_views_list_left(struct vac_request *request)
{
	struct vac_listing *listing = &request->server->listing;

	if (listing->begun && listing->waiting.first == &request->listed)
		list_reset(listing);
	vac_list_drop(&request->listed);
	vac_plans_unwait(&request->server->plans, &request->plan_wait);
	/* Plans that it alone wanted; what a list that goes on has queued it still wants. */
	if (!listing->begun)
		vac_plans_drop(&request->server->plans);
}

int vac_views_init(struct vac_server *server)
{
	return vac_timer_open(&server->loop, &server->listing.timer, list_turn);
}

/* ---- PLAN ---- */

static void answer_plan(struct vac_request *request, const char *name, const char *dir,
			const struct vac_plan_entry *entry)
{
	struct vac_server *server = request->server;
	struct vac_model_view view;
	struct vac_outcome outcome = {.model = name, .models = &view, .model_count = 1};

	if (!entry) {
		fail_nomem(request);
		return;
	}
	/* A checkpoint that cannot be planned is that call's error, not a view. */
	outcome.error = entry->error;
	view_model(&view, &server->catalog, name, dir, vac_registry_find(&server->registry, name));
	view_info(&view, &entry->info);
	vac_dispatch_answer(request, &outcome);
}

/* The same as for a load; finishes the request when there is no such device. */
static bool find_plan_key(struct vac_request *request, const char *name, const char *dir,
			  struct vac_plan_key *key)
{
	const struct vac_server *server = request->server;
	struct vac_model_settings settings;
	struct vac_error err;

	if (plan_key(server, name, dir, &settings, key))
		return true;
	vac_registry_no_device(&server->registry, name, settings.device, &err);
	vac_dispatch_fail(request, &err, 0);
	return false;
}

static void plan_ready(struct vac_plan_wait *wait)
{
	struct vac_request *request = VAC_CONTAINER(wait, struct vac_request, plan_wait);
	struct vac_server *server = request->server;
	const char *name = vac_catalog_name(&server->catalog, request->call.model);
	struct vac_plan_key key;
	struct vac_error err;
	char *dir;

	if (vac_catalog_resolve(&server->catalog, name, &dir, &err) < 0) {
		vac_dispatch_fail(request, &err, 0);
		return;
	}
	if (find_plan_key(request, name, dir, &key))
		answer_plan(request, name, dir, vac_plans_peek(&server->plans, &key));
	free(dir);
}

void vac_views_plan(struct vac_request *request, const char *name, const char *dir)
{
	const struct vac_plan_entry *entry;
	struct vac_plan_key key;

	if (!find_plan_key(request, name, dir, &key))
		return;
	entry = vac_plans_get(&request->server->plans, &key);
	if (entry)
		answer_plan(request, name, dir, entry);
	else
		vac_plans_wait(&request->server->plans, &request->plan_wait, plan_ready);
}

/* ---- SHOW ---- */

/* Nothing is asked of a worker: a probe may come every second. */
void vac_views_show(struct vac_request *request, const char *name, const char *dir)
{
	struct vac_server *server = request->server;
	struct vac_model_view view;
	struct vac_outcome outcome = {.model = name, .models = &view, .model_count = 1};

	view_model(&view, &server->catalog, name, dir, vac_registry_find(&server->registry, name));
	view_plan(server, &view);
	vac_dispatch_answer(request, &outcome);
}

/* ---- PS and RUNNING ---- */

static int by_name(const void *a, const void *b)
{
	const struct vac_model_view *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static size_t view_active(const struct vac_server *server, struct vac_model_view *views)
{
	const struct vac_model *model = server->registry.models;
	size_t count = 0;

	for (; model; model = model->next) {
		if (model->active.list || model->set_aside)
			view_model(&views[count++], &server->catalog, model->name, model->dir,
				   model);
	}
	qsort(views, count, sizeof(*views), by_name);
	return count;
}

static void view_vram(const struct vac_server *server, const struct vac_worker *worker,
		      struct vac_worker_view *view)
{
	const struct vac_gpu *gpu = vac_gpus_find(&server->gpus, worker->device);
	const struct vac_wire_gpu_process *process;

	if (!gpu)
		return;
	process = vac_gpu_process(gpu, worker->pid);
	view->vram_valid = !process || process->bytes_valid;
	view->vram_bytes = process ? process->bytes : 0;
}

static size_t view_gpus(struct vac_server *server, struct vac_gpu_view *views)
{
	size_t count = 0;

	for (uint32_t i = 1; i < server->device_count; i++) {
		struct vac_device *device = &server->devices[i];
		const struct vac_gpu *gpu = vac_gpus_find(&server->gpus, device->name);
		struct vac_gpu_view *view = &views[count];

		if (!gpu)
			continue;
		*view = (struct vac_gpu_view){
			.device = device->name,
			.name = gpu->name,
			.uuid = gpu->uuid,
			.total_bytes = gpu->total_bytes,
			.used_bytes = gpu->used_bytes,
			.planned_bytes = vac_budget_used(&device->budget),
			.processes = gpu->process_count,
		};
		/* The total is a part of it. */
		vac_budget_measure(&device->budget, vac_now_ns(), INT64_C(1000000000));
		view->limit_valid = vac_budget_limit(&device->budget, &view->limit_bytes);
		count++;
	}
	return count;
}

static size_t view_workers(const struct vac_server *server, struct vac_worker_view *views)
{
	const struct vac_worker *worker = server->supervisor.workers;
	struct vac_error err;
	size_t count = 0;

	for (; worker; worker = worker->next) {
		struct vac_worker_view *view = &views[count];

		if (worker->plan_only)
			continue;
		*view = (struct vac_worker_view){
			.device = worker->device,
			.description = worker->description,
			.sandbox = worker->sandbox[0] ? worker->sandbox : NULL,
			.pid = worker->pid,
			.models = vac_registry_models_on(&server->registry, worker),
		};
		view_vram(server, worker, view);
		/* Gone while we look: unknown, not 0. */
		if (vac_meter_process(worker->pid, &view->usage, &err) < 0)
			view->usage.valid = false;
		count++;
	}
	return count;
}

static void answer_ps(struct vac_request *request)
{
	struct vac_server *server = request->server;
	struct vac_gpu_view gpus[VAC_SERVER_MAX_DEVICES];
	size_t workers = 1;
	struct vac_model_view *models =
		calloc((size_t)server->registry.model_count + 1, sizeof(*models));
	struct vac_worker_view *worker_views;
	struct vac_usage usage = {0};
	struct vac_host_memory host = {0};
	struct vac_outcome outcome = {.server_usage = &usage, .host = &host};
	struct vac_error err;

	for (const struct vac_worker *worker = server->supervisor.workers; worker;
	     worker = worker->next)
		workers++;
	worker_views = calloc(workers, sizeof(*worker_views));
	if (!models || !worker_views) {
		fail_nomem(request);
	} else {
		outcome.models = models;
		outcome.model_count = view_active(server, models);
		outcome.workers = worker_views;
		outcome.worker_count = view_workers(server, worker_views);
		outcome.gpus = gpus;
		outcome.gpu_count = view_gpus(server, gpus);
		if (vac_meter_process(0, &usage, &err) < 0)
			usage.valid = false;
		vac_meter_host("", &host);
		vac_dispatch_answer(request, &outcome);
	}
	free(models);
	free(worker_views);
}

static void gpus_read(struct vac_gpus_wait *wait)
{
	answer_ps(VAC_CONTAINER(wait, struct vac_request, gpus_wait));
}

void vac_views_ps(struct vac_request *request)
{
	if (request->server->device_count > 1)
		vac_gpus_ask(&request->server->gpus, &request->gpus_wait, gpus_read);
	else
		answer_ps(request);
}

void vac_views_running(struct vac_request *request)
{
	struct vac_server *server = request->server;
	struct vac_model_view *models =
		calloc((size_t)server->registry.model_count + 1, sizeof(*models));
	struct vac_outcome outcome = {.models = models};

	if (!models) {
		fail_nomem(request);
		return;
	}
	outcome.model_count = view_active(server, models);
	vac_dispatch_answer(request, &outcome);
	free(models);
}

/* ---- RECEIPTS ---- */

void vac_views_receipts(struct vac_request *request)
{
	const struct vac_receipts *kept = &request->server->receipts;
	size_t limit = request->call.limit, most = kept->count, count = 0;
	struct vac_receipt *receipts;
	struct vac_outcome outcome = {0};

	if (limit > 0 && limit < most)
		most = limit;
	receipts = calloc(most ? most : 1, sizeof(*receipts));
	if (!receipts) {
		fail_nomem(request);
		return;
	}
	/* All are looked at: the clock may have stepped between them. */
	for (size_t i = 0; i < kept->count && count < most; i++) {
		const struct vac_receipt *receipt = vac_receipts_get(kept, i);

		if (receipt->wall_ns >= request->call.since_wall_ns)
			receipts[count++] = *receipt;
	}
	outcome.receipts = receipts;
	outcome.receipt_count = count;
	vac_dispatch_answer(request, &outcome);
	free(receipts);
}
