/*
 * operations.c - launches of the kernels. On the engine's thread, in the
 * context; a failure is noted and told by synchronize, and until then nothing
 * more is launched.
 */
#include <inttypes.h>

#include "engine/cuda/backend.h"

#define WARPS       4 /* rows of a block in the _warp kernels */
#define WARP_MOST   1024
#define OCTET       8
#define BLOCK       256
#define TILE        64  /* queries and keys, attention.cuh */
#define WIDE_FROM   257 /* tokens, from which two tiles of queries a block are faster */
#define ANY_QUERIES 4   /* attention.cu */
#define POOL_ROWS   8
#define FREE_SHARED ((uint32_t)48 << 10) /* more must be asked for */
#define LOG2_E      1.4426950408889634f

struct grid {
	uint32_t x, y, z;
	uint32_t threads, threads_y;
	uint32_t shared_bytes;
};

static void launch(struct vac_compute *c, struct CUfunc_st *function, struct grid grid,
		   void **parameters, const char *what)
{
	if (c->failure < 0) /* what it would read may be garbage */
		return;
	vac_cuda_note(c,
		      c->cuda->launch(function, grid.x, grid.y ? grid.y : 1, grid.z ? grid.z : 1,
				      grid.threads, grid.threads_y ? grid.threads_y : 1, 1,
				      grid.shared_bytes, c->stream, parameters, NULL),
		      what);
}

static uint32_t blocks_of(uint64_t items, uint32_t block)
{
	return (uint32_t)((items + block - 1) / block);
}

void vac_cuda_activate(struct vac_compute *c, enum vac_activation activation, uint64_t count,
		       void *y)
{
	struct CUfunc_st *const functions[] = {
		[VAC_ACTIVATION_GELU] = c->module->functions.activate_gelu,
		[VAC_ACTIVATION_GELU_TANH] = c->module->functions.activate_gelu_tanh,
		[VAC_ACTIVATION_RELU] = c->module->functions.activate_relu,
		[VAC_ACTIVATION_TANH] = c->module->functions.activate_tanh,
		[VAC_ACTIVATION_SIGMOID] = c->module->functions.activate_sigmoid,
	};
	void *parameters[] = {&count, &y};
	if (activation == VAC_ACTIVATION_NONE)
		return;
	launch(c, functions[activation],
	       (struct grid){.x = blocks_of(count, BLOCK * OCTET), .threads = BLOCK}, parameters,
	       "an activation");
}

void vac_cuda_conversion_add(struct vac_cuda_conversion *all, enum vac_dtype dtype, uint64_t count,
			     vac_cu_address from, void *to)
{
	all->items[all->count++] = (struct vac_cuda_converted){
		.from = from,
		.to = (uintptr_t)to,
		.count = count,
		.first_block = all->blocks,
		.type = (uint32_t)vac_cuda_element(dtype),
	};
	all->blocks += blocks_of(count, BLOCK * OCTET);
}

void vac_cuda_convert(struct vac_compute *c, struct vac_cuda_conversion *all)
{
	void *parameters[] = {all};
	if (all->blocks)
		launch(c, c->module->functions.convert,
		       (struct grid){.x = all->blocks, .threads = BLOCK}, parameters,
		       "converting weights");
}

/* Whether the kernels that hold a row in a warp's registers take it. */
static bool fits_warp(uint32_t hidden)
{
	return hidden % OCTET == 0 && hidden <= WARP_MOST;
}

static struct grid rows_grid(uint32_t rows, uint32_t hidden)
{
	return fits_warp(hidden) ? (struct grid){.x = blocks_of(rows, WARPS), .threads = WARPS * 32}
				 : (struct grid){.x = rows, .threads = BLOCK};
}

void vac_cuda_embed(struct vac_compute *c, const struct vac_embed *embed,
		    const struct vac_tokens *tokens, void *y)
{
	struct vac_embed e = *embed;
	struct vac_tokens t = *tokens;
	/* how many rows there are the kernel reads behind the last start */
	void *parameters[] = {&t.sequences, &e.hidden,   &e.eps,  &t.ids,   &t.types, &t.starts,
			      &e.word,      &e.position, &e.type, &e.gamma, &e.beta,  &y};
	launch(c,
	       fits_warp(e.hidden) ? c->module->functions.embed_warp
				   : c->module->functions.embed_block,
	       rows_grid(t.rows, e.hidden), parameters, "embedding tokens");
}

void vac_cuda_layer_norm(struct vac_compute *c, uint32_t rows, uint32_t hidden, float eps,
			 const void *gamma, const void *beta, void *x)
{
	void *parameters[] = {&rows, &hidden, &eps, &gamma, &beta, &x};
	launch(c,
	       fits_warp(hidden) ? c->module->functions.layer_norm_warp
				 : c->module->functions.layer_norm_block,
	       rows_grid(rows, hidden), parameters, "a layer normalization");
}

void vac_cuda_attention(struct vac_compute *c, const struct vac_attention *attention,
			const struct vac_tokens *tokens, const void *qkv, void *out)
{
	struct CUfunc_st *function = NULL;
	uint32_t heads = attention->heads, size = attention->head_size;
	const uint32_t *starts = tokens->starts;
	float scale = attention->scale;
	const bool group = size == 64 && c->module->functions.attention_64_wgmma;
	const bool wide = size == 64 && !group && tokens->longest >= WIDE_FROM;
	if (group)
		function = c->module->functions.attention_64_wgmma;
	else if (c->dtype != VAC_DTYPE_F32)
		function = size == 32    ? c->module->functions.attention_32
			   : wide        ? c->module->functions.attention_64_wide
			   : size == 64  ? c->module->functions.attention_64
			   : size == 96  ? c->module->functions.attention_96
			   : size == 128 ? c->module->functions.attention_128
					 : NULL;
	if (function) {
		const struct grid grid = {
			.x = blocks_of(tokens->longest, wide ? 2 * TILE : TILE),
			.y = heads,
			.z = tokens->sequences,
			.threads = 128,
			.shared_bytes = group ? 5 * TILE * size * 2 : 4 * TILE * (size + OCTET) * 2,
		};
		scale *= LOG2_E;
		void *parameters[] = {&heads, &scale, &starts, &qkv, &out};
		if (grid.shared_bytes > FREE_SHARED)
			vac_cuda_note(c,
				      c->cuda->func_set_attribute(function,
								  VAC_CU_FUNC_MAX_DYNAMIC_SHARED,
								  (int)grid.shared_bytes),
				      "attention");
		launch(c, function, grid, parameters, "attention");
		return;
	}
	if (size > VAC_CUDA_LARGEST_HEAD) {
		if (c->failure == 0)
			c->failure = vac_fail(&c->error, VAC_E_UNSUPPORTED,
					      "attention heads of %" PRIu32
					      " columns are not served on a GPU, at most %d",
					      size, VAC_CUDA_LARGEST_HEAD);
		return;
	}
	const struct grid grid = {
		.x = blocks_of(tokens->longest, ANY_QUERIES),
		.y = heads,
		.z = tokens->sequences,
		.threads = ANY_QUERIES * 32,
		.shared_bytes = ANY_QUERIES * size * (uint32_t)sizeof(float),
	};
	void *parameters[] = {&heads, &size, &scale, &starts, &qkv, &out};
	launch(c, c->module->functions.attention_any, grid, parameters, "attention");
}

void vac_cuda_pool(struct vac_compute *c, enum vac_pooling pooling, const struct vac_tokens *tokens,
		   uint32_t hidden, const void *x, void *out)
{
	int how = (int)pooling;
	const uint32_t *starts = tokens->starts;
	void *parameters[] = {&how, &hidden, &starts, &x, &out};
	launch(c, c->module->functions.pool,
	       (struct grid){.x = blocks_of(hidden, 32),
			     .y = tokens->sequences,
			     .threads = 32,
			     .threads_y = POOL_ROWS},
	       parameters, "pooling");
}

void vac_cuda_to_floats(struct vac_compute *c, uint64_t count, const void *x, float *out)
{
	void *parameters[] = {&count, &x, &out};
	launch(c, c->module->functions.to_floats,
	       (struct grid){.x = blocks_of(count, BLOCK), .threads = BLOCK}, parameters,
	       "results");
}
