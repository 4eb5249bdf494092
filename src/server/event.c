/* event.c - the names of events. No state; any thread. */
#include "server/event.h"

const char *vac_event_kind_name(enum vac_event_kind kind)
{
	static const char *const names[] = {
		[VAC_EVENT_PLANNED] = "planned",
		[VAC_EVENT_WAITING] = "waiting",
		[VAC_EVENT_LOADING] = "loading",
		[VAC_EVENT_RESIDENT] = "resident",
		[VAC_EVENT_DRAINING] = "draining",
		[VAC_EVENT_ABSENT] = "absent",
		[VAC_EVENT_FAILED] = "failed",
		[VAC_EVENT_EVICTED] = "evicted",
		[VAC_EVENT_REFUSED] = "refused",
		[VAC_EVENT_SET_ASIDE] = "set_aside",
		[VAC_EVENT_MODEL_PARKED] = "model_parked",
		[VAC_EVENT_PARKED] = "parked",
		[VAC_EVENT_NOT_PARKED] = "not_parked",
		[VAC_EVENT_RESUMED] = "resumed",
	};

	return kind >= VAC_EVENT_PLANNED && kind <= VAC_EVENT_RESUMED ? names[kind] : "unknown";
}
