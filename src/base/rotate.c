/*
 * rotate.c - the steps of a rotation, each of which may fail or be the last
 * before a crash. No state; the loop's thread.
 */
#include "base/rotate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int vac_rotate_open(const char *path, int flags)
{
	int fd = open(path,
		      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags,
		      0644);

	return fd < 0 ? -errno : fd;
}

/* PATH.number */
static bool name_of(const char *path, uint32_t number, char name[PATH_MAX])
{
	return snprintf(name, PATH_MAX, "%s.%u", path, number) < PATH_MAX;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Moves PATH.1 ... one number up, from the first number that is free. 0: .1 is
 * free; 1: .1 is the full file already; -errno. */
static int shift(const char *path, const struct stat *full, uint32_t keep)
{
	char from[PATH_MAX], to[PATH_MAX];
	uint32_t free_number = 1;
	struct stat st;

	for (; free_number <= keep; free_number++) {
		if (!name_of(path, free_number, from))
			return -ENAMETOOLONG;
		if (lstat(from, &st) != 0) {
			if (errno != ENOENT)
				return -errno;
			break;
		}
		/* A crash came before PATH named a new file. */
		if (free_number == 1 && same_file(&st, full))
			return 1;
	}
	/* None is free: the oldest is replaced. */
	if (free_number > keep)
		free_number = keep;
	for (uint32_t i = free_number; i > 1; i--) {
		name_of(path, i - 1, from);
		name_of(path, i, to);
		if (rename(from, to) != 0)
			return -errno;
	}
	return 0;
}

/* The full file gets the name PATH.1 beside its own. */
static int name_full(const char *path, const struct stat *full, uint32_t keep)
{
	char first[PATH_MAX];
	int rc = shift(path, full, keep);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	name_of(path, 1, first);
	/* With one file to keep there was nothing to shift. */
	if (keep == 1 && unlink(first) != 0 && errno != ENOENT)
		return -errno;
	if (link(path, first) == 0)
		return 0;
	/* A file system without second names: PATH is missing for a moment. */
	if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
		return -errno;
	return rename(path, first) == 0 ? 0 : -errno;
}

static int rotate_locked(const char *path, int fd, uint32_t keep)
{
	char fresh[PATH_MAX];
	struct stat full, named;
	int new_fd, rc = 0;

	if (fstat(fd, &full) != 0 || stat(path, &named) != 0)
		return -errno;
	if (!same_file(&full, &named))
		return -ESTALE;
	if (snprintf(fresh, sizeof(fresh), "%s.new", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	/* First what needs room on the disk: when that fails nothing has moved. */
	new_fd = vac_rotate_open(fresh, O_TRUNC);
	if (new_fd < 0)
		return new_fd;
	/* Who may read the old one may read the new one. */
	if (fchmod(new_fd, full.st_mode & 0777) != 0)
		rc = -errno;
	if (rc == 0 && keep > 0)
		rc = name_full(path, &full, keep);
	if (rc == 0 && rename(fresh, path) != 0)
		rc = -errno;
	if (rc == 0)
		return new_fd;
	close(new_fd);
	unlink(fresh);
	return rc;
}

int vac_rotate(const char *path, int fd, uint32_t keep)
{
	int rc;

	/* Where files cannot be locked one server alone is safe. */
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		return -EBUSY;
	rc = rotate_locked(path, fd, keep);
	flock(fd, LOCK_UN);
	return rc;
}
