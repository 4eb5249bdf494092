/*
 * library.c - libvacate: the engine in the caller's own process.
 *
 * Thin: finds the model, turns one blocking call into a job, and measures
 * around an unload. One thread at a time for each struct vacate.
 */
#include <stdlib.h>
#include <string.h>

#include "base/modelpath.h"
#include "engine/engine.h"
#include "memory/meter.h"
#include "memory/trim.h"

struct vacate {
	struct vac_engine *engine;
	struct vacate_model *models;
	uint32_t last_id;
};

struct vacate_model {
	struct vacate *vacate;
	struct vacate_model *next;
	struct vac_model *model;
};

const char *vacate_version(void)
{
	return VAC_VERSION;
}

int vacate_open(struct vacate **out, const struct vacate_options *options, struct vac_error *err)
{
	static const struct vacate_options defaults;
	struct vac_engine_options engine_options = {0};
	struct vacate *v;
	int rc;

	if (!options)
		options = &defaults;
	rc = vac_engine_parse_device(options->device ? options->device : "cpu",
				     &engine_options.backend, &engine_options.device, err);
	if (rc < 0)
		return rc;
	if (options->backend)
		engine_options.backend = options->backend;
	engine_options.dtype = options->dtype;
	engine_options.threads = options->threads;
	engine_options.max_batch_tokens = options->max_batch_tokens;
	v = calloc(1, sizeof(*v));
	if (!v)
		return vac_fail_nomem(err, "a device's record", sizeof(*v));
	rc = vac_engine_open(&v->engine, &engine_options, err);
	if (rc < 0) {
		free(v);
		return rc;
	}
	*out = v;
	return 0;
}

void vacate_close(struct vacate *vacate)
{
	if (!vacate)
		return;
	while (vacate->models)
		vacate_unload(vacate->models, NULL);
	vac_engine_close(vacate->engine);
	free(vacate);
	vac_trim();
}

static int resolve(const char *path, char **dir, struct vac_error *err)
{
	static const struct vac_model_dirs nowhere;

	return vac_model_resolve(&nowhere, path, true, dir, err);
}

int vacate_plan(struct vacate *vacate, const char *path, uint64_t *bytes, struct vac_error *err)
{
	struct vac_model_info info;
	struct vac_plan plan;
	char *dir;
	int rc = resolve(path, &dir, err);

	if (rc < 0)
		return rc;
	rc = vac_engine_plan(vacate->engine, dir, NULL, &plan, &info, err);
	if (rc == 0)
		*bytes = vac_plan_bytes(&plan, false) + vac_plan_bytes(&plan, true);
	free(dir);
	return rc;
}

static int load(struct vacate_model *m, const char *dir, struct vac_error *err)
{
	int rc = vac_model_begin_load(m->vacate->engine, ++m->vacate->last_id, dir, NULL, &m->model,
				      err);

	if (rc < 0)
		return rc;
	do {
		rc = vac_model_load_step(m->model, err);
	} while (rc > 0);
	if (rc < 0)
		vac_model_close(m->model, NULL);
	return rc;
}

int vacate_load(struct vacate *vacate, const char *path, struct vacate_model **out,
		struct vac_error *err)
{
	struct vacate_model *m;
	char *dir;
	int rc = resolve(path, &dir, err);

	if (rc < 0)
		return rc;
	m = calloc(1, sizeof(*m));
	if (!m) {
		free(dir);
		return vac_fail_nomem(err, "a model's record", sizeof(*m));
	}
	m->vacate = vacate;
	rc = load(m, dir, err);
	free(dir);
	if (rc < 0) {
		free(m);
		return rc;
	}
	m->next = vacate->models;
	vacate->models = m;
	*out = m;
	return 0;
}

uint32_t vacate_dimensions(const struct vacate_model *model)
{
	return vac_model_info(model->model)->embedding_dimensions;
}

uint32_t vacate_max_tokens(const struct vacate_model *model)
{
	return vac_model_info(model->model)->max_tokens;
}

static struct vac_input *make_inputs(const char *const *texts, size_t count)
{
	struct vac_input *inputs = calloc(count, sizeof(*inputs));

	for (size_t i = 0; inputs && i < count; i++) {
		inputs[i].text = texts[i];
		inputs[i].text_bytes = strlen(texts[i]);
	}
	return inputs;
}

static void mark_done(struct vac_job *job, void *ctx)
{
	bool *done = ctx;

	(void)job;
	*done = true;
}

static int run_job(struct vac_engine *engine, struct vac_job *job, float *vectors,
		   struct vac_error *err)
{
	uint32_t rows, dimensions;
	const float *from;
	bool done = false;
	int rc;

	vac_job_submit(job, mark_done, &done);
	while (!done) {
		rc = vac_engine_step(engine, err);
		if (rc < 0)
			return rc;
		if (rc == 0 && !done)
			return vac_fail(err, VAC_E_INTERNAL, "a request was lost in the queue");
	}
	rc = vac_job_status(job, err);
	if (rc < 0)
		return rc;
	from = vac_job_vectors(job, &rows, &dimensions);
	memcpy(vectors, from, (size_t)rows * dimensions * sizeof(*vectors));
	return 0;
}

int vacate_embed(struct vacate_model *model, const char *const *texts, size_t count,
		 const struct vacate_embed_options *options, float *vectors, struct vac_error *err)
{
	static const struct vacate_embed_options defaults;
	struct vac_task_options task = {.task = VAC_TASK_EMBED};
	struct vac_input *inputs;
	struct vac_job *job;
	int rc;

	if (count == 0)
		return 0;
	if (!options)
		options = &defaults;
	task.normalize = options->normalize > 0   ? VAC_NORMALIZE_ON
			 : options->normalize < 0 ? VAC_NORMALIZE_OFF
						  : VAC_NORMALIZE_MODEL;
	task.truncation = options->no_truncate ? VAC_TRUNCATE_NONE : VAC_TRUNCATE_RIGHT;
	task.dimensions = options->dimensions;
	inputs = make_inputs(texts, count);
	if (!inputs)
		return vac_fail_nomem(err, "a request's inputs", count * sizeof(*inputs));
	rc = vac_job_create(model->model, &task, inputs, count, &job, err);
	free(inputs);
	if (rc < 0)
		return rc;
	rc = run_job(model->vacate->engine, job, vectors, err);
	vac_job_free(job);
	return rc;
}

static void unlink_model(struct vacate_model *model)
{
	struct vacate_model **link = &model->vacate->models;

	while (*link != model)
		link = &(*link)->next;
	*link = model->next;
}

static void measure(struct vacate *vacate, struct vac_usage *host, struct vac_device_usage *device,
		    bool *device_valid)
{
	if (vac_meter_process(0, host, NULL) < 0)
		host->valid = false;
	*device_valid = vac_engine_measure(vacate->engine, device, NULL) == 0;
}

void vacate_unload(struct vacate_model *model, struct vacate_receipt *receipt)
{
	struct vac_usage before = {0}, after = {0};
	struct vac_device_usage device_before, device_after;
	bool device_valid = false, device_still_valid = false;
	struct vacate *vacate;
	struct vac_ledger ledger;
	const struct vac_plan *plan;
	uint64_t freed, planned, device_planned;

	if (!model)
		return;
	vacate = model->vacate;
	plan = vac_model_plan(model->model);
	device_planned = vac_plan_bytes(plan, true);
	planned = vac_plan_bytes(plan, false) + device_planned;
	if (receipt)
		measure(vacate, &before, &device_before, &device_valid);
	ledger = *vac_engine_ledger(vacate->engine);
	unlink_model(model);
	vac_model_close(model->model, &freed);
	free(model);
	if (!receipt)
		return;
	measure(vacate, &after, &device_after, &device_still_valid);
	memset(receipt, 0, sizeof(*receipt));
	receipt->planned_bytes = planned;
	receipt->ledger_bytes = freed;
	receipt->device_planned_bytes = device_planned;
	receipt->device_ledger_bytes =
		ledger.device_bytes - vac_engine_ledger(vacate->engine)->device_bytes;
	if (device_valid && device_still_valid) {
		receipt->device_measured = 1;
		receipt->device_used_before_bytes = device_before.used_bytes;
		receipt->device_used_after_bytes = device_after.used_bytes;
		receipt->device_listed = device_after.listed;
	}
	if (!before.valid || !after.valid)
		return;
	freed -= receipt->device_ledger_bytes;
	receipt->measured = 1;
	receipt->uss_before_bytes = before.uss_bytes;
	receipt->uss_after_bytes = after.uss_bytes;
	receipt->rss_before_bytes = before.rss_bytes;
	receipt->rss_after_bytes = after.rss_bytes;
	receipt->returned_bytes = (int64_t)before.uss_bytes - (int64_t)after.uss_bytes;
	if (receipt->returned_bytes < (int64_t)freed)
		receipt->unaccounted_bytes = (uint64_t)((int64_t)freed - receipt->returned_bytes);
}
