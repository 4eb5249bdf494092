/*
 * nvml.h - NVIDIA's management library (libnvidia-ml.so.1): what is on a
 * device, and who is. Needs no context and takes no memory of the device.
 * Declarations as in cuda.h. The library keeps some host memory while it is
 * initialised: vac_nvml_read initialises it, asks and shuts it down again.
 * Any thread.
 */
#ifndef VAC_DRIVER_NVML_H
#define VAC_DRIVER_NVML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct nvmlDevice_st;

struct vac_nvml_memory { /* nvmlMemory_t */
	unsigned long long total, free, used;
};

struct vac_nvml_process { /* nvmlProcessInfo_t of version 3 */
	unsigned pid;
	unsigned long long used_bytes; /* all ones: not known */
	unsigned gpu_instance, compute_instance;
};

struct vac_nvml_memory_v2 { /* nvmlMemory_v2_t */
	unsigned version;   /* VAC_NVML_MEMORY_V2 */
	unsigned long long total, reserved, free, used;
};
#define VAC_NVML_MEMORY_V2 ((unsigned)sizeof(struct vac_nvml_memory_v2) | 2u << 24)

struct vac_nvml_utilization { /* nvmlUtilization_t; per cent */
	unsigned gpu, memory;
};

struct vac_nvml_sample { /* nvmlProcessUtilizationSample_t */
	unsigned pid;
	unsigned long long at_us;              /* since 1970 */
	unsigned sm, memory, encoder, decoder; /* per cent */
};

struct vac_nvml_value {           /* nvmlSample_t of a kind whose values are unsigned */
	unsigned long long at_us; /* since 1970 */
	union {
		unsigned value;
		unsigned long long all;
	};
};
enum { VAC_NVML_GPU_UTILIZATION_SAMPLES = 1 }; /* nvmlSamplingType_t */

enum {
	VAC_NVML_OK = 0,
	VAC_NVML_NOT_SUPPORTED = 3,
	VAC_NVML_NO_PERMISSION = 4,
	VAC_NVML_NOT_FOUND = 6,
	VAC_NVML_TOO_SMALL = 7
};
enum { VAC_NVML_TEMPERATURE_GPU = 0 };

#define VAC_NVML_FUNCTIONS(X)                                                                      \
	X(init, "nvmlInit_v2", (void))                                                             \
	X(shutdown, "nvmlShutdown", (void))                                                        \
	X(driver_version, "nvmlSystemGetDriverVersion", (char *text, unsigned bytes))              \
	X(count, "nvmlDeviceGetCount_v2", (unsigned *count))                                       \
	X(by_index, "nvmlDeviceGetHandleByIndex_v2",                                               \
	  (unsigned index, struct nvmlDevice_st **device))                                         \
	X(by_uuid, "nvmlDeviceGetHandleByUUID", (const char *uuid, struct nvmlDevice_st **device)) \
	X(name, "nvmlDeviceGetName", (struct nvmlDevice_st * device, char *text, unsigned bytes))  \
	X(uuid, "nvmlDeviceGetUUID", (struct nvmlDevice_st * device, char *text, unsigned bytes))  \
	X(memory, "nvmlDeviceGetMemoryInfo",                                                       \
	  (struct nvmlDevice_st * device, struct vac_nvml_memory * out))                           \
	X(processes, "nvmlDeviceGetComputeRunningProcesses_v3",                                    \
	  (struct nvmlDevice_st * device, unsigned *count, struct vac_nvml_process *out))

/* What an older NVML may lack; NULL in the table then. */
#define VAC_NVML_OPTIONAL(X)                                                                       \
	X(graphics, "nvmlDeviceGetGraphicsRunningProcesses_v3",                                    \
	  (struct nvmlDevice_st * device, unsigned *count, struct vac_nvml_process *out))          \
	X(memory_v2, "nvmlDeviceGetMemoryInfo_v2",                                                 \
	  (struct nvmlDevice_st * device, struct vac_nvml_memory_v2 * out))                        \
	X(utilization, "nvmlDeviceGetUtilizationRates",                                            \
	  (struct nvmlDevice_st * device, struct vac_nvml_utilization * out))                      \
	X(samples, "nvmlDeviceGetProcessUtilization",                                              \
	  (struct nvmlDevice_st * device, struct vac_nvml_sample * out, unsigned *count,           \
	   unsigned long long since_us))                                                           \
	X(device_samples, "nvmlDeviceGetSamples",                                                  \
	  (struct nvmlDevice_st * device, int type, unsigned long long since_us, int *value_type,  \
	   unsigned *count, struct vac_nvml_value *out))                                           \
	X(mig_mode, "nvmlDeviceGetMigMode",                                                        \
	  (struct nvmlDevice_st * device, unsigned *current, unsigned *pending))                   \
	X(temperature, "nvmlDeviceGetTemperature",                                                 \
	  (struct nvmlDevice_st * device, int sensor, unsigned *celsius))                          \
	X(fan, "nvmlDeviceGetFanSpeed", (struct nvmlDevice_st * device, unsigned *percent))        \
	X(power, "nvmlDeviceGetPowerUsage", (struct nvmlDevice_st * device, unsigned *milliwatts)) \
	X(power_limit, "nvmlDeviceGetEnforcedPowerLimit",                                          \
	  (struct nvmlDevice_st * device, unsigned *milliwatts))                                   \
	X(encoder, "nvmlDeviceGetEncoderUtilization",                                              \
	  (struct nvmlDevice_st * device, unsigned *percent, unsigned *period_us))                 \
	X(decoder, "nvmlDeviceGetDecoderUtilization",                                              \
	  (struct nvmlDevice_st * device, unsigned *percent, unsigned *period_us))

struct vac_nvml {
#define VAC_NVML_MEMBER(member, symbol, parameters) int(*member) parameters;
	VAC_NVML_FUNCTIONS(VAC_NVML_MEMBER)
	VAC_NVML_OPTIONAL(VAC_NVML_MEMBER)
#undef VAC_NVML_MEMBER
};

int vac_nvml_load(const struct vac_nvml **out, struct vac_error *err) VAC_MUST_CHECK;
void vac_nvml_inject(const struct vac_nvml *table); /* as vac_cuda_inject */
const char *vac_nvml_path(void);                    /* as vac_cuda_path */

/* Of one device. A context takes some hundred MiB, so that no device has as many. */
#define VAC_NVML_MOST_PROCESSES 1024

struct vac_nvml_device {
	char name[96];
	char uuid[80]; /* "GPU-...", "MIG-..." */
	struct vac_nvml_memory memory;
	uint32_t process_count; /* with a context */
	struct vac_nvml_process processes[VAC_NVML_MOST_PROCESSES];
};

/* Devices of the machine (not of CUDA_VISIBLE_DEVICES), at most capacity of
 * them; *count says how many there are. driver_version may be NULL. */
int vac_nvml_read(struct vac_nvml_device *out, uint32_t capacity, uint32_t *count,
		  char driver_version[80], struct vac_error *err) VAC_MUST_CHECK;
/* One of them by its UUID; of a slice ("MIG-...") too, with its memory and processes. */
int vac_nvml_read_one(const char *uuid, struct vac_nvml_device *out,
		      struct vac_error *err) VAC_MUST_CHECK;
/* As vac_nvml_read, without devices that do not answer (one that fell off the bus keeps
 * nobody from the others), as long as one does: *count says how many were read and how
 * many more there was no room for. */
int vac_nvml_read_answering(struct vac_nvml_device *out, uint32_t capacity, uint32_t *count,
			    struct vac_error *err) VAC_MUST_CHECK;
/* The entry of a process; NULL: it is not listed. */
const struct vac_nvml_process *vac_nvml_find(const struct vac_nvml_device *device, uint32_t pid);

#endif
