/*
 * encode.c - writing wire frames. Appends to a buffer; a failure to grow shows
 * in vac_buf_ok(). No state; any thread.
 */
#include <assert.h>
#include <string.h>

#include "wire/fields.h"

void vac_wire_put_hello(struct vac_buf *buf, const struct vac_wire_hello *hello)
{
	size_t at = begin(buf, VAC_WIRE_HELLO, 0);

	put_u32(buf, hello->version);
	put_u32(buf, hello->pid);
	put_string(buf, hello->program);
	put_string(buf, hello->device);
	put_string(buf, hello->description);
	put_string(buf, hello->sandbox);
	end(buf, at);
}

void vac_wire_put_load(struct vac_buf *buf, enum vac_wire_type type, uint64_t id,
		       const struct vac_wire_load *load)
{
	size_t at = begin(buf, type, id);

	assert(type == VAC_WIRE_PLAN || type == VAC_WIRE_LOAD);
	put_u32(buf, load->model);
	put_string(buf, load->dir);
	put_u32(buf, load->max_batch_tokens);
	put_string(buf, load->dtype);
	put_u8(buf, load->handed);
	put_u32(buf, load->file_count);
	vac_buf_put(buf, load->files.text, load->files.bytes);
	end(buf, at);
}

void vac_wire_list_file(struct vac_buf *list, const char *name, enum vac_handed_state state)
{
	put_u8(list, (uint8_t)state);
	put_text(list, name);
}

static void put_plan(struct vac_buf *buf, const struct vac_plan *plan)
{
	put_u32(buf, plan->count);
	for (uint32_t i = 0; i < plan->count; i++) {
		put_u8(buf, (uint8_t)plan->items[i].kind);
		put_u8(buf, plan->items[i].on_device);
		put_u64(buf, plan->items[i].bytes);
	}
	put_u64(buf, plan->file_bytes);
	put_u64(buf, plan->load_bytes);
}

void vac_wire_put_model(struct vac_buf *buf, enum vac_wire_type type, uint64_t id,
			const struct vac_wire_model *model)
{
	size_t at = begin(buf, type, id);

	assert(type == VAC_WIRE_PLANNED || type == VAC_WIRE_LOADED);
	put_plan(buf, &model->plan);
	put_string(buf, model->architecture);
	put_string(buf, model->dtype);
	put_string(buf, model->pooling);
	put_u8(buf, model->normalize);
	put_u64(buf, model->parameters);
	put_u32(buf, model->hidden_size);
	put_u32(buf, model->layers);
	put_u32(buf, model->heads);
	put_u32(buf, model->vocab_size);
	put_u32(buf, model->embedding_dimensions);
	put_u32(buf, model->max_tokens);
	put_u32(buf, model->tasks);
	put_u64(buf, model->ledger_bytes);
	for (size_t i = 0; i < VAC_WIRE_STAGES; i++)
		put_u64(buf, (uint64_t)model->stage_ns[i]);
	end(buf, at);
}

void vac_wire_put_progress(struct vac_buf *buf, uint64_t id, const struct vac_wire_progress *p)
{
	size_t at = begin(buf, VAC_WIRE_PROGRESS, id);

	put_u64(buf, p->done_bytes);
	put_u64(buf, p->total_bytes);
	end(buf, at);
}

void vac_wire_put_task(struct vac_buf *buf, uint64_t id, const struct vac_wire_task *task)
{
	size_t at = begin(buf, VAC_WIRE_TASK, id);

	put_u32(buf, task->model);
	put_u8(buf, (uint8_t)task->options.task);
	put_u8(buf, (uint8_t)task->options.normalize);
	put_u8(buf, (uint8_t)task->options.truncation);
	put_u32(buf, task->options.dimensions);
	put_u32(buf, task->input_count);
	for (uint32_t i = 0; i < task->input_count; i++) {
		const struct vac_input *input = &task->inputs[i];

		if (input->ids) {
			put_u8(buf, VAC_WIRE_INPUT_IDS);
			put_u32(buf, (uint32_t)input->id_count);
			/* Alignment, so that a little-endian reader may use them in place. */
			while (vac_buf_ok(buf) && (buf->bytes - at) % 4 != 0)
				put_u8(buf, 0);
			for (size_t k = 0; k < input->id_count; k++)
				put_u32(buf, (uint32_t)input->ids[k]);
		} else {
			put_u8(buf, VAC_WIRE_INPUT_TEXT);
			put_u32(buf, (uint32_t)(task->prompt.bytes + input->text_bytes));
			vac_buf_put(buf, task->prompt.text, task->prompt.bytes);
			vac_buf_put(buf, input->text, input->text_bytes);
		}
	}
	end(buf, at);
}

void vac_wire_put_result(struct vac_buf *buf, uint64_t id, const struct vac_wire_result *result)
{
	size_t at = begin(buf, VAC_WIRE_RESULT, id);

	put_u32(buf, result->rows);
	put_u32(buf, result->dimensions);
	put_u64(buf, result->tokens);
	put_u64(buf, (uint64_t)result->tokenize_ns);
	put_u64(buf, (uint64_t)result->queue_ns);
	put_u64(buf, (uint64_t)result->compute_ns);
	vac_buf_put(buf, result->vectors, (size_t)result->rows * result->dimensions * 4);
	end(buf, at);
}

void vac_wire_put_unload(struct vac_buf *buf, uint64_t id, uint32_t model)
{
	size_t at = begin(buf, VAC_WIRE_UNLOAD, id);

	put_u32(buf, model);
	end(buf, at);
}

void vac_wire_put_working(struct vac_buf *buf, uint64_t id, uint32_t model)
{
	size_t at = begin(buf, VAC_WIRE_WORKING, id);

	put_u32(buf, model);
	end(buf, at);
}

void vac_wire_put_unloaded(struct vac_buf *buf, uint64_t id, const struct vac_wire_unloaded *u)
{
	size_t at = begin(buf, VAC_WIRE_UNLOADED, id);

	put_u64(buf, u->freed_bytes);
	put_u64(buf, u->freed_device_bytes);
	put_u32(buf, u->models_left);
	end(buf, at);
}

void vac_wire_put_measured(struct vac_buf *buf, uint64_t id, const struct vac_ledger *ledger)
{
	size_t at = begin(buf, VAC_WIRE_MEASURED, id);
	uint32_t count = ledger->count < VAC_WIRE_MAX_REGIONS ? (uint32_t)ledger->count
							      : VAC_WIRE_MAX_REGIONS;
	const struct vac_region *region = ledger->regions;

	put_u64(buf, ledger->host_bytes);
	put_u64(buf, ledger->device_bytes);
	put_u32(buf, count);
	for (uint32_t i = 0; i < count; i++, region = region->next) {
		put_u32(buf, region->owner);
		put_u8(buf, (uint8_t)region->kind);
		put_u8(buf, region->on_device);
		put_u64(buf, region->bytes);
	}
	end(buf, at);
}

static void put_gpu(struct vac_buf *buf, const struct vac_wire_gpu *gpu)
{
	uint32_t count = gpu->process_count < VAC_WIRE_MAX_GPU_PROCESSES
				 ? gpu->process_count
				 : VAC_WIRE_MAX_GPU_PROCESSES;

	put_string(buf, gpu->device);
	put_string(buf, gpu->name);
	put_string(buf, gpu->uuid);
	put_u64(buf, gpu->total_bytes);
	put_u64(buf, gpu->used_bytes);
	put_u32(buf, count);
	for (uint32_t i = 0; i < count; i++) {
		put_u32(buf, gpu->processes[i].pid);
		put_u8(buf, gpu->processes[i].bytes_valid);
		put_u64(buf, gpu->processes[i].bytes);
	}
}

void vac_wire_put_gpus(struct vac_buf *buf, uint64_t id, const struct vac_wire_gpus *gpus)
{
	size_t at = begin(buf, VAC_WIRE_GPUS_READ, id);

	put_u32(buf, gpus->count);
	for (uint32_t i = 0; i < gpus->count; i++)
		put_gpu(buf, &gpus->gpus[i]);
	end(buf, at);
}

void vac_wire_put_error(struct vac_buf *buf, uint64_t id, const struct vac_error *error)
{
	size_t at = begin(buf, VAC_WIRE_ERROR, id);

	put_error(buf, error);
	end(buf, at);
}

void vac_wire_put_empty(struct vac_buf *buf, enum vac_wire_type type, uint64_t id)
{
	end(buf, begin(buf, type, id));
}
