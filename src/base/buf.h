/*
 * buf.h - a growable byte buffer with a limit.
 *
 * Appending never returns an error: a buffer that could not grow (no memory,
 * or past its limit) is marked failed, ignores what follows, and the caller
 * checks once at the end with vac_buf_ok(). One owner; no locking.
 */
#ifndef VAC_BASE_BUF_H
#define VAC_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct vac_buf {
	uint8_t *data;      /* owned; free with vac_buf_free */
	size_t bytes;       /* used */
	size_t capacity;    /* allocated */
	size_t limit_bytes; /* 0: none; more than that marks the buffer failed */
	bool failed;
	bool starved; /* failed for want of memory, not for its limit */
};

#define VAC_BUF_INIT ((struct vac_buf){0})

void vac_buf_free(struct vac_buf *buf);
/* Empties it and keeps its memory; clears failed. */
void vac_buf_reset(struct vac_buf *buf);
static inline bool vac_buf_ok(const struct vac_buf *buf)
{
	return !buf->failed;
}
/* Makes room for extra bytes past the end and returns where they start, or
 * NULL (and marks it failed). vac_buf_advance() then counts them as used. */
void *vac_buf_reserve(struct vac_buf *buf, size_t extra_bytes);
void vac_buf_advance(struct vac_buf *buf, size_t bytes);
void vac_buf_put(struct vac_buf *buf, const void *data, size_t bytes);
void vac_buf_puts(struct vac_buf *buf, const char *text);
void vac_buf_putc(struct vac_buf *buf, char c);
void vac_buf_printf(struct vac_buf *buf, const char *fmt, ...) VAC_PRINTF(2, 3);
/* Takes the first bytes away and moves the rest to the front. */
void vac_buf_consume(struct vac_buf *buf, size_t bytes);

#endif
