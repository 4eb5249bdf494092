/*
 * pageout.c - the copy of what was on the GPU, in a parked process's own memory, moved
 * to swap: process_madvise(MADV_PAGEOUT) over its private anonymous mappings. Which of them
 * the copy is in the driver does not say; whatever is needed again comes back page by page.
 * Both numbers are of smaps_rollup: VmRSS is loose before Linux 6.17, and VmSwap leaves out
 * shared memory, some of which may go to swap by itself meanwhile.
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

/* "start-end perms offset dev inode path" that is private memory of no file. Shared memory
 * of no file has an inode: it may be others' too. */
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

int vac_pageout(const struct vac_target *target, uint64_t *bytes, uint64_t *swapped,
		struct vac_error *err)
{
	struct vac_usage before, after;
	uint64_t start, end;
	char path[64], line[512];
	FILE *maps;

	*bytes = *swapped = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)target->pid);
	maps = fopen(path, "re");
	if (!maps)
		return vac_fail_errno(err, errno, "%s: the process was not paged out", path);
	if (vac_meter_process(target->pid, &before, err) < 0) {
		fclose(maps);
		vac_error_prefix(err, "nothing was paged out");
		return -EIO;
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
	if (vac_meter_process(target->pid, &after, err) < 0)
		return vac_fail(err, VAC_E_GONE, "process %d ended while it was paged out",
				(int)target->pid);
	*bytes = before.rss_bytes > after.rss_bytes ? before.rss_bytes - after.rss_bytes : 0;
	*swapped = after.swap_bytes > before.swap_bytes ? after.swap_bytes - before.swap_bytes : 0;
	return 0;
}
