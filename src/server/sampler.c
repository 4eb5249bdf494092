/* sampler.c - one in a while of many equal things. One owner; no locking. */
#include "server/sampler.h"

#include <stddef.h>

#define INTERVAL_NS (VAC_SAMPLER_INTERVAL_MS * INT64_C(1000000))

static uint64_t hash_of(const char *name, uint32_t number)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 1099511628211u;
	hash = (hash ^ number) * 1099511628211u;
	return hash ? hash : 1; /* 0: a slot that was never used */
}

uint64_t vac_sampler_take(struct vac_sampler *sampler, const char *name, uint32_t number,
			  int64_t now_ns)
{
	uint64_t key = hash_of(name, number), times;
	struct vac_sample *slot = NULL;

	for (size_t i = 0; i < VAC_SAMPLER_SLOTS; i++) {
		struct vac_sample *at = &sampler->slots[i];

		if (at->key == key) {
			slot = at;
			break;
		}
		/* The one whose interval ended first makes way for a new thing. */
		if (!slot || at->until_ns < slot->until_ns)
			slot = at;
	}
	if (slot->key != key && slot->key != 0 && slot->until_ns > now_ns)
		return 0;
	if (slot->key == key && slot->until_ns > now_ns) {
		slot->held++;
		return 0;
	}
	times = slot->key == key ? slot->held + 1 : 1;
	*slot = (struct vac_sample){.key = key, .until_ns = now_ns + INTERVAL_NS};
	return times;
}
