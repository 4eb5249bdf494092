/* files.c - see files.h. */
#include "wire/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"

/* Not taken by anybody: more than so many loads of a worker at once. */
#define INBOX_LIMIT ((size_t)16 * VAC_WIRE_MAX_FDS)
/* Where models lie: more are not looked at, which can only refuse. */
#define MAX_PLACES 128

/* ---- listing and opening ---- */

struct scan {
	struct vac_wire_files *files;
	const char *dir;
	char *allowed[MAX_PLACES]; /* real paths; owned */
	size_t allowed_count;
	struct vac_error *err;
};

static bool is_read(const char *name)
{
	return vac_ends_with(name, ".json") || vac_ends_with(name, ".safetensors") ||
	       vac_ends_with(name, ".txt") || vac_ends_with(name, ".model");
}

/* Takes a new string over, or NULL with errno: a place that is not there leads
 * nowhere, but without memory nobody must be told that a link leads out. */
static int allow(struct scan *scan, char *real)
{
	if (!real)
		return errno == ENOMEM ? vac_fail_nomem(scan->err, "a path", PATH_MAX) : 0;
	if (scan->allowed_count < sizeof(scan->allowed) / sizeof(scan->allowed[0]))
		scan->allowed[scan->allowed_count++] = real;
	else
		free(real);
	return 0;
}

/* .../models--org--name/snapshots/COMMIT: its files are links into ../../blobs. */
static char *repository_of(const char *dir)
{
	char *copy = strdup(dir), *slash, *name;

	if (!copy)
		return NULL;
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	if (!slash)
		goto none;
	*slash = '\0';
	slash = strrchr(copy, '/');
	if (!slash || strcmp(slash, "/snapshots") != 0)
		goto none;
	*slash = '\0';
	name = strrchr(copy, '/');
	if (name && strncmp(name, "/models--", 9) == 0)
		return copy;
none:
	free(copy);
	errno = ENOENT;
	return NULL;
}

/* Allows what a link of the hub's cache leads to, if it is of one who may say so.
 * False: it is a stranger's. */
static bool follow(struct scan *scan, const char *link, uid_t keeper, int *rc)
{
	struct stat st;

	if (lstat(link, &st) != 0 || !S_ISLNK(st.st_mode))
		return true;
	if (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != keeper)
		return false;
	*rc = allow(scan, realpath(link, NULL));
	return true;
}

/* HUB/models--org--name and its folder blobs may be links to another disk. Who
 * keeps the cache made them: a download writes files and links of a snapshot, and
 * nothing above. They are looked at where the cache is, not where they lead. */
static int allow_moved(struct scan *scan, const char *hub)
{
	char *repo = repository_of(scan->dir), *blobs = NULL, *slash;
	struct stat cache, above;
	int rc = 0;

	if (!repo)
		return errno == ENOMEM ? vac_fail_nomem(scan->err, "a path", PATH_MAX) : 0;
	slash = strrchr(repo, '/');
	*slash = '\0';
	if (stat(hub, &cache) != 0 || stat(slash == repo ? "/" : repo, &above) != 0 ||
	    cache.st_dev != above.st_dev || cache.st_ino != above.st_ino)
		goto out;
	*slash = '/';
	if (!follow(scan, repo, cache.st_uid, &rc) || rc < 0)
		goto out;
	blobs = vac_path_join(repo, "blobs");
	if (blobs)
		follow(scan, blobs, cache.st_uid, &rc);
	else
		rc = vac_fail_nomem(scan->err, "a path", PATH_MAX);
out:
	free(blobs);
	free(repo);
	return rc;
}

static int allow_places(struct scan *scan, const struct vac_model_dirs *where)
{
	char *hub = NULL;
	int rc = allow(scan, realpath(scan->dir, NULL));

	if (rc == 0 && scan->allowed_count > 0)
		rc = allow(scan, repository_of(scan->allowed[0]));
	for (size_t i = 0; rc == 0 && where && i < where->dir_count; i++)
		rc = allow(scan, realpath(where->dirs[i], NULL));
	if (rc == 0 && where)
		rc = vac_model_hub_cache(where, &hub, scan->err);
	if (rc == 0 && hub)
		rc = allow(scan, realpath(hub, NULL));
	if (rc == 0 && hub)
		rc = allow_moved(scan, hub);
	free(hub);
	return rc;
}

static bool is_below(const char *path, const char *place)
{
	size_t n = strlen(place);

	if (n == 1) /* "/" */
		return true;
	return strncmp(path, place, n) == 0 && path[n] == '/';
}

/* Where an open file lies, whatever links led to it. */
static bool is_allowed(const struct scan *scan, int fd)
{
	char link[32], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return false;
	path[n] = '\0';
	for (size_t i = 0; i < scan->allowed_count; i++) {
		if (is_below(path, scan->allowed[i]))
			return true;
	}
	return false;
}

static int add(struct scan *scan, const char *name, enum vac_handed_state state, int fd)
{
	struct vac_wire_files *files = scan->files;

	if (state == VAC_HANDED_OPEN && files->fd_count == VAC_WIRE_MAX_FDS) {
		close(fd);
		return vac_fail(scan->err, VAC_E_TOO_LARGE,
				"%s: has more than the %d files that a model can have; move what "
				"does not belong to it elsewhere",
				scan->dir, VAC_WIRE_MAX_FDS);
	}
	if (state == VAC_HANDED_OPEN)
		files->fds[files->fd_count++] = fd;
	vac_wire_list_file(&files->list, name, state);
	files->count++;
	if (files->count > VAC_WIRE_MAX_FILES)
		return vac_fail(scan->err, VAC_E_TOO_LARGE,
				"%s: has more than the %u entries that a model's directory can "
				"have; move what does not belong to it elsewhere",
				scan->dir, VAC_WIRE_MAX_FILES);
	return 0;
}

static int open_one(struct scan *scan, const char *path, const char *name)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		switch (errno) {
		case ENOENT: /* a dangling link of the hub's cache counts as missing */
		case ENOTDIR:
			return 0;
		case EACCES:
		case EPERM:
		case ELOOP:
			return add(scan, name, VAC_HANDED_UNREADABLE, -1);
		case ENXIO: /* a socket */
			return add(scan, name, VAC_HANDED_SPECIAL, -1);
		default:
			return vac_fail_errno(scan->err, errno, "%s: cannot open", path);
		}
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return add(scan, name, VAC_HANDED_SPECIAL, -1);
	}
	if (!is_allowed(scan, fd)) {
		close(fd);
		return add(scan, name, VAC_HANDED_OUTSIDE, -1);
	}
	return add(scan, name, VAC_HANDED_OPEN, fd);
}

static int scan_dir(struct scan *scan, const char *below);

/* A place that says so is not the model's; any other error may hide a part of it,
 * without which it would answer something else. */
static bool is_absent(int error)
{
	return error == ENOENT || error == ENOTDIR || error == EACCES || error == EPERM ||
	       error == ELOOP;
}

/* 1, 0 or an error. */
static int is_dir(struct scan *scan, const char *path, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type == DT_REG)
		return 0;
	if (stat(path, &st) == 0)
		return S_ISDIR(st.st_mode);
	return is_absent(errno) ? 0 : vac_fail_errno(scan->err, errno, "%s: cannot look at", path);
}

static int scan_entry(struct scan *scan, const char *below, const struct dirent *entry)
{
	const char *leaf = entry->d_name;
	char *name = *below ? vac_path_join(below, leaf) : strdup(leaf);
	char *path = name ? vac_path_join(scan->dir, name) : NULL;
	int rc = 0;

	if (!path)
		rc = vac_fail_nomem(scan->err, "the files of a model", strlen(leaf));
	else if (is_read(leaf))
		rc = open_one(scan, path, name);
	else if (!*below && vac_model_has_part(leaf))
		rc = is_dir(scan, path, entry);
	if (rc > 0)
		rc = scan_dir(scan, name);
	else if (rc == 0 && !*below && !is_read(leaf))
		rc = add(scan, name, VAC_HANDED_NAMED, -1);
	free(path);
	free(name);
	return rc;
}

static int scan_dir(struct scan *scan, const char *below)
{
	char *path = vac_path_join(scan->dir, below);
	struct dirent *entry;
	DIR *stream;
	int rc = 0, error = 0;

	if (!path)
		return vac_fail_nomem(scan->err, "the files of a model", strlen(below));
	stream = opendir(path);
	if (!stream && !is_absent(errno))
		rc = vac_fail_errno(scan->err, errno, "%s: cannot list", path);
	while (stream && rc == 0 && (entry = vac_next_entry(stream, &error))) {
		if (entry->d_name[0] != '.')
			rc = scan_entry(scan, below, entry);
	}
	if (rc == 0 && error)
		rc = vac_fail_errno(scan->err, error, "%s: cannot list", path);
	if (stream)
		closedir(stream);
	free(path);
	return rc;
}

int vac_wire_files_open(const char *dir, const struct vac_model_dirs *where,
			struct vac_wire_files **out, struct vac_error *err)
{
	struct scan scan = {.dir = dir, .err = err};
	int rc;

	scan.files = calloc(1, sizeof(*scan.files));
	if (!scan.files)
		return vac_fail_nomem(err, "the files of a model", sizeof(*scan.files));
	rc = allow_places(&scan, where);
	if (rc == 0)
		rc = scan_dir(&scan, "");
	if (rc == 0 && !vac_buf_ok(&scan.files->list))
		rc = vac_fail_nomem(err, "the names of a model's files", scan.files->list.bytes);
	while (scan.allowed_count > 0)
		free(scan.allowed[--scan.allowed_count]);
	if (rc < 0)
		vac_wire_files_free(scan.files);
	else
		*out = scan.files;
	return rc;
}

void vac_wire_files_free(struct vac_wire_files *files)
{
	if (!files)
		return;
	while (files->fd_count > 0)
		close(files->fds[--files->fd_count]);
	vac_buf_free(&files->list);
	free(files);
}

/* ---- sending and receiving ---- */

union control {
	struct cmsghdr header; /* for its alignment */
	char room[CMSG_SPACE(VAC_WIRE_MAX_FDS * sizeof(int))];
};

ssize_t vac_wire_send_files(int socket, const void *data, size_t bytes,
			    const struct vac_wire_files *files, int flags)
{
	struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	size_t fd_bytes = files->fd_count * sizeof(int);
	union control control;
	struct cmsghdr *header;

	if (fd_bytes > 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_bytes);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(fd_bytes);
		memcpy(CMSG_DATA(header), files->fds, fd_bytes);
	}
	return sendmsg(socket, &message, flags);
}

static bool keep(struct vac_wire_inbox *inbox, int fd)
{
	if (inbox->count == inbox->capacity) {
		size_t more = inbox->capacity ? 2 * inbox->capacity : 64;
		int *fds = more <= INBOX_LIMIT ? realloc(inbox->fds, more * sizeof(*fds)) : NULL;

		if (!fds) {
			if (fd >= 0)
				close(fd);
			return false;
		}
		inbox->fds = fds;
		inbox->capacity = more;
	}
	inbox->fds[inbox->count++] = fd;
	return true;
}

ssize_t vac_wire_receive(int socket, void *to, size_t bytes, int flags,
			 struct vac_wire_inbox *inbox)
{
	struct iovec part = {.iov_base = to, .iov_len = bytes};
	union control control;
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	bool ok = true;

	if (n < 0)
		return n;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= h->cmsg_len; at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + at, sizeof(fd));
			ok = keep(inbox, fd) && ok;
		}
	}
	if (message.msg_flags & MSG_CTRUNC)
		ok = keep(inbox, VAC_WIRE_CUT_SHORT) && ok;
	if (!ok) {
		errno = ENOMEM;
		return -1;
	}
	return n;
}

int vac_wire_inbox_take(struct vac_wire_inbox *inbox)
{
	int fd;

	if (inbox->count == 0)
		return -1;
	fd = inbox->fds[0];
	inbox->count--;
	memmove(inbox->fds, inbox->fds + 1, inbox->count * sizeof(fd));
	if (inbox->count == 0)
		vac_wire_inbox_free(inbox);
	return fd;
}

void vac_wire_inbox_free(struct vac_wire_inbox *inbox)
{
	while (inbox->count > 0) {
		inbox->count--;
		if (inbox->fds[inbox->count] >= 0)
			close(inbox->fds[inbox->count]);
	}
	free(inbox->fds);
	*inbox = (struct vac_wire_inbox){0};
}
