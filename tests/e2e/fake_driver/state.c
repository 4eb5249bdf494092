/* state.c - see state.h. */
#include "state.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define LINE_BYTES 512
/* Of a wait for a file that never comes: longer than any test. */
#define LONGEST_WAIT_MS 180000

const char *fake_path(const char *format, ...)
{
	static _Thread_local char path[PATH_BYTES];
	const char *folder = getenv("FAKE_GPU_DIR");
	char below[PATH_BYTES / 2];
	va_list ap;

	if (!folder)
		return NULL;
	va_start(ap, format);
	vsnprintf(below, sizeof(below), format, ap);
	va_end(ap);
	snprintf(path, sizeof(path), "%s/%s", folder, below);
	return path;
}

static FILE *open_file(const char *path, const char *mode)
{
	return path ? fopen(path, mode) : NULL;
}

int fake_lock(void)
{
	const char *path = fake_path("lock");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;

	if (fd >= 0)
		while (flock(fd, LOCK_EX) != 0 && errno == EINTR)
			;
	return fd;
}

void fake_unlock(int lock)
{
	if (lock >= 0)
		close(lock);
}

char fake_proc_state(pid_t pid)
{
	char path[64], text[LINE_BYTES];
	const char *end = NULL;
	size_t n = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';
	end = strrchr(text, ')');
	return end && end[1] ? end[2] : 0;
}

static void read_process(pid_t pid, struct fake_process *out)
{
	static const char *const states[] = {"running", "locked", "parked"};
	FILE *file = open_file(fake_path("processes/%d", (int)pid), "re");
	unsigned long long bytes;
	char state[16] = "";
	unsigned device;

	memset(out, 0, sizeof(*out));
	if (!file)
		return;
	if (fscanf(file, "%15s %d %d", state, &out->busy, &out->broken) == 3)
		out->pid = pid;
	for (int i = 0; i < 3; i++)
		if (strcmp(state, states[i]) == 0)
			out->state = (enum fake_state)i;
	while (fscanf(file, "%u %llu", &device, &bytes) == 2)
		if (device < FAKE_MOST_DEVICES)
			out->bytes[device] = bytes;
	fclose(file);
}

static void read_processes(struct fake_gpus *gpus)
{
	const char *path = fake_path("processes");
	DIR *folder = path ? opendir(path) : NULL;
	struct dirent *entry;

	while (folder && (entry = readdir(folder)) && gpus->process_count < FAKE_MOST_PROCESSES) {
		struct fake_process *process = &gpus->processes[gpus->process_count];
		char *end;
		long pid = strtol(entry->d_name, &end, 10);
		char state = pid > 0 && !*end ? fake_proc_state((pid_t)pid) : 0;

		if (state == 0 || state == 'Z' || state == 'X')
			continue;
		read_process((pid_t)pid, process);
		gpus->process_count += process->pid != 0;
	}
	if (folder)
		closedir(folder);
}

void fake_read(struct fake_gpus *out)
{
	FILE *file = open_file(fake_path("driver"), "re");
	char line[LINE_BYTES];

	memset(out, 0, sizeof(*out));
	out->cuda_version = 13000;
	snprintf(out->driver_version, sizeof(out->driver_version), "580.159");
	if (file) {
		if (fscanf(file, "%d %39s %d", &out->cuda_version, out->driver_version, &out->mig) <
		    2)
			abort();
		fclose(file);
	}
	file = open_file(fake_path("devices"), "re");
	while (file && out->device_count < FAKE_MOST_DEVICES && fgets(line, sizeof(line), file)) {
		struct fake_device *device = &out->devices[out->device_count];
		unsigned long long total, used;

		if (sscanf(line, "%47s %llu %llu %63[^\n]", device->uuid, &total, &used,
			   device->name) != 4)
			continue;
		device->total_bytes = total;
		device->used_bytes = used;
		out->device_count++;
	}
	if (file)
		fclose(file);
	read_processes(out);
}

void fake_write(const struct fake_process *process)
{
	static const char *const states[] = {"running", "locked", "parked"};
	char fresh[PATH_BYTES];
	FILE *file;

	snprintf(fresh, sizeof(fresh), "%s", fake_path("processes/new"));
	file = fopen(fresh, "we");
	if (!file)
		abort();
	fprintf(file, "%s %d %d", states[process->state], process->busy, process->broken);
	for (unsigned i = 0; i < FAKE_MOST_DEVICES; i++)
		if (process->bytes[i])
			fprintf(file, " %u %llu", i, (unsigned long long)process->bytes[i]);
	fputc('\n', file);
	if (fclose(file) != 0 || rename(fresh, fake_path("processes/%d", (int)process->pid)) != 0)
		abort();
}

struct fake_process *fake_find(struct fake_gpus *gpus, pid_t pid)
{
	for (unsigned i = 0; i < gpus->process_count; i++)
		if (gpus->processes[i].pid == pid)
			return &gpus->processes[i];
	return NULL;
}

uint64_t fake_used(const struct fake_gpus *gpus, unsigned device)
{
	uint64_t used = gpus->devices[device].used_bytes;

	for (unsigned i = 0; i < gpus->process_count; i++)
		if (gpus->processes[i].state != FAKE_PARKED)
			used += gpus->processes[i].bytes[device];
	return used;
}

static void pause_ms(long ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

static void wait_for(const char *name)
{
	for (long ms = 0; ms < LONGEST_WAIT_MS; ms += 10) {
		const char *path = fake_path("%s", name);

		if (path && access(path, F_OK) == 0)
			return;
		pause_ms(10);
	}
}

static void write_file(const char *name, const char *text)
{
	FILE *file = open_file(fake_path("%s", name), "we");

	if (!file)
		abort();
	fprintf(file, "%s\n", text);
	fclose(file);
}

static void send_signal(const char *whom, int number, pid_t target)
{
	pid_t pid = strcmp(whom, "target") == 0   ? target
		    : strcmp(whom, "caller") == 0 ? getpid()
						  : (pid_t)atoi(whom);

	kill(pid, number);
	/* What was killed is gone when the step is over. */
	for (int i = 0; number == SIGKILL && i < 500 && fake_proc_state(pid) != 0 &&
			fake_proc_state(pid) != 'Z';
	     i++)
		pause_ms(10);
}

/*
 *   sleep MS            wait NAME (until that file is there)     touch NAME
 *   kill WHO NUMBER     WHO: target, caller or a pid
 *   write NAME TEXT     makes the file NAME
 *   return CODE         without the function's effect
 */
static bool step(char *line, pid_t target, int *result)
{
	char *word, *first, *rest;

	line[strcspn(line, "\n")] = '\0';
	word = strtok_r(line, " ", &rest);
	if (!word || strcmp(word, "always") == 0)
		return false;
	first = strtok_r(NULL, " ", &rest);
	if (!first)
		abort();
	if (strcmp(word, "sleep") == 0)
		pause_ms(atol(first));
	else if (strcmp(word, "wait") == 0)
		wait_for(first);
	else if (strcmp(word, "touch") == 0)
		write_file(first, "");
	else if (strcmp(word, "kill") == 0)
		send_signal(first, atoi(rest), target);
	else if (strcmp(word, "write") == 0)
		write_file(first, rest);
	else if (strcmp(word, "return") == 0)
		*result = atoi(first);
	else
		abort();
	return strcmp(word, "return") == 0;
}

bool fake_call(const char *symbol, pid_t target, int *result)
{
	char steps[16][LINE_BYTES];
	int lock = fake_lock(), count = 0;
	FILE *file = open_file(fake_path("log"), "ae");
	bool instead = false;

	if (file) {
		fprintf(file, "%d %s %d\n", (int)getpid(), symbol, (int)target);
		fclose(file);
	}
	file = open_file(fake_path("on/%s", symbol), "re");
	if (file) {
		while (count < 16 && fgets(steps[count], LINE_BYTES, file))
			count++;
		fclose(file);
		if (count > 0 && strncmp(steps[0], "always", 6) != 0)
			unlink(fake_path("on/%s", symbol));
	}
	fake_unlock(lock);
	for (int i = 0; i < count && !instead; i++)
		instead = step(steps[i], target, result);
	return instead;
}
