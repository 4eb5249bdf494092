/*
 * kernels.h - one thread's share of each operation, in the best instruction
 * set of this processor. kernels.c is compiled once for each table.
 */
#ifndef VAC_ENGINE_CPU_KERNELS_H
#define VAC_ENGINE_CPU_KERNELS_H

#include "engine/compute.h"
#include "engine/cpu/product.h"

/* Query rows that one piece of attention takes on: K and V of a head are
 * turned once for so many. */
#define VAC_ATTENTION_BLOCK 64

struct vac_cpu_kernels {
	const char *name; /* "AVX-512" */
	const struct vac_cpu_products *products;
	/* Rows [first, last) of the operations of compute.h. */
	void (*embed)(const struct vac_embed *embed, const struct vac_tokens *tokens,
		      uint32_t first, uint32_t last, float *y);
	void (*layer_norm)(uint32_t first, uint32_t last, uint32_t hidden, float eps,
			   const float *gamma, const float *beta, float *x);
	/* Bytes of buffer that attend needs for a sequence of length tokens. */
	uint64_t (*attend_bytes)(uint32_t length, uint32_t head_size);
	/* Queries [first, last) of one head of one sequence. q, k, v: its first
	 * row; rows are stride floats apart, out's out_stride. */
	void (*attend)(const float *q, const float *k, const float *v, size_t stride,
		       uint32_t length, uint32_t head_size, float scale, uint32_t first,
		       uint32_t last, float *buffer, float *out, size_t out_stride);
	/* One sequence. */
	void (*pool)(enum vac_pooling pooling, uint32_t length, uint32_t hidden, const float *x,
		     float *out);
};

extern const struct vac_cpu_kernels vac_cpu_kernels_generic;
#if defined(__x86_64__)
extern const struct vac_cpu_kernels vac_cpu_kernels_avx2;
extern const struct vac_cpu_kernels vac_cpu_kernels_avx512;
#endif

/* The tables that this processor can run, best first; returns how many. */
size_t vac_cpu_kernels_usable(const struct vac_cpu_kernels *out[3]);

#endif
