/*
 * pool.cu - from the hidden states of a sequence to one vector. A block takes 32
 * columns of one sequence, eight rows at a time.
 */
#include "common.cuh"

/* As format/config.h numbers them. */
enum { POOL_CLS = 0, POOL_MEAN = 1, POOL_MAX = 2, POOL_MEAN_SQRT_LEN = 3 };

#define POOL_ROWS 8

KERNEL pool(int pooling, u32 hidden, const u32 *starts, const element *x, element *out)
{
	__shared__ float parts[POOL_ROWS][WARP];
	const u32 sequence = blockIdx.y, column = blockIdx.x * WARP + threadIdx.x;
	const u32 start = starts[sequence], length = starts[sequence + 1] - start;
	const u32 rows = pooling == POOL_CLS ? 1 : length;
	float value = pooling == POOL_MAX ? -__int_as_float(0x7f800000) : 0;
	if (length == 0) /* the grid may be larger than the batch */
		return;
	x += (u64)start * hidden;
	if (column < hidden)
		for (u32 r = threadIdx.y; r < rows; r += POOL_ROWS) {
			const float v = to_float(x[(u64)r * hidden + column]);
			value = pooling == POOL_MAX ? fmaxf(value, v) : value + v;
		}
	parts[threadIdx.y][threadIdx.x] = value;
	__syncthreads();
	if (threadIdx.y != 0 || column >= hidden)
		return;
	for (u32 r = 1; r < POOL_ROWS; r++)
		value = pooling == POOL_MAX ? fmaxf(value, parts[r][threadIdx.x])
					    : value + parts[r][threadIdx.x];
	if (pooling == POOL_MEAN)
		value /= length;
	else if (pooling == POOL_MEAN_SQRT_LEN)
		value /= sqrtf((float)length);
	out[(u64)sequence * hidden + column] = from_float(value);
}
