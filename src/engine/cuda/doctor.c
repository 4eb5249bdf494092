/*
 * doctor.c - what the cuda backend needs, what of it was found and where, and
 * what to do about the rest. Starts the driver (cuInit) but makes no context.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/survey.h"
#include "driver/nvml.h"
#include "engine/cuda/backend.h"
#include "engine/cuda/kernels.h"
#include "memory/meter.h"

#define MOST_DEVICES VAC_SURVEY_MOST_DEVICES
#define LINE         "  %-10s"

static void put_error(struct vac_buf *out, const char *what, const struct vac_error *err)
{
	vac_buf_printf(out, LINE "%s\n", what, err->message);
}

static void put_library(struct vac_buf *out, const char *what, const char *path)
{
	vac_buf_printf(out, LINE "%s\n", what, path ? path : "found");
}

static int put_devices(struct vac_buf *out, struct vac_error *err)
{
	struct vac_nvml_device *devices = calloc(MOST_DEVICES, sizeof(*devices));
	char driver[80] = "";
	uint32_t count = 0;
	if (!devices)
		return vac_fail_nomem(err, "what NVML says", MOST_DEVICES * sizeof(*devices));
	int rc = vac_nvml_read(devices, MOST_DEVICES, &count, driver, err);
	if (rc == 0)
		vac_buf_printf(out, LINE "%s, driver %s\n", "NVML",
			       vac_nvml_path() ? vac_nvml_path() : "found", driver);
	for (uint32_t i = 0; rc == 0 && i < count && i < MOST_DEVICES; i++)
		vac_buf_printf(out, "  GPU %-6u%s, %llu of %llu MiB used, %u process%s, %s\n", i,
			       devices[i].name, devices[i].memory.used >> 20,
			       devices[i].memory.total >> 20, devices[i].process_count,
			       devices[i].process_count == 1 ? "" : "es", devices[i].uuid);
	free(devices);
	return rc;
}

/* The devices as the driver shows them to us: CUDA_VISIBLE_DEVICES is heeded.
 * *compile: one of them needs kernels that were not compiled ahead. */
static int put_visible(const struct vac_cuda *cuda, struct vac_buf *out, bool *compile,
		       struct vac_error *err)
{
	char name[96];
	int count = 0, device, major = 0, minor = 0;
	int result = cuda->init(0);
	if (result == VAC_CU_OK)
		result = cuda->device_count(&count);
	for (int i = 0; result == VAC_CU_OK && i < count; i++) {
		result = cuda->device_get(&device, i);
		if (result == VAC_CU_OK)
			result = cuda->device_name(name, (int)sizeof(name), device);
		if (result == VAC_CU_OK)
			result = cuda->device_attribute(&major, VAC_CU_ATTRIBUTE_MAJOR, device);
		if (result == VAC_CU_OK)
			result = cuda->device_attribute(&minor, VAC_CU_ATTRIBUTE_MINOR, device);
		*compile |= !vac_cuda_cubin(major * 10 + minor, 16);
		if (result == VAC_CU_OK)
			vac_buf_printf(out, "  cuda:%-5d%s, compute capability %d.%d%s\n", i, name,
				       major, minor,
				       major * 10 + minor < VAC_CUDA_OLDEST_ARCHITECTURE
					       ? ": too old, 8.0 is needed"
					       : "");
	}
	return result == VAC_CU_OK ? 0 : vac_cuda_fail(cuda, err, result, "looking for GPUs");
}

static void put_kernels(struct vac_buf *out)
{
	const struct vac_cuda_cubin *at = vac_cuda_cubins;
	int last = 0;
	if (!at->image)
		return;
	vac_buf_printf(out, LINE "compiled ahead for", "kernels");
	for (; at->image; at++) {
		if (at->architecture != last)
			vac_buf_printf(out, "%s sm_%d", last ? "," : "", at->architecture);
		last = at->architecture;
	}
	vac_buf_puts(out, "; NVRTC compiles them for others\n");
}

/* The driver keeps what a parked process had in plain memory of that process. */
static void put_parking(const struct vac_cuda *cuda, struct vac_buf *out)
{
	char huge[16];
	if (!vac_cuda_has_checkpoint(cuda) || !vac_meter_huge_pages("", huge))
		return;
	vac_buf_printf(
		out, LINE "transparent huge pages are set to '%s'%s\n", "parking", huge,
		strcmp(huge, "always") == 0
			? ", with which processes are parked and resumed fastest"
			: ": with 'always' processes are parked in two thirds of the time and "
			  "resumed in three quarters (/sys/kernel/mm/transparent_hugepage/"
			  "enabled; it is for the whole machine)");
}

int vac_cuda_diagnose(struct vac_buf *out)
{
	const struct vac_cuda *cuda;
	const struct vac_blas *blas;
	const struct vac_nvrtc *nvrtc;
	struct vac_error err = {0};
	bool compile = false;
	int version = 0, failed;
	failed = vac_cuda_load(&cuda, &err);
	if (failed < 0) { /* then the rest would not help */
		put_error(out, "driver", &err);
		return failed;
	}
	cuda->driver_version(&version);
	vac_buf_printf(out, LINE "%s, CUDA %d.%d\n", "driver",
		       vac_cuda_path() ? vac_cuda_path() : "found", version / 1000,
		       version % 1000 / 10);
	if (put_devices(out, &err) < 0) /* only measures: what is missing is said */
		put_error(out, "NVML", &err);
	put_parking(cuda, out);
	failed = put_visible(cuda, out, &compile, &err);
	if (failed < 0)
		put_error(out, "GPU", &err);
	int rc = vac_blas_load(version / 1000, &blas, &err);
	if (rc < 0)
		put_error(out, "cuBLASLt", &err);
	else
		put_library(out, "cuBLASLt", vac_blas_path());
	failed = failed < 0 ? failed : rc;
	put_kernels(out);
	rc = vac_nvrtc_load(version / 1000, &nvrtc, &err);
	if (rc < 0 && !compile) { /* a driver older than the toolkit would need it */
		vac_buf_printf(out, LINE "not found, and not needed for these GPUs\n", "NVRTC");
		rc = 0;
	} else if (rc < 0) {
		put_error(out, "NVRTC", &err);
	} else {
		put_library(out, "NVRTC", vac_nvrtc_path());
	}
	return failed < 0 ? failed : rc;
}
