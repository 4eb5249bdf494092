/*
 * backend.c - the CPU backend: own kernels for each instruction set, shared
 * among an own thread team. Built as a module that exports vac_backend_cpu.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

/* A loop costs a microsecond: so many floats make it worth a piece. */
#define PIECE_FLOATS 8192
/* Pieces a thread, so that one that comes late does not hold up the others. */
#define PIECES_A_THREAD 4

static void cpu_close(struct vac_compute *c)
{
	if (!c)
		return;
	vac_team_free(c->team);
	free(c);
}

static int cpu_open(const struct vac_compute_options *options, struct vac_compute **out,
		    struct vac_error *err)
{
	uint32_t threads = options->threads;
	struct vac_compute *c = calloc(1, sizeof(*c));
	if (!c)
		return vac_fail_nomem(err, "the cpu backend", sizeof(*c));
	const struct vac_cpu_kernels *usable[3];
	vac_cpu_kernels_usable(usable);
	c->kernels = usable[0];
	c->threads = threads;
	int rc = vac_team_new(threads, &c->team, err);
	if (rc < 0) {
		cpu_close(c);
		return rc;
	}
	snprintf(c->description, sizeof(c->description), "%u thread%s, %s", threads,
		 threads == 1 ? "" : "s", c->kernels->name);
	*out = c;
	return 0;
}

static const char *cpu_description(const struct vac_compute *c)
{
	return c->description;
}

static void cpu_workspace(struct vac_compute *c, void *base, uint64_t bytes)
{
	c->workspace = base;
	c->workspace_bytes = bytes;
}

struct host_loop {
	void (*fn)(void *ctx, uint32_t i);
	void *ctx;
};

static void run_host_loop(void *ctx, uint32_t i, uint32_t thread)
{
	const struct host_loop *loop = ctx;
	(void)thread;
	loop->fn(loop->ctx, i);
}

static void cpu_parallel(struct vac_compute *c, uint32_t count, void (*fn)(void *ctx, uint32_t i),
			 void *ctx)
{
	struct host_loop loop = {.fn = fn, .ctx = ctx};
	vac_team_run(c->team, count, run_host_loop, &loop);
}

/* A loop over items of some floats each, in even pieces. */
struct pieces {
	struct vac_compute *c;
	uint32_t items, count;
	const void *what; /* the operation's own */
	const struct vac_tokens *tokens;
	const float *x;
	float *y;
};

static struct pieces divide(struct vac_compute *c, uint32_t items, uint64_t floats)
{
	uint64_t count = floats / PIECE_FLOATS + 1, most = (uint64_t)PIECES_A_THREAD * c->threads;
	if (count > most)
		count = most;
	if (count > items)
		count = items;
	return (struct pieces){.c = c, .items = items, .count = (uint32_t)count};
}

static uint32_t first_of(const struct pieces *p, uint32_t piece)
{
	return (uint32_t)((uint64_t)p->items * piece / p->count);
}

static void embed_piece(void *ctx, uint32_t i, uint32_t thread)
{
	const struct pieces *p = ctx;
	(void)thread;
	p->c->kernels->embed(p->what, p->tokens, first_of(p, i), first_of(p, i + 1), p->y);
}

static void cpu_embed(struct vac_compute *c, const struct vac_embed *embed,
		      const struct vac_tokens *tokens, void *y)
{
	struct pieces p = divide(c, tokens->rows, (uint64_t)tokens->rows * embed->hidden);
	p.what = embed;
	p.tokens = tokens;
	p.y = y;
	vac_team_run(c->team, p.count, embed_piece, &p);
}

struct norm {
	uint32_t hidden;
	float eps;
	const float *gamma, *beta;
};

static void norm_piece(void *ctx, uint32_t i, uint32_t thread)
{
	const struct pieces *p = ctx;
	const struct norm *n = p->what;
	(void)thread;
	p->c->kernels->layer_norm(first_of(p, i), first_of(p, i + 1), n->hidden, n->eps, n->gamma,
				  n->beta, p->y);
}

static void cpu_layer_norm(struct vac_compute *c, uint32_t rows, uint32_t hidden, float eps,
			   const void *gamma, const void *beta, void *x)
{
	const struct norm norm = {hidden, eps, gamma, beta};
	struct pieces p = divide(c, rows, (uint64_t)rows * hidden);
	p.what = &norm;
	p.y = x;
	vac_team_run(c->team, p.count, norm_piece, &p);
}

static uint64_t cpu_attention_workspace(const struct vac_compute *c,
					const struct vac_attention *attention, uint32_t longest)
{
	uint64_t bytes = c->kernels->attend_bytes(longest, attention->head_size);
	return c->threads * ((bytes + 63) / 64 * 64);
}

struct attending {
	const struct vac_attention *attention;
	uint32_t blocks; /* of queries, that the longest sequence is cut into */
	uint32_t block;  /* queries in each */
};

/* Items are (sequence, head, block of queries). */
static void attention_piece(void *ctx, uint32_t i, uint32_t thread)
{
	const struct pieces *p = ctx;
	const struct attending *how = p->what;
	const struct vac_attention *a = how->attention;
	size_t hidden = (size_t)a->heads * a->head_size;
	float *buffer = (float *)(void *)(p->c->workspace + thread * vac_cpu_share_bytes(p->c));
	for (uint32_t item = first_of(p, i); item < first_of(p, i + 1); item++) {
		uint32_t head = item / how->blocks % a->heads;
		uint32_t sequence = item / how->blocks / a->heads;
		size_t start = p->tokens->starts[sequence];
		uint32_t length = p->tokens->starts[sequence + 1] - (uint32_t)start;
		uint32_t first = item % how->blocks * how->block;
		uint32_t last = first + how->block < length ? first + how->block : length;
		const float *q = p->x + start * 3 * hidden + head * a->head_size;
		if (first < length)
			p->c->kernels->attend(q, q + hidden, q + 2 * hidden, 3 * hidden, length,
					      a->head_size, a->scale, first, last, buffer,
					      p->y + start * hidden + head * a->head_size, hidden);
	}
}

static void cpu_attention(struct vac_compute *c, const struct vac_attention *attention,
			  const struct vac_tokens *tokens, const void *qkv, void *out)
{
	uint32_t heads = attention->heads, longest = tokens->longest;
	struct attending how = {.attention = attention, .blocks = 1, .block = longest};
	/* K is turned once a piece: queries are only cut when there are too few
	 * heads for the threads. */
	if (tokens->sequences * heads < 2 * c->threads && longest > VAC_ATTENTION_BLOCK) {
		how.block = VAC_ATTENTION_BLOCK;
		how.blocks = (longest + how.block - 1) / how.block;
	}
	uint32_t items = tokens->sequences * heads * how.blocks;
	uint64_t floats = (uint64_t)tokens->rows * heads * longest;
	struct pieces p = divide(c, items, floats > UINT32_MAX ? UINT32_MAX : floats);
	p.what = &how;
	p.tokens = tokens;
	p.x = qkv;
	p.y = out;
	if (p.count < c->threads && floats > PIECE_FLOATS / 4)
		p.count = items < c->threads ? items : c->threads;
	vac_team_run(c->team, p.count, attention_piece, &p);
}

struct pooling {
	enum vac_pooling pooling;
	uint32_t hidden;
};

static void pool_piece(void *ctx, uint32_t i, uint32_t thread)
{
	const struct pieces *p = ctx;
	const struct pooling *how = p->what;
	const uint32_t *starts = p->tokens->starts;
	(void)thread;
	for (uint32_t s = first_of(p, i); s < first_of(p, i + 1); s++)
		p->c->kernels->pool(how->pooling, starts[s + 1] - starts[s], how->hidden,
				    p->x + (size_t)starts[s] * how->hidden,
				    p->y + (size_t)s * how->hidden);
}

static void cpu_pool(struct vac_compute *c, enum vac_pooling pooling,
		     const struct vac_tokens *tokens, uint32_t hidden, const void *x, void *out)
{
	const struct pooling how = {pooling, hidden};
	struct pieces p = divide(c, tokens->sequences, (uint64_t)tokens->rows * hidden);
	p.what = &how;
	p.tokens = tokens;
	p.x = x;
	p.y = out;
	vac_team_run(c->team, p.count, pool_piece, &p);
}

static int cpu_synchronize(struct vac_compute *c, struct vac_error *err)
{
	(void)c, (void)err; /* a CPU stream has run when execute returns */
	return 0;
}

static size_t cpu_residue(const struct vac_compute *c, struct vac_residue *out, size_t capacity)
{
	if (c->threads == 1 || capacity == 0)
		return 0;
	*out = (struct vac_residue){.name = "stacks of the thread team"};
	return 1;
}

extern const struct vac_backend vac_backend_cpu;
__attribute__((visibility("default"))) const struct vac_backend vac_backend_cpu = {
	.name = "cpu",
	.default_batch_tokens = 1024,
	.dtypes = {VAC_DTYPE_F32},
	.dtype_count = 1,
	.open = cpu_open,
	.close = cpu_close,
	.description = cpu_description,
	.workspace = cpu_workspace,
	.parallel = cpu_parallel,
	.linear_open = vac_cpu_linear_open,
	.linear_close = vac_cpu_linear_close,
	.linear_packed_bytes = vac_cpu_linear_packed_bytes,
	.linear_workspace = vac_cpu_linear_workspace,
	.linear_pack = vac_cpu_linear_pack,
	.linear_prepare = vac_cpu_linear_prepare,
	.linear = vac_cpu_linear,
	.round_rows = vac_cpu_round_rows,
	.embed = cpu_embed,
	.layer_norm = cpu_layer_norm,
	.attention_workspace = cpu_attention_workspace,
	.attention = cpu_attention,
	.pool = cpu_pool,
	.synchronize = cpu_synchronize,
	.residue = cpu_residue,
};
