/*
 * plan.h - the regions that a load will create, in bytes, before it starts.
 * Plain data, made by the engine, carried by the wire, shown by everybody.
 */
#ifndef VAC_MEMORY_PLAN_H
#define VAC_MEMORY_PLAN_H

#include "memory/region.h"

#define VAC_PLAN_MAX_ITEMS 8

struct vac_plan_item {
	enum vac_region_kind kind;
	bool on_device;
	uint64_t bytes; /* whole pages */
};

struct vac_plan {
	uint32_t count;
	struct vac_plan_item items[VAC_PLAN_MAX_ITEMS];
	uint64_t file_bytes; /* of the checkpoint's weight files: what a load reads */
	uint64_t load_bytes; /* most extra host bytes held for a moment while loading */
};

/* Adds payload bytes, rounded to whole pages; items of the same kind and
 * place stay separate (each is one region). No bytes: no region, no item.
 * -ENOSPC when the table is full. */
int vac_plan_add(struct vac_plan *plan, enum vac_region_kind kind, bool on_device,
		 uint64_t payload_bytes) VAC_MUST_CHECK;
/* Sum of the regions: what the model takes when it is alone on its worker. */
uint64_t vac_plan_bytes(const struct vac_plan *plan, bool on_device);
/* Sum without the shared scratch: what it takes when the scratch is there already. */
uint64_t vac_plan_own_bytes(const struct vac_plan *plan, bool on_device);

#endif
