/*
 * bad_pointer.c - a libcuda.so.1 between a worker and the driver, for the part sticky of
 * tests/gpu/run. It hands everything on, but for one launch of the kernel to_floats: the
 * first after SIGUSR2 (a worker that is confined sees no file of ours), and that one
 * writes to an address that is nobody's. The GPU's answer is the true one.
 *
 * VACATE_CUDA_PATH leads to it, and VACATE_CUDA_REAL names the driver's own file: what the
 * loader finds by the name libcuda.so.1 may be this one again. Its soname is another, so
 * that libraries which ask the loader for libcuda.so.1 get the driver's.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
static volatile sig_atomic_t wanted;

static void want(int signal)
{
	(void)signal;
	wanted = 1;
}

static void __attribute__((constructor)) listen(void)
{
	struct sigaction action = {.sa_handler = want, .sa_flags = SA_RESTART};
	if (sigaction(SIGUSR2, &action, NULL) < 0)
		perror("bad_pointer: SIGUSR2");
}

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
	uint64_t nobodys = 0x10;
	void *bad[3];
	if (wanted && is_victim(function)) {
		wanted = 0;
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

/* false: there is no driver at that place, or it is this library. */
static bool find_true_get(void)
{
	const char *path = getenv("VACATE_CUDA_REAL");
	void *driver = path ? dlopen(path, RTLD_NOW | RTLD_GLOBAL) : NULL;
	void *found = driver ? dlsym(driver, "cuGetProcAddress_v2") : NULL;
	Dl_info its, own;
	if (!found || !dladdr(found, &its) || !dladdr((const void *)victims, &own) ||
	    its.dli_fbase == own.dli_fbase)
		return false;
	*(void **)&true_get = found;
	return true;
}

int cuGetProcAddress_v2(const char *symbol, void **out, int version, unsigned long long flags,
			int *status);

__attribute__((visibility("default"))) int cuGetProcAddress_v2(const char *symbol, void **out,
							       int version,
							       unsigned long long flags,
							       int *status)
{
	if (!true_get && !find_true_get()) {
		fprintf(stderr,
			"bad_pointer: VACATE_CUDA_REAL does not name the driver's libcuda: %s\n",
			getenv("VACATE_CUDA_REAL") ? getenv("VACATE_CUDA_REAL") : "it is not set");
		return 999;
	}
	return get_proc(symbol, out, version, flags, status);
}
