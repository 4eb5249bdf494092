/*
 * linear.c - y = activation(x W^T + b) by oneDNN's matmul primitive.
 *
 * Weights are packed once, in the layout that oneDNN chooses, and every number
 * of rows computes on that one layout. The team shares a product in chunks of
 * at most CHUNK_ROWS rows; each runs on one thread. (oneDNN 2.6 has no fast
 * path for a result that is some of the columns of a matrix.)
 *
 * A primitive is compiled for one number of rows and costs a millisecond, so
 * rows are rounded up to buckets, and no chunk is larger: a dozen primitives
 * at most serve every number of rows.
 * Primitives live with their kind of product (shape and post-operations),
 * which layers and models share; oneDNN's own cache is off, so the last
 * vac_cpu_linear_close frees them. Scratchpads lie in the engine's workspace.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

#define CHUNK_ROWS 64

/* What one thread passes to a primitive: addresses change with each call. */
struct arguments {
	dnnl_memory_t source, weights, bias, result, scratchpad;
};

/* One number of rows. */
struct bucket {
	struct bucket *next;
	uint32_t rows;
	uint64_t scratchpad_bytes;
	dnnl_primitive_t primitive;
	uint32_t threads;
	struct arguments arguments[]; /* one a thread */
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

/* In the layout of oneDNN's choice as long as linear->layout is not known. */
static dnnl_status_t describe(struct vac_compute *c, const struct vac_linear *linear, uint32_t rows,
			      dnnl_primitive_desc_t *out)
{
	const struct vac_linear_shape *shape = &linear->shape;
	dnnl_memory_desc_t source, weights = linear->layout, bias, result;
	dnnl_matmul_desc_t matmul;
	dnnl_primitive_attr_t attributes;
	dnnl_dims_t dims = {shape->in, shape->out};
	dnnl_status_t status = plain_layout(&source, rows, shape->in);
	if (status == dnnl_success)
		status = plain_layout(&bias, 1, shape->out);
	if (status == dnnl_success)
		status = plain_layout(&result, rows, shape->out);
	if (status == dnnl_success && linear->layout.ndims == 0)
		status = dnnl_memory_desc_init_by_tag(&weights, 2, dims, dnnl_f32,
						      dnnl_format_tag_any);
	if (status == dnnl_success)
		status = dnnl_matmul_desc_init(&matmul, &source, &weights,
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
	l->shape = *shape;
	dnnl_primitive_desc_t pd;
	dnnl_status_t status = describe(c, l, CHUNK_ROWS, &pd);
	if (status != dnnl_success) {
		free(l);
		return failed(status, "the description", shape, err);
	}
	l->layout = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
	dnnl_primitive_desc_destroy(pd);
	l->users = 1;
	l->next = c->linears;
	c->linears = l;
	*out = l;
	return 0;
}

static void free_bucket(struct bucket *b)
{
	for (uint32_t t = 0; t < b->threads; t++) {
		const struct arguments *a = &b->arguments[t];
		dnnl_memory_t memories[] = {a->source, a->weights, a->bias, a->result,
					    a->scratchpad};
		for (size_t i = 0; i < sizeof(memories) / sizeof(memories[0]); i++)
			if (memories[i])
				dnnl_memory_destroy(memories[i]);
	}
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
	uint32_t most = rows < CHUNK_ROWS ? vac_cpu_round_rows(c, rows) : CHUNK_ROWS;
	dnnl_status_t status = describe(c, linear, most, &pd);
	if (status != dnnl_success)
		return failed(status, "the description", &linear->shape, err);
	uint64_t scratchpad = dnnl_memory_desc_get_size(
		dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0));
	*bytes = c->threads * ((scratchpad + 63) / 64 * 64);
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
		status = dnnl_primitive_execute(reorder, c->streams[0], 2, args);
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

static dnnl_status_t make_arguments(struct vac_compute *c, const struct vac_linear *l,
				    uint32_t rows, const dnnl_memory_desc_t *scratchpad,
				    struct arguments *a)
{
	dnnl_memory_desc_t source, bias, result;
	dnnl_status_t status = plain_layout(&source, rows, l->shape.in);
	if (status == dnnl_success)
		status = plain_layout(&bias, 1, l->shape.out);
	if (status == dnnl_success)
		status = plain_layout(&result, rows, l->shape.out);
	if (status == dnnl_success)
		status = dnnl_memory_create(&a->source, &source, c->engine, DNNL_MEMORY_NONE);
	if (status == dnnl_success)
		status = dnnl_memory_create(&a->weights, &l->layout, c->engine, DNNL_MEMORY_NONE);
	if (status == dnnl_success && l->shape.bias)
		status = dnnl_memory_create(&a->bias, &bias, c->engine, DNNL_MEMORY_NONE);
	if (status == dnnl_success)
		status = dnnl_memory_create(&a->result, &result, c->engine, DNNL_MEMORY_NONE);
	if (status == dnnl_success)
		status =
			dnnl_memory_create(&a->scratchpad, scratchpad, c->engine, DNNL_MEMORY_NONE);
	return status;
}

static int make_bucket(struct vac_compute *c, struct vac_linear *l, uint32_t rows,
		       struct bucket **out, struct vac_error *err)
{
	struct bucket *b = calloc(1, sizeof(*b) + c->threads * sizeof(struct arguments));
	if (!b)
		return vac_fail_nomem(err, "a product", sizeof(*b));
	b->rows = rows;
	b->threads = c->threads;
	dnnl_primitive_desc_t pd;
	dnnl_status_t status = describe(c, l, rows, &pd);
	if (status == dnnl_success) {
		const dnnl_memory_desc_t *scratchpad =
			dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
		b->scratchpad_bytes = dnnl_memory_desc_get_size(scratchpad);
		status = dnnl_primitive_create(&b->primitive, pd);
		for (uint32_t t = 0; status == dnnl_success && t < c->threads; t++)
			status = make_arguments(c, l, rows, scratchpad, &b->arguments[t]);
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

/* Up to four rows cost what one costs: the weights are what takes time. */
static uint32_t bucket_rows(uint32_t rows)
{
	return rows <= 32 ? (rows + 3) / 4 * 4 : (rows + 7) / 8 * 8;
}

uint32_t vac_cpu_round_rows(const struct vac_compute *c, uint32_t rows)
{
	(void)c;
	return (rows + 7) / 8 * 8;
}

/* One product, cut up: chunks of whole->rows rows, then one of rest->rows. */
struct product {
	struct vac_compute *c;
	const struct vac_linear *linear;
	struct bucket *whole, *rest; /* rest NULL: nothing is left over */
	uint32_t chunks;             /* whole ones */
	const void *packed;
	const float *bias, *x;
	float *y;
	_Atomic int status; /* of some piece that failed */
};

/* As many chunks for each thread as for the others, if rows allow. */
static int cut(struct vac_compute *c, struct vac_linear *l, uint32_t rows, struct product *p,
	       struct vac_error *err)
{
	uint32_t chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
	chunks = (chunks + c->threads - 1) / c->threads * c->threads;
	uint32_t chunk = bucket_rows((rows + chunks - 1) / chunks);
	p->chunks = rows / chunk;
	int rc = find_bucket(c, l, chunk, &p->whole, err);
	if (rc == 0 && rows % chunk)
		rc = find_bucket(c, l, bucket_rows(rows % chunk), &p->rest, err);
	return rc;
}

int vac_cpu_linear_prepare(struct vac_compute *c, struct vac_linear *linear, uint32_t rows,
			   struct vac_error *err)
{
	struct product p = {0};
	return cut(c, linear, rows, &p, err);
}

static void run_piece(void *ctx, uint32_t i, uint32_t thread)
{
	struct product *p = ctx;
	const struct vac_linear *l = p->linear;
	struct bucket *b = i < p->chunks ? p->whole : p->rest;
	size_t row = (size_t)i * p->whole->rows;
	const struct arguments *a = &b->arguments[thread];
	const struct {
		int arg;
		dnnl_memory_t memory;
		const void *at;
	} all[] = {
		{DNNL_ARG_SRC, a->source, p->x + row * l->shape.in},
		{DNNL_ARG_WEIGHTS, a->weights, p->packed},
		{DNNL_ARG_DST, a->result, p->y + row * l->shape.out},
		{DNNL_ARG_SCRATCHPAD, a->scratchpad,
		 p->c->workspace + thread * vac_cpu_share_bytes(p->c)},
		{DNNL_ARG_BIAS, a->bias, p->bias},
	};
	dnnl_exec_arg_t args[5];
	int count = a->bias ? 5 : 4;
	dnnl_status_t status = dnnl_success;
	for (int k = 0; k < count && status == dnnl_success; k++) {
		status = dnnl_memory_set_data_handle(all[k].memory, (void *)(uintptr_t)all[k].at);
		args[k] = (dnnl_exec_arg_t){all[k].arg, all[k].memory};
	}
	if (status == dnnl_success)
		status = dnnl_primitive_execute(b->primitive, p->c->streams[thread], count, args);
	if (status != dnnl_success)
		p->status = (int)status;
}

int vac_cpu_linear(struct vac_compute *c, struct vac_linear *linear, const void *packed,
		   const float *bias, uint32_t rows, const float *x, float *y,
		   struct vac_error *err)
{
	struct product p = {
		.c = c, .linear = linear, .packed = packed, .bias = bias, .x = x, .y = y};
	int rc = cut(c, linear, rows, &p, err);
	if (rc < 0)
		return rc;
	/* The workspace was planned for a whole chunk, which wants the most. */
	uint64_t share = vac_cpu_share_bytes(c);
	if (p.whole->scratchpad_bytes > share || (p.rest && p.rest->scratchpad_bytes > share))
		return vac_fail(
			err, VAC_E_INTERNAL,
			"a %u x %u product of %u rows wants more workspace than was planned",
			linear->shape.in, linear->shape.out, rows);
	vac_team_run(c->team, p.chunks + (p.rest != NULL), run_piece, &p);
	if (p.status != dnnl_success)
		return failed((dnnl_status_t)p.status, "the run", &linear->shape, err);
	return 0;
}

size_t vac_cpu_linear_primitives(const struct vac_compute *c)
{
	size_t count = 0;
	for (const struct vac_linear *l = c->linears; l; l = l->next)
		for (const struct bucket *b = l->buckets; b; b = b->next)
			count++;
	return count;
}
