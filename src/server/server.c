/*
 * server.c - the life of the server process: set up, signals, drain, end.
 * One thread.
 */
#include "server/server.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "memory/trim.h"
#include "server/state.h"

#define NS_PER_MS       1000000
#define STOP_TIMEOUT_MS 5000
/* After the drain's limit: for unloads and their receipts. */
#define LAST_MS 5000

void vac_server_defaults(struct vac_server_options *options)
{
	*options = (struct vac_server_options){
		.host = "127.0.0.1",
		.port = 8321,
		.keep_alive_ms = 5 * 60 * 1000,
		.sandbox = "auto",
		.max_connections = 2048,
		.max_queue = 1024,
		.max_body_bytes = (size_t)16 << 20,
		.max_pending_bytes = (size_t)256 << 20,
		.max_inputs = 2048,
		.max_input_bytes = (size_t)8 << 20,
		.client_timeout_ms = 30 * 1000,
		.idle_timeout_ms = 120 * 1000,
		.drain_timeout_ms = 30 * 1000,
		.hello_timeout_ms = 10 * 1000,
		.heartbeat_ms = 5 * 1000,
		.silence_timeout_ms = 30 * 1000,
		.turn_ms = 1000,
		.journal_max_bytes = (size_t)16 << 20,
		.journal_keep = 4,
		.request_timeout_ms = 5 * 60 * 1000,
		.ram = {.is_share = true, .share = 0.8},
		.vram = {.is_share = true, .share = 0.9},
		.headroom = {.is_share = true, .share = 0.05},
		.device = "auto",
		.log_level = VAC_LOG_INFO,
		.guard_idle_ms = 10 * 60 * 1000,
		.model_defaults = {.keep_alive_ms = 5 * 60 * 1000, .device = "auto"},
		.ready_fd = -1,
	};
}

/* ---- the end ---- */

static bool replies_are_out(const struct vac_server *server)
{
	const struct vac_request *request = server->http.requests;

	/* A request that is still arriving is not waited for, and a stream of
	 * events tells what the others wait for. */
	while (request &&
	       (request->stage == VAC_REQUEST_READING || request->stage == VAC_REQUEST_STREAMING))
		request = request->next;
	return request == NULL;
}

static bool drained(const struct vac_server *server)
{
	return replies_are_out(server) && vac_parking_done(server) && !server->supervisor.workers &&
	       vac_registry_empty(&server->registry);
}

static void begin_drain(struct vac_server *server, const char *signal_name)
{
	struct vac_registry *registry = &server->registry;

	vac_log(VAC_LOG_INFO, "%s: no more connections; %" PRIu32 " requests end first",
		signal_name, server->http.request_count);
	server->draining = true;
	vac_http_close_listener(&server->http);
	vac_registry_close(registry);
	for (struct vac_model *model = registry->models; model; model = model->next)
		vac_registry_unload(registry, model, VAC_UNLOAD_SHUTDOWN, false, NULL);
	vac_notify_stopping(&server->notify);
	vac_timer_set(&server->loop, &server->drain_timer,
		      vac_now_ns() + server->options.drain_timeout_ms * NS_PER_MS);
}

static void give_up_requests(struct vac_server *server)
{
	struct vac_request *request = server->http.requests, *next;
	struct vac_error why;

	vac_fail(&why, VAC_E_GONE, "the server is shutting down and did not get to this request");
	for (; request; request = next) {
		next = request->next;
		if (request->stage == VAC_REQUEST_WORKING)
			vac_dispatch_abandon(request, &why);
		else if (request->stage == VAC_REQUEST_STREAMING)
			vac_http_stream_left(request);
	}
}

static void drain_over(struct vac_timer *timer)
{
	struct vac_server *server = VAC_CONTAINER(timer, struct vac_server, drain_timer);

	if (!replies_are_out(server) && !server->gave_up) {
		vac_log(VAC_LOG_WARN, "the drain's limit is over; what still runs is given up");
		server->gave_up = true;
		give_up_requests(server);
		vac_timer_set(&server->loop, timer, vac_now_ns() + LAST_MS * (int64_t)NS_PER_MS);
		return;
	}
	vac_log(VAC_LOG_WARN, "the end does not wait any longer");
	give_up_requests(server);
	vac_loop_stop(&server->loop);
}

static void reload(struct vac_server *server)
{
	if (!server->draining)
		vac_notify_reloading(&server->notify);
	vac_journal_reopen(&server->journal);
	vac_access_reload(&server->access);
	vac_http_recheck_streams(server);
	vac_reload(server);
	/* Once it is stopping, it is not ready any more. */
	if (!server->draining)
		vac_notify_ready(&server->notify);
}

static void take_signal(struct vac_server *server, uint32_t number)
{
	switch (number) {
	case SIGHUP:
		reload(server);
		break;
	case SIGCHLD:
		vac_supervisor_reap(&server->supervisor);
		break;
	default:
		if (server->draining) {
			server->aborted = true;
			vac_loop_stop(&server->loop);
		} else {
			begin_drain(server, number == SIGINT ? "SIGINT" : "SIGTERM");
		}
	}
}

static void signals_ready(struct vac_source *source, uint32_t events)
{
	struct vac_server *server = VAC_CONTAINER(source, struct vac_server, signals);
	struct signalfd_siginfo info;

	(void)events;
	while (read(source->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		take_signal(server, info.ssi_signo);
}

/* ---- for the service manager ---- */

/* "2 models resident: org/a, org/b" */
static void describe(void *ctx, char *to, size_t room)
{
	const struct vac_server *server = ctx;
	const struct vac_model *model = server->registry.models;
	unsigned int count = 0;
	size_t at;

	for (; model; model = model->next)
		count += model->state == VAC_REGISTRY_RESIDENT;
	at = (size_t)snprintf(to, room, "%s%u model%s resident", server->draining ? "ending; " : "",
			      count, count == 1 ? "" : "s");
	for (model = server->registry.models; model && count > 0; model = model->next) {
		const char *before = strchr(to, ':') ? ", " : ": ";

		if (model->state != VAC_REGISTRY_RESIDENT)
			continue;
		/* Whole names, and room for the dots. */
		if (at + strlen(model->name) + 8 > room) {
			snprintf(to + at, room - at, "%s...", before);
			return;
		}
		at += (size_t)snprintf(to + at, room - at, "%s%s", before, model->name);
	}
}

static void tell_changes(struct vac_server *server)
{
	uint64_t changes = server->metrics.load.count + server->metrics.unload.count;

	if (changes == server->changes)
		return;
	server->changes = changes;
	vac_notify_changed(&server->notify);
}

/* ---- turns ---- */

static int64_t settle(void *ctx)
{
	struct vac_server *server = ctx;
	int64_t wait_ns = vac_http_run(&server->http);

	tell_changes(server);

	/* The last receipts have been measured. */
	if (server->draining && vac_registry_empty(&server->registry) && vac_parking_done(server))
		vac_gpus_end(&server->gpus);
	vac_supervisor_flush(&server->supervisor);
	if (server->draining && drained(server)) {
		vac_http_end_streams(server);
		if (!vac_events_wanted(&server->events))
			vac_loop_stop(&server->loop);
	}
	return server->http.run_wanted ? 0 : wait_ns;
}

/* A worker that was started for a load that failed holds nothing: it goes. */
static void stop_empty_workers(struct vac_server *server)
{
	struct vac_worker *worker = server->supervisor.workers;

	for (; worker; worker = worker->next) {
		if (!worker->plan_only && worker->state <= VAC_WORKER_READY &&
		    worker->exchange_count == 0 &&
		    vac_registry_models_on(&server->registry, worker) == 0 &&
		    !vac_registry_load_waits(&server->registry, worker, worker->device,
					     worker->owner))
			vac_worker_stop(worker);
	}
}

static void registry_due(struct vac_timer *timer)
{
	struct vac_server *server = VAC_CONTAINER(timer, struct vac_server, registry_timer);

	vac_registry_tick(&server->registry);
	stop_empty_workers(server);
}

/* ---- set-up ---- */

static int check_model_dirs(const struct vac_server_options *options, struct vac_error *err)
{
	for (size_t i = 0; i < options->model_dir_count; i++) {
		const char *dir = options->model_dirs[i];
		struct stat st;

		if (stat(dir, &st) != 0)
			return vac_fail_errno(err, errno, "--models %s: cannot be used", dir);
		if (!S_ISDIR(st.st_mode))
			return vac_fail(err, VAC_E_INVALID, "--models %s: is not a directory", dir);
	}
	return 0;
}

static void prepare_process(void)
{
	struct rlimit files;

	/* Each connection is a descriptor, and the usual soft limit is 1024. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &files) != 0)
			vac_log(VAC_LOG_WARN, "the limit of open files cannot be raised: %s",
				strerror(errno));
	}
	/* glibc raises its mmap threshold with each large block that is freed, and
	 * keeps what it then takes from the heap. Fixed, large bodies and frames
	 * are mappings that go back when they are freed. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	mallopt(M_TRIM_THRESHOLD, 128 << 10);
	mallopt(M_ARENA_MAX, 1);
	signal(SIGPIPE, SIG_IGN);
}

static int open_signals(struct vac_server *server, struct vac_error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return vac_fail_errno(err, errno, "cannot block signals");
	server->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (server->signals.fd < 0)
		return vac_fail_errno(err, errno, "cannot make a signal descriptor");
	server->signals.ready = signals_ready;
	return vac_loop_add(&server->loop, &server->signals, EPOLLIN, err);
}

static enum vac_sandbox_mode sandbox_of(const struct vac_server_options *options)
{
	enum vac_sandbox_mode mode = VAC_SANDBOX_AUTO;

	/* Who read the options knows the words; no other means more confinement. */
	if (options->sandbox && vac_sandbox_parse(options->sandbox, &mode) < 0)
		mode = VAC_SANDBOX_REQUIRE;
	return mode;
}

static void init_parts(struct vac_server *server)
{
	const struct vac_server_options *options = &server->options;
	struct vac_supervisor_options watch = {
		.backend = options->backend,
		.threads = options->threads,
		.sandbox = sandbox_of(options),
		.dirs = &server->catalog.dirs,
		.hello_timeout_ms = options->hello_timeout_ms,
		.heartbeat_ms = options->heartbeat_ms,
		.silence_timeout_ms = options->silence_timeout_ms,
		.stop_timeout_ms = STOP_TIMEOUT_MS,
	};

	vac_supervisor_init(&server->supervisor, &server->loop, &watch);
	server->supervisor.gone = vac_dispatch_worker_gone;
	server->supervisor.ctx = server;
	vac_plans_init(&server->plans, &server->supervisor);
	server->loop.settle = settle;
	server->loop.settle_ctx = server;
}

/* Looks for GPUs, which may start a process: when no variable is there any more
 * that is not for it. */
static int init_registry(struct vac_server *server, struct vac_error *err)
{
	const struct vac_server_options *options = &server->options;
	struct vac_registry_options models = {
		.defaults = options->model_defaults,
		.max_queue = options->max_queue,
		.turn_ms = options->turn_ms,
	};
	int rc = vac_devices_find(server, err);

	if (rc < 0)
		return rc;
	vac_registry_init(&server->registry, &vac_dispatch_registry_ops, server, &models,
			  server->devices, server->device_count);
	return vac_parking_init(server, err);
}

static int start(struct vac_server *server, struct vac_error *err)
{
	int rc = check_model_dirs(&server->options, err);

	if (rc == 0)
		rc = vac_loop_init(&server->loop, err);
	if (rc < 0)
		return rc;
	if (vac_timer_open(&server->loop, &server->registry_timer, registry_due) < 0 ||
	    vac_timer_open(&server->loop, &server->drain_timer, drain_over) < 0 ||
	    vac_views_init(server) < 0)
		return vac_fail_nomem(err, "timers", 0);
	init_parts(server);
	/* Before any worker is started, which would inherit its variables. */
	rc = vac_notify_open(&server->notify, &server->loop, err);
	if (rc < 0)
		return rc;
	server->notify.describe = describe;
	server->notify.ctx = server;
	/* A client's; workers need none. */
	unsetenv("VACATE_API_KEY");
	rc = vac_access_open(&server->access, server->options.api_key_file,
			     server->options.metrics_open, err);
	if (rc == 0)
		rc = init_registry(server, err);
	if (rc < 0)
		return rc;
	rc = vac_catalog_init(&server->catalog, &server->options, err);
	if (rc == 0)
		rc = vac_receipts_init(&server->receipts, err);
	if (rc == 0)
		rc = vac_journal_open(&server->journal,
				      &(struct vac_journal_options){
					      .path = server->options.journal,
					      .max_bytes = server->options.journal_max_bytes,
					      .keep = server->options.journal_keep},
				      err);
	if (rc == 0)
		rc = open_signals(server, err);
	if (rc == 0)
		rc = vac_http_start(&server->http, server, err);
	return rc;
}

/* "ready http://127.0.0.1:8321 unix:/run/vacate.sock" */
static int announce(struct vac_server *server, struct vac_error *err)
{
	const struct vac_listeners *listeners = &server->http.listeners;
	struct vac_buf line = VAC_BUF_INIT;
	int fd = server->options.ready_fd, rc = 0;

	vac_buf_puts(&line, "ready");
	for (size_t i = 0; i < listeners->count; i++)
		vac_buf_printf(&line, " %s", listeners->items[i].address);
	vac_buf_puts(&line, "\n");
	if (!vac_buf_ok(&line))
		return vac_fail_nomem(err, "a line", line.bytes);
	vac_log(VAC_LOG_INFO, "%.*s", (int)line.bytes - 1, (const char *)line.data);
	if (fd >= 0) {
		rc = vac_write_full(fd, line.data, line.bytes);
		close(fd);
	}
	vac_buf_free(&line);
	if (rc < 0)
		return vac_fail_errno(err, -rc, "--ready-fd %d: cannot be written", fd);
	vac_notify_ready(&server->notify);
	return 0;
}

static void teardown(struct vac_server *server)
{
	if (server->http.daemon) {
		/* libmicrohttpd does not stop while connections are suspended; those
		 * that still are belong to requests that end here, with a reply. */
		give_up_requests(server);
		vac_http_run(&server->http);
	}
	vac_http_stop(&server->http);
	vac_events_free(&server->events);
	vac_supervisor_free(&server->supervisor);
	vac_parking_free(server);
	vac_gpus_free(&server->gpus);
	vac_unload_free(server);
	vac_registry_free(&server->registry);
	vac_plans_free(&server->plans);
	vac_journal_close(&server->journal);
	vac_receipts_free(&server->receipts);
	vac_catalog_free(&server->catalog);
	vac_access_close(&server->access);
	vac_notify_close(&server->notify);
	if (server->signals.fd >= 0)
		close(server->signals.fd);
	vac_loop_free(&server->loop);
}

int vac_server_run(const struct vac_server_options *options, struct vac_error *err)
{
	struct vac_server *server = calloc(1, sizeof(*server));
	int rc;

	if (!server)
		return vac_fail_nomem(err, "the server", sizeof(*server));
	server->options = *options;
	server->started_wall_ns = server->reload.succeeded_wall_ns = vac_wall_ns();
	server->signals.fd = server->loop.epoll_fd = server->journal.fd = server->notify.fd = -1;
	prepare_process();
	rc = start(server, err);
	if (rc == 0)
		rc = announce(server, err);
	if (rc == 0) {
		vac_trim();
		rc = vac_loop_run(&server->loop, err);
	}
	if (rc == 0 && server->aborted)
		rc = vac_fail(err, VAC_E_CANCELLED, "a second signal came: ended without waiting");
	teardown(server);
	free(server);
	return rc;
}
