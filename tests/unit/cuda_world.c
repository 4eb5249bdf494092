/* cuda_world.c - see cuda_world.h. */
#include "cuda_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "temp_dir.h"

static const char *directory;

struct vac_engine *world_engine(const char *dtype)
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

int world_load(struct vac_engine *engine, uint32_t id, const char *dir, struct vac_model **out,
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

void world_count(struct vac_job *job, void *ctx)
{
	(void)job;
	*(int *)ctx += 1;
}

static const int32_t ids[] = {2,  5,  3,  2,  3,  2,  10, 11, 12, 13, 14, 15, 16,
			      17, 3,  39, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
			      10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};
static const size_t lengths[] = {3, 2, 10, 1, 23};

int world_embed(struct vac_engine *engine, struct vac_model *model, float *vectors,
		struct vac_error *err)
{
	const struct vac_task_options options = {.task = VAC_TASK_EMBED};
	struct vac_input inputs[WORLD_TEXTS];
	struct vac_job *job;
	uint32_t rows, width;
	int done = 0, rc;
	for (size_t i = 0, at = 0; i < WORLD_TEXTS; at += lengths[i++])
		inputs[i] = (struct vac_input){.ids = ids + at, .id_count = lengths[i]};
	assert_int_equal(vac_job_create(model, &options, inputs, WORLD_TEXTS, &job, err), 0);
	vac_job_submit(job, world_count, &done);
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

int world_answer(struct vac_engine *engine, const char *dir, struct vac_error *err)
{
	struct vac_model *model;
	int rc = world_load(engine, 1, dir, &model, err);
	if (rc < 0)
		return rc;
	rc = world_embed(engine, model, NULL, err);
	vac_model_close(model, NULL);
	return rc;
}

void world_truth(const float *vectors)
{
	for (size_t i = 0, at = 0; i < WORLD_TEXTS; at += lengths[i++])
		tiny_check(i, ids + at, lengths[i], vectors + i * tiny_width());
}

void world_nothing_is_left(const struct vac_engine *engine)
{
	const struct vac_ledger *ledger = vac_engine_ledger(engine);
	assert_int_equal(ledger->count, 0);
	assert_int_equal(ledger->device_bytes, 0);
	assert_int_equal(ledger->host_bytes, 0);
	assert_int_equal(fake_cuda.used_bytes, 0);
	assert_int_equal(fake_cuda_live(), 0);
}

const char *world_directory(void)
{
	return directory;
}

int world_begin(void **state)
{
	(void)state;
	directory = temp_dir_make();
	setenv("VACATE_HOLD_DIR", directory, 1);
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
	unsetenv("VACATE_CUDA_GRAPHS");
	fake_cuda_reset();
	fake_cuda_install();
	return 0;
}

int world_end(void **state)
{
	(void)state;
	fake_cuda_remove();
	temp_dir_remove();
	return 0;
}
