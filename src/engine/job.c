/*
 * job.c - requests: options and inputs checked, texts tokenized, everything
 * copied; and the end of a job. On the engine's thread.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/internal.h"

static void free_job(struct vac_job *job)
{
	vac_buf_free(&job->ids);
	vac_buf_free(&job->types);
	free(job->starts);
	free(job->vectors);
	free(job);
}

static int check_options(const struct vac_model *model, const struct vac_task_options *options,
			 size_t input_count, struct vac_error *err)
{
	if (model->stage != VAC_LOAD_RESIDENT)
		return vac_fail(err, VAC_E_BUSY, "the model is still being loaded");
	if (options->task != VAC_TASK_EMBED)
		return vac_fail(err, VAC_E_UNSUPPORTED, "task %d is not one that this model serves",
				(int)options->task);
	if ((unsigned)options->normalize > VAC_NORMALIZE_OFF ||
	    (unsigned)options->truncation > VAC_TRUNCATE_LEFT)
		return vac_fail(err, VAC_E_INVALID, "normalize or truncation has no such value");
	if (options->dimensions > model->info.embedding_dimensions)
		return vac_fail(err, VAC_E_INVALID,
				"dimensions is %u, and the model's vectors have %u",
				options->dimensions, model->info.embedding_dimensions);
	if (input_count == 0 || input_count > UINT32_MAX / 2)
		return vac_fail(err, VAC_E_INVALID, "there are %zu inputs", input_count);
	return 0;
}

static int too_long(const struct vac_model *model, size_t input, size_t count,
		    struct vac_error *err)
{
	return vac_fail(err, VAC_E_TOO_LARGE,
			"input %zu has %zu tokens, and the model takes at most %u: shorten it or "
			"ask for truncation",
			input, count, model->info.max_tokens);
}

/* Appends one sequence after checking that the tables have its ids. */
static int put_sequence(struct vac_job *job, size_t input, const int32_t *ids, const uint8_t *types,
			size_t count, struct vac_error *err)
{
	const struct vac_network *network = job->model->network;
	if (count == 0)
		return vac_fail(err, VAC_E_INVALID, "input %zu has no tokens", input);
	for (size_t i = 0; i < count; i++) {
		if (ids[i] < 0 || (uint32_t)ids[i] >= network->vocab_size)
			return vac_fail(err, VAC_E_INVALID,
					"input %zu: token id %d at position %zu is not in the "
					"vocabulary of %u",
					input, (int)ids[i], i, network->vocab_size);
		if (types && types[i] >= network->type_vocab_size)
			return vac_fail(err, VAC_E_CORRUPT,
					"input %zu: the tokenizer gives token type %u, and the "
					"model has %u",
					input, types[i], network->type_vocab_size);
	}
	vac_buf_put(&job->ids, ids, count * sizeof(*ids));
	uint8_t *to = vac_buf_reserve(&job->types, count);
	if (to) {
		if (types)
			memcpy(to, types, count);
		else
			memset(to, 0, count);
		vac_buf_advance(&job->types, count);
	}
	if (!vac_buf_ok(&job->ids) || !vac_buf_ok(&job->types) || job->types.bytes > UINT32_MAX)
		return vac_fail_nomem(err, "the request's tokens", job->ids.bytes);
	job->starts[input + 1] = (uint32_t)job->types.bytes;
	return 0;
}

static int add_ids(struct vac_job *job, size_t input, const struct vac_input *in,
		   struct vac_error *err)
{
	size_t limit = job->model->info.max_tokens, count = in->id_count;
	const int32_t *ids = in->ids;
	if (count > limit) {
		if (job->options.truncation == VAC_TRUNCATE_NONE)
			return too_long(job->model, input, count, err);
		if (job->options.truncation == VAC_TRUNCATE_LEFT)
			ids += count - limit;
		count = limit;
	}
	return put_sequence(job, input, ids, NULL, count, err);
}

static int add_text(struct vac_job *job, size_t input, const struct vac_input *in,
		    struct vac_error *err)
{
	struct vac_encoding encoding;
	size_t limit = job->model->info.max_tokens;
	struct vac_encode_options options = {
		.add_special_tokens = true,
		.max_tokens = job->options.truncation == VAC_TRUNCATE_NONE ? 0 : limit,
		.side = job->options.truncation == VAC_TRUNCATE_LEFT ? VAC_SIDE_LEFT
								     : VAC_SIDE_RIGHT,
	};
	int rc = vac_encode(job->model->tokenizer, in->text, in->text_bytes, &options,
			    job->engine->encode, &encoding, err);
	if (rc < 0) {
		vac_error_prefix(err, "input %zu", input);
		return rc;
	}
	if (encoding.count > limit)
		return too_long(job->model, input, encoding.count, err);
	return put_sequence(job, input, encoding.ids, encoding.type_ids, encoding.count, err);
}

static void link_job(struct vac_job *job)
{
	job->next_of_model = job->model->jobs;
	if (job->next_of_model)
		job->next_of_model->previous_of_model = job;
	job->model->jobs = job;
}

static void unlink_job(struct vac_job *job)
{
	if (job->previous_of_model)
		job->previous_of_model->next_of_model = job->next_of_model;
	else
		job->model->jobs = job->next_of_model;
	if (job->next_of_model)
		job->next_of_model->previous_of_model = job->previous_of_model;
	job->next_of_model = job->previous_of_model = NULL;
	job->model = NULL;
}

int vac_job_create(struct vac_model *model, const struct vac_task_options *options,
		   const struct vac_input *inputs, size_t input_count, struct vac_job **out,
		   struct vac_error *err)
{
	int64_t start = vac_now_ns();
	int rc = check_options(model, options, input_count, err);
	if (rc < 0)
		return rc;
	struct vac_job *job = calloc(1, sizeof(*job));
	if (!job)
		return vac_fail_nomem(err, "a request", sizeof(*job));
	job->engine = model->engine;
	job->model = model;
	job->options = *options;
	job->sequences = job->open = (uint32_t)input_count;
	job->dimensions =
		options->dimensions ? options->dimensions : model->info.embedding_dimensions;
	job->normalize = options->normalize == VAC_NORMALIZE_MODEL
				 ? model->info.normalize
				 : options->normalize == VAC_NORMALIZE_ON;
	job->starts = calloc(input_count + 1, sizeof(*job->starts));
	if (!job->starts)
		rc = vac_fail_nomem(err, "the request's tokens", input_count * sizeof(uint32_t));
	for (size_t i = 0; rc == 0 && i < input_count; i++)
		rc = inputs[i].ids ? add_ids(job, i, &inputs[i], err)
				   : add_text(job, i, &inputs[i], err);
	if (rc == 0) {
		job->vectors = calloc(input_count, job->dimensions * sizeof(float));
		if (!job->vectors)
			rc = vac_fail_nomem(err, "the request's vectors",
					    input_count * job->dimensions * sizeof(float));
	}
	if (rc < 0) {
		free_job(job);
		return rc;
	}
	link_job(job);
	job->times.tokenize_ns = vac_now_ns() - start;
	*out = job;
	return 0;
}

void vac_job_submit(struct vac_job *job, void (*done)(struct vac_job *job, void *ctx), void *ctx)
{
	job->done = done;
	job->ctx = ctx;
	job->state = VAC_JOB_SUBMITTED;
	job->submitted_ns = vac_now_ns();
	if (job->model) {
		vac_queue_put(job);
	} else if (job->engine) {
		/* Its model was closed in between: the next step says so. */
		job->rc = vac_fail(&job->error, VAC_E_CANCELLED, "the model was unloaded");
		job->next_in_queue = job->engine->orphans;
		job->engine->orphans = job;
	}
}

void vac_job_finish(struct vac_job *job, int rc, const struct vac_error *err)
{
	if (job->in_queue)
		vac_queue_remove(job);
	job->rc = rc;
	if (rc < 0 && err && err != &job->error)
		job->error = *err;
	job->state = VAC_JOB_DONE;
	if (job->done)
		job->done(job, job->ctx);
}

void vac_jobs_orphan(struct vac_model *model)
{
	struct vac_error err;
	int rc = vac_fail(&err, VAC_E_CANCELLED, "the model was unloaded");
	/* A done callback may free this job and others: start over each time. */
	while (model->jobs) {
		struct vac_job *job = model->jobs;
		bool submitted = job->state == VAC_JOB_SUBMITTED;
		if (job->in_queue)
			vac_queue_remove(job);
		unlink_job(job);
		if (submitted)
			vac_job_finish(job, rc, &err);
	}
}

int vac_job_status(const struct vac_job *job, struct vac_error *err)
{
	if (job->rc < 0 && err)
		*err = job->error;
	return job->rc;
}

const float *vac_job_vectors(const struct vac_job *job, uint32_t *rows, uint32_t *dimensions)
{
	*rows = job->sequences;
	*dimensions = job->dimensions;
	return job->vectors;
}

uint64_t vac_job_tokens(const struct vac_job *job)
{
	return job->types.bytes;
}

void vac_job_times(const struct vac_job *job, struct vac_job_times *out)
{
	*out = job->times;
}

void vac_job_free(struct vac_job *job)
{
	if (!job)
		return;
	if (job->in_queue)
		vac_queue_remove(job);
	if (job->engine) {
		vac_batches_forget(job);
		for (struct vac_job **at = &job->engine->orphans; *at; at = &(*at)->next_in_queue) {
			if (*at == job) {
				*at = job->next_in_queue;
				break;
			}
		}
	}
	if (job->model)
		unlink_job(job);
	free_job(job);
}
