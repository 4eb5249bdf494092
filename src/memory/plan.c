/* plan.c - the regions that a load will create, added up. Any thread. */
#include "memory/plan.h"

#include <errno.h>

/* Sizes come from files that anyone may have written: a sum that does not fit
 * stays at the largest number, which no machine has room for. */
static uint64_t add_saturated(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

int vac_plan_add(struct vac_plan *plan, enum vac_region_kind kind, bool on_device,
		 uint64_t payload_bytes)
{
	if (payload_bytes == 0)
		return 0;
	if (plan->count >= VAC_PLAN_MAX_ITEMS)
		return -ENOSPC;
	plan->items[plan->count++] = (struct vac_plan_item){
		.kind = kind,
		.on_device = on_device,
		.bytes = vac_page_round(payload_bytes),
	};
	return 0;
}

uint64_t vac_plan_bytes(const struct vac_plan *plan, bool on_device)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < plan->count; i++) {
		if (plan->items[i].on_device == on_device)
			bytes = add_saturated(bytes, plan->items[i].bytes);
	}
	return bytes;
}

uint64_t vac_plan_own_bytes(const struct vac_plan *plan, bool on_device)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct vac_plan_item *item = &plan->items[i];

		if (item->on_device == on_device && item->kind != VAC_REGION_SCRATCH)
			bytes = add_saturated(bytes, item->bytes);
	}
	return bytes;
}
