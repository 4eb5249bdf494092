/*
 * kernels_check.cu - each kernel of src/engine/cuda/kernels by itself against sums in
 * double precision on the host, in buffers of exactly the bytes that it may touch, and
 * with nothing in them that it does not write. So that compute-sanitizer sees our kernels
 * alone: cuBLASLt's cannot run under some of its tools, and initcheck does not know what
 * they have written. The part racecheck of tests/gpu/run compiles and runs it:
 *
 *   nvcc -std=c++17 -arch=native -DVAC_ELEMENT=16 -I KERNELS -o check kernels_check.cu
 *
 * VAC_ELEMENT: 16 half, 17 bfloat16, 32 float; VAC_WGMMA: the code is for sm_90a alone. Exit
 * status: 0 all within their bounds.
 */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "activation.cu"
#include "attention.cu"
#include "attention_mma.cu"
#include "attention_wgmma.cu"
#include "convert.cu"
#include "norm.cu"
#include "pool.cu"
#include "product_wgmma.cu"

static int failures;

static void must(cudaError_t result, const char *what)
{
	if (result == cudaSuccess)
		return;
	printf("%s: %s\n", what, cudaGetErrorString(result));
	exit(1);
}

static element narrow(float x)
{
#if VAC_ELEMENT == 32
	return x;
#elif VAC_ELEMENT == 16
	return __half_as_ushort(__float2half(x));
#else
	return __bfloat16_as_ushort(__float2bfloat16(x));
#endif
}

static double wide(element x)
{
#if VAC_ELEMENT == 32
	return x;
#elif VAC_ELEMENT == 16
	return __half2float(__ushort_as_half(x));
#else
	return __bfloat162float(__ushort_as_bfloat16(x));
#endif
}

/* Of a result of about 1: an element's rounding, with some to spare for sums of them. */
static const double bound = VAC_ELEMENT == 32 ? 2e-5 : VAC_ELEMENT == 16 ? 4e-3 : 3e-2;

/* On the device, of exactly so many; not written until it is. */
template <class T> struct Buffer {
	T *at;
	size_t count;
	explicit Buffer(size_t n) : count(n)
	{
		must(cudaMalloc(&at, n * sizeof(T)), "cudaMalloc");
	}
	explicit Buffer(const std::vector<T> &from) : Buffer(from.size())
	{
		must(cudaMemcpy(at, from.data(), count * sizeof(T), cudaMemcpyHostToDevice),
		     "copying there");
	}
	~Buffer()
	{
		cudaFree(at);
	}
	std::vector<T> read() const
	{
		std::vector<T> to(count);
		must(cudaDeviceSynchronize(), "a kernel");
		must(cudaMemcpy(to.data(), at, count * sizeof(T), cudaMemcpyDeviceToHost),
		     "copying back");
		return to;
	}
};

static std::vector<element> random_elements(size_t count, double spread)
{
	std::vector<element> all(count);
	for (element &x : all)
		x = narrow((float)((rand() / (double)RAND_MAX * 2 - 1) * spread));
	return all;
}

static void compare(const char *name, int detail, const std::vector<double> &expected,
		    const std::vector<double> &got)
{
	double worst = 0;
	size_t bad = 0, first = 0;
	for (size_t i = 0; i < expected.size(); i++) {
		double error = std::fabs(expected[i] - got[i]) / (1 + std::fabs(expected[i]));
		worst = std::fmax(worst, error);     /* of a number and a NaN the number */
		if (!(error <= bound) && bad++ == 0) /* a NaN is not */
			first = i;
	}
	failures += bad != 0;
	printf("%-20s%6d  worst error %.1e", name, detail, worst);
	if (bad)
		printf("  FAILED: %zu of %zu, the first %zu: %g instead of %g", bad,
		       expected.size(), first, got[first], expected[first]);
	printf("\n");
}

static std::vector<double> widen(const std::vector<element> &from)
{
	std::vector<double> to;
	for (element x : from)
		to.push_back(wide(x));
	return to;
}

/* ---- attention ---- */

static const std::vector<u32> starts = {0, 1, 41, 105, 170, 299, 499};

typedef void mma_kernel(u32, float, const u32 *, const element *, element *);

static std::vector<double> attend_on_host(const std::vector<element> &qkv, int heads, int size)
{
	size_t hidden = (size_t)heads * size, stride = 3 * hidden;
	std::vector<double> out(starts.back() * hidden);
	for (size_t s = 0; s + 1 < starts.size(); s++)
		for (u32 q = starts[s]; q < starts[s + 1]; q++)
			for (int h = 0; h < heads; h++) {
				std::vector<double> weights;
				double most = -1e300, total = 0;
				for (u32 k = starts[s]; k < starts[s + 1]; k++) {
					double dot = 0;
					for (int i = 0; i < size; i++)
						dot += wide(qkv[q * stride + h * size + i]) *
						       wide(qkv[k * stride + hidden + h * size +
								i]);
					weights.push_back(dot / std::sqrt(size));
					most = std::fmax(most, weights.back());
				}
				for (double &w : weights)
					total += w = std::exp(w - most);
				for (u32 k = starts[s]; k < starts[s + 1]; k++)
					for (int i = 0; i < size; i++)
						out[q * hidden + h * size + i] +=
							weights[k - starts[s]] / total *
							wide(qkv[k * stride + 2 * hidden +
								 h * size + i]);
			}
	return out;
}

/* tiles: of 64 queries a block; 0: attention_any. */
static void check_attention(const char *name, mma_kernel *kernel, int size, int tiles, u32 shared)
{
	const int heads = 2;
	const u32 longest = 200, sequences = (u32)starts.size() - 1;
	const float scale = 1 / std::sqrt((float)size), log2_e = 1.44269504f;
	std::vector<element> qkv = random_elements((size_t)starts.back() * 3 * heads * size, 2);
	Buffer<element> in(qkv), out((size_t)starts.back() * heads * size);
	Buffer<u32> at(starts);
	if (tiles) {
		const dim3 grid((longest + 64 * tiles - 1) / (64 * tiles), heads, sequences);
		must(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
					  (int)shared),
		     name);
		kernel<<<grid, 128, shared>>>(heads, scale * log2_e, at.at, in.at, out.at);
	} else {
		const dim3 grid((longest + 3) / 4, heads, sequences);
		attention_any<<<grid, 128, 4 * size * sizeof(float)>>>(heads, size, scale, at.at,
								       in.at, out.at);
	}
	compare(name, size, attend_on_host(qkv, heads, size), widen(out.read()));
}

/* ---- rows ---- */

static std::vector<double> normalize_on_host(const std::vector<double> &x, int hidden, double eps,
					     const std::vector<element> &gamma,
					     const std::vector<element> &beta)
{
	std::vector<double> out;
	for (size_t row = 0; row < x.size(); row += hidden) {
		double mean = 0, square = 0;
		for (int i = 0; i < hidden; i++)
			mean += x[row + i] / hidden;
		for (int i = 0; i < hidden; i++)
			square += (x[row + i] - mean) * (x[row + i] - mean) / hidden;
		for (int i = 0; i < hidden; i++)
			out.push_back((x[row + i] - mean) / std::sqrt(square + eps) *
					      wide(gamma[i]) +
				      wide(beta[i]));
	}
	return out;
}

static void check_norm(int hidden, bool warp)
{
	const u32 rows = 37;
	std::vector<element> x = random_elements((size_t)rows * hidden, 3),
			     gamma = random_elements(hidden, 1), beta = random_elements(hidden, 1);
	Buffer<element> at(x), g(gamma), b(beta);
	if (warp)
		layer_norm_warp<<<(rows + 3) / 4, 128>>>(rows, hidden, 1e-12f, g.at, b.at, at.at);
	else
		layer_norm_block<<<rows, 256>>>(rows, hidden, 1e-12f, g.at, b.at, at.at);
	compare(warp ? "layer_norm_warp" : "layer_norm_block", hidden,
		normalize_on_host(widen(x), hidden, 1e-12, gamma, beta), widen(at.read()));
}

static void check_embed(int hidden, bool warp)
{
	const u32 rows = starts.back(), words = 50, sequences = (u32)starts.size() - 1;
	std::vector<element> word = random_elements((size_t)words * hidden, 1),
			     position = random_elements((size_t)200 * hidden, 1),
			     type = random_elements((size_t)2 * hidden, 1),
			     gamma = random_elements(hidden, 1), beta = random_elements(hidden, 1);
	std::vector<int> ids;
	std::vector<u8> types;
	std::vector<double> sums;
	for (u32 row = 0, s = 0; row < rows; row++) {
		s += row == starts[s + 1];
		ids.push_back(rand() % (int)words);
		types.push_back((u8)(rand() % 2));
		for (int i = 0; i < hidden; i++)
			sums.push_back(wide(word[(size_t)ids[row] * hidden + i]) +
				       wide(type[(size_t)types[row] * hidden + i]) +
				       wide(position[(size_t)(row - starts[s]) * hidden + i]));
	}
	Buffer<element> w(word), p(position), t(type), g(gamma), b(beta), y((size_t)rows * hidden);
	Buffer<int> i(ids);
	Buffer<u8> k(types);
	Buffer<u32> at(starts);
	/* the grid may be larger than the batch */
	if (warp)
		embed_warp<<<(rows + 8) / 4 + 3, 128>>>(sequences, hidden, 1e-12f, i.at, k.at,
							at.at, w.at, p.at, t.at, g.at, b.at, y.at);
	else
		embed_block<<<rows + 5, 256>>>(sequences, hidden, 1e-12f, i.at, k.at, at.at, w.at,
					       p.at, t.at, g.at, b.at, y.at);
	compare(warp ? "embed_warp" : "embed_block", hidden,
		normalize_on_host(sums, hidden, 1e-12, gamma, beta), widen(y.read()));
}

static void check_pool(int pooling, int hidden)
{
	const u32 sequences = (u32)starts.size() - 1;
	std::vector<element> x = random_elements((size_t)starts.back() * hidden, 1);
	std::vector<double> expected;
	for (u32 s = 0; s < sequences; s++)
		for (int i = 0; i < hidden; i++) {
			double sum = 0, most = -1e300, count = starts[s + 1] - starts[s];
			for (u32 row = starts[s]; row < starts[s + 1]; row++) {
				sum += wide(x[(size_t)row * hidden + i]);
				most = std::fmax(most, wide(x[(size_t)row * hidden + i]));
			}
			expected.push_back(pooling == POOL_CLS
						   ? wide(x[(size_t)starts[s] * hidden + i])
					   : pooling == POOL_MEAN ? sum / count
					   : pooling == POOL_MAX  ? most
								  : sum / std::sqrt(count));
		}
	Buffer<element> in(x), out((size_t)sequences * hidden);
	Buffer<u32> at(starts);
	pool<<<dim3((hidden + 31) / 32, sequences), dim3(32, POOL_ROWS)>>>(pooling, hidden, at.at,
									   in.at, out.at);
	compare("pool", pooling, expected, widen(out.read()));
}

/* ---- elements ---- */

typedef void activation_kernel(u64, element *);

static void check_activation(const char *name, activation_kernel *kernel, double (*host)(double))
{
	std::vector<element> x = random_elements(4099, 6); /* the last eight are not whole */
	std::vector<double> expected;
	for (element v : x)
		expected.push_back(host(wide(v)));
	Buffer<element> y(x);
	kernel<<<3, 256>>>(x.size(), y.at);
	compare(name, (int)x.size(), expected, widen(y.read()));
}

static double host_gelu(double x)
{
	return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
}

static double host_gelu_tanh(double x)
{
	return 0.5 * x *
	       (1 + std::tanh(std::sqrt(2 / 3.14159265358979324) * (x + 0.044715 * x * x * x)));
}

static double host_relu(double x)
{
	return x > 0 ? x : 0;
}

static double host_tanh(double x)
{
	return std::tanh(x);
}

static double host_sigmoid(double x)
{
	return 1 / (1 + std::exp(-x));
}

static void check_convert(void)
{
	const size_t count = 3001;
	std::vector<float> floats;
	std::vector<u16> halves, bfloats;
	std::vector<double> expected;
	for (size_t i = 0; i < count; i++) {
		floats.push_back((float)(rand() / (double)RAND_MAX * 2 - 1));
		halves.push_back(__half_as_ushort(__float2half(floats[i])));
		bfloats.push_back(__bfloat16_as_ushort(__float2bfloat16(floats[i])));
	}
	Buffer<float> f(floats), back(count);
	Buffer<u16> h(halves), b(bfloats);
	Buffer<element> to_f(count), to_h(count), to_b(count);
	struct conversion all = {};
	all.count = 3;
	all.items[0] = {(u64)f.at, (u64)to_f.at, count, 0, 32};
	all.items[1] = {(u64)h.at, (u64)to_h.at, count, 2, 16};
	all.items[2] = {(u64)b.at, (u64)to_b.at, count, 4, 17};
	convert<<<6, 256>>>(all);
	compare("convert", 32, std::vector<double>(floats.begin(), floats.end()),
		widen(to_f.read()));
	for (u16 x : halves)
		expected.push_back(__half2float(__ushort_as_half(x)));
	compare("convert", 16, expected, widen(to_h.read()));
	expected.clear();
	for (u16 x : bfloats)
		expected.push_back(__bfloat162float(__ushort_as_bfloat16(x)));
	compare("convert", 17, expected, widen(to_b.read()));
	to_floats<<<(count + 255) / 256, 256>>>(count, to_f.at, back.at);
	std::vector<float> floats_back = back.read();
	compare("to_floats", (int)count, widen(to_f.read()),
		std::vector<double>(floats_back.begin(), floats_back.end()));
}

/* ---- products ---- */

#ifdef HAVE_WGMMA
/* rows x columns, by boxes of so many rows and 64 columns. */
static tensor_map map_of(const Buffer<element> &at, u32 rows, u32 columns, u32 box_rows)
{
	void *entry = NULL;
	cudaDriverEntryPointQueryResult found;
	must(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
					      cudaEnableDefault, &found),
	     "cuTensorMapEncodeTiled");
	const cuuint64_t sizes[] = {columns, rows}, strides[] = {columns * sizeof(element)};
	const cuuint32_t box[] = {64, box_rows}, steps[] = {1, 1};
	tensor_map map;
	CUresult result = ((decltype(&cuTensorMapEncodeTiled))entry)(
		(CUtensorMap *)&map,
		VAC_ELEMENT == 16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
				  : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
		2, at.at, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
		CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
		CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	if (result != CUDA_SUCCESS) {
		printf("cuTensorMapEncodeTiled: %d\n", (int)result);
		exit(1);
	}
	return map;
}

/* blocks: fewer than there are tiles, so that a block has several. Compared is each so many-th
 * row; behind the last ones nothing may be written. Repeated, for what happens rarely. */
static void check_product(u32 columns, u32 rows, u32 in, u32 out, u32 blocks, u32 every)
{
	const char *name = columns == 192 ? "product_gelu_wide_wgmma" : "product_gelu_wgmma";
	auto *kernel = columns == 192 ? product_gelu_wide_wgmma : product_gelu_wgmma;
	const u32 guard = 8;
	const double spread = std::sqrt(3.0 / in) * 2; /* sums of a spread of about 1 */
	std::vector<element> x = random_elements((size_t)rows * in, 1),
			     w = random_elements((size_t)out * in, spread),
			     bias = random_elements(out, 1),
			     nothing((size_t)(rows + guard) * out, 0x7fff); /* NaN */
	Buffer<element> to_x(x), to_w(w), to_bias(bias), y(nothing);
	const u32 wide = out / columns,
		  tiles = (rows + CLUSTER * ROWS - 1) / (CLUSTER * ROWS) * wide;
	const tensor_map map_x = map_of(to_x, rows, in, ROWS),
			 map_w = map_of(to_w, out, in, columns / CLUSTER),
			 map_y = map_of(y, rows, out, ROWS);
	must(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				  VAC_PRODUCT_SHARED_BYTES),
	     name);
	auto launch = [&] {
		kernel<<<blocks, VAC_PRODUCT_THREADS, VAC_PRODUCT_SHARED_BYTES>>>(
			tiles, wide, in / DEPTH, to_bias.at, map_x, map_w, map_y);
		must(cudaGetLastError(), name);
	};
	launch();
	const std::vector<element> once = y.read();
	std::vector<float> from(in), weights((size_t)out * in);
	for (size_t i = 0; i < w.size(); i++)
		weights[i] = (float)::wide(w[i]);
	std::vector<double> expected, got;
	for (u32 row = 0; row < rows; row++) {
		if (row % every && row + 1 < rows)
			continue;
		for (u32 i = 0; i < in; i++)
			from[i] = (float)::wide(x[(size_t)row * in + i]);
		for (u32 column = 0; column < out; column++) {
			const float *a = from.data(), *b = &weights[(size_t)column * in];
			double sum = ::wide(bias[column]);
			for (u32 i = 0; i < in; i++)
				sum += (double)a[i] * b[i];
			expected.push_back(host_gelu(sum));
			got.push_back(::wide(once[(size_t)row * out + column]));
		}
	}
	compare(name, (int)rows, expected, got);
	bool same = true;
	for (int i = 0; i < 10; i++) {
		launch();
		same = same && y.read() == once;
	}
	for (size_t i = (size_t)rows * out; i < once.size(); i++)
		same = same && once[i] == 0x7fff;
	for (size_t i = 0; i < (size_t)rows * out; i++)
		same = same && !std::isnan(::wide(once[i]));
	failures += !same;
	if (!same)
		printf("%s  %6d  differs from time to time, or wrote behind the "
		       "end, or not all  FAILED\n",
		       name, (int)rows);
}
#endif

int main(void)
{
	srand(7);
#if VAC_ELEMENT != 32
	const struct {
		const char *name;
		mma_kernel *kernel;
		int size, tiles;
	} mma[] = {{"attention_32", attention_32, 32, 1},
		   {"attention_64", attention_64, 64, 1},
		   {"attention_64_wide", attention_64_wide, 64, 2},
		   {"attention_96", attention_96, 96, 1},
		   {"attention_128", attention_128, 128, 1}};
	for (const auto &m : mma)
		check_attention(m.name, m.kernel, m.size, m.tiles, 4 * 64 * (m.size + 8) * 2);
#ifdef VAC_WGMMA
	check_attention("attention_64_wgmma", attention_64_wgmma, 64, 1, 5 * 64 * 64 * 2);
#endif
#endif
	check_attention("attention_any", NULL, 40, 0, 0);
	check_attention("attention_any", NULL, 64, 0, 0);
	check_norm(768, true);
	check_norm(384, true);
	check_norm(60, false);
	check_norm(1100, false);
	check_embed(384, true);
	check_embed(60, false);
	for (int pooling = POOL_CLS; pooling <= POOL_MEAN_SQRT_LEN; pooling++)
		check_pool(pooling, 100);
	check_activation("activate_gelu", activate_gelu, host_gelu);
	check_activation("activate_gelu_tanh", activate_gelu_tanh, host_gelu_tanh);
	check_activation("activate_relu", activate_relu, host_relu);
	check_activation("activate_tanh", activate_tanh, host_tanh);
	check_activation("activate_sigmoid", activate_sigmoid, host_sigmoid);
	check_convert();
#ifdef HAVE_WGMMA
	for (u32 columns : {128u, 192u}) {
		check_product(columns, 8, 64, columns, 2, 1); /* a tile, the second block has none */
		check_product(columns, 300, 64, 3 * columns, 2, 7);    /* one step a tile */
		check_product(columns, 1000, 384, 6 * columns, 2, 19); /* 24 of 6, one cluster */
		check_product(columns, 1032, 768, 5 * columns, 6, 19); /* 25 of 12: 9, 8, 8 */
		check_product(columns, 520, 1024, 4 * columns, 4, 7);  /* 16 steps */
		check_product(columns, 8200, 768, 3072, 132, 97);
	}
#endif
	printf("%d failed\n", failures);
	return failures != 0;
}
