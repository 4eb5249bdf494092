/*
 * kernels.h - the kernels' machine code for one GPU: compiled ahead where the
 * build had nvcc, from the cache on disk, or compiled by NVRTC from the sources
 * that are built in. Any thread.
 *
 * The cache is $XDG_CACHE_HOME/vacate/kernels (or ~/.cache/...): one file for
 * each source, type of element, architecture and driver. A file that is not
 * ours alone to write, or is damaged, is not used. Without a cache it works,
 * but every start compiles.
 */
#ifndef VAC_ENGINE_CUDA_KERNELS_H
#define VAC_ENGINE_CUDA_KERNELS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct vac_cuda_source {
	const char *name; /* "norm.cu" */
	const char *text;
};
extern const struct vac_cuda_source vac_cuda_sources[]; /* made by embed.py */
extern const unsigned vac_cuda_source_count;

/* Kernels compiled ahead. element as in vac_cuda_compile. */
struct vac_cuda_cubin {
	int architecture, element;
	const void *image; /* NULL: the list's end */
};
extern const struct vac_cuda_cubin vac_cuda_cubins[]; /* made by cubins.py */

/* NULL: there are none for that. It need not suit the driver: a module that does
 * not load is compiled anew. */
const void *vac_cuda_cubin(int architecture, int element);
/* For tests: another list; NULL: the true one. */
void vac_cuda_cubins_inject(const struct vac_cuda_cubin *list);

struct _nvrtcProgram;

/* X(member, symbol, parameters); 0 is success */
#define VAC_NVRTC_FUNCTIONS(X)                                                                     \
	X(version, "nvrtcVersion", (int *major, int *minor))                                       \
	X(create, "nvrtcCreateProgram",                                                            \
	  (struct _nvrtcProgram * *program, const char *source, const char *name, int count,       \
	   const char *const *headers, const char *const *names))                                  \
	X(destroy, "nvrtcDestroyProgram", (struct _nvrtcProgram * *program))                       \
	X(compile, "nvrtcCompileProgram",                                                          \
	  (struct _nvrtcProgram * program, int count, const char *const *options))                 \
	X(cubin_bytes, "nvrtcGetCUBINSize", (struct _nvrtcProgram * program, size_t * bytes))      \
	X(cubin, "nvrtcGetCUBIN", (struct _nvrtcProgram * program, char *to))                      \
	X(log_bytes, "nvrtcGetProgramLogSize", (struct _nvrtcProgram * program, size_t * bytes))   \
	X(log, "nvrtcGetProgramLog", (struct _nvrtcProgram * program, char *to))

struct vac_nvrtc {
#define VAC_NVRTC_MEMBER(member, symbol, parameters) int(*member) parameters;
	VAC_NVRTC_FUNCTIONS(VAC_NVRTC_MEMBER)
#undef VAC_NVRTC_MEMBER
};

/* cuda_major: of the driver; a newer NVRTC is not tried. */
int vac_nvrtc_load(int cuda_major, const struct vac_nvrtc **out,
		   struct vac_error *err) VAC_MUST_CHECK;
void vac_nvrtc_inject(const struct vac_nvrtc *table); /* as vac_cuda_inject */
const char *vac_nvrtc_path(void);                     /* as vac_cuda_path */

/* Compiles all kernels for an architecture (90: sm_90) and type of element
 * (VAC_ELEMENT of common.cuh). *image is the caller's to free. */
int vac_cuda_compile(const struct vac_nvrtc *nvrtc, int architecture, int element, void **image,
		     size_t *bytes, struct vac_error *err) VAC_MUST_CHECK;
/* The cache's directory, made if it is not there. false: there is none. */
bool vac_cuda_cache_directory(char out[PATH_MAX]);
/* Anything small that depends on GPU, driver and library only, by a name without
 * a slash. get: false if it is not there, or not ours alone; put: if it is not kept. */
bool vac_cuda_cache_get(const char *name, void *out, size_t bytes);
bool vac_cuda_cache_put(const char *name, const void *what, size_t bytes);
/* Kernels, from the cache if they are there. driver: its version. */
int vac_cuda_kernels(int driver, int architecture, int element, void **image, size_t *bytes,
		     struct vac_error *err) VAC_MUST_CHECK;

#endif
