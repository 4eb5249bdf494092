/*
 * journal.h - receipts, evictions and refusals appended to a file, one JSON
 * object a line. A journal that cannot be written never stops the server: what
 * could not be written waits in memory, within a limit, for the next line.
 *
 * A file that would grow beyond its size becomes FILE.1, FILE.1 becomes FILE.2,
 * and so on; the oldest goes. FILE is there at every moment, and no line is in
 * none of them: FILE.1 is a second name of the full file before FILE names the
 * new one. A crash between two steps leaves a number unused, or both names for
 * one file; both are made good by the next rotation, and readers must expect
 * them. Several servers may write one journal.
 *
 * The loop's thread only.
 */
#ifndef VAC_SERVER_JOURNAL_H
#define VAC_SERVER_JOURNAL_H

#include "base/buf.h"
#include "server/event_json.h"

/* Lines that wait for a disk with room. */
#define VAC_JOURNAL_PENDING_BYTES ((size_t)256 << 10)
/* Numbers that a rotated file may have. */
#define VAC_JOURNAL_MAX_KEPT 999u

struct vac_journal_options {
	const char *path;   /* NULL: none is kept; not owned */
	uint64_t max_bytes; /* of one file; 0: it is never rotated */
	uint32_t keep;      /* rotated files, up to VAC_JOURNAL_MAX_KEPT */
};

struct vac_journal {
	struct vac_journal_options options;
	int fd;                 /* -1: not open */
	bool failing;           /* the last write failed; it was logged */
	bool stuck;             /* the last rotation failed; it was logged */
	bool torn;              /* a line was cut short: the next starts with a line feed */
	struct vac_buf pending; /* whole lines that are not written yet */
	/* over the server's life, for the metrics */
	uint64_t lines, errors, dropped, rotations, rotation_errors;
};

/* A file that cannot be opened now is a mistake of who starts the server; one
 * that fails later is logged once, and tried again. */
int vac_journal_open(struct vac_journal *journal, const struct vac_journal_options *options,
		     struct vac_error *err) VAC_MUST_CHECK;
/* Tries once more to write what waits. */
void vac_journal_close(struct vac_journal *journal);
/* After the file was moved away (SIGHUP). */
void vac_journal_reopen(struct vac_journal *journal);
void vac_journal_write(struct vac_journal *journal, const struct vac_receipt *receipt);
void vac_journal_event(struct vac_journal *journal, const struct vac_event *event,
		       const struct vac_event_more *more);

#endif
