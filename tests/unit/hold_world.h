/*
 * hold_world.h - what tests of park and resume begin with: a fake driver, a machine
 * with host RAM to spare, a directory of records, and targets that are real processes.
 * For one thread.
 */
#ifndef HOLD_WORLD_H
#define HOLD_WORLD_H

#include "fake_hold.h"
#include "driver/cuda.h"
#include "driver/nvml.h"
#include "hold/hold.h"
#include "hold/lock.h"
#include "hold/record.h"
#include "temp_dir.h"

#define GIB        ((uint64_t)1 << 30)
#define MIB        ((uint64_t)1 << 20)
#define WORLD_MOST 8

struct hold_world {
	struct vac_hold hold;
	struct vac_hold_options options;
	struct vac_target targets[WORLD_MOST];
	struct vac_hold_receipt receipts[WORLD_MOST];
	struct vac_error err;
	size_t count;
	int descriptors; /* open at the start */
};
extern struct hold_world world;

/* For cmocka: before and after each test. */
int hold_world_begin(void **state);
int hold_world_end(void **state);
/* A process with so much on device 0, the next target. */
struct fake_process *hold_world_add(uint64_t bytes);
/* of all targets */
int hold_world_park(void);
int hold_world_resume(void);
enum vac_hold_state hold_world_state(size_t target);
/* The machine has so much MemAvailable. */
void hold_world_available(uint64_t bytes);
/* err and code; what must stand in the message, a NULL at the end */
void hold_world_expect(int rc, enum vac_error_code code, const struct vac_error *err, ...);
/* Since the fake was installed the driver was called so: "lock 0, checkpoint 0, ..." with
 * the indices of targets; state calls are left out. */
void hold_world_expect_calls(const char *calls);
/* Another process holds the lock: a child of ours, that ends after that time. */
pid_t hold_world_hold_lock(const char *path, unsigned seconds);
/* Any vacate-process-*.lock file, or a record of the target, is there. */
bool hold_world_has_locks(void);
bool hold_world_record(size_t target, struct vac_record *out);

#endif
