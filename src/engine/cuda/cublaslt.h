/*
 * cublaslt.h - cuBLASLt as a table of functions, found at run time like the
 * driver (driver/cuda.h). A function returns 0 or a cublasStatus_t. Loading may
 * happen on any thread; it stays loaded.
 */
#ifndef VAC_ENGINE_CUDA_CUBLASLT_H
#define VAC_ENGINE_CUDA_CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct CUstream_st;
struct cublasLtContext;

struct vac_blas_algorithm { /* cublasLtMatmulAlgo_t */
	uint64_t data[8];
};

struct vac_blas_choice { /* cublasLtMatmulHeuristicResult_t */
	struct vac_blas_algorithm algorithm;
	size_t workspace_bytes;
	int state;
	float waves;
	int reserved[4];
};

/* Opaque to everybody: cublasLtMatmulDesc_t and the like. */
typedef struct vac_blas_opaque *vac_blas_object;

enum {
	VAC_BLAS_R_32F = 0,
	VAC_BLAS_R_16F = 2,
	VAC_BLAS_R_16BF = 14,
	VAC_BLAS_COMPUTE_32F = 68,
	VAC_BLAS_OP_T = 1,
	VAC_BLAS_DESC_TRANSA = 3,
	VAC_BLAS_DESC_EPILOGUE = 7,
	VAC_BLAS_DESC_BIAS_POINTER = 8,
	VAC_BLAS_EPILOGUE_DEFAULT = 1,
	VAC_BLAS_EPILOGUE_RELU = 2,
	VAC_BLAS_EPILOGUE_BIAS = 4,
	VAC_BLAS_EPILOGUE_RELU_BIAS = 6,
	VAC_BLAS_LAYOUT_COLS = 3,
	VAC_BLAS_PREF_MAX_WORKSPACE = 1,
	VAC_BLAS_PREF_ALIGNMENT_A = 5, /* then B, C, D */
};

/* X(member, symbol, parameters) */
#define VAC_BLAS_FUNCTIONS(X)                                                                      \
	X(property, "cublasLtGetProperty", (int property, int *value)) /* major, minor, patch */   \
	X(create, "cublasLtCreate", (struct cublasLtContext * *handle))                            \
	X(destroy, "cublasLtDestroy", (struct cublasLtContext * handle))                           \
	X(desc_create, "cublasLtMatmulDescCreate",                                                 \
	  (vac_blas_object * desc, int compute_type, int scale_type))                              \
	X(desc_destroy, "cublasLtMatmulDescDestroy", (vac_blas_object desc))                       \
	X(desc_set, "cublasLtMatmulDescSetAttribute",                                              \
	  (vac_blas_object desc, int attribute, const void *value, size_t bytes))                  \
	X(layout_create, "cublasLtMatrixLayoutCreate",                                             \
	  (vac_blas_object * layout, int type, uint64_t rows, uint64_t cols, int64_t ld))          \
	X(layout_destroy, "cublasLtMatrixLayoutDestroy", (vac_blas_object layout))                 \
	X(layout_set, "cublasLtMatrixLayoutSetAttribute",                                          \
	  (vac_blas_object layout, int attribute, const void *value, size_t bytes))                \
	X(preference_create, "cublasLtMatmulPreferenceCreate", (vac_blas_object * preference))     \
	X(preference_destroy, "cublasLtMatmulPreferenceDestroy", (vac_blas_object preference))     \
	X(preference_set, "cublasLtMatmulPreferenceSetAttribute",                                  \
	  (vac_blas_object preference, int attribute, const void *value, size_t bytes))            \
	X(heuristic, "cublasLtMatmulAlgoGetHeuristic",                                             \
	  (struct cublasLtContext * handle, vac_blas_object desc, vac_blas_object a,               \
	   vac_blas_object b, vac_blas_object c, vac_blas_object d, vac_blas_object preference,    \
	   int wanted, struct vac_blas_choice *out, int *count))                                   \
	X(matmul, "cublasLtMatmul",                                                                \
	  (struct cublasLtContext * handle, vac_blas_object desc, const void *alpha,               \
	   const void *a, vac_blas_object a_layout, const void *b, vac_blas_object b_layout,       \
	   const void *beta, const void *c, vac_blas_object c_layout, void *d,                     \
	   vac_blas_object d_layout, const struct vac_blas_algorithm *algorithm, void *workspace,  \
	   size_t workspace_bytes, struct CUstream_st *stream))

struct vac_blas {
#define VAC_BLAS_MEMBER(member, symbol, parameters) int(*member) parameters;
	VAC_BLAS_FUNCTIONS(VAC_BLAS_MEMBER)
#undef VAC_BLAS_MEMBER
};

/* cuda_major: of the driver; a newer library is not tried. */
int vac_blas_load(int cuda_major, const struct vac_blas **out,
		  struct vac_error *err) VAC_MUST_CHECK;
void vac_blas_inject(const struct vac_blas *table); /* as vac_cuda_inject */
const char *vac_blas_path(void);                    /* as vac_cuda_path */

#endif
