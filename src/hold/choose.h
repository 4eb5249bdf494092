/*
 * choose.h - which of the processes on GPUs may be parked without anybody having named
 * them: none of Vacate's own, none of which it is not sure who it is, and those whose
 * commands match what somebody wrote down. Any thread; no state.
 */
#ifndef VAC_HOLD_CHOOSE_H
#define VAC_HOLD_CHOOSE_H

#include "hold/usage.h"

#define VAC_CHOOSE_COMMAND_BYTES 512u
#define VAC_CHOOSE_MOST_PATTERNS 32u

/* Its arguments with blanks between, fit for terminals; "" when they cannot be seen. */
void vac_choose_command(pid_t pid, char to[VAC_CHOOSE_COMMAND_BYTES]);

/* Patterns of fnmatch(3) with commas between, taken apart in place. -1: too many. */
int vac_choose_split(char *text, const char *out[VAC_CHOOSE_MOST_PATTERNS]);
/* One of them matches the whole command, or what it is for people ("train.py"). */
bool vac_choose_matches(const char *const *patterns, int count, const struct vac_holder *holder,
			const char *command);

/* It runs, computes, is the process that NVML means, and is none of Vacate's. */
bool vac_choose_may_park(const struct vac_holder *holder);

#endif
