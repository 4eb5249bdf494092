/*
 * views.c - models, workers and measurements in the native JSON shapes.
 * What is not known is null, never 0. Any thread; no state.
 */
#include "api/write.h"

#include <unistd.h>

static void put_member(struct vac_buf *buf, const char *name, uint64_t value)
{
	vac_buf_puts(buf, name);
	vac_put_u64(buf, value);
}

static void put_member_or_null(struct vac_buf *buf, const char *name, bool valid, uint64_t value)
{
	vac_buf_puts(buf, name);
	if (valid)
		vac_put_u64(buf, value);
	else
		vac_buf_puts(buf, "null");
}

static void put_text_member(struct vac_buf *buf, const char *name, const char *text)
{
	vac_buf_puts(buf, name);
	vac_put_text(buf, text);
}

void vac_put_usage(struct vac_buf *buf, const struct vac_usage *usage)
{
	if (!usage || !usage->valid) {
		vac_buf_puts(buf, "null");
		return;
	}
	put_member(buf, "{\"rss_bytes\":", usage->rss_bytes);
	put_member(buf, ",\"pss_bytes\":", usage->pss_bytes);
	put_member(buf, ",\"pss_anon_bytes\":", usage->pss_anon_bytes);
	put_member(buf, ",\"pss_file_bytes\":", usage->pss_file_bytes);
	put_member(buf, ",\"pss_shmem_bytes\":", usage->pss_shmem_bytes);
	put_member(buf, ",\"uss_bytes\":", usage->uss_bytes);
	put_member(buf, ",\"swap_bytes\":", usage->swap_bytes);
	vac_buf_putc(buf, '}');
}

static void put_plan(struct vac_buf *buf, const struct vac_plan *plan)
{
	put_member(buf, "{\"host_bytes\":", vac_plan_bytes(plan, false));
	put_member(buf, ",\"device_bytes\":", vac_plan_bytes(plan, true));
	put_member(buf, ",\"own_host_bytes\":", vac_plan_own_bytes(plan, false));
	put_member(buf, ",\"file_bytes\":", plan->file_bytes);
	put_member(buf, ",\"load_bytes\":", plan->load_bytes);
	vac_buf_puts(buf, ",\"items\":[");
	for (uint32_t i = 0; i < plan->count && i < VAC_PLAN_MAX_ITEMS; i++) {
		const struct vac_plan_item *item = &plan->items[i];

		put_text_member(buf,
				i ? ",{\"kind\":" : "{\"kind\":", vac_region_kind_name(item->kind));
		vac_buf_puts(buf, ",\"on_device\":");
		vac_put_bool(buf, item->on_device);
		put_member(buf, ",\"bytes\":", item->bytes);
		vac_buf_putc(buf, '}');
	}
	vac_buf_puts(buf, "]}");
}

/* What is known from the checkpoint's headers. */
static void put_description(struct vac_buf *buf, const struct vac_model_view *model)
{
	bool known = model->planned;

	vac_buf_puts(buf, ",\"plan\":");
	if (known)
		put_plan(buf, &model->plan);
	else
		vac_buf_puts(buf, "null");
	put_text_member(buf, ",\"architecture\":", known ? model->architecture : NULL);
	put_text_member(buf, ",\"dtype\":", known ? model->dtype : NULL);
	put_text_member(buf, ",\"pooling\":", known ? model->pooling : NULL);
	vac_buf_puts(buf, ",\"normalize\":");
	if (known)
		vac_put_bool(buf, model->normalize);
	else
		vac_buf_puts(buf, "null");
	put_member_or_null(buf, ",\"parameters\":", known, model->parameters);
	put_member_or_null(buf, ",\"hidden_size\":", known, model->hidden_size);
	put_member_or_null(buf, ",\"layers\":", known, model->layers);
	put_member_or_null(buf, ",\"heads\":", known, model->heads);
	put_member_or_null(buf, ",\"vocab_size\":", known, model->vocab_size);
	put_member_or_null(buf, ",\"embedding_dimensions\":", known, model->embedding_dimensions);
	put_member_or_null(buf, ",\"max_tokens\":", known, model->max_tokens);
}

static void put_residence(struct vac_buf *buf, const struct vac_model_view *model)
{
	static const char *const stages[] = {",\"open\":", ",\"tokenizer\":", ",\"map\":",
					     ",\"read\":", ",\"pack\":",      ",\"warm\":"};

	if (model->state != VAC_MODEL_RESIDENT && model->state != VAC_MODEL_PARKING &&
	    model->state != VAC_MODEL_PARKED) {
		vac_buf_puts(buf, ",\"load_ms\":null,\"stages_ms\":null,\"idle_ms\":null,"
				  "\"expires_ms\":null");
		return;
	}
	vac_buf_puts(buf, ",\"load_ms\":");
	vac_put_ms(buf, model->load_ns);
	vac_buf_puts(buf, ",\"stages_ms\":{\"start\":");
	vac_put_ms(buf, model->start_ns);
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		vac_buf_puts(buf, stages[i]);
		vac_put_ms(buf, model->stage_ns[i]);
	}
	vac_buf_puts(buf, "},\"idle_ms\":");
	vac_put_i64(buf, model->idle_ns / 1000000);
	vac_buf_puts(buf, ",\"expires_ms\":");
	if (model->expires_ns >= 0)
		vac_put_i64(buf, model->expires_ns / 1000000);
	else
		vac_buf_puts(buf, "null");
}

void vac_put_aliases(struct vac_buf *buf, const struct vac_model_view *model)
{
	vac_buf_putc(buf, '[');
	for (size_t i = 0; i < model->alias_count; i++)
		put_text_member(buf, i ? "," : "", model->aliases[i]);
	vac_buf_putc(buf, ']');
}

void vac_put_model(struct vac_buf *buf, const struct vac_model_view *model)
{
	put_text_member(buf, "{\"name\":", model->name);
	put_text_member(buf, ",\"path\":", model->path);
	vac_buf_puts(buf, ",\"aliases\":");
	vac_put_aliases(buf, model);
	vac_buf_puts(buf, ",\"priority\":");
	vac_put_i64(buf, model->priority);
	vac_buf_puts(buf, ",\"pinned\":");
	vac_put_bool(buf, model->pinned);
	vac_buf_puts(buf, ",\"isolate\":");
	vac_put_bool(buf, model->isolate);
	put_text_member(buf, ",\"state\":", vac_model_state_name(model->state));
	put_text_member(buf, ",\"reason\":", model->reason);
	put_text_member(buf, ",\"device\":", model->device);
	put_member_or_null(buf, ",\"worker_pid\":", model->worker_pid > 0,
			   (uint64_t)model->worker_pid);
	put_description(buf, model);
	if (model->state == VAC_MODEL_LOADING) {
		put_member(buf, ",\"load\":{\"done_bytes\":", model->load_done_bytes);
		put_member(buf, ",\"total_bytes\":", model->load_total_bytes);
		vac_buf_putc(buf, '}');
	} else {
		vac_buf_puts(buf, ",\"load\":null");
	}
	put_residence(buf, model);
	put_member(buf, ",\"requests\":", model->requests);
	put_member(buf, ",\"queued\":", model->queued);
	vac_buf_putc(buf, '}');
}

void vac_put_models(struct vac_buf *buf, const struct vac_outcome *outcome)
{
	vac_buf_puts(buf, "\"models\":[");
	for (size_t i = 0; i < outcome->model_count; i++) {
		if (i > 0)
			vac_buf_putc(buf, ',');
		vac_put_model(buf, &outcome->models[i]);
	}
	vac_buf_putc(buf, ']');
}

static void put_host(struct vac_buf *buf, const struct vac_host_memory *host)
{
	if (!host) {
		vac_buf_puts(buf, "null");
		return;
	}
	put_member_or_null(buf, "{\"total_bytes\":", host->total_valid, host->total_bytes);
	put_member_or_null(buf, ",\"available_bytes\":", host->available_valid,
			   host->available_bytes);
	put_member_or_null(buf, ",\"cgroup_limit_bytes\":", host->cgroup_limit_valid,
			   host->cgroup_limit_bytes);
	put_member_or_null(buf, ",\"cgroup_used_bytes\":", host->cgroup_used_valid,
			   host->cgroup_used_bytes);
	vac_buf_putc(buf, '}');
}

static void put_gpu(struct vac_buf *buf, const struct vac_gpu_view *gpu, bool more)
{
	put_text_member(buf, more ? ",{\"device\":" : "{\"device\":", gpu->device);
	put_text_member(buf, ",\"name\":", gpu->name);
	put_text_member(buf, ",\"uuid\":", gpu->uuid);
	put_member(buf, ",\"total_bytes\":", gpu->total_bytes);
	put_member(buf, ",\"used_bytes\":", gpu->used_bytes);
	put_member(buf, ",\"planned_bytes\":", gpu->planned_bytes);
	put_member_or_null(buf, ",\"limit_bytes\":", gpu->limit_valid, gpu->limit_bytes);
	put_member(buf, ",\"processes\":", gpu->processes);
	vac_buf_putc(buf, '}');
}

void vac_put_ps(struct vac_buf *buf, const struct vac_outcome *outcome)
{
	vac_buf_putc(buf, '{');
	vac_put_models(buf, outcome);
	vac_buf_puts(buf, ",\"workers\":[");
	for (size_t i = 0; i < outcome->worker_count; i++) {
		const struct vac_worker_view *worker = &outcome->workers[i];

		put_text_member(buf, i ? ",{\"device\":" : "{\"device\":", worker->device);
		put_text_member(buf, ",\"description\":", worker->description);
		put_text_member(buf, ",\"sandbox\":", worker->sandbox);
		put_member_or_null(buf, ",\"pid\":", worker->pid > 0, (uint64_t)worker->pid);
		put_member(buf, ",\"models\":", worker->models);
		vac_buf_puts(buf, ",\"usage\":");
		vac_put_usage(buf, &worker->usage);
		put_member_or_null(buf, ",\"vram_bytes\":", worker->vram_valid, worker->vram_bytes);
		vac_buf_putc(buf, '}');
	}
	vac_buf_puts(buf, "],\"gpus\":[");
	for (size_t i = 0; i < outcome->gpu_count; i++)
		put_gpu(buf, &outcome->gpus[i], i > 0);
	/* This code runs in the server. */
	put_member(buf, "],\"server\":{\"pid\":", (uint64_t)getpid());
	vac_buf_puts(buf, ",\"usage\":");
	vac_put_usage(buf, outcome->server_usage);
	vac_buf_puts(buf, "},\"host\":");
	put_host(buf, outcome->host);
	vac_buf_putc(buf, '}');
}

void vac_put_receipts(struct vac_buf *buf, const struct vac_outcome *outcome)
{
	vac_buf_puts(buf, "\"receipts\":[");
	for (size_t i = 0; i < outcome->receipt_count; i++) {
		if (i > 0)
			vac_buf_putc(buf, ',');
		vac_receipt_json(buf, &outcome->receipts[i]);
	}
	vac_buf_putc(buf, ']');
}
