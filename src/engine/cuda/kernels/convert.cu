/*
 * convert.cu - from a checkpoint's type of number to the element, and from the
 * element to float. from may lie in host memory that the GPU was given to read:
 * then it is read once, 16 bytes a thread at a time, by the bus.
 */
#include "common.cuh"

static __device__ __forceinline__ bool aligned(const void *at)
{
	return (u64)at % 16 == 0;
}

#define CONVERT(name, type, one)                                                                   \
	KERNEL name(u64 count, const type *from, element *to)                                      \
	{                                                                                          \
		u64 at = ((u64)blockIdx.x * blockDim.x + threadIdx.x) * OCTET;                     \
		if (at + OCTET <= count && aligned(from) && aligned(to)) {                         \
			const uint4 *words = (const uint4 *)(from + at);                           \
			union {                                                                    \
				uint4 words[sizeof(type) / 2];                                     \
				type values[OCTET];                                                \
			} in;                                                                      \
			float v[OCTET];                                                            \
			_Pragma("unroll") for (int i = 0; i < (int)(sizeof(type) / 2); i++)        \
				in.words[i] = words[i];                                            \
			_Pragma("unroll") for (int i = 0; i < OCTET; i++)                          \
				v[i] = one(in.values[i]);                                          \
			store8(to + at, v);                                                        \
		} else {                                                                           \
			for (u64 end = at + OCTET; at < count && at < end; at++)                   \
				to[at] = from_float(one(from[at]));                                \
		}                                                                                  \
	}

static __device__ __forceinline__ float same(float x)
{
	return x;
}

CONVERT(convert_f32, float, same)
CONVERT(convert_f16, u16, half_to_float)
CONVERT(convert_bf16, u16, bfloat_to_float)

KERNEL to_floats(u64 count, const element *from, float *to)
{
	const u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
	if (at < count)
		to[at] = to_float(from[at]);
}
