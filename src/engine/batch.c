/*
 * batch.c - the queue and the batches. No timer: whenever the device is free,
 * a batch is made of what is queued and computed.
 *
 * Models take turns by tokens: each has a clock of tokens served, and the one
 * that is furthest behind among those with work is next; a model that was idle
 * is set to the least clock of the busy ones, so that it cannot save turns up.
 * Within a model jobs take turns by sequences, so that a large job does not
 * hold up small ones. A batch ends at max_batch_tokens, or at the tokens
 * that the model computes in batch_target_ms at its measured speed; one
 * sequence always fits. A GPU takes as long for a few tokens as for some hundred,
 * and what it takes at first says nothing: there a batch of VAC_BATCH_DEVICE_TOKENS
 * is never too large, and which texts share one does not depend on how quick the
 * ones before were (another batch may round otherwise). On the engine's thread.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/internal.h"

/* The least clock of the models with work; NULL: none has any. */
static struct vac_model *next_model(const struct vac_engine *engine)
{
	struct vac_model *next = NULL;
	for (struct vac_model *m = engine->models; m; m = m->next)
		if (m->queue_first && (!next || m->served_tokens < next->served_tokens))
			next = m;
	return next;
}

static void append(struct vac_model *model, struct vac_job *job)
{
	job->previous_in_queue = model->queue_last;
	job->next_in_queue = NULL;
	if (model->queue_last)
		model->queue_last->next_in_queue = job;
	else
		model->queue_first = job;
	model->queue_last = job;
	job->in_queue = true;
}

void vac_queue_put(struct vac_job *job)
{
	struct vac_model *model = job->model;
	const struct vac_model *busy = next_model(model->engine);
	if (!model->queue_first && busy && model->served_tokens < busy->served_tokens)
		model->served_tokens = busy->served_tokens;
	append(model, job);
}

void vac_queue_remove(struct vac_job *job)
{
	struct vac_model *model = job->model;
	if (job->previous_in_queue)
		job->previous_in_queue->next_in_queue = job->next_in_queue;
	else
		model->queue_first = job->next_in_queue;
	if (job->next_in_queue)
		job->next_in_queue->previous_in_queue = job->previous_in_queue;
	else
		model->queue_last = job->previous_in_queue;
	job->next_in_queue = job->previous_in_queue = NULL;
	job->in_queue = false;
}

bool vac_engine_has_work(const struct vac_engine *engine)
{
	return engine->orphans || next_model(engine);
}

static uint32_t budget_tokens(const struct vac_engine *engine, const struct vac_model *model)
{
	double tokens = VAC_BATCH_FIRST_TOKENS;
	if (model->tokens_per_second > 0)
		tokens = model->tokens_per_second * engine->batch_target_ms * 1e-3;
	if (engine->backend->device && tokens < VAC_BATCH_DEVICE_TOKENS)
		tokens = VAC_BATCH_DEVICE_TOKENS;
	return tokens < model->max_batch_tokens ? (uint32_t)tokens : model->max_batch_tokens;
}

/* Moves sequences from the model's queue into the batch. */
static void fill_batch(struct vac_engine *engine, struct vac_model *model)
{
	struct vac_batch *batch = &engine->batch;
	uint32_t budget = budget_tokens(engine, model);
	batch->number++;
	batch->count = batch->rows = batch->longest = 0;
	batch->starts[0] = 0;
	while (model->queue_first && batch->count < model->layout.sequences) {
		struct vac_job *job = model->queue_first;
		uint32_t length = job->starts[job->taken + 1] - job->starts[job->taken];
		if (batch->count && batch->rows + length > budget)
			break;
		batch->entries[batch->count++] =
			(struct vac_batch_entry){.job = job, .index = job->taken++};
		batch->rows += length;
		batch->starts[batch->count] = batch->rows;
		if (length > batch->longest)
			batch->longest = length;
		/* next turn: the job behind it */
		vac_queue_remove(job);
		if (job->taken < job->sequences)
			append(model, job);
	}
}

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
			struct vac_batch_shape *shape)
{
	const struct vac_backend_device *device = engine->backend->device;
	const struct vac_batch *batch = &engine->batch;
	const struct vac_batch_shape room = {.rows = model->layout.rows,
					     .sequences = model->layout.sequences};
	*shape = (struct vac_batch_shape){batch->rows, batch->count, batch->longest};
	return device && device->round_batch && device->round_batch(engine->compute, &room, shape);
}

/* Lays the batch's tokens out, in the scratch at last. */
static void put_tokens(struct vac_engine *engine, const struct vac_batch_shape *shape,
		       struct vac_tokens *tokens)
{
	struct vac_batch *batch = &engine->batch;
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
	void (*between)(void *ctx); /* NULL for a small batch, which is done in no time */
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

static int compute_batch(struct vac_engine *engine, struct vac_model *model, const float **out,
			 struct vac_error *err)
{
	const struct vac_backend_device *device = engine->backend->device;
	const struct vac_scratch_layout *l = &model->layout;
	struct vac_batch *batch = &engine->batch;
	uint8_t *base = engine->scratch->base;
	struct vac_replay replay = {.owner = model, .base = base, .run = compute_tokens};
	struct vac_tokens tokens;
	bool small = round_shape(engine, model, &replay.shape);
	struct computation computation = {model, &tokens, small ? NULL : engine->between};
	replay.ctx = &computation;
	put_tokens(engine, &replay.shape, &tokens);
	engine->backend->workspace(engine->compute, base + l->workspace,
				   engine->scratch->bytes - l->workspace);
	int rc = small ? device->replay(engine->compute, &replay, out, err)
		       : compute_tokens(&computation, out, err);
	if (rc == 0 && device) {
		device->download(engine->compute, batch->results, *out,
				 (size_t)batch->count * model->head.width * sizeof(float));
		*out = batch->results;
	}
	if (rc == 0)
		rc = engine->backend->synchronize(engine->compute, err);
	return rc;
}

static int grow(void **buffer, uint64_t *have, uint64_t bytes, struct vac_error *err)
{
	if (bytes <= *have)
		return 0;
	void *grown = realloc(*buffer, bytes);
	if (!grown)
		return vac_fail_nomem(err, "a batch on its way to the device", bytes);
	*buffer = grown;
	*have = bytes;
	return 0;
}

int vac_batch_reserve(struct vac_model *model, struct vac_error *err)
{
	struct vac_batch *batch = &model->engine->batch;
	const struct vac_scratch_layout *l = &model->layout;
	void *input = batch->input, *results = batch->results;
	if (!model->engine->backend->device)
		return 0;
	int rc = grow(&input, &batch->input_bytes, vac_batch_input_bytes(l->rows, l->sequences),
		      err);
	batch->input = input;
	if (rc == 0)
		rc = grow(&results, &batch->results_bytes,
			  (uint64_t)l->sequences * model->head.width * sizeof(float), err);
	batch->results = results;
	return rc;
}

void vac_batch_free(struct vac_batch *batch)
{
	free(batch->input);
	free(batch->results);
	batch->input = NULL;
	batch->results = NULL;
	batch->input_bytes = batch->results_bytes = 0;
}

/* The model's speed, mostly that of its last large batches: small ones are
 * slower a token and say little about large ones. */
static void learn_speed(struct vac_model *model, uint32_t rows, int64_t ns)
{
	double speed = rows / ((double)(ns > 0 ? ns : 1) * 1e-9);
	double weight = 0.5 * rows / model->layout.rows;
	if (weight < 0.05)
		weight = 0.05;
	if (model->tokens_per_second <= 0)
		model->tokens_per_second = speed;
	else
		model->tokens_per_second += weight * (speed - model->tokens_per_second);
}

static void take_result(const struct vac_batch_entry *entry, const float *from)
{
	struct vac_job *job = entry->job;
	float *to = job->vectors + (size_t)entry->index * job->dimensions;
	memcpy(to, from, job->dimensions * sizeof(float));
	/* A model that normalizes does so before dimensions are dropped; doing it
	 * once, after, gives the same direction and length 1. */
	if (job->normalize)
		vac_normalize_vector(to, job->dimensions);
}

/* Results and times to the jobs; then done is called for those that are
 * complete, or all on an error. A callback may free any job: entries are
 * cleared by vac_job_free, and each is looked at only once. */
static void deliver(struct vac_engine *engine, const struct vac_model *model, int rc,
		    const struct vac_error *err, const float *vectors, int64_t start, int64_t ns)
{
	struct vac_batch *batch = &engine->batch;
	for (uint32_t i = 0; i < batch->count; i++) {
		struct vac_job *job = batch->entries[i].job;
		if (!job)
			continue;
		if (job->batch != batch->number) {
			job->batch = batch->number;
			job->times.compute_ns += ns;
			if (!job->started)
				job->times.queue_ns = start - job->submitted_ns;
			job->started = true;
		}
		if (rc == 0)
			take_result(&batch->entries[i], vectors + (size_t)i * model->head.width);
	}
	for (uint32_t i = 0; i < batch->count; i++) {
		struct vac_job *job = batch->entries[i].job;
		if (!job || job->state == VAC_JOB_DONE)
			continue;
		job->open--;
		if (rc < 0 || job->open == 0)
			vac_job_finish(job, rc, err);
	}
	batch->count = 0;
}

int vac_engine_step(struct vac_engine *engine, struct vac_error *err)
{
	struct vac_error failure;
	const float *vectors = NULL;
	if (engine->orphans) {
		struct vac_job *job = engine->orphans;
		engine->orphans = job->next_in_queue;
		vac_job_finish(job, job->rc, &job->error);
		return 1;
	}
	struct vac_model *model = next_model(engine);
	if (!model)
		return 0;
	if (engine->computing)
		engine->computing(engine->between_ctx, model->id);
	fill_batch(engine, model);
	int64_t start = vac_now_ns();
	vac_engine_enter(engine);
	vac_engine_use(engine, model->dtype);
	int rc = compute_batch(engine, model, &vectors, &failure);
	vac_engine_leave(engine);
	int64_t ns = vac_now_ns() - start;
	model->served_tokens += engine->batch.rows;
	if (rc == 0)
		learn_speed(model, engine->batch.rows, ns);
	deliver(engine, model, rc, &failure, vectors, start, ns);
	if (rc < 0 && failure.code == VAC_E_GONE) {
		if (err)
			*err = failure;
		return rc;
	}
	return 1;
}
