/*
 * parking.c - who is parked for which load, and when each comes back. What is asked of
 * vacate-gpud is in parking_ask.c. The loop's thread only.
 */
#include "server/parking.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "hold/record.h"
#include "server/parking_private.h"

#define NS_PER_MS INT64_C(1000000)
/* Between looks at who uses the GPUs, so that idleness is known when it is asked for. */
#define LOOK_MS 10000
/* Between looks for a load that needs room now, and for who can come back. */
#define WANT_MS   1000
#define RESUME_MS 500
#define DRAIN_MS  50
#define RETRY_MS  5000 /* after a refusal that is not about room */
/* Who could not be parked is not tried for so long. */
#define REFUSED_MS   60000
#define MOST_RECORDS 256
#define WHO          "serve"
#define MIB(bytes)   ((double)(bytes) / 1048576.0)

/* ---- what the settings say ---- */

static int parse_user(const char *name, uid_t *uid, struct vac_error *err)
{
	struct passwd *user = getpwnam(name);
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(name, &end, 10);
	if (user)
		*uid = user->pw_uid;
	else if (*name >= '0' && *name <= '9' && !*end && errno == 0 && number < UINT32_MAX)
		*uid = (uid_t)number;
	else
		return vac_fail(err, VAC_E_INVALID, "guard_users: there is no user %.64s", name);
	if (geteuid() != 0 && *uid != geteuid())
		return vac_fail(err, VAC_E_INVALID,
				"guard_users: only a server of root may park processes of %.64s",
				name);
	return 0;
}

static int parse_users(struct vac_parking *parking, const char *text, struct vac_error *err)
{
	char *copy = text ? strdup(text) : NULL, *at = NULL;
	int rc = 0;

	parking->user_count = 0;
	if (!text) {
		parking->users[parking->user_count++] = geteuid();
		return 0;
	}
	if (!copy)
		return vac_fail_nomem(err, "the users of guard_users", strlen(text));
	for (char *word = strtok_r(copy, ", \t", &at); rc == 0 && word;
	     word = strtok_r(NULL, ", \t", &at)) {
		if (parking->user_count == VAC_PARKING_MOST_USERS)
			rc = vac_fail(err, VAC_E_INVALID, "guard_users: takes at most %u users",
				      VAC_PARKING_MOST_USERS);
		else
			rc = parse_user(word, &parking->users[parking->user_count++], err);
	}
	free(copy);
	return rc;
}

static void arm(struct vac_server *server)
{
	struct vac_parking *parking = &server->parking;
	int64_t now_ns = vac_now_ns(), at_ns = parking->on ? parking->next_look_ns : INT64_MAX;
	int64_t soon_ns = now_ns + (server->draining ? DRAIN_MS : RESUME_MS) * NS_PER_MS;

	if ((parking->list || parking->hold.id != 0) && soon_ns < at_ns)
		at_ns = soon_ns;
	if (at_ns != INT64_MAX)
		vac_timer_set(&server->loop, &parking->timer, at_ns);
	else
		vac_timer_clear(&server->loop, &parking->timer);
}

int vac_parking_configure(struct vac_server *server, struct vac_error *err)
{
	const struct vac_server_options *options = &server->options;
	struct vac_parking *parking = &server->parking;
	int rc;

	parking->on = false;
	free(parking->text);
	parking->text = NULL;
	parking->pattern_count = 0;
	rc = parse_users(parking, options->guard_users, err);
	if (rc == 0 && options->guard_park) {
		parking->text = strdup(options->guard_park);
		if (!parking->text)
			return vac_fail_nomem(err, "the patterns of guard_park", 0);
		parking->pattern_count = vac_choose_split(parking->text, parking->patterns);
		if (parking->pattern_count < 0)
			rc = vac_fail(err, VAC_E_INVALID, "guard_park: takes at most %u patterns",
				      VAC_CHOOSE_MOST_PATTERNS);
	}
	/* The first device is the CPUs. */
	parking->on = rc == 0 && parking->pattern_count > 0 && server->device_count > 1;
	parking->next_look_ns = vac_now_ns();
	arm(server);
	return rc;
}

/* ---- the list ---- */

static void drop(struct vac_parking *parking, struct vac_parked *parked)
{
	struct vac_parked **at = &parking->list;

	while (*at && *at != parked)
		at = &(*at)->next;
	if (*at)
		*at = parked->next;
	vac_parked_free(parked);
}

void vac_parked_free(struct vac_parked *parked)
{
	if (!parked)
		return;
	free(parked->for_model);
	free(parked->held);
	free(parked);
}

static void tell(struct vac_server *server, const struct vac_parked *parked,
		 enum vac_event_kind kind, const struct vac_error *why)
{
	const struct vac_event event = {
		.kind = kind,
		.at_ns = vac_now_ns(),
		.model = parked->for_model ? parked->for_model : "",
		.device = parked->device ? parked->device->name : "",
		.bytes = parked->bytes,
		.pid = parked->pid,
		.process = parked->name,
		.why = why,
	};

	vac_tell(server, &event);
}

static bool lives(const struct vac_parked *parked)
{
	const struct vac_target target = {
		.pid = parked->pid, .pidfd = -1, .start_ticks = parked->start_ticks};

	return vac_target_alive(&target);
}

/* ---- what earlier servers left ---- */

/* "serve PID START" of a server that is there no more. */
static bool is_orphan(const struct vac_record *record)
{
	const struct vac_target parked = {
		.pid = record->pid, .pidfd = -1, .start_ticks = record->start_ticks};
	struct vac_target server = {.pidfd = -1};
	unsigned long long start;
	int pid;

	if (record->state == VAC_HOLD_FAILED || record->by_uid != geteuid() ||
	    sscanf(record->who, WHO " %d %llu", &pid, &start) != 2 || pid <= 0)
		return false;
	server.pid = pid;
	server.start_ticks = start;
	/* A worker died with its server. */
	return !vac_target_alive(&server) && vac_target_alive(&parked);
}

static struct vac_device *device_of(struct vac_server *server, const char *uuid)
{
	for (uint32_t i = 1; i < server->device_count; i++) {
		const struct vac_gpu *gpu = vac_gpus_find(&server->gpus, server->devices[i].name);

		if (gpu && strcmp(gpu->uuid, uuid) == 0)
			return &server->devices[i];
	}
	return NULL;
}

static int adopt(struct vac_server *server, const struct vac_record *record, struct vac_error *err)
{
	struct vac_parking *parking = &server->parking;
	struct vac_parked *parked = calloc(1, sizeof(*parked));
	struct vac_proc proc;

	if (!parked)
		return vac_fail_nomem(err, "a parked process", sizeof(*parked));
	parked->pid = record->pid;
	parked->start_ticks = record->start_ticks;
	if (vac_proc_read("", record->pid, &proc) == 0)
		memcpy(parked->name, proc.name, sizeof(parked->name));
	for (uint32_t i = 0; i < record->device_count && !parked->device; i++) {
		parked->device = device_of(server, record->devices[i].uuid);
		parked->bytes = record->devices[i].bytes;
	}
	parked->unsure = record->state != VAC_HOLD_PARKED || record->intent != VAC_INTENT_NONE;
	parked->next = parking->list;
	parking->list = parked;
	vac_log(VAC_LOG_INFO,
		"process %d (%s) was parked by a server that is gone; it is resumed when there "
		"is room",
		(int)parked->pid, parked->name);
	return 0;
}

static int find_orphans(struct vac_server *server, struct vac_error *err)
{
	struct vac_record *records = calloc(MOST_RECORDS, sizeof(*records));
	struct vac_hold hold;
	size_t count = 0;
	int rc = 0;

	if (!records)
		return vac_fail_nomem(err, "records of parked processes",
				      MOST_RECORDS * sizeof(*records));
	/* What cannot be read is as if it were not there. */
	if (vac_hold_open(&hold, NULL) == 0) {
		if (vac_record_list(&hold, records, MOST_RECORDS, &count, NULL) < 0)
			count = 0;
		vac_hold_close(&hold);
	}
	for (size_t i = 0; rc == 0 && i < count && i < MOST_RECORDS; i++)
		if (is_orphan(&records[i]))
			rc = adopt(server, &records[i], err);
	free(records);
	return rc;
}

/* ---- back to the GPU ---- */

static bool is_needed(struct vac_server *server, const struct vac_parked *parked)
{
	const struct vac_model *model =
		parked->for_model ? vac_registry_find(&server->registry, parked->for_model) : NULL;

	/* One that is parked needs nothing there, until it is asked for. */
	return model && model->active.list && model->state != VAC_REGISTRY_PARKED;
}

/* No load is under way on any GPU, and none waits where it was. */
static bool is_quiet(const struct vac_server *server, const struct vac_parked *parked)
{
	for (uint32_t i = 1; i < server->device_count; i++)
		if (server->devices[i].loading > 0 || server->devices[i].moving)
			return false;
	return !parked->device || (parked->device->line.count == 0 && !parked->device->unloading);
}

/* By the last reading, as far as that tells: vacate-gpud looks again. */
static bool has_room(struct vac_server *server, const struct vac_parked *parked)
{
	const struct vac_gpu *gpu =
		parked->device ? vac_gpus_find(&server->gpus, parked->device->name) : NULL;

	if (!gpu || server->draining)
		return true;
	if (vac_now_ns() - server->gpus.read_ns > WANT_MS * NS_PER_MS)
		vac_gpus_refresh(&server->gpus);
	return gpu->total_bytes >= gpu->used_bytes &&
	       gpu->total_bytes - gpu->used_bytes >= parked->bytes;
}

static bool may_come_back(struct vac_server *server, struct vac_parked *parked)
{
	if (parked->given_up || parked->retry_ns > vac_now_ns())
		return false;
	if (parked->unsure)
		return true;
	return !is_needed(server, parked) && is_quiet(server, parked) && has_room(server, parked);
}

static void resume_next(struct vac_server *server)
{
	struct vac_parking *parking = &server->parking;
	struct vac_parked *parked = parking->list, *next;

	for (; parked && parking->hold.id == 0; parked = next) {
		next = parked->next;
		if (!lives(parked)) {
			vac_log(VAC_LOG_INFO, "process %d (%s) ended while it was parked",
				(int)parked->pid, parked->name);
			drop(parking, parked);
		} else if (may_come_back(server, parked)) {
			vac_parking_hold(server, parked, VAC_WIRE_HOLD_RESUME);
		}
	}
}

void vac_parking_resumed(struct vac_server *server, struct vac_parked *parked,
			 const struct vac_error *why)
{
	struct vac_parking *parking = &server->parking;

	if (why->code == VAC_OK) {
		parking->resumes++;
		vac_log(VAC_LOG_INFO, "process %d (%s) was resumed", (int)parked->pid,
			parked->name);
		tell(server, parked, VAC_EVENT_RESUMED, NULL);
		vac_idle_begin_anew(&parking->idle, parked->pid, parked->start_ticks, vac_now_ns());
		drop(parking, parked);
		return;
	}
	if (parked->lost) {
		parking->resume_failures++;
		vac_log(VAC_LOG_ERROR, "%s", why->message);
		tell(server, parked, VAC_EVENT_RESUMED, why);
		drop(parking, parked);
		return;
	}
	parked->retry_ns =
		vac_now_ns() + (why->code == VAC_E_NO_ROOM ? WANT_MS : RETRY_MS) * NS_PER_MS;
	parked->given_up = server->draining;
	if (!parked->waits || parked->given_up)
		vac_log(VAC_LOG_WARN, "process %d (%s) stays parked%s: %s", (int)parked->pid,
			parked->name,
			parked->given_up ? "; `vacate resume` brings it back" : " for now",
			why->message);
	parked->waits = true;
}

/* ---- off the GPU ---- */

const struct vac_parking_refusal *vac_parking_find_refusal(const struct vac_parking *parking,
							   const struct vac_holder *holder)
{
	for (uint32_t i = 0; i < VAC_PARKING_REFUSALS; i++) {
		const struct vac_parking_refusal *refusal = &parking->refusals[i];

		if (refusal->pid == holder->pid && refusal->start_ticks == holder->start_ticks &&
		    refusal->until_ns > vac_now_ns())
			return refusal;
	}
	return NULL;
}

static void refuse(struct vac_parking *parking, const struct vac_parked *parked,
		   const struct vac_error *why)
{
	struct vac_parking_refusal *oldest = &parking->refusals[0];

	for (uint32_t i = 1; i < VAC_PARKING_REFUSALS; i++)
		if (parking->refusals[i].until_ns < oldest->until_ns)
			oldest = &parking->refusals[i];
	*oldest = (struct vac_parking_refusal){.pid = parked->pid,
					       .start_ticks = parked->start_ticks,
					       .until_ns = vac_now_ns() + REFUSED_MS * NS_PER_MS,
					       .why = *why};
}

void vac_parking_parked(struct vac_server *server, struct vac_parked *parked,
			const struct vac_error *why)
{
	struct vac_parking *parking = &server->parking;

	parking->fresh_ns = parked->parked_ns = vac_now_ns();
	parking->next_want_ns = 0;
	if (why->code == VAC_OK) {
		parking->parks++;
		vac_log(VAC_LOG_INFO,
			"parked process %d (%s), idle for %.0f s: %.1f MiB of %s for model %s",
			(int)parked->pid, parked->name, (double)parked->idle_ms / 1e3,
			MIB(parked->bytes), parked->device->name, parked->for_model);
		tell(server, parked, VAC_EVENT_PARKED, NULL);
	} else {
		parking->park_failures++;
		vac_log(VAC_LOG_WARN, "process %d (%s) was not parked for model %s: %s",
			(int)parked->pid, parked->name, parked->for_model, why->message);
		refuse(parking, parked, why);
		tell(server, parked, VAC_EVENT_NOT_PARKED, why);
	}
	if (why->code == VAC_OK || parked->unsure) {
		parked->next = parking->list;
		parking->list = parked;
	} else {
		vac_parked_free(parked);
	}
	vac_gpus_refresh(&server->gpus);
	vac_dispatch_registry_ops.wake_at(server, vac_now_ns());
	arm(server);
}

/* One that could make room on the device. */
struct candidate {
	const struct vac_holder *holder;
	uint64_t bytes;
	int64_t since_ns, idle_ms;
	const struct vac_parking_refusal *refused;
	bool taken;
};

/* In the order in which they make way. */
static uint32_t list_candidates(const struct vac_server *server, const struct vac_survey *survey,
				const struct vac_holders *holders, const char *uuid,
				struct candidate *out)
{
	const struct vac_parking *parking = &server->parking;
	uint32_t count = 0;

	for (uint32_t i = 0; i < holders->count; i++) {
		const struct vac_holder *holder = &holders->list[i];
		const struct vac_idle_process *process =
			vac_idle_find(&parking->idle, holder->pid, holder->start_ticks);
		struct candidate found = {.holder = holder};
		uint32_t at = count;
		bool there;

		found.bytes = vac_parking_bytes_on(holder, survey, uuid, &there);
		if (found.bytes == 0 || !process || vac_parking_unnamed(parking, holder))
			continue;
		found.idle_ms = vac_idle_ms(&parking->idle, process);
		found.since_ns = process->since_ns;
		found.refused = vac_parking_find_refusal(parking, holder);
		/* Not known is not idle, unless that is not asked for. */
		if (found.idle_ms < server->options.guard_idle_ms &&
		    server->options.guard_idle_ms > 0)
			continue;
		for (; at > 0 && out[at - 1].since_ns > found.since_ns; at--)
			out[at] = out[at - 1];
		out[at] = found;
		count++;
	}
	return count;
}

/* The first of those that must go, without which the others are too little; NULL: all
 * together are. */
static const struct candidate *choose(struct candidate *list, uint32_t count, uint64_t missing,
				      bool refused_too)
{
	uint64_t sum = 0;
	uint32_t end = 0;

	for (; end < count && sum < missing; end++) {
		list[end].taken = refused_too || !list[end].refused;
		sum += list[end].taken ? list[end].bytes : 0;
	}
	if (sum < missing)
		return NULL;
	for (uint32_t i = 0; i < end; i++) {
		if (!list[i].taken)
			continue;
		if (sum - list[i].bytes < missing)
			return &list[i];
		sum -= list[i].bytes;
	}
	return NULL;
}

static void refuse_load(struct vac_server *server, struct vac_model *model,
			const struct candidate *list, uint32_t count)
{
	struct vac_error why;

	for (uint32_t i = 0; i < count; i++) {
		if (!list[i].refused)
			continue;
		vac_fail(&why, VAC_E_NO_ROOM,
			 "model %.100s needs %.1f MiB more than are free on %s; process %d (%.40s) "
			 "holds %.1f MiB there and could not be parked: %.200s",
			 model->name, MIB(server->parking.missing_bytes), model->device->name,
			 (int)list[i].holder->pid, list[i].holder->name, MIB(list[i].bytes),
			 list[i].refused->why.message);
		vac_registry_refuse(&server->registry, model, &why);
		return;
	}
}

static void begin_parking(struct vac_server *server, const struct vac_model *model,
			  const struct candidate *chosen)
{
	struct vac_parked *parked = calloc(1, sizeof(*parked));
	char *name = strdup(model->name);

	if (!parked || !name) {
		free(parked);
		free(name);
		vac_log(VAC_LOG_WARN, "out of memory: no process is parked for model %s",
			model->name);
		return;
	}
	parked->pid = chosen->holder->pid;
	parked->start_ticks = chosen->holder->start_ticks;
	memcpy(parked->name, chosen->holder->name, sizeof(parked->name));
	parked->device = model->device;
	parked->bytes = chosen->bytes;
	parked->idle_ms = chosen->idle_ms;
	parked->for_model = name;
	vac_parking_hold(server, parked, VAC_WIRE_HOLD_PARK);
}

/* Who makes way for the load that needs room. */
static void decide(struct vac_server *server, const struct vac_survey *survey,
		   const struct vac_holders *holders)
{
	struct vac_parking *parking = &server->parking;
	struct vac_model *model = vac_registry_find(&server->registry, parking->wanted);
	const struct vac_gpu *gpu = model && model->load_held
					    ? vac_gpus_find(&server->gpus, model->device->name)
					    : NULL;
	const struct candidate *chosen;
	struct candidate *list;
	uint32_t count;

	if (!gpu || parking->hold.id != 0 || server->draining)
		return;
	list = calloc(holders->count ? holders->count : 1, sizeof(*list));
	if (!list)
		return; /* the load waits, and looks again */
	count = list_candidates(server, survey, holders, gpu->uuid, list);
	chosen = choose(list, count, parking->missing_bytes, false);
	if (chosen)
		begin_parking(server, model, chosen);
	else if (choose(list, count, parking->missing_bytes, true))
		refuse_load(server, model, list, count);
	else
		vac_parking_explain(server, model, survey, holders, gpu->uuid);
	free(list);
}

/* Somebody else resumed what was parked here. */
static void drop_running(struct vac_server *server, const struct vac_holders *holders)
{
	struct vac_parking *parking = &server->parking;

	for (uint32_t i = 0; i < holders->count; i++) {
		const struct vac_holder *holder = &holders->list[i];
		struct vac_parked *parked = parking->list;

		while (parked &&
		       (parked->pid != holder->pid || parked->start_ticks != holder->start_ticks))
			parked = parked->next;
		if (!parked || parked->unsure || holder->pid == 0 ||
		    parked->parked_ns > parking->look_ns ||
		    (parked == parking->at && parking->hold.id != 0))
			continue;
		vac_log(VAC_LOG_INFO, "process %d (%s) was resumed by somebody else",
			(int)parked->pid, parked->name);
		tell(server, parked, VAC_EVENT_RESUMED, NULL);
		drop(parking, parked);
	}
}

void vac_parking_looked(struct vac_server *server, const struct vac_survey *survey)
{
	const struct vac_holders_options options = {0};
	struct vac_parking *parking = &server->parking;
	struct vac_holders holders = {0};
	struct vac_error err;

	if (!survey) {
		vac_idle_blind(&parking->idle);
	} else if (vac_holders_take(survey, &options, &holders, &err) < 0 ||
		   vac_idle_look(&parking->idle, survey, &holders, vac_now_ns(), &err) < 0) {
		vac_idle_blind(&parking->idle);
		vac_log(VAC_LOG_WARN, "%s", err.message);
	} else {
		drop_running(server, &holders);
		if (parking->wanted)
			decide(server, survey, &holders);
	}
	vac_holders_free(&holders);
	free(parking->wanted);
	parking->wanted = NULL;
	parking->next_look_ns =
		vac_now_ns() +
		vac_idle_next_ms(&parking->idle, server->options.guard_idle_ms / 3 < LOOK_MS
							 ? server->options.guard_idle_ms / 3 + 1
							 : LOOK_MS) *
			NS_PER_MS;
	arm(server);
}

void vac_parking_lacks(void *ctx, struct vac_model *model, uint64_t missing_bytes)
{
	struct vac_server *server = ctx;
	struct vac_parking *parking = &server->parking;

	if (!parking->on || server->draining || parking->hold.id != 0 || parking->wanted ||
	    missing_bytes == 0 || parking->next_want_ns > vac_now_ns())
		return;
	if (server->gpus.read_ns < parking->fresh_ns) {
		vac_gpus_refresh(&server->gpus);
		return;
	}
	/* A look that is under way may be older than what it is asked for. */
	if (parking->look.id != 0)
		return;
	parking->next_want_ns = vac_now_ns() + WANT_MS * NS_PER_MS;
	parking->wanted = strdup(model->name);
	parking->missing_bytes = missing_bytes;
	if (parking->wanted)
		vac_parking_ask(server);
}

/* ---- life ---- */

static void due(struct vac_timer *timer)
{
	struct vac_server *server = VAC_CONTAINER(timer, struct vac_server, parking.timer);
	struct vac_parking *parking = &server->parking;

	resume_next(server);
	if (parking->on && !server->draining && parking->look.id == 0 &&
	    parking->next_look_ns <= vac_now_ns())
		vac_parking_ask(server);
	else
		arm(server);
}

int vac_parking_init(struct vac_server *server, struct vac_error *err)
{
	struct vac_parking *parking = &server->parking;
	struct vac_target own;
	int rc;

	if (vac_timer_open(&server->loop, &parking->timer, due) < 0)
		return vac_fail_nomem(err, "a timer", sizeof(parking->timer));
	rc = vac_target_open(getpid(), &own, err);
	if (rc < 0)
		return rc;
	snprintf(parking->who, sizeof(parking->who), WHO " %d %" PRIu64, (int)own.pid,
		 own.start_ticks);
	vac_target_close(&own);
	rc = find_orphans(server, err);
	return rc < 0 ? rc : vac_parking_configure(server, err);
}

/* Its model, if it is one of this server's, does not wait for it any more. */
static void free_own(struct vac_parked *parked)
{
	if (parked->model)
		((struct vac_job *)parked->model->user)->parked = NULL;
	vac_parked_free(parked);
}

void vac_parking_free(struct vac_server *server)
{
	struct vac_parking *parking = &server->parking;

	for (const struct vac_parked *parked = parking->list; parked; parked = parked->next)
		vac_log(VAC_LOG_WARN,
			"process %d (%s) stays parked; `vacate resume %d`, or the next server, "
			"brings it back",
			(int)parked->pid, parked->name, (int)parked->pid);
	if (parking->hold.id != 0 && (parking->operation == VAC_WIRE_HOLD_PARK || parking->at->own))
		free_own(parking->at);
	while (parking->queue) {
		struct vac_parked *parked = parking->queue;

		parking->queue = parked->next;
		free_own(parked);
	}
	while (parking->list)
		drop(parking, parking->list);
	vac_timer_close(&server->loop, &parking->timer);
	vac_idle_free(&parking->idle);
	free(parking->text);
	free(parking->wanted);
	free(parking->held);
	memset(parking, 0, sizeof(*parking));
}

bool vac_parking_busy(const struct vac_server *server)
{
	const struct vac_parking *parking = &server->parking;

	return parking->on || parking->list || parking->hold.id != 0;
}

bool vac_parking_done(const struct vac_server *server)
{
	const struct vac_parked *parked = server->parking.list;

	while (parked && parked->given_up)
		parked = parked->next;
	return !parked && server->parking.hold.id == 0;
}

void vac_parking_metrics(const struct vac_server *server, struct vac_buf *buf)
{
	const struct vac_parking *parking = &server->parking;
	double count = 0, bytes = 0;
	const struct {
		const char *name, *type, *help;
		double value;
	} all[] = {
		{"vacate_parked_processes", "gauge",
		 "Processes of others that are parked for models.", 0},
		{"vacate_parked_bytes", "gauge", "What these had on GPUs whose room was needed.",
		 0},
		{"vacate_parks_total", "counter", "Processes parked for models.",
		 (double)parking->parks},
		{"vacate_park_failures_total", "counter", "Processes that could not be parked.",
		 (double)parking->park_failures},
		{"vacate_resumes_total", "counter", "Processes resumed afterwards.",
		 (double)parking->resumes},
		{"vacate_resume_failures_total", "counter",
		 "Processes that were lost when they were resumed.",
		 (double)parking->resume_failures},
	};

	for (const struct vac_parked *parked = parking->list; parked; parked = parked->next) {
		count++;
		bytes += (double)parked->bytes;
	}
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		vac_metrics_head(buf, all[i].name, all[i].type, all[i].help);
		vac_metrics_sample(buf, all[i].name, NULL, NULL,
				   i == 0   ? count
				   : i == 1 ? bytes
					    : all[i].value);
	}
}
