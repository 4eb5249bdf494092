/*
 * supervisor.c - worker processes: start, HELLO, heartbeat, death. The frames
 * themselves go through channel.c. The loop's thread only.
 */
#include "server/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/channel.h"
#include "wire/spawn.h"

#define NS_PER_MS 1000000
/* From a closed socket to the SIGKILL of a worker that does not exit. */
#define CLOSED_GRACE_MS 1000
/* A timer that fires so much later than it was set for: the server itself stood
 * still (stopped, or its machine was), and asked nobody for a sign of life. */
#define PAUSE_MS 1000

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static void process_ready(struct vac_source *source, uint32_t events);
static void timer_fired(struct vac_timer *timer);

void vac_supervisor_init(struct vac_supervisor *supervisor, struct vac_loop *loop,
			 const struct vac_supervisor_options *options)
{
	*supervisor = (struct vac_supervisor){.loop = loop, .options = *options, .next_id = 1};
}

static void arm(struct vac_worker *worker, int64_t ms)
{
	vac_timer_set(worker->supervisor->loop, &worker->timer, vac_now_ns() + ms * NS_PER_MS);
}

static void kill_worker(struct vac_worker *worker)
{
	/* The pid is ours until we reap it, so that kill() cannot hit a stranger. */
	if (worker->pidfd < 0 ||
	    syscall(SYS_pidfd_send_signal, worker->pidfd, SIGKILL, NULL, 0) != 0)
		kill(worker->pid, SIGKILL);
}

static void free_worker(struct vac_worker *worker)
{
	struct vac_supervisor *supervisor = worker->supervisor;
	struct vac_worker **at = &supervisor->workers;

	while (*at && *at != worker)
		at = &(*at)->next;
	if (*at)
		*at = worker->next;
	vac_channel_close(worker);
	if (worker->pidfd >= 0) {
		vac_loop_remove(supervisor->loop, &worker->process);
		close(worker->pidfd);
	}
	vac_timer_close(supervisor->loop, &worker->timer);
	vac_buf_free(&worker->in);
	vac_buf_free(&worker->out);
	free(worker->owner);
	free(worker);
}

void vac_supervisor_free(struct vac_supervisor *supervisor)
{
	while (supervisor->workers) {
		struct vac_worker *worker = supervisor->workers;

		kill_worker(worker);
		while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR)
			;
		free_worker(worker);
	}
}

/* ---- start ---- */

static int watch(struct vac_worker *worker, struct vac_error *err)
{
	struct vac_loop *loop = worker->supervisor->loop;
	int rc = vac_channel_open(worker, err);

	if (rc < 0)
		return rc;
	if (worker->pidfd < 0)
		return 0;
	worker->process.ready = process_ready;
	worker->process.fd = worker->pidfd;
	return vac_loop_add(loop, &worker->process, EPOLLIN, err);
}

static struct vac_worker *start(struct vac_supervisor *supervisor, const char *device,
				const char *owner, bool plan_only, struct vac_error *err)
{
	/* --backend is about the CPUs; a GPU has but one. */
	struct vac_spawn_options options = {
		.device = device,
		.backend = strcmp(device, "cpu") == 0 ? supervisor->options.backend : NULL,
		.threads = supervisor->options.threads,
		.sandbox = supervisor->options.sandbox,
		.plan_only = plan_only,
	};
	struct vac_worker_process process;
	struct vac_worker *worker = calloc(1, sizeof(*worker));

	if (worker && owner)
		worker->owner = strdup(owner);
	if (!worker || (owner && !worker->owner) ||
	    vac_timer_open(supervisor->loop, &worker->timer, timer_fired) < 0) {
		vac_fail_nomem(err, "a worker's record", sizeof(*worker));
		if (worker)
			free(worker->owner);
		free(worker);
		return NULL;
	}
	worker->supervisor = supervisor;
	worker->plan_only = plan_only;
	worker->pidfd = worker->socket.fd = -1;
	snprintf(worker->device, sizeof(worker->device), "%s", device);
	worker->started_ns = worker->heard_ns = vac_now_ns();
	if (vac_worker_spawn(&options, &process, err) < 0) {
		vac_error_prefix(err, "no worker for %s", device);
		free_worker(worker);
		return NULL;
	}
	worker->pid = process.pid;
	worker->pidfd = process.pidfd;
	worker->socket.fd = process.fd;
	worker->next = supervisor->workers;
	supervisor->workers = worker;
	if (watch(worker, err) < 0) {
		kill_worker(worker);
		while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR)
			;
		free_worker(worker);
		return NULL;
	}
	supervisor->starts++;
	arm(worker, supervisor->options.hello_timeout_ms);
	vac_log(VAC_LOG_INFO, "worker %d for %s started%s%s", (int)worker->pid, device,
		plan_only ? " (no models)"
		: owner   ? ", of its own, for model "
			  : "",
		owner ? owner : "");
	return worker;
}

static bool serves(const struct vac_worker *worker, const char *device, const char *owner,
		   bool plan_only)
{
	if (worker->state > VAC_WORKER_READY || worker->parked || worker->plan_only != plan_only ||
	    strcmp(worker->device, device) != 0)
		return false;
	return owner && worker->owner ? strcmp(worker->owner, owner) == 0
				      : !owner && !worker->owner;
}

struct vac_worker *vac_supervisor_worker(struct vac_supervisor *supervisor, const char *device,
					 const char *owner, bool plan_only, struct vac_error *err)
{
	for (struct vac_worker *worker = supervisor->workers; worker; worker = worker->next) {
		if (serves(worker, device, owner, plan_only))
			return worker;
	}
	return start(supervisor, device, owner, plan_only, err);
}

/* ---- the watch ---- */

static void ping(struct vac_worker *worker)
{
	struct vac_ask ask = vac_worker_begin(worker);
	struct vac_error err;

	vac_wire_put_empty(&worker->out, VAC_WIRE_PING, ask.id);
	/* No room for 16 bytes: the next tick tries again, the silence counts on. */
	if (vac_worker_commit(&ask, NULL, &err) < 0)
		vac_log(VAC_LOG_WARN, "worker %d cannot be asked for a sign of life: %s",
			(int)worker->pid, err.message);
}

/* How long a worker has in a state. */
static int64_t interval_ms(const struct vac_worker *worker)
{
	const struct vac_supervisor_options *options = &worker->supervisor->options;

	if (worker->state == VAC_WORKER_STARTING)
		return options->hello_timeout_ms;
	if (worker->state == VAC_WORKER_STOPPING)
		return options->stop_timeout_ms;
	return options->heartbeat_ms < options->silence_timeout_ms ? options->heartbeat_ms
								   : options->silence_timeout_ms;
}

static void watch_ready(struct vac_worker *worker)
{
	const struct vac_supervisor_options *options = &worker->supervisor->options;
	int64_t silent_ms = (vac_now_ns() - worker->heard_ns) / NS_PER_MS;

	/* An idle worker owes no answer; the timer rests until it has work again. */
	if (worker->exchange_count == 0)
		return;
	if (silent_ms >= options->silence_timeout_ms) {
		vac_worker_fail(worker, VAC_E_TIMEOUT,
				"worker %d for %s had work and said nothing for %.1f s, so it was "
				"killed",
				(int)worker->pid, worker->device, (double)silent_ms / 1000.0);
		return;
	}
	if (silent_ms >= options->heartbeat_ms)
		ping(worker);
	arm(worker, interval_ms(worker));
}

void vac_worker_watch(struct vac_worker *worker)
{
	if (worker->state != VAC_WORKER_READY || vac_timer_is_set(&worker->timer))
		return;
	worker->heard_ns = vac_now_ns();
	arm(worker, worker->supervisor->options.heartbeat_ms);
}

/* Time in which the server stood still is not held against a worker: it may have
 * stood still, too, and nobody asked it anything. */
static bool forgive_pause(struct vac_worker *worker)
{
	int64_t now_ns = vac_now_ns(), late_ns = now_ns - worker->timer.at_ns;

	if (late_ns < PAUSE_MS * INT64_C(1000000) || worker->state == VAC_WORKER_DYING)
		return false;
	vac_log(VAC_LOG_INFO, "the server stood still for %.1f s, worker %d is given as much",
		(double)late_ns / 1e9, (int)worker->pid);
	/* What it said meanwhile has been read before. */
	worker->heard_ns =
		worker->heard_ns + late_ns < now_ns ? worker->heard_ns + late_ns : now_ns;
	if (worker->state == VAC_WORKER_READY && worker->exchange_count > 0)
		ping(worker);
	arm(worker, interval_ms(worker));
	return true;
}

static void timer_fired(struct vac_timer *timer)
{
	struct vac_worker *worker = VAC_CONTAINER(timer, struct vac_worker, timer);
	const struct vac_supervisor_options *options = &worker->supervisor->options;

	if (forgive_pause(worker))
		return;
	switch (worker->state) {
	case VAC_WORKER_STARTING:
		vac_worker_fail(worker, VAC_E_TIMEOUT,
				"worker %d for %s said no hello within %.1f s, so it was killed",
				(int)worker->pid, worker->device,
				(double)options->hello_timeout_ms / 1000.0);
		break;
	case VAC_WORKER_READY:
		watch_ready(worker);
		break;
	case VAC_WORKER_STOPPING:
		vac_log(VAC_LOG_WARN,
			"worker %d did not end within %" PRId64 " ms of SHUTDOWN; killing it",
			(int)worker->pid, options->stop_timeout_ms);
		kill_worker(worker);
		break;
	case VAC_WORKER_DYING:
		kill_worker(worker);
		break;
	}
}

/* Foreign workers need not say anything. */
bool vac_worker_lacks_sandbox(const struct vac_worker *worker)
{
	if (strcmp(worker->device, VAC_SPAWN_GPUS) == 0)
		return false;
	return !worker->sandbox[0] || strncmp(worker->sandbox, "none", 4) == 0;
}

void vac_worker_greeted(struct vac_worker *worker)
{
	assert(worker->state == VAC_WORKER_STARTING);
	if (vac_worker_lacks_sandbox(worker))
		vac_log(VAC_LOG_WARN, "worker %d for %s runs without a sandbox: %s",
			(int)worker->pid, worker->device,
			worker->sandbox[0] ? worker->sandbox : "it says nothing about one");
	else
		vac_log(VAC_LOG_DEBUG, "worker %d: sandbox: %s", (int)worker->pid, worker->sandbox);
	worker->state = VAC_WORKER_READY;
	worker->ready_ns = vac_now_ns();
	vac_timer_clear(worker->supervisor->loop, &worker->timer);
	if (worker->exchange_count > 0)
		vac_worker_watch(worker);
}

void vac_worker_stop(struct vac_worker *worker)
{
	struct vac_ask ask;
	struct vac_error err;

	if (worker->state >= VAC_WORKER_STOPPING)
		return;
	ask = vac_worker_begin(worker);
	vac_wire_put_empty(&worker->out, VAC_WIRE_SHUTDOWN, ask.id);
	worker->state = VAC_WORKER_STOPPING;
	arm(worker, worker->supervisor->options.stop_timeout_ms);
	if (vac_worker_commit(&ask, NULL, &err) < 0) {
		vac_log(VAC_LOG_WARN, "worker %d cannot be asked to end: %s", (int)worker->pid,
			err.message);
		kill_worker(worker);
	}
}

void vac_worker_end(struct vac_worker *worker)
{
	if (worker->state >= VAC_WORKER_STOPPING)
		return;
	worker->state = VAC_WORKER_STOPPING;
	arm(worker, worker->supervisor->options.stop_timeout_ms);
	kill_worker(worker);
}

void vac_worker_fail(struct vac_worker *worker, enum vac_error_code code, const char *fmt, ...)
{
	va_list ap;

	/* The first reason is the cause; what follows are its consequences. */
	if (worker->why.code == VAC_OK) {
		worker->why.code = code;
		va_start(ap, fmt);
		vsnprintf(worker->why.message, sizeof(worker->why.message), fmt, ap);
		va_end(ap);
	}
	if (worker->state != VAC_WORKER_DYING) {
		worker->state = VAC_WORKER_DYING;
		vac_channel_close(worker);
	}
	kill_worker(worker);
}

void vac_worker_hung_up(struct vac_worker *worker)
{
	vac_channel_close(worker);
	/* A worker that was told to stop closes its end first: its exit follows. */
	if (worker->state == VAC_WORKER_STOPPING)
		return;
	worker->state = VAC_WORKER_DYING;
	arm(worker, CLOSED_GRACE_MS);
}

/* ---- the end ---- */

static void describe_end(const struct vac_worker *worker, const siginfo_t *info,
			 struct vac_error *why)
{
	/* It could not speak of it over the wire, so it wrote to standard error. */
	const char *hint = worker->ready_ns == 0
				   ? " before it said hello; the server's log has its reason"
				   : "";
	char how[128];

	if (worker->why.code != VAC_OK) {
		*why = worker->why;
		return;
	}
	vac_worker_describe_end(worker->pid, info->si_code == CLD_EXITED, info->si_status, how,
				sizeof(how));
	vac_fail(why, VAC_E_GONE, "worker %d for %s %s%s", (int)worker->pid, worker->device, how,
		 hint);
}

/* It ended and is a zombie still. */
static void reap(struct vac_worker *worker, const siginfo_t *info)
{
	struct vac_supervisor *supervisor = worker->supervisor;
	bool expected = worker->state == VAC_WORKER_STOPPING;
	struct vac_exchange *exchange;
	struct vac_error why = {0};

	/* It ended by itself: what it answered before may still lie in the socket. */
	if (worker->state != VAC_WORKER_DYING)
		vac_channel_read_last(worker);
	describe_end(worker, info, &why);
	/* Only now: a zombie has a name, which may say why it ended. */
	while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (!expected) {
		supervisor->deaths++;
		vac_log(VAC_LOG_WARN, "%s", why.message);
	} else {
		vac_log(VAC_LOG_INFO, "worker %d for %s ended", (int)worker->pid, worker->device);
	}
	worker->state = VAC_WORKER_DYING;
	vac_channel_close(worker);
	if (supervisor->gone)
		supervisor->gone(supervisor->ctx, worker, expected, &why);
	/* lost() may cancel other exchanges of this worker: the table stays whole
	 * and each is taken from the front. */
	for (size_t i = 0; i < VAC_EXCHANGE_BUCKETS; i++) {
		while ((exchange = worker->buckets[i])) {
			worker->buckets[i] = exchange->chain;
			worker->exchange_count--;
			exchange->id = 0;
			exchange->worker = NULL;
			exchange->lost(exchange, &why);
		}
	}
	free_worker(worker);
}

static bool try_reap(struct vac_worker *worker)
{
	siginfo_t info = {0};
	int rc;

	do {
		rc = waitid(P_PID, (id_t)worker->pid, &info, WEXITED | WNOHANG | WNOWAIT);
	} while (rc != 0 && errno == EINTR);
	if (rc != 0) {
		/* ECHILD: somebody else reaped it; it is gone all the same. */
		info.si_code = CLD_EXITED;
		info.si_status = 0;
	} else if (info.si_pid == 0) {
		return false;
	}
	reap(worker, &info);
	return true;
}

static void process_ready(struct vac_source *source, uint32_t events)
{
	(void)events;
	try_reap(VAC_CONTAINER(source, struct vac_worker, process));
}

void vac_supervisor_reap(struct vac_supervisor *supervisor)
{
	struct vac_worker *worker = supervisor->workers;

	/* reap() may start workers and ends this one: from the front after each. */
	while (worker) {
		if (worker->pidfd < 0 && try_reap(worker))
			worker = supervisor->workers;
		else
			worker = worker->next;
	}
}
