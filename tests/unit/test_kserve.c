/*
 * test_kserve.c - the Open Inference Protocol and llama-swap's routes: which
 * model a path names, what a tensor may be, what is refused where; with and
 * without the binary form. Replies are in test_kserve_replies.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kserve_help.h"
#include "fail_alloc.h"

/* Refused with that status, {"error": message}, and all parts in the message. */
static void refused(const struct vac_http_request *request, int status, const char *part,
		    const char *part2)
{
	struct vac_reply reply;
	struct vac_call call;
	const char *message;
	json_t *json;

	if (vac_api_parse(request, &call, &reply) == 0)
		fail_msg("%s %s is taken", request->path, request->body ? request->body : "");
	assert_null(call.model);
	assert_null(call.id);
	assert_null(call.storage);
	json = help_json(&reply);
	message = json_string_value(json_object_get(json, "error"));
	if (!message || json_object_size(json) != 1)
		fail_msg("%.*s", (int)reply.body.bytes, (const char *)reply.body.data);
	if (reply.status != status || !strstr(message, part) || (part2 && !strstr(message, part2)))
		fail_msg("%s: %d \"%s\" is not %d with \"%s\" and \"%s\"",
			 request->body ? request->body : request->path, reply.status, message,
			 status, part, part2 ? part2 : "");
	json_decref(json);
	vac_reply_free(&reply);
}

/* --- paths ------------------------------------------------------------------------ */

static void names_in_paths(void **state)
{
	static const char body[] =
		"{\"inputs\":[{\"name\":\"text\",\"shape\":[1],\"datatype\":\"BYTES\","
		"\"data\":[\"x\"]}]}";
	static const struct {
		const char *method, *path;
		enum vac_call_kind kind;
		const char *model;
	} cases[] = {
		{"POST", "/v2/models/m/infer", VAC_CALL_TASK, "m"},
		{"POST", "/v2/models/org/m/infer", VAC_CALL_TASK, "org/m"},
		{"POST", "/v2/models/org/m/versions/1/infer", VAC_CALL_TASK, "org/m"},
		{"POST", "/v2/models/org/infer/infer", VAC_CALL_TASK, "org/infer"},
		{"GET", "/v2/models/m", VAC_CALL_PLAN, "m"},
		{"GET", "/v2/models/org/m", VAC_CALL_PLAN, "org/m"},
		{"HEAD", "/v2/models/org/m", VAC_CALL_PLAN, "org/m"},
		{"GET", "/v2/models/org/m/versions/1", VAC_CALL_PLAN, "org/m"},
		{"GET", "/v2/models/org/m/ready", VAC_CALL_SHOW, "org/m"},
		{"GET", "/v2/models/org/m/versions/1/ready", VAC_CALL_SHOW, "org/m"},
		{"GET", "/v2/models/org/ready", VAC_CALL_SHOW, "org"},
		{"GET", "/v2/models/org/ready/versions/1", VAC_CALL_PLAN, "org/ready"},
		{"GET", "/v2/models/org/ready/ready", VAC_CALL_SHOW, "org/ready"},
		{"GET", "/v2/models/ready", VAC_CALL_PLAN, "ready"},
		{"POST", "/v2/repository/models/org/m/load", VAC_CALL_LOAD, "org/m"},
		{"POST", "/v2/repository/models/load/load", VAC_CALL_LOAD, "load"},
		{"POST", "/v2/repository/models/org/m/unload", VAC_CALL_UNLOAD, "org/m"},
		{"POST", "/v2/repository/index", VAC_CALL_LIST, NULL},
		{"GET", "/v2", VAC_CALL_VERSION, NULL},
		{"GET", "/v2/health/live", VAC_CALL_HEALTH, NULL},
		{"GET", "/v2/health/ready", VAC_CALL_READY, NULL},
		{"GET", "/running", VAC_CALL_RUNNING, NULL},
		{"HEAD", "/running", VAC_CALL_RUNNING, NULL},
		{"GET", "/unload", VAC_CALL_UNLOAD_ALL, NULL},
		{"POST", "/api/models/unload", VAC_CALL_UNLOAD_ALL, NULL},
		{"POST", "/api/models/unload/org/m", VAC_CALL_UNLOAD, "org/m"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_http_request request = ask(cases[i].method, cases[i].path, NULL,
						      cases[i].kind == VAC_CALL_TASK ? body : NULL);
		struct vac_call call;

		help_parse(&request, &call);
		if (call.kind != cases[i].kind)
			fail_msg("%s: %d", cases[i].path, call.kind);
		if (cases[i].model)
			assert_string_equal(call.model, cases[i].model);
		else
			assert_null(call.model);
		vac_call_free(&call);
	}
}

static void bad_paths(void **state)
{
	static const struct {
		const char *method, *path;
		int status;
		const char *part, *allow;
	} cases[] = {
		/* the suffix decides before the method does */
		{"GET", "/v2/models/m/infer", 405, "use POST", "POST"},
		{"POST", "/v2/models/m/ready", 405, "use GET", "GET, HEAD"},
		{"POST", "/v2/models/m", 405, "use GET", "GET, HEAD"},
		{"GET", "/v2/repository/models/m/load", 405, "use POST", "POST"},
		{"GET", "/v2/repository/index", 405, "use POST", "POST"},
		{"GET", "/v2/models/m/versions/2", 404, "model m has no version 2", NULL},
		{"POST", "/v2/models/m/versions/2/infer", 404, "model m has no version 2", NULL},
		{"GET", "/v2/models/m/versions/11/ready", 404, "model m has no version 11", NULL},
		{"GET", "/v2/models/", 404, "nothing at", NULL},
		{"POST", "/v2/repository/models/load", 404, "nothing at", NULL},
		{"GET", "/v2/", 404, "nothing at", NULL},
		{"POST", "/v2/models/a\nb/infer", 400, "control character 0x0A", NULL},
		/* it changes something: HEAD is no way to ask for that */
		{"HEAD", "/unload", 405, "use GET", "GET"},
		{"POST", "/unload", 405, "use GET", "GET"},
		{"GET", "/api/models/unload", 405, "use POST", "POST"},
		{"GET", "/api/models/unload/m", 405, "use POST", "POST"},
		{"POST", "/api/models/unload/", 404, "nothing at", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_http_request request = ask(cases[i].method, cases[i].path, NULL, NULL);
		struct vac_reply reply;
		struct vac_call call;

		refused(&request, cases[i].status, cases[i].part, NULL);
		assert_true(vac_api_parse(&request, &call, &reply) < 0);
		if (cases[i].allow)
			assert_string_equal(reply.allow, cases[i].allow);
		else
			assert_null(reply.allow);
		vac_reply_free(&reply);
	}
}

/* --- what is taken ---------------------------------------------------------------- */

static void texts(void **state)
{
	static const char *const bodies[] = {
		"{\"inputs\":[{\"name\":\"text\",\"shape\":[3],\"datatype\":\"BYTES\","
		"\"data\":[\"a\\u0000b\",\"\",\"\\u00e9\"]}]}",
		"{\"inputs\":[{\"name\":\"text\",\"shape\":[3,1],\"datatype\":\"BYTES\","
		"\"data\":[\"a\\u0000b\",\"\",\"\\u00e9\"]}]}",
		/* the data first, and nested; what nobody knows is ignored */
		"{\"outputs\":[{\"name\":\"embedding\"}],\"x\":[{}],\"inputs\":[{\"data\":"
		"[[\"a\\u0000b\"], [\"\"],[\"\\u00e9\"]] ,\"y\":{\"data\":1},\"datatype\":"
		"\"BYTES\",\"shape\":[3,1],\"parameters\":{\"content_type\":\"str\"},"
		"\"name\":\"text\"}],\"parameters\":{\"priority\":1}}",
		"{\"outputs\":[],\"parameters\":null,\"id\":null,\"inputs\":[{\"name\":\"text\","
		"\"shape\":[3],\"datatype\":\"BYTES\",\"parameters\":null,"
		"\"data\":[\"a\\u0000b\",\"\",\"\\u00e9\"]}]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct vac_http_request request = ask("POST", INFER, NULL, bodies[i]);
		struct vac_call call;

		help_parse(&request, &call);
		assert_int_equal(call.input_count, 3);
		help_text(&call.inputs[0], "a\0b", 3);
		help_text(&call.inputs[1], "", 0);
		help_text(&call.inputs[2], "\xc3\xa9", 2);
		assert_int_equal(call.options.task, VAC_TASK_EMBED);
		assert_int_equal(call.options.normalize, VAC_NORMALIZE_MODEL);
		assert_int_equal(call.options.truncation, VAC_TRUNCATE_NONE);
		assert_false(call.binary);
		assert_false(call.timeout_set);
		assert_null(call.id);
		vac_call_free(&call);
	}
}

static void token_ids(void **state)
{
	static const char *const bodies[] = {
		"{\"inputs\":[{\"name\":\"input_ids\",\"shape\":[2,3.0],\"datatype\":\"INT64\","
		"\"data\":[[101,7,102],[0,1,2147483647]]}]}",
		"{\"inputs\":[{\"name\":\"input_ids\",\"shape\":[2,3],\"datatype\":\"INT32\","
		"\"data\":[101,7,102,0,1,2147483647]}]}",
	};
	static const int32_t expected[2][3] = {{101, 7, 102}, {0, 1, INT32_MAX}};

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct vac_http_request request = ask("POST", INFER, NULL, bodies[i]);
		struct vac_call call;

		help_parse(&request, &call);
		assert_int_equal(call.input_count, 2);
		for (size_t row = 0; row < 2; row++) {
			assert_int_equal(call.inputs[row].id_count, 3);
			assert_memory_equal(call.inputs[row].ids, expected[row],
					    sizeof(expected[row]));
		}
		vac_call_free(&call);
	}
}

static void parameters(void **state)
{
	static const char *const header[] = {"X-Request-Timeout", "7", NULL};
	struct vac_http_request request = ask(
		"POST", INFER, NULL,
		"{\"id\":\"a\\u0000\\\"b\",\"parameters\":{\"keep_alive\":\"10m\",\"normalize\":"
		"false,\"truncate\":true,\"dimensions\":8,\"timeout\":1500001,"
		"\"binary_data_output\":true,\"sequence_id\":\"s\",\"flag\":true,\"x\":1.5},"
		"\"inputs\":[{\"name\":\"text\",\"shape\":[1],\"datatype\":\"BYTES\","
		"\"data\":[\"x\"]}]}");
	struct vac_call call;

	(void)state;
	help_parse(&request, &call);
	assert_int_equal(call.keep_alive_ms, 600000);
	assert_int_equal(call.options.normalize, VAC_NORMALIZE_OFF);
	assert_int_equal(call.options.truncation, VAC_TRUNCATE_RIGHT);
	assert_int_equal(call.options.dimensions, 8);
	assert_true(call.timeout_set);
	assert_int_equal(call.timeout_ms, 1501); /* never less than was given */
	assert_true(call.binary);
	assert_int_equal(call.id_bytes, 4);
	assert_memory_equal(call.id, "a\0\"b", 4);
	vac_call_free(&call);

	request.ctx = (void *)(uintptr_t)header;
	help_parse(&request, &call);
	assert_int_equal(call.timeout_ms, 7000); /* the header goes before it */
	vac_call_free(&call);

	/* the output's own word goes before that for all */
	request = ask("POST", INFER, NULL,
		      "{\"parameters\":{\"binary_data_output\":true,\"timeout\":0},\"outputs\":"
		      "[{\"name\":\"embedding\",\"parameters\":{\"binary_data\":false}}],"
		      "\"inputs\":[{\"name\":\"text\",\"shape\":[1],\"datatype\":\"BYTES\","
		      "\"data\":[\"x\"]}]}");
	help_parse(&request, &call);
	assert_false(call.binary);
	assert_false(call.timeout_set);
	vac_call_free(&call);

	/* longer than anybody waits is for ever, as in the header */
	request = ask("POST", INFER, NULL,
		      "{\"parameters\":{\"timeout\":9223372036854775807},\"inputs\":"
		      "[{\"name\":\"text\",\"shape\":[1],\"datatype\":\"BYTES\","
		      "\"data\":[\"x\"]}]}");
	help_parse(&request, &call);
	assert_true(call.timeout_set);
	assert_int_equal(call.timeout_ms, -1);
	vac_call_free(&call);
}

/* --- the binary form -------------------------------------------------------------- */

#define BINARY(name, shape, type, size)                                                            \
	"{\"inputs\":[{\"name\":\"" name "\",\"shape\":" shape ",\"datatype\":\"" type             \
	"\",\"parameters\":{\"binary_data_size\":" size "}}]}"

/* A JSON head, binary bytes behind it, and the header that says where. */
struct binary_request {
	char head[32];
	const char *pairs[3];
	struct vac_buf body;
	struct vac_http_request request;
};

static void make_binary(struct binary_request *made, const char *json, const void *tail,
			size_t tail_bytes)
{
	made->body = VAC_BUF_INIT;
	vac_buf_puts(&made->body, json);
	vac_buf_put(&made->body, tail, tail_bytes);
	snprintf(made->head, sizeof(made->head), "%zu", strlen(json));
	made->pairs[0] = "Inference-Header-Content-Length";
	made->pairs[1] = made->head;
	made->pairs[2] = NULL;
	made->request = ask("POST", INFER, made->pairs, NULL);
	made->request.body = (const char *)made->body.data;
	made->request.body_bytes = made->body.bytes;
}

static void binary_texts(void **state)
{
	struct binary_request made;
	struct vac_call call;

	(void)state;
	make_binary(&made, BINARY("text", "[3,1]", "BYTES", "18"),
		    "\3\0\0\0a\0b\0\0\0\0\3\0\0\0\xc3\xa9!", 18);
	help_parse(&made.request, &call);
	vac_buf_free(&made.body);
	assert_int_equal(call.input_count, 3);
	help_text(&call.inputs[0], "a\0b", 3);
	help_text(&call.inputs[1], "", 0);
	help_text(&call.inputs[2], "\xc3\xa9!", 3);
	vac_call_free(&call);
}

static void binary_ids(void **state)
{
	static const int32_t expected[4] = {101, 256, 0, INT32_MAX};
	static const uint8_t narrow[] = {101, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 255, 255, 255, 127};
	uint8_t wide[32] = {0};

	(void)state;
	for (size_t i = 0; i < 4; i++)
		memcpy(wide + i * 8, narrow + i * 4, 4);
	for (int is_wide = 0; is_wide < 2; is_wide++) {
		struct binary_request made;
		struct vac_call call;

		if (is_wide)
			make_binary(&made, BINARY("input_ids", "[2,2]", "INT64", "32"), wide, 32);
		else
			make_binary(&made, BINARY("input_ids", "[2,2]", "INT32", "16"), narrow, 16);
		help_parse(&made.request, &call);
		vac_buf_free(&made.body);
		assert_int_equal(call.input_count, 2);
		assert_int_equal(call.inputs[0].id_count, 2);
		assert_memory_equal(call.inputs[0].ids, expected, 8);
		assert_memory_equal(call.inputs[1].ids, expected + 2, 8);
		vac_call_free(&call);
	}
}

static void bad_binary(void **state)
{
	static const struct {
		const char *json, *tail;
		size_t tail_bytes;
		int status;
		const char *part, *part2;
	} cases[] = {
		{BINARY("text", "[1]", "BYTES", "6"), "\1\0\0\0a", 5, 400,
		 "inputs[0].parameters.binary_data_size: is 6 where 5 bytes follow", "(line 1"},
		{BINARY("text", "[1]", "BYTES", "3"), "\1\0\0", 3, 400,
		 "text 0 at byte 0 of the binary data reaches beyond its end at 3", NULL},
		{BINARY("text", "[1]", "BYTES", "5"), "\2\0\0\0a", 5, 400,
		 "text 0 at byte 0 of the binary data reaches beyond", NULL},
		{BINARY("text", "[1]", "BYTES", "5"), "\xff\xff\xff\xff_", 5, 400, "reaches beyond",
		 NULL},
		{BINARY("text", "[2]", "BYTES", "5"), "\1\0\0\0a", 5, 400, "text 1 at byte 5",
		 NULL},
		{BINARY("text", "[1]", "BYTES", "6"), "\1\0\0\0ab", 6, 400,
		 "goes on at byte 5 after the 1 texts", NULL},
		{BINARY("text", "[1]", "BYTES", "5"), "\1\0\0\0\xff", 5, 400,
		 "text 0 at byte 4 of the binary data is not UTF-8", NULL},
		{BINARY("input_ids", "[1,2]", "INT32", "4"), "\1\0\0\0", 4, 400,
		 "binary_data_size: is 4 where the shape needs 8", NULL},
		{BINARY("input_ids", "[1,1]", "INT32", "4"), "\0\0\0\x80", 4, 400,
		 "-2147483648 at byte 0 of the binary data is no token id", NULL},
		{BINARY("input_ids", "[1,1]", "INT64", "8"), "\0\0\0\x80\0\0\0\0", 8, 400,
		 "2147483648 at byte 0 of the binary data is no token id", NULL},
		{BINARY("text", "[1]", "BYTES", "-1"), "", 0, 400,
		 "binary_data_size: expected a number of bytes", NULL},
		{"{\"inputs\":[{\"name\":\"text\",\"shape\":[1],\"datatype\":\"BYTES\","
		 "\"data\":[\"x\"]}]}",
		 "tail", 4, 400, "binary_data_size: is missing, and 4 bytes follow", NULL},
		{"{\"inputs\":[{\"name\":\"text\",\"shape\":[1],\"datatype\":\"BYTES\","
		 "\"data\":[\"x\"],\"parameters\":{\"binary_data_size\":4}}]}",
		 "tail", 4, 400, "binary_data_size: is there beside data", NULL},
	};
	char long_text[105] = "\x65\0\0\0";
	struct binary_request made;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make_binary(&made, cases[i].json, cases[i].tail, cases[i].tail_bytes);
		refused(&made.request, cases[i].status, cases[i].part, cases[i].part2);
		vac_buf_free(&made.body);
	}
	memset(long_text + 4, 'a', 101);
	make_binary(&made, BINARY("text", "[1]", "BYTES", "105"), long_text, sizeof(long_text));
	refused(&made.request, 413, "text 0 has 101 bytes where at most 100 are accepted", NULL);
	vac_buf_free(&made.body);
}

static void bad_header(void **state)
{
	static const struct {
		const char *value, *part;
	} cases[] = {
		{"", "expected a number of bytes"},
		{"-1", "expected a number of bytes, not '-1'"},
		{"12x", "expected a number of bytes"},
		{"200", "is more than the 107 bytes of the body"},
		{"99999999999999999999999999", "is more than the 107 bytes"},
		{"0", "is empty where a JSON object was expected"},
		{"5", "no closing quote"},
	};
	static const char body[] = BINARY("text", "[1]", "BYTES", "0");
	struct vac_http_request request;

	(void)state;
	assert_int_equal(strlen(body), 95); /* and twelve spaces, below */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *pairs[] = {"Inference-Header-Content-Length", cases[i].value, NULL};

		request = ask("POST", INFER, pairs,
			      BINARY("text", "[1]", "BYTES", "0") "            ");
		refused(&request, 400, cases[i].part, NULL);
	}
	request = ask("POST", INFER, NULL, body);
	refused(&request, 400, "needs the header Inference-Header-Content-Length", NULL);
}

/* --- what is refused -------------------------------------------------------------- */

static void bad_tensors(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *part, *part2;
	} cases[] = {
		{"", 400, "is empty where a JSON object", NULL},
		{"{}", 400, "inputs: is missing", NULL},
		{"{\"inputs\":{}}", 400, "inputs: expected an array, found an object",
		 "(line 1, column 11)"},
		{"{\"inputs\":[]}", 400, "inputs: is empty", NULL},
		{"{\"inputs\":[1]}", 400, "inputs[0]: expected an object, found an integer", NULL},
		{"{" GOOD ",\"inputs\":[]}", 400, "inputs: is there twice", NULL},
		{"{\"inputs\":[{" TEXT "\"shape\":[1],\"data\":[\"x\"]},{}]}", 400,
		 "inputs[1]: there is one input", "(line 1, column 72)"},
		{TENSOR(""), 400, "inputs[0].name: is missing", "(line 1, column 13)"},
		{TENSOR("\"name\":\"text\""), 400, "inputs[0].shape: is missing", NULL},
		{TENSOR("\"name\":\"text\",\"shape\":[1]"), 400, "inputs[0].datatype: is missing",
		 NULL},
		{TENSOR(TEXT "\"shape\":[1]"), 400, "inputs[0].data: is missing", NULL},
		{TENSOR("\"name\":\"text\",\"name\":\"text\""), 400,
		 "inputs[0].name: is there twice", NULL},
		{TENSOR("\"name\":7"), 400, "inputs[0].name: expected \"text\" or \"input_ids\"",
		 "(line 1, column 20)"},
		{TENSOR("\"name\":\"attention_mask\""), 400, "inputs[0].name: expected \"text\"",
		 NULL},
		{TENSOR("\"datatype\":\"FP32\""), 400,
		 "inputs[0].datatype: expected \"BYTES\" for texts", NULL},
		{TENSOR("\"datatype\":\"bytes\""), 400, "inputs[0].datatype: expected", NULL},
		{TENSOR("\"name\":\"text\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[1]"), 400,
		 "inputs[0].datatype: is not that of \"text\", which takes BYTES",
		 "(line 1, column 38)"},
		{TENSOR("\"name\":\"input_ids\",\"datatype\":\"BYTES\",\"shape\":[1,1],"
			"\"data\":[1]"),
		 400, "inputs[0].datatype: is not that of \"input_ids\"", "INT64 or INT32"},
		{TENSOR("\"shape\":3"), 400, "inputs[0].shape: expected an array", NULL},
		{TENSOR("\"shape\":[]"), 400, "inputs[0].shape: is empty", NULL},
		{TENSOR("\"shape\":[1,1,1]"), 400, "inputs[0].shape: has more than 2 dimensions",
		 NULL},
		{TENSOR("\"shape\":[1,-1]"), 400,
		 "inputs[0].shape[1]: expected an integer of at least 0", "(line 1, column 24)"},
		{TENSOR("\"shape\":[1.5]"), 400, "inputs[0].shape[0]: expected an integer", NULL},
		{TENSOR("\"shape\":[\"1\"]"), 400, "inputs[0].shape[0]: expected an integer", NULL},
		{TENSOR("\"shape\":[99999999999999999999]"), 400,
		 "inputs[0].shape[0]: expected an integer", NULL},
		{TENSOR(TEXT "\"shape\":[0],\"data\":[]"), 400, "inputs[0].shape: holds a 0", NULL},
		{TENSOR(IDS "\"shape\":[1,0],\"data\":[]"), 400, "inputs[0].shape: holds a 0",
		 NULL},
		{TENSOR(TEXT "\"shape\":[1,2],\"data\":[\"a\",\"b\"]"), 400,
		 "inputs[0].shape: expected [n] or [n,1]", NULL},
		{TENSOR(IDS "\"shape\":[2],\"data\":[1,2]"), 400,
		 "inputs[0].shape: expected [n,length]", NULL},
		{TENSOR(TEXT "\"shape\":[5],\"data\":[\"\",\"\",\"\",\"\",\"\"]"), 413,
		 "inputs[0].shape: has 5 rows where at most 4 are accepted", "(line 1, column 54)"},
		{TENSOR(IDS "\"shape\":[1,101],\"data\":[]"), 413,
		 "inputs[0].shape: has 101 token ids a row where at most 100", NULL},
		{TENSOR(IDS "\"shape\":[4,9223372036854775807],\"data\":[]"), 413,
		 "has 9223372036854775807 token ids a row", NULL},
		/* the data against the shape */
		{TENSOR(TEXT "\"shape\":[1],\"data\":\"x\""), 400,
		 "inputs[0].data: expected an array, found a string", NULL},
		{TENSOR(TEXT "\"shape\":[2],\"data\":[\"x\"]"), 400,
		 "inputs[0].data: ends after 0 elements of row 1 where the shape says 2 rows of 1",
		 "(line 1, column 69)"},
		{TENSOR(TEXT "\"shape\":[1],\"data\":[\"x\",\"y\"]"), 400,
		 "inputs[0].data: has more elements than the shape says", NULL},
		{TENSOR(TEXT "\"shape\":[1],\"data\":[]"), 400, "inputs[0].data: ends after 0",
		 NULL},
		{TENSOR(TEXT "\"shape\":[1],\"data\":[[\"x\"]]"), 400,
		 "inputs[0].data[0]: expected a string, found an array", NULL},
		{TENSOR(TEXT "\"shape\":[2],\"data\":[\"x\",7]"), 400,
		 "inputs[0].data[1]: expected a string, found an integer", "(line 1, column 70)"},
		{TENSOR(TEXT "\"shape\":[2,1],\"data\":[[\"x\"],\"y\"]"), 400,
		 "inputs[0].data[1]: expected an array as the rows before, found a string", NULL},
		{TENSOR(TEXT "\"shape\":[2,1],\"data\":[[\"x\"]]"), 400,
		 "inputs[0].data: has 1 rows where the shape says 2", NULL},
		{TENSOR(TEXT "\"shape\":[1,1],\"data\":[[\"x\",\"y\"]]"), 400,
		 "inputs[0].data[0]: has more than the 1 elements", NULL},
		{TENSOR(TEXT "\"shape\":[1,1],\"data\":[[\"x\"],[\"y\"]]"), 400,
		 "inputs[0].data: has more elements than the shape says", NULL},
		{TENSOR(TEXT "\"shape\":[1,1],\"data\":[[[\"x\"]]]"), 400,
		 "inputs[0].data[0]: expected a string, found an array", NULL},
		{TENSOR(IDS "\"shape\":[1,2],\"data\":[1]"), 400,
		 "ends after 1 elements of row 0 where the shape says 1 rows of 2", NULL},
		{TENSOR(IDS "\"shape\":[2,2],\"data\":[[1,2],[3]]"), 400,
		 "ends after 1 elements of row 1", NULL},
		{TENSOR(IDS "\"shape\":[1,2],\"data\":[1,-2]"), 400,
		 "inputs[0].data[0][1]: expected a token id, an integer from 0 to 2147483647",
		 "(line 1, column 75)"},
		{TENSOR(IDS "\"shape\":[1,1],\"data\":[1.5]"), 400,
		 "inputs[0].data[0][0]: expected a token id", NULL},
		{TENSOR(IDS "\"shape\":[1,1],\"data\":[\"1\"]"), 400,
		 "inputs[0].data[0][0]: expected a token id", NULL},
		{TENSOR(TEXT "\"shape\":[1],\"data\":[\"x\""), 400, "found '}'", NULL},
		{TENSOR(TEXT "\"shape\":[1],\"data\":"), 400, "found '}'", NULL},
		/* the rest */
		{"{" GOOD ",\"id\":5}", 400, "id: expected a string, found an integer", NULL},
		{"{" GOOD ",\"outputs\":{}}", 400, "outputs: expected an array", NULL},
		{"{" GOOD ",\"outputs\":[\"embedding\"]}", 400,
		 "outputs[0]: expected an object, found a string", NULL},
		{"{" GOOD ",\"outputs\":[{}]}", 400, "outputs[0].name: is missing", NULL},
		{"{" GOOD ",\"outputs\":[{\"name\":\"logits\"}]}", 400,
		 "outputs[0].name: expected \"embedding\"", NULL},
		{"{" GOOD ",\"outputs\":[{\"name\":\"embedding\"},{\"name\":\"embedding\"}]}", 400,
		 "outputs[1]: there is one output", NULL},
		{"{" GOOD ",\"outputs\":[{\"name\":\"embedding\",\"parameters\":"
		 "{\"classification\":2}}]}",
		 422, "outputs[0].parameters.classification: an embedding has no classes", NULL},
		{"{" GOOD ",\"outputs\":[{\"name\":\"embedding\",\"parameters\":"
		 "{\"shared_memory_region\":\"r\"}}]}",
		 422, "outputs[0].parameters.shared_memory_region: shared memory is not", NULL},
		{"{" GOOD ",\"outputs\":[{\"name\":\"embedding\",\"parameters\":"
		 "{\"binary_data\":1}}]}",
		 400, "outputs[0].parameters.binary_data: expected true or false", NULL},
		{TENSOR(TEXT "\"shape\":[1],\"parameters\":{\"shared_memory_region\":\"r\"}"), 422,
		 "inputs[0].parameters.shared_memory_region: shared memory is not", NULL},
		{"{" GOOD ",\"parameters\":[]}", 400, "parameters: expected an object", NULL},
		{"{" GOOD ",\"parameters\":{\"x\":{\"y\":1}}}", 400,
		 "parameters.\"x\": expected a string, a number or a boolean, found an object",
		 NULL},
		{"{" GOOD ",\"parameters\":{\"x\":[1]}}", 400, "parameters.\"x\": expected", NULL},
		{"{" GOOD ",\"parameters\":{\"timeout\":-1}}", 400,
		 "parameters.timeout: expected a number of microseconds", NULL},
		{"{" GOOD ",\"parameters\":{\"dimensions\":0}}", 400,
		 "parameters.dimensions: ", NULL},
		{"{" GOOD ",\"parameters\":{\"keep_alive\":\"soon\"}}", 400,
		 "parameters.keep_alive: expected a duration", NULL},
		{"{" GOOD ",\"parameters\":{\"normalize\":1}}", 400,
		 "parameters.normalize: expected true or false", NULL},
		{"{" GOOD ",\"parameters\":{\"truncate\":1,\"truncate\":2}}", 400,
		 "parameters.truncate: expected", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_http_request request = ask("POST", INFER, NULL, cases[i].body);

		refused(&request, cases[i].status, cases[i].part, cases[i].part2);
	}
}

static void repository_bodies(void **state)
{
	static const char load[] = "/v2/repository/models/m/load";
	static const char unload[] = "/v2/repository/models/m/unload";
	struct vac_http_request request;
	struct vac_call call;

	(void)state;
	request = ask("POST", load, NULL, "{\"parameters\":{\"keep_alive\":-1}}");
	help_parse(&request, &call);
	assert_true(call.keep_alive_set && call.keep_alive_ms < 0);
	vac_call_free(&call);
	request = ask("POST", load, NULL, "{\"parameters\":{\"config\":\"{}\"}}");
	refused(&request, 422, "parameters.config: a checkpoint's own configuration", NULL);
	request = ask("POST", load, NULL, "{\"parameters\":[]}");
	refused(&request, 400, "parameters: expected an object, found an array", NULL);
	request = ask("POST", load, NULL, "nonsense");
	refused(&request, 400, "a value was expected", "(line 1, column 1)");
	request = ask("POST", unload, NULL,
		      "{\"parameters\":{\"unload_dependents\":false,\"drop_cache\":true}}");
	help_parse(&request, &call);
	assert_true(call.drop_cache);
	vac_call_free(&call);
	request = ask("POST", "/v2/repository/index", NULL, "{\"ready\":true}");
	help_parse(&request, &call);
	assert_true(call.ready_only);
	vac_call_free(&call);
	request = ask("POST", "/v2/repository/index", NULL, "{\"ready\":1}");
	refused(&request, 400, "ready: expected true or false, found an integer", NULL);
}

static void autoload(void **state)
{
	static const struct {
		const char *value;
		bool off;
	} taken[] = {{"false", true}, {"0", true}, {"true", false}, {"1", false}};
	const char *pairs[] = {"autoload", NULL, NULL};
	struct vac_http_request request;
	struct vac_call call;

	(void)state;
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
		pairs[1] = taken[i].value;
		request = ask("POST", INFER, pairs, "{" GOOD "}");
		help_parse(&request, &call);
		assert_int_equal(call.no_autoload, taken[i].off);
		vac_call_free(&call);
	}
	pairs[1] = "no";
	request = ask("POST", INFER, pairs, "{" GOOD "}");
	refused(&request, 400, "autoload: expected true, 1, false or 0, not 'no'", NULL);
	/* of what loads nothing by itself it is not asked */
	request = ask("GET", "/v2/models/m", pairs, NULL);
	help_parse(&request, &call);
	vac_call_free(&call);
}

/* --- failures of the machine ------------------------------------------------------ */

static int parse_failing(const struct vac_http_request *request, unsigned long n)
{
	long before = fail_live();
	struct vac_reply reply;
	struct vac_call call;
	int rc;

	fail_after(n);
	rc = vac_api_parse(request, &call, &reply);
	fail_never();
	if (rc == 0) {
		vac_call_free(&call);
	} else {
		assert_int_equal(reply.status, 503);
		vac_reply_free(&reply);
	}
	assert_int_equal(fail_live(), before);
	return rc;
}

static void parse_without_memory(void **state)
{
	static const char *const bodies[] = {
		"{\"id\":\"\\u0069d\",\"inputs\":[{" TEXT
		"\"shape\":[2],\"data\":[\"\\u00e9\",\"two\"]}]}",
		"{\"inputs\":[{" IDS "\"shape\":[2,2],\"data\":[[1,2],[3,4]]}]}",
	};
	struct binary_request made;
	unsigned long n;

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct vac_http_request request = ask("POST", INFER, NULL, bodies[i]);

		for (n = 0; parse_failing(&request, n) != 0;)
			n++;
		assert_true(n >= 4);
	}
	make_binary(&made, BINARY("text", "[1]", "BYTES", "5"), "\1\0\0\0a", 5);
	for (n = 0; parse_failing(&made.request, n) != 0;)
		n++;
	assert_true(n >= 4);
	vac_buf_free(&made.body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_in_paths),
		cmocka_unit_test(bad_paths),
		cmocka_unit_test(texts),
		cmocka_unit_test(token_ids),
		cmocka_unit_test(parameters),
		cmocka_unit_test(binary_texts),
		cmocka_unit_test(binary_ids),
		cmocka_unit_test(bad_binary),
		cmocka_unit_test(bad_header),
		cmocka_unit_test(bad_tensors),
		cmocka_unit_test(repository_bodies),
		cmocka_unit_test(autoload),
		cmocka_unit_test(parse_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
