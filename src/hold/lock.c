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
#include "hold/internal.h"

#define POLL_US 10000
/* Between the making of a file and its becoming readable, and when files are removed
 * just then: tried so often. */
#define TRIES  64
#define CANNOT "this lock cannot be used"

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

	return vac_fstat(fd, &ours) == 0 && lstat(path, &there) == 0 &&
	       ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
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

int vac_lock_take(struct vac_lock *lock, const char *directory, const char *name,
		  int64_t deadline_ns, bool (*cancelled)(void *ctx), void *ctx, pid_t *holder,
		  struct vac_error *err)
{
	struct stat st;
	int fd = -1, rc;

	lock->fd = -1;
	*holder = 0;
	snprintf(lock->path, sizeof(lock->path), "%s/%s", directory, name);
	for (;;) {
		fd = open_lock(lock->path);
		if (fd < 0)
			return vac_hold_fail_file(err, -fd, lock->path, CANNOT);
		if (vac_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
			close(fd);
			return vac_fail(err, VAC_E_IO,
					"%s: this lock cannot be used: no plain file", lock->path);
		}
		rc = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
		if (rc == 0 && is_still_there(fd, lock->path)) {
			lock->fd = fd;
			return 0;
		}
		if (rc < 0 && rc != -EWOULDBLOCK && rc != -EINTR) {
			close(fd);
			return vac_hold_fail_file(err, -rc, lock->path, CANNOT);
		}
		if (rc == -EWOULDBLOCK && vac_now_ns() >= deadline_ns) {
			*holder = find_holder(fd);
			close(fd);
			return fail_busy(err, lock->path, *holder);
		}
		close(fd);
		if (cancelled && cancelled(ctx))
			return vac_fail(err, VAC_E_CANCELLED, "cancelled while waiting for %s",
					lock->path);
		if (rc < 0)
			usleep(POLL_US);
	}
}

int vac_lock_take_device(struct vac_lock *lock, const char *directory, const char *uuid,
			 int64_t deadline_ns, bool (*cancelled)(void *ctx), void *ctx,
			 pid_t *holder, struct vac_error *err)
{
	char name[128];

	snprintf(name, sizeof(name), "vacate-%.96s.lock", uuid);
	for (char *c = name; *c; c++)
		if (*c == '/')
			*c = '_';
	return vac_lock_take(lock, directory, name, deadline_ns, cancelled, ctx, holder, err);
}

void vac_lock_release(struct vac_lock *lock, bool temporary)
{
	if (lock->fd < 0)
		return;
	if (temporary) /* while it is held; who waits for it looks whether it is still there */
		(void)unlink(lock->path);
	close(lock->fd);
	lock->fd = -1;
}
