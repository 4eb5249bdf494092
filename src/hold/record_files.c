/*
 * record_files.c - where records lie and who may be believed; see record.h. Files are
 * named by the process's number and the namespace in which that is its number, since
 * containers may share /tmp.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/stage.h"
#include "hold/internal.h"
#include "hold/record.h"

#define DIRECTORY_PREFIX "vacate-hold-"
/* Files of one directory that are looked at when listing. */
#define MOST_ENTRIES 4096u
#define ANY_USER     ((uid_t)-1)

int vac_hold_fail_file(struct vac_error *err, int errnum, const char *path, const char *what)
{
	int rc = vac_fail_errno(err, errnum, "%s: %s", path, what);

	if (rc != vac_error_errno(VAC_E_NOT_FOUND))
		return rc;
	if (err)
		err->code = VAC_E_IO;
	return vac_error_errno(VAC_E_IO);
}

static uint64_t own_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

void vac_record_init(struct vac_record *record, const struct vac_target *target)
{
	memset(record, 0, sizeof(*record));
	record->pid = target->pid;
	record->pid_namespace = own_namespace();
	record->start_ticks = target->start_ticks;
	record->uid = target->uid;
}

static void file_name(char out[64], uint64_t pid_namespace, pid_t pid, const char *suffix)
{
	snprintf(out, 64, "%" PRIu64 ".%d%s", pid_namespace, (int)pid, suffix);
}

/* Our directory, made if need be; a descriptor, or a negative errno. */
static int open_own(const char *directory, struct vac_error *err)
{
	struct stat st;
	int fd, made = mkdir(directory, 0755);

	if (made != 0 && errno != EEXIST)
		return vac_hold_fail_file(err, errno, directory,
					  "the directory of records cannot be made");
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || vac_fstat(fd, &st) < 0) {
		int rc = vac_hold_fail_file(err, errno, directory,
					    "the directory of records cannot be used");

		if (fd >= 0)
			close(fd);
		return rc;
	}
	/* In /tmp anybody may have made it before us. */
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		close(fd);
		return vac_fail(err, VAC_E_IO,
				"%s: the directory of records belongs to user %u or can be written "
				"by others; remove it, or name another in VACATE_HOLD_DIR",
				directory, (unsigned)st.st_uid);
	}
	if (made == 0) /* whatever the umask: others resume what we park */
		(void)fchmod(fd, 0755);
	return fd;
}

int vac_record_save(const char *directory, struct vac_record *record, struct vac_error *err)
{
	struct vac_buf text = VAC_BUF_INIT;
	char name[64], temporary[64];
	int64_t since = vac_now_ns();
	int dir, fd = -1, rc;

	record->by_pid = getpid();
	record->by_uid = geteuid();
	record->wall_ns = vac_wall_ns();
	record->order_ns = vac_now_ns();
	dir = open_own(directory, err);
	if (dir < 0)
		return dir;
	text.limit_bytes = VAC_RECORD_LIMIT_BYTES;
	vac_record_write(record, &text);
	file_name(name, record->pid_namespace, record->pid, "");
	file_name(temporary, record->pid_namespace, record->pid, ".new");
	if (!vac_buf_ok(&text)) {
		rc = vac_fail_nomem(err, "the record of a process", 0);
		goto out;
	}
	(void)unlinkat(dir, temporary, 0); /* of one that was killed */
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	rc = fd < 0 ? -errno : vac_write_full(fd, text.data, text.bytes);
	if (rc == 0 && (fchmod(fd, 0644) != 0 || renameat(dir, temporary, dir, name) != 0))
		rc = -errno;
	if (rc < 0) {
		(void)unlinkat(dir, temporary, 0);
		rc = vac_hold_fail_file(err, -rc, directory,
					"the record of the process cannot be written there");
	}
out:
	if (fd >= 0)
		close(fd);
	close(dir);
	vac_buf_free(&text);
	vac_stage("record", since);
	return rc;
}

static bool may_believe(uid_t who, uid_t about)
{
	return who == geteuid() || who == 0 || who == about;
}

/* One file of a directory that is open. */
static bool read_file(int dir, const char *name, struct vac_record *out)
{
	char text[VAC_RECORD_LIMIT_BYTES + 1];
	size_t bytes = 0;
	struct stat st;
	bool good = false;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (vac_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IWOTH) == 0) {
		while (bytes < sizeof(text)) {
			ssize_t n = read(fd, text + bytes, sizeof(text) - bytes);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0) {
				good = n == 0;
				break;
			}
			bytes += (size_t)n;
		}
		good = good && vac_record_parse(name, text, bytes, out, NULL) == 0 &&
		       may_believe(st.st_uid, out->uid);
	}
	close(fd);
	return good;
}

/* A directory of somebody; -1 if it is not to be believed. */
static int open_any(const char *directory, uid_t *owner)
{
	struct stat st;
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (vac_fstat(fd, &st) < 0 || (st.st_mode & S_IWOTH) != 0) {
		close(fd);
		return -1;
	}
	*owner = st.st_uid;
	return fd;
}

/* true: out is newer than it was. */
static bool find_in(const char *directory, const struct vac_target *target, bool found,
		    struct vac_record *out)
{
	struct vac_record record;
	uid_t owner;
	char name[64];
	int dir = open_any(directory, &owner);
	bool better;

	if (dir < 0)
		return false;
	file_name(name, own_namespace(), target->pid, "");
	better = may_believe(owner, target->uid) && read_file(dir, name, &record) &&
		 record.pid == target->pid && record.uid == target->uid &&
		 record.start_ticks == target->start_ticks &&
		 (!found || record.order_ns > out->order_ns);
	close(dir);
	if (better)
		*out = record;
	return better;
}

bool vac_record_find(const struct vac_hold *hold, const struct vac_target *target,
		     struct vac_record *out)
{
	const uid_t users[] = {target->uid, 0};
	bool found = find_in(hold->directory, target, false, out);
	char directory[PATH_MAX];

	if (strcmp(hold->lock_directory, hold->directory) == 0) /* all is in one place */
		return found;
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		snprintf(directory, sizeof(directory), "%s/" DIRECTORY_PREFIX "%u",
			 hold->lock_directory, (unsigned)users[i]);
		found |= find_in(directory, target, found, out);
	}
	return found;
}

void vac_record_remove(const char *directory, const struct vac_target *target)
{
	char name[64];
	int dir = open_own(directory, NULL);

	if (dir < 0)
		return;
	file_name(name, own_namespace(), target->pid, "");
	(void)unlinkat(dir, name, 0);
	close(dir);
}

/* The process that a record is about lives. */
static bool is_current(const struct vac_record *record)
{
	struct vac_target target = {
		.pid = record->pid, .pidfd = -1, .start_ticks = record->start_ticks};

	return vac_target_alive(&target);
}

/* A name of a record of our namespace: "4026531836.123". */
static bool is_name(const char *name, uint64_t pid_namespace)
{
	char *end;

	if (!isdigit((unsigned char)*name) || strtoull(name, &end, 10) != pid_namespace ||
	    *end != '.')
		return false;
	name = end + 1;
	return *name && name[strspn(name, "0123456789")] == '\0';
}

void vac_record_sweep(const char *directory)
{
	uint64_t pid_namespace = own_namespace();
	struct vac_record record;
	struct dirent *entry;
	int error, dir;
	DIR *stream;

	if (access(directory, F_OK) != 0)
		return; /* nothing to sweep, so do not make it */
	dir = open_own(directory, NULL);
	if (dir < 0)
		return;
	stream = fdopendir(dir);
	if (!stream) {
		close(dir);
		return;
	}
	for (unsigned i = 0; i < MOST_ENTRIES && (entry = vac_next_entry(stream, &error)); i++)
		if (is_name(entry->d_name, pid_namespace) &&
		    read_file(dir, entry->d_name, &record) && !is_current(&record))
			(void)unlinkat(dir, entry->d_name, 0);
	closedir(stream);
}

/* What a list is made of. */
struct list {
	struct vac_record *out;
	size_t capacity, count;
};

static void list_add(struct list *list, const struct vac_record *record)
{
	size_t stored = list->count < list->capacity ? list->count : list->capacity;

	for (size_t i = 0; i < stored; i++) {
		if (list->out[i].pid != record->pid)
			continue;
		if (record->order_ns > list->out[i].order_ns)
			list->out[i] = *record;
		return;
	}
	if (list->count < list->capacity)
		list->out[list->count] = *record;
	list->count++;
}

/* user: whose it must be, or ANY_USER where its name does not say. */
static void list_directory(struct list *list, const char *directory, uid_t user)
{
	uint64_t pid_namespace = own_namespace();
	struct vac_record record;
	struct dirent *entry;
	struct stat st;
	char path[64];
	uid_t owner;
	DIR *stream;
	int error, dir = open_any(directory, &owner);

	if (dir < 0)
		return;
	/* One directory a user: nobody makes thousands for us to read. */
	if (user != ANY_USER && user != owner) {
		close(dir);
		return;
	}
	stream = fdopendir(dir);
	if (!stream) {
		close(dir);
		return;
	}
	for (unsigned i = 0; i < MOST_ENTRIES && (entry = vac_next_entry(stream, &error)); i++) {
		if (!is_name(entry->d_name, pid_namespace) ||
		    !read_file(dir, entry->d_name, &record) || !may_believe(owner, record.uid) ||
		    !is_current(&record))
			continue;
		/* it says whose process it is, which is believed of nobody */
		snprintf(path, sizeof(path), "/proc/%d", (int)record.pid);
		if (stat(path, &st) == 0 && st.st_uid == record.uid)
			list_add(list, &record);
	}
	closedir(stream);
}

int vac_record_list(const struct vac_hold *hold, struct vac_record *out, size_t capacity,
		    size_t *count, struct vac_error *err)
{
	struct list list = {.out = out, .capacity = capacity};
	char directory[PATH_MAX];
	struct dirent *entry;
	int error = 0;
	DIR *stream;

	*count = 0;
	if (strcmp(hold->lock_directory, hold->directory) == 0) {
		list_directory(&list, hold->directory, ANY_USER);
		*count = list.count;
		return 0;
	}
	stream = opendir(hold->lock_directory);
	if (!stream)
		return vac_fail_errno(err, errno, "%s: records cannot be looked for",
				      hold->lock_directory);
	while ((entry = vac_next_entry(stream, &error)) != NULL) {
		const char *user = entry->d_name + strlen(DIRECTORY_PREFIX);

		if (strncmp(entry->d_name, DIRECTORY_PREFIX, strlen(DIRECTORY_PREFIX)) != 0 ||
		    !*user || user[strspn(user, "0123456789")] != '\0' || strlen(user) > 10)
			continue;
		snprintf(directory, sizeof(directory), "%s/%s", hold->lock_directory,
			 entry->d_name);
		list_directory(&list, directory, (uid_t)strtoul(user, NULL, 10));
	}
	closedir(stream);
	*count = list.count;
	if (error != 0)
		return vac_fail_errno(err, error, "%s: records cannot be looked for",
				      hold->lock_directory);
	return 0;
}
