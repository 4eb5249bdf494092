/* buf.c - a growable byte buffer with a limit. One owner; no locking. */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vac_buf_free(struct vac_buf *buf)
{
	if (!buf)
		return;
	free(buf->data);
	buf->data = NULL;
	buf->bytes = 0;
	buf->capacity = 0;
	buf->failed = buf->starved = false;
}

void vac_buf_reset(struct vac_buf *buf)
{
	buf->bytes = 0;
	buf->failed = buf->starved = false;
}

void *vac_buf_reserve(struct vac_buf *buf, size_t extra_bytes)
{
	size_t need, capacity;
	uint8_t *data;

	assert(buf->bytes <= buf->capacity);
	if (buf->failed)
		return NULL;
	need = buf->bytes + extra_bytes;
	if (need < extra_bytes || (buf->limit_bytes && need > buf->limit_bytes)) {
		buf->failed = true;
		return NULL;
	}
	if (need > buf->capacity) {
		capacity = buf->capacity ? buf->capacity : 256;
		while (capacity < need)
			capacity += capacity / 2;
		data = realloc(buf->data, capacity);
		if (!data) {
			buf->failed = buf->starved = true;
			return NULL;
		}
		buf->data = data;
		buf->capacity = capacity;
	}
	/* A buffer that never held a byte has no data pointer to offset. */
	return buf->data ? buf->data + buf->bytes : NULL;
}

void vac_buf_advance(struct vac_buf *buf, size_t bytes)
{
	assert(bytes <= buf->capacity - buf->bytes);
	buf->bytes += bytes;
}

void vac_buf_put(struct vac_buf *buf, const void *data, size_t bytes)
{
	void *to;

	if (bytes == 0)
		return;
	to = vac_buf_reserve(buf, bytes);
	if (!to)
		return;
	memcpy(to, data, bytes);
	buf->bytes += bytes;
}

void vac_buf_puts(struct vac_buf *buf, const char *text)
{
	vac_buf_put(buf, text, strlen(text));
}

void vac_buf_putc(struct vac_buf *buf, char c)
{
	vac_buf_put(buf, &c, 1);
}

void vac_buf_printf(struct vac_buf *buf, const char *fmt, ...)
{
	va_list ap;
	int n;
	char *to;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		buf->failed = true;
		return;
	}
	to = vac_buf_reserve(buf, (size_t)n + 1);
	if (!to)
		return;
	va_start(ap, fmt);
	vsnprintf(to, (size_t)n + 1, fmt, ap);
	va_end(ap);
	buf->bytes += (size_t)n;
}

void vac_buf_consume(struct vac_buf *buf, size_t bytes)
{
	assert(bytes <= buf->bytes);
	if (bytes == 0)
		return;
	memmove(buf->data, buf->data + bytes, buf->bytes - bytes);
	buf->bytes -= bytes;
}
