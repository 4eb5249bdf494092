/*
 * fuzz_channel.c - the server's side of a worker's socket, with a worker that
 * says what the input says: questions are put and cancelled, frames of every
 * type come with ids that are right, over or were never given, in pieces, and
 * the worker ends in between. Whatever it does, every exchange ends exactly
 * once: answered, lost or cancelled.
 *
 * There is no process: vac_worker_spawn(), kill(), waitpid() and waitid() are
 * this file's (meson.build wraps the system's).
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "server/supervisor.h"
#include "wire/spawn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int __wrap_kill(pid_t pid, int number);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options);
int __wrap_vac_worker_spawn(const struct vac_spawn_options *options, struct vac_worker_process *out,
			    struct vac_error *err);

/* More than the largest pid of any Linux: should a call pass by the wrappers, it
 * reaches nobody. */
#define PID 0x7ffffff0
/* Also where assertions are compiled out. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)
#define MOST_EXCHANGES 24
#define MOST_ROUNDS    64

enum outcome { FREE, ASKED, CANCELLED };

struct question {
	struct vac_exchange exchange;
	enum outcome outcome;
	enum vac_wire_type type;
	uint64_t id; /* of the last question */
};

static struct question questions[MOST_EXCHANGES];
static struct vac_supervisor supervisor;
static struct vac_loop loop;
static struct vac_worker *worker; /* NULL: reaped */
static int far_fd = -1, end_fd = -1;
static bool ended;
static volatile uint64_t sink;

/* ---- the process that is none ---- */

int __wrap_vac_worker_spawn(const struct vac_spawn_options *options, struct vac_worker_process *out,
			    struct vac_error *err)
{
	int sock[2], event;

	(void)options;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sock) != 0)
		return vac_fail_errno(err, errno, "no socket");
	event = eventfd(0, EFD_CLOEXEC);
	if (event < 0)
		abort();
	out->pid = PID;
	out->pidfd = event;
	out->fd = sock[0];
	far_fd = sock[1];
	end_fd = event;
	ended = false;
	return 0;
}

static void end(void)
{
	uint64_t one = 1;

	if (ended)
		return;
	ended = true;
	if (write(end_fd, &one, sizeof(one)) < 0)
		abort();
	close(far_fd);
	far_fd = -1;
}

int __wrap_kill(pid_t pid, int number)
{
	MUST(pid == PID && number == SIGKILL);
	end();
	return 0;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
	(void)options;
	MUST(pid == PID && ended);
	if (status)
		*status = SIGKILL;
	return pid;
}

int __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	(void)type;
	MUST(id == PID && (options & WEXITED));
	if (ended) {
		info->si_pid = PID;
		info->si_code = CLD_KILLED;
		info->si_status = SIGKILL;
	}
	return 0;
}

/* ---- the server ---- */

static int answered(struct vac_exchange *exchange, const struct vac_wire_header *header,
		    const void *payload, struct vac_error *err)
{
	struct question *question = VAC_CONTAINER(exchange, struct question, exchange);
	struct vac_wire_progress progress;
	struct vac_wire_model model;
	struct vac_wire_result result;
	struct vac_wire_unloaded unloaded;
	struct vac_error told;
	size_t bytes = header->payload_bytes;
	int rc;

	MUST(question->outcome == ASKED);
	if (header->type == VAC_WIRE_PROGRESS) {
		MUST(exchange->id == question->id);
		return vac_wire_get_progress(payload, bytes, &progress, err);
	}
	MUST(exchange->id == 0 && exchange->worker == NULL);
	/* An answer's type is its question's with one bit more. */
	if (header->type != (question->type | 0x80) && header->type != VAC_WIRE_ERROR)
		return vac_fail(err, VAC_E_INVALID, "type %u", header->type);
	switch (header->type) {
	case VAC_WIRE_PLANNED:
	case VAC_WIRE_LOADED:
		rc = vac_wire_get_model(payload, bytes, &model, err);
		break;
	case VAC_WIRE_RESULT:
		rc = vac_wire_get_result(payload, bytes, &result, err);
		for (size_t i = 0; rc == 0 && i < (size_t)result.rows * result.dimensions * 4; i++)
			sink += result.vectors[i];
		break;
	case VAC_WIRE_UNLOADED:
		rc = vac_wire_get_unloaded(payload, bytes, &unloaded, err);
		break;
	default:
		rc = vac_wire_get_error(payload, bytes, &told, err);
	}
	if (rc >= 0)
		question->outcome = FREE;
	return rc;
}

static void lost(struct vac_exchange *exchange, const struct vac_error *why)
{
	struct question *question = VAC_CONTAINER(exchange, struct question, exchange);

	MUST(question->outcome == ASKED && exchange->id == 0);
	MUST(why->code != VAC_OK && why->message[0]);
	question->outcome = FREE;
}

static void gone(void *ctx, struct vac_worker *which, bool expected, const struct vac_error *why)
{
	(void)ctx;
	(void)expected;
	MUST(which == worker && why->message[0]);
	worker = NULL;
}

/* The loop settles before its first wait and after each: the second ends a turn. */
static int64_t settle(void *ctx)
{
	int *settled = ctx;

	vac_supervisor_flush(&supervisor);
	if (++*settled > 1)
		vac_loop_stop(&loop);
	return 0;
}

static void turn(void)
{
	struct vac_error err;
	int settled = 0;

	loop.stopped = false;
	loop.settle = settle;
	loop.settle_ctx = &settled;
	if (vac_loop_run(&loop, &err) < 0)
		abort();
}

/* ---- the input ---- */

struct input {
	const uint8_t *at;
	size_t left;
};

static uint8_t byte(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->at++;
}

static void ask(struct input *input)
{
	static const enum vac_wire_type types[] = {VAC_WIRE_PLAN, VAC_WIRE_LOAD, VAC_WIRE_TASK,
						   VAC_WIRE_UNLOAD};
	struct question *question = &questions[byte(input) % MOST_EXCHANGES];
	struct vac_wire_load load = {.model = 1, .dir = {"/m", 2}};
	struct vac_input one = {.text = "hello", .text_bytes = 5};
	struct vac_wire_task task = {.model = 1, .input_count = 1, .inputs = &one};
	struct vac_ask put;
	struct vac_error err;

	if (!worker || question->outcome == ASKED)
		return;
	question->type = types[byte(input) % 4];
	question->exchange = (struct vac_exchange){.answer = answered, .lost = lost};
	task.options.task = VAC_TASK_EMBED;
	put = vac_worker_begin(worker);
	question->id = put.id;
	if (question->type == VAC_WIRE_TASK)
		vac_wire_put_task(&worker->out, put.id, &task);
	else if (question->type == VAC_WIRE_UNLOAD)
		vac_wire_put_unload(&worker->out, put.id, 1);
	else
		vac_wire_put_load(&worker->out, question->type, put.id, &load);
	if (vac_worker_commit(&put, &question->exchange, &err) == 0)
		question->outcome = ASKED;
}

static void cancel(struct input *input)
{
	struct question *question = &questions[byte(input) % MOST_EXCHANGES];

	if (question->outcome != ASKED)
		return;
	vac_worker_cancel(&question->exchange);
	MUST(question->exchange.id == 0);
	question->outcome = CANCELLED;
}

static void say(const void *from, size_t bytes)
{
	/* A full socket: what does not fit is not said. */
	if (far_fd >= 0 && bytes > 0 && send(far_fd, from, bytes, MSG_NOSIGNAL) < 0)
		sink++;
}

/* A frame whose header is right, for a question that stands, stood or never was. */
static void say_frame(struct input *input)
{
	static const uint8_t types[] = {1, 0x82, 0x83, 0x84, 0x86, 0x87, 0x88, 0x90, 0x91, 0xff, 4};
	uint8_t frame[VAC_WIRE_HEADER_BYTES + 256] = {0};
	uint8_t type = types[byte(input) % sizeof(types)], which = byte(input);
	uint64_t id = which < 250 ? questions[which % MOST_EXCHANGES].id : which;
	size_t bytes = byte(input) & ~(size_t)7;

	if (bytes > input->left)
		bytes = input->left & ~(size_t)7;
	frame[0] = (uint8_t)bytes;
	frame[4] = type;
	for (int i = 0; i < 8; i++)
		frame[8 + i] = (uint8_t)(id >> (8 * i));
	memcpy(frame + VAC_WIRE_HEADER_BYTES, input->at, bytes);
	input->at += bytes;
	input->left -= bytes;
	say(frame, VAC_WIRE_HEADER_BYTES + bytes);
}

static void say_bytes(struct input *input)
{
	size_t bytes = byte(input);

	if (bytes > input->left)
		bytes = input->left;
	say(input->at, bytes);
	input->at += bytes;
	input->left -= bytes;
}

static void hello(void)
{
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_wire_hello it = {.version = VAC_WIRE_VERSION, .pid = PID};

	vac_wire_put_hello(&buf, &it);
	say(buf.data, buf.bytes);
	vac_buf_free(&buf);
}

static void drain(void)
{
	char ignored[4096];

	while (far_fd >= 0 && recv(far_fd, ignored, sizeof(ignored), MSG_DONTWAIT) > 0)
		;
}

static void check(void)
{
	uint32_t asked = 0;

	for (size_t i = 0; i < MOST_EXCHANGES; i++)
		asked += questions[i].outcome == ASKED;
	/* After lost() of all, there is no worker. */
	MUST(worker ? worker->exchange_count == asked : asked == 0);
}

static void step(struct input *input)
{
	switch (byte(input) % 10) {
	case 0:
	case 1:
		ask(input);
		break;
	case 2:
		cancel(input);
		break;
	case 3:
	case 4:
		say_frame(input);
		break;
	case 5:
		say_bytes(input);
		break;
	case 6:
		hello();
		break;
	case 7:
		drain();
		break;
	case 8:
		if (worker && byte(input) % 8 == 0)
			vac_worker_stop(worker);
		break;
	default:
		if (byte(input) % 8 == 0)
			end();
	}
	turn();
	check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const struct vac_supervisor_options options = {.hello_timeout_ms = 1 << 20,
						       .heartbeat_ms = 1 << 20,
						       .silence_timeout_ms = 1 << 20,
						       .stop_timeout_ms = 1 << 20};
	struct input input = {data, bytes};
	struct vac_error err;

	vac_log_init("fuzz", VAC_LOG_ERROR);
	memset(questions, 0, sizeof(questions));
	if (vac_loop_init(&loop, &err) < 0)
		abort();
	vac_supervisor_init(&supervisor, &loop, &options);
	supervisor.gone = gone;
	worker = vac_supervisor_worker(&supervisor, "cpu", NULL, false, &err);
	if (!worker)
		abort();
	if (byte(&input) % 4)
		hello();
	while (input.left > 0 && worker)
		step(&input);
	/* The end of the worker ends every question. */
	end();
	for (int i = 0; worker && i < MOST_ROUNDS; i++)
		turn();
	MUST(!worker);
	check();
	vac_supervisor_free(&supervisor);
	vac_loop_free(&loop);
	return 0;
}
