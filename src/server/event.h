/*
 * event.h - what the registry did, told through one operation
 * (vac_registry_ops.noted) to whoever keeps a journal or streams it to clients.
 *
 * A load tells PLANNED, WAITING if there is no room at once, LOADING now and
 * then, RESIDENT; or FAILED. An unload tells DRAINING, ABSENT. Before them
 * stands why: EVICTED before the DRAINING of who makes way, REFUSED before the
 * FAILED of a load that can never fit, SET_ASIDE before the ABSENT or FAILED of
 * a model that brought its worker down once too often.
 *
 * Everything that an event points to lives during the call only. Who is told
 * must not call the registry. The loop's thread only.
 */
#ifndef VAC_SERVER_EVENT_H
#define VAC_SERVER_EVENT_H

#include <sys/types.h>

#include "base/error.h"
#include "memory/receipt.h"

enum vac_event_kind {
	VAC_EVENT_PLANNED = 1,  /* what it will take is known: bytes */
	VAC_EVENT_WAITING,      /* there is no room yet; once for each place in line: bytes */
	VAC_EVENT_LOADING,      /* done_bytes of total_bytes; the first with 0 of 0 */
	VAC_EVENT_RESIDENT,     /* bytes, load_ns */
	VAC_EVENT_DRAINING,     /* it will leave: reason */
	VAC_EVENT_ABSENT,       /* it left: reason, receipt; or, without a receipt, its load
				* was given up before it began */
	VAC_EVENT_FAILED,       /* its load failed: why */
	VAC_EVENT_EVICTED,      /* it is made to leave: for_model, bytes */
	VAC_EVENT_REFUSED,      /* a load that can never fit, or a call that was not taken
				* since the queue is full or the model set aside (as often as
				* there are such calls): why, whose code gives the status */
	VAC_EVENT_SET_ASIDE,    /* why */
	VAC_EVENT_MODEL_PARKED, /* its worker is off its GPU: bytes, that it had there */
	/* Of processes of others that make way (parking.h); model: that needs their room,
	 * "" after a restart; pid, process, bytes. The server's own, not the registry's. */
	VAC_EVENT_PARKED,
	VAC_EVENT_NOT_PARKED, /* why */
	VAC_EVENT_RESUMED,    /* why: it is lost; NULL: it runs */
};
const char *vac_event_kind_name(enum vac_event_kind kind); /* "planned", "set_aside", ... */

/* Fields that a kind does not name are 0 or NULL. */
struct vac_event {
	enum vac_event_kind kind;
	int64_t at_ns; /* of the registry's clock */
	const char *model, *device;
	uint64_t bytes; /* PLANNED, WAITING: as planned, what loading holds for a moment
			 * included; RESIDENT: of its ledger; EVICTED: its own, as planned */
	uint64_t done_bytes, total_bytes; /* of the checkpoint */
	int64_t load_ns;                  /* from the first request for it */
	enum vac_unload_reason reason;
	const struct vac_receipt *receipt;
	const char *for_model; /* that needs the room */
	const struct vac_error *why;
	pid_t pid;
	const char *process; /* "train.py" */
};

#endif
