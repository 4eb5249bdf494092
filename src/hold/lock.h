/*
 * lock.h - locks among all of Vacate's processes on a machine, whoever's they are: one
 * for each device, held while room on it is looked at and used, and one for each
 * process that is parked or resumed. A lock is a file that anybody may open and flock,
 * and ends with the process that holds it. Stands on base alone. Any thread.
 */
#ifndef VAC_HOLD_LOCK_H
#define VAC_HOLD_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct vac_lock {
	int fd; /* -1: not held, its file not open */
	char path[320];
};
#define VAC_LOCK_NONE       ((struct vac_lock){.fd = -1})
#define VAC_LOCK_NAME_BYTES 128

/* The file of a device's lock in there. */
void vac_lock_device_name(const char *uuid, char out[VAC_LOCK_NAME_BYTES]);

/* Where they are: $VACATE_HOLD_DIR, else /run/lock where everybody may write to it, as
 * on Debian, else /tmp. The same for all who run on the machine: services often have a
 * /tmp of their own. */
const char *vac_lock_directory(void);
/* Waits until deadline_ns (vac_now_ns; 0: not at all), asking cancelled (may be NULL)
 * on the way. VAC_E_BUSY: another has it; *holder is its process, 0 if that cannot be
 * told. VAC_E_CANCELLED; VAC_E_IO: the file is not one that can be locked. */
int vac_lock_take(struct vac_lock *lock, const char *directory, const char *name,
		  int64_t deadline_ns, bool (*cancelled)(void *ctx), void *ctx, pid_t *holder,
		  struct vac_error *err) VAC_MUST_CHECK;
/* The lock of a device, by its UUID: whoever counts on room there holds it from the
 * reading to the allocation. */
int vac_lock_take_device(struct vac_lock *lock, const char *directory, const char *uuid,
			 int64_t deadline_ns, bool (*cancelled)(void *ctx), void *ctx,
			 pid_t *holder, struct vac_error *err) VAC_MUST_CHECK;
/* For who takes a device's lock again and again: its file stays open in between. open
 * does not take it, retake is as vac_lock_take and keeps the file also when it fails,
 * leave gives the lock back, vac_lock_release closes the file. */
int vac_lock_open_device(struct vac_lock *lock, const char *directory, const char *uuid,
			 struct vac_error *err) VAC_MUST_CHECK;
int vac_lock_retake(struct vac_lock *lock, int64_t deadline_ns, bool (*cancelled)(void *ctx),
		    void *ctx, pid_t *holder, struct vac_error *err) VAC_MUST_CHECK;
void vac_lock_leave(struct vac_lock *lock);
/* Gives it back; what is not held is fine. temporary: its file goes, too. */
void vac_lock_release(struct vac_lock *lock, bool temporary);

#endif
