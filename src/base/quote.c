/* quote.c - text from files and requests, made fit for an error message. Any thread. */
#include "base/quote.h"

#include <string.h>

#include "base/utf8.h"

bool vac_utf8_valid(const char *text, size_t bytes)
{
	const uint8_t *at = (const uint8_t *)text, *end = at + bytes;
	uint32_t code;

	while (at < end) {
		size_t length = vac_utf8_decode(at, end, &code);

		if (length == 0)
			return false;
		at += length;
	}
	return true;
}

/* What would break the line, the quotes or steer a terminal (C0, DEL and C1). */
static bool is_hidden(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == '"' || code == '\\';
}

const char *vac_quote(struct vac_quoted *out, const char *text, size_t bytes)
{
	const uint8_t *start = (const uint8_t *)text, *at = start, *end = start + bytes;
	char *to = out->text;

	*to++ = '"';
	while (at < end) {
		uint32_t code;
		size_t length = vac_utf8_decode(at, end, &code);
		size_t taken = length ? length : 1;

		if ((size_t)(at - start) + taken > VAC_QUOTE_SHOWN_BYTES) {
			memcpy(to, "...", 3);
			to += 3;
			break;
		}
		if (length == 0 || is_hidden(code)) {
			*to++ = '?';
		} else {
			memcpy(to, at, length);
			to += length;
		}
		at += taken;
	}
	*to++ = '"';
	*to = '\0';
	return out->text;
}
