/*
 * activation.cu - what cuBLASLt's epilogues cannot do, in place: its GELU is the
 * approximation by tanh, and BERT's is that by erf.
 */
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

static __device__ __forceinline__ float gelu_tanh(float x)
{
	return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

static __device__ __forceinline__ float sigmoid(float x)
{
	return 1.0f / (1.0f + expf(-x));
}

#define ACTIVATION(name, expression)                                                               \
	KERNEL name(u64 count, element *y)                                                         \
	{                                                                                          \
		u64 at = ((u64)blockIdx.x * blockDim.x + threadIdx.x) * OCTET;                     \
		if (at + OCTET <= count) {                                                         \
			float v[OCTET];                                                            \
			load8(y + at, v);                                                          \
			_Pragma("unroll") for (int i = 0; i < OCTET; i++)                          \
			{                                                                          \
				const float x = v[i];                                              \
				v[i] = expression;                                                 \
			}                                                                          \
			store8(y + at, v);                                                         \
		} else {                                                                           \
			for (; at < count; at++) {                                                 \
				const float x = to_float(y[at]);                                   \
				y[at] = from_float(expression);                                    \
			}                                                                          \
		}                                                                                  \
	}

ACTIVATION(activate_gelu, gelu(x))
ACTIVATION(activate_gelu_tanh, gelu_tanh(x))
ACTIVATION(activate_relu, fmaxf(x, 0.0f))
ACTIVATION(activate_tanh, tanhf(x))
ACTIVATION(activate_sigmoid, sigmoid(x))
