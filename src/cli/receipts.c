/* receipts.c - `vacate receipts`: what past unloads gave back. One thread. */
#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	COLUMN_ID,
	COLUMN_AT,
	COLUMN_MODEL,
	COLUMN_REASON,
	COLUMN_LEDGER,
	COLUMN_RETURNED,
	COLUMN_UNACCOUNTED,
	COLUMN_MS,
	COLUMN_COUNT
};

static const struct vac_column columns[COLUMN_COUNT] = {
	[COLUMN_ID] = {.header = "ID", .right = true},
	[COLUMN_AT] = {.header = "AT", .rank = 3},
	[COLUMN_MODEL] = {.header = "MODEL", .shrink = true},
	[COLUMN_REASON] = {.header = "REASON", .rank = 2},
	[COLUMN_LEDGER] = {.header = "LEDGER", .right = true, .rank = 1},
	[COLUMN_RETURNED] = {.header = "RETURNED", .right = true},
	[COLUMN_UNACCOUNTED] = {.header = "UNACCOUNTED", .right = true},
	[COLUMN_MS] = {.header = "TOOK", .right = true, .rank = 4},
};

static void add_receipt(struct vac_table *table, const json_t *receipt)
{
	const json_t *worker = json_object_get(receipt, "worker");
	char id_text[VAC_TEXT_BYTES], ledger[VAC_TEXT_BYTES], returned[VAC_TEXT_BYTES];
	char unaccounted_text[VAC_TEXT_BYTES], ms[VAC_TEXT_BYTES];
	const char *texts[COLUMN_COUNT] = {NULL};
	int64_t id, unaccounted = 0;

	if (vac_reply_number(receipt, "id", &id)) {
		snprintf(id_text, sizeof(id_text), "%lld", (long long)id);
		texts[COLUMN_ID] = id_text;
	}
	texts[COLUMN_AT] = vac_reply_text(receipt, "at");
	texts[COLUMN_MODEL] = vac_reply_text(receipt, "model");
	texts[COLUMN_REASON] = vac_reply_text(receipt, "reason");
	texts[COLUMN_LEDGER] = vac_reply_bytes(receipt, "ledger_bytes", ledger);
	texts[COLUMN_MS] = vac_reply_ms(receipt, "unload_ms", ms);
	/* Without both measurements nothing is known. */
	if (json_is_object(json_object_get(worker, "before")) &&
	    json_is_object(json_object_get(worker, "after"))) {
		texts[COLUMN_RETURNED] = vac_reply_bytes(receipt, "returned_bytes", returned);
		texts[COLUMN_UNACCOUNTED] =
			vac_reply_bytes(receipt, "unaccounted_bytes", unaccounted_text);
		(void)vac_reply_number(receipt, "unaccounted_bytes", &unaccounted);
	}
	vac_table_row(table, texts);
	if (unaccounted > (1 << 20))
		vac_table_color(table, COLUMN_UNACCOUNTED, VAC_COLOR_RED);
}

static int print_receipts(const struct vac_command *command, const json_t *receipts, bool one_line)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	struct vac_table table;
	const json_t *receipt;
	size_t i;
	int rc = 0;

	if (json_array_size(receipts) == 0) {
		rc = vac_print_line(&terminal, "no receipts: nothing has been unloaded yet");
	} else if (one_line) {
		vac_table_init(&table, columns, COLUMN_COUNT);
		json_array_foreach(receipts, i, receipt) add_receipt(&table, receipt);
		rc = vac_table_print(&table, &terminal);
		vac_table_free(&table);
	} else {
		json_array_foreach(receipts, i, receipt)
		{
			if (i > 0)
				fputc('\n', stdout);
			if (rc == 0)
				rc = vac_print_receipt(&terminal, receipt);
		}
	}
	if (rc != 0)
		vac_complain(command, "out of memory for the receipts");
	return rc == 0 ? VAC_EXIT_OK : VAC_EXIT_FAILED;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct vac_client client = {0};
	const char *limit = "10";
	bool one_line = false;
	const struct vac_option options[] = {
		{"limit", "N", "the newest so many (default 10; 0: all that are kept)", NULL,
		 &limit},
		{"short", NULL, "one line a receipt", &one_line, NULL},
		VAC_CLIENT_OPTIONS(client)};
	struct vac_arguments arguments = {0};
	const json_t *receipts;
	char target[64], *end;
	unsigned long count;
	json_t *reply;
	int rc;

	rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]), &arguments,
			       argc, argv);
	if (rc != VAC_CONTINUE)
		return rc;
	errno = 0;
	count = strtoul(limit, &end, 10);
	if (errno != 0 || *limit < '0' || *limit > '9' || *end || count > INT32_MAX)
		return vac_usage_error(command, "--limit %s is not a number of receipts", limit);
	snprintf(target, sizeof(target), "/receipts?limit=%lu", count);
	rc = vac_client_ask(command, &client, "GET", target, NULL, VAC_ASK_TIMEOUT_S, &reply);
	if (rc != VAC_CONTINUE)
		return rc;
	receipts = vac_reply_list(command, reply, "receipts");
	rc = receipts ? print_receipts(command, receipts, one_line) : VAC_EXIT_FAILED;
	json_decref(reply);
	return rc;
}

const struct vac_command vac_command_receipts = {
	.name = "receipts",
	.arguments = "[options]",
	.summary = "Shows what past unloads gave back, the newest first",
	.details = "Worker and server are measured from outside as private memory (USS), just\n"
		   "before and just after. \"unaccounted\" is what the ledger says went and the\n"
		   "measurement did not see go.",
	.run = run,
};
