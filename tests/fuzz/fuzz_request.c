/*
 * fuzz_request.c - any request: the first byte picks a route (or an unknown
 * one), the rest is the body, or for some routes a number of bytes that are JSON
 * and then the body, or the model's name and suffix. What is taken must be
 * consistent; what is refused must be answered with a body in JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/json.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const struct {
	const char *method, *path;
	/* BINARY: one byte says how much of the body is JSON; REST: what follows is
	 * the rest of the path */
	enum { BODY, BINARY, REST } kind;
} routes[] = {
	{"POST", "/v1/embeddings"},
	{"POST", "/embed"},
	{"POST", "/api/embed"},
	{"POST", "/api/embeddings"},
	{"POST", "/api/generate"},
	{"POST", "/models/load"},
	{"POST", "/models/unload"},
	{"GET", "/v1/models/x"},
	{"GET", "/models/plan"},
	{"GET", "/receipts"},
	{"GET", "/info"},
	{"PUT", "/embed"},
	{"POST", "/nowhere"},
	{"GET", "/"},
	{"POST", "/v2/models/o/m/infer"},
	{"POST", "/v2/models/o/m/infer", BINARY},
	{"POST", "/v2/repository/index"},
	{"POST", "/v2/repository/models/m/load"},
	{"POST", "/v2/repository/models/m/unload"},
	{"GET", "/v2/models/", REST},
	{"POST", "/api/models/unload/", REST},
};

struct context {
	char *text;        /* serves as every query parameter */
	char number[4];    /* and this as the header that counts the JSON */
	const char *count; /* NULL: there is no such header */
};

static const char *query(void *ctx, const char *name)
{
	/* It would nearly always be wrong, and nothing else be reached. */
	if (strcmp(name, "autoload") == 0)
		return NULL;
	return ((const struct context *)ctx)->text;
}

static const char *header(void *ctx, const char *name)
{
	const struct context *context = ctx;

	return strcmp(name, "Inference-Header-Content-Length") == 0 ? context->count : NULL;
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

/* JSON, and what may follow it where the reply says so. */
static void check_reply(const struct vac_reply *reply)
{
	struct vac_buf head = reply->body;

	require(reply->header_bytes <= head.bytes);
	if (reply->header_bytes > 0)
		head.bytes = reply->header_bytes;
	else if (head.bytes == 0 || strcmp(reply->content_type, "application/json") != 0)
		return;
	require_json(&head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const float vector[2] = {0.5f, -1e-9f};
	struct vac_http_request request = {.limits = {.max_inputs = 8, .max_input_bytes = 64}};
	struct vac_model_view model = {.name = "m"};
	struct vac_outcome outcome = {
		.vectors = vector, .rows = 1, .dimensions = 2, .models = &model, .model_count = 1};
	struct context context = {0};
	struct vac_reply reply;
	struct vac_call call;
	char path[256];
	size_t pick;

	if (bytes == 0)
		return 0;
	pick = data[0] % (sizeof(routes) / sizeof(routes[0]));
	data++, bytes--;
	if (routes[pick].kind == BINARY && bytes > 0) {
		snprintf(context.number, sizeof(context.number), "%u", data[0]);
		context.count = context.number;
		data++, bytes--;
	}
	/* The copy for the query ends with a NUL. */
	context.text = malloc(bytes + 1);
	require(context.text != NULL);
	memcpy(context.text, data, bytes);
	context.text[bytes] = '\0';
	request.method = routes[pick].method;
	snprintf(path, sizeof(path), "%s%s", routes[pick].path,
		 routes[pick].kind == REST ? context.text : "");
	request.path = path;
	request.query = query;
	request.header = header;
	request.ctx = &context;
	/* libFuzzer's memory has exactly that size: reading past it is found. */
	request.body = (const char *)data;
	request.body_bytes = routes[pick].kind == REST ? 0 : bytes;
	if (vac_api_parse(&request, &call, &reply) == 0) {
		check_call(&call, &request);
		vac_api_render(&call, &outcome, &reply);
		require(reply.status >= 200);
		check_reply(&reply);
		vac_call_free(&call);
	} else {
		require(reply.status >= 400 && reply.body.bytes > 0);
		require_json(&reply.body);
	}
	vac_reply_free(&reply);
	free(context.text);
	return 0;
}
