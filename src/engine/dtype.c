/* dtype.c - the types that backends compute in: names, and numbers of 16 bits as floats. Any
 * thread. */
#include <string.h>

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

static float half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31,
		 fraction = h & 1023;
	uint32_t bits;
	float value;
	if (exponent == 0) { /* zero or subnormal: fraction 2^-24, exact in a float */
		value = (float)fraction * 0x1p-24f;
		memcpy(&bits, &value, sizeof(bits));
		bits |= sign;
	} else if (exponent == 31) {
		bits = sign | 0x7f800000 | fraction << 13;
	} else {
		bits = sign | (exponent + 112) << 23 | fraction << 13;
	}
	memcpy(&value, &bits, sizeof(value));
	return value;
}

void vac_to_floats(enum vac_dtype dtype, const uint16_t *from, float *to, uint64_t count)
{
	if (dtype == VAC_DTYPE_F16) {
		for (uint64_t i = 0; i < count; i++)
			to[i] = half_to_float(from[i]);
		return;
	}
	for (uint64_t i = 0; i < count; i++) {
		uint32_t bits = (uint32_t)from[i] << 16;
		memcpy(to + i, &bits, sizeof(bits));
	}
}
