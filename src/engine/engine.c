/*
 * engine.c - an open device: its regions, the shared scratch arena, and what
 * stays in the process. See engine.h for threads.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "memory/trim.h"

#define MAX_THREADS 1024

static uint32_t allowed_cpus(void)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return 1;
	int count = CPU_COUNT(&set);
	return count > 0 ? (uint32_t)count : 1;
}

int vac_engine_open(struct vac_engine **out, const struct vac_engine_options *options,
		    struct vac_error *err)
{
	const struct vac_backend *backend;
	uint32_t threads = options->threads ? options->threads : allowed_cpus();
	if (threads > MAX_THREADS || options->max_batch_tokens > VAC_BATCH_MAX_TOKENS)
		return vac_fail(err, VAC_E_INVALID,
				"%u threads and batches of %u tokens are asked for; the limits are "
				"%u and %u",
				threads, options->max_batch_tokens, MAX_THREADS,
				VAC_BATCH_MAX_TOKENS);
	int rc = vac_backend_find(options->backend ? options->backend : "cpu", &backend, err);
	if (rc < 0)
		return rc;
	struct vac_engine *engine = calloc(1, sizeof(*engine));
	if (!engine)
		return vac_fail_nomem(err, "the engine", sizeof(*engine));
	engine->backend = backend;
	engine->max_batch_tokens = options->max_batch_tokens ? options->max_batch_tokens
							     : backend->default_batch_tokens;
	engine->batch_target_ms = options->batch_target_ms ? options->batch_target_ms : 100;
	engine->between = options->between;
	engine->computing = options->computing;
	engine->between_ctx = options->between_ctx;
	engine->encode = vac_encode_scratch_new();
	if (!engine->encode) {
		rc = vac_fail_nomem(err, "the tokenizer's scratch", 0);
		goto err;
	}
	rc = backend->open(threads, &engine->compute, err);
	if (rc < 0)
		goto err;
	*out = engine;
	return 0;
err:
	vac_encode_scratch_free(engine->encode);
	free(engine);
	return rc;
}

void vac_engine_close(struct vac_engine *engine)
{
	if (!engine)
		return;
	while (engine->models)
		vac_model_close(engine->models, NULL);
	while (engine->orphans) {
		struct vac_job *job = engine->orphans;
		engine->orphans = job->next_in_queue;
		vac_job_finish(job, job->rc, &job->error);
	}
	engine->backend->close(engine->compute);
	vac_encode_scratch_free(engine->encode);
	free(engine);
}

const struct vac_ledger *vac_engine_ledger(const struct vac_engine *engine)
{
	return &engine->ledger;
}

const char *vac_engine_device(const struct vac_engine *engine)
{
	return engine->backend->on_device ? engine->backend->name : "cpu";
}

const char *vac_engine_description(const struct vac_engine *engine)
{
	return engine->backend->description(engine->compute);
}

size_t vac_engine_residue(const struct vac_engine *engine, struct vac_residue *out, size_t capacity)
{
	return engine->backend->residue(engine->compute, out, capacity);
}

struct vac_region *vac_engine_map(struct vac_engine *engine, uint32_t owner,
				  enum vac_region_kind kind, uint64_t payload_bytes)
{
	uint64_t bytes = vac_page_round(payload_bytes);
	bool on_device = engine->backend->on_device && kind != VAC_REGION_TOKENIZER;
	void *base = on_device ? engine->backend->map(engine->compute, bytes) : vac_host_map(bytes);
	if (!base)
		return NULL;
	struct vac_region *region =
		vac_ledger_add(&engine->ledger, owner, kind, on_device, base, bytes);
	if (!region) {
		if (on_device)
			engine->backend->unmap(engine->compute, base, bytes);
		else
			vac_host_unmap(base, bytes);
	}
	return region;
}

void vac_engine_unmap(struct vac_engine *engine, struct vac_region *region)
{
	void *base = region->base;
	uint64_t bytes = region->bytes;
	bool on_device = region->on_device;
	vac_ledger_remove(&engine->ledger, region);
	if (on_device)
		engine->backend->unmap(engine->compute, base, bytes);
	else
		vac_host_unmap(base, bytes);
}

int vac_engine_fit_scratch(struct vac_engine *engine, struct vac_error *err)
{
	uint64_t bytes = 0;
	struct vac_region *old = engine->scratch, *region = NULL;
	for (const struct vac_model *m = engine->models; m; m = m->next)
		if (m->stage >= VAC_LOAD_MAP_SCRATCH && m->layout.bytes > bytes)
			bytes = m->layout.bytes;
	if (old && old->bytes == vac_page_round(bytes))
		return 0;
	if (bytes) {
		/* The new one first: a load that finds no room leaves the others theirs. */
		region = vac_engine_map(engine, VAC_OWNER_SHARED, VAC_REGION_SCRATCH, bytes);
		if (!region && !(old && old->bytes > bytes))
			return vac_fail(err, VAC_E_NO_ROOM,
					"out of memory: no %zu bytes for activations; unload "
					"another model",
					(size_t)bytes);
		if (!region)
			return 0;
	}
	engine->scratch = region;
	if (old)
		vac_engine_unmap(engine, old);
	if (!region)
		engine->backend->workspace(engine->compute, NULL, 0);
	return 0;
}
