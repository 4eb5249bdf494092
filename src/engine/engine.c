/*
 * engine.c - an open device: its regions, the shared scratch arena, and what
 * stays in the process. See engine.h for threads.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "memory/trim.h"

#define MAX_DEVICE  255
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

int vac_engine_parse_device(const char *device, const char **backend, uint32_t *number,
			    struct vac_error *err)
{
	char *end;
	*number = 0;
	if (strcmp(device, "cpu") == 0) {
		*backend = "cpu";
		return 0;
	}
	*backend = "cuda";
	if (strcmp(device, "cuda") == 0)
		return 0;
	if (strncmp(device, "cuda:", 5) == 0 && device[5] >= '0' && device[5] <= '9') {
		unsigned long value = strtoul(device + 5, &end, 10);
		*number = (uint32_t)value;
		if (!*end && value <= MAX_DEVICE)
			return 0;
	}
	return vac_fail(err, VAC_E_INVALID, "\"%.32s\" is not a device: cpu, cuda or cuda:N",
			device);
}

int vac_engine_open(struct vac_engine **out, const struct vac_engine_options *options,
		    struct vac_error *err)
{
	const struct vac_backend *backend = options->found;
	uint32_t threads = options->threads ? options->threads : allowed_cpus();
	if (threads > MAX_THREADS || options->max_batch_tokens > VAC_BATCH_MAX_TOKENS)
		return vac_fail(err, VAC_E_INVALID,
				"%u threads and batches of %u tokens are asked for; the limits are "
				"%u and %u",
				threads, options->max_batch_tokens, MAX_THREADS,
				VAC_BATCH_MAX_TOKENS);
	int rc = 0;
	if (!backend)
		rc = vac_backend_find(options->backend ? options->backend : "cpu", &backend, err);
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
	engine->dtype = backend->dtypes[0];
	rc = vac_engine_find_dtype(engine, options->dtype, &engine->dtype, err);
	if (rc < 0)
		goto err;
	const struct vac_compute_options compute = {
		.threads = threads,
		.device = options->device,
		.warn = options->warn,
		.warn_ctx = options->between_ctx,
	};
	rc = backend->open(&compute, &engine->compute, err);
	if (rc < 0)
		goto err;
	snprintf(engine->device, sizeof(engine->device), backend->device ? "%s:%u" : "cpu",
		 backend->name, options->device);
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
	return engine->device;
}

const char *vac_engine_description(const struct vac_engine *engine)
{
	return engine->backend->description(engine->compute);
}

size_t vac_engine_residue(const struct vac_engine *engine, struct vac_residue *out, size_t capacity)
{
	return engine->backend->residue(engine->compute, out, capacity);
}

int vac_engine_measure(struct vac_engine *engine, struct vac_device_usage *out,
		       struct vac_error *err)
{
	if (!engine->backend->device)
		return vac_fail(err, VAC_E_UNSUPPORTED, "%s has no memory of its own",
				engine->device);
	return engine->backend->device->measure(engine->compute, out, err);
}

int vac_engine_diagnose(const char *name, struct vac_buf *out)
{
	const struct vac_backend *backend;
	struct vac_error err;
	int rc = vac_backend_find(name, &backend, &err);
	if (rc < 0) {
		vac_buf_printf(out, "  %s\n", err.message);
		return rc;
	}
	return backend->diagnose ? backend->diagnose(out) : 0;
}

int vac_engine_find_dtype(const struct vac_engine *engine, const char *name, enum vac_dtype *out,
			  struct vac_error *err)
{
	const struct vac_backend *backend = engine->backend;
	char known[64] = "";
	size_t used = 0;
	*out = engine->dtype;
	if (!name || !*name)
		return 0;
	for (uint32_t i = 0; i < backend->dtype_count; i++) {
		*out = backend->dtypes[i];
		if (strcmp(name, vac_compute_dtype_name(*out)) == 0)
			return 0;
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
					 vac_compute_dtype_name(*out));
	}
	return vac_fail(err, VAC_E_UNSUPPORTED,
			"dtype: backend %s does not compute in %.24s; it can: %s", backend->name,
			name, known);
}

void vac_engine_use(struct vac_engine *engine, enum vac_dtype dtype)
{
	if (engine->backend->use)
		engine->backend->use(engine->compute, dtype);
}

uint64_t vac_engine_region_bytes(const struct vac_engine *engine, bool on_device,
				 uint64_t payload_bytes)
{
	if (!on_device || payload_bytes == 0)
		return vac_page_round(payload_bytes);
	return engine->backend->device->region_bytes(engine->compute, payload_bytes);
}

static void unmap(struct vac_engine *engine, bool on_device, void *base, uint64_t bytes)
{
	if (on_device)
		engine->backend->device->unmap(engine->compute, base, bytes);
	else
		vac_host_unmap(base, bytes);
}

static int map(struct vac_engine *engine, bool on_device, uint64_t bytes, void **out,
	       struct vac_error *err)
{
	if (on_device)
		return engine->backend->device->map(engine->compute, bytes, out, err);
	*out = vac_host_map(bytes);
	return *out ? 0 : vac_fail_nomem(err, "a region", bytes);
}

int vac_engine_map(struct vac_engine *engine, uint32_t owner, enum vac_region_kind kind,
		   uint64_t payload_bytes, struct vac_region **out, struct vac_error *err)
{
	bool on_device = engine->backend->device && kind != VAC_REGION_TOKENIZER;
	uint64_t bytes = vac_engine_region_bytes(engine, on_device, payload_bytes);
	void *base;
	int rc = map(engine, on_device, bytes, &base, err);
	if (rc != 0)
		return rc;
	*out = vac_ledger_add(&engine->ledger, owner, kind, on_device, base, bytes);
	if (*out)
		return 0;
	unmap(engine, on_device, base, bytes);
	return vac_fail_nomem(err, "a region's line in the ledger", 0);
}

void vac_engine_unmap(struct vac_engine *engine, struct vac_region *region)
{
	void *base = region->base;
	uint64_t bytes = region->bytes;
	bool on_device = region->on_device;
	vac_ledger_remove(&engine->ledger, region);
	unmap(engine, on_device, base, bytes);
}

void vac_engine_enter(struct vac_engine *engine)
{
	if (engine->backend->device)
		engine->backend->device->enter(engine->compute);
}

void vac_engine_leave(struct vac_engine *engine)
{
	if (engine->backend->device)
		engine->backend->device->leave(engine->compute);
}

int vac_engine_failed(struct vac_engine *engine, struct vac_error *err)
{
	const struct vac_backend_device *device = engine->backend->device;
	return device ? device->failed(engine->compute, err) : 0;
}

void vac_engine_forget(struct vac_engine *engine, const struct vac_model *model)
{
	if (engine->backend->device && engine->backend->device->forget)
		engine->backend->device->forget(engine->compute, model);
}

int vac_engine_start(struct vac_engine *engine, struct vac_error *err)
{
	if (!engine->backend->device || engine->started)
		return 0;
	int rc = engine->backend->device->start(engine->compute, err);
	engine->started = rc == 0;
	return rc;
}

void vac_engine_stop_if_empty(struct vac_engine *engine)
{
	if (!engine->started || engine->models)
		return;
	vac_batch_free(engine);
	engine->backend->device->stop(engine->compute);
	engine->started = false;
	engine->lost = 0;
}

int vac_engine_fit_scratch(struct vac_engine *engine, struct vac_error *err)
{
	uint64_t bytes = 0;
	struct vac_region *old = engine->scratch, *region = NULL;
	for (const struct vac_model *m = engine->models; m; m = m->next)
		if (m->stage >= VAC_LOAD_MAP_SCRATCH && m->layout.bytes > bytes)
			bytes = m->layout.bytes;
	if (old && old->bytes == vac_engine_region_bytes(engine, old->on_device, bytes))
		return 0;
	if (bytes) {
		/* The new one first: a load that finds no room leaves the others theirs. */
		int rc = vac_engine_map(engine, VAC_OWNER_SHARED, VAC_REGION_SCRATCH, bytes,
					&region, err);
		if (rc != 0 && old && old->bytes > bytes)
			return 0;
		if (rc == -ENOMEM)
			return vac_fail(err, VAC_E_NO_ROOM,
					"out of memory: no %zu bytes for activations; unload "
					"another model",
					(size_t)bytes);
		if (rc != 0)
			return rc;
	}
	engine->scratch = region;
	if (old) {
		vac_engine_forget(engine, NULL);
		vac_engine_unmap(engine, old);
	}
	if (!region)
		engine->backend->workspace(engine->compute, NULL, 0);
	return 0;
}
