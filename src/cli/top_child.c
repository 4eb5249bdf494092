/* top_child.c - see top_child.h. */
#include "cli/top_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define MOST_WORDS       16
#define MOST_BYTES       ((size_t)256 << 10)
#define READ_BYTES       4096
#define SELF             "/proc/self/exe"
#define EXIT_NOT_STARTED 127

/* The environment with another COLUMNS. The list is the caller's to free. */
static char **make_environment(char *columns)
{
	size_t count = 0, at = 0;
	char **list;

	while (environ && environ[count])
		count++;
	list = calloc(count + 2, sizeof(*list));
	if (!list)
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (strncmp(environ[i], "COLUMNS=", 8) != 0)
			list[at++] = environ[i];
	list[at] = columns;
	return list;
}

/* Between fork and exec: only async-signal-safe calls. */
static void become(const char *const *args, char *const *environment, int to, int nothing, bool all)
{
	static const int handled[] = {SIGINT,  SIGTERM, SIGHUP,   SIGTSTP,
				      SIGCONT, SIGCHLD, SIGWINCH, SIGQUIT};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++)
		signal(handled[i], SIG_DFL);
	/* Whoever reads its output may leave before it is done. */
	signal(SIGPIPE, SIG_IGN);
	setpgid(0, 0);
	if (dup2(nothing, STDIN_FILENO) >= 0 && dup2(to, STDERR_FILENO) >= 0 &&
	    dup2(all ? to : nothing, STDOUT_FILENO) >= 0)
		execve(SELF, (char *const *)args, environment);
	_exit(EXIT_NOT_STARTED);
}

int vac_top_child_start(struct vac_top_child *child, const char *const *words, bool all,
			unsigned columns, struct vac_error *err)
{
	const char *args[MOST_WORDS + 2] = {"vacate"};
	int pipe_fds[2] = {-1, -1}, nothing = -1, rc = 0;
	char variable[32], **environment = NULL;

	*child = (struct vac_top_child){.fd = -1};
	for (size_t i = 0; i < MOST_WORDS && words[i]; i++)
		args[i + 1] = words[i];
	snprintf(variable, sizeof(variable), "COLUMNS=%u", columns);
	environment = make_environment(variable);
	if (!environment)
		return vac_fail_nomem(err, "a command", 0);
	nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (nothing < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0) {
		rc = vac_fail_errno(err, errno, "a command cannot be started");
		goto out;
	}
	fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	child->begun_ns = vac_now_ns();
	child->pid = fork();
	if (child->pid == 0)
		become(args, environment, pipe_fds[1], nothing, all);
	if (child->pid < 0) {
		rc = vac_fail_errno(err, errno, "a command cannot be started");
		child->pid = 0;
		goto out;
	}
	child->fd = pipe_fds[0];
	pipe_fds[0] = -1;
out:
	for (int i = 0; i < 2; i++)
		if (pipe_fds[i] >= 0)
			close(pipe_fds[i]);
	if (nothing >= 0)
		close(nothing);
	free(environment);
	return rc;
}

bool vac_top_child_read(struct vac_top_child *child)
{
	char data[READ_BYTES];
	bool got = false;
	ssize_t n;

	while (child->fd >= 0) {
		n = read(child->fd, data, sizeof(data));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		got = true;
		if (n <= 0) {
			close(child->fd);
			child->fd = -1;
		} else if (child->out.bytes < MOST_BYTES) {
			vac_buf_put(&child->out, data, (size_t)n);
		}
	}
	return got;
}

bool vac_top_child_ended(struct vac_top_child *child, int *status)
{
	/* Not the end of its output: what it has started may hold that longer. */
	if (child->pid == 0 || waitpid(child->pid, status, WNOHANG) != child->pid)
		return false;
	(void)vac_top_child_read(child);
	if (child->fd >= 0)
		close(child->fd);
	child->fd = -1;
	child->pid = 0;
	return true;
}

void vac_top_child_leave(struct vac_top_child *child)
{
	if (child->fd >= 0)
		close(child->fd);
	vac_buf_free(&child->out);
	*child = (struct vac_top_child){.fd = -1};
}
