/* parking_ask.c - what parking asks of vacate-gpud. The loop's thread only. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/parking_private.h"
#include "wire/spawn.h"
#include "wire/who.h"

/* ---- WHO ---- */

static int look_answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
			 const void *payload, struct vac_error *err)
{
	struct vac_server *server = VAC_CONTAINER(exchange, struct vac_server, parking.look);
	struct vac_survey survey;
	struct vac_error refusal;

	switch (header->type) {
	case VAC_WIRE_WHO_READ:
		if (vac_wire_get_who(payload, header->payload_bytes, &survey, err) < 0)
			return -EINVAL;
		vac_parking_looked(server, &survey);
		vac_survey_free(&survey);
		return 0;
	case VAC_WIRE_ERROR:
		if (vac_wire_get_error(payload, header->payload_bytes, &refusal, err) < 0)
			return -EINVAL;
		vac_log(VAC_LOG_WARN, "who is on the GPUs is not known: %s", refusal.message);
		vac_parking_looked(server, NULL);
		return 0;
	default:
		return vac_fail(err, VAC_E_INVALID, "WHO was answered with type %u", header->type);
	}
}

static void look_lost(struct vac_exchange *exchange, const struct vac_error *why)
{
	(void)why; /* the supervisor has logged it */
	vac_parking_looked(VAC_CONTAINER(exchange, struct vac_server, parking.look), NULL);
}

void vac_parking_ask(struct vac_server *server)
{
	struct vac_parking *parking = &server->parking;
	struct vac_worker *gpud;
	struct vac_error err;
	struct vac_ask ask;
	int rc = -EIO;

	parking->look.answer = look_answered;
	parking->look.lost = look_lost;
	parking->look_ns = vac_now_ns();
	gpud = vac_supervisor_worker(&server->supervisor, VAC_SPAWN_GPUS, NULL, true, &err);
	if (gpud) {
		ask = vac_worker_begin(gpud);
		vac_wire_put_empty(&gpud->out, VAC_WIRE_WHO, ask.id);
		rc = vac_worker_commit(&ask, &parking->look, &err);
	}
	if (rc == 0)
		return;
	vac_log(VAC_LOG_WARN, "who is on the GPUs is not known: %s", err.message);
	vac_parking_looked(server, NULL);
}

/* ---- HOLD ---- */

/* No load is admitted on a GPU while a process counts on room there. */
static void block_loads(struct vac_server *server, bool block)
{
	for (uint32_t i = 1; i < server->device_count; i++) {
		server->devices[i].held = block;
		server->devices[i].budget.measured = false;
	}
	if (!block)
		vac_dispatch_registry_ops.wake_at(server, vac_now_ns());
}

static void read_again(struct vac_gpus_wait *wait)
{
	block_loads(VAC_CONTAINER(wait, struct vac_server, parking.reading), false);
}

static void conclude(struct vac_server *server, const struct vac_error *why)
{
	struct vac_parking *parking = &server->parking;
	struct vac_parked *parked = parking->at;

	parking->at = NULL;
	if (parked->own)
		vac_parking_moved(server, parked, why);
	else if (parking->operation == VAC_WIRE_HOLD_RESUME) {
		vac_parking_resumed(server, parked, why);
		/* The last reading does not know what it took. */
		vac_gpus_ask(&server->gpus, &parking->reading, read_again);
	} else {
		vac_parking_parked(server, parked, why);
	}
	vac_parking_next(server);
}

/* In what state it was left. One that is locked is resumed at once: its CUDA calls must
 * not wait for ever. */
static void note_state(struct vac_parking *parking)
{
	const struct vac_wire_held *held = parking->held;
	enum vac_wire_held_state after =
		held->count > 0 ? held->targets[0].after : VAC_WIRE_HELD_UNKNOWN;

	parking->at->after = after;
	parking->at->lost = after == VAC_WIRE_HELD_FAILED;
	if (held->error.code == VAC_OK)
		parking->at->unsure = false;
	else if (parking->operation == VAC_WIRE_HOLD_PARK)
		parking->at->unsure =
			after == VAC_WIRE_HELD_LOCKED || after == VAC_WIRE_HELD_PARKED;
	else if (after == VAC_WIRE_HELD_PARKED)
		parking->at->unsure = false;
}

static int hold_answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
			 const void *payload, struct vac_error *err)
{
	struct vac_server *server = VAC_CONTAINER(exchange, struct vac_server, parking.hold);
	struct vac_parking *parking = &server->parking;
	struct vac_wire_hold_phase phase;
	struct vac_error refusal;

	switch (header->type) {
	case VAC_WIRE_HOLD_PHASE:
		return vac_wire_get_hold_phase(payload, header->payload_bytes, &phase, err);
	case VAC_WIRE_HELD:
		if (vac_wire_get_held(payload, header->payload_bytes, parking->held, err) < 0)
			return -EINVAL;
		note_state(parking);
		refusal = parking->held->error;
		conclude(server, &refusal);
		return 0;
	case VAC_WIRE_ERROR:
		if (vac_wire_get_error(payload, header->payload_bytes, &refusal, err) < 0)
			return -EINVAL;
		conclude(server, &refusal);
		return 0;
	default:
		return vac_fail(err, VAC_E_INVALID, "HOLD was answered with type %u", header->type);
	}
}

static void hold_lost(struct vac_exchange *exchange, const struct vac_error *why)
{
	struct vac_server *server = VAC_CONTAINER(exchange, struct vac_server, parking.hold);

	/* In the middle of something: whoever resumes it looks what is to be done. */
	server->parking.at->unsure = server->parking.at->unanswered = true;
	conclude(server, why);
}

static int put_question(struct vac_server *server, const struct vac_parked *parked,
			struct vac_error *err)
{
	struct vac_parking *parking = &server->parking;
	const struct vac_wire_hold hold = {
		.operation = parking->operation,
		.risk = server->options.guard_risk || parked->risk,
		.who = vac_wire_text(parking->who),
		.count = 1,
		.targets = {{.pid = (uint32_t)parked->pid, .start_ticks = parked->start_ticks}}};
	struct vac_worker *gpud;
	struct vac_ask ask;

	if (!parking->held)
		parking->held = calloc(1, sizeof(*parking->held));
	if (!parking->held)
		return vac_fail_nomem(err, "a receipt", sizeof(*parking->held));
	gpud = vac_supervisor_worker(&server->supervisor, VAC_SPAWN_GPUS, NULL, true, err);
	if (!gpud)
		return -EIO;
	parking->hold.answer = hold_answered;
	parking->hold.lost = hold_lost;
	ask = vac_worker_begin(gpud);
	vac_wire_put_hold(&gpud->out, ask.id, &hold);
	return vac_worker_commit(&ask, &parking->hold, err);
}

void vac_parking_hold(struct vac_server *server, struct vac_parked *parked,
		      enum vac_wire_hold_operation operation)
{
	struct vac_parking *parking = &server->parking;
	struct vac_error err;

	parking->operation = operation;
	parking->at = parked;
	parked->after = VAC_WIRE_HELD_UNKNOWN;
	parked->unanswered = false;
	/* Of an own worker the registry sees to that. */
	if (operation == VAC_WIRE_HOLD_RESUME && !parked->own)
		block_loads(server, true);
	if (put_question(server, parked, &err) < 0)
		conclude(server, &err);
}
