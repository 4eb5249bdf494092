/* hold_frames.c - see hold_frames.h. */
#include "wire/hold_frames.h"

#include <string.h>

#include "wire/fields.h"

void vac_wire_put_hold(struct vac_buf *buf, uint64_t id, const struct vac_wire_hold *hold)
{
	size_t at = begin(buf, VAC_WIRE_HOLD, id);

	assert(hold->count <= VAC_WIRE_MAX_TARGETS);
	put_u8(buf, (uint8_t)hold->operation);
	put_u8(buf, hold->risk);
	put_u8(buf, hold->pageout);
	put_u32(buf, hold->lock_timeout_ms);
	put_u32(buf, hold->wait_ms);
	put_string(buf, hold->device_uuid);
	put_string(buf, hold->who);
	put_u32(buf, hold->count);
	for (uint32_t i = 0; i < hold->count; i++) {
		put_u32(buf, hold->targets[i].pid);
		put_u64(buf, hold->targets[i].start_ticks);
	}
	end(buf, at);
}

int vac_wire_get_hold(const void *payload, size_t bytes, struct vac_wire_hold *out,
		      struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	memset(out, 0, sizeof(*out));
	out->operation = (enum vac_wire_hold_operation)get_enum(&r, VAC_WIRE_HOLD_STATE,
								VAC_WIRE_HOLD_RESUME, "operation");
	out->risk = get_bool(&r, "risk");
	out->pageout = get_bool(&r, "pageout");
	out->lock_timeout_ms = get_u32(&r, "lock_timeout_ms");
	out->wait_ms = get_u32(&r, "wait_ms");
	out->device_uuid = get_string(&r, VAC_WIRE_UUID_BYTES - 1, "device_uuid");
	out->who = get_string(&r, VAC_WIRE_WHO_BYTES - 1, "who");
	out->count = get_u32(&r, "count");
	if (!r.bad && (out->count == 0 || out->count > VAC_WIRE_MAX_TARGETS))
		r.bad = "count";
	if (r.bad)
		out->count = 0;
	for (uint32_t i = 0; i < out->count; i++) {
		out->targets[i].pid = get_u32(&r, "pid");
		if (!r.bad && (out->targets[i].pid == 0 || out->targets[i].pid > INT32_MAX))
			r.bad = "pid";
		out->targets[i].start_ticks = get_u64(&r, "start_ticks");
	}
	return finish(&r, "HOLD", err);
}

void vac_wire_put_hold_phase(struct vac_buf *buf, uint64_t id,
			     const struct vac_wire_hold_phase *phase)
{
	size_t at = begin(buf, VAC_WIRE_HOLD_PHASE, id);

	put_u32(buf, phase->target);
	put_u8(buf, (uint8_t)phase->phase);
	end(buf, at);
}

int vac_wire_get_hold_phase(const void *payload, size_t bytes, struct vac_wire_hold_phase *out,
			    struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	out->target = get_u32(&r, "target");
	if (!r.bad && out->target >= VAC_WIRE_MAX_TARGETS)
		r.bad = "target";
	out->phase = get_enum(&r, 0, VAC_WIRE_HOLD_PHASES - 1, "phase");
	return finish(&r, "HOLD_PHASE", err);
}

static void put_memory(struct vac_buf *buf, const struct vac_wire_held_memory *memory)
{
	put_u8(buf, memory->listed);
	put_u8(buf, memory->bytes_valid);
	put_u64(buf, memory->bytes);
	put_u64(buf, memory->used_bytes);
	put_u64(buf, memory->total_bytes);
}

static void put_target(struct vac_buf *buf, const struct vac_wire_held_target *target)
{
	const int64_t times[] = {target->lock_ns,   target->checkpoint_ns, target->restore_ns,
				 target->unlock_ns, target->driver_ns,     target->total_ns};

	assert(target->device_count <= VAC_WIRE_MAX_HELD_DEVICES);
	put_u32(buf, target->pid);
	put_u32(buf, target->uid);
	put_text(buf, target->command);
	put_u8(buf, (uint8_t)target->before);
	put_u8(buf, (uint8_t)target->after);
	put_u8(buf, target->rss_valid);
	put_u64(buf, target->rss_before_bytes);
	put_u64(buf, target->rss_after_bytes);
	put_u8(buf, target->pageout_valid);
	put_u64(buf, target->pageout_bytes);
	put_u64(buf, target->swapped_bytes);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		put_u64(buf, (uint64_t)times[i]);
	put_error(buf, &target->error);
	put_u32(buf, target->device_count);
	for (uint32_t i = 0; i < target->device_count; i++) {
		put_text(buf, target->devices[i].uuid);
		put_memory(buf, &target->devices[i].before);
		put_memory(buf, &target->devices[i].after);
	}
}

void vac_wire_put_held(struct vac_buf *buf, uint64_t id, const struct vac_wire_held *held)
{
	size_t at = begin(buf, VAC_WIRE_HELD, id);

	assert(held->count <= VAC_WIRE_MAX_TARGETS);
	put_error(buf, &held->error);
	put_text(buf, held->driver);
	put_u32(buf, held->count);
	for (uint32_t i = 0; i < held->count; i++)
		put_target(buf, &held->targets[i]);
	end(buf, at);
}

static void get_memory(struct reader *r, struct vac_wire_held_memory *out)
{
	out->listed = get_bool(r, "listed");
	out->bytes_valid = get_bool(r, "bytes_valid");
	out->bytes = get_u64(r, "bytes");
	out->used_bytes = get_u64(r, "used_bytes");
	out->total_bytes = get_u64(r, "total_bytes");
}

static void get_devices(struct reader *r, struct vac_wire_held_target *out)
{
	out->device_count = get_u32(r, "device_count");
	if (!r->bad && out->device_count > VAC_WIRE_MAX_HELD_DEVICES)
		r->bad = "device_count";
	if (r->bad)
		out->device_count = 0;
	for (uint32_t i = 0; i < out->device_count; i++) {
		struct vac_wire_held_device *device = &out->devices[i];

		copy_text(device->uuid, sizeof(device->uuid),
			  get_string(r, VAC_WIRE_UUID_BYTES - 1, "uuid"));
		get_memory(r, &device->before);
		get_memory(r, &device->after);
	}
}

static void get_target(struct reader *r, struct vac_wire_held_target *out)
{
	int64_t *const times[] = {&out->lock_ns,   &out->checkpoint_ns, &out->restore_ns,
				  &out->unlock_ns, &out->driver_ns,     &out->total_ns};

	out->pid = get_u32(r, "pid");
	out->uid = get_u32(r, "uid");
	copy_text(out->command, sizeof(out->command),
		  get_string(r, VAC_WIRE_COMMAND_BYTES - 1, "command"));
	out->before = (enum vac_wire_held_state)get_enum(r, 0, VAC_WIRE_HELD_FAILED, "before");
	out->after = (enum vac_wire_held_state)get_enum(r, 0, VAC_WIRE_HELD_FAILED, "after");
	out->rss_valid = get_bool(r, "rss_valid");
	out->rss_before_bytes = get_u64(r, "rss_before_bytes");
	out->rss_after_bytes = get_u64(r, "rss_after_bytes");
	out->pageout_valid = get_bool(r, "pageout_valid");
	out->pageout_bytes = get_u64(r, "pageout_bytes");
	out->swapped_bytes = get_u64(r, "swapped_bytes");
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		*times[i] = get_ns(r, "times");
	get_error(r, &out->error);
	get_devices(r, out);
}

int vac_wire_get_held(const void *payload, size_t bytes, struct vac_wire_held *out,
		      struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};

	memset(out, 0, sizeof(*out));
	get_error(&r, &out->error);
	copy_text(out->driver, sizeof(out->driver),
		  get_string(&r, VAC_WIRE_DRIVER_BYTES - 1, "driver"));
	out->count = get_u32(&r, "count");
	if (!r.bad && out->count > VAC_WIRE_MAX_TARGETS)
		r.bad = "count";
	if (r.bad)
		out->count = 0;
	for (uint32_t i = 0; i < out->count; i++)
		get_target(&r, &out->targets[i]);
	return finish(&r, "HELD", err);
}
