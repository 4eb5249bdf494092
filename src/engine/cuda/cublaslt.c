/* cublaslt.c - see cublaslt.h. */
#include "engine/cuda/cublaslt.h"

#include <pthread.h>
#include <stdbool.h>

#include "driver/find.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct vac_blas *injected;
static struct vac_blas table;
static bool loaded;
static struct vac_found_library found;

static int load(int cuda_major, struct vac_error *err)
{
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
	static const struct vac_symbol functions[] = {
#define ENTRY(member, symbol, parameters) {symbol, offsetof(struct vac_blas, member)},
		VAC_BLAS_FUNCTIONS(ENTRY)
#undef ENTRY
	};
	size_t skip = cuda_major < 13;
	if (!found.handle && vac_find_library(names + skip, 2 - skip, VAC_FIND_TOOLKIT, &found) < 0)
		return vac_fail(err, VAC_E_NOT_FOUND,
				"cuBLASLt was not found: pip install nvidia-cublas%s, or install "
				"the CUDA toolkit, or set VACATE_CUDA_PATH%s%s",
				cuda_major < 13 ? "-cu12" : "", *found.refused ? "; " : "",
				found.refused);
	int rc = vac_find_symbols(&found, functions, sizeof(functions) / sizeof(functions[0]),
				  &table, err);
	if (rc < 0)
		return rc;
	loaded = true;
	return 0;
}

int vac_blas_load(int cuda_major, const struct vac_blas **out, struct vac_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&lock);
	if (!injected && !loaded)
		rc = load(cuda_major, err);
	if (rc == 0)
		*out = injected ? injected : &table;
	pthread_mutex_unlock(&lock);
	return rc;
}

void vac_blas_inject(const struct vac_blas *to)
{
	pthread_mutex_lock(&lock);
	injected = to;
	pthread_mutex_unlock(&lock);
}

const char *vac_blas_path(void)
{
	return loaded && !injected ? found.path : NULL;
}
