/* ps_holders.c - the tables of `vacate ps` of processes and devices. One thread. */
#include "cli/ps.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Unaccounted memory below this is the driver's, and not worth a line. */
#define WORTH_A_LINE_BYTES ((uint64_t)256 << 20)

enum {
	HOLDER_PID,
	HOLDER_USER,
	HOLDER_WHAT,
	HOLDER_DEVICE,
	HOLDER_VRAM,
	HOLDER_RAM,
	HOLDER_USS,
	HOLDER_PSS,
	HOLDER_GPU,
	HOLDER_IDLE,
	HOLDER_STATE,
	HOLDER_COUNT
};

static const struct vac_column holder_columns[HOLDER_COUNT] = {
	[HOLDER_PID] = {.header = "PID", .right = true},
	[HOLDER_USER] = {.header = "USER", .rank = 3},
	[HOLDER_WHAT] = {.header = "WHAT", .shrink = true},
	[HOLDER_DEVICE] = {.header = "DEVICE", .rank = 6},
	[HOLDER_VRAM] = {.header = "VRAM", .right = true},
	[HOLDER_RAM] = {.header = "RAM", .right = true, .rank = 2},
	[HOLDER_USS] = {.header = "USS", .right = true, .rank = 4},
	[HOLDER_PSS] = {.header = "PSS", .right = true, .rank = 7},
	[HOLDER_GPU] = {.header = "GPU", .right = true, .rank = 5},
	[HOLDER_IDLE] = {.header = "IDLE", .right = true, .rank = 4},
	[HOLDER_STATE] = {.header = "STATE", .rank = 1},
};

enum {
	DEVICE_DEVICE,
	DEVICE_NAME,
	DEVICE_TOTAL,
	DEVICE_USED,
	DEVICE_FREE,
	DEVICE_UNACCOUNTED,
	DEVICE_GPU,
	DEVICE_COUNT
};

static const struct vac_column device_columns[DEVICE_COUNT] = {
	[DEVICE_DEVICE] = {.header = "DEVICE"},
	[DEVICE_NAME] = {.header = "NAME", .shrink = true, .rank = 5},
	[DEVICE_TOTAL] = {.header = "TOTAL", .right = true, .rank = 2},
	[DEVICE_USED] = {.header = "USED", .right = true, .rank = 3},
	[DEVICE_FREE] = {.header = "FREE", .right = true},
	[DEVICE_UNACCOUNTED] = {.header = "UNACCOUNTED", .right = true, .rank = 1},
	[DEVICE_GPU] = {.header = "GPU", .right = true, .maybe = true, .rank = 4},
};

const char *vac_user_name(uid_t uid, char to[VAC_TEXT_BYTES])
{
	static char known[VAC_TEXT_BYTES];
	static uid_t known_uid;
	struct passwd *user;

	/* A directory server may take its time, and a machine has few users. */
	if (!known[0] || known_uid != uid) {
		user = getpwuid(uid);
		known_uid = uid;
		if (user && user->pw_name && *user->pw_name)
			snprintf(known, sizeof(known), "%s", user->pw_name);
		else
			snprintf(known, sizeof(known), "%u", (unsigned)uid);
	}
	memcpy(to, known, sizeof(known));
	return to;
}

const char *vac_holder_what(const struct vac_holder *holder)
{
	if (holder->pid == 0)
		return "(not visible from here)";
	return holder->name[0] ? holder->name : NULL;
}

const char *vac_holder_state_text(const struct vac_holder *holder)
{
	if (holder->nvml_pid == 0 && holder->state == VAC_HOLD_UNKNOWN)
		return "unlisted";
	return vac_hold_state_name(holder->state);
}

const char *vac_holder_by(const struct vac_holder *holder, char to[VAC_TEXT_BYTES])
{
	size_t bytes = strcspn(holder->by, " ");
	char user[VAC_TEXT_BYTES];
	bool other = holder->by_valid && holder->uid_valid && holder->by_uid != holder->uid;

	/* Who parks his own by hand knows it. */
	if (!other && (bytes == 0 || strncmp(holder->by, "park", bytes) == 0))
		return NULL;
	if (bytes == 0 || (bytes == 4 && strncmp(holder->by, "park", 4) == 0))
		snprintf(to, VAC_TEXT_BYTES, "%.30s", vac_user_name(holder->by_uid, user));
	else
		snprintf(to, VAC_TEXT_BYTES, "%.*s", (int)(bytes < 30 ? bytes : 30), holder->by);
	return to;
}

enum vac_color vac_holder_state_color(enum vac_hold_state state)
{
	switch (state) {
	case VAC_HOLD_RUNNING:
		return VAC_COLOR_GREEN;
	case VAC_HOLD_FAILED:
		return VAC_COLOR_RED;
	case VAC_HOLD_UNKNOWN:
		return VAC_COLOR_NONE;
	default:
		return VAC_COLOR_YELLOW;
	}
}

const char *vac_part_idle(const struct vac_holder_part *part, char to[VAC_TEXT_BYTES])
{
	char text[VAC_TEXT_BYTES];

	if (part->sm_percent.valid && part->sm_percent.value > 0)
		return "busy";
	if (!part->idle_valid)
		return "-";
	vac_format_ms(text, part->idle_ms);
	snprintf(to, VAC_TEXT_BYTES, "%s%.30s", part->idle_at_least ? ">" : "", text);
	return to;
}

const char *vac_gauge_percent(const struct vac_gauge *gauge, char to[VAC_TEXT_BYTES])
{
	if (!gauge->valid)
		return "-";
	snprintf(to, VAC_TEXT_BYTES, "%u%%", gauge->value);
	return to;
}

const char *vac_device_name(const struct vac_survey_device *device, char to[VAC_TEXT_BYTES])
{
	snprintf(to, VAC_TEXT_BYTES, "gpu:%u", device->index);
	return to;
}

/* USS or PSS. */
static const char *private_text(const struct vac_holder *holder, uint64_t bytes,
				char to[VAC_TEXT_BYTES])
{
	if (holder->usage.valid)
		return vac_format_bytes(to, bytes);
	return holder->usage_late ? "late" : "-";
}

static void add_holder(struct vac_table *table, const struct vac_ps_machine *machine,
		       const struct vac_holder *holder, const struct vac_holder_part *part,
		       const char *models, bool uss)
{
	char pid[VAC_TEXT_BYTES], user[VAC_TEXT_BYTES], device[VAC_TEXT_BYTES];
	char vram[VAC_TEXT_BYTES], ram[VAC_TEXT_BYTES], gpu[VAC_TEXT_BYTES];
	char idle[VAC_TEXT_BYTES], own[VAC_TEXT_BYTES], share[VAC_TEXT_BYTES];
	char state[2 * VAC_TEXT_BYTES], by[VAC_TEXT_BYTES];
	const char *texts[HOLDER_COUNT] = {NULL}, *by_whom;
	bool first = !part || part == holder->parts;

	snprintf(pid, sizeof(pid), "%lld",
		 holder->pid ? (long long)holder->pid : (long long)holder->nvml_pid);
	texts[HOLDER_PID] = pid;
	texts[HOLDER_USER] = holder->uid_valid ? vac_user_name(holder->uid, user) : NULL;
	texts[HOLDER_WHAT] = models ? models : vac_holder_what(holder);
	texts[HOLDER_STATE] = vac_holder_state_text(holder);
	if (holder->state == VAC_HOLD_PARKED && holder->parked_valid) {
		vac_format_bytes(vram, holder->parked_bytes);
		by_whom = vac_holder_by(holder, by);
		snprintf(state, sizeof(state), "parked %.20s%s%.32s", vram, by_whom ? " by " : "",
			 by_whom ? by_whom : "");
		texts[HOLDER_STATE] = state;
	}
	if (part) {
		texts[HOLDER_DEVICE] =
			vac_device_name(machine->holders.devices[part->device].survey, device);
		texts[HOLDER_VRAM] = part->bytes_valid ? vac_format_bytes(vram, part->bytes) : NULL;
		texts[HOLDER_GPU] = vac_gauge_percent(&part->sm_percent, gpu);
		texts[HOLDER_IDLE] = vac_part_idle(part, idle);
	} else if (holder->state == VAC_HOLD_PARKED) {
		texts[HOLDER_VRAM] = vac_format_bytes(vram, 0);
	}
	/* What it has once is shown once. */
	if (first && holder->rss_valid)
		texts[HOLDER_RAM] = vac_format_bytes(ram, holder->rss_bytes);
	if (first && uss) {
		texts[HOLDER_USS] = private_text(holder, holder->usage.uss_bytes, own);
		texts[HOLDER_PSS] = private_text(holder, holder->usage.pss_bytes, share);
	}
	vac_table_row(table, texts);
	vac_table_color(table, HOLDER_STATE, vac_holder_state_color(holder->state));
}

static int print_holders(const struct vac_terminal *terminal, const struct vac_ps_machine *machine,
			 const json_t *reply, bool uss)
{
	const struct vac_holders *holders = &machine->holders;
	struct vac_column columns[HOLDER_COUNT];
	struct vac_table table;
	int rc;

	memcpy(columns, holder_columns, sizeof(columns));
	/* Nothing in them, they are left out. */
	columns[HOLDER_USS].maybe = columns[HOLDER_PSS].maybe = !uss;
	vac_table_init(&table, columns, HOLDER_COUNT);
	for (uint32_t i = 0; i < holders->count; i++) {
		const struct vac_holder *holder = &holders->list[i];
		char *models =
			reply && holder->pid ? vac_ps_worker_models(reply, holder->pid) : NULL;

		if (holder->part_count == 0)
			add_holder(&table, machine, holder, NULL, models, uss);
		for (uint32_t k = 0; k < holder->part_count; k++)
			add_holder(&table, machine, holder, &holder->parts[k], models, uss);
		free(models);
	}
	rc = vac_table_print(&table, terminal);
	vac_table_free(&table);
	return rc;
}

static int print_devices(const struct vac_terminal *terminal, const struct vac_holders *holders)
{
	struct vac_table table;
	int rc;

	vac_table_init(&table, device_columns, DEVICE_COUNT);
	for (uint32_t i = 0; i < holders->device_count; i++) {
		const struct vac_holder_device *device = &holders->devices[i];
		const struct vac_survey_device *from = device->survey;
		char name[VAC_TEXT_BYTES], total[VAC_TEXT_BYTES], used[VAC_TEXT_BYTES];
		char left[VAC_TEXT_BYTES], unaccounted[VAC_TEXT_BYTES], gpu[VAC_TEXT_BYTES];
		const char *texts[DEVICE_COUNT] = {NULL};

		texts[DEVICE_DEVICE] = vac_device_name(from, name);
		if (from->result == VAC_SURVEY_ANSWERS) {
			texts[DEVICE_NAME] = from->name;
			texts[DEVICE_TOTAL] = vac_format_bytes(total, from->total_bytes);
			texts[DEVICE_USED] = vac_format_bytes(used, from->used_bytes);
			texts[DEVICE_FREE] = vac_format_bytes(left, from->free_bytes);
			texts[DEVICE_GPU] = vac_gauge_percent(&from->gpu_percent, gpu);
		}
		if (device->unaccounted_valid)
			texts[DEVICE_UNACCOUNTED] =
				vac_format_bytes(unaccounted, device->unaccounted_bytes);
		vac_table_row(&table, texts);
	}
	rc = vac_table_print(&table, terminal);
	vac_table_free(&table);
	return rc;
}

/* What the numbers do not say by themselves. */
static int print_notes(const struct vac_terminal *terminal, const struct vac_ps_machine *machine)
{
	const struct vac_holders *holders = &machine->holders;
	uint32_t late = 0;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < holders->device_count; i++) {
		const struct vac_holder_device *device = &holders->devices[i];
		char name[VAC_TEXT_BYTES], bytes[VAC_TEXT_BYTES], said[80];

		vac_device_name(device->survey, name);
		if (device->survey->result != VAC_SURVEY_ANSWERS)
			rc = vac_print_line(terminal, "%s: %s", name,
					    vac_survey_says(device->survey->result, said));
		else if (device->survey->mig)
			rc = vac_print_line(terminal,
					    "%s: is cut into instances (MIG); what is on them may "
					    "not be listed",
					    name);
		else if (!device->survey->listed)
			rc = vac_print_line(terminal, "%s: NVML does not list its processes", name);
		else if (device->unaccounted_valid &&
			 device->unaccounted_bytes >= WORTH_A_LINE_BYTES)
			rc = vac_print_line(
				terminal,
				"%s: %s are used by nobody listed: the driver, or another "
				"container",
				name, vac_format_bytes(bytes, device->unaccounted_bytes));
	}
	for (uint32_t i = 0; i < holders->count; i++)
		late += holders->list[i].usage_late;
	if (rc == 0 && late > 0)
		rc = vac_print_line(terminal, "%u of %u processes were not measured in time", late,
				    holders->count);
	return rc;
}

int vac_ps_print_machine(const struct vac_terminal *terminal, const struct vac_ps_machine *machine,
			 const json_t *reply, bool uss)
{
	const struct vac_holders *holders = &machine->holders;
	int rc = 0;

	if (holders->count > 0)
		rc = print_holders(terminal, machine, reply, uss);
	else if (machine->surveyed)
		rc = vac_print_line(terminal, "no process is on a GPU");
	if (rc == 0 && !machine->surveyed && machine->why.code == VAC_E_NOT_FOUND)
		return vac_print_line(terminal, "no GPU: NVML (libnvidia-ml.so.1) is not here");
	if (rc == 0 && !machine->surveyed)
		return vac_print_line(terminal, "no GPU: %s", machine->why.message);
	if (rc == 0 && holders->device_count == 0)
		return vac_print_line(terminal, "no GPU: NVML shows none");
	fputc('\n', terminal->file);
	if (rc == 0)
		rc = print_devices(terminal, holders);
	if (rc == 0)
		rc = print_notes(terminal, machine);
	return rc;
}
