/*
 * ahead.h - weight files on their way from the disk into the page cache, while a load
 * still waits for its device to come up: the kernel is asked for them in order, by a
 * thread. What is in the page cache already costs it a look. The files stay the
 * caller's, open until vac_ahead_free.
 */
#ifndef VAC_ENGINE_AHEAD_H
#define VAC_ENGINE_AHEAD_H

#include "format/safetensors.h"

struct vac_ahead;

/* NULL: it does not start, which costs only time. */
struct vac_ahead *vac_ahead_new(const struct vac_safetensors *files);
/* Ends the thread where it is. NULL is fine. */
void vac_ahead_free(struct vac_ahead *ahead);

#endif
