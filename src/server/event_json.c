/* event_json.c - events as JSON. Any thread; no state. */
#include "server/event_json.h"

#include <string.h>

#include "api/write.h"

static void put_member(struct vac_buf *buf, const char *name)
{
	vac_buf_puts(buf, ",\"");
	vac_buf_puts(buf, name);
	vac_buf_puts(buf, "\":");
}

static void put_number(struct vac_buf *buf, const char *name, uint64_t number)
{
	put_member(buf, name);
	vac_put_u64(buf, number);
}

static void put_text(struct vac_buf *buf, const char *name, const char *text)
{
	put_member(buf, name);
	vac_put_text(buf, text);
}

static void put_head(struct vac_buf *buf, int64_t wall_ns, const char *name)
{
	vac_buf_puts(buf, "{\"time\":");
	vac_put_time(buf, wall_ns);
	put_text(buf, "event", name);
}

static void put_why(struct vac_buf *buf, const struct vac_error *why)
{
	if (!why)
		return;
	put_text(buf, "code", vac_error_name(why->code));
	put_text(buf, "reason", why->message);
}

static void put_waiting(struct vac_buf *buf, const struct vac_event *event,
			const struct vac_event_more *more)
{
	if (event->bytes > 0)
		put_number(buf, "bytes", event->bytes);
	if (more->missing_bytes > 0)
		put_number(buf, "missing_bytes", more->missing_bytes);
	if (more->reason)
		put_text(buf, "reason", more->reason);
}

static void put_details(struct vac_buf *buf, const struct vac_event *event,
			const struct vac_event_more *more)
{
	switch (event->kind) {
	case VAC_EVENT_PLANNED:
	case VAC_EVENT_MODEL_PARKED:
		put_number(buf, "bytes", event->bytes);
		break;
	case VAC_EVENT_WAITING:
		put_waiting(buf, event, more);
		break;
	case VAC_EVENT_LOADING:
		put_number(buf, "done_bytes", event->done_bytes);
		put_number(buf, "total_bytes", event->total_bytes);
		break;
	case VAC_EVENT_RESIDENT:
		put_number(buf, "bytes", event->bytes);
		put_member(buf, "load_ms");
		vac_put_ms(buf, event->load_ns);
		break;
	case VAC_EVENT_DRAINING:
	case VAC_EVENT_ABSENT:
		put_text(buf, "reason",
			 event->reason ? vac_unload_reason_name(event->reason) : NULL);
		break;
	case VAC_EVENT_EVICTED:
		put_text(buf, "for", event->for_model);
		put_number(buf, "bytes", event->bytes);
		break;
	case VAC_EVENT_REFUSED:
		put_why(buf, event->why);
		put_number(buf, "times", more->times);
		break;
	case VAC_EVENT_PARKED:
	case VAC_EVENT_NOT_PARKED:
	case VAC_EVENT_RESUMED:
		put_number(buf, "pid", (uint64_t)event->pid);
		put_text(buf, "process", event->process);
		put_number(buf, "bytes", event->bytes);
		put_why(buf, event->why);
		break;
	case VAC_EVENT_FAILED:
	case VAC_EVENT_SET_ASIDE:
		put_why(buf, event->why);
		break;
	}
}

void vac_event_json(struct vac_buf *buf, const struct vac_event *event,
		    const struct vac_event_more *more)
{
	put_head(buf, more->wall_ns, vac_event_kind_name(event->kind));
	put_text(buf, "model", event->model);
	put_text(buf, "device", event->device);
	put_details(buf, event, more);
	if (more->state)
		vac_buf_puts(buf, ",\"state\":true");
	vac_buf_putc(buf, '}');
}

void vac_receipt_event_json(struct vac_buf *buf, const struct vac_receipt *receipt, bool flat)
{
	struct vac_buf members = VAC_BUF_INIT;

	put_head(buf, receipt->wall_ns, "receipt");
	if (!flat) {
		put_text(buf, "model", receipt->model);
		put_text(buf, "device", receipt->device);
		put_member(buf, "receipt");
		vac_receipt_json(buf, receipt);
		vac_buf_putc(buf, '}');
		return;
	}
	vac_receipt_json(&members, receipt);
	if (vac_buf_ok(&members)) {
		vac_buf_putc(buf, ',');
		vac_buf_put(buf, members.data + 1, members.bytes - 1); /* without its '{' */
	} else {
		buf->failed = true;
	}
	vac_buf_free(&members);
}
