/*
 * attention_mma.cu - softmax(scale q k^T) v on tensor cores, for elements of 16
 * bits and head sizes 32, 64, 96 and 128. A block of four warps takes 64
 * queries of one head of one sequence; keys and values pass through shared
 * memory in tiles of 64, the next one on its way while one is multiplied, with a
 * running maximum and sum (Milakov and Gimelshein 2018; Dao 2023).
 *
 * mma.m16n8k16 in the words of the PTX manual: lane = 4 g + t holds of C the
 * columns 2t, 2t + 1 of rows g and g + 8. Two such tiles of the scores beside
 * each other are, rounded to elements, the A of the product with the values.
 */
#include "common.cuh"

#if VAC_ELEMENT != 32

#define TILE    64 /* queries of a block; keys of a tile */
#define THREADS 128

static __device__ __forceinline__ u32 shared_address(const void *at)
{
	return (u32)__cvta_generic_to_shared(at);
}

/* 16 bytes to shared memory, or zeros; not waited for. */
static __device__ __forceinline__ void copy16(element *to, const element *from, bool there)
{
	const int bytes = there ? 16 : 0;
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
		     "l"(from), "r"(bytes)
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

static __device__ __forceinline__ void load_matrices(u32 to[4], const element *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
		     : "r"(shared_address(row))
		     : "memory");
}

static __device__ __forceinline__ void load_matrices_turned(u32 to[4], const element *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
		     : "r"(shared_address(row))
		     : "memory");
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

/* Rows first .. first + 63 of the sequence, zeros behind its end. */
template <int SIZE>
static __device__ __forceinline__ void load_tile(element *to, const element *from, u64 stride,
						 u32 first, u32 length)
{
#pragma unroll
	for (int i = 0; i < TILE * SIZE / OCTET / THREADS; i++) {
		const u32 at = i * THREADS + threadIdx.x;
		const u32 row = at / (SIZE / OCTET), column = at % (SIZE / OCTET) * OCTET;
		const bool there = first + row < length;
		copy16(to + row * (SIZE + OCTET) + column,
		       from + (there ? first + row : 0) * stride + column, there);
	}
}

/* scores += q k^T for one tile. Two steps of 16 columns a load. */
template <int SIZE>
static __device__ __forceinline__ void multiply_keys(float scores[TILE / 8][4],
						     const u32 q[SIZE / 16][4], const element *keys)
{
	const u32 lane = threadIdx.x % WARP;
#pragma unroll
	for (int n = 0; n < TILE / 8; n++)
#pragma unroll
		for (int k = 0; k < SIZE / 32; k++) {
			u32 b[4];
			load_matrices(b, keys + (n * 8 + lane % 8) * (SIZE + OCTET) + k * 32 +
						 lane / 8 * 8);
			multiply(scores[n], q[2 * k], b[0], b[1]);
			multiply(scores[n], q[2 * k + 1], b[2], b[3]);
		}
}

template <int SIZE>
static __device__ __forceinline__ void multiply_values(float out[SIZE / 8][4],
						       const float weights[TILE / 8][4],
						       const element *values)
{
	const u32 lane = threadIdx.x % WARP;
#pragma unroll
	for (int k = 0; k < TILE / 16; k++) {
		const u32 a[4] = {pack_pair(weights[2 * k][0], weights[2 * k][1]),
				  pack_pair(weights[2 * k][2], weights[2 * k][3]),
				  pack_pair(weights[2 * k + 1][0], weights[2 * k + 1][1]),
				  pack_pair(weights[2 * k + 1][2], weights[2 * k + 1][3])};
#pragma unroll
		for (int n = 0; n < SIZE / 16; n++) {
			u32 b[4];
			const u32 row = k * 16 + lane / 8 % 2 * 8 + lane % 8;
			load_matrices_turned(b, values + row * (SIZE + OCTET) + n * 16 +
							lane / 16 * 8);
			multiply(out[2 * n], a, b[0], b[1]);
			multiply(out[2 * n + 1], a, b[2], b[3]);
		}
	}
}

/* Scores become weights relative to the running maximum; what was summed so
 * far is scaled to the new one. Rows g and g + 8 are half 0 and 1. */
template <int SIZE>
static __device__ __forceinline__ void soften(float scores[TILE / 8][4], float out[SIZE / 8][4],
					      float most[2], float total[2], float scale,
					      u32 keys_left)
{
	const u32 column = threadIdx.x % 4 * 2;
	const float never = -__int_as_float(0x7f800000);
#pragma unroll
	for (int half = 0; half < 2; half++) {
		float now = most[half];
#pragma unroll
		for (int n = 0; n < TILE / 8; n++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				float *score = &scores[n][2 * half + i];
				*score = n * 8 + column + i < keys_left ? *score * scale : never;
				now = fmaxf(now, *score);
			}
		now = fmaxf(now, __shfl_xor_sync(WHOLE, now, 1));
		now = fmaxf(now, __shfl_xor_sync(WHOLE, now, 2));
		const float keep = power_of_two(most[half] - now);
		most[half] = now;
		total[half] *= keep;
#pragma unroll
		for (int n = 0; n < SIZE / 8; n++) {
			out[n][2 * half] *= keep;
			out[n][2 * half + 1] *= keep;
		}
#pragma unroll
		for (int n = 0; n < TILE / 8; n++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				float *score = &scores[n][2 * half + i];
				*score = power_of_two(*score - now);
				total[half] += *score;
			}
	}
}

template <int SIZE>
static __device__ __forceinline__ void load_queries(u32 q[SIZE / 16][4], const element *from,
						    u64 stride, u32 row, u32 length)
{
	const u32 column = threadIdx.x % 4 * 2;
#pragma unroll
	for (int k = 0; k < SIZE / 16; k++)
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const u32 r = row + i % 2 * 8;
			const element *at = from + r * stride + k * 16 + i / 2 * 8 + column;
			q[k][i] = r < length ? *(const u32 *)at : 0;
		}
}

template <int SIZE>
static __device__ __forceinline__ void store_rows(element *to, const float out[SIZE / 8][4],
						  const float total[2], u64 stride, u32 row,
						  u32 length)
{
	const u32 column = threadIdx.x % 4 * 2;
#pragma unroll
	for (int half = 0; half < 2; half++) {
		float sum = total[half];
		sum += __shfl_xor_sync(WHOLE, sum, 1);
		sum += __shfl_xor_sync(WHOLE, sum, 2);
		const u32 r = row + half * 8;
		if (r >= length)
			continue;
#pragma unroll
		for (int n = 0; n < SIZE / 8; n++)
			*(u32 *)(to + r * stride + n * 8 + column) =
				pack_pair(out[n][2 * half] / sum, out[n][2 * half + 1] / sum);
	}
}

template <int SIZE>
static __device__ __forceinline__ void attend(u32 heads, float scale, const u32 *starts,
					      const element *qkv, element *out)
{
	extern __shared__ __align__(16) element tiles[];
	const u32 one = TILE * (SIZE + OCTET); /* elements of a tile */
	const u32 head = blockIdx.y, sequence = blockIdx.z;
	const u32 start = starts[sequence], length = starts[sequence + 1] - start;
	const u64 hidden = (u64)heads * SIZE, stride = 3 * hidden;
	const u32 row = blockIdx.x * TILE + threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4;
	if (blockIdx.x * TILE >= length)
		return;
	qkv += start * stride + head * SIZE;
	const element *k = qkv + hidden, *v = k + hidden;
	const u32 count = (length + TILE - 1) / TILE;
	load_tile<SIZE>(tiles, k, stride, 0, length);
	load_tile<SIZE>(tiles + one, v, stride, 0, length);
	copies_end_group();
	u32 q[SIZE / 16][4];
	load_queries<SIZE>(q, qkv, stride, row, length);
	float sums[SIZE / 8][4] = {}, most[2] = {-1e30f, -1e30f}, total[2] = {0, 0};
	for (u32 i = 0; i < count; i++) {
		element *now = tiles + i % 2 * 2 * one, *next = tiles + (i + 1) % 2 * 2 * one;
		if (i + 1 < count) {
			load_tile<SIZE>(next, k, stride, (i + 1) * TILE, length);
			load_tile<SIZE>(next + one, v, stride, (i + 1) * TILE, length);
		}
		copies_end_group();
		copies_wait<1>();
		__syncthreads();
		float scores[TILE / 8][4] = {};
		multiply_keys<SIZE>(scores, q, now);
		soften<SIZE>(scores, sums, most, total, scale, length - i * TILE);
		multiply_values<SIZE>(sums, scores, now + one);
		__syncthreads();
	}
	store_rows<SIZE>(out + start * hidden + head * SIZE, sums, total, hidden, row, length);
}

/* scale includes log2(e). */
#define ATTENTION(SIZE)                                                                            \
	extern "C" __global__ void __launch_bounds__(THREADS)                                      \
		attention_##SIZE(u32 heads, float scale, const u32 *starts, const element *qkv,    \
				 element *out)                                                     \
	{                                                                                          \
		attend<SIZE>(heads, scale, starts, qkv, out);                                      \
	}

ATTENTION(32)
ATTENTION(64)
ATTENTION(96)
ATTENTION(128)

#endif
