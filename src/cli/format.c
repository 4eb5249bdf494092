/* format.c - numbers as people read them. Any thread. */
#include "cli/format.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define MS_PER_S   1000
#define MS_PER_MIN (60 * MS_PER_S)
#define MS_PER_H   (60 * (int64_t)MS_PER_MIN)
#define MS_PER_DAY (24 * MS_PER_H)

/* value in the largest unit that leaves at least 1: one decimal below 100,
 * none above; never rounded up to a whole next unit. */
static void format_scaled(char *to, uint64_t value, double step, const char *const *units,
			  size_t unit_count)
{
	double scaled = (double)value;
	size_t unit = 0;

	while (unit + 1 < unit_count && scaled >= step - (unit == 0 ? 0 : 0.5)) {
		scaled /= step;
		unit++;
	}
	if (unit == 0)
		snprintf(to, VAC_TEXT_BYTES, "%" PRIu64 "%s", value, units[0]);
	else
		snprintf(to, VAC_TEXT_BYTES, "%.*f%s", scaled < 99.95 ? 1 : 0, scaled, units[unit]);
}

char *vac_format_bytes(char to[VAC_TEXT_BYTES], uint64_t bytes)
{
	static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};

	format_scaled(to, bytes, 1024, units, sizeof(units) / sizeof(units[0]));
	return to;
}

char *vac_format_signed_bytes(char to[VAC_TEXT_BYTES], int64_t bytes, int signs)
{
	char *at = to;

	if (bytes < 0)
		*at++ = '-';
	else if (bytes > 0 && signs)
		*at++ = '+';
	{
		char text[VAC_TEXT_BYTES];

		/* Negated as unsigned: INT64_MIN has no positive counterpart. */
		vac_format_bytes(text, bytes < 0 ? 0 - (uint64_t)bytes : (uint64_t)bytes);
		snprintf(at, (size_t)(to + VAC_TEXT_BYTES - at), "%s", text);
	}
	return to;
}

char *vac_format_ms(char to[VAC_TEXT_BYTES], int64_t ms)
{
	if (ms < 0)
		ms = 0;
	if (ms < MS_PER_S)
		snprintf(to, VAC_TEXT_BYTES, "%" PRId64 " ms", ms);
	else if (ms < MS_PER_MIN - 50)
		snprintf(to, VAC_TEXT_BYTES, "%.1f s", (double)ms / MS_PER_S);
	else if (ms < MS_PER_H)
		snprintf(to, VAC_TEXT_BYTES, "%" PRId64 "m %02" PRId64 "s", ms / MS_PER_MIN,
			 ms % MS_PER_MIN / MS_PER_S);
	else if (ms < MS_PER_DAY)
		snprintf(to, VAC_TEXT_BYTES, "%" PRId64 "h %02" PRId64 "m", ms / MS_PER_H,
			 ms % MS_PER_H / MS_PER_MIN);
	else
		snprintf(to, VAC_TEXT_BYTES, "%" PRId64 "d %" PRId64 "h", ms / MS_PER_DAY,
			 ms % MS_PER_DAY / MS_PER_H);
	return to;
}

char *vac_format_count(char to[VAC_TEXT_BYTES], uint64_t count)
{
	static const char *const units[] = {"", "k", "M", "B", "T"};

	format_scaled(to, count, 1000, units, sizeof(units) / sizeof(units[0]));
	return to;
}

char *vac_format_exact(char to[VAC_TEXT_BYTES], uint64_t number)
{
	char digits[24], *at = to;
	size_t length = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, number);

	for (size_t i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			*at++ = ',';
		*at++ = digits[i];
	}
	*at = '\0';
	return to;
}

/* One character: its code point, and how many bytes it has. What is not UTF-8
 * counts as one byte and the replacement character. */
static uint32_t decode(const char *text, size_t *bytes)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t more = at[0] >= 0xf0 ? 3 : at[0] >= 0xe0 ? 2 : at[0] >= 0xc0 ? 1 : 0;
	uint32_t code = more == 3 ? at[0] & 7u : more == 2 ? at[0] & 15u : at[0] & 31u;

	*bytes = 1;
	if (at[0] < 0x80)
		return at[0];
	if (more == 0 || at[0] >= 0xf8)
		return 0xfffd;
	for (size_t i = 1; i <= more; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0xfffd;
		code = code << 6 | (at[i] & 63u);
	}
	*bytes = more + 1;
	return code;
}

/* Not wcwidth: that one depends on the locale, which may not be a UTF-8 one. */
static size_t columns_of(uint32_t code)
{
	static const uint32_t wide[][2] = {
		{0x1100, 0x115f}, {0x2e80, 0xa4cf},   {0xac00, 0xd7a3},
		{0xf900, 0xfaff}, {0xfe30, 0xfe6f},   {0xff00, 0xff60},
		{0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd},
	};

	if ((code >= 0x300 && code <= 0x36f) || (code >= 0x200b && code <= 0x200d) ||
	    (code >= 0xfe00 && code <= 0xfe0f))
		return 0;
	for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++) {
		if (code >= wide[i][0] && code <= wide[i][1])
			return 2;
	}
	return 1;
}

size_t vac_text_columns(const char *text)
{
	size_t columns = 0, bytes;

	for (; *text; text += bytes)
		columns += columns_of(decode(text, &bytes));
	return columns;
}

char *vac_text_fit(const char *text, size_t columns)
{
	size_t total = vac_text_columns(text), dots = columns < 3 ? columns : 3, at = 0, bytes;
	size_t keep = columns - dots, head = keep - keep / 2, tail = keep / 2;
	/* Every byte may become one '?', and the dots come on top. */
	char *fitted = malloc(strlen(text) + 4), *to = fitted;
	bool cut = total > columns, dotted = false;

	if (!fitted)
		return NULL;
	for (; *text; text += bytes) {
		uint32_t code = decode(text, &bytes);
		size_t width = columns_of(code);

		if (cut && at + width > head && at < total - tail) {
			if (!dotted) {
				memcpy(to, "...", dots);
				to += dots;
				dotted = true;
			}
		} else if (code == 0xfffd || vac_steers_terminal(code)) {
			*to++ = '?';
		} else {
			memcpy(to, text, bytes);
			to += bytes;
		}
		at += width;
	}
	*to = '\0';
	return fitted;
}
