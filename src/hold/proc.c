/* proc.c - see proc.h. Read without stdio, which would allocate for each file. */
#include "hold/proc.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "base/utf8.h"

#define STATUS_BYTES  4096
#define STAT_BYTES    1024
#define CMDLINE_BYTES 4096
#define MOST_WORDS    64

ssize_t vac_proc_text(const char *root, pid_t pid, const char *name, char *text, size_t room)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/proc/%d/%s", root, (int)pid, name);

	text[0] = '\0';
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return vac_read_small(path, text, room);
}

/* Text with an end. */
struct cursor {
	const char *at, *end;
};

/* A decimal number after white space of the same line. */
static bool number(struct cursor *c, uint64_t *value)
{
	const char *at = c->at;
	uint64_t n = 0;

	while (at < c->end && (*at == ' ' || *at == '\t'))
		at++;
	if (at == c->end || !isdigit((unsigned char)*at))
		return false;
	for (; at < c->end && isdigit((unsigned char)*at); at++) {
		if (n > (UINT64_MAX - 9) / 10)
			return false;
		n = n * 10 + (uint64_t)(*at - '0');
	}
	c->at = at;
	*value = n;
	return true;
}

static bool starts(const struct cursor *c, const char *key)
{
	size_t length = strlen(key);

	return (size_t)(c->end - c->at) >= length && memcmp(c->at, key, length) == 0;
}

static void take_pids(struct cursor c, struct vac_proc_status *out)
{
	uint64_t pid;

	out->pid_count = 0;
	while (out->pid_count < VAC_PROC_NAMESPACES && number(&c, &pid) && pid <= INT_MAX)
		out->pids[out->pid_count++] = (pid_t)pid;
}

static void take_kib(struct cursor c, uint64_t *bytes)
{
	uint64_t kib;

	if (number(&c, &kib) && kib <= UINT64_MAX / 1024)
		*bytes = kib * 1024;
}

static void take_status_line(struct cursor line, struct vac_proc_status *out)
{
	struct cursor value = line;
	const char *colon = memchr(line.at, ':', (size_t)(line.end - line.at));
	uint64_t first, second;

	if (!colon)
		return;
	value.at = colon + 1;
	if (starts(&line, "Uid:") && number(&value, &first) && number(&value, &second) &&
	    second <= UINT32_MAX) {
		out->uid_valid = true;
		out->uid = (uid_t)second;
	} else if (starts(&line, "Threads:") && number(&value, &first) && first <= UINT32_MAX) {
		out->threads_valid = true;
		out->threads = (uint32_t)first;
	} else if (starts(&line, "Tgid:") && number(&value, &first) && first <= INT_MAX) {
		out->group = (pid_t)first;
	} else if (starts(&line, "NSpid:")) {
		take_pids(value, out);
	} else if (starts(&line, "VmLck:")) {
		take_kib(value, &out->locked_bytes);
	} else if (starts(&line, "VmPin:")) {
		take_kib(value, &out->pinned_bytes);
	}
}

bool vac_proc_parse_status(const char *text, size_t bytes, struct vac_proc_status *out)
{
	const char *end = text + bytes;

	memset(out, 0, sizeof(*out));
	for (const char *at = text; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));

		if (!stop)
			stop = end;
		take_status_line((struct cursor){at, stop}, out);
		at = stop < end ? stop + 1 : end;
	}
	return out->uid_valid || out->threads_valid || out->pid_count > 0;
}

bool vac_proc_parse_stat(const char *text, size_t bytes, struct vac_proc_stat *out)
{
	/* "PID (NAME) STATE PARENT ...": a name may hold anything, brackets too. */
	const char *name_end = memrchr(text, ')', bytes);
	struct cursor c = {name_end, text + bytes};
	uint64_t value, user = 0, system = 0;

	memset(out, 0, sizeof(*out));
	if (!name_end || c.end - c.at < 4 || c.at[1] != ' ' || !isalpha((unsigned char)c.at[2]))
		return false;
	out->state = c.at[2];
	c.at += 3;
	for (int field = 4; field <= 22; field++) {
		/* Some are signed. */
		while (c.at < c.end && *c.at == ' ')
			c.at++;
		if (c.at < c.end && *c.at == '-')
			c.at++;
		if (!number(&c, &value))
			return false;
		if (field == 4 && value <= INT_MAX)
			out->parent = (pid_t)value;
		if (field == 14)
			user = value;
		if (field == 15)
			system = value;
	}
	/* More fields follow: a number that ends the text may be cut. */
	if (c.at == c.end)
		return false;
	out->cpu_ticks = user + system;
	out->start_ticks = value;
	return true;
}

/* Cuts "A\0B\0" into words; a process that writes its title over its arguments may
 * leave one word with blanks in it, which stays one. */
static size_t cut_words(char *text, size_t bytes, const char *words[MOST_WORDS])
{
	size_t count = 0;

	for (size_t at = 0; at < bytes && count < MOST_WORDS; at += strlen(text + at) + 1)
		words[count++] = text + at;
	return count;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

/* "python", "python3.11", "pypy3", also with a path in front. */
static bool is_python(const char *word)
{
	const char *base = base_of(word);

	if (strncmp(base, "python", 6) == 0)
		base += 6;
	else if (strncmp(base, "pypy", 4) == 0)
		base += 4;
	else
		return false;
	return base[strspn(base, "0123456789.")] == '\0';
}

static void name_module(const char *module, char out[VAC_PROC_NAME_BYTES])
{
	if (strcmp(module, "ipykernel_launcher") == 0 || strncmp(module, "ipykernel", 9) == 0)
		snprintf(out, VAC_PROC_NAME_BYTES, "ipykernel (notebook)");
	else
		snprintf(out, VAC_PROC_NAME_BYTES, "%s", module);
}

/* Behind the interpreter's own options stands the script. */
static void name_python(const char *const *words, size_t count, char out[VAC_PROC_NAME_BYTES])
{
	size_t i = 1;

	for (; i < count && words[i][0] == '-' && words[i][1]; i++) {
		const char *option = words[i] + 1;

		if (*option == '-') {
			if (strcmp(option, "-check-hash-based-pycs") == 0)
				i++;
			continue;
		}
		/* "-u", "-Bu", "-mMODULE", "-um MODULE", "-W ignore", "-Wignore" */
		option += strcspn(option, "cmWX");
		if (*option == 'c') {
			const char *code = option[1]       ? option + 1
					   : i + 1 < count ? words[i + 1]
							   : "";

			snprintf(out, VAC_PROC_NAME_BYTES, "%s",
				 strstr(code, "multiprocessing") ? "python (multiprocessing)"
								 : "python -c");
			return;
		}
		if (*option == 'm') {
			name_module(option[1]       ? option + 1
				    : i + 1 < count ? words[i + 1]
						    : "python -m",
				    out);
			return;
		}
		if (*option && !option[1])
			i++;
	}
	if (i >= count || strcmp(words[i], "-") == 0)
		snprintf(out, VAC_PROC_NAME_BYTES, "python");
	else if (strncmp(base_of(words[i]), "ipykernel", 9) == 0)
		name_module("ipykernel_launcher", out);
	else
		snprintf(out, VAC_PROC_NAME_BYTES, "%s", base_of(words[i]));
}

/* "/usr/bin/x" and "./x" are x. One word with blanks in it is a title that the process
 * has given itself: "ray::f with g", "/usr/sbin/sshd -D [listener]". */
static void name_program(const char *word, size_t count, char out[VAC_PROC_NAME_BYTES])
{
	size_t length = strlen(word), blank = strcspn(word, " ");
	const char *slash;

	if (blank < length && count == 1 && word[0] != '/') {
		snprintf(out, VAC_PROC_NAME_BYTES, "%s", word);
		return;
	}
	if (blank < length && count == 1)
		length = blank;
	slash = memrchr(word, '/', length);
	if (slash && slash + 1 < word + length) {
		length -= (size_t)(slash + 1 - word);
		word = slash + 1;
	}
	snprintf(out, VAC_PROC_NAME_BYTES, "%.*s", (int)length, word);
}

/* The text ends in a character of which the rest did not fit. */
static bool is_cut(const uint8_t *at, const uint8_t *end)
{
	size_t whole = *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : *at >= 0xc2 ? 2 : 1;

	if (at == end || (size_t)(end - at) >= whole || *at > 0xf4)
		return false;
	for (const uint8_t *next = at + 1; next < end; next++)
		if ((*next & 0xc0) != 0x80)
			return false;
	return true;
}

void vac_proc_clean(char *text, size_t room)
{
	uint8_t *at = (uint8_t *)text, *end = at + strlen(text), *to = at;
	bool full = (size_t)(end - at) + 1 == room;
	uint32_t code;

	while (at < end) {
		size_t length = vac_utf8_decode(at, end, &code);

		if (length == 0 && full && is_cut(at, end))
			break;
		if (length == 0 || vac_steers_terminal(code)) {
			*to++ = '?';
			at += length ? length : 1;
			continue;
		}
		memmove(to, at, length);
		to += length;
		at += length;
	}
	*to = '\0';
}

void vac_proc_name(const char *cmdline, size_t bytes, const char *comm,
		   char out[VAC_PROC_NAME_BYTES])
{
	const char *words[MOST_WORDS];
	char text[CMDLINE_BYTES];
	size_t count;

	if (bytes >= sizeof(text))
		bytes = sizeof(text) - 1;
	memcpy(text, cmdline, bytes);
	text[bytes] = '\0';
	count = cut_words(text, bytes, words);
	if (count == 0 || !words[0][0])
		snprintf(out, VAC_PROC_NAME_BYTES, "%s", *comm ? comm : "?");
	else if (is_python(words[0]))
		name_python(words, count, out);
	else
		name_program(words[0], count, out);
	vac_proc_clean(out, VAC_PROC_NAME_BYTES);
}

int vac_proc_read(const char *root, pid_t pid, struct vac_proc *out)
{
	char status[STATUS_BYTES], text[CMDLINE_BYTES], comm[64];
	struct vac_proc_stat again;
	unsigned long long size, resident;
	ssize_t n;

	memset(out, 0, sizeof(*out));
	out->pid = pid;
	n = vac_proc_text(root, pid, "stat", text, STAT_BYTES);
	if (n < 0)
		return (int)n;
	if (!vac_proc_parse_stat(text, (size_t)n, &out->stat))
		return -ESRCH;
	if (out->stat.state == 'Z' || out->stat.state == 'X')
		return -ESRCH;
	n = vac_proc_text(root, pid, "status", status, sizeof(status));
	if (n > 0)
		(void)vac_proc_parse_status(status, (size_t)n, &out->status);
	n = vac_proc_text(root, pid, "comm", comm, sizeof(comm));
	comm[strcspn(comm, "\n")] = '\0';
	n = vac_proc_text(root, pid, "cmdline", text, sizeof(text));
	vac_proc_name(text, n > 0 ? (size_t)n : 0, comm, out->name);
	n = vac_proc_text(root, pid, "statm", text, STAT_BYTES);
	if (n > 0 && sscanf(text, "%llu %llu", &size, &resident) == 2) {
		out->rss_valid = true;
		out->rss_bytes = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
	}
	/* The number may have gone to another process meanwhile. */
	n = vac_proc_text(root, pid, "stat", text, STAT_BYTES);
	if (n < 0 || !vac_proc_parse_stat(text, (size_t)n, &again) ||
	    again.start_ticks != out->stat.start_ticks)
		return -ESRCH;
	return 0;
}

static void take_target(const char *target, struct vac_proc_nvidia *out)
{
	char *end;
	unsigned long gpu;

	if (strncmp(target, "/dev/nvidia", 11) != 0)
		return;
	target += 11;
	out->descriptors++;
	if (strcmp(target, "-uvm") == 0)
		out->uvm = true;
	if (!isdigit((unsigned char)*target))
		return;
	gpu = strtoul(target, &end, 10);
	if (*end == '\0' && gpu < 32)
		out->gpus |= UINT32_C(1) << gpu;
}

int vac_proc_nvidia(const char *root, pid_t pid, struct vac_proc_nvidia *out)
{
	char path[PATH_MAX], target[64];
	struct dirent *entry;
	int rc = 0, n = snprintf(path, sizeof(path), "%s/proc/%d/fd", root, (int)pid);
	DIR *dir;

	memset(out, 0, sizeof(*out));
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	dir = opendir(path);
	if (!dir)
		return -errno;
	errno = 0;
	while ((entry = readdir(dir))) {
		/* One that is longer than the room for it is not of the driver. */
		ssize_t got =
			isdigit((unsigned char)entry->d_name[0])
				? readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1)
				: -1;

		if (got > 0) {
			target[got] = '\0';
			take_target(target, out);
		} else if (got < 0 && (errno == EACCES || errno == EPERM)) {
			rc = -errno;
			break;
		}
		errno = 0;
	}
	closedir(dir);
	return rc;
}

int vac_proc_each(const char *root, bool (*each)(void *ctx, pid_t pid), void *ctx)
{
	char path[PATH_MAX];
	struct dirent *entry;
	int n = snprintf(path, sizeof(path), "%s/proc", root);
	DIR *dir;

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		char *end;
		unsigned long pid;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		pid = strtoul(entry->d_name, &end, 10);
		if (*end == '\0' && pid > 0 && pid <= INT_MAX && !each(ctx, (pid_t)pid))
			break;
	}
	closedir(dir);
	return 0;
}
