/*
 * test_render.c - outcomes into replies: what a strict JSON reader finds in
 * them is what the outcome held; errors have each family's shape and status;
 * and a reply that cannot be allocated is still an answer. Lists of models are in
 * test_views.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/write.h"
#include "render_help.h"
#include "fail_alloc.h"

static const float vectors[6] = {0.25f, -1.0f, 3.1415927f, 1e-30f, 0.0f, -0.1f};
static const struct vac_outcome embedded = {
	.model = "org/resolved",
	.vectors = vectors,
	.rows = 2,
	.dimensions = 3,
	.tokens = 17,
	.total_ns = 5000000,
	.load_ns = 1000000,
};

static void assert_vector(const json_t *row, size_t index)
{
	assert_int_equal(json_array_size(row), 3);
	for (size_t i = 0; i < 3; i++) {
		const json_t *value = json_array_get(row, i);

		assert_true(json_is_real(value));
		assert_true((float)json_real_value(value) == vectors[index * 3 + i]);
	}
}

static void openai_floats(void **state)
{
	json_t *json = answer("POST", "/v1/embeddings",
			      "{\"model\":\"asked\",\"input\":[\"a\",\"b\"]}", &embedded, 200);

	(void)state;
	assert_text_at(json, "object", "list");
	assert_text_at(json, "model", "org/resolved");
	assert_int_at(json, "usage.prompt_tokens", 17);
	assert_int_at(json, "usage.total_tokens", 17);
	assert_int_equal(json_array_size(at(json, "data")), 2);
	for (size_t i = 0; i < 2; i++) {
		const json_t *row = json_array_get(at(json, "data"), i);

		assert_text_at(row, "object", "embedding");
		assert_int_at(row, "index", (int64_t)i);
		assert_vector(at(row, "embedding"), i);
	}
	json_decref(json);
}

static void openai_base64(void **state)
{
	/* Python: base64.b64encode(struct.pack("<3f", ...)) */
	static const char *const rows[] = {"AACAPgAAgL/bD0lA", "YEKiDQAAAADNzMy9"};
	json_t *json =
		answer("POST", "/v1/embeddings",
		       "{\"model\":\"m\",\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\"}",
		       &embedded, 200);

	(void)state;
	assert_text_at(json, "data.0.embedding", rows[0]);
	assert_text_at(json, "data.1.embedding", rows[1]);
	json_decref(json);
}

static void not_finite(void **state)
{
	static const float odd[3] = {NAN, INFINITY, 1.0f};
	struct vac_outcome outcome = {.vectors = odd, .rows = 1, .dimensions = 3};
	json_t *json = answer("POST", "/embed", "{\"inputs\":\"x\"}", &outcome, 200);

	(void)state;
	assert_null_at(json, "0.0");
	assert_null_at(json, "0.1");
	assert_real_at(json, "0.2", 1.0);
	json_decref(json);
}

static void tei_rows(void **state)
{
	json_t *json = answer("POST", "/embed", "{\"inputs\":[\"a\",\"b\"]}", &embedded, 200);

	(void)state;
	assert_int_equal(json_array_size(json), 2);
	assert_vector(json_array_get(json, 0), 0);
	assert_vector(json_array_get(json, 1), 1);
	json_decref(json);
}

static void ollama_replies(void **state)
{
	struct vac_outcome nothing = {.model = "m"};
	json_t *json;

	(void)state;
	json = answer("POST", "/api/embed", "{\"model\":\"m\",\"input\":[\"a\",\"b\"]}", &embedded,
		      200);
	assert_text_at(json, "model", "org/resolved");
	assert_vector(at(json, "embeddings.0"), 0);
	assert_vector(at(json, "embeddings.1"), 1);
	assert_int_at(json, "total_duration", 5000000);
	assert_int_at(json, "load_duration", 1000000);
	assert_int_at(json, "prompt_eval_count", 17);
	json_decref(json);

	json = answer("POST", "/api/embed", "{\"model\":\"m\",\"input\":[]}", &nothing, 200);
	assert_int_equal(json_array_size(at(json, "embeddings")), 0);
	json_decref(json);

	json = answer("POST", "/api/embeddings", "{\"model\":\"m\",\"prompt\":\"a\"}", &embedded,
		      200);
	assert_vector(at(json, "embedding"), 0);
	json_decref(json);

	json = answer("POST", "/api/generate", "{\"model\":\"m\"}", &nothing, 200);
	assert_text_at(json, "model", "m");
	assert_true(json_is_true(at(json, "done")));
	assert_text_at(json, "done_reason", "load");
	assert_text_at(json, "response", "");
	assert_int_equal(strlen(json_string_value(at(json, "created_at"))), 24);
	json_decref(json);

	json = answer("POST", "/api/generate", "{\"model\":\"m\",\"keep_alive\":0}", &nothing, 200);
	assert_text_at(json, "done_reason", "unload");
	json_decref(json);

	json = answer("GET", "/api/version", NULL, &nothing, 200);
	assert_text_at(json, "version", VAC_VERSION);
	json_decref(json);
}

/* --- texts without JSON -------------------------------------------------------------- */

static void plain_texts(void **state)
{
	static const struct {
		const char *path, *type, *body;
	} cases[] = {
		{"/healthz", "application/json", "{\"status\":\"ok\"}"},
		{"/health", "application/json", ""},
		{"/", "text/plain", "Vacate is running"},
		{"/metrics", "text/plain; version=0.0.4; charset=utf-8", ""},
	};
	struct vac_outcome outcome = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_reply reply;
		struct vac_call call;

		parse("GET", cases[i].path, NULL, &call);
		vac_api_render(&call, &outcome, &reply);
		assert_int_equal(reply.status, 200);
		assert_string_equal(reply.content_type, cases[i].type);
		assert_int_equal(reply.body.bytes, strlen(cases[i].body));
		if (reply.body.bytes)
			assert_memory_equal(reply.body.data, cases[i].body, reply.body.bytes);
		vac_reply_free(&reply);
		vac_call_free(&call);
	}
}

/* --- errors -------------------------------------------------------------------------- */

static void errors_of_outcomes(void **state)
{
	static const struct {
		enum vac_error_code code;
		int native, openai, tei, ollama;
		const char *type, *name, *error_type;
	} cases[] = {
		{VAC_E_INVALID, 400, 400, 400, 400, "invalid_request_error", "invalid",
		 "Validation"},
		{VAC_E_NOT_FOUND, 404, 404, 404, 404, "invalid_request_error", "model_not_found",
		 "Validation"},
		{VAC_E_UNSUPPORTED, 422, 422, 422, 422, "invalid_request_error", "unsupported",
		 "Validation"},
		{VAC_E_CORRUPT, 422, 422, 422, 422, "invalid_request_error", "corrupt",
		 "Validation"},
		{VAC_E_TOO_LARGE, 413, 400, 413, 400, "invalid_request_error",
		 "context_length_exceeded", "Validation"},
		{VAC_E_NO_ROOM, 503, 503, 503, 503, "server_error", "no_room", "Unhealthy"},
		{VAC_E_BUSY, 429, 429, 429, 429, "rate_limit_error", "rate_limit_exceeded",
		 "Overloaded"},
		{VAC_E_IO, 500, 500, 424, 500, "server_error", "io", "Backend"},
		{VAC_E_TIMEOUT, 504, 504, 504, 504, "server_error", "timeout", "Backend"},
		{VAC_E_GONE, 503, 503, 503, 503, "server_error", "gone", "Unhealthy"},
		{VAC_E_CANCELLED, 503, 503, 503, 503, "server_error", "cancelled", "Unhealthy"},
		{VAC_E_INTERNAL, 500, 500, 424, 500, "server_error", "internal", "Backend"},
	};
	const char *message = "line one\nsays \"no\" \xc3\xa9 \xff\x01";
	const char *shown = "line one\nsays \"no\" \xc3\xa9 \xef\xbf\xbd\x01";

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_outcome outcome = {.retry_after_s = 3};
		json_t *json;

		vac_fail(&outcome.error, cases[i].code, "%s", message);
		vac_error_detail(&outcome.error, "more");
		json = answer("POST", "/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\"}",
			      &outcome, cases[i].openai);
		assert_text_at(json, "error.message", shown);
		assert_text_at(json, "error.type", cases[i].type);
		assert_text_at(json, "error.code", cases[i].name);
		assert_null_at(json, "error.param");
		json_decref(json);
		json = answer("POST", "/embed", "{\"inputs\":\"x\"}", &outcome, cases[i].tei);
		assert_text_at(json, "error", shown);
		assert_text_at(json, "error_type", cases[i].error_type);
		json_decref(json);
		json = answer("POST", "/api/embed", "{\"model\":\"m\",\"input\":\"x\"}", &outcome,
			      cases[i].ollama);
		assert_text_at(json, "error", shown);
		json_decref(json);
		json = answer("POST", "/models/load", "{\"model\":\"m\"}", &outcome,
			      cases[i].native);
		assert_text_at(json, "error.message", shown);
		assert_text_at(json, "error.code", vac_error_name(cases[i].code));
		assert_text_at(json, "error.detail", "more");
		json_decref(json);
	}
}

static void errors_before_a_call(void **state)
{
	static const char *const paths[] = {"/v1/embeddings", "/embed", "/api/embed", "/models",
					    "/elsewhere"};
	struct vac_error err;

	(void)state;
	vac_fail(&err, VAC_E_TOO_LARGE, "the body is too large");
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct vac_reply reply;
		json_t *json;

		vac_api_error(paths[i], &err, 9, &reply);
		assert_int_equal(reply.status, 413);
		assert_int_equal(reply.retry_after_s, 9);
		json = help_json(&reply);
		assert_text_at(json, i == 1 || i == 2 ? "error" : "error.message",
			       "the body is too large");
		json_decref(json);
		vac_reply_free(&reply);
	}
}

static void empty_is_named(void **state)
{
	struct vac_http_request request = help_request("POST", "/embed", NULL, "{\"inputs\":[]}");
	struct vac_reply reply;
	struct vac_call call;
	json_t *json;

	(void)state;
	assert_true(vac_api_parse(&request, &call, &reply) < 0);
	json = help_json(&reply);
	assert_text_at(json, "error_type", "Empty");
	json_decref(json);
	vac_reply_free(&reply);
}

/* --- parts --------------------------------------------------------------------------- */

static void base64_vectors(void **state)
{
	/* RFC 4648, section 10 */
	static const char *const cases[][2] = {
		{"", ""},
		{"f", "Zg=="},
		{"fo", "Zm8="},
		{"foo", "Zm9v"},
		{"foob", "Zm9vYg=="},
		{"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"},
	};
	static const uint8_t all[] = {0xff, 0xef, 0xbe, 0xfb, 0xff};
	struct vac_buf buf = VAC_BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vac_buf_reset(&buf);
		vac_put_base64(&buf, cases[i][0], strlen(cases[i][0]));
		assert_int_equal(buf.bytes, strlen(cases[i][1]));
		if (buf.bytes)
			assert_memory_equal(buf.data, cases[i][1], buf.bytes);
	}
	vac_buf_reset(&buf);
	vac_put_base64(&buf, all, sizeof(all));
	assert_int_equal(buf.bytes, 8);
	assert_memory_equal(buf.data,
			    "/+++"
			    "+/8=",
			    8);
	vac_buf_free(&buf);
}

static void numbers_and_times(void **state)
{
	struct vac_buf buf = VAC_BUF_INIT;
	const char *expected =
		"0 18446744073709551615 -9223372036854775808 9223372036854775807 0.000 -0.001 "
		"1.999 -9223372036854.775 \"1970-01-01T00:00:00.000Z\" "
		"\"1969-12-31T23:59:59.999Z\" \"2000-02-29T23:59:59.999Z\"";

	(void)state;
	vac_put_u64(&buf, 0);
	vac_buf_putc(&buf, ' ');
	vac_put_u64(&buf, UINT64_MAX);
	vac_buf_putc(&buf, ' ');
	vac_put_i64(&buf, INT64_MIN);
	vac_buf_putc(&buf, ' ');
	vac_put_i64(&buf, INT64_MAX);
	vac_buf_putc(&buf, ' ');
	vac_put_ms(&buf, 0);
	vac_buf_putc(&buf, ' ');
	vac_put_ms(&buf, -1000);
	vac_buf_putc(&buf, ' ');
	vac_put_ms(&buf, 1999999);
	vac_buf_putc(&buf, ' ');
	vac_put_ms(&buf, INT64_MIN);
	vac_buf_putc(&buf, ' ');
	vac_put_time(&buf, 0);
	vac_buf_putc(&buf, ' ');
	vac_put_time(&buf, -1);
	vac_buf_putc(&buf, ' ');
	vac_put_time(&buf, INT64_C(951868799999999999));
	vac_buf_putc(&buf, '\0');
	assert_string_equal((const char *)buf.data, expected);
	vac_buf_free(&buf);
}

/* Whatever three bytes are written, it is JSON, and what is UTF-8 comes back as
 * it was. (17 is prime to 256: every byte occurs in every place.) */
static void any_string(void **state)
{
	struct vac_buf buf = VAC_BUF_INIT;

	(void)state;
	for (uint32_t i = 0; i < 1u << 24; i += 17) {
		char text[4] = {(char)i, (char)(i >> 8), (char)(i >> 16), 0};
		json_t *direct, *json;

		vac_buf_reset(&buf);
		vac_buf_putc(&buf, '[');
		vac_put_string(&buf, text, 3);
		vac_buf_putc(&buf, ']');
		json = json_loadb((const char *)buf.data, buf.bytes, JSON_ALLOW_NUL, NULL);
		if (!json)
			fail_msg("%06x: no JSON", i);
		direct = json_stringn(text, 3); /* NULL: no UTF-8 */
		if (direct && !json_equal(json_array_get(json, 0), direct))
			fail_msg("%06x: changed", i);
		if (!direct &&
		    !strstr(json_string_value(json_array_get(json, 0)), "\xef\xbf\xbd") &&
		    !memchr(text, 0, 3))
			fail_msg("%06x: no U+FFFD", i);
		json_decref(direct);
		json_decref(json);
	}
	vac_buf_free(&buf);
}

/* --- without memory ------------------------------------------------------------------ */

/* One allocation fails, or (for_good) that one and all after it. */
static int render_failing(const struct vac_call *call, const struct vac_outcome *outcome,
			  unsigned long n, bool for_good)
{
	long before = fail_live();
	struct vac_reply reply;
	int status;

	if (for_good)
		fail_from(n);
	else
		fail_after(n);
	vac_api_render(call, outcome, &reply);
	assert_int_equal(reply.status, fail_count() > n ? 503 : 200);
	fail_never();
	assert_true(vac_buf_ok(&reply.body));
	status = reply.status;
	if (status != 200 && for_good) {
		assert_int_equal(reply.body.bytes, 0);
	} else {
		json_t *json = help_json(&reply);

		if (status != 200)
			assert_text_at(json, "error.code", "no_room");
		else
			assert_int_equal(json_array_size(at(json, "data")), 3);
		json_decref(json);
	}
	vac_reply_free(&reply);
	assert_int_equal(fail_live(), before);
	return status;
}

static void render_without_memory(void **state)
{
	static float wide[3000];
	struct vac_outcome outcome = {.vectors = wide, .rows = 3, .dimensions = 1000};
	struct vac_error err;
	struct vac_reply reply;
	struct vac_call call;

	(void)state;
	parse("POST", "/v1/embeddings", "{\"model\":\"m\",\"input\":\"x\"}", &call);
	for (int for_good = 0; for_good < 2; for_good++) {
		unsigned long n = 0;

		while (render_failing(&call, &outcome, n, for_good) != 200)
			n++;
		assert_true(n >= 2);
	}
	vac_call_free(&call);

	/* an error without memory keeps its status */
	vac_fail(&err, VAC_E_BUSY, "full");
	fail_from(0);
	vac_api_error("/v1/embeddings", &err, 1, &reply);
	fail_never();
	assert_int_equal(reply.status, 429);
	assert_int_equal(reply.retry_after_s, 1);
	assert_int_equal(reply.body.bytes, 0);
	vac_reply_free(&reply);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(openai_floats),
		cmocka_unit_test(openai_base64),
		cmocka_unit_test(not_finite),
		cmocka_unit_test(tei_rows),
		cmocka_unit_test(ollama_replies),
		cmocka_unit_test(plain_texts),
		cmocka_unit_test(errors_of_outcomes),
		cmocka_unit_test(errors_before_a_call),
		cmocka_unit_test(empty_is_named),
		cmocka_unit_test(base64_vectors),
		cmocka_unit_test(numbers_and_times),
		cmocka_unit_test(any_string),
		cmocka_unit_test(render_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
