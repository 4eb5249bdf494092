/*
 * wgmma.cuh - what the kernels for the architecture 9.0a share: matrices in shared memory as
 * wgmma reads them.
 *
 * In the words of the PTX manual: rows of 64 elements lie in shared memory as 128 bytes
 * whose chunks of 16 are permuted by the row (the 128-byte swizzle), eight of them 1,024
 * bytes. What a thread holds of a result is, for its warp's 16 rows, what it would of as
 * many m16n8 products beside each other: of lane 4 g + t the columns 2t, 2t + 1 of rows g
 * and g + 8.
 */
#ifndef VAC_WGMMA_CUH
#define VAC_WGMMA_CUH
#include "common.cuh"

/* VAC_WGMMA: for a whole program by nvcc, not all of whose passes have the other one. */
#if VAC_ELEMENT != 32 && (defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(VAC_WGMMA))
#define HAVE_WGMMA 1

#if VAC_ELEMENT == 17
#define KIND "f32.bf16.bf16"
#else
#define KIND "f32.f16.f16"
#endif

/* What a thread holds of m64n8 of a result. */
#define PART(c, n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define PARTS_8(c, n)                                                                              \
	PART(c, n), PART(c, n + 1), PART(c, n + 2), PART(c, n + 3), PART(c, n + 4),                \
		PART(c, n + 5), PART(c, n + 6), PART(c, n + 7)

/* A matrix for wgmma: groups of eight rows lie 1,024 bytes apart, in whichever
 * direction there are several; 128-byte swizzle. */
static __device__ __forceinline__ u64 describe(u32 address)
{
	return (u64)((address & 0x3ffff) >> 4) | (u64)(1024 >> 4) << 16 | (u64)(1024 >> 4) << 32 |
	       1ull << 62;
}

static __device__ __forceinline__ void products_begin(void)
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

#endif
#endif
