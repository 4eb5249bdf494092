/*
 * queue.c - what waits to be computed, and what of it becomes a batch. No timer:
 * whenever the device is free, a batch is made of what is queued.
 *
 * Models take turns by tokens: each has a clock of tokens served, and the one
 * that is furthest behind among those with work is next; a model that was idle
 * is set to the least clock of the busy ones, and to that of the last turn, so that it
 * cannot save turns up, also when all that the others have is under way.
 * Within a model jobs take turns by sequences, so that a large job does not
 * hold up small ones. A batch ends at max_batch_tokens, or at the tokens
 * that the model computes in batch_target_ms at its measured speed; one
 * sequence always fits. A GPU takes as long for a few tokens as for some hundred,
 * and what it takes at first says nothing: there a batch of VAC_BATCH_DEVICE_TOKENS
 * is never too large, and which texts share one does not depend on how quick the
 * ones before were (another batch may round otherwise). On the engine's thread.
 */
#include "engine/internal.h"

/* The least clock of the models with work. */
struct vac_model *vac_queue_next(const struct vac_engine *engine)
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
	const struct vac_model *busy = vac_queue_next(model->engine);
	uint64_t least = busy && busy->served_tokens > model->engine->turn ? busy->served_tokens
									   : model->engine->turn;
	if (!model->queue_first && model->served_tokens < least)
		model->served_tokens = least;
	append(model, job);
	model->engine->news = true;
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

static uint32_t budget_tokens(const struct vac_engine *engine, const struct vac_model *model)
{
	double tokens = VAC_BATCH_FIRST_TOKENS;
	if (model->tokens_per_second > 0)
		tokens = model->tokens_per_second * engine->batch_target_ms * 1e-3;
	if (engine->backend->device && tokens < VAC_BATCH_DEVICE_TOKENS)
		tokens = VAC_BATCH_DEVICE_TOKENS;
	return tokens < model->max_batch_tokens ? (uint32_t)tokens : model->max_batch_tokens;
}

bool vac_queue_full(const struct vac_engine *engine, const struct vac_model *model)
{
	uint32_t budget = budget_tokens(engine, model), sequences = 0;
	uint64_t tokens = 0;
	for (const struct vac_job *job = model->queue_first; job; job = job->next_in_queue) {
		tokens += job->starts[job->sequences] - job->starts[job->taken];
		sequences += job->sequences - job->taken;
		if (tokens >= budget || sequences >= model->layout.sequences)
			return true;
	}
	return false;
}

void vac_queue_fill(struct vac_engine *engine, struct vac_model *model, struct vac_batch *batch)
{
	uint32_t budget = budget_tokens(engine, model);
	batch->number = ++engine->batches_made;
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
	engine->turn = model->served_tokens;
	model->served_tokens += batch->rows;
}
