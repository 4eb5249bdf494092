/*
 * product_world.h - a GPU and a cuBLASLt for tests of the product with its GELU as one kernel: a
 * driver that reads the tensor maps as the kernel would and computes each tile, or takes as
 * long as it is told. Elements are bfloat16: the upper half of a float.
 */
#ifndef VAC_TESTS_PRODUCT_WORLD_H
#define VAC_TESTS_PRODUCT_WORLD_H
#include <stdbool.h>
#include <stdint.h>

#include "engine/cuda/backend.h"
#include "engine/cuda/linear.h"

struct product_gpu {
	unsigned launches, wides, products, gelus; /* of the kernels, by cuBLASLt, of GELU alone */
	unsigned kernel_us, wide_us, product_us;
	uint64_t rows; /* of cuBLASLt's products: of its layouts */
	bool computes;
	/* both compute where y is marked, so that they can be compared */
	const struct vac_linear_shape *compared;
	uint32_t swapped; /* columns that the kernel writes to each other's place */
	uint32_t period;  /* after so many rows it reads the first ones again; 0: never */
	const uint16_t *bias;
	bool to_activate;
	uint64_t y_bytes; /* where nothing computes: of what is written with these */
	uint8_t written, written_by_kernel;
	bool fatal;               /* the kernel ends the context */
	bool wrong;               /* its number is another */
	uint32_t missing;         /* rows at the end that it leaves out */
	int refused;              /* what tensor_map answers */
	uintptr_t room, room_end; /* where trials have their matrices; 0: it is none */
};

extern struct product_gpu gpu;
extern struct vac_cuda_module module;
extern struct vac_compute backend;
/* 64 x 128, with bias and GELU */
extern const struct vac_linear_shape served;
/* "functions" of the module */
extern struct CUfunc_st *const the_kernel, *const the_wide, *const the_gelu;

float widen(uint16_t x);
uint16_t narrow(double x);
double gelu(double x);

/* A backend of these, whose cache is empty; for cmocka. */
int product_world_begin(void **state);
int product_world_end(void **state);
struct vac_linear *open_linear(const struct vac_linear_shape *shape);

#endif
