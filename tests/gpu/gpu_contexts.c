/*
 * gpu_contexts.c - what a life of a context leaves in a process, without the engine: the
 * driver alone, and with each of the things that a backend does in a context. For finding
 * whose a growth of private memory is. Part of gpu_probe.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "driver/cuda.h"
#include "driver/find.h"
#include "gpu_contexts.h"
#include "memory/meter.h"

#define REGION_BYTES ((size_t)64 << 20)
#define PINNED_BYTES ((size_t)32 << 20)

static const char ptx[] = ".version 7.0\n.target sm_80\n.address_size 64\n"
			  ".visible .entry nothing()\n{\n\tret;\n}\n";

static const struct vac_cuda *cuda;
static int device;

static int use_stream(void)
{
	struct CUstream_st *stream;
	struct CUevent_st *event;
	int result = cuda->stream_create(&stream, VAC_CU_STREAM_NON_BLOCKING);
	if (result != VAC_CU_OK)
		return result;
	result = cuda->event_create(&event, VAC_CU_EVENT_DISABLE_TIMING);
	if (result == VAC_CU_OK) {
		result = cuda->event_record(event, stream);
		cuda->stream_synchronize(stream);
		cuda->event_destroy(event);
	}
	cuda->stream_destroy(stream);
	return result;
}

static int use_region(void)
{
	const struct vac_cu_allocation properties = {
		.type = VAC_CU_ALLOCATION_PINNED,
		.location = {.type = VAC_CU_LOCATION_DEVICE, .id = device}};
	const struct vac_cu_access access = {.location = properties.location,
					     .flags = VAC_CU_ACCESS_READWRITE};
	vac_cu_address at;
	vac_cu_memory memory;
	int result = cuda->mem_reserve(&at, REGION_BYTES, 0, 0, 0);
	if (result != VAC_CU_OK)
		return result;
	result = cuda->mem_create(&memory, REGION_BYTES, &properties, 0);
	if (result == VAC_CU_OK) {
		result = cuda->mem_map(at, REGION_BYTES, 0, memory, 0);
		cuda->mem_release(memory);
	}
	if (result == VAC_CU_OK) {
		result = cuda->mem_set_access(at, REGION_BYTES, &access, 1);
		cuda->mem_unmap(at, REGION_BYTES);
	}
	cuda->mem_address_free(at, REGION_BYTES);
	return result;
}

static int use_pinned(void)
{
	void *base = mmap(NULL, PINNED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	if (base == MAP_FAILED)
		return VAC_CU_OUT_OF_MEMORY;
	int result = cuda->host_register(base, PINNED_BYTES, VAC_CU_HOST_REGISTER_DEVICEMAP);
	if (result == VAC_CU_OK)
		result = cuda->host_unregister(base);
	munmap(base, PINNED_BYTES);
	return result;
}

static int use_module(void)
{
	struct CUmod_st *module;
	struct CUfunc_st *function;
	int result = cuda->module_load(&module, ptx);
	if (result != VAC_CU_OK)
		return result;
	result = cuda->module_function(&function, module, "nothing");
	if (result == VAC_CU_OK)
		result = cuda->launch(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
	if (result == VAC_CU_OK)
		result = cuda->stream_synchronize(NULL);
	cuda->module_unload(module);
	return result;
}

static int use_blas(void)
{
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
	static struct {
		int (*create)(void **handle);
		int (*destroy)(void *handle);
	} blas;
	static const struct vac_symbol symbols[] = {{"cublasLtCreate", 0},
						    {"cublasLtDestroy", sizeof(void (*)(void))}};
	static struct vac_found_library found;
	struct vac_error err;
	void *handle;
	if (!found.handle && (vac_find_library(names, 2, VAC_FIND_TOOLKIT, &found) < 0 ||
			      vac_find_symbols(&found, symbols, 2, &blas, &err) < 0))
		return VAC_CU_NOT_SUPPORTED;
	int result = blas.create(&handle);
	return result ? 1000 + result : blas.destroy(handle);
}

static const struct {
	const char *name;
	int (*use)(void);
} kinds[] = {{"stream", use_stream},
	     {"region", use_region},
	     {"pinned", use_pinned},
	     {"module", use_module},
	     {"blas", use_blas}};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static bool is_among(const char *name, const char *list)
{
	size_t length = strlen(name);
	for (; list && *list; list = strchr(list, ',') ? strchr(list, ',') + 1 : "")
		if (strncmp(list, name, length) == 0 &&
		    (list[length] == ',' || list[length] == '\0'))
			return true;
	return false;
}

static int one_life(const char *list, const char **what)
{
	struct CUctx_st *ctx, *popped;
	*what = "a context";
	int result = cuda->ctx_create(&ctx, VAC_CU_CTX_SCHED_SPIN, device);
	if (result != VAC_CU_OK)
		return result;
	for (size_t i = 0; result == VAC_CU_OK && i < KINDS; i++) {
		if (!is_among(kinds[i].name, list))
			continue;
		*what = kinds[i].name;
		result = kinds[i].use();
	}
	cuda->ctx_pop(&popped);
	cuda->ctx_destroy(ctx);
	return result;
}

int run_contexts(int count, const char *list)
{
	struct vac_error err = {0};
	const char *what = "starting CUDA";
	int result = VAC_CU_OK, rc = vac_cuda_load(&cuda, &err);
	if (rc == 0) {
		result = cuda->init(0);
		if (result == VAC_CU_OK)
			result = cuda->device_get(&device, 0);
	}
	for (int i = 0; rc == 0 && result == VAC_CU_OK && i < count; i++) {
		struct vac_usage usage;
		result = one_life(list, &what);
		if (result != VAC_CU_OK || (i % 10 && i != count - 1))
			continue;
		rc = vac_meter_process(0, &usage, &err);
		printf("{\"cycle\": %d, \"uss\": %" PRIu64 "}\n", i, usage.uss_bytes);
		fflush(stdout);
	}
	if (rc == 0 && result == VAC_CU_OK)
		return 0;
	fprintf(stderr, "gpu_probe: %s: %s, result %d\n", what, rc < 0 ? err.message : "refused",
		result);
	return 1;
}
