/*
 * model.c - plan, load in steps, close. What a load needs for a moment (open
 * files, the parsed tokenizer, the list of tensors, the staging) goes when it
 * is resident; what stays beside the regions are a few KiB of structs.
 * On the engine's thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "engine/internal.h"
#include "memory/trim.h"

#define STEP_NS   (10 * 1000000)
#define WARM_ROWS 16

static uint64_t align_up(uint64_t bytes)
{
	return (bytes + 255) / 256 * 256;
}

/* Everything that only loading needs. */
static void drop_load_state(struct vac_model *model)
{
	vac_ahead_free(model->ahead);
	model->ahead = NULL;
	vac_weights_free(&model->weights); /* before the files that it may be reading */
	vac_head_close_files(&model->head);
	vac_safetensors_close(&model->files);
	model->files = (struct vac_safetensors){0};
	vac_tokenizer_parsed_free(model->parsed);
	model->parsed = NULL;
}

static void free_model(struct vac_model *model)
{
	drop_load_state(model);
	vac_head_close(&model->head);
	if (model->network)
		model->network->architecture->close(model->network);
	free(model->dir);
	free(model);
}

static int parse_tokenizer(struct vac_model *model, struct vac_error *err)
{
	struct vac_buf json = VAC_BUF_INIT;
	int64_t start = vac_now_ns();
	char *path = vac_path_join(model->dir, "tokenizer.json");
	if (!path)
		return vac_fail_nomem(err, "a path", 0);
	int rc = vac_read_file(path, VAC_TOKENIZER_FILE_LIMIT_BYTES, &json, err);
	if (rc == 0) {
		model->tokenizer_json_bytes = json.bytes;
		rc = vac_tokenizer_parse((const char *)json.data, json.bytes, path, &model->parsed,
					 err);
	}
	vac_buf_free(&json);
	free(path);
	model->times.tokenizer_ns += vac_now_ns() - start;
	return rc;
}

static int find_max_tokens(struct vac_model *model, const struct vac_st_config *st,
			   struct vac_error *err)
{
	uint32_t limit = st->max_seq_length;
	if (!limit) {
		int rc = vac_tokenizer_config_max_length(model->dir, &limit, err);
		if (rc < 0)
			return rc;
	}
	if (!limit || limit > model->network->max_positions)
		limit = model->network->max_positions;
	model->info.max_tokens = limit;
	return 0;
}

static void fill_info(struct vac_model *model)
{
	struct vac_model_info *info = &model->info;
	const struct vac_network *network = model->network;
	snprintf(info->architecture, sizeof(info->architecture), "%s",
		 network->architecture->model_type);
	snprintf(info->dtype, sizeof(info->dtype), "%s", vac_compute_dtype_name(model->dtype));
	snprintf(info->pooling, sizeof(info->pooling), "%s", vac_pooling_name(model->head.pooling));
	info->normalize = model->head.normalize;
	info->hidden_size = network->hidden_size;
	info->layers = network->layers;
	info->heads = network->heads;
	info->vocab_size = network->vocab_size;
	info->embedding_dimensions = model->head.width;
	info->tasks = VAC_TASK_BIT(VAC_TASK_EMBED);
	info->parameters = 0;
	for (uint32_t i = 0; i <= model->head.dense_count; i++) {
		const struct vac_safetensors *files =
			i ? &model->head.dense[i - 1].files : &model->files;
		for (size_t t = 0; t < files->tensor_count; t++)
			info->parameters +=
				files->tensors[t].bytes / vac_dtype_bytes(files->tensors[t].dtype);
	}
}

static int lay_out_scratch(struct vac_model *model, struct vac_error *err)
{
	struct vac_scratch_layout *l = &model->layout;
	uint64_t activations, workspace, head, head_workspace;
	l->rows = model->max_batch_tokens;
	if (l->rows < model->info.max_tokens)
		l->rows = model->info.max_tokens;
	l->sequences = l->rows < VAC_BATCH_MAX_SEQUENCES ? l->rows : VAC_BATCH_MAX_SEQUENCES;
	int rc = model->network->architecture->scratch(
		model->network, l->rows, model->info.max_tokens, &activations, &workspace, err);
	if (rc == 0)
		rc = vac_head_scratch(&model->head, l->sequences, &head, &head_workspace, err);
	if (rc < 0)
		return rc;
	l->activations = align_up(vac_batch_input_bytes(l->rows, l->sequences));
	l->head = align_up(l->activations + activations);
	l->workspace = align_up(l->head + head);
	l->bytes = l->workspace + (workspace > head_workspace ? workspace : head_workspace);
	return 0;
}

static uint64_t files_bytes(const struct vac_model *model)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i <= model->head.dense_count; i++) {
		const struct vac_safetensors *files =
			i ? &model->head.dense[i - 1].files : &model->files;
		for (size_t f = 0; f < files->file_count; f++)
			bytes += files->files[f].bytes;
	}
	return bytes;
}

static int make_plan(struct vac_model *model, struct vac_error *err)
{
	struct vac_plan *plan = &model->plan;
	const struct vac_engine *engine = model->engine;
	bool on_device = engine->backend->device != NULL;
	uint64_t tokenizer = vac_tokenizer_parsed_bytes(model->parsed);
	const struct {
		enum vac_region_kind kind;
		bool on_device;
		uint64_t payload_bytes;
	} regions[] = {
		{VAC_REGION_TOKENIZER, false, tokenizer},
		{VAC_REGION_WEIGHTS, on_device, model->weights.plain_bytes},
		{VAC_REGION_PACKED, on_device, model->weights.packed_bytes},
		{VAC_REGION_SCRATCH, on_device, model->layout.bytes},
	};
	for (size_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++) {
		uint64_t bytes = vac_engine_region_bytes(engine, regions[i].on_device,
							 regions[i].payload_bytes);
		if (vac_plan_add(plan, regions[i].kind, regions[i].on_device, bytes) < 0)
			return vac_fail(err, VAC_E_INTERNAL, "a plan has no room for four regions");
	}
	plan->file_bytes = files_bytes(model);
	/* The parsed tokenizer is gone before the staging comes, and while the
	 * scratch grows the smaller one is still there. */
	plan->load_bytes = vac_weights_staging_bytes(&model->weights);
	if (plan->load_bytes < model->tokenizer_json_bytes + tokenizer)
		plan->load_bytes = model->tokenizer_json_bytes + tokenizer;
	if (engine->scratch && !on_device &&
	    engine->scratch->bytes < vac_page_round(model->layout.bytes))
		plan->load_bytes += engine->scratch->bytes;
	return 0;
}

static int open_network(struct vac_model *model, struct vac_error *err)
{
	struct vac_model_config config;
	struct vac_st_config st;
	char served[256];
	int rc = vac_model_config_read(model->dir, &config, err);
	if (rc < 0)
		return rc;
	const struct vac_architecture *architecture = vac_architecture_find(config.model_type);
	if (!architecture) {
		vac_architecture_list(served, sizeof(served));
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s/config.json: model_type \"%s\" is not served; served are: %s",
				model->dir, config.model_type, served);
	}
	rc = vac_st_config_read(model->dir, &st, err);
	if (rc < 0)
		return rc;
	if (st.do_lower_case)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s/sentence_bert_config.json: do_lower_case is not served, since "
				"it is Python's lower() before the tokenizer; set it to false if "
				"the tokenizer lower-cases",
				model->dir);
	rc = vac_safetensors_open_dir(model->dir, &model->files, err);
	if (rc < 0)
		return rc;
	rc = architecture->open(&config, &model->files, &model->weights, &model->network, err);
	if (rc < 0)
		return rc;
	rc = vac_head_open(&model->head, &st, model->network->hidden_size, &model->weights, err);
	if (rc < 0)
		return rc;
	return find_max_tokens(model, &st, err);
}

static int take_options(struct vac_model *model, const struct vac_model_options *options,
			struct vac_error *err)
{
	model->max_batch_tokens = model->engine->max_batch_tokens;
	if (options && options->max_batch_tokens > VAC_BATCH_MAX_TOKENS)
		return vac_fail(err, VAC_E_INVALID,
				"max_batch_tokens: batches of %u tokens are asked for; the limit "
				"is %u",
				options->max_batch_tokens, VAC_BATCH_MAX_TOKENS);
	if (options && options->max_batch_tokens)
		model->max_batch_tokens = options->max_batch_tokens;
	return vac_engine_find_dtype(model->engine, options ? options->dtype : NULL, &model->dtype,
				     err);
}

/* Headers, config and tokenizer: all that a plan needs. */
static int open_model(struct vac_engine *engine, const char *dir,
		      const struct vac_model_options *options, struct vac_model **out,
		      struct vac_error *err)
{
	int64_t start = vac_now_ns();
	struct vac_model *model = calloc(1, sizeof(*model));
	if (!model)
		return vac_fail_nomem(err, "a model", sizeof(*model));
	model->engine = engine;
	int rc = take_options(model, options, err);
	vac_engine_use(engine, model->dtype);
	vac_weights_init(&model->weights, engine->backend, engine->compute, model->dtype);
	if (rc == 0 && !(model->dir = strdup(dir)))
		rc = vac_fail_nomem(err, "a path", strlen(dir) + 1);
	if (rc == 0)
		rc = open_network(model, err);
	model->times.open_ns = vac_now_ns() - start;
	if (rc == 0)
		rc = parse_tokenizer(model, err);
	if (rc == 0)
		rc = lay_out_scratch(model, err);
	if (rc == 0) {
		fill_info(model);
		rc = make_plan(model, err);
	}
	if (rc < 0) {
		free_model(model);
		return rc;
	}
	model->total_bytes = model->weights.total_bytes;
	*out = model;
	return 0;
}

int vac_engine_plan(struct vac_engine *engine, const char *dir,
		    const struct vac_model_options *options, struct vac_plan *plan,
		    struct vac_model_info *info, struct vac_error *err)
{
	struct vac_model *model;
	int rc = open_model(engine, dir, options, &model, err);
	if (rc < 0)
		return rc;
	*plan = model->plan;
	if (info)
		*info = model->info;
	free_model(model);
	return 0;
}

int vac_model_begin_load(struct vac_engine *engine, uint32_t id, const char *dir,
			 const struct vac_model_options *options, struct vac_model **out,
			 struct vac_error *err)
{
	struct vac_model *model;
	if (id == VAC_OWNER_SHARED)
		return vac_fail(err, VAC_E_INVALID, "a model's id cannot be 0");
	for (const struct vac_model *m = engine->models; m; m = m->next)
		if (m->id == id)
			return vac_fail(err, VAC_E_INVALID, "model id %u is in use", id);
	int rc = open_model(engine, dir, options, &model, err);
	if (rc < 0)
		return rc;
	rc = vac_engine_start(engine, err);
	if (rc < 0) {
		free_model(model);
		return rc;
	}
	/* Host memory is filled at once; a device takes its time to come up. */
	if (engine->backend->device)
		model->ahead = vac_ahead_new(&model->files);
	model->id = id;
	model->next = engine->models;
	engine->models = model;
	*out = model;
	return 0;
}

static int map_region(struct vac_model *model, enum vac_region_kind kind, uint64_t bytes,
		      void **base, struct vac_error *err)
{
	*base = NULL;
	if (bytes == 0)
		return 0;
	int64_t start = vac_now_ns();
	struct vac_region *region;
	int rc = vac_engine_map(model->engine, model->id, kind, bytes, &region, err);
	model->times.map_ns += vac_now_ns() - start;
	if (rc == -ENOMEM)
		return vac_fail(err, VAC_E_NO_ROOM,
				"%s: no %" PRIu64 " bytes for its %s; unload another model",
				model->dir, bytes, vac_region_kind_name(kind));
	if (rc != 0)
		return rc;
	*base = region->base;
	return 0;
}

static int build_tokenizer(struct vac_model *model, struct vac_error *err)
{
	void *base;
	int rc = map_region(model, VAC_REGION_TOKENIZER, vac_tokenizer_parsed_bytes(model->parsed),
			    &base, err);
	if (rc < 0)
		return rc;
	int64_t start = vac_now_ns();
	model->tokenizer = vac_tokenizer_build(model->parsed, base);
	vac_tokenizer_parsed_free(model->parsed);
	model->parsed = NULL;
	model->times.tokenizer_ns += vac_now_ns() - start;
	if (vac_tokenizer_special_count(model->tokenizer) >= model->info.max_tokens)
		return vac_fail(err, VAC_E_CORRUPT,
				"%s: sequences of %u tokens have no room for text beside %zu "
				"special tokens",
				model->dir, model->info.max_tokens,
				vac_tokenizer_special_count(model->tokenizer));
	return 0;
}

static int wait_for_device(struct vac_model *model, struct vac_error *err)
{
	const struct vac_engine *engine = model->engine;
	if (!engine->backend->device)
		return 0;
	int64_t start = vac_now_ns();
	int rc = engine->backend->device->ready(engine->compute, err);
	model->times.device_ns += vac_now_ns() - start;
	return rc;
}

static int map_scratch(struct vac_model *model, struct vac_error *err)
{
	int64_t start = vac_now_ns();
	int rc = vac_engine_fit_scratch(model->engine, err);
	if (rc == 0)
		rc = vac_batch_reserve(model, err);
	if (rc == 0)
		rc = vac_weights_begin(&model->weights, model->weights.plain, model->weights.packed,
				       err);
	model->times.map_ns += vac_now_ns() - start;
	return rc;
}

static int warm_up(struct vac_model *model, struct vac_error *err)
{
	int64_t start = vac_now_ns();
	const struct vac_engine *engine = model->engine;
	/* Nothing is computed now: products may try themselves out in all of it. */
	engine->backend->workspace(engine->compute, engine->scratch->base, engine->scratch->bytes);
	int rc = model->network->architecture->prepare(model->network, WARM_ROWS, err);
	if (rc == 0 && engine->backend->device)
		rc = model->network->architecture->prepare(model->network, model->layout.rows, err);
	model->times.warm_ns += vac_now_ns() - start;
	if (rc == 0)
		drop_load_state(model);
	return rc;
}

/* 1: this stage has more to do; 0: it is done. */
static int run_stage(struct vac_model *model, struct vac_error *err)
{
	struct vac_weights *w = &model->weights;
	void *base;
	int rc;
	switch (model->stage) {
	case VAC_LOAD_TOKENIZER:
		return build_tokenizer(model, err);
	case VAC_LOAD_DEVICE:
		return wait_for_device(model, err);
	case VAC_LOAD_MAP_WEIGHTS:
		rc = map_region(model, VAC_REGION_WEIGHTS, w->plain_bytes, &base, err);
		w->plain = base;
		return rc;
	case VAC_LOAD_MAP_PACKED:
		rc = map_region(model, VAC_REGION_PACKED, w->packed_bytes, &base, err);
		w->packed = base;
		return rc;
	case VAC_LOAD_MAP_SCRATCH:
		return map_scratch(model, err);
	case VAC_LOAD_READ:
		rc = vac_weights_step(w, err);
		model->done_bytes = w->done_bytes;
		model->times.read_ns = w->read_ns;
		model->times.pack_ns = w->pack_ns;
		return rc;
	case VAC_LOAD_WARM:
		return warm_up(model, err);
	case VAC_LOAD_RESIDENT:
		break;
	}
	return 0;
}

/* A model that joins starts with the least clock of those that are there, so
 * that it neither waits for nor starves them. */
static void join_turns(struct vac_model *model)
{
	bool first = true;
	for (const struct vac_model *m = model->engine->models; m; m = m->next) {
		if (m == model || m->stage != VAC_LOAD_RESIDENT)
			continue;
		if (first || m->served_tokens < model->served_tokens)
			model->served_tokens = m->served_tokens;
		first = false;
	}
}

/* A device that is lost is so for the other models, too: the next step tells. */
static void note_lost(struct vac_engine *engine, int rc, const struct vac_error *why)
{
	if (rc >= 0 || why->code != VAC_E_GONE || engine->lost < 0)
		return;
	engine->lost = rc;
	engine->lost_error = *why;
}

int vac_model_load_step(struct vac_model *model, struct vac_error *err)
{
	struct vac_engine *engine = model->engine;
	struct vac_error why = {0};
	int64_t start = vac_now_ns();
	while (model->stage != VAC_LOAD_RESIDENT) {
		/* before it is ready there is nothing to enter */
		bool entered = model->stage > VAC_LOAD_DEVICE;
		if (entered) {
			vac_engine_settle(engine, model);
			vac_engine_enter(engine);
		}
		vac_engine_use(engine, model->dtype);
		int rc = run_stage(model, &why);
		if (entered)
			vac_engine_leave(engine);
		/* What went wrong here is told here, and not to who is computed next. */
		int failed = vac_engine_failed(engine, rc < 0 ? NULL : &why);
		if (rc >= 0 && failed < 0)
			rc = failed;
		note_lost(engine, rc, &why);
		if (rc < 0) {
			if (err)
				*err = why;
			return rc;
		}
		if (rc == 0)
			model->stage++;
		if (model->stage == VAC_LOAD_RESIDENT)
			join_turns(model);
		if (engine->between)
			engine->between(engine->between_ctx);
		if (vac_now_ns() - start >= STEP_NS)
			break;
	}
	return model->stage != VAC_LOAD_RESIDENT;
}

void vac_model_load_progress(const struct vac_model *model, uint64_t *done_bytes,
			     uint64_t *total_bytes)
{
	*done_bytes = model->done_bytes;
	*total_bytes = model->total_bytes;
}

const struct vac_plan *vac_model_plan(const struct vac_model *model)
{
	return &model->plan;
}

const struct vac_model_info *vac_model_info(const struct vac_model *model)
{
	return &model->info;
}

uint32_t vac_model_id(const struct vac_model *model)
{
	return model->id;
}

bool vac_model_resident(const struct vac_model *model)
{
	return model->stage == VAC_LOAD_RESIDENT;
}

const struct vac_load_times *vac_model_load_times(const struct vac_model *model)
{
	return &model->times;
}

void vac_model_close(struct vac_model *model, uint64_t *freed_bytes)
{
	if (freed_bytes)
		*freed_bytes = 0;
	if (!model)
		return;
	struct vac_engine *engine = model->engine;
	struct vac_ledger *ledger = &engine->ledger;
	uint64_t before = ledger->host_bytes + ledger->device_bytes;
	struct vac_error why = {0};
	struct vac_model **at = &engine->models;
	/* there is a scratch: another model brought the device up */
	bool entered = model->stage > VAC_LOAD_DEVICE || engine->scratch;
	vac_engine_finish_all(engine);
	while (*at != model)
		at = &(*at)->next;
	*at = model->next;
	vac_jobs_orphan(model);
	if (entered) {
		vac_engine_enter(engine);
		vac_engine_forget(engine, model);
	}
	struct vac_region *region = ledger->regions;
	while (region) {
		struct vac_region *next = region->next;
		if (region->owner == model->id)
			vac_engine_unmap(engine, region);
		region = next;
	}
	/* Shrinking keeps the larger scratch when there is no room for the copy. */
	int rc = vac_engine_fit_scratch(engine, NULL);
	(void)rc;
	free_model(model);
	if (entered)
		vac_engine_leave(engine);
	/* That memory did not go, its measurement says. */
	note_lost(engine, vac_engine_failed(engine, &why), &why);
	vac_engine_stop_if_empty(engine);
	vac_trim();
	if (freed_bytes)
		*freed_bytes = before - (ledger->host_bytes + ledger->device_bytes);
}
