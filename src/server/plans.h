/*
 * plans.h - what each model on disk would take, asked of a short-lived worker
 * (vacate-worker --plan) and remembered as long as the files are the same.
 *
 * One plan is asked at a time, so that a checkpoint that kills the worker is
 * known by name; the worker lives until nothing is left to ask. The same files
 * have a plan for each device, dtype and size of batches that they were asked
 * about. The server's version does not change while it runs, so it is not part of
 * what is compared. The loop's thread only.
 */
#ifndef VAC_SERVER_PLANS_H
#define VAC_SERVER_PLANS_H

#include "server/modelinfo.h"
#include "server/supervisor.h"

/* What a plan depends on beside the files themselves. */
struct vac_plan_key {
	const char *dir, *device;
	const char *dtype;         /* NULL: as the worker chooses */
	uint32_t max_batch_tokens; /* 0: as the worker chooses */
};

struct vac_plan_entry {
	struct vac_plan_entry *next;
	struct vac_plan_entry *chain; /* of its bucket */
	struct vac_plan_key key;      /* strings owned */
	struct vac_buf signature; /* name, inode, size, times of each file that counts; or none */
	bool known;               /* info or error is the answer for this signature */
	bool queued;
	bool changed;           /* its files did, since they were asked about */
	bool seen;              /* since the last sweep began */
	uint32_t losses;        /* workers that died over it */
	struct vac_error error; /* code VAC_OK: info is valid */
	struct vac_model_info info;
};

/* Embedded in a call that waits for plans. */
struct vac_plan_wait {
	struct vac_plan_wait *next;
	void (*done)(struct vac_plan_wait *wait); /* NULL: it does not wait */
};

#define VAC_PLAN_BUCKETS 512u /* power of two */

struct vac_plans {
	struct vac_supervisor *supervisor;
	struct vac_plan_entry *entries;                   /* owned */
	struct vac_plan_entry *buckets[VAC_PLAN_BUCKETS]; /* the same by directory */
	struct vac_plan_entry *asked;                     /* the one that is asked now */
	struct vac_exchange exchange;
	struct vac_worker *worker; /* of the exchange */
	struct vac_plan_wait *waits;
};

void vac_plans_init(struct vac_plans *plans, struct vac_supervisor *supervisor);
void vac_plans_free(struct vac_plans *plans);

/* The plan of a directory (key.dir); NULL while it is not known: it is queued then. Its
 * files are looked at, and an old plan does not count if they changed. */
const struct vac_plan_entry *vac_plans_get(struct vac_plans *plans, const struct vac_plan_key *key);
/* The same, but a plan that is not known is not queued: the caller asks for it
 * itself and may tell with vac_plans_put() what it heard. */
const struct vac_plan_entry *vac_plans_known(struct vac_plans *plans,
					     const struct vac_plan_key *key);
/* A plan of the files as vac_plans_known() last saw them. */
void vac_plans_put(struct vac_plans *plans, const struct vac_plan_key *key,
		   const struct vac_model_info *info);
/* What is known, without a look at the disk; NULL: nothing. */
const struct vac_plan_entry *vac_plans_peek(const struct vac_plans *plans,
					    const struct vac_plan_key *key);
/* Calls done when nothing is queued any more, perhaps before it returns. */
void vac_plans_wait(struct vac_plans *plans, struct vac_plan_wait *wait,
		    void (*done)(struct vac_plan_wait *wait));
void vac_plans_unwait(struct vac_plans *plans, struct vac_plan_wait *wait);
/* What is queued is not asked after all, except for what is being asked now; nothing is
 * dropped while somebody waits. */
void vac_plans_drop(struct vac_plans *plans);
/* Forgets what vac_plans_get() was not called for since the last sweep;
 * none while somebody waits. */
void vac_plans_sweep(struct vac_plans *plans);

#endif
