/*
 * base64.c - RFC 4648 base64 with padding, and vectors as base64 of
 * little-endian float32, which is what OpenAI's clients ask for. Any thread.
 */
#include "api/write.h"

#include <endian.h>
#include <string.h>

static const char alphabet[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static inline void encode_three(char *to, const uint8_t *from)
{
	uint32_t v = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];

	to[0] = alphabet[v >> 18];
	to[1] = alphabet[v >> 12 & 63];
	to[2] = alphabet[v >> 6 & 63];
	to[3] = alphabet[v & 63];
}

static size_t encode(char *to, const uint8_t *from, size_t bytes)
{
	char *at = to;

	for (; bytes >= 3; bytes -= 3, from += 3, at += 4)
		encode_three(at, from);
	if (bytes > 0) {
		uint8_t last[3] = {from[0], bytes > 1 ? from[1] : 0, 0};

		encode_three(at, last);
		at[3] = '=';
		if (bytes == 1)
			at[2] = '=';
		at += 4;
	}
	return (size_t)(at - to);
}

void vac_put_base64(struct vac_buf *buf, const void *data, size_t bytes)
{
	char *to;

	if (bytes > SIZE_MAX / 2) {
		buf->failed = true;
		return;
	}
	to = vac_buf_reserve(buf, (bytes + 2) / 3 * 4);
	if (to)
		vac_buf_advance(buf, encode(to, data, bytes));
}

void vac_put_base64_floats(struct vac_buf *buf, const float *values, size_t count)
{
#if __BYTE_ORDER == __LITTLE_ENDIAN
	vac_put_base64(buf, values, count * sizeof(*values));
#else
	/* 48 bytes at a time: a multiple of three, so that no padding falls in between */
	while (count > 0) {
		uint32_t block[12];
		size_t n = count < 12 ? count : 12;

		memcpy(block, values, n * sizeof(block[0]));
		for (size_t i = 0; i < n; i++)
			block[i] = htole32(block[i]);
		vac_put_base64(buf, block, n * sizeof(block[0]));
		values += n;
		count -= n;
	}
#endif
}
