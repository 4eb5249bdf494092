/* held_json.c - receipts of parked and resumed workers as JSON. Any thread; no state. */
#include "api/write.h"

#include "wire/hold_frames.h"

static const char *state_name(enum vac_wire_held_state state)
{
	static const char *const names[] = {
		[VAC_WIRE_HELD_UNKNOWN] = "unknown", [VAC_WIRE_HELD_RUNNING] = "running",
		[VAC_WIRE_HELD_LOCKED] = "locked",   [VAC_WIRE_HELD_PARKED] = "parked",
		[VAC_WIRE_HELD_FAILED] = "failed",
	};

	return names[state];
}

static void put_text(struct vac_buf *buf, const char *name, const char *text)
{
	vac_buf_puts(buf, name);
	vac_put_text(buf, text);
}

static void put_bytes(struct vac_buf *buf, const char *name, bool valid, uint64_t bytes)
{
	vac_buf_puts(buf, name);
	if (valid)
		vac_put_u64(buf, bytes);
	else
		vac_buf_puts(buf, "null");
}

static void put_memory(struct vac_buf *buf, const char *name,
		       const struct vac_wire_held_memory *memory)
{
	vac_buf_puts(buf, name);
	vac_put_bool(buf, memory->listed);
	put_bytes(buf, ",\"process_bytes\":", memory->bytes_valid, memory->bytes);
	put_bytes(buf, ",\"used_bytes\":", true, memory->used_bytes);
	put_bytes(buf, ",\"total_bytes\":", true, memory->total_bytes);
	vac_buf_putc(buf, '}');
}

static void put_devices(struct vac_buf *buf, const struct vac_wire_held_target *held)
{
	vac_buf_puts(buf, ",\"devices\":[");
	for (uint32_t i = 0; i < held->device_count; i++) {
		put_text(buf, i ? ",{\"uuid\":" : "{\"uuid\":", held->devices[i].uuid);
		put_memory(buf, ",\"before\":{\"listed\":", &held->devices[i].before);
		put_memory(buf, ",\"after\":{\"listed\":", &held->devices[i].after);
		vac_buf_putc(buf, '}');
	}
	vac_buf_putc(buf, ']');
}

static void put_times(struct vac_buf *buf, const struct vac_wire_held_target *held)
{
	const struct {
		const char *name;
		int64_t ns;
	} all[] = {
		{",\"lock_ms\":", held->lock_ns},
		{",\"checkpoint_ms\":", held->checkpoint_ns},
		{",\"restore_ms\":", held->restore_ns},
		{",\"unlock_ms\":", held->unlock_ns},
		{",\"driver_ms\":", held->driver_ns},
		{",\"total_ms\":", held->total_ns},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		vac_buf_puts(buf, all[i].name);
		vac_put_ms(buf, all[i].ns);
	}
}

void vac_put_held(struct vac_buf *buf, bool park, const struct vac_outcome *outcome)
{
	const struct vac_wire_held_target *held = outcome->held;

	put_text(buf, "{\"success\":true,\"operation\":", park ? "park" : "resume");
	put_text(buf, ",\"driver\":", outcome->held_driver);
	vac_buf_puts(buf, ",\"error\":null,\"receipts\":[{\"models\":[");
	for (size_t i = 0; i < outcome->held_model_count; i++)
		put_text(buf, i ? "," : "", outcome->held_models[i]);
	vac_buf_puts(buf, "],\"pid\":");
	vac_put_u64(buf, held->pid);
	vac_buf_puts(buf, ",\"uid\":");
	vac_put_u64(buf, held->uid);
	put_text(buf, ",\"user\":null,\"command\":", held->command);
	put_text(buf, ",\"before\":", state_name(held->before));
	put_text(buf, ",\"after\":", state_name(held->after));
	vac_buf_puts(buf, ",\"error\":null");
	put_devices(buf, held);
	put_bytes(buf, ",\"rss_before_bytes\":", held->rss_valid, held->rss_before_bytes);
	put_bytes(buf, ",\"rss_after_bytes\":", held->rss_valid, held->rss_after_bytes);
	put_bytes(buf, ",\"pageout_bytes\":", held->pageout_valid, held->pageout_bytes);
	put_bytes(buf, ",\"swapped_bytes\":", held->pageout_valid, held->swapped_bytes);
	put_times(buf, held);
	vac_buf_puts(buf, "}]}");
}
