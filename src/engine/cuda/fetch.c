/*
 * fetch.c - from files to regions. A team of threads reads (from the page cache,
 * mostly: that is copying) into a ring of slots that the GPU was given to read.
 * Floats become elements on the way: the converting kernel, one launch a slot, reads
 * it over the bus. What needs no converting is copied. While the GPU reads
 * one slot, the next is filled. On the engine's thread, in the context.
 */
#include <string.h>

#include "base/io.h"
#include "engine/cuda/backend.h"
#include "engine/team.h"
#include "memory/region.h"

#define READERS     8                   /* more gain nothing over the bus */
#define CHUNK_BYTES ((uint64_t)1 << 19) /* of one pread: no reader waits long for the last */
#define ALIGNMENT   64                  /* of an item in its slot */
#define MOST_CHUNKS (VAC_FETCH_BYTES / CHUNK_BYTES + VAC_FETCH_ITEMS)

static uint64_t slot_bytes(void)
{
	return vac_page_round(VAC_FETCH_BYTES + VAC_FETCH_ITEMS * ALIGNMENT);
}

uint64_t vac_cuda_fetch_bytes(const struct vac_compute *c)
{
	(void)c;
	return VAC_CUDA_FETCH_SLOTS * slot_bytes();
}

static void close_ring(struct vac_compute *c)
{
	struct vac_cuda_ring *ring = &c->ring;
	for (uint32_t i = 0; i < VAC_CUDA_FETCH_SLOTS; i++)
		if (ring->done[i])
			c->cuda->event_destroy(ring->done[i]);
	if (ring->registered)
		c->cuda->host_unregister(ring->base);
	vac_host_unmap(ring->base, vac_cuda_fetch_bytes(c));
	vac_team_free(ring->team);
	memset(ring, 0, sizeof(*ring));
}

static int open_ring(struct vac_compute *c, struct vac_error *err)
{
	struct vac_cuda_ring *ring = &c->ring;
	uint64_t bytes = vac_cuda_fetch_bytes(c);
	int result = VAC_CU_OK;
	ring->slot_bytes = slot_bytes();
	ring->base = vac_host_map(bytes);
	if (!ring->base)
		return vac_fail_nomem(err, "the ring for weights on their way to the GPU", bytes);
	int rc = vac_team_new(c->threads < READERS ? c->threads : READERS, &ring->team, err);
	if (rc < 0)
		return rc;
	result = c->cuda->host_register(ring->base, bytes, VAC_CU_HOST_REGISTER_DEVICEMAP);
	ring->registered = result == VAC_CU_OK;
	if (result == VAC_CU_OK)
		result = c->cuda->host_address(&ring->address, ring->base, 0);
	for (uint32_t i = 0; result == VAC_CU_OK && i < VAC_CUDA_FETCH_SLOTS; i++)
		result = c->cuda->event_create(&ring->done[i], VAC_CU_EVENT_DISABLE_TIMING);
	if (result != VAC_CU_OK)
		return vac_cuda_fail(c->cuda, err, result,
				     "making the ring for weights on their way to the GPU");
	return 0;
}

int vac_cuda_fetch_begin(struct vac_compute *c, struct vac_error *err)
{
	if (c->ring.users == 0) {
		int rc = open_ring(c, err);
		if (rc < 0) {
			close_ring(c);
			return rc;
		}
	}
	c->ring.users++;
	c->trials.spent_ns = 0; /* a load begins */
	return 0;
}

/* One round of parallel reading. */
struct reading {
	struct chunk {
		const struct vac_weight_file *file;
		uint64_t offset, bytes;
		uint8_t *to;
	} chunks[MOST_CHUNKS];
	int rc[MOST_CHUNKS];
	struct vac_error *err;
};

static void read_chunk(void *ctx, uint32_t i, uint32_t thread)
{
	struct reading *r = ctx;
	const struct chunk *chunk = &r->chunks[i];
	(void)thread;
	r->rc[i] = vac_pread_full(chunk->file->fd, chunk->file->path, chunk->to, chunk->bytes,
				  chunk->offset, NULL);
}

static int read_items(struct vac_compute *c, const struct vac_fetch *items, uint32_t count,
		      uint8_t *slot, struct vac_error *err)
{
	struct reading r;
	uint32_t chunks = 0;
	uint8_t *to = slot;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t bytes = items[i].count * vac_dtype_bytes(items[i].dtype);
		for (uint64_t at = 0; at < bytes; at += CHUNK_BYTES)
			r.chunks[chunks++] = (struct chunk){
				.file = items[i].file,
				.offset = items[i].offset + at,
				.bytes = bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES,
				.to = to + at,
			};
		to += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	}
	vac_team_run(c->ring.team, chunks, read_chunk, &r);
	for (uint32_t i = 0; i < chunks; i++) {
		const struct chunk *chunk = &r.chunks[i];
		if (r.rc[i] == 0)
			continue;
		/* again, for the message; it may even succeed now */
		int rc = vac_pread_full(chunk->file->fd, chunk->file->path, chunk->to, chunk->bytes,
					chunk->offset, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int vac_cuda_fetch(struct vac_compute *c, const struct vac_fetch *items, uint32_t count,
		   struct vac_error *err)
{
	struct vac_cuda_ring *ring = &c->ring;
	uint32_t number = ring->next;
	uint64_t at = number * ring->slot_bytes;
	/* an event that was never recorded is done */
	int result = c->cuda->event_synchronize(ring->done[number]);
	if (result != VAC_CU_OK)
		return vac_cuda_fail(c->cuda, err, result, "waiting for weights to arrive");
	int rc = read_items(c, items, count, ring->base + at, err);
	if (rc < 0)
		return rc;
	struct vac_cuda_conversion conversion;
	conversion.count = conversion.blocks = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct vac_fetch *item = &items[i];
		uint64_t bytes = item->count * vac_dtype_bytes(item->dtype);
		if (item->dtype == c->dtype)
			vac_cuda_note(c,
				      c->cuda->upload((uintptr_t)item->to, ring->base + at, bytes,
						      c->stream),
				      "copying weights");
		else
			vac_cuda_conversion_add(&conversion, item->dtype, item->count,
						ring->address + at, item->to);
		at += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	}
	vac_cuda_convert(c, &conversion);
	vac_cuda_note(c, c->cuda->event_record(ring->done[number], c->stream), "copying weights");
	ring->next = (number + 1) % VAC_CUDA_FETCH_SLOTS;
	if (c->failure < 0 && err)
		*err = c->error;
	return c->failure;
}

int vac_cuda_fetch_end(struct vac_compute *c, struct vac_error *err)
{
	vac_cuda_note(c, c->cuda->stream_synchronize(c->stream), "waiting for weights to arrive");
	int rc = c->failure;
	if (rc < 0 && err)
		*err = c->error;
	if (--c->ring.users == 0)
		close_ring(c);
	return rc;
}
