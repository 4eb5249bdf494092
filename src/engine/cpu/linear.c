/*
 * linear.c - y = activation(x W^T + b) by oneDNN's matmul primitive.
 *
 * Weights are packed once, in the layout that oneDNN chooses for a middling
 * number of rows, and every number of rows computes on that one layout. A
 * primitive is compiled for one number of rows and costs a millisecond, so
 * rows are rounded up to buckets, at most a quarter too many. Primitives live
 * with their kind of product (shape and post-operations), which layers and
 * models share; oneDNN's own cache is off, so the last vac_cpu_linear_close
 * frees them. Scratchpads lie in the engine's workspace.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

#define LAYOUT_ROWS 128

/* One number of rows. */
struct bucket {
	struct bucket *next;
	uint32_t rows;
	uint64_t scratchpad_bytes;
	dnnl_primitive_t primitive;
	dnnl_memory_t source, weights, bias, result, scratchpad;
};

struct vac_linear {
	struct vac_linear *next;
	uint32_t users;
	struct vac_linear_shape shape;
	dnnl_memory_desc_t layout; /* of the packed weights */
	struct bucket *buckets;    /* last used first */
};

static int failed(dnnl_status_t status, const char *what, const struct vac_linear_shape *shape,
		  struct vac_error *err)
{
	int rc;
	if (status == dnnl_out_of_memory)
		rc = vac_fail(err, VAC_E_NO_ROOM,
			      "out of memory while %s of a %u x %u product: unload another model",
			      what, shape->in, shape->out);
	else
		rc = vac_fail(err, VAC_E_INTERNAL, "oneDNN refused %s of a %u x %u product", what,
			      shape->in, shape->out);
	vac_error_detail(err, "dnnl_status_t %d", (int)status);
	return rc;
}

static dnnl_status_t plain_layout(dnnl_memory_desc_t *out, int64_t rows, int64_t columns)
{
	dnnl_dims_t dims = {rows, columns};
	return dnnl_memory_desc_init_by_tag(out, 2, dims, dnnl_f32, dnnl_ab);
}

static dnnl_status_t append_activation(dnnl_post_ops_t ops, enum vac_activation activation)
{
	static const dnnl_alg_kind_t kinds[] = {
		[VAC_ACTIVATION_GELU] = dnnl_eltwise_gelu_erf,
		[VAC_ACTIVATION_GELU_TANH] = dnnl_eltwise_gelu_tanh,
		[VAC_ACTIVATION_RELU] = dnnl_eltwise_relu,
		[VAC_ACTIVATION_TANH] = dnnl_eltwise_tanh,
		[VAC_ACTIVATION_SIGMOID] = dnnl_eltwise_logistic,
	};
	if (activation == VAC_ACTIVATION_NONE)
		return dnnl_success;
	return dnnl_post_ops_append_eltwise(ops, 1.0f, kinds[activation], 0.0f, 0.0f);
}

static dnnl_status_t make_attributes(const struct vac_linear_shape *shape,
				     dnnl_primitive_attr_t *out)
{
	dnnl_post_ops_t ops = NULL;
	dnnl_status_t status = dnnl_primitive_attr_create(out);
	if (status != dnnl_success)
		return status;
	status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
	if (status == dnnl_success)
		status = dnnl_post_ops_create(&ops);
	if (status == dnnl_success && shape->accumulate)
		status = dnnl_post_ops_append_sum(ops, 1.0f);
	if (status == dnnl_success)
		status = append_activation(ops, shape->activation);
	if (status == dnnl_success)
		status = dnnl_primitive_attr_set_post_ops(*out, ops);
	if (ops)
		dnnl_post_ops_destroy(ops);
	if (status != dnnl_success)
		dnnl_primitive_attr_destroy(*out);
	return status;
}

/* weights: the packed layout, or NULL to let oneDNN choose it. */
static dnnl_status_t describe(struct vac_compute *c, const struct vac_linear_shape *shape,
			      uint32_t rows, const dnnl_memory_desc_t *weights,
			      dnnl_primitive_desc_t *out)
{
	dnnl_memory_desc_t source, any, bias, result;
	dnnl_matmul_desc_t matmul;
	dnnl_primitive_attr_t attributes;
	dnnl_dims_t dims = {shape->in, shape->out};
	dnnl_status_t status = plain_layout(&source, rows, shape->in);
	if (status == dnnl_success)
		status = plain_layout(&bias, 1, shape->out);
	if (status == dnnl_success)
		status = plain_layout(&result, rows, shape->out);
	if (status == dnnl_success)
		status = dnnl_memory_desc_init_by_tag(&any, 2, dims, dnnl_f32, dnnl_format_tag_any);
	if (status == dnnl_success)
		status = dnnl_matmul_desc_init(&matmul, &source, weights ? weights : &any,
					       shape->bias ? &bias : NULL, &result);
	if (status == dnnl_success)
		status = make_attributes(shape, &attributes);
	if (status != dnnl_success)
		return status;
	status = dnnl_primitive_desc_create(out, &matmul, attributes, c->engine, NULL);
	dnnl_primitive_attr_destroy(attributes);
	return status;
}

int vac_cpu_linear_open(struct vac_compute *c, const struct vac_linear_shape *shape,
			struct vac_linear **out, struct vac_error *err)
{
	for (struct vac_linear *l = c->linears; l; l = l->next) {
		const struct vac_linear_shape *s = &l->shape;
		if (s->in == shape->in && s->out == shape->out && s->bias == shape->bias &&
		    s->accumulate == shape->accumulate && s->activation == shape->activation) {
			l->users++;
			*out = l;
			return 0;
		}
	}
	struct vac_linear *l = calloc(1, sizeof(*l));
	if (!l)
		return vac_fail_nomem(err, "a product", sizeof(*l));
	dnnl_primitive_desc_t pd;
	dnnl_status_t status = describe(c, shape, LAYOUT_ROWS, NULL, &pd);
	if (status != dnnl_success) {
		free(l);
		return failed(status, "the description", shape, err);
	}
	l->layout = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
	dnnl_primitive_desc_destroy(pd);
	l->shape = *shape;
	l->users = 1;
	l->next = c->linears;
	c->linears = l;
	*out = l;
	return 0;
}

static void free_bucket(struct bucket *b)
{
	dnnl_memory_t memories[] = {b->source, b->weights, b->bias, b->result, b->scratchpad};
	for (size_t i = 0; i < sizeof(memories) / sizeof(memories[0]); i++)
		if (memories[i])
			dnnl_memory_destroy(memories[i]);
	if (b->primitive)
		dnnl_primitive_destroy(b->primitive);
	free(b);
}

void vac_cpu_linear_close(struct vac_compute *c, struct vac_linear *linear)
{
	if (!linear || --linear->users)
		return;
	struct vac_linear **at = &c->linears;
	while (*at != linear)
		at = &(*at)->next;
	*at = linear->next;
	while (linear->buckets) {
		struct bucket *b = linear->buckets;
		linear->buckets = b->next;
		free_bucket(b);
	}
	free(linear);
}

uint64_t vac_cpu_linear_packed_bytes(const struct vac_linear *linear)
{
	return dnnl_memory_desc_get_size(&linear->layout);
}

int vac_cpu_linear_workspace(struct vac_compute *c, const struct vac_linear *linear, uint32_t rows,
			     uint64_t *bytes, struct vac_error *err)
{
	dnnl_primitive_desc_t pd;
	dnnl_status_t status =
		describe(c, &linear->shape, vac_cpu_round_rows(c, rows), &linear->layout, &pd);
	if (status != dnnl_success)
		return failed(status, "the description", &linear->shape, err);
	*bytes = dnnl_memory_desc_get_size(
		dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0));
	dnnl_primitive_desc_destroy(pd);
	return 0;
}

int vac_cpu_linear_pack(struct vac_compute *c, const struct vac_linear *linear, const float *weight,
			void *packed, struct vac_error *err)
{
	/* [out x in] row by row is [in x out] column by column */
	dnnl_memory_desc_t plain;
	dnnl_primitive_desc_t pd = NULL;
	dnnl_primitive_t reorder = NULL;
	dnnl_memory_t from = NULL, to = NULL;
	dnnl_dims_t dims = {linear->shape.in, linear->shape.out};
	dnnl_status_t status = dnnl_memory_desc_init_by_tag(&plain, 2, dims, dnnl_f32, dnnl_ba);
	if (status == dnnl_success)
		status = dnnl_memory_create(&from, &plain, c->engine, (void *)(uintptr_t)weight);
	if (status == dnnl_success)
		status = dnnl_memory_create(&to, &linear->layout, c->engine, packed);
	if (status == dnnl_success)
		status = dnnl_reorder_primitive_desc_create(&pd, &plain, c->engine, &linear->layout,
							    c->engine, NULL);
	if (status == dnnl_success)
		status = dnnl_primitive_create(&reorder, pd);
	if (status == dnnl_success) {
		dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
		status = dnnl_primitive_execute(reorder, c->stream, 2, args);
	}
	if (reorder)
		dnnl_primitive_destroy(reorder);
	if (pd)
		dnnl_primitive_desc_destroy(pd);
	if (to)
		dnnl_memory_destroy(to);
	if (from)
		dnnl_memory_destroy(from);
	return status == dnnl_success ? 0 : failed(status, "the packing", &linear->shape, err);
}

static dnnl_status_t make_memories(struct vac_compute *c, const struct vac_linear *l,
				   struct bucket *b, const dnnl_memory_desc_t *scratchpad)
{
	dnnl_memory_desc_t source, bias, result;
	dnnl_status_t status = plain_layout(&source, b->rows, l->shape.in);
	if (status == dnnl_success)
		status = plain_layout(&bias, 1, l->shape.out);
	if (status == dnnl_success)
		status = plain_layout(&result, b->rows, l->shape.out);
	if (status == dnnl_success)
		status = dnnl_memory_create(&b->source, &source, c->engine, DNNL_MEMORY_NONE);
	if (status == dnnl_success)
		status = dnnl_memory_create(&b->weights, &l->layout, c->engine, DNNL_MEMORY_NONE);
	if (status == dnnl_success && l->shape.bias)
		status = dnnl_memory_create(&b->bias, &bias, c->engine, DNNL_MEMORY_NONE);
	if (status == dnnl_success)
		status = dnnl_memory_create(&b->result, &result, c->engine, DNNL_MEMORY_NONE);
	if (status == dnnl_success)
		status =
			dnnl_memory_create(&b->scratchpad, scratchpad, c->engine, DNNL_MEMORY_NONE);
	return status;
}

static int make_bucket(struct vac_compute *c, struct vac_linear *l, uint32_t rows,
		       struct bucket **out, struct vac_error *err)
{
	struct bucket *b = calloc(1, sizeof(*b));
	if (!b)
		return vac_fail_nomem(err, "a product", sizeof(*b));
	b->rows = rows;
	dnnl_primitive_desc_t pd;
	dnnl_status_t status = describe(c, &l->shape, rows, &l->layout, &pd);
	if (status == dnnl_success) {
		const dnnl_memory_desc_t *scratchpad =
			dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
		b->scratchpad_bytes = dnnl_memory_desc_get_size(scratchpad);
		status = dnnl_primitive_create(&b->primitive, pd);
		if (status == dnnl_success)
			status = make_memories(c, l, b, scratchpad);
		dnnl_primitive_desc_destroy(pd);
	}
	if (status != dnnl_success) {
		free_bucket(b);
		return failed(status, "the compilation", &l->shape, err);
	}
	b->next = l->buckets;
	l->buckets = b;
	*out = b;
	return 0;
}

static int find_bucket(struct vac_compute *c, struct vac_linear *l, uint32_t rows,
		       struct bucket **out, struct vac_error *err)
{
	for (struct bucket **at = &l->buckets; *at; at = &(*at)->next) {
		if ((*at)->rows != rows)
			continue;
		struct bucket *b = *at;
		*at = b->next;
		b->next = l->buckets;
		l->buckets = b;
		*out = b;
		return 0;
	}
	return make_bucket(c, l, rows, out, err);
}

/* Multiples of four up to 32 (up to four rows cost what one costs: the weights
 * are what takes time), then four steps an octave. */
uint32_t vac_cpu_round_rows(const struct vac_compute *c, uint32_t rows)
{
	(void)c;
	uint32_t step = 4;
	while (rows > 8 * step)
		step *= 2;
	return (rows + step - 1) / step * step;
}

int vac_cpu_linear_prepare(struct vac_compute *c, struct vac_linear *linear, uint32_t rows,
			   struct vac_error *err)
{
	struct bucket *b;
	return find_bucket(c, linear, vac_cpu_round_rows(c, rows), &b, err);
}

static dnnl_status_t run_bucket(struct vac_compute *c, struct bucket *b, const void *packed,
				const float *bias, const float *x, float *y)
{
	struct {
		int arg;
		dnnl_memory_t memory;
		const void *at;
	} all[] = {
		{DNNL_ARG_SRC, b->source, x},   {DNNL_ARG_WEIGHTS, b->weights, packed},
		{DNNL_ARG_DST, b->result, y},   {DNNL_ARG_SCRATCHPAD, b->scratchpad, c->workspace},
		{DNNL_ARG_BIAS, b->bias, bias},
	};
	dnnl_exec_arg_t args[5];
	int count = b->bias ? 5 : 4;
	for (int i = 0; i < count; i++) {
		dnnl_status_t status =
			dnnl_memory_set_data_handle(all[i].memory, (void *)(uintptr_t)all[i].at);
		if (status != dnnl_success)
			return status;
		args[i] = (dnnl_exec_arg_t){all[i].arg, all[i].memory};
	}
	return dnnl_primitive_execute(b->primitive, c->stream, count, args);
}

int vac_cpu_linear(struct vac_compute *c, struct vac_linear *linear, const void *packed,
		   const float *bias, uint32_t rows, const float *x, float *y,
		   struct vac_error *err)
{
	struct bucket *b;
	uint32_t rounded = vac_cpu_round_rows(c, rows);
	int rc = find_bucket(c, linear, rounded, &b, err);
	if (rc < 0)
		return rc;
	if (b->scratchpad_bytes > c->workspace_bytes) {
		/* The workspace was planned for the largest number of rows; a smaller
		 * one that wants more is split until it wants no more. */
		if (rounded == 1)
			return vac_fail(err, VAC_E_INTERNAL,
					"a product of one row wants %zu bytes of workspace",
					(size_t)b->scratchpad_bytes);
		uint32_t half = rounded / 2;
		rc = vac_cpu_linear(c, linear, packed, bias, half, x, y, err);
		if (rc < 0)
			return rc;
		return vac_cpu_linear(c, linear, packed, bias, rounded - half,
				      x + (size_t)half * linear->shape.in,
				      y + (size_t)half * linear->shape.out, err);
	}
	dnnl_status_t status = run_bucket(c, b, packed, bias, x, y);
	return status == dnnl_success ? 0 : failed(status, "the run", &linear->shape, err);
}

size_t vac_cpu_linear_primitives(const struct vac_compute *c)
{
	size_t count = 0;
	for (const struct vac_linear *l = c->linears; l; l = l->next)
		for (const struct bucket *b = l->buckets; b; b = b->next)
			count++;
	return count;
}
