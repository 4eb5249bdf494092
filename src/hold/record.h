/*
 * record.h - what a vacate did to a process, for those that come after it: one small
 * file a process, in a directory of each user's own.
 *
 * The driver forgets two things. What a parked process had on each device, which must
 * be free before it is restored; and that a restore failed, after which it still calls
 * the process checkpointed. Both are written here: before each call of the driver with
 * what is intended, after it with what came of it, so that whoever is killed in between
 * leaves behind what he was at. Nothing is synced: no process outlives the machine.
 *
 * A file is somebody else's word and is believed only from this user, from root and
 * from the user whose process it is about, who can harm nobody but himself by it.
 * Any thread.
 */
#ifndef VAC_HOLD_RECORD_H
#define VAC_HOLD_RECORD_H

#include "base/buf.h"
#include "hold/hold.h"

#define VAC_RECORD_LIMIT_BYTES 8192
#define VAC_RECORD_ERROR_BYTES 256

enum vac_record_intent {
	VAC_INTENT_NONE, /* the state is as the record says */
	VAC_INTENT_LOCK,
	VAC_INTENT_CHECKPOINT,
	VAC_INTENT_RESTORE,
	VAC_INTENT_UNLOCK,
};
const char *vac_record_intent_name(enum vac_record_intent intent);

struct vac_record_device {
	char uuid[VAC_HOLD_UUID_BYTES];
	bool bytes_valid;
	uint64_t bytes;       /* the process's, when it was parked: needed to restore it */
	uint64_t spare_bytes; /* free beside it then: that much more was never needed */
};

/* What must be free for its restore beyond the bytes themselves. */
uint64_t vac_room_margin_bytes(const struct vac_record_device *device);

struct vac_record {
	pid_t pid;
	uint64_t pid_namespace; /* in which that is its number: the inode of /proc/self/ns/pid */
	uint64_t start_ticks;
	uid_t uid;                 /* the process's */
	enum vac_hold_state state; /* where we brought it to */
	enum vac_record_intent intent;
	pid_t by_pid; /* who wrote this */
	uid_t by_uid;
	char who[VAC_HOLD_WHO_BYTES]; /* what parked it, as it was told; "" */
	int64_t wall_ns;              /* when, for people */
	int64_t order_ns; /* when, by the monotonic clock: the newest of several counts */
	uint32_t device_count;
	struct vac_record_device devices[VAC_HOLD_MOST_DEVICES];
	char error[VAC_RECORD_ERROR_BYTES]; /* why it failed; "" */
};

/* A record of a process, empty but for who it is. */
void vac_record_init(struct vac_record *record, const struct vac_target *target);

/* name: for messages. VAC_E_CORRUPT with the line, for anything but what
 * vac_record_write makes. */
int vac_record_parse(const char *name, const void *text, size_t bytes, struct vac_record *out,
		     struct vac_error *err) VAC_MUST_CHECK;
/* As text; the buffer is the caller's to check. */
void vac_record_write(const struct vac_record *record, struct vac_buf *to);

/* Says who and when, and puts it into the directory, which is made if need be. A
 * directory that is another's, or that others may write to, is VAC_E_IO. */
int vac_record_save(const char *directory, struct vac_record *record,
		    struct vac_error *err) VAC_MUST_CHECK;
/* The newest record of this process: of the directory, and unless that was named by
 * VACATE_HOLD_DIR of the process's user and of root. false: there is none. */
bool vac_record_find(const struct vac_hold *hold, const struct vac_target *target,
		     struct vac_record *out);
/* It runs, and there is nothing more to remember. Records of others are left. */
void vac_record_remove(const char *directory, const struct vac_target *target);
/* Removes from the directory what is about processes that have ended. */
void vac_record_sweep(const char *directory);

/* All records that may be believed, of living processes, the newest of each: of every
 * user's directory that can be read. *count says how many there are, at most capacity
 * are filled in. Nothing to read is no error. */
int vac_record_list(const struct vac_hold *hold, struct vac_record *out, size_t capacity,
		    size_t *count, struct vac_error *err) VAC_MUST_CHECK;

#endif
