/*
 * attention.cu - softmax(scale q k^T) v of each sequence and head, tokens
 * packed, in plain arithmetic: for float32, and for head sizes that the
 * tensor-core kernels do not take. One warp a query; keys pass by in groups of
 * 32, one a lane, with a running maximum and sum.
 */
#include "common.cuh"

#define QUERIES 4  /* of a block, one a warp */
#define MOST    32 /* columns a lane: head sizes up to 1024 */

KERNEL attention_any(u32 heads, u32 size, float scale, const u32 *starts, const element *qkv,
		     element *out)
{
	extern __shared__ float queries[];
	const u32 head = blockIdx.y, sequence = blockIdx.z, lane = threadIdx.x % WARP;
	const u32 start = starts[sequence], length = starts[sequence + 1] - start;
	const u32 row = blockIdx.x * QUERIES + threadIdx.x / WARP, columns = (size + WARP - 1) / WARP;
	const u64 hidden = (u64)heads * size, stride = 3 * hidden;
	float *query = queries + threadIdx.x / WARP * size;
	float sum[MOST], most = -__int_as_float(0x7f800000), total = 0;
	if (row >= length)
		return; /* whole warps; nothing below waits for another warp */
	const element *k = qkv + start * stride + hidden + head * size, *v = k + hidden;
	for (u32 i = lane; i < size; i += WARP)
		query[i] = scale * to_float(qkv[(start + row) * stride + head * size + i]);
	__syncwarp();
#pragma unroll
	for (int i = 0; i < MOST; i++)
		sum[i] = 0;
	for (u32 first = 0; first < length; first += WARP) {
		const u32 key = first + lane, keys = min(length - first, WARP);
		float score = -__int_as_float(0x7f800000);
		if (key < length) {
			score = 0;
			for (u32 i = 0; i < size; i++)
				score += query[i] * to_float(k[key * stride + i]);
		}
		const float now = fmaxf(most, warp_max(score));
		const float keep = expf(most - now), weight = key < length ? expf(score - now) : 0;
		total = total * keep + warp_sum(weight);
		most = now;
#pragma unroll
		for (int i = 0; i < MOST; i++)
			sum[i] *= keep;
		for (u32 j = 0; j < keys; j++) {
			const float w = __shfl_sync(WHOLE, weight, j);
			const element *values = v + (first + j) * stride;
#pragma unroll
			for (int i = 0; i < MOST; i++)
				if (i < columns && i * WARP + lane < size)
					sum[i] += w * to_float(values[i * WARP + lane]);
		}
	}
	out += (start + row) * hidden + head * size;
#pragma unroll
	for (int i = 0; i < MOST; i++)
		if (i < columns && i * WARP + lane < size)
			out[i * WARP + lane] = from_float(sum[i] / total);
}
