/*
 * render_help.h - an outcome as a strict JSON reader sees the reply that it becomes, for
 * the tests of api/. After cmocka.h.
 */
#ifndef VAC_TESTS_RENDER_HELP_H
#define VAC_TESTS_RENDER_HELP_H

#include <math.h>
#include <stdlib.h>

#include "api_help.h"

static inline void parse(const char *method, const char *path, const char *body,
			 struct vac_call *call)
{
	struct vac_http_request request = help_request(method, path, NULL, body);
	struct vac_reply reply;

	if (vac_api_parse(&request, call, &reply) != 0)
		fail_msg("%s: %.*s", path, (int)reply.body.bytes, (const char *)reply.body.data);
}

/* What the family of method, path and body answers to that outcome. */
static inline json_t *answer(const char *method, const char *path, const char *body,
			     const struct vac_outcome *outcome, int status)
{
	struct vac_reply reply;
	struct vac_call call;
	json_t *json;

	parse(method, path, body, &call);
	vac_api_render(&call, outcome, &reply);
	assert_true(vac_buf_ok(&reply.body));
	assert_string_equal(reply.content_type, "application/json");
	assert_int_equal(reply.retry_after_s, outcome->retry_after_s);
	json = help_json(&reply);
	if (!json || reply.status != status)
		fail_msg("%s: %d %.*s", path, reply.status, (int)reply.body.bytes,
			 (const char *)reply.body.data);
	vac_reply_free(&reply);
	vac_call_free(&call);
	return json;
}

static inline const json_t *at(const json_t *json, const char *path)
{
	char copy[200], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%s", path);
	while ((name = strsep(&rest, "."))) {
		if (json_is_array(json))
			json = json_array_get(json, (size_t)atoi(name));
		else
			json = json_object_get(json, name);
		if (!json)
			fail_msg("no %s in %s", name, path);
	}
	return json;
}

static inline void assert_int_at(const json_t *json, const char *path, int64_t value)
{
	const json_t *found = at(json, path);

	if (!json_is_integer(found) || json_integer_value(found) != value)
		fail_msg("%s is not %lld", path, (long long)value);
}

static inline void assert_real_at(const json_t *json, const char *path, double value)
{
	const json_t *found = at(json, path);

	if (!json_is_number(found) || fabs(json_number_value(found) - value) > 1e-9)
		fail_msg("%s is %f, not %f", path, json_number_value(found), value);
}

static inline void assert_text_at(const json_t *json, const char *path, const char *value)
{
	const char *found = json_string_value(at(json, path));

	if (!found || strcmp(found, value) != 0)
		fail_msg("%s is %s, not %s", path, found ? found : "no string", value);
}

static inline void assert_null_at(const json_t *json, const char *path)
{
	if (!json_is_null(at(json, path)))
		fail_msg("%s is not null", path);
}

#endif
