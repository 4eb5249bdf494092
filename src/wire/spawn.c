/*
 * spawn.c - starting a worker process and the socket to it.
 */
#include "wire/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ARGS 16

/* Added to oom_score_adj. */
#define OOM_SCORE_MORE 300

static bool executable(const char *path)
{
	return access(path, X_OK) == 0;
}

static int find_program(const char *name, const char *variable, char path[VAC_WORKER_PATH_BYTES],
			struct vac_error *err)
{
	const char *env = getenv(variable);
	char self[VAC_WORKER_PATH_BYTES];
	char *slash;
	ssize_t n;

	if (env && *env) {
		if (!executable(env))
			return vac_fail(err, VAC_E_IO, "%s names %s, which cannot be executed: %s",
					variable, env, strerror(errno));
		snprintf(path, VAC_WORKER_PATH_BYTES, "%s", env);
		return 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return vac_fail_errno(err, errno, "/proc/self/exe: cannot read");
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	n = snprintf(path, VAC_WORKER_PATH_BYTES, "%s/%s", self, name);
	if (n < VAC_WORKER_PATH_BYTES && executable(path))
		return 0;
	n = snprintf(path, VAC_WORKER_PATH_BYTES, "%s/../libexec/vacate/%s", self, name);
	if (n < VAC_WORKER_PATH_BYTES && executable(path))
		return 0;
	return vac_fail(
		err, VAC_E_IO,
		"%s is neither in %s nor in ../libexec/vacate beside it; set %s to its path", name,
		self, variable);
}

int vac_worker_find(char path[VAC_WORKER_PATH_BYTES], struct vac_error *err)
{
	return find_program("vacate-worker", "VACATE_WORKER", path, err);
}

int vac_sandbox_parse(const char *text, enum vac_sandbox_mode *out)
{
	static const char *const names[] = {[VAC_SANDBOX_AUTO] = "auto",
					    [VAC_SANDBOX_REQUIRE] = "require",
					    [VAC_SANDBOX_OFF] = "off"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0) {
			*out = (enum vac_sandbox_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

struct command {
	const char *args[MAX_ARGS];
	char threads[16], batch[16];
};

static void build_command(struct command *c, const char *path,
			  const struct vac_spawn_options *options)
{
	size_t a = 0;

	c->args[a++] = path;
	c->args[a++] = "--device";
	c->args[a++] = options->device ? options->device : "cpu";
	if (options->backend) {
		c->args[a++] = "--backend";
		c->args[a++] = options->backend;
	}
	if (options->threads) {
		snprintf(c->threads, sizeof(c->threads), "%u", options->threads);
		c->args[a++] = "--threads";
		c->args[a++] = c->threads;
	}
	if (options->max_batch_tokens) {
		snprintf(c->batch, sizeof(c->batch), "%u", options->max_batch_tokens);
		c->args[a++] = "--max-batch-tokens";
		c->args[a++] = c->batch;
	}
	if (options->plan_only)
		c->args[a++] = "--plan";
	/* The default is not said: other programs may be workers, too. */
	if (options->sandbox != VAC_SANDBOX_AUTO) {
		c->args[a++] = "--sandbox";
		c->args[a++] = options->sandbox == VAC_SANDBOX_OFF ? "off" : "require";
	}
	c->args[a] = NULL;
}

/* When memory ends, a worker is to go before who started it: it comes back, with
 * its models, on demand. Anybody may raise the number; where that fails, the
 * kernel's own choice is as good. */
static void go_first(void)
{
	char text[16] = {0};
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC), value = 0, sign = 1;
	size_t at = 0, n = 0;

	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) <= 0)
		goto out;
	if (text[at] == '-') {
		sign = -1;
		at++;
	}
	for (; text[at] >= '0' && text[at] <= '9'; at++)
		value = value * 10 + (text[at] - '0');
	value = sign * value + OOM_SCORE_MORE;
	if (value > 1000)
		value = 1000;
	if (value < 0)
		goto out; /* who set it that low wants it so */
	/* No printf between fork and exec. */
	for (int place = 1000; place > 0; place /= 10) {
		if (value >= place || place == 1)
			text[n++] = (char)('0' + value / place % 10);
	}
	(void)!pwrite(fd, text, n, 0);
out:
	close(fd);
}

/* In the child, between fork and exec: only async-signal-safe calls. Ends the
 * process with the errno in the pipe when something fails. */
static void become_worker(const struct command *c, const char *path, int sock, int report,
			  pid_t parent)
{
	sigset_t none;
	int null_fd, saved;

	/* The signal mask is inherited by exec; a worker must see SIGTERM. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setpgid(0, 0);
	go_first();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		goto err;
	/* The parent may have died before the line above. */
	if (getppid() != parent)
		_exit(127);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(null_fd, 1) < 0)
		goto err;
	/* dup2 onto itself would keep close-on-exec; report moves out of the way first. */
	report = fcntl(report, F_DUPFD_CLOEXEC, VAC_WORKER_FD + 1);
	if (report < 0)
		_exit(127);
	if (sock == VAC_WORKER_FD) {
		if (fcntl(sock, F_SETFD, 0) < 0)
			goto err;
	} else if (dup2(sock, VAC_WORKER_FD) < 0) {
		goto err;
	}
	execve(path, (char *const *)c->args, environ);
err:
	saved = errno;
	if (write(report, &saved, sizeof(saved)) < 0)
		_exit(126);
	_exit(127);
}

/* Waits for exec: the pipe closes on success and carries errno on failure. */
static int exec_result(int report)
{
	int saved = 0;
	ssize_t n;

	do {
		n = read(report, &saved, sizeof(saved));
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	return n == (ssize_t)sizeof(saved) ? saved : EIO;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int vac_worker_spawn(const struct vac_spawn_options *options, struct vac_worker_process *out,
		     struct vac_error *err)
{
	char path[VAC_WORKER_PATH_BYTES];
	struct command command;
	int sock[2] = {-1, -1}, report[2] = {-1, -1};
	pid_t pid, parent = getpid();
	int rc, saved;

	if (options->device && strcmp(options->device, VAC_SPAWN_GPUS) == 0)
		rc = find_program("vacate-gpud", "VACATE_GPUD", path, err);
	else
		rc = vac_worker_find(path, err);
	if (rc < 0)
		return rc;
	build_command(&command, path, options);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) != 0 ||
	    pipe2(report, O_CLOEXEC) != 0) {
		rc = vac_fail_errno(err, errno, "cannot make a socket to a worker");
		goto err;
	}
	pid = fork();
	if (pid < 0) {
		rc = vac_fail_errno(err, errno, "cannot start a worker process");
		goto err;
	}
	if (pid == 0)
		become_worker(&command, path, sock[1], report[1], parent);
	close(report[1]);
	report[1] = -1;
	saved = exec_result(report[0]);
	if (saved != 0) {
		reap(pid);
		/* Whatever is missing, it is no model: never VAC_E_NOT_FOUND. */
		rc = vac_fail(err, saved == ENOMEM ? VAC_E_NO_ROOM : VAC_E_IO,
			      "%s: cannot be started: %s", path, strerror(saved));
		goto err;
	}
	close(report[0]);
	close(sock[1]);
	out->pid = pid;
	out->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (out->pidfd >= 0)
		fcntl(out->pidfd, F_SETFD, FD_CLOEXEC);
	out->fd = sock[0];
	return 0;
err:
	for (int i = 0; i < 2; i++) {
		if (sock[i] >= 0)
			close(sock[i]);
		if (report[i] >= 0)
			close(report[i]);
	}
	return rc;
}

/* The name that the sandbox gave to the process before it killed it: "!41 socket".
 * A crafted model may have given it another: only its form is believed. */
static bool sandbox_call(pid_t pid, char *text, size_t room)
{
	char path[32], name[32] = {0};
	unsigned number;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, name, sizeof(name) - 1);
	close(fd);
	if (n < 3 || name[0] != '!' || name[1] < '0' || name[1] > '9')
		return false;
	name[strcspn(name, "\n")] = '\0';
	number = (unsigned)strtoul(name + 1, NULL, 10);
	n = (ssize_t)strspn(name + 1, "0123456789") + 1;
	if (name[n] == ' ' && name[n + 1] &&
	    strspn(name + n + 1, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name + n + 1))
		snprintf(text, room, "was killed by its sandbox: system call %u (%s)", number,
			 name + n + 1);
	else
		snprintf(text, room, "was killed by its sandbox: system call %u", number);
	return true;
}

void vac_worker_describe_end(pid_t pid, bool exited, int status, char *text, size_t room)
{
	if (exited)
		snprintf(text, room, "exited with status %d", status);
	else if (status != SIGSYS)
		snprintf(text, room, "was killed by signal %d (%s)", status, strsignal(status));
	else if (!sandbox_call(pid, text, room))
		snprintf(text, room, "was killed by its sandbox (signal %d, %s)", status,
			 strsignal(status));
}
