/* events.c - streams of events. The loop's thread only. */
#include "server/events.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/write.h"
#include "base/clock.h"

#define SILENCE_NS (VAC_EVENTS_SILENCE_MS * INT64_C(1000000))
/* Text is made until there is so much of it. */
#define FILL_BYTES ((size_t)4 << 10)
/* Kinds in the ring beyond enum vac_event_kind. */
#define KIND_RECEIPT 1000u
/* How long a browser waits before it connects again. */
#define RETRY_MS 2000

void vac_events_init(struct vac_events *events, uint32_t most,
		     size_t (*states)(void *ctx, const char *after, const char *only,
				      struct vac_event *out, struct vac_event_more *more,
				      size_t most),
		     void *ctx)
{
	*events = (struct vac_events){
		.most = most, .next_id = 1, .now_ns = vac_now_ns, .states = states, .ctx = ctx};
}

void vac_events_free(struct vac_events *events)
{
	assert(events->streams.count == 0);
	vac_ring_free(&events->ring);
}

/* ---- text ---- */

static const char *kind_name(uint32_t kind)
{
	return kind == KIND_RECEIPT ? "receipt" : vac_event_kind_name((enum vac_event_kind)kind);
}

static void put_native(struct vac_buf *out, const struct vac_ring_event *event)
{
	vac_buf_printf(out, "id: %" PRIu64 "\nevent: %s\ndata: ", event->id,
		       kind_name(event->kind));
	vac_buf_put(out, event->text, event->text_bytes);
	vac_buf_puts(out, "\n\n");
}

/* What that router calls the states; NULL: it has no such event. */
static const char *llama_status(uint32_t kind)
{
	switch (kind) {
	case VAC_EVENT_PLANNED:
	case VAC_EVENT_WAITING:
	case VAC_EVENT_LOADING:
		return "loading";
	case VAC_EVENT_RESIDENT:
	case VAC_EVENT_MODEL_PARKED: /* it answers, a little later */
		return "loaded";
	case VAC_EVENT_ABSENT:
	case VAC_EVENT_FAILED:
	case VAC_EVENT_SET_ASIDE:
		return "unloaded";
	default:
		return NULL;
	}
}

static void put_llama(struct vac_buf *out, const struct vac_ring_event *event, bool state)
{
	const char *status = llama_status(event->kind);
	double value;

	if (!status)
		return;
	vac_buf_printf(out, "id: %" PRIu64 "\ndata: {\"model\":", event->id);
	vac_put_string(out, event->name, event->name_bytes);
	vac_buf_printf(out, ",\"event\":\"%s\",\"data\":{\"status\":\"%s\"",
		       state ? "model_status" : "status_change", status);
	if (event->kind == VAC_EVENT_LOADING && event->total_bytes > 0) {
		value = (double)event->done_bytes / (double)event->total_bytes;
		vac_buf_printf(out,
			       ",\"progress\":{\"stages\":[\"text_model\"],\"current\":"
			       "\"text_model\",\"value\":%.4f}",
			       value > 1 ? 1 : value);
	}
	if (event->kind == VAC_EVENT_FAILED || event->kind == VAC_EVENT_SET_ASIDE)
		vac_buf_puts(out, ",\"exit_code\":1");
	vac_buf_puts(out, "}}\n\n");
}

static void put_event(struct vac_stream *stream, const struct vac_ring_event *event, bool state)
{
	if (stream->shape == VAC_STREAM_LLAMA_CPP)
		put_llama(&stream->out, event, state);
	else
		put_native(&stream->out, event);
}

/* ---- what a stream has not seen ---- */

static bool concerns(const struct vac_stream *stream, const char *name, size_t bytes)
{
	return !stream->only ||
	       (strlen(stream->only) == bytes && memcmp(stream->only, name, bytes) == 0);
}

static bool is_state(uint32_t kind)
{
	return (kind >= VAC_EVENT_PLANNED && kind <= VAC_EVENT_ABSENT) ||
	       kind == VAC_EVENT_MODEL_PARKED;
}

/* The model's state is still to be told: in the order of names it comes after
 * the cursor. */
static bool to_come(const struct vac_stream *stream, const struct vac_ring_event *event)
{
	size_t told_bytes = stream->cursor.bytes, common;
	int order;

	if (!stream->telling_state)
		return false;
	if (told_bytes == 0)
		return true;
	told_bytes--; /* its NUL */
	common = told_bytes < event->name_bytes ? told_bytes : event->name_bytes;
	order = memcmp(event->name, stream->cursor.data, common);
	return order > 0 || (order == 0 && event->name_bytes > told_bytes);
}

static void next_event(struct vac_stream *stream)
{
	struct vac_ring_event event;

	stream->at = vac_ring_get(&stream->events->ring, stream->at, &event);
	stream->seen_id = event.id;
	if (!concerns(stream, event.name, event.name_bytes))
		return;
	if (is_state(event.kind) && to_come(stream, &event))
		return;
	put_event(stream, &event, false);
}

static void begin_state(struct vac_stream *stream)
{
	stream->telling_state = true;
	vac_buf_reset(&stream->cursor);
}

static void put_state(struct vac_stream *stream, const struct vac_event *event,
		      const struct vac_event_more *more)
{
	struct vac_buf text = VAC_BUF_INIT;

	vac_event_json(&text, event, more);
	if (vac_buf_ok(&text))
		put_event(stream,
			  &(struct vac_ring_event){.id = stream->events->next_id - 1,
						   .kind = event->kind,
						   .done_bytes = event->done_bytes,
						   .total_bytes = event->total_bytes,
						   .name = event->model,
						   .name_bytes = strlen(event->model),
						   .text = (const char *)text.data,
						   .text_bytes = text.bytes},
			  true);
	else
		stream->broken = true;
	vac_buf_free(&text);
}

/* The next models' states. */
static void next_states(struct vac_stream *stream)
{
	struct vac_events *events = stream->events;
	struct vac_event states[VAC_EVENTS_STATES];
	struct vac_event_more more[VAC_EVENTS_STATES];
	const char *after = stream->cursor.bytes ? (const char *)stream->cursor.data : NULL;
	size_t count =
		events->states(events->ctx, after, stream->only, states, more, VAC_EVENTS_STATES);

	for (size_t i = 0; i < count; i++)
		put_state(stream, &states[i], &more[i]);
	if (count == 0 || stream->only) {
		stream->telling_state = false;
		return;
	}
	vac_buf_reset(&stream->cursor);
	vac_buf_put(&stream->cursor, states[count - 1].model, strlen(states[count - 1].model) + 1);
	stream->broken = stream->broken || !vac_buf_ok(&stream->cursor);
}

/* The ring has overtaken it. */
static void lost(struct vac_stream *stream)
{
	struct vac_events *events = stream->events;
	uint64_t count = events->next_id - 1 - stream->seen_id;

	events->lost++;
	stream->at = events->ring.head;
	stream->seen_id = events->next_id - 1;
	begin_state(stream);
	if (stream->shape == VAC_STREAM_LLAMA_CPP)
		return; /* it knows no such event, and the state follows */
	vac_buf_printf(&stream->out,
		       "id: %" PRIu64 "\nevent: lost\ndata: {\"time\":", stream->seen_id);
	vac_put_time(&stream->out, vac_wall_ns());
	vac_buf_printf(&stream->out, ",\"event\":\"lost\",\"events\":%" PRIu64 "}\n\n", count);
}

static void fill(struct vac_stream *stream)
{
	const struct vac_ring *ring = &stream->events->ring;

	vac_buf_reset(&stream->out);
	stream->out_at = 0;
	if (stream->at < ring->tail)
		lost(stream);
	while (stream->out.bytes < FILL_BYTES && !stream->broken) {
		if (stream->at < ring->head)
			next_event(stream);
		else if (stream->telling_state)
			next_states(stream);
		else
			break;
	}
	if (!vac_buf_ok(&stream->out))
		stream->broken = true;
}

int64_t vac_stream_take(struct vac_stream *stream, void *to, size_t room)
{
	int64_t now_ns = stream->events->now_ns();
	size_t bytes;

	if (stream->out_at == stream->out.bytes)
		fill(stream);
	if (stream->broken)
		return VAC_STREAM_BROKEN;
	if (stream->out.bytes == 0) {
		if (stream->ending)
			return VAC_STREAM_OVER;
		if (now_ns - stream->said_ns < SILENCE_NS) {
			stream->idle = true;
			return 0;
		}
		vac_buf_puts(&stream->out, ": \n\n");
		if (!vac_buf_ok(&stream->out))
			return VAC_STREAM_BROKEN;
	}
	bytes = stream->out.bytes - stream->out_at;
	if (bytes > room)
		bytes = room;
	memcpy(to, stream->out.data + stream->out_at, bytes);
	stream->out_at += bytes;
	stream->said_ns = now_ns;
	return (int64_t)bytes;
}

/* ---- listeners ---- */

static void wake(struct vac_stream *stream)
{
	if (!stream->idle)
		return;
	stream->idle = false;
	stream->wake(stream);
}

int vac_stream_open(struct vac_stream *stream, struct vac_events *events,
		    enum vac_stream_shape shape, const char *only,
		    void (*wake_stream)(struct vac_stream *stream), struct vac_error *err)
{
	int rc;

	*stream = (struct vac_stream){.shape = shape, .wake = wake_stream};
	if (events->most == 0)
		return vac_fail(err, VAC_E_BUSY,
				"this server takes one connection at a time, which a stream of "
				"events would hold; raise --max-connections");
	if (events->streams.count >= events->most)
		return vac_fail(err, VAC_E_BUSY,
				"%u clients listen to events already, which is the most; try again "
				"later",
				events->most);
	if (!events->ring.data) {
		rc = vac_ring_init(&events->ring, VAC_EVENTS_RING_BYTES, err);
		if (rc < 0)
			return rc;
	}
	if (only) {
		stream->only = strdup(only);
		if (!stream->only) {
			rc = vac_fail_nomem(err, "a stream of events", strlen(only));
			goto err;
		}
	}
	stream->at = events->ring.head;
	stream->seen_id = events->next_id - 1;
	stream->said_ns = events->now_ns();
	begin_state(stream);
	/* Something at once: the client sees that it is connected. */
	vac_buf_printf(&stream->out, "retry: %d\n\n", RETRY_MS);
	if (!vac_buf_ok(&stream->out)) {
		rc = vac_fail_nomem(err, "a stream of events", FILL_BYTES);
		goto err;
	}
	stream->events = events;
	vac_list_prepend(&events->streams, &stream->link);
	return 0;
err:
	free(stream->only);
	stream->only = NULL;
	if (events->streams.count == 0)
		vac_ring_free(&events->ring);
	return rc;
}

void vac_stream_close(struct vac_stream *stream)
{
	struct vac_events *events = stream->events;

	if (!events)
		return;
	vac_list_drop(&stream->link);
	free(stream->only);
	vac_buf_free(&stream->cursor);
	vac_buf_free(&stream->out);
	*stream = (struct vac_stream){0};
	if (events->streams.count == 0)
		vac_ring_free(&events->ring);
}

void vac_stream_end(struct vac_stream *stream)
{
	stream->ending = true;
	wake(stream);
}

int64_t vac_events_tick(struct vac_events *events)
{
	int64_t now_ns = events->now_ns(), next_ns = now_ns + SILENCE_NS;

	for (struct vac_link *link = events->streams.first; link; link = link->next) {
		struct vac_stream *stream = VAC_CONTAINER(link, struct vac_stream, link);

		/* One that is not idle has text that its client does not take. */
		if (!stream->idle)
			continue;
		if (now_ns - stream->said_ns >= SILENCE_NS)
			wake(stream);
		else if (stream->said_ns + SILENCE_NS < next_ns)
			next_ns = stream->said_ns + SILENCE_NS;
	}
	return next_ns;
}

/* ---- what happens ---- */

/* Those that have seen everything and are not concerned have seen this, too:
 * they cannot fall behind by it. */
static void pass_on(struct vac_events *events, const struct vac_ring_event *event, uint64_t before)
{
	for (struct vac_link *link = events->streams.first; link; link = link->next) {
		struct vac_stream *stream = VAC_CONTAINER(link, struct vac_stream, link);

		if (!stream->idle)
			continue;
		if (stream->at == before && !concerns(stream, event->name, event->name_bytes)) {
			stream->at = events->ring.head;
			stream->seen_id = event->id;
			continue;
		}
		wake(stream);
	}
}

static void tell(struct vac_events *events, struct vac_ring_event *event,
		 const struct vac_buf *text)
{
	uint64_t before = events->ring.head;

	event->id = events->next_id++;
	event->name_bytes = strlen(event->name);
	event->text = (const char *)text->data;
	event->text_bytes = text->bytes;
	events->told++;
	/* What cannot be told is lost, and everybody learns that. */
	if (!vac_buf_ok(text) || !vac_ring_put(&events->ring, event)) {
		events->ring.head += 8;
		vac_ring_forget(&events->ring);
	}
	pass_on(events, event, before);
}

void vac_events_tell(struct vac_events *events, const struct vac_event *event,
		     const struct vac_event_more *more)
{
	struct vac_ring_event record = {.kind = event->kind,
					.done_bytes = event->done_bytes,
					.total_bytes = event->total_bytes,
					.name = event->model};
	struct vac_buf text = VAC_BUF_INIT;

	assert(vac_events_wanted(events));
	vac_event_json(&text, event, more);
	tell(events, &record, &text);
	vac_buf_free(&text);
}

void vac_events_tell_receipt(struct vac_events *events, const struct vac_receipt *receipt)
{
	struct vac_ring_event record = {.kind = KIND_RECEIPT, .name = receipt->model};
	struct vac_buf text = VAC_BUF_INIT;

	assert(vac_events_wanted(events));
	vac_receipt_event_json(&text, receipt, false);
	tell(events, &record, &text);
	vac_buf_free(&text);
}
