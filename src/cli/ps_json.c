/* ps_json.c - `vacate ps --json`: processes and devices as JSON. One thread. */
#include "cli/ps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 15 digits: 29.9 stays 29.9. */
#define DUMP_FLAGS (JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15))

/* Where memory ends on the way, the whole is given up. */
struct writer {
	bool failed;
};

static void set(struct writer *w, json_t *object, const char *name, json_t *value)
{
	if (!value || json_object_set_new(object, name, value) != 0)
		w->failed = true;
}

static json_t *bytes_or_null(bool valid, uint64_t bytes)
{
	return valid && bytes <= INT64_MAX ? json_integer((json_int_t)bytes) : json_null();
}

static json_t *gauge_or_null(const struct vac_gauge *gauge)
{
	return gauge->valid ? json_integer(gauge->value) : json_null();
}

static json_t *text_or_null(const char *text)
{
	json_t *value = text && *text ? json_string(text) : json_null();

	/* Not UTF-8: what NVML says is not ours to trust. */
	return value ? value : json_string("?");
}

static json_t *make_part(struct writer *w, const struct vac_holders *holders,
			 const struct vac_holder_part *part)
{
	const struct vac_survey_device *device = holders->devices[part->device].survey;
	char name[VAC_TEXT_BYTES];
	json_t *object = json_object();

	if (!object)
		return NULL;
	set(w, object, "device", json_string(vac_device_name(device, name)));
	set(w, object, "uuid", text_or_null(device->uuid));
	set(w, object, "vram_bytes", bytes_or_null(part->bytes_valid, part->bytes));
	set(w, object, "graphics", json_boolean(part->graphics_only));
	set(w, object, "gpu_percent", gauge_or_null(&part->sm_percent));
	set(w, object, "idle_ms",
	    part->idle_valid ? json_integer((json_int_t)part->idle_ms) : json_null());
	set(w, object, "idle_at_least",
	    part->idle_valid ? json_boolean(part->idle_at_least) : json_null());
	return object;
}

static json_t *make_holder(struct writer *w, const struct vac_holders *holders,
			   const struct vac_holder *holder)
{
	json_t *object = json_object(), *parts = json_array();
	char user[VAC_TEXT_BYTES];

	if (!object || !parts) {
		json_decref(object);
		json_decref(parts);
		return NULL;
	}
	set(w, object, "pid", holder->pid ? json_integer(holder->pid) : json_null());
	set(w, object, "nvml_pid", holder->nvml_pid ? json_integer(holder->nvml_pid) : json_null());
	set(w, object, "inner_pid",
	    holder->inner_pid ? json_integer(holder->inner_pid) : json_null());
	set(w, object, "user",
	    holder->uid_valid ? text_or_null(vac_user_name(holder->uid, user)) : json_null());
	set(w, object, "uid", holder->uid_valid ? json_integer(holder->uid) : json_null());
	set(w, object, "name", text_or_null(holder->name));
	set(w, object, "state", json_string(vac_holder_state_text(holder)));
	set(w, object, "rss_bytes", bytes_or_null(holder->rss_valid, holder->rss_bytes));
	set(w, object, "uss_bytes", bytes_or_null(holder->usage.valid, holder->usage.uss_bytes));
	set(w, object, "pss_bytes", bytes_or_null(holder->usage.valid, holder->usage.pss_bytes));
	set(w, object, "uss_late", json_boolean(holder->usage_late));
	set(w, object, "parked_bytes", bytes_or_null(holder->parked_valid, holder->parked_bytes));
	set(w, object, "parked_by", text_or_null(holder->by));
	set(w, object, "parked_by_user",
	    holder->by_valid ? text_or_null(vac_user_name(holder->by_uid, user)) : json_null());
	for (uint32_t i = 0; i < holder->part_count; i++)
		if (json_array_append_new(parts, make_part(w, holders, &holder->parts[i])) != 0)
			w->failed = true;
	set(w, object, "devices", parts);
	return object;
}

static json_t *make_device(struct writer *w, const struct vac_holder_device *device)
{
	const struct vac_survey_device *from = device->survey;
	bool good = from->result == VAC_SURVEY_ANSWERS;
	char name[VAC_TEXT_BYTES], said[80];
	json_t *object = json_object();

	if (!object)
		return NULL;
	set(w, object, "device", json_string(vac_device_name(from, name)));
	set(w, object, "index", json_integer(from->index));
	set(w, object, "uuid", text_or_null(from->uuid));
	set(w, object, "name", text_or_null(from->name));
	set(w, object, "error",
	    good ? json_null() : json_string(vac_survey_says(from->result, said)));
	set(w, object, "total_bytes", bytes_or_null(good, from->total_bytes));
	set(w, object, "used_bytes", bytes_or_null(good, from->used_bytes));
	set(w, object, "free_bytes", bytes_or_null(good, from->free_bytes));
	set(w, object, "reserved_bytes", bytes_or_null(from->reserved_valid, from->reserved_bytes));
	set(w, object, "listed_bytes", bytes_or_null(good && from->listed, device->listed_bytes));
	set(w, object, "unaccounted_bytes",
	    bytes_or_null(device->unaccounted_valid, device->unaccounted_bytes));
	set(w, object, "gpu_percent", gauge_or_null(&from->gpu_percent));
	set(w, object, "memory_percent", gauge_or_null(&from->memory_percent));
	set(w, object, "temperature_celsius", gauge_or_null(&from->celsius));
	set(w, object, "power_milliwatts", gauge_or_null(&from->milliwatts));
	set(w, object, "mig", json_boolean(from->mig));
	return object;
}

int vac_ps_add_machine(json_t *document, const struct vac_ps_machine *machine)
{
	const struct vac_holders *holders = &machine->holders;
	json_t *processes = json_array(), *devices = json_array();
	struct writer w = {0};

	for (uint32_t i = 0; processes && i < holders->count; i++)
		if (json_array_append_new(processes, make_holder(&w, holders, &holders->list[i])) !=
		    0)
			w.failed = true;
	for (uint32_t i = 0; devices && i < holders->device_count; i++)
		if (json_array_append_new(devices, make_device(&w, &holders->devices[i])) != 0)
			w.failed = true;
	set(&w, document, "processes", processes);
	set(&w, document, "devices", devices);
	set(&w, document, "driver_version",
	    text_or_null(machine->surveyed ? machine->survey.driver_version : NULL));
	set(&w, document, "gpu_error",
	    machine->surveyed ? json_null() : text_or_null(machine->why.message));
	return w.failed ? -ENOMEM : 0;
}

int vac_ps_print_json(const struct vac_command *command, json_t *document)
{
	int rc = document ? json_dumpf(document, stdout, DUMP_FLAGS) : -1;

	json_decref(document);
	if (rc != 0) {
		/* A disk that is full is told when the program ends. */
		if (!ferror(stdout))
			vac_complain(command, "out of memory for the document");
		return VAC_EXIT_FAILED;
	}
	fputc('\n', stdout);
	return VAC_EXIT_OK;
}
