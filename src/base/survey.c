/* survey.c - see survey.h. */
#include "base/survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *vac_survey_says(int result, char text[80])
{
	static const struct {
		int result;
		const char *text;
	} known[] = {
		{3, "this device does not tell"},
		{4, "not permitted"},
		{9, "the kernel's driver is not loaded"},
		{15, "the GPU is lost"},
		{16, "the GPU must be reset"},
		{18, "library and kernel driver are of different versions"},
	};
	const char *what = "refused";

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].result == result)
			what = known[i].text;
	snprintf(text, 80, "%s (NVML error %d)", what, result);
	return text;
}

void vac_survey_free(struct vac_survey *survey)
{
	for (uint32_t i = 0; i < survey->count; i++)
		free(survey->devices[i].processes);
	free(survey->devices);
	memset(survey, 0, sizeof(*survey));
}
