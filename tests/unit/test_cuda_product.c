/*
 * test_cuda_product.c - a product and its GELU as one kernel, without a GPU: a driver of the
 * test's own reads the tensor maps as the kernel would and computes each tile; and when that
 * kernel is chosen. Elements are bfloat16: the upper half of a float.
 */
#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/cuda/backend.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/kernels/product.h"
#include "engine/cuda/linear.h"
#include "temp_dir.h"

#define MULTIPROCESSORS 7 /* odd: the last has no partner */
#define WORKSPACE       (VAC_CUDA_BLAS_WORKSPACE_BYTES + ((size_t)8 << 20))

static struct CUfunc_st *const the_kernel = (struct CUfunc_st *)0x10;
static struct CUfunc_st *const the_wide = (struct CUfunc_st *)0x18;
static struct CUfunc_st *const the_gelu = (struct CUfunc_st *)0x20;

static struct {
	unsigned launches, wides, products, gelus; /* of the kernels, by cuBLASLt, of GELU alone */
	unsigned kernel_us, wide_us, product_us;
	uint64_t rows; /* of cuBLASLt's products: of its layouts */
	bool computes;
	/* both compute where y is marked, so that they can be compared */
	const struct vac_linear_shape *compared;
	uint32_t swapped; /* columns that the kernel writes to each other's place */
	const uint16_t *bias;
	bool to_activate;
	uint64_t y_bytes; /* where nothing computes: of what is written with these */
	uint8_t written, written_by_kernel;
	bool wrong;               /* the kernel's number is another */
	uint32_t missing;         /* rows at the end that it leaves out */
	int refused;              /* what tensor_map answers */
	uintptr_t room, room_end; /* where trials have their matrices; 0: it is none */
} gpu;

static float widen(uint16_t x)
{
	uint32_t bits = (uint32_t)x << 16;
	float y;
	memcpy(&y, &bits, sizeof(y));
	return y;
}

static uint16_t narrow(double x)
{
	float y = (float)x;
	uint32_t bits;
	memcpy(&bits, &y, sizeof(bits));
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double gelu(double x)
{
	return 0.5 * x * (1 + erf(x / sqrt(2)));
}

/* ---- the driver ---- */

/* What is in a map: the matrix and the box. */
struct map {
	uint16_t *at;
	uint64_t columns, rows;
	unsigned box_columns, box_rows;
};

static int encode(struct vac_cu_tensor_map *map, int type, unsigned rank, void *at,
		  const uint64_t *sizes, const uint64_t *strides, const unsigned *box,
		  const unsigned *steps, int interleave, int swizzle, int promotion, int fill)
{
	const struct map in = {at, sizes[0], sizes[1], box[0], box[1]};
	if (gpu.refused)
		return gpu.refused;
	assert_int_equal(type, VAC_CU_TENSOR_BF16);
	assert_int_equal(rank, 2);
	assert_int_equal(strides[0], sizes[0] * 2);
	assert_true(steps[0] == 1 && steps[1] == 1 && interleave == 0 && fill == 0);
	assert_int_equal(swizzle, VAC_CU_TENSOR_SWIZZLE_128);
	assert_int_equal(promotion, VAC_CU_TENSOR_L2_128);
	/* as the driver's manual has it: addresses of 16 bytes, the swizzle's 128 bytes */
	assert_true((uintptr_t)at % 16 == 0 && strides[0] % 16 == 0);
	assert_true(box[0] * 2 == 128 && box[1] >= 1 && box[1] <= 256);
	assert_int_equal((uintptr_t)map % 64, 0);
	memcpy(map, &in, sizeof(in));
	return VAC_CU_OK;
}

static float load(const struct map *m, uint64_t row, uint64_t column)
{
	assert_true(column < m->columns);
	return row < m->rows ? widen(m->at[row * m->columns + column]) : 0;
}

/* Tile by tile, as product_wgmma.cu says; each of y once. */
static void compute(uint32_t columns, unsigned blocks, void **parameters)
{
	const uint32_t tiles = *(uint32_t *)parameters[0], wide = *(uint32_t *)parameters[1],
		       depth = *(uint32_t *)parameters[2];
	const uint16_t *bias = *(const uint16_t **)parameters[3];
	struct map x, w, y;
	memcpy(&x, parameters[4], sizeof(x));
	memcpy(&w, parameters[5], sizeof(w));
	memcpy(&y, parameters[6], sizeof(y));
	assert_int_equal(blocks % VAC_PRODUCT_CLUSTER, 0);
	assert_true(blocks <= MULTIPROCESSORS);
	assert_int_equal(x.box_rows, VAC_PRODUCT_ROWS);
	assert_int_equal(w.box_rows, columns / VAC_PRODUCT_CLUSTER);
	assert_int_equal(y.box_rows, VAC_PRODUCT_ROWS);
	for (uint32_t block = 0; block < blocks; block++)
		for (uint32_t tile = block / VAC_PRODUCT_CLUSTER; tile < tiles;
		     tile += blocks / VAC_PRODUCT_CLUSTER) {
			const uint64_t row = (uint64_t)(tile / wide * VAC_PRODUCT_CLUSTER +
							block % VAC_PRODUCT_CLUSTER) *
					     VAC_PRODUCT_ROWS;
			const uint64_t column = (uint64_t)tile % wide * columns;
			for (uint64_t r = row; r < row + VAC_PRODUCT_ROWS && r < y.rows; r++)
				for (uint64_t c = column; c < column + columns; c++) {
					double sum = widen(bias[c]);
					for (uint64_t k = 0; k < depth * VAC_PRODUCT_DEPTH; k++)
						sum += (double)load(&x, r, k) * load(&w, c, k);
					if (!gpu.compared)
						assert_int_equal(y.at[r * y.columns + c], 0xffff);
					y.at[r * y.columns + (c ^ gpu.swapped)] = narrow(gelu(sum));
				}
		}
}

static void is_in_room(const void *at, uint64_t bytes)
{
	assert_true((uintptr_t)at >= gpu.room && (uintptr_t)at + bytes <= gpu.room_end);
}

/* A trial reads and writes nothing but its room, and what it reads stays as it is. */
static void check_room(void **parameters)
{
	struct map all[3];
	uint64_t bytes[3];
	for (int i = 0; i < 3; i++) {
		memcpy(&all[i], parameters[4 + i], sizeof(all[i]));
		bytes[i] = all[i].rows * all[i].columns * 2;
		is_in_room(all[i].at, bytes[i]);
	}
	for (int i = 0; i < 2; i++)
		assert_true((uintptr_t)all[i].at + bytes[i] <= (uintptr_t)all[2].at ||
			    (uintptr_t)all[2].at + bytes[2] <= (uintptr_t)all[i].at);
	is_in_room(*(const void **)parameters[3], all[2].columns * 2);
}

/* The same number everywhere; or as it should be, where that is looked at. */
static void answer(uint32_t columns, unsigned blocks, void **parameters)
{
	struct map y;
	memcpy(&y, parameters[6], sizeof(y));
	if (gpu.compared) {
		if (*y.at == 0xffff)
			compute(columns, blocks, parameters);
		return;
	}
	memset(y.at, gpu.written_by_kernel, (y.rows - gpu.missing) * y.columns * 2);
}

static int launch(struct CUfunc_st *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
		  unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
		  struct CUstream_st *stream, void **parameters, void **extra)
{
	(void)stream, (void)extra;
	if (function == the_gelu) {
		uint16_t *y = *(uint16_t **)parameters[1];
		for (uint64_t i = 0; gpu.to_activate && i < *(uint64_t *)parameters[0]; i++)
			y[i] = narrow(gelu(widen(y[i])));
		gpu.to_activate = false;
		gpu.gelus++;
		return VAC_CU_OK;
	}
	assert_true(function == the_kernel || function == the_wide);
	assert_true(grid_y == 1 && grid_z == 1 && block_y == 1 && block_z == 1);
	assert_int_equal(block_x, 3 * 128);
	/* what a block may have on this architecture */
	assert_true(shared_bytes <= 227 * 1024);
	gpu.launches++;
	gpu.wides += function == the_wide;
	if (gpu.room)
		check_room(parameters);
	usleep(function == the_wide ? gpu.wide_us : gpu.kernel_us);
	(gpu.computes ? compute : answer)(
		function == the_wide ? VAC_PRODUCT_WIDE : VAC_PRODUCT_COLUMNS, grid_x, parameters);
	return VAC_CU_OK;
}

static int attribute_of(int *value, int attribute, int device)
{
	(void)device;
	assert_int_equal(attribute, VAC_CU_ATTRIBUTE_MULTIPROCESSORS);
	*value = MULTIPROCESSORS;
	return VAC_CU_OK;
}

static int set_attribute(struct CUfunc_st *function, int attribute, int value)
{
	assert_true(function == the_kernel || function == the_wide);
	assert_int_equal(attribute, VAC_CU_FUNC_MAX_DYNAMIC_SHARED);
	assert_int_equal(value, VAC_PRODUCT_SHARED_BYTES);
	return VAC_CU_OK;
}

static int synchronize(struct CUstream_st *stream)
{
	(void)stream;
	return VAC_CU_OK;
}

static int tell(int result, const char **text)
{
	(void)result;
	*text = "refused";
	return VAC_CU_OK;
}

static int upload(vac_cu_address to, const void *from, size_t bytes, struct CUstream_st *stream)
{
	(void)stream;
	memcpy((void *)(uintptr_t)to, from, bytes);
	return VAC_CU_OK;
}
static int download(void *to, vac_cu_address from, size_t bytes, struct CUstream_st *stream)
{
	(void)stream;
	memcpy(to, (const void *)(uintptr_t)from, bytes);
	return VAC_CU_OK;
}

static const struct vac_cuda cuda = {
	.tensor_map = encode,
	.upload = upload,
	.download = download,
	.launch = launch,
	.device_attribute = attribute_of,
	.func_set_attribute = set_attribute,
	.stream_synchronize = synchronize,
	.error_name = tell,
	.error_string = tell,
};

/* ---- cuBLASLt, which computes nothing ---- */

static int property(int which, int *value)
{
	*value = which;
	return 0;
}
static int make_desc(vac_blas_object *out, int compute_type, int type)
{
	(void)compute_type, (void)type;
	*out = NULL;
	return 0;
}
static int set(vac_blas_object object, int attribute, const void *from, size_t bytes)
{
	(void)object, (void)bytes;
	if (attribute == VAC_BLAS_DESC_BIAS_POINTER)
		gpu.bias = *(const uint16_t *const *)from;
	return 0;
}
static int make_layout(vac_blas_object *out, int type, uint64_t rows, uint64_t columns, int64_t ld)
{
	(void)type, (void)rows, (void)ld;
	gpu.rows = columns; /* column-major */
	*out = NULL;
	return 0;
}
static int set_layout(vac_blas_object object, int attribute, const void *from, size_t bytes)
{
	(void)object;
	assert_int_equal(attribute, VAC_BLAS_LAYOUT_COLS);
	assert_int_equal(bytes, sizeof(gpu.rows));
	memcpy(&gpu.rows, from, bytes);
	return 0;
}
static int make(vac_blas_object *out)
{
	*out = NULL;
	return 0;
}
static int drop(vac_blas_object object)
{
	(void)object;
	return 0;
}
static int heuristic(struct cublasLtContext *handle, vac_blas_object desc, vac_blas_object a,
		     vac_blas_object b, vac_blas_object c, vac_blas_object d,
		     vac_blas_object preference, int wanted, struct vac_blas_choice *out,
		     int *count)
{
	(void)handle, (void)desc, (void)a, (void)b, (void)c, (void)d, (void)preference,
		(void)wanted;
	memset(out, 0, sizeof(*out));
	*count = 1;
	return 0;
}
static void multiply(const uint16_t *w, const uint16_t *x, uint16_t *y)
{
	const uint32_t in = gpu.compared->in, out = gpu.compared->out;
	for (size_t r = 0; r < gpu.rows; r++)
		for (size_t c = 0; c < out; c++) {
			float sum = widen(gpu.bias[c]);
			for (size_t k = 0; k < in; k++)
				sum += widen(x[r * in + k]) * widen(w[c * in + k]);
			y[r * out + c] = narrow(sum);
		}
	gpu.to_activate = true;
}

static int matmul(struct cublasLtContext *handle, vac_blas_object desc, const void *alpha,
		  const void *a, vac_blas_object a_layout, const void *b, vac_blas_object b_layout,
		  const void *beta, const void *c, vac_blas_object c_layout, void *d,
		  vac_blas_object d_layout, const struct vac_blas_algorithm *algorithm,
		  void *workspace, size_t workspace_bytes, struct CUstream_st *stream)
{
	(void)handle, (void)desc, (void)alpha, (void)a_layout, (void)b_layout;
	(void)beta, (void)c, (void)c_layout, (void)d_layout, (void)algorithm;
	(void)workspace, (void)workspace_bytes, (void)stream;
	gpu.products++;
	/* as long as is said for a full batch, and fewer rows take less */
	usleep((unsigned)(gpu.product_us * (gpu.rows < 4096 ? gpu.rows : 4096) / 4096));
	if (!gpu.compared)
		memset(d, gpu.written, gpu.y_bytes);
	else if (*(uint16_t *)d == 0xffff)
		multiply(a, b, d);
	return 0;
}

static const struct vac_blas blas = {
	.property = property,
	.desc_create = make_desc,
	.desc_destroy = drop,
	.desc_set = set,
	.layout_create = make_layout,
	.layout_destroy = drop,
	.layout_set = set_layout,
	.preference_create = make,
	.preference_destroy = drop,
	.preference_set = set,
	.heuristic = heuristic,
	.matmul = matmul,
};

/* ---- a backend of these ---- */

static struct vac_cuda_module module;
static struct vac_compute backend;
static const struct vac_linear_shape served = {
	.in = 64, .out = 128, .bias = true, .activation = VAC_ACTIVATION_GELU};

static int begin(void **state)
{
	(void)state;
	setenv("XDG_CACHE_HOME", temp_dir_make(), 1);
	memset(&gpu, 0, sizeof(gpu));
	module = (struct vac_cuda_module){.functions = {.product_gelu_wgmma = the_kernel,
							.product_gelu_wide_wgmma = the_wide,
							.activate_gelu = the_gelu}};
	backend = (struct vac_compute){.cuda = &cuda,
				       .blas = &blas,
				       .module = &module,
				       .dtype = VAC_DTYPE_BF16,
				       .architecture = 90,
				       .workspace = calloc(1, WORKSPACE),
				       .workspace_bytes = WORKSPACE};
	assert_non_null(backend.workspace);
	return 0;
}

static int end(void **state)
{
	(void)state;
	free(backend.workspace);
	assert_null(backend.linears);
	temp_dir_remove();
	return 0;
}

static struct vac_linear *open_linear(const struct vac_linear_shape *shape)
{
	struct vac_linear *linear;
	struct vac_error err;
	assert_int_equal(vac_cuda_linear_open(&backend, shape, &linear, &err), 0);
	return linear;
}

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

/* ---- tests ---- */

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
	static const int32_t others[] = {VAC_TILES, -1, INT32_MAX, INT32_MIN, VAC_TILE_192};
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
		cmocka_unit_test_setup_teardown(test_computes, begin, end),
		cmocka_unit_test_setup_teardown(test_computes_wide, begin, end),
		cmocka_unit_test_setup_teardown(test_what_it_serves, begin, end),
		cmocka_unit_test_setup_teardown(test_choice, begin, end),
		cmocka_unit_test_setup_teardown(test_choice_by_the_next_load, begin, end),
		cmocka_unit_test_setup_teardown(test_choice_in_time, begin, end),
		cmocka_unit_test_setup_teardown(test_choice_of_tile, begin, end),
		cmocka_unit_test_setup_teardown(test_choice_of_what_agrees, begin, end),
		cmocka_unit_test_setup_teardown(test_choice_without_room, begin, end),
		cmocka_unit_test_setup_teardown(test_choice_spoilt, begin, end),
		cmocka_unit_test_setup_teardown(test_refused, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
