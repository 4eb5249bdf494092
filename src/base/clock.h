/* clock.h - time in nanoseconds. Any thread. */
#ifndef VAC_BASE_CLOCK_H
#define VAC_BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC: for durations and deadlines; a stepping wall clock does not move it. */
int64_t vac_now_ns(void);
/* CLOCK_REALTIME since 1970: only for what people and journals read. */
int64_t vac_wall_ns(void);

#endif
