/* sse.c - server-sent events as they arrive. One owner; no locking. */
#include "cli/sse.h"

#include <stdio.h>
#include <string.h>

void vac_sse_free(struct vac_sse *sse)
{
	vac_buf_free(&sse->line);
	vac_buf_free(&sse->data);
}

static void end_event(struct vac_sse *sse)
{
	struct vac_buf *data = &sse->data;

	if (data->bytes > 0) {
		/* Its last line feed makes way for the NUL. */
		data->data[data->bytes - 1] = '\0';
		sse->got(sse->ctx, sse->event[0] ? sse->event : "message", (const char *)data->data,
			 data->bytes - 1);
	}
	vac_buf_reset(data);
	sse->event[0] = '\0';
}

/* line is NUL-terminated behind its bytes. */
static void take_field(struct vac_sse *sse, const char *line, size_t bytes)
{
	const char *colon = memchr(line, ':', bytes);
	size_t name_bytes = colon ? (size_t)(colon - line) : bytes;
	const char *value = colon ? colon + 1 : line + bytes;

	if (*value == ' ' && value < line + bytes)
		value++;
	if (name_bytes == 4 && memcmp(line, "data", 4) == 0) {
		vac_buf_put(&sse->data, value, (size_t)(line + bytes - value));
		vac_buf_putc(&sse->data, '\n');
	} else if (name_bytes == 5 && memcmp(line, "event", 5) == 0) {
		snprintf(sse->event, sizeof(sse->event), "%s", value);
	}
	/* Comments (no name), id and retry say nothing to a command. */
}

static int end_line(struct vac_sse *sse, struct vac_error *err)
{
	struct vac_buf *line = &sse->line;

	vac_buf_putc(line, '\0');
	if (vac_buf_ok(line)) {
		const char *text = (const char *)line->data;
		size_t bytes = line->bytes - 1;

		if (!sse->begun && bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
			text += 3;
			bytes -= 3;
		}
		sse->begun = true;
		if (bytes == 0)
			end_event(sse);
		else
			take_field(sse, text, bytes);
	}
	if (!vac_buf_ok(line) || !vac_buf_ok(&sse->data))
		return vac_fail(err, VAC_E_TOO_LARGE,
				"a line or an event of the stream has more than the %zu bytes that "
				"are accepted, or memory is short",
				VAC_SSE_MAX_BYTES);
	vac_buf_reset(line);
	return 0;
}

int vac_sse_feed(struct vac_sse *sse, const void *bytes, size_t count, struct vac_error *err)
{
	const char *at = bytes, *end = at + count;

	sse->line.limit_bytes = sse->data.limit_bytes = VAC_SSE_MAX_BYTES;
	while (at < end) {
		const char *stop = at;
		int rc;

		if (sse->after_return && *at == '\n') {
			sse->after_return = false;
			at++;
			continue;
		}
		sse->after_return = false;
		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		vac_buf_put(&sse->line, at, (size_t)(stop - at));
		if (stop == end)
			break;
		sse->after_return = *stop == '\r';
		at = stop + 1;
		rc = end_line(sse, err);
		if (rc < 0)
			return rc;
	}
	/* What has not ended may be too long, too. */
	if (vac_buf_ok(&sse->line))
		return 0;
	return end_line(sse, err);
}
