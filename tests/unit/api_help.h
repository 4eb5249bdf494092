/*
 * api_help.h - a request without a server, for the tests of api/. Queries and
 * headers are name, value, ..., NULL. After cmocka.h.
 */
#ifndef VAC_TESTS_API_HELP_H
#define VAC_TESTS_API_HELP_H

#include <jansson.h>
#include <string.h>

#include "api/api.h"

static inline const char *help_find(void *ctx, const char *name)
{
	const char *const *pairs = ctx;

	for (; pairs && *pairs; pairs += 2) {
		if (strcmp(pairs[0], name) == 0)
			return pairs[1];
	}
	return NULL;
}

static inline struct vac_http_request help_request(const char *method, const char *path,
						   const char *const *query, const char *body)
{
	return (struct vac_http_request){
		.method = method,
		.path = path,
		.query = help_find,
		.ctx = (void *)(uintptr_t)query,
		.body = body,
		.body_bytes = body ? strlen(body) : 0,
		.limits = {.max_inputs = 4, .max_input_bytes = 100},
	};
}

/* The request is taken. */
static inline void help_parse(const struct vac_http_request *request, struct vac_call *call)
{
	struct vac_reply reply;

	if (vac_api_parse(request, call, &reply) != 0)
		fail_msg("%s %s refused with %d: %.*s", request->path,
			 request->body ? request->body : "", reply.status, (int)reply.body.bytes,
			 (const char *)reply.body.data);
}

/* The input is that text. */
static inline void help_text(const struct vac_input *input, const char *text, size_t bytes)
{
	assert_null(input->ids);
	assert_int_equal(input->text_bytes, bytes);
	assert_memory_equal(input->text, text, bytes);
}

/* The reply as jansson reads it; NULL when it is no strict JSON. */
static inline json_t *help_json(const struct vac_reply *reply)
{
	return json_loadb((const char *)reply->body.data, reply->body.bytes,
			  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
}

#endif
