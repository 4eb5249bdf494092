/*
 * reference.c - the backend in plain C: one thread, no library, sums in
 * double. It is the truth that the other backends' kernels are tested
 * against, and what the sanitizers and failure injection run on.
 * Called by the engine's one thread.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/compute.h"

struct vac_compute {
	float *workspace;
	uint64_t workspace_bytes;
};

struct vac_linear {
	struct vac_linear_shape shape;
};

static int reference_open(const struct vac_compute_options *options, struct vac_compute **out,
			  struct vac_error *err)
{
	(void)options;
	struct vac_compute *c = calloc(1, sizeof(*c));
	if (!c)
		return vac_fail_nomem(err, "the reference backend", sizeof(*c));
	*out = c;
	return 0;
}

static void reference_close(struct vac_compute *c)
{
	free(c);
}

static const char *reference_description(const struct vac_compute *c)
{
	(void)c;
	return "plain C, 1 thread";
}

static void reference_workspace(struct vac_compute *c, void *base, uint64_t bytes)
{
	c->workspace = base;
	c->workspace_bytes = bytes;
}

static void reference_parallel(struct vac_compute *c, uint32_t count,
			       void (*fn)(void *ctx, uint32_t i), void *ctx)
{
	(void)c;
	for (uint32_t i = 0; i < count; i++)
		fn(ctx, i);
}

static int reference_linear_open(struct vac_compute *c, const struct vac_linear_shape *shape,
				 struct vac_linear **out, struct vac_error *err)
{
	(void)c;
	struct vac_linear *linear = malloc(sizeof(*linear));
	if (!linear)
		return vac_fail_nomem(err, "a product", sizeof(*linear));
	linear->shape = *shape;
	*out = linear;
	return 0;
}

static void reference_linear_close(struct vac_compute *c, struct vac_linear *linear)
{
	(void)c;
	free(linear);
}

static uint64_t reference_linear_packed_bytes(const struct vac_linear *linear)
{
	return (uint64_t)linear->shape.in * linear->shape.out * sizeof(float);
}

static int reference_linear_workspace(struct vac_compute *c, const struct vac_linear *linear,
				      uint32_t rows, uint64_t *bytes, struct vac_error *err)
{
	(void)c, (void)linear, (void)rows, (void)err;
	*bytes = 0;
	return 0;
}

static int reference_linear_pack(struct vac_compute *c, const struct vac_linear *linear,
				 const float *weight, void *packed, struct vac_error *err)
{
	(void)c, (void)err;
	memcpy(packed, weight, reference_linear_packed_bytes(linear));
	return 0;
}

static int reference_linear_prepare(struct vac_compute *c, struct vac_linear *linear, uint32_t rows,
				    struct vac_error *err)
{
	(void)c, (void)linear, (void)rows, (void)err;
	return 0;
}

static double activate(enum vac_activation activation, double x)
{
	switch (activation) {
	case VAC_ACTIVATION_NONE:
		return x;
	case VAC_ACTIVATION_GELU:
		return 0.5 * x * (1.0 + erf(x * M_SQRT1_2));
	case VAC_ACTIVATION_GELU_TANH:
		return 0.5 * x * (1.0 + tanh(sqrt(M_2_PI) * (x + 0.044715 * x * x * x)));
	case VAC_ACTIVATION_RELU:
		return x > 0 ? x : 0;
	case VAC_ACTIVATION_TANH:
		return tanh(x);
	case VAC_ACTIVATION_SIGMOID:
		return 1.0 / (1.0 + exp(-x));
	}
	return x;
}

/* A float product of n terms in eight partial sums: the rounding error grows
 * with n / 8, and the loop is not bound by the latency of one addition. */
static float dot(const float *a, const float *b, uint32_t n)
{
	float sum[8] = {0};
	uint32_t i = 0;
	for (; i + 8 <= n; i += 8)
		for (uint32_t k = 0; k < 8; k++)
			sum[k] += a[i + k] * b[i + k];
	for (; i < n; i++)
		sum[i % 8] += a[i] * b[i];
	return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

static int reference_linear(struct vac_compute *c, struct vac_linear *linear, const void *packed,
			    const void *bias, uint32_t rows, const void *x, void *y,
			    struct vac_error *err)
{
	(void)c, (void)err;
	const struct vac_linear_shape *shape = &linear->shape;
	const float *weight = packed, *from = x, *add = bias;
	for (uint32_t o = 0; o < shape->out; o++) {
		const float *w = weight + (size_t)o * shape->in;
		for (uint32_t r = 0; r < rows; r++) {
			float *to = (float *)y + (size_t)r * shape->out + o;
			double sum = dot(from + (size_t)r * shape->in, w, shape->in);
			if (shape->bias)
				sum += add[o];
			sum = activate(shape->activation, sum);
			*to = (float)(shape->accumulate ? *to + sum : sum);
		}
	}
	return 0;
}

static uint32_t reference_round_rows(const struct vac_compute *c, uint32_t rows)
{
	(void)c;
	return rows;
}

static void normalize_row(uint32_t hidden, float eps, const float *gamma, const float *beta,
			  float *x)
{
	double mean = 0, variance = 0;
	for (uint32_t i = 0; i < hidden; i++)
		mean += x[i];
	mean /= hidden;
	for (uint32_t i = 0; i < hidden; i++)
		variance += (x[i] - mean) * (x[i] - mean);
	double scale = 1.0 / sqrt(variance / hidden + eps);
	for (uint32_t i = 0; i < hidden; i++)
		x[i] = (float)((x[i] - mean) * scale * gamma[i] + beta[i]);
}

static void reference_layer_norm(struct vac_compute *c, uint32_t rows, uint32_t hidden, float eps,
				 const void *gamma, const void *beta, void *x)
{
	(void)c;
	for (uint32_t r = 0; r < rows; r++)
		normalize_row(hidden, eps, gamma, beta, (float *)x + (size_t)r * hidden);
}

static void reference_embed(struct vac_compute *c, const struct vac_embed *embed,
			    const struct vac_tokens *tokens, void *y)
{
	(void)c;
	size_t hidden = embed->hidden;
	const float *words = embed->word, *positions = embed->position, *types = embed->type;
	for (uint32_t r = 0, s = 0; r < tokens->rows; r++) {
		s += r == tokens->starts[s + 1];
		const float *word = words + (size_t)tokens->ids[r] * hidden;
		const float *position = positions + (r - tokens->starts[s]) * hidden;
		const float *type = types + (size_t)tokens->types[r] * hidden;
		float *to = (float *)y + r * hidden;
		for (size_t i = 0; i < hidden; i++)
			to[i] = word[i] + type[i] + position[i];
		normalize_row(embed->hidden, embed->eps, embed->gamma, embed->beta, to);
	}
}

static uint64_t reference_attention_workspace(const struct vac_compute *c,
					      const struct vac_attention *attention,
					      uint32_t longest)
{
	(void)c;
	return ((uint64_t)longest + attention->head_size) * sizeof(double);
}

/* One query row of one head against the length rows of its sequence. */
static void attend(const struct vac_attention *attention, uint32_t length, const float *q,
		   const float *k, const float *v, size_t stride, double *scores, float *out)
{
	double *sum = scores + length;
	double most = -INFINITY, total = 0;
	for (uint32_t j = 0; j < length; j++) {
		scores[j] = attention->scale * dot(q, k + j * stride, attention->head_size);
		most = fmax(most, scores[j]);
	}
	for (uint32_t j = 0; j < length; j++) {
		scores[j] = exp(scores[j] - most);
		total += scores[j];
	}
	memset(sum, 0, attention->head_size * sizeof(*sum));
	for (uint32_t j = 0; j < length; j++)
		for (uint32_t i = 0; i < attention->head_size; i++)
			sum[i] += scores[j] * v[j * stride + i];
	for (uint32_t i = 0; i < attention->head_size; i++)
		out[i] = (float)(sum[i] / total);
}

static void reference_attention(struct vac_compute *c, const struct vac_attention *attention,
				const struct vac_tokens *tokens, const void *qkv, void *out)
{
	size_t hidden = (size_t)attention->heads * attention->head_size, stride = 3 * hidden;
	double *scores = (double *)(void *)c->workspace;
	for (uint32_t s = 0; s < tokens->sequences; s++) {
		size_t start = tokens->starts[s];
		uint32_t length = tokens->starts[s + 1] - tokens->starts[s];
		for (uint32_t h = 0; h < attention->heads; h++) {
			const float *head =
				(const float *)qkv + start * stride + h * attention->head_size;
			for (uint32_t r = 0; r < length; r++)
				attend(attention, length, head + r * stride, head + hidden,
				       head + 2 * hidden, stride, scores,
				       (float *)out + (start + r) * hidden +
					       h * attention->head_size);
		}
	}
}

static void reference_pool(struct vac_compute *c, enum vac_pooling pooling,
			   const struct vac_tokens *tokens, uint32_t hidden, const void *x,
			   void *out)
{
	(void)c;
	for (uint32_t s = 0; s < tokens->sequences; s++) {
		uint32_t length = tokens->starts[s + 1] - tokens->starts[s];
		const float *from = (const float *)x + (size_t)tokens->starts[s] * hidden;
		for (size_t i = 0; i < hidden; i++) {
			double sum = 0, most = -INFINITY;
			for (uint32_t r = 0; r < length; r++) {
				sum += from[r * (size_t)hidden + i];
				most = fmax(most, from[r * (size_t)hidden + i]);
			}
			double value = from[i]; /* cls */
			if (pooling == VAC_POOLING_MEAN)
				value = sum / length;
			else if (pooling == VAC_POOLING_MEAN_SQRT_LEN)
				value = sum / sqrt(length);
			else if (pooling == VAC_POOLING_MAX)
				value = most;
			((float *)out)[s * (size_t)hidden + i] = (float)value;
		}
	}
}

static int reference_synchronize(struct vac_compute *c, struct vac_error *err)
{
	(void)c, (void)err;
	return 0;
}

static size_t reference_residue(const struct vac_compute *c, struct vac_residue *out,
				size_t capacity)
{
	(void)c, (void)out, (void)capacity;
	return 0;
}

const struct vac_backend vac_backend_reference = {
	.name = "reference",
	.default_batch_tokens = 256,
	.dtypes = {VAC_DTYPE_F32},
	.dtype_count = 1,
	.open = reference_open,
	.close = reference_close,
	.description = reference_description,
	.workspace = reference_workspace,
	.parallel = reference_parallel,
	.linear_open = reference_linear_open,
	.linear_close = reference_linear_close,
	.linear_packed_bytes = reference_linear_packed_bytes,
	.linear_workspace = reference_linear_workspace,
	.linear_pack = reference_linear_pack,
	.linear_prepare = reference_linear_prepare,
	.linear = reference_linear,
	.round_rows = reference_round_rows,
	.embed = reference_embed,
	.layer_norm = reference_layer_norm,
	.attention_workspace = reference_attention_workspace,
	.attention = reference_attention,
	.pool = reference_pool,
	.synchronize = reference_synchronize,
	.residue = reference_residue,
};
