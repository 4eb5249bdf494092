/*
 * journal.h - receipts appended to a file, one JSON object a line. A journal
 * that cannot be written never stops the server. The loop's thread only.
 */
#ifndef VAC_SERVER_JOURNAL_H
#define VAC_SERVER_JOURNAL_H

#include "base/buf.h"
#include "memory/receipt.h"

struct vac_journal {
	const char *path; /* NULL: none is kept; not owned */
	int fd;           /* -1: not open */
	bool failing;     /* the last write failed; it was logged */
	bool torn;        /* a line was cut short: the next starts with a line feed */
	uint64_t lines, errors;
};

/* path NULL: no journal. A file that cannot be opened now is a mistake of who
 * starts the server; one that fails later is logged once, and tried again. */
int vac_journal_open(struct vac_journal *journal, const char *path,
		     struct vac_error *err) VAC_MUST_CHECK;
void vac_journal_close(struct vac_journal *journal);
/* After the file was moved away (SIGHUP). */
void vac_journal_reopen(struct vac_journal *journal);
void vac_journal_write(struct vac_journal *journal, const struct vac_receipt *receipt);

#endif
