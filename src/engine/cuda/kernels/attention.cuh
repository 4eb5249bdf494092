/*
 * attention.cuh - what both kinds of attention on tensor cores share: copies to shared
 * memory, m16n8k16, and the running maximum.
 *
 * mma.m16n8k16 in the words of the PTX manual: lane = 4 g + t holds of C the columns 2t,
 * 2t + 1 of rows g and g + 8. Two such tiles of the scores beside each other are, rounded
 * to elements, the A of the product with the values.
 */
#ifndef VAC_ATTENTION_CUH
#define VAC_ATTENTION_CUH
#include "common.cuh"

#if VAC_ELEMENT != 32

#define TILE    64 /* queries of a block, or a part of it; keys of a tile */
#define THREADS 128
/* Weights may be so many powers of two above 1, far from what an element holds. */
#define SLACK 8.0f
#if VAC_ELEMENT == 17
#define ONES 0x3f803f80u /* two elements */
#else
#define ONES 0x3c003c00u
#endif

static __device__ __forceinline__ u32 shared_address(const void *at)
{
	return (u32)__cvta_generic_to_shared(at);
}

/* 16 bytes to shared memory, or zeros; not waited for. */
static __device__ __forceinline__ void copy16(u32 to, const element *from, bool there)
{
	const int bytes = there ? 16 : 0;
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
		     "r"(bytes)
		     : "memory");
}

static __device__ __forceinline__ void copies_end_group(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int PENDING> static __device__ __forceinline__ void copies_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

static __device__ __forceinline__ void multiply(float c[4], const u32 a[4], u32 b0, u32 b1)
{
#if VAC_ELEMENT == 17
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
	    "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
#else
	asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
	    "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
#endif
	    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ float power_of_two(float x)
{
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/* Keys behind the sequence's end weigh nothing. */
static __device__ __forceinline__ void mask(float scores[TILE / 8][4], u32 keys_left)
{
	const u32 column = threadIdx.x % 4 * 2;
#pragma unroll
	for (int n = 0; n < TILE / 8; n++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (n * 8 + column + i % 2 >= keys_left)
				scores[n][i] = -__int_as_float(0x7f800000);
}

/* Scores become weights relative to the maximum in use, which may be below the largest
 * by SLACK. Where that is too little for a row of the warp, what was summed so far is
 * scaled to the new one. Rows g and g + 8 are half 0 and 1. The scale is above 0, so that
 * the largest stays the largest. */
template <int SIZE>
static __device__ __forceinline__ void soften(float scores[TILE / 8][4], float out[SIZE / 8][4],
					      float most[2], float total[4], float scale)
{
	float now[2];
#pragma unroll
	for (int half = 0; half < 2; half++) {
		now[half] = most[half];
#pragma unroll
		for (int n = 0; n < TILE / 8; n++)
			now[half] = fmaxf(now[half],
					  fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
		now[half] = fmaxf(now[half], __shfl_xor_sync(WHOLE, now[half], 1));
		now[half] = fmaxf(now[half], __shfl_xor_sync(WHOLE, now[half], 2));
	}
	if (__any_sync(WHOLE,
		       (now[0] - most[0]) * scale > SLACK || (now[1] - most[1]) * scale > SLACK)) {
#pragma unroll
		for (int half = 0; half < 2; half++) {
			const float keep = power_of_two((most[half] - now[half]) * scale);
			most[half] = now[half];
			total[2 * half] *= keep;
#pragma unroll
			for (int n = 0; n < SIZE / 8; n++) {
				out[n][2 * half] *= keep;
				out[n][2 * half + 1] *= keep;
			}
		}
	}
#pragma unroll
	for (int half = 0; half < 2; half++) {
		const float base = most[half] * scale;
#pragma unroll
		for (int n = 0; n < TILE / 8; n++)
#pragma unroll
			for (int i = 0; i < 2; i++)
				scores[n][2 * half + i] =
					power_of_two(scores[n][2 * half + i] * scale - base);
	}
}

/* The A of the product with the values, one for each 16 keys. */
static __device__ __forceinline__ void pack_weights(u32 a[TILE / 16][4],
						    const float weights[TILE / 8][4])
{
#pragma unroll
	for (int k = 0; k < TILE / 16; k++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			a[k][i] = pack_pair(weights[2 * k + i / 2][i % 2 * 2],
					    weights[2 * k + i / 2][i % 2 * 2 + 1]);
}

template <int SIZE>
static __device__ __forceinline__ void store_rows(element *to, const float out[SIZE / 8][4],
						  const float total[4], u64 stride, u32 row,
						  u32 length)
{
	const u32 column = threadIdx.x % 4 * 2;
#pragma unroll
	for (int half = 0; half < 2; half++) {
		const float sum = total[2 * half]; /* each column has it */
		const u32 r = row + half * 8;
		if (r >= length)
			continue;
#pragma unroll
		for (int n = 0; n < SIZE / 8; n++)
			*(u32 *)(to + r * stride + n * 8 + column) =
				pack_pair(out[n][2 * half] / sum, out[n][2 * half + 1] / sum);
	}
}

#endif
#endif
