/* who.c - see who.h. */
#include "gpud/who.h"

#include "driver/survey.h"
#include "wire/who.h"

static const struct vac_nvml *started; /* NULL: not initialised */
static int64_t last_us;                /* of the last reading; 0: none */

static int start(struct vac_error *err)
{
	const struct vac_nvml *nvml;
	char said[80];
	int result, rc;

	if (started)
		return 0;
	rc = vac_nvml_load(&nvml, err);
	if (rc < 0)
		return rc;
	result = nvml->init();
	if (result != VAC_NVML_OK)
		return vac_fail(err, VAC_E_IO, "NVML does not start: %s",
				vac_survey_says(result, said));
	started = nvml;
	return 0;
}

void vac_gpud_who(struct vac_buf *out, uint64_t id)
{
	struct vac_survey survey;
	struct vac_error err;
	int rc = start(&err);

	if (rc == 0)
		rc = vac_survey_read_since(started, last_us, &survey, &err);
	if (rc < 0) {
		vac_wire_put_error(out, id, &err);
		return;
	}
	last_us = survey.at_us;
	vac_wire_put_who(out, id, &survey);
	vac_survey_free(&survey);
}

void vac_gpud_who_end(void)
{
	if (started)
		started->shutdown();
	started = NULL;
}
