/*
 * product_time.cu - gelu(x W^T + b) of the shapes of BERT models: as the one kernel of
 * product_wgmma.cu, in tiles of 128 and of 192 columns, and by the fastest of cuBLASLt's first
 * algorithms with our GELU after it. All in turn, ten times; the median of each. The part product of tests/gpu/run compiles it:
 *
 *   nvcc -std=c++17 -gencode arch=compute_90a,code=sm_90a -DVAC_WGMMA -DVAC_ELEMENT=16
 *        -I KERNELS -o time product_time.cu -lcublasLt
 *
 * One line a shape: in, out, rows, microseconds of each (0: out is no multiple of the tile), of
 * cuBLASLt's product alone, and how many times faster than two kernels the faster tile is.
 * Exit status: 0, 1 something failed.
 */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include <cublasLt.h>
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "activation.cu"
#include "product_wgmma.cu"

static const size_t workspace_bytes = (size_t)16 << 20;
static const int candidates = 8, repeats = 20, rounds = 10;

static void must(int result, const char *what)
{
	if (result == 0)
		return;
	printf("%s: %d\n", what, result);
	exit(1);
}

static element narrow(float x)
{
#if VAC_ELEMENT == 16
	return __half_as_ushort(__float2half(x));
#else
	return __bfloat16_as_ushort(__float2bfloat16(x));
#endif
}

static float value(element x)
{
#if VAC_ELEMENT == 16
	return __half2float(__ushort_as_half(x));
#else
	return __bfloat162float(__ushort_as_bfloat16(x));
#endif
}

/* So many elements up to this: what a product is of decides how fast it may be clocked. */
static element *take(size_t count, float spread)
{
	element *at;
	must(cudaMalloc(&at, count * sizeof(element)), "cudaMalloc");
	std::vector<element> values(count);
	for (element &x : values)
		x = narrow((rand() / (float)RAND_MAX * 2 - 1) * spread);
	must(cudaMemcpy(at, values.data(), count * sizeof(element), cudaMemcpyHostToDevice),
	     "copying");
	return at;
}

static tensor_map map_of(void *at, u32 rows, u32 columns, u32 box_rows)
{
	static void *entry;
	cudaDriverEntryPointQueryResult found;
	if (!entry)
		must(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
						      cudaEnableDefault, &found),
		     "cuTensorMapEncodeTiled");
	const cuuint64_t sizes[] = {columns, rows}, strides[] = {columns * sizeof(element)};
	const cuuint32_t box[] = {DEPTH, box_rows}, steps[] = {1, 1};
	tensor_map map;
	must(((decltype(&cuTensorMapEncodeTiled))entry)(
		     (CUtensorMap *)&map,
		     VAC_ELEMENT == 16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
				       : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
		     2, at, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
		     CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
		     CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
	     "a tensor map");
	return map;
}

/* Microseconds of one. */
static double measure(const std::function<void()> &run)
{
	cudaEvent_t start, end;
	float ms;
	must(cudaEventCreate(&start), "an event");
	must(cudaEventCreate(&end), "an event");
	run();
	must(cudaEventRecord(start), "an event");
	for (int i = 0; i < repeats; i++)
		run();
	must(cudaEventRecord(end), "an event");
	must(cudaDeviceSynchronize(), "a kernel");
	must(cudaEventElapsedTime(&ms, start, end), "an event");
	cudaEventDestroy(start);
	cudaEventDestroy(end);
	return ms * 1e3 / repeats;
}

static double median(std::vector<double> all)
{
	std::sort(all.begin(), all.end());
	return all[all.size() / 2];
}

/* cuBLASLt's, column-major: y^T = W x^T. */
struct Blas {
	cublasLtHandle_t handle;
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t w, x, y;
	cublasLtMatmulPreference_t preference;
	cublasLtMatmulHeuristicResult_t choices[candidates];
	int count = 0;
	void *workspace;

	Blas(u32 in, u32 out, u32 rows, const void *bias)
	{
		const cudaDataType_t type = VAC_ELEMENT == 16 ? CUDA_R_16F : CUDA_R_16BF;
		const cublasOperation_t turned = CUBLAS_OP_T;
		const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
		must(cublasLtCreate(&handle), "cuBLASLt");
		must(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
		must(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
						    sizeof(turned)),
		     "a product");
		must(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
						    sizeof(epilogue)),
		     "a product");
		must(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
						    sizeof(bias)),
		     "a product");
		must(cublasLtMatrixLayoutCreate(&w, type, in, out, in), "a layout");
		must(cublasLtMatrixLayoutCreate(&x, type, in, rows, in), "a layout");
		must(cublasLtMatrixLayoutCreate(&y, type, out, rows, out), "a layout");
		must(cublasLtMatmulPreferenceCreate(&preference), "a preference");
		must(cublasLtMatmulPreferenceSetAttribute(
			     preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
			     sizeof(workspace_bytes)),
		     "a preference");
		must(cublasLtMatmulAlgoGetHeuristic(handle, desc, w, x, y, y, preference,
						    candidates, choices, &count),
		     "the heuristic");
		must(cudaMalloc(&workspace, workspace_bytes), "cudaMalloc");
	}
	~Blas()
	{
		cublasLtMatmulPreferenceDestroy(preference);
		cublasLtMatrixLayoutDestroy(w);
		cublasLtMatrixLayoutDestroy(x);
		cublasLtMatrixLayoutDestroy(y);
		cublasLtMatmulDescDestroy(desc);
		cublasLtDestroy(handle);
		cudaFree(workspace);
	}
	void run(int which, const void *weights, const void *from, void *to)
	{
		const float one = 1, zero = 0;
		must(cublasLtMatmul(handle, desc, &one, weights, w, from, x, &zero, to, y, to, y,
				    &choices[which].algo, workspace, workspace_bytes, 0),
		     "cublasLtMatmul");
	}
};

/* One kernel, in tiles of so many columns. */
struct Fused {
	decltype(&product_gelu_wgmma) kernel;
	tensor_map x, w, y;
	u32 tiles, wide, depth, blocks;
	const element *bias;

	Fused(u32 columns, u32 in, u32 out, u32 rows, u32 most, element *from, element *weights,
	      const element *b, element *to)
		: kernel(columns == 192 ? product_gelu_wide_wgmma : product_gelu_wgmma),
		  x(map_of(from, rows, in, ROWS)), w(map_of(weights, out, in, columns / CLUSTER)),
		  y(map_of(to, rows, out, ROWS)), wide(out / columns), depth(in / DEPTH), bias(b)
	{
		tiles = (rows + CLUSTER * ROWS - 1) / (CLUSTER * ROWS) * wide;
		blocks = std::min(most, CLUSTER * tiles);
		must(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
					  VAC_PRODUCT_SHARED_BYTES),
		     "shared memory");
	}
	void run() const
	{
		kernel<<<blocks, VAC_PRODUCT_THREADS, VAC_PRODUCT_SHARED_BYTES>>>(
			tiles, wide, depth, bias, x, w, y);
	}
};

static std::vector<element> read(const element *at, size_t count)
{
	std::vector<element> all(count);
	must(cudaMemcpy(all.data(), at, count * sizeof(element), cudaMemcpyDeviceToHost), "a copy");
	return all;
}

/* What is timed is right: they have the same results. */
static void must_agree(const std::vector<element> &one, const std::vector<element> &other, u32 in,
		       u32 out, u32 columns)
{
	size_t wrong = 0;
	for (size_t i = 0; i < one.size(); i++) {
		const float a = value(one[i]), b = value(other[i]);
		wrong += !(fabsf(a - b) <= (VAC_ELEMENT == 16 ? 4e-3f : 3e-2f) * (1 + fabsf(b)));
	}
	if (wrong) {
		printf("%u x %u in tiles of %u: %zu of %zu results are wrong\n", in, out, columns,
		       wrong, one.size());
		exit(1);
	}
}

static void compare(u32 in, u32 out, u32 rows, u32 blocks)
{
	const u64 count = (u64)rows * out;
	element *x = take((size_t)rows * in, 1), *w = take((size_t)in * out, 2 / sqrtf((float)in)),
		*bias = take(out, 1), *y = take(count, 0);
	Blas blas(in, out, rows, bias);
	int best = 0;
	std::vector<double> times;
	for (int i = 0; i < blas.count; i++)
		times.push_back(measure([&] { blas.run(i, w, x, y); }));
	for (int i = 1; i < blas.count; i++)
		best = times[i] < times[best] ? i : best;
	auto product = [&] { blas.run(best, w, x, y); };
	auto both = [&] { product(), activate_gelu<<<(count + 2047) / 2048, 256>>>(count, y); };
	both();
	const std::vector<element> expected = read(y, count);
	std::vector<Fused> fused;
	for (u32 columns : {128u, 192u}) {
		if (out % columns)
			continue;
		fused.emplace_back(columns, in, out, rows, blocks, x, w, bias, y);
		must(cudaMemset(y, 0xff, count * sizeof(element)), "cudaMemset"); /* NaN */
		fused.back().run();
		must_agree(read(y, count), expected, in, out, columns);
	}
	std::vector<double> ours[2], theirs, alone;
	for (int round = 0; round < rounds; round++) {
		for (size_t i = 0; i < fused.size(); i++)
			ours[i].push_back(measure([&] { fused[i].run(); }));
		theirs.push_back(measure(both));
		alone.push_back(measure(product));
	}
	must(cudaGetLastError(), "a kernel");
	const double narrow = median(ours[0]), wide = fused.size() > 1 ? median(ours[1]) : 0;
	printf("%6u%6u%7u%9.1f%9.1f%14.1f%9.1f%9.2f\n", in, out, rows, narrow, wide,
	       median(theirs), median(alone),
	       median(theirs) / (wide > 0 ? std::min(narrow, wide) : narrow));
	for (element *at : {x, w, bias, y})
		cudaFree(at);
}

int main(void)
{
	static const u32 shapes[][2] = {{768, 3072}, {384, 1536}, {1024, 4096}};
	cudaDeviceProp gpu;
	must(cudaGetDeviceProperties(&gpu, 0), "the GPU");
	printf("%s, %d multiprocessors, elements %d\n", gpu.name, gpu.multiProcessorCount,
	       VAC_ELEMENT);
	printf("    in   out   rows   128 us   192 us  product+GELU  product   faster\n");
	for (const auto &shape : shapes)
		for (u32 rows : {2048u, 4096u, 8192u, 16384u})
			compare(shape[0], shape[1], rows, (u32)gpu.multiProcessorCount / 2 * 2);
	return 0;
}
