/* plan.c - `vacate plan MODEL`: what a load will take. One thread. */
#include "cli/client.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cli/http_client.h"

enum { COLUMN_REGION, COLUMN_PLACE, COLUMN_SIZE, COLUMN_BYTES, COLUMN_COUNT };

static const struct vac_column columns[COLUMN_COUNT] = {
	[COLUMN_REGION] = {.header = "REGION"},
	[COLUMN_PLACE] = {.header = "PLACE"},
	[COLUMN_SIZE] = {.header = "SIZE", .right = true},
	[COLUMN_BYTES] = {.header = "BYTES", .right = true},
};

static void add_row(struct vac_table *table, const char *what, const char *place,
		    const json_t *object, const char *name)
{
	char size[VAC_TEXT_BYTES], exact[VAC_TEXT_BYTES];
	const char *texts[COLUMN_COUNT] = {what, place, NULL, NULL};
	int64_t bytes;

	if (vac_reply_number(object, name, &bytes) && bytes >= 0) {
		texts[COLUMN_SIZE] = vac_format_bytes(size, (uint64_t)bytes);
		texts[COLUMN_BYTES] = vac_format_exact(exact, (uint64_t)bytes);
	}
	vac_table_row(table, texts);
}

static void print_facts(const struct vac_terminal *terminal, const json_t *model)
{
	const char *name = vac_reply_text(model, "name"), *path = vac_reply_text(model, "path");
	const char *architecture = vac_reply_text(model, "architecture");
	const char *dtype = vac_reply_text(model, "dtype"),
		   *text = vac_reply_text(model, "pooling");
	int64_t parameters, layers, hidden, heads, vocabulary, dimensions, tokens;
	char count[VAC_TEXT_BYTES];

	vac_print_line(terminal, "Model         %s", name ? name : "-");
	vac_print_line(terminal, "Path          %s", path ? path : "-");
	vac_print_line(terminal, "State         %s",
		       vac_reply_text(model, "state") ? vac_reply_text(model, "state") : "-");
	if (architecture)
		vac_print_line(terminal, "Architecture  %s, %s", architecture, dtype ? dtype : "-");
	if (vac_reply_number(model, "parameters", &parameters) && parameters >= 0 &&
	    vac_reply_number(model, "layers", &layers) &&
	    vac_reply_number(model, "hidden_size", &hidden) &&
	    vac_reply_number(model, "heads", &heads) &&
	    vac_reply_number(model, "vocab_size", &vocabulary))
		vac_print_line(terminal,
			       "Parameters    %s (%lld layers, hidden size %lld, %lld heads, "
			       "vocabulary %lld)",
			       vac_format_count(count, (uint64_t)parameters), (long long)layers,
			       (long long)hidden, (long long)heads, (long long)vocabulary);
	if (vac_reply_number(model, "embedding_dimensions", &dimensions) &&
	    vac_reply_number(model, "max_tokens", &tokens))
		vac_print_line(terminal, "Embeddings    %lld dimensions, at most %lld tokens%s%s%s",
			       (long long)dimensions, (long long)tokens, text ? ", pooling " : "",
			       text ? text : "",
			       vac_reply_flag(model, "normalize") ? ", normalized" : "");
}

static int print_plan(const struct vac_command *command, const json_t *model)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	const json_t *plan = json_object_get(model, "plan"), *item;
	const char *reason = vac_reply_text(model, "reason");
	struct vac_table table;
	int64_t device_bytes = 0;
	size_t i;
	int rc;

	print_facts(&terminal, model);
	if (!json_is_object(plan)) {
		vac_complain(command, "no plan is known for this model%s%s", reason ? ": " : "",
			     reason ? reason : "");
		return VAC_EXIT_FAILED;
	}
	vac_print_line(&terminal, "%s", "");
	vac_table_init(&table, columns, COLUMN_COUNT);
	json_array_foreach(json_object_get(plan, "items"), i, item)
		add_row(&table, vac_reply_text(item, "kind"),
			vac_reply_flag(item, "on_device") ? "device" : "host", item, "bytes");
	add_row(&table, "total", "host", plan, "host_bytes");
	vac_table_color(&table, COLUMN_SIZE, VAC_COLOR_BOLD);
	if (vac_reply_number(plan, "device_bytes", &device_bytes) && device_bytes > 0)
		add_row(&table, "total", "device", plan, "device_bytes");
	add_row(&table, "without shared", "host", plan, "own_host_bytes");
	add_row(&table, "while loading", "host", plan, "load_bytes");
	add_row(&table, "read", "disk", plan, "file_bytes");
	rc = vac_table_print(&table, &terminal);
	vac_table_free(&table);
	if (rc != 0)
		vac_complain(command, "out of memory for the table");
	return rc == 0 ? VAC_EXIT_OK : VAC_EXIT_FAILED;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct vac_client client = {0};
	const struct vac_option options[] = {VAC_CLIENT_OPTIONS(client)};
	const char *name;
	struct vac_arguments arguments = {.values = &name, .least = 1, .most = 1};
	struct vac_buf target = VAC_BUF_INIT;
	json_t *reply;
	int rc;

	rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]), &arguments,
			       argc, argv);
	if (rc != VAC_CONTINUE)
		return rc;
	vac_buf_puts(&target, "/models/plan?model=");
	vac_http_escape(&target, name);
	vac_buf_putc(&target, '\0');
	if (!vac_buf_ok(&target)) {
		vac_complain(command, "out of memory for the request");
		rc = VAC_EXIT_FAILED;
	} else {
		rc = vac_client_ask(command, &client, "GET", (const char *)target.data, NULL,
				    VAC_ASK_TIMEOUT_S, &reply);
	}
	vac_buf_free(&target);
	if (rc != VAC_CONTINUE)
		return rc;
	rc = print_plan(command, reply);
	json_decref(reply);
	return rc;
}

const struct vac_command vac_command_plan = {
	.name = "plan",
	.arguments = "MODEL [options]",
	.summary = "Shows what a model will take, before it is loaded",
	.details =
		"Each region of memory that a load creates, to the byte, from the headers of the\n"
		"model's files. \"without shared\" is what it takes beside other models, which\n"
		"share the scratch region; \"while loading\" is held for a moment on top.",
	.run = run,
};
