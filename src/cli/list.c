/* list.c - `vacate list`: the models on disk. One thread. */
#include "cli/client.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	COLUMN_NAME,
	COLUMN_STATE,
	COLUMN_RAM,
	COLUMN_VRAM,
	COLUMN_PARAMETERS,
	COLUMN_DIMENSIONS,
	COLUMN_TOKENS,
	COLUMN_ARCHITECTURE,
	COLUMN_DTYPE,
	COLUMN_ALIASES,
	COLUMN_COUNT
};

static const struct vac_column columns[COLUMN_COUNT] = {
	[COLUMN_NAME] = {.header = "NAME", .shrink = true},
	[COLUMN_STATE] = {.header = "STATE"},
	[COLUMN_RAM] = {.header = "RAM", .right = true},
	[COLUMN_VRAM] = {.header = "VRAM", .right = true, .maybe = true},
	[COLUMN_PARAMETERS] = {.header = "PARAMS", .right = true, .rank = 1},
	[COLUMN_DIMENSIONS] = {.header = "DIM", .right = true, .rank = 2},
	[COLUMN_TOKENS] = {.header = "TOKENS", .right = true, .rank = 3},
	[COLUMN_ARCHITECTURE] = {.header = "ARCH", .rank = 4},
	[COLUMN_DTYPE] = {.header = "DTYPE", .rank = 5},
	[COLUMN_ALIASES] = {.header = "ALIASES", .maybe = true, .rank = 6},
};

static void add_model(struct vac_table *table, const json_t *model)
{
	char ram[VAC_TEXT_BYTES], vram[VAC_TEXT_BYTES], parameters[VAC_TEXT_BYTES],
		dimensions[VAC_TEXT_BYTES];
	char tokens[VAC_TEXT_BYTES];
	const char *texts[COLUMN_COUNT] = {NULL};
	char *aliases = vac_reply_texts(model, "aliases");
	int64_t count;

	texts[COLUMN_NAME] = vac_reply_text(model, "name");
	texts[COLUMN_STATE] = vac_reply_text(model, "state");
	texts[COLUMN_RAM] = vac_reply_bytes(json_object_get(model, "plan"), "host_bytes", ram);
	texts[COLUMN_VRAM] = vac_reply_vram(model, vram);
	if (vac_reply_number(model, "parameters", &count) && count >= 0)
		texts[COLUMN_PARAMETERS] = vac_format_count(parameters, (uint64_t)count);
	texts[COLUMN_DIMENSIONS] = vac_reply_count(model, "embedding_dimensions", dimensions);
	texts[COLUMN_TOKENS] = vac_reply_count(model, "max_tokens", tokens);
	texts[COLUMN_ARCHITECTURE] = vac_reply_text(model, "architecture");
	texts[COLUMN_DTYPE] = vac_reply_text(model, "dtype");
	texts[COLUMN_ALIASES] = aliases;
	vac_table_row(table, texts);
	free(aliases);
	vac_table_color(table, COLUMN_STATE, vac_state_color(texts[COLUMN_STATE]));
}

static int print_models(const struct vac_command *command, const json_t *models)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	struct vac_table table;
	const json_t *model;
	size_t i;
	int rc;

	if (json_array_size(models) == 0) {
		vac_print_line(&terminal, "no models on disk; `vacate serve --help` says where "
					  "it looks");
		return VAC_EXIT_OK;
	}
	vac_table_init(&table, columns, COLUMN_COUNT);
	json_array_foreach(models, i, model) add_model(&table, model);
	rc = vac_table_print(&table, &terminal);
	vac_table_free(&table);
	if (rc != 0)
		vac_complain(command, "out of memory for the table");
	return rc == 0 ? VAC_EXIT_OK : VAC_EXIT_FAILED;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	const json_t *models;
	json_t *reply;
	int rc = vac_client_get(command, argc, argv, "/models", &reply);

	if (rc != VAC_CONTINUE)
		return rc;
	models = vac_reply_list(command, reply, "models");
	rc = models ? print_models(command, models) : VAC_EXIT_FAILED;
	json_decref(reply);
	return rc;
}

const struct vac_command vac_command_list = {
	.name = "list",
	.arguments = "[options]",
	.summary = "Lists the models on disk",
	.details =
		"RAM and VRAM are what a model takes when it is alone on its worker, as planned\n"
		"from its files; \"-\" stands for what is not known yet (`vacate plan MODEL` finds "
		"out).",
	.run = run,
};
