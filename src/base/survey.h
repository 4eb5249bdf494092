/*
 * survey.h - what is told of all GPUs at one moment: memory, use, and every process
 * that is on one. Plain data: driver/survey.h reads it from NVML, wire/who.h carries
 * it, hold/usage.h puts it together with /proc. What NVML does not tell has no valid
 * bit. Any thread.
 */
#ifndef VAC_BASE_SURVEY_H
#define VAC_BASE_SURVEY_H

#include <stdbool.h>
#include <stdint.h>

#define VAC_SURVEY_MOST_DEVICES   128  /* more are not looked at */
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

#define VAC_SURVEY_ANSWERS 0

/* Samples of use come so much later than what they are of, at most, microseconds. */
#define VAC_SURVEY_LAG_US INT64_C(1000000)

struct vac_survey_device {
	uint32_t index; /* NVML's, as nvidia-smi shows it */
	int result;     /* NVML's; not VAC_SURVEY_ANSWERS: the device does not, the rest is empty */
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
	int64_t since_us; /* how far back they reach: the device's oldest sample, else the oldest
			   * of a process; 0: there is none */
	uint32_t process_count;
	struct vac_survey_process *processes; /* owned */
};

struct vac_survey {
	char driver_version[80];
	int64_t at_us;                     /* since 1970 */
	uint32_t count;                    /* at most VAC_SURVEY_MOST_DEVICES */
	struct vac_survey_device *devices; /* owned */
};

void vac_survey_free(struct vac_survey *survey);

/* A sentence for a result of NVML: "the GPU is lost (NVML error 15)". */
const char *vac_survey_says(int result, char text[80]);

#endif
