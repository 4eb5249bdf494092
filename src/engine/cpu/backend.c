/*
 * backend.c - the CPU backend: oneDNN for products, own kernels for the rest,
 * one OpenMP team. Built as a module that exports vac_backend_cpu.
 *
 * All calls come from one thread, and that thread owns the team: libgomp keeps
 * a team for each thread that opens a parallel region.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"
#include "memory/trim.h"

/* Waking a team costs microseconds: less work than this many floats is done
 * by the caller alone. */
#define PARALLEL_FLOATS 16384

static int cpu_open(uint32_t threads, struct vac_compute **out, struct vac_error *err)
{
	struct vac_compute *c = calloc(1, sizeof(*c));
	if (!c)
		return vac_fail_nomem(err, "the cpu backend", sizeof(*c));
	const struct vac_cpu_kernels *usable[3];
	vac_cpu_kernels_usable(usable);
	c->kernels = usable[0];
	c->threads = threads;
	omp_set_dynamic(0);
	omp_set_num_threads((int)threads);
	/* Primitives are kept in linear.c, where the last user frees them. */
	dnnl_status_t status = dnnl_set_primitive_cache_capacity(0);
	if (status == dnnl_success)
		status = dnnl_engine_create(&c->engine, dnnl_cpu, 0);
	if (status == dnnl_success)
		status = dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags);
	if (status != dnnl_success) {
		if (c->engine)
			dnnl_engine_destroy(c->engine);
		free(c);
		return vac_fail(err, VAC_E_INTERNAL, "oneDNN did not start (dnnl_status_t %d)",
				(int)status);
	}
	const dnnl_version_t *version = dnnl_version();
	snprintf(c->description, sizeof(c->description), "oneDNN %d.%d.%d, %u thread%s, %s",
		 version->major, version->minor, version->patch, threads, threads == 1 ? "" : "s",
		 c->kernels->name);
	*out = c;
	return 0;
}

static void cpu_close(struct vac_compute *c)
{
	if (!c)
		return;
	dnnl_stream_destroy(c->stream);
	dnnl_engine_destroy(c->engine);
	free(c);
}

static const char *cpu_description(const struct vac_compute *c)
{
	return c->description;
}

static void *cpu_map(struct vac_compute *c, uint64_t bytes)
{
	(void)c;
	return vac_host_map(bytes);
}

static void cpu_unmap(struct vac_compute *c, void *base, uint64_t bytes)
{
	(void)c;
	vac_host_unmap(base, bytes);
}

static void cpu_copy(struct vac_compute *c, void *to, const void *from, size_t bytes)
{
	(void)c;
	memcpy(to, from, bytes);
}

static void cpu_workspace(struct vac_compute *c, void *base, uint64_t bytes)
{
	c->workspace = base;
	c->workspace_bytes = bytes;
}

static void cpu_parallel(struct vac_compute *c, uint32_t count, void (*fn)(void *ctx, uint32_t i),
			 void *ctx)
{
	(void)c;
#pragma omp parallel for schedule(dynamic, 1)
	for (uint32_t i = 0; i < count; i++)
		fn(ctx, i);
}

/* This thread's share of n pieces. */
static void share(uint32_t n, uint32_t *first, uint32_t *last)
{
	uint64_t team = (uint64_t)omp_get_num_threads(), self = (uint64_t)omp_get_thread_num();
	*first = (uint32_t)(n * self / team);
	*last = (uint32_t)(n * (self + 1) / team);
}

static void cpu_embed(struct vac_compute *c, const struct vac_embed *embed,
		      const struct vac_tokens *tokens, float *y)
{
#pragma omp parallel if ((size_t)tokens->rows * embed->hidden > PARALLEL_FLOATS)
	{
		uint32_t first, last;
		share(tokens->rows, &first, &last);
		c->kernels->embed(embed, tokens, first, last, y);
	}
}

static void cpu_layer_norm(struct vac_compute *c, uint32_t rows, uint32_t hidden, float eps,
			   const float *gamma, const float *beta, float *x)
{
#pragma omp parallel if ((size_t)rows * hidden > PARALLEL_FLOATS)
	{
		uint32_t first, last;
		share(rows, &first, &last);
		c->kernels->layer_norm(first, last, hidden, eps, gamma, beta, x);
	}
}

static uint64_t attention_bytes(const struct vac_compute *c, const struct vac_attention *attention,
				uint32_t longest)
{
	/* whole cache lines, so that no two threads write to one */
	return (c->kernels->attend_bytes(longest, attention->head_size) + 127) / 128 * 128;
}

static uint64_t cpu_attention_workspace(const struct vac_compute *c,
					const struct vac_attention *attention, uint32_t longest)
{
	return c->threads * attention_bytes(c, attention, longest);
}

/* The pieces of work are (sequence, block of queries, head). */
static void cpu_attention(struct vac_compute *c, const struct vac_attention *attention,
			  const struct vac_tokens *tokens, const float *qkv, float *out)
{
	size_t hidden = (size_t)attention->heads * attention->head_size, stride = 3 * hidden;
	uint64_t bytes = attention_bytes(c, attention, tokens->longest);
#pragma omp parallel if ((size_t)tokens->rows * hidden > PARALLEL_FLOATS / 4)
	{
		float *buffer =
			(float *)(void *)(c->workspace + (uint64_t)omp_get_thread_num() * bytes);
#pragma omp for schedule(dynamic, 1) collapse(2) nowait
		for (uint32_t s = 0; s < tokens->sequences; s++) {
			for (uint32_t h = 0; h < attention->heads; h++) {
				size_t start = tokens->starts[s];
				uint32_t length = tokens->starts[s + 1] - tokens->starts[s];
				const float *q = qkv + start * stride + h * attention->head_size;
				c->kernels->attend(
					q, q + hidden, q + 2 * hidden, stride, length,
					attention->head_size, attention->scale, 0, length, buffer,
					out + start * hidden + h * attention->head_size, hidden);
			}
		}
	}
}

static void cpu_pool(struct vac_compute *c, enum vac_pooling pooling,
		     const struct vac_tokens *tokens, uint32_t hidden, const float *x, float *out)
{
#pragma omp parallel for schedule(dynamic, 1) if ((size_t)tokens->rows * hidden > PARALLEL_FLOATS)
	for (uint32_t s = 0; s < tokens->sequences; s++)
		c->kernels->pool(pooling, tokens->starts[s + 1] - tokens->starts[s], hidden,
				 x + (size_t)tokens->starts[s] * hidden, out + (size_t)s * hidden);
}

static int cpu_synchronize(struct vac_compute *c, struct vac_error *err)
{
	(void)c, (void)err; /* a CPU stream has run when execute returns */
	return 0;
}

static size_t cpu_residue(const struct vac_compute *c, struct vac_residue *out, size_t capacity)
{
	const struct vac_residue all[] = {
		{.name = vac_cpu_linear_primitives(c) ? "oneDNN primitives of resident models"
						      : "oneDNN (code and tables)"},
		{.name = "OpenMP thread team (stacks)"},
	};
	size_t count = sizeof(all) / sizeof(all[0]);
	for (size_t i = 0; i < count && i < capacity; i++)
		out[i] = all[i];
	return count < capacity ? count : capacity;
}

extern const struct vac_backend vac_backend_cpu;
__attribute__((visibility("default"))) const struct vac_backend vac_backend_cpu = {
	.name = "cpu",
	.on_device = false,
	.default_batch_tokens = 1024,
	.open = cpu_open,
	.close = cpu_close,
	.description = cpu_description,
	.map = cpu_map,
	.unmap = cpu_unmap,
	.upload = cpu_copy,
	.download = cpu_copy,
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
