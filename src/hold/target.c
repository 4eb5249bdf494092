/*
 * target.c - see target.h. What /proc says of a process is read in one piece from
 * its stat, so that the state, the parent and the start belong together.
 */
#include "hold/target.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "hold/internal.h"
#include "hold/proc.h"

/* Linux 5.3; the same number on every architecture. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* A machine may have tens of thousands of processes; more are not looked at. */
#define MOST_PROCESSES 262144u

struct proc_stat {
	char state; /* R, S, D, T, t, Z, X, ... */
	pid_t parent;
	uint64_t start_ticks;
};

/* Reads a small file as text. Bytes, or a negative errno. */
static ssize_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do {
		n = read(fd, text, size - 1);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n;
}

/* The command in parentheses may hold blanks and parentheses: what counts follows the last. */
static int read_stat(pid_t pid, struct proc_stat *out)
{
	char path[64], text[1024];
	unsigned long long start;
	int parent;
	const char *at;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	n = read_text(path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1,
			  " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			  "%*d %*d %llu",
			  &out->state, &parent, &start) != 3)
		return -ESRCH;
	out->parent = parent;
	out->start_ticks = start;
	return 0;
}

static void read_command(pid_t pid, char out[VAC_TARGET_COMMAND_BYTES])
{
	char path[64], text[VAC_TARGET_COMMAND_BYTES];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	n = read_text(path, text, sizeof(text));
	while (n > 0 && text[n - 1] == '\0')
		n--;
	if (n <= 0) { /* a kernel's thread, or one that took its arguments away */
		snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
		n = read_text(path, text, sizeof(text));
		n = n > 0 ? (ssize_t)strcspn(text, "\n") : 0;
	}
	for (ssize_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];

		out[i] = (char)(c == '\0' ? ' ' : c < ' ' || c > '~' ? '?' : c);
	}
	out[n > 0 ? n : 0] = '\0';
}

/* What /proc answers of a process that is not there. Other errors (no descriptor, no memory)
 * say nothing of it. */
static bool is_gone(int rc)
{
	return rc == -ENOENT || rc == -ESRCH;
}

static int fail_look(pid_t pid, int rc, struct vac_error *err)
{
	if (!is_gone(rc))
		return vac_fail_errno(err, -rc, "process %d cannot be looked at", (int)pid);
	if (access("/proc/self/stat", F_OK) != 0)
		return vac_fail(err, VAC_E_IO,
				"process %d cannot be looked at: there is no /proc here", (int)pid);
	return vac_fail(err, VAC_E_NOT_FOUND, "there is no process %d", (int)pid);
}

int vac_target_open(pid_t pid, struct vac_target *out, struct vac_error *err)
{
	struct vac_target target = {.pid = pid};
	struct proc_stat stat_of;
	struct stat st;
	char path[64];
	int rc;

	if (pid <= 0)
		return vac_fail(err, VAC_E_NOT_FOUND, "%d is no number of a process", (int)pid);
	/* The descriptor first: what is read afterwards is of the process that it holds,
	 * or of none if that ended meanwhile, which is looked at in the end. */
	target.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (target.pidfd < 0 && errno != ENOSYS && errno != EPERM) {
		if (errno == ESRCH)
			return fail_look(pid, -ESRCH, err);
		/* a thread's number, not its process's; Linux 6.16 says ENOENT */
		if (errno == EINVAL || errno == ENOENT)
			return vac_fail(err, VAC_E_NOT_FOUND,
					"%d is no process, but a thread of one", (int)pid);
		return vac_fail_errno(err, errno, "process %d cannot be held", (int)pid);
	}
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	rc = read_stat(pid, &stat_of);
	if (rc == 0 && stat(path, &st) != 0)
		rc = -errno;
	if (rc < 0) {
		vac_target_close(&target);
		return fail_look(pid, rc, err);
	}
	target.start_ticks = stat_of.start_ticks;
	target.uid = st.st_uid;
	read_command(pid, target.command);
	if (!vac_target_alive(&target)) {
		vac_target_close(&target);
		return vac_fail(err, VAC_E_NOT_FOUND, "process %d has ended", (int)pid);
	}
	*out = target;
	return 0;
}

bool vac_target_alive(const struct vac_target *target)
{
	struct proc_stat stat_of;
	int rc;

	if (target->pidfd >= 0) {
		struct pollfd ended = {.fd = target->pidfd, .events = POLLIN};

		if (poll(&ended, 1, 0) > 0)
			return false;
	}
	rc = read_stat(target->pid, &stat_of);
	/* What is not known to have ended is not given up: it may be locked, or on record. */
	if (rc < 0)
		return !is_gone(rc);
	if (stat_of.start_ticks != target->start_ticks)
		return false;
	return stat_of.state != 'X' && stat_of.state != 'x' && stat_of.state != 'Z';
}

bool vac_target_stopped(const struct vac_target *target)
{
	struct proc_stat stat_of;

	return read_stat(target->pid, &stat_of) == 0 &&
	       (stat_of.state == 'T' || stat_of.state == 't');
}

/* The file of a control group begins with, or has, that text. */
static bool group_says(const char *root, const char *mount, const char *group, const char *name,
		       const char *what)
{
	char path[PATH_MAX], text[256];
	int n = snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s%s/%s", root, mount, group, name);

	return n > 0 && (size_t)n < sizeof(path) && vac_read_small(path, text, sizeof(text)) > 0 &&
	       strstr(text, what) != NULL;
}

bool vac_target_frozen(const char *root, const struct vac_target *target)
{
	char text[4096], *save = NULL;

	if (vac_proc_text(root, target->pid, "cgroup", text, sizeof(text)) <= 0)
		return false;
	/* "0::/a/b" of version 2, "6:freezer:/a/b" of version 1 */
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;

		if (!group || strstr(group, "/..")) /* outside of our namespace */
			continue;
		*group++ = '\0';
		list++;
		if (*list == '\0' &&
		    (group_says(root, "", group, "cgroup.events", "frozen 1") ||
		     group_says(root, "/unified", group, "cgroup.events", "frozen 1")))
			return true;
		if (strcmp(list, "freezer") == 0 &&
		    (group_says(root, "/freezer", group, "freezer.state", "FROZEN") ||
		     group_says(root, "/freezer", group, "freezer.state", "FREEZING")))
			return true;
	}
	return false;
}

void vac_target_close(struct vac_target *target)
{
	if (target->pidfd >= 0)
		close(target->pidfd);
	target->pidfd = -1;
}

struct relation {
	pid_t pid, parent;
	uint64_t start_ticks;
};

static int each_process(struct vac_buf *relations, struct vac_error *err)
{
	struct dirent *entry;
	int error = 0;
	DIR *proc = opendir("/proc");

	if (!proc)
		return vac_fail_errno(err, errno, "/proc: processes cannot be listed");
	vac_buf_reset(relations);
	relations->limit_bytes = MOST_PROCESSES * sizeof(struct relation);
	while ((entry = vac_next_entry(proc, &error)) != NULL) {
		struct relation relation;
		struct proc_stat stat_of;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		relation.pid = (pid_t)strtol(entry->d_name, NULL, 10);
		if (read_stat(relation.pid, &stat_of) < 0)
			continue; /* it ended meanwhile */
		relation.parent = stat_of.parent;
		relation.start_ticks = stat_of.start_ticks;
		vac_buf_put(relations, &relation, sizeof(relation));
	}
	closedir(proc);
	if (error != 0)
		return vac_fail_errno(err, error, "/proc: processes cannot be listed");
	if (!vac_buf_ok(relations))
		return vac_fail_nomem(err, "the processes of the machine", 0);
	return 0;
}

static bool is_known(const struct vac_target *targets, size_t count, pid_t pid)
{
	for (size_t i = 0; i < count; i++)
		if (targets[i].pid == pid)
			return true;
	return false;
}

/* Takes one that was seen in the list, unless its number is another's by now. */
static bool open_seen(const struct relation *seen, struct vac_target *out)
{
	if (vac_target_open(seen->pid, out, NULL) < 0)
		return false;
	if (out->start_ticks == seen->start_ticks)
		return true;
	vac_target_close(out);
	return false;
}

/* Adds whose parent is among the targets; they come behind it. The list is younger than
 * these: who lives still had its number then. */
static int add_children(const struct vac_buf *relations, struct vac_target *out, size_t capacity,
			size_t *count, struct vac_error *err)
{
	const struct relation *all = (const struct relation *)(const void *)relations->data;
	size_t all_count = relations->bytes / sizeof(*all);

	for (size_t parent = 0; parent < *count; parent++) {
		if (!vac_target_alive(&out[parent]))
			continue;
		for (size_t i = 0; i < all_count; i++) {
			if (all[i].parent != out[parent].pid || is_known(out, *count, all[i].pid))
				continue;
			if (*count == capacity)
				return vac_fail(err, VAC_E_TOO_LARGE,
						"process %d has more than %zu descendants",
						(int)out[0].pid, capacity - 1);
			if (open_seen(&all[i], &out[*count]))
				++*count;
		}
	}
	return 0;
}

int vac_target_tree(pid_t pid, struct vac_target *out, size_t capacity, size_t *count,
		    struct vac_error *err)
{
	struct vac_buf relations = VAC_BUF_INIT;
	size_t found = 0, before;
	int rc;

	*count = 0;
	if (capacity == 0)
		return vac_fail(err, VAC_E_TOO_LARGE, "no room for process %d", (int)pid);
	rc = vac_target_open(pid, &out[0], err);
	if (rc < 0)
		return rc;
	found = 1;
	do { /* until a look finds nobody new: they may make children meanwhile */
		before = found;
		rc = each_process(&relations, err);
		if (rc == 0)
			rc = add_children(&relations, out, capacity, &found, err);
	} while (rc == 0 && found > before);
	vac_buf_free(&relations);
	if (rc < 0) {
		while (found > 0)
			vac_target_close(&out[--found]);
		return rc;
	}
	*count = found;
	return 0;
}
