/*
 * channel.c - the frames between the server and one worker. The loop's thread
 * only; nothing here blocks.
 */
#include "server/channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/* A read takes at least so much; a buffer larger than KEEP_BYTES is given back
 * when it is empty, so that one large answer does not stay in the server. */
#define READ_BYTES ((size_t)16 << 10)
#define KEEP_BYTES ((size_t)64 << 10)
/* Of one worker in a turn of the loop: one that says more than can be read as it
 * comes would hold up everybody else. */
#define TURN_BYTES ((size_t)128 << 10)
/* Of one that is dead. No socket holds as much; what goes on is no worker's. */
#define LAST_BYTES ((size_t)64 << 20)
/* Frames that wait for a worker that reads slowly. What the calls themselves
 * may hold is bounded before (max_pending_bytes), so this is a safety net. */
#define OUT_LIMIT_BYTES ((size_t)512 << 20)

static void socket_ready(struct vac_source *source, uint32_t events);

int vac_channel_open(struct vac_worker *worker, struct vac_error *err)
{
	int flags = fcntl(worker->socket.fd, F_GETFL);

	if (flags < 0 || fcntl(worker->socket.fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return vac_fail_errno(err, errno, "cannot make a worker's socket non-blocking");
	worker->socket.ready = socket_ready;
	worker->out.limit_bytes = OUT_LIMIT_BYTES;
	return vac_loop_add(worker->supervisor->loop, &worker->socket, EPOLLIN, err);
}

void vac_channel_close(struct vac_worker *worker)
{
	if (worker->socket.fd < 0)
		return;
	vac_loop_remove(worker->supervisor->loop, &worker->socket);
	close(worker->socket.fd);
	worker->socket.fd = -1;
	vac_buf_free(&worker->in);
	vac_buf_free(&worker->out);
	while (worker->files) {
		struct vac_wire_files *files = worker->files;

		worker->files = files->next;
		vac_wire_files_free(files);
	}
	worker->out_at = 0;
	worker->dirty = false;
}

/* ---- asking ---- */

static struct vac_exchange **bucket(struct vac_worker *worker, uint64_t id)
{
	return &worker->buckets[id & (VAC_EXCHANGE_BUCKETS - 1)];
}

static struct vac_exchange *take(struct vac_worker *worker, uint64_t id)
{
	struct vac_exchange **at = bucket(worker, id), *exchange;

	while (*at && (*at)->id != id)
		at = &(*at)->chain;
	exchange = *at;
	if (!exchange)
		return NULL;
	*at = exchange->chain;
	assert(worker->exchange_count > 0);
	worker->exchange_count--;
	exchange->id = 0;
	exchange->worker = NULL;
	return exchange;
}

static struct vac_exchange *find(struct vac_worker *worker, uint64_t id)
{
	struct vac_exchange *exchange = *bucket(worker, id);

	while (exchange && exchange->id != id)
		exchange = exchange->chain;
	return exchange;
}

struct vac_ask vac_worker_begin(struct vac_worker *worker)
{
	return (struct vac_ask){
		.worker = worker, .mark = worker->out.bytes, .id = worker->supervisor->next_id++};
}

static void expect(struct vac_worker *worker, struct vac_exchange *exchange, uint64_t id)
{
	struct vac_exchange **at = bucket(worker, id);

	assert(exchange->id == 0 && id != 0);
	exchange->id = id;
	exchange->worker = worker;
	exchange->chain = *at;
	*at = exchange;
	worker->exchange_count++;
	vac_worker_watch(worker);
}

int vac_worker_commit(const struct vac_ask *ask, struct vac_exchange *exchange,
		      struct vac_error *err)
{
	struct vac_worker *worker = ask->worker;

	if (worker->socket.fd < 0) {
		vac_buf_free(&worker->out);
	} else if (!vac_buf_ok(&worker->out)) {
		bool starved = worker->out.starved;

		worker->out.bytes = ask->mark;
		worker->out.failed = worker->out.starved = false;
		if (starved)
			return vac_fail_nomem(err, "a frame to the worker", 0);
		return vac_fail(err, VAC_E_TOO_LARGE,
				"the request does not fit in a frame of %" PRIu32
				" bytes; send fewer inputs at once",
				VAC_WIRE_MAX_PAYLOAD_BYTES);
	} else {
		worker->dirty = true;
		worker->supervisor->any_dirty = true;
	}
	if (exchange)
		expect(worker, exchange, ask->id);
	return 0;
}

/* The descriptors leave with the frame that ask began. */
static void hand_over(const struct vac_ask *ask, struct vac_wire_files *files)
{
	struct vac_worker *worker = ask->worker;
	struct vac_wire_files **at = &worker->files;

	if (worker->socket.fd < 0 || files->fd_count == 0) {
		vac_wire_files_free(files);
		return;
	}
	while (*at)
		at = &(*at)->next;
	files->at = ask->mark;
	*at = files;
}

int vac_worker_ask_load(struct vac_worker *worker, enum vac_wire_type type,
			struct vac_wire_load *load, struct vac_exchange *exchange,
			struct vac_error *err)
{
	char *dir = strndup(load->dir.text, load->dir.bytes);
	struct vac_wire_files *files;
	struct vac_ask question;
	int rc;

	if (!dir)
		return vac_fail_nomem(err, "the path of a model", load->dir.bytes);
	rc = vac_wire_files_open(dir, worker->supervisor->options.dirs, &files, err);
	free(dir);
	if (rc < 0)
		return rc;
	load->handed = true;
	load->file_count = files->count;
	load->files = (struct vac_wire_string){(const char *)files->list.data,
					       (uint32_t)files->list.bytes};
	question = vac_worker_begin(worker);
	vac_wire_put_load(&worker->out, type, question.id, load);
	load->files = (struct vac_wire_string){0};
	rc = vac_worker_commit(&question, exchange, err);
	if (rc < 0)
		vac_wire_files_free(files);
	else
		hand_over(&question, files);
	return rc;
}

void vac_worker_cancel(struct vac_exchange *exchange)
{
	struct vac_worker *worker = exchange->worker;
	uint64_t id = exchange->id;
	struct vac_ask ask;

	if (id == 0)
		return;
	if (!take(worker, id) || worker->socket.fd < 0)
		return;
	ask = (struct vac_ask){.worker = worker, .mark = worker->out.bytes, .id = id};
	vac_wire_put_empty(&worker->out, VAC_WIRE_CANCEL, id);
	if (vac_worker_commit(&ask, NULL, NULL) < 0)
		vac_log(VAC_LOG_DEBUG,
			"worker %d was not told that task %" PRIu64 " is not wanted any more",
			(int)worker->pid, id);
}

/* ---- sending ---- */

/* Sends some of the output. Descriptors leave with the first byte of their frame,
 * and no call goes beyond where the next ones belong. */
static ssize_t send_some(struct vac_worker *worker)
{
	struct vac_wire_files *files = worker->files;
	const uint8_t *from = worker->out.data + worker->out_at;
	size_t bytes = worker->out.bytes - worker->out_at;
	ssize_t n;

	if (!files || files->at > worker->out_at) {
		if (files && bytes > files->at - worker->out_at)
			bytes = files->at - worker->out_at;
		return send(worker->socket.fd, from, bytes, MSG_NOSIGNAL);
	}
	if (files->next && bytes > files->next->at - worker->out_at)
		bytes = files->next->at - worker->out_at;
	n = vac_wire_send_files(worker->socket.fd, from, bytes, files, MSG_NOSIGNAL);
	if (n > 0) {
		worker->files = files->next;
		vac_wire_files_free(files);
	}
	return n;
}

/* Forgets what was sent. */
static void consume_sent(struct vac_worker *worker)
{
	for (struct vac_wire_files *files = worker->files; files; files = files->next)
		files->at -= worker->out_at;
	vac_buf_consume(&worker->out, worker->out_at);
	worker->out_at = 0;
}

static void flush(struct vac_worker *worker)
{
	struct vac_buf *out = &worker->out;

	worker->dirty = false;
	if (worker->socket.fd < 0 || worker->state == VAC_WORKER_STARTING || worker->paused)
		return;
	while (worker->out_at < out->bytes) {
		ssize_t n = send_some(worker);

		if (n < 0 && errno == EINTR)
			continue;
		/* No memory for it in the kernel: the socket stays writable, and the
		 * next turn of the loop tries again. */
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ||
			      errno == ENOMEM)) {
			worker->paused = true;
			vac_loop_change(worker->supervisor->loop, &worker->socket,
					EPOLLIN | EPOLLOUT);
			break;
		}
		if (n < 0 && errno == ETOOMANYREFS) {
			vac_worker_fail(worker, VAC_E_GONE,
					"worker %d for %s does not take the files that it is "
					"handed, so it was killed",
					(int)worker->pid, worker->device);
			return;
		}
		/* EPIPE and the like: the reading side sees the end and its reason. */
		if (n < 0)
			return;
		worker->out_at += (size_t)n;
	}
	if (worker->out_at == out->bytes) {
		worker->out_at = 0;
		vac_buf_reset(out);
		if (out->capacity > KEEP_BYTES)
			vac_buf_free(out);
	} else if (worker->out_at > out->bytes / 2) {
		consume_sent(worker);
	}
}

void vac_worker_flush(struct vac_worker *worker)
{
	assert(!worker->files);
	if (worker->dirty)
		flush(worker);
}

void vac_supervisor_flush(struct vac_supervisor *supervisor)
{
	if (!supervisor->any_dirty)
		return;
	supervisor->any_dirty = false;
	for (struct vac_worker *worker = supervisor->workers; worker; worker = worker->next) {
		if (worker->dirty)
			flush(worker);
	}
}

/* ---- receiving ---- */

static void broken(struct vac_worker *worker, const char *what, const struct vac_error *err)
{
	vac_worker_fail(worker, VAC_E_GONE,
			"worker %d for %s broke the wire protocol (%s: %s), so it was killed",
			(int)worker->pid, worker->device, what, err->message);
}

static void handle_hello(struct vac_worker *worker, const struct vac_wire_header *header,
			 const void *payload)
{
	struct vac_wire_hello hello;
	struct vac_error err;

	if (worker->state != VAC_WORKER_STARTING && worker->state != VAC_WORKER_STOPPING) {
		vac_fail(&err, VAC_E_INVALID, "it came a second time");
		broken(worker, "HELLO", &err);
		return;
	}
	if (vac_wire_get_hello(payload, header->payload_bytes, &hello, &err) < 0) {
		/* Another version: a second try would hear the same. */
		if (err.code == VAC_E_UNSUPPORTED)
			vac_worker_fail(worker, err.code, "worker %d for %s: %s", (int)worker->pid,
					worker->device, err.message);
		else
			broken(worker, "HELLO", &err);
		return;
	}
	snprintf(worker->description, sizeof(worker->description), "%.*s",
		 (int)(hello.description.bytes < 159 ? hello.description.bytes : 159),
		 hello.description.text);
	snprintf(worker->sandbox, sizeof(worker->sandbox), "%.*s",
		 (int)(hello.sandbox.bytes < 159 ? hello.sandbox.bytes : 159), hello.sandbox.text);
	if (worker->state == VAC_WORKER_STARTING)
		vac_worker_greeted(worker);
	worker->dirty = worker->supervisor->any_dirty = true;
}

static void handle_frame(struct vac_worker *worker, const struct vac_wire_header *header,
			 const void *payload)
{
	bool goes_on = header->type == VAC_WIRE_PROGRESS || header->type == VAC_WIRE_HOLD_PHASE;
	struct vac_exchange *exchange;
	struct vac_error err;

	if (header->type == VAC_WIRE_HELLO) {
		handle_hello(worker, header, payload);
		return;
	}
	if (worker->state == VAC_WORKER_STARTING) {
		vac_fail(&err, VAC_E_INVALID, "frame of type %u before HELLO", header->type);
		broken(worker, "HELLO is missing", &err);
		return;
	}
	if (header->type == VAC_WIRE_PONG)
		return;
	if (header->type == VAC_WIRE_WORKING) {
		if (vac_wire_get_working(payload, header->payload_bytes, &worker->working_model,
					 &err) < 0)
			broken(worker, "WORKING", &err);
		worker->working_id = header->id;
		return;
	}
	if (header->id == 0 || header->id >= worker->supervisor->next_id) {
		vac_fail(&err, VAC_E_INVALID, "id %" PRIu64 " was never asked", header->id);
		broken(worker, "answer to nothing", &err);
		return;
	}
	exchange = goes_on ? find(worker, header->id) : take(worker, header->id);
	/* An answer that crossed our CANCEL: nobody waits for it. */
	if (!exchange || exchange->answer(exchange, header, payload, &err) >= 0)
		return;
	if (!goes_on)
		expect(worker, exchange, header->id);
	broken(worker, "answer", &err);
}

static void handle_frames(struct vac_worker *worker)
{
	struct vac_wire_header header;
	struct vac_error err;
	size_t at = 0;
	int rc = 0;

	/* Handling a frame may fail the worker and close the socket (in is empty then). */
	while (worker->socket.fd >= 0 &&
	       (rc = vac_wire_peek(worker->in.data + at, worker->in.bytes - at, &header, &err)) >
		       0) {
		const uint8_t *payload = worker->in.data + at + VAC_WIRE_HEADER_BYTES;

		at += VAC_WIRE_HEADER_BYTES + header.payload_bytes;
		handle_frame(worker, &header, payload);
	}
	if (worker->socket.fd < 0)
		return;
	if (rc < 0) {
		broken(worker, "frame header", &err);
		return;
	}
	vac_buf_consume(&worker->in, at);
	if (worker->in.bytes == 0 && worker->in.capacity > KEEP_BYTES)
		vac_buf_free(&worker->in);
}

/* How much to read next: the rest of a frame whose header is here, at least
 * READ_BYTES. A large result then arrives in few reads and one allocation. */
static size_t want_bytes(const struct vac_worker *worker)
{
	uint32_t payload = 0;
	size_t whole;

	if (worker->in.bytes < VAC_WIRE_HEADER_BYTES)
		return READ_BYTES;
	for (int i = 0; i < 4; i++)
		payload |= (uint32_t)worker->in.data[i] << (8 * i);
	whole = (size_t)payload + VAC_WIRE_HEADER_BYTES;
	if (whole <= worker->in.bytes || whole - worker->in.bytes < READ_BYTES)
		return READ_BYTES;
	return whole - worker->in.bytes;
}

static void read_up_to(struct vac_worker *worker, size_t most)
{
	size_t bytes = 0;

	while (worker->socket.fd >= 0 && bytes < most) {
		size_t want = want_bytes(worker);
		void *to = vac_buf_reserve(&worker->in, want);
		ssize_t n;

		if (!to) {
			vac_worker_fail(worker, VAC_E_NO_ROOM,
					"out of memory: %zu bytes for an answer of worker %d", want,
					(int)worker->pid);
			return;
		}
		n = recv(worker->socket.fd, to, want, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			vac_worker_hung_up(worker);
			return;
		}
		worker->heard_ns = vac_now_ns();
		vac_buf_advance(&worker->in, (size_t)n);
		bytes += (size_t)n;
		handle_frames(worker);
		/* A short read emptied the socket: no second call to hear EAGAIN. */
		if ((size_t)n < want)
			return;
	}
}

void vac_channel_read(struct vac_worker *worker)
{
	read_up_to(worker, TURN_BYTES);
}

void vac_channel_read_last(struct vac_worker *worker)
{
	read_up_to(worker, LAST_BYTES);
}

static void socket_ready(struct vac_source *source, uint32_t events)
{
	struct vac_worker *worker = VAC_CONTAINER(source, struct vac_worker, socket);

	if (events & EPOLLOUT) {
		worker->paused = false;
		vac_loop_change(worker->supervisor->loop, source, EPOLLIN);
		worker->dirty = worker->supervisor->any_dirty = true;
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		vac_channel_read(worker);
}
