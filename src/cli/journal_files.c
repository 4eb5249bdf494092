/*
 * journal_files.c - receipts out of a journal's files. One thread.
 *
 * A server may rotate while they are read: a file only ever gets a higher
 * number, so that reading from the lowest number on meets each of them, perhaps
 * twice. A number may be unused for a moment, or for good after a crash.
 */
#include "cli/journal_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"

#define MAX_NUMBER 999
/* A line that is longer is no receipt of ours. */
#define MAX_LINE_BYTES ((size_t)64 << 10)

struct files {
	struct {
		dev_t dev;
		ino_t ino;
	} known[MAX_NUMBER + 1];
	size_t known_count;
	int64_t since_wall_ns;
	size_t limit;
	struct vac_journal_receipts *out;
	size_t capacity;
};

void vac_journal_receipts_free(struct vac_journal_receipts *receipts)
{
	for (size_t i = 0; i < receipts->count; i++)
		free(receipts->lines[i]);
	free(receipts->lines);
	*receipts = (struct vac_journal_receipts){0};
}

/* ---- lines ---- */

static bool is_receipt(const json_t *json)
{
	const char *event = json_string_value(json_object_get(json, "event"));

	/* Journals of older servers held nothing else and did not say so. */
	return event ? strcmp(event, "receipt") == 0
		     : json_object_get(json, "ledger_bytes") != NULL;
}

static bool is_new_enough(const struct files *files, const json_t *json)
{
	const char *text = json_string_value(json_object_get(json, "time"));
	int64_t wall_ns;

	if (!text)
		text = json_string_value(json_object_get(json, "at"));
	if (files->since_wall_ns <= 0)
		return true;
	return text && vac_parse_since(text, 0, &wall_ns) == 0 && wall_ns >= files->since_wall_ns;
}

/* Of the lines from first on the newest stay, so many that the limit holds. */
static void drop_oldest(struct files *files, size_t first)
{
	struct vac_journal_receipts *out = files->out;
	size_t extra;

	if (files->limit == 0 || out->count <= files->limit)
		return;
	extra = out->count - files->limit;
	for (size_t i = 0; i < extra; i++)
		free(out->lines[first + i]);
	out->count -= extra;
	memmove(out->lines + first, out->lines + first + extra,
		(out->count - first) * sizeof(*out->lines));
}

/* Puts a line of this file behind those of the file that are there from first
 * on. Takes the line; 0 or -ENOMEM. */
static int keep(struct files *files, size_t first, char *line)
{
	struct vac_journal_receipts *out = files->out;

	/* Now and then: moving the rest costs as much as there is. */
	if (out->count - first > 2 * files->limit)
		drop_oldest(files, first);
	if (out->count == files->capacity) {
		size_t capacity = files->capacity ? files->capacity * 2 : 64;
		char **lines = realloc(out->lines, capacity * sizeof(*lines));

		if (!lines) {
			free(line);
			return -ENOMEM;
		}
		out->lines = lines;
		files->capacity = capacity;
	}
	out->lines[out->count++] = line;
	return 0;
}

static int take_line(struct files *files, size_t first, const char *line, size_t bytes)
{
	json_t *json = bytes > MAX_LINE_BYTES ? NULL : json_loadb(line, bytes, 0, NULL);
	char *copy;
	int rc = 0;

	if (!json_is_object(json)) {
		files->out->unreadable++;
	} else if (is_receipt(json) && is_new_enough(files, json)) {
		copy = strndup(line, bytes);
		rc = copy ? keep(files, first, copy) : -ENOMEM;
	}
	json_decref(json);
	return rc;
}

/* ---- files ---- */

static void reverse(char **lines, size_t count)
{
	for (size_t i = 0; i < count / 2; i++) {
		char *line = lines[i];

		lines[i] = lines[count - 1 - i];
		lines[count - 1 - i] = line;
	}
}

static int read_lines(struct files *files, FILE *file)
{
	size_t first = files->out->count, capacity = 0;
	char *line = NULL;
	ssize_t bytes;
	int rc = 0;

	while (rc == 0 && (bytes = getline(&line, &capacity, file)) >= 0) {
		if (bytes > 0 && line[bytes - 1] == '\n')
			bytes--;
		if (bytes > 0)
			rc = take_line(files, first, line, (size_t)bytes);
	}
	if (rc == 0 && ferror(file))
		rc = -EIO;
	free(line);
	drop_oldest(files, first);
	reverse(files->out->lines + first, files->out->count - first);
	return rc;
}

/* The same file under another number, or moved while we read. */
static bool seen(struct files *files, const struct stat *st)
{
	for (size_t i = 0; i < files->known_count; i++) {
		if (files->known[i].dev == st->st_dev && files->known[i].ino == st->st_ino)
			return true;
	}
	files->known[files->known_count].dev = st->st_dev;
	files->known[files->known_count++].ino = st->st_ino;
	return false;
}

/* 0: read, or seen before; -ENOENT: no such file. */
static int read_file(struct files *files, const char *name, struct vac_error *err)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc = 0;
	struct stat st;
	FILE *file;

	if (fd < 0)
		return vac_fail_errno(err, errno, "journal %s: cannot be opened", name);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return vac_fail(err, VAC_E_INVALID, "journal %s: is no regular file", name);
	}
	if (files->known_count > MAX_NUMBER || seen(files, &st)) {
		close(fd);
		return 0;
	}
	file = fdopen(fd, "r");
	if (!file) {
		close(fd);
		return vac_fail_nomem(err, "the journal", 0);
	}
	rc = read_lines(files, file);
	fclose(file);
	if (rc == -ENOMEM)
		return vac_fail_nomem(err, "the receipts of the journal", 0);
	return rc < 0 ? vac_fail_errno(err, -rc, "journal %s: cannot be read", name) : 0;
}

/* The highest number behind the journal's name in its directory. */
static unsigned int highest_number(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;
	char dir[PATH_MAX] = ".";
	unsigned int highest = 0;
	struct dirent *entry;
	DIR *stream;

	if (slash)
		snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	stream = opendir(dir);
	while (stream && (entry = readdir(stream))) {
		size_t bytes = strlen(base);
		const char *digits = entry->d_name + bytes + 1;
		unsigned long number;

		if (strncmp(entry->d_name, base, bytes) != 0 || entry->d_name[bytes] != '.' ||
		    strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 3)
			continue;
		number = strtoul(digits, NULL, 10);
		if (number > highest)
			highest = (unsigned int)number;
	}
	if (stream)
		closedir(stream);
	return highest;
}

int vac_journal_read(const char *path, int64_t since_wall_ns, size_t limit,
		     struct vac_journal_receipts *out, struct vac_error *err)
{
	struct files *files = calloc(1, sizeof(*files));
	unsigned int most = highest_number(path) + 1; /* one more may come meanwhile */
	char name[PATH_MAX];
	bool any = false;
	int rc = 0;

	*out = (struct vac_journal_receipts){0};
	if (!files)
		return vac_fail_nomem(err, "the journal", sizeof(*files));
	files->since_wall_ns = since_wall_ns;
	files->limit = limit;
	files->out = out;
	for (unsigned int i = 0; i <= most && i <= MAX_NUMBER; i++) {
		if (limit > 0 && out->count >= limit)
			break;
		if (i == 0)
			snprintf(name, sizeof(name), "%s", path);
		else
			snprintf(name, sizeof(name), "%s.%u", path, i);
		rc = read_file(files, name, err);
		if (rc == -ENOENT)
			continue;
		if (rc < 0)
			break;
		any = true;
	}
	free(files);
	if (rc == -ENOENT) /* of the last number that was tried */
		rc = 0;
	if (rc == 0 && !any)
		rc = vac_fail(err, VAC_E_NOT_FOUND, "journal %s: there is no such file", path);
	if (rc < 0)
		vac_journal_receipts_free(out);
	return rc;
}
