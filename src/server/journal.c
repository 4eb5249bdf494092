/* journal.c - receipts appended to a file. The loop's thread only. */
#include "server/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/log.h"

static void failed(struct vac_journal *journal, const char *what, int errnum)
{
	journal->errors++;
	/* Once for each time that it begins to fail: a full disk is one event. */
	if (!journal->failing)
		vac_log(VAC_LOG_ERROR,
			"journal %s: %s: %s; receipts are not kept there until this is repaired",
			journal->path, what, strerror(errnum));
	journal->failing = true;
}

static int open_path(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
}

static bool reopen(struct vac_journal *journal)
{
	if (journal->fd < 0)
		journal->fd = open_path(journal->path);
	if (journal->fd < 0)
		failed(journal, "cannot be opened", errno);
	return journal->fd >= 0;
}

int vac_journal_open(struct vac_journal *journal, const char *path, struct vac_error *err)
{
	*journal = (struct vac_journal){.path = path, .fd = -1};
	if (!path)
		return 0;
	journal->fd = open_path(path);
	if (journal->fd < 0)
		return vac_fail_errno(err, errno, "journal %s: cannot be opened for writing", path);
	return 0;
}

void vac_journal_close(struct vac_journal *journal)
{
	if (journal->fd >= 0)
		close(journal->fd);
	journal->fd = -1;
}

void vac_journal_reopen(struct vac_journal *journal)
{
	if (!journal->path)
		return;
	vac_journal_close(journal);
	journal->torn = false;
	reopen(journal);
}

void vac_journal_write(struct vac_journal *journal, const struct vac_receipt *receipt)
{
	struct vac_buf line = VAC_BUF_INIT;
	ssize_t n;

	if (!journal->path || !reopen(journal))
		return;
	if (journal->torn)
		vac_buf_putc(&line, '\n');
	vac_receipt_json(&line, receipt);
	vac_buf_putc(&line, '\n');
	if (!vac_buf_ok(&line)) {
		failed(journal, "no memory for a line", ENOMEM);
		vac_buf_free(&line);
		return;
	}
	do {
		n = write(journal->fd, line.data, line.bytes);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)line.bytes) {
		if (journal->failing)
			vac_log(VAC_LOG_INFO, "journal %s: works again", journal->path);
		journal->failing = journal->torn = false;
		journal->lines++;
	} else {
		journal->torn = journal->torn || n > 0;
		failed(journal, "cannot be written", n < 0 ? errno : ENOSPC);
	}
	vac_buf_free(&line);
}
