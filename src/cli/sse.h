/*
 * sse.h - takes a stream of server-sent events apart as it arrives (the rules
 * of WHATWG's HTML standard, 9.2.6). No I/O. One owner; no locking.
 */
#ifndef VAC_CLI_SSE_H
#define VAC_CLI_SSE_H

#include "base/buf.h"

/* Of one line, and of the data of one event. */
#define VAC_SSE_MAX_BYTES ((size_t)256 << 10)

struct vac_sse {
	struct vac_buf line; /* the start of a line that has not ended */
	struct vac_buf data; /* of the event so far; each line of it ends with '\n' */
	char event[32];      /* its name; a longer one is cut */
	bool begun;          /* something was fed: no byte order mark any more */
	bool after_return;   /* the last line ended with '\r': a '\n' belongs to it */
	/* An event is whole. event: "message" when it has no name; data is
	 * NUL-terminated, and may hold NUL bytes. */
	void (*got)(void *ctx, const char *event, const char *data, size_t bytes);
	void *ctx;
};

/* got and ctx are set by the caller; the rest is 0. */
/* VAC_E_TOO_LARGE: a line or an event is longer than is taken. */
int vac_sse_feed(struct vac_sse *sse, const void *bytes, size_t count,
		 struct vac_error *err) VAC_MUST_CHECK;
void vac_sse_free(struct vac_sse *sse);

#endif
