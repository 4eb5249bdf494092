/*
 * main.c - vacate-gpud: the process that asks NVML what is on the GPUs, and who
 * is, and that parks and resumes processes. The server starts it with the first
 * question and ends it a while after the last, so that itself never maps a driver's
 * library; commands start one of their own. It speaks the wire protocol on
 * descriptor 3 (docs/wire.md, GPUS and HOLD). It starts the driver (cuInit), which a
 * worker then finds open, and makes no context: it takes no memory of a device.
 *
 * This thread reads and answers frames; what HOLD asks runs on another (holding.c).
 * Who started it may die: it dies with him, but not in the middle of a HOLD.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/sanitized.h"
#include "base/stage.h"
#include "driver/cuda.h"
#include "driver/nvml.h"
#include "gpud/holding.h"
#include "gpud/who.h"
#include "wire/spawn.h"
#include "wire/wire.h"

#define READ_BYTES   4096
#define MOST_DEVICES VAC_SURVEY_MOST_DEVICES /* of the machine */
#define DEVICE_BYTES 16
#define UNKNOWN      (~0ull) /* NVML's word for "not known" */

struct gpud {
	const struct vac_cuda *cuda; /* NULL: not started so far */
	const struct vac_nvml *nvml; /* held initialised, so that a question is quick */
	uint32_t count;              /* that the driver shows */
	char devices[VAC_WIRE_MAX_GPUS][DEVICE_BYTES];
	char uuids[VAC_WIRE_MAX_GPUS][VAC_CUDA_UUID_BYTES];
	struct vac_nvml_device *measured; /* MOST_DEVICES of them, then slices */
	struct vac_wire_gpus answer;
	struct vac_buf in, out;
	bool alone; /* the other end of the socket is gone */
	struct vac_holding holding;
};

static struct gpud gpud;
static volatile sig_atomic_t interrupted;

static int find_gpus(struct gpud *g, const struct vac_cuda *cuda, struct vac_error *err)
{
	int count = 0, device, result = cuda->init(0);

	if (result == VAC_CU_OK)
		result = cuda->device_count(&count);
	if (count > (int)VAC_WIRE_MAX_GPUS)
		count = VAC_WIRE_MAX_GPUS;
	for (int i = 0; result == VAC_CU_OK && i < count; i++) {
		result = cuda->device_get(&device, i);
		if (result == VAC_CU_OK)
			result = vac_cuda_uuid(cuda, device, g->uuids[i]);
		snprintf(g->devices[i], DEVICE_BYTES, "cuda:%d", i);
	}
	if (result != VAC_CU_OK)
		return vac_cuda_fail(cuda, err, result, "looking for GPUs");
	g->count = (uint32_t)count;
	return 0;
}

static int bring_up(struct gpud *g, struct vac_error *err)
{
	const struct vac_cuda *cuda;
	int version = 0, rc;

	if (g->cuda)
		return 0;
	rc = vac_cuda_load(&cuda, err);
	if (rc == 0 && cuda->driver_version(&version) == VAC_CU_OK && version < VAC_CUDA_OLDEST)
		rc = vac_cuda_too_old(err, version);
	if (rc == 0)
		rc = find_gpus(g, cuda, err);
	if (rc == 0)
		rc = vac_nvml_load(&g->nvml, err);
	if (rc < 0)
		return rc;
	/* Refused: each question starts it and says why it does not start. */
	(void)g->nvml->init();
	g->cuda = cuda;
	return 0;
}

static void fill(struct vac_wire_gpu *gpu, const char *device, const struct vac_nvml_device *found)
{
	*gpu = (struct vac_wire_gpu){
		.device = vac_wire_text(device),
		.name = vac_wire_text(found->name),
		.uuid = vac_wire_text(found->uuid),
		.total_bytes = found->memory.total,
		.used_bytes = found->memory.used,
	};
	for (uint32_t i = 0; i < found->process_count && i < VAC_WIRE_MAX_GPU_PROCESSES &&
			     i < VAC_NVML_MOST_PROCESSES;
	     i++) {
		const struct vac_nvml_process *process = &found->processes[i];

		gpu->processes[gpu->process_count++] = (struct vac_wire_gpu_process){
			.pid = process->pid,
			.bytes_valid = process->used_bytes != UNKNOWN,
			.bytes = process->used_bytes != UNKNOWN ? process->used_bytes : 0,
		};
	}
}

static const struct vac_nvml_device *find_measured(const struct gpud *g, uint32_t count,
						   const char *uuid)
{
	for (uint32_t i = 0; i < count && i < MOST_DEVICES; i++) {
		if (strcmp(g->measured[i].uuid, uuid) == 0)
			return &g->measured[i];
	}
	return NULL;
}

/* The driver's numbers and NVML's are not in the same order; and a slice of a device is
 * none of NVML's numbers. One that does not answer is left out: it must not hide the others. */
static int measure(struct gpud *g, struct vac_error *err)
{
	uint32_t count = 0;
	int rc = bring_up(g, err);

	if (rc == 0)
		rc = vac_nvml_read_answering(g->measured, MOST_DEVICES, &count, err);
	g->answer.count = 0;
	for (uint32_t i = 0; rc == 0 && i < g->count; i++) {
		const struct vac_nvml_device *found = find_measured(g, count, g->uuids[i]);

		if (vac_cuda_is_slice(g->uuids[i])) {
			struct vac_nvml_device *slice = &g->measured[MOST_DEVICES + i];

			rc = vac_nvml_read_one(g->uuids[i], slice, err);
			found = slice;
		}
		if (rc == 0 && found)
			fill(&g->answer.gpus[g->answer.count++], g->devices[i], found);
	}
	return rc;
}

/* Nobody asks or reads any more: what is under way is put back, and then this ends. */
static void be_alone(struct gpud *g)
{
	g->alone = true;
	vac_holding_cancel_any(&g->holding);
}

static void handle(struct gpud *g, const struct vac_wire_header *header, const uint8_t *payload)
{
	struct vac_error err;

	switch (header->type) {
	case VAC_WIRE_GPUS:
		if (measure(g, &err) < 0)
			vac_wire_put_error(&g->out, header->id, &err);
		else
			vac_wire_put_gpus(&g->out, header->id, &g->answer);
		break;
	case VAC_WIRE_WHO:
		vac_gpud_who(&g->out, header->id);
		break;
	case VAC_WIRE_PING:
		vac_wire_put_empty(&g->out, VAC_WIRE_PONG, header->id);
		break;
	case VAC_WIRE_HOLD:
		if (vac_holding_begin(&g->holding, header->id, payload, header->payload_bytes,
				      &err) < 0)
			vac_wire_put_error(&g->out, header->id, &err);
		break;
	case VAC_WIRE_CANCEL: /* of anything else: it has been answered */
		vac_holding_cancel(&g->holding, header->id);
		break;
	case VAC_WIRE_SHUTDOWN:
		be_alone(g);
		break;
	default:
		vac_fail(&err, VAC_E_UNSUPPORTED, "vacate-gpud does not know frame type %u",
			 header->type);
		vac_wire_put_error(&g->out, header->id, &err);
		break;
	}
}

/* 1: go on; negative: the stream is broken. */
static int handle_all(struct gpud *g, struct vac_error *err)
{
	struct vac_wire_header header;
	size_t used = 0;
	int rc;

	while ((rc = vac_wire_peek(g->in.data + used, g->in.bytes - used, &header, err)) > 0) {
		const uint8_t *payload = g->in.data + used + VAC_WIRE_HEADER_BYTES;

		used += VAC_WIRE_HEADER_BYTES + header.payload_bytes;
		handle(g, &header, payload);
	}
	vac_buf_consume(&g->in, used);
	return rc < 0 ? rc : 1;
}

static int flush(struct gpud *g, struct vac_error *err)
{
	int rc = 0;

	if (!vac_buf_ok(&g->out))
		return vac_fail_nomem(err, "an answer", 0);
	if (g->out.bytes && !g->alone)
		rc = vac_write_full(VAC_WORKER_FD, g->out.data, g->out.bytes);
	vac_buf_reset(&g->out);
	if (rc == -EPIPE || rc == -ECONNRESET) {
		be_alone(g);
		rc = 0;
	}
	return rc < 0 ? vac_fail_errno(err, -rc, "the socket to the server") : 0;
}

static int receive(struct gpud *g, struct vac_error *err)
{
	uint8_t *to = vac_buf_reserve(&g->in, READ_BYTES);
	ssize_t n;

	if (!to)
		return vac_fail_nomem(err, "a question", READ_BYTES);
	n = recv(VAC_WORKER_FD, to, READ_BYTES, MSG_DONTWAIT);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 1;
	if (n < 0 && errno != ECONNRESET)
		return vac_fail_errno(err, errno, "the socket to the server");
	if (n <= 0) {
		be_alone(g);
		return 1;
	}
	vac_buf_advance(&g->in, (size_t)n);
	return handle_all(g, err);
}

/* Waits until there is something to do, and does it. 1: go on; 0: the end. */
static int turn(struct gpud *g, struct vac_error *err)
{
	struct pollfd fds[] = {{.fd = g->holding.event_fd, .events = POLLIN},
			       {.fd = g->alone ? -1 : VAC_WORKER_FD, .events = POLLIN}};
	int rc = flush(g, err);

	if (rc < 0)
		return rc;
	/* Also what was begun after that. */
	if (interrupted || g->alone)
		vac_holding_cancel_any(&g->holding);
	if ((g->alone || interrupted) && !g->holding.running)
		return 0;
	if (poll(fds, 2, -1) < 0)
		return errno == EINTR ? 1 : vac_fail_errno(err, errno, "waiting for questions");
	if (fds[0].revents)
		vac_holding_take(&g->holding, &g->out);
	return fds[1].revents ? receive(g, err) : 1;
}

static int serve(struct gpud *g, struct vac_error *err)
{
	const struct vac_wire_hello hello = {
		.version = VAC_WIRE_VERSION,
		.pid = (uint32_t)getpid(),
		.program = vac_wire_text("vacate-gpud " VAC_VERSION),
		.device = vac_wire_text(VAC_SPAWN_GPUS),
		.description = vac_wire_text("measures GPUs, parks and resumes processes"),
		.sandbox = vac_wire_text("none (it reads no models)"),
	};
	int rc;

	vac_wire_put_hello(&g->out, &hello);
	while ((rc = turn(g, err)) > 0)
		;
	return rc;
}

static void on_signal(int number)
{
	const uint64_t one = 1;
	int saved = errno;

	interrupted = number;
	(void)!write(gpud.holding.event_fd, &one, sizeof(one));
	errno = saved;
}

/* They end it as ever, but not in the middle of a HOLD. */
static void catch_signals(void)
{
	const struct sigaction action = {.sa_handler = on_signal};
	struct sigaction before;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	/* Ignored, as its starter was told to (nohup). */
	if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
		sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* NVML's own end and the driver's take longer than the system needs to close what they
 * have, and even that takes milliseconds: whoever waits for a descriptor of ours, or looks
 * at the socket for our end, is told before. */
static _Noreturn void end_quickly(void)
{
	for (int fd = 0; fd <= VAC_WORKER_FD; fd++)
		close(fd);
	_exit(0);
}

int main(int argc, char **argv)
{
	int64_t since = vac_now_ns();
	struct vac_error err;
	struct stat st;
	int rc;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("vacate-gpud " VAC_VERSION);
		return 0;
	}
	vac_log_init("vacate-gpud", VAC_LOG_INFO);
	if (fstat(VAC_WORKER_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "vacate-gpud: descriptor 3 is not a socket; this program is "
				"started by `vacate serve`\n");
		return 2;
	}
	gpud.measured = calloc(MOST_DEVICES + VAC_WIRE_MAX_GPUS, sizeof(*gpud.measured));
	rc = gpud.measured ? vac_holding_open(&gpud.holding, &err)
			   : vac_fail_nomem(&err, "what NVML says", 0);
	if (rc == 0) {
		catch_signals();
		rc = serve(&gpud, &err);
		vac_stage("gpud-main", since);
		if (rc == 0 && !VAC_SANITIZED)
			end_quickly();
		/* The stream broke: what is under way is put back first. */
		vac_holding_cancel_any(&gpud.holding);
		vac_holding_close(&gpud.holding);
	}
	if (gpud.cuda)
		gpud.nvml->shutdown();
	vac_gpud_who_end();
	free(gpud.measured);
	vac_buf_free(&gpud.in);
	vac_buf_free(&gpud.out);
	if (rc < 0)
		vac_log(VAC_LOG_ERROR, "%s", err.message);
	return rc < 0;
}
