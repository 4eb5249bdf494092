/* choose.c - see choose.h. */
#include "hold/choose.h"

#include <fnmatch.h>
#include <string.h>
#include <unistd.h>

void vac_choose_command(pid_t pid, char to[VAC_CHOOSE_COMMAND_BYTES])
{
	ssize_t n = vac_proc_text("", pid, "cmdline", to, VAC_CHOOSE_COMMAND_BYTES);

	while (n > 0 && to[n - 1] == '\0')
		n--;
	for (ssize_t i = 0; i < n; i++)
		if (to[i] == '\0')
			to[i] = ' ';
	to[n > 0 ? n : 0] = '\0';
	vac_proc_clean(to, VAC_CHOOSE_COMMAND_BYTES);
}

int vac_choose_split(char *text, const char *out[VAC_CHOOSE_MOST_PATTERNS])
{
	char *at = NULL;
	int count = 0;

	for (char *word = strtok_r(text, ",", &at); word; word = strtok_r(NULL, ",", &at)) {
		size_t bytes;

		word += strspn(word, " \t");
		bytes = strlen(word);
		while (bytes > 0 && (word[bytes - 1] == ' ' || word[bytes - 1] == '\t'))
			word[--bytes] = '\0';
		if (bytes == 0)
			continue;
		if (count == (int)VAC_CHOOSE_MOST_PATTERNS)
			return -1;
		out[count++] = word;
	}
	return count;
}

bool vac_choose_matches(const char *const *patterns, int count, const struct vac_holder *holder,
			const char *command)
{
	for (int i = 0; i < count; i++)
		if (fnmatch(patterns[i], command, 0) == 0 ||
		    fnmatch(patterns[i], holder->name, 0) == 0)
			return true;
	return false;
}

static bool is_vacate(pid_t pid)
{
	char comm[64];

	return vac_proc_text("", pid, "comm", comm, sizeof(comm)) > 0 &&
	       strncmp(comm, "vacate", 6) == 0 && (comm[6] == '\n' || comm[6] == '-');
}

/* A worker, vacate-gpud, or a program that a server runs as its worker. */
static bool is_ours(pid_t pid)
{
	struct vac_proc proc;

	return is_vacate(pid) || (vac_proc_read("", pid, &proc) == 0 && proc.stat.parent > 0 &&
				  is_vacate(proc.stat.parent));
}

/* NVML may mean another process by that number, in another container: a process
 * without the driver's files is not the one. */
static bool is_cuda(pid_t pid)
{
	struct vac_proc_nvidia has;

	return access("/dev/nvidiactl", F_OK) != 0 || vac_proc_nvidia("", pid, &has) != 0 ||
	       has.uvm;
}

bool vac_choose_may_park(const struct vac_holder *holder)
{
	bool compute = false;

	for (uint32_t i = 0; i < holder->part_count; i++)
		compute |= !holder->parts[i].graphics_only;
	return compute && holder->pid > 0 && holder->nvml_pid == (uint32_t)holder->pid &&
	       holder->pid != getpid() && holder->state == VAC_HOLD_RUNNING && holder->uid_valid &&
	       !is_ours(holder->pid) && is_cuda(holder->pid);
}
