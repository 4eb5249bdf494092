/*
 * receipt_json.c - a receipt as one line of JSON: the reply of an unload and
 * the line of the journal are the same bytes. Any thread; no state.
 */
#include "api/write.h"

#include <string.h>

static void put_name(struct vac_buf *buf, const char *name, size_t capacity)
{
	vac_put_string(buf, name, strnlen(name, capacity));
}

static void put_processes(struct vac_buf *buf, const struct vac_receipt *receipt)
{
	vac_buf_puts(buf, ",\"worker\":{\"pid\":");
	vac_put_i64(buf, receipt->worker_pid);
	vac_buf_puts(buf, ",\"exited\":");
	vac_put_bool(buf, receipt->worker_exited);
	vac_buf_puts(buf, ",\"before\":");
	vac_put_usage(buf, &receipt->worker_before);
	vac_buf_puts(buf, ",\"after\":");
	vac_put_usage(buf, &receipt->worker_after);
	vac_buf_puts(buf, "},\"server\":{\"before\":");
	vac_put_usage(buf, &receipt->server_before);
	vac_buf_puts(buf, ",\"after\":");
	vac_put_usage(buf, &receipt->server_after);
	vac_buf_putc(buf, '}');
}

static void put_device_memory(struct vac_buf *buf, const struct vac_device_memory *memory)
{
	if (!memory->valid) {
		vac_buf_puts(buf, "null");
		return;
	}
	vac_buf_puts(buf, "{\"used_bytes\":");
	vac_put_u64(buf, memory->used_bytes);
	vac_buf_puts(buf, ",\"listed\":");
	vac_put_bool(buf, memory->listed);
	vac_buf_puts(buf, ",\"process_bytes\":");
	if (memory->process_bytes_valid)
		vac_put_u64(buf, memory->process_bytes);
	else
		vac_buf_puts(buf, "null");
	vac_buf_putc(buf, '}');
}

/* null on the CPUs, whose memory is the host's. */
static void put_vram(struct vac_buf *buf, const struct vac_receipt *receipt)
{
	int64_t returned;

	vac_buf_puts(buf, ",\"vram\":");
	if (!receipt->on_device) {
		vac_buf_puts(buf, "null");
		return;
	}
	vac_buf_puts(buf, "{\"planned_bytes\":");
	vac_put_u64(buf, receipt->device_planned_bytes);
	vac_buf_puts(buf, ",\"ledger_bytes\":");
	vac_put_u64(buf, receipt->device_ledger_bytes);
	vac_buf_puts(buf, ",\"returned_bytes\":");
	if (vac_receipt_device_returned(receipt, &returned))
		vac_put_i64(buf, returned);
	else
		vac_buf_puts(buf, "null");
	vac_buf_puts(buf, ",\"before\":");
	put_device_memory(buf, &receipt->device_before);
	vac_buf_puts(buf, ",\"after\":");
	put_device_memory(buf, &receipt->device_after);
	vac_buf_putc(buf, '}');
}

void vac_receipt_json(struct vac_buf *buf, const struct vac_receipt *receipt)
{
	vac_buf_puts(buf, "{\"id\":");
	vac_put_u64(buf, receipt->id);
	vac_buf_puts(buf, ",\"model\":");
	put_name(buf, receipt->model, sizeof(receipt->model));
	vac_buf_puts(buf, ",\"device\":");
	put_name(buf, receipt->device, sizeof(receipt->device));
	vac_buf_puts(buf, ",\"reason\":");
	vac_put_text(buf, vac_unload_reason_name(receipt->reason));
	vac_buf_puts(buf, ",\"at\":");
	vac_put_time(buf, receipt->wall_ns);
	vac_buf_puts(buf, ",\"resident_ms\":");
	vac_put_i64(buf, receipt->resident_ns / 1000000);
	vac_buf_puts(buf, ",\"unload_ms\":");
	vac_put_ms(buf, receipt->unload_ns);
	vac_buf_puts(buf, ",\"requests\":");
	vac_put_u64(buf, receipt->requests);
	vac_buf_puts(buf, ",\"planned_bytes\":");
	vac_put_u64(buf, receipt->planned_bytes);
	vac_buf_puts(buf, ",\"ledger_bytes\":");
	vac_put_u64(buf, receipt->ledger_bytes);
	if (vac_receipt_valid(receipt)) {
		vac_buf_puts(buf, ",\"returned_bytes\":");
		vac_put_i64(buf, vac_receipt_returned_bytes(receipt));
		vac_buf_puts(buf, ",\"unaccounted_bytes\":");
		vac_put_u64(buf, vac_receipt_unaccounted_bytes(receipt));
	} else { /* not measured is not 0 */
		vac_buf_puts(buf, ",\"returned_bytes\":null,\"unaccounted_bytes\":null");
	}
	put_vram(buf, receipt);
	put_processes(buf, receipt);
	vac_buf_puts(buf, ",\"page_cache_bytes\":");
	if (receipt->page_cache_valid)
		vac_put_u64(buf, receipt->page_cache_bytes);
	else
		vac_buf_puts(buf, "null");
	vac_buf_puts(buf, ",\"page_cache_dropped\":");
	vac_put_bool(buf, receipt->page_cache_dropped);
	vac_buf_putc(buf, '}');
}
