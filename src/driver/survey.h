/*
 * survey.h - a survey (base/survey.h) read from NVML. Any thread; no context is made
 * and cuInit is not called.
 */
#ifndef VAC_DRIVER_SURVEY_H
#define VAC_DRIVER_SURVEY_H

#include "base/survey.h"
#include "driver/nvml.h"

/* nvml is initialised and stays so. last_us: at_us of the reading before, of which
 * what was used since is asked apart; 0: there was none. On error *out is empty; of a device
 * that does not answer only result is set, which is no error. */
int vac_survey_read_since(const struct vac_nvml *nvml, int64_t last_us, struct vac_survey *out,
			  struct vac_error *err) VAC_MUST_CHECK;
int vac_survey_read(const struct vac_nvml *nvml, struct vac_survey *out,
		    struct vac_error *err) VAC_MUST_CHECK;

#endif
