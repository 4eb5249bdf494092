/*
 * tell.h - what the registry notes goes to the journal and to the streams of
 * events, within sensible limits. The loop's thread only.
 */
#ifndef VAC_SERVER_TELL_H
#define VAC_SERVER_TELL_H

#include "server/event_json.h"

/* Progress of a load is told so often at most. */
#define VAC_TELL_PROGRESS_MS 100

/* The registry's operation noted; ctx is the server. */
void vac_tell(void *ctx, const struct vac_event *event);
/* The streams' question for the state of models (events.h); ctx is the server. */
size_t vac_tell_states(void *ctx, const char *after, const char *only, struct vac_event *out,
		       struct vac_event_more *more, size_t most);

#endif
