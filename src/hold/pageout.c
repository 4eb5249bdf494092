/*
 * pageout.c - the copy of what was on the GPU, in a parked process's own memory, moved
 * to swap: process_madvise(MADV_PAGEOUT) over its anonymous mappings. Which of them the
 * copy is in the driver does not say; whatever is needed again comes back page by page.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hold/internal.h"
#include "hold/proc.h"
#include "memory/meter.h"

/* Linux 5.10; the same numbers on every architecture. */
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
/* One call moves at most so much, so that it can be interrupted. */
#define PIECE_BYTES ((uint64_t)256 << 20)
/* Linux's default limit of mappings is 65,530. */
#define MOST_MAPPINGS 262144u

static long advise(int pidfd, uint64_t at, uint64_t bytes)
{
	struct iovec piece = {.iov_base = (void *)(uintptr_t)at, .iov_len = bytes};

	return syscall(SYS_process_madvise, pidfd, &piece, 1, MADV_PAGEOUT, 0);
}

static bool has_swap(void)
{
	char line[256];
	int lines = 0;
	FILE *swaps = fopen("/proc/swaps", "re");

	if (!swaps)
		return false;
	while (fgets(line, sizeof(line), swaps))
		lines++;
	fclose(swaps);
	return lines > 1; /* the first is the heading */
}

int vac_pageout_check(const struct vac_target *target, struct vac_error *err)
{
	int pid = (int)target->pid;

	if (!has_swap())
		return vac_fail(
			err, VAC_E_UNSUPPORTED,
			"process %d: there is no swap on this machine to page its copy out to",
			pid);
	if (target->pidfd < 0)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"process %d: paging out another process needs Linux 5.10", pid);
	if (advise(target->pidfd, 0, 0) == 0)
		return 0;
	if (errno == EPERM)
		return vac_fail(
			err, VAC_E_IO,
			"process %d: paging out another process needs CAP_SYS_NICE: ask root", pid);
	if (errno == ENOSYS || errno == EINVAL)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"process %d: paging out another process needs Linux 5.10", pid);
	return vac_fail_errno(err, errno, "process %d cannot be paged out", pid);
}

/* "start-end perms offset dev inode path" that is private memory of no file */
static bool is_anonymous(const char *line, uint64_t *start, uint64_t *end)
{
	char permissions[8];
	unsigned long inode;
	int path_at = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*x %*s %lu %n", start, end, permissions,
		   &inode, &path_at) < 4)
		return false;
	if (inode != 0 || permissions[0] != 'r' || *start >= *end)
		return false;
	/* "[heap]", "[anon:...]" and nothing; not "[vdso]", "[vvar]", "[stack]" */
	return path_at > 0 && (line[path_at] == '\0' || line[path_at] == '\n' ||
			       strncmp(line + path_at, "[heap]", 6) == 0 ||
			       strncmp(line + path_at, "[anon", 5) == 0);
}

/* VmSwap of /proc/PID/status: private memory alone; 0 where it is not told. */
static uint64_t swapped_bytes(pid_t pid)
{
	char text[4096];
	ssize_t n = vac_proc_text("", pid, "status", text, sizeof(text) - 1);
	const char *at;
	uint64_t kib;

	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "\nVmSwap:");
	return at && sscanf(at, "\nVmSwap: %" SCNu64, &kib) == 1 ? kib << 10 : 0;
}

int vac_pageout(const struct vac_target *target, uint64_t *bytes, uint64_t *swapped,
		struct vac_error *err)
{
	uint64_t before, after, start, end, swapped_before = swapped_bytes(target->pid);
	char path[64], line[512];
	FILE *maps;

	*bytes = *swapped = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)target->pid);
	maps = fopen(path, "re");
	if (!maps || vac_meter_rss(target->pid, &before) < 0) {
		int error = maps ? ESRCH : errno;

		if (maps)
			fclose(maps);
		return vac_fail_errno(err, error, "%s: the process was not paged out", path);
	}
	for (unsigned i = 0; i < MOST_MAPPINGS && fgets(line, sizeof(line), maps); i++) {
		if (!is_anonymous(line, &start, &end))
			continue;
		/* Pages that are locked or pinned stay; so does a mapping that has gone. */
		for (; start < end; start += PIECE_BYTES)
			(void)!advise(target->pidfd, start,
				      end - start < PIECE_BYTES ? end - start : PIECE_BYTES);
	}
	fclose(maps);
	if (vac_meter_rss(target->pid, &after) < 0)
		return vac_fail(err, VAC_E_GONE, "process %d ended while it was paged out",
				(int)target->pid);
	*bytes = before > after ? before - after : 0;
	after = swapped_bytes(target->pid);
	*swapped = after > swapped_before ? after - swapped_before : 0;
	return 0;
}
