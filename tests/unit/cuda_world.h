/*
 * cuda_world.h - an engine of the cuda backend on the fake GPU of fake_cuda.c, tiny models
 * in it, and texts whose vectors are compared with the truth. One thread.
 */
#ifndef CUDA_WORLD_H
#define CUDA_WORLD_H

#include "engine/engine.h"
#include "fake_cuda.h"
#include "tiny_model.h"

#define WORLD_TEXTS 5

/* Set-up and tear-down of a group of cmocka's: a directory of the test's own, where the locks
 * are, no cache of kernels, and the fake driver. */
int world_begin(void **state);
int world_end(void **state);
const char *world_directory(void);

/* dtype NULL: as the backend chooses. Fails the test. */
struct vac_engine *world_engine(const char *dtype);
/* In float32. On failure the model is closed. */
int world_load(struct vac_engine *engine, uint32_t id, const char *dir, struct vac_model **out,
	       struct vac_error *err);
/* For vac_job_submit(): adds one to the int at ctx. */
void world_count(struct vac_job *job, void *ctx);
/* The status of a job of all texts; *vectors (NULL: not wanted) is copied when it is 0. */
int world_embed(struct vac_engine *engine, struct vac_model *model, float *vectors,
		struct vac_error *err);
/* Loads it, asks, and closes it again. */
int world_answer(struct vac_engine *engine, const char *dir, struct vac_error *err);
/* Of the model that was written last. */
void world_truth(const float *vectors);
/* No region, no object of the driver's and none of its memory. */
void world_nothing_is_left(const struct vac_engine *engine);

#endif
