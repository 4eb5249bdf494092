/*
 * top_child.h - a command of this program that runs beside `vacate top`: what a key
 * starts. It has a process group of its own and outlives who started it, so that
 * leaving the screen does not cut a park in two. One thread.
 */
#ifndef VAC_CLI_TOP_CHILD_H
#define VAC_CLI_TOP_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

struct vac_top_child {
	pid_t pid; /* 0: none */
	int fd;    /* its output; -1: at its end */
	int64_t begun_ns;
	struct vac_buf out; /* all of it, within limits */
};

/* words: "park", "123", NULL. Both outputs are kept, or standard error alone. columns:
 * for its tables. */
int vac_top_child_start(struct vac_top_child *child, const char *const *words, bool all,
			unsigned columns, struct vac_error *err) VAC_MUST_CHECK;
/* Takes what it has written. true: there was something, or it is at its end. */
bool vac_top_child_read(struct vac_top_child *child);
/* true: it has ended with this status, as waitpid gives it; what it wrote is in out. */
bool vac_top_child_ended(struct vac_top_child *child, int *status);
/* Frees what is kept. One that runs goes on, and is nobody's business any more. */
void vac_top_child_leave(struct vac_top_child *child);

#endif
