/*
 * test_cuda_chance.c - loads, closes, requests, steps and failing calls of the driver on the
 * fake GPU, all by chance and in any order, also from within the wait for a batch and when
 * a request ends: each request that is submitted ends once, its vectors are those that the
 * reference backend computes batch by batch, and nothing is left in the end.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda_world.h"
#include "driver/cuda.h"

enum { KINDS = 2, MODELS = 3, TEXTS = 12, JOBS = 24, MOST_INPUTS = 6, LIVES = 24, STEPS = 90 };

#define TOKENS    64 /* of a batch at most */
#define POSITIONS 64
#define MOST_WIDE 256

/* What may be asked, and what must come: computed once, without anything under way. */
static struct text {
	int32_t ids[POSITIONS];
	size_t length;
	float truth[KINDS][MOST_WIDE];
} texts[TEXTS];
static char *dirs[KINDS];
static uint32_t widths[KINDS];

struct life;

struct call {
	struct life *life;
	struct vac_job *job; /* NULL: free */
	int model;           /* of life's; -1: closed since */
	int kind;
	uint32_t count, dimensions;
	bool normalize;
	int inputs[MOST_INPUTS];
	bool submitted, done;
};

struct life {
	uint32_t seed;
	struct vac_engine *engine;
	struct vac_model *models[MODELS];
	int kinds[MODELS];
	bool resident[MODELS];
	struct call calls[JOBS];
	bool failing; /* calls of the driver did, or may */
	bool lasting; /* and the device is lost then */
	bool closing;
	long ended;
};

static uint32_t chance(struct life *life, uint32_t below)
{
	life->seed = life->seed * 1664525u + 1013904223u;
	return (life->seed >> 8) % below;
}

/* ---- requests ---- */

static void check(const struct call *call)
{
	uint32_t rows, width;
	const float *got = vac_job_vectors(call->job, &rows, &width);
	struct vac_job_times times;

	assert_int_equal(rows, call->count);
	assert_int_equal(width, call->dimensions);
	for (uint32_t r = 0; r < rows; r++, got += width) {
		const float *truth = texts[call->inputs[r]].truth[call->kind];
		double largest = 0, length = 0;

		for (uint32_t i = 0; i < width; i++)
			length += (double)truth[i] * truth[i];
		length = call->normalize ? sqrt(length) : 1;
		for (uint32_t i = 0; i < width; i++)
			largest = fmax(largest, fabs(truth[i] / length));
		for (uint32_t i = 0; i < width; i++)
			if (!(fabs(got[i] - truth[i] / length) <= 1e-5 * largest))
				fail_msg("component %u of %u: %.9g, expected %.9g", i, r, got[i],
					 truth[i] / length);
	}
	vac_job_times(call->job, &times);
	assert_true(times.queue_ns >= 0 && times.compute_ns >= 0);
}

static void give_up(struct call *call)
{
	vac_job_free(call->job);
	call->job = NULL;
}

static void some_call(struct life *life);

static void on_done(struct vac_job *job, void *ctx)
{
	struct call *call = ctx;
	struct life *life = call->life;
	struct vac_error err = {0};

	assert_ptr_equal(job, call->job);
	assert_true(call->submitted && !call->done);
	call->done = true;
	life->ended++;
	if (vac_job_status(job, &err) == 0)
		check(call);
	else if (call->model < 0 && err.code == VAC_E_CANCELLED)
		assert_string_equal(err.message, "the model was unloaded");
	else if (!life->failing)
		fail_msg("a request failed: %s", err.message);
	if (life->closing || chance(life, 3) == 0)
		give_up(call);
	while (!life->closing && chance(life, 3) == 0)
		some_call(life);
}

static void create(struct life *life, struct call *call)
{
	struct vac_task_options options = {.task = VAC_TASK_EMBED};
	struct vac_input inputs[MOST_INPUTS] = {0};
	struct vac_error err;
	int model = (int)chance(life, MODELS);

	if (!life->models[model] || !life->resident[model])
		return;
	*call = (struct call){.life = life, .model = model, .kind = life->kinds[model]};
	call->count = 1 + chance(life, chance(life, 3) ? 2 : MOST_INPUTS);
	call->normalize = chance(life, 4) == 0;
	call->dimensions =
		chance(life, 4) ? widths[call->kind] : 1 + chance(life, widths[call->kind]);
	options.dimensions = call->dimensions;
	options.normalize = call->normalize ? VAC_NORMALIZE_ON : VAC_NORMALIZE_OFF;
	for (uint32_t i = 0; i < call->count; i++) {
		call->inputs[i] = (int)chance(life, TEXTS);
		inputs[i].ids = texts[call->inputs[i]].ids;
		inputs[i].id_count = texts[call->inputs[i]].length;
	}
	if (vac_job_create(life->models[model], &options, inputs, call->count, &call->job, &err) <
	    0)
		fail_msg("%s", err.message);
}

/* Mostly a request is made and submitted; one that exists is submitted or freed. */
static void some_call(struct life *life)
{
	struct call *call = &life->calls[chance(life, JOBS)];

	if (!call->job)
		create(life, call);
	if (call->job && !call->submitted && chance(life, 5)) {
		call->submitted = true;
		vac_job_submit(call->job, on_done, call);
	} else if (call->job && (call->done || chance(life, 6) == 0)) {
		give_up(call);
	}
}

static void between(void *ctx)
{
	struct life *life = ctx;

	while (chance(life, 4) == 0)
		some_call(life);
	if (chance(life, 8) == 0)
		vac_engine_want(life->engine);
}

/* ---- models ---- */

static void close_model(struct life *life, int model)
{
	struct vac_model *closed = life->models[model];
	uint64_t freed;

	/* what is under way is delivered, and what waits is cancelled, in here */
	for (int i = 0; i < JOBS; i++)
		if (life->calls[i].job && life->calls[i].model == model)
			life->calls[i].model = -1;
	life->resident[model] = false;
	vac_model_close(closed, &freed);
	life->models[model] = NULL;
}

static void load_some(struct life *life, int model)
{
	struct vac_error err = {0};
	int rc;

	if (!life->models[model]) {
		life->kinds[model] = (int)chance(life, KINDS);
		rc = vac_model_begin_load(life->engine, (uint32_t)model + 1,
					  dirs[life->kinds[model]], NULL, &life->models[model],
					  &err);
		if (rc < 0) {
			life->models[model] = NULL;
			assert_true(life->failing);
			return;
		}
	}
	if (life->resident[model])
		return;
	do
		rc = vac_model_load_step(life->models[model], &err);
	while (rc > 0 && chance(life, 3));
	if (rc < 0 && !life->failing)
		fail_msg("a load failed: %s", err.message);
	if (rc < 0)
		close_model(life, model);
	else
		life->resident[model] = rc == 0;
}

/* ---- lives ---- */

static void fail_later(struct life *life)
{
	life->failing = true;
	life->lasting = chance(life, 3) == 0;
	fake_cuda.fail_with = life->lasting ? VAC_CU_ILLEGAL_ADDRESS : VAC_CU_OUT_OF_MEMORY;
	fake_cuda.fail_lasts = life->lasting;
	fake_cuda.fail_at = fake_cuda.calls + (long)chance(life, 400);
}

/* false: the device is lost. */
static bool step(struct life *life)
{
	struct vac_error err = {0};
	bool work = vac_engine_has_work(life->engine);
	int rc = vac_engine_step(life->engine, &err);

	if (rc < 0) {
		assert_true(life->lasting);
		assert_int_equal(err.code, VAC_E_GONE);
		return false;
	}
	assert_int_equal(rc, work);
	return true;
}

static bool act(struct life *life)
{
	int model = (int)chance(life, MODELS);

	switch (chance(life, 16)) {
	case 0:
		if (life->models[model] && chance(life, 3) == 0)
			close_model(life, model);
		return true;
	case 1:
	case 2:
		load_some(life, model);
		return true;
	case 3:
		fake_cuda.slow = (long)chance(life, 4);
		return true;
	case 4:
	case 5:
	case 6:
	case 7:
		return step(life);
	default:
		some_call(life);
		return true;
	}
}

static void nobody_waits(struct life *life)
{
	for (int i = 0; i < JOBS; i++)
		if (life->calls[i].job && life->calls[i].submitted)
			assert_true(life->calls[i].done);
}

/* Closes the engine with whatever is queued and under way. */
static void end(struct life *life)
{
	life->closing = true;
	for (int i = 0; i < JOBS; i++) {
		struct call *call = &life->calls[i];

		if (call->job && (!call->submitted || call->done))
			give_up(call);
		call->model = -1;
	}
	vac_engine_close(life->engine);
	for (int i = 0; i < JOBS; i++)
		assert_null(life->calls[i].job);
	assert_int_equal(fake_cuda.used_bytes, 0);
	assert_int_equal(fake_cuda_live(), 0);
}

static long live(uint32_t seed)
{
	struct life life = {.seed = seed * 7919u};
	const struct vac_engine_options options = {
		.backend = "cuda",
		.threads = 1,
		.dtype = "float32",
		.max_batch_tokens = TOKENS,
		.between = seed % 3 ? between : NULL,
		.between_ctx = &life,
	};
	struct vac_error err;
	bool goes_on = true;

	fake_cuda_reset();
	if (vac_engine_open(&life.engine, &options, &err) < 0)
		fail_msg("%s", err.message);
	while (!life.resident[0])
		load_some(&life, 0);
	for (int i = 0; goes_on && i < STEPS; i++) {
		if (seed % 4 == 0 && i == STEPS / 3)
			fail_later(&life);
		goes_on = act(&life);
	}
	if (seed % 2) {
		while (goes_on && vac_engine_has_work(life.engine))
			goes_on = step(&life);
		if (goes_on)
			nobody_waits(&life);
	}
	if (seed % 5)
		for (int i = 0; i < MODELS; i++)
			if (life.models[i])
				close_model(&life, i);
	end(&life);
	return life.ended;
}

/* Others than those of every run: test_cuda_chance FIRST COUNT. */
static uint32_t first = 1, lives = LIVES;

static void test_lives(void **state)
{
	long ended = 0;

	(void)state;
	for (uint32_t seed = first; seed < first + lives; seed++)
		ended += live(seed);
	assert_true(ended > lives * 10);
}

/* ---- what must come ---- */

static void on_computed(struct vac_job *job, void *ctx)
{
	(void)job;
	*(bool *)ctx = true;
}

static void compute_truth(struct vac_engine *engine, struct vac_model *model, int kind)
{
	const struct vac_task_options options = {.task = VAC_TASK_EMBED,
						 .normalize = VAC_NORMALIZE_OFF};

	for (int i = 0; i < TEXTS; i++) {
		const struct vac_input input = {.ids = texts[i].ids, .id_count = texts[i].length};
		struct vac_job *job;
		bool done = false;
		uint32_t rows;

		assert_int_equal(vac_job_create(model, &options, &input, 1, &job, NULL), 0);
		vac_job_submit(job, on_computed, &done);
		assert_int_equal(vac_engine_step(engine, NULL), 1);
		assert_true(done && vac_job_status(job, NULL) == 0);
		const float *vector = vac_job_vectors(job, &rows, &widths[kind]);
		assert_true(widths[kind] <= MOST_WIDE);
		memcpy(texts[i].truth[kind], vector, widths[kind] * sizeof(float));
		vac_job_free(job);
	}
}

static void know_truth(void)
{
	const struct vac_engine_options options = {.backend = "reference", .threads = 1};
	struct vac_engine *engine;
	struct vac_model *model;
	int rc;

	for (int i = 0; i < TEXTS; i++) {
		texts[i].length = i < 4 ? (size_t)i + 1 : 5 * (size_t)i;
		for (size_t at = 0; at < texts[i].length; at++)
			texts[i].ids[at] = (int32_t)((size_t)(7 * i) + 3 * at) % TINY_VOCAB;
	}
	assert_int_equal(vac_engine_open(&engine, &options, NULL), 0);
	for (int kind = 0; kind < KINDS; kind++) {
		assert_int_equal(vac_model_begin_load(engine, 1, dirs[kind], NULL, &model, NULL),
				 0);
		while ((rc = vac_model_load_step(model, NULL)) > 0)
			;
		assert_int_equal(rc, 0);
		compute_truth(engine, model, kind);
		vac_model_close(model, NULL);
	}
	vac_engine_close(engine);
}

static int set_up(void **state)
{
	world_begin(state);
	/* the second one with larger results */
	const struct tiny_options plain = {.seed = 1, .positions = POSITIONS};
	const struct tiny_options wide = {.seed = 2, .positions = 2 * POSITIONS, .dense_out = 200};
	dirs[0] = strdup(tiny_write("plain", &plain));
	dirs[1] = strdup(tiny_write("wide", &wide));
	assert_true(dirs[0] && dirs[1]);
	know_truth();
	return 0;
}

static int tear_down(void **state)
{
	world_end(state);
	for (int i = 0; i < KINDS; i++)
		free(dirs[i]);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_lives)};

	if (argc == 3) {
		first = (uint32_t)atol(argv[1]);
		lives = (uint32_t)atol(argv[2]);
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
