/*
 * norm.cu - layer normalization, alone and behind the sum of a token's three
 * embeddings. Rows of up to 1024 elements are held in the registers of one warp
 * (the _warp kernels); others take a block and are read three times. The
 * variance is that of the differences to the mean, as torch has it.
 */
#include "common.cuh"

#define OCTETS 4 /* of a lane: 4 x 8 x 32 elements a row */

static __device__ __forceinline__ void normalize(float v[OCTETS][OCTET], u32 hidden, float eps,
						 const element *gamma, const element *beta,
						 element *to)
{
	const u32 lane = threadIdx.x % WARP;
	float sum = 0, square = 0;
#pragma unroll
	for (int o = 0; o < OCTETS; o++)
		if ((o * WARP + lane) * OCTET < hidden)
#pragma unroll
			for (int i = 0; i < OCTET; i++)
				sum += v[o][i];
	const float mean = warp_sum(sum) / hidden;
#pragma unroll
	for (int o = 0; o < OCTETS; o++)
		if ((o * WARP + lane) * OCTET < hidden)
#pragma unroll
			for (int i = 0; i < OCTET; i++)
				square += (v[o][i] - mean) * (v[o][i] - mean);
	const float scale = rsqrtf(warp_sum(square) / hidden + eps);
#pragma unroll
	for (int o = 0; o < OCTETS; o++) {
		const u32 at = (o * WARP + lane) * OCTET;
		float g[OCTET], b[OCTET], out[OCTET];
		if (at >= hidden)
			break;
		load8(gamma + at, g);
		load8(beta + at, b);
#pragma unroll
		for (int i = 0; i < OCTET; i++)
			out[i] = (v[o][i] - mean) * scale * g[i] + b[i];
		store8(to + at, out);
	}
}

KERNEL layer_norm_warp(u32 rows, u32 hidden, float eps, const element *gamma, const element *beta,
		       element *x)
{
	const u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
	const u32 lane = threadIdx.x % WARP;
	float v[OCTETS][OCTET];
	if (row >= rows)
		return;
	x += (u64)row * hidden;
#pragma unroll
	for (int o = 0; o < OCTETS; o++)
		if ((o * WARP + lane) * OCTET < hidden)
			load8(x + (o * WARP + lane) * OCTET, v[o]);
	normalize(v, hidden, eps, gamma, beta, x);
}

KERNEL embed_warp(u32 sequences, u32 hidden, float eps, const int *ids, const u8 *types,
		  const u32 *starts, const element *word, const element *position,
		  const element *type, const element *gamma, const element *beta, element *y)
{
	const u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
	const u32 lane = threadIdx.x % WARP;
	float v[OCTETS][OCTET];
	if (row >= starts[sequences]) /* the grid may be larger */
		return;
	word += (u64)ids[row] * hidden;
	type += (u64)types[row] * hidden;
	position += (u64)(row - starts[sequence_of(row, starts, sequences)]) * hidden;
#pragma unroll
	for (int o = 0; o < OCTETS; o++) {
		const u32 at = (o * WARP + lane) * OCTET;
		float a[OCTET], b[OCTET], c[OCTET];
		if (at >= hidden)
			break;
		load8(word + at, a);
		load8(type + at, b);
		load8(position + at, c);
#pragma unroll
		for (int i = 0; i < OCTET; i++)
			v[o][i] = a[i] + b[i] + c[i];
	}
	normalize(v, hidden, eps, gamma, beta, y + (u64)row * hidden);
}

KERNEL layer_norm_block(u32 rows, u32 hidden, float eps, const element *gamma, const element *beta,
			element *x)
{
	float sum = 0, square = 0;
	x += (u64)blockIdx.x * hidden;
	for (u32 i = threadIdx.x; i < hidden; i += blockDim.x)
		sum += to_float(x[i]);
	const float mean = block_sum(sum) / hidden;
	for (u32 i = threadIdx.x; i < hidden; i += blockDim.x) {
		const float d = to_float(x[i]) - mean;
		square += d * d;
	}
	const float scale = rsqrtf(block_sum(square) / hidden + eps);
	for (u32 i = threadIdx.x; i < hidden; i += blockDim.x)
		x[i] = from_float((to_float(x[i]) - mean) * scale * to_float(gamma[i]) +
				  to_float(beta[i]));
}

KERNEL embed_block(u32 sequences, u32 hidden, float eps, const int *ids, const u8 *types,
		   const u32 *starts, const element *word, const element *position,
		   const element *type, const element *gamma, const element *beta, element *y)
{
	const u32 row = blockIdx.x;
	float sum = 0, square = 0;
	if (row >= starts[sequences]) /* the grid may be larger */
		return;
	word += (u64)ids[row] * hidden;
	type += (u64)types[row] * hidden;
	position += (u64)(row - starts[sequence_of(row, starts, sequences)]) * hidden;
	y += (u64)row * hidden;
#define VALUE(i) (to_float(word[i]) + to_float(type[i]) + to_float(position[i]))
	for (u32 i = threadIdx.x; i < hidden; i += blockDim.x)
		sum += VALUE(i);
	const float mean = block_sum(sum) / hidden;
	for (u32 i = threadIdx.x; i < hidden; i += blockDim.x)
		square += (VALUE(i) - mean) * (VALUE(i) - mean);
	const float scale = rsqrtf(block_sum(square) / hidden + eps);
	for (u32 i = threadIdx.x; i < hidden; i += blockDim.x)
		y[i] = from_float((VALUE(i) - mean) * scale * to_float(gamma[i]) +
				  to_float(beta[i]));
#undef VALUE
}
