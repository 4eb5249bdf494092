/*
 * host.c - the machine's memory and the limits of the control groups that a
 * process runs in, version 1 or 2. Any thread.
 *
 * Where the group's files are is the mount point from mountinfo plus the path
 * from /proc/self/cgroup, less the part of the hierarchy that the mount does
 * not show. In a container that path may lie outside of what is mounted; then
 * the mount point itself stands for the nearest group that can be seen.
 */
#include "memory/meter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

/* mountinfo of a machine with thousands of containers. */
#define TEXT_LIMIT_BYTES ((size_t)16 << 20)
/* Version 1 writes "no limit" as the largest multiple of the page size below
 * 2^63; pages have at most 64 KiB, none has a limit near it. */
#define NO_LIMIT_BYTES ((uint64_t)INT64_MAX - ((uint64_t)1 << 20))

/* The group whose limits count: directory of its files, and how much of that
 * name is the mount point, above which nothing is to be seen. */
struct group {
	int version;
	char dir[PATH_MAX];
	size_t mount_length;
};

/* Fills text with a whole file, NUL-terminated. false when it cannot be read. */
static bool read_text(const char *path, struct vac_buf *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool good = false;

	if (fd < 0)
		return false;
	vac_buf_reset(text);
	text->limit_bytes = TEXT_LIMIT_BYTES;
	for (;;) {
		void *to = vac_buf_reserve(text, 4096);
		ssize_t n = to ? read(fd, to, 4096) : -1;

		if (to && n < 0 && errno == EINTR)
			continue;
		if (n > 0)
			vac_buf_advance(text, (size_t)n);
		if (n <= 0) {
			good = n == 0;
			break;
		}
	}
	close(fd);
	vac_buf_putc(text, '\0');
	return good && vac_buf_ok(text);
}

static bool read_text_at(const char *dir, const char *name, struct vac_buf *text)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", dir, name);

	return n > 0 && (size_t)n < sizeof(path) && read_text(path, text);
}

/* Value after "key" and white space at the start of a line. */
static bool find_number(const char *text, const char *key, uint64_t *value)
{
	size_t length = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		char *end;

		if (*line == '\n')
			line++;
		if (strncmp(line, key, length) != 0 ||
		    (line[length] != ' ' && line[length] != '\t'))
			continue;
		errno = 0;
		*value = strtoull(line + length, &end, 10);
		return errno == 0 && end != line + length;
	}
	return false;
}

static bool read_number(const char *dir, const char *name, struct vac_buf *text, uint64_t *value)
{
	char *end;

	if (!read_text_at(dir, name, text))
		return false;
	errno = 0;
	*value = strtoull((const char *)text->data, &end, 10);
	return errno == 0 && end != (const char *)text->data && (*end == '\n' || *end == '\0');
}

static void read_meminfo(const char *root, struct vac_buf *text, struct vac_host_memory *out)
{
	char path[PATH_MAX];
	uint64_t kib;

	if ((size_t)snprintf(path, sizeof(path), "%s/proc/meminfo", root) >= sizeof(path) ||
	    !read_text(path, text))
		return;
	out->total_valid = find_number((const char *)text->data, "MemTotal:", &kib);
	if (out->total_valid)
		out->total_bytes = kib * 1024;
	out->available_valid = find_number((const char *)text->data, "MemAvailable:", &kib);
	if (out->available_valid)
		out->available_bytes = kib * 1024;
}

/* Is word one of the members of a comma-separated list? */
static bool list_has(const char *list, const char *word)
{
	size_t length = strlen(word);

	while (list) {
		if (strncmp(list, word, length) == 0 && (list[length] == ',' || !list[length]))
			return true;
		list = strchr(list, ',');
		if (list)
			list++;
	}
	return false;
}

/* From the lines "id:controllers:path" of /proc/self/cgroup: the group of the
 * memory controller in version 1 if it is mounted there, else the group of
 * version 2. Returns the version, 0 when there is none. Cuts text up. */
static int parse_membership(char *text, const char **path)
{
	int version = 0;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':'), *where = list ? strchr(list + 1, ':') : NULL;

		if (!where)
			continue;
		*list++ = '\0';
		*where++ = '\0';
		if (list_has(list, "memory")) {
			*path = where;
			return 1;
		}
		if (strcmp(line, "0") == 0 && *list == '\0') {
			*path = where;
			version = 2;
		}
	}
	return version;
}

/* mountinfo writes blanks and backslashes in names as \ooo. */
static void unescape(char *name)
{
	char *to = name;

	for (const char *from = name; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
		    from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* What of the group's path lies below the mount, whose own root in the
 * hierarchy is mount_root; "" when the mount does not show the group. */
static const char *below_mount(const char *path, const char *mount_root)
{
	size_t length = strlen(mount_root);

	if (strstr(path, "/..")) /* outside of the cgroup namespace */
		return "";
	if (strcmp(mount_root, "/") == 0)
		return strcmp(path, "/") == 0 ? "" : path;
	if (strncmp(path, mount_root, length) == 0 && (path[length] == '/' || !path[length]))
		return path + length;
	return "";
}

/* One line of mountinfo: "id parent dev root point options ... - type source
 * superoptions". true when it mounts the wanted hierarchy; fills group. */
static bool parse_mount(char *line, const char *root, const char *path, struct group *group)
{
	char *fields[5], *rest, *type, *save = NULL;
	struct stat st;
	int n;

	rest = strstr(line, " - ");
	if (!rest)
		return false;
	*rest = '\0';
	type = rest + 3;
	rest = strchr(type, ' ');
	if (!rest)
		return false;
	*rest++ = '\0';
	if (strcmp(type, group->version == 1 ? "cgroup" : "cgroup2") != 0)
		return false;
	rest = strchr(rest, ' '); /* behind the source: the super block's options */
	if (group->version == 1 && (!rest || !list_has(rest + 1, "memory")))
		return false;
	for (int i = 0; i < 5; i++) {
		fields[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
		if (!fields[i])
			return false;
	}
	unescape(fields[3]);
	unescape(fields[4]);
	n = snprintf(group->dir, sizeof(group->dir), "%s%s", root, fields[4]);
	if (n <= 0 || (size_t)n >= sizeof(group->dir))
		return false;
	group->mount_length = (size_t)n;
	path = below_mount(path, fields[3]);
	if (strlen(path) >= sizeof(group->dir) - (size_t)n)
		return false;
	strcpy(group->dir + n, path);
	if (stat(group->dir, &st) != 0 || !S_ISDIR(st.st_mode))
		group->dir[group->mount_length] = '\0';
	return stat(group->dir, &st) == 0;
}

/* member: "self" or the number of a process; path: the group as /proc names it. */
static bool find_group(const char *root, const char *member, struct vac_buf *text,
		       struct group *group, char path[PATH_MAX])
{
	char file[PATH_MAX], *save = NULL;
	const char *found = NULL;

	if ((size_t)snprintf(file, sizeof(file), "%s/proc/%s/cgroup", root, member) >=
		    sizeof(file) ||
	    !read_text(file, text))
		return false;
	group->version = parse_membership((char *)text->data, &found);
	if (group->version == 0 || strlen(found) >= PATH_MAX)
		return false;
	strcpy(path, found);
	if ((size_t)snprintf(file, sizeof(file), "%s/proc/self/mountinfo", root) >= sizeof(file) ||
	    !read_text(file, text))
		return false;
	for (char *line = strtok_r((char *)text->data, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (parse_mount(line, root, path, group))
			return true;
	}
	return false;
}

/* Use of the group in dir, and what of it is page cache. The sums of version 1
 * that include the groups below are called total_*. */
static bool read_use(const struct group *group, struct vac_buf *text, uint64_t *used,
		     uint64_t *reclaimable)
{
	const char *prefix = group->version == 1 ? "total_" : "";
	char key[32];
	uint64_t inactive = 0, active = 0;

	if (!read_number(group->dir,
			 group->version == 1 ? "memory.usage_in_bytes" : "memory.current", text,
			 used))
		return false;
	*reclaimable = 0;
	if (!read_text_at(group->dir, "memory.stat", text))
		return true;
	snprintf(key, sizeof(key), "%sinactive_file", prefix);
	(void)find_number((const char *)text->data, key, &inactive);
	snprintf(key, sizeof(key), "%sactive_file", prefix);
	(void)find_number((const char *)text->data, key, &active);
	/* The counters are read at different moments. */
	*reclaimable = inactive + active < *used ? inactive + active : *used;
	return true;
}

/* Takes one limit into account; used_valid: use and reclaimable belong to the
 * group that sets it, or to the highest one that can be seen. */
static void apply_limit(struct vac_host_memory *out, uint64_t limit, bool used_valid, uint64_t used,
			uint64_t reclaimable)
{
	if (limit >= NO_LIMIT_BYTES)
		return;
	if (!out->cgroup_limit_valid || limit < out->cgroup_limit_bytes) {
		out->cgroup_limit_valid = true;
		out->cgroup_limit_bytes = limit;
		out->cgroup_used_valid = used_valid;
		out->cgroup_used_bytes = used_valid ? used : 0;
		out->cgroup_reclaimable_bytes = used_valid ? reclaimable : 0;
	}
	if (used_valid) {
		uint64_t hard = used - reclaimable;
		uint64_t room = limit > hard ? limit - hard : 0;

		if (!out->cgroup_room_valid || room < out->cgroup_room_bytes) {
			out->cgroup_room_valid = true;
			out->cgroup_room_bytes = room;
		}
	}
}

/* From the group up to the mount point. */
static void walk_groups(struct group *group, struct vac_buf *text, struct vac_host_memory *out)
{
	const char *limit_name = group->version == 1 ? "memory.limit_in_bytes" : "memory.max";
	uint64_t inherited = UINT64_MAX;

	/* Version 1 tells the least limit of all ancestors, hidden ones too. */
	if (group->version == 1 && read_text_at(group->dir, "memory.stat", text))
		(void)find_number((const char *)text->data, "hierarchical_memory_limit",
				  &inherited);
	for (;;) {
		uint64_t limit, used = 0, reclaimable = 0;
		bool top = strlen(group->dir) <= group->mount_length;
		bool limited = read_number(group->dir, limit_name, text, &limit);
		bool hidden;

		if (!limited) /* "max", or the root of version 2, which has no limit */
			limit = UINT64_MAX;
		hidden = top && inherited < limit &&
			 (!out->cgroup_limit_valid || inherited < out->cgroup_limit_bytes);
		if (limit < NO_LIMIT_BYTES || hidden) {
			bool used_valid = read_use(group, text, &used, &reclaimable);

			apply_limit(out, limit, used_valid, used, reclaimable);
			if (hidden)
				apply_limit(out, inherited, used_valid, used, reclaimable);
		}
		if (top)
			return;
		*strrchr(group->dir, '/') = '\0';
	}
}

void vac_meter_host_of(const char *root, pid_t pid, struct vac_host_memory *out, char *name,
		       size_t name_bytes)
{
	struct vac_buf text = VAC_BUF_INIT;
	struct group group = {0};
	char member[16] = "self", path[PATH_MAX] = "";

	*out = (struct vac_host_memory){0};
	if (pid > 0)
		snprintf(member, sizeof(member), "%d", (int)pid);
	read_meminfo(root, &text, out);
	if (find_group(root, member, &text, &group, path)) {
		out->cgroup_version = group.version;
		walk_groups(&group, &text, out);
	}
	if (name_bytes > 0)
		snprintf(name, name_bytes, "%s", path);
	vac_buf_free(&text);
}

void vac_meter_host(const char *root, struct vac_host_memory *out)
{
	vac_meter_host_of(root, 0, out, NULL, 0);
}

bool vac_meter_huge_pages(const char *root, char out[16])
{
	struct vac_buf text = VAC_BUF_INIT;
	char path[PATH_MAX];
	bool found = false;

	snprintf(path, sizeof(path), "%s/sys/kernel/mm/transparent_hugepage/enabled", root);
	/* "always [madvise] never" */
	if (read_text(path, &text)) {
		const char *word = strchr((const char *)text.data, '[');
		size_t length = word ? strspn(word + 1, "abcdefghijklmnopqrstuvwxyz") : 0;

		found = length > 0 && length < 16 && word[1 + length] == ']';
		if (found)
			snprintf(out, 16, "%.*s", (int)length, word + 1);
	}
	vac_buf_free(&text);
	return found;
}

bool vac_host_room(const struct vac_host_memory *host, uint64_t *room_bytes)
{
	uint64_t room = UINT64_MAX;

	if (host->available_valid)
		room = host->available_bytes;
	if (host->cgroup_room_valid && host->cgroup_room_bytes < room)
		room = host->cgroup_room_bytes;
	if (!host->available_valid && !host->cgroup_room_valid)
		return false;
	*room_bytes = room;
	return true;
}
