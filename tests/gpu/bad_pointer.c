/*
 * bad_pointer.c - a libcuda.so.1 between a worker and the driver, for the part sticky of
 * tests/gpu/run. It hands everything on, but for one launch of the kernel to_floats:
 * when the file that VACATE_TEST_BAD_POINTER names is there, it is removed and the
 * kernel writes to an address that is nobody's. The GPU's answer is the true one.
 *
 * VACATE_CUDA_PATH leads to it. Its soname is another, so that libraries which ask the
 * loader for libcuda.so.1 get the driver's.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct CUfunc_st;
struct CUmod_st;
struct CUstream_st;

typedef int get_proc_fn(const char *symbol, void **out, int version, unsigned long long flags,
			int *status);
typedef int module_function_fn(struct CUfunc_st **function, struct CUmod_st *module,
			       const char *name);
typedef int launch_fn(struct CUfunc_st *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
		      unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
		      struct CUstream_st *stream, void **parameters, void **extra);

static get_proc_fn *true_get;
static module_function_fn *true_module_function;
static launch_fn *true_launch;
static struct CUfunc_st *victims[8];
static unsigned victim_count;

static int module_function(struct CUfunc_st **function, struct CUmod_st *module, const char *name)
{
	int result = true_module_function(function, module, name);
	if (result == 0 && strcmp(name, "to_floats") == 0 && victim_count < 8)
		victims[victim_count++] = *function;
	return result;
}

static int is_victim(const struct CUfunc_st *function)
{
	for (unsigned i = 0; i < victim_count; i++)
		if (victims[i] == function)
			return 1;
	return 0;
}

static int launch(struct CUfunc_st *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
		  unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
		  struct CUstream_st *stream, void **parameters, void **extra)
{
	const char *trigger = getenv("VACATE_TEST_BAD_POINTER");
	uint64_t nobodys = 0x10;
	void *bad[3];
	if (trigger && is_victim(function) && unlink(trigger) == 0) {
		/* count, from, to */
		bad[0] = parameters[0];
		bad[1] = parameters[1];
		bad[2] = &nobodys;
		parameters = bad;
	}
	return true_launch(function, grid_x, grid_y, grid_z, block_x, block_y, block_z,
			   shared_bytes, stream, parameters, extra);
}

static int get_proc(const char *symbol, void **out, int version, unsigned long long flags,
		    int *status)
{
	int result = true_get(symbol, out, version, flags, status);
	if (result != 0 || !*out)
		return result;
	if (strcmp(symbol, "cuLaunchKernel") == 0) {
		*(void **)&true_launch = *out;
		*(launch_fn **)out = launch;
	} else if (strcmp(symbol, "cuModuleGetFunction") == 0) {
		*(void **)&true_module_function = *out;
		*(module_function_fn **)out = module_function;
	}
	return result;
}

int cuGetProcAddress_v2(const char *symbol, void **out, int version, unsigned long long flags,
			int *status);

__attribute__((visibility("default"))) int cuGetProcAddress_v2(const char *symbol, void **out,
							       int version,
							       unsigned long long flags,
							       int *status)
{
	if (!true_get) {
		void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
		if (!driver)
			driver = dlopen("/usr/local/nvidia/lib64/libcuda.so.1", RTLD_NOW);
		if (driver)
			*(void **)&true_get = dlsym(driver, "cuGetProcAddress_v2");
		if (!true_get) {
			fprintf(stderr, "bad_pointer: the driver was not found\n");
			return 999;
		}
	}
	return get_proc(symbol, out, version, flags, status);
}
