/*
 * trial.c - see trial.h. What asks may hold any lock of the C library, so the thread
 * allocates nothing and uses no stdio stream.
 */
#include "worker/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef SECCOMP_IOCTL_NOTIF_RECV

#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE 1
#endif
#define MOST_LINES 1024

static struct {
	const struct vac_path_rule *paths;
	size_t path_count;
	const struct vac_call_rule *calls;
	size_t call_count;
	int pipe[2]; /* the listener's number comes through it */
	uint64_t said[MOST_LINES];
	size_t said_count;
} trial;

/* A line, unless it was written before. */
static void say(const char *line)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (const char *c = line; *c; c++)
		hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
	for (size_t i = 0; i < trial.said_count; i++) {
		if (trial.said[i] == hash)
			return;
	}
	if (trial.said_count == MOST_LINES)
		return;
	trial.said[trial.said_count++] = hash;
	(void)!write(STDERR_FILENO, line, strlen(line));
}

/* Text of the caller's, which may give any address. */
static bool read_text(uint64_t address, char out[PATH_MAX])
{
	size_t at = 0;

	while (at < PATH_MAX) { /* not across a page that may not be there */
		size_t bytes = 256 - (size_t)((address + at) % 256);
		struct iovec from = {(void *)(uintptr_t)(address + at), bytes};
		struct iovec to = {out + at, bytes};

		if (bytes > PATH_MAX - at)
			to.iov_len = from.iov_len = PATH_MAX - at;
		if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)to.iov_len)
			return false;
		if (memchr(out + at, '\0', to.iov_len))
			return true;
		at += to.iov_len;
	}
	return false;
}

/* What Landlock would look at: where the path leads. false: nowhere. */
static bool resolve(int directory, const char *path, bool makes, char out[PATH_MAX])
{
	static char whole[PATH_MAX + 64], parent[PATH_MAX + 64];
	char *slash;

	if (*path == '/' || directory == AT_FDCWD)
		snprintf(whole, sizeof(whole), "%s", path);
	else
		snprintf(whole, sizeof(whole), "/proc/self/fd/%d/%s", directory, path);
	if (realpath(whole, out))
		return true;
	if (errno != ENOENT || !makes)
		return false;
	snprintf(parent, sizeof(parent), "%s", whole);
	slash = strrchr(parent, '/');
	if (!slash)
		return false;
	*slash = '\0';
	return realpath(parent, out) != NULL;
}

static bool is_below(const char *path, const char *place)
{
	size_t n = strlen(place);

	return strncmp(path, place, n) == 0 &&
	       (path[n] == '\0' || path[n] == '/' || place[n - 1] == '/');
}

static uint64_t rights_at(const char *path)
{
	static char place[PATH_MAX];
	uint64_t rights = 0;

	for (size_t i = 0; i < trial.path_count; i++) {
		if (realpath(trial.paths[i].path, place) && is_below(path, place))
			rights |= trial.paths[i].rights;
	}
	return rights;
}

static void look_at_open(int directory, uint64_t path_address, uint64_t flags)
{
	static char path[PATH_MAX], found[PATH_MAX], line[PATH_MAX + 128];
	uint64_t wanted = 0;
	struct stat st;
	bool there;

	if (flags & O_PATH || !read_text(path_address, path))
		return;
	if (!resolve(directory, path, flags & O_CREAT, found))
		return; /* it fails as ever */
	there = stat(path, &st) == 0 || !(flags & O_CREAT);
	if ((flags & O_ACCMODE) != O_WRONLY)
		wanted |= stat(found, &st) == 0 && S_ISDIR(st.st_mode) && there
				  ? VAC_LANDLOCK_READ_DIR
				  : VAC_LANDLOCK_READ_FILE;
	if ((flags & O_ACCMODE) != O_RDONLY)
		wanted |= VAC_LANDLOCK_WRITE_FILE;
	if (!there)
		wanted |= VAC_LANDLOCK_MAKE;
	if ((rights_at(found) & wanted) == wanted)
		return;
	snprintf(line, sizeof(line), "vacate-worker: trial: would refuse to open %s (%s)%s\n", path,
		 (flags & O_ACCMODE) == O_RDONLY ? "reading" : "writing",
		 there ? "" : ", which would be made");
	say(line);
}

/* The name of a socket, in quotes: a path, or "@" and what is abstract. */
static void put_address(char *out, size_t room, uint64_t address, uint64_t bytes)
{
	struct sockaddr_un name = {0};
	struct iovec from = {(void *)(uintptr_t)address, bytes}, to = {&name, bytes};

	*out = '\0';
	if (bytes <= offsetof(struct sockaddr_un, sun_path) || bytes > sizeof(name) ||
	    process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)bytes ||
	    name.sun_family != AF_UNIX)
		return;
	bytes -= offsetof(struct sockaddr_un, sun_path);
	if (name.sun_path[0] == '\0')
		name.sun_path[0] = '@';
	snprintf(out, room, " '%.*s'", (int)bytes, name.sun_path);
}

static void put_text(char *out, size_t room, uint64_t address)
{
	static char text[PATH_MAX];

	*out = '\0';
	if (read_text(address, text))
		snprintf(out, room, " '%.200s'", text);
}

/* What a call is about, as far as its numbers do not tell. */
static void put_subject(char *out, size_t room, const struct seccomp_data *call)
{
	size_t n;

	*out = '\0';
	switch (call->nr) {
	case SYS_connect:
	case SYS_bind:
		put_address(out, room, call->args[1], call->args[2]);
		break;
#ifdef SYS_symlink
	case SYS_symlink:
		put_text(out, room, call->args[0]);
		n = strlen(out);
		put_text(out + n, room - n, call->args[1]);
		break;
#endif
	case SYS_symlinkat:
		put_text(out, room, call->args[0]);
		n = strlen(out);
		put_text(out + n, room - n, call->args[2]);
		break;
	default:
		break;
	}
}

static void look_at(const struct seccomp_data *call)
{
	static char subject[512], line[768];
	char end[48] = "error 38"; /* ENOSYS */
	const struct vac_call_rule *rule;
	uint64_t arguments[6];

	for (size_t i = 0; i < 6; i++)
		arguments[i] = call->args[i];
	rule = vac_filter_match(trial.calls, trial.call_count, call->nr, arguments);
	switch (call->nr) {
	case SYS_openat:
		look_at_open((int)call->args[0], call->args[1], call->args[2]);
		return;
#ifdef SYS_open
	case SYS_open:
		look_at_open(AT_FDCWD, call->args[0], call->args[1]);
		return;
#endif
	default:
		break;
	}
	if (rule && rule->action == VAC_CALL_ERRNO)
		snprintf(end, sizeof(end), "error %d", rule->error);
	else if (rule)
		snprintf(end, sizeof(end), "the end of the worker");
	put_subject(subject, sizeof(subject), call);
	/* the first two arguments say what is meant, and no address among them */
	snprintf(line, sizeof(line),
		 "vacate-worker: trial: would refuse system call %d (%s) %#x %#x%s: %s\n", call->nr,
		 rule ? rule->name : "?", call->args[0] > UINT32_MAX ? 0 : (unsigned)call->args[0],
		 call->args[1] > UINT32_MAX ? 0 : (unsigned)call->args[1], subject, end);
	say(line);
}

static void *watch(void *unused)
{
	/* the kernel's structures may be longer than a header's */
	static union {
		struct seccomp_notif notif;
		char room[1024];
	} question;
	static union {
		struct seccomp_notif_resp resp;
		char room[1024];
	} answer;
	int listener;

	(void)unused;
	if (read(trial.pipe[0], &listener, sizeof(listener)) != sizeof(listener) || listener < 0)
		return NULL;
	for (;;) {
		memset(&question, 0, sizeof(question));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &question) != 0) {
			if (errno == EINTR || errno == ENOENT)
				continue;
			return NULL;
		}
		look_at(&question.notif.data);
		memset(&answer, 0, sizeof(answer));
		answer.resp.id = question.notif.id;
		answer.resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

int vac_trial_begin(const struct vac_path_rule *paths, size_t count,
		    const struct vac_call_rule *calls, size_t call_count, const char **why)
{
	sigset_t all, before;
	pthread_t thread;
	int rc;

	trial.paths = paths;
	trial.path_count = count;
	trial.calls = calls;
	trial.call_count = call_count;
	if (pipe2(trial.pipe, O_CLOEXEC) != 0) {
		*why = "no pipe can be made";
		return -errno;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, NULL, watch, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		*why = "no thread can be made";
		close(trial.pipe[0]);
		close(trial.pipe[1]);
		return -rc;
	}
	pthread_detach(thread);
	return 0;
}

void vac_trial_watch(int listener)
{
	(void)!write(trial.pipe[1], &listener, sizeof(listener));
}

#else /* headers of before Linux 5.0 */

int vac_trial_begin(const struct vac_path_rule *paths, size_t count,
		    const struct vac_call_rule *calls, size_t call_count, const char **why)
{
	(void)paths;
	(void)count;
	(void)calls;
	(void)call_count;
	*why = "built without it";
	return -ENOSYS;
}

void vac_trial_watch(int listener)
{
	(void)listener;
}

#endif
