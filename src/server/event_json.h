/*
 * event_json.h - an event as clients of the stream and readers of the journal
 * see it: one JSON object without line feeds. Any thread; no state.
 */
#ifndef VAC_SERVER_EVENT_JSON_H
#define VAC_SERVER_EVENT_JSON_H

#include "base/buf.h"
#include "server/event.h"

/* What is told beside what the registry says. */
struct vac_event_more {
	int64_t wall_ns;        /* since 1970 */
	uint64_t missing_bytes; /* WAITING: until there is room; 0: not known */
	const char *reason;     /* WAITING: of what; NULL: none */
	uint64_t times;         /* REFUSED: since it was last told, this one included */
	bool state;             /* nothing happened: this is how it is */
};

/* Everything but the receipt of ABSENT. */
void vac_event_json(struct vac_buf *buf, const struct vac_event *event,
		    const struct vac_event_more *more);
/* {"time","event":"receipt",...}: for the stream a member "receipt" holds it
 * (with model and device beside it), for the journal (flat) its members stand
 * in the object itself, as they did in journals that had no other lines. */
void vac_receipt_event_json(struct vac_buf *buf, const struct vac_receipt *receipt, bool flat);

#endif
