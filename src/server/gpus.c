/* gpus.c - readings of GPUs; see gpus.h. The loop's thread only. */
#include "server/gpus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "wire/spawn.h"

/* vacate-gpud stays so long after the last question. */
#define IDLE_MS   10000
#define NS_PER_MS INT64_C(1000000)

static void idle(struct vac_timer *timer);

int vac_gpus_init(struct vac_gpus *gpus, struct vac_supervisor *supervisor, struct vac_error *err)
{
	*gpus = (struct vac_gpus){.supervisor = supervisor};
	if (vac_timer_open(supervisor->loop, &gpus->timer, idle) < 0)
		return vac_fail_nomem(err, "a timer", sizeof(gpus->timer));
	return 0;
}

void vac_gpus_free(struct vac_gpus *gpus)
{
	if (gpus->supervisor)
		vac_timer_close(gpus->supervisor->loop, &gpus->timer);
	free(gpus->list);
	gpus->list = NULL;
	gpus->count = 0;
}

static void copy(char *to, size_t room, struct vac_wire_string from)
{
	snprintf(to, room, "%.*s", (int)(from.bytes < room ? from.bytes : room), from.text);
}

static void take(struct vac_gpus *gpus, const struct vac_wire_gpus *read)
{
	gpus->count = read->count;
	for (uint32_t i = 0; i < read->count; i++) {
		const struct vac_wire_gpu *from = &read->gpus[i];
		struct vac_gpu *to = &gpus->list[i];

		copy(to->device, sizeof(to->device), from->device);
		copy(to->name, sizeof(to->name), from->name);
		copy(to->uuid, sizeof(to->uuid), from->uuid);
		to->total_bytes = from->total_bytes;
		to->used_bytes = from->used_bytes;
		to->process_count = from->process_count;
		memcpy(to->processes, from->processes, sizeof(to->processes));
	}
}

/* ---- asking ---- */

static void ask(struct vac_gpus *gpus);

static void conclude(struct vac_gpus *gpus, const struct vac_error *error)
{
	struct vac_gpus_wait *wait;

	gpus->error = error ? *error : (struct vac_error){0};
	gpus->read_ns = vac_now_ns();
	vac_timer_set(gpus->supervisor->loop, &gpus->timer, gpus->read_ns + IDLE_MS * NS_PER_MS);
	/* Before anybody decides by what an older reading was taken for. */
	if (gpus->changed)
		gpus->changed(gpus->ctx);
	/* Whoever is told may ask again, and may end others who wait. */
	gpus->telling = true;
	while ((wait = gpus->waits)) {
		void (*done)(struct vac_gpus_wait *) = wait->done;

		gpus->waits = wait->next;
		wait->done = NULL;
		done(wait);
	}
	gpus->telling = false;
	if (gpus->again && gpus->exchange.id == 0)
		ask(gpus);
}

static int answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
		    const void *payload, struct vac_error *err)
{
	struct vac_gpus *gpus = VAC_CONTAINER(exchange, struct vac_gpus, exchange);
	struct vac_wire_gpus read;
	struct vac_error refusal;

	switch (header->type) {
	case VAC_WIRE_GPUS_READ:
		if (vac_wire_get_gpus(payload, header->payload_bytes, &read, err) < 0)
			return -EINVAL;
		take(gpus, &read);
		conclude(gpus, NULL);
		return 0;
	case VAC_WIRE_ERROR:
		if (vac_wire_get_error(payload, header->payload_bytes, &refusal, err) < 0)
			return -EINVAL;
		conclude(gpus, &refusal);
		return 0;
	default:
		return vac_fail(err, VAC_E_INVALID, "GPUS was answered with type %u", header->type);
	}
}

static void lost(struct vac_exchange *exchange, const struct vac_error *why)
{
	conclude(VAC_CONTAINER(exchange, struct vac_gpus, exchange), why);
}

static int put_question(struct vac_gpus *gpus, struct vac_error *err)
{
	struct vac_worker *gpud;
	struct vac_ask question;

	if (!gpus->list)
		gpus->list = calloc(VAC_WIRE_MAX_GPUS, sizeof(*gpus->list));
	if (!gpus->list)
		return vac_fail_nomem(err, "a reading of the GPUs",
				      VAC_WIRE_MAX_GPUS * sizeof(*gpus->list));
	gpud = vac_supervisor_worker(gpus->supervisor, VAC_SPAWN_GPUS, NULL, true, err);
	if (!gpud)
		return -EIO;
	gpus->exchange.answer = answered;
	gpus->exchange.lost = lost;
	question = vac_worker_begin(gpud);
	vac_wire_put_empty(&gpud->out, VAC_WIRE_GPUS, question.id);
	if (vac_worker_commit(&question, &gpus->exchange, err) < 0)
		return -EIO;
	/* Not at the end of the loop's turn: both sides measure at the same time. */
	vac_worker_flush(gpud);
	return 0;
}

static void ask(struct vac_gpus *gpus)
{
	struct vac_error err;
	int rc;

	gpus->again = false;
	gpus->waits = gpus->later;
	gpus->later = NULL;
	vac_timer_clear(gpus->supervisor->loop, &gpus->timer);
	rc = put_question(gpus, &err);
	for (struct vac_gpus_wait *wait = gpus->waits; wait; wait = wait->next) {
		if (wait->meanwhile)
			wait->meanwhile(wait);
		wait->meanwhile = NULL;
	}
	if (rc < 0)
		conclude(gpus, &err);
}

/* Nothing is being read, and nobody is being told of what was. */
static bool is_free(const struct vac_gpus *gpus)
{
	return gpus->exchange.id == 0 && !gpus->telling && !gpus->waits;
}

void vac_gpus_ask(struct vac_gpus *gpus, struct vac_gpus_wait *wait,
		  void (*done)(struct vac_gpus_wait *wait))
{
	vac_gpus_ask_and(gpus, wait, NULL, done);
}

void vac_gpus_ask_and(struct vac_gpus *gpus, struct vac_gpus_wait *wait,
		      void (*meanwhile)(struct vac_gpus_wait *wait),
		      void (*done)(struct vac_gpus_wait *wait))
{
	/* Asked twice: only the later reading counts. */
	vac_gpus_unwait(gpus, wait);
	wait->done = done;
	wait->meanwhile = meanwhile;
	wait->next = gpus->later;
	gpus->later = wait;
	gpus->again = true;
	if (is_free(gpus))
		ask(gpus);
}

void vac_gpus_refresh(struct vac_gpus *gpus)
{
	if (gpus->telling)
		gpus->again = true;
	else if (is_free(gpus))
		ask(gpus);
}

static void drop(struct vac_gpus_wait **at, struct vac_gpus_wait *wait)
{
	while (*at && *at != wait)
		at = &(*at)->next;
	if (*at)
		*at = wait->next;
}

void vac_gpus_unwait(struct vac_gpus *gpus, struct vac_gpus_wait *wait)
{
	if (!wait->done)
		return;
	drop(&gpus->waits, wait);
	drop(&gpus->later, wait);
	wait->done = NULL;
}

/* ---- what was read ---- */

const struct vac_gpu *vac_gpus_find(const struct vac_gpus *gpus, const char *device)
{
	if (gpus->read_ns == 0 || gpus->error.code != VAC_OK)
		return NULL;
	for (uint32_t i = 0; i < gpus->count; i++) {
		if (strcmp(gpus->list[i].device, device) == 0)
			return &gpus->list[i];
	}
	return NULL;
}

const struct vac_wire_gpu_process *vac_gpu_process(const struct vac_gpu *gpu, pid_t pid)
{
	for (uint32_t i = 0; i < gpu->process_count; i++) {
		if (gpu->processes[i].pid == (uint32_t)pid)
			return &gpu->processes[i];
	}
	return NULL;
}

/* ---- the end of vacate-gpud ---- */

void vac_gpus_end(struct vac_gpus *gpus)
{
	struct vac_worker *worker = gpus->supervisor->workers;

	for (; worker; worker = worker->next) {
		if (strcmp(worker->device, VAC_SPAWN_GPUS) == 0)
			vac_worker_stop(worker);
	}
}

static void idle(struct vac_timer *timer)
{
	struct vac_gpus *gpus = VAC_CONTAINER(timer, struct vac_gpus, timer);

	if (gpus->in_use && gpus->in_use(gpus->ctx)) {
		/* A worker would be held up for 200 ms if nobody held the driver open. */
		vac_timer_set(gpus->supervisor->loop, timer, vac_now_ns() + IDLE_MS * NS_PER_MS);
		return;
	}
	vac_gpus_end(gpus);
}
