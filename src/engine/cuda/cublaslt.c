/* cublaslt.c - see cublaslt.h. */
#include "engine/cuda/cublaslt.h"

#include "driver/find.h"

static struct vac_blas table;

static int load(struct vac_library *library, int cuda_major, struct vac_error *err)
{
	static const struct vac_symbol functions[] = {
#define ENTRY(member, symbol, parameters) {symbol, offsetof(struct vac_blas, member)},
		VAC_BLAS_FUNCTIONS(ENTRY)
#undef ENTRY
	};
	static const struct vac_toolkit_library from = {
		.names = {"libcublasLt.so.13", "libcublasLt.so.12"},
		.missing = "cuBLASLt was not found",
		.wheel = "nvidia-cublas",
		.symbols = functions,
		.symbol_count = sizeof(functions) / sizeof(functions[0]),
	};
	return vac_library_load_toolkit(library, &from, cuda_major, err);
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
