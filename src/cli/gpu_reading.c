/* gpu_reading.c - see gpu_reading.h. */
#include "cli/gpu_reading.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define QUESTION 1 /* one at a time */

static const struct vac_wire_gpu *find(const struct vac_wire_gpus *gpus, const char *device)
{
	for (uint32_t i = 0; i < gpus->count; i++) {
		const struct vac_wire_string *name = &gpus->gpus[i].device;

		if (strlen(device) == name->bytes && memcmp(device, name->text, name->bytes) == 0)
			return &gpus->gpus[i];
	}
	return NULL;
}

static void take(const struct vac_wire_gpu *gpu, pid_t pid, struct vac_device_memory *out)
{
	*out = (struct vac_device_memory){
		.valid = true, .process_bytes_valid = true, .used_bytes = gpu->used_bytes};
	for (uint32_t i = 0; i < gpu->process_count; i++) {
		if (gpu->processes[i].pid != (uint32_t)pid)
			continue;
		out->listed = true;
		out->process_bytes_valid = gpu->processes[i].bytes_valid;
		out->process_bytes = gpu->processes[i].bytes;
	}
}

int vac_gpu_read(struct vac_worker_client *gpud, const char *device, pid_t pid,
		 struct vac_device_memory *out, struct vac_error *err)
{
	const struct vac_spawn_options options = {.device = VAC_SPAWN_GPUS};
	struct vac_wire_gpus *gpus = NULL;
	const struct vac_wire_gpu *gpu;
	struct vac_wire_header header;
	const uint8_t *payload;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (gpud->process.pid == 0)
		rc = vac_client_start(gpud, &options, err);
	if (rc < 0)
		return rc;
	vac_wire_put_empty(&gpud->out, VAC_WIRE_GPUS, QUESTION);
	rc = vac_client_send(gpud, err);
	gpud->until_ns = vac_now_ns() + VAC_CLIENT_GPUD_MS * INT64_C(1000000);
	if (rc == 0)
		rc = vac_client_wait(gpud, VAC_WIRE_GPUS_READ, QUESTION, NULL, NULL, &header,
				     &payload, err);
	gpud->until_ns = 0;
	if (rc == -ETIMEDOUT) {
		vac_client_abandon(gpud);
		return vac_fail(
			err, VAC_E_TIMEOUT,
			"NVML did not answer in %d s; dmesg may say what is wrong with a GPU",
			VAC_CLIENT_GPUD_MS / 1000);
	}
	if (rc < 0)
		return rc;
	gpus = malloc(sizeof(*gpus));
	if (!gpus)
		return vac_fail_nomem(err, "what the GPUs hold", sizeof(*gpus));
	rc = vac_wire_get_gpus(payload, header.payload_bytes, gpus, err);
	if (rc == 0) {
		gpu = find(gpus, device);
		if (gpu)
			take(gpu, pid, out);
		else
			rc = vac_fail(err, VAC_E_NOT_FOUND, "%s: NVML shows no such GPU", device);
	}
	free(gpus);
	return rc;
}
