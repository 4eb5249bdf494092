/*
 * test_views.c - lists of models, plans, what is in memory, and receipts into replies:
 * what a strict JSON reader finds in them is what the outcome held.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/write.h"
#include "render_help.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(native_models),
		cmocka_unit_test(native_plan),
		cmocka_unit_test(ps),
		cmocka_unit_test(ollama_listings),
		cmocka_unit_test(openai_models),
		cmocka_unit_test(tei_info),
		cmocka_unit_test(receipts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
