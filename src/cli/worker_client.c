/* worker_client.c - a worker of one's own, spoken to and waited for. One thread. */
#include "cli/worker_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sanitized.h"

#define READ_BYTES ((size_t)64 << 10)
#define NS_PER_MS  1000000
/* For vacate-gpud to say hello, as a server waits for it. */
#define HELLO_MS 10000
/* For one that was killed to end. */
#define KILLED_MS 1000
/* For one that closed its end, and for a vacate-gpud that was told to end. */
#define END_MS    10000
#define LOOK_MS   10   /* where the system has no descriptors of processes */
#define CLOSED_MS 1000 /* after so long it is waited for in the other way */

static void reap(struct vac_worker_client *client)
{
	if (client->exited)
		return;
	while (waitpid(client->process.pid, &client->exit_status, 0) < 0 && errno == EINTR)
		;
	client->exited = true;
}

/* False: it did not end in that time. It is not reaped: a zombie still has its name. */
static bool has_ended(const struct vac_worker_client *client, int timeout_ms, siginfo_t *info)
{
	const struct vac_worker_process *process = &client->process;
	int64_t until_ns = vac_now_ns() + (int64_t)timeout_ms * NS_PER_MS;
	int rc;

	if (process->pidfd >= 0 && vac_client_poll(process->pidfd, until_ns) < 0)
		return false;
	do {
		info->si_pid = 0;
		rc = waitid(P_PID, (id_t)process->pid, info, WEXITED | WNOWAIT | WNOHANG);
		if (info->si_pid != 0 || (rc < 0 && errno != EINTR))
			return true;
		(void)poll(NULL, 0, LOOK_MS);
	} while (vac_now_ns() < until_ns);
	return false;
}

/* The socket broke: says how the worker ended. */
static int worker_gone(struct vac_worker_client *client, struct vac_error *err)
{
	const char *who = client->is_gpud ? "vacate-gpud" : "the worker";
	siginfo_t info = {0};
	char how[128];

	if (client->exited)
		return vac_fail(err, VAC_E_GONE, "%s is gone", who);
	if (!has_ended(client, END_MS, &info)) {
		client->exited = client->is_gpud; /* it was waited for */
		return vac_fail(err, VAC_E_GONE,
				"%s (pid %d) closed its connection, and has not ended", who,
				(int)client->process.pid);
	}
	vac_worker_describe_end(client->process.pid, info.si_code == CLD_EXITED, info.si_status,
				how, sizeof(how));
	reap(client);
	return vac_fail(err, VAC_E_GONE, "%s (pid %d) %s", who, (int)client->process.pid, how);
}

int vac_client_send(struct vac_worker_client *client, struct vac_error *err)
{
	size_t sent = 0;

	if (!vac_buf_ok(&client->out))
		return vac_fail_nomem(err, "a frame to the worker", client->out.bytes);
	while (sent < client->out.bytes) {
		ssize_t n = send(client->process.fd, client->out.data + sent,
				 client->out.bytes - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return worker_gone(client, err);
		sent += (size_t)n;
	}
	vac_buf_reset(&client->out);
	return 0;
}

int vac_client_send_load(struct vac_worker_client *client, enum vac_wire_type type, uint64_t id,
			 struct vac_wire_load *load, const struct vac_model_dirs *where,
			 struct vac_error *err)
{
	char *dir = strndup(load->dir.text, load->dir.bytes);
	struct vac_wire_files *files;
	ssize_t n;
	int rc;

	if (!dir)
		return vac_fail_nomem(err, "the path of a model", load->dir.bytes);
	rc = vac_wire_files_open(dir, where, &files, err);
	free(dir);
	if (rc < 0)
		return rc;
	load->handed = true;
	load->file_count = files->count;
	load->files = (struct vac_wire_string){(const char *)files->list.data,
					       (uint32_t)files->list.bytes};
	vac_wire_put_load(&client->out, type, id, load);
	load->files = (struct vac_wire_string){0};
	if (!vac_buf_ok(&client->out)) {
		vac_wire_files_free(files);
		return vac_fail_nomem(err, "a frame to the worker", client->out.bytes);
	}
	do {
		n = vac_wire_send_files(client->process.fd, client->out.data, client->out.bytes,
					files, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	vac_wire_files_free(files);
	if (n < 0)
		return worker_gone(client, err);
	vac_buf_consume(&client->out, (size_t)n);
	return vac_client_send(client, err);
}

int vac_client_receive(struct vac_worker_client *client, struct vac_wire_header *header,
		       const uint8_t **payload, struct vac_error *err)
{
	vac_buf_consume(&client->in, client->used);
	client->used = 0;
	for (;;) {
		int rc = vac_wire_peek(client->in.data, client->in.bytes, header, err);
		uint8_t *to;
		ssize_t n;

		if (rc < 0)
			return rc;
		if (rc == 1) {
			*payload = client->in.data + VAC_WIRE_HEADER_BYTES;
			client->used = VAC_WIRE_HEADER_BYTES + header->payload_bytes;
			return 0;
		}
		to = vac_buf_reserve(&client->in, READ_BYTES);
		if (!to)
			return vac_fail_nomem(err, "a frame of the worker", READ_BYTES);
		if (client->until_ns && vac_client_poll(client->process.fd, client->until_ns) < 0)
			return vac_fail(err, VAC_E_TIMEOUT, "no answer in time");
		n = recv(client->process.fd, to, READ_BYTES, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return worker_gone(client, err);
		vac_buf_advance(&client->in, (size_t)n);
	}
}

int vac_client_wait(struct vac_worker_client *client, enum vac_wire_type type, uint64_t id,
		    void (*progress)(const struct vac_wire_progress *p, void *ctx), void *ctx,
		    struct vac_wire_header *header, const uint8_t **payload, struct vac_error *err)
{
	for (;;) {
		int rc = vac_client_receive(client, header, payload, err);

		if (rc < 0)
			return rc;
		if (header->type == VAC_WIRE_PROGRESS && header->id == id) {
			struct vac_wire_progress p;

			rc = vac_wire_get_progress(*payload, header->payload_bytes, &p, err);
			if (rc < 0)
				return rc;
			if (progress)
				progress(&p, ctx);
			continue;
		}
		/* Who waits for one answer knows what the worker is at. */
		if (header->type == VAC_WIRE_WORKING)
			continue;
		/* Of a task that was given up when its answer was on the way. */
		if (header->id > 0 && header->id < id &&
		    (header->type == VAC_WIRE_RESULT || header->type == VAC_WIRE_ERROR))
			continue;
		if (header->type == VAC_WIRE_ERROR && header->id == id) {
			struct vac_error told;

			rc = vac_wire_get_error(*payload, header->payload_bytes, &told, err);
			if (rc < 0)
				return rc;
			if (err)
				*err = told;
			return vac_error_errno(told.code);
		}
		if (header->type == type && header->id == id)
			return 0;
		return vac_fail(err, VAC_E_INTERNAL,
				"the worker sent frame type %u where type %u was due", header->type,
				type);
	}
}

int vac_client_poll(int fd, int64_t until_ns)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	for (;;) {
		int64_t left_ms = (until_ns - vac_now_ns()) / NS_PER_MS;
		int rc = poll(&pfd, 1, left_ms > 0 ? (int)left_ms : 0);

		if (rc > 0)
			return 0;
		if (rc == 0 || errno != EINTR)
			return -ETIMEDOUT;
	}
}

int vac_client_start(struct vac_worker_client *client, const struct vac_spawn_options *options,
		     struct vac_error *err)
{
	struct vac_wire_header header;
	struct vac_wire_hello hello;
	const uint8_t *payload;
	bool gpud = options->device && strcmp(options->device, VAC_SPAWN_GPUS) == 0;
	int rc;

	memset(client, 0, sizeof(*client));
	client->is_gpud = gpud;
	rc = vac_worker_spawn(options, &client->process, err);
	if (rc < 0) {
		client->process.pid = 0;
		return rc;
	}
	if (gpud)
		client->until_ns = vac_now_ns() + (int64_t)HELLO_MS * NS_PER_MS;
	rc = vac_client_wait(client, VAC_WIRE_HELLO, 0, NULL, NULL, &header, &payload, err);
	client->until_ns = 0;
	if (gpud && rc == -ETIMEDOUT) {
		vac_client_abandon(client);
		return vac_fail(err, VAC_E_TIMEOUT,
				"vacate-gpud said no hello within %d s, so it was killed",
				HELLO_MS / 1000);
	}
	if (rc == 0)
		rc = vac_wire_get_hello(payload, header.payload_bytes, &hello, err);
	if (rc < 0)
		vac_client_stop(client);
	return rc;
}

void vac_client_abandon(struct vac_worker_client *client)
{
	struct vac_worker_process *process = &client->process;

	kill(process->pid, SIGKILL);
	close(process->fd);
	if (process->pidfd >= 0) {
		if (vac_client_poll(process->pidfd,
				    vac_now_ns() + (int64_t)KILLED_MS * NS_PER_MS) == 0)
			reap(client);
		close(process->pidfd);
	}
	vac_buf_free(&client->in);
	vac_buf_free(&client->out);
	memset(client, 0, sizeof(*client));
}

void vac_client_release(struct vac_worker_client *client)
{
	if (client->process.pid == 0 || client->exited || client->released)
		return;
	client->released = true;
	vac_buf_reset(&client->out);
	vac_wire_put_empty(&client->out, VAC_WIRE_SHUTDOWN, 0);
	/* Closing the socket ends it as well: a lost SHUTDOWN does no harm. */
	if (vac_client_send(client, NULL) < 0 && !client->exited)
		kill(client->process.pid, SIGKILL);
}

void vac_client_stop(struct vac_worker_client *client)
{
	siginfo_t info = {0};

	if (client->process.pid == 0)
		return;
	if (!client->exited) {
		vac_client_release(client);
		close(client->process.fd);
		if (!client->is_gpud || has_ended(client, END_MS, &info))
			reap(client);
	} else {
		close(client->process.fd);
	}
	if (client->process.pidfd >= 0)
		close(client->process.pidfd);
	vac_buf_free(&client->in);
	vac_buf_free(&client->out);
	client->process.pid = 0;
}

/* A mask of /proc/PID/status has SIGCHLD in it. */
static bool has_sigchld(const char *status, const char *name)
{
	const char *line = strstr(status, name);

	return line && (strtoull(line + strlen(name), NULL, 16) >> (SIGCHLD - 1) & 1);
}

/* Who gets the children of those that ended does something about the end of a child. The
 * program that a container was started with often does not, and would keep a zombie. */
static bool orphans_are_reaped(void)
{
	char status[4096];
	ssize_t n;
	int fd = open("/proc/1/status", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	n = read(fd, status, sizeof(status) - 1);
	close(fd);
	status[n > 0 ? n : 0] = '\0';
	return has_sigchld(status, "\nSigBlk:") || has_sigchld(status, "\nSigIgn:") ||
	       has_sigchld(status, "\nSigCgt:");
}

/* It closed its end, and so its standard error: true. */
static bool wait_closed(int fd)
{
	struct pollfd closed = {.fd = fd, .events = 0};
	int rc;

	do {
		rc = poll(&closed, 1, CLOSED_MS);
	} while (rc < 0 && errno == EINTR);
	return rc > 0 && (closed.revents & POLLHUP) != 0;
}

void vac_client_leave(struct vac_worker_client *client)
{
	vac_client_release(client);
	if (client->process.pid != 0 && !client->exited && !VAC_SANITIZED &&
	    wait_closed(client->process.fd) && orphans_are_reaped())
		client->exited = true; /* for another to reap */
	vac_client_stop(client);
}
