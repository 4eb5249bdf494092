/*
 * convert.cu - from a checkpoint's type of number to the element, and from the
 * element to float. What is converted may lie in host memory that the GPU was given to
 * read: then it is read once, 16 bytes a thread at a time, by the bus. Many tensors
 * are one launch, so that the bus does not wait between them.
 */
#include "common.cuh"

/* As backend.h has them. */
#define MOST_ITEMS 64
struct conversion {
	u32 count, unused;
	struct {
		u64 from, to, count;
		u32 first_block, type;
	} items[MOST_ITEMS];
};

static __device__ __forceinline__ bool aligned(u64 at)
{
	return at % 16 == 0;
}

static __device__ __forceinline__ float same(float x)
{
	return x;
}

/* Eight elements from at on, or what there is of them. */
#define CONVERT(name, type, one)                                                                   \
	static __device__ __forceinline__ void name(const type *from, element *to, u64 at,         \
						    u64 count)                                     \
	{                                                                                          \
		if (at + OCTET <= count && aligned((u64)from) && aligned((u64)to)) {               \
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

CONVERT(from_f32, float, same)
CONVERT(from_f16, u16, half_to_float)
CONVERT(from_bf16, u16, bfloat_to_float)

/* Types are numbered as VAC_ELEMENT. */
KERNEL convert(const __grid_constant__ struct conversion all)
{
	u32 low = 0, high = all.count;
	while (high - low > 1) {
		const u32 middle = (low + high) / 2;
		if (all.items[middle].first_block <= blockIdx.x)
			low = middle;
		else
			high = middle;
	}
	const u64 count = all.items[low].count, from = all.items[low].from;
	const u64 at =
		((u64)(blockIdx.x - all.items[low].first_block) * blockDim.x + threadIdx.x) * OCTET;
	element *to = (element *)all.items[low].to;
	if (all.items[low].type == 32)
		from_f32((const float *)from, to, at, count);
	else if (all.items[low].type == 16)
		from_f16((const u16 *)from, to, at, count);
	else
		from_bf16((const u16 *)from, to, at, count);
}

KERNEL to_floats(u64 count, const element *from, float *to)
{
	const u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
	if (at < count)
		to[at] = to_float(from[at]);
}
