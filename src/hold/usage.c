/* usage.c - see usage.h. */
#include "hold/usage.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define NS_PER_MS    1000000
#define MOST_OPENERS 4096 /* processes that have the driver open */
#define MOST_HOLDERS 16384

/* A process that has files of the driver open. */
struct opener {
	struct vac_proc_nvidia has;
	uint32_t pid_count;
	pid_t pids[VAC_PROC_NAMESPACES]; /* the first is this /proc's */
};

struct look {
	const char *root;
	int64_t deadline_ns;
	pid_t except;
	struct vac_holders *out;
	bool complete; /* the driver's files are here, so that openers mean something */
	bool failed;   /* no memory */
	struct opener *openers;
	size_t count, capacity;
};

static struct vac_holder *add_holder(struct vac_holders *out)
{
	if (out->count == out->capacity) {
		uint32_t capacity = out->capacity ? out->capacity * 2 : 32;
		struct vac_holder *larger = NULL;

		if (capacity <= MOST_HOLDERS)
			larger = realloc(out->list, capacity * sizeof(*larger));
		if (!larger)
			return NULL;
		out->list = larger;
		out->capacity = capacity;
	}
	memset(&out->list[out->count], 0, sizeof(out->list[0]));
	return &out->list[out->count++];
}

static struct vac_holder *find_listed(struct vac_holders *out, uint32_t pid)
{
	for (uint32_t i = 0; i < out->count; i++)
		if (out->list[i].nvml_pid == pid)
			return &out->list[i];
	return NULL;
}

static struct vac_holder *find_here(struct vac_holders *out, pid_t pid)
{
	for (uint32_t i = 0; i < out->count; i++)
		if (out->list[i].pid == pid)
			return &out->list[i];
	return NULL;
}

static struct vac_holder_part make_part(const struct vac_survey *survey, uint32_t device,
					const struct vac_survey_process *process)
{
	const struct vac_survey_device *from = &survey->devices[device];
	struct vac_holder_part part = {
		.device = device,
		.bytes_valid = process->bytes_valid,
		.bytes = process->bytes,
		.graphics_only = process->graphics && !process->compute,
		.sm_percent = process->sm_percent,
	};
	int64_t since = process->used_at_us ? process->used_at_us : from->since_us;

	if (from->sampled && since > 0) {
		part.idle_valid = true;
		part.idle_at_least = process->used_at_us == 0;
		/* The clock may have been set back. */
		part.idle_ms = survey->at_us > since ? (survey->at_us - since) / 1000 : 0;
	}
	return part;
}

/* false: no memory. Few processes are on more devices than one. */
static bool add_part(struct vac_holder *holder, struct vac_holder_part part)
{
	struct vac_holder_part *larger =
		realloc(holder->parts, (holder->part_count + (size_t)1) * sizeof(*larger));

	if (!larger)
		return false;
	holder->parts = larger;
	holder->parts[holder->part_count++] = part;
	return true;
}

/* false: no memory. */
static bool add_device(const struct vac_survey *survey, uint32_t index, struct vac_holders *out)
{
	const struct vac_survey_device *from = &survey->devices[index];
	struct vac_holder_device *device = &out->devices[index];

	*device = (struct vac_holder_device){
		.survey = from,
		.unaccounted_valid = from->result == VAC_SURVEY_ANSWERS && from->listed};
	for (uint32_t i = 0; i < from->process_count; i++) {
		const struct vac_survey_process *process = &from->processes[i];
		struct vac_holder *holder = find_listed(out, process->pid);

		if (!holder)
			holder = add_holder(out);
		if (!holder)
			return false;
		holder->nvml_pid = process->pid;
		holder->state = VAC_HOLD_RUNNING;
		if (!add_part(holder, make_part(survey, index, process)))
			return false;
		device->listed_bytes += process->bytes;
		device->unaccounted_valid &= process->bytes_valid;
	}
	if (device->unaccounted_valid && from->used_bytes > device->listed_bytes)
		device->unaccounted_bytes = from->used_bytes - device->listed_bytes;
	return true;
}

static bool look_at(void *ctx, pid_t pid)
{
	struct look *look = ctx;
	struct vac_proc_status status;
	struct vac_proc_nvidia has;
	struct opener *opener;
	char text[4096];
	ssize_t n;
	int rc;

	if (vac_now_ns() > look->deadline_ns) {
		look->out->cut_short = true;
		return false;
	}
	rc = pid == look->except ? -1 : vac_proc_nvidia(look->root, pid, &has);
	if (rc == -EACCES || rc == -EPERM)
		look->out->hidden++;
	if (rc < 0 || has.descriptors == 0)
		return true;
	if (look->count == look->capacity) {
		size_t capacity = look->capacity ? look->capacity * 2 : 64;
		struct opener *larger;

		/* Whoever has so many hides what comes behind them, and breaks nothing. */
		if (capacity > MOST_OPENERS) {
			look->out->cut_short = true;
			return false;
		}
		larger = realloc(look->openers, capacity * sizeof(*larger));
		look->failed = !larger;
		if (!larger)
			return false;
		look->openers = larger;
		look->capacity = capacity;
	}
	opener = &look->openers[look->count++];
	*opener = (struct opener){.has = has, .pid_count = 1, .pids = {pid}};
	n = vac_proc_text(look->root, pid, "status", text, sizeof(text));
	if (n > 0 && vac_proc_parse_status(text, (size_t)n, &status) && status.pid_count > 0) {
		opener->pid_count = status.pid_count;
		memcpy(opener->pids, status.pids, sizeof(status.pids));
		opener->pids[0] = pid;
	}
	return true;
}

static const struct opener *find_opener(const struct look *look, pid_t pid)
{
	for (size_t i = 0; i < look->count; i++)
		if (look->openers[i].pids[0] == pid)
			return &look->openers[i];
	return NULL;
}

/* The one process that is called so in a namespace further in; 0: none, or two. */
static pid_t find_inner(const struct look *look, struct vac_holders *out, pid_t pid)
{
	pid_t found = 0;

	for (size_t i = 0; i < look->count; i++) {
		const struct opener *opener = &look->openers[i];

		/* NVML's own number of another is not free to be this one's. */
		if (find_here(out, opener->pids[0]))
			continue;
		for (uint32_t k = 1; k < opener->pid_count; k++) {
			if (opener->pids[k] != pid || found == opener->pids[0])
				continue;
			if (found)
				return 0;
			found = opener->pids[0];
		}
	}
	return found;
}

/* May the process that has this number here be the one that NVML means? */
static bool plausible(const struct look *look, pid_t pid)
{
	struct vac_proc_nvidia has;

	if (!look->complete || find_opener(look, pid))
		return true;
	/* Not looked at so far, or not ours to look at: there is nothing against it. */
	return vac_proc_nvidia(look->root, pid, &has) != 0 || has.descriptors > 0;
}

static void describe(const char *root, struct vac_holder *holder)
{
	struct vac_proc proc;

	if (holder->pid == 0 || vac_proc_read(root, holder->pid, &proc) < 0) {
		holder->pid = 0;
		return;
	}
	holder->start_ticks = proc.stat.start_ticks;
	holder->cpu_ticks = proc.stat.cpu_ticks;
	holder->uid_valid = proc.status.uid_valid;
	holder->uid = proc.status.uid;
	snprintf(holder->name, sizeof(holder->name), "%s", proc.name);
	holder->rss_valid = proc.rss_valid;
	holder->rss_bytes = proc.rss_bytes;
	if (proc.status.pid_count > 1)
		holder->inner_pid = proc.status.pids[proc.status.pid_count - 1];
}

static void find_processes(const struct look *look, struct vac_holders *out)
{
	char text[64];

	for (uint32_t i = 0; i < out->count; i++) {
		struct vac_holder *holder = &out->list[i];
		pid_t pid = holder->nvml_pid <= INT_MAX ? (pid_t)holder->nvml_pid : 0;

		if (pid > 0 && vac_proc_text(look->root, pid, "comm", text, sizeof(text)) >= 0 &&
		    plausible(look, pid))
			holder->pid = pid;
	}
	for (uint32_t i = 0; i < out->count; i++)
		if (out->list[i].pid == 0 && out->list[i].nvml_pid <= INT_MAX)
			out->list[i].pid = find_inner(look, out, (pid_t)out->list[i].nvml_pid);
	for (uint32_t i = 0; i < out->count; i++)
		describe(look->root, &out->list[i]);
}

/* A record says what was done last, NVML whether the process is on a device now: a
 * parked one is not. Where they differ, somebody was interrupted, or another program
 * has parked or resumed it. VAC_HOLD_UNKNOWN: the record is of no use. */
static enum vac_hold_state state_now(const struct vac_holder_record *record, bool surveyed,
				     bool listed)
{
	if (!surveyed)
		return record->state == VAC_HOLD_RUNNING ? VAC_HOLD_UNKNOWN : record->state;
	switch (record->state) {
	case VAC_HOLD_FAILED:
		return VAC_HOLD_FAILED;
	case VAC_HOLD_PARKED:
		if (!listed)
			return VAC_HOLD_PARKED;
		/* Restored, and not unlocked. */
		return record->interrupted ? VAC_HOLD_LOCKED : VAC_HOLD_UNKNOWN;
	case VAC_HOLD_LOCKED:
		if (listed)
			return VAC_HOLD_LOCKED;
		return record->interrupted ? VAC_HOLD_PARKED : VAC_HOLD_UNKNOWN;
	default:
		return listed && record->interrupted ? VAC_HOLD_LOCKED : VAC_HOLD_UNKNOWN;
	}
}

static bool apply_records(const struct vac_holders_options *options, const char *root,
			  bool surveyed, struct vac_holders *out)
{
	for (size_t i = 0; i < options->record_count; i++) {
		const struct vac_holder_record *record = &options->records[i];
		struct vac_holder *holder = find_here(out, record->pid), fresh = {0};
		enum vac_hold_state state = state_now(record, surveyed, holder != NULL);

		if (state == VAC_HOLD_UNKNOWN)
			continue;
		if (!holder) {
			fresh.pid = record->pid;
			describe(root, &fresh);
			if (fresh.pid == 0 || fresh.start_ticks != record->start_ticks)
				continue;
			holder = add_holder(out);
			if (!holder)
				return false;
			*holder = fresh;
		} else if (holder->start_ticks != record->start_ticks) {
			continue; /* another process */
		}
		holder->state = state;
		holder->parked_valid = record->bytes_valid;
		holder->parked_bytes = record->bytes;
		holder->by_valid = true;
		holder->by_uid = record->by_uid;
		memcpy(holder->by, record->by, sizeof(holder->by));
	}
	return true;
}

/* A CUDA process that NVML does not list: it starts or ends, or is another
 * container's. */
static bool add_openers(const struct look *look, struct vac_holders *out)
{
	for (size_t i = 0; i < look->count; i++) {
		const struct opener *opener = &look->openers[i];
		struct vac_holder *holder;

		if (!opener->has.uvm || opener->has.gpus == 0 || find_here(out, opener->pids[0]))
			continue;
		holder = add_holder(out);
		if (!holder)
			return false;
		holder->pid = opener->pids[0];
		describe(look->root, holder);
		if (holder->pid == 0)
			out->count--;
	}
	return true;
}

bool vac_holder_bytes(const struct vac_holder *holder, uint64_t *bytes)
{
	*bytes = 0;
	for (uint32_t i = 0; i < holder->part_count; i++) {
		if (!holder->parts[i].bytes_valid)
			return false;
		*bytes += holder->parts[i].bytes;
	}
	return holder->part_count > 0;
}

static int compare_holders(const void *a, const void *b)
{
	const struct vac_holder *x = a, *y = b;
	uint32_t first_x = x->part_count ? x->parts[0].device : UINT32_MAX;
	uint32_t first_y = y->part_count ? y->parts[0].device : UINT32_MAX;
	uint64_t bytes_x, bytes_y;

	if (first_x != first_y)
		return first_x < first_y ? -1 : 1;
	(void)vac_holder_bytes(x, &bytes_x);
	(void)vac_holder_bytes(y, &bytes_y);
	if (bytes_x != bytes_y)
		return bytes_x > bytes_y ? -1 : 1;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return x->nvml_pid < y->nvml_pid ? -1 : x->nvml_pid > y->nvml_pid;
}

static bool driver_is_here(const char *root)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/dev/nvidiactl", root) < (int)sizeof(path) &&
	       access(path, F_OK) == 0;
}

int vac_holders_take(const struct vac_survey *survey, const struct vac_holders_options *options,
		     struct vac_holders *out, struct vac_error *err)
{
	struct look look = {.root = options->root ? options->root : "",
			    .except = options->except,
			    .out = out,
			    .deadline_ns = vac_now_ns() + (int64_t)options->look_ms * NS_PER_MS};
	bool good = true;

	memset(out, 0, sizeof(*out));
	if (survey && survey->count > 0) {
		out->devices = calloc(survey->count, sizeof(*out->devices));
		good = out->devices != NULL;
		out->device_count = good ? survey->count : 0;
	}
	for (uint32_t i = 0; good && i < out->device_count; i++)
		good = add_device(survey, i, out);
	look.complete = options->look_ms > 0 && driver_is_here(look.root);
	if (good && look.complete)
		(void)vac_proc_each(look.root, look_at, &look);
	good = good && !look.failed;
	if (good) {
		find_processes(&look, out);
		good = apply_records(options, look.root, survey != NULL, out) &&
		       add_openers(&look, out);
	}
	free(look.openers);
	if (!good) {
		vac_holders_free(out);
		return vac_fail_nomem(err, "the processes on the GPUs", 0);
	}
	if (out->count > 0)
		qsort(out->list, out->count, sizeof(*out->list), compare_holders);
	return 0;
}

void vac_holders_keep(struct vac_holders *holders, pid_t pid)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < holders->count; i++) {
		if (kept == 0 && holders->list[i].pid == pid)
			holders->list[kept++] = holders->list[i];
		else
			free(holders->list[i].parts);
	}
	holders->count = kept;
}

void vac_holders_free(struct vac_holders *holders)
{
	for (uint32_t i = 0; i < holders->count; i++)
		free(holders->list[i].parts);
	free(holders->list);
	free(holders->devices);
	memset(holders, 0, sizeof(*holders));
}
