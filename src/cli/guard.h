/*
 * guard.h - what the files of `vacate guard` share. One thread.
 */
#ifndef VAC_CLI_GUARD_H
#define VAC_CLI_GUARD_H

#include "base/journal.h"
#include "base/size.h"
#include "cli/holding.h"
#include "cli/ps.h"
#include "hold/choose.h"
#include "hold/idle.h"

/* What the command line says. */
struct vac_guard_options {
	int64_t idle_ms, interval_ms;
	bool any_user; /* root, and nobody was named */
	uid_t uid;
	const char *patterns[VAC_CHOOSE_MOST_PATTERNS]; /* of commands that are left alone */
	int pattern_count;
	bool when_asked;
	struct vac_size room; /* asked for while a device has less free */
	bool dry_run, risk, json;
};

/* ---- guard_tell.c: what happens, to the log, the journal and standard output ---- */

enum vac_guard_event {
	VAC_GUARD_PARKED,
	VAC_GUARD_WOULD_PARK,
	VAC_GUARD_REFUSED,  /* why */
	VAC_GUARD_PUT_BACK, /* the guard was told to end meanwhile */
	VAC_GUARD_RESUMED,  /* by somebody else */
	VAC_GUARD_LEFT,     /* its use is not known: why is a sentence */
};

struct vac_guard_told {
	enum vac_guard_event event;
	const struct vac_holder *holder;
	int64_t idle_ms;             /* negative: not known */
	const struct vac_error *why; /* NULL: none */
	const char *command;
	const struct vac_survey *survey;
	int64_t took_ns; /* parked */
};

struct vac_guard_teller {
	struct vac_journal journal;
	bool json;
};
void vac_guard_tell(struct vac_guard_teller *teller, const struct vac_guard_told *told);

#endif
