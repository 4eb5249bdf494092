/* events.c - `vacate events`: what happens on a server, as it happens. One thread. */
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/http_stream.h"

/* A server that is there answers at once. */
#define OPEN_TIMEOUT_MS 5000

struct listener {
	bool json;
	struct vac_terminal terminal;
};

static enum vac_color color_of(const char *event)
{
	if (strcmp(event, "resident") == 0 || strcmp(event, "receipt") == 0)
		return VAC_COLOR_GREEN;
	if (strcmp(event, "failed") == 0 || strcmp(event, "refused") == 0 ||
	    strcmp(event, "set_aside") == 0 || strcmp(event, "lost") == 0)
		return VAC_COLOR_RED;
	return VAC_COLOR_YELLOW;
}

/* "for org/other, 90.9 MiB", "45.0 MiB of 91.0 MiB", ... */
static void put_details(struct vac_buf *to, const json_t *json)
{
	const json_t *receipt = json_object_get(json, "receipt");
	const char *other = vac_reply_text(json, "for"), *reason = vac_reply_text(json, "reason");
	char a[VAC_TEXT_BYTES], b[VAC_TEXT_BYTES];
	int64_t number;

	if (vac_reply_number(json, "pid", &number))
		vac_buf_printf(to, "process %lld (%s), ", (long long)number,
			       vac_reply_text(json, "process") ? vac_reply_text(json, "process")
							       : "-");
	if (other)
		vac_buf_printf(to, "for %s, ", other);
	if (json_object_get(json, "total_bytes"))
		vac_buf_printf(to, "%s of %s, ", vac_reply_bytes(json, "done_bytes", a),
			       vac_reply_bytes(json, "total_bytes", b));
	if (json_object_get(json, "bytes"))
		vac_buf_printf(to, "%s, ", vac_reply_bytes(json, "bytes", a));
	if (json_object_get(json, "missing_bytes"))
		vac_buf_printf(to, "%s missing, ", vac_reply_bytes(json, "missing_bytes", a));
	if (json_object_get(json, "load_ms"))
		vac_buf_printf(to, "in %s, ", vac_reply_ms(json, "load_ms", a));
	if (receipt)
		vac_buf_printf(to, "%s returned, %s unaccounted, ",
			       vac_reply_bytes(receipt, "returned_bytes", a),
			       vac_reply_bytes(receipt, "unaccounted_bytes", b));
	if (vac_reply_number(json, "events", &number))
		vac_buf_printf(to, "%lld events, the state follows, ", (long long)number);
	if (reason)
		vac_buf_printf(to, "%s, ", reason);
	if (vac_reply_number(json, "times", &number) && number > 1)
		vac_buf_printf(to, "%lld times, ", (long long)number);
	if (vac_buf_ok(to) && to->bytes >= 2)
		to->bytes -= 2; /* the last comma */
	vac_buf_putc(to, '\0');
}

static void got(void *ctx, const char *event, const char *data, size_t bytes)
{
	const struct listener *listener = ctx;
	const struct vac_terminal *terminal = &listener->terminal;
	struct vac_buf details = VAC_BUF_INIT;
	const char *time, *model;
	json_t *json;

	if (listener->json) {
		fwrite(data, 1, bytes, stdout);
		fputc('\n', stdout);
		(void)vac_flush_output();
		return;
	}
	json = json_loadb(data, bytes, 0, NULL);
	time = vac_reply_text(json, "time");
	model = vac_reply_text(json, "model");
	put_details(&details, json);
	if (vac_buf_ok(&details)) {
		fputs(vac_color_on(terminal, color_of(event)), stdout);
		/* hh:mm:ss of an RFC 3339 time */
		(void)vac_print_line(terminal, "%.8s  %-9s  %s  %s",
				     time && strlen(time) > 19 ? time + 11 : "--------", event,
				     model ? model : "-", (const char *)details.data);
		fputs(vac_color_off(terminal, color_of(event)), stdout);
		(void)vac_flush_output();
	}
	vac_buf_free(&details);
	json_decref(json);
}

static int listen_to(const struct vac_command *command, const struct vac_client *client,
		     struct vac_http_stream *stream)
{
	struct vac_error err;
	int rc = 0;

	if (stream->response.status != 200)
		return vac_client_refused(command, client, stream->url, "GET /models/events",
					  &stream->response);
	while (rc == 0 && !ferror(stdout)) {
		rc = vac_http_stream_read(stream, &err);
		if (rc == 0)
			(void)vac_http_stream_wait(stream, -1);
	}
	if (rc >= 0)
		return VAC_EXIT_OK; /* the server has ended */
	vac_complain(command, "%s", err.message);
	return vac_exit_of(err.code);
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct listener listener = {.terminal = vac_terminal_of(stdout)};
	struct vac_buf target = VAC_BUF_INIT;
	struct vac_client client = {0};
	const char *model = NULL;
	const struct vac_option options[] = {
		{"model", "MODEL", "only what happens to that one", NULL, &model},
		{"server", "URL", "server to ask (VACATE_SERVER, else http://127.0.0.1:8321)", NULL,
		 &client.server},
		{"api-key-file", "FILE", "its first key is sent (else VACATE_API_KEY)", NULL,
		 &client.keys},
		{"json", NULL, "print each event's JSON, one a line", &client.json, NULL}};
	struct vac_arguments arguments = {0};
	struct vac_client_server server;
	struct vac_http_stream stream = {.fd = -1};
	struct vac_error err;
	int rc;

	rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]), &arguments,
			       argc, argv);
	if (rc == VAC_CONTINUE)
		rc = vac_client_find(command, &client, &server);
	if (rc != VAC_CONTINUE)
		return rc;
	listener.json = client.json;
	vac_buf_puts(&target, "/models/events");
	if (model) {
		vac_buf_puts(&target, "?model=");
		vac_http_escape(&target, model);
	}
	vac_buf_putc(&target, '\0');
	if (!vac_buf_ok(&target)) {
		vac_complain(command, "out of memory for the request");
		rc = VAC_EXIT_FAILED;
	} else if (vac_http_stream_open(&stream, &server.url, (const char *)target.data,
					OPEN_TIMEOUT_MS, got, &listener, &err) < 0) {
		vac_complain(command, "%s", err.message);
		rc = vac_exit_of(err.code);
	} else {
		rc = listen_to(command, &client, &stream);
	}
	vac_http_stream_close(&stream);
	vac_buf_free(&target);
	vac_client_forget(&server);
	return rc;
}

const struct vac_command vac_command_events = {
	.name = "events",
	.arguments = "[options]",
	.summary = "Shows what happens to models, as it happens",
	.details =
		"First the state of each model that is loading, resident or leaving, then every\n"
		"change. Ends when the server does, or with Ctrl-C.",
	.run = run,
};
