/*
 * agree.c - whether a kernel of ours gives what cuBLASLt and GELU after it give, asked on the
 * very GPU before it is taken: compilers and drivers are many, and the machines that it was
 * tried on few. On the engine's thread, while nothing is computed.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/kernels/product.h"
#include "engine/cuda/linear.h"

/* What is compared of y: rows of the first tile, of the border of two clusters, and the last. */
#define WINDOWS     3
#define WINDOW_ROWS 32u
#define NUMBERS     65521 /* a prime: no two rows of a matrix begin alike */

static uint32_t first_row(uint32_t rows, int window)
{
	const uint32_t above = VAC_PRODUCT_CLUSTER * VAC_PRODUCT_ROWS;
	return window == 0 ? 0 : window == 1 ? above - WINDOW_ROWS / 2 : rows - WINDOW_ROWS;
}

/* Of an eighth to a quarter, of both signs, so that sums are about as large as a model's. */
static void make_numbers(enum vac_dtype dtype, uint16_t *numbers)
{
	const uint16_t fraction = dtype == VAC_DTYPE_F16 ? 1023 : 127,
		       eighth = dtype == VAC_DTYPE_F16 ? 12 << 10 : 124 << 7;
	uint32_t state = 1;
	for (size_t i = 0; i < NUMBERS; i++) {
		state = state * 1664525 + 1013904223;
		numbers[i] = (uint16_t)((state >> 16 & (fraction | 0x8000)) | eighth);
	}
}

/* With all but so many of them. */
static void fill(struct vac_compute *c, uint8_t *to, uint64_t bytes, const uint16_t *numbers,
		 uint32_t skipped)
{
	const uint64_t most = (NUMBERS - skipped) * sizeof(*numbers);
	for (uint64_t at = 0; at < bytes; at += most)
		vac_cuda_upload(c, to + at, numbers + skipped,
				bytes - at < most ? bytes - at : most);
}

/* For each window: marked as no numbers, or read. */
static void each_window(struct vac_compute *c, uint32_t rows, uint64_t row_bytes, uint8_t *y,
			uint8_t *host, bool mark)
{
	const size_t bytes = WINDOW_ROWS * row_bytes;
	if (mark)
		memset(host, 0xff, WINDOWS * bytes);
	for (int i = 0; i < WINDOWS; i++) {
		uint8_t *there = y + first_row(rows, i) * row_bytes, *here = host + i * bytes;
		if (mark)
			vac_cuda_upload(c, there, here, bytes);
		else
			vac_cuda_download(c, here, there, bytes);
	}
}

static bool agree(enum vac_dtype dtype, const uint16_t *ours, const uint16_t *theirs, size_t count)
{
	/* some steps of the type: theirs is rounded before GELU, too */
	const float most = dtype == VAC_DTYPE_F16 ? 4e-3f : 3e-2f;
	bool good = true;
	for (size_t i = 0; i < count; i++) {
		float a, b;
		vac_to_floats(dtype, ours + i, &a, 1);
		vac_to_floats(dtype, theirs + i, &b, 1);
		good = good && fabsf(a - b) <= most * (1 + fabsf(b)); /* not of no numbers */
	}
	return good;
}

/* Both, one after the other; false: one failed. */
static bool compute(struct vac_compute *c, const struct vac_linear *l,
		    const struct vac_agreement *a, uint8_t *ours, uint8_t *theirs)
{
	const uint64_t row_bytes = (uint64_t)l->shape.out * 2;
	int status = 0;
	each_window(c, a->rows, row_bytes, a->y, ours, true);
	vac_product_multiply(c, l, a->tile, a->weights, a->weights, a->rows, a->x, a->y);
	each_window(c, a->rows, row_bytes, a->y, ours, false);
	vac_cuda_note(c, c->cuda->stream_synchronize(c->stream), "comparing a product");
	each_window(c, a->rows, row_bytes, a->y, theirs, true);
	status = vac_linear_multiply(c, l, a->weights, a->x, a->y, a->algorithm);
	vac_cuda_activate(c, l->shape.activation, (uint64_t)a->rows * l->shape.out, a->y);
	each_window(c, a->rows, row_bytes, a->y, theirs, false);
	vac_cuda_note(c, c->cuda->stream_synchronize(c->stream), "comparing a product");
	return vac_cuda_failed(c, NULL) == 0 && status == 0;
}

int vac_product_agrees(struct vac_compute *c, const struct vac_linear *l,
		       const struct vac_agreement *a)
{
	const struct vac_linear_shape *s = &l->shape;
	const uint64_t x_row = (uint64_t)s->in * 2, y_bytes = WINDOW_ROWS * (uint64_t)s->out * 2;
	uint16_t *numbers = malloc(NUMBERS * sizeof(*numbers));
	uint8_t *read = malloc(2 * WINDOWS * y_bytes), *other = read + WINDOWS * y_bytes;
	int agrees = -1;
	if (numbers && read) {
		make_numbers(l->dtype, numbers);
		fill(c, a->weights, x_row * s->out, numbers, 0);
		for (int i = 0; i < WINDOWS; i++) /* each with other rows than the rest */
			fill(c, a->x + first_row(a->rows, i) * x_row, WINDOW_ROWS * x_row, numbers,
			     1000u * (uint32_t)(i + 1));
		agrees = compute(c, l, a, read, other) &&
			 agree(l->dtype, (const uint16_t *)read, (const uint16_t *)other,
			       WINDOWS * WINDOW_ROWS * (size_t)s->out);
	}
	free(numbers);
	free(read);
	return agrees;
}
