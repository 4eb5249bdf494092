/* guard_pick.c - whom `vacate guard` may park. One thread. */
#include "cli/guard.h"

#include <fnmatch.h>
#include <string.h>
#include <unistd.h>

/* A worker, vacate-gpud, or a program that a server runs as its worker. */
static bool is_vacate(pid_t pid)
{
	char comm[64];

	return vac_proc_text("", pid, "comm", comm, sizeof(comm)) > 0 &&
	       strncmp(comm, "vacate", 6) == 0 && (comm[6] == '\n' || comm[6] == '-');
}

static bool is_ours(pid_t pid)
{
	struct vac_proc proc;

	return is_vacate(pid) || (vac_proc_read("", pid, &proc) == 0 && proc.stat.parent > 0 &&
				  is_vacate(proc.stat.parent));
}

void vac_guard_command(pid_t pid, char to[VAC_GUARD_COMMAND_BYTES])
{
	ssize_t n = vac_proc_text("", pid, "cmdline", to, VAC_GUARD_COMMAND_BYTES);

	while (n > 0 && to[n - 1] == '\0')
		n--;
	for (ssize_t i = 0; i < n; i++)
		if (to[i] == '\0')
			to[i] = ' ';
	to[n > 0 ? n : 0] = '\0';
	vac_proc_clean(to);
}

/* NVML may mean another process by that number, in another container: a process
 * without the driver's files is not the one. */
static bool is_cuda(pid_t pid)
{
	struct vac_proc_nvidia has;

	return access("/dev/nvidiactl", F_OK) != 0 || vac_proc_nvidia("", pid, &has) != 0 ||
	       has.uvm;
}

static bool is_excluded(const struct vac_guard_options *options, const struct vac_holder *holder,
			const char *command)
{
	for (uint32_t i = 0; i < options->pattern_count; i++)
		if (fnmatch(options->patterns[i], command, 0) == 0 ||
		    fnmatch(options->patterns[i], holder->name, 0) == 0)
			return true;
	return false;
}

bool vac_guard_minds(const struct vac_guard_options *options, const struct vac_holder *holder,
		     const char *command)
{
	bool compute = false;

	for (uint32_t i = 0; i < holder->part_count; i++)
		compute |= !holder->parts[i].graphics_only;
	return compute && holder->pid > 0 && holder->nvml_pid == (uint32_t)holder->pid &&
	       holder->pid != getpid() && holder->state == VAC_HOLD_RUNNING && holder->uid_valid &&
	       (options->any_user || holder->uid == options->uid) &&
	       !is_excluded(options, holder, command) && !is_ours(holder->pid) &&
	       is_cuda(holder->pid);
}

uint64_t vac_guard_gives(const struct vac_guard_options *options, const struct vac_holder *holder,
			 const struct vac_survey *survey)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < holder->part_count; i++) {
		const struct vac_survey_device *device = &survey->devices[holder->parts[i].device];

		if (holder->parts[i].bytes_valid &&
		    (!options->when_asked ||
		     device->free_bytes < vac_size_of(&options->room, device->total_bytes)))
			bytes += holder->parts[i].bytes;
	}
	return bytes;
}
