/*
 * holding.h - what `vacate park`, `vacate resume` and `vacate guard` share: processes
 * named on a command line, a vacate-gpud of one's own that is asked to move them, and
 * what is said of it. vacate itself never maps a driver's library. One thread.
 */
#ifndef VAC_CLI_HOLDING_H
#define VAC_CLI_HOLDING_H

#include <jansson.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/worker_client.h"
#include "wire/hold_frames.h"

/* Adds processes of that name (a number) to a question, each once; tree: and those
 * that descend from it. VAC_E_NOT_FOUND: there is none; VAC_E_INVALID: no number. */
int vac_holding_add(struct vac_wire_hold *hold, const char *name, bool tree,
		    struct vac_error *err) VAC_MUST_CHECK;

/* From now on the first SIGINT, SIGTERM or SIGHUP asks that what is under way be put
 * back, and the second one ends this process at once. */
void vac_holding_catch_signals(void);
/* The signal that came, 0: none. */
int vac_holding_interrupted(void);

/* Asks gpud, which it starts if it is not running, and waits; on a terminal a line
 * says what is at hand. 0: *out is what it said, whose own error may be set. A gpud that
 * died is VAC_E_GONE; one that hung for 30 s before it moved anything is VAC_E_TIMEOUT. */
int vac_holding_ask(struct vac_worker_client *gpud, const struct vac_wire_hold *hold,
		    struct vac_wire_held *out, struct vac_error *err) VAC_MUST_CHECK;

/* Of a tree that is to move, leaves those in that use CUDA, and those that nobody may
 * look at. VAC_E_UNSUPPORTED: there is none. */
int vac_holding_keep_cuda(struct vac_worker_client *gpud, struct vac_wire_hold *hold,
			  struct vac_error *err) VAC_MUST_CHECK;

/* The whole of a command: asks, prints and returns the exit code. others: receipts that
 * --json shows before its own; NULL: none. */
int vac_holding_run(const struct vac_command *command, struct vac_wire_hold *hold, bool tree,
		    bool json, const json_t *others);
/* The end of a command whose processes could not even be named: what it says, in the JSON of
 * a receipt too if asked for. Returns the exit code. */
int vac_holding_refused(const struct vac_command *command, enum vac_wire_hold_operation operation,
			bool json, const struct vac_error *err);
/* A name that is none of a process. */
bool vac_holding_is_model(const char *name);

/* holding_models.c */

struct vac_client;
/* Models of a server, one after the other, up to the first that is refused; their receipts
 * are printed, or (receipts not NULL) appended there. Returns the exit code. */
int vac_holding_models(const struct vac_command *command, const struct vac_client *client,
		       enum vac_wire_hold_operation operation, const char *const *names,
		       size_t count, bool risk, json_t *receipts);

/* holding_text.c */

/* "python3 train.py", "-" when it has none. */
const char *vac_held_command(const struct vac_wire_held_target *target);
/* The receipt of one process as a person reads it. 0 or -ENOMEM. */
int vac_print_held(const struct vac_terminal *terminal, enum vac_wire_hold_operation operation,
		   const struct vac_wire_held_target *target, const char *driver);
/* The whole as JSON, others (may be NULL) before its own receipts; NULL: out of memory. */
json_t *vac_held_json(enum vac_wire_hold_operation operation, const struct vac_wire_held *held,
		      const json_t *others);

#endif
