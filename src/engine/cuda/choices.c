/*
 * choices.c - which of cuBLASLt's algorithms a product takes. Of the heuristic's
 * first few the fastest is measured, once on a machine: the cache of kernels.h
 * keeps it. Measured are the rows of a full batch, and a few points among small
 * ones.
 *
 * Whoever loads a model for the first time waits for it: all trials of a load take
 * vac_cuda_trials_ns together, each product at most a share of what is left. When that
 * has gone by, the best one so far is taken.
 *
 * Another algorithm may round otherwise, and a model is to give the same answer
 * after each load: for small batches, which single requests make, nothing is chosen
 * that the cache does not keep, and what the time for measuring did not reach keeps
 * the heuristic's choice for good. On the engine's thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/kernels/product.h"
#include "engine/cuda/linear.h"

#define CANDIDATES 8
#define ROUNDS     3    /* of measuring; the best time of each counts */
#define BETTER     0.99 /* of the time so far, or it is noise */
#define NEAR       1.1  /* times the best: worth another round */
#define REPEATS    16
#define LONG_NS    500000 /* a product that takes so long is measured by one */
#define SHARE      3      /* of the time left, for one product */
#define NEVER      1e12

/* Of the trials of one load. A variable for tests. */
int64_t vac_cuda_trials_ns = 100 * 1000000;
/* Beside that of the product with its GELU: one comparison, worth a tenth of each full batch. */
int64_t vac_cuda_fused_ns = 10 * 1000000;

/* The most telling ones first: the time may end. */
static const uint32_t points[VAC_LINEAR_POINTS] = {16, 32, 64, 128, 256, 512};
static const uint32_t order[VAC_LINEAR_POINTS] = {0, 3, 1, 2, 5, 4};

uint32_t vac_linear_point(uint32_t rows)
{
	uint32_t i = 0;
	while (i + 1 < VAC_LINEAR_POINTS && points[i] < rows)
		i++;
	return i;
}

/* The name of choices in the cache. The library's file tells builds of one version
 * apart; a table of a test's own has none. */
static bool choice_name(const struct vac_compute *c, const struct vac_linear *l, const char *which,
			char out[200])
{
	const struct vac_linear_shape *s = &l->shape;
	const char *path = vac_blas_path();
	int version[3];
	struct stat st = {0};
	if (path && stat(path, &st) != 0)
		return false;
	for (int i = 0; i < 3; i++)
		if (l->blas->property(i, &version[i]) != 0)
			return false;
	snprintf(out, 200, "product-%d.%d.%d-%jx-%jx-sm_%d-%d-%d-%ux%u-%s-%d%d%d", version[0],
		 version[1], version[2], (uintmax_t)st.st_size, (uintmax_t)st.st_mtime,
		 c->architecture, c->driver, (int)l->dtype, s->in, s->out, which, s->bias,
		 s->accumulate, s->activation == VAC_ACTIVATION_RELU);
	return true;
}

/* Where a trial has its matrices: in the workspace behind cuBLASLt's own, with
 * whatever values. Of the weights as many copies as there is room for, up to one
 * for each repeat: a model's come from memory, not from a cache. The widest products of a
 * full batch leave no room for any: they find some in x, which is only read, too. */
struct trial {
	uint8_t *x, *y, *weights;
	uint64_t weight_bytes;
	uint32_t copies; /* 0: no room */
};

static struct trial lay_out(const struct vac_compute *c, const struct vac_linear *l, uint32_t rows)
{
	const struct vac_linear_shape *s = &l->shape;
	const uint64_t width = vac_dtype_bytes(l->dtype), x_bytes = (uint64_t)rows * s->in * width,
		       y_bytes = (uint64_t)rows * s->out * width,
		       used = VAC_CUDA_BLAS_WORKSPACE_BYTES + x_bytes + y_bytes,
		       behind = (used + VAC_PACKED_ALIGNMENT - 1) / VAC_PACKED_ALIGNMENT *
				VAC_PACKED_ALIGNMENT;
	struct trial t = {.weight_bytes = (uint64_t)s->in * s->out * width};
	uint8_t *base = c->workspace;
	if (!base || used > c->workspace_bytes)
		return t;
	t.x = base + VAC_CUDA_BLAS_WORKSPACE_BYTES;
	t.y = t.x + x_bytes;
	t.weights = base + behind;
	uint64_t room = behind < c->workspace_bytes ? c->workspace_bytes - behind : 0;
	if (room < t.weight_bytes) {
		t.weights = t.x;
		room = x_bytes;
	}
	t.copies = room / t.weight_bytes < REPEATS ? (uint32_t)(room / t.weight_bytes) : REPEATS;
	return t;
}

/* Waits for what is tried out. false: it failed, and is no choice; only what ended the
 * context concerns the load, too, and stays noted. */
static bool ended_well(struct vac_compute *c)
{
	vac_cuda_note(c, c->cuda->stream_synchronize(c->stream), "trying out a product");
	return vac_cuda_failed(c, NULL) == 0;
}

/* Nanoseconds of so many products, one after the other; negative: it does not work. */
static double measure(struct vac_compute *c, const struct vac_linear *l, uint32_t rows,
		      const struct trial *t, const struct vac_blas_algorithm *algorithm,
		      int repeats)
{
	int64_t start = vac_now_ns();
	int status = 0;
	/* Small ones take the GPU less time than the processor needs to ask for them: all
	 * are asked for while something else is computed, which takes as long each time. */
	if (repeats > 1 && rows <= VAC_CUDA_SMALL_ROWS)
		vac_cuda_activate(c, VAC_ACTIVATION_RELU,
				  t->copies * t->weight_bytes / vac_dtype_bytes(l->dtype),
				  t->weights);
	for (int i = 0; status == 0 && i < repeats; i++)
		status = vac_linear_multiply(c, l,
					     t->weights + (uint32_t)i % t->copies * t->weight_bytes,
					     t->x, t->y, algorithm);
	return ended_well(c) && status == 0 ? (double)(vac_now_ns() - start) / repeats : -1;
}

/* Nanoseconds of one product; NEVER: it does not work. first: with its kernel still to be
 * loaded, perhaps. */
static double try_out(struct vac_compute *c, const struct vac_linear *l, uint32_t rows,
		      const struct trial *t, const struct vac_blas_choice *choice, bool first)
{
	const struct vac_blas_algorithm *algorithm = &choice->algorithm;
	double ns = choice->state == 0 ? 0 : -1;
	if (ns == 0 && first)
		ns = measure(c, l, rows, t, algorithm, 1);
	if (ns >= 0)
		ns = measure(c, l, rows, t, algorithm, 1);
	if (ns >= 0 && ns < LONG_NS)
		ns = measure(c, l, rows, t, algorithm, REPEATS);
	return ns < 0 ? NEVER : ns;
}

static double smallest(const double *ns, int count)
{
	double best = ns[0];
	for (int i = 1; i < count; i++)
		if (ns[i] < best)
			best = ns[i];
	return best;
}

/* The fastest of the candidates, as far as they were tried before the end. Their order is
 * that of the heuristic, whose first one stays unless another is clearly faster. */
static const struct vac_blas_choice *fastest(struct vac_compute *c, const struct vac_linear *l,
					     uint32_t rows, const struct trial *t,
					     const struct vac_blas_choice *choices, int count,
					     int64_t end_ns)
{
	double ns[CANDIDATES];
	int chosen = 0, tried = 0;
	while (tried < count && c->failure == 0) {
		/* each takes about as long as the best, twice */
		double best = tried ? smallest(ns, tried) : 0;
		if (vac_now_ns() + (best < NEVER ? (int64_t)(2 * best) : 0) > end_ns)
			break;
		ns[tried] = try_out(c, l, rows, t, &choices[tried], true);
		tried++;
	}
	for (int round = 1; round < ROUNDS && tried > 1; round++) {
		double best = smallest(ns, tried);
		for (int i = 0; i < tried && c->failure == 0; i++) {
			if (ns[i] > best * NEAR || vac_now_ns() + (int64_t)best > end_ns)
				continue;
			double again = try_out(c, l, rows, t, &choices[i], false);
			ns[i] = again < ns[i] ? again : ns[i];
		}
	}
	for (int i = 1; c->failure == 0 && i < tried; i++)
		if (ns[i] < ns[chosen] * BETTER)
			chosen = i;
	if (tried > 0 && ns[chosen] < NEVER && ns[chosen] >= LONG_NS)
		c->trials.ns_each[l->dtype] =
			ns[chosen] / ((double)rows * l->shape.in * l->shape.out);
	return &choices[chosen];
}

/* What is known of products of this type says that two cannot be compared until then. */
static bool is_hopeless(const struct vac_compute *c, const struct vac_linear *l, uint32_t rows,
			int64_t end_ns)
{
	double ns = c->trials.ns_each[l->dtype] * rows * l->shape.in * l->shape.out;
	return vac_now_ns() + (int64_t)(4 * ns) > end_ns;
}

/* The heuristic's first choice, or the fastest one that was found until then. */
static int find(struct vac_compute *c, struct vac_linear *l, uint32_t rows, int64_t end_ns,
		struct vac_blas_choice *out)
{
	struct vac_blas_choice choices[CANDIDATES] = {0};
	const struct trial t = lay_out(c, l, rows);
	int count = t.copies && !is_hopeless(c, l, rows, end_ns) ? CANDIDATES : 1;
	int status = vac_linear_ask(c, l, rows, choices, &count);
	if (status != 0)
		return status;
	*out = choices[0];
	if (count < 2)
		return 0;
	if (l->shape.bias)
		status = vac_linear_set_bias(l, t.weights);
	if (status == 0)
		*out = *fastest(c, l, rows, &t, choices, count, end_ns);
	return status;
}

/* Nanoseconds of gelu(x W^T + b), by one kernel or (VAC_TILE_NONE) by this algorithm and a
 * kernel after it; negative: it does not work. */
static double measure_gelu(struct vac_compute *c, const struct vac_linear *l, uint32_t rows,
			   const struct trial *t, const struct vac_blas_algorithm *algorithm,
			   enum vac_tile tile, int repeats)
{
	int64_t start = vac_now_ns();
	int status = 0;
	for (int i = 0; status == 0 && i < repeats; i++) {
		const uint8_t *weights = t->weights + (uint32_t)i % t->copies * t->weight_bytes;
		if (tile != VAC_TILE_NONE) {
			vac_product_multiply(c, l, tile, weights, t->weights, rows, t->x, t->y);
			continue;
		}
		status = vac_linear_multiply(c, l, weights, t->x, t->y, algorithm);
		vac_cuda_activate(c, l->shape.activation, (uint64_t)rows * l->shape.out, t->y);
	}
	return ended_well(c) && status == 0 ? (double)(vac_now_ns() - start) / repeats : -1;
}

/* Until when one product may be tried out. */
static int64_t end_of_share(const struct vac_compute *c, int64_t now_ns)
{
	int64_t left = vac_cuda_trials_ns - c->trials.spent_ns;
	return left > 0 ? now_ns + left / SHARE : 0;
}

int vac_linear_choose(struct vac_compute *c, struct vac_linear *l, uint32_t rows,
		      struct vac_blas_choice *out)
{
	char name[200], which[16];
	snprintf(which, sizeof(which), "%" PRIu32, rows);
	bool named = choice_name(c, l, which, name);
	if (named && vac_cuda_cache_get(name, out, sizeof(*out)))
		return 0;
	int64_t start = vac_now_ns();
	int status = find(c, l, rows, end_of_share(c, start), out);
	c->trials.spent_ns += vac_now_ns() - start;
	if (status == 0 && named && c->failure == 0)
		vac_cuda_cache_put(name, out, sizeof(*out));
	return status;
}

/* The tile that is faster than two kernels and has the same results, or none of them; negative:
 * there was no time or memory to find out. The best of several times each. */
static int compare_fused(struct vac_compute *c, const struct vac_linear *l, uint32_t rows,
			 const struct vac_blas_choice *choice, int64_t end_ns)
{
	const struct trial t = lay_out(c, l, rows);
	double best[VAC_TILES], ns = 0;
	bool works[VAC_TILES];
	int fastest_tile = VAC_TILE_NONE;
	/* an algorithm that the cache had was not asked for: the rows are those of another one */
	if (!t.copies || is_hopeless(c, l, rows, end_ns) ||
	    vac_linear_set_bias(l, t.weights) != 0 || vac_linear_set_rows(l, rows) != 0)
		return -1;
	for (int tile = 0; tile < VAC_TILES; tile++) {
		best[tile] = NEVER;
		works[tile] = tile == VAC_TILE_NONE || vac_product_serves(c, l, tile);
	}
	for (int round = 0; round <= ROUNDS; round++) {
		const int repeats = round && ns < LONG_NS ? ROUNDS : 1;
		for (int tile = 0; tile < VAC_TILES; tile++) {
			if (!works[tile])
				continue;
			if (vac_now_ns() + (int64_t)(repeats * ns) > end_ns)
				return -1;
			double took =
				measure_gelu(c, l, rows, &t, &choice->algorithm, tile, repeats);
			if (took < 0 && tile == VAC_TILE_NONE)
				return -1;
			works[tile] = took >= 0;
			ns = works[tile] ? took : ns;
			/* the first time kernels are loaded */
			best[tile] = works[tile] && round && took < best[tile] ? took : best[tile];
		}
	}
	for (int tile = 1; tile < VAC_TILES; tile++) {
		const struct vac_agreement same = {
			(enum vac_tile)tile, &choice->algorithm, rows, t.x, t.y, t.weights};
		if (!works[tile] || best[tile] >= best[fastest_tile] ||
		    best[tile] >= BETTER * best[VAC_TILE_NONE])
			continue;
		int agrees = vac_product_agrees(c, l, &same);
		if (agrees < 0)
			return -1;
		fastest_tile = agrees ? tile : fastest_tile;
	}
	return fastest_tile;
}

/* What the cache has of it: a tile, or (negative) not yet, one less for each trial that never
 * ended. */
#define UNKNOWN  (-1)
#define LAST_TRY (UNKNOWN - 2)

static int32_t cached_tile(const struct vac_compute *c, const struct vac_linear *l,
			   const char *name)
{
	int32_t tile;
	if (!vac_cuda_cache_get(name, &tile, sizeof(tile)) || tile < LAST_TRY - 1)
		return UNKNOWN;
	if (tile > VAC_TILE_NONE &&
	    (tile >= VAC_TILES || !vac_product_serves(c, l, (enum vac_tile)tile)))
		return UNKNOWN;
	return tile;
}

int vac_linear_choose_fused(struct vac_compute *c, const struct vac_linear *l, uint32_t rows,
			    const struct vac_blas_choice *choice)
{
	char name[200], which[32];
	int32_t known = UNKNOWN, trying, fused;
	if (c->failure < 0 ||
	    (!vac_product_serves(c, l, VAC_TILE_128) && !vac_product_serves(c, l, VAC_TILE_192)))
		return VAC_TILE_NONE;
	snprintf(which, sizeof(which), "%" PRIu32 "-fused%d", rows, VAC_PRODUCT_VERSION);
	bool named = choice_name(c, l, which, name);
	if (named)
		known = cached_tile(c, l, name);
	if (known >= 0)
		return known;
	if (known < LAST_TRY)
		return VAC_TILE_NONE;
	/* A kernel that ends the context takes its worker along: three times, and no more. */
	trying = known - 1;
	if (named)
		vac_cuda_cache_put(name, &trying, sizeof(trying));
	int64_t now = vac_now_ns(), own = now + vac_cuda_fused_ns, share = end_of_share(c, now);
	fused = compare_fused(c, l, rows, choice, share > own ? share : own);
	now = vac_now_ns();
	c->trials.spent_ns += now > own ? now - own : 0;
	if (c->failure < 0)
		return -1;
	known = fused < 0 ? known : fused;
	if (named)
		vac_cuda_cache_put(name, &known, sizeof(known));
	return fused;
}

static int find_small(struct vac_compute *c, struct vac_linear *l, bool try)
{
	int64_t start = vac_now_ns(), end = try ? end_of_share(c, start) : 0;
	int status = 0;
	for (uint32_t i = 0; status == 0 && i < VAC_LINEAR_POINTS; i++)
		status = find(c, l, points[order[i]], end, &l->small[order[i]]);
	if (try)
		c->trials.spent_ns += vac_now_ns() - start;
	return status;
}

int vac_linear_choose_small(struct vac_compute *c, struct vac_linear *l)
{
	char name[200];
	if (l->small_chosen)
		return 0;
	bool named = choice_name(c, l, "small", name);
	l->small_chosen = named && vac_cuda_cache_get(name, l->small, sizeof(l->small));
	if (l->small_chosen)
		return 0;
	/* a file of the heuristic's choices first: where none can be written none is tried */
	int status = find_small(c, l, false);
	if (status == 0 && named && vac_cuda_cache_put(name, l->small, sizeof(l->small))) {
		status = find_small(c, l, true);
		if (status == 0 && c->failure == 0 &&
		    !vac_cuda_cache_put(name, l->small, sizeof(l->small)))
			status = find_small(c, l, false);
	}
	l->small_chosen = status == 0;
	return status;
}
