/*
 * target.h - one process of somebody, held so that its number cannot come to mean
 * another: by a pidfd where the kernel has one, and by its start time. Any thread.
 */
#ifndef VAC_HOLD_TARGET_H
#define VAC_HOLD_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define VAC_TARGET_COMMAND_BYTES 64

struct vac_target {
	pid_t pid;
	int pidfd;                              /* owned; -1: this kernel has none */
	uint64_t start_ticks;                   /* since boot; field 22 of /proc/PID/stat */
	uid_t uid;                              /* effective, of /proc/PID */
	char command[VAC_TARGET_COMMAND_BYTES]; /* its arguments' beginning, printable ASCII */
};

/* VAC_E_NOT_FOUND: no such process, or it has ended and waits to be reaped. */
int vac_target_open(pid_t pid, struct vac_target *out, struct vac_error *err) VAC_MUST_CHECK;
/* The same process still lives. */
bool vac_target_alive(const struct vac_target *target);
/* It was stopped (SIGSTOP, a debugger): a call of the driver to it does not end before it
 * goes on, the one that asks for its state included. */
bool vac_target_stopped(const struct vac_target *target);
/* The same of one whose control group is frozen (docker pause, systemctl freeze), as far as
 * that can be seen from here. root: as in proc.h. */
bool vac_target_frozen(const char *root, const struct vac_target *target);
void vac_target_close(struct vac_target *target);

/* A process and all that descend from it, parents first; the caller closes every one.
 * VAC_E_TOO_LARGE: more than capacity. */
int vac_target_tree(pid_t pid, struct vac_target *out, size_t capacity, size_t *count,
		    struct vac_error *err) VAC_MUST_CHECK;

#endif
