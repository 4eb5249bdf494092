/*
 * product_time.cu - gelu(x W^T + b) of the shapes of BERT models: as the one kernel of
 * product_wgmma.cu, and by the fastest of cuBLASLt's first algorithms with our GELU after it.
 * Both in turn, ten times; the median of each. The part product of tests/gpu/run compiles it:
 *
 *   nvcc -std=c++17 -gencode arch=compute_90a,code=sm_90a -DVAC_WGMMA -DVAC_ELEMENT=16
 *        -I KERNELS -o time product_time.cu -lcublasLt
 *
 * One line a shape: in, out, rows, microseconds of both, TFLOP/s of both. Exit status: 0,
 * 1 something failed.
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

static void compare(u32 in, u32 out, u32 rows, u32 blocks)
{
	element *x = take((size_t)rows * in, 1), *w = take((size_t)in * out, 2 / sqrtf((float)in)),
		*bias = take(out, 1), *y = take((size_t)rows * out, 0);
	Blas blas(in, out, rows, bias);
	const tensor_map map_x = map_of(x, rows, in, ROWS),
			 map_w = map_of(w, out, in, COLUMNS / CLUSTER),
			 map_y = map_of(y, rows, out, ROWS);
	const u32 wide = out / COLUMNS, tiles = (rows + 2 * ROWS - 1) / (2 * ROWS) * wide;
	const u64 count = (u64)rows * out;
	auto fused = [&] {
		product_gelu_wgmma<<<std::min(blocks, 2 * tiles), VAC_PRODUCT_THREADS,
				     VAC_PRODUCT_SHARED_BYTES>>>(tiles, wide, in / DEPTH, bias,
								 map_x, map_w, map_y);
	};
	int best = 0;
	std::vector<double> times;
	for (int i = 0; i < blas.count; i++)
		times.push_back(measure([&] { blas.run(i, w, x, y); }));
	for (int i = 1; i < blas.count; i++)
		best = times[i] < times[best] ? i : best;
	auto product = [&] { blas.run(best, w, x, y); };
	auto gelu = [&] { activate_gelu<<<(count + 2047) / 2048, 256>>>(count, y); };
	/* what is timed is right: both have the same results */
	std::vector<element> one((size_t)count), other((size_t)count);
	must(cudaMemset(y, 0xff, count * sizeof(element)), "cudaMemset"); /* NaN */
	fused();
	must(cudaMemcpy(one.data(), y, count * sizeof(element), cudaMemcpyDeviceToHost), "fused");
	product(), gelu();
	must(cudaMemcpy(other.data(), y, count * sizeof(element), cudaMemcpyDeviceToHost), "both");
	size_t wrong = 0;
	for (size_t i = 0; i < one.size(); i++) {
		const float a = value(one[i]), b = value(other[i]);
		wrong += !(fabsf(a - b) <= (VAC_ELEMENT == 16 ? 4e-3f : 3e-2f) * (1 + fabsf(b)));
	}
	if (wrong) {
		printf("%u x %u x %u: %zu of %zu results are wrong\n", in, out, rows, wrong,
		       one.size());
		exit(1);
	}
	std::vector<double> ours, theirs, alone;
	for (int round = 0; round < rounds; round++) {
		ours.push_back(measure(fused));
		theirs.push_back(measure([&] { product(), gelu(); }));
		alone.push_back(measure(product));
	}
	must(cudaGetLastError(), "a kernel");
	const double tera = 2.0 * rows * in * out / 1e6;
	printf("%6u%6u%7u%10.1f%12.1f%12.1f%9.0f%9.0f%8.2f\n", in, out, rows, median(ours),
	       median(theirs), median(alone), tera / median(ours), tera / median(alone),
	       median(theirs) / median(ours));
	for (element *at : {x, w, bias, y})
		cudaFree(at);
}

int main(void)
{
	static const u32 shapes[][2] = {{768, 3072}, {384, 1536}, {1024, 4096}};
	cudaDeviceProp gpu;
	must(cudaGetDeviceProperties(&gpu, 0), "the GPU");
	must(cudaFuncSetAttribute(product_gelu_wgmma, cudaFuncAttributeMaxDynamicSharedMemorySize,
				  VAC_PRODUCT_SHARED_BYTES),
	     "shared memory");
	printf("%s, %d multiprocessors, elements %d\n", gpu.name, gpu.multiProcessorCount,
	       VAC_ELEMENT);
	printf("    in   out   rows  fused us  product+GELU  product   TFLOP/s  TFLOP/s  faster\n");
	for (const auto &shape : shapes)
		for (u32 rows : {2048u, 4096u, 8192u, 16384u})
			compare(shape[0], shape[1], rows, (u32)gpu.multiProcessorCount / 2 * 2);
	return 0;
}
