/*
 * ring.h - the newest events, one after the other in a fixed block of memory
 * that all streams read from. What is appended pushes the oldest out; a reader
 * holds a position, and sees when what it had not read yet is gone. So the
 * number of readers and their slowness cost no memory.
 *
 * Positions only grow. One owner; no locking.
 */
#ifndef VAC_SERVER_RING_H
#define VAC_SERVER_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* One event. Strings are not NUL-terminated. */
struct vac_ring_event {
	uint64_t id;
	uint32_t kind; /* the writer's; not 0 */
	uint64_t done_bytes, total_bytes;
	const char *name; /* of its model */
	size_t name_bytes;
	const char *text; /* JSON */
	size_t text_bytes;
};

struct vac_ring {
	uint8_t *data; /* owned */
	size_t capacity;
	uint64_t head, tail; /* of the next event, and of the oldest */
};

/* capacity is a multiple of 8. */
int vac_ring_init(struct vac_ring *ring, size_t capacity, struct vac_error *err) VAC_MUST_CHECK;
void vac_ring_free(struct vac_ring *ring);
/* false: it is larger than a quarter of the ring and was not taken. */
bool vac_ring_put(struct vac_ring *ring, const struct vac_ring_event *event);
/* The event at a position from tail to below head; its strings live until the
 * next put. Returns the position of the next one. */
uint64_t vac_ring_get(const struct vac_ring *ring, uint64_t at, struct vac_ring_event *event);
/* Nothing of what was put can be read any more. */
static inline void vac_ring_forget(struct vac_ring *ring)
{
	ring->tail = ring->head;
}

#endif
