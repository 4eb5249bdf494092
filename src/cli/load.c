/* load.c - `vacate load MODEL`: makes a model resident. One thread. */
#include "cli/client.h"

#include <stdio.h>
#include <string.h>

#include "cli/load_watch.h"

#define INDENT "           "

/* "start 20 ms, open 1 ms, ..." of the stages that took time: lines of at most 80
 * columns, since a line that is cut tells the wrong thing. */
static void print_stages(const struct vac_terminal *terminal, const json_t *stages)
{
	static const char *const names[] = {"start", "open", "tokenizer", "map",
					    "read",  "pack", "warm"};
	char line[96] = INDENT, text[VAC_TEXT_BYTES], stage[VAC_TEXT_BYTES + 16];
	size_t at = strlen(INDENT);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int64_t ms;

		if (!vac_reply_number(stages, names[i], &ms) || ms <= 0)
			continue;
		snprintf(stage, sizeof(stage), "%s %s", names[i], vac_format_ms(text, ms));
		if (at + strlen(stage) + 3 > 80) {
			vac_print_line(terminal, "%s,", line);
			at = strlen(INDENT);
		}
		at += (size_t)snprintf(line + at, sizeof(line) - at, "%s%s",
				       at > strlen(INDENT) ? ", " : "", stage);
	}
	if (at > strlen(INDENT))
		vac_print_line(terminal, "%s", line);
}

static int print_model(const struct vac_command *command, const json_t *model, const char *asked)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	const char *name = vac_reply_text(model, "name"), *device = vac_reply_text(model, "device");
	const char *state = vac_reply_text(model, "state");
	char bytes[VAC_TEXT_BYTES], ms[VAC_TEXT_BYTES];

	if (!state) {
		vac_complain(command,
			     "the server's reply does not say what became of the model; is it a "
			     "vacate server?");
		return VAC_EXIT_FAILED;
	}
	vac_print_line(&terminal, "%s: %s on %s", name ? name : asked, state,
		       device ? device : "-");
	vac_print_line(&terminal, "  planned  %s",
		       vac_reply_bytes(json_object_get(model, "plan"), "host_bytes", bytes));
	vac_print_line(&terminal, "  loaded   in %s", vac_reply_ms(model, "load_ms", ms));
	print_stages(&terminal, json_object_get(model, "stages_ms"));
	return VAC_EXIT_OK;
}

static int ask(const struct vac_command *command, struct vac_client *client, const char *name,
	       const json_t *body, json_t **reply)
{
	struct vac_load_watch watch;
	int rc;

	if (!client->json) {
		rc = vac_load_watch_begin(&watch, command, client, name);
		if (rc != VAC_CONTINUE)
			return rc;
		client->beside = &watch.beside;
	}
	rc = vac_client_ask(command, client, "POST", "/models/load", body, VAC_MOVE_TIMEOUT_S,
			    reply);
	if (!client->json)
		vac_load_watch_end(&watch);
	return rc;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct vac_client client = {0};
	const char *name, *keep_alive = NULL;
	const struct vac_option options[] = {
		{"keep-alive", "DURATION", "unload when idle that long: 10m, 1h30m, 45; -1: never",
		 NULL, &keep_alive},
		VAC_CLIENT_OPTIONS(client)};
	struct vac_arguments arguments = {.values = &name, .least = 1, .most = 1};
	json_t *body, *reply;
	int rc;

	rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]), &arguments,
			       argc, argv);
	if (rc != VAC_CONTINUE)
		return rc;
	body = json_pack("{s:s, s:s*}", "model", name, "keep_alive", keep_alive);
	if (!body)
		return vac_usage_error(command, "the model's name or DURATION is not UTF-8");
	rc = ask(command, &client, name, body, &reply);
	json_decref(body);
	if (rc != VAC_CONTINUE)
		return rc;
	rc = print_model(command, json_object_get(reply, "model"), name);
	json_decref(reply);
	return rc;
}

const struct vac_command vac_command_load = {
	.name = "load",
	.arguments = "MODEL [options]",
	.summary = "Loads a model and waits until it is resident",
	.details = "Requests load their model by themselves; this makes it ready beforehand, or\n"
		   "gives a resident one another time to live.",
	.run = run,
};
