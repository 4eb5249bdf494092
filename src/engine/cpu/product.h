/*
 * product.h - one thread's share of y = activation(x W^T + b), in the best
 * instruction set of this processor. product.c is compiled once for each table.
 *
 * Weights are packed once into panels, as many columns of the result as one
 * tile of sums is wide: panel after panel, in each for every input the weights
 * of its columns side by side. The last panel is as wide as it must be, in
 * whole vectors.
 */
#ifndef VAC_ENGINE_CPU_PRODUCT_H
#define VAC_ENGINE_CPU_PRODUCT_H

#include "engine/compute.h"

/* Rows [0, rows) of x and y, columns of panels [first, last). */
struct vac_cpu_piece {
	const struct vac_linear_shape *shape;
	const float *packed, *bias; /* of the whole product; bias may be NULL */
	const float *x;             /* first row */
	float *y;
	uint32_t rows, first, last;
	uint32_t next; /* panel to fetch towards the end: where the thread may go on */
};

struct vac_cpu_products {
	uint32_t vector_columns; /* columns are padded to a multiple of this */
	uint32_t panel_columns;
	/* One panel of the [out x in] weight to its place in packed. */
	void (*pack)(uint32_t in, uint32_t out, const float *weight, uint32_t panel, float *packed);
	void (*multiply)(const struct vac_cpu_piece *piece);
};

extern const struct vac_cpu_products vac_cpu_products_generic;
#if defined(__x86_64__)
extern const struct vac_cpu_products vac_cpu_products_avx2;
extern const struct vac_cpu_products vac_cpu_products_avx512;
#endif

#endif
