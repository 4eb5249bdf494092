/*
 * decode.c - reading wire frames. Nothing is trusted: every length is checked
 * against what is left of the payload before it is used. A payload must be
 * used up to its last byte. No state; any thread.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/fields.h"

int vac_wire_peek(const void *data, size_t bytes, struct vac_wire_header *header,
		  struct vac_error *err)
{
	struct reader r = {.data = data, .bytes = bytes};

	if (bytes < VAC_WIRE_HEADER_BYTES)
		return 0;
	header->payload_bytes = get_u32(&r, "payload_bytes");
	header->type = (uint16_t)get_uint(&r, 2, "type");
	header->flags = (uint16_t)get_uint(&r, 2, "flags");
	header->id = get_u64(&r, "id");
	if (header->payload_bytes > VAC_WIRE_MAX_PAYLOAD_BYTES)
		return vac_fail(err, VAC_E_TOO_LARGE,
				"wire: a frame of type %u announces %u bytes where at most %u are "
				"accepted",
				header->type, header->payload_bytes, VAC_WIRE_MAX_PAYLOAD_BYTES);
	if (header->payload_bytes % VAC_WIRE_ALIGN != 0)
		return vac_fail(
			err, VAC_E_INVALID,
			"wire: a frame of type %u has a payload of %u bytes, which is not a "
			"multiple of %u",
			header->type, header->payload_bytes, VAC_WIRE_ALIGN);
	if (header->flags != 0)
		return vac_fail(err, VAC_E_INVALID,
				"wire: a frame of type %u has unknown flags 0x%x", header->type,
				header->flags);
	return bytes - VAC_WIRE_HEADER_BYTES >= header->payload_bytes ? 1 : 0;
}

int vac_wire_get_hello(const void *payload, size_t bytes, struct vac_wire_hello *out,
		       struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	memset(out, 0, sizeof(*out));
	out->version = get_u32(&r, "version");
	/* What follows may differ in another version: the caller must be able
	 * to say which one it met. */
	if (!r.bad && out->version != VAC_WIRE_VERSION)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"wire: the worker speaks protocol version %u, this server %u; "
				"install both from the same release",
				out->version, VAC_WIRE_VERSION);
	out->pid = get_u32(&r, "pid");
	out->program = get_string(&r, VAC_WIRE_MAX_NAME_BYTES, "program");
	out->device = get_string(&r, VAC_WIRE_MAX_NAME_BYTES, "device");
	out->description = get_string(&r, VAC_WIRE_MAX_NAME_BYTES, "description");
	/* A worker may leave it out. What closes the payload then reads as empty. */
	if (!r.bad && r.bytes - r.at >= 4)
		out->sandbox = get_string(&r, VAC_WIRE_MAX_NAME_BYTES, "sandbox");
	return finish(&r, "HELLO", err);
}

static void get_file(struct reader *r, struct vac_wire_file *out)
{
	out->state = get_enum(r, VAC_HANDED_NAMED, VAC_HANDED_OUTSIDE, "files.state");
	out->name = get_string(r, VAC_WIRE_MAX_NAME_BYTES, "files.name");
	if (!r->bad && (out->name.bytes == 0 || memchr(out->name.text, 0, out->name.bytes)))
		r->bad = "files.name";
}

/* The entries, which end where the payload does. */
static void get_files(struct reader *r, struct vac_wire_load *out)
{
	struct vac_wire_file file;
	size_t from;

	out->handed = get_bool(r, "handed");
	out->file_count = get_u32(r, "files.count");
	if (!r->bad && (out->file_count > VAC_WIRE_MAX_FILES || (out->file_count && !out->handed)))
		r->bad = "files.count";
	if (r->bad)
		return;
	from = r->at;
	for (uint32_t i = 0; i < out->file_count && !r->bad; i++)
		get_file(r, &file);
	out->files.text = (const char *)r->data + from;
	out->files.bytes = (uint32_t)(r->at - from);
}

bool vac_wire_next_file(struct vac_wire_string *files, struct vac_wire_file *out)
{
	struct reader r = {.data = (const uint8_t *)files->text, .bytes = files->bytes};

	if (files->bytes == 0)
		return false;
	get_file(&r, out);
	files->text += r.at;
	files->bytes -= (uint32_t)r.at;
	return !r.bad;
}

int vac_wire_get_load(const void *payload, size_t bytes, struct vac_wire_load *out,
		      struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	memset(out, 0, sizeof(*out));
	out->model = get_u32(&r, "model");
	out->dir = get_string(&r, VAC_WIRE_MAX_NAME_BYTES, "dir");
	if (!r.bad && (out->dir.bytes == 0 || memchr(out->dir.text, 0, out->dir.bytes)))
		r.bad = "dir";
	out->max_batch_tokens = get_u32(&r, "max_batch_tokens");
	out->dtype = get_string(&r, 15, "dtype");
	if (!r.bad && memchr(out->dtype.text, 0, out->dtype.bytes))
		r.bad = "dtype";
	get_files(&r, out);
	return finish(&r, "LOAD", err);
}

static void get_plan(struct reader *r, struct vac_plan *plan)
{
	plan->count = get_u32(r, "plan.count");
	if (!r->bad && plan->count > VAC_PLAN_MAX_ITEMS)
		r->bad = "plan.count";
	if (r->bad)
		plan->count = 0;
	for (uint32_t i = 0; i < plan->count; i++) {
		plan->items[i].kind =
			get_enum(r, VAC_REGION_WEIGHTS, VAC_REGION_CACHE, "plan.kind");
		plan->items[i].on_device = get_bool(r, "plan.on_device");
		plan->items[i].bytes = get_u64(r, "plan.bytes");
	}
	plan->file_bytes = get_u64(r, "plan.file_bytes");
	plan->load_bytes = get_u64(r, "plan.load_bytes");
}

int vac_wire_get_model(const void *payload, size_t bytes, struct vac_wire_model *out,
		       struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	memset(out, 0, sizeof(*out));
	get_plan(&r, &out->plan);
	out->architecture = get_string(&r, 63, "architecture");
	out->dtype = get_string(&r, 15, "dtype");
	out->pooling = get_string(&r, 23, "pooling");
	out->normalize = get_bool(&r, "normalize");
	out->parameters = get_u64(&r, "parameters");
	out->hidden_size = get_u32(&r, "hidden_size");
	out->layers = get_u32(&r, "layers");
	out->heads = get_u32(&r, "heads");
	out->vocab_size = get_u32(&r, "vocab_size");
	out->embedding_dimensions = get_u32(&r, "embedding_dimensions");
	out->max_tokens = get_u32(&r, "max_tokens");
	out->tasks = get_u32(&r, "tasks");
	out->ledger_bytes = get_u64(&r, "ledger_bytes");
	for (size_t i = 0; i < VAC_WIRE_STAGES; i++)
		out->stage_ns[i] = get_ns(&r, "stage_ns");
	return finish(&r, "PLANNED or LOADED", err);
}

int vac_wire_get_progress(const void *payload, size_t bytes, struct vac_wire_progress *out,
			  struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	out->done_bytes = get_u64(&r, "done_bytes");
	out->total_bytes = get_u64(&r, "total_bytes");
	if (!r.bad && out->done_bytes > out->total_bytes)
		r.bad = "done_bytes";
	return finish(&r, "PROGRESS", err);
}

static void get_ids(struct reader *r, struct vac_input *input)
{
	uint32_t count = get_u32(r, "id_count");
	/* Frames start aligned, and so does the payload. */
	size_t pad = (4 - r->at % 4) % 4;
	const uint8_t *ids;

	take(r, pad, "id padding");
	if (!r->bad && count > (r->bytes - r->at) / 4)
		r->bad = "id_count";
	ids = take(r, (size_t)count * 4, "ids");
	if (!ids)
		return;
	input->ids = (const int32_t *)(const void *)ids;
	input->id_count = count;
}

static void get_input(struct reader *r, struct vac_input *input)
{
	switch (get_enum(r, VAC_WIRE_INPUT_TEXT, VAC_WIRE_INPUT_IDS, "input kind")) {
	case VAC_WIRE_INPUT_TEXT: {
		struct vac_wire_string s = get_string(r, VAC_WIRE_MAX_PAYLOAD_BYTES, "text");

		input->text = s.text;
		input->text_bytes = s.bytes;
		break;
	}
	case VAC_WIRE_INPUT_IDS:
		get_ids(r, input);
		break;
	}
}

int vac_wire_get_task(const void *payload, size_t bytes, struct vac_wire_task *out,
		      struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};
	int rc;

	memset(out, 0, sizeof(*out));
	if ((uintptr_t)payload % 4 != 0)
		return vac_fail(err, VAC_E_INTERNAL, "wire: a TASK payload must be 4-byte aligned");
	out->model = get_u32(&r, "model");
	out->options.task = get_enum(&r, VAC_TASK_EMBED, VAC_TASK_EMBED, "task");
	out->options.normalize = get_enum(&r, VAC_NORMALIZE_MODEL, VAC_NORMALIZE_OFF, "normalize");
	out->options.truncation = get_enum(&r, VAC_TRUNCATE_NONE, VAC_TRUNCATE_LEFT, "truncation");
	out->options.dimensions = get_u32(&r, "dimensions");
	out->input_count = get_u32(&r, "input_count");
	/* Each input takes at least five bytes: a count that cannot be true must
	 * not make us allocate. */
	if (!r.bad && (out->input_count == 0 || out->input_count > VAC_WIRE_MAX_INPUTS ||
		       out->input_count > (r.bytes - r.at) / 5))
		r.bad = "input_count";
	if (r.bad)
		return finish(&r, "TASK", err);
	out->inputs = calloc(out->input_count, sizeof(*out->inputs));
	if (!out->inputs)
		return vac_fail_nomem(err, "the inputs of a task",
				      out->input_count * sizeof(*out->inputs));
	for (uint32_t i = 0; i < out->input_count && !r.bad; i++)
		get_input(&r, &out->inputs[i]);
	rc = finish(&r, "TASK", err);
	if (rc < 0)
		vac_wire_task_free(out);
	return rc;
}

void vac_wire_task_free(struct vac_wire_task *task)
{
	free(task->inputs);
	task->inputs = NULL;
	task->input_count = 0;
}

int vac_wire_get_result(const void *payload, size_t bytes, struct vac_wire_result *out,
			struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};
	uint64_t floats;

	memset(out, 0, sizeof(*out));
	out->rows = get_u32(&r, "rows");
	out->dimensions = get_u32(&r, "dimensions");
	out->tokens = get_u64(&r, "tokens");
	out->tokenize_ns = get_ns(&r, "tokenize_ns");
	out->queue_ns = get_ns(&r, "queue_ns");
	out->compute_ns = get_ns(&r, "compute_ns");
	floats = (uint64_t)out->rows * out->dimensions;
	if (!r.bad && floats > (r.bytes - r.at) / 4)
		r.bad = "rows x dimensions";
	out->vectors = take(&r, r.bad ? 0 : (size_t)floats * 4, "vectors");
	return finish(&r, "RESULT", err);
}

int vac_wire_get_unload(const void *payload, size_t bytes, uint32_t *model, struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	*model = get_u32(&r, "model");
	return finish(&r, "UNLOAD", err);
}

int vac_wire_get_working(const void *payload, size_t bytes, uint32_t *model, struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	*model = get_u32(&r, "model");
	return finish(&r, "WORKING", err);
}

int vac_wire_get_unloaded(const void *payload, size_t bytes, struct vac_wire_unloaded *out,
			  struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	out->freed_bytes = get_u64(&r, "freed_bytes");
	out->freed_device_bytes = get_u64(&r, "freed_device_bytes");
	if (!r.bad && out->freed_device_bytes > out->freed_bytes)
		r.bad = "freed_device_bytes";
	out->models_left = get_u32(&r, "models_left");
	return finish(&r, "UNLOADED", err);
}

int vac_wire_get_measured(const void *payload, size_t bytes, struct vac_wire_measured *out,
			  struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	memset(out, 0, sizeof(*out));
	out->host_bytes = get_u64(&r, "host_bytes");
	out->device_bytes = get_u64(&r, "device_bytes");
	out->region_count = get_u32(&r, "region_count");
	if (!r.bad && out->region_count > VAC_WIRE_MAX_REGIONS)
		r.bad = "region_count";
	if (r.bad)
		out->region_count = 0;
	for (uint32_t i = 0; i < out->region_count; i++) {
		out->regions[i].owner = get_u32(&r, "owner");
		out->regions[i].kind = get_enum(&r, VAC_REGION_WEIGHTS, VAC_REGION_CACHE, "kind");
		out->regions[i].on_device = get_bool(&r, "on_device");
		out->regions[i].bytes = get_u64(&r, "bytes");
	}
	return finish(&r, "MEASURED", err);
}

static void get_gpu(struct reader *r, struct vac_wire_gpu *gpu)
{
	gpu->device = get_string(r, VAC_WIRE_MAX_NAME_BYTES, "device");
	gpu->name = get_string(r, VAC_WIRE_MAX_NAME_BYTES, "name");
	gpu->uuid = get_string(r, VAC_WIRE_MAX_NAME_BYTES, "uuid");
	gpu->total_bytes = get_u64(r, "total_bytes");
	gpu->used_bytes = get_u64(r, "used_bytes");
	gpu->process_count = get_u32(r, "process_count");
	if (!r->bad && gpu->process_count > VAC_WIRE_MAX_GPU_PROCESSES)
		r->bad = "process_count";
	if (r->bad)
		gpu->process_count = 0;
	for (uint32_t i = 0; i < gpu->process_count; i++) {
		gpu->processes[i].pid = get_u32(r, "pid");
		gpu->processes[i].bytes_valid = get_bool(r, "bytes_valid");
		gpu->processes[i].bytes = get_u64(r, "bytes");
	}
}

int vac_wire_get_gpus(const void *payload, size_t bytes, struct vac_wire_gpus *out,
		      struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	/* What is beyond the counts is left as it is: room for many that are seldom there. */
	out->count = get_u32(&r, "count");
	if (!r.bad && out->count > VAC_WIRE_MAX_GPUS)
		r.bad = "count";
	if (r.bad)
		out->count = 0;
	for (uint32_t i = 0; i < out->count; i++)
		get_gpu(&r, &out->gpus[i]);
	return finish(&r, "GPUS_READ", err);
}

int vac_wire_get_error(const void *payload, size_t bytes, struct vac_error *out,
		       struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	get_error(&r, out);
	if (out->code == VAC_OK)
		out->code = VAC_E_INTERNAL;
	return finish(&r, "ERROR", err);
}
