/*
 * hold_frames.h - the frames that ask vacate-gpud for the state of processes, and to
 * park and resume them (docs/wire.md, HOLD). The C form of a part of wire.h, and of
 * what src/hold says, which a server does not know. No state; any thread.
 */
#ifndef VAC_WIRE_HOLD_FRAMES_H
#define VAC_WIRE_HOLD_FRAMES_H

#include "wire/wire.h"

enum vac_wire_hold_operation {
	VAC_WIRE_HOLD_STATE = 1, /* look, change nothing */
	VAC_WIRE_HOLD_PARK = 2,
	VAC_WIRE_HOLD_RESUME = 3,
};

/* As in hold/hold.h. */
enum vac_wire_held_state {
	VAC_WIRE_HELD_UNKNOWN,
	VAC_WIRE_HELD_RUNNING,
	VAC_WIRE_HELD_LOCKED,
	VAC_WIRE_HELD_PARKED,
	VAC_WIRE_HELD_FAILED,
};
#define VAC_WIRE_HOLD_PHASES 8u

#define VAC_WIRE_MAX_TARGETS      64u
#define VAC_WIRE_MAX_HELD_DEVICES 16u
#define VAC_WIRE_UUID_BYTES       48u /* with the final zero of the C form */
#define VAC_WIRE_COMMAND_BYTES    64u /* the same */
#define VAC_WIRE_WHO_BYTES        48u /* the same */
#define VAC_WIRE_DRIVER_BYTES     80u /* the same */

struct vac_wire_hold_target {
	uint32_t pid;
	uint64_t start_ticks; /* field 22 of /proc/PID/stat: another process has another */
};

struct vac_wire_hold {
	enum vac_wire_hold_operation operation;
	bool risk, pageout;
	uint32_t lock_timeout_ms, wait_ms;
	struct vac_wire_string device_uuid; /* empty: where it was */
	struct vac_wire_string who;         /* park: what asks; may be empty */
	uint32_t count;                     /* 1 to VAC_WIRE_MAX_TARGETS */
	struct vac_wire_hold_target targets[VAC_WIRE_MAX_TARGETS];
};

struct vac_wire_hold_phase {
	uint32_t target; /* index */
	uint32_t phase;  /* below VAC_WIRE_HOLD_PHASES */
};

struct vac_wire_held_memory {
	bool listed; /* by NVML */
	bool bytes_valid;
	uint64_t bytes;                   /* the process's */
	uint64_t used_bytes, total_bytes; /* the device's */
};

struct vac_wire_held_device {
	char uuid[VAC_WIRE_UUID_BYTES];
	struct vac_wire_held_memory before, after;
};

/* One target. Times: 0 where that step was not taken. */
struct vac_wire_held_target {
	uint32_t pid, uid;
	char command[VAC_WIRE_COMMAND_BYTES];
	enum vac_wire_held_state before, after;
	bool rss_valid, pageout_valid;
	uint64_t rss_before_bytes, rss_after_bytes, pageout_bytes, swapped_bytes;
	int64_t lock_ns, checkpoint_ns, restore_ns, unlock_ns, driver_ns, total_ns;
	struct vac_error error; /* code VAC_OK: done */
	uint32_t device_count;
	struct vac_wire_held_device devices[VAC_WIRE_MAX_HELD_DEVICES];
};

/* Some 230 KB: not for a stack. Holds its texts, so that it may outlive the frame. */
struct vac_wire_held {
	struct vac_error error; /* of the whole: that of the first target that was refused */
	char driver[VAC_WIRE_DRIVER_BYTES]; /* its version as NVML has it; "" */
	uint32_t count;
	struct vac_wire_held_target targets[VAC_WIRE_MAX_TARGETS];
};

void vac_wire_put_hold(struct vac_buf *buf, uint64_t id, const struct vac_wire_hold *hold);
void vac_wire_put_hold_phase(struct vac_buf *buf, uint64_t id,
			     const struct vac_wire_hold_phase *phase);
void vac_wire_put_held(struct vac_buf *buf, uint64_t id, const struct vac_wire_held *held);

int vac_wire_get_hold(const void *payload, size_t bytes, struct vac_wire_hold *out,
		      struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_hold_phase(const void *payload, size_t bytes, struct vac_wire_hold_phase *out,
			    struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_held(const void *payload, size_t bytes, struct vac_wire_held *out,
		      struct vac_error *err) VAC_MUST_CHECK;

#endif
