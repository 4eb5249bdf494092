/*
 * worker.c - the loop of a worker process. One thread.
 */
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/compute.h"
#include "memory/trim.h"
#include "worker/sandbox.h"
#include "worker/state.h"

#define READ_BYTES ((size_t)64 << 10)
/* More than that waiting to be read by the server: take no new work. */
#define OUT_HIGH_BYTES ((size_t)8 << 20)
/* A buffer that grew beyond this for one large request goes back when empty. */
#define KEEP_BYTES ((size_t)256 << 10)
/* So long without work after a crowd, and what its tasks took goes back. */
#define REST_MS 50

static void lose(struct worker *w, int errnum, const char *what)
{
	if (w->failure == 0)
		w->failure = vac_fail_errno(&w->error, errnum, "%s", what);
	w->ended = true;
}

static void shrink_if_empty(struct vac_buf *buf)
{
	if (buf->bytes == 0 && buf->capacity > KEEP_BYTES)
		vac_buf_free(buf);
}

static void flush(struct worker *w)
{
	size_t sent = 0;

	if (!vac_buf_ok(&w->out)) {
		lose(w, ENOMEM, "an answer to the server");
		return;
	}
	while (sent < w->out.bytes) {
		ssize_t n = send(w->options->fd, w->out.data + sent, w->out.bytes - sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) {
			lose(w, errno, "the socket to the server");
			break;
		}
		sent += (size_t)n;
	}
	vac_buf_consume(&w->out, sent);
	shrink_if_empty(&w->out);
}

/* Reads what is there, without waiting. */
static void fill(struct worker *w)
{
	for (;;) {
		uint8_t *to = vac_buf_reserve(&w->in, READ_BYTES);
		ssize_t n;

		if (!to) {
			lose(w, ENOMEM, "a request of the server");
			return;
		}
		n = vac_wire_receive(w->options->fd, to, READ_BYTES, MSG_DONTWAIT, &w->inbox);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0) {
			lose(w, errno, "the socket to the server");
			return;
		}
		if (n == 0) { /* the server is gone, and with it whoever waits */
			w->ended = true;
			return;
		}
		vac_buf_advance(&w->in, (size_t)n);
		if ((size_t)n < READ_BYTES)
			return;
	}
}

/* Handles whole frames until one must wait. */
static void handle_all(struct worker *w)
{
	size_t used = 0;

	while (!w->ended) {
		struct vac_wire_header header;
		int rc = vac_wire_peek(w->in.data + used, w->in.bytes - used, &header, &w->error);

		if (rc < 0) {
			w->failure = rc;
			w->ended = true;
			break;
		}
		if (rc == 0)
			break;
		if (worker_must_wait(w, header.type)) {
			vac_engine_want(w->engine);
			break;
		}
		worker_handle(w, &header, w->in.data + used + VAC_WIRE_HEADER_BYTES);
		used += VAC_WIRE_HEADER_BYTES + header.payload_bytes;
	}
	vac_buf_consume(&w->in, used);
	shrink_if_empty(&w->in);
}

/* Small blocks of thousands of tasks leave a heap of megabytes with something
 * still in use at its end, which free() does not give back. */
static void rest(struct worker *w)
{
	w->crowded = false;
	vac_trim();
}

/* Looks at the socket, waiting for it when there is nothing else to do. */
static void pump(struct worker *w, bool wait)
{
	struct pollfd p = {.fd = w->options->fd};
	int n;

	if (w->out.bytes)
		flush(w);
	if (w->ended)
		return;
	if (w->out.bytes < OUT_HIGH_BYTES)
		p.events |= POLLIN;
	if (w->out.bytes)
		p.events |= POLLOUT;
	n = poll(&p, 1, !wait ? 0 : w->crowded ? REST_MS : -1);
	if (n < 0 && errno != EINTR) {
		lose(w, errno, "the socket to the server");
		return;
	}
	if (n == 0 && wait)
		rest(w);
	if (p.revents & POLLOUT)
		flush(w);
	if (p.revents & (POLLIN | POLLHUP | POLLERR))
		fill(w);
	/* Also without news: frames that had to wait may go on now. */
	if (w->in.bytes)
		handle_all(w);
}

/* The engine calls this between layers. */
static void between(void *ctx)
{
	pump(ctx, false);
}

void worker_tell(struct worker *w, uint64_t id, uint32_t model)
{
	/* A plan is of no model yet and is told each time. */
	if (w->ended || (model != 0 && model == w->told_model))
		return;
	w->told_model = model;
	vac_wire_put_working(&w->out, id, model);
	flush(w);
}

/* The engine calls this before a batch. */
static void computing(void *ctx, uint32_t model)
{
	struct worker *w = ctx;

	w->batch_id = worker_task_of(w, model);
	w->batch_model = model;
	worker_tell(w, w->batch_id, model);
}

static void warn(void *ctx, const char *text)
{
	(void)ctx;
	vac_log(VAC_LOG_WARN, "%s", text);
}

static int say_hello(struct worker *w)
{
	const char *program = "vacate-worker " VAC_VERSION;
	const char *device = w->options->device;
	const char *description = vac_engine_description(w->engine);
	struct vac_wire_hello hello = {
		.version = VAC_WIRE_VERSION,
		.pid = (uint32_t)getpid(),
		.program = {program, (uint32_t)__builtin_strlen(program)},
		.device = {device, (uint32_t)__builtin_strlen(device)},
		.description = {description, (uint32_t)__builtin_strlen(description)},
		.sandbox = {w->sandbox, (uint32_t)__builtin_strlen(w->sandbox)},
	};

	vac_wire_put_hello(&w->out, &hello);
	flush(w);
	return w->failure;
}

static void loop(struct worker *w)
{
	bool busy = false;

	while (!w->ended) {
		pump(w, !busy);
		if (w->ended)
			break;
		if (vac_engine_has_work(w->engine)) {
			int rc;

			w->in_engine = true;
			rc = vac_engine_step(w->engine, &w->error);
			w->in_engine = false;
			if (rc < 0) {
				w->failure = rc;
				break;
			}
			flush(w);
		}
		/* A load takes its turn after each batch, not after all of them. */
		worker_load_some(w);
		/* What had to wait for the engine goes on now: it may be all that
		 * the server sent, and no news would come to remind of it. */
		if (w->in.bytes && !w->ended)
			handle_all(w);
		busy = vac_engine_has_work(w->engine) || worker_is_loading(w);
	}
}

int vac_worker_run(const struct vac_worker_options *options, struct vac_error *err)
{
	struct worker w = {.options = options};
	struct vac_engine_options engine_options = {
		.backend = options->backend,
		.device = options->device_number,
		.dtype = options->dtype,
		.threads = options->threads,
		.max_batch_tokens = options->max_batch_tokens,
		.between = between,
		.computing = computing,
		.warn = warn,
		.between_ctx = &w,
	};
	int rc = vac_backend_find(options->backend, &engine_options.found, err);

	if (rc < 0)
		return rc;
	/* Between the backend's module, which is a file, and its threads. */
	rc = vac_sandbox_enter(options->sandbox, engine_options.found, options->fd, w.sandbox,
			       sizeof(w.sandbox), err);
	if (rc == 0)
		rc = vac_engine_open(&w.engine, &engine_options, err);
	if (rc < 0)
		return rc;
	rc = say_hello(&w);
	if (rc == 0)
		loop(&w);
	/* The last words of a worker that ends in order. */
	if (w.out.bytes && w.failure == 0)
		flush(&w);
	worker_free_all(&w);
	vac_engine_close(w.engine);
	vac_buf_free(&w.in);
	vac_buf_free(&w.out);
	vac_wire_inbox_free(&w.inbox);
	if (w.failure < 0 && err)
		*err = w.error;
	return w.failure;
}
