/*
 * find.h - where NVIDIA's libraries lie on a machine: the loader's path, the
 * CUDA toolkit, and the wheels of a Python environment (nvidia/cublas/lib of
 * CUDA 12, nvidia/cu13/lib of CUDA 13). VACATE_CUDA_PATH, directories with ':'
 * between them, comes first: a folder of libraries, a toolkit, or a
 * site-packages. Any thread.
 */
#ifndef VAC_DRIVER_FIND_H
#define VAC_DRIVER_FIND_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum vac_find {
	VAC_FIND_DRIVER,  /* comes with the driver: not in toolkits and wheels */
	VAC_FIND_TOOLKIT, /* comes with either */
};

struct vac_found_library {
	void *handle;        /* of dlopen; stays open */
	char path[PATH_MAX]; /* as the loader names it */
	char refused[512];   /* dlerror of a file that is there and did not load; or "" */
};

/* Opens the first name that is found anywhere, trying every place for a name
 * before the next name. 0, or -1. */
int vac_find_library(const char *const *names, size_t count, enum vac_find what,
		     struct vac_found_library *out);

/* The directories that are looked in beside the loader's own. Some are not there. */
void vac_find_places(void (*add)(void *ctx, const char *directory), void *ctx);

struct vac_symbol {
	const char *name;
	size_t offset; /* of the function pointer in a table */
};
/* Fills a table of functions. VAC_E_UNSUPPORTED names the first that is not there. */
int vac_find_symbols(const struct vac_found_library *library, const struct vac_symbol *symbols,
		     size_t count, void *table, struct vac_error *err) VAC_MUST_CHECK;
/* The same for functions that need not be there: those become NULL. */
void vac_find_optional(const struct vac_found_library *library, const struct vac_symbol *symbols,
		       size_t count, void *table);

/* A library that is loaded once, by whoever asks first, and its table of functions. */
struct vac_library {
	pthread_mutex_t lock;
	/* Finds it and fills table; cuda_major: the driver's. Called with the lock held. */
	int (*load)(struct vac_library *library, int cuda_major, struct vac_error *err);
	const void *injected; /* a test's table instead; NULL: none */
	void *table;
	bool loaded;
	struct vac_found_library found;
};

/* A library of the CUDA toolkit, which has a name a generation. */
struct vac_toolkit_library {
	const char *names[2]; /* of CUDA 13, and of 12 */
	const char *missing;  /* "cuBLASLt was not found"; what to do follows */
	const char *wheel;    /* "nvidia-cublas"; of CUDA 12 with "-cu12" behind it */
	const struct vac_symbol *symbols;
	size_t symbol_count;
};
/* What the load of such a library does: one that the driver is too old for is not tried. */
int vac_library_load_toolkit(struct vac_library *library, const struct vac_toolkit_library *from,
			     int cuda_major, struct vac_error *err) VAC_MUST_CHECK;

/* *out is its table. What failed is tried again by the next call. */
int vac_library_get(struct vac_library *library, int cuda_major, const void **out,
		    struct vac_error *err) VAC_MUST_CHECK;
void vac_library_inject(struct vac_library *library, const void *table);
/* Where it was found; NULL: not loaded, or injected. */
const char *vac_library_path(const struct vac_library *library);

#endif
