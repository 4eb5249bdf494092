/*
 * activation.cuh - GELU by erf, as a kernel of its own has it and as the end of a product.
 */
#ifndef VAC_ACTIVATION_CUH
#define VAC_ACTIVATION_CUH
#include "common.cuh"

#if VAC_ELEMENT == 32
static __device__ __forceinline__ float gelu(float x)
{
	return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}
#else
/* x / (1 + 2^-u), where u / x is a polynomial of x^2 fitted to log2(Phi(x) / Phi(-x)) / x, Phi
 * being the normal distribution's: of all results in float16, 1 of 200 is rounded to the
 * neighbour of the true one (scripts/fit_gelu.py). Several at once, since each waits for
 * its exponential and its reciprocal. */
template <int N> static __device__ __forceinline__ void gelu(float (&x)[N])
{
	/* of -u / x, the highest power first */
	static const float factors[] = {-3.6146577e-09f, 2.9050528e-07f, -9.3659519e-06f,
					0.00013780266f,  0.00020295969f, -0.10507005f,
					-2.3020549f};
	float t[N], u[N];
#pragma unroll
	for (int i = 0; i < N; i++)
		t[i] = x[i] * x[i], u[i] = factors[0];
#pragma unroll
	for (int k = 1; k < (int)(sizeof(factors) / sizeof(factors[0])); k++)
#pragma unroll
		for (int i = 0; i < N; i++)
			u[i] = fmaf(u[i], t[i], factors[k]);
#pragma unroll
	for (int i = 0; i < N; i++)
		asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(u[i]) : "f"(x[i] * u[i]));
#pragma unroll
	for (int i = 0; i < N; i++)
		asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(u[i]) : "f"(1.0f + u[i]));
#pragma unroll
	for (int i = 0; i < N; i++)
		x[i] *= u[i];
}

static __device__ __forceinline__ float gelu(float x)
{
	float one[] = {x};
	gelu(one);
	return one[0];
}
#endif

#endif
