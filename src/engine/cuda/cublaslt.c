/* cublaslt.c - see cublaslt.h. */
#include "engine/cuda/cublaslt.h"

#include <stdbool.h>

#include "driver/find.h"

static struct vac_blas table;

static int load(struct vac_library *library, int cuda_major, struct vac_error *err)
{
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
	static const struct vac_symbol functions[] = {
#define ENTRY(member, symbol, parameters) {symbol, offsetof(struct vac_blas, member)},
		VAC_BLAS_FUNCTIONS(ENTRY)
#undef ENTRY
	};
	size_t skip = cuda_major < 13;
	if (!library->found.handle &&
	    vac_find_library(names + skip, 2 - skip, VAC_FIND_TOOLKIT, &library->found) < 0)
		return vac_fail(err, VAC_E_NOT_FOUND,
				"cuBLASLt was not found: pip install nvidia-cublas%s, or install "
				"the CUDA toolkit, or set VACATE_CUDA_PATH%s%s",
				cuda_major < 13 ? "-cu12" : "", *library->found.refused ? "; " : "",
				library->found.refused);
	return vac_find_symbols(&library->found, functions,
				sizeof(functions) / sizeof(functions[0]), &table, err);
}

static struct vac_library library = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .load = load, .table = &table};

int vac_blas_load(int cuda_major, const struct vac_blas **out, struct vac_error *err)
{
	const void *got = NULL;
	int rc = vac_library_get(&library, cuda_major, &got, err);
	*out = got;
	return rc;
}

void vac_blas_inject(const struct vac_blas *to)
{
	vac_library_inject(&library, to);
}

const char *vac_blas_path(void)
{
	return vac_library_path(&library);
}
