/* internal.h - what the files of hold share among themselves. */
#ifndef VAC_HOLD_INTERNAL_H
#define VAC_HOLD_INTERNAL_H

#include "hold/hold.h"

/* It was stopped (SIGSTOP, a debugger): no call of the driver to it would end. */
bool vac_target_stopped(const struct vac_target *target);

/* Loads and starts what is needed, once. */
int vac_hold_start(struct vac_hold *hold, struct vac_error *err) VAC_MUST_CHECK;

#endif
