/* product_world.c - see product_world.h. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/cuda/kernels/product.h"
#include "product_world.h"
#include "temp_dir.h"

#define MULTIPROCESSORS 7 /* odd: the last has no partner */
#define WORKSPACE       (VAC_CUDA_BLAS_WORKSPACE_BYTES + ((size_t)8 << 20))

struct product_gpu gpu;
struct vac_cuda_module module;
struct vac_compute backend;
struct CUfunc_st *const the_kernel = (struct CUfunc_st *)0x10;
struct CUfunc_st *const the_wide = (struct CUfunc_st *)0x18;
struct CUfunc_st *const the_gelu = (struct CUfunc_st *)0x20;
const struct vac_linear_shape served = {
	.in = 64, .out = 128, .bias = true, .activation = VAC_ACTIVATION_GELU};

float widen(uint16_t x)
{
	uint32_t bits = (uint32_t)x << 16;
	float y;
	memcpy(&y, &bits, sizeof(y));
	return y;
}

uint16_t narrow(double x)
{
	float y = (float)x;
	uint32_t bits;
	memcpy(&bits, &y, sizeof(bits));
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double gelu(double x)
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
						sum += (double)load(&x,
								    gpu.period ? r % gpu.period : r,
								    k) *
						       load(&w, c, k);
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
	return gpu.fatal && gpu.launches ? VAC_CU_ILLEGAL_ADDRESS : VAC_CU_OK;
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
	(void)object, (void)attribute, (void)from, (void)bytes;
	return 0;
}
static int set_desc(vac_blas_object object, int attribute, const void *from, size_t bytes)
{
	(void)object;
	if (attribute == VAC_BLAS_DESC_BIAS_POINTER) {
		assert_int_equal(bytes, sizeof(gpu.bias));
		memcpy(&gpu.bias, from, bytes);
	}
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
	.desc_set = set_desc,
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

int product_world_begin(void **state)
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

int product_world_end(void **state)
{
	(void)state;
	free(backend.workspace);
	assert_null(backend.linears);
	temp_dir_remove();
	return 0;
}

struct vac_linear *open_linear(const struct vac_linear_shape *shape)
{
	struct vac_linear *linear;
	struct vac_error err;
	assert_int_equal(vac_cuda_linear_open(&backend, shape, &linear, &err), 0);
	return linear;
}
