/*
 * attention_mma.cu - softmax(scale q k^T) v on tensor cores, for elements of 16
 * bits and head sizes 32, 64, 96 and 128. A block of four warps takes 64
 * queries of one head of one sequence; keys and values pass through shared
 * memory in tiles of 64, the next one on its way while one is multiplied, with a
 * running maximum and sum (Milakov and Gimelshein 2018; Dao 2023). It is bound by how
 * many instructions a warp issues: so the sum of a row's weights is one more column of
 * the product with the values, whose elements are ones, and what was summed so far is
 * scaled to a new maximum only when that is far above the one in use.
 */
#include "attention.cuh"

#if VAC_ELEMENT != 32

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
		copy16(shared_address(to + row * (SIZE + OCTET) + column),
		       from + (there ? first + row : 0) * stride + column, there);
	}
}

/* scores += q k^T for one tile. Two steps of 16 columns a load, which serves M
 * tiles of queries. */
template <int SIZE, int M>
static __device__ __forceinline__ void
multiply_keys(float scores[M][TILE / 8][4], const u32 q[M][SIZE / 16][4], const element *keys)
{
	const u32 lane = threadIdx.x % WARP;
#pragma unroll
	for (int n = 0; n < TILE / 8; n++)
#pragma unroll
		for (int k = 0; k < SIZE / 32; k++) {
			u32 b[4];
			load_matrices(b, keys + (n * 8 + lane % 8) * (SIZE + OCTET) + k * 32 +
						 lane / 8 * 8);
#pragma unroll
			for (int m = 0; m < M; m++) {
				multiply(scores[m][n], q[m][2 * k], b[0], b[1]);
				multiply(scores[m][n], q[m][2 * k + 1], b[2], b[3]);
			}
		}
}

template <int SIZE, int M>
static __device__ __forceinline__ void multiply_values(float out[M][SIZE / 8][4], float total[M][4],
						       const float weights[M][TILE / 8][4],
						       const element *values)
{
	const u32 lane = threadIdx.x % WARP;
#pragma unroll
	for (int k = 0; k < TILE / 16; k++) {
		u32 a[M][4];
#pragma unroll
		for (int m = 0; m < M; m++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				a[m][i] = pack_pair(weights[m][2 * k + i / 2][i % 2 * 2],
						    weights[m][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
		for (int m = 0; m < M; m++)
			multiply(total[m], a[m], ONES, ONES);
#pragma unroll
		for (int n = 0; n < SIZE / 16; n++) {
			u32 b[4];
			const u32 row = k * 16 + lane / 8 % 2 * 8 + lane % 8;
			load_matrices_turned(b, values + row * (SIZE + OCTET) + n * 16 +
							lane / 16 * 8);
#pragma unroll
			for (int m = 0; m < M; m++) {
				multiply(out[m][2 * n], a[m], b[0], b[1]);
				multiply(out[m][2 * n + 1], a[m], b[2], b[3]);
			}
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

template <int SIZE, int M>
static __device__ __forceinline__ void attend(u32 heads, float scale, const u32 *starts,
					      const element *qkv, element *out)
{
	extern __shared__ __align__(16) element tiles[];
	const u32 one = TILE * (SIZE + OCTET); /* elements of a tile */
	const u32 head = blockIdx.y, sequence = blockIdx.z;
	const u32 start = starts[sequence], length = starts[sequence + 1] - start;
	const u64 hidden = (u64)heads * SIZE, stride = 3 * hidden;
	const u32 first = blockIdx.x * TILE * M;
	const u32 row = first + threadIdx.x / WARP * 16 * M + threadIdx.x % WARP / 4;
	if (first >= length)
		return;
	qkv += start * stride + head * SIZE;
	const element *k = qkv + hidden, *v = k + hidden;
	const u32 count = (length + TILE - 1) / TILE;
	load_tile<SIZE>(tiles, k, stride, 0, length);
	load_tile<SIZE>(tiles + one, v, stride, 0, length);
	copies_end_group();
	u32 q[M][SIZE / 16][4];
	float sums[M][SIZE / 8][4] = {}, most[M][2], total[M][4] = {};
#pragma unroll
	for (int m = 0; m < M; m++) {
		load_queries<SIZE>(q[m], qkv, stride, row + 16 * m, length);
		most[m][0] = most[m][1] = -1e30f;
	}
	for (u32 i = 0; i < count; i++) {
		element *now = tiles + i % 2 * 2 * one, *next = tiles + (i + 1) % 2 * 2 * one;
		if (i + 1 < count) {
			load_tile<SIZE>(next, k, stride, (i + 1) * TILE, length);
			load_tile<SIZE>(next + one, v, stride, (i + 1) * TILE, length);
		}
		copies_end_group();
		copies_wait<1>();
		__syncthreads();
		float scores[M][TILE / 8][4] = {};
		multiply_keys<SIZE, M>(scores, q, now);
#pragma unroll
		for (int m = 0; m < M; m++) {
			if (length - i * TILE < TILE)
				mask(scores[m], length - i * TILE);
			soften<SIZE>(scores[m], sums[m], most[m], total[m], scale);
		}
		multiply_values<SIZE, M>(sums, total, scores, now + one);
		__syncthreads();
	}
	out += start * hidden + head * SIZE;
#pragma unroll
	for (int m = 0; m < M; m++)
		store_rows<SIZE>(out, sums[m], total[m], hidden, row + 16 * m, length);
}

/* scale includes log2(e). Of M tiles of 64 queries a block takes; BLOCKS at least fit
 * on a multiprocessor, by their registers. */
#define ATTENTION(name, SIZE, M, BLOCKS)                                                           \
	extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                              \
		name(u32 heads, float scale, const u32 *starts, const element *qkv, element *out)  \
	{                                                                                          \
		attend<SIZE, M>(heads, scale, starts, qkv, out);                                   \
	}

ATTENTION(attention_32, 32, 1, 6)
ATTENTION(attention_64, 64, 1, 4)
ATTENTION(attention_96, 96, 1, 2)
ATTENTION(attention_128, 128, 1, 2)
ATTENTION(attention_64_wide, 64, 2, 2)

#endif
