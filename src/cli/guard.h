/*
 * guard.h - what the files of `vacate guard` share. One thread.
 */
#ifndef VAC_CLI_GUARD_H
#define VAC_CLI_GUARD_H

#include "base/journal.h"
#include "base/size.h"
#include "cli/holding.h"
#include "cli/ps.h"
#include "hold/idle.h"

#define VAC_GUARD_MOST_PATTERNS 32u

/* What the command line says. */
struct vac_guard_options {
	int64_t idle_ms, interval_ms;
	bool any_user; /* root, and nobody was named */
	uid_t uid;
	const char *patterns[VAC_GUARD_MOST_PATTERNS]; /* of commands that are left alone */
	uint32_t pattern_count;
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

/* ---- guard_pick.c: whom the guard may park at all ---- */

#define VAC_GUARD_COMMAND_BYTES 512u
/* Its arguments with blanks between, fit for terminals; "" when they cannot be seen. */
void vac_guard_command(pid_t pid, char to[VAC_GUARD_COMMAND_BYTES]);
/* It is one of the guarded, whatever its use. */
bool vac_guard_minds(const struct vac_guard_options *options, const struct vac_holder *holder,
		     const char *command);
/* Bytes that it would give back where room is asked for; 0: nothing, or not known. */
uint64_t vac_guard_gives(const struct vac_guard_options *options, const struct vac_holder *holder,
			 const struct vac_survey *survey);

#endif
