/* holding_text.c - receipts of parked and resumed processes. One thread. */
#include "cli/holding.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "cli/format.h"
#include "hold/hold.h"

#define PROMISED_NS INT64_C(10000000) /* below it tenths are shown */

const char *vac_held_command(const struct vac_wire_held_target *target)
{
	return *target->command ? target->command : "-";
}

static const char *state_name(enum vac_wire_held_state state)
{
	return vac_hold_state_name((enum vac_hold_state)state);
}

static const char *format_ns(char to[VAC_TEXT_BYTES], int64_t ns)
{
	if (ns < PROMISED_NS)
		snprintf(to, VAC_TEXT_BYTES, "%.1f ms", (double)ns / 1e6);
	else
		vac_format_ms(to, ns / 1000000);
	return to;
}

/* "5.2 GiB -> 0 B (-5.2 GiB)" */
static int print_change(const struct vac_terminal *terminal, const char *what, uint64_t before,
			uint64_t after, const char *more)
{
	char had[VAC_TEXT_BYTES], has[VAC_TEXT_BYTES], change[VAC_TEXT_BYTES];

	vac_format_bytes(had, before);
	vac_format_bytes(has, after);
	vac_format_signed_bytes(change, (int64_t)(after - before), 1);
	return vac_print_line(terminal, "  %-14s  %9s -> %s (%s)%s", what, had, has, change, more);
}

static int print_device(const struct vac_terminal *terminal,
			const struct vac_wire_held_device *device)
{
	const struct vac_wire_held_memory *before = &device->before, *after = &device->after;
	char total[VAC_TEXT_BYTES], more[VAC_TEXT_BYTES + 8];
	const char *listed = after->listed ? "" : ", not listed any more";
	int rc;

	if (!before->listed)
		listed = "";
	/* Some drivers list a process and do not say how much it has. */
	if ((before->listed && !before->bytes_valid) || (after->listed && !after->bytes_valid))
		rc = vac_print_line(terminal, "  %-14s  %9s%s", "VRAM", "unknown", listed);
	else
		rc = print_change(terminal, "VRAM", before->listed ? before->bytes : 0,
				  after->listed ? after->bytes : 0, listed);
	if (rc != 0)
		return rc;
	snprintf(more, sizeof(more), " of %s", vac_format_bytes(total, after->total_bytes));
	rc = print_change(terminal, "used of GPU", before->used_bytes, after->used_bytes, more);
	if (rc == 0)
		rc = vac_print_line(terminal, "  %-14s  %s", "GPU", device->uuid);
	return rc;
}

static int print_times(const struct vac_terminal *terminal,
		       const struct vac_wire_held_target *target)
{
	const struct {
		const char *name;
		int64_t ns;
	} steps[] = {{"lock", target->lock_ns},
		     {"checkpoint", target->checkpoint_ns},
		     {"restore", target->restore_ns},
		     {"unlock", target->unlock_ns}};
	char text[VAC_TEXT_BYTES], parts[160] = "";

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		size_t n = strlen(parts);

		if (steps[i].ns > 0)
			snprintf(parts + n, sizeof(parts) - n, "%s%s %s", n ? ", " : ": ",
				 steps[i].name, format_ns(text, steps[i].ns));
	}
	if (vac_print_line(terminal, "  %-14s  %9s%s", "time", format_ns(text, target->total_ns),
			   parts) != 0)
		return -1;
	return vac_print_line(terminal, "  %-14s  %9s", "in the driver",
			      format_ns(text, target->driver_ns));
}

int vac_print_held(const struct vac_terminal *terminal, enum vac_wire_hold_operation operation,
		   const struct vac_wire_held_target *target, const char *driver)
{
	const char *did = operation == VAC_WIRE_HOLD_PARK ? "Parked" : "Resumed";
	char left[VAC_TEXT_BYTES], swapped[VAC_TEXT_BYTES];
	int rc;

	if (target->before == target->after)
		return vac_print_line(terminal, "%u was %s already: %s", target->pid,
				      state_name(target->after), vac_held_command(target));
	fputs(vac_color_on(terminal, VAC_COLOR_BOLD), terminal->file);
	rc = vac_print_line(terminal, "%s %u: %s", did, target->pid, vac_held_command(target));
	fputs(vac_color_off(terminal, VAC_COLOR_BOLD), terminal->file);
	for (uint32_t i = 0; rc == 0 && i < target->device_count; i++)
		rc = print_device(terminal, &target->devices[i]);
	if (rc == 0 && target->rss_valid)
		rc = print_change(terminal, "RAM (RSS)", target->rss_before_bytes,
				  target->rss_after_bytes, "");
	if (rc == 0 && target->pageout_valid)
		rc = vac_print_line(terminal, "  %-14s  %9s of RAM, %s more in swap", "paged out",
				    vac_format_bytes(left, target->pageout_bytes),
				    vac_format_bytes(swapped, target->swapped_bytes));
	if (rc == 0)
		rc = print_times(terminal, target);
	if (rc == 0 && *driver)
		rc = vac_print_line(terminal, "  %-14s  %9s", "driver", driver);
	return rc;
}

static json_t *bytes_or_null(bool valid, uint64_t bytes)
{
	return valid && bytes <= INT64_MAX ? json_integer((json_int_t)bytes) : json_null();
}

static json_t *error_json(const struct vac_error *error)
{
	if (error->code == VAC_OK)
		return json_null();
	return json_pack("{s:s,s:s%,s:s%}", "code", vac_error_name(error->code), "message",
			 error->message, strlen(error->message), "detail", error->detail,
			 strlen(error->detail));
}

static json_t *memory_json(const struct vac_wire_held_memory *memory)
{
	return json_pack("{s:b,s:o,s:o,s:o}", "listed", memory->listed, "process_bytes",
			 bytes_or_null(memory->bytes_valid, memory->bytes), "used_bytes",
			 bytes_or_null(true, memory->used_bytes), "total_bytes",
			 bytes_or_null(true, memory->total_bytes));
}

static json_t *devices_json(const struct vac_wire_held_target *target)
{
	json_t *list = json_array();

	for (uint32_t i = 0; list && i < target->device_count; i++) {
		const struct vac_wire_held_device *device = &target->devices[i];

		if (json_array_append_new(list, json_pack("{s:s,s:o,s:o}", "uuid", device->uuid,
							  "before", memory_json(&device->before),
							  "after", memory_json(&device->after))) !=
		    0) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

static double ms_of(int64_t ns)
{
	return (double)(ns / 1000) / 1000;
}

static json_t *target_json(const struct vac_wire_held_target *target)
{
	struct passwd *user = getpwuid(target->uid);
	json_t *object =
		json_pack("{s:i,s:I,s:s?,s:s,s:s,s:s,s:o,s:o}", "pid", (int)target->pid, "uid",
			  (json_int_t)target->uid, "user", user ? user->pw_name : NULL, "command",
			  target->command, "before", state_name(target->before), "after",
			  state_name(target->after), "error", error_json(&target->error), "devices",
			  devices_json(target));
	json_t *more = json_pack(
		"{s:o,s:o,s:o,s:o,s:f,s:f,s:f,s:f,s:f,s:f}", "rss_before_bytes",
		bytes_or_null(target->rss_valid, target->rss_before_bytes), "rss_after_bytes",
		bytes_or_null(target->rss_valid, target->rss_after_bytes), "pageout_bytes",
		bytes_or_null(target->pageout_valid, target->pageout_bytes), "swapped_bytes",
		bytes_or_null(target->pageout_valid, target->swapped_bytes), "lock_ms",
		ms_of(target->lock_ns), "checkpoint_ms", ms_of(target->checkpoint_ns), "restore_ms",
		ms_of(target->restore_ns), "unlock_ms", ms_of(target->unlock_ns), "driver_ms",
		ms_of(target->driver_ns), "total_ms", ms_of(target->total_ns));

	if (!object || !more || json_object_update(object, more) != 0) {
		json_decref(object);
		object = NULL;
	}
	json_decref(more);
	return object;
}

json_t *vac_held_json(enum vac_wire_hold_operation operation, const struct vac_wire_held *held,
		      const json_t *others)
{
	json_t *list = others ? json_copy((json_t *)others) : json_array();

	for (uint32_t i = 0; list && i < held->count; i++) {
		if (json_array_append_new(list, target_json(&held->targets[i])) != 0) {
			json_decref(list);
			list = NULL;
		}
	}
	return json_pack("{s:s,s:s,s:o,s:o}", "operation",
			 operation == VAC_WIRE_HOLD_PARK ? "park" : "resume", "driver",
			 held->driver, "error", error_json(&held->error), "receipts", list);
}
