/*
 * sampler.h - lets the first of many equal things through, and then one in a
 * while with the number of those since: a flood of refusals is told without
 * filling a disk. Knows a fixed number of things at once; more than that many
 * in one interval are not told at all. One owner; no locking.
 */
#ifndef VAC_SERVER_SAMPLER_H
#define VAC_SERVER_SAMPLER_H

#include <stdint.h>

#define VAC_SAMPLER_SLOTS       64
#define VAC_SAMPLER_INTERVAL_MS 5000

struct vac_sampler {
	struct vac_sample {
		uint64_t key;  /* hash of what it is */
		uint64_t held; /* not told since the last that was */
		int64_t until_ns;
	} slots[VAC_SAMPLER_SLOTS];
};

/* How often it happened since it was last told, this one included; 0: it is not
 * to be told now. A name and a number say what it is. */
uint64_t vac_sampler_take(struct vac_sampler *sampler, const char *name, uint32_t number,
			  int64_t now_ns);

#endif
