/*
 * test_cuda_graphs.c - small batches as graphs, on the fake GPU of fake_cuda.c, which
 * records launches by value and computes them when their graph is launched. Each
 * answer is compared to the bit with that of an engine without graphs; every call
 * fails in turn; memory is bounded; nothing is left.
 */
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

#define MIB        ((uint64_t)1 << 20)
#define WIDTH      32
#define MOST_TEXTS 6
#define POSITIONS  64
#define WORTH      3 /* plain runs of a class before it is recorded; graphs.c */

static int warnings;
static char warning[512];

static void warn(void *ctx, const char *text)
{
	(void)ctx;
	warnings++;
	snprintf(warning, sizeof(warning), "%s", text);
}

static struct vac_engine *open_engine(const char *graphs, uint32_t tokens)
{
	struct vac_engine *engine;
	struct vac_error err;
	const struct vac_engine_options options = {.backend = "cuda",
						   .threads = 2,
						   .dtype = "float32",
						   .max_batch_tokens = tokens,
						   .warn = warn};
	warnings = 0;
	if (graphs)
		setenv("VACATE_CUDA_GRAPHS", graphs, 1);
	int rc = vac_engine_open(&engine, &options, &err);
	unsetenv("VACATE_CUDA_GRAPHS");
	if (rc < 0)
		fail_msg("%s", err.message);
	return engine;
}

static struct vac_model *load(struct vac_engine *engine, uint32_t id, const char *dir)
{
	struct vac_model *model;
	struct vac_error err = {0};
	if (world_load(engine, id, dir, &model, &err) < 0)
		fail_msg("%s", err.message);
	return model;
}

static void mark_done(struct vac_job *job, void *ctx)
{
	(void)job;
	*(int *)ctx += 1;
}

/* A batch: how many texts of which lengths, and what their ids begin with. */
struct batch {
	size_t count, lengths[MOST_TEXTS];
	int32_t first;
};

static int embed(struct vac_engine *engine, struct vac_model *model, const struct batch *batch,
		 float vectors[MOST_TEXTS * WIDTH], struct vac_error *err)
{
	const struct vac_task_options options = {.task = VAC_TASK_EMBED};
	static int32_t ids[MOST_TEXTS][POSITIONS];
	struct vac_input inputs[MOST_TEXTS];
	struct vac_job *job;
	uint32_t rows, width;
	int done = 0, rc;
	for (size_t i = 0; i < batch->count; i++) {
		for (size_t k = 0; k < batch->lengths[i]; k++)
			ids[i][k] = (int32_t)((size_t)batch->first + 7 * i + 3 * k) % TINY_VOCAB;
		inputs[i] = (struct vac_input){.ids = ids[i], .id_count = batch->lengths[i]};
	}
	assert_int_equal(vac_job_create(model, &options, inputs, batch->count, &job, err), 0);
	vac_job_submit(job, mark_done, &done);
	while ((rc = vac_engine_step(engine, err)) > 0)
		;
	assert_int_equal(done, 1);
	if (rc == 0)
		rc = vac_job_status(job, err);
	const float *from = vac_job_vectors(job, &rows, &width);
	assert_int_equal(width, WIDTH);
	if (rc == 0)
		memcpy(vectors, from, (size_t)rows * width * sizeof(float));
	vac_job_free(job);
	return rc;
}

static void check_nothing_is_left(const struct vac_engine *engine)
{
	assert_int_equal(vac_engine_ledger(engine)->count, 0);
	assert_int_equal(fake_cuda.used_bytes, 0);
	assert_int_equal(fake_cuda_live(), 0);
}

static uint32_t random_below(uint32_t n)
{
	static uint64_t x = 88172645463325252u;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x % n);
}

static struct batch random_batch(void)
{
	struct batch batch = {.count = 1 + random_below(MOST_TEXTS),
			      .first = (int32_t)random_below(TINY_VOCAB)};
	/* of few lengths, so that classes come again */
	for (size_t i = 0; i < batch.count; i++)
		batch.lengths[i] = 1 + random_below(i ? 9 : POSITIONS);
	return batch;
}

/* Two engines, one with graphs: their answers are the same bits. */
static void test_same_bits(void **state)
{
	(void)state;
	const struct tiny_options all[] = {
		{.seed = 1, .positions = POSITIONS},
		{.seed = 2, .positions = POSITIONS, .pooling = "cls_token", .dense_out = WIDTH},
		{.seed = 3, .positions = POSITIONS, .hidden_act = "relu", .pooling = "max_tokens"},
	};
	for (size_t m = 0; m < sizeof(all) / sizeof(all[0]); m++) {
		const char *dir = tiny_write("model", &all[m]);
		struct vac_error err = {0};
		fake_cuda_reset();
		struct vac_engine *plain = open_engine("off", 128),
				  *graphs = open_engine("on", 128);
		struct vac_model *a = load(plain, 1, dir), *b = load(graphs, 1, dir);
		for (int i = 0; i < 150; i++) {
			const struct batch batch = random_batch();
			float truth[MOST_TEXTS * WIDTH], vectors[MOST_TEXTS * WIDTH];
			assert_int_equal(embed(plain, a, &batch, truth, &err), 0);
			assert_int_equal(embed(graphs, b, &batch, vectors, &err), 0);
			assert_memory_equal(vectors, truth, batch.count * WIDTH * sizeof(float));
		}
		assert_true(fake_cuda.plays > 20);
		assert_in_range(fake_cuda.execs, 5, 48);
		assert_int_equal(fake_cuda.graphs, 0);
		assert_int_equal(warnings, 0);
		vac_model_close(a, NULL);
		vac_model_close(b, NULL);
		check_nothing_is_left(graphs);
		vac_engine_close(plain);
		vac_engine_close(graphs);
	}
}

/* One launch stands for all of a batch, and only when it is asked for. */
static void test_launches(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .positions = POSITIONS};
	const char *dir = tiny_write("model", &options);
	const char *const settings[] = {"off", "0", NULL};
	for (size_t s = 0; s < 3; s++) {
		fake_cuda_reset();
		struct vac_error err = {0};
		struct vac_engine *engine = open_engine(settings[s], 128);
		struct vac_model *model = load(engine, 1, dir);
		long launches = 0, calls = 0;
		for (int i = 0; i < WORTH + 3; i++) {
			/* one class: 9 to 16 rows of one text */
			const struct batch batch = {1, {(size_t)(10 + i)}, i};
			float vectors[MOST_TEXTS * WIDTH];
			launches = fake_cuda.launches;
			calls = fake_cuda.calls;
			assert_int_equal(embed(engine, model, &batch, vectors, &err), 0);
		}
		assert_int_equal(fake_cuda.plays, s == 2 ? 3 : 0);
		if (s == 2) {
			assert_int_equal(fake_cuda.launches, launches);
			/* push, upload, launch, download, mark; push, wait; pop does not fail */
			assert_int_equal(fake_cuda.calls - calls, 7);
		} else {
			assert_true(fake_cuda.launches > launches + 10);
		}
		/* a large batch is computed as it is */
		long plays = fake_cuda.plays;
		vac_model_close(model, NULL);
		assert_int_equal(fake_cuda.plays, plays);
		check_nothing_is_left(engine);
		vac_engine_close(engine);
	}
}

/* Batches beyond the room that a model has are not raised into it. */
static void test_room(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .positions = 11};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	fake_cuda_reset();
	struct vac_engine *plain = open_engine("off", 11), *graphs = open_engine("on", 11);
	struct vac_model *a = load(plain, 1, dir), *b = load(graphs, 1, dir);
	for (size_t n = 1; n <= 11; n++) {
		for (int i = 0; i < WORTH + 2; i++) {
			const struct batch batch = {1, {n}, i};
			float truth[MOST_TEXTS * WIDTH], vectors[MOST_TEXTS * WIDTH];
			assert_int_equal(embed(plain, a, &batch, truth, &err), 0);
			assert_int_equal(embed(graphs, b, &batch, vectors, &err), 0);
			assert_memory_equal(vectors, truth, WIDTH * sizeof(float));
		}
	}
	/* 1 to 8 rows are one class, 9 to 11 would be computed as 16 */
	assert_int_equal(fake_cuda.execs, 1);
	vac_engine_close(plain);
	vac_engine_close(graphs);
	assert_int_equal(fake_cuda_live(), 0);
}

/* Graphs go with their model, and all of them when what they read moves. */
static void test_owners(void **state)
{
	(void)state;
	const struct tiny_options small = {.seed = 1, .positions = POSITIONS},
				  large = {
					  .seed = 2, .positions = POSITIONS, .intermediate = 20000};
	char dir[256];
	struct vac_error err = {0};
	const struct batch batch = {2, {5, 20}, 3};
	float truth[MOST_TEXTS * WIDTH], vectors[MOST_TEXTS * WIDTH];
	snprintf(dir, sizeof(dir), "%s", tiny_write("small", &small));
	fake_cuda_reset();
	fake_cuda.graph_bytes = MIB;
	struct vac_engine *engine = open_engine("on", 128);
	struct vac_model *a = load(engine, 1, dir), *b = load(engine, 2, dir);
	assert_int_equal(embed(engine, a, &batch, truth, &err), 0);
	for (int i = 0; i < WORTH + 1; i++) {
		assert_int_equal(embed(engine, a, &batch, vectors, &err), 0);
		assert_memory_equal(vectors, truth, 2 * WIDTH * sizeof(float));
		assert_int_equal(embed(engine, b, &batch, vectors, &err), 0);
		assert_memory_equal(vectors, truth, 2 * WIDTH * sizeof(float));
	}
	assert_int_equal(fake_cuda.execs, 2);
	struct vac_residue residue[4] = {0};
	size_t count = vac_engine_residue(engine, residue, 4), named = 0;
	for (size_t i = 0; i < count; i++)
		if (strcmp(residue[i].name, "CUDA graphs") == 0) {
			assert_true(residue[i].bytes_valid);
			assert_int_equal(residue[i].bytes, 2 * MIB);
			named++;
		}
	assert_int_equal(named, 1);
	vac_model_close(a, NULL);
	assert_int_equal(fake_cuda.execs, 1);
	long plays = fake_cuda.plays;
	assert_int_equal(embed(engine, b, &batch, vectors, &err), 0);
	assert_memory_equal(vectors, truth, 2 * WIDTH * sizeof(float));
	assert_int_equal(fake_cuda.plays, plays + 1);
	/* a model that needs more scratch: it moves */
	struct vac_model *c = load(engine, 3, tiny_write("large", &large));
	assert_int_equal(fake_cuda.execs, 0);
	for (int i = 0; i < WORTH + 1; i++) {
		assert_int_equal(embed(engine, b, &batch, vectors, &err), 0);
		assert_memory_equal(vectors, truth, 2 * WIDTH * sizeof(float));
	}
	assert_int_equal(fake_cuda.execs, 1);
	vac_model_close(c, NULL);
	assert_int_equal(embed(engine, b, &batch, vectors, &err), 0);
	assert_memory_equal(vectors, truth, 2 * WIDTH * sizeof(float));
	vac_model_close(b, NULL);
	check_nothing_is_left(engine);
	vac_engine_close(engine);
}

/* Their memory is bounded: the least recently used one goes, and one that alone is
 * too large ends it for all. */
static void test_share(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .positions = POSITIONS};
	const char *dir = tiny_write("model", &options);
	static const struct {
		uint64_t bytes;
		int execs, warnings;
	} cases[] = {{0, 8, 0}, {10 * MIB, 3, 0}, {20 * MIB, 1, 0}, {33 * MIB, 0, 1}};
	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct vac_error err = {0};
		fake_cuda_reset();
		fake_cuda.graph_bytes = cases[k].bytes;
		struct vac_engine *engine = open_engine("on", 128);
		struct vac_model *model = load(engine, 1, dir);
		float vectors[MOST_TEXTS * WIDTH];
		uint64_t loaded = fake_cuda.used_bytes;
		for (size_t n = 8; n <= 64; n += 8) {
			const struct batch batch = {1, {n}, 0};
			for (int i = 0; i < WORTH + 1; i++) {
				assert_int_equal(embed(engine, model, &batch, vectors, &err), 0);
				assert_true(fake_cuda.used_bytes - loaded <= 32 * MIB);
			}
		}
		assert_int_equal(fake_cuda.execs, cases[k].execs);
		assert_int_equal(warnings, cases[k].warnings);
		if (warnings)
			assert_non_null(strstr(warning, "one of 8 rows takes 34603008 bytes"));
		vac_model_close(model, NULL);
		check_nothing_is_left(engine);
		vac_engine_close(engine);
	}
}

static void test_many_classes(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .positions = POSITIONS};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	fake_cuda_reset();
	struct vac_engine *engine = open_engine("on", 256);
	struct vac_model *models[8];
	float vectors[MOST_TEXTS * WIDTH];
	for (uint32_t m = 0; m < 8; m++) {
		models[m] = load(engine, m + 1, dir);
		for (size_t n = 8; n <= 64; n += 8) {
			const struct batch batch = {1, {n}, 0};
			for (int i = 0; i < WORTH; i++)
				assert_int_equal(embed(engine, models[m], &batch, vectors, &err),
						 0);
		}
	}
	assert_int_equal(fake_cuda.execs, 48); /* of 64 classes */
	long plays = fake_cuda.plays;
	const struct batch batch = {1, {8}, 0};
	/* the first model's are gone, the last one's are there */
	assert_int_equal(embed(engine, models[0], &batch, vectors, &err), 0);
	assert_int_equal(fake_cuda.plays, plays);
	assert_int_equal(embed(engine, models[7], &batch, vectors, &err), 0);
	assert_int_equal(fake_cuda.plays, plays + 1);
	vac_engine_close(engine);
	assert_int_equal(fake_cuda_live(), 0);
}

/* Loads, answers until graphs are played, closes. How many answers were wrong. */
static int live(struct vac_engine *engine, const char *dir, const float *truth,
		const struct batch *batch, struct vac_error *err)
{
	struct vac_model *model;
	float vectors[MOST_TEXTS * WIDTH];
	int rc = world_load(engine, 1, dir, &model, err);
	if (rc < 0)
		return rc;
	for (int i = 0; rc == 0 && i < WORTH + 2; i++) {
		rc = embed(engine, model, batch, vectors, err);
		if (rc == 0)
			assert_memory_equal(vectors, truth, batch->count * WIDTH * sizeof(float));
	}
	vac_model_close(model, NULL);
	return rc;
}

static bool concerns_graphs(const char *call)
{
	return strncmp(call, "capture_", 8) == 0 || strncmp(call, "graph_", 6) == 0;
}

static void test_each_call_fails(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .positions = POSITIONS};
	const char *dir = tiny_write("model", &options);
	const struct batch batch = {3, {5, 9, 2}, 1};
	float truth[MOST_TEXTS * WIDTH];
	struct vac_error err = {0};
	fake_cuda_reset();
	struct vac_engine *plain = open_engine("off", 64);
	struct vac_model *model = load(plain, 1, dir);
	const long calls = fake_cuda.calls;
	assert_int_equal(embed(plain, model, &batch, truth, &err), 0);
	vac_engine_close(plain);
	/* refused (the capture cannot go on), for want of memory, and for good; while it is
	 * loaded is test_cuda.c's */
	static const int results[] = {901, VAC_CU_OUT_OF_MEMORY, VAC_CU_ILLEGAL_ADDRESS};
	int survived = 0;
	for (int kind = 0; kind < 3; kind++) {
		for (long n = calls;; n++) {
			err = (struct vac_error){0};
			fake_cuda_reset();
			fake_cuda.fail_at = n;
			fake_cuda.fail_with = results[kind];
			fake_cuda.fail_lasts = kind == 2;
			struct vac_engine *engine = open_engine("on", 64);
			int rc = live(engine, dir, truth, &batch, &err);
			const char *failed = fake_cuda.failed;
			if (failed && concerns_graphs(failed) && kind < 2) {
				survived++;
				if (rc < 0)
					fail_msg("%s: %s", failed, err.message);
				assert_int_equal(warnings, 1);
				assert_non_null(strstr(warning, "without CUDA graphs: "));
			}
			if (kind == 2 && failed && rc == 0 && strcmp(failed, "ctx_push") != 0 &&
			    strcmp(failed, "stream_synchronize") != 0)
				fail_msg("call %ld, %s, failed and nobody noticed", n, failed);
			assert_true(warnings <= 1);
			check_nothing_is_left(engine);
			vac_engine_close(engine);
			if (!failed) {
				assert_int_equal(rc, 0);
				assert_int_equal(fake_cuda.plays, 2);
				break;
			}
		}
	}
	assert_true(survived >= 2 * 4);
}

static void test_each_blas_call_fails(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .positions = POSITIONS};
	const char *dir = tiny_write("model", &options);
	const struct batch batch = {3, {5, 9, 2}, 1};
	float truth[MOST_TEXTS * WIDTH];
	struct vac_error err = {0};
	fake_cuda_reset();
	struct vac_engine *plain = open_engine("off", 64);
	struct vac_model *model = load(plain, 1, dir);
	const long calls = fake_cuda.blas_calls;
	assert_int_equal(embed(plain, model, &batch, truth, &err), 0);
	vac_engine_close(plain);
	for (long n = calls;; n++) {
		fake_cuda_reset();
		fake_cuda.blas_fail_at = n;
		struct vac_engine *engine = open_engine("on", 64);
		int rc = live(engine, dir, truth, &batch, &err);
		bool failed = fake_cuda.blas_calls > n;
		assert_true(warnings <= 1);
		check_nothing_is_left(engine);
		vac_engine_close(engine);
		if (!failed) {
			assert_int_equal(rc, 0);
			assert_true(n > calls + 100);
			break;
		}
	}
}

/* After a failure it is done without, until the device is started again. */
static void test_a_new_start(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .positions = POSITIONS};
	const char *dir = tiny_write("model", &options);
	const struct batch batch = {1, {9}, 1};
	float vectors[MOST_TEXTS * WIDTH];
	struct vac_error err = {0};
	fake_cuda_reset();
	fake_cuda.graph_bytes = 40 * MIB;
	struct vac_engine *engine = open_engine("on", 64);
	struct vac_model *model = load(engine, 1, dir);
	for (int i = 0; i < 3 * WORTH; i++)
		assert_int_equal(embed(engine, model, &batch, vectors, &err), 0);
	assert_int_equal(fake_cuda.plays, 0);
	assert_int_equal(warnings, 1);
	vac_model_close(model, NULL);
	fake_cuda.graph_bytes = 0;
	model = load(engine, 1, dir);
	for (int i = 0; i < WORTH + 1; i++)
		assert_int_equal(embed(engine, model, &batch, vectors, &err), 0);
	assert_int_equal(fake_cuda.plays, 1);
	assert_int_equal(warnings, 1);
	vac_engine_close(engine);
	assert_int_equal(fake_cuda_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_launches),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_owners),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_many_classes),
		cmocka_unit_test(test_each_call_fails),
		cmocka_unit_test(test_each_blas_call_fails),
		cmocka_unit_test(test_a_new_start),
	};
	return cmocka_run_group_tests(tests, world_begin, world_end);
}
