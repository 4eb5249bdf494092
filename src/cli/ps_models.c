/* ps_models.c - what `vacate ps` shows of a server's reply. One thread. */
#include "cli/ps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	COLUMN_NAME,
	COLUMN_STATE,
	COLUMN_DEVICE,
	COLUMN_RAM,
	COLUMN_VRAM,
	COLUMN_WORKER,
	COLUMN_REQUESTS,
	COLUMN_IDLE,
	COLUMN_UNTIL,
	COLUMN_PRIORITY,
	COLUMN_ALIASES,
	COLUMN_COUNT
};

static const struct vac_column columns[COLUMN_COUNT] = {
	[COLUMN_NAME] = {.header = "NAME", .shrink = true},
	[COLUMN_STATE] = {.header = "STATE"},
	[COLUMN_DEVICE] = {.header = "DEVICE", .rank = 3},
	[COLUMN_RAM] = {.header = "RAM", .right = true},
	[COLUMN_VRAM] = {.header = "VRAM", .right = true, .maybe = true},
	[COLUMN_WORKER] = {.header = "WORKER", .right = true, .rank = 2},
	[COLUMN_REQUESTS] = {.header = "REQUESTS", .right = true, .rank = 1},
	[COLUMN_IDLE] = {.header = "IDLE", .right = true, .rank = 4},
	[COLUMN_UNTIL] = {.header = "UNTIL", .right = true},
	[COLUMN_PRIORITY] = {.header = "PRIORITY", .right = true, .maybe = true, .rank = 5},
	[COLUMN_ALIASES] = {.header = "ALIASES", .maybe = true, .rank = 6},
};

enum {
	PROCESS_ROLE,
	PROCESS_PID,
	PROCESS_DEVICE,
	PROCESS_MODELS,
	PROCESS_USS,
	PROCESS_PSS,
	PROCESS_RSS,
	PROCESS_VRAM,
	PROCESS_COUNT
};

static const struct vac_column process_columns[PROCESS_COUNT] = {
	[PROCESS_ROLE] = {.header = "PROCESS"},
	[PROCESS_PID] = {.header = "PID", .right = true},
	[PROCESS_DEVICE] = {.header = "DEVICE", .shrink = true},
	[PROCESS_MODELS] = {.header = "MODELS", .right = true, .rank = 3},
	[PROCESS_USS] = {.header = "USS", .right = true},
	[PROCESS_PSS] = {.header = "PSS", .right = true, .rank = 1},
	[PROCESS_RSS] = {.header = "RSS", .right = true, .rank = 2},
	[PROCESS_VRAM] = {.header = "VRAM", .right = true, .maybe = true},
};

const char *vac_ps_state_text(const json_t *model, char to[VAC_TEXT_BYTES])
{
	const char *state = vac_reply_text(model, "state");
	const json_t *load = json_object_get(model, "load");
	int64_t done, total;

	if (!state || strcmp(state, "loading") != 0 ||
	    !vac_reply_number(load, "done_bytes", &done) ||
	    !vac_reply_number(load, "total_bytes", &total) || total <= 0 || done < 0)
		return state;
	if (done > total)
		done = total;
	snprintf(to, VAC_TEXT_BYTES, "loading %d%%", (int)(100.0 * (double)done / (double)total));
	return to;
}

static bool any_priority(const json_t *models)
{
	const json_t *model;
	int64_t priority;
	size_t i;

	json_array_foreach(models, i, model)
	{
		if (vac_reply_number(model, "priority", &priority) && priority != 0)
			return true;
	}
	return false;
}

/* "4242", and of a worker that is the model's alone "4242 own". */
static const char *worker_text(const json_t *model, char to[VAC_TEXT_BYTES])
{
	const char *pid = vac_reply_count(model, "worker_pid", to);

	if (pid && vac_reply_flag(model, "isolate"))
		snprintf(to + strlen(to), VAC_TEXT_BYTES - strlen(to), " own");
	return pid;
}

/* null says never, but only of a model that is there to stay. */
const char *vac_ps_until_text(const json_t *model, char to[VAC_TEXT_BYTES])
{
	const char *state = vac_reply_text(model, "state");

	if (!state || (strcmp(state, "resident") != 0 && strcmp(state, "parked") != 0) ||
	    !json_is_null(json_object_get(model, "expires_ms")))
		return vac_reply_ms(model, "expires_ms", to);
	return vac_reply_flag(model, "pinned") ? "pinned" : "forever";
}

static void add_model(struct vac_table *table, const json_t *model, bool priorities)
{
	char state[VAC_TEXT_BYTES], ram[VAC_TEXT_BYTES], vram[VAC_TEXT_BYTES];
	char pid[VAC_TEXT_BYTES];
	char requests[VAC_TEXT_BYTES], idle[VAC_TEXT_BYTES], until[VAC_TEXT_BYTES];
	char priority[VAC_TEXT_BYTES];
	const char *name = vac_reply_text(model, "state");
	const char *texts[COLUMN_COUNT] = {NULL};
	char *aliases = vac_reply_texts(model, "aliases");
	int64_t number;

	texts[COLUMN_NAME] = vac_reply_text(model, "name");
	texts[COLUMN_STATE] = vac_ps_state_text(model, state);
	texts[COLUMN_DEVICE] = vac_reply_text(model, "device");
	texts[COLUMN_RAM] = vac_reply_bytes(json_object_get(model, "plan"), "host_bytes", ram);
	texts[COLUMN_VRAM] = vac_reply_vram(model, vram);
	texts[COLUMN_WORKER] = worker_text(model, pid);
	texts[COLUMN_REQUESTS] = vac_reply_count(model, "requests", requests);
	texts[COLUMN_IDLE] = vac_reply_ms(model, "idle_ms", idle);
	texts[COLUMN_UNTIL] = vac_ps_until_text(model, until);
	if (priorities && vac_reply_number(model, "priority", &number)) {
		snprintf(priority, sizeof(priority), "%" PRId64, number);
		texts[COLUMN_PRIORITY] = priority;
	}
	texts[COLUMN_ALIASES] = aliases;
	vac_table_row(table, texts);
	free(aliases);
	vac_table_color(table, COLUMN_STATE, vac_state_color(name));
}

static void add_process(struct vac_table *table, const char *role, const json_t *process)
{
	const json_t *usage = json_object_get(process, "usage");
	char pid[VAC_TEXT_BYTES], models[VAC_TEXT_BYTES], uss[VAC_TEXT_BYTES];
	char pss[VAC_TEXT_BYTES], rss[VAC_TEXT_BYTES], vram[VAC_TEXT_BYTES];
	int64_t bytes;
	const char *texts[PROCESS_COUNT] = {NULL};

	texts[PROCESS_ROLE] = role;
	texts[PROCESS_PID] = vac_reply_count(process, "pid", pid);
	texts[PROCESS_DEVICE] = vac_reply_text(process, "device");
	texts[PROCESS_MODELS] = vac_reply_count(process, "models", models);
	texts[PROCESS_USS] = vac_reply_bytes(usage, "uss_bytes", uss);
	texts[PROCESS_PSS] = vac_reply_bytes(usage, "pss_bytes", pss);
	texts[PROCESS_RSS] = vac_reply_bytes(usage, "rss_bytes", rss);
	if (vac_reply_number(process, "vram_bytes", &bytes))
		texts[PROCESS_VRAM] = vac_reply_bytes(process, "vram_bytes", vram);
	vac_table_row(table, texts);
}

static void add_models(struct vac_table *table, const json_t *models)
{
	bool priorities = any_priority(models);
	const json_t *model;
	size_t i;

	json_array_foreach(models, i, model) add_model(table, model, priorities);
}

static void add_processes(struct vac_table *table, const json_t *reply)
{
	const json_t *worker;
	size_t i;

	json_array_foreach(json_object_get(reply, "workers"), i, worker)
		add_process(table, "worker", worker);
	add_process(table, "server", json_object_get(reply, "server"));
}

static int print_table(const struct vac_terminal *terminal, const struct vac_column *of,
		       size_t count, void (*add)(struct vac_table *table, const json_t *from),
		       const json_t *from)
{
	struct vac_table table;
	int rc;

	vac_table_init(&table, of, count);
	add(&table, from);
	rc = vac_table_print(&table, terminal);
	vac_table_free(&table);
	return rc;
}

/* Why a model cannot be had, in the server's words. */
static int print_reasons(const struct vac_terminal *terminal, const json_t *models)
{
	const json_t *model;
	size_t i;

	json_array_foreach(models, i, model)
	{
		const char *reason = vac_reply_text(model, "reason");

		if (reason &&
		    vac_print_line(terminal, "%s: %s", vac_reply_text(model, "name"), reason) != 0)
			return -1;
	}
	return 0;
}

/* Of workers that nothing confines. */
static int print_unconfined(const struct vac_terminal *terminal, const json_t *workers)
{
	const json_t *worker;
	size_t i;

	json_array_foreach(workers, i, worker)
	{
		const char *sandbox = vac_reply_text(worker, "sandbox");
		char pid[VAC_TEXT_BYTES];
		const char *number = vac_reply_count(worker, "pid", pid);

		const char *description = vac_reply_text(worker, "description");

		/* One that starts has not said anything yet. */
		if (!json_object_get(worker, "sandbox") || !description || !*description ||
		    (sandbox && strncmp(sandbox, "none", 4) != 0))
			continue;
		if (vac_print_line(terminal, "worker %s runs without a sandbox: %s",
				   number ? number : "-",
				   sandbox ? sandbox : "it says nothing about one") != 0)
			return -1;
	}
	return 0;
}

/* "cuda:0: 2.1 GiB of 79.6 GiB used, 1 process, NVIDIA H100 80GB HBM3" */
static int print_gpus(const struct vac_terminal *terminal, const json_t *gpus)
{
	char used[VAC_TEXT_BYTES], total[VAC_TEXT_BYTES];
	const json_t *gpu;
	int64_t count;
	size_t i;

	json_array_foreach(gpus, i, gpu)
	{
		const char *device = vac_reply_text(gpu, "device");
		const char *name = vac_reply_text(gpu, "name");

		if (!vac_reply_number(gpu, "processes", &count))
			count = 0;
		if (vac_print_line(terminal, "%s: %s of %s used, %lld process%s, %s",
				   device ? device : "-", vac_reply_bytes(gpu, "used_bytes", used),
				   vac_reply_bytes(gpu, "total_bytes", total), (long long)count,
				   count == 1 ? "" : "es", name ? name : "-") != 0)
			return -1;
	}
	return 0;
}

int vac_ps_print_host(const struct vac_terminal *terminal, const json_t *host)
{
	char available[VAC_TEXT_BYTES], total[VAC_TEXT_BYTES], used[VAC_TEXT_BYTES];
	char limit[VAC_TEXT_BYTES];
	int64_t bytes;
	int rc;

	if (!json_is_object(host))
		return 0;
	rc = vac_print_line(terminal, "host: %s of %s available",
			    vac_reply_bytes(host, "available_bytes", available),
			    vac_reply_bytes(host, "total_bytes", total));
	if (rc == 0 && vac_reply_number(host, "cgroup_limit_bytes", &bytes))
		rc = vac_print_line(terminal, "cgroup: %s of %s used",
				    vac_reply_bytes(host, "cgroup_used_bytes", used),
				    vac_reply_bytes(host, "cgroup_limit_bytes", limit));
	return rc;
}

int vac_ps_print_server(const struct vac_terminal *terminal, const json_t *reply,
			const json_t *models, bool gpus)
{
	int rc = json_array_size(models) == 0
			 ? vac_print_line(terminal, "no model is loaded")
			 : print_table(terminal, columns, COLUMN_COUNT, add_models, models);

	if (rc == 0)
		rc = print_reasons(terminal, models);
	fputc('\n', terminal->file);
	if (rc == 0)
		rc = print_table(terminal, process_columns, PROCESS_COUNT, add_processes, reply);
	if (rc == 0)
		rc = print_unconfined(terminal, json_object_get(reply, "workers"));
	if (rc == 0)
		rc = vac_ps_print_host(terminal, json_object_get(reply, "host"));
	if (rc == 0 && gpus)
		rc = print_gpus(terminal, json_object_get(reply, "gpus"));
	return rc;
}

char *vac_ps_worker_models(const json_t *reply, pid_t pid)
{
	const char *only = NULL;
	const json_t *model;
	size_t i, count = 0;
	char *text = NULL;
	int64_t number;

	json_array_foreach(json_object_get(reply, "models"), i, model)
	{
		if (!vac_reply_number(model, "worker_pid", &number) || number != pid)
			continue;
		only = vac_reply_text(model, "name");
		count++;
	}
	if (count == 1 && only)
		text = strdup(only);
	else if (count > 0 && asprintf(&text, "%zu models", count) < 0)
		text = NULL;
	return text;
}
