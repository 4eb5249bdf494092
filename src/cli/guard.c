/*
 * guard.c - `vacate guard`: looks every few seconds who is on the GPUs, and parks what
 * has held VRAM without using the GPU for long. The looks go to one vacate-gpud, which
 * asks NVML alone and keeps it open; each parking goes to another one, which starts the
 * driver and ends afterwards. One thread.
 */
#include "cli/guard.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/who_client.h"

#define NS_PER_MS INT64_C(1000000)
/* Of the interval, that many make up the shortest idle time at least. */
#define LEAST_LOOKS 3
/* In doubt for so many looks, somebody is told. */
#define DOUBTFUL_LOOKS 3

struct guard {
	const struct vac_command *command;
	struct vac_guard_options options;
	struct vac_who_client who;
	struct vac_idle idle;
	struct vac_guard_teller teller;
	struct vac_wire_held *held;
	struct vac_error blind; /* of the last look; code VAC_OK: it saw something */
};

/* One that may be parked now. */
struct candidate {
	const struct vac_holder *holder;
	struct vac_idle_process *process;
	char command[VAC_CHOOSE_COMMAND_BYTES];
};

static void tell(struct guard *guard, const struct candidate *candidate,
		 const struct vac_survey *survey, enum vac_guard_event event,
		 const struct vac_error *why)
{
	const struct vac_guard_told told = {
		.event = event,
		.holder = candidate->holder,
		.idle_ms = vac_idle_ms(&guard->idle, candidate->process),
		.why = why,
		.command = candidate->command,
		.survey = survey,
		.took_ns = event == VAC_GUARD_PARKED ? guard->held->targets[0].total_ns : 0,
	};

	vac_guard_tell(&guard->teller, &told);
}

/* ---- parking ---- */

static int ask(struct guard *guard, enum vac_wire_hold_operation operation,
	       const struct vac_holder *holder, struct vac_error *err)
{
	struct vac_worker_client gpud = {0};
	struct vac_wire_hold hold = {
		.operation = operation,
		.risk = guard->options.risk,
		.who = vac_wire_text("guard"),
		.count = 1,
		.targets = {{.pid = (uint32_t)holder->pid, .start_ticks = holder->start_ticks}}};
	int rc;

	memset(guard->held, 0, sizeof(*guard->held));
	rc = vac_holding_ask(&gpud, &hold, guard->held, err);
	vac_client_stop(&gpud);
	if (rc == 0 && guard->held->error.code != VAC_OK) {
		*err = guard->held->error;
		rc = vac_error_errno(err->code);
	}
	return rc;
}

/* vacate-gpud died, or could not put back what it did: its CUDA calls must not wait for
 * ever. The state that it is in then. */
static enum vac_wire_held_state settle(struct guard *guard, const struct vac_holder *holder)
{
	struct vac_error err;

	if (ask(guard, VAC_WIRE_HOLD_STATE, holder, &err) == 0 &&
	    guard->held->targets[0].after == VAC_WIRE_HELD_LOCKED)
		(void)!ask(guard, VAC_WIRE_HOLD_RESUME, holder, &err);
	return guard->held->count > 0 ? guard->held->targets[0].after : VAC_WIRE_HELD_UNKNOWN;
}

static void park(struct guard *guard, struct candidate *candidate, struct vac_survey *survey)
{
	const struct vac_holder *holder = candidate->holder;
	struct vac_error why;
	enum vac_wire_held_state after;
	int rc = ask(guard, VAC_WIRE_HOLD_PARK, holder, &why);

	after = guard->held->count > 0 ? guard->held->targets[0].after : VAC_WIRE_HELD_UNKNOWN;
	if (rc < 0 && (why.code == VAC_E_GONE || after == VAC_WIRE_HELD_LOCKED))
		after = settle(guard, holder);
	candidate->process->quiet_until_ns = vac_now_ns() + guard->options.idle_ms * NS_PER_MS;
	if (after != VAC_WIRE_HELD_PARKED) {
		tell(guard, candidate, survey,
		     rc < 0 && why.code == VAC_E_CANCELLED ? VAC_GUARD_PUT_BACK : VAC_GUARD_REFUSED,
		     rc < 0 ? &why : NULL);
		return;
	}
	tell(guard, candidate, survey, VAC_GUARD_PARKED, NULL);
	candidate->process->state = VAC_HOLD_PARKED;
	/* Whether more room is needed is judged by what is free now. */
	for (uint32_t i = 0; i < holder->part_count; i++)
		survey->devices[holder->parts[i].device].free_bytes += holder->parts[i].bytes;
}

/* ---- a look ---- */

/* What is worth telling of one, besides that it is idle. */
static void note(struct guard *guard, const struct candidate *candidate,
		 const struct vac_survey *survey)
{
	struct vac_idle_process *process = candidate->process;
	struct vac_error why;

	if (process->before == VAC_HOLD_PARKED && process->state == VAC_HOLD_RUNNING) {
		tell(guard, candidate, survey, VAC_GUARD_RESUMED, NULL);
		process->told = false;
		process->quiet_until_ns = 0;
	}
	/* One gap is none: what begins to use a GPU that nobody used makes one for all. */
	if (process->doubtful < DOUBTFUL_LOOKS || process->told)
		return;
	process->told = true;
	vac_fail(&why, VAC_E_UNSUPPORTED, "%s, so that it is not known to be idle",
		 vac_idle_doubt_text(process->doubt));
	tell(guard, candidate, survey, VAC_GUARD_LEFT, &why);
}

static bool minds(const struct vac_guard_options *options, const struct vac_holder *holder,
		  const char *command)
{
	return vac_choose_may_park(holder) && (options->any_user || holder->uid == options->uid) &&
	       !vac_choose_matches(options->patterns, options->pattern_count, holder, command);
}

/* Bytes that it would give back where room is asked for; 0: nothing, or not known. */
static uint64_t gives(const struct vac_guard_options *options, const struct vac_holder *holder,
		      const struct vac_survey *survey)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < holder->part_count; i++) {
		const struct vac_survey_device *device = &survey->devices[holder->parts[i].device];

		if (holder->parts[i].bytes_valid &&
		    (!options->when_asked ||
		     device->free_bytes < vac_size_of(&options->room, device->total_bytes)))
			bytes += holder->parts[i].bytes;
	}
	return bytes;
}

static bool is_due(const struct guard *guard, const struct vac_idle_process *process)
{
	return vac_idle_ms(&guard->idle, process) >= guard->options.idle_ms &&
	       process->quiet_until_ns <= vac_now_ns();
}

/* Who was idle longest first. */
static int compare(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->process->since_ns < y->process->since_ns   ? -1
	       : x->process->since_ns > y->process->since_ns ? 1
							     : 0;
}

static void act(struct guard *guard, struct vac_ps_machine *machine)
{
	const struct vac_holders *holders = &machine->holders;
	struct vac_survey *survey = &machine->survey;
	struct candidate *list = calloc(holders->count ? holders->count : 1, sizeof(*list));
	uint32_t count = 0;

	if (!list) {
		vac_log(VAC_LOG_WARN, "out of memory: nobody is parked now");
		return;
	}
	for (uint32_t i = 0; i < holders->count; i++) {
		const struct vac_holder *holder = &holders->list[i];
		struct candidate *next = &list[count];

		next->holder = holder;
		next->process = vac_idle_find(&guard->idle, holder->pid, holder->start_ticks);
		if (!next->process || holder->pid == 0)
			continue;
		vac_choose_command(holder->pid, next->command);
		if (!minds(&guard->options, holder, next->command))
			continue;
		note(guard, next, survey);
		count += is_due(guard, next->process);
	}
	qsort(list, count, sizeof(*list), compare);
	for (uint32_t i = 0; i < count && !vac_holding_interrupted(); i++) {
		/* Parking may take long, and who was idle then may be at work by now. */
		if (vac_now_ns() - guard->idle.look_ns > guard->options.interval_ms * NS_PER_MS &&
		    i > 0)
			break;
		if (gives(&guard->options, list[i].holder, survey) == 0)
			continue;
		if (!guard->options.dry_run) {
			park(guard, &list[i], survey);
			continue;
		}
		tell(guard, &list[i], survey, VAC_GUARD_WOULD_PARK, NULL);
		list[i].process->quiet_until_ns = vac_now_ns() + guard->options.idle_ms * NS_PER_MS;
	}
	free(list);
}

static int look(struct guard *guard, struct vac_error *err)
{
	struct vac_ps_machine machine = {.quick = true};
	int rc;

	vac_ps_machine_ask(&guard->who, &machine);
	rc = vac_ps_machine_take(&guard->who, &machine, err);
	if (rc == 0 && !machine.surveyed) {
		*err = machine.why;
		rc = vac_error_errno(err->code);
	}
	if (rc == 0)
		rc = vac_idle_look(&guard->idle, &machine.survey, &machine.holders, vac_now_ns(),
				   err);
	if (rc < 0)
		vac_idle_blind(&guard->idle);
	else
		act(guard, &machine);
	vac_ps_machine_free(&machine);
	return rc;
}

/* Until it is time, or a signal comes. */
static void rest(const struct guard *guard)
{
	int64_t ms = vac_idle_next_ms(&guard->idle, guard->options.interval_ms);
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * NS_PER_MS};
	sigset_t signals, before;

	/* Between the look at what came and the sleep none may come unseen. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, &before);
	if (!vac_holding_interrupted())
		ppoll(NULL, 0, &time, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static int watch(struct guard *guard)
{
	struct vac_error err;
	bool first = true;

	vac_holding_catch_signals();
	for (; !vac_holding_interrupted(); rest(guard), first = false) {
		int rc = look(guard, &err);

		if (vac_holding_interrupted())
			break;
		if (rc < 0 && first) {
			vac_complain(guard->command, "%s", err.message);
			return VAC_EXIT_FAILED;
		}
		if (rc < 0 && guard->blind.code == VAC_OK)
			vac_log(VAC_LOG_WARN, "nothing can be seen, so nobody is parked: %s",
				err.message);
		else if (rc == 0 && guard->blind.code != VAC_OK)
			vac_log(VAC_LOG_INFO, "the GPUs can be seen again");
		guard->blind = rc < 0 ? err : (struct vac_error){0};
		if (first)
			vac_log(VAC_LOG_INFO, "watches; who was parked comes back with `vacate "
					      "resume PID`");
	}
	vac_log(VAC_LOG_INFO, "ends (signal %d); what is parked stays so until it is resumed",
		vac_holding_interrupted());
	return VAC_EXIT_OK;
}

/* ---- the command line ---- */

static int parse_time(const struct vac_command *command, const char *option, const char *text,
		      int64_t *ms)
{
	if (text && (vac_parse_duration_ms(text, ms) < 0 || *ms < 1 || *ms > UINT32_MAX))
		return vac_usage_error(command,
				       "--%s takes a duration such as 10s or 15m, not '%s'", option,
				       text);
	return VAC_CONTINUE;
}

static int parse_user(const struct vac_command *command, const char *text,
		      struct vac_guard_options *options)
{
	struct passwd *user = text ? getpwnam(text) : NULL;
	unsigned long number;
	char *end;

	options->uid = geteuid();
	options->any_user = !text && options->uid == 0;
	if (!text)
		return VAC_CONTINUE;
	errno = 0;
	number = strtoul(text, &end, 10);
	if (user)
		options->uid = user->pw_uid;
	else if (*text >= '0' && *text <= '9' && !*end && errno == 0 && number < UINT32_MAX)
		options->uid = (uid_t)number;
	else
		return vac_usage_error(command, "--user %s: there is no such user", text);
	if (geteuid() != 0 && options->uid != geteuid())
		return vac_usage_error(command, "--user %s: only root may park processes of others",
				       text);
	return VAC_CONTINUE;
}

static int parse_patterns(const struct vac_command *command, char *text,
			  struct vac_guard_options *options)
{
	options->pattern_count = text ? vac_choose_split(text, options->patterns) : 0;
	if (options->pattern_count < 0)
		return vac_usage_error(command, "--exclude takes at most %u patterns",
				       VAC_CHOOSE_MOST_PATTERNS);
	return VAC_CONTINUE;
}

static int parse_room(const struct vac_command *command, const char *text,
		      struct vac_guard_options *options)
{
	if (text && !options->when_asked)
		return vac_usage_error(command, "--room is for --when-asked");
	if (vac_size_parse(text ? text : "10%", &options->room) < 0)
		return vac_usage_error(command, "--room takes 8GiB or 10%%, not '%s'", text);
	return VAC_CONTINUE;
}

struct journal_texts {
	const char *path, *max, *keep;
};

static int parse_journal(const struct vac_command *command, const struct journal_texts *texts,
			 struct vac_journal_options *out)
{
	unsigned long keep = 4;
	char *end;

	*out = (struct vac_journal_options){.path = texts->path, .max_bytes = 16u << 20, .keep = 4};
	if (texts->max && vac_size_parse_bytes(texts->max, &out->max_bytes) < 0)
		return vac_usage_error(command, "--journal-max takes 16MiB, not '%s'", texts->max);
	if (texts->keep) {
		errno = 0;
		keep = strtoul(texts->keep, &end, 10);
		if (*texts->keep < '0' || *texts->keep > '9' || *end || errno ||
		    keep > VAC_JOURNAL_MAX_KEPT)
			return vac_usage_error(command, "--journal-keep takes 0 to %u, not '%s'",
					       VAC_JOURNAL_MAX_KEPT, texts->keep);
	}
	out->keep = (uint32_t)keep;
	return VAC_CONTINUE;
}

static int start(struct guard *guard, const struct vac_journal_options *journal)
{
	struct vac_error err;
	int code;

	guard->teller.json = guard->options.json;
	guard->held = calloc(1, sizeof(*guard->held));
	if (!guard->held) {
		vac_complain(guard->command, "out of memory");
		return VAC_EXIT_NO_ROOM;
	}
	if (vac_journal_open(&guard->teller.journal, journal, &err) < 0) {
		vac_complain(guard->command, "%s", err.message);
		free(guard->held);
		return VAC_EXIT_FAILED;
	}
	code = watch(guard);
	vac_who_close(&guard->who);
	vac_idle_free(&guard->idle);
	vac_journal_close(&guard->teller.journal);
	free(guard->held);
	return code;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	const char *idle = NULL, *interval = NULL, *user = NULL, *exclude = NULL, *room = NULL;
	struct guard guard = {.command = command,
			      .options = {.idle_ms = 15 * 60 * 1000, .interval_ms = 10 * 1000}};
	struct vac_guard_options *set = &guard.options;
	struct vac_arguments arguments = {.values = NULL};
	struct vac_journal_options journal;
	struct journal_texts texts = {0};
	char *patterns = NULL;
	const struct vac_option options[] = {
		{"idle", "DURATION", "without use, then it is parked (15m)", NULL, &idle},
		{"interval", "DURATION", "between looks (10s)", NULL, &interval},
		{"user", "USER", "processes of that user alone", NULL, &user},
		{"exclude", "PATTERNS", "commands to leave alone: '*jupyter*,train.py'", NULL,
		 &exclude},
		{"when-asked", NULL, "only while a GPU has too little room", &set->when_asked,
		 NULL},
		{"room", "SIZE", "that it should have: 8GiB, 10% (10%)", NULL, &room},
		{"dry-run", NULL, "say whom it would park", &set->dry_run, NULL},
		{"risk", NULL, "also where the driver or a process's use is untried", &set->risk,
		 NULL},
		{"journal", "FILE", "append what it does: a JSON object a line", NULL, &texts.path},
		{"journal-max", "BYTES", "of that file, then it is rotated (16MiB); 0: never", NULL,
		 &texts.max},
		{"journal-keep", "N", "rotated files: FILE.1 is the newest (4)", NULL, &texts.keep},
		{"json", NULL, "print the same lines", &set->json, NULL},
	};
	int rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]),
				   &arguments, argc, argv);

	if (rc == VAC_CONTINUE)
		rc = parse_time(command, "idle", idle, &set->idle_ms);
	if (rc == VAC_CONTINUE)
		rc = parse_time(command, "interval", interval, &set->interval_ms);
	if (rc == VAC_CONTINUE)
		rc = parse_user(command, user, set);
	if (rc == VAC_CONTINUE)
		rc = parse_room(command, room, set);
	if (rc == VAC_CONTINUE)
		rc = parse_journal(command, &texts, &journal);
	if (rc == VAC_CONTINUE && exclude && !(patterns = strdup(exclude)))
		rc = VAC_EXIT_NO_ROOM;
	if (rc == VAC_CONTINUE)
		rc = parse_patterns(command, patterns, set);
	if (rc == VAC_CONTINUE) {
		if (set->interval_ms > set->idle_ms / LEAST_LOOKS)
			set->interval_ms = set->idle_ms / LEAST_LOOKS + 1;
		vac_log_init("vacate-guard", VAC_LOG_INFO);
		rc = start(&guard, &journal);
	}
	free(patterns);
	return rc;
}

const struct vac_command vac_command_guard = {
	.name = "guard",
	.arguments = "[options]",
	.summary = "Parks processes that hold VRAM without using the GPU",
	.details =
		"Looks every few seconds who is on the GPUs, and parks who has not used them for\n"
		"long. `vacate ps` shows them, `vacate resume PID` brings them back. Of others'\n"
		"processes only root can park any.",
	.run = run,
};
