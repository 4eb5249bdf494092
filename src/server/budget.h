/*
 * budget.h - how much memory the models of one device may take, and how much
 * is there.
 *
 * Two sums bound a load. The budget: the plans of what is resident or being
 * loaded (the bytes of each, and once the largest scratch, which the models of
 * a worker share) plus what the worker was measured to hold beyond them, may
 * not exceed the limit. The machine: what is measured to be free now, less the
 * headroom and less what loads under way will still take, must hold the growth.
 *
 * charge: what one model is counted with. Pure arithmetic over a measuring
 * function; the loop's thread only.
 */
#ifndef VAC_SERVER_BUDGET_H
#define VAC_SERVER_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/size.h"
#include "memory/plan.h"

/* Embedded in a model. */
struct vac_charge {
	struct vac_charge *prev, *next; /* of the budget, largest scratch first */
	uint64_t own_bytes, scratch_bytes;
	uint64_t load_bytes; /* for a moment while it loads; 0 afterwards */
	bool counted;
	bool loading;
	bool leaving; /* an unload was decided, or is being weighed */
	bool fixed;   /* pinned: nothing makes it leave */
	bool alone;   /* in a worker of its own: its scratch is nobody else's */
	bool whole;   /* of a worker with its context, which none that leaves keeps alive */
};

/* What is measured on a device. */
struct vac_budget_room {
	bool total_valid, free_valid, held_valid;
	uint64_t total_bytes;  /* of the machine or the limit of its group */
	uint64_t free_bytes;   /* can be allocated now */
	uint64_t held_bytes;   /* by the workers of the device */
	uint64_t parked_bytes; /* of "cpu": that parked workers of GPUs brought along */
};

struct vac_budget {
	bool on_device; /* counts the device's bytes of a plan, not the host's */
	struct vac_size limit, headroom;
	void (*measure)(void *ctx, struct vac_budget_room *out);
	void *ctx;

	struct vac_charge *charges;
	struct vac_charge *top;                  /* the first that is not leaving */
	uint64_t own_bytes;                      /* of all charges */
	uint64_t pending_bytes;                  /* of what is loading: own and load bytes */
	uint64_t load_bytes;                     /* of that, load bytes */
	uint64_t leaving_bytes;                  /* own bytes of what is leaving */
	uint32_t count, loading, leaving, fixed; /* charges; fixed: and not leaving */
	uint64_t overhead_bytes;                 /* held beyond the charges, when last measured */
	struct vac_budget_room room;
	bool measured;
	int64_t measured_ns;
};

void vac_budget_init(struct vac_budget *budget, bool on_device, const struct vac_size *limit,
		     const struct vac_size *headroom,
		     void (*measure)(void *ctx, struct vac_budget_room *out), void *ctx);

/* Measures now, or believes what was measured less than max_age_ns ago. */
void vac_budget_measure(struct vac_budget *budget, int64_t now_ns, int64_t max_age_ns);
/* The most that may be planned at once; false: there is no limit. */
bool vac_budget_limit(const struct vac_budget *budget, uint64_t *bytes);
/* Planned now: charges and scratch. */
uint64_t vac_budget_used(const struct vac_budget *budget);
/* Measured to be free, less the headroom; false: not known. */
bool vac_budget_free(const struct vac_budget *budget, uint64_t *bytes);

/* What could still be planned: by the limit, and by what is free and not promised to
 * loads under way. 0: nothing is known. */
uint64_t vac_budget_room_left(const struct vac_budget *budget);

/* Fills a charge from a plan; it is not counted yet. Of its flags, alone counts. */
void vac_charge_plan(const struct vac_budget *budget, struct vac_charge *charge,
		     const struct vac_plan *plan);
/* What it takes alone, while it loads. */
uint64_t vac_charge_bytes(const struct vac_charge *charge);
/* Counts a load from now on. */
void vac_budget_add(struct vac_budget *budget, struct vac_charge *charge);
/* Its load is over: plan is what it was. */
void vac_budget_settle(struct vac_budget *budget, struct vac_charge *charge,
		       const struct vac_plan *plan);
/* It is gone. Not counted: nothing happens. */
void vac_budget_remove(struct vac_budget *budget, struct vac_charge *charge);
/* An unload of it was decided or is weighed; stay takes that back. */
void vac_budget_leave(struct vac_budget *budget, struct vac_charge *charge);
void vac_budget_stay(struct vac_budget *budget, struct vac_charge *charge);
/* It is pinned, or not any more. */
void vac_budget_fix(struct vac_budget *budget, struct vac_charge *charge, bool fixed);

/* Bytes that are missing for a load; both 0: there is room. */
struct vac_shortage {
	uint64_t budget_bytes;   /* to the limit */
	uint64_t measured_bytes; /* of the machine */
};
/* As things are, or (gone) as if what is leaving had left. */
struct vac_shortage vac_budget_shortage(const struct vac_budget *budget,
					const struct vac_charge *need, bool gone);
static inline bool vac_shortage_none(struct vac_shortage shortage)
{
	return shortage.budget_bytes == 0 && shortage.measured_bytes == 0;
}

/* Measures of "cpu": the machine and this process's group. held_bytes is not
 * filled. */
void vac_budget_measure_host(struct vac_budget_room *out);

#endif
