/*
 * json.h - a strict streaming (pull) JSON reader for files of megabytes:
 * no tree, no allocation but one buffer for unescaped strings.
 *
 * Strict RFC 8259: UTF-8 checked, no trailing commas, no comments, no NaN,
 * one value, nothing after it, at most VAC_JSON_MAX_DEPTH levels. Lone
 * surrogate escapes are refused. Errors are VAC_E_CORRUPT with the name given
 * to vac_json_init and the byte position. One owner; no locking.
 */
#ifndef VAC_BASE_JSON_H
#define VAC_BASE_JSON_H

#include "base/buf.h"

#define VAC_JSON_MAX_DEPTH 64

enum vac_json_type {
	VAC_JSON_ERROR = -1, /* err is set; the reader stays in this state */
	VAC_JSON_END = 0,    /* the one value is complete and nothing follows */
	VAC_JSON_OBJECT_BEGIN,
	VAC_JSON_OBJECT_END,
	VAC_JSON_ARRAY_BEGIN,
	VAC_JSON_ARRAY_END,
	VAC_JSON_KEY,     /* text, text_bytes: the unescaped member name */
	VAC_JSON_STRING,  /* text, text_bytes: the unescaped string */
	VAC_JSON_INTEGER, /* integer: fits int64 and is written without '.', 'e' */
	VAC_JSON_NUMBER,  /* number: any other number */
	VAC_JSON_TRUE,
	VAC_JSON_FALSE,
	VAC_JSON_NULL,
};

struct vac_json {
	const char *name; /* for messages: usually the path */
	const uint8_t *data;
	size_t bytes, at; /* at: next byte to read */
	struct vac_error *err;
	/* The value of the last event. text is valid until the next call, may
	 * hold NUL bytes and is not NUL-terminated. */
	const char *text;
	size_t text_bytes;
	int64_t integer;
	double number;
	size_t value_at; /* byte position where the last event started */
	/* private */
	struct vac_buf unescaped;
	uint8_t stack[VAC_JSON_MAX_DEPTH];
	int depth;
	int state;
};

void vac_json_init(struct vac_json *json, const char *name, const void *data, size_t bytes,
		   struct vac_error *err);
void vac_json_free(struct vac_json *json);
enum vac_json_type vac_json_next(struct vac_json *json);
/* Skips the value that starts with the next event (whole objects and arrays). */
int vac_json_skip(struct vac_json *json) VAC_MUST_CHECK;
/* The last KEY or STRING equals the NUL-terminated text. */
bool vac_json_is(const struct vac_json *json, const char *text);
/* Reads the next event and fails (VAC_E_CORRUPT naming what and the position)
 * unless it is of that type. */
int vac_json_expect(struct vac_json *json, enum vac_json_type type,
		    const char *what) VAC_MUST_CHECK;
/* Fails with a message at the position of the last event; returns the errno. */
int vac_json_fail(struct vac_json *json, enum vac_error_code code, const char *fmt, ...)
	VAC_PRINTF(3, 4);

#endif
