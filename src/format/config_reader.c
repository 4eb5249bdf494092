/* config_reader.c - flat JSON objects by a table. Any thread. */
#include "format/config_reader.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/quote.h"

#define QUOTED(text, bytes) vac_quote(&(struct vac_quoted){{0}}, text, bytes)

static int wrong_type(struct vac_json *json, const struct config_member *member, const char *wanted)
{
	return vac_json_fail(json, VAC_E_CORRUPT, "%s must be %s", member->name, wanted);
}

static int out_of_range(struct vac_json *json, const struct config_member *member)
{
	return vac_json_fail(json, VAC_E_CORRUPT, "%s must be between %" PRId64 " and %" PRId64,
			     member->name, member->low, member->high);
}

/* The last event was a string. */
static int store_text(struct vac_json *json, const struct config_member *member, char *to)
{
	if (json->text_bytes >= member->bytes || memchr(json->text, '\0', json->text_bytes))
		return vac_json_fail(json, VAC_E_CORRUPT,
				     "%s is %s where at most %zu bytes without U+0000 are accepted",
				     member->name, QUOTED(json->text, json->text_bytes),
				     member->bytes - 1);
	memcpy(to, json->text, json->text_bytes);
	to[json->text_bytes] = '\0';
	return 0;
}

/* An array of strings, of which the first is kept; the last event began it. */
static int store_first(struct vac_json *json, const struct config_member *member, char *to)
{
	enum vac_json_type type;
	size_t count = 0;
	int rc = 0;

	while (rc == 0 && (type = vac_json_next(json)) != VAC_JSON_ARRAY_END) {
		if (type != VAC_JSON_STRING)
			return wrong_type(json, member, "an array of strings");
		if (count++ == 0)
			rc = store_text(json, member, to);
		else if (member->type == CONFIG_ONE_TEXT)
			rc = vac_json_fail(json, VAC_E_UNSUPPORTED,
					   "%s has several values at once, which is not supported",
					   member->name);
	}
	return rc;
}

static int store_empty(struct vac_json *json, const struct config_member *member,
		       enum vac_json_type type)
{
	if (type != VAC_JSON_OBJECT_BEGIN)
		return wrong_type(json, member, "an object");
	if (vac_json_next(json) == VAC_JSON_KEY)
		return vac_json_fail(json, VAC_E_UNSUPPORTED,
				     "%s sets %s, and settings there are not supported",
				     member->name, QUOTED(json->text, json->text_bytes));
	return json->state < 0 ? json->state : 0;
}

static int store_number(struct vac_json *json, const struct config_member *member,
			enum vac_json_type type, void *to)
{
	double real;

	if (member->type == CONFIG_REAL) {
		if (type != VAC_JSON_INTEGER && type != VAC_JSON_NUMBER)
			return wrong_type(json, member, "a number");
		real = type == VAC_JSON_INTEGER ? (double)json->integer : json->number;
		if (real < (double)member->low || real > (double)member->high)
			return out_of_range(json, member);
		memcpy(to, &real, sizeof(real));
		return 0;
	}
	if (type != VAC_JSON_INTEGER)
		return wrong_type(json, member, "a whole number");
	if (json->integer < member->low || json->integer > member->high)
		return out_of_range(json, member);
	if (member->type == CONFIG_COUNT)
		*(uint32_t *)to = (uint32_t)json->integer;
	else
		*(int32_t *)to = (int32_t)json->integer;
	return 0;
}

/* Reads and stores the value of a known member. *given: it was not null. */
static int read_value(struct vac_json *json, const struct config_member *member, void *into,
		      bool *given)
{
	enum vac_json_type type = vac_json_next(json);
	char *to = (char *)into + member->at;

	*given = false;
	if (type == VAC_JSON_ERROR)
		return json->state;
	if (type == VAC_JSON_NULL)
		return 0;
	*given = true;
	switch (member->type) {
	case CONFIG_COUNT:
	case CONFIG_INTEGER:
	case CONFIG_REAL:
		return store_number(json, member, type, to);
	case CONFIG_BOOL:
		if (type != VAC_JSON_TRUE && type != VAC_JSON_FALSE)
			return wrong_type(json, member, "true or false");
		*(bool *)to = type == VAC_JSON_TRUE;
		return 0;
	case CONFIG_TEXT:
		if (type != VAC_JSON_STRING)
			return wrong_type(json, member, "a string");
		return store_text(json, member, to);
	case CONFIG_FIRST_TEXT:
	case CONFIG_ONE_TEXT:
		if (type == VAC_JSON_STRING && member->type == CONFIG_ONE_TEXT)
			return store_text(json, member, to);
		if (type != VAC_JSON_ARRAY_BEGIN)
			return wrong_type(json, member, "an array of strings");
		return store_first(json, member, to);
	case CONFIG_EMPTY:
		return store_empty(json, member, type);
	}
	return 0;
}

int vac_config_members(struct vac_json *json, const struct config_member *members, size_t count,
		       void *into, uint32_t *given)
{
	uint32_t named = 0, not_null = 0;
	int rc = 0;

	assert(count <= 32);
	while (rc == 0 && vac_json_next(json) == VAC_JSON_KEY) {
		size_t i = 0;
		bool stored;

		while (i < count && !vac_json_is(json, members[i].name))
			i++;
		if (i == count) {
			rc = vac_json_skip(json);
			continue;
		}
		if (named & UINT32_C(1) << i)
			return vac_json_fail(json, VAC_E_CORRUPT, "%s is there twice",
					     members[i].name);
		named |= UINT32_C(1) << i;
		rc = read_value(json, &members[i], into, &stored);
		if (stored)
			not_null |= UINT32_C(1) << i;
	}
	if (given)
		*given = not_null;
	return rc == 0 && json->state < 0 ? json->state : rc;
}

int vac_config_document(const char *text, size_t bytes, const char *path,
			const struct config_member *members, size_t count, void *into,
			uint32_t *given, struct vac_error *err)
{
	struct vac_json json;
	int rc;

	vac_json_init(&json, path, text, bytes, err);
	rc = vac_json_expect(&json, VAC_JSON_OBJECT_BEGIN, "the configuration");
	if (rc == 0)
		rc = vac_config_members(&json, members, count, into, given);
	if (rc == 0)
		rc = vac_json_expect(&json, VAC_JSON_END, "behind the configuration");
	vac_json_free(&json);
	return rc;
}

int vac_config_file(const char *dir, const char *name, size_t limit_bytes, char **path,
		    struct vac_buf *buf, bool *found, struct vac_error *err)
{
	struct vac_error local;
	int rc;

	*buf = VAC_BUF_INIT;
	*found = false;
	*path = vac_path_join(dir, name);
	if (!*path)
		return vac_fail_nomem(err, name, strlen(dir) + strlen(name));
	rc = vac_read_file(*path, limit_bytes, buf, &local);
	if (rc == -ENOENT)
		return 0;
	if (rc != 0 && err)
		*err = local;
	*found = rc == 0;
	return rc;
}
