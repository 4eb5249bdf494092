/*
 * trial.h - a sandbox that refuses nothing and says what it would refuse: for finding out
 * what a vendor's libraries need. The filter of system calls asks a thread of this
 * process (SECCOMP_RET_USER_NOTIF), which writes a line to standard error, once for
 * each call and each path, and lets the call go on. Landlock has no such mode: it is
 * left out, and its rules are looked up here.
 *
 * For tests: it confines nothing, and says nothing about what it does not see (the link of
 * a path that is swapped in between).
 */
#ifndef VAC_WORKER_TRIAL_H
#define VAC_WORKER_TRIAL_H

#include "worker/filter.h"
#include "worker/landlock.h"

/* Starts the thread, which the filter will not apply to. paths and calls (of the backend,
 * before the common ones) are kept. 0, or a negative errno with a word for people in
 * *why. */
int vac_trial_begin(const struct vac_path_rule *paths, size_t count,
		    const struct vac_call_rule *calls, size_t call_count, const char **why);
/* listener: of vac_filter_install; owned from now on. -1: there is none, the thread ends. */
void vac_trial_watch(int listener);

#endif
