/*
 * pause_cuda.c - libcuda.so.1 for tests/gpu/hold: the real driver, whose checkpoint
 * functions can be made to stop before they begin. VACATE_CUDA_PATH leads vacate-gpud
 * here, and PAUSE_CUDA_REAL names the real library. In the folder $PAUSE_CUDA_DIR a
 * file with a function's name stops its next call: it is renamed to NAME.here, and
 * the call goes on when NAME.go is there.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int get_fn(const char *symbol, void **out, int version, unsigned long long flags,
		   int *status);
typedef int call_fn(int pid, void *arguments);

__attribute__((visibility("default"))) int cuGetProcAddress_v2(const char *symbol, void **out,
							       int version,
							       unsigned long long flags,
							       int *status);

static const char *const names[] = {"cuCheckpointProcessLock", "cuCheckpointProcessCheckpoint",
				    "cuCheckpointProcessRestore", "cuCheckpointProcessUnlock"};
static call_fn *real[4];

static void stop(const char *name)
{
	const struct timespec tick = {.tv_nsec = 1000000};
	const char *folder = getenv("PAUSE_CUDA_DIR");
	char asked[4096], here[4096], go[4096];

	if (!folder)
		return;
	snprintf(asked, sizeof(asked), "%s/%s", folder, name);
	snprintf(here, sizeof(here), "%s/%s.here", folder, name);
	snprintf(go, sizeof(go), "%s/%s.go", folder, name);
	if (rename(asked, here) != 0)
		return;
	for (int i = 0; i < 60000 && access(go, F_OK) != 0; i++)
		nanosleep(&tick, NULL);
	unlink(go);
	unlink(here);
}

#define WRAPPER(number)                                                                            \
	static int call_##number(int pid, void *arguments)                                         \
	{                                                                                          \
		stop(names[number]);                                                               \
		return real[number](pid, arguments);                                               \
	}
WRAPPER(0)
WRAPPER(1)
WRAPPER(2)
WRAPPER(3)

int cuGetProcAddress_v2(const char *symbol, void **out, int version, unsigned long long flags,
			int *status)
{
	static call_fn *const wrappers[] = {call_0, call_1, call_2, call_3};
	const char *path = getenv("PAUSE_CUDA_REAL");
	void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
	void *found = library ? dlsym(library, "cuGetProcAddress_v2") : NULL;
	get_fn *get = NULL;
	Dl_info its, own;
	int rc;

	/* that name may lead here again */
	if (!found || !dladdr(found, &its) || !dladdr((const void *)real, &own) ||
	    its.dli_fbase == own.dli_fbase)
		return 999;
	/* a symbol's address is an object pointer to dlsym */
	*(void **)&get = found;
	rc = get(symbol, out, version, flags, status);
	for (int i = 0; rc == 0 && *out && i < 4; i++) {
		if (strcmp(symbol, names[i]) != 0)
			continue;
		*(void **)&real[i] = *out;
		*out = *(void *const *)&wrappers[i];
	}
	return rc;
}
