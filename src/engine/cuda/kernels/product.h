/*
 * product.h - what the kernels of product_wgmma.cu and their launch in product.c agree upon.
 */
#ifndef VAC_PRODUCT_H
#define VAC_PRODUCT_H

#define VAC_PRODUCT_VERSION 2   /* in the names of what was measured of it: another one is faster */
#define VAC_PRODUCT_CLUSTER 2   /* blocks of a cluster */
#define VAC_PRODUCT_ROWS    128 /* of a tile of x and y */
#define VAC_PRODUCT_COLUMNS 128 /* of a tile of y: rows of W */
#define VAC_PRODUCT_WIDE    192 /* the same of product_gelu_wide_wgmma */
#define VAC_PRODUCT_DEPTH   64  /* columns of x and W that are brought at once */
#define VAC_PRODUCT_THREADS 384 /* three warpgroups */
/* of shared memory: the ring of tiles of x and W, boxes of y (two of each of two
 * warpgroups), the ring's barriers */
#define VAC_PRODUCT_RING_BYTES   (160 * 1024)
#define VAC_PRODUCT_BOX_BYTES    (VAC_PRODUCT_ROWS * 64 * 2)
#define VAC_PRODUCT_BARRIERS_AT  (VAC_PRODUCT_RING_BYTES + 4 * VAC_PRODUCT_BOX_BYTES)
#define VAC_PRODUCT_SHARED_BYTES (VAC_PRODUCT_BARRIERS_AT + 2 * 8 * 8)

#endif
