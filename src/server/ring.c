/*
 * ring.c - events in a fixed block of memory. A record lies in one piece; what
 * is left of the block behind the last that fits is skipped, and a record of
 * that size says so. One owner; no locking.
 */
#include "server/ring.h"

#include <assert.h>
#include <string.h>

#include "memory/region.h"

/* Before each event; multiples of 8 keep it aligned. */
struct record {
	uint32_t bytes; /* with this header */
	uint32_t kind;  /* 0: nothing, to the end of the block */
	uint64_t id, done_bytes, total_bytes;
	uint32_t name_bytes, text_bytes;
};

int vac_ring_init(struct vac_ring *ring, size_t capacity, struct vac_error *err)
{
	assert(capacity % 8 == 0 && capacity / 4 > sizeof(struct record));
	*ring = (struct vac_ring){.data = vac_host_map(capacity), .capacity = capacity};
	return ring->data ? 0 : vac_fail_nomem(err, "the newest events", capacity);
}

void vac_ring_free(struct vac_ring *ring)
{
	if (ring->data)
		vac_host_unmap(ring->data, ring->capacity);
	*ring = (struct vac_ring){0};
}

static struct record *at(const struct vac_ring *ring, uint64_t position)
{
	return (struct record *)(void *)(ring->data + position % ring->capacity);
}

/* The oldest go until that many bytes may be written. */
static void make_room(struct vac_ring *ring, size_t bytes)
{
	while (ring->head + bytes - ring->tail > ring->capacity)
		ring->tail += at(ring, ring->tail)->bytes;
}

bool vac_ring_put(struct vac_ring *ring, const struct vac_ring_event *event)
{
	size_t behind = ring->capacity - (size_t)(ring->head % ring->capacity), bytes;
	struct record *record;

	assert(event->kind != 0);
	if (event->name_bytes > ring->capacity || event->text_bytes > ring->capacity)
		return false;
	bytes = (sizeof(*record) + event->name_bytes + event->text_bytes + 7) & ~(size_t)7;
	if (bytes > ring->capacity / 4)
		return false;
	if (behind < bytes) {
		make_room(ring, behind);
		record = at(ring, ring->head);
		/* Where not even a header fits, its first 8 bytes do. */
		record->bytes = (uint32_t)behind;
		record->kind = 0;
		ring->head += behind;
	}
	make_room(ring, bytes);
	record = at(ring, ring->head);
	*record = (struct record){
		.bytes = (uint32_t)bytes,
		.kind = event->kind,
		.id = event->id,
		.done_bytes = event->done_bytes,
		.total_bytes = event->total_bytes,
		.name_bytes = (uint32_t)event->name_bytes,
		.text_bytes = (uint32_t)event->text_bytes,
	};
	memcpy(record + 1, event->name, event->name_bytes);
	memcpy((char *)(record + 1) + event->name_bytes, event->text, event->text_bytes);
	ring->head += bytes;
	return true;
}

uint64_t vac_ring_get(const struct vac_ring *ring, uint64_t position, struct vac_ring_event *event)
{
	const struct record *record;

	assert(position >= ring->tail && position < ring->head);
	record = at(ring, position);
	if (record->kind == 0) {
		position += record->bytes;
		record = at(ring, position);
	}
	*event = (struct vac_ring_event){
		.id = record->id,
		.kind = record->kind,
		.done_bytes = record->done_bytes,
		.total_bytes = record->total_bytes,
		.name = (const char *)(record + 1),
		.name_bytes = record->name_bytes,
		.text = (const char *)(record + 1) + record->name_bytes,
		.text_bytes = record->text_bytes,
	};
	return position + record->bytes;
}
