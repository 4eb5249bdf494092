/*
 * who.h - vacate-gpud's answer to WHO: NVML alone. cuInit, which takes 200 ms, is not
 * called, and no context is made. One thread.
 */
#ifndef VAC_GPUD_WHO_H
#define VAC_GPUD_WHO_H

#include "base/buf.h"

/* Appends WHO_READ or ERROR. NVML stays initialised for the next question. */
void vac_gpud_who(struct vac_buf *out, uint64_t id);
void vac_gpud_who_end(void);

#endif
