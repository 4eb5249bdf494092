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
#endif

#endif
