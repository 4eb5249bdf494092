/*
 * unload.c - the way of an unload. Every step is timed from outside: what a
 * receipt calls measured comes from /proc, never from the worker's ledger.
 * The loop's thread only.
 */
#include "server/unload.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "memory/trim.h"
#include "server/state.h"

#define WALK_AFTER_NS INT64_C(100000000) /* a load */

/* ---- the receipts that are kept ---- */

int vac_receipts_init(struct vac_receipts *receipts, struct vac_error *err)
{
	size_t bytes = VAC_RECEIPTS_KEPT * sizeof(*receipts->ring);

	*receipts = (struct vac_receipts){.ring = vac_host_map(bytes), .next_id = 1};
	if (!receipts->ring)
		return vac_fail_nomem(err, "the receipts", bytes);
	return 0;
}

void vac_receipts_free(struct vac_receipts *receipts)
{
	if (receipts->ring)
		vac_host_unmap(receipts->ring, VAC_RECEIPTS_KEPT * sizeof(*receipts->ring));
	receipts->ring = NULL;
}

const struct vac_receipt *vac_receipts_get(const struct vac_receipts *receipts, size_t at)
{
	if (at >= receipts->count)
		return NULL;
	return &receipts->ring[(receipts->next + VAC_RECEIPTS_KEPT - 1 - at) % VAC_RECEIPTS_KEPT];
}

static void keep(struct vac_receipts *receipts, const struct vac_receipt *receipt)
{
	receipts->ring[receipts->next] = *receipt;
	receipts->next = (receipts->next + 1) % VAC_RECEIPTS_KEPT;
	if (receipts->count < VAC_RECEIPTS_KEPT)
		receipts->count++;
}

/* ---- measuring ---- */

/* A measurement that fails leaves valid false: unknown, not 0. */
static void measure(pid_t pid, struct vac_usage *out)
{
	struct vac_error err;

	memset(out, 0, sizeof(*out));
	if (vac_meter_process(pid, out, &err) < 0) {
		vac_log(VAC_LOG_WARN, "process %d cannot be measured: %s", (int)pid, err.message);
		out->valid = false;
	}
}

/* Walking the pages of a worker with a context takes 3 to 5 ms, twice most of an unload
 * beside others. Weights on a GPU are in no file's mapping of the worker: what comes and goes
 * is anonymous, and the kernel counts that exactly. So its pages are walked once, when a
 * second model has come, and readings go from there by the counters. */
static void measure_worker(const struct vac_job *job, struct vac_usage *out)
{
	struct vac_resident now;
	pid_t pid = job->receipt.worker_pid;

	if (job->walked.valid && vac_meter_resident(pid, &now) == 0)
		vac_usage_at(&job->walked, &job->counted, &now, out);
	else
		measure(pid, out);
}

void vac_unload_prepare(struct vac_server *server, struct vac_worker *worker)
{
	worker->walked.valid = false;
	if (vac_registry_models_on(&server->registry, worker) < 2)
		return;
	worker->to_walk = true;
	if (!vac_timer_is_set(&server->walk_timer))
		vac_timer_set(&server->loop, &server->walk_timer, vac_now_ns() + WALK_AFTER_NS);
}

/* One a turn of the loop. */
void vac_unload_walk(struct vac_timer *timer)
{
	struct vac_server *server = VAC_CONTAINER(timer, struct vac_server, walk_timer);
	struct vac_worker *worker = server->supervisor.workers;
	struct vac_error err;

	while (worker && !worker->to_walk)
		worker = worker->next;
	if (!worker)
		return;
	worker->to_walk = false;
	if (worker->state == VAC_WORKER_READY &&
	    vac_meter_resident(worker->pid, &worker->counted) == 0 &&
	    vac_meter_process(worker->pid, &worker->walked, &err) < 0)
		worker->walked.valid = false;
	vac_timer_set(&server->loop, timer, vac_now_ns());
}

/* What the kernel keeps of the weight files, after dropping it if asked to. */
static void measure_page_cache(const struct vac_model *model, struct vac_receipt *receipt)
{
	struct vac_error err;
	bool dropped = false;

	receipt->page_cache_valid =
		vac_meter_dir_cache(model->dir, ".safetensors", model->drop_cache,
				    &receipt->page_cache_bytes, &dropped, &err) == 0;
	receipt->page_cache_dropped = model->drop_cache && dropped;
	/* Told to log and not to the client: the model itself is unloaded. */
	if (!receipt->page_cache_valid)
		vac_log(VAC_LOG_DEBUG, "%s", err.message);
}

static void measure_device(const struct vac_server *server, const struct vac_receipt *receipt,
			   struct vac_device_memory *out)
{
	const struct vac_gpu *gpu = vac_gpus_find(&server->gpus, receipt->device);
	const struct vac_wire_gpu_process *process;

	memset(out, 0, sizeof(*out));
	if (!gpu)
		return;
	process = vac_gpu_process(gpu, receipt->worker_pid);
	*out = (struct vac_device_memory){
		.valid = true,
		.listed = process != NULL,
		.process_bytes_valid = !process || process->bytes_valid,
		.process_bytes = process ? process->bytes : 0,
		.used_bytes = gpu->used_bytes,
	};
}

/* ---- the receipt ---- */

static void begin_receipt(const struct vac_model *model, pid_t worker_pid,
			  struct vac_receipt *receipt)
{
	memset(receipt, 0, sizeof(*receipt));
	snprintf(receipt->model, sizeof(receipt->model), "%s", model->name);
	snprintf(receipt->device, sizeof(receipt->device), "%s", model->device->name);
	receipt->reason = model->reason;
	receipt->resident_ns = model->decided_ns - model->resident_ns;
	receipt->requests = model->requests;
	receipt->planned_bytes =
		vac_plan_bytes(&model->info.plan, false) + vac_plan_bytes(&model->info.plan, true);
	receipt->on_device = model->device->budget.on_device;
	receipt->device_planned_bytes = vac_plan_bytes(&model->info.plan, true);
	receipt->worker_pid = worker_pid;
}

/* The worker has left or was measured: the server's own side. */
static void measure_server(const struct vac_model *model, struct vac_receipt *receipt)
{
	if (!receipt->page_cache_valid)
		measure_page_cache(model, receipt);
	vac_trim();
	measure(0, &receipt->server_after);
}

static void complete_receipt(struct vac_server *server, const struct vac_model *model,
			     struct vac_receipt *receipt)
{
	receipt->wall_ns = vac_wall_ns();
	receipt->unload_ns = vac_now_ns() - model->decided_ns;
	receipt->id = server->receipts.next_id++;
}

static void log_receipt(const struct vac_receipt *receipt)
{
	const char *end = receipt->worker_exited ? ", worker ended" : "";
	double ms = (double)receipt->unload_ns / 1e6;

	if (vac_receipt_valid(receipt))
		vac_log(VAC_LOG_INFO,
			"model %s unloaded (%s) in %.1f ms: %" PRId64 " bytes returned, %" PRIu64
			" unaccounted%s",
			receipt->model, vac_unload_reason_name(receipt->reason), ms,
			vac_receipt_returned_bytes(receipt), vac_receipt_unaccounted_bytes(receipt),
			end);
	else /* a worker that died was not measured before */
		vac_log(VAC_LOG_INFO, "model %s unloaded (%s) in %.1f ms: not measured%s",
			receipt->model, vac_unload_reason_name(receipt->reason), ms, end);
}

static void publish_receipt(struct vac_server *server, const struct vac_receipt *receipt)
{
	keep(&server->receipts, receipt);
	vac_journal_write(&server->journal, receipt);
	vac_metrics_unload(&server->metrics, receipt);
	log_receipt(receipt);
}

static void worker_exited(struct vac_receipt *receipt)
{
	receipt->worker_exited = true;
	memset(&receipt->worker_after, 0, sizeof(receipt->worker_after));
	receipt->worker_after.valid = true;
}

/* Where the time of an unload went. */
static void log_stages(const struct vac_job *job)
{
	int64_t begun = job->model->decided_ns;
	double last = (double)(vac_now_ns() - job->hosts_ns);

	vac_log(VAC_LOG_DEBUG,
		"unload of %s in ms: %.2f to the first reading's end, %.2f of the worker, %.2f of "
		"/proc afterwards, %.2f until the device was read, too",
		job->model->name, (double)(job->asked_ns - begun) / 1e6,
		(double)(job->answered_ns - job->asked_ns) / 1e6,
		(double)(job->hosts_ns - job->answered_ns) / 1e6, last / 1e6);
}

static void finish(struct vac_job *job)
{
	struct vac_model *model = job->model;

	complete_receipt(job->server, model, &job->receipt);
	if (job->asked_ns && job->answered_ns && job->hosts_ns)
		log_stages(job);
	publish_receipt(job->server, &job->receipt);
	vac_registry_unloaded(&job->server->registry, model, &job->receipt);
}

static void device_measured(struct vac_gpus_wait *wait)
{
	struct vac_job *job = VAC_CONTAINER(wait, struct vac_job, gpus_wait);

	measure_device(job->server, &job->receipt, &job->receipt.device_after);
	finish(job);
}

/* What the kernel says, of the worker (unless it is gone) and the server, takes it
 * as long as NVML's word takes vacate-gpud. */
static void measure_hosts_after(struct vac_job *job)
{
	struct vac_receipt *receipt = &job->receipt;

	if (!receipt->worker_exited)
		measure_worker(job, &receipt->worker_after);
	measure_server(job->model, receipt);
	job->hosts_ns = vac_now_ns();
}

static void meanwhile_after(struct vac_gpus_wait *wait)
{
	measure_hosts_after(VAC_CONTAINER(wait, struct vac_job, gpus_wait));
}

/* The worker has answered or is gone. */
static void measure_last(struct vac_job *job)
{
	job->step = VAC_JOB_IDLE;
	job->answered_ns = vac_now_ns();
	/* It may be gone: nobody is to look at it any more. */
	job->model->worker = NULL;
	if (job->receipt.on_device) {
		vac_gpus_ask_and(&job->server->gpus, &job->gpus_wait, meanwhile_after,
				 device_measured);
		return;
	}
	measure_hosts_after(job);
	finish(job);
}

/* ---- steps ---- */

static int unload_answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
			   const void *payload, struct vac_error *err)
{
	struct vac_job *job = VAC_CONTAINER(exchange, struct vac_job, exchange);
	struct vac_server *server = job->server;
	struct vac_worker *worker = job->model->worker;
	struct vac_wire_unloaded unloaded;

	/* A worker that refuses to unload has lost count of its models. */
	if (header->type != VAC_WIRE_UNLOADED)
		return vac_fail(err, VAC_E_INVALID, "UNLOAD was answered with type %u",
				header->type);
	if (vac_wire_get_unloaded(payload, header->payload_bytes, &unloaded, err) < 0)
		return -EINVAL;
	job->receipt.ledger_bytes = unloaded.freed_bytes;
	job->receipt.device_ledger_bytes = unloaded.freed_device_bytes;
	if (unloaded.models_left == 0 &&
	    !vac_registry_load_waits(&server->registry, worker, worker->device, worker->owner)) {
		job->step = VAC_JOB_AWAITS_EXIT;
		vac_worker_stop(worker);
		return 0;
	}
	measure_last(job);
	return 0;
}

/* The worker died instead of unloading: the memory is back all the same. */
static void died_instead(struct vac_job *job)
{
	job->receipt.reason = VAC_UNLOAD_WORKER_DIED;
	job->receipt.ledger_bytes = job->model->info.ledger_bytes;
	job->receipt.device_ledger_bytes = vac_plan_own_bytes(&job->model->info.plan, true);
	worker_exited(&job->receipt);
	measure_last(job);
}

static void unload_lost(struct vac_exchange *exchange, const struct vac_error *why)
{
	struct vac_job *job = VAC_CONTAINER(exchange, struct vac_job, exchange);

	vac_log(VAC_LOG_WARN, "model %s was to be unloaded when its worker died: %s",
		job->model->name, why->message);
	died_instead(job);
}

static void ask_worker(struct vac_job *job)
{
	struct vac_model *model = job->model;
	struct vac_ask ask;
	struct vac_error err;

	/* A parked worker answers nothing. What it keeps in RAM goes with it. */
	if (model->ends_worker) {
		job->receipt.ledger_bytes = model->info.ledger_bytes;
		job->receipt.device_ledger_bytes = 0;
		job->step = VAC_JOB_AWAITS_EXIT;
		vac_worker_end(model->worker);
		return;
	}
	job->step = VAC_JOB_IDLE;
	job->asked_ns = vac_now_ns();
	job->exchange.answer = unload_answered;
	job->exchange.lost = unload_lost;
	ask = vac_worker_begin(model->worker);
	vac_wire_put_unload(&model->worker->out, ask.id, model->wire_id);
	if (vac_worker_commit(&ask, &job->exchange, &err) == 0)
		return;
	/* Not even 24 bytes can be sent. The worker's end gives all back. */
	vac_worker_fail(model->worker, VAC_E_NO_ROOM, "worker %d cannot be asked to unload: %s",
			(int)model->worker->pid, err.message);
	ask = vac_worker_begin(model->worker);
	if (vac_worker_commit(&ask, &job->exchange, &err) < 0)
		assert(!"a dying worker takes every exchange");
}

static void measure_hosts_before(struct vac_job *job)
{
	const struct vac_worker *worker = job->model->worker;
	bool others = vac_registry_models_on(&job->server->registry, worker) > 1;

	job->walked = worker->walked;
	job->counted = worker->counted;
	job->walked.valid &= job->receipt.on_device && others;
	measure_worker(job, &job->receipt.worker_before);
	measure(0, &job->receipt.server_before);
	/* While the device is read; what is to be dropped is counted at the end. */
	if (job->receipt.on_device && !job->model->drop_cache)
		measure_page_cache(job->model, &job->receipt);
}

static void meanwhile_before(struct vac_gpus_wait *wait)
{
	measure_hosts_before(VAC_CONTAINER(wait, struct vac_job, gpus_wait));
}

static void device_measured_before(struct vac_gpus_wait *wait)
{
	struct vac_job *job = VAC_CONTAINER(wait, struct vac_job, gpus_wait);

	measure_device(job->server, &job->receipt, &job->receipt.device_before);
	ask_worker(job);
}

void vac_unload_begin(void *ctx, struct vac_model *model)
{
	struct vac_server *server = ctx;
	struct vac_job *job = model->user;

	begin_receipt(model, model->worker->pid, &job->receipt);
	job->asked_ns = job->answered_ns = job->hosts_ns = 0;
	if (!job->receipt.on_device) {
		measure_hosts_before(job);
		ask_worker(job);
		return;
	}
	job->step = VAC_JOB_MEASURES;
	vac_gpus_ask_and(&server->gpus, &job->gpus_wait, meanwhile_before, device_measured_before);
}

void vac_unload_worker_gone(struct vac_server *server, const struct vac_worker *worker)
{
	struct vac_model *model = server->registry.models;

	for (; model; model = model->next) {
		struct vac_job *job = model->user;

		if (!job || model->worker != worker || job->step == VAC_JOB_IDLE)
			continue;
		if (job->step == VAC_JOB_MEASURES) {
			vac_gpus_unwait(&server->gpus, &job->gpus_wait);
			died_instead(job);
		} else {
			worker_exited(&job->receipt);
			measure_last(job);
		}
	}
}

/* ---- workers that die ---- */

/* The receipt of a model whose worker died on a GPU, until that was measured. The
 * model goes on without it: it may be loaded again before. */
struct vac_late_receipt {
	struct vac_late_receipt *next;
	struct vac_server *server;
	struct vac_gpus_wait gpus_wait;
	struct vac_receipt receipt;
};

static void publish_late(struct vac_late_receipt *late)
{
	struct vac_late_receipt **link = &late->server->late_receipts;

	while (*link != late)
		link = &(*link)->next;
	*link = late->next;
	publish_receipt(late->server, &late->receipt);
	free(late);
}

static void late_measured(struct vac_gpus_wait *wait)
{
	struct vac_late_receipt *late = VAC_CONTAINER(wait, struct vac_late_receipt, gpus_wait);

	measure_device(late->server, &late->receipt, &late->receipt.device_after);
	publish_late(late);
}

void vac_unload_died(void *ctx, struct vac_model *model, struct vac_receipt *receipt)
{
	struct vac_server *server = ctx;
	struct vac_late_receipt *late;

	begin_receipt(model, model->worker->pid, receipt);
	receipt->ledger_bytes = model->info.ledger_bytes;
	measure(0, &receipt->server_before);
	worker_exited(receipt);
	if (receipt->on_device) {
		receipt->device_ledger_bytes = vac_plan_own_bytes(&model->info.plan, true);
		/* There was no time for a reading: the last one that listed the worker. */
		measure_device(server, receipt, &receipt->device_before);
		if (!receipt->device_before.listed)
			receipt->device_before.valid = false;
	}
	measure_server(model, receipt);
	complete_receipt(server, model, receipt);
	late = receipt->on_device ? calloc(1, sizeof(*late)) : NULL;
	if (!late) {
		publish_receipt(server, receipt);
		return;
	}
	late->server = server;
	late->receipt = *receipt;
	late->next = server->late_receipts;
	server->late_receipts = late;
	vac_gpus_ask(&server->gpus, &late->gpus_wait, late_measured);
}

void vac_unload_free(struct vac_server *server)
{
	while (server->late_receipts)
		publish_late(server->late_receipts);
}
