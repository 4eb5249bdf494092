/*
 * product.h - what the kernel of product_wgmma.cu and its launch in product.c agree upon.
 */
#ifndef VAC_PRODUCT_H
#define VAC_PRODUCT_H

#define VAC_PRODUCT_VERSION 1   /* in the names of what was measured of it: another one is faster */
#define VAC_PRODUCT_CLUSTER 2   /* blocks of a cluster */
#define VAC_PRODUCT_ROWS    128 /* of a tile of x and y */
#define VAC_PRODUCT_COLUMNS 128 /* of a tile of y: rows of W */
#define VAC_PRODUCT_DEPTH   64  /* columns of x and W that are brought at once */
#define VAC_PRODUCT_STAGES  5   /* of the ring that they are brought to */
#define VAC_PRODUCT_THREADS 384 /* three warpgroups */
/* of shared memory: the ring, two tiles of y, the ring's barriers */
#define VAC_PRODUCT_STAGE_BYTES ((VAC_PRODUCT_ROWS + VAC_PRODUCT_COLUMNS) * VAC_PRODUCT_DEPTH * 2)
#define VAC_PRODUCT_TILE_BYTES  (VAC_PRODUCT_ROWS * VAC_PRODUCT_COLUMNS * 2)
#define VAC_PRODUCT_BARRIERS_AT                                                                    \
	(VAC_PRODUCT_STAGES * VAC_PRODUCT_STAGE_BYTES + 2 * VAC_PRODUCT_TILE_BYTES)
#define VAC_PRODUCT_SHARED_BYTES (VAC_PRODUCT_BARRIERS_AT + 2 * VAC_PRODUCT_STAGES * 8)

#endif
