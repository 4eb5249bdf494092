/*
 * lock.c - see lock.h.
 *
 * The directory is one that everybody may write to, so: a file is opened for
 * reading, which is all that flock needs and what protected_regular leaves alone; it is
 * made with O_EXCL, and never through a link. Whoever made it, everybody may read it.
 * Somebody hostile can hold a lock for ever; then it is said who does.
 */
#include "hold/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

#define POLL_US 10000
/* Between the making of a file and its becoming readable, and when files are removed
 * just then: tried so often. */
#define TRIES 64

const char *vac_lock_directory(void)
{
	const char *named = getenv("VACATE_HOLD_DIR");
	struct stat st;

	if (named && *named)
		return named;
	/* By its mode and not by access(2): a service that may not write to it must not
	 * look elsewhere. */
	if (lstat("/run/lock", &st) == 0 && S_ISDIR(st.st_mode) &&
	    (st.st_mode & (S_ISVTX | S_IWOTH)) == (S_ISVTX | S_IWOTH))
		return "/run/lock";
	return "/tmp";
}

/* A descriptor, or a negative errno. */
static int open_lock(const char *path)
{
	int fd, error = 0;

	for (int i = 0; i < TRIES; i++) {
		fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		error = errno;
		if (error == EACCES) { /* made a moment ago, perhaps */
			usleep(1000);
			continue;
		}
		if (error != ENOENT)
			break;
		fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
		if (fd >= 0) {
			(void)fchmod(fd, 0444); /* whatever the umask */
			return fd;
		}
		error = errno;
		if (error != EEXIST)
			break;
	}
	return -error;
}

/* Who has the lock of that file, as the kernel lists it; 0: not told. */
static pid_t find_holder(int fd)
{
	char line[256], type[16], mode[16], access_mode[16];
	unsigned long long inode;
	struct stat st;
	pid_t holder = 0;
	int pid;
	FILE *locks;

	if (vac_fstat(fd, &st) < 0)
		return 0;
	locks = fopen("/proc/locks", "re");
	if (!locks)
		return 0;
	while (holder == 0 && fgets(line, sizeof(line), locks)) {
		/* "1: FLOCK  ADVISORY  WRITE 123 fe:00:4567 0 EOF"; who waits has "->" */
		if (sscanf(line, "%*d: %15s %15s %15s %d %*x:%*x:%llu", type, mode, access_mode,
			   &pid, &inode) == 5 &&
		    strcmp(type, "FLOCK") == 0 && inode == (unsigned long long)st.st_ino && pid > 0)
			holder = pid;
	}
	fclose(locks);
	return holder;
}

/* It was not removed (and perhaps made anew by another) before we had it. */
static bool is_still_there(int fd, const char *path)
{
	struct stat ours, there;

	if (vac_fstat(fd, &ours) < 0)
		return false;
	if (lstat(path, &there) != 0)
		return errno != ENOENT; /* who may not look any more keeps what it has */
	return ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

static int fail_busy(struct vac_error *err, const char *path, pid_t holder)
{
	int rc;

	if (holder != 0)
		rc = vac_fail(err, VAC_E_BUSY, "another vacate is at it: process %d holds %s",
			      (int)holder, path);
	else
		rc = vac_fail(err, VAC_E_BUSY, "another vacate is at it: it holds %s", path);
	return rc;
}

static int fail_file(struct vac_error *err, int errnum, const char *path)
{
	int rc = vac_fail_errno(err, errnum, "%s: this lock cannot be used", path);

	/* VAC_E_NOT_FOUND would mean a process to who parks one */
	if (rc != vac_error_errno(VAC_E_NOT_FOUND))
		return rc;
	if (err)
		err->code = VAC_E_IO;
	return vac_error_errno(VAC_E_IO);
}

static void name_file(struct vac_lock *lock, const char *directory, const char *name)
{
	lock->fd = -1;
	snprintf(lock->path, sizeof(lock->path), "%s/%s", directory, name);
}

void vac_lock_device_name(const char *uuid, char out[VAC_LOCK_NAME_BYTES])
{
	snprintf(out, VAC_LOCK_NAME_BYTES, "vacate-%.96s.lock", uuid);
	for (char *c = out; *c; c++)
		if (*c == '/')
			*c = '_';
}

/* Its file, not taken. */
static int open_file(struct vac_lock *lock, struct vac_error *err)
{
	struct stat st;
	int fd = open_lock(lock->path);

	if (fd < 0)
		return fail_file(err, -fd, lock->path);
	if (vac_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return vac_fail(err, VAC_E_IO, "%s: this lock cannot be used: no plain file",
				lock->path);
	}
	lock->fd = fd;
	return 0;
}

static void close_file(struct vac_lock *lock)
{
	if (lock->fd >= 0)
		close(lock->fd);
	lock->fd = -1;
}

int vac_lock_retake(struct vac_lock *lock, int64_t deadline_ns, bool (*cancelled)(void *ctx),
		    void *ctx, pid_t *holder, struct vac_error *err)
{
	int rc;

	*holder = 0;
	for (;;) {
		rc = lock->fd < 0 ? open_file(lock, err) : 0;
		if (rc < 0)
			return rc;
		rc = flock(lock->fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
		if (rc == 0 && is_still_there(lock->fd, lock->path))
			return 0;
		if (rc < 0 && rc != -EWOULDBLOCK && rc != -EINTR)
			return fail_file(err, -rc, lock->path);
		if (rc == -EWOULDBLOCK && vac_now_ns() >= deadline_ns) {
			*holder = find_holder(lock->fd);
			return fail_busy(err, lock->path, *holder);
		}
		if (rc == 0 || !is_still_there(lock->fd, lock->path))
			close_file(lock); /* another file is the lock by now */
		if (cancelled && cancelled(ctx))
			return vac_fail(err, VAC_E_CANCELLED, "cancelled while waiting for %s",
					lock->path);
		if (rc < 0)
			usleep(POLL_US);
	}
}

void vac_lock_leave(struct vac_lock *lock)
{
	if (lock->fd >= 0)
		(void)flock(lock->fd, LOCK_UN);
}

int vac_lock_take(struct vac_lock *lock, const char *directory, const char *name,
		  int64_t deadline_ns, bool (*cancelled)(void *ctx), void *ctx, pid_t *holder,
		  struct vac_error *err)
{
	int rc;

	name_file(lock, directory, name);
	rc = vac_lock_retake(lock, deadline_ns, cancelled, ctx, holder, err);
	if (rc < 0)
		close_file(lock);
	return rc;
}

int vac_lock_take_device(struct vac_lock *lock, const char *directory, const char *uuid,
			 int64_t deadline_ns, bool (*cancelled)(void *ctx), void *ctx,
			 pid_t *holder, struct vac_error *err)
{
	char name[VAC_LOCK_NAME_BYTES];

	vac_lock_device_name(uuid, name);
	return vac_lock_take(lock, directory, name, deadline_ns, cancelled, ctx, holder, err);
}

int vac_lock_open_device(struct vac_lock *lock, const char *directory, const char *uuid,
			 struct vac_error *err)
{
	char name[VAC_LOCK_NAME_BYTES];

	vac_lock_device_name(uuid, name);
	name_file(lock, directory, name);
	return open_file(lock, err);
}

void vac_lock_release(struct vac_lock *lock, bool temporary)
{
	if (lock->fd < 0)
		return;
	if (temporary) /* while it is held; who waits for it looks whether it is still there */
		(void)unlink(lock->path);
	/* A child that this program forked meanwhile has the descriptor, too, and would keep the
	 * lock for as long as it lives. */
	vac_lock_leave(lock);
	close_file(lock);
}
