/*
 * test_kserve_replies.c - the Open Inference Protocol and llama-swap's routes: what
 * replies hold; with and without the binary form.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kserve_help.h"
#include "fail_alloc.h"

static const char *const no_pairs[] = {NULL};
static const float vectors[6] = {0.25f, -1.0f, 3.5f, 2.0f, 0.0f, -0.125f};
static const struct vac_outcome embedded = {
	.model = "org/m", .vectors = vectors, .rows = 2, .dimensions = 3, .tokens = 9};

static void render(const char *method, const char *path, const char *const *pairs, const char *body,
		   const struct vac_outcome *outcome, struct vac_reply *reply)
{
	struct vac_http_request request = ask(method, path, pairs, body);
	struct vac_call call;

	help_parse(&request, &call);
	vac_api_render(&call, outcome, reply);
	assert_true(vac_buf_ok(&reply->body));
	vac_call_free(&call);
}

/* The reply as jansson packs it back, members sorted: compared as text. */
static void assert_reply(const char *method, const char *path, const char *body,
			 const struct vac_outcome *outcome, int status, const char *expected)
{
	json_t *wanted = json_loads(expected, 0, NULL), *found;
	struct vac_reply reply;

	assert_non_null(wanted);
	render(method, path, no_pairs, body, outcome, &reply);
	assert_int_equal(reply.status, status);
	assert_string_equal(reply.content_type, "application/json");
	assert_int_equal(reply.header_bytes, 0);
	found = help_json(&reply);
	if (!found || !json_equal(found, wanted))
		fail_msg("%s: %.*s is not %s", path, (int)reply.body.bytes,
			 (const char *)reply.body.data, expected);
	json_decref(found);
	json_decref(wanted);
	vac_reply_free(&reply);
}

static void infer_replies(void **state)
{
	static const char expected[] =
		"{\"model_name\":\"org/m\",\"model_version\":\"1\",\"outputs\":[{\"name\":"
		"\"embedding\",\"datatype\":\"FP32\",\"shape\":[2,3],\"parameters\":"
		"{\"binary_data_size\":24}}]}";
	struct vac_reply reply;
	json_t *head, *wanted = json_loads(expected, 0, NULL);

	(void)state;
	assert_reply("POST", INFER, "{" GOOD "}", &embedded, 200,
		     "{\"model_name\":\"org/m\",\"model_version\":\"1\",\"outputs\":[{\"name\":"
		     "\"embedding\",\"datatype\":\"FP32\",\"shape\":[2,3],"
		     "\"data\":[0.25,-1.0,3.5,2.0,0.0,-0.125]}]}");
	assert_reply("POST", INFER, "{" GOOD ",\"id\":\"\\\"7\\\"\"}", &embedded, 200,
		     "{\"model_name\":\"org/m\",\"model_version\":\"1\",\"id\":\"\\\"7\\\"\","
		     "\"outputs\":[{\"name\":\"embedding\",\"datatype\":\"FP32\",\"shape\":[2,3],"
		     "\"data\":[0.25,-1.0,3.5,2.0,0.0,-0.125]}]}");

	render("POST", INFER, no_pairs, "{" GOOD ",\"parameters\":{\"binary_data_output\":true}}",
	       &embedded, &reply);
	assert_int_equal(reply.status, 200);
	assert_string_equal(reply.content_type, "application/octet-stream");
	assert_int_equal(reply.body.bytes, reply.header_bytes + 24);
	head = json_loadb((const char *)reply.body.data, reply.header_bytes, 0, NULL);
	assert_non_null(head);
	assert_true(json_equal(head, wanted));
	assert_memory_equal(reply.body.data + reply.header_bytes, vectors, 24);
	json_decref(head);
	json_decref(wanted);
	vac_reply_free(&reply);
}

static struct vac_model_view view(const char *name, enum vac_model_state state)
{
	return (struct vac_model_view){.name = name, .path = "/models/m", .state = state};
}

static void model_replies(void **state)
{
	struct vac_model_view model = view("org/m", VAC_MODEL_ABSENT);
	struct vac_outcome outcome = {.model = "org/m", .models = &model, .model_count = 1};
	static const char index[] = "/v2/repository/index";

	(void)state;
	model.planned = true;
	model.embedding_dimensions = 384;
	assert_reply("GET", "/v2/models/org/m", NULL, &outcome, 200,
		     "{\"name\":\"org/m\",\"versions\":[\"1\"],\"platform\":\"vacate_safetensors\","
		     "\"inputs\":[{\"name\":\"text\",\"datatype\":\"BYTES\",\"shape\":[-1]}],"
		     "\"outputs\":[{\"name\":\"embedding\",\"datatype\":\"FP32\","
		     "\"shape\":[-1,384]}]}");
	assert_reply("GET", "/v2/models/org/m/ready", NULL, &outcome, 503,
		     "{\"name\":\"org/m\",\"ready\":false,\"error\":\"the model is absent; a "
		     "request for it, or /load, makes it ready\"}");
	model.state = VAC_MODEL_RESIDENT;
	assert_reply("GET", "/v2/models/org/m/ready", NULL, &outcome, 200,
		     "{\"name\":\"org/m\",\"ready\":true}");
	assert_reply("POST", "/v2/repository/models/org/m/load", NULL, &outcome, 200,
		     "{\"name\":\"org/m\",\"load\":true}");
	outcome.models = NULL;
	outcome.model_count = 0;
	assert_reply("POST", "/v2/repository/models/org/m/unload", NULL, &outcome, 200,
		     "{\"name\":\"org/m\",\"unload\":true,\"receipts\":[]}");
	assert_reply("POST", index, NULL, &outcome, 200, "[]");
}

/* Clients choose from it: an alias has an entry of its own. */
#define ALIASES                                                                                    \
	"{\"name\":\"org/x\",\"version\":\"1\",\"state\":\"READY\",\"reason\":\"\"},"              \
	"{\"name\":\"y\",\"version\":\"1\",\"state\":\"READY\",\"reason\":\"\"}"

static void index_reply(void **state)
{
	struct vac_model_view models[] = {
		view("a", VAC_MODEL_RESIDENT), view("b", VAC_MODEL_ABSENT),
		view("c", VAC_MODEL_WAITING),  view("d", VAC_MODEL_LOADING),
		view("e", VAC_MODEL_DRAINING), view("f", VAC_MODEL_FAILED),
	};
	struct vac_outcome outcome = {.models = models, .model_count = 6};
	static const char index[] = "/v2/repository/index";
	static const char *const aliases[] = {"org/x", "y"};

	(void)state;
	models[5].reason = "no config.json";
	models[0].aliases = aliases;
	models[0].alias_count = 2;
	assert_reply(
		"POST", index, "{}", &outcome, 200,
		"[{\"name\":\"a\",\"version\":\"1\",\"state\":\"READY\",\"reason\":\"\"}," ALIASES
		",{\"name\":\"b\",\"version\":\"1\",\"state\":\"UNAVAILABLE\",\"reason\":"
		"\"unloaded\"},"
		"{\"name\":\"c\",\"version\":\"1\",\"state\":\"LOADING\",\"reason\":"
		"\"waits for room in memory\"},"
		"{\"name\":\"d\",\"version\":\"1\",\"state\":\"LOADING\",\"reason\":\"\"},"
		"{\"name\":\"e\",\"version\":\"1\",\"state\":\"UNLOADING\",\"reason\":\"\"},"
		"{\"name\":\"f\",\"version\":\"1\",\"state\":\"UNAVAILABLE\",\"reason\":"
		"\"no config.json\"}]");
	assert_reply(
		"POST", index, "{\"ready\":true}", &outcome, 200,
		"[{\"name\":\"a\",\"version\":\"1\",\"state\":\"READY\",\"reason\":\"\"}," ALIASES
		"]");
}

static void running_reply(void **state)
{
	struct vac_model_view models[] = {
		view("a", VAC_MODEL_RESIDENT), view("b", VAC_MODEL_RESIDENT),
		view("c", VAC_MODEL_LOADING),  view("d", VAC_MODEL_DRAINING),
		view("e", VAC_MODEL_FAILED),
	};
	struct vac_outcome outcome = {.models = models, .model_count = 5};

	(void)state;
	models[0].planned = true;
	models[0].architecture = "bert";
	models[0].expires_ns = INT64_C(290500000000); /* of 300 s */
	models[0].idle_ns = INT64_C(9500000000);
	models[1].expires_ns = -1;
	assert_reply(
		"GET", "/running", NULL, &outcome, 200,
		"{\"running\":[{\"model\":\"a\",\"state\":\"ready\",\"cmd\":\"\",\"proxy\":\"\","
		"\"ttl\":300,\"name\":\"a\",\"description\":\"bert\"},"
		"{\"model\":\"b\",\"state\":\"ready\",\"cmd\":\"\",\"proxy\":\"\",\"ttl\":0,"
		"\"name\":\"b\",\"description\":\"\"},"
		"{\"model\":\"c\",\"state\":\"starting\",\"cmd\":\"\",\"proxy\":\"\",\"ttl\":0,"
		"\"name\":\"c\",\"description\":\"\"},"
		"{\"model\":\"d\",\"state\":\"stopping\",\"cmd\":\"\",\"proxy\":\"\",\"ttl\":0,"
		"\"name\":\"d\",\"description\":\"\"}]}");
}

/* The list of llama.cpp's router beside our own. */
static void router_list(void **state)
{
	static const struct {
		enum vac_model_state state;
		const char *value;
	} cases[] = {
		{VAC_MODEL_ABSENT, "unloaded"}, {VAC_MODEL_WAITING, "loading"},
		{VAC_MODEL_LOADING, "loading"}, {VAC_MODEL_RESIDENT, "loaded"},
		{VAC_MODEL_DRAINING, "loaded"}, {VAC_MODEL_FAILED, "unloaded"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_model_view models[] = {view("x", cases[i].state),
						  view("y", cases[i].state)};
		struct vac_outcome outcome = {.models = models, .model_count = 2};
		static const char *const aliases[] = {"z"};
		const json_t *data, *second, *status;
		struct vac_reply reply;
		json_t *json;

		models[1].aliases = aliases;
		models[1].alias_count = 1;
		render("GET", "/models", no_pairs, NULL, &outcome, &reply);
		json = help_json(&reply);
		data = json_object_get(json, "data");
		second = json_array_get(data, 1);
		status = json_object_get(second, "status");
		assert_string_equal(json_string_value(json_object_get(json, "object")), "list");
		assert_int_equal(json_array_size(json_object_get(json, "models")), 2);
		assert_int_equal(json_array_size(data), 2);
		assert_string_equal(json_string_value(json_object_get(second, "id")), "y");
		assert_string_equal(
			json_string_value(json_array_get(json_object_get(second, "aliases"), 0)),
			"z");
		assert_string_equal(json_string_value(json_object_get(status, "value")),
				    cases[i].value);
		assert_int_equal(json_is_true(json_object_get(status, "failed")),
				 cases[i].state == VAC_MODEL_FAILED);
		json_decref(json);
		vac_reply_free(&reply);
	}
}

static void fixed_replies(void **state)
{
	struct vac_outcome nothing = {0};
	struct vac_reply reply;

	(void)state;
	assert_reply("GET", "/v2", NULL, &nothing, 200,
		     "{\"name\":\"vacate\",\"version\":\"" VAC_VERSION "\",\"extensions\":"
		     "[\"model_repository\",\"binary_tensor_data\"]}");
	assert_reply("GET", "/v2/health/live", NULL, &nothing, 200, "{\"live\":true}");
	assert_reply("GET", "/v2/health/ready", NULL, &nothing, 200, "{\"ready\":true}");
	assert_reply("POST", "/api/models/unload", NULL, &nothing, 200, "{\"msg\":\"ok\"}");
	for (int one = 0; one < 2; one++) {
		render(one ? "POST" : "GET", one ? "/api/models/unload/m" : "/unload", no_pairs,
		       NULL, &nothing, &reply);
		assert_int_equal(reply.status, 200);
		assert_string_equal(reply.content_type, "text/plain");
		assert_int_equal(reply.body.bytes, 2);
		assert_memory_equal(reply.body.data, "OK", 2);
		vac_reply_free(&reply);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(infer_replies), cmocka_unit_test(model_replies),
		cmocka_unit_test(index_reply),   cmocka_unit_test(running_reply),
		cmocka_unit_test(router_list),   cmocka_unit_test(fixed_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
