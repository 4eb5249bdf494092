/*
 * select.c - which kernels this processor can run. Compiled without any
 * instruction set beyond the base one. Any thread.
 */
#include "engine/cpu/kernels.h"

size_t vac_cpu_kernels_usable(const struct vac_cpu_kernels *out[3])
{
	size_t count = 0;
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") &&
	    __builtin_cpu_supports("fma"))
		out[count++] = &vac_cpu_kernels_avx512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		out[count++] = &vac_cpu_kernels_avx2;
#endif
	out[count++] = &vac_cpu_kernels_generic;
	return count;
}
