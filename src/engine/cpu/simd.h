/*
 * simd.h - the handful of vector operations that kernels are written in, for
 * AVX-512, AVX2 + FMA and whatever else the compiler targets. kernels.c and
 * product.c are compiled once for each with different flags; nothing else
 * includes this.
 */
#ifndef VAC_ENGINE_CPU_SIMD_H
#define VAC_ENGINE_CPU_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* vec: VEC_FLOATS floats. v_fma: a b + c. v_scale_2n: a 2^n for whole n in
 * [-126, 127]. v_load_part: n < VEC_FLOATS floats, zeros above. */

#if defined(__AVX512F__)
#include <immintrin.h>
#define VEC_FLOATS 16
#define TILE_ROWS  8 /* 8 x 3 sums, 3 columns and a broadcast operand: 27 of 32 registers */
#define TILE_VECS  3
typedef __m512 vec;
#define v_load(p)        _mm512_loadu_ps(p)
#define v_store(p, a)    _mm512_storeu_ps(p, a)
#define v_set1(x)        _mm512_set1_ps(x)
#define v_add(a, b)      _mm512_add_ps(a, b)
#define v_sub(a, b)      _mm512_sub_ps(a, b)
#define v_mul(a, b)      _mm512_mul_ps(a, b)
#define v_div(a, b)      _mm512_div_ps(a, b)
#define v_max(a, b)      _mm512_max_ps(a, b)
#define v_fma(a, b, c)   _mm512_fmadd_ps(a, b, c)
#define v_round(a)       _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define v_scale_2n(a, n) _mm512_scalef_ps(a, n)
#define v_sum(a)         _mm512_reduce_add_ps(a)
#define v_most(a)        _mm512_reduce_max_ps(a)
static inline vec v_load_part(const float *p, size_t n)
{
	return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void v_store_part(float *p, vec a, size_t n)
{
	_mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}

#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VEC_FLOATS     8
#define TILE_ROWS      4 /* 4 x 3 sums, 3 columns, 1 broadcast: all 16 registers */
#define TILE_VECS      3
typedef __m256 vec;
#define v_load(p)      _mm256_loadu_ps(p)
#define v_store(p, a)  _mm256_storeu_ps(p, a)
#define v_set1(x)      _mm256_set1_ps(x)
#define v_add(a, b)    _mm256_add_ps(a, b)
#define v_sub(a, b)    _mm256_sub_ps(a, b)
#define v_mul(a, b)    _mm256_mul_ps(a, b)
#define v_div(a, b)    _mm256_div_ps(a, b)
#define v_max(a, b)    _mm256_max_ps(a, b)
#define v_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define v_round(a)     _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
static inline vec v_scale_2n(vec a, vec n)
{
	__m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
	return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
static inline float v_sum(vec a)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
static inline float v_most(vec a)
{
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
static inline __m256i part_mask(size_t n)
{
	static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
	return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - n));
}
static inline vec v_load_part(const float *p, size_t n)
{
	return _mm256_maskload_ps(p, part_mask(n));
}
static inline void v_store_part(float *p, vec a, size_t n)
{
	_mm256_maskstore_ps(p, part_mask(n), a);
}

#else
/* Four floats in the compilers' own vectors: SSE2, NEON or plain code. */
#define VEC_FLOATS     4
#define TILE_ROWS      4
#define TILE_VECS      2
typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));
static inline vec v_load(const float *p)
{
	vec a;
	memcpy(&a, p, sizeof(a));
	return a;
}
static inline void v_store(float *p, vec a)
{
	memcpy(p, &a, sizeof(a));
}
#define v_set1(x)      ((vec){(x), (x), (x), (x)})
#define v_add(a, b)    ((a) + (b))
#define v_sub(a, b)    ((a) - (b))
#define v_mul(a, b)    ((a) * (b))
#define v_div(a, b)    ((a) / (b))
#define v_fma(a, b, c) ((a) * (b) + (c))
static inline vec v_max(vec a, vec b)
{
	vec_int which = (vec_int)(a > b);
	return (vec)(((vec_int)a & which) | ((vec_int)b & ~which));
}
/* Adding and taking away 1.5 2^23 leaves the nearest whole number. */
static inline vec v_round(vec a)
{
	volatile float magic = 12582912.0f;
	vec m = v_set1(magic);
	return (a + m) - m;
}
static inline vec v_scale_2n(vec a, vec n)
{
	vec_int exponent = __builtin_convertvector(n, vec_int) + 127;
	return a * (vec)(exponent << 23);
}
static inline float v_sum(vec a)
{
	return (a[0] + a[2]) + (a[1] + a[3]);
}
static inline float v_most(vec a)
{
	float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
	return x > y ? x : y;
}
static inline vec v_load_part(const float *p, size_t n)
{
	vec a = {0};
	for (size_t i = 0; i < n; i++)
		a[i] = p[i];
	return a;
}
static inline void v_store_part(float *p, vec a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = a[i];
}
#endif

/* An 8 x 8 block turned: to[j][i] = from[i][j]. Strides in floats. */
#if defined(__AVX2__)
static inline void transpose_8x8(const float *from, size_t from_stride, float *to, size_t to_stride)
{
	__m256 r[8], t[8];
	for (int i = 0; i < 8; i++)
		r[i] = _mm256_loadu_ps(from + i * from_stride);
	for (int i = 0; i < 8; i += 2) {
		t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
		t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
	}
	for (int i = 0; i < 8; i += 4) {
		r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
		r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
		r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
		r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
	}
	for (int i = 0; i < 4; i++) {
		_mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
		_mm256_storeu_ps(to + (i + 4) * to_stride,
				 _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
	}
}
#else
static inline void transpose_8x8(const float *from, size_t from_stride, float *to, size_t to_stride)
{
	for (size_t j = 0; j < 8; j++)
		for (size_t i = 0; i < 8; i++)
			to[j * to_stride + i] = from[i * from_stride + j];
}
#endif

/*
 * exp for x <= 0 (what softmax asks), about 1 ulp: n = round(x / ln 2),
 * r = x - n ln 2 in two parts, Taylor's polynomial of degree 7 on |r| <= 0.347, times
 * 2^n. Below -87.3 the result is that of -87.3 (1e-38), which no sum of
 * exponentials with a 1 in it can tell from 0.
 */
static inline vec v_exp_nonpositive(vec x)
{
	x = v_max(x, v_set1(-87.3f));
	vec n = v_round(v_mul(x, v_set1(1.44269504088896341f)));
	vec r = v_fma(n, v_set1(-0.693359375f), x);
	r = v_fma(n, v_set1(2.12194440e-4f), r);
	vec p = v_set1(1.0f / 5040);
	p = v_fma(p, r, v_set1(1.0f / 720));
	p = v_fma(p, r, v_set1(1.0f / 120));
	p = v_fma(p, r, v_set1(1.0f / 24));
	p = v_fma(p, r, v_set1(1.0f / 6));
	p = v_fma(p, r, v_set1(0.5f));
	p = v_fma(p, v_mul(r, r), v_add(r, v_set1(1.0f)));
	return v_scale_2n(p, n);
}

#endif
