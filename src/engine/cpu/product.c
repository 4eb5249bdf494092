/*
 * product.c - products for one thread. Compiled once for each instruction set,
 * with PRODUCTS naming the table (see meson.build); simd.h hides the
 * difference. No state; any thread.
 *
 * A tile of TILE_ROWS x TILE_VECS vectors of sums stays in registers while the
 * depth passes. Depth is cut into blocks, so that a block of a panel and the
 * block's part of x stay in the second-level cache while all rows of a piece
 * pass. Meanwhile the next block is fetched, evenly over the tiles: with few
 * rows that is what sets the speed.
 */
#include <math.h>

#include "engine/cpu/product.h"
#include "engine/cpu/simd.h"

#define PANEL_COLUMNS ((size_t)TILE_VECS * VEC_FLOATS)
#define DEPTH_BLOCK   384
#define STEP          8 /* inputs between two bursts of fetching */
#define LINE_BYTES    64

/* What follows in the order of the loops: lines that each step fetches. */
struct ahead {
	const char *at;
	size_t lines; /* of one step */
};

/* One tile: sums over depth inputs, then start[column] and, with from_y, what
 * stands in y; added last, so that large numbers there cost no digits of the
 * sums. rows and vecs are constants at every call, so that
 * the sums stay in registers. */
static inline __attribute__((always_inline)) void
tile(const float *x, size_t x_stride, size_t depth, const float *panel, const float *start,
     bool from_y, float *y, size_t y_stride, struct ahead ahead, int rows, int vecs)
{
	vec sum[TILE_ROWS][TILE_VECS];
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
		for (int v = 0; v < vecs; v++)
			sum[r][v] = v_set1(0);
	for (size_t k = 0; k < depth;) {
		size_t end = depth - k < STEP ? depth : k + STEP;
		for (size_t l = 0; l < ahead.lines; l++, ahead.at += LINE_BYTES)
			__builtin_prefetch(ahead.at, 0, 2);
		for (; k < end; k++) {
			vec column[TILE_VECS];
#pragma GCC unroll 3
			for (int v = 0; v < vecs; v++)
				column[v] = v_load(panel + v * VEC_FLOATS);
			panel += vecs * VEC_FLOATS;
#pragma GCC unroll 8
			for (int r = 0; r < rows; r++) {
				vec a = v_set1(x[r * x_stride + k]);
#pragma GCC unroll 3
				for (int v = 0; v < vecs; v++)
					sum[r][v] = v_fma(a, column[v], sum[r][v]);
			}
		}
	}
#pragma GCC unroll 3
	for (int v = 0; v < vecs; v++) {
		vec add = v_load(start + v * VEC_FLOATS);
#pragma GCC unroll 8
		for (int r = 0; r < rows; r++)
			sum[r][v] = v_add(sum[r][v], add);
	}
	if (from_y)
#pragma GCC unroll 8
		for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
			for (int v = 0; v < vecs; v++)
				sum[r][v] =
					v_add(sum[r][v], v_load(y + r * y_stride + v * VEC_FLOATS));
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
		for (int v = 0; v < vecs; v++)
			v_store(y + r * y_stride + v * VEC_FLOATS, sum[r][v]);
}

/* The tile of that many rows and vectors. */
#define TILE(r, v)                                                                                 \
	static void tile_##r##_##v(const float *x, size_t x_stride, size_t depth,                  \
				   const float *panel, const float *start, bool from_y, float *y,  \
				   size_t y_stride, struct ahead ahead)                            \
	{                                                                                          \
		tile(x, x_stride, depth, panel, start, from_y, y, y_stride, ahead, r, v);          \
	}
#if TILE_VECS == 3
#define TILES(r) TILE(r, 1) TILE(r, 2) TILE(r, 3)
#define TILE_ROW(r)                                                                                \
	{                                                                                          \
		tile_##r##_1, tile_##r##_2, tile_##r##_3                                           \
	}
#else
#define TILES(r) TILE(r, 1) TILE(r, 2)
#define TILE_ROW(r)                                                                                \
	{                                                                                          \
		tile_##r##_1, tile_##r##_2                                                         \
	}
#endif
TILES(1)
TILES(2)
TILES(3)
TILES(4)
#if TILE_ROWS == 8
TILES(5)
TILES(6)
TILES(7)
TILES(8)
#endif
typedef void tile_fn(const float *x, size_t x_stride, size_t depth, const float *panel,
		     const float *start, bool from_y, float *y, size_t y_stride,
		     struct ahead ahead);
static tile_fn *const tiles[TILE_ROWS][TILE_VECS] = {
	TILE_ROW(1), TILE_ROW(2), TILE_ROW(3), TILE_ROW(4),
#if TILE_ROWS == 8
	TILE_ROW(5), TILE_ROW(6), TILE_ROW(7), TILE_ROW(8),
#endif
};

/*
 * x Phi(x) = max(x, 0) + u Phi(u) with u = -|x|. log2 Phi(u) is smooth: a
 * polynomial of degree 8 on [-6, 0] (fitted to the error that is left in
 * u Phi(u): 8e-9), and one of degree 5 for 2^r (7e-8 of the result). Below -6
 * u Phi(u) is taken as that of -6: -6e-9.
 */
static inline vec v_gelu(vec x)
{
	static const float log2_phi[] = {
		1.15111389f,     -0.459150746f,    0.052649397f,    0.00726804195f,
		0.000285477402f, -0.000126969236f, -2.72614683e-5f, -1.84496416e-6f,
	};
	vec zero = v_set1(0), u = v_max(v_sub(zero, v_max(x, v_sub(zero, x))), v_set1(-6));
	vec q = v_set1(log2_phi[7]);
#pragma GCC unroll 8
	for (int i = 6; i >= 0; i--)
		q = v_fma(q, u, v_set1(log2_phi[i]));
	q = v_fma(q, u, v_set1(-0.999999758f));
	vec n = v_round(q), r = v_sub(q, n);
	vec p = v_set1(0.00132764709f);
	p = v_fma(p, r, v_set1(0.00967554191f));
	p = v_fma(p, r, v_set1(0.0555071328f));
	p = v_fma(p, r, v_set1(0.240221197f));
	p = v_fma(p, r, v_set1(0.693146967f));
	p = v_fma(p, r, v_set1(1.00000007f));
	/* the second operand is what v_max gives when one is not a number */
	return v_fma(u, v_scale_2n(p, n), v_max(zero, x));
}

/* x s(z), s the logistic function and z = 2 sqrt(2 / pi) (x + 0.044715 x^3),
 * in the same way: max(x, 0) + u s(z(u)), of which nothing is left below -12. */
static inline vec v_gelu_tanh(vec x)
{
	vec zero = v_set1(0), one = v_set1(1);
	vec u = v_max(v_sub(zero, v_max(x, v_sub(zero, x))), v_set1(-12));
	vec z = v_mul(u, v_fma(v_mul(u, u), v_set1(0.0713548163f), v_set1(1.59576912f)));
	vec e = v_exp_nonpositive(z);
	return v_fma(u, v_div(e, v_add(one, e)), v_max(zero, x));
}

static inline vec v_activate(enum vac_activation activation, vec x)
{
	if (activation == VAC_ACTIVATION_GELU)
		return v_gelu(x);
	if (activation == VAC_ACTIVATION_GELU_TANH)
		return v_gelu_tanh(x);
	return v_max(v_set1(0), x);
}

/* The last step of a tile, while it is hot. */
static inline __attribute__((always_inline)) void
activate_rows(enum vac_activation activation, float *y, size_t stride, size_t rows, size_t columns)
{
	for (size_t r = 0; r < rows; r++, y += stride) {
		size_t i = 0;
		for (; i + VEC_FLOATS <= columns; i += VEC_FLOATS)
			v_store(y + i, v_activate(activation, v_load(y + i)));
		if (i < columns)
			v_store_part(y + i, v_activate(activation, v_load_part(y + i, columns - i)),
				     columns - i);
	}
}

/* Of heads only: the library's functions, one number at a time. */
static void activate_slowly(enum vac_activation activation, float *y, size_t stride, size_t rows,
			    size_t columns)
{
	for (size_t r = 0; r < rows; r++, y += stride)
		for (size_t i = 0; i < columns; i++)
			y[i] = activation == VAC_ACTIVATION_TANH ? tanhf(y[i])
								 : 1 / (1 + expf(-y[i]));
}

static void activate(enum vac_activation activation, float *y, size_t stride, size_t rows,
		     size_t columns)
{
	switch (activation) {
	case VAC_ACTIVATION_NONE:
		break;
	case VAC_ACTIVATION_GELU:
		activate_rows(VAC_ACTIVATION_GELU, y, stride, rows, columns);
		break;
	case VAC_ACTIVATION_GELU_TANH:
		activate_rows(VAC_ACTIVATION_GELU_TANH, y, stride, rows, columns);
		break;
	case VAC_ACTIVATION_RELU:
		activate_rows(VAC_ACTIVATION_RELU, y, stride, rows, columns);
		break;
	default:
		activate_slowly(activation, y, stride, rows, columns);
	}
}

/* One block of depth of one panel, for all rows. */
struct block {
	const struct vac_cpu_piece *piece;
	size_t column, columns, vecs; /* of the panel; vecs: with what pads it */
	size_t depth_first, depth;
	const float *panel; /* of the block */
	const char *next;   /* the block that comes after this one */
	size_t next_lines;
	bool first, last; /* of the depth */
};

/* A panel that is not whole vectors wide: its tile of y goes through a copy. */
static void run_ragged(const struct block *b, const float *x, const float *start, bool from_y,
		       float *y, size_t rows, struct ahead ahead)
{
	float copy[TILE_ROWS * PANEL_COLUMNS] = {0};
	const struct vac_linear_shape *shape = b->piece->shape;
	if (from_y)
		for (size_t r = 0; r < rows; r++)
			memcpy(copy + r * PANEL_COLUMNS, y + r * shape->out,
			       b->columns * sizeof(float));
	tiles[rows - 1][b->vecs - 1](x, shape->in, b->depth, b->panel, start, from_y, copy,
				     PANEL_COLUMNS, ahead);
	for (size_t r = 0; r < rows; r++)
		memcpy(y + r * shape->out, copy + r * PANEL_COLUMNS, b->columns * sizeof(float));
}

static void run_block(const struct block *b)
{
	const struct vac_cpu_piece *p = b->piece;
	const struct vac_linear_shape *shape = p->shape;
	float start[PANEL_COLUMNS] = {0};
	if (b->first && p->bias)
		memcpy(start, p->bias + b->column, b->columns * sizeof(float));
	bool from_y = !b->first || shape->accumulate;
	size_t count = (p->rows + TILE_ROWS - 1) / TILE_ROWS;
	size_t steps = count * ((b->depth + STEP - 1) / STEP);
	struct ahead ahead = {b->next, (b->next_lines + steps - 1) / steps};
	for (size_t i = 0; i < count; i++) {
		/* tiles of even heights: one row takes a third of the time of eight */
		size_t row = p->rows * i / count, rows = p->rows * (i + 1) / count - row;
		const float *x = p->x + row * shape->in + b->depth_first;
		float *y = p->y + row * shape->out + b->column;
		if (b->columns == b->vecs * VEC_FLOATS)
			tiles[rows - 1][b->vecs - 1](x, shape->in, b->depth, b->panel, start,
						     from_y, y, shape->out, ahead);
		else
			run_ragged(b, x, start, from_y, y, rows, ahead);
		if (b->last)
			activate(shape->activation, y, shape->out, rows, b->columns);
		ahead.at += ahead.lines * LINE_BYTES * ((b->depth + STEP - 1) / STEP);
		if (ahead.at >= b->next + b->next_lines * LINE_BYTES)
			ahead.lines = 0;
	}
}

/* Fills in what depends on the panel; depth_first and depth are set. */
static void find_panel(struct block *b, size_t panel)
{
	const struct vac_linear_shape *shape = b->piece->shape;
	b->column = panel * PANEL_COLUMNS;
	b->columns =
		shape->out - b->column < PANEL_COLUMNS ? shape->out - b->column : PANEL_COLUMNS;
	b->vecs = (b->columns + VEC_FLOATS - 1) / VEC_FLOATS;
	b->panel = b->piece->packed + b->column * shape->in + b->depth_first * b->vecs * VEC_FLOATS;
}

static void multiply(const struct vac_cpu_piece *p)
{
	size_t in = p->shape->in, blocks = (in + DEPTH_BLOCK - 1) / DEPTH_BLOCK;
	size_t panels = p->last - p->first;
	for (size_t i = 0; i < blocks * panels; i++) {
		struct block b = {.piece = p}, next = {.piece = p};
		size_t at = i / panels, then = (i + 1) / panels;
		b.depth_first = in * at / blocks;
		b.depth = in * (at + 1) / blocks - b.depth_first;
		b.first = at == 0;
		b.last = at + 1 == blocks;
		find_panel(&b, p->first + i % panels);
		if (then < blocks) {
			next.depth_first = in * then / blocks;
			next.depth = in * (then + 1) / blocks - next.depth_first;
			find_panel(&next, p->first + (i + 1) % panels);
		} else if (p->next * PANEL_COLUMNS < p->shape->out) {
			next.depth = in / blocks;
			find_panel(&next, p->next);
		}
		b.next = (const char *)next.panel;
		b.next_lines = next.depth * next.vecs * VEC_FLOATS * sizeof(float) / LINE_BYTES;
		run_block(&b);
	}
}

static void pack(uint32_t inputs, uint32_t out, const float *weight, uint32_t panel, float *packed)
{
	size_t in = inputs, first = panel * PANEL_COLUMNS, c = 0, whole = in - in % 8;
	size_t columns = out - first < PANEL_COLUMNS ? out - first : PANEL_COLUMNS;
	size_t width = (columns + VEC_FLOATS - 1) / VEC_FLOATS * VEC_FLOATS;
	weight += first * in;
	packed += first * in;
	for (; c + 8 <= columns; c += 8) {
		for (size_t k = 0; k < whole; k += 8)
			transpose_8x8(weight + c * in + k, in, packed + k * width + c, width);
		for (size_t k = whole; k < in; k++)
			for (size_t i = c; i < c + 8; i++)
				packed[k * width + i] = weight[i * in + k];
	}
	for (; c < width; c++)
		for (size_t k = 0; k < in; k++)
			packed[k * width + c] = c < columns ? weight[c * in + k] : 0;
}

const struct vac_cpu_products PRODUCTS = {
	.vector_columns = VEC_FLOATS,
	.panel_columns = PANEL_COLUMNS,
	.pack = pack,
	.multiply = multiply,
};
