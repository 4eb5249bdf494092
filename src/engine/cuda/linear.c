/*
 * linear.c - y = activation(x W^T + b) by cuBLASLt. Its matrices are
 * column-major: y^T = W x^T, with W [out x in] read transposed and x, y as they
 * lie. The bias is its epilogue, and the residual its C; what the epilogues do
 * not have follows as a kernel of ours, or product.c does both in one.
 *
 * The best algorithm depends on the rows: one is asked for (by the heuristic)
 * for each bucket of rows and kept; choices.c finds better ones for those that are
 * prepared. On the engine's thread.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/linear.h"

#define ROW_GRANULE 8
#define ALIGNMENT   16 /* of all matrices, in bytes */

static bool same_shape(const struct vac_linear_shape *a, const struct vac_linear_shape *b)
{
	return a->in == b->in && a->out == b->out && a->bias == b->bias &&
	       a->accumulate == b->accumulate && a->activation == b->activation;
}

int vac_cuda_linear_open(struct vac_compute *c, const struct vac_linear_shape *shape,
			 struct vac_linear **out, struct vac_error *err)
{
	for (struct vac_linear *l = c->linears; l; l = l->next) {
		if (l->dtype == c->dtype && same_shape(&l->shape, shape)) {
			l->users++;
			*out = l;
			return 0;
		}
	}
	struct vac_linear *l = calloc(1, sizeof(*l));
	if (!l)
		return vac_fail_nomem(err, "a product", sizeof(*l));
	l->next = c->linears;
	l->users = 1;
	l->shape = *shape;
	l->dtype = c->dtype;
	c->linears = l;
	*out = l;
	return 0;
}

static void drop_objects(struct vac_linear *l)
{
	if (l->desc)
		l->blas->desc_destroy(l->desc);
	if (l->weight)
		l->blas->layout_destroy(l->weight);
	if (l->x)
		l->blas->layout_destroy(l->x);
	if (l->y)
		l->blas->layout_destroy(l->y);
	l->desc = l->weight = l->x = l->y = NULL;
	l->blas = NULL;
}

void vac_cuda_linear_close(struct vac_compute *c, struct vac_linear *linear)
{
	if (!linear || --linear->users)
		return;
	struct vac_linear **at = &c->linears;
	while (*at != linear)
		at = &(*at)->next;
	*at = linear->next;
	if (linear->blas)
		drop_objects(linear);
	free(linear);
}

uint64_t vac_cuda_linear_packed_bytes(const struct vac_linear *linear)
{
	return (uint64_t)linear->shape.in * linear->shape.out * vac_dtype_bytes(linear->dtype);
}

int vac_cuda_linear_workspace(struct vac_compute *c, const struct vac_linear *linear, uint32_t rows,
			      uint64_t *bytes, struct vac_error *err)
{
	(void)c, (void)linear, (void)rows, (void)err;
	*bytes = VAC_CUDA_BLAS_WORKSPACE_BYTES;
	return 0;
}

uint32_t vac_cuda_round_rows(const struct vac_compute *c, uint32_t rows)
{
	(void)c;
	return (rows + ROW_GRANULE - 1) / ROW_GRANULE * ROW_GRANULE;
}

static int refused(struct vac_error *err, const char *what, const struct vac_linear_shape *shape,
		   uint32_t rows, int status)
{
	int rc =
		vac_fail(err, VAC_E_INTERNAL, "cuBLASLt refuses %s: %u rows, %u columns in, %u out",
			 what, rows, shape->in, shape->out);
	vac_error_detail(err, "cublasStatus_t %d", status);
	return rc;
}

/* The activations that are an epilogue of cuBLASLt's. */
static int epilogue_of(const struct vac_linear_shape *shape)
{
	if (shape->activation == VAC_ACTIVATION_RELU)
		return shape->bias ? VAC_BLAS_EPILOGUE_RELU_BIAS : VAC_BLAS_EPILOGUE_RELU;
	return shape->bias ? VAC_BLAS_EPILOGUE_BIAS : VAC_BLAS_EPILOGUE_DEFAULT;
}

static int make_objects(struct vac_compute *c, struct vac_linear *l, struct vac_error *err)
{
	static const int types[] = {[VAC_DTYPE_F32] = VAC_BLAS_R_32F,
				    [VAC_DTYPE_F16] = VAC_BLAS_R_16F,
				    [VAC_DTYPE_BF16] = VAC_BLAS_R_16BF};
	const struct vac_blas *blas = c->blas;
	const struct vac_linear_shape *s = &l->shape;
	int type = types[l->dtype], turned = VAC_BLAS_OP_T, epilogue = epilogue_of(s);
	if (l->blas)
		return 0;
	l->blas = blas;
	/* compute type 32F: float32 products stay float32 (no TF32) */
	int status = blas->desc_create(&l->desc, VAC_BLAS_COMPUTE_32F, VAC_BLAS_R_32F);
	if (status == 0)
		status = blas->desc_set(l->desc, VAC_BLAS_DESC_TRANSA, &turned, sizeof(turned));
	if (status == 0)
		status = blas->desc_set(l->desc, VAC_BLAS_DESC_EPILOGUE, &epilogue,
					sizeof(epilogue));
	if (status == 0)
		status = blas->layout_create(&l->weight, type, s->in, s->out, s->in);
	if (status == 0)
		status = blas->layout_create(&l->x, type, s->in, ROW_GRANULE, s->in);
	if (status == 0)
		status = blas->layout_create(&l->y, type, s->out, ROW_GRANULE, s->out);
	if (status == 0)
		return 0;
	drop_objects(l);
	return refused(err, "a product", s, 0, status);
}

int vac_linear_set_rows(const struct vac_linear *l, uint64_t rows)
{
	int status = l->blas->layout_set(l->x, VAC_BLAS_LAYOUT_COLS, &rows, sizeof(rows));
	if (status == 0)
		status = l->blas->layout_set(l->y, VAC_BLAS_LAYOUT_COLS, &rows, sizeof(rows));
	return status;
}

int vac_linear_set_bias(const struct vac_linear *l, const void *bias)
{
	return l->blas->desc_set(l->desc, VAC_BLAS_DESC_BIAS_POINTER, &bias, sizeof(bias));
}

int vac_linear_ask(struct vac_compute *c, struct vac_linear *l, uint32_t rows,
		   struct vac_blas_choice *choices, int *count)
{
	const struct vac_blas *blas = l->blas;
	vac_blas_object preference = NULL;
	uint64_t workspace = VAC_CUDA_BLAS_WORKSPACE_BYTES;
	uint32_t alignment = ALIGNMENT;
	int wanted = *count, status = vac_linear_set_rows(l, rows);
	*count = 0;
	if (status == 0)
		status = blas->preference_create(&preference);
	if (status == 0)
		status = blas->preference_set(preference, VAC_BLAS_PREF_MAX_WORKSPACE, &workspace,
					      sizeof(workspace));
	for (int i = 0; status == 0 && i < 4; i++)
		status = blas->preference_set(preference, VAC_BLAS_PREF_ALIGNMENT_A + i, &alignment,
					      sizeof(alignment));
	if (status == 0)
		status = blas->heuristic(c->handle, l->desc, l->weight, l->x, l->y, l->y,
					 preference, wanted, choices, count);
	if (preference)
		blas->preference_destroy(preference);
	if (status == 0 && *count < 1)
		status = -1;
	return status == 0 ? choices->state : status;
}

/* Every multiple of 8 up to 64, then four for each doubling. */
uint32_t vac_cuda_bucket_rows(uint32_t rows)
{
	uint32_t step = ROW_GRANULE;
	while (rows > step * 8)
		step *= 2;
	return (rows + step - 1) / step * step;
}

static uint32_t bucket_index(uint32_t rows)
{
	uint32_t step = ROW_GRANULE, index = 0;
	while (rows > step * 8) {
		step *= 2;
		index += 4;
	}
	return index + rows / step - 1;
}

int vac_linear_multiply(struct vac_compute *c, const struct vac_linear *l, const void *packed,
			const void *x, void *y, const struct vac_blas_algorithm *algorithm)
{
	const float one = 1, zero = 0;
	return l->blas->matmul(c->handle, l->desc, &one, packed, l->weight, x, l->x,
			       l->shape.accumulate ? &one : &zero, y, l->y, y, l->y, algorithm,
			       c->workspace, c->workspace_bytes, c->stream);
}

/* prepare: nothing is computed, and it may take its time. */
static int find_bucket(struct vac_compute *c, struct vac_linear *l, uint32_t rows, bool prepare,
		       struct vac_linear_bucket **out, struct vac_error *err)
{
	uint32_t most = vac_cuda_bucket_rows(rows);
	struct vac_linear_bucket *bucket = &l->buckets[bucket_index(most)];
	*out = bucket;
	if (bucket->rows == most)
		return 0;
	struct vac_blas_choice choice = {0};
	int count = 1, status = 0;
	if (prepare && most <= VAC_CUDA_SMALL_ROWS)
		status = vac_linear_choose_small(c, l);
	if (most <= VAC_CUDA_SMALL_ROWS && l->small_chosen)
		choice = l->small[vac_linear_point(most)];
	else if (status == 0)
		status = prepare ? vac_linear_choose(c, l, rows, &choice)
				 : vac_linear_ask(c, l, most, &choice, &count);
	if (status != 0)
		return refused(err, "a product", &l->shape, most, status);
	if (prepare && most >= VAC_CUDA_FUSED_ROWS) {
		int fused = vac_linear_choose_fused(c, l, rows, &choice);
		l->fused = fused < 0 ? l->fused : (enum vac_tile)fused;
	}
	bucket->algorithm = choice.algorithm;
	bucket->rows = most;
	return 0;
}

int vac_cuda_linear_prepare(struct vac_compute *c, struct vac_linear *linear, uint32_t rows,
			    struct vac_error *err)
{
	struct vac_linear_bucket *bucket;
	int rc = make_objects(c, linear, err);
	return rc == 0 ? find_bucket(c, linear, vac_cuda_round_rows(c, rows), true, &bucket, err)
		       : rc;
}

int vac_cuda_linear(struct vac_compute *c, struct vac_linear *linear, const void *packed,
		    const void *bias, uint32_t rows, const void *x, void *y, struct vac_error *err)
{
	struct vac_linear_bucket *bucket = NULL;
	const struct vac_linear_shape *shape = &linear->shape;
	uint32_t rounded = vac_cuda_round_rows(c, rows);
	int rc = 0, status;
	if (linear->fused && rounded >= VAC_CUDA_FUSED_ROWS) {
		vac_product_multiply(c, linear, linear->fused, packed, bias, rounded, x, y);
		return 0;
	}
	rc = make_objects(c, linear, err);
	if (rc == 0)
		rc = find_bucket(c, linear, rounded, false, &bucket, err);
	if (rc < 0)
		return rc;
	if (c->failure < 0) /* x may be garbage; synchronize tells */
		return 0;
	status = vac_linear_set_rows(linear, rounded);
	if (status == 0 && shape->bias)
		status = vac_linear_set_bias(linear, bias);
	if (status != 0)
		return refused(err, "a product", shape, rounded, status);
	status = vac_linear_multiply(c, linear, packed, x, y, &bucket->algorithm);
	if (status != 0) { /* an algorithm need not serve fewer rows than it was asked for */
		struct vac_blas_choice choice = {0};
		int count = 1;
		status = vac_linear_ask(c, linear, rounded, &choice, &count);
		if (status == 0)
			status = vac_linear_multiply(c, linear, packed, x, y, &choice.algorithm);
		if (status == 0 && rounded == bucket->rows)
			bucket->algorithm = choice.algorithm;
	}
	if (status != 0)
		return refused(err, "a product", shape, rounded, status);
	if (shape->activation != VAC_ACTIVATION_RELU)
		vac_cuda_activate(c, shape->activation, (uint64_t)rows * shape->out, y);
	return 0;
}
