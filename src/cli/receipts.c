/* receipts.c - `vacate receipts`: what past unloads gave back. One thread. */
#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/clock.h"
#include "cli/journal_files.h"

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

/* Where receipts come from: a reply of the server, or lines of a journal. */
struct source {
	const json_t *list; /* NULL: the lines */
	const struct vac_journal_receipts *journal;
};

static size_t count_of(const struct source *source)
{
	return source->list ? json_array_size(source->list) : source->journal->count;
}

/* A new reference; NULL when out of memory. */
static json_t *receipt_at(const struct source *source, size_t at)
{
	if (source->list)
		return json_incref(json_array_get(source->list, at));
	return json_loads(source->journal->lines[at], 0, NULL);
}

static int print_table(const struct source *source, const struct vac_terminal *terminal)
{
	struct vac_table table;
	int rc = 0;

	vac_table_init(&table, columns, COLUMN_COUNT);
	for (size_t i = 0; i < count_of(source) && rc == 0; i++) {
		json_t *receipt = receipt_at(source, i);

		if (receipt)
			add_receipt(&table, receipt);
		else
			rc = -ENOMEM;
		json_decref(receipt);
	}
	if (rc == 0)
		rc = vac_table_print(&table, terminal);
	vac_table_free(&table);
	return rc;
}

static int print_all(const struct source *source, const struct vac_terminal *terminal)
{
	int rc = 0;

	for (size_t i = 0; i < count_of(source) && rc == 0; i++) {
		json_t *receipt = receipt_at(source, i);

		if (i > 0)
			fputc('\n', stdout);
		rc = receipt ? vac_print_receipt(terminal, receipt) : -ENOMEM;
		json_decref(receipt);
	}
	return rc;
}

static int print_receipts(const struct vac_command *command, const struct source *source,
			  bool one_line, bool since)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	int rc;

	if (count_of(source) == 0)
		rc = vac_print_line(&terminal, since ? "no receipts since then"
						     : "no receipts: nothing has been unloaded "
						       "yet");
	else
		rc = one_line ? print_table(source, &terminal) : print_all(source, &terminal);
	if (rc != 0)
		vac_complain(command, "out of memory for the receipts");
	return rc == 0 ? VAC_EXIT_OK : VAC_EXIT_FAILED;
}

/* What is asked for. */
struct question {
	struct vac_client client;
	const char *limit, *since, *journal;
	bool one_line;
	unsigned long count;
	int64_t since_wall_ns;
};

static int ask_server(const struct vac_command *command, const struct question *question)
{
	struct vac_buf target = VAC_BUF_INIT;
	struct source source = {0};
	json_t *reply;
	int rc;

	vac_buf_printf(&target, "/receipts?limit=%lu", question->count);
	if (question->since) {
		vac_buf_puts(&target, "&since=");
		vac_http_escape(&target, question->since);
	}
	vac_buf_putc(&target, '\0');
	if (!vac_buf_ok(&target)) {
		vac_buf_free(&target);
		vac_complain(command, "out of memory for the request");
		return VAC_EXIT_FAILED;
	}
	rc = vac_client_ask(command, &question->client, "GET", (const char *)target.data, NULL,
			    VAC_ASK_TIMEOUT_S, &reply);
	vac_buf_free(&target);
	if (rc != VAC_CONTINUE)
		return rc;
	source.list = vac_reply_list(command, reply, "receipts");
	rc = source.list ? print_receipts(command, &source, question->one_line, question->since)
			 : VAC_EXIT_FAILED;
	json_decref(reply);
	return rc;
}

/* In the shape of the server's reply. */
static void print_json(const struct vac_journal_receipts *receipts)
{
	fputs("{\"receipts\":[", stdout);
	for (size_t i = 0; i < receipts->count; i++)
		printf("%s%s", i > 0 ? "," : "", receipts->lines[i]);
	puts("]}");
}

static int read_journal(const struct vac_command *command, const struct question *question)
{
	struct vac_journal_receipts receipts;
	struct source source = {.journal = &receipts};
	struct vac_error err;
	int rc = VAC_EXIT_OK;

	if (vac_journal_read(question->journal, question->since_wall_ns, question->count, &receipts,
			     &err) < 0) {
		vac_complain(command, "%s", err.message);
		return VAC_EXIT_FAILED;
	}
	if (receipts.unreadable > 0)
		vac_complain(command, "%s: %zu line%s no JSON and %s left out", question->journal,
			     receipts.unreadable, receipts.unreadable == 1 ? " is" : "s are",
			     receipts.unreadable == 1 ? "is" : "are");
	if (question->client.json)
		print_json(&receipts);
	else
		rc = print_receipts(command, &source, question->one_line, question->since);
	vac_journal_receipts_free(&receipts);
	return rc;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct question question = {0};
	const struct vac_option options[] = {
		{"limit", "N", "the newest so many (10, with --since all; 0: all)", NULL,
		 &question.limit},
		{"since", "WHEN", "none that are older: 1h, 2d, 2026-01-31T12:00:00Z", NULL,
		 &question.since},
		{"journal", "FILE", "read that journal and its rotated files, ask no server", NULL,
		 &question.journal},
		{"short", NULL, "one line a receipt", &question.one_line, NULL},
		VAC_CLIENT_OPTIONS(question.client)};
	struct vac_arguments arguments = {0};
	char *end;
	int rc;

	rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]), &arguments,
			       argc, argv);
	if (rc != VAC_CONTINUE)
		return rc;
	if (!question.limit)
		question.limit = question.since ? "0" : "10";
	errno = 0;
	question.count = strtoul(question.limit, &end, 10);
	if (errno != 0 || *question.limit < '0' || *question.limit > '9' || *end ||
	    question.count > INT32_MAX)
		return vac_usage_error(command, "--limit %s is not a number of receipts",
				       question.limit);
	if (question.since &&
	    vac_parse_since(question.since, vac_wall_ns(), &question.since_wall_ns) != 0)
		return vac_usage_error(
			command,
			"--since %s is neither a duration such as 1h nor a time such "
			"as 2026-01-31T12:00:00Z",
			question.since);
	if (question.journal)
		return read_journal(command, &question);
	return ask_server(command, &question);
}

const struct vac_command vac_command_receipts = {
	.name = "receipts",
	.arguments = "[options]",
	.summary = "Shows what past unloads gave back, the newest first",
	.details =
		"Worker and server are measured from outside as private memory (USS), just\n"
		"before and just after. \"unaccounted\" is what the ledger says went and the\n"
		"measurement did not see go. A server keeps the last 1000 receipts; its journal\n"
		"(vacate serve --journal) keeps more, and those of earlier servers.",
	.run = run,
};
