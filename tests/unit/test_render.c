/*
 * test_render.c - outcomes into replies: what a strict JSON reader finds in
 * them is what the outcome held; errors have each family's shape and status;
 * and a reply that cannot be allocated is still an answer.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/write.h"
#include "api_help.h"
#include "fail_alloc.h"

static void parse(const char *method, const char *path, const char *body, struct vac_call *call)
{
	struct vac_http_request request = help_request(method, path, NULL, body);
	struct vac_reply reply;

	if (vac_api_parse(&request, call, &reply) != 0)
		fail_msg("%s: %.*s", path, (int)reply.body.bytes, (const char *)reply.body.data);
}

/* What the family of method, path and body answers to that outcome. */
static json_t *answer(const char *method, const char *path, const char *body,
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

static const json_t *at(const json_t *json, const char *path)
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

static void assert_int_at(const json_t *json, const char *path, int64_t value)
{
	const json_t *found = at(json, path);

	if (!json_is_integer(found) || json_integer_value(found) != value)
		fail_msg("%s is not %lld", path, (long long)value);
}

static void assert_real_at(const json_t *json, const char *path, double value)
{
	const json_t *found = at(json, path);

	if (!json_is_number(found) || fabs(json_number_value(found) - value) > 1e-9)
		fail_msg("%s is %f, not %f", path, json_number_value(found), value);
}

static void assert_text_at(const json_t *json, const char *path, const char *value)
{
	const char *found = json_string_value(at(json, path));

	if (!found || strcmp(found, value) != 0)
		fail_msg("%s is %s, not %s", path, found ? found : "no string", value);
}

static void assert_null_at(const json_t *json, const char *path)
{
	if (!json_is_null(at(json, path)))
		fail_msg("%s is not null", path);
}

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

/* --- models ------------------------------------------------------------------------ */

static struct vac_model_view resident_model(void)
{
	struct vac_model_view model = {
		.name = "org/name \"quoted\"\n",
		.path = "/models/\xff/x",
		.priority = -7,
		.pinned = true,
		.state = VAC_MODEL_RESIDENT,
		.device = "cpu",
		.worker_pid = 4242,
		.planned = true,
		.architecture = "bert",
		.dtype = "F32",
		.pooling = "mean",
		.normalize = true,
		.parameters = 22713216,
		.hidden_size = 384,
		.layers = 6,
		.heads = 12,
		.vocab_size = 30522,
		.embedding_dimensions = 384,
		.max_tokens = 256,
		.load_ns = 123456789,
		.stage_ns = {1000, 2000000, 3000000, 4000000, 5000000, 6000000},
		.start_ns = 7500000,
		.idle_ns = 1500000000,
		.expires_ns = 298500000000,
		.modified_s = 1700000000,
		.requests = 9,
		.queued = 2,
	};

	assert_int_equal(vac_plan_add(&model.plan, VAC_REGION_PACKED, false, 8192), 0);
	assert_int_equal(vac_plan_add(&model.plan, VAC_REGION_SCRATCH, false, 4096), 0);
	assert_int_equal(vac_plan_add(&model.plan, VAC_REGION_WEIGHTS, true, 12288), 0);
	model.plan.file_bytes = 90868376;
	model.plan.load_bytes = 1048576;
	return model;
}

static void assert_resident(const json_t *json)
{
	assert_text_at(json, "name", "org/name \"quoted\"\n");
	assert_text_at(json, "path", "/models/\xef\xbf\xbd/x"); /* U+FFFD for a broken byte */
	assert_int_at(json, "priority", -7);
	assert_true(json_is_true(at(json, "pinned")));
	assert_true(json_is_false(at(json, "isolate")));
	assert_text_at(json, "state", "resident");
	assert_null_at(json, "reason");
	assert_text_at(json, "device", "cpu");
	assert_int_at(json, "worker_pid", 4242);
	assert_int_at(json, "plan.host_bytes", 12288);
	assert_int_at(json, "plan.own_host_bytes", 8192);
	assert_int_at(json, "plan.device_bytes", 12288);
	assert_int_at(json, "plan.file_bytes", 90868376);
	assert_int_at(json, "plan.load_bytes", 1048576);
	assert_int_equal(json_array_size(at(json, "plan.items")), 3);
	assert_text_at(json, "plan.items.0.kind", "packed");
	assert_text_at(json, "plan.items.1.kind", "scratch");
	assert_text_at(json, "plan.items.2.kind", "weights");
	assert_int_at(json, "plan.items.2.bytes", 12288);
	assert_true(json_is_false(at(json, "plan.items.0.on_device")));
	assert_true(json_is_true(at(json, "plan.items.2.on_device")));
	assert_text_at(json, "architecture", "bert");
	assert_text_at(json, "dtype", "F32");
	assert_text_at(json, "pooling", "mean");
	assert_true(json_is_true(at(json, "normalize")));
	assert_int_at(json, "parameters", 22713216);
	assert_int_at(json, "hidden_size", 384);
	assert_int_at(json, "layers", 6);
	assert_int_at(json, "heads", 12);
	assert_int_at(json, "vocab_size", 30522);
	assert_int_at(json, "embedding_dimensions", 384);
	assert_int_at(json, "max_tokens", 256);
	assert_null_at(json, "load");
	assert_real_at(json, "load_ms", 123.456);
	assert_real_at(json, "stages_ms.start", 7.5);
	assert_real_at(json, "stages_ms.open", 0.001);
	assert_real_at(json, "stages_ms.tokenizer", 2);
	assert_real_at(json, "stages_ms.map", 3);
	assert_real_at(json, "stages_ms.read", 4);
	assert_real_at(json, "stages_ms.pack", 5);
	assert_real_at(json, "stages_ms.warm", 6);
	assert_int_at(json, "idle_ms", 1500);
	assert_int_at(json, "expires_ms", 298500);
	assert_int_at(json, "requests", 9);
	assert_int_at(json, "queued", 2);
}

static void native_models(void **state)
{
	struct vac_model_view models[] = {
		resident_model(),
		{.name = "absent", .path = "/a"},
		{.name = "loading",
		 .path = "/l",
		 .state = VAC_MODEL_LOADING,
		 .load_done_bytes = 10,
		 .load_total_bytes = 30},
		{.name = "failed", .path = "/f", .state = VAC_MODEL_FAILED, .reason = "no room"},
	};
	struct vac_outcome outcome = {.models = models, .model_count = 4};
	json_t *json = answer("GET", "/models", NULL, &outcome, 200);

	(void)state;
	assert_int_equal(json_array_size(at(json, "models")), 4);
	assert_resident(at(json, "models.0"));
	assert_text_at(json, "models.1.state", "absent");
	for (size_t i = 1; i < 4; i++) {
		static const char *const unknown[] = {
			"device",     "worker_pid", "plan",       "architecture",
			"dtype",      "pooling",    "normalize",  "parameters",
			"layers",     "heads",      "vocab_size", "embedding_dimensions",
			"max_tokens", "load_ms",    "stages_ms",  "idle_ms",
			"expires_ms", "hidden_size"};

		for (size_t k = 0; k < sizeof(unknown) / sizeof(unknown[0]); k++)
			assert_null_at(json_array_get(at(json, "models"), i), unknown[k]);
	}
	assert_text_at(json, "models.2.state", "loading");
	assert_int_at(json, "models.2.load.done_bytes", 10);
	assert_int_at(json, "models.2.load.total_bytes", 30);
	assert_text_at(json, "models.3.reason", "no room");
	json_decref(json);

	outcome.model_count = 1;
	models[0].expires_ns = -1;
	json = answer("POST", "/models/load", "{\"model\":\"m\"}", &outcome, 200);
	assert_true(json_is_true(at(json, "success")));
	assert_int_at(json, "model.worker_pid", 4242);
	assert_null_at(json, "model.expires_ms");
	json_decref(json);
}

static void native_plan(void **state)
{
	static const char *const query[] = {"model", "m", NULL};
	struct vac_http_request request = help_request("GET", "/models/plan", query, NULL);
	struct vac_model_view model = resident_model();
	struct vac_outcome outcome = {.models = &model, .model_count = 1};
	struct vac_reply reply;
	struct vac_call call;
	json_t *json;

	(void)state;
	assert_int_equal(vac_api_parse(&request, &call, &reply), 0);
	vac_api_render(&call, &outcome, &reply);
	json = help_json(&reply);
	assert_resident(json);
	json_decref(json);
	vac_reply_free(&reply);
	vac_call_free(&call);
}

static void ps(void **state)
{
	struct vac_model_view model = resident_model();
	struct vac_worker_view worker = {.device = "cpu",
					 .description = "oneDNN",
					 .sandbox = "seccomp, landlock 7",
					 .pid = 4242,
					 .models = 1,
					 .usage = {.valid = true,
						   .rss_bytes = 1,
						   .pss_bytes = 2,
						   .pss_anon_bytes = 3,
						   .pss_file_bytes = 4,
						   .pss_shmem_bytes = 5,
						   .uss_bytes = 6,
						   .swap_bytes = 7}};
	struct vac_usage unknown = {0};
	struct vac_host_memory host = {.total_valid = true,
				       .available_valid = true,
				       .total_bytes = UINT64_C(1) << 40,
				       .available_bytes = 99};
	struct vac_outcome outcome = {.models = &model,
				      .model_count = 1,
				      .workers = &worker,
				      .worker_count = 1,
				      .server_usage = &unknown,
				      .host = &host};
	json_t *json = answer("GET", "/models/ps", NULL, &outcome, 200);

	(void)state;
	assert_resident(at(json, "models.0"));
	assert_text_at(json, "workers.0.device", "cpu");
	assert_text_at(json, "workers.0.description", "oneDNN");
	assert_text_at(json, "workers.0.sandbox", "seccomp, landlock 7");
	assert_int_at(json, "workers.0.pid", 4242);
	assert_int_at(json, "workers.0.models", 1);
	assert_int_at(json, "workers.0.usage.rss_bytes", 1);
	assert_int_at(json, "workers.0.usage.pss_bytes", 2);
	assert_int_at(json, "workers.0.usage.pss_anon_bytes", 3);
	assert_int_at(json, "workers.0.usage.pss_file_bytes", 4);
	assert_int_at(json, "workers.0.usage.pss_shmem_bytes", 5);
	assert_int_at(json, "workers.0.usage.uss_bytes", 6);
	assert_int_at(json, "workers.0.usage.swap_bytes", 7);
	assert_int_at(json, "server.pid", getpid());
	assert_null_at(json, "server.usage");
	assert_int_at(json, "host.total_bytes", INT64_C(1) << 40);
	assert_int_at(json, "host.available_bytes", 99);
	assert_null_at(json, "host.cgroup_limit_bytes");
	assert_null_at(json, "host.cgroup_used_bytes");
	json_decref(json);
}

static void ollama_listings(void **state)
{
	struct vac_model_view models[] = {resident_model(),
					  {.name = "absent", .path = "/a", .modified_s = 5}};
	struct vac_outcome outcome = {.models = models, .model_count = 2};
	json_t *json = answer("GET", "/api/ps", NULL, &outcome, 200), *again;

	(void)state;
	assert_int_equal(json_array_size(at(json, "models")), 1);
	assert_int_at(json, "models.0.size", 24576);
	assert_int_at(json, "models.0.size_vram", 12288);
	assert_int_at(json, "models.0.context_length", 256);
	assert_text_at(json, "models.0.details.format", "safetensors");
	assert_text_at(json, "models.0.details.family", "bert");
	assert_text_at(json, "models.0.details.families.0", "bert");
	assert_text_at(json, "models.0.details.parameter_size", "22.7M");
	assert_text_at(json, "models.0.details.quantization_level", "F32");
	assert_int_equal(strlen(json_string_value(at(json, "models.0.digest"))), 64);
	assert_int_equal(strspn(json_string_value(at(json, "models.0.digest")), "0123456789abcdef"),
			 64);
	assert_int_equal(strlen(json_string_value(at(json, "models.0.expires_at"))), 24);

	/* the digest follows the checkpoint, and for ever is far away */
	models[0].modified_s++;
	models[0].expires_ns = -1;
	again = answer("GET", "/api/ps", NULL, &outcome, 200);
	assert_string_not_equal(json_string_value(at(json, "models.0.digest")),
				json_string_value(at(again, "models.0.digest")));
	assert_memory_equal(json_string_value(at(again, "models.0.expires_at")), "2262-", 5);
	json_decref(again);
	json_decref(json);

	json = answer("GET", "/api/tags", NULL, &outcome, 200);
	assert_int_equal(json_array_size(at(json, "models")), 2);
	assert_int_at(json, "models.0.size", 90868376);
	assert_text_at(json, "models.0.modified_at", "2023-11-14T22:13:21.000Z");
	assert_text_at(json, "models.1.name", "absent");
	assert_text_at(json, "models.1.details.parameter_size", "");
	json_decref(json);
}

static void openai_models(void **state)
{
	struct vac_model_view models[] = {{.name = "org/a", .modified_s = 1700000000},
					  {.name = "b"}};
	struct vac_outcome outcome = {.models = models, .model_count = 2};
	json_t *json = answer("GET", "/v1/models", NULL, &outcome, 200);

	(void)state;
	assert_text_at(json, "object", "list");
	assert_text_at(json, "data.0.id", "org/a");
	assert_text_at(json, "data.0.object", "model");
	assert_int_at(json, "data.0.created", 1700000000);
	assert_text_at(json, "data.0.owned_by", "vacate");
	assert_text_at(json, "data.1.id", "b");
	json_decref(json);
	json = answer("GET", "/v1/models/org/a", NULL, &outcome, 200);
	assert_text_at(json, "id", "org/a");
	json_decref(json);
	json = answer("GET", "/v1/models/org", NULL, &outcome, 404);
	assert_text_at(json, "error.code", "model_not_found");
	json_decref(json);
}

static void tei_info(void **state)
{
	struct vac_model_view models[] = {{.name = "absent"}, resident_model()};
	struct vac_outcome outcome = {.models = models, .model_count = 2};
	json_t *json = answer("GET", "/info", NULL, &outcome, 200);

	(void)state;
	assert_text_at(json, "model_id", "org/name \"quoted\"\n");
	assert_text_at(json, "model_dtype", "F32");
	assert_text_at(json, "model_type.embedding.pooling", "mean");
	assert_int_at(json, "max_input_length", 256);
	json_decref(json);
	models[1].state = VAC_MODEL_ABSENT;
	json = answer("GET", "/info", NULL, &outcome, 400);
	assert_non_null(strstr(json_string_value(at(json, "error")), "2 models could be meant"));
	json_decref(json);
	outcome.model_count = 1;
	json = answer("GET", "/info", NULL, &outcome, 200);
	assert_text_at(json, "model_id", "absent");
	assert_null_at(json, "max_input_length");
	json_decref(json);
}

/* --- receipts ------------------------------------------------------------------------ */

static struct vac_receipt sample_receipt(void)
{
	return (struct vac_receipt){
		.id = 7,
		.model = "org/name",
		.device = "cpu",
		.reason = VAC_UNLOAD_IDLE,
		.wall_ns = INT64_C(1769861100123456789), /* 2026-01-31T12:05:00.123Z */
		.resident_ns = 12345678901,
		.unload_ns = 18765432,
		.requests = 3,
		.planned_bytes = 100000,
		.ledger_bytes = 99000,
		.worker_pid = 4242,
		.worker_exited = true,
		.worker_before = {.valid = true, .uss_bytes = 120000, .rss_bytes = 150000},
		.worker_after = {.valid = true},
		.server_before = {.valid = true, .uss_bytes = 5000},
		.server_after = {.valid = false},
		.page_cache_valid = true,
		.page_cache_bytes = 90868376,
	};
}

static void assert_receipt(const json_t *json)
{
	assert_int_at(json, "id", 7);
	assert_text_at(json, "model", "org/name");
	assert_text_at(json, "device", "cpu");
	assert_text_at(json, "reason", "idle");
	assert_text_at(json, "at", "2026-01-31T12:05:00.123Z");
	assert_int_at(json, "resident_ms", 12345);
	assert_real_at(json, "unload_ms", 18.765);
	assert_int_at(json, "requests", 3);
	assert_int_at(json, "planned_bytes", 100000);
	assert_int_at(json, "ledger_bytes", 99000);
	assert_int_at(json, "returned_bytes", 120000);
	assert_int_at(json, "unaccounted_bytes", 0);
	assert_int_at(json, "worker.pid", 4242);
	assert_true(json_is_true(at(json, "worker.exited")));
	assert_int_at(json, "worker.before.uss_bytes", 120000);
	assert_int_at(json, "worker.before.rss_bytes", 150000);
	assert_int_at(json, "worker.after.uss_bytes", 0);
	assert_int_at(json, "server.before.uss_bytes", 5000);
	assert_null_at(json, "server.after");
	assert_int_at(json, "page_cache_bytes", 90868376);
	assert_true(json_is_false(at(json, "page_cache_dropped")));
}

static void receipts(void **state)
{
	struct vac_receipt list[2] = {sample_receipt(), sample_receipt()};
	struct vac_outcome outcome = {.receipts = list, .receipt_count = 2};
	struct vac_buf line = VAC_BUF_INIT;
	json_t *json;

	(void)state;
	list[1].worker_before.valid = false;
	list[1].page_cache_valid = false;
	list[1].page_cache_dropped = true;
	/* a name that fills its field has no NUL */
	memset(list[1].model, 'x', sizeof(list[1].model));
	json = answer("GET", "/receipts", NULL, &outcome, 200);
	assert_receipt(at(json, "receipts.0"));
	assert_null_at(json, "receipts.1.returned_bytes");
	assert_null_at(json, "receipts.1.unaccounted_bytes");
	assert_null_at(json, "receipts.1.worker.before");
	assert_null_at(json, "receipts.1.page_cache_bytes");
	assert_true(json_is_true(at(json, "receipts.1.page_cache_dropped")));
	assert_int_equal(strlen(json_string_value(at(json, "receipts.1.model"))),
			 sizeof(list[1].model));
	json_decref(json);

	json = answer("POST", "/models/unload", "{\"model\":\"m\"}", &outcome, 200);
	assert_true(json_is_true(at(json, "success")));
	assert_receipt(at(json, "receipts.0"));
	json_decref(json);

	/* the journal's line */
	vac_receipt_json(&line, &list[0]);
	assert_null(memchr(line.data, '\n', line.bytes));
	json = json_loadb((const char *)line.data, line.bytes, JSON_REJECT_DUPLICATES, NULL);
	assert_receipt(json);
	json_decref(json);
	vac_buf_free(&line);
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
		cmocka_unit_test(native_models),
		cmocka_unit_test(native_plan),
		cmocka_unit_test(ps),
		cmocka_unit_test(ollama_listings),
		cmocka_unit_test(openai_models),
		cmocka_unit_test(tei_info),
		cmocka_unit_test(receipts),
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
