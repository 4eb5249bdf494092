/*
 * test_cuda_products.c - the cuda backend without a GPU: which kernels are loaded, how texts
 * become batches, and which of cuBLASLt's algorithms are tried, kept and used.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "cuda_world.h"
#include "engine/cuda/backend.h"
#include "engine/cuda/kernels.h"

#define TRIALS_NS (100 * 1000000) /* as ever */

/* What was compiled ahead is loaded where it fits; NVRTC makes the rest. */
static void test_kernels_ahead(void **state)
{
	(void)state;
	static const char ours[] = "kernels, compiled ahead", other[] = "kernels of others";
	static const struct vac_cuda_cubin list[] = {
		{80, 32, other}, {90, 16, other}, {90, 32, ours}, {0, 0, NULL}};
	static const struct {
		int major, minor;
		const void *refused;
		bool ahead;
	} cases[] = {
		{9, 0, NULL, true}, {9, 0, ours, false}, {10, 0, NULL, false}, {8, 6, NULL, false}};
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_cuda_reset();
		fake_cuda.major = cases[i].major;
		fake_cuda.minor = cases[i].minor;
		fake_cuda.refused_image = cases[i].refused;
		vac_cuda_cubins_inject(list);
		struct vac_engine *engine = world_engine("float32");
		assert_int_equal(world_answer(engine, dir, &err), 0);
		assert_int_equal(fake_cuda.compiled, !cases[i].ahead);
		assert_int_equal(fake_cuda.loaded == ours, cases[i].ahead);
		world_nothing_is_left(engine);
		vac_engine_close(engine);
	}
	fake_cuda_install();
}

/* One text of so many tokens, alone in its batch. */
static void embed_one(struct vac_engine *engine, struct vac_model *model, size_t tokens)
{
	const struct vac_task_options task = {.task = VAC_TASK_EMBED};
	static int32_t many[1024];
	struct vac_input input = {.ids = many, .id_count = tokens};
	struct vac_error err = {0};
	struct vac_job *job;
	int done = 0;
	assert_int_equal(vac_job_create(model, &task, &input, 1, &job, &err), 0);
	vac_job_submit(job, world_count, &done);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	assert_int_equal(done, 1);
	assert_int_equal(vac_job_status(job, &err), 0);
	vac_job_free(job);
}

/* How quick the GPU was before does not tell small requests apart: texts of one request
 * are one batch at once, after a first batch that took long, too. */
static void test_small_batches_stay_whole(void **state)
{
	(void)state;
	enum { TEXTS = 100, TOKENS = 5 };
	static const int32_t tokens[TOKENS] = {2, 5, 6, 7, 3};
	const struct vac_engine_options options = {.backend = "cuda",
						   .threads = 2,
						   .dtype = "float32",
						   .max_batch_tokens = 1024,
						   .batch_target_ms = 1};
	const struct vac_task_options task = {.task = VAC_TASK_EMBED};
	const char *dir = tiny_write("model", &(struct tiny_options){.seed = 1, .positions = 64});
	struct vac_input inputs[TEXTS];
	struct vac_error err = {0};
	struct vac_engine *engine;
	struct vac_model *model;
	for (size_t i = 0; i < TEXTS; i++)
		inputs[i] = (struct vac_input){.ids = tokens, .id_count = TOKENS};
	fake_cuda_reset();
	assert_int_equal(vac_engine_open(&engine, &options, &err), 0);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	for (int i = 0; i < 2; i++) {
		struct vac_job *job;
		int done = 0;
		assert_int_equal(vac_job_create(model, &task, inputs, TEXTS, &job, &err), 0);
		vac_job_submit(job, world_count, &done);
		assert_int_equal(vac_engine_step(engine, &err), 1);
		assert_int_equal(done, 1);
		vac_job_free(job);
		fake_cuda.blas_sleep_us = i == 0 ? 20000 : 0;
		embed_one(engine, model, 3);
		fake_cuda.blas_sleep_us = 0;
	}
	vac_model_close(model, NULL);
	world_nothing_is_left(engine);
	vac_engine_close(engine);
}

/* Of the algorithms for a product the fastest is used, for rows that were prepared. */
static void test_fastest_product(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .positions = 1024};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	struct vac_model *model;
	fake_cuda_reset();
	fake_cuda.blas_slow = 2;
	fake_cuda.blas_idle = true;
	vac_cuda_trials_ns = INT64_MAX / 4; /* a test is in no hurry */
	struct vac_engine *engine = world_engine("float32");
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	vac_cuda_trials_ns = TRIALS_NS;
	assert_true(fake_cuda.blas_used[1] > 0);
	/* a batch of as many rows as there is room for */
	embed_one(engine, model, 1024);
	assert_int_equal(fake_cuda.blas_last, 2);
	/* another one, and a small one where there is no cache: the heuristic's first */
	embed_one(engine, model, 520);
	assert_int_equal(fake_cuda.blas_last, 0);
	embed_one(engine, model, 16);
	assert_int_equal(fake_cuda.blas_last, 0);
	vac_model_close(model, NULL);
	world_nothing_is_left(engine);
	vac_engine_close(engine);
}

/* For small batches they are tried once on a machine, and what was chosen then stays. */
static void test_small_products(void **state)
{
	(void)state;
	static const size_t rows[] = {3, 16, 24, 64, 128, 200, 300, 512};
	int used[8], first[8];
	const struct tiny_options options = {.seed = 1, .positions = 640};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	struct vac_model *model;
	setenv("XDG_CACHE_HOME", world_directory(), 1);
	vac_cuda_trials_ns = INT64_MAX / 4;
	for (int life = 0; life < 3; life++) {
		fake_cuda_reset();
		fake_cuda.blas_slow = life < 2 ? 2 : 1;
		fake_cuda.blas_sleep_us = 1000;
		fake_cuda.blas_idle = true;
		struct vac_engine *engine = world_engine("float32");
		assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
		/* what the first life wrote down the others read: they try nothing */
		assert_int_equal(fake_cuda.blas_used[1] > 0, life == 0);
		fake_cuda.blas_sleep_us = 0;
		for (size_t i = 0; i < 8; i++) {
			embed_one(engine, model, rows[i]);
			used[i] = fake_cuda.blas_last;
		}
		if (life == 0)
			memcpy(first, used, sizeof(first));
		assert_memory_equal(used, first, sizeof(used));
		for (size_t i = 0; i < 8; i++)
			assert_int_equal(used[i], 2);
		vac_model_close(model, NULL);
		world_nothing_is_left(engine);
		vac_engine_close(engine);
	}
	vac_cuda_trials_ns = TRIALS_NS;
	/* a choice that does not serve fewer rows is replaced at the first try */
	fake_cuda_reset();
	fake_cuda.blas_slow = 2;
	fake_cuda.blas_idle = true;
	fake_cuda.blas_refuses = 8;
	struct vac_engine *engine = world_engine("float32");
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	embed_one(engine, model, 3);
	assert_int_equal(fake_cuda.blas_last, 0);
	memset(fake_cuda.blas_used, 0, sizeof(fake_cuda.blas_used));
	embed_one(engine, model, 3);
	assert_int_equal(fake_cuda.blas_used[2], 0);
	vac_engine_close(engine);
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
}

/* Whoever loads a model the first time does not wait long for that: what was not tried in
 * time keeps the heuristic's choice, later, too. */
static void test_trials_end(void **state)
{
	(void)state;
	static const struct {
		int64_t ns;
		unsigned sleep_us;
	} lives[] = {{0, 100}, {INT64_MAX / 4, 100}, {100 * 1000000, 20000}};
	const struct tiny_options options = {.seed = 1, .positions = 640};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	struct vac_model *model;
	char cache[600];
	for (int life = 0; life < 3; life++) {
		snprintf(cache, sizeof(cache), "%s/cache-%d", world_directory(), life / 2);
		mkdir(cache, 0700);
		setenv("XDG_CACHE_HOME", cache, 1);
		fake_cuda_reset();
		fake_cuda.blas_slow = 2;
		fake_cuda.blas_sleep_us = lives[life].sleep_us;
		fake_cuda.blas_idle = true;
		vac_cuda_trials_ns = lives[life].ns;
		struct vac_engine *engine = world_engine("float32");
		assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
		/* of the large batch only: nothing was kept of that */
		if (life == 0)
			assert_int_equal(fake_cuda.blas_used[0] + fake_cuda.blas_used[1], 0);
		if (life == 2) /* all would be more than 300 */
			assert_in_range(fake_cuda.blas_used[0] + fake_cuda.blas_used[1], 1, 40);
		fake_cuda.blas_sleep_us = 0;
		embed_one(engine, model, 16);
		if (life < 2)
			assert_int_equal(fake_cuda.blas_last, 0);
		vac_model_close(model, NULL);
		world_nothing_is_left(engine);
		vac_engine_close(engine);
	}
	vac_cuda_trials_ns = TRIALS_NS;
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernels_ahead),
		cmocka_unit_test(test_small_batches_stay_whole),
		cmocka_unit_test(test_fastest_product),
		cmocka_unit_test(test_small_products),
		cmocka_unit_test(test_trials_end),
	};
	return cmocka_run_group_tests(tests, world_begin, world_end);
}
