/* write.c - JSON written straight into a buffer. Any thread; no state. */
#include "api/write.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Length of the well-formed UTF-8 sequence at text, or 0. */
static size_t utf8_length(const uint8_t *text, size_t bytes)
{
	uint8_t first = text[0], low = 0x80, high = 0xbf;
	size_t n;

	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		n = 2;
	else if (first >= 0xe0 && first <= 0xef)
		n = 3;
	else if (first >= 0xf0 && first <= 0xf4)
		n = 4;
	else
		return 0;
	if (n > bytes)
		return 0;
	/* overlong forms, surrogates, and what lies above U+10FFFF */
	if (first == 0xe0)
		low = 0xa0;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

static void put_escape(struct vac_buf *buf, uint8_t c)
{
	static const char hex[] = "0123456789abcdef";
	char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

	switch (c) {
	case '"':
		vac_buf_put(buf, "\\\"", 2);
		break;
	case '\\':
		vac_buf_put(buf, "\\\\", 2);
		break;
	case '\n':
		vac_buf_put(buf, "\\n", 2);
		break;
	case '\t':
		vac_buf_put(buf, "\\t", 2);
		break;
	default:
		vac_buf_put(buf, text, sizeof(text));
	}
}

void vac_put_string(struct vac_buf *buf, const char *text, size_t bytes)
{
	const uint8_t *at = (const uint8_t *)text;
	size_t plain = 0, i = 0; /* plain: start of what needs no escape */

	vac_buf_putc(buf, '"');
	while (i < bytes) {
		size_t n = utf8_length(at + i, bytes - i);

		if (n > 0 && at[i] >= 0x20 && at[i] != '"' && at[i] != '\\' && at[i] != 0x7f) {
			i += n;
			continue;
		}
		vac_buf_put(buf, at + plain, i - plain);
		if (n == 0)
			vac_buf_puts(buf, "\\ufffd");
		else
			put_escape(buf, at[i]);
		plain = ++i;
	}
	vac_buf_put(buf, at + plain, i - plain);
	vac_buf_putc(buf, '"');
}

void vac_put_text(struct vac_buf *buf, const char *text)
{
	if (text)
		vac_put_string(buf, text, strlen(text));
	else
		vac_buf_puts(buf, "null");
}

void vac_put_u64(struct vac_buf *buf, uint64_t value)
{
	char text[20];
	size_t at = sizeof(text);

	do {
		text[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	vac_buf_put(buf, text + at, sizeof(text) - at);
}

void vac_put_i64(struct vac_buf *buf, int64_t value)
{
	if (value < 0)
		vac_buf_putc(buf, '-');
	vac_put_u64(buf, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void vac_put_bool(struct vac_buf *buf, bool value)
{
	vac_buf_puts(buf, value ? "true" : "false");
}

void vac_put_ms(struct vac_buf *buf, int64_t ns)
{
	uint64_t us = (ns < 0 ? -(uint64_t)ns : (uint64_t)ns) / 1000;
	char rest[4] = {'.', (char)('0' + us / 100 % 10), (char)('0' + us / 10 % 10),
			(char)('0' + us % 10)};

	if (ns < 0)
		vac_buf_putc(buf, '-');
	vac_put_u64(buf, us / 1000);
	vac_buf_put(buf, rest, sizeof(rest));
}

void vac_put_time(struct vac_buf *buf, int64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / 1000000000);
	int64_t rest = wall_ns % 1000000000;
	char text[40];
	struct tm tm;
	size_t n;

	if (rest < 0) { /* before 1970: round towards the past */
		rest += 1000000000;
		seconds--;
	}
	gmtime_r(&seconds, &tm);
	n = strftime(text, sizeof(text), "\"%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof(text) - n, ".%03dZ\"", (int)(rest / 1000000));
	vac_buf_puts(buf, text);
}

void vac_put_floats(struct vac_buf *buf, const float *values, size_t count)
{
	char *start, *at;

	if (count > SIZE_MAX / (2 * (VAC_FLOAT_TEXT_BYTES + 1))) {
		buf->failed = true;
		return;
	}
	start = vac_buf_reserve(buf, count * (VAC_FLOAT_TEXT_BYTES + 1) + 2);
	if (!start)
		return;
	at = start;
	*at++ = '[';
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			*at++ = ',';
		at += vac_format_float(at, values[i]);
	}
	*at++ = ']';
	vac_buf_advance(buf, (size_t)(at - start));
}
