/*
 * kernels.c - attention, layer normalization, embedding and pooling for one
 * thread. Compiled once for each instruction set, with KERNELS naming the
 * table (see meson.build); simd.h hides the difference. No state; any thread.
 */
#include <math.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/simd.h"

static inline size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* x = (x - mean) / sqrt(variance + eps) gamma + beta. Two passes over a row
 * that lies in the first-level cache: no cancellation. */
static inline void normalize_row(size_t hidden, float eps, const float *gamma, const float *beta,
				 float *x)
{
	size_t whole = hidden - hidden % VEC_FLOATS, rest = hidden - whole;
	vec sum = v_set1(0), sum2 = v_set1(0);
	size_t i = 0;
	for (; i + 2 * VEC_FLOATS <= whole; i += 2 * VEC_FLOATS) {
		sum = v_add(sum, v_load(x + i));
		sum2 = v_add(sum2, v_load(x + i + VEC_FLOATS));
	}
	for (; i < whole; i += VEC_FLOATS)
		sum = v_add(sum, v_load(x + i));
	float total = v_sum(v_add(sum, sum2));
	for (size_t k = whole; k < hidden; k++)
		total += x[k];
	float mean = total / (float)hidden;

	vec m = v_set1(mean), square = v_set1(0), square2 = v_set1(0);
	for (i = 0; i + 2 * VEC_FLOATS <= whole; i += 2 * VEC_FLOATS) {
		vec a = v_sub(v_load(x + i), m), b = v_sub(v_load(x + i + VEC_FLOATS), m);
		square = v_fma(a, a, square);
		square2 = v_fma(b, b, square2);
	}
	for (; i < whole; i += VEC_FLOATS) {
		vec a = v_sub(v_load(x + i), m);
		square = v_fma(a, a, square);
	}
	float variance = v_sum(v_add(square, square2));
	for (size_t k = whole; k < hidden; k++)
		variance += (x[k] - mean) * (x[k] - mean);

	float scale = 1.0f / sqrtf(variance / (float)hidden + eps);
	vec s = v_set1(scale);
	for (i = 0; i < whole; i += VEC_FLOATS) {
		vec a = v_mul(v_sub(v_load(x + i), m), s);
		v_store(x + i, v_fma(a, v_load(gamma + i), v_load(beta + i)));
	}
	if (rest) {
		vec a = v_mul(v_sub(v_load_part(x + i, rest), m), s);
		a = v_fma(a, v_load_part(gamma + i, rest), v_load_part(beta + i, rest));
		v_store_part(x + i, a, rest);
	}
}

static void layer_norm(uint32_t first, uint32_t last, uint32_t hidden, float eps,
		       const float *gamma, const float *beta, float *x)
{
	for (size_t r = first; r < last; r++)
		normalize_row(hidden, eps, gamma, beta, x + r * hidden);
}

static void embed_rows(const struct vac_embed *embed, const struct vac_tokens *tokens,
		       uint32_t first, uint32_t last, float *y)
{
	size_t hidden = embed->hidden, s = 0;
	const float *words = embed->word, *positions = embed->position, *types = embed->type;
	for (size_t r = first; r < last; r++) {
		while (r >= tokens->starts[s + 1])
			s++;
		const float *word = words + (size_t)tokens->ids[r] * hidden;
		const float *position = positions + (r - tokens->starts[s]) * hidden;
		const float *type = types + (size_t)tokens->types[r] * hidden;
		float *to = y + r * hidden;
		size_t i = 0;
		for (; i + VEC_FLOATS <= hidden; i += VEC_FLOATS) {
			vec a = v_add(v_load(word + i), v_load(type + i));
			v_store(to + i, v_add(a, v_load(position + i)));
		}
		for (; i < hidden; i++)
			to[i] = word[i] + type[i] + position[i];
		normalize_row(hidden, embed->eps, embed->gamma, embed->beta, to);
	}
}

/* c[r][0 .. vecs) = sum over k of a[r][k] b[k][0 .. vecs) for TILE_ROWS rows;
 * vecs is a constant at every call, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void tile(const float *const a[TILE_ROWS],
						       size_t depth, const float *b,
						       size_t b_stride, float *const c[TILE_ROWS],
						       size_t at, int vecs)
{
	vec sum[TILE_ROWS][TILE_VECS];
#pragma GCC unroll 8
	for (int r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 3
		for (int v = 0; v < vecs; v++)
			sum[r][v] = v_set1(0);
	for (size_t k = 0; k < depth; k++) {
		vec column[TILE_VECS];
#pragma GCC unroll 3
		for (int v = 0; v < vecs; v++)
			column[v] = v_load(b + k * b_stride + (size_t)v * VEC_FLOATS);
#pragma GCC unroll 8
		for (int r = 0; r < TILE_ROWS; r++) {
			vec x = v_set1(a[r][k]);
#pragma GCC unroll 3
			for (int v = 0; v < vecs; v++)
				sum[r][v] = v_fma(x, column[v], sum[r][v]);
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 3
		for (int v = 0; v < vecs; v++)
			v_store(c[r] + at + (size_t)v * VEC_FLOATS, sum[r][v]);
}

/* The product of TILE_ROWS rows with a matrix of width floats a row (whole
 * vectors). */
static void multiply(const float *const a[TILE_ROWS], size_t depth, const float *b, size_t b_stride,
		     size_t width, float *const c[TILE_ROWS])
{
	size_t vecs = width / VEC_FLOATS, v = 0;
#if TILE_VECS == 3
	/* 4 vectors are two pairs, not three and a slow single one */
	for (; vecs - v >= 3 && vecs - v != 4; v += 3)
		tile(a, depth, b + v * VEC_FLOATS, b_stride, c, v * VEC_FLOATS, 3);
#endif
	for (; vecs - v >= 2; v += 2)
		tile(a, depth, b + v * VEC_FLOATS, b_stride, c, v * VEC_FLOATS, 2);
	if (v < vecs)
		tile(a, depth, b + v * VEC_FLOATS, b_stride, c, v * VEC_FLOATS, 1);
}

/* Turns scores[0 .. length) into exp(scale (score - most)), zeros up to
 * padded, and returns 1 / their sum. */
static inline float exponentials(float *scores, size_t length, size_t padded, float scale)
{
	for (size_t j = length; j < padded; j++)
		scores[j] = -INFINITY;
	vec most = v_load(scores);
	for (size_t j = VEC_FLOATS; j < padded; j += VEC_FLOATS)
		most = v_max(most, v_load(scores + j));
	vec m = v_set1(v_most(most)), s = v_set1(scale), sum = v_set1(0);
	for (size_t j = 0; j < padded; j += VEC_FLOATS) {
		vec e = v_exp_nonpositive(v_mul(v_sub(v_load(scores + j), m), s));
		if (j + VEC_FLOATS > length) {
			v_store(scores + j, e);
			for (size_t k = length; k < padded; k++)
				scores[k] = 0;
			e = v_load(scores + j);
		}
		sum = v_add(sum, e);
		v_store(scores + j, e);
	}
	return 1.0f / v_sum(sum);
}

/* K of one head, turned: turned[i][j] = k[j][i], rows of padded floats. */
static void turn(const float *k, size_t stride, size_t length, size_t head_size, float *turned,
		 size_t padded)
{
	size_t j = 0, whole = head_size - head_size % 8;
	for (; j + 8 <= length; j += 8)
		for (size_t i = 0; i < whole; i += 8)
			transpose_8x8(k + j * stride + i, stride, turned + i * padded + j, padded);
	for (size_t row = 0; row < length; row++)
		for (size_t i = row < j ? whole : 0; i < head_size; i++)
			turned[i * padded + row] = k[row * stride + i];
	for (size_t i = 0; i < head_size; i++)
		memset(turned + i * padded + length, 0, (padded - length) * sizeof(float));
}

/* What attend keeps: K turned; V with rows of whole vectors when a head is not
 * a whole number of them; one tile of scores; one tile of results. */
struct attend_layout {
	size_t padded, width;                           /* length, head size in whole vectors */
	size_t turned, values, scores, results, floats; /* where each starts */
};

static inline struct attend_layout attend_layout(size_t length, size_t head_size)
{
	struct attend_layout l;
	l.padded = round_up(length, VEC_FLOATS);
	l.width = round_up(head_size, VEC_FLOATS);
	l.turned = 0;
	l.values = l.turned + head_size * l.padded;
	l.scores = l.values + (l.width != head_size ? length * l.width : 0);
	l.scores = round_up(l.scores, 16);
	l.results = l.scores + TILE_ROWS * l.padded;
	l.floats = l.results + TILE_ROWS * l.width;
	return l;
}

static uint64_t attend_bytes(uint32_t length, uint32_t head_size)
{
	return attend_layout(length, head_size).floats * sizeof(float);
}

static void attend(const float *q, const float *k, const float *v, size_t stride, uint32_t length,
		   uint32_t head_size, float scale, uint32_t first, uint32_t last, float *buffer,
		   float *out, size_t out_stride)
{
	struct attend_layout l = attend_layout(length, head_size);
	float *turned = buffer + l.turned;
	const float *values = v;
	size_t values_stride = stride;
	turn(k, stride, length, head_size, turned, l.padded);
	if (l.width != head_size) {
		float *copy = buffer + l.values;
		memset(copy, 0, length * l.width * sizeof(float));
		for (size_t j = 0; j < length; j++)
			memcpy(copy + j * l.width, v + j * stride, head_size * sizeof(float));
		values = copy;
		values_stride = l.width;
	}

	const float *rows[TILE_ROWS];
	float *scores[TILE_ROWS], *results[TILE_ROWS], scales[TILE_ROWS];
	for (size_t r = 0; r < TILE_ROWS; r++) {
		scores[r] = buffer + l.scores + r * l.padded;
		results[r] = buffer + l.results + r * l.width;
	}
	for (size_t at = first; at < last; at += TILE_ROWS) {
		size_t count = last - at < TILE_ROWS ? last - at : TILE_ROWS;
		/* rows that are not there are the last one again */
		for (size_t r = 0; r < TILE_ROWS; r++)
			rows[r] = q + (at + (r < count ? r : count - 1)) * stride;
		multiply(rows, head_size, turned, l.padded, l.padded, scores);
		for (size_t r = 0; r < TILE_ROWS; r++)
			scales[r] = exponentials(scores[r], length, l.padded, scale);
		for (size_t r = 0; r < TILE_ROWS; r++)
			rows[r] = scores[r];
		multiply(rows, length, values, values_stride, l.width, results);
		for (size_t r = 0; r < count; r++) {
			float *to = out + (at + r) * out_stride;
			vec s = v_set1(scales[r]);
			size_t i = 0;
			for (; i + VEC_FLOATS <= head_size; i += VEC_FLOATS)
				v_store(to + i, v_mul(v_load(results[r] + i), s));
			for (; i < head_size; i++)
				to[i] = results[r][i] * scales[r];
		}
	}
}

static inline vec pool_column(enum vac_pooling pooling, uint32_t length, size_t hidden, vec factor,
			      const float *x)
{
	vec sum = v_load(x);
	if (pooling == VAC_POOLING_MAX) {
		for (size_t r = 1; r < length; r++)
			sum = v_max(sum, v_load(x + r * hidden));
		return sum;
	}
	for (size_t r = 1; r < length; r++)
		sum = v_add(sum, v_load(x + r * hidden));
	return v_mul(sum, factor);
}

static void pool(enum vac_pooling pooling, uint32_t length, uint32_t hidden, const float *x,
		 float *out)
{
	if (pooling == VAC_POOLING_CLS) {
		memcpy(out, x, hidden * sizeof(float));
		return;
	}
	float divisor = pooling == VAC_POOLING_MEAN ? (float)length : sqrtf((float)length);
	vec factor = v_set1(1.0f / divisor);
	size_t i = 0;
	for (; i + VEC_FLOATS <= hidden; i += VEC_FLOATS)
		v_store(out + i, pool_column(pooling, length, hidden, factor, x + i));
	for (; i < hidden; i++) {
		float sum = x[i];
		for (size_t r = 1; r < length; r++) {
			float next = x[r * hidden + i];
			sum = pooling != VAC_POOLING_MAX ? sum + next : next > sum ? next : sum;
		}
		out[i] = pooling == VAC_POOLING_MAX ? sum : sum / divisor;
	}
}

const struct vac_cpu_kernels KERNELS = {
	.name = KERNELS_NAME,
	.products = &PRODUCTS,
	.embed = embed_rows,
	.layer_norm = layer_norm,
	.attend_bytes = attend_bytes,
	.attend = attend,
	.pool = pool,
};
