/*
 * who.h - the frame in which vacate-gpud tells all that NVML says of all devices
 * (docs/wire.md, WHO_READ). A part of wire.h that only those need who ask. No state;
 * any thread.
 */
#ifndef VAC_WIRE_WHO_H
#define VAC_WIRE_WHO_H

#include "base/survey.h"
#include "wire/wire.h"

void vac_wire_put_who(struct vac_buf *buf, uint64_t id, const struct vac_survey *survey);

/* *out is the caller's to free (vac_survey_free), and empty on error. */
int vac_wire_get_who(const void *payload, size_t bytes, struct vac_survey *out,
		     struct vac_error *err) VAC_MUST_CHECK;

#endif
