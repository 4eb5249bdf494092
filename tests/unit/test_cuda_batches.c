/*
 * test_cuda_batches.c - batches under way on the fake GPU of fake_cuda.c, whose copies are
 * there only when they are waited for: which are asked for early, what they give, and
 * what becomes of them when a model is closed, another loaded, a job freed, or a call
 * fails in between.
 */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cuda_world.h"
#include "driver/cuda.h"

#define TOKENS    64 /* of a batch at most */
#define POSITIONS 64
#define LONG      48 /* of a text that shares no batch with another of its kind */
#define JOBS      9

extern int64_t vac_batch_patience_ns;

/* One text of one job. */
struct text {
	struct vac_job *job;
	int32_t ids[POSITIONS];
	size_t length;
	int done;
};

/* What is seen from within the wait for a batch. */
static struct seen {
	long first_mark; /* marks made before */
	int done;        /* jobs, each a batch of its own */
	long most_under_way;
	struct text *later; /* submitted at the first look; NULL: nothing */
	uint32_t told[8];   /* models */
	size_t told_count;
	time_t until;              /* no look may come later; 0: any */
	struct vac_engine *wanted; /* by its caller, at the first look; NULL: not */
} seen;

static void mark_done(struct vac_job *job, void *ctx)
{
	struct text *text = ctx;
	assert_ptr_equal(job, text->job);
	text->done++;
	seen.done++;
}

static void between(void *ctx)
{
	long under_way = fake_cuda.marks - seen.first_mark - seen.done;
	(void)ctx;
	if (seen.until && time(NULL) > seen.until)
		fail_msg("still waiting");
	if (under_way > seen.most_under_way)
		seen.most_under_way = under_way;
	if (seen.wanted)
		vac_engine_want(seen.wanted);
	seen.wanted = NULL;
	if (seen.later) {
		struct text *text = seen.later;
		seen.later = NULL;
		vac_job_submit(text->job, mark_done, text);
	}
}

static void computing(void *ctx, uint32_t model)
{
	(void)ctx;
	if (seen.told_count == sizeof(seen.told) / sizeof(seen.told[0]))
		fail_msg("told too often");
	seen.told[seen.told_count++] = model;
}

static void told_is(const uint32_t *models, size_t count)
{
	assert_int_equal(seen.told_count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(seen.told[i], models[i]);
	seen.told_count = 0;
}

static struct vac_engine *open_engine_telling(bool looking, bool telling)
{
	struct vac_engine *engine;
	struct vac_error err;
	const struct vac_engine_options options = {.backend = "cuda",
						   .threads = 2,
						   .dtype = "float32",
						   .max_batch_tokens = TOKENS,
						   .between = looking ? between : NULL,
						   .computing = telling ? computing : NULL};
	if (vac_engine_open(&engine, &options, &err) < 0)
		fail_msg("%s", err.message);
	return engine;
}

static struct vac_engine *open_engine(bool looking)
{
	return open_engine_telling(looking, false);
}

static void make(struct text *text, struct vac_model *model, size_t length, int32_t first)
{
	const struct vac_task_options options = {.task = VAC_TASK_EMBED};
	struct vac_input input = {.ids = text->ids, .id_count = length};
	struct vac_error err;
	text->done = 0;
	text->length = length;
	for (size_t i = 0; i < length; i++)
		text->ids[i] = (int32_t)((size_t)first + 3 * i) % TINY_VOCAB;
	assert_int_equal(vac_job_create(model, &options, &input, 1, &text->job, &err), 0);
}

static void make_all(struct text *texts, size_t count, struct vac_model *model)
{
	for (size_t i = 0; i < count; i++)
		make(&texts[i], model, LONG, (int32_t)i);
	seen = (struct seen){.first_mark = fake_cuda.marks};
}

static void submit_all(struct text *texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		vac_job_submit(texts[i].job, mark_done, &texts[i]);
}

static void run(struct vac_engine *engine)
{
	struct vac_error err = {0};
	int rc;
	while ((rc = vac_engine_step(engine, &err)) > 0)
		;
	if (rc < 0)
		fail_msg("%s", err.message);
	assert_false(vac_engine_has_work(engine));
}

/* Of the model that was written last. */
static void check(const struct text *text)
{
	struct vac_error err = {0};
	uint32_t rows, width;
	assert_int_equal(text->done, 1);
	if (vac_job_status(text->job, &err) < 0)
		fail_msg("%s", err.message);
	tiny_check(0, text->ids, text->length, vac_job_vectors(text->job, &rows, &width));
}

static void check_all(struct text *texts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		check(&texts[i]);
		vac_job_free(texts[i].job);
	}
}

static void close_all(struct vac_engine *engine, struct vac_model *model)
{
	vac_model_close(model, NULL);
	assert_int_equal(vac_engine_ledger(engine)->count, 0);
	assert_int_equal(fake_cuda.used_bytes, 0);
	assert_int_equal(fake_cuda_live(), 0);
	vac_engine_close(engine);
}

static const char *write_model(void)
{
	return tiny_write("model", &(struct tiny_options){.seed = 1, .positions = POSITIONS});
}

/* Full batches are asked for while one is computed, one ahead and no more, and each
 * text's vector is its own, however long the GPU takes. */
static void test_one_ahead(void **state)
{
	(void)state;
	const char *dir = write_model();
	for (int slow = 0; slow < 4; slow++) {
		struct text texts[JOBS];
		struct vac_error err = {0};
		struct vac_model *model;
		fake_cuda_reset();
		struct vac_engine *engine = open_engine(true);
		assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
		fake_cuda.slow = slow;
		make_all(texts, JOBS, model);
		submit_all(texts, JOBS);
		run(engine);
		assert_int_equal(fake_cuda.marks - seen.first_mark, JOBS);
		/* a batch is never looked at when it has ended at once */
		assert_int_equal(seen.most_under_way, slow ? 2 : 0);
		check_all(texts, JOBS);
		close_all(engine, model);
	}
}

/* Without anything to do in between it is waited for, with one ahead as well. */
static void test_waiting(void **state)
{
	(void)state;
	const char *dir = write_model();
	struct text texts[JOBS];
	struct vac_error err = {0};
	struct vac_model *model;
	fake_cuda_reset();
	struct vac_engine *engine = open_engine(false);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	fake_cuda.slow = 1000;
	make_all(texts, JOBS, model);
	submit_all(texts, JOBS);
	for (int i = 1; i <= JOBS; i++) {
		assert_int_equal(vac_engine_step(engine, &err), 1);
		assert_int_equal(seen.done, i);
		/* the next one is under way before that one was delivered */
		assert_int_equal(fake_cuda.marks - seen.first_mark, i < JOBS ? i + 1 : JOBS);
		assert_int_equal(vac_engine_has_work(engine), i < JOBS);
	}
	assert_int_equal(vac_engine_step(engine, &err), 0);
	check_all(texts, JOBS);
	close_all(engine, model);
}

/* What is no full batch waits for more to come until the device is free. */
static void test_small_ones_wait(void **state)
{
	(void)state;
	const char *dir = write_model();
	struct text texts[3];
	struct vac_error err = {0};
	struct vac_model *model;
	fake_cuda_reset();
	struct vac_engine *engine = open_engine(true);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	fake_cuda.slow = 5;
	make_all(texts, 1, model);
	make(&texts[1], model, 8, 20);
	make(&texts[2], model, 8, 30);
	vac_job_submit(texts[0].job, mark_done, &texts[0]);
	seen.later = &texts[1];
	assert_int_equal(vac_engine_step(engine, &err), 1);
	/* it came while the first was computed, and was begun when that had ended */
	assert_int_equal(seen.most_under_way, 1);
	assert_int_equal(fake_cuda.marks - seen.first_mark, 2);
	assert_int_equal(texts[0].done, 1);
	assert_int_equal(texts[1].done, 0);
	seen.later = &texts[2];
	run(engine);
	assert_int_equal(fake_cuda.marks - seen.first_mark, 3);
	check_all(texts, 3);
	close_all(engine, model);
}

/* What the caller has waits for the batch that is computed, and for one that was asked for
 * before; for no other. */
static void test_the_caller_waits(void **state)
{
	(void)state;
	const char *dir = write_model();
	struct text texts[JOBS];
	struct vac_error err = {0};
	struct vac_model *model;
	fake_cuda_reset();
	struct vac_engine *engine = open_engine(true);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	fake_cuda.slow = 5;
	make_all(texts, JOBS, model);
	vac_job_free(texts[1].job);
	make(&texts[1], model, 20, 1);
	/* one that is no full batch is not begun behind the first */
	vac_job_submit(texts[0].job, mark_done, &texts[0]);
	vac_job_submit(texts[1].job, mark_done, &texts[1]);
	seen.wanted = engine;
	assert_int_equal(vac_engine_step(engine, &err), 1);
	assert_int_equal(texts[0].done, 1);
	assert_int_equal(fake_cuda.marks - seen.first_mark, 1);
	assert_true(vac_engine_has_work(engine));
	/* it begins with the next step, and full ones do early, but for a third */
	for (int i = 2; i < JOBS; i++)
		vac_job_submit(texts[i].job, mark_done, &texts[i]);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	seen.wanted = engine;
	assert_int_equal(vac_engine_step(engine, &err), 1);
	assert_int_equal(seen.done, 3);
	assert_int_equal(fake_cuda.marks - seen.first_mark, 4);
	run(engine);
	assert_int_equal(fake_cuda.marks - seen.first_mark, JOBS);
	check_all(texts, JOBS);
	close_all(engine, model);
}

/* A job that is freed while it is computed is dropped, and its neighbours are not. */
static void test_freed_under_way(void **state)
{
	(void)state;
	const char *dir = write_model();
	struct text texts[4];
	struct vac_error err = {0};
	struct vac_model *model;
	fake_cuda_reset();
	struct vac_engine *engine = open_engine(false);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	make_all(texts, 4, model);
	submit_all(texts, 4);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	vac_job_free(texts[1].job); /* under way */
	vac_job_free(texts[3].job); /* queued */
	run(engine);
	assert_int_equal(texts[1].done, 0);
	assert_int_equal(texts[3].done, 0);
	check(&texts[0]);
	check(&texts[2]);
	vac_job_free(texts[0].job);
	vac_job_free(texts[2].job);
	close_all(engine, model);
}

/* A model that is closed delivers what is under way and cancels what is queued; one
 * that is loaded leaves what is under way alone. */
static void test_closed_and_loaded(void **state)
{
	(void)state;
	/* one with larger results, and the one that the truth is of */
	const char *wide = tiny_write("wide", &(struct tiny_options){.seed = 2, .dense_out = 200});
	const char *dir = write_model();
	struct text texts[4], other;
	struct vac_error err = {0};
	struct vac_model *model, *second, *third;
	fake_cuda_reset();
	struct vac_engine *engine = open_engine(false);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	make_all(texts, 4, model);
	submit_all(texts, 4);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	assert_int_equal(fake_cuda.marks - seen.first_mark, 2);
	assert_int_equal(world_load(engine, 2, dir, &second, &err), 0);
	assert_int_equal(world_load(engine, 3, wide, &third, &err), 0);
	assert_int_equal(seen.done, 1); /* no callback from within a load */
	make(&other, second, 20, 5);
	vac_job_submit(other.job, mark_done, &other);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	vac_model_close(model, NULL);
	for (int i = 0; i < 4; i++)
		assert_int_equal(texts[i].done, 1);
	assert_int_equal(vac_job_status(texts[3].job, &err), -ECANCELED);
	assert_int_equal(err.code, VAC_E_CANCELLED);
	run(engine);
	for (int i = 0; i < 4; i++) {
		if (i < 2)
			check(&texts[i]);
		else if (vac_job_status(texts[i].job, &err) < 0)
			assert_int_equal(err.code, VAC_E_CANCELLED);
		else
			check(&texts[i]);
		vac_job_free(texts[i].job);
	}
	check(&other);
	vac_job_free(other.job);
	vac_model_close(third, NULL);
	close_all(engine, second);
}

/* Each call fails in turn with two batches under way: every job ends once, with a vector
 * that is right or an error that says what failed; what is sticky ends the engine. */
static void test_each_call_fails(void **state)
{
	(void)state;
	const char *dir = write_model();
	const int results[] = {VAC_CU_OUT_OF_MEMORY, VAC_CU_ILLEGAL_ADDRESS};
	setenv("VACATE_CUDA_GRAPHS", "off", 1); /* without one it is launched, and nobody minds */
	for (int kind = 0; kind < 2; kind++) {
		int failures = 0;
		for (long n = 0;; n++) {
			struct text texts[4];
			struct vac_error err = {0};
			struct vac_model *model;
			int rc, failed_jobs = 0;
			fake_cuda_reset();
			struct vac_engine *engine = open_engine(n % 2);
			assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
			make_all(texts, 4, model);
			submit_all(texts, 4);
			fake_cuda.slow = n % 3;
			fake_cuda.fail_at = fake_cuda.calls + n;
			fake_cuda.fail_with = results[kind];
			fake_cuda.fail_lasts = kind;
			while ((rc = vac_engine_step(engine, &err)) > 0)
				;
			const char *failed = fake_cuda.failed;
			assert_true(rc == 0 || kind == 1);
			for (int i = 0; i < 4; i++) {
				assert_true(texts[i].done == 1 || (rc < 0 && !texts[i].done));
				if (!texts[i].done || vac_job_status(texts[i].job, NULL) < 0)
					failed_jobs++;
				else
					check(&texts[i]);
				vac_job_free(texts[i].job);
			}
			if (rc < 0)
				assert_int_equal(err.code, VAC_E_GONE);
			if (failed && !failed_jobs && strcmp(failed, "event_query") != 0 &&
			    strcmp(failed, "ctx_push") != 0)
				fail_msg("call %ld, %s, failed and nobody noticed", n, failed);
			failures += failed_jobs;
			close_all(engine, model);
			if (!failed)
				break;
		}
		assert_true(failures > 20);
	}
	unsetenv("VACATE_CUDA_GRAPHS");
}

/* One that never ends is waited for without a look elsewhere, after a while: who watches
 * this thread must learn of it. */
static void test_a_hanging_device_is_not_hidden(void **state)
{
	(void)state;
	const int64_t patience_ns = vac_batch_patience_ns;
	const char *dir = write_model();
	struct text text;
	struct vac_error err = {0};
	struct vac_model *model;
	fake_cuda_reset();
	struct vac_engine *engine = open_engine(true);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	vac_batch_patience_ns = 10000000;
	fake_cuda.slow = LONG_MAX; /* when asked, and not when waited for */
	make_all(&text, 1, model);
	seen.until = time(NULL) + 60;
	vac_job_submit(text.job, mark_done, &text);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	assert_int_equal(seen.most_under_way, 1); /* there was a look */
	check_all(&text, 1);
	vac_batch_patience_ns = patience_ns;
	close_all(engine, model);
}

/* What the device does is told before it is waited for, also after steps that left
 * it under way, and a load that waited for it is told again. */
static void test_who_is_computed(void **state)
{
	(void)state;
	const char *dir = write_model();
	struct text texts[3];
	struct vac_error err = {0};
	struct vac_model *model, *second;
	fake_cuda_reset();
	struct vac_engine *engine = open_engine_telling(false, true);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
	make_all(texts, 3, model);
	told_is(NULL, 0);
	submit_all(texts, 3);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	told_is((uint32_t[]){1, 1}, 2); /* its own, and the one ahead */
	assert_int_equal(world_load(engine, 2, dir, &second, &err), 0);
	told_is((uint32_t[]){1, 2}, 2);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	told_is((uint32_t[]){1, 1}, 2);
	assert_int_equal(vac_engine_step(engine, &err), 1);
	told_is((uint32_t[]){1}, 1);
	check_all(texts, 3);
	vac_model_close(second, NULL);
	told_is(NULL, 0);
	close_all(engine, model);
}

/* A device that is lost is found to be by a load or a close: the next step says so. */
static void test_lost_between_steps(void **state)
{
	(void)state;
	const char *dir = write_model();
	for (int loads = 0; loads < 2; loads++) {
		struct text texts[3];
		struct vac_error err = {0};
		struct vac_model *model, *second;
		fake_cuda_reset();
		struct vac_engine *engine = open_engine(false);
		assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
		if (!loads)
			assert_int_equal(world_load(engine, 2, dir, &second, &err), 0);
		make_all(texts, 3, model);
		submit_all(texts, 3);
		assert_int_equal(vac_engine_step(engine, &err), 1);
		fake_cuda.fail_at = fake_cuda.calls;
		fake_cuda.fail_with = VAC_CU_ILLEGAL_ADDRESS;
		fake_cuda.fail_lasts = 1;
		if (loads)
			assert_true(world_load(engine, 2, dir, &second, &err) < 0);
		else
			vac_model_close(model, NULL);
		assert_int_equal(texts[1].done, 1);
		assert_true(vac_job_status(texts[1].job, &err) < 0);
		assert_int_equal(err.code, VAC_E_GONE);
		assert_true(vac_engine_has_work(engine));
		assert_true(vac_engine_step(engine, &err) < 0);
		assert_int_equal(err.code, VAC_E_GONE);
		assert_true(vac_engine_step(engine, &err) < 0);
		/* not for good: the next model brings up another */
		vac_model_close(loads ? model : second, NULL);
		assert_false(vac_engine_has_work(engine));
		assert_int_equal(fake_cuda_live(), 0);
		for (int i = 0; i < 3; i++)
			vac_job_free(texts[i].job);
		fake_cuda.fail_at = -1;
		fake_cuda.failed = NULL;
		assert_int_equal(world_load(engine, 3, dir, &model, &err), 0);
		make_all(texts, 1, model);
		submit_all(texts, 1);
		run(engine);
		check_all(texts, 1);
		close_all(engine, model);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_ahead),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_small_ones_wait),
		cmocka_unit_test(test_the_caller_waits),
		cmocka_unit_test(test_freed_under_way),
		cmocka_unit_test(test_closed_and_loaded),
		cmocka_unit_test(test_each_call_fails),
		cmocka_unit_test(test_who_is_computed),
		cmocka_unit_test(test_lost_between_steps),
		cmocka_unit_test(test_a_hanging_device_is_not_hidden),
	};
	return cmocka_run_group_tests(tests, world_begin, world_end);
}
