/*
 * journal_files.h - the receipts in a server's journal: FILE, FILE.1, FILE.2 and
 * so on (base/journal.h), read without a server, also while one writes. One
 * thread.
 */
#ifndef VAC_CLI_JOURNAL_FILES_H
#define VAC_CLI_JOURNAL_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct vac_journal_receipts {
	char **lines; /* owned; each one JSON object; the newest first */
	size_t count;
	size_t unreadable; /* lines that were left out, since they are no JSON */
};

/* The newest limit (0: all) receipts that are not older than since_wall_ns. */
int vac_journal_read(const char *path, int64_t since_wall_ns, size_t limit,
		     struct vac_journal_receipts *out, struct vac_error *err) VAC_MUST_CHECK;
void vac_journal_receipts_free(struct vac_journal_receipts *receipts);

#endif
