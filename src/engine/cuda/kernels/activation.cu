/*
 * activation.cu - what cuBLASLt's epilogues cannot do, in place: its GELU is the
 * approximation by tanh, and BERT's is that by erf.
 */
#include "activation.cuh"

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
