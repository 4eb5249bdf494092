/*
 * ps_formats.c - `vacate ps --gpustat` and `--gputil`: for scripts that read what
 * gpustat --json and GPUtil.showUtilization() print. Units are theirs: MiB, watts. One
 * thread.
 */
#include "cli/ps.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/quote.h"

#define MIB          ((uint64_t)1 << 20)
#define CPU_LOOK_MS  100 /* between two readings of what a process used */
#define CMDLINE_ROOM 8192

struct gpustat {
	const struct vac_ps_machine *machine;
	uint64_t *ticks; /* of each holder, at started_ns */
	int64_t started_ns;
	bool failed;
};

static void set(struct gpustat *g, json_t *object, const char *name, json_t *value)
{
	if (!value || json_object_set_new(object, name, value) != 0)
		g->failed = true;
}

static json_t *gauge(const struct vac_gauge *from, uint32_t divisor)
{
	return from->valid ? json_integer(from->value / divisor) : json_null();
}

static json_t *clean_text(const char *text, size_t bytes)
{
	char *copy = strndup(text, bytes);
	json_t *value;

	if (!copy)
		return NULL;
	if (!vac_utf8_valid(copy, strlen(copy)))
		for (char *c = copy; *c; c++)
			if ((unsigned char)*c >= 0x80)
				*c = '?';
	value = json_string(copy);
	free(copy);
	return value;
}

static bool read_ticks(pid_t pid, uint64_t *ticks)
{
	struct vac_proc_stat stat;
	char text[1024];
	ssize_t n = vac_proc_text("", pid, "stat", text, sizeof(text));

	if (n <= 0 || !vac_proc_parse_stat(text, (size_t)n, &stat))
		return false;
	*ticks = stat.cpu_ticks;
	return true;
}

static double cpu_percent(const struct gpustat *g, uint32_t index)
{
	uint64_t now;
	double seconds = (double)(vac_now_ns() - g->started_ns) / 1e9;

	if (!read_ticks(g->machine->holders.list[index].pid, &now) || now < g->ticks[index] ||
	    seconds <= 0)
		return 0;
	return round(1000.0 * (double)(now - g->ticks[index]) / (double)sysconf(_SC_CLK_TCK) /
		     seconds) /
	       10.0;
}

/* The arguments as a list, and the first one's last part. */
static void set_command(struct gpustat *g, json_t *object, pid_t pid)
{
	char text[CMDLINE_ROOM];
	ssize_t n = vac_proc_text("", pid, "cmdline", text, sizeof(text));
	json_t *words = json_array();
	const char *slash;

	if (!words) {
		g->failed = true;
		return;
	}
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(text + at) + 1)
		if (json_array_append_new(words, clean_text(text + at, strlen(text + at))) != 0)
			g->failed = true;
	if (n <= 0 && json_array_append_new(words, json_string("?")) != 0)
		g->failed = true;
	slash = n > 0 ? strrchr(text, '/') : NULL;
	set(g, object, "command",
	    n > 0 ? clean_text(slash ? slash + 1 : text, sizeof(text)) : json_string("?"));
	set(g, object, "full_command", words);
}

static json_t *make_process(struct gpustat *g, uint32_t index, const struct vac_holder_part *part)
{
	const struct vac_holder *holder = &g->machine->holders.list[index];
	json_t *object = json_object();
	char user[VAC_TEXT_BYTES];

	if (!object)
		return NULL;
	set(g, object, "username",
	    holder->uid_valid ? clean_text(vac_user_name(holder->uid, user), VAC_TEXT_BYTES)
			      : json_null());
	set_command(g, object, holder->pid);
	set(g, object, "gpu_memory_usage",
	    part->bytes_valid ? json_integer((json_int_t)(part->bytes / MIB)) : json_null());
	set(g, object, "cpu_percent", json_real(cpu_percent(g, index)));
	set(g, object, "cpu_memory_usage", json_integer((json_int_t)holder->rss_bytes));
	set(g, object, "pid", json_integer(holder->pid));
	return object;
}

/* Those of a device, as gpustat has them: without those that cannot be seen. */
static json_t *make_processes(struct gpustat *g, uint32_t device)
{
	const struct vac_holders *holders = &g->machine->holders;
	json_t *list;

	if (!holders->devices[device].survey->listed)
		return json_null();
	list = json_array();
	for (uint32_t i = 0; list && i < holders->count; i++) {
		const struct vac_holder *holder = &holders->list[i];

		for (uint32_t k = 0; holder->pid && k < holder->part_count; k++)
			if (holder->parts[k].device == device &&
			    json_array_append_new(list, make_process(g, i, &holder->parts[k])) != 0)
				g->failed = true;
	}
	return list;
}

static json_t *make_gpu(struct gpustat *g, uint32_t index)
{
	const struct vac_survey_device *from = g->machine->holders.devices[index].survey;
	json_t *object = json_object();

	if (!object)
		return NULL;
	set(g, object, "index", json_integer(from->index));
	set(g, object, "uuid", clean_text(from->uuid, sizeof(from->uuid)));
	set(g, object, "name", clean_text(from->name, sizeof(from->name)));
	set(g, object, "temperature.gpu", gauge(&from->celsius, 1));
	set(g, object, "fan.speed", gauge(&from->fan_percent, 1));
	set(g, object, "utilization.gpu", gauge(&from->gpu_percent, 1));
	set(g, object, "utilization.enc", gauge(&from->encoder_percent, 1));
	set(g, object, "utilization.dec", gauge(&from->decoder_percent, 1));
	set(g, object, "power.draw", gauge(&from->milliwatts, 1000));
	set(g, object, "enforced.power.limit", gauge(&from->limit_milliwatts, 1000));
	set(g, object, "memory.used", json_integer((json_int_t)(from->used_bytes / MIB)));
	set(g, object, "memory.total", json_integer((json_int_t)(from->total_bytes / MIB)));
	set(g, object, "processes", make_processes(g, index));
	return object;
}

/* Local time without a zone, as Python's datetime.now() writes it. */
static json_t *query_time(void)
{
	struct timeval now;
	char text[64];
	struct tm local;
	size_t n;

	gettimeofday(&now, NULL);
	localtime_r(&now.tv_sec, &local);
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &local);
	snprintf(text + n, sizeof(text) - n, ".%06ld", (long)now.tv_usec);
	return json_string(text);
}

int vac_ps_gpustat(const struct vac_command *command, const struct vac_ps_machine *machine)
{
	const struct vac_holders *holders = &machine->holders;
	struct gpustat g = {.machine = machine};
	json_t *document = json_object(), *gpus = json_array();
	char host[256] = "";

	g.ticks = calloc((size_t)holders->count + 1, sizeof(*g.ticks));
	if (!g.ticks || !document || !gpus) {
		g.failed = true;
		goto out;
	}
	g.started_ns = vac_now_ns();
	for (uint32_t i = 0; i < holders->count; i++)
		if (holders->list[i].pid)
			(void)read_ticks(holders->list[i].pid, &g.ticks[i]);
	if (holders->count > 0)
		usleep(CPU_LOOK_MS * 1000);
	(void)gethostname(host, sizeof(host) - 1);
	set(&g, document, "hostname", clean_text(host, sizeof(host)));
	set(&g, document, "driver_version",
	    clean_text(machine->survey.driver_version, sizeof(machine->survey.driver_version)));
	set(&g, document, "query_time", query_time());
	/* One that does not answer has none of this. */
	for (uint32_t i = 0; i < holders->device_count; i++)
		if (holders->devices[i].survey->result == VAC_SURVEY_ANSWERS &&
		    json_array_append_new(gpus, make_gpu(&g, i)) != 0)
			g.failed = true;
	set(&g, document, "gpus", json_incref(gpus));
out:
	json_decref(gpus);
	free(g.ticks);
	if (g.failed) {
		json_decref(document);
		document = NULL;
	}
	return vac_ps_print_json(command, document);
}

#define GPUTIL_COLUMNS    3
#define GPUTIL_CELL_BYTES 16

/* What GPUtil prints of a device; false: nothing. */
static bool gputil_row(const struct vac_survey_device *from,
		       char cells[GPUTIL_COLUMNS][GPUTIL_CELL_BYTES])
{
	if (from->result != VAC_SURVEY_ANSWERS || from->total_bytes == 0)
		return false;
	snprintf(cells[0], GPUTIL_CELL_BYTES, "%u", from->index);
	if (from->gpu_percent.valid)
		snprintf(cells[1], GPUTIL_CELL_BYTES, "%u%%", from->gpu_percent.value);
	else
		snprintf(cells[1], GPUTIL_CELL_BYTES, "nan%%");
	snprintf(cells[2], GPUTIL_CELL_BYTES, "%.0f%%",
		 100.0 * (double)from->used_bytes / (double)from->total_bytes);
	return true;
}

/* Each column is as wide as its name or its widest cell. */
int vac_ps_gputil(const struct vac_ps_machine *machine)
{
	static const char *const names[GPUTIL_COLUMNS] = {"ID", "GPU", "MEM"};
	char cells[GPUTIL_COLUMNS][GPUTIL_CELL_BYTES];
	const struct vac_holders *holders = &machine->holders;
	int widths[GPUTIL_COLUMNS], line = 1;

	for (size_t c = 0; c < GPUTIL_COLUMNS; c++)
		widths[c] = (int)strlen(names[c]);
	for (uint32_t i = 0; i < holders->device_count; i++)
		for (size_t c = 0;
		     c < GPUTIL_COLUMNS && gputil_row(holders->devices[i].survey, cells); c++)
			if ((int)strlen(cells[c]) > widths[c])
				widths[c] = (int)strlen(cells[c]);
	for (size_t c = 0; c < GPUTIL_COLUMNS; c++) {
		printf("| %-*s ", widths[c], names[c]);
		line += widths[c] + 3;
	}
	printf("|\n");
	for (int i = 0; i < line; i++)
		putchar('-');
	putchar('\n');
	for (uint32_t i = 0; i < holders->device_count; i++) {
		if (!gputil_row(holders->devices[i].survey, cells))
			continue;
		for (size_t c = 0; c < GPUTIL_COLUMNS; c++)
			printf("| %*s ", widths[c], cells[c]);
		printf("|\n");
	}
	return VAC_EXIT_OK;
}
