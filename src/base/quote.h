/*
 * quote.h - text from files and requests, made fit for an error message:
 * bounded, without control characters, valid UTF-8. Any thread; no allocation.
 */
#ifndef VAC_BASE_QUOTE_H
#define VAC_BASE_QUOTE_H

#include <stdbool.h>
#include <stddef.h>

/* At most this many bytes of the text are shown; the rest becomes "...". */
#define VAC_QUOTE_SHOWN_BYTES 96
struct vac_quoted {
	char text[VAC_QUOTE_SHOWN_BYTES + 6]; /* two quotes, "...", NUL */
};

/* The text in double quotes; control characters, quotes, backslashes and bytes
 * that are not UTF-8 become '?'. Use: vac_fail(err, ..., "%s", vac_quote(&(struct vac_quoted){0},
 * text, bytes)). Returns out->text. */
const char *vac_quote(struct vac_quoted *out, const char *text, size_t bytes);

/* UTF-8 by the rules of utf8.h. */
bool vac_utf8_valid(const char *text, size_t bytes);

#endif
