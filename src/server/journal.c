/* journal.c - see journal.h. The loop's thread only. */
#include "server/journal.h"

void vac_journal_write(struct vac_journal *journal, const struct vac_receipt *receipt)
{
	struct vac_buf line = VAC_BUF_INIT;

	if (!journal->options.path)
		return;
	vac_receipt_event_json(&line, receipt, true);
	vac_journal_line(journal, &line);
}

void vac_journal_event(struct vac_journal *journal, const struct vac_event *event,
		       const struct vac_event_more *more)
{
	struct vac_buf line = VAC_BUF_INIT;

	if (!journal->options.path)
		return;
	vac_event_json(&line, event, more);
	vac_journal_line(journal, &line);
}
