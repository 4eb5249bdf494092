/* io.c - reading and writing whole ranges. Any thread. */
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/handed.h"

int vac_pread_full(int fd, const char *path, void *to, size_t bytes, uint64_t offset,
		   struct vac_error *err)
{
	uint8_t *at = to;
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(fd, at + done, bytes - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vac_fail_errno(err, errno,
					      "%s: cannot read %zu bytes at byte %" PRIu64, path,
					      bytes, offset);
		if (n == 0)
			return vac_fail(err, VAC_E_CORRUPT,
					"%s: the file ends at byte %" PRIu64
					" where %zu more bytes were expected; it was cut short, "
					"download it again",
					path, offset + done, bytes - done);
		done += (size_t)n;
	}
	return 0;
}

int vac_write_full(int fd, const void *from, size_t bytes)
{
	const uint8_t *at = from;

	while (bytes > 0) {
		ssize_t n = write(fd, at, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}

int vac_fstat(int fd, struct stat *st)
{
#if defined(SYS_fstat) && (defined(__x86_64__) || defined(__aarch64__))
	return (int)syscall(SYS_fstat, fd, st);
#else
	return fstat(fd, st);
#endif
}

/* A descriptor of one's own to a file that was handed over; or why not. */
static int open_handed(const char *path, bool there, enum vac_handed_state state, int fd,
		       struct vac_error *err)
{
	int own;

	if (!there)
		return vac_fail_errno(err, ENOENT, "%s: cannot open", path);
	if (state == VAC_HANDED_SPECIAL)
		return vac_fail(err, VAC_E_INVALID, "%s: is not a regular file", path);
	if (state == VAC_HANDED_OUTSIDE)
		return vac_fail(err, VAC_E_INVALID,
				"%s: is a link that leads out of the model's directory; put the "
				"file there, or name the directory where it lies with --models",
				path);
	if (state != VAC_HANDED_OPEN)
		return vac_fail_errno(err, EACCES, "%s: cannot open", path);
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return own >= 0 ? own : vac_fail_errno(err, errno, "%s: cannot open", path);
}

static int open_path(const char *path, struct vac_error *err)
{
	/* O_NONBLOCK: opening a fifo must not wait for a writer; it has no
	 * effect on regular files. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd >= 0 ? fd : vac_fail_errno(err, errno, "%s: cannot open", path);
}

int vac_open_file(const char *path, uint64_t *size_bytes, struct vac_error *err)
{
	enum vac_handed_state state;
	struct stat st;
	bool there;
	int fd;

	if (vac_handed_find(path, &there, &state, &fd))
		fd = open_handed(path, there, state, fd, err);
	else
		fd = open_path(path, err);
	if (fd < 0)
		return fd;
	if (vac_fstat(fd, &st) != 0) {
		int saved = errno;

		close(fd);
		return vac_fail_errno(err, saved, "%s: cannot stat", path);
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return vac_fail(err, VAC_E_INVALID, "%s: is not a regular file", path);
	}
	if (size_bytes)
		*size_bytes = (uint64_t)st.st_size;
	return fd;
}

int vac_read_file(const char *path, size_t limit_bytes, struct vac_buf *buf, struct vac_error *err)
{
	uint64_t size;
	void *to;
	int rc, fd = vac_open_file(path, &size, err);

	if (fd < 0)
		return fd;
	if (size > limit_bytes) {
		close(fd);
		return vac_fail(err, VAC_E_TOO_LARGE,
				"%s: has %" PRIu64 " bytes where at most %zu are accepted", path,
				size, limit_bytes);
	}
	to = vac_buf_reserve(buf, (size_t)size + 1);
	if (!to) {
		close(fd);
		return vac_fail_nomem(err, path, (size_t)size);
	}
	rc = vac_pread_full(fd, path, to, (size_t)size, 0, err);
	close(fd);
	if (rc == 0)
		vac_buf_advance(buf, (size_t)size);
	return rc;
}

ssize_t vac_read_small(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t used = 0;
	ssize_t n = 1;

	text[0] = '\0';
	if (fd < 0)
		return -errno;
	while (n != 0 && used < room - 1) {
		n = read(fd, text + used, room - 1 - used);
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			used += (size_t)n;
	}
	if (n < 0)
		n = -errno;
	close(fd);
	text[used] = '\0';
	return n < 0 ? n : (ssize_t)used;
}

bool vac_file_exists(const char *path)
{
	enum vac_handed_state state;
	struct stat st;
	bool there;
	int fd;

	if (vac_handed_find(path, &there, &state, &fd))
		return there;
	return stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

int vac_list_dir(const char *dir, void (*entry)(void *ctx, const char *name), void *ctx)
{
	struct dirent *at;
	DIR *stream;
	int error;

	if (vac_handed_list(dir, entry, ctx))
		return 0;
	stream = opendir(dir);
	if (!stream)
		return -errno;
	while ((at = vac_next_entry(stream, &error)))
		entry(ctx, at->d_name);
	closedir(stream);
	return -error;
}

struct dirent *vac_next_entry(DIR *stream, int *error)
{
	struct dirent *entry;

	errno = 0;
	entry = readdir(stream);
	*error = entry ? 0 : errno;
	return entry;
}

char *vac_path_join(const char *dir, const char *name)
{
	size_t a = strlen(dir), b = strlen(name);
	char *path = malloc(a + b + 2);

	if (!path)
		return NULL;
	memcpy(path, dir, a);
	if (a > 0 && dir[a - 1] != '/')
		path[a++] = '/';
	memcpy(path + a, name, b + 1);
	return path;
}
