/*
 * test_kernels.c - operations against straightforward formulas in double
 * precision: the reference backend, the cpu backend, and each instruction
 * set's kernels that this processor can run, over many shapes, odd ones too.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cpu/kernels.h"
#include "engine/team.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const names[] = {"reference", "cpu"};
static uint64_t random_state = 1;

static float next_random(void)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(random_state >> 40) / (1 << 24) * 2 - 1);
}

static float *random_floats(size_t count, float spread)
{
	/* whole cache lines: what packed weights and scratch are aligned to */
	float *x = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
	for (size_t i = 0; i < count; i++)
		x[i] = spread * next_random();
	return x;
}

static void check(const char *what, size_t at, float got, double expected, double tolerance)
{
	if (!(fabs(got - expected) <= tolerance * (1 + fabs(expected))))
		fail_msg("%s at %zu: %.9g, expected %.9g", what, at, got, expected);
}

static struct vac_compute *open_backend(const char *name, uint32_t threads,
					const struct vac_backend **backend)
{
	struct vac_compute *c = NULL;
	struct vac_error err;
	const struct vac_compute_options options = {.threads = threads};
	if (vac_backend_find(name, backend, &err) < 0 || (*backend)->open(&options, &c, &err) < 0)
		fail_msg("%s", err.message);
	return c;
}

static double activate(enum vac_activation activation, double x)
{
	switch (activation) {
	case VAC_ACTIVATION_GELU:
		return x * 0.5 * erfc(-x / sqrt(2));
	case VAC_ACTIVATION_GELU_TANH:
		return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * pow(x, 3))));
	case VAC_ACTIVATION_RELU:
		return x > 0 ? x : 0;
	case VAC_ACTIVATION_TANH:
		return tanh(x);
	case VAC_ACTIVATION_SIGMOID:
		return 1 / (1 + exp(-x));
	default:
		return x;
	}
}

/* y against the sums; before: what stood in y. */
static void check_product(const struct vac_linear_shape *shape, uint32_t rows, const float *weight,
			  const float *bias, const float *x, const float *before, const float *y)
{
	for (uint32_t r = 0; r < rows; r++) {
		for (uint32_t o = 0; o < shape->out; o++) {
			size_t at = (size_t)r * shape->out + o;
			double sum = shape->bias ? bias[o] : 0;
			for (uint32_t i = 0; i < shape->in; i++)
				sum += (double)x[(size_t)r * shape->in + i] *
				       weight[(size_t)o * shape->in + i];
			sum = activate(shape->activation, sum);
			check("linear", at, y[at], shape->accumulate ? before[at] + sum : sum,
			      1e-6 + 4e-8 * shape->in);
		}
	}
}

static void check_linear(const struct vac_backend *be, struct vac_compute *c,
			 const struct vac_linear_shape *shape, uint32_t rows)
{
	struct vac_linear *linear;
	struct vac_error err;
	uint64_t workspace_bytes;
	if (be->linear_open(c, shape, &linear, &err) < 0)
		fail_msg("%s", err.message);
	uint32_t room = be->round_rows(c, rows);
	assert_true(room >= rows && room <= rows + 8);
	assert_int_equal(be->round_rows(c, room), room);
	size_t packed_floats = be->linear_packed_bytes(linear) / sizeof(float);
	float *weight = random_floats((size_t)shape->in * shape->out, 1);
	float *packed = random_floats(packed_floats, 1);
	float *bias = random_floats(shape->out, 1);
	float *x = random_floats((size_t)room * shape->in, 1);
	float *y = random_floats((size_t)room * shape->out, 1), *before;
	before = malloc((size_t)rows * shape->out * sizeof(float));
	memcpy(before, y, (size_t)rows * shape->out * sizeof(float));
	assert_int_equal(be->linear_pack(c, linear, weight, packed, &err), 0);
	assert_int_equal(be->linear_workspace(c, linear, rows, &workspace_bytes, &err), 0);
	float *workspace = random_floats(workspace_bytes / 4 + 1, 1);
	be->workspace(c, workspace, workspace_bytes);
	assert_int_equal(be->linear(c, linear, packed, shape->bias ? bias : NULL, rows, x, y, &err),
			 0);
	check_product(shape, rows, weight, bias, x, before, y);
	free(weight);
	free(packed);
	free(bias);
	free(x);
	free(y);
	free(before);
	free(workspace);
	be->linear_close(c, linear);
}

static const uint32_t row_counts[] = {1, 2, 3, 5, 8, 9, 17, 33, 100, 129, 300};
static const struct vac_linear_shape linear_shapes[] = {
	{1, 1, true, false, VAC_ACTIVATION_NONE},
	{7, 13, true, true, VAC_ACTIVATION_NONE},
	{32, 96, true, false, VAC_ACTIVATION_GELU},
	{20, 60, false, false, VAC_ACTIVATION_GELU_TANH},
	{64, 64, false, true, VAC_ACTIVATION_NONE},
	{65, 63, true, false, VAC_ACTIVATION_RELU},
	{48, 130, true, false, VAC_ACTIVATION_TANH},
	{384, 100, true, false, VAC_ACTIVATION_SIGMOID},
	{200, 384, true, true, VAC_ACTIVATION_NONE},
	/* more than one block of depth, of uneven sizes */
	{385, 50, true, true, VAC_ACTIVATION_NONE},
	{1000, 40, true, false, VAC_ACTIVATION_GELU},
};

static void test_linear(void **state)
{
	(void)state;
	for (size_t b = 0; b < COUNT(names); b++) {
		const struct vac_backend *be;
		struct vac_compute *c = open_backend(names[b], 2, &be);
		for (size_t s = 0; s < COUNT(linear_shapes); s++)
			for (size_t r = 0; r < COUNT(row_counts); r++)
				check_linear(be, c, &linear_shapes[s], row_counts[r]);
		be->close(c);
	}
}

/* Two users of one kind; the second goes on after the first has closed. */
static void test_linear_is_shared(void **state)
{
	(void)state;
	const struct vac_linear_shape shape = {.in = 32, .out = 32, .bias = true};
	const struct vac_backend *be;
	struct vac_compute *c = open_backend("cpu", 1, &be);
	struct vac_linear *a, *b;
	struct vac_error err;
	assert_int_equal(be->linear_open(c, &shape, &a, &err), 0);
	assert_int_equal(be->linear_open(c, &shape, &b, &err), 0);
	assert_ptr_equal(a, b);
	be->linear_close(c, a);
	assert_int_equal(be->linear_prepare(c, b, 16, &err), 0);
	be->linear_close(c, b);
	be->close(c);
}

static double norm_truth(const double *x, size_t hidden, double eps, const float *gamma,
			 const float *beta, double *out)
{
	double mean = 0, variance = 0;
	for (size_t i = 0; i < hidden; i++)
		mean += x[i] / (double)hidden;
	for (size_t i = 0; i < hidden; i++)
		variance += (x[i] - mean) * (x[i] - mean) / (double)hidden;
	for (size_t i = 0; i < hidden; i++)
		out[i] = (x[i] - mean) / sqrt(variance + eps) * gamma[i] + beta[i];
	return sqrt(variance + eps);
}

static const uint32_t widths[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 24, 31, 33, 48, 64, 100, 384, 771};

static void check_layer_norm(const struct vac_cpu_kernels *kernels, const struct vac_backend *be,
			     struct vac_compute *c, uint32_t hidden)
{
	enum { ROWS = 5 };
	float *x = random_floats(ROWS * hidden, 3), *gamma = random_floats(hidden, 1);
	float *beta = random_floats(hidden, 1), *y = random_floats(ROWS * hidden, 1);
	double *in = malloc(hidden * sizeof(double)), *truth = malloc(hidden * sizeof(double));
	for (size_t i = 0; i < ROWS * hidden; i++)
		x[i] += 100; /* a mean far from 0 */
	memcpy(y, x, ROWS * hidden * sizeof(float));
	if (kernels)
		kernels->layer_norm(0, ROWS, hidden, 1e-5f, gamma, beta, y);
	else
		be->layer_norm(c, ROWS, hidden, 1e-5f, gamma, beta, y);
	for (size_t r = 0; r < ROWS; r++) {
		for (size_t i = 0; i < hidden; i++)
			in[i] = x[r * hidden + i];
		/* a float mean of numbers near 100 is off by some 2^-24 100, and the
		 * division by the deviation makes that larger */
		double deviation = norm_truth(in, hidden, 1e-5f, gamma, beta, truth);
		for (size_t i = 0; i < hidden; i++)
			check("layer_norm", r * hidden + i, y[r * hidden + i], truth[i],
			      1e-6 + 4e-5 / deviation);
	}
	free(x);
	free(gamma);
	free(beta);
	free(y);
	free(in);
	free(truth);
}

static void check_attention(const struct vac_cpu_kernels *kernels, const struct vac_backend *be,
			    struct vac_compute *c, uint32_t heads, uint32_t size,
			    const uint32_t *lengths, uint32_t sequences)
{
	uint32_t starts[16] = {0}, longest = 0, hidden = heads * size;
	for (uint32_t s = 0; s < sequences; s++) {
		starts[s + 1] = starts[s] + lengths[s];
		longest = lengths[s] > longest ? lengths[s] : longest;
	}
	uint32_t rows = starts[sequences];
	const struct vac_attention a = {.heads = heads, .head_size = size, .scale = 0.7f};
	const struct vac_tokens tokens = {
		.rows = rows, .sequences = sequences, .longest = longest, .starts = starts};
	float *qkv = random_floats((size_t)rows * 3 * hidden, 2);
	float *out = random_floats((size_t)rows * hidden, 1);
	uint64_t bytes = kernels ? kernels->attend_bytes(longest, size)
				 : be->attention_workspace(c, &a, longest);
	float *workspace = random_floats(bytes / sizeof(float) + 1, 1);
	if (kernels) {
		for (uint32_t s = 0; s < sequences; s++) {
			for (uint32_t h = 0; h < heads; h++) {
				const float *q = qkv + (size_t)starts[s] * 3 * hidden + h * size;
				float *to = out + (size_t)starts[s] * hidden + h * size;
				uint32_t half = lengths[s] / 2; /* in two pieces */
				kernels->attend(q, q + hidden, q + 2 * hidden, 3 * (size_t)hidden,
						lengths[s], size, a.scale, 0, half, workspace, to,
						hidden);
				kernels->attend(q, q + hidden, q + 2 * hidden, 3 * (size_t)hidden,
						lengths[s], size, a.scale, half, lengths[s],
						workspace, to, hidden);
			}
		}
	} else {
		be->workspace(c, workspace, bytes);
		be->attention(c, &a, &tokens, qkv, out);
	}
	for (uint32_t s = 0; s < sequences; s++) {
		for (uint32_t r = starts[s]; r < starts[s + 1]; r++) {
			for (uint32_t h = 0; h < heads; h++) {
				double sum[256] = {0}, total = 0, most = -INFINITY, score[600];
				const float *q = qkv + (size_t)r * 3 * hidden + h * size;
				for (uint32_t j = 0; j < lengths[s]; j++) {
					const float *k = qkv +
							 (size_t)(starts[s] + j) * 3 * hidden +
							 hidden + h * size;
					score[j] = 0;
					for (uint32_t i = 0; i < size; i++)
						score[j] += (double)q[i] * k[i];
					score[j] *= a.scale;
					most = fmax(most, score[j]);
				}
				for (uint32_t j = 0; j < lengths[s]; j++) {
					const float *v = qkv +
							 (size_t)(starts[s] + j) * 3 * hidden +
							 2 * (size_t)hidden + h * size;
					double e = exp(score[j] - most);
					total += e;
					for (uint32_t i = 0; i < size; i++)
						sum[i] += e * v[i];
				}
				for (uint32_t i = 0; i < size; i++)
					check("attention", ((size_t)r * heads + h) * size + i,
					      out[(size_t)r * hidden + h * size + i],
					      sum[i] / total, 3e-5);
			}
		}
	}
	free(qkv);
	free(out);
	free(workspace);
}

static void check_pool(const struct vac_cpu_kernels *kernels, const struct vac_backend *be,
		       struct vac_compute *c, uint32_t hidden)
{
	static const uint32_t starts[] = {0, 1, 4, 41};
	static const enum vac_pooling all[] = {VAC_POOLING_CLS, VAC_POOLING_MEAN, VAC_POOLING_MAX,
					       VAC_POOLING_MEAN_SQRT_LEN};
	const struct vac_tokens tokens = {
		.rows = 41, .sequences = 3, .longest = 37, .starts = starts};
	float *x = random_floats(41 * (size_t)hidden, 2),
	      *out = random_floats(3 * (size_t)hidden, 1);
	for (size_t p = 0; p < COUNT(all); p++) {
		if (kernels) {
			for (uint32_t s = 0; s < 3; s++)
				kernels->pool(all[p], starts[s + 1] - starts[s], hidden,
					      x + (size_t)starts[s] * hidden,
					      out + (size_t)s * hidden);
		} else {
			be->pool(c, all[p], &tokens, hidden, x, out);
		}
		for (uint32_t s = 0; s < 3; s++) {
			double length = starts[s + 1] - starts[s];
			for (uint32_t i = 0; i < hidden; i++) {
				double sum = 0, most = -INFINITY;
				for (uint32_t r = starts[s]; r < starts[s + 1]; r++) {
					sum += x[(size_t)r * hidden + i];
					most = fmax(most, x[(size_t)r * hidden + i]);
				}
				double expected[] = {
					[VAC_POOLING_CLS] = x[(size_t)starts[s] * hidden + i],
					[VAC_POOLING_MEAN] = sum / length,
					[VAC_POOLING_MAX] = most,
					[VAC_POOLING_MEAN_SQRT_LEN] = sum / sqrt(length),
				};
				check("pool", i, out[(size_t)s * hidden + i], expected[all[p]],
				      4e-6);
			}
		}
	}
	free(x);
	free(out);
}

static void check_embed(const struct vac_cpu_kernels *kernels, const struct vac_backend *be,
			struct vac_compute *c, uint32_t hidden)
{
	static const int32_t ids[] = {3, 0, 9, 9, 1, 2, 4};
	static const uint8_t types[] = {0, 1, 0, 0, 1, 1, 0};
	static const uint32_t starts[] = {0, 1, 3, 7};
	const struct vac_tokens tokens = {.rows = 7,
					  .sequences = 3,
					  .longest = 4,
					  .ids = ids,
					  .types = types,
					  .starts = starts};
	float *word = random_floats(10 * (size_t)hidden, 1);
	float *position = random_floats(4 * (size_t)hidden, 1);
	float *type = random_floats(2 * (size_t)hidden, 1), *gamma = random_floats(hidden, 1);
	float *beta = random_floats(hidden, 1), *out = random_floats(7 * (size_t)hidden, 1);
	double *in = malloc(hidden * sizeof(double)), *truth = malloc(hidden * sizeof(double));
	const struct vac_embed embed = {word, position, type, gamma, beta, 1e-3f, hidden};
	if (kernels) {
		kernels->embed(&embed, &tokens, 2, 7, out);
		kernels->embed(&embed, &tokens, 0, 2, out);
	} else {
		be->embed(c, &embed, &tokens, out);
	}
	for (uint32_t r = 0; r < 7; r++) {
		uint32_t s = 0;
		while (r >= starts[s + 1])
			s++;
		for (uint32_t i = 0; i < hidden; i++)
			in[i] = (double)word[(size_t)ids[r] * hidden + i] +
				position[(r - starts[s]) * (size_t)hidden + i] +
				type[(size_t)types[r] * hidden + i];
		norm_truth(in, hidden, 1e-3f, gamma, beta, truth);
		for (uint32_t i = 0; i < hidden; i++)
			check("embed", (size_t)r * hidden + i, out[(size_t)r * hidden + i],
			      truth[i], 1e-5);
	}
	free(word);
	free(position);
	free(type);
	free(gamma);
	free(beta);
	free(out);
	free(in);
	free(truth);
}

static void check_all(const struct vac_cpu_kernels *kernels, const struct vac_backend *be,
		      struct vac_compute *c)
{
	static const uint32_t sizes[] = {1, 3, 4, 8, 12, 16, 20, 32, 40, 64, 80, 128};
	static const uint32_t lengths[] = {1, 2, 3, 7, 8, 9, 16, 17, 31, 65, 130};
	static const uint32_t longer[] = {64, 300};
	for (size_t i = 0; i < COUNT(widths); i++) {
		check_layer_norm(kernels, be, c, widths[i]);
		check_pool(kernels, be, c, widths[i]);
		check_embed(kernels, be, c, widths[i]);
	}
	for (size_t i = 0; i < COUNT(sizes); i++)
		check_attention(kernels, be, c, 3, sizes[i], lengths, COUNT(lengths));
	check_attention(kernels, be, c, 2, 32, longer, COUNT(longer));
}

static void test_backends(void **state)
{
	(void)state;
	for (size_t b = 0; b < COUNT(names); b++) {
		for (uint32_t threads = 1; threads <= 3; threads += 2) {
			const struct vac_backend *be;
			struct vac_compute *c = open_backend(names[b], threads, &be);
			check_all(NULL, be, c);
			be->close(c);
		}
	}
}

/* One piece of all rows, in two groups of panels; beyond its room nothing is
 * touched. */
static void check_pieces(const struct vac_cpu_products *products,
			 const struct vac_linear_shape *shape, uint32_t rows)
{
	uint32_t panels = (shape->out - 1) / products->panel_columns + 1;
	uint32_t vector = products->vector_columns;
	size_t packed_floats = (size_t)((shape->out - 1) / vector + 1) * vector * shape->in;
	size_t count = (size_t)rows * shape->out;
	float *weight = random_floats((size_t)shape->in * shape->out, 1);
	float *packed = random_floats(packed_floats + 1, 1), *bias = random_floats(shape->out, 1);
	float *x = random_floats((size_t)rows * shape->in, 1);
	float *y = random_floats(count + 1, 1), *before = malloc(count * sizeof(float));
	float behind_packed = packed[packed_floats], behind_y = y[count];
	memcpy(before, y, count * sizeof(float));
	for (uint32_t panel = 0; panel < panels; panel++)
		products->pack(shape->in, shape->out, weight, panel, packed);
	for (uint32_t half = 0; half < 2; half++) {
		const struct vac_cpu_piece piece = {
			.shape = shape,
			.packed = packed,
			.bias = shape->bias ? bias : NULL,
			.x = x,
			.y = y,
			.rows = rows,
			.first = half ? panels / 2 : 0,
			.last = half ? panels : panels / 2,
			.next = half ? panels : panels / 2,
		};
		products->multiply(&piece);
	}
	check_product(shape, rows, weight, bias, x, before, y);
	assert_float_equal(packed[packed_floats], behind_packed, 0);
	assert_float_equal(y[count], behind_y, 0);
	free(weight);
	free(packed);
	free(bias);
	free(x);
	free(y);
	free(before);
}

/* Activations where they change their form, and at the ends of the range. */
static void check_activations(const struct vac_cpu_products *products)
{
	static const float at[] = {0,   -0.0f, 1e-30f, -1e-6f,   0.3f,  -0.75f,
				   3,   -3,    -5.9f,  6.1f,     -6.1f, 12,
				   -12, 80,    -80,    INFINITY, 1e30f, -1e30f};
	static const enum vac_activation all[] = {VAC_ACTIVATION_GELU, VAC_ACTIVATION_GELU_TANH,
						  VAC_ACTIVATION_RELU, VAC_ACTIVATION_TANH,
						  VAC_ACTIVATION_SIGMOID};
	enum { OUT = COUNT(at) };
	float weight[OUT] = {0}, packed[OUT * 16], bias[OUT], x = 1, y[OUT];
	for (size_t a = 0; a < COUNT(all); a++) {
		const struct vac_linear_shape shape = {1, OUT, true, false, all[a]};
		uint32_t panels = (OUT - 1) / products->panel_columns + 1;
		struct vac_cpu_piece piece = {&shape, packed, bias, &x, y, 1, 0, panels, panels};
		memcpy(bias, at, sizeof(at));
		for (uint32_t panel = 0; panel < panels; panel++)
			products->pack(1, OUT, weight, panel, packed);
		products->multiply(&piece);
		for (size_t i = 0; i < OUT; i++) {
			double expected = activate(all[a], at[i]);
			if (isfinite(expected))
				check("activation", i, y[i], expected, 2e-7);
			else if (y[i] != INFINITY)
				fail_msg("activation %d of infinity: %.9g", (int)all[a], y[i]);
		}
		for (size_t i = 0; i < OUT; i++)
			bias[i] = NAN;
		products->multiply(&piece);
		for (size_t i = 0; i < OUT; i++)
			assert_true(isnan(y[i]));
	}
}

static void test_instruction_sets(void **state)
{
	(void)state;
	const struct vac_cpu_kernels *usable[3];
	size_t count = vac_cpu_kernels_usable(usable);
	assert_true(count >= 1);
	for (size_t i = 0; i < count; i++) {
		check_all(usable[i], NULL, NULL);
		check_activations(usable[i]->products);
		for (size_t s = 0; s < COUNT(linear_shapes); s++)
			for (size_t r = 0; r < COUNT(row_counts); r++)
				check_pieces(usable[i]->products, &linear_shapes[s], row_counts[r]);
	}
}

/* Scores far apart: the small ones vanish, nothing overflows. */
static void test_extreme_scores(void **state)
{
	(void)state;
	const struct vac_cpu_kernels *usable[3];
	size_t count = vac_cpu_kernels_usable(usable);
	for (size_t i = 0; i < count; i++) {
		float qkv[20 * 3 * 4], out[4], workspace[4096];
		for (size_t j = 0; j < 20; j++) {
			for (size_t d = 0; d < 12; d++)
				qkv[j * 12 + d] = d < 4 ? 1000.0f : 0;
			qkv[j * 12 + 4] = j == 11 ? 500.0f : -500.0f;
			qkv[j * 12 + 8] = (float)j;
		}
		assert_true(usable[i]->attend_bytes(20, 4) <= sizeof(workspace));
		usable[i]->attend(qkv, qkv + 4, qkv + 8, 12, 20, 4, 0.5f, 0, 1, workspace, out, 4);
		assert_float_equal(out[0], 11, 0);
		assert_float_equal(out[1], 0, 0);
	}
}

struct tally {
	uint32_t seen[1000];
	uint64_t busy[4]; /* calls in progress with that thread number */
	bool clash[4];
};

static void count_index(void *ctx, uint32_t i, uint32_t thread)
{
	struct tally *tally = ctx;
	tally->clash[thread] |= tally->busy[thread]++ != 0;
	tally->seen[i]++;
	tally->busy[thread]--;
}

/* Every index once, whoever comes late; and teams come and go. */
static void test_team(void **state)
{
	(void)state;
	static struct tally tally;
	struct vac_error err;
	for (uint32_t threads = 1; threads <= 4; threads++) {
		struct vac_team *team;
		assert_int_equal(vac_team_new(threads, &team, &err), 0);
		for (uint32_t loop = 1; loop <= 3000; loop++) {
			uint32_t count = loop % 100 ? loop % 7 : 1000;
			memset(&tally, 0, sizeof(tally));
			vac_team_run(team, count, count_index, &tally);
			for (uint32_t i = 0; i < 1000; i++)
				assert_int_equal(tally.seen[i], i < count);
			for (uint32_t t = 0; t < threads; t++)
				assert_false(tally.clash[t]);
		}
		vac_team_free(team);
	}
	vac_team_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),         cmocka_unit_test(test_linear_is_shared),
		cmocka_unit_test(test_backends),       cmocka_unit_test(test_instruction_sets),
		cmocka_unit_test(test_extreme_scores), cmocka_unit_test(test_team),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
