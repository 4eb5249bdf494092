/*
 * fuzz_wire.c - byte 0 chooses what is decoded, the rest is a payload (or,
 * for 0, a stream of frames). What decodes must be readable to its last byte.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/hold_frames.h"
#include "wire/who.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static volatile uint64_t sink;

static void touch(const void *from, size_t bytes)
{
	const uint8_t *b = from;

	for (size_t i = 0; i < bytes; i++)
		sink += b[i];
}

static void touch_task(const struct vac_wire_task *task)
{
	for (uint32_t i = 0; i < task->input_count; i++) {
		touch(task->inputs[i].text, task->inputs[i].text_bytes);
		touch(task->inputs[i].ids, task->inputs[i].id_count * sizeof(int32_t));
	}
}

static void decode(uint8_t what, const uint8_t *payload, size_t bytes)
{
	struct vac_error err, told;
	struct vac_wire_hello hello;
	struct vac_wire_load load;
	struct vac_wire_model model;
	struct vac_wire_progress progress;
	struct vac_wire_task task;
	struct vac_wire_result result;
	struct vac_wire_unloaded unloaded;
	static struct vac_wire_measured measured;
	struct vac_wire_file file;
	static struct vac_wire_gpus gpus;
	static struct vac_wire_held held;
	static struct vac_survey survey;
	struct vac_wire_hold hold;
	struct vac_wire_hold_phase phase;
	uint32_t id;

	switch (what) {
	case VAC_WIRE_HELLO:
		if (vac_wire_get_hello(payload, bytes, &hello, &err) == 0)
			touch(hello.sandbox.text, hello.sandbox.bytes);
		break;
	case VAC_WIRE_WHO_READ:
		if (vac_wire_get_who(payload, bytes, &survey, &err) == 0) {
			for (uint32_t i = 0; i < survey.count; i++)
				touch(survey.devices[i].processes,
				      survey.devices[i].process_count *
					      sizeof(struct vac_survey_process));
			vac_survey_free(&survey);
		}
		break;
	case VAC_WIRE_LOAD:
		if (vac_wire_get_load(payload, bytes, &load, &err) == 0) {
			touch(load.dir.text, load.dir.bytes);
			touch(load.dtype.text, load.dtype.bytes);
			while (vac_wire_next_file(&load.files, &file))
				touch(file.name.text, file.name.bytes);
		}
		break;
	case VAC_WIRE_LOADED:
		if (vac_wire_get_model(payload, bytes, &model, &err) == 0)
			touch(model.pooling.text, model.pooling.bytes);
		break;
	case VAC_WIRE_PROGRESS:
		sink += (uint64_t)vac_wire_get_progress(payload, bytes, &progress, &err);
		break;
	case VAC_WIRE_TASK:
		if (vac_wire_get_task(payload, bytes, &task, &err) == 0) {
			touch_task(&task);
			vac_wire_task_free(&task);
		}
		break;
	case VAC_WIRE_RESULT:
		if (vac_wire_get_result(payload, bytes, &result, &err) == 0)
			touch(result.vectors, (size_t)result.rows * result.dimensions * 4);
		break;
	case VAC_WIRE_UNLOAD:
		sink += (uint64_t)vac_wire_get_unload(payload, bytes, &id, &err);
		break;
	case VAC_WIRE_WORKING:
		sink += (uint64_t)vac_wire_get_working(payload, bytes, &id, &err);
		break;
	case VAC_WIRE_UNLOADED:
		sink += (uint64_t)vac_wire_get_unloaded(payload, bytes, &unloaded, &err);
		break;
	case VAC_WIRE_MEASURED:
		sink += (uint64_t)vac_wire_get_measured(payload, bytes, &measured, &err);
		break;
	case VAC_WIRE_GPUS_READ:
		if (vac_wire_get_gpus(payload, bytes, &gpus, &err) == 0 && gpus.count > 0)
			touch(gpus.gpus[0].name.text, gpus.gpus[0].name.bytes);
		break;
	case VAC_WIRE_HOLD:
		if (vac_wire_get_hold(payload, bytes, &hold, &err) == 0) {
			touch(hold.device_uuid.text, hold.device_uuid.bytes);
			touch(hold.who.text, hold.who.bytes);
		}
		break;
	case VAC_WIRE_HOLD_PHASE:
		sink += (uint64_t)vac_wire_get_hold_phase(payload, bytes, &phase, &err);
		break;
	case VAC_WIRE_HELD:
		if (vac_wire_get_held(payload, bytes, &held, &err) == 0 && held.count > 0)
			touch(held.targets, held.count * sizeof(held.targets[0]));
		break;
	case VAC_WIRE_ERROR:
		if (vac_wire_get_error(payload, bytes, &told, &err) == 0)
			touch(told.message, strlen(told.message));
		break;
	}
}

static void decode_stream(const uint8_t *data, size_t bytes)
{
	struct vac_wire_header header;
	struct vac_error err;
	size_t at = 0;

	while (vac_wire_peek(data + at, bytes - at, &header, &err) == 1) {
		decode((uint8_t)header.type, data + at + VAC_WIRE_HEADER_BYTES,
		       header.payload_bytes);
		at += VAC_WIRE_HEADER_BYTES + header.payload_bytes;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t *copy;

	if (bytes == 0)
		return 0;
	/* Exactly as long, and aligned as frames are. */
	copy = aligned_alloc(8, bytes > 8 ? (bytes + 6) / 8 * 8 : 8);
	if (!copy)
		return 0;
	memcpy(copy, data + 1, bytes - 1);
	if (data[0] == 0)
		decode_stream(copy, bytes - 1);
	else
		decode(data[0], copy, bytes - 1);
	free(copy);
	return 0;
}
