/*
 * batch.c - a batch on its way: what goes to the device, what is asked of it, and
 * what comes back. Without a device all of it is done at once; with one it is
 * asked for in vac_batch_begin and there when vac_batch_ended says so. On the
 * engine's thread.
 */
#include <string.h>

#include "base/clock.h"
#include "engine/internal.h"

static size_t align_up(size_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

uint64_t vac_batch_input_bytes(uint32_t rows, uint32_t sequences)
{
	return align_up(rows * sizeof(int32_t)) + align_up(rows) +
	       (sequences + 1) * sizeof(uint32_t);
}

/* The sizes that the batch is computed with. true: those of a class of small ones. */
static bool round_shape(const struct vac_engine *engine, const struct vac_model *model,
			const struct vac_batch *batch, struct vac_batch_shape *shape)
{
	const struct vac_backend_device *device = engine->backend->device;
	const struct vac_batch_shape room = {.rows = model->layout.rows,
					     .sequences = model->layout.sequences};
	*shape = (struct vac_batch_shape){batch->rows, batch->count, batch->longest};
	return device && device->round_batch && device->round_batch(engine->compute, &room, shape);
}

/* Lays the batch's tokens out, in the scratch at last. */
static void put_tokens(struct vac_engine *engine, struct vac_batch *batch,
		       const struct vac_batch_shape *shape, struct vac_tokens *tokens)
{
	const struct vac_backend_device *device = engine->backend->device;
	uint8_t *base = engine->scratch->base, *to = device ? batch->input : base;
	size_t types = align_up(shape->rows * sizeof(int32_t)), starts = types;
	starts += align_up(shape->rows);
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct vac_job *job = batch->entries[i].job;
		uint32_t row = batch->starts[i], length = batch->starts[i + 1] - row;
		uint32_t from = job->starts[batch->entries[i].index];
		memcpy(to + row * sizeof(int32_t), job->ids.data + from * sizeof(int32_t),
		       length * sizeof(int32_t));
		memcpy(to + types + row, job->types.data + from, length);
	}
	for (uint32_t i = batch->count; i < shape->sequences; i++)
		batch->starts[i + 1] = batch->rows;
	memcpy(to + starts, batch->starts, (shape->sequences + 1) * sizeof(uint32_t));
	if (device)
		device->upload(engine->compute, base, to,
			       vac_batch_input_bytes(shape->rows, shape->sequences));
	*tokens = (struct vac_tokens){
		.rows = shape->rows,
		.sequences = shape->sequences,
		.longest = shape->longest,
		.ids = (const int32_t *)(const void *)base,
		.types = base + types,
		.starts = (const uint32_t *)(const void *)(base + starts),
		.host_starts = batch->starts,
	};
}

/* What run() of a replay needs. */
struct computation {
	struct vac_model *model;
	const struct vac_tokens *tokens;
	void (*between)(void *ctx); /* NULL on a device, which is only asked for it */
};

static int compute_tokens(void *ctx, const float **out, struct vac_error *err)
{
	const struct computation *this = ctx;
	struct vac_model *model = this->model;
	const struct vac_engine *engine = model->engine;
	uint8_t *base = engine->scratch->base;
	const void *hidden;
	int rc = model->network->architecture->run(model->network, this->tokens,
						   base + model->layout.activations, this->between,
						   engine->between_ctx, &hidden, err);
	if (rc == 0)
		rc = vac_head_run(&model->head, this->tokens, hidden, base + model->layout.head,
				  out, err);
	return rc;
}

static uint32_t slot_of(const struct vac_engine *engine, const struct vac_batch *batch)
{
	return (uint32_t)(batch - engine->batches);
}

/* After a failure: what was asked for before may still use the batch's memory. */
static void quiet(struct vac_engine *engine, const struct vac_batch *batch)
{
	if (batch->error.code == VAC_E_GONE)
		return;
	int rc = engine->backend->synchronize(engine->compute, NULL);
	(void)rc; /* this batch has failed already, and the next one is told */
}

static int compute(struct vac_engine *engine, struct vac_model *model, struct vac_batch *batch)
{
	const struct vac_backend_device *device = engine->backend->device;
	const struct vac_scratch_layout *l = &model->layout;
	uint8_t *base = engine->scratch->base;
	struct vac_replay replay = {.owner = model, .base = base, .run = compute_tokens};
	struct vac_tokens tokens;
	bool small = round_shape(engine, model, batch, &replay.shape);
	struct computation computation = {model, &tokens, device ? NULL : engine->between};
	replay.ctx = &computation;
	put_tokens(engine, batch, &replay.shape, &tokens);
	engine->backend->workspace(engine->compute, base + l->workspace,
				   engine->scratch->bytes - l->workspace);
	int rc = small ? device->replay(engine->compute, &replay, &batch->vectors, &batch->error)
		       : compute_tokens(&computation, &batch->vectors, &batch->error);
	if (!device)
		return rc < 0 ? rc : engine->backend->synchronize(engine->compute, &batch->error);
	if (rc == 0) {
		device->download(engine->compute, batch->results, batch->vectors,
				 (size_t)batch->count * batch->width * sizeof(float));
		batch->vectors = batch->results;
		rc = device->mark(engine->compute, slot_of(engine, batch), &batch->error);
	}
	if (rc < 0)
		quiet(engine, batch);
	return rc;
}

static void end(struct vac_engine *engine, struct vac_batch *batch, int rc)
{
	int64_t now = vac_now_ns();
	batch->rc = rc;
	batch->ended = true;
	/* One that waited behind another began when that one ended. */
	if (batch->start_ns < engine->ended_ns)
		batch->start_ns = engine->ended_ns;
	batch->end_ns = now;
	if (rc == 0)
		engine->ended_ns = now;
}

void vac_batch_begin(struct vac_engine *engine, struct vac_model *model, struct vac_batch *batch)
{
	batch->model = model;
	batch->width = model->head.width;
	batch->ended = false;
	batch->start_ns = vac_now_ns();
	vac_engine_enter(engine);
	vac_engine_use(engine, model->dtype);
	int rc = compute(engine, model, batch);
	vac_engine_leave(engine);
	if (rc < 0 || !engine->backend->device)
		end(engine, batch, rc);
}

bool vac_batch_ended(struct vac_engine *engine, struct vac_batch *batch, bool wait)
{
	if (batch->ended)
		return true;
	vac_engine_enter(engine);
	int rc = engine->backend->device->reached(engine->compute, slot_of(engine, batch), wait,
						  &batch->error);
	if (rc < 0)
		quiet(engine, batch);
	vac_engine_leave(engine);
	if (rc <= 0)
		end(engine, batch, rc);
	return batch->ended;
}

void vac_batches_forget(const struct vac_job *job)
{
	for (uint32_t b = 0; b < VAC_BATCHES; b++) {
		struct vac_batch *batch = &job->engine->batches[b];
		for (uint32_t i = 0; i < batch->count; i++)
			if (batch->entries[i].job == job)
				batch->entries[i].job = NULL;
	}
}

/* Host memory of a batch on its way, as a device reaches it by itself. */
static int grow(struct vac_engine *engine, void **memory, uint64_t *have, uint64_t bytes,
		struct vac_error *err)
{
	const struct vac_backend_device *device = engine->backend->device;
	void *larger;
	bytes = vac_page_round(bytes);
	if (bytes <= *have)
		return 0;
	int rc = device->host_map(engine->compute, bytes, &larger, err);
	if (rc < 0)
		return rc;
	if (*memory) {
		/* results that are not delivered yet */
		memcpy(larger, *memory, *have);
		device->host_unmap(engine->compute, *memory, *have);
	}
	*memory = larger;
	*have = bytes;
	return 0;
}

int vac_batch_reserve(struct vac_model *model, struct vac_error *err)
{
	struct vac_engine *engine = model->engine;
	const struct vac_scratch_layout *l = &model->layout;
	int rc = 0;
	if (!engine->backend->device)
		return 0;
	for (uint32_t i = 0; rc == 0 && i < VAC_BATCHES; i++) {
		struct vac_batch *batch = &engine->batches[i];
		void *input = batch->input, *results = batch->results;
		rc = grow(engine, &input, &batch->input_bytes,
			  vac_batch_input_bytes(l->rows, l->sequences), err);
		batch->input = input;
		if (rc == 0)
			rc = grow(engine, &results, &batch->results_bytes,
				  (uint64_t)l->sequences * model->head.width * sizeof(float), err);
		batch->results = results;
		batch->vectors = results;
	}
	return rc;
}

void vac_batch_free(struct vac_engine *engine)
{
	const struct vac_backend_device *device = engine->backend->device;
	if (!engine->batches[0].input) /* the device may be on its way up still */
		return;
	vac_engine_enter(engine);
	for (uint32_t i = 0; i < VAC_BATCHES; i++) {
		struct vac_batch *batch = &engine->batches[i];
		if (batch->input)
			device->host_unmap(engine->compute, batch->input, batch->input_bytes);
		if (batch->results)
			device->host_unmap(engine->compute, batch->results, batch->results_bytes);
		batch->input = NULL;
		batch->results = NULL;
		batch->input_bytes = batch->results_bytes = 0;
	}
	vac_engine_leave(engine);
}
