/* progress.c - one line that is drawn again and again on a terminal. One thread. */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/format.h"
#include "cli/table.h"

#define FIRST_AFTER_NS INT64_C(500000000)
#define EVERY_NS       INT64_C(100000000)
#define BAR_COLUMNS    30

void vac_progress_start(struct vac_progress *progress, const char *what)
{
	memset(progress, 0, sizeof(*progress));
	progress->shown = isatty(STDERR_FILENO) == 1;
	progress->what = what;
	progress->started_ns = vac_now_ns();
}

bool vac_progress_due(struct vac_progress *progress)
{
	int64_t now = vac_now_ns();

	if (!progress->shown || now - progress->started_ns < FIRST_AFTER_NS ||
	    now - progress->drawn_ns < EVERY_NS)
		return false;
	progress->drawn_ns = now;
	progress->drawn = true;
	return true;
}

void vac_progress_bytes(struct vac_progress *progress, uint64_t done, uint64_t total)
{
	char bar[BAR_COLUMNS + 1], a[VAC_TEXT_BYTES], b[VAC_TEXT_BYTES];
	size_t filled;

	if (total == 0 || !vac_progress_due(progress))
		return;
	if (done > total)
		done = total;
	filled = (size_t)((double)done / (double)total * BAR_COLUMNS);
	memset(bar, '#', filled);
	memset(bar + filled, '.', BAR_COLUMNS - filled);
	bar[BAR_COLUMNS] = '\0';
	fprintf(stderr, "\r\033[K%s [%s] %s of %s", progress->what, bar, vac_format_bytes(a, done),
		vac_format_bytes(b, total));
	fflush(stderr);
}

void vac_progress_count(struct vac_progress *progress, uint64_t done, const char *units)
{
	double seconds;

	if (!vac_progress_due(progress))
		return;
	seconds = (double)(progress->drawn_ns - progress->started_ns) / 1e9;
	fprintf(stderr, "\r\033[K%s: %" PRIu64 " %s, %.0f a second", progress->what, done, units,
		(double)done / seconds);
	fflush(stderr);
}

void vac_progress_text(struct vac_progress *progress, const char *text)
{
	/* One column stays free: some terminals wrap a line that is full. */
	char *fitted = vac_text_fit(text, vac_terminal_of(stderr).width - 1);

	if (!fitted)
		return;
	fprintf(stderr, "\r\033[K%s", fitted);
	fflush(stderr);
	free(fitted);
	progress->drawn = true;
}

void vac_progress_end(struct vac_progress *progress)
{
	if (progress->drawn) {
		fputs("\r\033[K", stderr);
		fflush(stderr);
	}
	progress->drawn = false;
}
