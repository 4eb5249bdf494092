/* dtype.c - names of the types that backends compute in. Any thread. */
#include "engine/compute.h"

const char *vac_compute_dtype_name(enum vac_dtype dtype)
{
	static const char *const names[] = {
		[VAC_DTYPE_F32] = "float32",
		[VAC_DTYPE_F16] = "float16",
		[VAC_DTYPE_BF16] = "bfloat16",
	};
	return (size_t)dtype < sizeof(names) / sizeof(names[0]) ? names[dtype] : NULL;
}
