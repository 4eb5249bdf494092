/*
 * test_cuda.c - the cuda backend without a GPU: all of its host code runs on the fake of
 * fake_cuda.c, through the engine. Vectors against the truth, plan against ledger, models
 * that come and go beside others, at any step of a load.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cuda_world.h"
#include "driver/cuda.h"
#include "memory/meter.h"

#define MIB ((uint64_t)1 << 20)

static void test_vectors(void **state)
{
	(void)state;
	const struct tiny_options all[] = {
		{.seed = 1},
		{.seed = 2, .prefix = "bert.", .normalize = true, .hidden_act = "relu"},
		{.seed = 3, .hidden = 48, .heads = 3, .intermediate = 200, .pooling = "cls_token"},
		{.seed = 4, .hidden = 20, .heads = 4, .intermediate = 7, .dense_out = 13},
		{.seed = 5, .hidden = 1000, .heads = 8, .pooling = "max_tokens"},
		{.seed = 6, .hidden_act = "gelu_new", .pooling = "mean_sqrt_len_tokens"},
		{.seed = 7, .dtype = TINY_F16, .hidden = 36, .heads = 4},
		{.seed = 8, .dtype = TINY_BF16, .dense_out = 5},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const char *dir = tiny_write("model", &all[i]);
		static float vectors[WORLD_TEXTS * 2048];
		struct vac_error err = {0};
		struct vac_model *model;
		fake_cuda_reset();
		struct vac_engine *engine = world_engine(NULL);
		if (world_load(engine, 1, dir, &model, &err) < 0 ||
		    world_embed(engine, model, vectors, &err) < 0)
			fail_msg("%s", err.message);
		world_truth(vectors);
		assert_string_equal(vac_model_info(model)->dtype, "float32");
		assert_string_equal(vac_engine_device(engine), "cuda:0");
		assert_non_null(strstr(vac_engine_description(engine), "Fake GPU, sm_90"));
		vac_model_close(model, NULL);
		world_nothing_is_left(engine);
		vac_engine_close(engine);
	}
}

/* A plan touches no device; its regions are whole granules, and the ledger's. */
static void test_plan(void **state)
{
	(void)state;
	const struct tiny_options options = {
		.seed = 1, .hidden = 256, .intermediate = 1024, .dense_out = 24};
	const char *dir = tiny_write("model", &options);
	const char *const dtypes[] = {"float32", "float16", "bfloat16"};
	uint64_t float32_bytes = 0;
	for (size_t i = 0; i < 3; i++) {
		struct vac_plan plan = {0};
		struct vac_model_info info;
		struct vac_error err = {0};
		struct vac_model *model;
		uint64_t freed;
		fake_cuda_reset();
		struct vac_engine *engine = world_engine(dtypes[i]);
		assert_int_equal(vac_engine_plan(engine, dir, NULL, &plan, &info, &err), 0);
		assert_int_equal(fake_cuda.calls, 0);
		assert_int_equal(fake_cuda.blas_calls, 0);
		assert_string_equal(info.dtype, dtypes[i]);
		uint64_t device = vac_plan_bytes(&plan, true);
		assert_true(device >= 6 * MIB && device % (2 * MIB) == 0);
		if (i == 0)
			float32_bytes = device;
		else
			assert_true(device < float32_bytes);
		if (i == 0) {
			assert_int_equal(world_load(engine, 7, dir, &model, &err), 0);
			const struct vac_ledger *ledger = vac_engine_ledger(engine);
			assert_int_equal(ledger->count, plan.count);
			assert_int_equal(ledger->device_bytes, device);
			assert_int_equal(ledger->host_bytes, vac_plan_bytes(&plan, false));
			assert_int_equal(fake_cuda.used_bytes, device);
			/* the ring is not; what two batches are sent and bring is */
			assert_int_equal(fake_cuda.registered, 4);
			vac_model_close(model, &freed);
			assert_int_equal(freed, device + vac_plan_bytes(&plan, false));
		}
		world_nothing_is_left(engine);
		vac_engine_close(engine);
	}
}

/* One of two goes: its bytes go, the other answers on; then the context. */
static void test_neighbours(void **state)
{
	(void)state;
	static float vectors[WORLD_TEXTS * 2048];
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	struct vac_model *a, *b;
	fake_cuda_reset();
	struct vac_engine *engine = world_engine("float32");
	assert_int_equal(world_load(engine, 1, dir, &a, &err), 0);
	uint64_t alone = fake_cuda.used_bytes;
	assert_int_equal(world_load(engine, 2, dir, &b, &err), 0);
	assert_int_equal(fake_cuda.used_bytes, alone + vac_plan_own_bytes(vac_model_plan(b), true));
	vac_model_close(a, NULL);
	assert_int_equal(fake_cuda.used_bytes, alone);
	assert_int_equal(fake_cuda.contexts, 1);
	if (world_embed(engine, b, vectors, &err) < 0)
		fail_msg("%s", err.message);
	world_truth(vectors);
	vac_model_close(b, NULL);
	world_nothing_is_left(engine);
	/* and again, in the same engine */
	assert_int_equal(world_load(engine, 3, dir, &a, &err), 0);
	assert_int_equal(world_embed(engine, a, vectors, &err), 0);
	world_truth(vectors);
	vac_engine_close(engine);
	assert_int_equal(fake_cuda_live(), 0);
}

/* A file that is cut at any step of a load: an error that names it, or too late to
 * matter. */
static void test_cut_short(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 3, .hidden = 256, .heads = 4};
	int errors = 0, rc = 1;
	for (int steps = 0, taken = 0; steps <= taken; steps++) {
		const char *dir = tiny_write("model", &options);
		struct vac_error err = {0};
		struct vac_model *model;
		char path[512];
		snprintf(path, sizeof(path), "%s/model.safetensors", dir);
		fake_cuda_reset();
		struct vac_engine *engine = world_engine("float32");
		assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), 0);
		for (rc = 1, taken = 0; rc > 0; taken++) {
			if (taken == steps)
				assert_int_equal(truncate(path, 40000), 0);
			rc = vac_model_load_step(model, &err);
		}
		if (rc < 0) {
			errors++;
			assert_int_equal(err.code, VAC_E_CORRUPT);
			assert_non_null(strstr(err.message, "model.safetensors"));
		} else {
			assert_int_equal(world_embed(engine, model, NULL, &err), 0);
		}
		vac_model_close(model, NULL);
		world_nothing_is_left(engine);
		vac_engine_close(engine);
	}
	assert_true(errors >= 2);
	assert_int_equal(rc, 0);
}

/* The GPU dies under a batch: the engine says so, and closing still works. */
static void test_sticky_error(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	struct vac_model *model;
	fake_cuda_reset();
	struct vac_engine *engine = world_engine("float32");
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	fake_cuda.sticky = VAC_CU_ECC_UNCORRECTABLE;
	assert_int_equal(world_embed(engine, model, NULL, &err), -EPIPE);
	assert_int_equal(err.code, VAC_E_GONE);
	assert_non_null(strstr(err.message, "ECC"));
	/* it stays so */
	fake_cuda.sticky = 0;
	assert_int_equal(world_embed(engine, model, NULL, &err), -EPIPE);
	vac_model_close(model, NULL);
	world_nothing_is_left(engine);
	/* a new context is a new start */
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	assert_int_equal(world_embed(engine, model, NULL, &err), 0);
	vac_engine_close(engine);
	assert_int_equal(fake_cuda_live(), 0);
}

/* Closed at every step of a load. */
static void test_close_while_loading(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 9};
	const char *dir = tiny_write("model", &options);
	for (int steps = 0;; steps++) {
		struct vac_error err = {0};
		struct vac_model *model;
		int rc = 1;
		fake_cuda_reset();
		struct vac_engine *engine = world_engine("float32");
		assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), 0);
		for (int i = 0; rc > 0 && i < steps; i++)
			rc = vac_model_load_step(model, &err);
		vac_model_close(model, NULL);
		world_nothing_is_left(engine);
		vac_engine_close(engine);
		if (rc == 0)
			break;
	}
}

/* While the device comes up, a file that is not in the page cache comes into it. */
static void test_read_ahead(void **state)
{
	(void)state;
	const struct tiny_options options = {
		.seed = 1, .hidden = 512, .heads = 8, .intermediate = 2048};
	char path[512];
	struct vac_error err = {0};
	struct vac_model *model;
	uint64_t before = 0, now = 0;
	struct stat st;
	const char *dir = tiny_write("model", &options);
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && fsync(fd) == 0 && fstat(fd, &st) == 0);
	close(fd);
	assert_int_equal(vac_drop_page_cache(path, &err), 0);
	if (vac_meter_page_cache(path, &before, &err) < 0 || before > (uint64_t)st.st_size / 4)
		skip(); /* a file system in memory, or one that does not tell */
	fake_cuda_reset();
	struct vac_engine *engine = world_engine("float32");
	assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), 0);
	/* no step was taken; a minute only guards against hanging */
	for (int i = 0; i < 60000 && now < (uint64_t)st.st_size; i++) {
		usleep(1000);
		assert_int_equal(vac_meter_page_cache(path, &now, &err), 0);
	}
	assert_true(now >= (uint64_t)st.st_size);
	vac_model_close(model, NULL);
	world_nothing_is_left(engine);
	vac_engine_close(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),      cmocka_unit_test(test_plan),
		cmocka_unit_test(test_neighbours),   cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_sticky_error), cmocka_unit_test(test_close_while_loading),
		cmocka_unit_test(test_read_ahead),
	};
	return cmocka_run_group_tests(tests, world_begin, world_end);
}
