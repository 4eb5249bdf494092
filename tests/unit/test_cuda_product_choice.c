/*
 * test_cuda_product_choice.c - when a product and its GELU are one kernel, and of which tiles:
 * where that is faster, right, and known in time.
 */
#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cuda/kernels.h"
#include "product_world.h"
#include "temp_dir.h"

static enum vac_tile tile_of(const struct vac_linear_shape *shape, uint32_t rows)
{
	struct vac_linear *linear = open_linear(shape);
	struct vac_error err;
	memset(&backend.trials, 0, sizeof(backend.trials));
	gpu.y_bytes = (uint64_t)rows * shape->out * 2;
	gpu.written = 0x3c;
	gpu.written_by_kernel = gpu.wrong ? 0x40 : 0x3c; /* 0.01 and 3 */
	gpu.room = (uintptr_t)backend.workspace + VAC_CUDA_BLAS_WORKSPACE_BYTES;
	gpu.room_end = (uintptr_t)backend.workspace + backend.workspace_bytes;
	assert_int_equal(vac_cuda_linear_prepare(&backend, linear, rows, &err), 0);
	gpu.room = 0;
	enum vac_tile tile = linear->fused;
	vac_cuda_linear_close(&backend, linear);
	return tile;
}

static bool is_fused(uint32_t rows)
{
	return tile_of(&served, rows) == VAC_TILE_128;
}

/* It is taken where it is faster than both kernels together; tried once on a machine. */
static void test_choice(void **state)
{
	(void)state;
	vac_cuda_trials_ns = INT64_MAX / 4; /* a test is in no hurry */
	gpu.kernel_us = 100, gpu.product_us = 5000;
	assert_true(is_fused(4096));
	assert_true(gpu.gelus > 0);
	unsigned launches = gpu.launches, products = gpu.products;
	gpu.kernel_us = 5000, gpu.product_us = 100;
	assert_true(is_fused(4096)); /* it is known by now */
	assert_int_equal(gpu.launches, launches);
	assert_int_equal(gpu.products, products);
	assert_false(is_fused(5120));
	gpu.launches = 0;
	assert_false(is_fused(2048));
	assert_int_equal(gpu.launches, 0);
	/* no time to try: not now, and nothing is kept of that */
	vac_cuda_trials_ns = vac_cuda_fused_ns = 0;
	gpu.kernel_us = 100, gpu.product_us = 5000;
	assert_false(is_fused(8192));
	/* a time of its own, when the others have used up theirs */
	vac_cuda_fused_ns = INT64_MAX / 4;
	assert_true(is_fused(8192));
	vac_cuda_trials_ns = INT64_MAX / 4;
	/* one that is refused is none, and fails nothing else */
	gpu.refused = VAC_CU_INVALID_VALUE;
	assert_false(is_fused(16384));
	assert_int_equal(backend.failure, 0);
	gpu.refused = 0;
	assert_false(is_fused(16384));
	vac_cuda_trials_ns = 100 * 1000000;
	vac_cuda_fused_ns = 10 * 1000000;
}

/* A load that had time for cuBLASLt's algorithms alone leaves the rest to the next one, which
 * knows them, asks for none and compares products of as many rows all the same. */
static void test_choice_by_the_next_load(void **state)
{
	(void)state;
	gpu.kernel_us = 1000, gpu.product_us = 5000;
	vac_cuda_trials_ns = vac_cuda_fused_ns = 0;
	assert_false(is_fused(4096));
	assert_int_equal(gpu.launches, 0);
	vac_cuda_trials_ns = INT64_MAX / 4;
	assert_true(is_fused(4096));
	vac_cuda_trials_ns = 100 * 1000000;
	vac_cuda_fused_ns = 10 * 1000000;
}

/* Trials that do not fit what time is left end after the first product, or before it where
 * what is known of others tells. */
static void test_choice_in_time(void **state)
{
	(void)state;
	gpu.kernel_us = gpu.product_us = 50000;
	vac_cuda_trials_ns = 120 * 1000000; /* a third for one product */
	assert_false(is_fused(4096));
	assert_int_equal(gpu.products, 1);
	assert_int_equal(gpu.launches, 0);
	/* but for the time of its own */
	assert_true(backend.trials.spent_ns >= 50 * 1000000 - vac_cuda_fused_ns);
	backend.trials = (struct vac_cuda_trials){
		.ns_each = {[VAC_DTYPE_BF16] = 50e6 / ((double)4096 * served.in * served.out)}};
	struct vac_linear *linear = open_linear(&served);
	struct vac_error err;
	assert_int_equal(vac_cuda_linear_prepare(&backend, linear, 4096, &err), 0);
	assert_int_equal(linear->fused, VAC_TILE_NONE);
	assert_int_equal(gpu.products, 1);
	assert_int_equal(gpu.launches, 0);
	vac_cuda_linear_close(&backend, linear);
	vac_cuda_trials_ns = 100 * 1000000;
}

/* Of the two tiles the faster one; of one that does not divide the columns nothing is tried. */
static void test_choice_of_tile(void **state)
{
	(void)state;
	const struct vac_linear_shape both = {
		.in = 64, .out = 384, .bias = true, .activation = VAC_ACTIVATION_GELU};
	const struct vac_linear_shape wide = {
		.in = 64, .out = 192, .bias = true, .activation = VAC_ACTIVATION_GELU};
	vac_cuda_trials_ns = INT64_MAX / 4;
	gpu.kernel_us = 3000, gpu.wide_us = 100, gpu.product_us = 6000;
	assert_int_equal(tile_of(&both, 4096), VAC_TILE_192);
	gpu.kernel_us = 100, gpu.wide_us = 3000;
	assert_int_equal(tile_of(&both, 4096), VAC_TILE_192); /* it is known by now */
	assert_int_equal(tile_of(&both, 5120), VAC_TILE_128);
	gpu.wides = 0;
	assert_int_equal(tile_of(&served, 4096), VAC_TILE_128);
	assert_int_equal(gpu.wides, 0);
	gpu.kernel_us = gpu.wide_us = 6000, gpu.product_us = 100;
	assert_int_equal(tile_of(&both, 6144), VAC_TILE_NONE);
	gpu.wide_us = 100, gpu.product_us = 6000;
	gpu.launches = gpu.wides = 0;
	assert_int_equal(tile_of(&wide, 4096), VAC_TILE_192);
	assert_true(gpu.launches > 0);
	assert_int_equal(gpu.launches, gpu.wides);
	vac_cuda_trials_ns = 100 * 1000000;
}

/* A kernel that has other results, or not all, is not taken, however fast it is. */
static void test_choice_of_what_agrees(void **state)
{
	(void)state;
	vac_cuda_trials_ns = INT64_MAX / 4;
	gpu.kernel_us = 100, gpu.product_us = 5000;
	gpu.wrong = true;
	assert_false(is_fused(4096));
	gpu.wrong = false;
	assert_false(is_fused(4096)); /* it is known by now */
	gpu.missing = 1;
	assert_false(is_fused(5120));
	gpu.missing = 0;
	assert_true(is_fused(6144));
	/* numbers, and whether a column's are another's */
	gpu.compared = &served;
	gpu.swapped = 1;
	assert_false(is_fused(7168));
	gpu.swapped = 0;
	/* row 240, the first one of those that are compared next, is row 0 */
	gpu.period = 240;
	assert_false(is_fused(8192));
	gpu.period = 0;
	temp_dir_remove(); /* what is known */
	setenv("XDG_CACHE_HOME", temp_dir_make(), 1);
	assert_true(is_fused(4096));
	vac_cuda_trials_ns = 100 * 1000000;
}

static void give_workspace(size_t bytes)
{
	free(backend.workspace);
	backend.workspace = calloc(1, bytes);
	backend.workspace_bytes = bytes;
	assert_non_null(backend.workspace);
}

/* The widest product of a full batch fills the workspace: it is tried out all the same, with
 * what lies in x as its weights; and not where not even x and y fit. */
static void test_choice_without_room(void **state)
{
	(void)state;
	const struct vac_linear_shape both = {
		.in = 64, .out = 384, .bias = true, .activation = VAC_ACTIVATION_GELU};
	/* x has room for one copy of these weights, and of those for none */
	const struct vac_linear_shape once = {
		.in = 64, .out = 3072, .bias = true, .activation = VAC_ACTIVATION_GELU};
	const struct vac_linear_shape never = {
		.in = 64, .out = 4224, .bias = true, .activation = VAC_ACTIVATION_GELU};
	const size_t needed = VAC_CUDA_BLAS_WORKSPACE_BYTES + (size_t)8192 * (64 + 384) * 2,
		     large = VAC_CUDA_BLAS_WORKSPACE_BYTES + (size_t)4096 * (64 + 3072) * 2,
		     larger = VAC_CUDA_BLAS_WORKSPACE_BYTES + (size_t)4096 * (64 + 4224) * 2;
	vac_cuda_trials_ns = INT64_MAX / 4;
	give_workspace(needed);
	gpu.kernel_us = 3000, gpu.wide_us = 100, gpu.product_us = 6000;
	backend.workspace_bytes = needed - 1;
	assert_int_equal(tile_of(&both, 8192), VAC_TILE_NONE);
	assert_int_equal(gpu.launches, 0);
	backend.workspace_bytes = needed;
	assert_int_equal(tile_of(&both, 8192), VAC_TILE_192);
	give_workspace(large);
	assert_int_equal(tile_of(&once, 4096), VAC_TILE_192);
	give_workspace(larger);
	gpu.launches = 0;
	assert_int_equal(tile_of(&never, 4096), VAC_TILE_NONE);
	assert_int_equal(gpu.launches, 0);
	vac_cuda_trials_ns = 100 * 1000000;
}

/* Writes so many bytes to the one file that the cache has of fused products. */
static void spoil(const void *what, size_t bytes)
{
	char path[PATH_MAX], name[sizeof(((struct dirent *)0)->d_name)] = "";
	const struct dirent *entry;
	assert_true(vac_cuda_cache_directory(path));
	DIR *directory = opendir(path);
	assert_non_null(directory);
	while ((entry = readdir(directory)))
		if (strstr(entry->d_name, "-fused"))
			strcpy(name, entry->d_name);
	closedir(directory);
	assert_true(*name && vac_cuda_cache_put(name, what, bytes));
}

/* What is kept and is no tile of this product counts for nothing: it is tried out again. */
static void test_choice_spoilt(void **state)
{
	(void)state;
	/* -1 to -3: trials that never ended */
	static const int32_t others[] = {VAC_TILES, -1, -2, -3, INT32_MAX, INT32_MIN, VAC_TILE_192};
	vac_cuda_trials_ns = INT64_MAX / 4;
	gpu.kernel_us = 100, gpu.product_us = 3000;
	assert_true(is_fused(4096));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		spoil(&others[i], sizeof(others[i]));
		assert_true(is_fused(4096));
	}
	spoil("tile", 3);
	assert_true(is_fused(4096));
	vac_cuda_trials_ns = 100 * 1000000;
}

/* A kernel that ends the context takes its worker along: that is tried three times, and then
 * no more, since each load would end so. */
static void test_choice_that_is_fatal(void **state)
{
	(void)state;
	vac_cuda_trials_ns = INT64_MAX / 4;
	gpu.kernel_us = 100, gpu.product_us = 3000;
	for (int i = 0; i < 4; i++) {
		gpu.launches = 0;
		gpu.fatal = true;
		assert_false(is_fused(4096));
		assert_int_equal(gpu.launches > 0, i < 3);
		assert_int_equal(backend.failure < 0, i < 3);
		gpu.fatal = false;
		backend.failure = 0; /* the next worker's */
		memset(&backend.error, 0, sizeof(backend.error));
	}
	assert_false(is_fused(4096));
	assert_true(is_fused(5120));
	vac_cuda_trials_ns = 100 * 1000000;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_choice, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_choice_by_the_next_load, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_choice_in_time, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_choice_of_tile, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_choice_of_what_agrees, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_choice_without_room, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_choice_spoilt, product_world_begin,
						product_world_end),
		cmocka_unit_test_setup_teardown(test_choice_that_is_fatal, product_world_begin,
						product_world_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
