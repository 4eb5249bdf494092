/*
 * test_model_options.c - models of one engine with batches of their own size, and
 * what they are computed in. On the reference backend, whose steps can be counted.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "temp_dir.h"
#include "tiny_model.h"

static int make_dir(void **state)
{
	(void)state;
	return temp_dir_make() ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

static struct vac_engine *open_engine(void)
{
	const struct vac_engine_options options = {.backend = "reference"};
	struct vac_engine *engine;
	struct vac_error err;

	if (vac_engine_open(&engine, &options, &err) < 0)
		fail_msg("%s", err.message);
	return engine;
}

static void count_done(struct vac_job *job, void *ctx)
{
	(void)job;
	(*(int *)ctx)++;
}

/* Batches for so many sequences of 8 tokens. */
static int steps_for(struct vac_engine *engine, struct vac_model *model, size_t count)
{
	static const int32_t ids[] = {2, 5, 6, 7, 8, 9, 10, 3};
	const struct vac_task_options options = {.task = VAC_TASK_EMBED};
	struct vac_input *inputs = calloc(count, sizeof(*inputs));
	struct vac_error err;
	struct vac_job *job;
	int steps = 0, done = 0;

	assert_non_null(inputs);
	for (size_t i = 0; i < count; i++)
		inputs[i] = (struct vac_input){.ids = ids, .id_count = 8};
	assert_int_equal(vac_job_create(model, &options, inputs, count, &job, &err), 0);
	vac_job_submit(job, count_done, &done);
	while (vac_engine_has_work(engine)) {
		assert_int_equal(vac_engine_step(engine, &err), 1);
		steps++;
	}
	assert_int_equal(done, 1);
	vac_job_free(job);
	free(inputs);
	return steps;
}

/* Of 24 sequences, when the model's speed is known. */
static int steps_with(struct vac_engine *engine, uint32_t id, const char *dir,
		      const struct vac_model_options *options)
{
	struct vac_model *model;
	struct vac_error err;
	int steps;

	assert_int_equal(vac_model_begin_load(engine, id, dir, options, &model, &err), 0);
	while (vac_model_load_step(model, &err) > 0)
		;
	assert_true(vac_model_resident(model));
	steps_for(engine, model, 100);
	steps = steps_for(engine, model, 24);
	vac_model_close(model, NULL);
	return steps;
}

static uint64_t scratch_of(const struct vac_plan *plan)
{
	return vac_plan_bytes(plan, false) - vac_plan_own_bytes(plan, false);
}

static void test_batch_size_of_a_model(void **state)
{
	const struct vac_model_options small = {.max_batch_tokens = 16};
	const struct vac_model_options large = {.max_batch_tokens = 2048};
	const struct vac_model_options endless = {.max_batch_tokens = (1u << 20) + 1};
	const struct tiny_options tiny = {.seed = 1, .positions = 64};
	const char *dir = tiny_write("model", &tiny);
	struct vac_engine *engine = open_engine();
	struct vac_plan plans[3] = {0};
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_engine_plan(engine, dir, &small, &plans[0], NULL, &err), 0);
	assert_int_equal(vac_engine_plan(engine, dir, NULL, &plans[1], NULL, &err), 0);
	assert_int_equal(vac_engine_plan(engine, dir, &large, &plans[2], NULL, &err), 0);
	assert_true(scratch_of(&plans[0]) < scratch_of(&plans[1]));
	assert_true(scratch_of(&plans[1]) < scratch_of(&plans[2]));
	assert_int_equal(vac_plan_own_bytes(&plans[0], false),
			 vac_plan_own_bytes(&plans[2], false));
	/* Two sequences a batch, though its longest has 64 tokens; all in a few. */
	assert_int_equal(steps_with(engine, 1, dir, &small), 12);
	assert_true(steps_with(engine, 2, dir, &large) <= 2);
	assert_int_equal(vac_engine_plan(engine, dir, &endless, &plans[0], NULL, &err), -EINVAL);
	assert_non_null(strstr(err.message, "1048577 tokens"));
	vac_engine_close(engine);
}

/* One sequence always fits. */
static void test_batch_smaller_than_a_sequence(void **state)
{
	const struct vac_model_options one = {.max_batch_tokens = 1};
	const struct tiny_options tiny = {.seed = 1};
	const char *dir = tiny_write("model", &tiny);
	struct vac_engine *engine = open_engine();

	(void)state;
	assert_int_equal(steps_with(engine, 1, dir, &one), 24);
	vac_engine_close(engine);
}

static void test_dtype_of_a_model(void **state)
{
	const struct vac_model_options plain = {.dtype = "float32"}, none = {.dtype = ""};
	const struct vac_model_options half = {.dtype = "bfloat16"};
	const struct tiny_options tiny = {.seed = 1};
	const char *dir = tiny_write("model", &tiny);
	struct vac_engine *engine = open_engine();
	struct vac_model_info info;
	struct vac_model *model;
	struct vac_plan plan;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_engine_plan(engine, dir, &plain, &plan, &info, &err), 0);
	assert_string_equal(info.dtype, "float32");
	assert_int_equal(vac_engine_plan(engine, dir, &none, &plan, NULL, &err), 0);
	assert_int_equal(vac_engine_plan(engine, dir, &half, &plan, NULL, &err), -ENOTSUP);
	assert_int_equal(vac_model_begin_load(engine, 1, dir, &half, &model, &err), -ENOTSUP);
	assert_int_equal(err.code, VAC_E_UNSUPPORTED);
	assert_string_equal(
		err.message,
		"dtype: backend reference does not compute in bfloat16; it can: float32");
	assert_int_equal(vac_engine_ledger(engine)->count, 0);
	vac_engine_close(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batch_size_of_a_model),
		cmocka_unit_test(test_batch_smaller_than_a_sequence),
		cmocka_unit_test(test_dtype_of_a_model),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
