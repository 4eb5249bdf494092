/*
 * json.c - a strict pull reader for JSON (RFC 8259). One owner; no locking.
 *
 * The reader is a small state machine over the bytes: `state` says what may
 * come next, `stack` holds one byte per open object or array. A string without
 * escapes is handed out as it lies in the input; only one with escapes is
 * copied, into the one buffer that the reader owns.
 */
#include "base/json.h"

#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* A double needs at most 17 digits to be read back; a number that is longer
 * than this is no number that anyone meant. */
#define NUMBER_MAX_BYTES 512

/* Values of vac_json.state; a negative one is the errno of a reader that failed. */
enum {
	WANT_VALUE,          /* the document, or after ':' */
	WANT_FIRST_ELEMENT,  /* after '[': an element or ']' */
	WANT_ELEMENT,        /* after ',' in an array */
	WANT_FIRST_KEY,      /* after '{': a member or '}' */
	WANT_COMMA_OR_CLOSE, /* after an element or a member */
	WANT_NOTHING,        /* the document is complete */
};

static const char *const type_names[] = {
	[VAC_JSON_END] = "the end of the document",
	[VAC_JSON_OBJECT_BEGIN] = "an object",
	[VAC_JSON_OBJECT_END] = "the end of an object",
	[VAC_JSON_ARRAY_BEGIN] = "an array",
	[VAC_JSON_ARRAY_END] = "the end of an array",
	[VAC_JSON_KEY] = "a member name",
	[VAC_JSON_STRING] = "a string",
	[VAC_JSON_INTEGER] = "an integer",
	[VAC_JSON_NUMBER] = "a number that is no 64-bit integer",
	[VAC_JSON_TRUE] = "true",
	[VAC_JSON_FALSE] = "false",
	[VAC_JSON_NULL] = "null",
};

void vac_json_init(struct vac_json *json, const char *name, const void *data, size_t bytes,
		   struct vac_error *err)
{
	memset(json, 0, sizeof(*json));
	json->name = name;
	json->data = data;
	json->bytes = bytes;
	json->err = err;
	json->state = WANT_VALUE;
}

void vac_json_free(struct vac_json *json)
{
	vac_buf_free(&json->unescaped);
}

int vac_json_fail(struct vac_json *json, enum vac_error_code code, const char *fmt, ...)
{
	char text[384];
	va_list ap;

	/* The first failure is the cause; what the caller makes of it is not. */
	if (json->state < 0)
		return json->state;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json->state =
		vac_fail(json->err, code, "%s: byte %zu: %s", json->name, json->value_at, text);
	return json->state;
}

/* A broken rule of JSON at the next byte. */
static enum vac_json_type broken(struct vac_json *json, const char *what)
{
	json->value_at = json->at;
	if (json->at >= json->bytes)
		vac_json_fail(json, VAC_E_CORRUPT, "the JSON ends where %s", what);
	else if (json->data[json->at] > 0x20 && json->data[json->at] < 0x7F)
		vac_json_fail(json, VAC_E_CORRUPT, "found '%c' where %s", json->data[json->at],
			      what);
	else
		vac_json_fail(json, VAC_E_CORRUPT, "found byte 0x%02X where %s",
			      json->data[json->at], what);
	return VAC_JSON_ERROR;
}

static enum vac_json_type broken_at(struct vac_json *json, size_t at, const char *what)
{
	json->at = at;
	json->value_at = at;
	vac_json_fail(json, VAC_E_CORRUPT, "%s", what);
	return VAC_JSON_ERROR;
}

static void skip_space(struct vac_json *json)
{
	while (json->at < json->bytes) {
		uint8_t c = json->data[json->at];

		if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
			return;
		json->at++;
	}
}

/* True when one of eight bytes is a quote, a backslash, a control character or
 * no ASCII: the test is exact, since a borrow only ever follows a true hit. */
static bool any_special(uint64_t w)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
	uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\';

	return ((w | ((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
		 ((w - ones * 0x20) & ~w)) &
		high) != 0;
}

/* Moves over characters of a string that stand for themselves; returns the
 * first quote, backslash or broken byte, or the end. */
static size_t plain_run(const struct vac_json *json, size_t at)
{
	const uint8_t *data = json->data;

	for (;;) {
		uint64_t w;
		uint32_t code;
		size_t n;

		while (json->bytes - at >= sizeof(w)) {
			memcpy(&w, data + at, sizeof(w));
			if (any_special(w))
				break;
			at += sizeof(w);
		}
		if (at == json->bytes || data[at] == '"' || data[at] == '\\' || data[at] < 0x20)
			return at;
		n = vac_utf8_decode(data + at, data + json->bytes, &code);
		if (n == 0)
			return at;
		at += n;
	}
}

/* The four hex digits of \uXXXX at `at`, or -1. */
static int32_t hex4(const struct vac_json *json, size_t at)
{
	int32_t value = 0;

	if (json->bytes - at < 4)
		return -1;
	for (size_t i = 0; i < 4; i++) {
		uint8_t c = json->data[at + i];

		if (c >= '0' && c <= '9')
			value = value << 4 | (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value << 4 | ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return value;
}

/* Appends what the escape at json->at (a backslash) stands for and moves
 * behind it. False: broken, the error is set. */
static bool read_escape(struct vac_json *json)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	size_t at = json->at;
	const char *which;
	int32_t code, low;
	uint8_t utf8[4];

	if (json->bytes - at < 2)
		return broken_at(json, at, "the JSON ends in an escape"), false;
	which = memchr(from, json->data[at + 1], sizeof(from) - 1);
	if (which) {
		vac_buf_putc(&json->unescaped, to[which - from]);
		json->at += 2;
		return true;
	}
	if (json->data[at + 1] != 'u')
		return broken_at(json, at, "unknown escape in a string"), false;
	code = hex4(json, at + 2);
	if (code < 0)
		return broken_at(json, at, "\\u is not followed by four hex digits"), false;
	json->at += 6;
	if (code >= 0xD800 && code <= 0xDFFF) {
		low = -1;
		if (code < 0xDC00 && json->bytes - json->at >= 6 && json->data[json->at] == '\\' &&
		    json->data[json->at + 1] == 'u')
			low = hex4(json, json->at + 2);
		if (low < 0xDC00 || low > 0xDFFF)
			return broken_at(json, at, "lone surrogate escape in a string"), false;
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
		json->at += 6;
	}
	vac_buf_put(&json->unescaped, utf8, vac_utf8_encode(utf8, (uint32_t)code));
	return true;
}

/* Reads the string whose opening quote is at json->at. False: error is set. */
static bool read_string(struct vac_json *json)
{
	size_t end;

	assert(json->data[json->at] == '"');
	json->at++;
	end = plain_run(json, json->at);
	if (end < json->bytes && json->data[end] == '"') {
		json->text = (const char *)json->data + json->at;
		json->text_bytes = end - json->at;
		json->at = end + 1;
		return true;
	}
	vac_buf_reset(&json->unescaped);
	for (;;) {
		vac_buf_put(&json->unescaped, json->data + json->at, end - json->at);
		json->at = end;
		if (end == json->bytes)
			return broken_at(json, json->value_at, "this string has no closing quote"),
			       false;
		if (json->data[end] == '"')
			break;
		if (json->data[end] < 0x20)
			return broken_at(json, end, "control character in a string, not escaped"),
			       false;
		if (json->data[end] != '\\')
			return broken_at(json, end, "invalid UTF-8 in a string"), false;
		if (!read_escape(json))
			return false;
		end = plain_run(json, json->at);
	}
	json->at++;
	if (!vac_buf_ok(&json->unescaped)) {
		json->state = vac_fail_nomem(json->err, json->name, end - json->value_at);
		return false;
	}
	json->text = json->unescaped.data ? (const char *)json->unescaped.data : "";
	json->text_bytes = json->unescaped.bytes;
	return true;
}

static size_t digits(const struct vac_json *json, size_t at)
{
	while (at < json->bytes && json->data[at] >= '0' && json->data[at] <= '9')
		at++;
	return at;
}

/* The text of a number without '.' and 'e', when it fits. */
static bool parse_integer(const char *text, size_t bytes, int64_t *out)
{
	bool negative = text[0] == '-';
	/* Counted downwards, because the range of int64 reaches further there. */
	int64_t value = 0;

	for (size_t i = negative; i < bytes; i++) {
		int digit = text[i] - '0';

		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_sub_overflow(value, digit, &value))
			return false;
	}
	if (!negative && value == INT64_MIN)
		return false;
	*out = negative ? value : -value;
	return true;
}

static enum vac_json_type parse_double(struct vac_json *json, const char *text)
{
	/* The caller's process may have a locale whose decimal point is a comma.
	 * The C locale is static in the C library: this allocates nothing. */
	locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);

	if (c_locale == (locale_t)0) {
		json->state = vac_fail_nomem(json->err, "the C locale", 0);
		return VAC_JSON_ERROR;
	}
	json->number = strtod_l(text, NULL, c_locale);
	freelocale(c_locale);
	if (!isfinite(json->number))
		return broken_at(json, json->value_at, "this number is too large for a double");
	return VAC_JSON_NUMBER;
}

static enum vac_json_type read_number(struct vac_json *json)
{
	char text[NUMBER_MAX_BYTES];
	size_t start = json->at, at = start, from;
	bool integer = true;

	if (json->data[at] == '-')
		at++;
	from = at;
	at = digits(json, at);
	json->at = at;
	if (at == from)
		return broken(json, "a digit was expected");
	if (at - from > 1 && json->data[from] == '0')
		return broken_at(json, start, "a number starts with a superfluous 0");
	if (at < json->bytes && json->data[at] == '.') {
		integer = false;
		json->at = digits(json, at + 1);
		if (json->at == at + 1)
			return broken(json, "a digit was expected");
		at = json->at;
	}
	if (at < json->bytes && (json->data[at] | 0x20) == 'e') {
		integer = false;
		from = at + 1;
		if (from < json->bytes && (json->data[from] == '+' || json->data[from] == '-'))
			from++;
		json->at = digits(json, from);
		if (json->at == from)
			return broken(json, "a digit was expected");
		at = json->at;
	}
	json->at = at;
	if (at - start >= sizeof(text))
		return broken_at(json, start, "this number has more than 511 characters");
	memcpy(text, json->data + start, at - start);
	text[at - start] = '\0';
	if (integer && parse_integer(text, at - start, &json->integer))
		return VAC_JSON_INTEGER;
	return parse_double(json, text);
}

static enum vac_json_type read_literal(struct vac_json *json, const char *word,
				       enum vac_json_type type)
{
	size_t n = strlen(word);

	if (json->bytes - json->at < n || memcmp(json->data + json->at, word, n) != 0)
		return broken(json, "a value was expected");
	json->at += n;
	return type;
}

static void value_done(struct vac_json *json)
{
	json->state = json->depth > 0 ? WANT_COMMA_OR_CLOSE : WANT_NOTHING;
}

static enum vac_json_type open_level(struct vac_json *json, uint8_t bracket)
{
	if (json->depth == VAC_JSON_MAX_DEPTH)
		return broken_at(json, json->at, "more than 64 levels of objects and arrays");
	json->stack[json->depth++] = bracket;
	json->at++;
	json->state = bracket == '{' ? WANT_FIRST_KEY : WANT_FIRST_ELEMENT;
	return bracket == '{' ? VAC_JSON_OBJECT_BEGIN : VAC_JSON_ARRAY_BEGIN;
}

static enum vac_json_type close_level(struct vac_json *json)
{
	assert(json->depth > 0);
	json->depth--;
	json->at++;
	value_done(json);
	return json->stack[json->depth] == '{' ? VAC_JSON_OBJECT_END : VAC_JSON_ARRAY_END;
}

static enum vac_json_type read_value(struct vac_json *json)
{
	enum vac_json_type type;
	uint8_t c = json->at < json->bytes ? json->data[json->at] : 0;

	switch (c) {
	case '{':
	case '[':
		return open_level(json, c);
	case '"':
		type = read_string(json) ? VAC_JSON_STRING : VAC_JSON_ERROR;
		break;
	case 't':
		type = read_literal(json, "true", VAC_JSON_TRUE);
		break;
	case 'f':
		type = read_literal(json, "false", VAC_JSON_FALSE);
		break;
	case 'n':
		type = read_literal(json, "null", VAC_JSON_NULL);
		break;
	default:
		if (c == '-' || (c >= '0' && c <= '9'))
			type = read_number(json);
		else
			type = broken(json, "a value was expected");
	}
	if (type != VAC_JSON_ERROR)
		value_done(json);
	return type;
}

static enum vac_json_type read_key(struct vac_json *json)
{
	if (json->at >= json->bytes || json->data[json->at] != '"')
		return broken(json, "a member name in quotes was expected");
	if (!read_string(json))
		return VAC_JSON_ERROR;
	skip_space(json);
	if (json->at >= json->bytes || json->data[json->at] != ':')
		return broken(json, "a ':' was expected");
	json->at++;
	json->state = WANT_VALUE;
	return VAC_JSON_KEY;
}

/* After a member or an element: ',' and the next one, or the end of the level. */
static enum vac_json_type read_next(struct vac_json *json)
{
	bool object = json->stack[json->depth - 1] == '{';
	uint8_t c = json->at < json->bytes ? json->data[json->at] : 0;

	if (c == (object ? '}' : ']'))
		return close_level(json);
	if (c != ',')
		return broken(json, object ? "',' or '}' was expected" : "',' or ']' was expected");
	json->at++;
	skip_space(json);
	json->value_at = json->at;
	if (object)
		return read_key(json);
	json->state = WANT_ELEMENT;
	return read_value(json);
}

enum vac_json_type vac_json_next(struct vac_json *json)
{
	if (json->state < 0)
		return VAC_JSON_ERROR;
	skip_space(json);
	json->value_at = json->at;
	json->text = NULL;
	json->text_bytes = 0;
	switch (json->state) {
	case WANT_FIRST_KEY:
		if (json->at < json->bytes && json->data[json->at] == '}')
			return close_level(json);
		return read_key(json);
	case WANT_FIRST_ELEMENT:
		if (json->at < json->bytes && json->data[json->at] == ']')
			return close_level(json);
		return read_value(json);
	case WANT_COMMA_OR_CLOSE:
		return read_next(json);
	case WANT_NOTHING:
		if (json->at < json->bytes)
			return broken(json, "the document was complete");
		return VAC_JSON_END;
	default:
		return read_value(json);
	}
}

int vac_json_skip(struct vac_json *json)
{
	enum vac_json_type type = vac_json_next(json);
	int depth = json->depth;

	if (type == VAC_JSON_ERROR)
		return json->state;
	if (type == VAC_JSON_END || type == VAC_JSON_KEY || type == VAC_JSON_OBJECT_END ||
	    type == VAC_JSON_ARRAY_END)
		return vac_json_fail(json, VAC_E_CORRUPT, "expected a value, found %s",
				     type_names[type]);
	if (type != VAC_JSON_OBJECT_BEGIN && type != VAC_JSON_ARRAY_BEGIN)
		return 0;
	while (json->depth >= depth) {
		if (vac_json_next(json) == VAC_JSON_ERROR)
			return json->state;
	}
	return 0;
}

bool vac_json_is(const struct vac_json *json, const char *text)
{
	size_t n = strlen(text);

	return json->text && json->text_bytes == n && memcmp(json->text, text, n) == 0;
}

int vac_json_expect(struct vac_json *json, enum vac_json_type type, const char *what)
{
	enum vac_json_type found = vac_json_next(json);

	assert(type > VAC_JSON_ERROR && type <= VAC_JSON_NULL);
	if (found == VAC_JSON_ERROR)
		return json->state;
	if (found != type)
		return vac_json_fail(json, VAC_E_CORRUPT, "%s: expected %s, found %s", what,
				     type_names[type], type_names[found]);
	return 0;
}
