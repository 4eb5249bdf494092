/*
 * measure.c - what NVML says of our device. The driver's numbers and NVML's are
 * not in the same order: devices are matched by UUID.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/survey.h"
#include "driver/nvml.h"
#include "engine/cuda/backend.h"

#define MOST_DEVICES VAC_SURVEY_MOST_DEVICES
/* NVML's word for "not known" */
#define UNKNOWN (~0ull)

/* Asking needs the driver to be started, but no context. */
static int find_uuid(struct vac_compute *c, struct vac_error *err)
{
	int device;
	if (*c->uuid)
		return 0;
	int rc = c->cuda->init(0);
	if (rc == VAC_CU_OK)
		rc = c->cuda->device_get(&device, (int)c->ordinal);
	if (rc == VAC_CU_OK)
		rc = vac_cuda_uuid(c->cuda, device, c->uuid);
	return rc == VAC_CU_OK ? 0 : vac_cuda_fail(c->cuda, err, rc, "asking which GPU it is");
}

int vac_cuda_measure(struct vac_compute *c, struct vac_device_usage *out, struct vac_error *err)
{
	struct vac_nvml_device *devices;
	uint32_t count;
	int rc = find_uuid(c, err);
	if (rc < 0)
		return rc;
	devices = calloc(MOST_DEVICES, sizeof(*devices));
	if (!devices)
		return vac_fail_nomem(err, "what NVML says", MOST_DEVICES * sizeof(*devices));
	if (vac_cuda_is_slice(c->uuid)) {
		count = 1;
		rc = vac_nvml_read_one(c->uuid, devices, err);
	} else {
		rc = vac_nvml_read_answering(devices, MOST_DEVICES, &count, err);
	}
	const struct vac_nvml_device *found = NULL;
	for (uint32_t i = 0; rc == 0 && i < count && i < MOST_DEVICES; i++)
		if (strcmp(devices[i].uuid, c->uuid) == 0)
			found = &devices[i];
	if (rc == 0 && !found) { /* it says why, if it is there */
		rc = vac_nvml_read_one(c->uuid, devices, err);
		found = devices;
	}
	if (rc == 0) {
		const struct vac_nvml_process *p = vac_nvml_find(found, (uint32_t)getpid());
		*out = (struct vac_device_usage){
			.used_bytes = found->memory.used,
			.total_bytes = found->memory.total,
			.listed = p != NULL,
			.process_bytes_valid = p && p->used_bytes != UNKNOWN,
		};
		if (out->process_bytes_valid)
			out->process_bytes = p->used_bytes;
	}
	free(devices);
	return rc;
}
