/*
 * body.c - a request body, read once from front to back into a struct
 * vac_call. No tree is built: the bytes that a body may hold are limited, and
 * a tree of its numbers would be twenty times as large. Any thread; no state.
 */
#include "api/common.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"

#define BODY_NAME "request body"

/* Appends where a byte is, counted in characters as editors do. */
static void add_position(struct vac_error *err, const struct vac_json *json)
{
	size_t line = 1, column = 1, n = strlen(err->message);

	for (size_t i = 0; i < json->value_at && i < json->bytes; i++) {
		if (json->data[i] == '\n') {
			line++;
			column = 1;
		} else if ((json->data[i] & 0xc0) != 0x80) {
			column++;
		}
	}
	snprintf(err->message + n, sizeof(err->message) - n, " (line %zu, column %zu)", line,
		 column);
}

/* The reader's own failure (err is set): a broken body is the client's fault. */
static int not_json(struct vac_parse *parse)
{
	struct vac_error *err = parse->err;

	if (err->code == VAC_E_NO_ROOM)
		return vac_error_errno(err->code);
	if (err->code == VAC_E_CORRUPT)
		err->code = VAC_E_INVALID;
	add_position(err, &parse->json);
	return vac_error_errno(err->code);
}

int vac_body_fail(struct vac_parse *parse, enum vac_error_code code, const char *fmt, ...)
{
	char text[384];
	va_list ap;

	/* A reader that failed has said more already. */
	if (parse->json.state < 0)
		return not_json(parse);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	vac_fail(parse->err, code, "%s%s", parse->place, text);
	add_position(parse->err, &parse->json);
	return vac_error_errno(code);
}

const char *vac_body_type_name(enum vac_json_type type)
{
	switch (type) {
	case VAC_JSON_OBJECT_BEGIN:
		return "an object";
	case VAC_JSON_ARRAY_BEGIN:
		return "an array";
	case VAC_JSON_STRING:
		return "a string";
	case VAC_JSON_INTEGER:
		return "an integer";
	case VAC_JSON_NUMBER:
		return "a number";
	case VAC_JSON_TRUE:
	case VAC_JSON_FALSE:
		return "a boolean";
	case VAC_JSON_NULL:
		return "null";
	default:
		return "nothing";
	}
}

/* Index in the table of the member name that was just read; count: unknown. */
static size_t find_member(const struct vac_json *json, const struct vac_member *members,
			  size_t count)
{
	size_t i = 0;

	while (i < count && !vac_json_is(json, members[i].name))
		i++;
	return i;
}

/* null stands for absent: says so and steps over it. */
static bool skip_null(struct vac_json *json)
{
	size_t at = json->at;

	while (at < json->bytes && (json->data[at] == ' ' || json->data[at] == '\t' ||
				    json->data[at] == '\n' || json->data[at] == '\r'))
		at++;
	if (json->bytes - at < 4 || memcmp(json->data + at, "null", 4) != 0)
		return false;
	return vac_json_next(json) == VAC_JSON_NULL;
}

/* The value of a member that is not in the table. */
static int skip_unknown(struct vac_parse *parse)
{
	struct vac_json *json = &parse->json;
	struct vac_quoted name = {0};
	enum vac_json_type type;

	if (!parse->scalars_only)
		return vac_json_skip(json) != 0 ? not_json(parse) : 0;
	vac_quote(&name, json->text, json->text_bytes);
	type = vac_json_next(json);
	if (type == VAC_JSON_ERROR)
		return not_json(parse);
	if (type == VAC_JSON_OBJECT_BEGIN || type == VAC_JSON_ARRAY_BEGIN)
		return vac_body_fail(parse, VAC_E_INVALID,
				     "%s: expected a string, a number or a boolean, found %s",
				     name.text, vac_body_type_name(type));
	return 0;
}

static int read_members(struct vac_parse *parse, const struct vac_member *members, size_t count)
{
	struct vac_json *json = &parse->json;
	enum vac_json_type type;

	while ((type = vac_json_next(json)) == VAC_JSON_KEY) {
		size_t i = find_member(json, members, count);
		int rc;

		if (i == count) {
			rc = skip_unknown(parse);
			if (rc != 0)
				return rc;
			continue;
		}
		parse->param = members[i].name;
		if (parse->seen & UINT64_C(1) << i)
			return vac_body_fail(parse, VAC_E_INVALID, "%s: is there twice",
					     members[i].name);
		parse->seen |= UINT64_C(1) << i;
		if (skip_null(json)) {
			parse->seen &= ~(UINT64_C(1) << i);
		} else {
			rc = members[i].read(parse);
			if (rc != 0)
				return rc;
		}
		parse->param = NULL;
	}
	return type == VAC_JSON_ERROR ? not_json(parse) : 0;
}

/* The first member of the table that is required and was not there; NULL: none. */
static const char *missing_member(const struct vac_parse *parse, const struct vac_member *members,
				  size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (members[i].required && !(parse->seen & UINT64_C(1) << i))
			return members[i].name;
	}
	return NULL;
}

int vac_body_members(struct vac_parse *parse, const char *place, const struct vac_member *members,
		     size_t count)
{
	const struct vac_parse outer = *parse;
	const char *missing;
	int rc;

	parse->place = place;
	parse->seen = 0;
	rc = read_members(parse, members, count);
	missing = rc == 0 ? missing_member(parse, members, count) : NULL;
	if (missing)
		rc = vac_body_fail(parse, VAC_E_INVALID, "%s: is missing", missing);
	parse->place = outer.place;
	parse->seen = outer.seen;
	parse->param = outer.param;
	return rc;
}

int vac_body_read(struct vac_parse *parse, const struct vac_member *members, size_t count)
{
	const struct vac_http_request *request = parse->request;
	struct vac_json *json = &parse->json;
	enum vac_json_type type;
	const char *missing;
	int rc;

	if (request->body_bytes == 0)
		return vac_fail(parse->err, VAC_E_INVALID,
				BODY_NAME ": is empty where a JSON object was expected");
	vac_json_init(json, BODY_NAME, request->body, request->body_bytes, parse->err);
	type = vac_json_next(json);
	if (type == VAC_JSON_ERROR)
		return not_json(parse);
	if (type != VAC_JSON_OBJECT_BEGIN)
		return vac_body_fail(parse, VAC_E_INVALID,
				     BODY_NAME ": expected an object, found %s",
				     vac_body_type_name(type));
	rc = read_members(parse, members, count);
	if (rc != 0)
		return rc;
	if (vac_json_next(json) != VAC_JSON_END)
		return not_json(parse);
	missing = missing_member(parse, members, count);
	if (!missing)
		return 0;
	parse->param = missing;
	return vac_fail(parse->err, VAC_E_INVALID, "%s: is missing", missing);
}

/* --- values --------------------------------------------------------------------- */

int vac_set_model(struct vac_parse *parse, const char *name, size_t bytes)
{
	char *copy;

	if (bytes == 0)
		return vac_fail(parse->err, VAC_E_INVALID, "model: is empty; name a model");
	if (bytes > VAC_MODEL_NAME_LIMIT_BYTES)
		return vac_fail(parse->err, VAC_E_INVALID,
				"model: has %zu bytes where at most %u are accepted", bytes,
				VAC_MODEL_NAME_LIMIT_BYTES);
	for (size_t i = 0; i < bytes; i++) {
		if ((uint8_t)name[i] < 0x20 || name[i] == 0x7f)
			return vac_fail(parse->err, VAC_E_INVALID,
					"model: holds the control character 0x%02X at byte %zu",
					(uint8_t)name[i], i);
	}
	copy = malloc(bytes + 1);
	if (!copy)
		return vac_fail_nomem(parse->err, "a model's name", bytes + 1);
	memcpy(copy, name, bytes);
	copy[bytes] = '\0';
	free(parse->call->model);
	parse->call->model = copy;
	return 0;
}

int vac_read_model(struct vac_parse *parse)
{
	enum vac_json_type type = vac_json_next(&parse->json);
	int rc;

	if (type != VAC_JSON_STRING)
		return vac_body_fail(parse, VAC_E_INVALID, "model: expected a string, found %s",
				     vac_body_type_name(type));
	rc = vac_set_model(parse, parse->json.text, parse->json.text_bytes);
	if (rc == -EINVAL)
		add_position(parse->err, &parse->json);
	return rc;
}

int vac_query_model(struct vac_parse *parse)
{
	const struct vac_http_request *request = parse->request;
	const char *name = NULL;

	if (parse->call->model)
		return 0;
	if (request->query)
		name = request->query(request->ctx, "model");
	return name ? vac_set_model(parse, name, strlen(name)) : 0;
}

int vac_read_keep_alive(struct vac_parse *parse)
{
	struct vac_json *json = &parse->json;
	enum vac_json_type type = vac_json_next(json);
	char text[64] = "";
	int rc = 0;

	if (type == VAC_JSON_INTEGER)
		snprintf(text, sizeof(text), "%" PRId64, json->integer);
	else if (type == VAC_JSON_NUMBER && fabs(json->number) < 1e15)
		snprintf(text, sizeof(text), "%s%" PRIu64 ".%06" PRIu64,
			 json->number < 0 ? "-" : "", (uint64_t)fabs(json->number),
			 (uint64_t)(fmod(fabs(json->number), 1.0) * 1e6));
	else if (type == VAC_JSON_NUMBER) /* longer than time */
		strcpy(text, "-1");
	else if (type == VAC_JSON_STRING && json->text_bytes < sizeof(text) &&
		 !memchr(json->text, 0, json->text_bytes))
		memcpy(text, json->text, json->text_bytes);
	else
		rc = -EINVAL;
	if (rc == 0)
		rc = vac_parse_duration_ms(text, &parse->call->keep_alive_ms);
	if (rc != 0)
		return vac_body_fail(
			parse, VAC_E_INVALID,
			"keep_alive: expected a duration (\"10m\", \"1h30m\"), a number "
			"of seconds, -1 (for ever) or 0 (at once)");
	parse->call->keep_alive_set = true;
	return 0;
}

bool vac_body_integer(const struct vac_parse *parse, enum vac_json_type type, int64_t least,
		      int64_t most, int64_t *out)
{
	const struct vac_json *json = &parse->json;

	/* 2^53: below it a double that looks like an integer is that integer. */
	if (type == VAC_JSON_INTEGER)
		*out = json->integer;
	else if (type == VAC_JSON_NUMBER && fabs(json->number) <= 0x1p53 &&
		 json->number == floor(json->number))
		*out = (int64_t)json->number;
	else
		return false;
	return *out >= least && *out <= most;
}

int vac_read_dimensions(struct vac_parse *parse)
{
	enum vac_json_type type = vac_json_next(&parse->json);
	int64_t value;

	if (!vac_body_integer(parse, type, 1, INT32_MAX, &value))
		return vac_body_fail(parse, VAC_E_INVALID,
				     "dimensions: expected an integer of at least 1");
	parse->call->options.dimensions = (uint32_t)value;
	return 0;
}

int vac_read_bool(struct vac_parse *parse, bool *out)
{
	enum vac_json_type type = vac_json_next(&parse->json);

	if (type != VAC_JSON_TRUE && type != VAC_JSON_FALSE)
		return vac_body_fail(parse, VAC_E_INVALID, "%s: expected true or false, found %s",
				     parse->param, vac_body_type_name(type));
	*out = type == VAC_JSON_TRUE;
	return 0;
}

int vac_read_drop_cache(struct vac_parse *parse)
{
	return vac_read_bool(parse, &parse->call->drop_cache);
}

int vac_read_normalize(struct vac_parse *parse)
{
	bool on = false;
	int rc = vac_read_bool(parse, &on);

	if (rc == 0)
		parse->call->options.normalize = on ? VAC_NORMALIZE_ON : VAC_NORMALIZE_OFF;
	return rc;
}

int vac_read_truncate(struct vac_parse *parse)
{
	bool on = false;
	int rc = vac_read_bool(parse, &on);

	if (rc == 0)
		parse->call->options.truncation = on ? VAC_TRUNCATE_RIGHT : VAC_TRUNCATE_NONE;
	return rc;
}
