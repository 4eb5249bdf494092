/* arena.c - bump allocation in mmap'ed chunks. One owner; no locking. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN               16u
#define DEFAULT_CHUNK_BYTES ((size_t)64 << 10)
#define PAGE_BYTES          ((size_t)4096)

struct vac_arena_chunk {
	struct vac_arena_chunk *next;
	size_t bytes; /* of the mapping */
	size_t used;  /* from the start of the mapping, header included */
};

static struct vac_arena_chunk *add_chunk(struct vac_arena *arena, size_t payload)
{
	size_t want = arena->chunk_bytes ? arena->chunk_bytes : DEFAULT_CHUNK_BYTES;
	size_t header = (sizeof(struct vac_arena_chunk) + ALIGN - 1) / ALIGN * ALIGN;
	struct vac_arena_chunk *chunk;

	if (payload > SIZE_MAX - header - PAGE_BYTES)
		return NULL;
	if (want < payload + header)
		want = payload + header;
	want = (want + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	chunk = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chunk == MAP_FAILED)
		return NULL;
	chunk->bytes = want;
	chunk->used = header;
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	return chunk;
}

void *vac_arena_alloc(struct vac_arena *arena, size_t bytes)
{
	struct vac_arena_chunk *chunk = arena->chunks;
	void *at;

	if (bytes > SIZE_MAX - ALIGN)
		return NULL;
	bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
	if (!chunk || chunk->bytes - chunk->used < bytes) {
		chunk = add_chunk(arena, bytes);
		if (!chunk)
			return NULL;
	}
	at = (uint8_t *)chunk + chunk->used;
	chunk->used += bytes;
	arena->used_bytes += bytes;
	return at;
}

char *vac_arena_strndup(struct vac_arena *arena, const char *text, size_t bytes)
{
	char *copy = vac_arena_alloc(arena, bytes + 1);

	if (!copy)
		return NULL;
	memcpy(copy, text, bytes);
	copy[bytes] = '\0';
	return copy;
}

void vac_arena_free(struct vac_arena *arena)
{
	struct vac_arena_chunk *chunk = arena->chunks;

	while (chunk) {
		struct vac_arena_chunk *next = chunk->next;

		munmap(chunk, chunk->bytes);
		chunk = next;
	}
	arena->chunks = NULL;
	arena->used_bytes = 0;
}
