/*
 * product.c - the launch of kernels/product_wgmma.cu: y = gelu(x W^T + b) as one kernel, for
 * many rows in 16 bits, on GPUs that have what it is made of. On the engine's thread.
 */
#include "engine/cuda/kernels/product.h"

#include "engine/cuda/linear.h"

static uint32_t columns_of(enum vac_tile tile)
{
	return tile == VAC_TILE_192 ? VAC_PRODUCT_WIDE : VAC_PRODUCT_COLUMNS;
}

static struct CUfunc_st *kernel_of(const struct vac_compute *c, enum vac_tile tile)
{
	return tile == VAC_TILE_192 ? c->module->functions.product_gelu_wide_wgmma
				    : c->module->functions.product_gelu_wgmma;
}

bool vac_product_serves(const struct vac_compute *c, const struct vac_linear *l, enum vac_tile tile)
{
	const struct vac_linear_shape *s = &l->shape;
	return tile != VAC_TILE_NONE && kernel_of(c, tile) &&
	       s->activation == VAC_ACTIVATION_GELU && s->bias && !s->accumulate &&
	       s->in % VAC_PRODUCT_DEPTH == 0 && s->out % columns_of(tile) == 0;
}

/* A dense matrix as the kernel reads or writes it: boxes of so many rows. */
static int describe(const struct vac_compute *c, enum vac_dtype dtype, const void *at,
		    uint32_t rows, uint32_t columns, uint32_t box_rows,
		    struct vac_cu_tensor_map *out)
{
	const uint64_t sizes[] = {columns, rows}, strides[] = {(uint64_t)columns * 2};
	const unsigned box[] = {VAC_PRODUCT_DEPTH, box_rows}, steps[] = {1, 1};
	return c->cuda->tensor_map(
		out, dtype == VAC_DTYPE_F16 ? VAC_CU_TENSOR_F16 : VAC_CU_TENSOR_BF16, 2, (void *)at,
		sizes, strides, box, steps, 0, VAC_CU_TENSOR_SWIZZLE_128, VAC_CU_TENSOR_L2_128, 0);
}

/* As many blocks as the GPU holds at once, one on each multiprocessor, and whole clusters. */
static int count_blocks(const struct vac_compute *c, uint32_t tiles, uint32_t *blocks)
{
	int most = 0;
	int result = c->cuda->device_attribute(&most, VAC_CU_ATTRIBUTE_MULTIPROCESSORS, c->device);
	uint32_t clusters = (uint32_t)most / VAC_PRODUCT_CLUSTER;
	clusters = clusters < tiles ? clusters : tiles;
	*blocks = (clusters ? clusters : 1) * VAC_PRODUCT_CLUSTER;
	return result;
}

void vac_product_multiply(struct vac_compute *c, const struct vac_linear *l, enum vac_tile tile,
			  const void *packed, const void *bias, uint32_t rows, const void *x,
			  void *y)
{
	struct CUfunc_st *function = kernel_of(c, tile);
	const struct vac_linear_shape *s = &l->shape;
	const uint32_t above = VAC_PRODUCT_CLUSTER * VAC_PRODUCT_ROWS;
	uint32_t wide = s->out / columns_of(tile), depth = s->in / VAC_PRODUCT_DEPTH;
	uint32_t tiles = (rows + above - 1) / above * wide, blocks = 0;
	struct vac_cu_tensor_map maps[3];
	void *parameters[] = {&tiles, &wide, &depth, &bias, &maps[0], &maps[1], &maps[2]};
	int result;
	if (c->failure < 0) /* what it would read may be garbage */
		return;
	result = describe(c, l->dtype, x, rows, s->in, VAC_PRODUCT_ROWS, &maps[0]);
	if (result == VAC_CU_OK)
		result = describe(c, l->dtype, packed, s->out, s->in,
				  columns_of(tile) / VAC_PRODUCT_CLUSTER, &maps[1]);
	if (result == VAC_CU_OK)
		result = describe(c, l->dtype, y, rows, s->out, VAC_PRODUCT_ROWS, &maps[2]);
	if (result == VAC_CU_OK)
		result = count_blocks(c, tiles, &blocks);
	if (result == VAC_CU_OK)
		result = c->cuda->func_set_attribute(function, VAC_CU_FUNC_MAX_DYNAMIC_SHARED,
						     VAC_PRODUCT_SHARED_BYTES);
	if (result == VAC_CU_OK)
		result = c->cuda->launch(function, blocks, 1, 1, VAC_PRODUCT_THREADS, 1, 1,
					 VAC_PRODUCT_SHARED_BYTES, c->stream, parameters, NULL);
	vac_cuda_note(c, result, "a product");
}
