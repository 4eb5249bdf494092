/*
 * product_wgmma.cu - y = gelu(x W^T + b) in one kernel, by what the architecture 9.0a has:
 * cuBLASLt has no epilogue for GELU by erf, and as a kernel of its own it reads and writes
 * the widest matrix of a layer once more.
 *
 * A block has three warpgroups. One thread of the first asks for tiles of x and W, which
 * the tensor memory accelerator brings to a ring in shared memory; the other two take turns:
 * each computes a tile of y, one multiplying while the other adds the bias, applies GELU
 * and stores. Two blocks are a cluster and compute tiles above each other: of the tile of
 * W, which both need, each brings one half to both. Blocks stay until all tiles are done.
 *
 * Tiles are of 128 rows and of 128 columns or, wide, of 192: those take the more of x and W
 * to a product, of which the L2 cache gives no more a second, and the more registers.
 *
 * x [rows x in], W [out x in] and y [rows x out] are given as tensor maps with boxes of 64
 * elements (of 128, half a tile's columns and 128 rows) and the 128-byte swizzle; in is a
 * multiple of 64, and out of a tile's columns. Rows beyond the last are read as zeros and
 * not written.
 */
#include "activation.cuh"
#include "product.h"
#include "wgmma.cuh"

#ifdef HAVE_WGMMA

#define CLUSTER   VAC_PRODUCT_CLUSTER
#define ROWS      VAC_PRODUCT_ROWS
#define DEPTH     VAC_PRODUCT_DEPTH
#define X_BYTES   (ROWS * DEPTH * 2)
#define GROUP     128 /* threads of a warpgroup */
#define CONSUMERS 2
#define BELOW     (64 * DEPTH * 2 >> 4) /* 64 rows further down, for a descriptor */
#define BOX       64			/* columns of y that are stored at once */

/* The ring of tiles with so many columns. */
template <int COLUMNS> struct Ring {
	static constexpr u32 stage_bytes = (ROWS + COLUMNS) * DEPTH * 2;
	static constexpr u32 stages = VAC_PRODUCT_RING_BYTES / stage_bytes;
	static_assert(stages <= 8, "there is no room for more barriers");
};

/* What a thread holds of two m64n8 tiles above each other, for a tile's columns. */
template <int COLUMNS> struct Sums {
	float at[2][COLUMNS / 8][4];
};

/* CUtensorMap */
struct __align__(64) tensor_map
{
	u64 opaque[16];
};

static __device__ __forceinline__ u32 rank_in_cluster(void)
{
	u32 rank;
	asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
	return rank;
}

/* All threads of the cluster: what was done before is seen by all. */
static __device__ __forceinline__ void cluster_meet(void)
{
	asm volatile("barrier.cluster.arrive.release.aligned;\n"
		     "barrier.cluster.wait.acquire.aligned;" ::
			     : "memory");
}

/* ---- barriers in shared memory ---- */

static __device__ __forceinline__ void barrier_init(u32 barrier, u32 count)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count)
		     : "memory");
}

/* Arrives, and so many bytes are to come before it is complete. */
static __device__ __forceinline__ void barrier_expect(u32 barrier, u32 bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
		     "r"(bytes)
		     : "memory");
}

/* Arrives at the same barrier of a block of the cluster. */
static __device__ __forceinline__ void barrier_arrive(u32 barrier, u32 block)
{
	asm volatile("{.reg .b32 there;\n"
		     "mapa.shared::cluster.u32 there, %0, %1;\n"
		     "mbarrier.arrive.shared::cluster.b64 _, [there];}" ::"r"(barrier),
		     "r"(block)
		     : "memory");
}

/* Until the phase of this parity is complete; the one before the first is. It must be the
 * one under way or the one before that. */
static __device__ __forceinline__ void barrier_wait(u32 barrier, u32 parity)
{
	asm volatile("{.reg .pred done;\n"
		     "again:\n"
		     "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
		     "@!done bra again;}" ::"r"(barrier),
		     "r"(parity)
		     : "memory");
}

/* The same, of the thread that brings tiles. VAC_IMPATIENT: a test's, which is not to hang;
 * where tiles are computed, there are no registers for that. */
static __device__ __forceinline__ void barrier_wait_to_bring(u32 barrier, u32 parity)
{
#ifdef VAC_IMPATIENT
	const u32 start = (u32)clock();
	for (u32 done = 0; !done;) {
		asm volatile("{.reg .pred done;\n"
			     "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
			     "selp.u32 %0, 1, 0, done;}"
			     : "=r"(done)
			     : "r"(barrier), "r"(parity)
			     : "memory");
		if (!done && (u32)clock() - start > 2000000000u)
			__trap();
	}
#else
	barrier_wait(barrier, parity);
#endif
}

/* ---- the tensor memory accelerator ---- */

/* The box of a matrix at column, row; its bytes complete the barrier. */
static __device__ __forceinline__ void bring(u32 to, const tensor_map *map, u32 barrier, u32 column,
					     u32 row)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
		     "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
		     "l"(map), "r"(barrier), "r"(column), "r"(row)
		     : "memory");
}

/* The same to this place of all blocks of the cluster, and to their barriers. */
static __device__ __forceinline__ void bring_to_all(u32 to, const tensor_map *map, u32 barrier,
						    u32 column, u32 row)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
		     ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(to),
		     "l"(map), "r"(barrier), "h"((u16)((1 << CLUSTER) - 1)), "r"(column), "r"(row)
		     : "memory");
}

static __device__ __forceinline__ void put(const tensor_map *map, u32 from, u32 column, u32 row)
{
	asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group "
		     "[%0, {%2, %3}], [%1];" ::"l"(map),
		     "r"(from), "r"(column), "r"(row)
		     : "memory");
}

/* ---- products ---- */

#define NAMES_64                                                                                   \
	"%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "                                       \
	"%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "                             \
	"%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "                             \
	"%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                             \
	"%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "                             \
	"%60, %61, %62, %63"
#define NAMES_96                                                                                   \
	NAMES_64 ", "                                                                              \
	"%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, "                             \
	"%76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, "                             \
	"%88, %89, %90, %91, %92, %93, %94, %95"

/* c = or += a b^T of 64 rows; not waited for. */
template <bool ADD>
static __device__ __forceinline__ void multiply_64(float (&c)[16][4], u64 a, u64 b)
{
	asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n128k16." KIND "\n{" NAMES_64 "}, "
		     "%64, %65, p, 1, 1, 0, 0;}"
		     : PARTS_8(c, 0), PARTS_8(c, 8)
		     : "l"(a), "l"(b), "n"(ADD));
}

template <bool ADD>
static __device__ __forceinline__ void multiply_64(float (&c)[24][4], u64 a, u64 b)
{
	asm volatile("{.reg .pred p; setp.ne.b32 p, %98, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n192k16." KIND "\n{" NAMES_96 "}, "
		     "%96, %97, p, 1, 1, 0, 0;}"
		     : PARTS_8(c, 0), PARTS_8(c, 8), PARTS_8(c, 16)
		     : "l"(a), "l"(b), "n"(ADD));
}

/* What is read afterwards stays behind the wait. */
template <int N> static __device__ __forceinline__ void hold_back(float (&c)[N][4])
{
#pragma unroll
	for (int n = 0; n < N; n++)
		asm volatile("" : PART(c, n)::"memory");
}

/* ---- the two kinds of warpgroups ---- */

struct work {
	const tensor_map *x, *w, *y;
	const element *bias;
	u32 shared, full, empty; /* addresses of the ring and of its first barriers */
	u32 rank;
	u32 tiles, wide, depth; /* tiles of the cluster; of a row of them; steps of each */
};

static __device__ __forceinline__ u32 row_of(const work &w, u32 tile)
{
	return (tile / w.wide * CLUSTER + w.rank) * ROWS;
}

/* One thread. */
template <int COLUMNS> static __device__ void produce(const work &w)
{
	const u32 half = COLUMNS / CLUSTER;
	u32 stage = 0, parity = 1;
	for (u32 tile = blockIdx.x / CLUSTER; tile < w.tiles; tile += gridDim.x / CLUSTER) {
		const u32 row = row_of(w, tile), column = tile % w.wide * COLUMNS;
#pragma unroll 1
		for (u32 step = 0; step < w.depth; step++) {
			const u32 full = w.full + stage * 8,
				  to = w.shared + stage * Ring<COLUMNS>::stage_bytes;
			barrier_wait_to_bring(w.empty + stage * 8, parity);
			barrier_expect(full, Ring<COLUMNS>::stage_bytes);
			bring(to, w.x, full, step * DEPTH, row);
			bring_to_all(to + X_BYTES + w.rank * (half * DEPTH * 2), w.w, full,
				     step * DEPTH, column + w.rank * half);
			if (++stage == Ring<COLUMNS>::stages)
				stage = 0, parity ^= 1;
		}
	}
}

/* Lets all blocks bring new tiles there: a warp's part of it. */
static __device__ __forceinline__ void release(const work &w, u32 stage)
{
	if (threadIdx.x % WARP < CLUSTER)
		barrier_arrive(w.empty + stage * 8, threadIdx.x % WARP);
}

/* The groups multiply in the order of their tiles, one after the other: a wait for a phase
 * of the ring's barriers tells only odd from even ones, so none may begin before the one of
 * a ring ago has ended. Barriers 3 and 4: it is the turn of group 0, 1. */
static __device__ __forceinline__ void turn_wait(u32 group)
{
	asm volatile("bar.sync %0, 256;" ::"r"(group + 1 + CONSUMERS) : "memory");
}

static __device__ __forceinline__ void turn_pass(u32 group)
{
	asm volatile("bar.arrive %0, 256;" ::"r"((group ^ 1) + 1 + CONSUMERS) : "memory");
}

/* sums = or += x W^T of one step: of what lies in a stage, whose descriptors a and b are. */
template <bool ADD, int COLUMNS>
static __device__ __forceinline__ void multiply_step(u64 a, u64 b, Sums<COLUMNS> &sums)
{
	products_begin();
	multiply_64<ADD>(sums.at[0], a, b);
	multiply_64<ADD>(sums.at[1], a + BELOW, b);
#pragma unroll
	for (int k = 1; k < DEPTH / 16; k++) { /* 32 bytes on */
		multiply_64<true>(sums.at[0], a + 2 * k, b + 2 * k);
		multiply_64<true>(sums.at[1], a + BELOW + 2 * k, b + 2 * k);
	}
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* sums = x W^T of a tile, whose steps are in the ring from at on. last: no tile comes after
 * it. */
template <int COLUMNS>
static __device__ __forceinline__ void multiply_tile(const work &w, u32 at, u32 group, bool last,
						     Sums<COLUMNS> &sums)
{
	constexpr u32 stages = Ring<COLUMNS>::stages;
	const u64 ring = describe(w.shared);
	u32 stage = at % stages, parity = at / stages % 2, before = 0;
#pragma unroll 1
	for (u32 step = 0; step < w.depth; step++) {
		const u64 a = ring + stage * (Ring<COLUMNS>::stage_bytes >> 4),
			  b = a + (X_BYTES >> 4);
		barrier_wait(w.full + stage * 8, parity);
		if (step)
			multiply_step<true>(a, b, sums);
		else
			multiply_step<false>(a, b, sums);
		if (step + 1 == w.depth && !last) /* nothing of the ring is waited for any more */
			turn_pass(group);
		asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
		if (step) /* the one before has been computed */
			release(w, before);
		before = stage;
		if (++stage == stages)
			stage = 0, parity ^= 1;
	}
	asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
	hold_back(sums.at[0]);
	hold_back(sums.at[1]);
	release(w, before);
}

/* The bias of a tile is brought to the L1 cache while the group waits for its turn. */
template <int COLUMNS>
static __device__ __forceinline__ void prefetch_bias(const work &w, u32 column)
{
	if (threadIdx.x % GROUP < (COLUMNS * 2 + 127) / 128)
		asm volatile("prefetch.global.L1 [%0];" ::"l"(w.bias + column +
							     threadIdx.x % GROUP * 64));
}

/* What a thread needs of the bias for a box. */
static __device__ __forceinline__ void read_bias(const work &w, u32 column, u32 bias[BOX / 8])
{
	const element *from = w.bias + column + threadIdx.x % 4 * 2;
#pragma unroll
	for (int n = 0; n < BOX / 8; n++)
		asm volatile("ld.global.nc.b32 %0, [%1];" : "=r"(bias[n]) : "l"(from + n * 8));
}

static __device__ __forceinline__ void store_shared(u32 to, u32 pair)
{
	asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(pair) : "memory");
}

static __device__ __forceinline__ void group_meet(u32 group)
{
	asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

/* gelu(sums + bias) of a box to shared memory. */
static __device__ __forceinline__ void finish_box(u32 to, float (*above)[4], float (*below)[4],
						  const u32 bias[BOX / 8])
{
	const u32 lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP / WARP;
	to += (warp * 16 + lane / 4) * 128 + lane % 4 * 4;
#pragma unroll
	for (int n = 0; n < BOX / 8; n++) {
		const float low = to_float((u16)(bias[n] & 0xffff)),
			    high = to_float((u16)(bias[n] >> 16));
		/* the row's number modulo 8 is the same in all */
		const u32 chunk = to + (n ^ (lane / 4)) * 16;
		float y[8]; /* two of each of the rows 0, 8, 64, 72 */
#pragma unroll
		for (int i = 0; i < 8; i++)
			y[i] = (i < 4 ? above : below)[n][i % 4] + (i % 2 ? high : low);
		gelu_of(y);
#pragma unroll
		for (int i = 0; i < 4; i++)
			store_shared(chunk + (i / 2 * 64 + i % 2 * 8) * 128,
				     pack_pair(y[2 * i], y[2 * i + 1]));
	}
}

/* gelu(sums + bias) to y: one box after the other, for which the sums move on in their
 * registers. As one sequence of instructions, which the compiler mixes until registers are
 * short, it takes half as long again. boxes: two in shared memory, used in turn from that at
 * `turn` on; returned is the next. */
template <int COLUMNS>
static __device__ __forceinline__ u32 finish_tile(const work &w, u32 group, u32 row, u32 column,
						  u32 boxes, u32 turn, Sums<COLUMNS> &sums)
{
	const bool first = threadIdx.x % GROUP == 0;
#pragma unroll 1
	for (u32 box = 0; box < COLUMNS / BOX; box++, column += BOX, turn ^= 1) {
		const u32 to = boxes + turn * VAC_PRODUCT_BOX_BYTES;
		u32 bias[BOX / 8];
		read_bias(w, column, bias);
		if (first) /* what was put from there has been read */
			asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
		group_meet(group);
		finish_box(to, sums.at[0], sums.at[1], bias);
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		group_meet(group);
		if (first) {
			put(w.y, to, column, row);
			asm volatile("cp.async.bulk.commit_group;" ::: "memory");
		}
#pragma unroll
		for (int n = 0; n < COLUMNS / 8 - BOX / 8; n++)
#pragma unroll
			for (int i = 0; i < 8; i++)
				sums.at[i / 4][n][i % 4] = sums.at[i / 4][n + BOX / 8][i % 4];
	}
	return turn;
}

/* group: 0 or 1; all its threads. */
template <int COLUMNS> static __device__ void consume(const work &w, u32 group)
{
	const u32 boxes = w.shared + VAC_PRODUCT_RING_BYTES + group * 2 * VAC_PRODUCT_BOX_BYTES;
	const u32 clusters = gridDim.x / CLUSTER;
	u32 at = group * w.depth, turn = 0;
	for (u32 tile = blockIdx.x / CLUSTER + group * clusters; tile < w.tiles;
	     tile += CONSUMERS * clusters, at += CONSUMERS * w.depth) {
		const u32 row = row_of(w, tile), column = tile % w.wide * COLUMNS;
		Sums<COLUMNS> sums;
		prefetch_bias<COLUMNS>(w, column);
		if (tile >= clusters) /* there is one before it, the other group's */
			turn_wait(group);
		multiply_tile(w, at, group, tile + clusters >= w.tiles, sums);
		turn = finish_tile(w, group, row, column, boxes, turn, sums);
	}
	if (threadIdx.x % GROUP == 0)
		asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

template <int COLUMNS>
static __device__ __forceinline__ void product(u32 tiles, u32 wide, u32 depth, const element *bias,
					       const tensor_map *x, const tensor_map *w,
					       const tensor_map *y)
{
	constexpr u32 stages = Ring<COLUMNS>::stages;
	extern __shared__ __align__(1024) u8 product_shared[];
	const u32 shared = (u32)__cvta_generic_to_shared(product_shared);
	const u32 barriers = shared + VAC_PRODUCT_BARRIERS_AT;
	const work all = {x,	 w,    y,    bias, shared, barriers, barriers + stages * 8, rank_in_cluster(),
			  tiles, wide, depth};
	if (threadIdx.x == 0) {
		for (u32 i = 0; i < stages; i++) {
			barrier_init(all.full + i * 8, 1);
			/* a warpgroup's four warps in each block */
			barrier_init(all.empty + i * 8, GROUP / WARP * CLUSTER);
		}
		asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	}
	cluster_meet();
	if (threadIdx.x < GROUP) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
		if (threadIdx.x == 0)
			produce<COLUMNS>(all);
		__syncwarp();
	} else {
		/* 24 + 2 * 240 = 3 * 168: what the three groups were launched with */
		asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
		/* shuffled, it is known to be the same in a warp, and addresses are of the warp */
		consume<COLUMNS>(all, __shfl_sync(~0u, threadIdx.x / GROUP - 1, 0));
	}
	/* until none brings anything here or waits for what is done here */
	cluster_meet();
}

#define PRODUCT(name, columns)                                                                     \
	extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1)                                 \
		__launch_bounds__(VAC_PRODUCT_THREADS, 1)                                          \
			name(u32 tiles, u32 wide, u32 depth, const element *bias,                  \
			     const __grid_constant__ tensor_map x,                                 \
			     const __grid_constant__ tensor_map w,                                 \
			     const __grid_constant__ tensor_map y)                                 \
	{                                                                                          \
		product<columns>(tiles, wide, depth, bias, &x, &w, &y);                            \
	}

PRODUCT(product_gelu_wgmma, VAC_PRODUCT_COLUMNS)
PRODUCT(product_gelu_wide_wgmma, VAC_PRODUCT_WIDE)

#endif
