/*
 * step.c - batches under way, at most VAC_BATCHES, and what comes of them to the jobs.
 * A device computes one while the results of the one before are delivered. Behind one
 * that is computed another is asked for early only when it is full: whatever
 * comes until then goes into it. None is begun behind it while the caller waits for the
 * engine: what it wants would wait for that one, too. On the engine's thread.
 */
#include <string.h>

#include "base/clock.h"
#include "engine/internal.h"

/* A batch takes a tenth of that. A variable for tests. */
int64_t vac_batch_patience_ns = 1000000000;

bool vac_engine_has_work(const struct vac_engine *engine)
{
	return engine->orphans || engine->under_way || engine->lost < 0 || vac_queue_next(engine);
}

static struct vac_batch *oldest(struct vac_engine *engine)
{
	return &engine->batches[engine->first];
}

/* Whatever the device does from now on, it does for that model. */
static void tell(const struct vac_engine *engine, const struct vac_model *model)
{
	if (engine->computing)
		engine->computing(engine->between_ctx, model->id);
}

/* The next batch of what is queued. */
static bool begin(struct vac_engine *engine)
{
	struct vac_model *model = vac_queue_next(engine);
	if (!model || engine->under_way == VAC_BATCHES || engine->wanted)
		return false;
	struct vac_batch *batch =
		&engine->batches[(engine->first + engine->under_way) % VAC_BATCHES];
	tell(engine, model);
	vac_queue_fill(engine, model, batch);
	engine->under_way++;
	vac_batch_begin(engine, model, batch);
	return true;
}

/* A full one, of the model that is computed: who is told about is the same then. */
static void begin_early(struct vac_engine *engine)
{
	if (!engine->backend->device)
		return;
	const struct vac_model *model = vac_queue_next(engine);
	if (model && model == oldest(engine)->model && engine->under_way < VAC_BATCHES &&
	    vac_queue_full(engine, model))
		begin(engine);
}

/* Looks elsewhere meanwhile. Not for ever: who hears nothing of this thread then is to
 * learn that the device hangs. */
static void wait_for(struct vac_engine *engine, struct vac_batch *batch)
{
	int64_t end_ns = vac_now_ns() + vac_batch_patience_ns;
	begin_early(engine);
	while (!vac_batch_ended(engine, batch, !engine->between || vac_now_ns() > end_ns)) {
		engine->news = false;
		engine->between(engine->between_ctx);
		if (engine->news)
			begin_early(engine);
	}
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
static void deliver(struct vac_batch *batch)
{
	int64_t ns = batch->end_ns - batch->start_ns;
	for (uint32_t i = 0; i < batch->count; i++) {
		struct vac_job *job = batch->entries[i].job;
		if (!job)
			continue;
		if (job->batch != batch->number) {
			job->batch = batch->number;
			job->times.compute_ns += ns;
			if (!job->started)
				job->times.queue_ns = batch->start_ns - job->submitted_ns;
			job->started = true;
		}
		if (batch->rc == 0)
			take_result(&batch->entries[i], batch->vectors + (size_t)i * batch->width);
	}
	for (uint32_t i = 0; i < batch->count; i++) {
		struct vac_job *job = batch->entries[i].job;
		if (!job || job->state == VAC_JOB_DONE)
			continue;
		job->open--;
		if (batch->rc < 0 || job->open == 0)
			vac_job_finish(job, batch->rc, &batch->error);
	}
	batch->count = 0;
}

static void finish(struct vac_engine *engine)
{
	struct vac_batch *batch = oldest(engine);
	if (batch->rc == 0) {
		learn_speed(batch->model, batch->rows, batch->end_ns - batch->start_ns);
	} else if (batch->error.code == VAC_E_GONE) {
		engine->lost = batch->rc;
		engine->lost_error = batch->error;
	}
	engine->first = (engine->first + 1) % VAC_BATCHES;
	engine->under_way--;
	deliver(batch);
}

/* Of a step. That the device is lost may have been found outside of one. */
static int outcome(const struct vac_engine *engine, int rc, struct vac_error *err)
{
	if (engine->lost == 0)
		return rc;
	if (err)
		*err = engine->lost_error;
	return engine->lost;
}

void vac_engine_want(struct vac_engine *engine)
{
	engine->wanted = true;
}

int vac_engine_step(struct vac_engine *engine, struct vac_error *err)
{
	engine->wanted = false;
	if (engine->orphans) {
		struct vac_job *job = engine->orphans;
		engine->orphans = job->next_in_queue;
		vac_job_finish(job, job->rc, &job->error);
		return 1;
	}
	if (engine->under_way) /* others may have been told about since */
		tell(engine, oldest(engine)->model);
	else if (!begin(engine))
		return outcome(engine, 0, err);
	struct vac_batch *batch = oldest(engine);
	wait_for(engine, batch);
	/* Before that one is delivered: the device has something to do meanwhile. */
	if (engine->backend->device && batch->rc == 0)
		begin(engine);
	finish(engine);
	return outcome(engine, 1, err);
}

void vac_engine_settle(struct vac_engine *engine, const struct vac_model *then)
{
	bool told = false;
	for (uint32_t i = 0; i < engine->under_way; i++) {
		struct vac_batch *batch = &engine->batches[(engine->first + i) % VAC_BATCHES];
		if (batch->ended)
			continue;
		tell(engine, batch->model);
		told = true;
		(void)vac_batch_ended(engine, batch, true);
	}
	if (told && then)
		tell(engine, then);
}

void vac_engine_finish_all(struct vac_engine *engine)
{
	vac_engine_settle(engine, NULL);
	while (engine->under_way)
		finish(engine);
}
