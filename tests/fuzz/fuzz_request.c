/*
 * fuzz_request.c - any request: the first byte picks a route (or an unknown
 * one), the rest is the body. What is taken must be consistent; what is
 * refused must be answered with a body in JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/json.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const struct {
	const char *method, *path;
} routes[] = {
	{"POST", "/v1/embeddings"}, {"POST", "/embed"},
	{"POST", "/api/embed"},     {"POST", "/api/embeddings"},
	{"POST", "/api/generate"},  {"POST", "/models/load"},
	{"POST", "/models/unload"}, {"GET", "/v1/models/x"},
	{"GET", "/models/plan"},    {"GET", "/receipts"},
	{"GET", "/info"},           {"PUT", "/embed"},
	{"POST", "/nowhere"},       {"GET", "/"},
};

/* The body itself serves as every query parameter. */
static const char *query(void *ctx, const char *name)
{
	(void)name;
	return ctx;
}

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void require_json(const struct vac_buf *buf)
{
	enum vac_json_type type;
	struct vac_error err;
	struct vac_json json;

	vac_json_init(&json, "reply", buf->data, buf->bytes, &err);
	do
		type = vac_json_next(&json);
	while (type != VAC_JSON_END && type != VAC_JSON_ERROR);
	require(type == VAC_JSON_END);
	vac_json_free(&json);
}

static void require_utf8(const char *text, size_t bytes)
{
	const uint8_t *at = (const uint8_t *)text, *end = at + bytes;
	uint32_t code;

	while (at < end) {
		size_t n = vac_utf8_decode(at, end, &code);

		require(n > 0);
		at += n;
	}
}

/* Every input can be read, and no more than the body can hold. */
static void check_call(const struct vac_call *call, const struct vac_http_request *request)
{
	size_t total = 0;

	require(call->input_count <= request->limits.max_inputs);
	for (size_t i = 0; i < call->input_count; i++) {
		const struct vac_input *input = &call->inputs[i];

		if (input->ids) {
			require(input->id_count > 0);
			for (size_t k = 0; k < input->id_count; k++)
				require(input->ids[k] >= 0);
			total += input->id_count;
		} else {
			require(input->text != NULL);
			require(input->text_bytes <= request->limits.max_input_bytes);
			require_utf8(input->text, input->text_bytes);
			total += input->text_bytes;
		}
	}
	require(total <= request->body_bytes);
	require(call->kind != VAC_CALL_TASK || call->input_count > 0);
	require(!call->model || *call->model);
	require(!call->keep_alive_set || call->keep_alive_ms >= -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const float vector[2] = {0.5f, -1e-9f};
	struct vac_http_request request = {.limits = {.max_inputs = 8, .max_input_bytes = 64}};
	struct vac_outcome outcome = {.vectors = vector, .rows = 1, .dimensions = 2};
	struct vac_reply reply;
	struct vac_call call;
	char *body;
	size_t pick;

	if (bytes == 0)
		return 0;
	/* Heap memory of exactly that size: reading past it is found. The copy
	 * for the query ends with a NUL. */
	body = malloc(bytes - 1 + 1);
	require(body != NULL);
	memcpy(body, data + 1, bytes - 1);
	body[bytes - 1] = '\0';
	pick = data[0] % (sizeof(routes) / sizeof(routes[0]));
	request.method = routes[pick].method;
	request.path = routes[pick].path;
	request.query = query;
	request.ctx = body;
	request.body = (const char *)data + 1;
	request.body_bytes = bytes - 1;
	if (vac_api_parse(&request, &call, &reply) == 0) {
		check_call(&call, &request);
		vac_api_render(&call, &outcome, &reply);
		require(reply.status >= 200);
		if (reply.body.bytes > 0 && strcmp(reply.content_type, "application/json") == 0)
			require_json(&reply.body);
		vac_call_free(&call);
	} else {
		require(reply.status >= 400 && reply.body.bytes > 0);
		require_json(&reply.body);
	}
	vac_reply_free(&reply);
	free(body);
	return 0;
}
