/* quote.c - text from files and requests, made fit for an error message. Any thread. */
#include "base/quote.h"

#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 sequence at the start of text, 0 if there is none. */
static size_t utf8_sequence(const uint8_t *text, size_t bytes)
{
	uint8_t first = text[0], low = 0x80, high = 0xbf;
	size_t length;

	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		length = 2;
	else if (first >= 0xe0 && first <= 0xef)
		length = 3;
	else if (first >= 0xf0 && first <= 0xf4)
		length = 4;
	else
		return 0;
	/* The second byte decides about overlong forms, surrogates and the end
	 * of the code space. */
	if (first == 0xe0)
		low = 0xa0;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f;
	if (bytes < length || text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

bool vac_utf8_valid(const char *text, size_t bytes)
{
	const uint8_t *at = (const uint8_t *)text;
	size_t done = 0;

	while (done < bytes) {
		size_t length = utf8_sequence(at + done, bytes - done);

		if (length == 0)
			return false;
		done += length;
	}
	return true;
}

const char *vac_quote(struct vac_quoted *out, const char *text, size_t bytes)
{
	const uint8_t *at = (const uint8_t *)text;
	char *to = out->text;
	size_t done = 0;

	*to++ = '"';
	while (done < bytes) {
		size_t length = utf8_sequence(at + done, bytes - done);
		size_t shown = length ? length : 1;

		if (done + shown > VAC_QUOTE_SHOWN_BYTES) {
			memcpy(to, "...", 3);
			to += 3;
			break;
		}
		/* C1 controls (U+0080 to U+009F) steer terminals as C0 do. */
		if (length == 0 || at[done] < 0x20 || at[done] == 0x7f || at[done] == '"' ||
		    at[done] == '\\' || (at[done] == 0xc2 && at[done + 1] < 0xa0)) {
			*to++ = '?';
		} else {
			memcpy(to, at + done, length);
			to += length;
		}
		done += shown;
	}
	*to++ = '"';
	*to = '\0';
	return out->text;
}
