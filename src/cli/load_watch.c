/* load_watch.c - the bar of `vacate load`. One thread. */
#include "cli/load_watch.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define NS_PER_MS INT64_C(1000000)
/* A server that is there answers at once. */
#define OPEN_TIMEOUT_MS 2000
#define TICK_MS         100
/* Between lines where there is no terminal. */
#define SAY_MS 5000
/* Of the bar; the name gets what is left of the line. */
#define BAR_LEAST 10
#define BAR_MOST  40

/* ---- what is known ---- */

static void got(void *ctx, const char *event, const char *data, size_t bytes)
{
	struct vac_load_watch *watch = ctx;
	json_t *json = json_loadb(data, bytes, 0, NULL);
	const char *reason = vac_reply_text(json, "reason");

	/* Only the stages of this model are shown. */
	if (strcmp(event, "planned") == 0 || strcmp(event, "waiting") == 0 ||
	    strcmp(event, "loading") == 0 || strcmp(event, "draining") == 0 ||
	    strcmp(event, "absent") == 0) {
		if (strcmp(watch->stage, event) != 0)
			watch->stage_ns = vac_now_ns();
		snprintf(watch->stage, sizeof(watch->stage), "%s", event);
		snprintf(watch->reason, sizeof(watch->reason), "%s", reason ? reason : "");
		watch->done_bytes = watch->total_bytes = watch->missing_bytes = 0;
		(void)vac_reply_number(json, "done_bytes", &watch->done_bytes);
		(void)vac_reply_number(json, "total_bytes", &watch->total_bytes);
		(void)vac_reply_number(json, "missing_bytes", &watch->missing_bytes);
		(void)vac_reply_number(json, "bytes", &watch->planned_bytes);
	}
	json_decref(json);
}

/* "waiting 12 s for 20.0 MiB: other models hold the budget" */
static void describe(const struct vac_load_watch *watch, char *to, size_t room)
{
	char a[VAC_TEXT_BYTES], b[VAC_TEXT_BYTES];
	int64_t ms = (vac_now_ns() - watch->stage_ns) / NS_PER_MS;

	if (strcmp(watch->stage, "planned") == 0)
		snprintf(to, room, "planned, %s",
			 vac_format_signed_bytes(a, watch->planned_bytes, 0));
	else if (strcmp(watch->stage, "waiting") == 0 && watch->missing_bytes > 0)
		snprintf(to, room, "waiting %s for %s: %s", vac_format_ms(b, ms),
			 vac_format_signed_bytes(a, watch->missing_bytes, 0), watch->reason);
	else if (strcmp(watch->stage, "waiting") == 0)
		snprintf(to, room, "waiting %s: %s", vac_format_ms(b, ms), watch->reason);
	else if (strcmp(watch->stage, "draining") == 0 || strcmp(watch->stage, "absent") == 0)
		snprintf(to, room, "waiting %s: it is being unloaded first", vac_format_ms(b, ms));
	else if (strcmp(watch->stage, "loading") == 0 && watch->total_bytes > 0)
		snprintf(to, room, "%s of %s", vac_format_signed_bytes(a, watch->done_bytes, 0),
			 vac_format_signed_bytes(b, watch->total_bytes, 0));
	else if (strcmp(watch->stage, "loading") == 0)
		snprintf(to, room, "loading");
	else /* nothing was said yet: its plan is being made */
		snprintf(to, room, "waiting %s", vac_format_ms(b, ms));
}

/* ---- shown ---- */

/* "[#######.....] " for as many columns; "" for too few. */
static void put_bar(struct vac_buf *line, const struct vac_load_watch *watch, size_t columns)
{
	double share = (double)watch->done_bytes / (double)watch->total_bytes;
	size_t filled;

	if (columns < BAR_LEAST + 3)
		return;
	columns -= 3;
	if (columns > BAR_MOST)
		columns = BAR_MOST;
	filled = share >= 1 ? columns : share <= 0 ? 0 : (size_t)(share * (double)columns);
	vac_buf_putc(line, '[');
	for (size_t i = 0; i < columns; i++)
		vac_buf_putc(line, i < filled ? '#' : '.');
	vac_buf_puts(line, "] ");
}

static void draw(struct vac_load_watch *watch)
{
	size_t width = vac_terminal_of(stderr).width - 1, rest, name_columns;
	bool bar = strcmp(watch->stage, "loading") == 0 && watch->total_bytes > 0;
	struct vac_buf line = VAC_BUF_INIT;
	char text[256];
	char *name;

	describe(watch, text, sizeof(text));
	rest = vac_text_columns(text) + 2 + (bar ? BAR_LEAST + 3 : 0);
	name_columns = rest + 12 < width ? width - rest : 12;
	name = vac_text_fit(watch->name, name_columns);
	if (!name)
		return;
	vac_buf_printf(&line, "%s: ", name);
	rest = vac_text_columns(name) + 2 + vac_text_columns(text);
	if (bar && rest < width)
		put_bar(&line, watch, width - rest);
	vac_buf_puts(&line, text);
	vac_buf_putc(&line, '\0');
	if (vac_buf_ok(&line))
		vac_progress_text(&watch->progress, (const char *)line.data);
	vac_buf_free(&line);
	free(name);
}

static void say(struct vac_load_watch *watch)
{
	struct vac_terminal terminal = {.file = stderr, .width = 1000};
	char text[256];

	describe(watch, text, sizeof(text));
	(void)vac_print_line(&terminal, "%s: %s%s", watch->name,
			     watch->total_bytes > 0 ? "loading, " : "", text);
}

static struct vac_load_watch *watch_of(struct vac_http_beside *beside)
{
	return (struct vac_load_watch *)((char *)beside - offsetof(struct vac_load_watch, beside));
}

static void tick(struct vac_http_beside *beside)
{
	struct vac_load_watch *watch = watch_of(beside);
	int64_t now_ns = vac_now_ns();

	if (watch->progress.shown) {
		if (vac_progress_due(&watch->progress))
			draw(watch);
	} else if (now_ns - watch->said_ns >= SAY_MS * NS_PER_MS) {
		watch->said_ns = now_ns;
		say(watch);
	}
}

static void ready(struct vac_http_beside *beside)
{
	struct vac_load_watch *watch = watch_of(beside);
	struct vac_error err;

	/* Over, or broken: the reply will tell. */
	if (vac_http_stream_read(&watch->stream, &err) != 0)
		beside->fd = -1;
	tick(beside);
}

static void over(struct vac_http_beside *beside)
{
	vac_progress_end(&watch_of(beside)->progress);
}

/* ---- interruptions ---- */

/* Leaves a clean line behind, and ends as if nobody had asked. */
static void interrupted(int number)
{
	static const char clear[] = "\r\033[K";
	ssize_t n = isatty(STDERR_FILENO) ? write(STDERR_FILENO, clear, sizeof(clear) - 1) : 0;

	(void)n;
	signal(number, SIG_DFL);
	raise(number);
}

/* ---- life ---- */

int vac_load_watch_begin(struct vac_load_watch *watch, const struct vac_command *command,
			 const struct vac_client *client, const char *name)
{
	struct vac_buf target = VAC_BUF_INIT;
	struct vac_error err;
	int rc;

	*watch = (struct vac_load_watch){
		.name = name,
		.started_ns = vac_now_ns(),
		.beside =
			{.fd = -1, .every_ms = TICK_MS, .ready = ready, .tick = tick, .over = over},
	};
	watch->stage_ns = watch->said_ns = watch->started_ns;
	vac_progress_start(&watch->progress, name);
	rc = vac_client_find(command, client, &watch->server);
	if (rc != VAC_CONTINUE)
		return rc;
	vac_buf_puts(&target, "/models/events?model=");
	vac_http_escape(&target, name);
	vac_buf_putc(&target, '\0');
	if (vac_buf_ok(&target) &&
	    vac_http_stream_open(&watch->stream, &watch->server.url, (const char *)target.data,
				 OPEN_TIMEOUT_MS, got, watch, &err) == 0 &&
	    watch->stream.response.status == 200)
		watch->beside.fd = watch->stream.fd;
	vac_buf_free(&target);
	/* Where interruptions are ignored they stay so. */
	if (signal(SIGINT, interrupted) == SIG_IGN)
		signal(SIGINT, SIG_IGN);
	return VAC_CONTINUE;
}

void vac_load_watch_end(struct vac_load_watch *watch)
{
	if (signal(SIGINT, SIG_DFL) == SIG_IGN)
		signal(SIGINT, SIG_IGN);
	vac_http_stream_close(&watch->stream);
	vac_client_forget(&watch->server);
}
