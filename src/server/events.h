/*
 * events.h - what happens, told to whoever listens: the streams of GET
 * /models/events. No HTTP and no registry in it: http_stream.c moves the bytes,
 * tell.c says what happened and how things are.
 *
 * stream: one listener. It first tells the state of every active model, one by
 * one as its client reads, then what happens. Events lie once in a ring that
 * all streams read from (ring.h); a client that is so slow that the ring has
 * overtaken it is told "lost", and the state anew. A stream holds the text of a
 * few events at a time and nothing else.
 *
 * The state is told in the order of names, and things happen meanwhile: a
 * change of a model that was told already is told at once, one of a model that
 * is still to come is left out, since its state will show it.
 *
 * The loop's thread only.
 */
#ifndef VAC_SERVER_EVENTS_H
#define VAC_SERVER_EVENTS_H

#include "base/buf.h"
#include "server/event_json.h"
#include "server/list.h"
#include "server/ring.h"

/* Of all events that are kept for slow readers. */
#define VAC_EVENTS_RING_BYTES ((size_t)256 << 10)
#define VAC_EVENTS_STREAMS    128u
/* A stream that has nothing to say says so. */
#define VAC_EVENTS_SILENCE_MS 15000
/* Models whose state is looked up at once. */
#define VAC_EVENTS_STATES 16u

enum vac_stream_shape {
	VAC_STREAM_NATIVE,
	VAC_STREAM_LLAMA_CPP, /* what llama.cpp's router says at /models/sse */
};

struct vac_events;

struct vac_stream {
	struct vac_link link; /* of the hub */
	struct vac_events *events;
	enum vac_stream_shape shape;
	char *only;            /* owned; the model that is asked about; NULL: all */
	uint64_t at;           /* in the ring: what it has not seen */
	uint64_t seen_id;      /* of the newest event before that */
	bool telling_state;    /* of models behind cursor */
	struct vac_buf cursor; /* name of the last model whose state was told */
	struct vac_buf out;    /* text on its way */
	size_t out_at;         /* bytes of out that were taken */
	bool idle;             /* all was taken; wake() when there is more */
	bool ending;           /* ends when all is told */
	bool broken;           /* no memory: ends now */
	int64_t said_ns;       /* when something was taken last */
	void (*wake)(struct vac_stream *stream);
};

struct vac_events {
	struct vac_ring ring; /* mapped while there are streams */
	struct vac_list streams;
	uint32_t most; /* streams at once */
	uint64_t next_id;
	int64_t (*now_ns)(void);
	/* The state of up to most active models whose names come after a name
	 * (NULL: from the first), in the order of names; only: that one. What out
	 * points to lives until the next call into the server. */
	size_t (*states)(void *ctx, const char *after, const char *only, struct vac_event *out,
			 struct vac_event_more *more, size_t most);
	void *ctx;
	uint64_t told, lost; /* events, and times that a client was too slow */
};

void vac_events_init(struct vac_events *events, uint32_t most,
		     size_t (*states)(void *ctx, const char *after, const char *only,
				      struct vac_event *out, struct vac_event_more *more,
				      size_t most),
		     void *ctx);
/* There are no streams any more. */
void vac_events_free(struct vac_events *events);

/* Somebody listens: it is worth making an event's text. */
static inline bool vac_events_wanted(const struct vac_events *events)
{
	return events->streams.count > 0;
}
/* Tells an event or a receipt. */
void vac_events_tell(struct vac_events *events, const struct vac_event *event,
		     const struct vac_event_more *more);
void vac_events_tell_receipt(struct vac_events *events, const struct vac_receipt *receipt);
/* Wakes streams that were silent for too long; returns when to call it again. */
int64_t vac_events_tick(struct vac_events *events);

/* A listener; only may be NULL. VAC_E_BUSY: there are too many. */
int vac_stream_open(struct vac_stream *stream, struct vac_events *events,
		    enum vac_stream_shape shape, const char *only,
		    void (*wake)(struct vac_stream *stream), struct vac_error *err) VAC_MUST_CHECK;
/* May be called for one that was never opened. */
void vac_stream_close(struct vac_stream *stream);
/* Takes up to room bytes. 0: there is nothing now (idle), wake() follows; -1: it
 * is over; -2: it broke off. */
#define VAC_STREAM_OVER   (-1)
#define VAC_STREAM_BROKEN (-2)
int64_t vac_stream_take(struct vac_stream *stream, void *to, size_t room);
/* It is over when what was told until now is taken. */
void vac_stream_end(struct vac_stream *stream);

#endif
