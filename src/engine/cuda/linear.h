/*
 * linear.h - products between linear.c, which computes them, and choices.c, which
 * finds the fastest algorithms for them, and product.c, which has one of its own. On the
 * engine's thread.
 */
#ifndef VAC_ENGINE_CUDA_LINEAR_H
#define VAC_ENGINE_CUDA_LINEAR_H

#include "engine/cuda/backend.h"

#define VAC_LINEAR_BUCKETS 64
/* Rows for which algorithms of small batches are chosen; each serves those below it
 * down to the one before. */
#define VAC_LINEAR_POINTS 6

struct vac_linear_bucket {
	uint32_t rows; /* the most it serves; 0: not asked yet */
	struct vac_blas_algorithm algorithm;
};

/* The kernels of product_wgmma.cu: columns of a tile. */
enum vac_tile { VAC_TILE_NONE, VAC_TILE_128, VAC_TILE_192, VAC_TILES };

struct vac_linear {
	struct vac_linear *next;
	uint32_t users;
	struct vac_linear_shape shape;
	enum vac_dtype dtype;
	/* made at the first use on a device */
	const struct vac_blas *blas;
	vac_blas_object desc, weight, x, y;
	enum vac_tile fused; /* large ones are one kernel with their GELU */
	bool small_chosen;
	struct vac_blas_choice small[VAC_LINEAR_POINTS];
	struct vac_linear_bucket buckets[VAC_LINEAR_BUCKETS];
};

/* linear.c. They return a cublasStatus_t, or another number that is not 0. */
int vac_linear_set_bias(const struct vac_linear *l, const void *bias);
/* vac_linear_ask does so, too. */
int vac_linear_set_rows(const struct vac_linear *l, uint64_t rows);
/* The heuristic's first choices, at most *count of them; at least one, or an error. */
int vac_linear_ask(struct vac_compute *c, struct vac_linear *l, uint32_t rows,
		   struct vac_blas_choice *choices, int *count);
/* Of as many rows as were set last. */
int vac_linear_multiply(struct vac_compute *c, const struct vac_linear *l, const void *packed,
			const void *x, void *y, const struct vac_blas_algorithm *algorithm);

/* choices.c: nothing is computed meanwhile, and the workspace may be written over. */
int vac_linear_choose(struct vac_compute *c, struct vac_linear *l, uint32_t rows,
		      struct vac_blas_choice *out);
int vac_linear_choose_small(struct vac_compute *c, struct vac_linear *l);
/* After that: which of l->small serves so many rows. */
uint32_t vac_linear_point(uint32_t rows);
/* An enum vac_tile, which of them is faster than this algorithm and GELU after it, or none;
 * negative: there was no time to find out, and nothing is kept of that. */
int vac_linear_choose_fused(struct vac_compute *c, const struct vac_linear *l, uint32_t rows,
			    const struct vac_blas_choice *choice);

/* product.c: whether there is one kernel for it, and its launch; a failure is noted. */
bool vac_product_serves(const struct vac_compute *c, const struct vac_linear *l,
			enum vac_tile tile);
void vac_product_multiply(struct vac_compute *c, const struct vac_linear *l, enum vac_tile tile,
			  const void *packed, const void *bias, uint32_t rows, const void *x,
			  void *y);

/* agree.c: what is compared, in the workspace; what lies there is written over. */
struct vac_agreement {
	enum vac_tile tile;
	const struct vac_blas_algorithm *algorithm;
	uint32_t rows;    /* VAC_CUDA_FUSED_ROWS at least */
	uint8_t *x, *y;   /* rows x in, rows x out */
	uint8_t *weights; /* out x in, and the bias; may be in x */
};
/* 1: the kernel and this algorithm have the same results, 0: they have not, or one failed;
 * negative: memory was short. The linear's bias is set. */
int vac_product_agrees(struct vac_compute *c, const struct vac_linear *l,
		       const struct vac_agreement *a);

#endif
