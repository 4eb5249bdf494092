/*
 * attention_wgmma.cu - attention_mma.cu's product for heads of 64 columns by the
 * instructions of the architecture 9.0a, which a warpgroup of 128 threads starts together
 * and whose operands they read from shared memory. A block is one warpgroup and takes 64
 * queries of one head of one sequence; five of them share a multiprocessor, so that the
 * exponentials of one are computed while another multiplies. (Two warpgroups a block read
 * half as much and were slower.)
 */
#include "attention.cuh"
#include "wgmma.cuh"

#ifdef HAVE_WGMMA

#define HEAD       64
#define TILE_BYTES (TILE * HEAD * 2)

/* What a product writes: eight times what a thread holds of m16n8. */
#define RESULT(c) PARTS_8(c, 0)
#define RESULT_NAMES                                                                               \
	"{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                  \
	"%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"

/* c = a b^T, or c += it. */
static __device__ __forceinline__ void multiply_shared(float c[TILE / 8][4], u64 a, u64 b, int add)
{
	asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n64k16." KIND "\n" RESULT_NAMES ", "
		     "%32, %33, p, 1, 1, 0, 0;}"
		     : RESULT(c)
		     : "l"(a), "l"(b), "r"(add));
}

/* c += a b, a in registers. */
static __device__ __forceinline__ void multiply_registers(float c[HEAD / 8][4], const u32 a[4],
							  u64 b)
{
	asm volatile("wgmma.mma_async.sync.aligned.m64n64k16." KIND "\n" RESULT_NAMES ", "
		     "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
		     : RESULT(c)
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/* Waits for them. c is what they write: whatever reads it stays behind the wait. */
static __device__ __forceinline__ void products_end(float c[8][4])
{
	asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;"
		     : RESULT(c)
		     :
		     : "memory");
}

/* Rows first .. first + 63 of the sequence, zeros behind its end. */
static __device__ __forceinline__ void load_swizzled(u32 to, const element *from, u64 stride,
						     u32 first, u32 length)
{
#pragma unroll
	for (int i = 0; i < TILE * HEAD / OCTET / THREADS; i++) {
		const u32 at = i * THREADS + threadIdx.x;
		const u32 row = at / (HEAD / OCTET), chunk = at % (HEAD / OCTET);
		const bool there = first + row < length;
		copy16(to + row * (HEAD * 2) + (chunk ^ row % 8) * 16,
		       from + (there ? first + row : 0) * stride + chunk * OCTET, there);
	}
}

/* scale includes log2(e). */
extern "C" __global__ void __launch_bounds__(THREADS, 5)
	attention_64_wgmma(u32 heads, float scale, const u32 *starts, const element *qkv,
			   element *out)
{
	extern __shared__ __align__(1024) element swizzled[];
	const u32 shared = shared_address(swizzled);
	const u32 head = blockIdx.y, sequence = blockIdx.z;
	const u32 start = starts[sequence], length = starts[sequence + 1] - start;
	const u64 hidden = (u64)heads * HEAD, stride = 3 * hidden;
	const u32 first = blockIdx.x * TILE;
	if (first >= length)
		return;
	qkv += start * stride + head * HEAD;
	const element *k = qkv + hidden, *v = k + hidden;
	const u32 count = (length + TILE - 1) / TILE;
	const u32 keys = shared + TILE_BYTES;
	const u64 q = describe(shared);
	load_swizzled(shared, qkv, stride, first, length);
	load_swizzled(keys, k, stride, 0, length);
	load_swizzled(keys + TILE_BYTES, v, stride, 0, length);
	copies_end_group();
	float sums[HEAD / 8][4] = {}, most[2] = {-1e30f, -1e30f}, total[4] = {};
	for (u32 i = 0; i < count; i++) {
		const u32 now = keys + i % 2 * 2 * TILE_BYTES,
			  next = keys + (i + 1) % 2 * 2 * TILE_BYTES;
		if (i + 1 < count) {
			load_swizzled(next, k, stride, (i + 1) * TILE, length);
			load_swizzled(next + TILE_BYTES, v, stride, (i + 1) * TILE, length);
		}
		copies_end_group();
		copies_wait<1>();
		/* what threads have copied, wgmma shall see */
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		__syncthreads();
		float scores[TILE / 8][4];
		const u64 b = describe(now), values = describe(now + TILE_BYTES);
		products_begin();
#pragma unroll
		for (int n = 0; n < HEAD / 16; n++) /* 32 bytes on */
			multiply_shared(scores, q + 2 * n, b + 2 * n, n);
		products_end(scores);
		if (length - i * TILE < TILE)
			mask(scores, length - i * TILE);
		soften<HEAD>(scores, sums, most, total, scale);
		u32 a[TILE / 16][4];
		pack_weights(a, scores);
		products_begin();
#pragma unroll
		for (int n = 0; n < TILE / 16; n++) /* 16 rows on */
			multiply_registers(sums, a[n], values + n * (16 * HEAD * 2 >> 4));
#pragma unroll
		for (int n = 0; n < TILE / 16; n++)
			multiply(total, a[n], ONES, ONES);
		products_end(sums);
		__syncthreads();
	}
	out += start * hidden + head * HEAD;
	store_rows<HEAD>(out, sums, total, hidden,
			 first + threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4, length);
}

#endif
