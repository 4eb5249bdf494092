/*
 * stage.h - where the time of a command goes that is made of several processes: with
 * VACATE_STAGES=FILE each stage that ends is a line "PID STAGE FROM TO" appended to that
 * file, in nanoseconds of the monotonic clock, which all of them share. Without, a
 * stage costs a look at a variable. Any thread.
 */
#ifndef VAC_BASE_STAGE_H
#define VAC_BASE_STAGE_H

#include <stdint.h>

/* The stage that began then (vac_now_ns) ends now. Returns now: the next may begin. */
int64_t vac_stage(const char *stage, int64_t since_ns);

#endif
