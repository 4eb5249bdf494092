/*
 * team.h - a thread team for short parallel loops, made so that a thread that
 * the system does not run costs little: indices are claimed one by one, and
 * the caller works too, so that a loop ends without those who came late. (An
 * OpenMP barrier waits for every thread, and on a machine that others use as
 * well each of a batch's fifty loops then costs a scheduler's time slice.)
 *
 * One thread at a time calls vac_team_run. Between loops the others spin for a
 * moment, since the next loop of a batch comes within microseconds, and then
 * sleep: an idle team takes no time. vac_team_free joins them.
 */
#ifndef VAC_ENGINE_TEAM_H
#define VAC_ENGINE_TEAM_H

#include <stdint.h>

#include "base/error.h"

struct vac_team;

/* threads: the caller included. */
int vac_team_new(uint32_t threads, struct vac_team **out, struct vac_error *err) VAC_MUST_CHECK;
void vac_team_free(struct vac_team *team); /* NULL is fine */
/* fn(ctx, i, thread) for each i < count (at most a million), in any order;
 * thread (0: the caller) is below threads, and no two calls with the same one
 * run at once. */
void vac_team_run(struct vac_team *team, uint32_t count,
		  void (*fn)(void *ctx, uint32_t i, uint32_t thread), void *ctx);

#endif
