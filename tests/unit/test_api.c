/*
 * test_api.c - bodies into calls: what each family takes, what it refuses,
 * with which status, shape and place; and that a failed allocation anywhere
 * is an answer and neither a leak nor a crash.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api_help.h"
#include "fail_alloc.h"
#include "base/clock.h"

/* --- what is taken ------------------------------------------------------------------ */

static void openai_embeddings(void **state)
{
	struct vac_http_request request = help_request(
		"POST", "/v1/embeddings", NULL,
		"{\"unknown\":{\"deep\":[1,{\"input\":\"no\"}]},\"input\":[\"a\\u0000b\",\"\","
		"\"\\ud83d\\ude00\\n\"],\"dimensions\":64,\n\"model\":\"org/name\","
		"\"encoding_format\":\"base64\",\"user\":17,\"truncate\":true,"
		"\"keep_alive\":\"1h30m\"}");
	struct vac_call call;

	(void)state;
	help_parse(&request, &call);
	assert_int_equal(call.kind, VAC_CALL_TASK);
	assert_string_equal(call.model, "org/name");
	assert_int_equal(call.options.task, VAC_TASK_EMBED);
	assert_int_equal(call.options.normalize, VAC_NORMALIZE_MODEL);
	assert_int_equal(call.options.truncation, VAC_TRUNCATE_RIGHT);
	assert_int_equal(call.options.dimensions, 64);
	assert_true(call.base64);
	assert_false(call.single);
	assert_true(call.keep_alive_set);
	assert_int_equal(call.keep_alive_ms, 5400000);
	assert_int_equal(call.input_count, 3);
	help_text(&call.inputs[0], "a\0b", 3);
	help_text(&call.inputs[1], "", 0);
	help_text(&call.inputs[2], "\xf0\x9f\x98\x80\n", 5);
	vac_call_free(&call);
	vac_call_free(&call); /* twice is fine */
}

static void openai_defaults(void **state)
{
	struct vac_http_request request =
		help_request("POST", "/v1/embeddings", NULL,
			     " {\"input\":\"\",\"model\":\"m\",\"encoding_format\":null,"
			     "\"dimensions\":null,\"keep_alive\":null,\"truncate\":null} \n");
	struct vac_call call;

	(void)state;
	help_parse(&request, &call);
	assert_true(call.single);
	assert_int_equal(call.input_count, 1);
	help_text(&call.inputs[0], "", 0);
	assert_int_equal(call.options.truncation, VAC_TRUNCATE_NONE);
	assert_int_equal(call.options.dimensions, 0);
	assert_false(call.base64);
	assert_false(call.keep_alive_set);
	vac_call_free(&call);
}

static void token_ids(void **state)
{
	/* an integer may be written with a point or an exponent */
	struct vac_http_request request =
		help_request("POST", "/v1/embeddings", NULL,
			     "{\"model\":\"m\",\"input\":[1.01e2,-0.0,2147483647]}");
	struct vac_call call;

	(void)state;
	help_parse(&request, &call);
	assert_true(call.single);
	assert_int_equal(call.input_count, 1);
	assert_int_equal(call.inputs[0].id_count, 3);
	assert_int_equal(call.inputs[0].ids[0], 101);
	assert_int_equal(call.inputs[0].ids[1], 0);
	assert_int_equal(call.inputs[0].ids[2], INT32_MAX);
	vac_call_free(&call);

	request = help_request("POST", "/v1/embeddings", NULL,
			       "{\"model\":\"m\",\"input\":[[1,2],\"text\",[3]]}");
	help_parse(&request, &call);
	assert_false(call.single);
	assert_int_equal(call.input_count, 3);
	assert_int_equal(call.inputs[0].id_count, 2);
	assert_int_equal(call.inputs[0].ids[1], 2);
	help_text(&call.inputs[1], "text", 4);
	assert_int_equal(call.inputs[2].id_count, 1);
	assert_int_equal(call.inputs[2].ids[0], 3);
	vac_call_free(&call);
}

/* Long enough that every buffer grows and moves several times. */
static void many_inputs(void **state)
{
	enum { COUNT = 5000 };
	struct vac_buf body = VAC_BUF_INIT;
	struct vac_http_request request;
	struct vac_call call;

	(void)state;
	vac_buf_puts(&body, "{\"model\":\"m\",\"input\":[");
	for (int i = 0; i < COUNT; i++)
		vac_buf_printf(&body, i % 2 ? "%s[%d,%d]" : "%s\"text %d-%d\"", i ? "," : "", i,
			       i + 1);
	vac_buf_puts(&body, "]}");
	vac_buf_putc(&body, '\0');
	request = help_request("POST", "/v1/embeddings", NULL, (const char *)body.data);
	request.limits.max_inputs = COUNT;
	help_parse(&request, &call);
	vac_buf_free(&body); /* the call keeps nothing of it */
	assert_int_equal(call.input_count, COUNT);
	for (int i = 0; i < COUNT; i++) {
		char text[32];

		if (i % 2) {
			assert_int_equal(call.inputs[i].id_count, 2);
			assert_int_equal(call.inputs[i].ids[0], i);
			assert_int_equal(call.inputs[i].ids[1], i + 1);
		} else {
			snprintf(text, sizeof(text), "text %d-%d", i, i + 1);
			help_text(&call.inputs[i], text, strlen(text));
		}
	}
	vac_call_free(&call);
}

static void tei_embed(void **state)
{
	static const char *const query[] = {"model", "org/asked", NULL};
	struct vac_http_request request = help_request(
		"POST", "/embed", query,
		"{\"inputs\":\"x\",\"normalize\":false,\"truncation_direction\":\"LEFT\","
		"\"truncate\":true,\"prompt_name\":null,\"dimensions\":3}");
	struct vac_call call;

	(void)state;
	help_parse(&request, &call);
	assert_int_equal(call.kind, VAC_CALL_TASK);
	assert_string_equal(call.model, "org/asked");
	assert_int_equal(call.options.normalize, VAC_NORMALIZE_OFF);
	assert_int_equal(call.options.truncation, VAC_TRUNCATE_LEFT);
	assert_int_equal(call.options.dimensions, 3);
	vac_call_free(&call);

	/* the body's name wins; a direction alone truncates nothing */
	request = help_request("POST", "/embed", query,
			       "{\"inputs\":[\"x\"],\"model\":\"said\","
			       "\"truncation_direction\":\"left\"}");
	help_parse(&request, &call);
	assert_string_equal(call.model, "said");
	assert_int_equal(call.options.normalize, VAC_NORMALIZE_ON);
	assert_int_equal(call.options.truncation, VAC_TRUNCATE_NONE);
	vac_call_free(&call);

	request = help_request("POST", "/", NULL, "{\"inputs\":[\"x\"]}");
	help_parse(&request, &call);
	assert_int_equal(call.kind, VAC_CALL_TASK);
	assert_null(call.model);
	vac_call_free(&call);
}

static void ollama_bodies(void **state)
{
	static const struct {
		const char *path, *body, *model;
		enum vac_call_kind kind;
		size_t inputs;
		int64_t keep_alive_ms; /* 4711: not set */
	} cases[] = {
		{"/api/embed", "{\"model\":\"m:latest\",\"input\":[\"a\",\"b\"]}", "m",
		 VAC_CALL_TASK, 2, 4711},
		{"/api/embed", "{\"model\":\"m\",\"input\":\"\",\"keep_alive\":-1}", "m",
		 VAC_CALL_TASK, 1, -1},
		{"/api/embed", "{\"model\":\"m\",\"input\":[],\"keep_alive\":1.5}", "m",
		 VAC_CALL_LOAD, 0, 1500},
		{"/api/embed", "{\"model\":\"m\"}", "m", VAC_CALL_LOAD, 0, 4711},
		{"/api/embed", "{\"model\":\"m\",\"keep_alive\":\"0s\"}", "m", VAC_CALL_UNLOAD, 0,
		 0},
		{"/api/embeddings", "{\"model\":\"m\",\"prompt\":\"p\"}", "m", VAC_CALL_TASK, 1,
		 4711},
		{"/api/generate", "{\"model\":\"o/m:latest\"}", "o/m", VAC_CALL_LOAD, 0, 4711},
		{"/api/generate", "{\"model\":\"m\",\"prompt\":\"\",\"keep_alive\":\"10m\"}", "m",
		 VAC_CALL_LOAD, 0, 600000},
		{"/api/generate", "{\"model\":\"m\",\"keep_alive\":0,\"stream\":false}", "m",
		 VAC_CALL_UNLOAD, 0, 0},
		{"/api/generate", "{\"model\":\":latest\"}", ":latest", VAC_CALL_LOAD, 0, 4711},
		{"/api/generate", "{\"model\":\"m:v2\",\"keep_alive\":1e30}", "m:v2", VAC_CALL_LOAD,
		 0, -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_http_request request =
			help_request("POST", cases[i].path, NULL, cases[i].body);
		struct vac_call call;

		help_parse(&request, &call);
		assert_string_equal(call.model, cases[i].model);
		assert_int_equal(call.kind, cases[i].kind);
		assert_int_equal(call.input_count, cases[i].inputs);
		assert_int_equal(call.keep_alive_set, cases[i].keep_alive_ms != 4711);
		if (call.keep_alive_set)
			assert_int_equal(call.keep_alive_ms, cases[i].keep_alive_ms);
		if (call.kind == VAC_CALL_TASK) {
			assert_int_equal(call.options.truncation, VAC_TRUNCATE_RIGHT);
			assert_int_equal(call.options.normalize,
					 strcmp(cases[i].path, "/api/embed") == 0
						 ? VAC_NORMALIZE_ON
						 : VAC_NORMALIZE_OFF);
		}
		vac_call_free(&call);
	}
}

static void ollama_truncate_off(void **state)
{
	struct vac_http_request request = help_request(
		"POST", "/api/embed", NULL, "{\"model\":\"m\",\"input\":\"x\",\"truncate\":false}");
	struct vac_call call;

	(void)state;
	help_parse(&request, &call);
	assert_int_equal(call.options.truncation, VAC_TRUNCATE_NONE);
	vac_call_free(&call);
}

static void plain_routes(void **state)
{
	static const char *const named[] = {"model", "org/m", "limit", "12", NULL};
	static const struct {
		const char *method, *path;
		const char *const *query;
		const char *body;
		enum vac_call_kind kind;
		const char *model;
	} cases[] = {
		{"GET", "/v1/models", NULL, NULL, VAC_CALL_LIST, NULL},
		{"GET", "/v1/models/org/m", NULL, NULL, VAC_CALL_LIST, "org/m"},
		{"GET", "/v1/models/m", NULL, NULL, VAC_CALL_LIST, "m"},
		{"GET", "/info", NULL, NULL, VAC_CALL_LIST, NULL},
		{"GET", "/info", named, NULL, VAC_CALL_PLAN, "org/m"},
		{"GET", "/health", NULL, NULL, VAC_CALL_HEALTH, NULL},
		{"GET", "/", NULL, NULL, VAC_CALL_HEALTH, NULL},
		{"HEAD", "/", NULL, NULL, VAC_CALL_HEALTH, NULL},
		{"GET", "/api/ps", NULL, NULL, VAC_CALL_RUNNING, NULL},
		{"GET", "/api/tags", NULL, NULL, VAC_CALL_LIST, NULL},
		{"GET", "/api/version", NULL, NULL, VAC_CALL_VERSION, NULL},
		{"GET", "/healthz", NULL, NULL, VAC_CALL_HEALTH, NULL},
		{"GET", "/version", NULL, NULL, VAC_CALL_VERSION, NULL},
		{"GET", "/metrics", NULL, NULL, VAC_CALL_METRICS, NULL},
		{"GET", "/models", NULL, NULL, VAC_CALL_LIST, NULL},
		{"GET", "/models/plan", named, NULL, VAC_CALL_PLAN, "org/m"},
		{"GET", "/models/ps", NULL, NULL, VAC_CALL_PS, NULL},
		{"GET", "/receipts", NULL, NULL, VAC_CALL_RECEIPTS, NULL},
		{"POST", "/models/load", NULL, "{\"model\":\"m\"}", VAC_CALL_LOAD, "m"},
		{"POST", "/models/unload", NULL, "{\"model\":\"m\"}", VAC_CALL_UNLOAD, "m"},
		{"POST", "/models/unload", NULL, "{\"model\":\"m\",\"all\":false}", VAC_CALL_UNLOAD,
		 "m"},
		{"POST", "/models/unload", NULL, "{\"all\":true}", VAC_CALL_UNLOAD_ALL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_http_request request =
			help_request(cases[i].method, cases[i].path, cases[i].query, cases[i].body);
		struct vac_call call;

		help_parse(&request, &call);
		assert_int_equal(call.kind, cases[i].kind);
		if (cases[i].model)
			assert_string_equal(call.model, cases[i].model);
		else
			assert_null(call.model);
		assert_false(call.drop_cache);
		vac_call_free(&call);
	}
}

static void unload_and_receipt_options(void **state)
{
	static const char *const query[] = {"limit", "12", NULL};
	struct vac_http_request request =
		help_request("POST", "/models/unload", NULL, "{\"drop_cache\":true,\"all\":true}");
	struct vac_call call;

	(void)state;
	help_parse(&request, &call);
	assert_true(call.drop_cache);
	vac_call_free(&call);
	request = help_request("GET", "/receipts", query, NULL);
	help_parse(&request, &call);
	assert_int_equal(call.limit, 12);
	vac_call_free(&call);
}

/* --- what is refused ---------------------------------------------------------------- */

/* The message of an error in its family's shape; other members are checked. */
static const char *error_message(const char *path, const json_t *reply, int status,
				 const char *param)
{
	const json_t *error = json_object_get(reply, "error");

	if (strncmp(path, "/v1/", 4) == 0) {
		const char *type = json_string_value(json_object_get(error, "type"));
		const json_t *at = json_object_get(error, "param");

		assert_int_equal(json_object_size(error), 4);
		assert_non_null(json_string_value(json_object_get(error, "code")));
		assert_string_equal(type, status >= 500   ? "server_error"
					  : status == 429 ? "rate_limit_error"
							  : "invalid_request_error");
		if (param)
			assert_string_equal(json_string_value(at), param);
		else
			assert_true(json_is_null(at));
		return json_string_value(json_object_get(error, "message"));
	}
	if (strncmp(path, "/api/", 5) == 0) {
		assert_int_equal(json_object_size(reply), 1);
		return json_string_value(error);
	}
	if (strcmp(path, "/embed") == 0 || strcmp(path, "/info") == 0 || strcmp(path, "/") == 0) {
		assert_non_null(json_string_value(json_object_get(reply, "error_type")));
		return json_string_value(error);
	}
	assert_int_equal(json_object_size(error), 3);
	assert_non_null(json_string_value(json_object_get(error, "code")));
	assert_non_null(json_string_value(json_object_get(error, "detail")));
	return json_string_value(json_object_get(error, "message"));
}

static void refused(const struct vac_http_request *request, int status, const char *param,
		    const char *part, const char *part2)
{
	struct vac_reply reply;
	struct vac_call call;
	const char *message;
	json_t *json;

	if (vac_api_parse(request, &call, &reply) == 0)
		fail_msg("%s %s is taken", request->path, request->body ? request->body : "");
	assert_null(call.model);
	assert_null(call.storage);
	if (reply.status != status)
		fail_msg("%s: status %d: %.*s", request->body ? request->body : request->path,
			 reply.status, (int)reply.body.bytes, (const char *)reply.body.data);
	assert_string_equal(reply.content_type, "application/json");
	json = help_json(&reply);
	assert_non_null(json);
	message = error_message(request->path, json, status, param);
	assert_non_null(message);
	if (!strstr(message, part) || (part2 && !strstr(message, part2)))
		fail_msg("%s: \"%s\" lacks \"%s\" or \"%s\"", request->path, message, part,
			 part2 ? part2 : "");
	json_decref(json);
	vac_reply_free(&reply);
}

static void bad_json(void **state)
{
	static const struct {
		const char *body, *part, *position;
	} cases[] = {
		{"", "empty", NULL},
		{"   ", "a value was expected", "(line 1, column 4)"},
		{"{", "member name", "(line 1, column 2)"},
		{"{\n\"input\":\"x\",\n  oops}", "found 'o'", "(line 3, column 3)"},
		{"{\"model\":\"m\",}", "found '}'", "(line 1, column 14)"},
		{"{\"model\":\"m\"} x", "found 'x'", "(line 1, column 15)"},
		{"{\"model\":\"\xc3\xa9\xc3\xa9\",!}", "found '!'", "(line 1, column 15)"},
		{"{\"input\":\"\xff\"}", "invalid UTF-8", "(line 1, column 11)"},
		{"{\"input\":\"\xed\xa0\x80\"}", "invalid UTF-8", "(line 1, column 11)"},
		{"{\"input\":\"\\ud800\"}", "lone surrogate", "(line 1, column 11)"},
		{"{\"input\":[\"a\",\"b", "no closing quote", "(line 1, column 15)"},
		{"{\"input\":[01]}", "superfluous 0", "(line 1, column 11)"},
		{"{\"input\":NaN}", "found 'N'", "(line 1, column 10)"},
		{"{'input':1}", "found '''", "(line 1, column 2)"},
		{"[1]", "expected an object, found an array", "(line 1, column 1)"},
		{"\"x\"", "expected an object, found a string", "(line 1, column 1)"},
		{"{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1",
		 "more than 64 levels", "(line 1, column 69)"},
		{"\xef\xbb\xbf{}", "a value was expected", "(line 1, column 1)"},
	};
	static const char *const paths[] = {"/v1/embeddings", "/embed", "/api/embed",
					    "/models/load"};

	(void)state;
	for (size_t p = 0; p < sizeof(paths) / sizeof(paths[0]); p++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct vac_http_request request =
				help_request("POST", paths[p], NULL, cases[i].body);
			struct vac_reply reply;
			struct vac_call call;
			const char *message;
			json_t *json;

			if (vac_api_parse(&request, &call, &reply) != -EINVAL)
				fail_msg("%s: no -EINVAL", cases[i].body);
			assert_int_equal(reply.status, 400);
			json = help_json(&reply);
			assert_non_null(json);
			/* whatever the member that was being read */
			message = json_string_value(json_object_get(json, "error"));
			if (!message)
				message = json_string_value(
					json_object_get(json_object_get(json, "error"), "message"));
			assert_non_null(message);
			if (strcmp(paths[p], "/models/load") != 0 &&
			    (!strstr(message, cases[i].part) ||
			     (cases[i].position && !strstr(message, cases[i].position))))
				fail_msg("%s: %s", cases[i].body, message);
			json_decref(json);
			vac_reply_free(&reply);
		}
	}
}

static void bad_members(void **state)
{
	static const struct {
		const char *path, *body;
		int status;
		const char *param, *part, *part2;
	} cases[] = {
		{"/v1/embeddings", "{}", 400, "input", "input: is missing", NULL},
		{"/v1/embeddings", "{\"input\":null,\"model\":\"m\"}", 400, "input",
		 "input: is missing", NULL},
		{"/v1/embeddings", "{\"input\":\"x\"}", 400, "model", "model: is missing", NULL},
		{"/v1/embeddings", "{\"input\":[],\"model\":\"m\"}", 400, "input",
		 "input: is an empty array", NULL},
		{"/v1/embeddings", "{\"input\":3,\"model\":\"m\"}", 400, "input",
		 "input: expected a string or an array of strings or of token ids, found an "
		 "integer",
		 "(line 1, column 10)"},
		{"/v1/embeddings", "{\"input\":{},\"model\":\"m\"}", 400, "input",
		 "input: expected a string", "found an object"},
		{"/v1/embeddings", "{\"input\":[\"a\",\"b\",\"c\",true]}", 400, "input",
		 "input[3]: expected a string or an array of token ids, found a boolean",
		 "(line 1, column 23)"},
		{"/v1/embeddings", "{\"input\":[\"a\",null]}", 400, "input",
		 "input[1]: expected a string", "found null"},
		{"/v1/embeddings", "{\"input\":[\"a\",1]}", 400, "input", "input[1]: expected",
		 "found an integer"},
		{"/v1/embeddings", "{\"input\":[[1,2],[3,\"x\"]]}", 400, "input",
		 "input[1][1]: expected a token id", "(line 1, column 20)"},
		{"/v1/embeddings", "{\"input\":[[[1]]]}", 400, "input",
		 "input[0][0]: expected a token id", NULL},
		{"/v1/embeddings", "{\"input\":[1,-1]}", 400, "input",
		 "input[1]: expected a token id", "from 0 to 2147483647"},
		{"/v1/embeddings", "{\"input\":[2147483648]}", 400, "input",
		 "input[0]: expected a token id", NULL},
		{"/v1/embeddings", "{\"input\":[1.5]}", 400, "input",
		 "input[0]: expected a token id", NULL},
		{"/v1/embeddings", "{\"input\":[99999999999999999999]}", 400, "input",
		 "input[0]: expected a token id", NULL},
		{"/v1/embeddings", "{\"input\":[[]]}", 400, "input",
		 "input[0]: is an empty array of token ids", NULL},
		{"/v1/embeddings", "{\"input\":[\"1\",\"2\",\"3\",\"4\",\"5\",[6],{\"7\":[7,7]}]}",
		 413, "input", "input: has 7 inputs where at most 4 are accepted", NULL},
		{"/v1/embeddings", "{\"input\":[\"1\",\"2\",\"3\",\"4\",[5,5],[[6],6]]}", 413,
		 "input", "input: has 6 inputs where at most 4 are accepted", NULL},
		{"/v1/embeddings", "{\"input\":[\"1\",\"2\",\"3\",\"4\",{\"5\":5},6", 400, "input",
		 "the JSON ends", NULL},
		{"/v1/embeddings", "{\"input\":\"x\",\"input\":\"y\"}", 400, "input",
		 "input: is there twice", "(line 1, column 14)"},
		{"/v1/embeddings", "{\"model\":7}", 400, "model",
		 "model: expected a string, found an integer", NULL},
		{"/v1/embeddings", "{\"model\":\"\"}", 400, "model", "model: is empty", NULL},
		{"/v1/embeddings", "{\"model\":\"a\\u0000b\"}", 400, "model",
		 "control character 0x00 at byte 1", "(line 1, column 10)"},
		{"/v1/embeddings", "{\"model\":\"a\\n\"}", 400, "model", "control character 0x0A",
		 NULL},
		{"/v1/embeddings", "{\"encoding_format\":\"base32\"}", 400, "encoding_format",
		 "encoding_format: expected \"float\" or \"base64\"", NULL},
		{"/v1/embeddings", "{\"encoding_format\":1}", 400, "encoding_format",
		 "encoding_format: expected", NULL},
		{"/v1/embeddings", "{\"dimensions\":0}", 400, "dimensions",
		 "dimensions: expected an integer of at least 1", NULL},
		{"/v1/embeddings", "{\"dimensions\":-3}", 400, "dimensions", "dimensions: ", NULL},
		{"/v1/embeddings", "{\"dimensions\":2.5}", 400, "dimensions", "dimensions: ", NULL},
		{"/v1/embeddings", "{\"dimensions\":4294967297}", 400, "dimensions",
		 "dimensions: ", NULL},
		{"/v1/embeddings", "{\"truncate\":\"yes\"}", 400, "truncate",
		 "truncate: expected true or false, found a string", NULL},
		{"/v1/embeddings", "{\"keep_alive\":\"soon\"}", 400, "keep_alive",
		 "keep_alive: expected a duration", NULL},
		{"/v1/embeddings", "{\"keep_alive\":[1]}", 400, "keep_alive", "keep_alive: ", NULL},
		{"/v1/embeddings", "{\"keep_alive\":\"5m\\u0000\"}", 400, "keep_alive",
		 "keep_alive: ", NULL},
		{"/embed", "{\"inputs\":[]}", 400, NULL, "inputs: is an empty array", NULL},
		{"/embed", "{}", 400, NULL, "inputs: is missing", NULL},
		{"/embed", "{\"inputs\":\"x\",\"truncation_direction\":\"up\"}", 400, NULL,
		 "truncation_direction: expected \"Left\" or \"Right\"", NULL},
		{"/embed", "{\"inputs\":\"x\",\"prompt_name\":\"query\"}", 422, NULL,
		 "prompt_name: prompts are not applied", NULL},
		{"/embed", "{\"inputs\":\"x\",\"normalize\":1}", 400, NULL,
		 "normalize: expected true or false", NULL},
		{"/api/embed", "{\"input\":\"x\"}", 400, NULL, "model: is missing", NULL},
		{"/api/embed", "{\"model\":\"m\",\"input\":[1]}", 400, NULL,
		 "input[0]: expected a string, found an integer", NULL},
		{"/api/embed", "{\"model\":\"m\",\"input\":[[1]]}", 400, NULL,
		 "input[0]: expected a string, found an array", NULL},
		{"/api/embeddings", "{\"model\":\"m\",\"prompt\":[\"a\"]}", 400, NULL,
		 "prompt: expected a string, found an array", NULL},
		{"/api/generate", "{\"model\":\"m\",\"prompt\":\"hi\"}", 422, NULL,
		 "text generation is not served", NULL},
		{"/api/generate", "{\"model\":\"m\",\"prompt\":1}", 400, NULL,
		 "prompt: expected a string", NULL},
		{"/models/load", "{}", 400, NULL, "model: is missing", NULL},
		{"/models/unload", "{}", 400, NULL, "name one model, or send", NULL},
		{"/models/unload", "{\"all\":true,\"model\":\"m\"}", 400, NULL,
		 "name one model, or send", NULL},
		{"/models/unload", "{\"model\":\"m\",\"drop_cache\":0}", 400, NULL,
		 "drop_cache: expected true or false", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_http_request request =
			help_request("POST", cases[i].path, NULL, cases[i].body);

		refused(&request, cases[i].status, cases[i].param, cases[i].part, cases[i].part2);
	}
}

static void limits_of_one_input(void **state)
{
	struct vac_http_request request;
	struct vac_call call;
	char body[600];
	size_t n;

	(void)state;
	for (int extra = 0; extra < 2; extra++) {
		snprintf(body, sizeof(body), "{\"model\":\"m\",\"input\":[\"\",\"%0*d\"]}",
			 100 + extra, 0);
		request = help_request("POST", "/v1/embeddings", NULL, body);
		if (extra)
			refused(&request, 413, "input", "input[1]: has 101 bytes",
				"at most 100 are accepted");
		else
			help_parse(&request, &call), vac_call_free(&call);
	}
	for (int extra = 0; extra < 2; extra++) {
		n = (size_t)snprintf(body, sizeof(body), "{\"model\":\"m\",\"input\":[0");
		for (int i = 1; i < 100 + extra; i++)
			n += (size_t)snprintf(body + n, sizeof(body) - n, ",1");
		snprintf(body + n, sizeof(body) - n, "]}");
		request = help_request("POST", "/v1/embeddings", NULL, body);
		if (extra)
			refused(&request, 413, "input", "input: has more than 100 token ids", NULL);
		else
			help_parse(&request, &call), vac_call_free(&call);
	}
}

static void long_model_name(void **state)
{
	struct vac_http_request request;
	char body[1100];

	(void)state;
	snprintf(body, sizeof(body), "{\"input\":\"\",\"model\":\"%01025d\"}", 0);
	request = help_request("POST", "/v1/embeddings", NULL, body);
	refused(&request, 400, "model", "has 1025 bytes", "at most 1024");
}

static void bad_routes(void **state)
{
	static const char *const empty_model[] = {"model", "", NULL};
	static const char *const control_model[] = {"model", "a\tb", NULL};
	static const char *const bad_limit[] = {"limit", "-1", NULL};
	static const char *const huge_limit[] = {"limit", "9999999999", NULL};
	static const struct {
		const char *method, *path;
		const char *const *query;
		int status;
		const char *part, *allow;
	} cases[] = {
		{"GET", "/v1/embeddings", NULL, 405, "use POST", "POST"},
		{"HEAD", "/v1/embeddings", NULL, 405, "use POST", "POST"},
		{"DELETE", "/v1/models/x", NULL, 405, "does not answer DELETE", "GET, HEAD"},
		{"post", "/v1/embeddings", NULL, 405, "use POST", "POST"},
		{"POST", "/v1/completions", NULL, 404, "nothing at /v1/completions", NULL},
		{"GET", "/v1/models/", NULL, 404, "nothing at /v1/models/", NULL},
		{"GET", "/api/show", NULL, 404, "nothing at /api/show", NULL},
		{"PUT", "/embed", NULL, 405, "use POST", "POST"},
		{"PUT", "/", NULL, 405, "use GET, HEAD, POST", "GET, HEAD, POST"},
		{"GET", "/embed_all", NULL, 404, "nothing at /embed_all", NULL},
		{"GET", "", NULL, 404, "nothing at", NULL},
		{"GET", "/models/", NULL, 404, "nothing at /models/", NULL},
		{"GET", "/\xff\"\n", NULL, 404, "nothing at /", NULL},
		{"GET", "/models/plan", NULL, 400, "model: is missing", NULL},
		{"GET", "/models/plan", empty_model, 400, "model: is empty", NULL},
		{"GET", "/models/plan", control_model, 400, "control character 0x09", NULL},
		{"GET", "/receipts", bad_limit, 400, "limit: expected a number", NULL},
		{"GET", "/receipts", huge_limit, 400, "limit: expected a number", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_http_request request =
			help_request(cases[i].method, cases[i].path, cases[i].query, NULL);
		struct vac_reply reply;
		struct vac_call call;

		refused(&request, cases[i].status, NULL, cases[i].part, NULL);
		assert_true(vac_api_parse(&request, &call, &reply) < 0);
		if (cases[i].allow)
			assert_string_equal(reply.allow, cases[i].allow);
		else
			assert_null(reply.allow);
		vac_reply_free(&reply);
	}
}

/* --- failures of the machine -------------------------------------------------------- */

/* One allocation fails, or (for_good) that one and all after it. */
static int parse_failing(const struct vac_http_request *request, unsigned long n, bool for_good)
{
	long before = fail_live();
	struct vac_reply reply;
	struct vac_call call;
	bool failed;
	int rc;

	if (for_good)
		fail_from(n);
	else
		fail_after(n);
	rc = vac_api_parse(request, &call, &reply);
	failed = fail_count() > n;
	fail_never();
	assert_int_equal(rc != 0, failed);
	if (rc == 0) {
		vac_call_free(&call);
	} else {
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(reply.status, 503);
		assert_int_equal(reply.body.bytes > 0, !for_good);
		vac_reply_free(&reply);
	}
	assert_int_equal(fail_live(), before);
	return rc;
}

static void parse_without_memory(void **state)
{
	static const struct {
		const char *path, *body;
		unsigned long least; /* allocations that there are at least */
	} cases[] = {
		{"/v1/embeddings",
		 "{\"input\":[\"one \\u00e9scaped text\",[1,2,3],\"two\"],"
		 "\"model\":\"some/model\",\"keep_alive\":\"5m\"}",
		 5},
		{"/embed", "{\"inputs\":\"a text that is long enough to need a bit of room\"}", 3},
		{"/api/embed", "{\"model\":\"m:latest\",\"input\":[\"a\",\"b\"]}", 4},
		{"/models/load", "{\"model\":\"\\u006d\"}", 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_http_request request =
			help_request("POST", cases[i].path, NULL, cases[i].body);

		for (int for_good = 0; for_good < 2; for_good++) {
			unsigned long n = 0;

			while (parse_failing(&request, n, for_good) != 0)
				n++;
			assert_true(n >= cases[i].least);
		}
	}
}

static void parse_cost(void **state)
{
	enum { ROUNDS = 200000 };
	struct vac_http_request request = help_request(
		"POST", "/v1/embeddings", NULL,
		"{\"input\": [\"How much memory comes back when a model is unloaded?\"], "
		"\"model\": \"sentence-transformers/all-MiniLM-L6-v2\", "
		"\"encoding_format\": \"base64\"}");
	struct vac_outcome outcome = {.rows = 1, .dimensions = 384, .tokens = 13};
	static float vector[384];
	int64_t start;

	(void)state;
	for (int i = 0; i < 384; i++)
		vector[i] = (float)(i - 190) * 0.00037f;
	outcome.vectors = vector;
	for (int base64 = 1; base64 >= 0; base64--) {
		int rounds = base64 ? ROUNDS : ROUNDS / 10;

		start = vac_now_ns();
		for (int i = 0; i < rounds; i++) {
			struct vac_reply reply;
			struct vac_call call;

			help_parse(&request, &call);
			call.base64 = base64;
			vac_api_render(&call, &outcome, &reply);
			assert_int_equal(reply.status, 200);
			vac_reply_free(&reply);
			vac_call_free(&call);
		}
		print_message("%.2f us to read a request and write 384 components as %s\n",
			      (double)(vac_now_ns() - start) / rounds / 1000,
			      base64 ? "base64" : "floats");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(openai_embeddings),
		cmocka_unit_test(openai_defaults),
		cmocka_unit_test(token_ids),
		cmocka_unit_test(many_inputs),
		cmocka_unit_test(tei_embed),
		cmocka_unit_test(ollama_bodies),
		cmocka_unit_test(ollama_truncate_off),
		cmocka_unit_test(plain_routes),
		cmocka_unit_test(unload_and_receipt_options),
		cmocka_unit_test(bad_json),
		cmocka_unit_test(bad_members),
		cmocka_unit_test(limits_of_one_input),
		cmocka_unit_test(long_model_name),
		cmocka_unit_test(bad_routes),
		cmocka_unit_test(parse_without_memory),
		cmocka_unit_test(parse_cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
