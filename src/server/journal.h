/*
 * journal.h - receipts, evictions and refusals as lines of the server's journal
 * (base/journal.h). The loop's thread only.
 */
#ifndef VAC_SERVER_JOURNAL_H
#define VAC_SERVER_JOURNAL_H

#include "base/journal.h"
#include "server/event_json.h"

void vac_journal_write(struct vac_journal *journal, const struct vac_receipt *receipt);
void vac_journal_event(struct vac_journal *journal, const struct vac_event *event,
		       const struct vac_event_more *more);

#endif
