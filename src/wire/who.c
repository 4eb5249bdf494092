/* who.c - see who.h. */
#include "wire/who.h"

#include <stdlib.h>

#include "wire/fields.h"

/* Of one process: pid, flags, bytes, gauge, time. */
#define LEAST_PROCESS_BYTES 28u
/* Of one device without a name: numbers and flags. */
#define LEAST_DEVICE_BYTES 104u

static void put_gauge(struct vac_buf *buf, const struct vac_gauge *gauge)
{
	put_u8(buf, gauge->valid);
	put_u32(buf, gauge->valid ? gauge->value : 0);
}

static void get_gauge(struct reader *r, struct vac_gauge *gauge, const char *field)
{
	gauge->valid = get_bool(r, field);
	gauge->value = get_u32(r, field);
}

static void put_process(struct vac_buf *buf, const struct vac_survey_process *process)
{
	put_u32(buf, process->pid);
	put_u8(buf, process->compute);
	put_u8(buf, process->graphics);
	put_u8(buf, process->bytes_valid);
	put_u64(buf, process->bytes);
	put_gauge(buf, &process->sm_percent);
	put_u64(buf, (uint64_t)process->used_at_us);
}

static void put_device(struct vac_buf *buf, const struct vac_survey_device *device)
{
	put_u32(buf, device->index);
	put_u32(buf, (uint32_t)device->result);
	put_text(buf, device->name);
	put_text(buf, device->uuid);
	put_u64(buf, device->total_bytes);
	put_u64(buf, device->free_bytes);
	put_u64(buf, device->used_bytes);
	put_u8(buf, device->reserved_valid);
	put_u64(buf, device->reserved_bytes);
	put_u8(buf, device->mig);
	put_gauge(buf, &device->gpu_percent);
	put_gauge(buf, &device->memory_percent);
	put_gauge(buf, &device->encoder_percent);
	put_gauge(buf, &device->decoder_percent);
	put_gauge(buf, &device->celsius);
	put_gauge(buf, &device->fan_percent);
	put_gauge(buf, &device->milliwatts);
	put_gauge(buf, &device->limit_milliwatts);
	put_u8(buf, device->listed);
	put_u8(buf, device->sampled);
	put_u64(buf, (uint64_t)device->since_us);
	put_u32(buf, device->process_count);
	for (uint32_t i = 0; i < device->process_count; i++)
		put_process(buf, &device->processes[i]);
}

void vac_wire_put_who(struct vac_buf *buf, uint64_t id, const struct vac_survey *survey)
{
	size_t at = begin(buf, VAC_WIRE_WHO_READ, id);

	put_text(buf, survey->driver_version);
	put_u64(buf, (uint64_t)survey->at_us);
	put_u32(buf, survey->count);
	for (uint32_t i = 0; i < survey->count; i++)
		put_device(buf, &survey->devices[i]);
	end(buf, at);
}

static void get_process(struct reader *r, struct vac_survey_process *process)
{
	process->pid = get_u32(r, "pid");
	process->compute = get_bool(r, "compute");
	process->graphics = get_bool(r, "graphics");
	process->bytes_valid = get_bool(r, "bytes_valid");
	process->bytes = get_u64(r, "bytes");
	get_gauge(r, &process->sm_percent, "sm_percent");
	process->used_at_us = get_ns(r, "used_at_us");
}

/* 0, or -1 without memory. */
static int get_processes(struct reader *r, struct vac_survey_device *device)
{
	uint32_t count = get_u32(r, "process_count");

	if (!r->bad && (count > VAC_SURVEY_MOST_PROCESSES ||
			(size_t)count * LEAST_PROCESS_BYTES > r->bytes - r->at))
		r->bad = "process_count";
	if (r->bad || count == 0)
		return 0;
	device->processes = calloc(count, sizeof(*device->processes));
	if (!device->processes)
		return -1;
	device->process_count = count;
	for (uint32_t i = 0; i < count; i++)
		get_process(r, &device->processes[i]);
	return 0;
}

static int get_device(struct reader *r, struct vac_survey_device *device)
{
	device->index = get_u32(r, "index");
	device->result = (int)get_u32(r, "result");
	copy_text(device->name, sizeof(device->name), get_string(r, sizeof(device->name), "name"));
	copy_text(device->uuid, sizeof(device->uuid), get_string(r, sizeof(device->uuid), "uuid"));
	device->total_bytes = get_u64(r, "total_bytes");
	device->free_bytes = get_u64(r, "free_bytes");
	device->used_bytes = get_u64(r, "used_bytes");
	device->reserved_valid = get_bool(r, "reserved_valid");
	device->reserved_bytes = get_u64(r, "reserved_bytes");
	device->mig = get_bool(r, "mig");
	get_gauge(r, &device->gpu_percent, "gpu_percent");
	get_gauge(r, &device->memory_percent, "memory_percent");
	get_gauge(r, &device->encoder_percent, "encoder_percent");
	get_gauge(r, &device->decoder_percent, "decoder_percent");
	get_gauge(r, &device->celsius, "celsius");
	get_gauge(r, &device->fan_percent, "fan_percent");
	get_gauge(r, &device->milliwatts, "milliwatts");
	get_gauge(r, &device->limit_milliwatts, "limit_milliwatts");
	device->listed = get_bool(r, "listed");
	device->sampled = get_bool(r, "sampled");
	device->since_us = get_ns(r, "since_us");
	return get_processes(r, device);
}

int vac_wire_get_who(const void *payload, size_t bytes, struct vac_survey *out,
		     struct vac_error *err)
{
	struct reader r = {.data = payload, .bytes = bytes};
	uint32_t count;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	copy_text(out->driver_version, sizeof(out->driver_version),
		  get_string(&r, sizeof(out->driver_version), "driver_version"));
	out->at_us = get_ns(&r, "at_us");
	count = get_u32(&r, "count");
	if (!r.bad && (count > VAC_SURVEY_MOST_DEVICES ||
		       (size_t)count * LEAST_DEVICE_BYTES > r.bytes - r.at))
		r.bad = "count";
	if (!r.bad && count > 0) {
		out->devices = calloc(count, sizeof(*out->devices));
		rc = out->devices ? 0 : -1;
	}
	for (uint32_t i = 0; rc == 0 && !r.bad && i < count; i++) {
		out->count = i + 1;
		rc = get_device(&r, &out->devices[i]);
	}
	if (rc < 0)
		rc = vac_fail_nomem(err, "what the GPUs hold", bytes);
	else
		rc = finish(&r, "WHO_READ", err);
	if (rc < 0)
		vac_survey_free(out);
	return rc;
}
