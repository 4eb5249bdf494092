/*
 * linear.c - y = activation(x W^T + b): kinds of product, and how the team
 * shares one. The arithmetic is in product.c.
 *
 * Rows are cut into blocks that lie in the second-level cache while all columns
 * pass, and columns into groups of panels, so that every thread has a few
 * pieces. With few rows only the columns are cut: each weight is then read by
 * one thread, once.
 */
#include <stdlib.h>

#include "engine/cpu/cpu.h"

/* Of x, for one pass over the panels. */
#define ROW_BLOCK 128
/* Pieces a thread, so that one that comes late does not hold up the others. */
#define PIECES_A_THREAD 4

struct vac_linear {
	struct vac_linear *next;
	uint32_t users;
	struct vac_linear_shape shape;
	const struct vac_cpu_products *products;
	uint32_t panels;
};

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
	struct vac_linear *l = malloc(sizeof(*l));
	if (!l)
		return vac_fail_nomem(err, "a product", sizeof(*l));
	*l = (struct vac_linear){
		.next = c->linears,
		.users = 1,
		.shape = *shape,
		.products = c->kernels->products,
		.panels = (shape->out - 1) / c->kernels->products->panel_columns + 1,
	};
	c->linears = l;
	*out = l;
	return 0;
}

void vac_cpu_linear_close(struct vac_compute *c, struct vac_linear *linear)
{
	if (!linear || --linear->users)
		return;
	struct vac_linear **at = &c->linears;
	while (*at != linear)
		at = &(*at)->next;
	*at = linear->next;
	free(linear);
}

uint64_t vac_cpu_linear_packed_bytes(const struct vac_linear *linear)
{
	uint64_t vector = linear->products->vector_columns;
	uint64_t columns = (linear->shape.out + vector - 1) / vector * vector;
	return columns * linear->shape.in * sizeof(float);
}

int vac_cpu_linear_workspace(struct vac_compute *c, const struct vac_linear *linear, uint32_t rows,
			     uint64_t *bytes, struct vac_error *err)
{
	(void)c, (void)linear, (void)rows, (void)err;
	*bytes = 0;
	return 0;
}

struct packing {
	const struct vac_linear *linear;
	const float *weight;
	float *packed;
};

static void pack_panel(void *ctx, uint32_t i, uint32_t thread)
{
	const struct packing *p = ctx;
	const struct vac_linear *l = p->linear;
	(void)thread;
	l->products->pack(l->shape.in, l->shape.out, p->weight, i, p->packed);
}

int vac_cpu_linear_pack(struct vac_compute *c, const struct vac_linear *linear, const float *weight,
			void *packed, struct vac_error *err)
{
	struct packing p = {.linear = linear, .weight = weight, .packed = packed};
	(void)err;
	vac_team_run(c->team, linear->panels, pack_panel, &p);
	return 0;
}

int vac_cpu_linear_prepare(struct vac_compute *c, struct vac_linear *linear, uint32_t rows,
			   struct vac_error *err)
{
	(void)c, (void)linear, (void)rows, (void)err;
	return 0;
}

uint32_t vac_cpu_round_rows(const struct vac_compute *c, uint32_t rows)
{
	(void)c;
	return rows;
}

/* One product, cut up: blocks x groups pieces, a block's groups side by side. */
struct product {
	const struct vac_linear *linear;
	const float *packed, *bias, *x;
	float *y;
	uint32_t threads, rows, blocks, groups;
};

static uint32_t part(uint32_t whole, uint32_t i, uint32_t parts)
{
	return (uint32_t)((uint64_t)whole * i / parts);
}

static void run_piece(void *ctx, uint32_t i, uint32_t thread)
{
	const struct product *p = ctx;
	const struct vac_linear_shape *shape = &p->linear->shape;
	uint32_t block = i / p->groups, group = i % p->groups;
	uint32_t row = part(p->rows, block, p->blocks);
	/* with every thread at work, the next piece is so many further on */
	uint32_t then = i + p->threads;
	(void)thread;
	const struct vac_cpu_piece piece = {
		.shape = shape,
		.packed = p->packed,
		.bias = p->bias,
		.x = p->x + (size_t)row * shape->in,
		.y = p->y + (size_t)row * shape->out,
		.rows = part(p->rows, block + 1, p->blocks) - row,
		.first = part(p->linear->panels, group, p->groups),
		.last = part(p->linear->panels, group + 1, p->groups),
		.next = then < p->blocks * p->groups
				? part(p->linear->panels, then % p->groups, p->groups)
				: p->linear->panels,
	};
	p->linear->products->multiply(&piece);
}

int vac_cpu_linear(struct vac_compute *c, struct vac_linear *linear, const void *packed,
		   const void *bias, uint32_t rows, const void *x, void *y, struct vac_error *err)
{
	struct product p = {
		.linear = linear,
		.packed = packed,
		.bias = bias,
		.x = x,
		.y = y,
		.threads = c->threads,
		.rows = rows,
		.blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK,
		.groups = 1,
	};
	uint32_t wanted = c->threads > 1 ? PIECES_A_THREAD * c->threads : 1;
	(void)err;
	if (p.blocks && p.blocks < wanted)
		p.groups = (wanted + p.blocks - 1) / p.blocks;
	if (p.groups > linear->panels)
		p.groups = linear->panels;
	vac_team_run(c->team, p.blocks * p.groups, run_piece, &p);
	return 0;
}
