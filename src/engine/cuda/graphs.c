/*
 * graphs.c - small batches as CUDA graphs. A batch of a few hundred tokens takes
 * the GPU less time than its hundred launches take the processor; a graph is one
 * launch. So that one serves many batches, these are computed in classes: rows,
 * sequences and the longest one raised to steps, the true ones read by the
 * kernels from the tokens' starts. A batch of a class is computed with the same
 * launches whether they are made or played back: the results are the same bits.
 *
 * What a class is worth is found out by use: it is recorded when it comes again.
 * A graph takes memory of the driver's, which no region holds: it is measured
 * while it is made, bounded for all graphs together, and goes with the model.
 * Whatever fails here, the launches are made instead, and a line says so once.
 * On the engine's thread, in the context.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/backend.h"

#define MOST_SEQUENCES 32
#define TILE           64 /* what longest is a multiple of: attention_mma.cu */
#define WORTH          3  /* uses before it is recorded */

bool vac_cuda_graphs_wanted(void)
{
	const char *text = getenv("VACATE_CUDA_GRAPHS");
	return !text || (strcmp(text, "off") != 0 && strcmp(text, "0") != 0);
}

bool vac_cuda_round_batch(const struct vac_compute *c, const struct vac_batch_shape *room,
			  struct vac_batch_shape *shape)
{
	uint32_t rows = vac_cuda_bucket_rows(shape->rows), sequences = 1, longest = TILE;
	if (!c->graphs.wanted || rows > VAC_CUDA_SMALL_ROWS || rows > room->rows)
		return false;
	while (sequences < shape->sequences)
		sequences *= 2;
	if (sequences > MOST_SEQUENCES || sequences > room->sequences)
		return false;
	while (longest < shape->longest)
		longest *= 2;
	if (sequences == 1 || longest > rows)
		longest = rows;
	*shape = (struct vac_batch_shape){rows, sequences, longest};
	return true;
}

static void drop(struct vac_compute *c, struct vac_cuda_graph *graph)
{
	if (graph->exec) {
		/* it may be computing; what that gives the next one to wait is told */
		c->cuda->stream_synchronize(c->stream);
		c->cuda->graph_exec_destroy(graph->exec);
	}
	c->graphs.bytes -= graph->bytes;
	*graph = (struct vac_cuda_graph){0};
}

void vac_cuda_forget(struct vac_compute *c, const void *owner)
{
	for (uint32_t i = 0; i < VAC_CUDA_MOST_GRAPHS; i++)
		if (!owner || c->graphs.all[i].owner == owner)
			drop(c, &c->graphs.all[i]);
}

static void switch_off(struct vac_compute *c, const struct vac_error *why)
{
	char text[sizeof(why->message) + 96];
	vac_cuda_forget(c, NULL);
	c->graphs.off = true;
	snprintf(text, sizeof(text), "small batches are computed without CUDA graphs: %s",
		 why->message);
	if (c->warn)
		c->warn(c->warn_ctx, text);
}

static bool same(const struct vac_cuda_graph *graph, const struct vac_replay *replay)
{
	return graph->owner == replay->owner && graph->base == replay->base &&
	       graph->shape.rows == replay->shape.rows &&
	       graph->shape.sequences == replay->shape.sequences &&
	       graph->shape.longest == replay->shape.longest;
}

/* The least recently used one but for keep; NULL: there is none with a graph. */
static struct vac_cuda_graph *oldest(struct vac_compute *c, const struct vac_cuda_graph *keep)
{
	struct vac_cuda_graph *found = NULL;
	for (uint32_t i = 0; i < VAC_CUDA_MOST_GRAPHS; i++) {
		struct vac_cuda_graph *graph = &c->graphs.all[i];
		if (graph != keep && graph->exec && (!found || graph->used < found->used))
			found = graph;
	}
	return found;
}

/* The entry of that class: its own, a free one, or that of the one that was used
 * longest ago. */
static struct vac_cuda_graph *find(struct vac_compute *c, const struct vac_replay *replay)
{
	struct vac_cuda_graph *place = &c->graphs.all[0];
	for (uint32_t i = 0; i < VAC_CUDA_MOST_GRAPHS; i++) {
		struct vac_cuda_graph *graph = &c->graphs.all[i];
		if (same(graph, replay))
			return graph;
		if (place->owner && (!graph->owner || graph->used < place->used))
			place = graph;
	}
	drop(c, place);
	place->owner = replay->owner;
	place->base = replay->base;
	place->shape = replay->shape;
	return place;
}

/* A failure of what was only recorded has harmed nothing, unless it ended the
 * context. */
static int forgive(struct vac_compute *c, struct vac_error *why)
{
	int rc = c->failure;
	if (rc == 0)
		return 0;
	*why = c->error;
	if (c->error.code != VAC_E_GONE)
		c->failure = 0;
	return rc;
}

/* The calls of a batch as a graph, which nobody has run yet. */
static int capture(struct vac_compute *c, const struct vac_replay *replay,
		   struct CUgraph_st **graph, struct vac_error *why)
{
	const float *out;
	const char *const what = "recording a batch";
	int result = c->cuda->capture_begin(c->stream, VAC_CU_CAPTURE_THREAD_LOCAL);
	if (result != VAC_CU_OK)
		return vac_cuda_fail(c->cuda, why, result, what);
	int rc = replay->run(replay->ctx, &out, why);
	/* also after a failure: only then the stream computes again */
	result = c->cuda->capture_end(c->stream, graph);
	int failure = forgive(c, why);
	if (rc == 0)
		rc = failure;
	if (rc == 0 && result != VAC_CU_OK)
		rc = vac_cuda_fail(c->cuda, why, result, what);
	return rc;
}

static size_t free_bytes(const struct vac_compute *c)
{
	size_t bytes, total;
	return c->cuda->mem_info(&bytes, &total) == VAC_CU_OK ? bytes : 0;
}

/* What the driver has taken meanwhile; another process's change counts, too, and
 * costs a graph at most. */
static void count_bytes(struct vac_compute *c, struct vac_cuda_graph *graph, size_t free_before)
{
	size_t free_now = free_bytes(c);
	if (free_now == 0 || free_now >= free_before)
		return;
	graph->bytes += free_before - free_now;
	c->graphs.bytes += free_before - free_now;
}

static void keep_to_share(struct vac_compute *c, struct vac_cuda_graph *graph)
{
	while (c->graphs.bytes > VAC_CUDA_GRAPHS_BYTES) {
		struct vac_cuda_graph *other = oldest(c, graph);
		struct vac_error why;
		if (other) {
			drop(c, other);
			continue;
		}
		vac_fail(&why, VAC_E_NO_ROOM,
			 "one of %" PRIu32 " rows takes %" PRIu64 " bytes of the GPU's memory, "
			 "and all together may take %" PRIu64,
			 graph->shape.rows, graph->bytes, VAC_CUDA_GRAPHS_BYTES);
		switch_off(c, &why);
	}
}

static void record(struct vac_compute *c, const struct vac_replay *replay,
		   struct vac_cuda_graph *to)
{
	struct CUgraph_st *graph = NULL;
	struct vac_error why = {0};
	size_t before = free_bytes(c);
	int rc = capture(c, replay, &graph, &why);
	if (rc == 0) {
		int result = c->cuda->graph_instantiate(&to->exec, graph, 0);
		if (result != VAC_CU_OK) {
			to->exec = NULL;
			rc = vac_cuda_fail(c->cuda, &why, result, "making a graph of a batch");
		}
	}
	if (graph)
		c->cuda->graph_destroy(graph);
	if (rc < 0) {
		if (c->failure == 0) /* else there is nothing left to do without */
			switch_off(c, &why);
		return;
	}
	count_bytes(c, to, before);
	keep_to_share(c, to);
}

/* true: it is being computed. */
static bool play(struct vac_compute *c, struct vac_cuda_graph *graph)
{
	struct vac_error why;
	size_t before = graph->played ? 0 : free_bytes(c);
	int result = c->cuda->graph_launch(graph->exec, c->stream);
	if (result != VAC_CU_OK) {
		vac_cuda_note(c, result, "computing a batch");
		if (forgive(c, &why) < 0 && c->failure == 0)
			switch_off(c, &why);
		return false;
	}
	if (!graph->played) { /* its memory may come with the first launch only */
		graph->played = true;
		count_bytes(c, graph, before);
		keep_to_share(c, graph);
	}
	return true;
}

int vac_cuda_replay(struct vac_compute *c, const struct vac_replay *replay, const float **out,
		    struct vac_error *err)
{
	if (c->graphs.off || c->failure < 0)
		return replay->run(replay->ctx, out, err);
	struct vac_cuda_graph *graph = find(c, replay);
	graph->used = ++c->graphs.clock;
	if (graph->exec) {
		const float *result = graph->out;
		if (play(c, graph)) {
			*out = result;
			return 0;
		}
	}
	int rc = replay->run(replay->ctx, out, err);
	/* While the GPU computes that. */
	if (rc == 0 && c->failure == 0 && !c->graphs.off && ++graph->uses == WORTH) {
		graph->out = *out;
		record(c, replay, graph);
	}
	return rc;
}
