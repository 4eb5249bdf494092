/* landlock.c - see landlock.h. */
#include "worker/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same on every architecture. */
#define NR_CREATE_RULESET 444
#define NR_ADD_RULE       445
#define NR_RESTRICT_SELF  446

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH      1

/* How many of the file system's rights each version knows, from bit 0. */
#define FS_RIGHTS_1 13 /* execute ... make_sym */
#define FS_RIGHTS_2 14 /* refer */
#define FS_RIGHTS_3 15 /* truncate */
#define FS_RIGHTS_5 16 /* ioctl_dev */
#define NET_RIGHTS  2  /* 4: bind and connect of TCP */
#define SCOPES      2  /* 6: abstract Unix sockets, signals */
#define BITS(n)     ((UINT64_C(1) << (n)) - 1)
#define OF_FILES_ONLY                                                                              \
	(VAC_LANDLOCK_EXECUTE | VAC_LANDLOCK_WRITE_FILE | VAC_LANDLOCK_READ_FILE |                 \
	 VAC_LANDLOCK_TRUNCATE | VAC_LANDLOCK_IOCTL_DEV)

struct ruleset {
	uint64_t fs;
	uint64_t net;   /* 4 */
	uint64_t scope; /* 6 */
};

struct path_beneath {
	uint64_t rights;
	int32_t parent;
} __attribute__((packed));

static size_t fill(struct ruleset *ruleset, long version)
{
	ruleset->fs = BITS(version >= 5   ? FS_RIGHTS_5
			   : version >= 3 ? FS_RIGHTS_3
			   : version == 2 ? FS_RIGHTS_2
					  : FS_RIGHTS_1);
	ruleset->net = version >= 4 ? BITS(NET_RIGHTS) : 0;
	ruleset->scope = version >= 6 ? BITS(SCOPES) : 0;
	/* An older kernel refuses a structure with more than it knows. */
	return version >= 6 ? 24 : version >= 4 ? 16 : 8;
}

static int allow(int fd, const struct vac_path_rule *path, uint64_t handled)
{
	struct path_beneath rule = {.rights = path->rights & handled};
	struct stat st;
	long rc;

	rule.parent = open(path->path, O_PATH | O_CLOEXEC);
	if (rule.parent < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	if (fstat(rule.parent, &st) == 0 && !S_ISDIR(st.st_mode))
		rule.rights &= OF_FILES_ONLY;
	rc = syscall(NR_ADD_RULE, fd, RULE_PATH_BENEATH, &rule, 0);
	if (rc < 0)
		rc = -errno;
	close(rule.parent);
	return (int)rc;
}

int vac_landlock_enter(const struct vac_path_rule *paths, size_t count, const char **why)
{
	struct ruleset ruleset;
	long version = syscall(NR_CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
	size_t bytes;
	int fd, rc = 0;

	if (version < 0) {
		*why = errno == EOPNOTSUPP ? "switched off in this kernel"
		       : errno == ENOSYS   ? "not in this kernel"
					   : "refused by the system";
		return -errno;
	}
	bytes = fill(&ruleset, version);
	fd = (int)syscall(NR_CREATE_RULESET, &ruleset, bytes, 0);
	if (fd < 0) {
		*why = "no rules can be made";
		return -errno;
	}
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = allow(fd, &paths[i], ruleset.fs);
	if (rc == 0 && syscall(NR_RESTRICT_SELF, fd, 0) < 0)
		rc = -errno;
	close(fd);
	if (rc < 0)
		*why = "the rules are not taken";
	return rc < 0 ? rc : (int)version;
}
