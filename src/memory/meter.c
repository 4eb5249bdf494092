/*
 * meter.c - memory of processes and of the page cache, as the kernel counts
 * it. Any thread. /proc is read without stdio, so that measuring a process
 * from within does not change what is measured.
 */
#include "memory/meter.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"

/* smaps_rollup has 22 lines of 30 bytes on Linux 6.18. */
#define PROC_TEXT_BYTES 4096

/* Linux 6.5; the same number on every architecture. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* One window of the mincore fallback: its vector takes 16 KiB of stack. */
#define MINCORE_WINDOW_PAGES 16384u

static void proc_path(char *path, size_t size, pid_t pid, const char *name)
{
	if (pid == 0)
		snprintf(path, size, "/proc/self/%s", name);
	else
		snprintf(path, size, "/proc/%d/%s", (int)pid, name);
}

/* Adds the value of a "Name:   123 kB" line to bytes. false: no such line. */
static bool add_field(const char *text, const char *name, uint64_t *bytes)
{
	size_t length = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		char *end;
		unsigned long long kib;

		if (*line == '\n')
			line++;
		if (strncmp(line, name, length) != 0 || line[length] != ':')
			continue;
		kib = strtoull(line + length + 1, &end, 10);
		if (strncmp(end, " kB", 3) != 0)
			return false;
		*bytes += (uint64_t)kib * 1024;
		return true;
	}
	return false;
}

static int fail_process(pid_t pid, int errnum, struct vac_error *err)
{
	char dir[64];

	/* A zombie still has its directory, and no memory any more: ESRCH. */
	proc_path(dir, sizeof(dir), pid, "");
	if (errnum == ESRCH || (errnum == ENOENT && access(dir, F_OK) != 0))
		return vac_fail(err, VAC_E_NOT_FOUND, "process %d cannot be measured: it is gone",
				(int)pid);
	if (errnum == ENOENT)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%ssmaps_rollup is missing: a kernel of 4.14 or later is needed",
				dir);
	return vac_fail_errno(err, errnum, "%ssmaps_rollup: cannot measure the process", dir);
}

int vac_meter_process(pid_t pid, struct vac_usage *out, struct vac_error *err)
{
	char path[64], text[PROC_TEXT_BYTES];
	struct vac_usage usage = {0};
	bool complete;
	ssize_t n;

	*out = usage;
	proc_path(path, sizeof(path), pid, "smaps_rollup");
	n = vac_read_small(path, text, sizeof(text));
	if (n < 0)
		return fail_process(pid, (int)-n, err);
	if (n == 0) /* a kernel thread, or a process that died just now */
		return fail_process(pid, ESRCH, err);
	complete = add_field(text, "Rss", &usage.rss_bytes) &&
		   add_field(text, "Pss", &usage.pss_bytes) &&
		   add_field(text, "Pss_Anon", &usage.pss_anon_bytes) &&
		   add_field(text, "Pss_File", &usage.pss_file_bytes) &&
		   add_field(text, "Pss_Shmem", &usage.pss_shmem_bytes) &&
		   add_field(text, "Private_Clean", &usage.uss_bytes) &&
		   add_field(text, "Private_Dirty", &usage.uss_bytes) &&
		   add_field(text, "Swap", &usage.swap_bytes);
	if (!complete)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: lacks a line that is needed; a kernel of 5.4 or later has all",
				path);
	/* Only where the kernel was built with hugetlb pages. */
	(void)add_field(text, "Private_Hugetlb", &usage.uss_bytes);
	usage.valid = true;
	*out = usage;
	return 0;
}

/* Resident and shared (with a file or with others) bytes. */
static int read_statm(pid_t pid, uint64_t *resident_bytes, uint64_t *shared_bytes)
{
	char path[64], text[256];
	unsigned long long size, resident, shared;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	ssize_t n;

	proc_path(path, sizeof(path), pid, "statm");
	n = vac_read_small(path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	if (sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3)
		return -EIO;
	*resident_bytes = resident * page;
	*shared_bytes = shared * page;
	return 0;
}

int vac_meter_rss(pid_t pid, uint64_t *rss_bytes)
{
	uint64_t shared;

	return read_statm(pid, rss_bytes, &shared);
}

int vac_meter_anon(pid_t pid, uint64_t *anon_bytes)
{
	uint64_t resident, shared;
	int rc = read_statm(pid, &resident, &shared);

	if (rc == 0)
		*anon_bytes = resident > shared ? resident - shared : 0;
	return rc;
}

/* As the kernel declares them in linux/mman.h since 6.5. */
struct cachestat_range {
	uint64_t offset, bytes; /* 0 bytes: to the end of the file */
};
struct cachestat_result {
	uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
};

/* Pages of fd in the page cache. 0 or a negative errno. */
static int count_cachestat(int fd, uint64_t *pages)
{
	struct cachestat_range range = {0};
	struct cachestat_result result = {0};

	if (syscall(SYS_cachestat, fd, &range, &result, 0) != 0)
		return -errno;
	*pages = result.cached;
	return 0;
}

/* The same by mapping windows of the file and asking for each; nothing is
 * faulted in by that. */
static int count_mincore(int fd, uint64_t size, uint64_t *pages)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t window = MINCORE_WINDOW_PAGES * page;
	unsigned char vector[MINCORE_WINDOW_PAGES];
	struct stat st;

	/* To a process that may not know, mincore says that all is resident. */
	if (fstat(fd, &st) != 0)
		return -errno;
	if (st.st_uid != geteuid() && geteuid() != 0 &&
	    faccessat(fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS) != 0)
		return -EPERM;
	*pages = 0;
	for (uint64_t at = 0; at < size; at += window) {
		size_t bytes = (size_t)(size - at < window ? size - at : window);
		size_t count = (bytes + page - 1) / page;
		void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, (off_t)at);
		int rc = 0;

		if (map == MAP_FAILED)
			return -errno;
		if (mincore(map, bytes, vector) != 0)
			rc = -errno;
		munmap(map, bytes);
		if (rc != 0)
			return rc;
		for (size_t i = 0; i < count; i++)
			*pages += vector[i] & 1;
	}
	return 0;
}

int vac_meter_cached(int fd, uint64_t size, uint64_t *cached_bytes)
{
	uint64_t pages = 0;
	int rc = count_cachestat(fd, &pages);

	if (rc == -ENOSYS || rc == -EOPNOTSUPP)
		rc = count_mincore(fd, size, &pages);
	*cached_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return rc;
}

int vac_meter_page_cache(const char *path, uint64_t *cached_bytes, struct vac_error *err)
{
	uint64_t size;
	int rc, fd = vac_open_file(path, &size, err);

	if (fd < 0)
		return fd;
	rc = vac_meter_cached(fd, size, cached_bytes);
	close(fd);
	if (rc == -EPERM)
		return vac_fail(err, VAC_E_IO,
				"%s: how much of it is in the page cache is known only to who owns "
				"the file or may write to it",
				path);
	if (rc != 0)
		return vac_fail_errno(err, -rc, "%s: cannot ask the page cache", path);
	return 0;
}

int vac_drop_page_cache(const char *path, struct vac_error *err)
{
	int rc, fd = vac_open_file(path, NULL, err);

	if (fd < 0)
		return fd;
	rc = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	if (rc != 0)
		return vac_fail_errno(err, rc, "%s: cannot drop its page cache", path);
	return 0;
}
