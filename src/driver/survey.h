/*
 * survey.h - all that NVML tells of all devices at one moment: memory, use, and
 * every process that is on one. What NVML does not tell has no valid bit. Any
 * thread; no context is made and cuInit is not called.
 */
#ifndef VAC_DRIVER_SURVEY_H
#define VAC_DRIVER_SURVEY_H

#include "driver/nvml.h"

#define VAC_SURVEY_MOST_DEVICES   16
#define VAC_SURVEY_MOST_PROCESSES 1024 /* of one device */

struct vac_gauge {
	bool valid;
	uint32_t value;
};

struct vac_survey_process {
	uint32_t pid; /* as NVML has it: see hold/usage.h for what it means here */
	bool compute, graphics;
	bool bytes_valid;
	uint64_t bytes;
	struct vac_gauge sm_percent; /* in the newest sample of it */
	int64_t used_at_us;          /* since 1970: newest sample with SM use; 0: none */
};

struct vac_survey_device {
	uint32_t index; /* NVML's, as nvidia-smi shows it */
	int result;     /* not VAC_NVML_OK: the device does not answer, the rest is empty */
	char name[96];
	char uuid[80]; /* "GPU-..." */
	uint64_t total_bytes, free_bytes;
	uint64_t used_bytes; /* without what is reserved, where that is known */
	bool reserved_valid;
	uint64_t reserved_bytes; /* for the driver and the device's firmware */
	bool mig;                /* cut into instances: processes are not seen from here */
	struct vac_gauge gpu_percent, memory_percent, encoder_percent, decoder_percent;
	struct vac_gauge celsius, fan_percent, milliwatts, limit_milliwatts;
	bool listed;      /* NVML tells which processes are there */
	bool sampled;     /* and how much each uses the device */
	int64_t since_us; /* the oldest of those samples; 0: there was none */
	uint32_t process_count;
	struct vac_survey_process *processes; /* owned */
};

struct vac_survey {
	char driver_version[80];
	int64_t at_us; /* since 1970 */
	uint32_t count;
	struct vac_survey_device devices[VAC_SURVEY_MOST_DEVICES];
};

/* nvml is initialised and stays so. On error *out is empty; of a device that does
 * not answer only result is set, which is no error. */
int vac_survey_read(const struct vac_nvml *nvml, struct vac_survey *out,
		    struct vac_error *err) VAC_MUST_CHECK;
void vac_survey_free(struct vac_survey *survey);

/* A sentence for a result of NVML: "the GPU is lost (NVML error 15)". */
const char *vac_nvml_says(int result, char text[80]);

#endif
