/* receipt_text.c - a receipt as a person reads it. One thread. */
#include "cli/client.h"

#include <stdio.h>
#include <string.h>

static const char *or_dash(const char *text)
{
	return text ? text : "-";
}

/* "108.2 MiB -> 3.9 MiB (-104.3 MiB)", of private memory. */
static int print_usage(const struct vac_terminal *terminal, const char *who, const json_t *process,
		       const char *after_text)
{
	char before[VAC_TEXT_BYTES], after[VAC_TEXT_BYTES], change[VAC_TEXT_BYTES];
	int64_t before_bytes, after_bytes;

	if (!vac_reply_number(json_object_get(process, "before"), "uss_bytes", &before_bytes) ||
	    !vac_reply_number(json_object_get(process, "after"), "uss_bytes", &after_bytes))
		return vac_print_line(terminal, "  %-14s  not measured", who);
	/* Such numbers as no process has would overflow the difference. */
	if (before_bytes < 0 || after_bytes < 0)
		return vac_print_line(terminal, "  %-14s  not measured", who);
	vac_format_bytes(before, (uint64_t)before_bytes);
	vac_format_bytes(after, (uint64_t)after_bytes);
	vac_format_signed_bytes(change, after_bytes - before_bytes, 1);
	return vac_print_line(terminal, "  %-14s  %9s -> %s (%s)", who, before,
			      after_text ? after_text : after, change);
}

static int print_head(const struct vac_terminal *terminal, const json_t *receipt)
{
	const char *model = or_dash(vac_reply_text(receipt, "model"));
	const char *reason = or_dash(vac_reply_text(receipt, "reason"));
	char ms[VAC_TEXT_BYTES], resident[VAC_TEXT_BYTES];
	int64_t id = 0, requests = 0;
	int rc;

	(void)vac_reply_number(receipt, "id", &id);
	(void)vac_reply_number(receipt, "requests", &requests);
	fputs(vac_color_on(terminal, VAC_COLOR_BOLD), terminal->file);
	rc = vac_print_line(terminal, "Receipt %lld: %s on %s", (long long)id, model,
			    or_dash(vac_reply_text(receipt, "device")));
	fputs(vac_color_off(terminal, VAC_COLOR_BOLD), terminal->file);
	if (rc == 0)
		rc = vac_print_line(terminal, "  %-14s  %s, in %s (%s)", "unloaded",
				    or_dash(vac_reply_text(receipt, "at")),
				    vac_reply_ms(receipt, "unload_ms", ms), reason);
	if (rc == 0)
		rc = vac_print_line(terminal, "  %-14s  %s, %lld request%s", "was resident",
				    vac_reply_ms(receipt, "resident_ms", resident),
				    (long long)requests, requests == 1 ? "" : "s");
	return rc;
}

static int print_amount(const struct vac_terminal *terminal, const char *what, const char *text,
			enum vac_color color)
{
	int rc;

	fputs(vac_color_on(terminal, color), terminal->file);
	rc = vac_print_line(terminal, "  %-14s  %9s", what, text);
	fputs(vac_color_off(terminal, color), terminal->file);
	return rc;
}

/* Nothing for a model that was on the CPUs. */
static int print_vram(const struct vac_terminal *terminal, const json_t *vram)
{
	const json_t *before = json_object_get(vram, "before"),
		     *after = json_object_get(vram, "after");
	char had[VAC_TEXT_BYTES], has[VAC_TEXT_BYTES], change[VAC_TEXT_BYTES];
	int64_t used_before, used_after;

	if (!json_is_object(vram))
		return 0;
	if (!vac_reply_number(before, "used_bytes", &used_before) ||
	    !vac_reply_number(after, "used_bytes", &used_after) || used_before < 0 ||
	    used_after < 0)
		return vac_print_line(terminal, "  %-14s  not measured", "VRAM");
	vac_format_bytes(had, (uint64_t)used_before);
	vac_format_bytes(has, (uint64_t)used_after);
	vac_format_signed_bytes(change, used_after - used_before, 1);
	return vac_print_line(
		terminal, "  %-14s  %9s -> %s (%s), worker %s", "VRAM used", had, has, change,
		vac_reply_flag(after, "listed") ? "still listed" : "not listed any more");
}

/* What the measurement says came back, and what it did not see come back. */
static int print_balance(const struct vac_terminal *terminal, const json_t *receipt)
{
	const json_t *worker = json_object_get(receipt, "worker");
	bool measured = json_is_object(json_object_get(worker, "before")) &&
			json_is_object(json_object_get(worker, "after"));
	char text[VAC_TEXT_BYTES];
	int64_t unaccounted = 0;
	int rc;

	if (!measured)
		return print_amount(terminal, "returned", "unknown: the worker was not measured",
				    VAC_COLOR_YELLOW);
	rc = print_amount(terminal, "returned", vac_reply_bytes(receipt, "returned_bytes", text),
			  VAC_COLOR_GREEN);
	if (rc != 0)
		return rc;
	(void)vac_reply_number(receipt, "unaccounted_bytes", &unaccounted);
	/* 1 MiB is the promise: rule of memory 7. */
	return print_amount(terminal, "unaccounted",
			    vac_reply_bytes(receipt, "unaccounted_bytes", text),
			    unaccounted > (1 << 20) ? VAC_COLOR_RED : VAC_COLOR_NONE);
}

int vac_print_receipt(const struct vac_terminal *terminal, const json_t *receipt)
{
	const json_t *worker = json_object_get(receipt, "worker");
	bool exited = vac_reply_flag(worker, "exited");
	char text[VAC_TEXT_BYTES], who[VAC_TEXT_BYTES];
	int64_t pid, cached;
	int rc;

	rc = print_head(terminal, receipt);
	if (rc == 0)
		rc = print_amount(terminal, "planned",
				  vac_reply_bytes(receipt, "planned_bytes", text), VAC_COLOR_NONE);
	if (rc == 0)
		rc = print_amount(terminal, "ledger",
				  vac_reply_bytes(receipt, "ledger_bytes", text), VAC_COLOR_NONE);
	snprintf(who, sizeof(who), "worker");
	if (vac_reply_number(worker, "pid", &pid) && pid > 0)
		snprintf(who, sizeof(who), "worker %lld", (long long)pid);
	if (rc == 0)
		rc = print_usage(terminal, who, worker, exited ? "exited" : NULL);
	if (rc == 0)
		rc = print_usage(terminal, "server", json_object_get(receipt, "server"), NULL);
	if (rc == 0)
		rc = print_vram(terminal, json_object_get(receipt, "vram"));
	if (rc == 0)
		rc = print_balance(terminal, receipt);
	if (rc != 0)
		return rc;
	if (!vac_reply_number(receipt, "page_cache_bytes", &cached))
		return vac_print_line(terminal, "  %-14s  %9s", "page cache", "unknown");
	return vac_print_line(terminal, "  %-14s  %9s kept%s", "page cache",
			      vac_reply_bytes(receipt, "page_cache_bytes", text),
			      vac_reply_flag(receipt, "page_cache_dropped")
				      ? " after it was dropped"
				      : " by the system: the next load is fast");
}
