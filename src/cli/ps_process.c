/* ps_process.c - `vacate ps PID`: one process in full. One thread. */
#include "cli/ps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/who_client.h"
#include "hold/look.h"

/* What a bare context takes: on an H100 as measured with driver 580; others were told
 * of in between these. */
#define CONTEXT_H100_BYTES ((uint64_t)518 << 20)
#define CONTEXT_LEAST_MIB  250
#define CONTEXT_MOST_MIB   550

struct process {
	struct vac_look look;
	const struct vac_ps_machine *machine;
	const struct vac_holder *holder; /* NULL: it has nothing of a GPU */
	uint64_t vram_bytes;             /* 0: nothing, or not known */
	bool parked;
	size_t remedy_count;
	struct vac_remedy remedies[VAC_LOOK_MOST_REMEDIES];
};

enum {
	GROUP_NAME,
	GROUP_MAPPINGS,
	GROUP_SIZE,
	GROUP_RSS,
	GROUP_PSS,
	GROUP_PRIVATE,
	GROUP_SWAP,
	GROUP_COUNT
};

static const struct vac_column group_columns[GROUP_COUNT] = {
	[GROUP_NAME] = {.header = "MEMORY"},
	[GROUP_MAPPINGS] = {.header = "MAPPINGS", .right = true, .rank = 4},
	[GROUP_SIZE] = {.header = "MAPPED", .right = true, .rank = 2},
	[GROUP_RSS] = {.header = "RSS", .right = true},
	[GROUP_PSS] = {.header = "PSS", .right = true, .rank = 3},
	[GROUP_PRIVATE] = {.header = "PRIVATE", .right = true, .rank = 1},
	[GROUP_SWAP] = {.header = "SWAP", .right = true, .rank = 5},
};

static void add_sum(struct vac_table *table, const char *name, const struct vac_smaps_sum *sum)
{
	char mappings[VAC_TEXT_BYTES], size[VAC_TEXT_BYTES], rss[VAC_TEXT_BYTES];
	char pss[VAC_TEXT_BYTES], private[VAC_TEXT_BYTES], swap[VAC_TEXT_BYTES];
	const char *texts[GROUP_COUNT] = {name};

	snprintf(mappings, sizeof(mappings), "%u", sum->mappings);
	texts[GROUP_MAPPINGS] = mappings;
	texts[GROUP_SIZE] = vac_format_bytes(size, sum->size_bytes);
	texts[GROUP_RSS] = vac_format_bytes(rss, sum->rss_bytes);
	texts[GROUP_PSS] = vac_format_bytes(pss, sum->pss_bytes);
	texts[GROUP_PRIVATE] = vac_format_bytes(private, sum->private_bytes);
	texts[GROUP_SWAP] = vac_format_bytes(swap, sum->swap_bytes);
	vac_table_row(table, texts);
}

static int print_memory(const struct vac_terminal *terminal, const struct vac_look *look)
{
	const struct vac_smaps *smaps = &look->smaps;
	struct vac_table table;
	int rc;

	if (look->smaps_error == EACCES || look->smaps_error == EPERM)
		return vac_print_line(terminal,
				      "Its memory is for its user and root to look at (%s)",
				      strerror(look->smaps_error));
	if (look->smaps_error != 0)
		return vac_print_line(terminal, "Its memory cannot be read: %s",
				      strerror(look->smaps_error));
	vac_table_init(&table, group_columns, GROUP_COUNT);
	for (int i = 0; i < VAC_SMAPS_GROUPS; i++)
		if (smaps->groups[i].mappings > 0)
			add_sum(&table, vac_smaps_group_name((enum vac_smaps_group)i),
				&smaps->groups[i]);
	add_sum(&table, "total", &smaps->total);
	rc = vac_table_print(&table, terminal);
	vac_table_free(&table);
	return rc;
}

static int print_weights(const struct vac_terminal *terminal, const struct vac_look *look)
{
	enum { FILE_PATH, FILE_MAPPED, FILE_RSS, FILE_CACHED, FILE_COUNT };
	static const struct vac_column columns[FILE_COUNT] = {
		[FILE_PATH] = {.header = "WEIGHTS", .shrink = true},
		[FILE_MAPPED] = {.header = "MAPPED", .right = true, .rank = 2},
		[FILE_RSS] = {.header = "RSS", .right = true, .rank = 1},
		[FILE_CACHED] = {.header = "IN PAGE CACHE", .right = true},
	};
	struct vac_table table;
	int rc;

	if (look->smaps.file_count == 0)
		return 0;
	vac_table_init(&table, columns, FILE_COUNT);
	for (uint32_t i = 0; i < look->smaps.file_count; i++) {
		const struct vac_smaps_file *file = &look->smaps.files[i];
		char mapped[VAC_TEXT_BYTES], rss[VAC_TEXT_BYTES], cached[VAC_TEXT_BYTES];
		const char *texts[FILE_COUNT] = {file->path};

		texts[FILE_MAPPED] = vac_format_bytes(mapped, file->size_bytes);
		texts[FILE_RSS] = vac_format_bytes(rss, file->rss_bytes);
		if (look->cached_valid[i])
			texts[FILE_CACHED] = vac_format_bytes(cached, look->cached_bytes[i]);
		vac_table_row(&table, texts);
	}
	fputc('\n', terminal->file);
	rc = vac_table_print(&table, terminal);
	vac_table_free(&table);
	return rc;
}

static int print_context(const struct vac_terminal *terminal,
			 const struct vac_survey_device *device, const struct vac_holder_part *part)
{
	char rest[VAC_TEXT_BYTES];

	if (!part->bytes_valid || part->graphics_only)
		return 0;
	if (!strstr(device->name, "H100"))
		return vac_print_line(
			terminal, "  of that a CUDA context, about %d to %d MiB by GPU and driver",
			CONTEXT_LEAST_MIB, CONTEXT_MOST_MIB);
	return vac_print_line(terminal,
			      "  of that the CUDA context: about 518 MiB; its data and libraries: "
			      "about %s",
			      vac_format_bytes(rest, part->bytes > CONTEXT_H100_BYTES
							     ? part->bytes - CONTEXT_H100_BYTES
							     : 0));
}

static int print_no_vram(const struct vac_terminal *terminal, const struct process *process)
{
	const struct vac_holder *holder = process->holder;
	char bytes[VAC_TEXT_BYTES], by[VAC_TEXT_BYTES];
	const char *whom = process->parked ? vac_holder_by(holder, by) : NULL;

	return vac_print_line(terminal, "VRAM       none%s%s%s%s",
			      process->parked ? "; parked with " : "",
			      process->parked && holder->parked_valid
				      ? vac_format_bytes(bytes, holder->parked_bytes)
				      : "",
			      whom ? ", by " : "", whom ? whom : "");
}

static int print_vram(const struct vac_terminal *terminal, const struct process *process)
{
	const struct vac_holder *holder = process->holder;
	char device[VAC_TEXT_BYTES], bytes[VAC_TEXT_BYTES], gpu[VAC_TEXT_BYTES];
	char idle[VAC_TEXT_BYTES];
	int rc = 0;

	if (!process->machine->surveyed && process->machine->why.code == VAC_E_NOT_FOUND)
		return vac_print_line(terminal,
				      "VRAM       none: NVML (libnvidia-ml.so.1) is not here");
	if (!process->machine->surveyed)
		return vac_print_line(terminal, "VRAM       not known: %s",
				      process->machine->why.message);
	if (!holder || holder->part_count == 0)
		return print_no_vram(terminal, process);
	for (uint32_t i = 0; rc == 0 && i < holder->part_count; i++) {
		const struct vac_holder_part *part = &holder->parts[i];
		const struct vac_survey_device *from =
			process->machine->holders.devices[part->device].survey;

		bool busy = part->sm_percent.valid && part->sm_percent.value > 0;

		rc = vac_print_line(terminal, "VRAM       %s on %s (%s), use %s%s%s",
				    part->bytes_valid ? vac_format_bytes(bytes, part->bytes)
						      : "not told",
				    vac_device_name(from, device), from->name,
				    vac_gauge_percent(&part->sm_percent, gpu),
				    busy ? "" : ", idle ", busy ? "" : vac_part_idle(part, idle));
		if (rc == 0)
			rc = print_context(terminal, from, part);
	}
	return rc;
}

static int print_nvidia(const struct vac_terminal *terminal, const struct vac_look *look)
{
	char gpus[VAC_GPUS_TEXT_BYTES];

	if (look->nvidia_error != 0)
		return vac_print_line(terminal, "GPU files  not known: %s",
				      strerror(look->nvidia_error));
	if (look->nvidia.descriptors == 0)
		return vac_print_line(terminal, "GPU files  none open");
	return vac_print_line(terminal, "GPU files  %u open in /dev: %s%s",
			      look->nvidia.descriptors,
			      look->nvidia.uvm ? "nvidia-uvm (CUDA)" : "no nvidia-uvm (no CUDA)",
			      vac_gpus_text(look->nvidia.gpus, gpus));
}

static int print_head(const struct vac_terminal *terminal, const struct process *process)
{
	const struct vac_proc *proc = &process->look.proc;
	const struct vac_proc_status *status = &proc->status;
	char user[VAC_TEXT_BYTES], allocators[64], inner[64] = "";
	int rc;

	if (status->pid_count > 1)
		snprintf(inner, sizeof(inner), " (%d in its container)",
			 (int)status->pids[status->pid_count - 1]);
	rc = vac_print_line(terminal, "Process    %d%s, %s", (int)proc->pid, inner, proc->name);
	if (rc == 0 && process->look.command[0])
		rc = vac_print_line(terminal, "Command    %s", process->look.command);
	if (rc == 0)
		rc = vac_print_line(terminal, "User       %s",
				    status->uid_valid ? vac_user_name(status->uid, user) : "-");
	if (rc == 0)
		rc = vac_print_line(terminal, "State      %s, %u thread%s",
				    process->holder ? vac_holder_state_text(process->holder)
						    : "not on a GPU",
				    status->threads, status->threads == 1 ? "" : "s");
	if (rc == 0 && process->look.smaps_error == 0)
		rc = vac_print_line(
			terminal, "Allocator  %s",
			vac_allocators_text(process->look.smaps.allocators, allocators));
	return rc;
}

static int print_remedies(const struct vac_terminal *terminal, const struct process *process)
{
	char bytes[VAC_TEXT_BYTES];
	int rc;

	fputc('\n', terminal->file);
	if (process->remedy_count == 0)
		return vac_print_line(terminal, "Nothing worth a command could be had back.");
	rc = vac_print_line(terminal, "What could be had back:");
	for (size_t i = 0; rc == 0 && i < process->remedy_count; i++) {
		const struct vac_remedy *remedy = &process->remedies[i];

		rc = vac_print_line(terminal, "  %s%s of %s: %s", remedy->at_most ? "at most " : "",
				    vac_format_bytes(bytes, remedy->bytes),
				    remedy->vram ? "VRAM" : "RAM", remedy->command);
		if (rc == 0)
			rc = vac_print_line(terminal, "    %s", remedy->remark);
	}
	return rc;
}

static int print_text(const struct process *process)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	int rc = print_head(&terminal, process);

	if (rc == 0)
		rc = print_vram(&terminal, process);
	if (rc == 0)
		rc = print_nvidia(&terminal, &process->look);
	fputc('\n', stdout);
	if (rc == 0)
		rc = print_memory(&terminal, &process->look);
	if (rc == 0)
		rc = print_weights(&terminal, &process->look);
	if (rc == 0)
		rc = print_remedies(&terminal, process);
	return rc;
}

static json_t *make_sum(const char *name, const struct vac_smaps_sum *sum)
{
	return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "group", name, "mappings",
			 (int)sum->mappings, "mapped_bytes", (json_int_t)sum->size_bytes,
			 "rss_bytes", (json_int_t)sum->rss_bytes, "pss_bytes",
			 (json_int_t)sum->pss_bytes, "private_bytes",
			 (json_int_t)sum->private_bytes, "swap_bytes", (json_int_t)sum->swap_bytes);
}

static json_t *make_memory(const struct vac_smaps *smaps)
{
	json_t *list = json_array();
	int rc = list ? 0 : -1;

	for (int i = 0; rc == 0 && i < VAC_SMAPS_GROUPS; i++)
		if (smaps->groups[i].mappings > 0)
			rc = json_array_append_new(
				list, make_sum(vac_smaps_group_name((enum vac_smaps_group)i),
					       &smaps->groups[i]));
	if (rc == 0)
		rc = json_array_append_new(list, make_sum("total", &smaps->total));
	if (rc == 0)
		return list;
	json_decref(list);
	return NULL;
}

static json_t *make_weights(const struct vac_look *look)
{
	json_t *list = json_array();
	int rc = list ? 0 : -1;

	for (uint32_t i = 0; rc == 0 && i < look->smaps.file_count; i++) {
		const struct vac_smaps_file *file = &look->smaps.files[i];
		json_t *path = json_string(file->path);

		rc = json_array_append_new(
			list,
			json_pack("{s:o, s:I, s:I, s:o}", "path", path ? path : json_string("?"),
				  "mapped_bytes", (json_int_t)file->size_bytes, "rss_bytes",
				  (json_int_t)file->rss_bytes, "cached_bytes",
				  look->cached_valid[i]
					  ? json_integer((json_int_t)look->cached_bytes[i])
					  : json_null()));
	}
	if (rc == 0)
		return list;
	json_decref(list);
	return NULL;
}

static json_t *make_remedies(const struct process *process)
{
	json_t *list = json_array();
	int rc = list ? 0 : -1;

	for (size_t i = 0; rc == 0 && i < process->remedy_count; i++) {
		const struct vac_remedy *remedy = &process->remedies[i];

		rc = json_array_append_new(
			list, json_pack("{s:s, s:I, s:b, s:s, s:s}", "memory",
					remedy->vram ? "vram" : "ram", "bytes",
					(json_int_t)remedy->bytes, "at_most", remedy->at_most,
					"command", remedy->command, "remark", remedy->remark));
	}
	if (rc == 0)
		return list;
	json_decref(list);
	return NULL;
}

static json_t *make_document(const struct process *process)
{
	const struct vac_look *look = &process->look;
	char allocators[64];
	json_t *document = json_pack(
		"{s:i, s:s, s:s, s:o, s:s, s:I, s:o?, s:o?, s:o?, s:i, s:b}", "pid",
		(int)look->proc.pid, "name", look->proc.name, "command", look->command, "uid",
		look->proc.status.uid_valid ? json_integer(look->proc.status.uid) : json_null(),
		"allocator", vac_allocators_text(look->smaps.allocators, allocators), "rss_bytes",
		(json_int_t)look->proc.rss_bytes, "memory",
		look->smaps_error == 0 ? make_memory(&look->smaps) : json_null(), "weights",
		make_weights(look), "remedies", make_remedies(process), "gpu_files",
		(int)look->nvidia.descriptors, "cuda_files", look->nvidia.uvm);

	if (document && vac_ps_add_machine(document, process->machine) < 0) {
		json_decref(document);
		document = NULL;
	}
	return document;
}

static bool parse_pid(const char *text, pid_t *pid)
{
	char *end;
	long number;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtol(text, &end, 10);
	*pid = (pid_t)number;
	return errno == 0 && end != text && !*end && number > 0 && number == (long)*pid;
}

/* Leaves in the snapshot what is about this process, and the devices. */
static void keep_one(struct vac_ps_machine *machine, struct process *process)
{
	struct vac_holders *holders = &machine->holders;

	vac_holders_keep(holders, process->look.proc.pid);
	if (holders->count == 0)
		return;
	process->holder = &holders->list[0];
	(void)vac_holder_bytes(process->holder, &process->vram_bytes);
	process->parked = process->holder->state == VAC_HOLD_PARKED;
}

int vac_ps_process(const struct vac_command *command, const char *text, bool json)
{
	struct vac_ps_machine machine = {0};
	struct vac_who_client who = {0};
	struct process *process;
	struct vac_error err;
	pid_t pid;
	int rc;

	if (!parse_pid(text, &pid))
		return vac_usage_error(command, "%s is not the number of a process", text);
	process = calloc(1, sizeof(*process));
	if (!process) {
		vac_complain(command, "out of memory");
		return VAC_EXIT_FAILED;
	}
	vac_ps_machine_ask(&who, &machine);
	rc = vac_look_at("", pid, &process->look, &err);
	if (rc == 0)
		rc = vac_ps_machine_take(&who, &machine, &err);
	if (rc < 0) {
		vac_complain(command, "%s", err.message);
		rc = vac_exit_of(err.code);
		goto out;
	}
	process->machine = &machine;
	keep_one(&machine, process);
	process->remedy_count = vac_look_remedies(&process->look, process->vram_bytes,
						  process->parked, process->remedies);
	if (json)
		rc = vac_ps_print_json(command, make_document(process));
	else
		rc = print_text(process) == 0 ? VAC_EXIT_OK : VAC_EXIT_FAILED;
	(void)vac_flush_output();
out:
	vac_who_close(&who);
	vac_ps_machine_free(&machine);
	free(process);
	return rc;
}
