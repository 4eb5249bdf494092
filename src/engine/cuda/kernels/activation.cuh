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
/* erf to 1.5e-7 (Abramowitz and Stegun 7.1.26), a third of erff's work: of all
 * results in float16, 1 of 250 is rounded to the neighbour of the true one. */
static __device__ __forceinline__ float gelu(float x)
{
	const float z = fabsf(x) * 0.70710678118654752f;
	float t, e;
	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(t) : "f"(fmaf(0.3275911f, z, 1.0f)));
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(z * z * -1.44269504088896341f));
	float p = fmaf(1.061405429f, t, -1.453152027f);
	p = fmaf(p, t, 1.421413741f);
	p = fmaf(p, t, -0.284496736f);
	p = fmaf(p, t, 0.254829592f);
	const float rest = 0.5f * x * p * t * e; /* x times half of what erf lacks to 1 */
	return x > 0 ? x - rest : rest;
}

/* The same of several at once, since each waits for its exponential and its reciprocal, in
 * two thirds of the instructions, which the end of a product has no time for: x / (1 + 2^-u),
 * where u / x is a polynomial of x^2 fitted to log2(Phi(x) / Phi(-x)) / x, Phi being the
 * normal distribution's: of all results in float16, 1 of 200 is rounded to the neighbour of
 * the true one (scripts/fit_gelu.py). */
template <int N> static __device__ __forceinline__ void gelu_of(float (&x)[N])
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
#endif

#endif
