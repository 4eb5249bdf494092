/*
 * meter.h - memory measured from outside: /proc, cgroups, the page cache.
 * Every value that may be unknown has a valid bit; unknown is not 0.
 * Any thread; allocates nothing that outlives the call.
 */
#ifndef VAC_MEMORY_METER_H
#define VAC_MEMORY_METER_H

#include <sys/types.h>

#include "base/error.h"

#include <stdbool.h>

/* One process, from /proc/PID/smaps_rollup (costs about 6 ms for 800 MiB of
 * 4 KiB pages: measure on events, not on a timer). Bytes. */
struct vac_usage {
	bool valid;
	uint64_t rss_bytes;
	uint64_t pss_bytes;
	uint64_t pss_anon_bytes;
	uint64_t pss_file_bytes;
	uint64_t pss_shmem_bytes;
	uint64_t uss_bytes; /* Private_Clean + Private_Dirty (+ Private_Hugetlb) */
	uint64_t swap_bytes;
};
/* pid 0: this process. A process that is gone is VAC_E_NOT_FOUND. */
int vac_meter_process(pid_t pid, struct vac_usage *out, struct vac_error *err) VAC_MUST_CHECK;
/* Resident bytes from /proc/PID/statm, 5 us; pid 0: this process. The kernel
 * counts these per processor and adds them up loosely: some pages off. */
int vac_meter_rss(pid_t pid, uint64_t *rss_bytes) VAC_MUST_CHECK;
/* Of that what is in no file and not shared, as quick and as loose. */
int vac_meter_anon(pid_t pid, uint64_t *anon_bytes) VAC_MUST_CHECK;

/* The kernel's counters where it adds them up exactly (Linux 6.17), else -EOPNOTSUPP: for
 * a difference in place of a second vac_meter_process, which walks all pages (10 ms a
 * GiB). */
struct vac_resident {
	bool valid;
	uint64_t anon_bytes, other_bytes, swap_bytes;
};
int vac_meter_resident(pid_t pid, struct vac_resident *out) VAC_MUST_CHECK;
/* What vac_meter_process would say when `then` was read, by what it said when `read` was.
 * Of pages that are not anonymous it is taken that what came or went was not private. */
void vac_usage_at(const struct vac_usage *usage, const struct vac_resident *read,
		  const struct vac_resident *then, struct vac_usage *out);

/* Bytes of a file that are in the page cache now, whole pages (cachestat(2),
 * else mincore on a mapping). The kernel tells it only to who owns the file or
 * may write to it; for others it is VAC_E_IO. */
int vac_meter_page_cache(const char *path, uint64_t *cached_bytes,
			 struct vac_error *err) VAC_MUST_CHECK;
/* The same of an open file of that size; a negative errno if it is not told. */
int vac_meter_cached(int fd, uint64_t size, uint64_t *cached_bytes) VAC_MUST_CHECK;
/* Asks the kernel to drop a file's clean pages (posix_fadvise DONTNEED). */
int vac_drop_page_cache(const char *path, struct vac_error *err) VAC_MUST_CHECK;

/* The same over every file of a directory whose name ends in suffix
 * (".safetensors"), dropped first when drop is set; *dropped tells whether
 * every one could be. */
int vac_meter_dir_cache(const char *dir, const char *suffix, bool drop, uint64_t *cached_bytes,
			bool *dropped, struct vac_error *err) VAC_MUST_CHECK;

/* The machine and the cgroup (v1 or v2) that this process runs in. */
struct vac_host_memory {
	bool total_valid, available_valid;
	bool cgroup_limit_valid; /* false: no limit anywhere, or no cgroup found */
	bool cgroup_used_valid, cgroup_room_valid;
	uint64_t total_bytes;              /* MemTotal */
	uint64_t available_bytes;          /* MemAvailable */
	int cgroup_version;                /* 0: none found, 1 or 2 */
	uint64_t cgroup_limit_bytes;       /* the least limit on the way to the root */
	uint64_t cgroup_used_bytes;        /* of the cgroup that sets that limit; where a
					    * namespace hides it, of the highest one seen */
	uint64_t cgroup_reclaimable_bytes; /* of which inactive and active file pages */
	/* The least of limit - used + reclaimable on the way to the root: a parent
	 * with a larger limit can be the tighter one when siblings fill it. */
	uint64_t cgroup_room_bytes;
};
/* root: "" on a live system; tests give a directory that holds proc/ and sys/. */
void vac_meter_host(const char *root, struct vac_host_memory *out);
/* The same for the cgroup that another process runs in, as far as it can be seen from
 * here; pid 0: this process. name, if name_bytes is not 0: that group's path, "" when
 * none was found. */
void vac_meter_host_of(const char *root, pid_t pid, struct vac_host_memory *out, char *name,
		       size_t name_bytes);
/* How transparent huge pages are set ("always", "madvise", "never"); root as above. false:
 * the kernel has none, or does not say. */
bool vac_meter_huge_pages(const char *root, char out[16]);
/* What can still be allocated: the lesser of MemAvailable and
 * cgroup_room_bytes. false when both are unknown. */
bool vac_host_room(const struct vac_host_memory *host, uint64_t *room_bytes);

#endif
