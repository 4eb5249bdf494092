/*
 * common.cuh - elements, and what several kernels need. The kernels are
 * compiled once for each type of element, VAC_ELEMENT: 32 float, 16 half,
 * 17 bfloat16. They include no header of the CUDA toolkit, so that NVRTC alone
 * can compile them where an nvidia wheel is all there is. Sums are floats.
 */
#ifndef VAC_COMMON_CUH
#define VAC_COMMON_CUH

#ifndef VAC_ELEMENT
#define VAC_ELEMENT 16
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#if VAC_ELEMENT == 32
typedef float element;
#else
typedef u16 element;
#endif

#define WARP  32
#define WHOLE 0xffffffffu
#define KERNEL extern "C" __global__ void

static __device__ __forceinline__ float half_to_float(u16 x)
{
	float y;
	asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
	return y;
}

static __device__ __forceinline__ float bfloat_to_float(u16 x)
{
	return __uint_as_float((u32)x << 16);
}

static __device__ __forceinline__ float to_float(element x)
{
#if VAC_ELEMENT == 32
	return x;
#elif VAC_ELEMENT == 16
	return half_to_float(x);
#else
	return bfloat_to_float(x);
#endif
}

static __device__ __forceinline__ element from_float(float x)
{
#if VAC_ELEMENT == 32
	return x;
#else
	u16 y;
#if VAC_ELEMENT == 16
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
#else
	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
#endif
	return y;
#endif
}

/* Two elements of 16 bits in one word, the first in its low half. */
static __device__ __forceinline__ u32 pack_pair(float low, float high)
{
	u32 y;
#if VAC_ELEMENT == 17
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
#else
	asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
#endif
	return y;
}

/* Eight elements at a 16-byte boundary. */
#define OCTET 8

static __device__ __forceinline__ void load8(const element *from, float to[OCTET])
{
#if VAC_ELEMENT == 32
	const float4 a = ((const float4 *)from)[0], b = ((const float4 *)from)[1];
	to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
	to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
#else
	const uint4 a = *(const uint4 *)from;
	const u32 words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
	for (int i = 0; i < 4; i++) {
		to[2 * i] = to_float((u16)(words[i] & 0xffff));
		to[2 * i + 1] = to_float((u16)(words[i] >> 16));
	}
#endif
}

static __device__ __forceinline__ void store8(element *to, const float from[OCTET])
{
#if VAC_ELEMENT == 32
	((float4 *)to)[0] = make_float4(from[0], from[1], from[2], from[3]);
	((float4 *)to)[1] = make_float4(from[4], from[5], from[6], from[7]);
#else
	*(uint4 *)to = make_uint4(pack_pair(from[0], from[1]), pack_pair(from[2], from[3]),
				  pack_pair(from[4], from[5]), pack_pair(from[6], from[7]));
#endif
}

static __device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
	for (int i = WARP / 2; i > 0; i /= 2)
		x += __shfl_xor_sync(WHOLE, x, i);
	return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
	for (int i = WARP / 2; i > 0; i /= 2)
		x = fmaxf(x, __shfl_xor_sync(WHOLE, x, i));
	return x;
}

/* The sum over a block of at most 1024 threads, in all of them. */
static __device__ float block_sum(float x)
{
	__shared__ float sums[WARP];
	const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	x = warp_sum(x);
	__syncthreads(); /* the last round's readers are done */
	if (lane == 0)
		sums[warp] = x;
	__syncthreads();
	x = lane < (blockDim.x + WARP - 1) / WARP ? sums[lane] : 0;
	return warp_sum(x);
}

/* The sequence that a row belongs to: starts[s] <= row < starts[s + 1]. */
static __device__ u32 sequence_of(u32 row, const u32 *starts, u32 sequences)
{
	u32 low = 0, high = sequences;
	while (high - low > 1) {
		const u32 middle = (low + high) / 2;
		if (starts[middle] <= row)
			low = middle;
		else
			high = middle;
	}
	return low;
}

#endif
