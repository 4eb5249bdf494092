/* top_rows.c - see top_rows.h. */
#include "cli/top_rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000
/* Of a device's track; processes have their number and start there. */
#define DEVICE_KEY UINT64_MAX

/* ---- this machine ---- */

/* "gpu:0", "gpu:0,1" */
static void name_devices(const struct vac_holder *holder, const struct vac_holders *holders,
			 char to[VAC_TEXT_BYTES])
{
	size_t at = 0;

	to[0] = '\0';
	for (uint32_t i = 0; i < holder->part_count && at < VAC_TEXT_BYTES; i++)
		at += (size_t)snprintf(to + at, VAC_TEXT_BYTES - at, "%s%" PRIu32,
				       i == 0 ? "gpu:" : ",",
				       holders->devices[holder->parts[i].device].survey->index);
}

/* Of all its devices: it is as idle as where it was used last. */
static struct vac_top_idle idle_of(const struct vac_holder *holder)
{
	struct vac_top_idle idle = {0};

	for (uint32_t i = 0; i < holder->part_count; i++) {
		const struct vac_holder_part *part = &holder->parts[i];

		if (part->sm_percent.valid && part->sm_percent.value > 0)
			return (struct vac_top_idle){.valid = true, .busy = true};
		if (!part->idle_valid || (idle.valid && part->idle_ms >= idle.ms))
			continue;
		idle = (struct vac_top_idle){
			.valid = true, .at_least = part->idle_at_least, .ms = part->idle_ms};
	}
	return idle;
}

static void fill_process(struct vac_top_process *row, const struct vac_holder *holder,
			 const struct vac_holders *holders)
{
	const char *what = vac_holder_what(holder);
	char text[VAC_TEXT_BYTES];

	*row = (struct vac_top_process){
		.pid = holder->pid,
		.shown_pid = holder->pid ? (uint32_t)holder->pid : holder->nvml_pid,
		.start_ticks = holder->start_ticks,
		.color = vac_holder_state_color(holder->state),
		.ram_valid = holder->rss_valid,
		.ram_bytes = holder->rss_bytes,
		.idle = idle_of(holder),
	};
	row->vram_valid = vac_holder_bytes(holder, &row->vram_bytes);
	for (uint32_t i = 0; i < holder->part_count; i++) {
		const struct vac_gauge *use = &holder->parts[i].sm_percent;

		if (use->valid && (!row->gpu_percent.valid || use->value > row->gpu_percent.value))
			row->gpu_percent = *use;
	}
	if (holder->uid_valid)
		vac_top_clean(row->user, sizeof(row->user), vac_user_name(holder->uid, text));
	vac_top_clean(row->what, sizeof(row->what), what ? what : "");
	name_devices(holder, holders, row->devices);
	vac_top_clean(row->state, sizeof(row->state), vac_holder_state_text(holder));
	if (holder->state != VAC_HOLD_PARKED)
		return;
	row->vram_valid = true;
	if (holder->parked_valid)
		snprintf(row->state, sizeof(row->state), "parked %.20s",
			 vac_format_bytes(text, holder->parked_bytes));
}

static void fill_device(struct vac_top_device *row, const struct vac_holder_device *device)
{
	const struct vac_survey_device *from = device->survey;
	char said[80];

	*row = (struct vac_top_device){
		.index = from->index,
		.answers = from->result == VAC_SURVEY_ANSWERS,
		.total_bytes = from->total_bytes,
		.used_bytes = from->used_bytes,
		.free_bytes = from->free_bytes,
		.unaccounted_valid = device->unaccounted_valid,
		.unaccounted_bytes = device->unaccounted_bytes,
		.gpu_percent = from->gpu_percent,
	};
	vac_device_name(from, row->device);
	vac_top_clean(row->name, sizeof(row->name), from->name);
	if (!row->answers)
		vac_top_clean(row->error, sizeof(row->error), vac_survey_says(from->result, said));
}

struct vac_top_machine *vac_top_machine_of(const struct vac_ps_machine *from, int64_t now_ns)
{
	struct vac_top_machine *machine = calloc(1, sizeof(*machine));

	if (!machine)
		return NULL;
	machine->at_ns = now_ns;
	machine->surveyed = from->surveyed;
	if (!from->surveyed && from->why.code == VAC_E_NOT_FOUND)
		snprintf(machine->why, sizeof(machine->why),
			 "no GPU: NVML (libnvidia-ml.so.1) is not here");
	else if (!from->surveyed)
		snprintf(machine->why, sizeof(machine->why), "no GPU: %.240s", from->why.message);
	else if (from->holders.device_count == 0)
		snprintf(machine->why, sizeof(machine->why), "no GPU: NVML shows none");
	vac_top_clean(machine->why, sizeof(machine->why), machine->why);
	vac_top_clean(machine->driver, sizeof(machine->driver), from->survey.driver_version);
	vac_meter_host("", &machine->host);
	machine->processes = calloc(from->holders.count + 1, sizeof(*machine->processes));
	machine->devices =
		calloc(from->holders.device_count + (size_t)1, sizeof(*machine->devices));
	if (!machine->processes || !machine->devices) {
		vac_top_machine_free(machine);
		return NULL;
	}
	machine->process_count = from->holders.count;
	for (uint32_t i = 0; i < from->holders.count; i++)
		fill_process(&machine->processes[i], &from->holders.list[i], &from->holders);
	machine->device_count = from->holders.device_count;
	for (uint32_t i = 0; i < from->holders.device_count; i++)
		fill_device(&machine->devices[i], &from->holders.devices[i]);
	return machine;
}

void vac_top_machine_free(struct vac_top_machine *machine)
{
	if (machine) {
		free(machine->processes);
		free(machine->devices);
	}
	free(machine);
}

/* ---- a server ---- */

static bool get_bytes(const json_t *object, const char *name, uint64_t *bytes)
{
	int64_t number;

	if (!vac_reply_number(object, name, &number) || number < 0)
		return false;
	*bytes = (uint64_t)number;
	return true;
}

static void copy_text(char *to, size_t room, const char *text)
{
	vac_top_clean(to, room, text ? text : "");
}

static void fill_model(struct vac_top_model *row, const json_t *model)
{
	const json_t *plan = json_object_get(model, "plan");
	char text[VAC_TEXT_BYTES];
	int64_t number;
	const char *name = vac_reply_text(model, "name");

	snprintf(row->exact, sizeof(row->exact), "%s", name ? name : "");
	copy_text(row->name, sizeof(row->name), name);
	copy_text(row->state, sizeof(row->state), vac_ps_state_text(model, text));
	copy_text(row->device, sizeof(row->device), vac_reply_text(model, "device"));
	copy_text(row->until, sizeof(row->until), vac_ps_until_text(model, text));
	row->color = vac_state_color(vac_reply_text(model, "state"));
	if (vac_reply_number(model, "worker_pid", &number) && number > 0 && number <= INT32_MAX)
		row->worker = (pid_t)number;
	row->ram_valid = get_bytes(plan, "host_bytes", &row->ram_bytes);
	row->vram_valid = get_bytes(plan, "device_bytes", &row->vram_bytes);
	row->requests_valid = get_bytes(model, "requests", &row->requests);
	row->idle.valid = vac_reply_number(model, "idle_ms", &row->idle.ms);
}

static bool fill_server(struct vac_top_server *server, const json_t *reply)
{
	const json_t *models = json_object_get(reply, "models"), *item;
	const json_t *workers = json_object_get(reply, "workers");
	size_t i;

	server->models = calloc(json_array_size(models) + 1, sizeof(*server->models));
	if (!server->models)
		return false;
	json_array_foreach(models, i, item)
	{
		/* Without a name it can be neither told nor asked about. */
		if (vac_reply_text(item, "name"))
			fill_model(&server->models[server->model_count++], item);
	}
	server->workers_valid = true;
	json_array_foreach(workers, i, item)
	{
		uint64_t bytes = 0;

		server->workers_valid &=
			get_bytes(json_object_get(item, "usage"), "uss_bytes", &bytes);
		server->workers_bytes += bytes;
		server->worker_count++;
	}
	item = json_object_get(json_object_get(reply, "server"), "usage");
	server->own_valid = get_bytes(item, "uss_bytes", &server->own_bytes);
	return true;
}

struct vac_top_server *vac_top_server_of(const json_t *reply, const struct vac_error *why,
					 int64_t now_ns)
{
	struct vac_top_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->at_ns = now_ns;
	server->answered = reply != NULL;
	if (!reply) {
		server->late = why->code == VAC_E_TIMEOUT;
		vac_top_clean(server->error, sizeof(server->error), why->message);
	} else if (!fill_server(server, reply)) {
		free(server);
		return NULL;
	}
	return server;
}

void vac_top_server_free(struct vac_top_server *server)
{
	if (server)
		free(server->models);
	free(server);
}

/* ---- together ---- */

void vac_top_name_workers(struct vac_top_machine *machine, const struct vac_top_server *server)
{
	for (size_t i = 0; i < machine->process_count; i++) {
		struct vac_top_process *row = &machine->processes[i];
		size_t count = 0;

		for (size_t k = 0; row->pid > 0 && k < server->model_count; k++) {
			if (server->models[k].worker != row->pid)
				continue;
			if (count++ == 0)
				memcpy(row->what, server->models[k].name, sizeof(row->what));
		}
		if (count > 1)
			snprintf(row->what, sizeof(row->what), "%zu models", count);
	}
}

void vac_top_follow(struct vac_top_machine *machine, struct vac_top_tracks *tracks)
{
	int64_t now_ms = machine->at_ns / NS_PER_MS;

	for (size_t i = 0; i < machine->process_count; i++) {
		struct vac_top_process *row = &machine->processes[i];
		const struct vac_top_sample sample = {row->vram_valid, row->vram_bytes,
						      row->gpu_percent};

		row->track = vac_top_track(tracks, row->shown_pid, row->start_ticks);
		if (!row->track)
			continue;
		vac_top_history_add(&row->track->history, &sample);
		row->idle = vac_top_watch_idle(row->track, &row->idle, now_ms);
	}
	for (size_t i = 0; i < machine->device_count; i++) {
		struct vac_top_device *row = &machine->devices[i];
		const struct vac_top_sample sample = {row->answers, row->used_bytes,
						      row->gpu_percent};

		row->track = vac_top_track(tracks, DEVICE_KEY, row->index);
		if (row->track)
			vac_top_history_add(&row->track->history, &sample);
	}
	/* Where NVML did not answer, nobody has gone. */
	if (machine->surveyed)
		vac_top_sweep(tracks);
}
