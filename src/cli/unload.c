/* unload.c - `vacate unload`: gives memory back and shows the receipt. One thread. */
#include "cli/client.h"

#include <stdio.h>

static int print_receipts(const struct vac_command *command, const json_t *receipts)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	const json_t *receipt;
	size_t i;
	int rc = 0;

	if (json_array_size(receipts) == 0)
		rc = vac_print_line(&terminal, "no model was resident");
	json_array_foreach(receipts, i, receipt)
	{
		if (i > 0)
			fputc('\n', stdout);
		if (rc == 0)
			rc = vac_print_receipt(&terminal, receipt);
	}
	if (rc != 0)
		vac_complain(command, "out of memory for the receipt");
	return rc == 0 ? VAC_EXIT_OK : VAC_EXIT_FAILED;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct vac_client client = {0};
	const char *name = NULL;
	bool all = false, drop_cache = false;
	const struct vac_option options[] = {
		{"all", NULL, "unload every model", &all, NULL},
		{"drop-cache", NULL, "drop the files' page cache too: the next load reads the disk",
		 &drop_cache, NULL},
		VAC_CLIENT_OPTIONS(client)};
	struct vac_arguments arguments = {.values = &name, .most = 1};
	const json_t *receipts;
	json_t *body, *reply;
	int rc;

	rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]), &arguments,
			       argc, argv);
	if (rc != VAC_CONTINUE)
		return rc;
	if (all == (arguments.count == 1))
		return vac_usage_error(command, all ? "--all and the name of a MODEL exclude each "
						      "other"
						    : "a MODEL or --all is missing");
	body = all ? json_pack("{s:b}", "all", true) : json_pack("{s:s}", "model", name);
	if (!body)
		return vac_usage_error(command, "the model's name is not UTF-8");
	if (drop_cache && json_object_set_new(body, "drop_cache", json_true()) != 0) {
		json_decref(body);
		vac_complain(command, "out of memory for the request");
		return VAC_EXIT_FAILED;
	}
	rc = vac_client_ask(command, &client, "POST", "/models/unload", body, VAC_MOVE_TIMEOUT_S,
			    &reply);
	json_decref(body);
	if (rc != VAC_CONTINUE)
		return rc;
	receipts = vac_reply_list(command, reply, "receipts");
	rc = receipts ? print_receipts(command, receipts) : VAC_EXIT_FAILED;
	json_decref(reply);
	return rc;
}

const struct vac_command vac_command_unload = {
	.name = "unload",
	.arguments = "MODEL | --all [options]",
	.summary = "Unloads a model and prints the receipt",
	.details = "Waits for running requests of the model. The receipt tells what was planned,\n"
		   "what was measured before and after, and what is unaccounted for.",
	.run = run,
};
