/*
 * progress.h - one line that is drawn again and again on a terminal, and
 * nothing at all elsewhere. One thread.
 */
#ifndef VAC_CLI_PROGRESS_H
#define VAC_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct vac_progress {
	bool shown;       /* standard error is a terminal */
	const char *what; /* "loading", "embedding"; the caller's */
	int64_t started_ns;
	int64_t drawn_ns;
	bool drawn; /* a line stands there and must be cleared */
};

/* A bar appears only when something takes longer than half a second. */
void vac_progress_start(struct vac_progress *progress, const char *what);
/* total 0: unknown, done is shown as a count of units. */
void vac_progress_bytes(struct vac_progress *progress, uint64_t done, uint64_t total);
void vac_progress_count(struct vac_progress *progress, uint64_t done, const char *units);
/* It is time to draw. */
bool vac_progress_due(struct vac_progress *progress);
/* Draws any text, due or not; what is too long for the terminal loses its middle. */
void vac_progress_text(struct vac_progress *progress, const char *text);
/* Clears the line. */
void vac_progress_end(struct vac_progress *progress);

#endif
