/*
 * arena.h - bump allocation in chunks; freed all at once. For what lives as
 * long as one load or one request. One owner; no locking.
 */
#ifndef VAC_BASE_ARENA_H
#define VAC_BASE_ARENA_H

#include <stddef.h>

struct vac_arena_chunk;
struct vac_arena {
	struct vac_arena_chunk *chunks; /* newest first */
	size_t chunk_bytes;             /* size of the next ordinary chunk; 0: 64 KiB */
	size_t used_bytes;              /* handed out, alignment included */
};

/* 16-byte aligned, not cleared; NULL when out of memory. The memory lives
 * until vac_arena_free. */
void *vac_arena_alloc(struct vac_arena *arena, size_t bytes);
char *vac_arena_strndup(struct vac_arena *arena, const char *text, size_t bytes);
/* Returns every chunk to the system (mmap'ed, never on the heap). */
void vac_arena_free(struct vac_arena *arena);

#endif
