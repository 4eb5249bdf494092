/*
 * journal.h - what happens, appended to a file, one JSON object a line. A journal that
 * cannot be written never stops the program: what could not be written waits in
 * memory, within a limit, for the next line.
 *
 * A file that would grow beyond its size becomes FILE.1, FILE.1 becomes FILE.2,
 * and so on; the oldest goes. FILE is there at every moment, and no line is in
 * none of them: FILE.1 is a second name of the full file before FILE names the
 * new one. A crash between two steps leaves a number unused, or both names for
 * one file; both are made good by the next rotation, and readers must expect
 * them. Several programs may write one journal.
 *
 * One thread.
 */
#ifndef VAC_BASE_JOURNAL_H
#define VAC_BASE_JOURNAL_H

#include "base/buf.h"

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
	/* over the program's life, for metrics */
	uint64_t lines, errors, dropped, rotations, rotation_errors;
};

/* A file that cannot be opened now is a mistake of who starts the program; one
 * that fails later is logged once, and tried again. */
int vac_journal_open(struct vac_journal *journal, const struct vac_journal_options *options,
		     struct vac_error *err) VAC_MUST_CHECK;
/* Tries once more to write what waits. */
void vac_journal_close(struct vac_journal *journal);
/* After the file was moved away (SIGHUP). */
void vac_journal_reopen(struct vac_journal *journal);
/* A line, without its line feed. Frees it. Without a path nothing is written. */
void vac_journal_line(struct vac_journal *journal, struct vac_buf *line);

#endif
