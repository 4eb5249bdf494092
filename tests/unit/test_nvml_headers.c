/*
 * test_nvml_headers.c - our declarations of NVML against NVIDIA's header: sizes,
 * offsets, values, and that every function is declared. Built only where nvml.h is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <nvml.h>

#include "driver/nvml.h"

#define SAME_SIZE(a, b) _Static_assert(sizeof(a) == sizeof(b), #a " and " #b)
#define SAME_OFFSET(a, member_a, b, member_b)                                                      \
	_Static_assert(offsetof(a, member_a) == offsetof(b, member_b), #a "." #member_a)
#define SAME(a, b) _Static_assert((int)(a) == (int)(b), #a " and " #b)

SAME_SIZE(struct vac_nvml_memory, nvmlMemory_t);
SAME_OFFSET(struct vac_nvml_memory, total, nvmlMemory_t, total);
SAME_OFFSET(struct vac_nvml_memory, free, nvmlMemory_t, free);
SAME_OFFSET(struct vac_nvml_memory, used, nvmlMemory_t, used);
SAME_SIZE(struct vac_nvml_memory_v2, nvmlMemory_v2_t);
SAME_OFFSET(struct vac_nvml_memory_v2, version, nvmlMemory_v2_t, version);
SAME_OFFSET(struct vac_nvml_memory_v2, total, nvmlMemory_v2_t, total);
SAME_OFFSET(struct vac_nvml_memory_v2, reserved, nvmlMemory_v2_t, reserved);
SAME_OFFSET(struct vac_nvml_memory_v2, free, nvmlMemory_v2_t, free);
SAME_OFFSET(struct vac_nvml_memory_v2, used, nvmlMemory_v2_t, used);
SAME(VAC_NVML_MEMORY_V2, nvmlMemory_v2);
SAME_SIZE(struct vac_nvml_process, nvmlProcessInfo_t);
SAME_OFFSET(struct vac_nvml_process, pid, nvmlProcessInfo_t, pid);
SAME_OFFSET(struct vac_nvml_process, used_bytes, nvmlProcessInfo_t, usedGpuMemory);
SAME_OFFSET(struct vac_nvml_process, gpu_instance, nvmlProcessInfo_t, gpuInstanceId);
SAME_OFFSET(struct vac_nvml_process, compute_instance, nvmlProcessInfo_t, computeInstanceId);
SAME_SIZE(struct vac_nvml_utilization, nvmlUtilization_t);
SAME_OFFSET(struct vac_nvml_utilization, gpu, nvmlUtilization_t, gpu);
SAME_OFFSET(struct vac_nvml_utilization, memory, nvmlUtilization_t, memory);
SAME_SIZE(struct vac_nvml_sample, nvmlProcessUtilizationSample_t);
SAME_OFFSET(struct vac_nvml_sample, pid, nvmlProcessUtilizationSample_t, pid);
SAME_OFFSET(struct vac_nvml_sample, at_us, nvmlProcessUtilizationSample_t, timeStamp);
SAME_OFFSET(struct vac_nvml_sample, sm, nvmlProcessUtilizationSample_t, smUtil);
SAME_OFFSET(struct vac_nvml_sample, memory, nvmlProcessUtilizationSample_t, memUtil);
SAME_OFFSET(struct vac_nvml_sample, encoder, nvmlProcessUtilizationSample_t, encUtil);
SAME_OFFSET(struct vac_nvml_sample, decoder, nvmlProcessUtilizationSample_t, decUtil);
SAME_SIZE(struct vac_nvml_value, nvmlSample_t);
SAME_OFFSET(struct vac_nvml_value, at_us, nvmlSample_t, timeStamp);
SAME_OFFSET(struct vac_nvml_value, value, nvmlSample_t, sampleValue);
SAME(VAC_NVML_GPU_UTILIZATION_SAMPLES, NVML_GPU_UTILIZATION_SAMPLES);
SAME_SIZE(nvmlSamplingType_t, int);
SAME(VAC_NVML_OK, NVML_SUCCESS);
SAME(VAC_NVML_NOT_FOUND, NVML_ERROR_NOT_FOUND);
SAME(VAC_NVML_TOO_SMALL, NVML_ERROR_INSUFFICIENT_SIZE);
SAME(VAC_NVML_TEMPERATURE_GPU, NVML_TEMPERATURE_GPU);
SAME_SIZE(nvmlReturn_t, int);

/* A name that is not declared does not compile; nothing is linked. */
#define DECLARED(function) _Static_assert(sizeof(&(function)) == sizeof(void *), #function)
DECLARED(nvmlInit_v2);
DECLARED(nvmlShutdown);
DECLARED(nvmlSystemGetDriverVersion);
DECLARED(nvmlDeviceGetCount_v2);
DECLARED(nvmlDeviceGetHandleByIndex_v2);
DECLARED(nvmlDeviceGetHandleByUUID);
DECLARED(nvmlDeviceGetName);
DECLARED(nvmlDeviceGetUUID);
DECLARED(nvmlDeviceGetMemoryInfo);
DECLARED(nvmlDeviceGetMemoryInfo_v2);
DECLARED(nvmlDeviceGetComputeRunningProcesses_v3);
DECLARED(nvmlDeviceGetGraphicsRunningProcesses_v3);
DECLARED(nvmlDeviceGetUtilizationRates);
DECLARED(nvmlDeviceGetProcessUtilization);
DECLARED(nvmlDeviceGetSamples);
DECLARED(nvmlDeviceGetMigMode);
DECLARED(nvmlDeviceGetTemperature);
DECLARED(nvmlDeviceGetFanSpeed);
DECLARED(nvmlDeviceGetPowerUsage);
DECLARED(nvmlDeviceGetEnforcedPowerLimit);
DECLARED(nvmlDeviceGetEncoderUtilization);
DECLARED(nvmlDeviceGetDecoderUtilization);

static void test_compiled(void **state)
{
	(void)state; /* the compiler has said it all */
	assert_true(NVML_API_VERSION >= 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_compiled)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
