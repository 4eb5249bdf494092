/*
 * registry_world.h - a registry in a world of the test's own: its clock, its
 * devices with the memory that it says, workers that only write down what they
 * are asked ("load a;run 1;"). Shared by the tests of the registry.
 */
#ifndef VAC_TESTS_REGISTRY_WORLD_H
#define VAC_TESTS_REGISTRY_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/admission.h"

#define MS     INT64_C(1000000)
#define MIB    UINT64_C(1048576)
#define WORKER ((struct vac_worker *)(uintptr_t)0x1000)
#define OTHER  ((struct vac_worker *)(uintptr_t)0x2000)

enum { KEEP_MS = 3600 * 1000, TURN_MS = 1000, MAX_CALLS = 64, ROOM_MIB = 100 };

/* What is said of one model. */
struct said {
	const char *name;
	struct vac_model_settings settings;
};

struct world {
	struct vac_registry registry;
	struct vac_device devices[2]; /* "cpu" and "other" */
	struct said said[8];          /* up to the first without a name */
	int64_t now_ns, wake_at_ns;   /* wake_at_ns 0: nothing is wanted */
	uint64_t lacked_bytes;        /* lacks() was told last */
	struct vac_model *lacked;     /* of this load */
	uint64_t others_mib;          /* what other processes hold of the machine's 10000 */
	struct vac_worker *worker;    /* that loads are given */
	bool plans_come_late;         /* else plan() answers at once */
	bool quiet;
	bool noting;            /* events go into the log: "[waiting a]" */
	char log[1024];         /* what was asked */
	struct vac_event event; /* the last one; what it points to is gone */
	int receipts;           /* of died() */
	struct vac_error last_error;
};

struct call {
	struct vac_waiter waiter;
	int number;
	bool finished, failed;
};

extern const struct vac_error killed; /* why a worker died */

/* Set-up functions of cmocka: one device without a budget; "cpu" with ROOM_MIB;
 * that and "other", with as much. */
int world_unlimited(void **state);
int world_limited(void **state);
int world_of_two(void **state);
int world_end(void **state);

/* The settings of a model from now on (or from the next reconfigure on); filled
 * with the defaults when it is first called. */
struct vac_model_settings *say(struct world *w, const char *name);
/* The log since the last call. */
const char *asked(struct world *w);
/* Lets the timer fire as often as it wants to, up to the end of that time. */
void pass(struct world *w, int64_t ms);
/* A model's sizes are in its directory's name: "own,scratch,load" in MiB. */
struct vac_plan plan_of(const struct vac_model *model);
struct vac_model *model_of(struct world *w, const char *name, const char *sizes);
void submit(struct world *w, struct vac_model *model, struct call *call, int number);
void loaded(struct world *w, struct vac_model *model);
void unloaded(struct world *w, struct vac_model *model);
/* Resident, idle, and its turn over. */
struct vac_model *resident(struct world *w, const char *name, const char *sizes);
/* A request that is answered at once. */
void answer(struct world *w, struct vac_model *model, struct call *call, int number);

#endif
