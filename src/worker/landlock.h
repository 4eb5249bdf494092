/*
 * landlock.h - Landlock: the kernel's rules for a process that gives up rights
 * for good. By raw system calls and own declarations, since neither the C library
 * nor a build machine's headers may know them. The worker's one thread.
 */
#ifndef VAC_WORKER_LANDLOCK_H
#define VAC_WORKER_LANDLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Rights at a path and below it; bits of the kernel's interface. */
#define VAC_LANDLOCK_EXECUTE    (UINT64_C(1) << 0)
#define VAC_LANDLOCK_WRITE_FILE (UINT64_C(1) << 1)
#define VAC_LANDLOCK_READ_FILE  (UINT64_C(1) << 2)
#define VAC_LANDLOCK_READ_DIR   (UINT64_C(1) << 3)
#define VAC_LANDLOCK_REMOVE     (UINT64_C(1) << 5) /* files */
#define VAC_LANDLOCK_MAKE       (UINT64_C(1) << 8) /* files */
#define VAC_LANDLOCK_TRUNCATE   (UINT64_C(1) << 14)
#define VAC_LANDLOCK_IOCTL_DEV  (UINT64_C(1) << 15)

struct vac_path_rule {
	const char *path; /* one that is not there is passed over */
	uint64_t rights;
};

/* Gives up everything that the kernel's version can take: the file system but for
 * the paths, TCP (4), abstract Unix sockets and signals to others (6). Returns the
 * version, or a negative errno with a word for people in *why. */
int vac_landlock_enter(const struct vac_path_rule *paths, size_t count, const char **why);

#endif
