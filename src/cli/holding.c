/* holding.c - see holding.h. */
#include "cli/holding.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/quote.h"
#include "base/stage.h"
#include "hold/hold.h"

#define QUESTION 1   /* one at a time */
#define TICK_MS  100 /* so late is a signal seen, and the line drawn again */
/* A phase that takes longer is looked into. */
#define STOPPED_NS 1000000000

static volatile sig_atomic_t interrupted;
static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
static sigset_t caught; /* of SIGINT, SIGTERM and SIGHUP */

/* The next one, whichever of them it is, ends this. */
static void on_signal(int number)
{
	interrupted = number;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigismember(&caught, signals[i]) == 1)
			signal(signals[i], SIG_DFL);
}

void vac_holding_catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal}, before;

	sigemptyset(&caught);
	sigaddset(&caught, SIGINT);
	sigaddset(&caught, SIGTERM);
	/* nohup wants it ignored. */
	if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
		sigaddset(&caught, SIGHUP);
	action.sa_mask = caught;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigismember(&caught, signals[i]) == 1)
			sigaction(signals[i], &action, NULL);
}

int vac_holding_interrupted(void)
{
	return interrupted;
}

static int add(struct vac_wire_hold *hold, const struct vac_target *target, struct vac_error *err)
{
	for (uint32_t i = 0; i < hold->count; i++)
		if (hold->targets[i].pid == (uint32_t)target->pid)
			return 0;
	if (hold->count == VAC_WIRE_MAX_TARGETS)
		return vac_fail(err, VAC_E_TOO_LARGE, "more than %u processes at once",
				VAC_WIRE_MAX_TARGETS);
	hold->targets[hold->count++] = (struct vac_wire_hold_target){
		.pid = (uint32_t)target->pid, .start_ticks = target->start_ticks};
	return 0;
}

bool vac_holding_is_model(const char *name)
{
	return name[strspn(name, "0123456789")] != '\0';
}

int vac_holding_add(struct vac_wire_hold *hold, const char *name, bool tree, struct vac_error *err)
{
	struct vac_target targets[VAC_WIRE_MAX_TARGETS];
	unsigned long pid;
	size_t count = 1;
	char *end;
	int rc;

	errno = 0;
	pid = strtoul(name, &end, 10);
	if (*name < '0' || *name > '9' || *end || errno || pid == 0 || pid > INT32_MAX)
		return vac_fail(err, VAC_E_INVALID, "%s is not the number of a process",
				vac_quote(&(struct vac_quoted){0}, name, strlen(name)));
	if (tree)
		rc = vac_target_tree((pid_t)pid, targets, VAC_WIRE_MAX_TARGETS, &count, err);
	else
		rc = vac_target_open((pid_t)pid, &targets[0], err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < count; i++) {
		if (rc == 0)
			rc = add(hold, &targets[i], err);
		vac_target_close(&targets[i]);
	}
	return rc;
}

/* What the line on the terminal says. */
struct watch {
	const struct vac_wire_hold *hold;
	struct vac_progress progress;
	int64_t since_ns; /* of the phase */
	struct vac_wire_hold_phase phase;
	bool moving;    /* something was begun with a process: that takes what it takes */
	bool cancelled; /* CANCEL was sent */
	bool told;      /* that it is stopped */
};

/* A process that is stopped under the driver's hands: the call ends when it goes on. */
static void look_for_stopped(struct watch *w)
{
	struct vac_target target;

	if (w->told || vac_now_ns() - w->since_ns < STOPPED_NS ||
	    w->phase.target >= w->hold->count ||
	    vac_target_open((pid_t)w->hold->targets[w->phase.target].pid, &target, NULL) < 0)
		return;
	if (vac_target_frozen("", &target)) {
		w->told = true;
		vac_progress_end(&w->progress);
		fprintf(stderr,
			"process %d is frozen with its control group (docker pause, systemctl "
			"freeze), and the driver waits for it: let it go on\n",
			(int)target.pid);
	} else if (vac_target_stopped(&target)) {
		w->told = true;
		vac_progress_end(&w->progress);
		fprintf(stderr,
			"process %d is stopped (SIGSTOP or a debugger), and the driver waits for "
			"it: let it go on (kill -CONT %d)\n",
			(int)target.pid, (int)target.pid);
	}
	vac_target_close(&target);
}

static void draw(struct watch *w)
{
	const char *phase = vac_hold_phase_name((enum vac_hold_phase)w->phase.phase);
	char text[128], place[32] = "";

	if (w->phase.target >= w->hold->count || !vac_progress_due(&w->progress))
		return;
	if (w->hold->count > 1)
		snprintf(place, sizeof(place), " (%u of %u)", w->phase.target + 1, w->hold->count);
	snprintf(text, sizeof(text), "%s %u%s: %s%s, %.0f s", w->progress.what,
		 w->hold->targets[w->phase.target].pid, place, phase,
		 w->cancelled ? ", then it is put back" : "",
		 (double)(vac_now_ns() - w->since_ns) / 1e9);
	vac_progress_text(&w->progress, text);
}

/* It looks and has moved nothing, and hangs: the kernel, NVML or the start of the driver. One
 * that waits for a stopped process is said to do so. */
static int check_patience(struct vac_worker_client *gpud, const struct watch *w,
			  struct vac_error *err)
{
	if (w->moving || w->told || w->phase.phase == VAC_HOLD_WAITING ||
	    vac_now_ns() - w->since_ns < VAC_CLIENT_GPUD_MS * INT64_C(1000000))
		return 0;
	vac_client_abandon(gpud);
	return vac_fail(
		err, VAC_E_TIMEOUT,
		"the driver or NVML did not answer in %d s, before anything was moved; dmesg "
		"may say what is wrong with a GPU",
		VAC_CLIENT_GPUD_MS / 1000);
}

/* Waits until a frame is there, draws meanwhile, and passes an interruption on. */
static int wait_frame(struct vac_worker_client *gpud, struct watch *w, struct vac_error *err)
{
	struct pollfd fd = {.fd = gpud->process.fd, .events = POLLIN};
	struct vac_wire_header header;

	for (;;) {
		int rc = vac_wire_peek(gpud->in.data + gpud->used, gpud->in.bytes - gpud->used,
				       &header, err);

		if (rc != 0)
			return rc < 0 ? rc : 0;
		if (interrupted && !w->cancelled) {
			w->cancelled = true;
			vac_wire_put_empty(&gpud->out, VAC_WIRE_CANCEL, QUESTION);
			rc = vac_client_send(gpud, err);
			if (rc < 0)
				return rc;
		}
		look_for_stopped(w);
		draw(w);
		if (poll(&fd, 1, TICK_MS) > 0)
			return 0;
		rc = check_patience(gpud, w, err);
		if (rc < 0)
			return rc;
	}
}

/* That it still waits is said ten times a second: no new phase. */
static void note_phase(struct watch *w, const struct vac_wire_hold_phase *phase)
{
	if (phase->phase != VAC_HOLD_WAITING || w->phase.phase != VAC_HOLD_WAITING ||
	    phase->target != w->phase.target)
		w->since_ns = vac_now_ns();
	w->phase = *phase;
	w->moving |= phase->phase > VAC_HOLD_WAITING;
}

static int watch(struct vac_worker_client *gpud, struct watch *w, struct vac_wire_held *out,
		 struct vac_error *err)
{
	struct vac_wire_hold_phase phase;
	struct vac_wire_header header;
	struct vac_error told;
	const uint8_t *payload;
	int rc;

	for (;;) {
		rc = wait_frame(gpud, w, err);
		if (rc == 0)
			rc = vac_client_receive(gpud, &header, &payload, err);
		if (rc < 0)
			return rc;
		if (header.id != QUESTION)
			continue;
		switch (header.type) {
		case VAC_WIRE_HOLD_PHASE:
			rc = vac_wire_get_hold_phase(payload, header.payload_bytes, &phase, err);
			if (rc < 0)
				return rc;
			note_phase(w, &phase);
			break;
		case VAC_WIRE_HELD:
			return vac_wire_get_held(payload, header.payload_bytes, out, err);
		case VAC_WIRE_ERROR:
			rc = vac_wire_get_error(payload, header.payload_bytes, &told, err);
			if (rc < 0)
				return rc;
			*err = told;
			return vac_error_errno(told.code);
		default:
			return vac_fail(err, VAC_E_INTERNAL,
					"vacate-gpud sent frame type %u where HELD was due",
					header.type);
		}
	}
}

int vac_holding_ask(struct vac_worker_client *gpud, const struct vac_wire_hold *hold,
		    struct vac_wire_held *out, struct vac_error *err)
{
	static const char *const doing[] = {[VAC_WIRE_HOLD_STATE] = "looking at",
					    [VAC_WIRE_HOLD_PARK] = "parking",
					    [VAC_WIRE_HOLD_RESUME] = "resuming"};
	const struct vac_spawn_options options = {.device = VAC_SPAWN_GPUS};
	struct watch w = {.hold = hold, .since_ns = vac_now_ns()};
	int64_t since;
	int rc = 0;

	if (gpud->process.pid == 0) {
		rc = vac_client_start(gpud, &options, err);
		vac_stage("gpud-start", w.since_ns);
	}
	if (rc < 0)
		return rc;
	since = vac_now_ns();
	vac_progress_start(&w.progress, doing[hold->operation]);
	vac_wire_put_hold(&gpud->out, QUESTION, hold);
	rc = vac_client_send(gpud, err);
	if (rc == 0)
		rc = watch(gpud, &w, out, err);
	vac_progress_end(&w.progress);
	vac_stage("answer", since);
	return rc;
}

int vac_holding_keep_cuda(struct vac_worker_client *gpud, struct vac_wire_hold *hold,
			  struct vac_error *err)
{
	struct vac_wire_held *held = malloc(sizeof(*held));
	struct vac_wire_hold look = *hold;
	const struct vac_error *gone = NULL; /* of the first that has ended */
	uint32_t kept = 0;
	int rc;

	if (!held)
		return vac_fail_nomem(err, "what the processes are", sizeof(*held));
	look.operation = VAC_WIRE_HOLD_STATE;
	rc = vac_holding_ask(gpud, &look, held, err);
	if (rc == 0 && held->error.code != VAC_OK) {
		*err = held->error;
		rc = vac_error_errno(err->code);
	}
	for (uint32_t i = 0; rc == 0 && i < hold->count && i < held->count; i++) {
		const struct vac_wire_held_target *target = &held->targets[i];

		/* Children come and go: what ended meanwhile has nothing to move. */
		if (target->error.code == VAC_E_NOT_FOUND) {
			gone = gone ? gone : &target->error;
			continue;
		}
		/* Of another user's nobody knows: it is refused in words later. */
		if (target->error.code == VAC_OK && target->before == VAC_WIRE_HELD_UNKNOWN &&
		    (geteuid() == 0 || target->uid == geteuid()))
			continue;
		hold->targets[kept++] = hold->targets[i];
	}
	if (rc == 0 && kept == 0 && gone && hold->count == 1) {
		*err = *gone;
		rc = vac_error_errno(err->code);
	} else if (rc == 0 && kept == 0) {
		rc = vac_fail(err, VAC_E_UNSUPPORTED, "none of these processes uses CUDA");
	} else if (rc == 0) {
		hold->count = kept;
	}
	free(held);
	return rc;
}

/* Of what did not go as asked: how things are now, and what to do. */
static void print_state(const struct vac_command *command, enum vac_wire_hold_operation operation,
			const struct vac_wire_held_target *target)
{
	/* Who has just been refused that is not told to do it. */
	bool tried = operation == VAC_WIRE_HOLD_RESUME && target->error.code != VAC_OK;

	switch (target->after) {
	case VAC_WIRE_HELD_LOCKED:
		if (tried)
			vac_complain(command, "process %u stays locked: its CUDA calls wait",
				     target->pid);
		else
			vac_complain(command,
				     "process %u is locked: its CUDA calls wait; `vacate resume "
				     "%u` lets it run on",
				     target->pid, target->pid);
		break;
	case VAC_WIRE_HELD_PARKED:
		if (tried)
			vac_complain(command, "process %u stays parked", target->pid);
		else
			vac_complain(command,
				     "process %u is parked; `vacate resume %u` brings it back",
				     target->pid, target->pid);
		break;
	case VAC_WIRE_HELD_FAILED:
		vac_complain(command, "process %u is lost: it will not run on a GPU again",
			     target->pid);
		break;
	case VAC_WIRE_HELD_RUNNING:
		vac_complain(command, "process %u runs", target->pid);
		break;
	case VAC_WIRE_HELD_UNKNOWN:
		break;
	}
}

/* gpud died under it: another one says how the processes are. */
static void look_again(const struct vac_command *command, const struct vac_wire_hold *hold,
		       struct vac_wire_held *held)
{
	struct vac_worker_client gpud = {0};
	struct vac_wire_hold look = *hold;
	struct vac_error err;

	look.operation = VAC_WIRE_HOLD_STATE;
	if (vac_holding_ask(&gpud, &look, held, &err) == 0)
		for (uint32_t i = 0; i < held->count; i++)
			print_state(command, VAC_WIRE_HOLD_STATE, &held->targets[i]);
	vac_client_stop(&gpud);
}

/* One that was named, and is not there now. */
static bool any_gone(const struct vac_wire_hold *hold)
{
	for (uint32_t i = 0; i < hold->count; i++) {
		struct vac_target target;

		if (vac_target_open((pid_t)hold->targets[i].pid, &target, NULL) < 0)
			return true;
		vac_target_close(&target);
		if (target.start_ticks != hold->targets[i].start_ticks)
			return true;
	}
	return false;
}

/* NOT_FOUND is also what a machine without a driver says. */
static int exit_code(const struct vac_wire_hold *hold, const struct vac_error *err)
{
	if (err->code == VAC_OK)
		return VAC_EXIT_OK;
	if (err->code == VAC_E_CANCELLED && interrupted)
		return 128 + interrupted;
	if (err->code == VAC_E_NO_ROOM)
		return VAC_EXIT_NO_ROOM;
	if (err->code == VAC_E_NOT_FOUND && any_gone(hold))
		return VAC_EXIT_NOT_FOUND;
	return VAC_EXIT_FAILED;
}

static int print_receipts(enum vac_wire_hold_operation operation, const struct vac_wire_held *held,
			  bool json, const json_t *others)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	int rc = 0, printed = 0;

	if (json) {
		json_t *whole = vac_held_json(operation, held, others);

		rc = whole ? json_dumpf(whole, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(10))
			   : -1;
		fputc('\n', stdout);
		json_decref(whole);
		return rc;
	}
	for (uint32_t i = 0; rc == 0 && i < held->count; i++) {
		const struct vac_wire_held_target *target = &held->targets[i];

		if (target->error.code != VAC_OK || held->error.code == VAC_E_CANCELLED ||
		    (held->error.code != VAC_OK && operation == VAC_WIRE_HOLD_PARK))
			continue;
		if (printed++)
			fputc('\n', stdout);
		rc = vac_print_held(&terminal, operation, target, held->driver);
	}
	return rc;
}

static int ask_and_print(const struct vac_command *command, struct vac_worker_client *gpud,
			 struct vac_wire_hold *hold, struct vac_wire_held *held, bool tree,
			 bool json, const json_t *others)
{
	struct vac_error err = {0};
	int rc = tree ? vac_holding_keep_cuda(gpud, hold, &err) : 0;
	int64_t since;

	if (rc == 0 && hold->count > 0)
		rc = vac_holding_ask(gpud, hold, held, &err);
	if (rc < 0) {
		memset(held, 0, sizeof(*held));
		held->error = err;
		if (json && print_receipts(hold->operation, held, true, others) != 0)
			vac_complain(command, "out of memory for the receipt");
		vac_complain(command, "%s", err.message);
		if (err.code == VAC_E_GONE)
			look_again(command, hold, held);
		return err.code == VAC_E_NOT_FOUND ? exit_code(hold, &err) : VAC_EXIT_FAILED;
	}
	since = vac_now_ns();
	vac_client_release(gpud);
	if (print_receipts(hold->operation, held, json, others) != 0)
		vac_complain(command, "out of memory for the receipt");
	vac_stage("print", since);
	if (held->error.code == VAC_OK)
		return VAC_EXIT_OK;
	vac_complain(command, "%s", held->error.message);
	for (uint32_t i = 0; i < held->count; i++)
		print_state(command, hold->operation, &held->targets[i]);
	return exit_code(hold, &held->error);
}

int vac_holding_refused(const struct vac_command *command, enum vac_wire_hold_operation operation,
			bool json, const struct vac_error *err)
{
	struct vac_wire_held *held = json ? calloc(1, sizeof(*held)) : NULL;

	if (held)
		held->error = *err;
	if (json && (!held || print_receipts(operation, held, true, NULL) != 0))
		vac_complain(command, "out of memory for the receipt");
	free(held);
	vac_complain(command, "%s", err->message);
	return err->code == VAC_E_NOT_FOUND ? VAC_EXIT_NOT_FOUND : VAC_EXIT_FAILED;
}

int vac_holding_run(const struct vac_command *command, struct vac_wire_hold *hold, bool tree,
		    bool json, const json_t *others)
{
	struct vac_wire_held *held = calloc(1, sizeof(*held));
	struct vac_worker_client gpud = {0};
	int64_t since = vac_now_ns(), ended;
	int code;

	if (!held) {
		vac_complain(command, "out of memory");
		return VAC_EXIT_NO_ROOM;
	}
	vac_holding_catch_signals();
	code = ask_and_print(command, &gpud, hold, held, tree, json, others);
	ended = vac_now_ns();
	vac_client_leave(&gpud);
	vac_stage("gpud-end", ended);
	vac_stage("command", since);
	free(held);
	return code;
}
