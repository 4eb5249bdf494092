/*
 * test_cuda.c - the cuda backend without a GPU: all of its host code runs on
 * the fake of fake_cuda.c, through the engine. Vectors against the truth, plan
 * against ledger, every call of the driver and of cuBLASLt failing in turn with
 * nothing left, and one sentence for each thing that is missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver/cuda.h"
#include "engine/cuda/backend.h"
#include "engine/compute.h"
#include "engine/cuda/kernels.h"
#include "fake_cuda.h"
#include "memory/meter.h"
#include "temp_dir.h"
#include "tiny_model.h"

#define MIB ((uint64_t)1 << 20)

#define TRIALS_NS (100 * 1000000) /* as ever */
static const char *directory;     /* the test's own */

static struct vac_engine *open_engine(const char *dtype)
{
	struct vac_engine *engine;
	struct vac_error err;
	const struct vac_engine_options options = {
		.backend = "cuda", .threads = 2, .dtype = dtype, .max_batch_tokens = 64};
	if (vac_engine_open(&engine, &options, &err) < 0)
		fail_msg("%s", err.message);
	return engine;
}

/* What models are computed in, in an engine whose own choice is float16. */
static const struct vac_model_options float32 = {.dtype = "float32"};

/* On failure the model is closed. */
static int load(struct vac_engine *engine, uint32_t id, const char *dir, struct vac_model **out,
		struct vac_error *err)
{
	int rc = vac_model_begin_load(engine, id, dir, &float32, out, err);
	if (rc < 0)
		return rc;
	while ((rc = vac_model_load_step(*out, err)) > 0)
		;
	if (rc < 0)
		vac_model_close(*out, NULL);
	return rc;
}

static void mark_done(struct vac_job *job, void *ctx)
{
	(void)job;
	*(int *)ctx += 1;
}

static const int32_t ids[] = {2,  5,  3,  2,  3,  2,  10, 11, 12, 13, 14, 15, 16,
			      17, 3,  39, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
			      10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};
static const size_t lengths[] = {3, 2, 10, 1, 23};
#define COUNT 5

/* The job's status; *vectors is copied when it is 0. */
static int embed(struct vac_engine *engine, struct vac_model *model, float *vectors,
		 struct vac_error *err)
{
	const struct vac_task_options options = {.task = VAC_TASK_EMBED};
	struct vac_input inputs[COUNT];
	struct vac_job *job;
	uint32_t rows, width;
	int done = 0, rc;
	for (size_t i = 0, at = 0; i < COUNT; at += lengths[i++])
		inputs[i] = (struct vac_input){.ids = ids + at, .id_count = lengths[i]};
	assert_int_equal(vac_job_create(model, &options, inputs, COUNT, &job, err), 0);
	vac_job_submit(job, mark_done, &done);
	while ((rc = vac_engine_step(engine, err)) > 0)
		;
	assert_int_equal(done, 1);
	if (rc == 0)
		rc = vac_job_status(job, err);
	const float *from = vac_job_vectors(job, &rows, &width);
	if (rc == 0 && vectors)
		memcpy(vectors, from, (size_t)rows * width * sizeof(float));
	vac_job_free(job);
	return rc;
}

static void check_truth(const float *vectors)
{
	double truth[2048];
	uint32_t width = tiny_width();
	for (size_t i = 0, at = 0; i < COUNT; at += lengths[i++]) {
		tiny_truth(ids + at, lengths[i], truth);
		double largest = 0;
		for (uint32_t c = 0; c < width; c++)
			largest = fmax(largest, fabs(truth[c]));
		for (uint32_t c = 0; c < width; c++)
			if (!(fabs(vectors[i * width + c] - truth[c]) <=
			      2.5e-6 * tiny_gain() * largest))
				fail_msg("input %zu component %u: %.9g, the truth is %.9g", i, c,
					 vectors[i * width + c], truth[c]);
	}
}

static void check_nothing_is_left(const struct vac_engine *engine)
{
	const struct vac_ledger *ledger = vac_engine_ledger(engine);
	assert_int_equal(ledger->count, 0);
	assert_int_equal(ledger->device_bytes, 0);
	assert_int_equal(ledger->host_bytes, 0);
	assert_int_equal(fake_cuda.used_bytes, 0);
	assert_int_equal(fake_cuda_live(), 0);
}

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
		static float vectors[COUNT * 2048];
		struct vac_error err = {0};
		struct vac_model *model;
		fake_cuda_reset();
		struct vac_engine *engine = open_engine(NULL);
		if (load(engine, 1, dir, &model, &err) < 0 ||
		    embed(engine, model, vectors, &err) < 0)
			fail_msg("%s", err.message);
		check_truth(vectors);
		assert_string_equal(vac_model_info(model)->dtype, "float32");
		assert_string_equal(vac_engine_device(engine), "cuda:0");
		assert_non_null(strstr(vac_engine_description(engine), "Fake GPU, sm_90"));
		vac_model_close(model, NULL);
		check_nothing_is_left(engine);
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
		struct vac_engine *engine = open_engine(dtypes[i]);
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
			assert_int_equal(load(engine, 7, dir, &model, &err), 0);
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
		check_nothing_is_left(engine);
		vac_engine_close(engine);
	}
}

/* One of two goes: its bytes go, the other answers on; then the context. */
static void test_neighbours(void **state)
{
	(void)state;
	static float vectors[COUNT * 2048];
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	struct vac_model *a, *b;
	fake_cuda_reset();
	struct vac_engine *engine = open_engine("float32");
	assert_int_equal(load(engine, 1, dir, &a, &err), 0);
	uint64_t alone = fake_cuda.used_bytes;
	assert_int_equal(load(engine, 2, dir, &b, &err), 0);
	assert_int_equal(fake_cuda.used_bytes, alone + vac_plan_own_bytes(vac_model_plan(b), true));
	vac_model_close(a, NULL);
	assert_int_equal(fake_cuda.used_bytes, alone);
	assert_int_equal(fake_cuda.contexts, 1);
	if (embed(engine, b, vectors, &err) < 0)
		fail_msg("%s", err.message);
	check_truth(vectors);
	vac_model_close(b, NULL);
	check_nothing_is_left(engine);
	/* and again, in the same engine */
	assert_int_equal(load(engine, 3, dir, &a, &err), 0);
	assert_int_equal(embed(engine, a, vectors, &err), 0);
	check_truth(vectors);
	vac_engine_close(engine);
	assert_int_equal(fake_cuda_live(), 0);
}

static int load_and_embed(struct vac_engine *engine, const char *dir, struct vac_error *err)
{
	struct vac_model *model;
	int rc = load(engine, 1, dir, &model, err);
	if (rc < 0)
		return rc;
	rc = embed(engine, model, NULL, err);
	vac_model_close(model, NULL);
	return rc;
}

/* Every call of the driver fails in turn, once and for good. */
static void test_each_call_fails(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 8};
	const char *dir = tiny_write("model", &options);
	const int results[] = {VAC_CU_OUT_OF_MEMORY, VAC_CU_ILLEGAL_ADDRESS};
	for (int kind = 0; kind < 2; kind++) {
		for (long n = 0;; n++) {
			struct vac_error err = {0};
			fake_cuda_reset();
			fake_cuda.fail_at = n;
			fake_cuda.fail_with = results[kind];
			/* what is sticky stays */
			fake_cuda.fail_lasts = kind;
			struct vac_engine *engine = open_engine("float32");
			int rc = load_and_embed(engine, dir, &err);
			const char *failed = fake_cuda.failed;
			/* a name is asked for twice: without the second there is no lock */
			if (failed && rc == 0 && strcmp(failed, "stream_synchronize") != 0 &&
			    strcmp(failed, "ctx_push") != 0 && strcmp(failed, "device_name") != 0)
				fail_msg("call %ld, %s, failed and nobody noticed", n, failed);
			if (failed && rc < 0 && (err.code == VAC_OK || !*err.message))
				fail_msg("call %ld, %s: no error", n, failed);
			if (rc < 0 && kind == 0 && err.code != VAC_E_NO_ROOM)
				fail_msg("call %ld, %s: %s", n, failed, err.message);
			check_nothing_is_left(engine);
			vac_engine_close(engine);
			if (!failed) {
				assert_int_equal(rc, 0);
				assert_true(n > 60);
				break;
			}
		}
	}
}

static void test_each_blas_call_fails(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 8};
	const char *dir = tiny_write("model", &options);
	for (long n = 0;; n++) {
		struct vac_error err = {0};
		fake_cuda_reset();
		fake_cuda.blas_fail_at = n;
		struct vac_engine *engine = open_engine("float32");
		int rc = load_and_embed(engine, dir, &err);
		bool failed = fake_cuda.blas_calls > n;
		if (rc < 0) {
			assert_int_equal(err.code, VAC_E_INTERNAL);
			assert_non_null(strstr(err.message, "cuBLASLt"));
		}
		check_nothing_is_left(engine);
		vac_engine_close(engine);
		if (!failed) {
			assert_int_equal(rc, 0);
			assert_true(n > 40);
			break;
		}
	}
}

/* Too little room on the device for each region in turn. */
static void test_no_room(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	const char *const missing[] = {"weights", "packed", "activations"};
	for (uint64_t i = 0; i < 3; i++) {
		struct vac_error err = {0};
		struct vac_model *model;
		fake_cuda_reset();
		fake_cuda.room_bytes = (2 * i + 1) * MIB;
		struct vac_engine *engine = open_engine("float32");
		assert_int_equal(load(engine, 1, dir, &model, &err), -ENOMEM);
		assert_int_equal(err.code, VAC_E_NO_ROOM);
		if (!strstr(err.message, missing[i]))
			fail_msg("\"%s\" does not say \"%s\"", err.message, missing[i]);
		check_nothing_is_left(engine);
		/* there is room again: it loads */
		fake_cuda.room_bytes = 100 * MIB;
		assert_int_equal(load(engine, 1, dir, &model, &err), 0);
		vac_engine_close(engine);
		assert_int_equal(fake_cuda_live(), 0);
	}
}

static void refuse(enum vac_error_code code, const char *part)
{
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	struct vac_model *model;
	struct vac_engine *engine = open_engine("float32");
	assert_int_equal(load(engine, 1, dir, &model, &err), vac_error_errno(code));
	assert_int_equal(err.code, code);
	if (!strstr(err.message, part))
		fail_msg("\"%s\" does not say \"%s\"", err.message, part);
	check_nothing_is_left(engine);
	vac_engine_close(engine);
	fake_cuda_reset();
}

static void test_refused_devices(void **state)
{
	(void)state;
	fake_cuda_reset();
	fake_cuda.devices = 0;
	refuse(VAC_E_NOT_FOUND, "the driver sees no GPU");
	fake_cuda.driver = 11080;
	refuse(VAC_E_UNSUPPORTED, "made for CUDA 11.8; install driver 525");
	fake_cuda.major = 7;
	fake_cuda.minor = 5;
	refuse(VAC_E_UNSUPPORTED, "compute capability 7.5; 8.0");
	fake_cuda.vmm = 0;
	refuse(VAC_E_UNSUPPORTED, "virtual memory management");
	fake_cuda.fail_at = 0;
	fake_cuda.fail_with = VAC_CU_OPERATING_SYSTEM;
	refuse(VAC_E_IO, "who may open /dev/nvidia*");
	fake_cuda.fail_at = 0;
	fake_cuda.fail_with = VAC_CU_DRIVER_MISMATCH;
	refuse(VAC_E_UNSUPPORTED, "different versions; reboot");
	fake_cuda.fail_at = 0;
	fake_cuda.fail_with = 999;
	refuse(VAC_E_GONE, "dmesg");
}

static void test_refused_options(void **state)
{
	(void)state;
	struct vac_engine *engine;
	struct vac_error err = {0};
	struct vac_engine_options options = {.backend = "cuda", .dtype = "float64"};
	uint32_t number;
	assert_int_equal(vac_engine_open(&engine, &options, &err), -ENOTSUP);
	assert_non_null(strstr(err.message,
			       "does not compute in float64; it can: float16, bfloat16, float32"));
	options = (struct vac_engine_options){.backend = "reference", .dtype = "float16"};
	assert_int_equal(vac_engine_open(&engine, &options, &err), -ENOTSUP);
	assert_non_null(strstr(err.message,
			       "backend reference does not compute in float16; it can: float32"));
	const char *backend;
	assert_int_equal(vac_engine_parse_device("cuda:3", &backend, &number, &err), 0);
	assert_string_equal(backend, "cuda");
	assert_int_equal(number, 3);
	assert_int_equal(vac_engine_parse_device("cpu", &backend, &number, &err), 0);
	assert_string_equal(backend, "cpu");
	const char *const bad[] = {"", "cuda:", "cuda:x", "cuda:1x", "cuda:256", "gpu", "cuda:-1"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(vac_engine_parse_device(bad[i], &backend, &number, &err), -EINVAL);
		assert_non_null(strstr(err.message, "is not a device"));
	}
	/* a GPU that is not there is found out when it is needed */
	fake_cuda_reset();
	struct vac_model *model;
	const struct tiny_options tiny = {.seed = 1};
	const char *dir = tiny_write("model", &tiny);
	options = (struct vac_engine_options){.backend = "cuda", .device = 2};
	assert_int_equal(vac_engine_open(&engine, &options, &err), 0);
	assert_int_equal(load(engine, 1, dir, &model, &err), -ENOENT);
	assert_non_null(strstr(err.message, "there is no cuda:2: the driver shows 1 GPU"));
	vac_engine_close(engine);
}

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
		struct vac_engine *engine = open_engine("float32");
		assert_int_equal(load_and_embed(engine, dir, &err), 0);
		assert_int_equal(fake_cuda.compiled, !cases[i].ahead);
		assert_int_equal(fake_cuda.loaded == ours, cases[i].ahead);
		check_nothing_is_left(engine);
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
	vac_job_submit(job, mark_done, &done);
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
	assert_int_equal(load(engine, 1, dir, &model, &err), 0);
	for (int i = 0; i < 2; i++) {
		struct vac_job *job;
		int done = 0;
		assert_int_equal(vac_job_create(model, &task, inputs, TEXTS, &job, &err), 0);
		vac_job_submit(job, mark_done, &done);
		assert_int_equal(vac_engine_step(engine, &err), 1);
		assert_int_equal(done, 1);
		vac_job_free(job);
		fake_cuda.blas_sleep_us = i == 0 ? 20000 : 0;
		embed_one(engine, model, 3);
		fake_cuda.blas_sleep_us = 0;
	}
	vac_model_close(model, NULL);
	check_nothing_is_left(engine);
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
	struct vac_engine *engine = open_engine("float32");
	assert_int_equal(load(engine, 1, dir, &model, &err), 0);
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
	check_nothing_is_left(engine);
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
	setenv("XDG_CACHE_HOME", directory, 1);
	vac_cuda_trials_ns = INT64_MAX / 4;
	for (int life = 0; life < 3; life++) {
		fake_cuda_reset();
		fake_cuda.blas_slow = life < 2 ? 2 : 1;
		fake_cuda.blas_sleep_us = 1000;
		fake_cuda.blas_idle = true;
		struct vac_engine *engine = open_engine("float32");
		assert_int_equal(load(engine, 1, dir, &model, &err), 0);
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
		check_nothing_is_left(engine);
		vac_engine_close(engine);
	}
	vac_cuda_trials_ns = TRIALS_NS;
	/* a choice that does not serve fewer rows is replaced at the first try */
	fake_cuda_reset();
	fake_cuda.blas_slow = 2;
	fake_cuda.blas_idle = true;
	fake_cuda.blas_refuses = 8;
	struct vac_engine *engine = open_engine("float32");
	assert_int_equal(load(engine, 1, dir, &model, &err), 0);
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
		snprintf(cache, sizeof(cache), "%s/cache-%d", directory, life / 2);
		mkdir(cache, 0700);
		setenv("XDG_CACHE_HOME", cache, 1);
		fake_cuda_reset();
		fake_cuda.blas_slow = 2;
		fake_cuda.blas_sleep_us = lives[life].sleep_us;
		fake_cuda.blas_idle = true;
		vac_cuda_trials_ns = lives[life].ns;
		struct vac_engine *engine = open_engine("float32");
		assert_int_equal(load(engine, 1, dir, &model, &err), 0);
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
		check_nothing_is_left(engine);
		vac_engine_close(engine);
	}
	vac_cuda_trials_ns = TRIALS_NS;
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
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
	struct vac_engine *engine = open_engine("float32");
	assert_int_equal(load(engine, 1, dir, &model, &err), 0);
	fake_cuda.sticky = VAC_CU_ECC_UNCORRECTABLE;
	assert_int_equal(embed(engine, model, NULL, &err), -EPIPE);
	assert_int_equal(err.code, VAC_E_GONE);
	assert_non_null(strstr(err.message, "ECC"));
	/* it stays so */
	fake_cuda.sticky = 0;
	assert_int_equal(embed(engine, model, NULL, &err), -EPIPE);
	vac_model_close(model, NULL);
	check_nothing_is_left(engine);
	/* a new context is a new start */
	assert_int_equal(load(engine, 1, dir, &model, &err), 0);
	assert_int_equal(embed(engine, model, NULL, &err), 0);
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
		struct vac_engine *engine = open_engine("float32");
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
			assert_int_equal(embed(engine, model, NULL, &err), 0);
		}
		vac_model_close(model, NULL);
		check_nothing_is_left(engine);
		vac_engine_close(engine);
	}
	assert_true(errors >= 2);
	assert_int_equal(rc, 0);
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
		struct vac_engine *engine = open_engine("float32");
		assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), 0);
		for (int i = 0; rc > 0 && i < steps; i++)
			rc = vac_model_load_step(model, &err);
		vac_model_close(model, NULL);
		check_nothing_is_left(engine);
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
	struct vac_engine *engine = open_engine("float32");
	assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), 0);
	/* no step was taken; a minute only guards against hanging */
	for (int i = 0; i < 60000 && now < (uint64_t)st.st_size; i++) {
		usleep(1000);
		assert_int_equal(vac_meter_page_cache(path, &now, &err), 0);
	}
	assert_true(now >= (uint64_t)st.st_size);
	vac_model_close(model, NULL);
	check_nothing_is_left(engine);
	vac_engine_close(engine);
}

static void test_no_driver(void **state)
{
	(void)state;
	const struct vac_cuda *cuda;
	struct vac_error err = {0};
	fake_cuda_remove();
	int rc = vac_cuda_load(&cuda, &err);
	fake_cuda_install();
	if (rc == 0)
		skip(); /* this machine has one */
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_non_null(strstr(err.message, "there is no NVIDIA driver here"));
}

static int set_up(void **state)
{
	(void)state;
	directory = temp_dir_make();
	setenv("VACATE_HOLD_DIR", directory, 1);
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
	fake_cuda_reset();
	fake_cuda_install();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_cuda_remove();
	temp_dir_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_each_call_fails),
		cmocka_unit_test(test_each_blas_call_fails),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_refused_devices),
		cmocka_unit_test(test_refused_options),
		cmocka_unit_test(test_kernels_ahead),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_small_batches_stay_whole),
		cmocka_unit_test(test_fastest_product),
		cmocka_unit_test(test_small_products),
		cmocka_unit_test(test_trials_end),
		cmocka_unit_test(test_sticky_error),
		cmocka_unit_test(test_close_while_loading),
		cmocka_unit_test(test_read_ahead),
		cmocka_unit_test(test_no_driver),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
