/*
 * test_cuda_product.c - a product and its GELU as one kernel, without a GPU: what it is given to
 * compute, and for which products.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "product_world.h"

static uint16_t *elements(size_t count, uint16_t (*of)(size_t at))
{
	uint16_t *all = aligned_alloc(64, (count * 2 + 63) / 64 * 64);
	assert_non_null(all);
	for (size_t i = 0; i < count; i++)
		all[i] = of(i);
	return all;
}
static uint16_t nothing_yet(size_t at)
{
	(void)at;
	return 0xffff; /* no number, which the kernel never writes */
}
static uint16_t eighths(size_t at)
{
	return narrow((double)(at * 7919 % 17) / 8 - 1);
}
static uint16_t sixteenths(size_t at)
{
	return narrow((double)(at * 104729 % 13) / 16 - 0.375);
}

/* Every row is computed once, rows that fill no tile, too, and nothing behind them. */
static void computes(enum vac_tile tile)
{
	const uint32_t rows = VAC_CUDA_FUSED_ROWS + 12, rounded = VAC_CUDA_FUSED_ROWS + 16,
		       out = 384; /* of both tiles */
	const struct vac_linear_shape shape = {
		.in = 64, .out = out, .bias = true, .activation = VAC_ACTIVATION_GELU};
	uint16_t *x = elements((size_t)rounded * 64, eighths),
		 *w = elements((size_t)out * 64, sixteenths), *bias = elements(out, eighths),
		 *y = elements((size_t)rounded * out, nothing_yet);
	struct vac_linear *linear = open_linear(&shape);
	struct vac_error err;
	linear->fused = tile;
	gpu.computes = true;
	assert_int_equal(vac_cuda_linear(&backend, linear, w, bias, rows, x, y, &err), 0);
	assert_int_equal(backend.failure, 0);
	assert_int_equal(gpu.launches, 1);
	assert_int_equal(gpu.wides, tile == VAC_TILE_192);
	assert_int_equal(gpu.products + gpu.gelus, 0);
	for (size_t row = 0; row < rounded; row++)
		for (size_t column = 0; column < out; column++) {
			double sum = widen(bias[column]);
			for (size_t k = 0; k < 64; k++)
				sum += (double)widen(x[row * 64 + k]) * widen(w[column * 64 + k]);
			assert_int_equal(y[row * out + column], narrow(gelu(sum)));
		}
	/* fewer are cuBLASLt's */
	assert_int_equal(
		vac_cuda_linear(&backend, linear, w, bias, VAC_CUDA_FUSED_ROWS - 8, x, y, &err), 0);
	assert_int_equal(gpu.launches, 1);
	assert_int_equal(gpu.products, 1);
	assert_int_equal(gpu.gelus, 1);
	vac_cuda_linear_close(&backend, linear);
	free(x), free(w), free(bias), free(y);
}

static void test_computes(void **state)
{
	(void)state;
	computes(VAC_TILE_128);
}

static void test_computes_wide(void **state)
{
	(void)state;
	computes(VAC_TILE_192);
}

static void test_what_it_serves(void **state)
{
	(void)state;
	const struct vac_linear_shape others[] = {
		{.in = 96, .out = 128, .bias = true, .activation = VAC_ACTIVATION_GELU},
		{.in = 64, .out = 192, .bias = true, .activation = VAC_ACTIVATION_GELU},
		{.in = 64, .out = 128, .bias = false, .activation = VAC_ACTIVATION_GELU},
		{.in = 64, .out = 128, .bias = true, .activation = VAC_ACTIVATION_GELU_TANH},
		{.in = 64, .out = 128, .bias = true, .activation = VAC_ACTIVATION_NONE},
	};
	struct vac_linear *linear = open_linear(&served);
	assert_true(vac_product_serves(&backend, linear, VAC_TILE_128));
	assert_false(vac_product_serves(&backend, linear, VAC_TILE_192)); /* 128 columns */
	assert_false(vac_product_serves(&backend, linear, VAC_TILE_NONE));
	module.functions.product_gelu_wgmma = NULL; /* another GPU */
	assert_false(vac_product_serves(&backend, linear, VAC_TILE_128));
	module.functions.product_gelu_wgmma = the_kernel;
	vac_cuda_linear_close(&backend, linear);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		linear = open_linear(&others[i]);
		assert_false(vac_product_serves(&backend, linear, VAC_TILE_128));
		assert_int_equal(vac_product_serves(&backend, linear, VAC_TILE_192), i == 1);
		vac_cuda_linear_close(&backend, linear);
	}
}

/* What the driver refuses is noted, and told by whoever waits for the batch. */
static void test_refused(void **state)
{
	(void)state;
	struct vac_linear *linear = open_linear(&served);
	uint16_t *x = elements(4096 * 64, eighths), *y = elements(4096 * 128, nothing_yet);
	struct vac_error err;
	linear->fused = VAC_TILE_128;
	gpu.refused = VAC_CU_INVALID_VALUE;
	assert_int_equal(vac_cuda_linear(&backend, linear, x, x, 4096, x, y, &err), 0);
	assert_int_equal(gpu.launches, 0);
	assert_true(backend.failure < 0);
	assert_non_null(strstr(backend.error.message, "a product"));
	/* and until then nothing is computed of what may be garbage */
	gpu.refused = 0;
	assert_int_equal(vac_cuda_linear(&backend, linear, x, x, 4096, x, y, &err), 0);
	assert_int_equal(gpu.launches, 0);
	assert_true(backend.failure < 0);
	vac_cuda_linear_close(&backend, linear);
	free(x), free(y);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_computes, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_computes_wide, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_what_it_serves, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_refused, product_world_begin,
						product_world_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
