/*
 * parking_why.c - who may make way for a load by the settings, and, where nobody can, one
 * line in the log that says of each who holds the room why not. The loop's thread only.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/parking_private.h"

#define NS_PER_MS INT64_C(1000000)
/* A load has waited for so long, or for as long as a process has to be idle. */
#define EXPLAIN_MS INT64_C(10000)
#define LINE_BYTES 1024
#define MIB(bytes) ((double)(bytes) / 1048576.0)

const char *vac_parking_unnamed(const struct vac_parking *parking, const struct vac_holder *holder)
{
	char command[VAC_CHOOSE_COMMAND_BYTES];
	bool user = false;

	if (holder->pid == 0)
		return "cannot be seen from here";
	for (uint32_t i = 0; i < parking->user_count; i++)
		user |= holder->uid_valid && holder->uid == parking->users[i];
	if (!user)
		return "is not of guard_users";
	if (!vac_choose_may_park(holder))
		return "is not one that is parked (vacate's own, no CUDA, or not running)";
	vac_choose_command(holder->pid, command);
	if (!vac_choose_matches(parking->patterns, parking->pattern_count, holder, command))
		return "is not named by guard_park";
	return NULL;
}

uint64_t vac_parking_bytes_on(const struct vac_holder *holder, const struct vac_survey *survey,
			      const char *uuid, bool *there)
{
	for (uint32_t i = 0; i < holder->part_count; i++) {
		const struct vac_holder_part *part = &holder->parts[i];

		if (strcmp(survey->devices[part->device].uuid, uuid) != 0)
			continue;
		*there = true;
		return part->bytes_valid ? part->bytes : 0;
	}
	*there = false;
	return 0;
}

struct line {
	char text[LINE_BYTES];
	size_t at;
	uint32_t left_out;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
	size_t room = sizeof(line->text) - line->at;
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(line->text + line->at, room, format, arguments);
	va_end(arguments);
	if (n > 0 && (size_t)n < room) {
		line->at += (size_t)n;
		return;
	}
	line->text[line->at] = '\0';
	line->left_out++;
}

static void add_idle(struct line *line, const char *who, const struct vac_server *server,
		     const struct vac_idle_process *process)
{
	double asked_s = (double)server->options.guard_idle_ms / 1e3;

	if (!process)
		add(line, "; %s was not seen before", who);
	else if (process->doubt != VAC_IDLE_SURE)
		add(line, "; %s: in doubt for %u looks (%s)", who, process->doubtful,
		    vac_idle_doubt_text(process->doubt));
	else
		add(line, "; %s was idle for %.1f s of %.1f", who,
		    (double)vac_idle_ms(&server->parking.idle, process) / 1e3, asked_s);
}

static void add_holder(struct line *line, const struct vac_server *server,
		       const struct vac_holder *holder, uint64_t bytes)
{
	const struct vac_parking *parking = &server->parking;
	const struct vac_idle_process *process =
		vac_idle_find(&parking->idle, holder->pid, holder->start_ticks);
	const char *unnamed = vac_parking_unnamed(parking, holder);
	int64_t asked_ms = server->options.guard_idle_ms;
	char who[96];

	snprintf(who, sizeof(who), "process %u (%.40s)",
		 holder->pid ? (unsigned)holder->pid : holder->nvml_pid,
		 *holder->name ? holder->name : "?");
	if (unnamed)
		add(line, "; %s %s", who, unnamed);
	else if (bytes == 0)
		add(line, "; %s: NVML does not tell how much it holds", who);
	else if (!process || (asked_ms > 0 && vac_idle_ms(&parking->idle, process) < asked_ms))
		add_idle(line, who, server, process);
	else if (vac_parking_find_refusal(parking, holder))
		add(line, "; %s could not be parked a moment ago", who);
	else
		add(line, "; %s could, and its %.1f MiB are too little", who, MIB(bytes));
}

void vac_parking_explain(const struct vac_server *server, struct vac_model *model,
			 const struct vac_survey *survey, const struct vac_holders *holders,
			 const char *uuid)
{
	struct vac_job *job = model->user;
	int64_t patience_ms = server->options.guard_idle_ms;
	struct line line = {.at = 0};
	bool there;

	if (patience_ms > EXPLAIN_MS)
		patience_ms = EXPLAIN_MS;
	if (!job || job->explained_ns == model->load_asked_ns ||
	    vac_now_ns() - model->load_asked_ns < patience_ms * NS_PER_MS)
		return;
	job->explained_ns = model->load_asked_ns;
	for (uint32_t i = 0; i < holders->count; i++) {
		uint64_t bytes = vac_parking_bytes_on(&holders->list[i], survey, uuid, &there);

		if (there)
			add_holder(&line, server, &holders->list[i], bytes);
	}
	if (line.left_out > 0)
		vac_log(VAC_LOG_INFO,
			"model %.100s lacks %.1f MiB on %s, and nobody can be parked for it now%s; "
			"and %u more",
			model->name, MIB(server->parking.missing_bytes), model->device->name,
			line.text, line.left_out);
	else
		vac_log(VAC_LOG_INFO,
			"model %.100s lacks %.1f MiB on %s, and nobody can be parked for it now%s",
			model->name, MIB(server->parking.missing_bytes), model->device->name,
			line.at ? line.text : "; NVML lists nobody there");
}
