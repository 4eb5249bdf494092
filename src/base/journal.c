/* journal.c - lines appended to a file that is rotated. One thread. */
#include "base/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rotate.h"

/* A file that cannot be rotated grows to so many times its size. */
#define STUCK_FACTOR 2

static void failed(struct vac_journal *journal, const char *what, int errnum)
{
	journal->errors++;
	/* Once for each time that it begins to fail: a full disk is one event. */
	if (!journal->failing)
		vac_log(VAC_LOG_ERROR,
			"journal %s: %s: %s; up to %zu bytes of what happens wait in memory until "
			"this is repaired",
			journal->options.path, what, strerror(errnum), VAC_JOURNAL_PENDING_BYTES);
	journal->failing = true;
}

/* ---- the file ---- */

/* The last writer may have been cut off in the middle of a line. */
static bool ends_in_line(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	bool torn = false;
	char last;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
		torn = pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
	close(fd);
	return torn;
}

static void close_file(struct vac_journal *journal)
{
	if (journal->fd >= 0)
		close(journal->fd);
	journal->fd = -1;
	journal->torn = false;
}

static int open_file(struct vac_journal *journal)
{
	journal->fd = vac_rotate_open(journal->options.path, 0);
	if (journal->fd < 0)
		return journal->fd;
	journal->torn = ends_in_line(journal->options.path);
	return 0;
}

/* Open, and what its name means: somebody else may have moved it. st: of it. */
static bool usable(struct vac_journal *journal, struct stat *st)
{
	struct stat named;
	int rc;

	if (journal->fd >= 0 && fstat(journal->fd, st) == 0 &&
	    (!S_ISREG(st->st_mode) || (stat(journal->options.path, &named) == 0 &&
				       named.st_dev == st->st_dev && named.st_ino == st->st_ino)))
		return true;
	close_file(journal);
	rc = open_file(journal);
	if (rc == 0 && fstat(journal->fd, st) == 0)
		return true;
	failed(journal, "cannot be opened", rc < 0 ? -rc : errno);
	return false;
}

/* true: bytes may be appended. */
static bool rotate_before(struct vac_journal *journal, const struct stat *st, size_t bytes)
{
	const struct vac_journal_options *options = &journal->options;
	uint64_t size = (uint64_t)st->st_size;
	int fd;

	if (options->max_bytes == 0 || !S_ISREG(st->st_mode) || size == 0 ||
	    size + bytes <= options->max_bytes)
		return true;
	fd = vac_rotate(options->path, journal->fd, options->keep);
	if (fd >= 0) {
		close_file(journal);
		journal->fd = fd;
		journal->rotations++;
		if (journal->stuck)
			vac_log(VAC_LOG_INFO, "journal %s: can be rotated again", options->path);
		journal->stuck = false;
		return true;
	}
	/* Another program does it: this line is the last of the old file. */
	if (fd == -EBUSY || fd == -ESTALE)
		return true;
	journal->rotation_errors++;
	if (!journal->stuck)
		vac_log(VAC_LOG_ERROR,
			"journal %s: cannot be rotated: %s; it grows to %d times its size",
			options->path, strerror(-fd), STUCK_FACTOR);
	journal->stuck = true;
	if (size + bytes <= STUCK_FACTOR * options->max_bytes)
		return true;
	failed(journal, "is too large and cannot be rotated", -fd);
	return false;
}

/* ---- lines ---- */

static bool write_line(struct vac_journal *journal, const uint8_t *line, size_t bytes)
{
	struct iovec parts[2] = {{.iov_base = (char[]){'\n'}, .iov_len = journal->torn ? 1 : 0},
				 {.iov_base = (void *)(uintptr_t)line, .iov_len = bytes}};
	ssize_t whole = (ssize_t)(parts[0].iov_len + bytes), n;

	/* In one call: lines of several programs do not mix. */
	do {
		n = writev(journal->fd, parts, 2);
	} while (n < 0 && errno == EINTR);
	if (n == whole) {
		journal->torn = false;
		return true;
	}
	/* The line is written again as a whole, behind what is there of it. */
	journal->torn = journal->torn || n > 0;
	failed(journal, "cannot be written", n < 0 ? errno : ENOSPC);
	return false;
}

/* Writes what waits. */
static void flush(struct vac_journal *journal)
{
	struct vac_buf *pending = &journal->pending;
	size_t at = 0;

	while (at < pending->bytes) {
		const uint8_t *line = pending->data + at;
		const uint8_t *end = memchr(line, '\n', pending->bytes - at);
		size_t bytes = (size_t)(end - line) + 1;
		struct stat st;

		if (!usable(journal, &st) || !rotate_before(journal, &st, bytes) ||
		    !write_line(journal, line, bytes))
			break;
		journal->lines++;
		at += bytes;
	}
	if (at == pending->bytes && journal->failing) {
		vac_log(VAC_LOG_INFO, "journal %s: works again", journal->options.path);
		journal->failing = false;
	}
	vac_buf_consume(pending, at);
	if (pending->bytes == 0) /* a large backlog's memory goes back */
		vac_buf_free(pending);
}

void vac_journal_line(struct vac_journal *journal, struct vac_buf *line)
{
	struct vac_buf *pending = &journal->pending;

	if (!journal->options.path) {
		vac_buf_free(line);
		return;
	}
	vac_buf_putc(line, '\n');
	if (!vac_buf_ok(line)) {
		failed(journal, "no memory for a line", ENOMEM);
		journal->dropped++;
	} else if (line->bytes > VAC_JOURNAL_PENDING_BYTES - pending->bytes ||
		   !vac_buf_reserve(pending, line->bytes)) {
		pending->failed = false; /* what is there stays */
		journal->dropped++;
	} else {
		vac_buf_put(pending, line->data, line->bytes);
	}
	vac_buf_free(line);
	flush(journal);
}

/* ---- life ---- */

int vac_journal_open(struct vac_journal *journal, const struct vac_journal_options *options,
		     struct vac_error *err)
{
	int rc;

	*journal = (struct vac_journal){.options = *options, .fd = -1};
	if (!options->path)
		return 0;
	rc = open_file(journal);
	if (rc < 0)
		return vac_fail_errno(err, -rc, "journal %s: cannot be opened for writing",
				      options->path);
	return 0;
}

void vac_journal_close(struct vac_journal *journal)
{
	if (journal->options.path)
		flush(journal);
	if (journal->pending.bytes > 0)
		vac_log(VAC_LOG_ERROR, "journal %s: the last %zu bytes could not be written",
			journal->options.path, journal->pending.bytes);
	vac_buf_free(&journal->pending);
	close_file(journal);
}

void vac_journal_reopen(struct vac_journal *journal)
{
	int rc;

	if (!journal->options.path)
		return;
	close_file(journal);
	rc = open_file(journal);
	if (rc < 0)
		failed(journal, "cannot be opened", -rc);
	else
		flush(journal);
}
