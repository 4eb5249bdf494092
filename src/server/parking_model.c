/*
 * parking_model.c - workers of this server that are parked and restored, as the registry
 * asks for it: one HOLD after the other, then a reading of the GPUs, then the registry is
 * told. One that neither comes back nor stays parked is killed: its models are loaded anew
 * when they are asked for. The loop's thread only.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "hold/record.h"
#include "server/parking_private.h"

#define MIB(bytes) ((double)(bytes) / 1048576.0)

/* ---- asking ---- */

void vac_parking_next(struct vac_server *server)
{
	struct vac_parking *parking = &server->parking;
	struct vac_parked *parked = parking->queue;

	if (!parked || parking->hold.id != 0)
		return;
	parking->queue = parked->next;
	parked->next = NULL;
	vac_parking_hold(server, parked, parked->operation);
}

static void enqueue(struct vac_server *server, struct vac_parked *parked)
{
	struct vac_parked **at = &server->parking.queue;

	while (*at)
		at = &(*at)->next;
	parked->next = NULL;
	*at = parked;
	vac_parking_next(server);
}

static int describe(struct vac_parked *parked, const struct vac_worker *worker,
		    struct vac_error *err)
{
	struct vac_target target;
	int rc = vac_target_open(worker->pid, &target, err);

	if (rc < 0)
		return rc;
	parked->pid = worker->pid;
	parked->start_ticks = target.start_ticks;
	vac_target_close(&target);
	return 0;
}

/* The worker of a model, to be asked for later; NULL: nothing has begun. */
static struct vac_parked *prepare(struct vac_model *model, enum vac_wire_hold_operation operation,
				  struct vac_error *err)
{
	struct vac_job *job = model->user;
	struct vac_parked *parked = calloc(1, sizeof(*parked));

	if (!parked) {
		vac_fail_nomem(err, "a parked worker", sizeof(*parked));
		return NULL;
	}
	if (describe(parked, model->worker, err) < 0) {
		vac_parked_free(parked);
		return NULL;
	}
	parked->own = true;
	parked->model = model;
	parked->device = model->device;
	parked->wanted = parked->operation = operation;
	/* What was parked must be able to come back. */
	parked->risk = job->risk || operation == VAC_WIRE_HOLD_RESUME;
	job->parked = parked;
	return parked;
}

/* What the models of a worker were planned with on its device. */
static uint64_t planned_bytes(const struct vac_server *server, const struct vac_model *of)
{
	uint64_t bytes = 0;

	for (const struct vac_model *model = server->registry.models; model; model = model->next) {
		if (model->active.list && vac_registry_shares(model, of))
			bytes += vac_plan_bytes(&model->info.plan, true);
	}
	return bytes;
}

/* What the worker has on its GPU, by the last reading; where NVML does not say, what was
 * planned, as far as that goes. */
static uint64_t held_bytes(const struct vac_server *server, const struct vac_model *model)
{
	const struct vac_gpu *gpu = vac_gpus_find(&server->gpus, model->device->name);
	const struct vac_wire_gpu_process *process =
		gpu ? vac_gpu_process(gpu, model->worker->pid) : NULL;

	return process && process->bytes_valid ? process->bytes : planned_bytes(server, model);
}

/* vacate-gpud looks whether the machine has the RAM; this, whether it may be used. */
static int check_ram(struct vac_server *server, const struct vac_model *model,
		     struct vac_error *err)
{
	struct vac_budget *ram = &server->devices[0].budget;
	uint64_t bytes = held_bytes(server, model), room;

	vac_budget_measure(ram, vac_now_ns(), 0);
	if (!ram->room.free_valid)
		return 0;
	room = vac_budget_room_left(ram);
	if (bytes <= room)
		return 0;
	return vac_fail(err, VAC_E_NO_ROOM,
			"model %.100s cannot be parked: its worker has %.1f MiB on %s, which would "
			"go into RAM, and of the RAM that models may take (--ram, --headroom) "
			"%.1f MiB are left",
			model->name, MIB(bytes), model->device->name, MIB(room));
}

/* There is a reading that knows what the worker holds: one from before its last load would
 * know nothing of it. */
static void park_read(struct vac_gpus_wait *wait)
{
	struct vac_job *job = VAC_CONTAINER(wait, struct vac_job, gpus_wait);
	struct vac_model *model = job->model;
	struct vac_error err;

	if (check_ram(job->server, model, &err) < 0) {
		vac_parked_free(job->parked);
		job->parked = NULL;
		vac_registry_not_parked(&job->server->registry, model, &err);
		return;
	}
	model->worker->parked = true;
	enqueue(job->server, job->parked);
}

void vac_parking_park_model(void *ctx, struct vac_model *model)
{
	struct vac_server *server = ctx;
	struct vac_job *job = model->user;
	struct vac_error err;

	if (prepare(model, VAC_WIRE_HOLD_PARK, &err))
		vac_gpus_ask(&server->gpus, &job->gpus_wait, park_read);
	else
		vac_registry_not_parked(&server->registry, model, &err);
}

void vac_parking_restore_model(void *ctx, struct vac_model *model)
{
	struct vac_server *server = ctx;
	struct vac_error err;
	struct vac_parked *parked = prepare(model, VAC_WIRE_HOLD_RESUME, &err);

	if (parked)
		enqueue(server, parked);
	else
		vac_registry_restore_refused(&server->registry, model, &err);
}

void vac_parking_allow_risk(struct vac_model *model, bool risk)
{
	struct vac_job *job = model->user;

	if (job)
		job->risk = risk;
}

/* ---- what came of it ---- */

enum end {
	END_DONE,    /* what was asked last */
	END_REFUSED, /* nothing has changed */
	END_UNSURE,  /* it is neither here nor there */
	END_LOST,
};

static enum end judge(const struct vac_parked *parked, const struct vac_error *why)
{
	bool park = parked->operation == VAC_WIRE_HOLD_PARK;

	if (why->code == VAC_OK)
		return END_DONE;
	if (parked->unanswered)
		return END_UNSURE;
	switch (parked->after) {
	case VAC_WIRE_HELD_FAILED:
		return END_LOST;
	case VAC_WIRE_HELD_LOCKED:
		return END_UNSURE;
	case VAC_WIRE_HELD_PARKED:
		return park ? END_UNSURE : END_REFUSED;
	case VAC_WIRE_HELD_RUNNING:
		return park ? END_REFUSED : END_DONE;
	case VAC_WIRE_HELD_UNKNOWN:
		break;
	}
	return parked->back ? END_LOST : END_REFUSED;
}

/* What it had on the device of its models, and what was free beside it. */
static struct vac_record_device measured(const struct vac_server *server,
					 const struct vac_parked *parked)
{
	const struct vac_gpu *gpu = vac_gpus_find(&server->gpus, parked->device->name);
	struct vac_record_device had = {.spare_bytes = UINT64_MAX};

	for (uint32_t i = 0; gpu && parked->held && i < parked->held->device_count; i++) {
		const struct vac_wire_held_memory *before = &parked->held->devices[i].before;

		if (strcmp(parked->held->devices[i].uuid, gpu->uuid) != 0 || !before->bytes_valid)
			continue;
		had.bytes = before->bytes;
		had.bytes_valid = had.bytes > 0;
		if (before->used_bytes < before->total_bytes)
			had.spare_bytes = before->total_bytes - before->used_bytes;
	}
	/* NVML does not say: what was planned, as far as that goes. */
	if (!had.bytes_valid)
		had.bytes = planned_bytes(server, parked->model);
	return had;
}

static void give_up(struct vac_parked *parked)
{
	struct vac_worker *worker = parked->model->worker;

	vac_log(VAC_LOG_ERROR, "model %s and all others of worker %d are lost: %s",
		parked->model->name, (int)worker->pid, parked->why.message);
	vac_worker_fail(worker, VAC_E_GONE,
			"worker %d for %s did not come back to its GPU, so it was killed: %s",
			(int)worker->pid, worker->device, parked->why.message);
}

static void tell_parked(struct vac_server *server, struct vac_parked *parked)
{
	struct vac_model *model = parked->model;
	const struct vac_record_device had = measured(server, parked);

	vac_log(VAC_LOG_INFO, "worker %d with model %s is parked: %.1f MiB of %s", (int)parked->pid,
		model->name, MIB(had.bytes), model->device->name);
	vac_registry_parked(&server->registry, model, had.bytes,
			    had.bytes + vac_room_margin_bytes(&had));
}

static void tell_not_parked(struct vac_server *server, struct vac_parked *parked)
{
	struct vac_model *model = parked->model;

	vac_log(VAC_LOG_WARN, "worker %d with model %s was not parked: %s", (int)parked->pid,
		model->name, parked->why.message);
	model->worker->parked = false;
	vac_registry_not_parked(&server->registry, model, &parked->why);
}

static void tell_restored(struct vac_server *server, struct vac_parked *parked)
{
	struct vac_model *model = parked->model;

	vac_log(VAC_LOG_INFO, "worker %d with model %s is back on %s", (int)parked->pid,
		model->name, model->device->name);
	model->worker->parked = false;
	vac_registry_restored(&server->registry, model);
}

static void tell_not_restored(struct vac_server *server, struct vac_parked *parked)
{
	vac_error_prefix(&parked->why, "model %.100s stays parked", parked->model->name);
	vac_log(VAC_LOG_WARN, "%s", parked->why.message);
	vac_registry_restore_refused(&server->registry, parked->model, &parked->why);
}

/* There is a reading that knows of it. */
static void conclude(struct vac_gpus_wait *wait)
{
	struct vac_job *job = VAC_CONTAINER(wait, struct vac_job, gpus_wait);
	struct vac_server *server = job->server;
	struct vac_parked *parked = job->parked;
	bool on_gpu = parked->after == VAC_WIRE_HELD_RUNNING;

	job->parked = NULL;
	server->parking.told = parked;
	if (parked->wanted == VAC_WIRE_HOLD_PARK) {
		if (on_gpu)
			tell_not_parked(server, parked);
		else
			tell_parked(server, parked);
	} else if (on_gpu) {
		tell_restored(server, parked);
	} else {
		tell_not_restored(server, parked);
	}
	server->parking.told = NULL;
	vac_parked_free(parked);
}

static void keep_receipt(const struct vac_server *server, struct vac_parked *parked)
{
	const struct vac_wire_held *held = server->parking.held;

	if (!held || parked->unanswered || parked->after == VAC_WIRE_HELD_UNKNOWN ||
	    held->count == 0)
		return;
	if (!parked->held)
		parked->held = malloc(sizeof(*parked->held));
	if (parked->held)
		*parked->held = held->targets[0];
}

void vac_parking_moved(struct vac_server *server, struct vac_parked *parked,
		       const struct vac_error *why)
{
	bool park = parked->operation == VAC_WIRE_HOLD_PARK;
	struct vac_job *job;

	if (!parked->model) {
		vac_parked_free(parked);
		return;
	}
	job = parked->model->user;
	keep_receipt(server, parked);
	if (why->code != VAC_OK && parked->why.code == VAC_OK)
		parked->why = *why;
	switch (judge(parked, why)) {
	case END_DONE:
		parked->after = park ? VAC_WIRE_HELD_PARKED : VAC_WIRE_HELD_RUNNING;
		break;
	case END_REFUSED:
		parked->after = park ? VAC_WIRE_HELD_RUNNING : VAC_WIRE_HELD_PARKED;
		break;
	case END_UNSURE:
		if (!parked->back) {
			parked->back = parked->risk = true;
			parked->operation = VAC_WIRE_HOLD_RESUME;
			enqueue(server, parked);
			return;
		}
		/* fall through */
	case END_LOST:
		job->parked = NULL;
		give_up(parked);
		vac_parked_free(parked);
		return;
	}
	vac_gpus_ask(&server->gpus, &job->gpus_wait, conclude);
}

/* ---- deaths ---- */

static bool take_out(struct vac_parking *parking, const struct vac_parked *parked)
{
	struct vac_parked **at = &parking->queue;

	while (*at && *at != parked)
		at = &(*at)->next;
	if (!*at)
		return false;
	*at = parked->next;
	return true;
}

static void forget(struct vac_server *server, struct vac_job *job)
{
	struct vac_parked *parked = job->parked;

	job->parked = NULL;
	if (parked == server->parking.at && server->parking.hold.id != 0) {
		parked->model = NULL; /* its answer is nobody's */
		return;
	}
	if (!take_out(&server->parking, parked))
		vac_gpus_unwait(&server->gpus, &job->gpus_wait);
	vac_parked_free(parked);
}

void vac_parking_worker_gone(struct vac_server *server, const struct vac_worker *worker)
{
	for (struct vac_model *model = server->registry.models; model; model = model->next) {
		struct vac_job *job = model->user;

		if (!job || model->worker != worker)
			continue;
		if (job->parked)
			forget(server, job);
		/* Or it waits for a reading before it comes back. */
		else if (model->plan_asked &&
			 (model->restoring || model->state == VAC_REGISTRY_PARKED))
			vac_gpus_unwait(&server->gpus, &job->gpus_wait);
	}
}
