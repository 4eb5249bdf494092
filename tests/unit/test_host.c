/*
 * test_host.c - the machine's memory and cgroup limits, read from directories
 * that the tests lay out like /proc and /sys of machines that are not here.
 */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/meter.h"

#define MIB ((uint64_t)1 << 20)

#define MEMINFO                                                                                    \
	"MemTotal:       16384000 kB\n"                                                            \
	"MemFree:         1000000 kB\n"                                                            \
	"MemAvailable:    8192000 kB\n"
#define TOTAL_BYTES     (UINT64_C(16384000) * 1024)
#define AVAILABLE_BYTES (UINT64_C(8192000) * 1024)

#define MOUNT_V2                                                                                   \
	"24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"                                 \
	"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define MOUNT_V1                                                                                   \
	"24 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"                                          \
	"32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"                              \
	"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime master:9 - cgroup cgroup rw,memory\n"      \
	"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
#define V1_NO_LIMIT "9223372036854771712\n"

static char root[64];

static int make_root(void **state)
{
	(void)state;
	strcpy(root, "/tmp/vacate-host-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes a file below root and makes the directories on the way. */
static void put(const char *path, const char *text)
{
	char full[512];
	FILE *file;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *slash = strchr(full + strlen(root) + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(full, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void put_number(const char *dir, const char *name, uint64_t value)
{
	char path[256], text[32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)value);
	put(path, text);
}

static void put_stat(const char *dir, const char *prefix, uint64_t inactive, uint64_t active)
{
	char path[256], text[512];

	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	/* Look-alikes stand before the lines that count. */
	snprintf(text, sizeof(text),
		 "anon 1\nfile 2\ninactive_anon 3\nactive_file_x 4\n%sinactive_file %llu\n"
		 "%sactive_file %llu\nunevictable 5\n",
		 prefix, (unsigned long long)inactive, prefix, (unsigned long long)active);
	put(path, text);
}

static void put_v2(const char *dir, const char *limit, uint64_t used, uint64_t inactive,
		   uint64_t active)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/memory.max", dir);
	put(path, limit);
	put_number(dir, "memory.current", used);
	put_stat(dir, "", inactive, active);
}

static void put_proc(const char *membership, const char *mounts)
{
	put("proc/meminfo", MEMINFO);
	put("proc/self/cgroup", membership);
	put("proc/self/mountinfo", mounts);
}

static struct vac_host_memory measure(void)
{
	struct vac_host_memory host;

	memset(&host, 0xff, sizeof(host));
	vac_meter_host(root, &host);
	return host;
}

static void assert_limit(const struct vac_host_memory *host, int version, uint64_t limit,
			 uint64_t used, uint64_t reclaimable, uint64_t room)
{
	assert_int_equal(host->cgroup_version, version);
	assert_true(host->cgroup_limit_valid);
	assert_true(host->cgroup_used_valid);
	assert_true(host->cgroup_room_valid);
	assert_true(host->cgroup_limit_bytes == limit);
	assert_true(host->cgroup_used_bytes == used);
	assert_true(host->cgroup_reclaimable_bytes == reclaimable);
	assert_true(host->cgroup_room_bytes == room);
}

static void assert_no_limit(const struct vac_host_memory *host, int version)
{
	uint64_t room;

	assert_int_equal(host->cgroup_version, version);
	assert_false(host->cgroup_limit_valid);
	assert_false(host->cgroup_used_valid);
	assert_false(host->cgroup_room_valid);
	assert_true(vac_host_room(host, &room));
	assert_true(room == AVAILABLE_BYTES);
}

/* ---- version 2 ---------------------------------------------------------- */

static void test_v2_nested(void **state)
{
	struct vac_host_memory host;
	uint64_t room = 0;

	(void)state;
	put_proc("0::/a/b/c\n", MOUNT_V2);
	put_v2("sys/fs/cgroup/a", "1073741824\n", 900 * MIB, 60 * MIB, 40 * MIB);
	put_v2("sys/fs/cgroup/a/b", "max\n", 500 * MIB, 0, 0);
	put_v2("sys/fs/cgroup/a/b/c", "2147483648\n", 50 * MIB, MIB, MIB);
	put("sys/fs/cgroup/memory.stat", "anon 1\n"); /* the root has no limit file */
	host = measure();
	assert_true(host.total_valid && host.total_bytes == TOTAL_BYTES);
	assert_true(host.available_valid && host.available_bytes == AVAILABLE_BYTES);
	assert_limit(&host, 2, 1024 * MIB, 900 * MIB, 100 * MIB, 224 * MIB);
	assert_true(vac_host_room(&host, &room));
	assert_true(room == 224 * MIB);
}

/* The own limit is the least, but siblings have nearly filled the parent. */
static void test_v2_tight_parent(void **state)
{
	struct vac_host_memory host;

	(void)state;
	put_proc("0::/a/b\n", MOUNT_V2);
	put_v2("sys/fs/cgroup/a", "8589934592\n", 8182 * MIB, 0, 20 * MIB);
	put_v2("sys/fs/cgroup/a/b", "4294967296\n", 1024 * MIB, 24 * MIB, 0);
	host = measure();
	assert_limit(&host, 2, 4096 * MIB, 1024 * MIB, 24 * MIB, 30 * MIB);
}

static void test_v2_no_limit(void **state)
{
	struct vac_host_memory host;

	(void)state;
	put_proc("0::/user.slice\n", MOUNT_V2);
	put_v2("sys/fs/cgroup/user.slice", "max\n", 100 * MIB, 0, 0);
	host = measure();
	assert_no_limit(&host, 2);
	put_proc("0::/\n", MOUNT_V2);
	host = measure();
	assert_no_limit(&host, 2);
}

/* The least of room is the machine's when the group's is larger. */
static void test_machine_is_tighter(void **state)
{
	struct vac_host_memory host;
	uint64_t room = 0;

	(void)state;
	put_proc("0::/a\n", MOUNT_V2);
	put_v2("sys/fs/cgroup/a", "17179869184\n", 1024 * MIB, 0, 0);
	host = measure();
	assert_true(host.cgroup_room_bytes == 15360 * MIB);
	assert_true(vac_host_room(&host, &room));
	assert_true(room == AVAILABLE_BYTES);
}

/* In a container the path may name what the namespace hides, or be relative to
 * a mount that shows a part of the tree: the mount's own limits count. */
static void test_v2_hidden(void **state)
{
	const char *const memberships[] = {"0::/../../system.slice/x\n", "0::/..\n",
					   "0::/not/here\n", "0::/\n"};

	(void)state;
	put_v2("sys/fs/cgroup", "536870912\n", 300 * MIB, 10 * MIB, 20 * MIB);
	put_v2("sys/fs", "4096\n", 0, 0, 0); /* where ".." would lead */
	for (size_t i = 0; i < sizeof(memberships) / sizeof(memberships[0]); i++) {
		struct vac_host_memory host;

		put_proc(memberships[i], MOUNT_V2);
		host = measure();
		assert_limit(&host, 2, 512 * MIB, 300 * MIB, 30 * MIB, 242 * MIB);
	}
}

static void test_v2_mounted_part(void **state)
{
	const char *mounts = "30 23 0:26 /docker/abc /sys/fs/cg\\040roup rw - cgroup2 cgroup rw\n";
	struct vac_host_memory host;

	(void)state;
	put_v2("sys/fs/cg roup", "1073741824\n", 800 * MIB, 0, 0);
	put_v2("sys/fs/cg roup/inner", "536870912\n", 100 * MIB, 0, 0);
	put_proc("0::/docker/abc/inner\n", mounts);
	host = measure();
	assert_limit(&host, 2, 512 * MIB, 100 * MIB, 0, 224 * MIB);
	put_proc("0::/docker/abc\n", mounts);
	host = measure();
	assert_limit(&host, 2, 1024 * MIB, 800 * MIB, 0, 224 * MIB);
	put_proc("0::/docker/abcdef/inner\n", mounts); /* not below the mount */
	host = measure();
	assert_limit(&host, 2, 1024 * MIB, 800 * MIB, 0, 224 * MIB);
}

/* ---- version 1 ---------------------------------------------------------- */

static void put_v1(const char *dir, uint64_t limit, uint64_t used, uint64_t inactive,
		   uint64_t active)
{
	put_number(dir, "memory.limit_in_bytes", limit);
	put_number(dir, "memory.usage_in_bytes", used);
	put_stat(dir, "total_", inactive, active);
}

static void test_v1_nested(void **state)
{
	struct vac_host_memory host;

	(void)state;
	put_proc("5:cpu,cpuacct:/elsewhere\n4:memory:/a/b\n0::/unified\n", MOUNT_V1);
	put("sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NO_LIMIT);
	put_v1("sys/fs/cgroup/memory/a", 2048 * MIB, 2000 * MIB, 500 * MIB, 100 * MIB);
	put_v1("sys/fs/cgroup/memory/a/b", 4096 * MIB, 1500 * MIB, 0, 0);
	/* Limits of version 2 do not count while version 1 has the controller. */
	put_v2("sys/fs/cgroup/unified/unified", "1048576\n", 0, 0, 0);
	host = measure();
	assert_limit(&host, 1, 2048 * MIB, 2000 * MIB, 600 * MIB, 648 * MIB);
}

static void test_v1_no_limit(void **state)
{
	struct vac_host_memory host;

	(void)state;
	put_proc("4:memory:/a\n0::/\n", MOUNT_V1);
	put("sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NO_LIMIT);
	put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", V1_NO_LIMIT);
	put_number("sys/fs/cgroup/memory/a", "memory.usage_in_bytes", 5 * MIB);
	put("sys/fs/cgroup/memory/a/memory.stat",
	    "cache 1\nhierarchical_memory_limit 9223372036854771712\n");
	host = measure();
	assert_no_limit(&host, 1);
}

/* The mount shows the container's own group; a limit above it is told only by
 * memory.stat, and what is used there is at least what is used here. */
static void test_v1_hidden_parent(void **state)
{
	const char *mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup "
			     "rw,cpu,memory\n";
	struct vac_host_memory host;

	(void)state;
	put_proc("4:cpu,memory:/docker/abc\n", mounts);
	put("sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NO_LIMIT);
	put_number("sys/fs/cgroup/memory", "memory.usage_in_bytes", 300 * MIB);
	put("sys/fs/cgroup/memory/memory.stat",
	    "hierarchical_memory_limit 1073741824\ntotal_inactive_file 1048576\n"
	    "total_active_file 2097152\n");
	host = measure();
	assert_limit(&host, 1, 1024 * MIB, 300 * MIB, 3 * MIB, 727 * MIB);
}

/* A version 1 hierarchy without the memory controller leaves it to version 2. */
static void test_hybrid(void **state)
{
	const char *mounts = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
			     "32 30 0:28 / /sys/fs/cgroup/memory_x rw - cgroup cgroup rw,memory_x\n"
			     "33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n";
	struct vac_host_memory host;

	(void)state;
	put_proc("2:cpu:/a\n1:memory_x:/a\n0::/a\n", mounts);
	put_v1("sys/fs/cgroup/memory_x/a", MIB, MIB, 0, 0);
	put_v2("sys/fs/cgroup/unified/a", "104857600\n", 50 * MIB, 0, 0);
	host = measure();
	assert_limit(&host, 2, 100 * MIB, 50 * MIB, 0, 50 * MIB);
}

/* ---- what is missing or broken ------------------------------------------ */

static void test_nothing_there(void **state)
{
	struct vac_host_memory host = measure();
	uint64_t room = 77;

	(void)state;
	assert_false(host.total_valid || host.available_valid || host.cgroup_limit_valid ||
		     host.cgroup_used_valid || host.cgroup_room_valid);
	assert_int_equal(host.cgroup_version, 0);
	assert_false(vac_host_room(&host, &room));
	assert_true(room == 77);
}

static void test_huge_pages(void **state)
{
	static const struct {
		const char *text, *word; /* NULL: none */
	} cases[] = {
		{"always [madvise] never\n", "madvise"},
		{"[always] madvise never\n", "always"},
		{"always madvise [never]\n", "never"},
		{"always madvise never\n", NULL},
		{"always [madvise\n", NULL},
		{"[]\n", NULL},
		{"[abcdefghijklmno]", "abcdefghijklmno"},
		{"[abcdefghijklmnop]", NULL},
		{"", NULL},
	};
	char word[16];

	(void)state;
	assert_false(vac_meter_huge_pages(root, word));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put("sys/kernel/mm/transparent_hugepage/enabled", cases[i].text);
		assert_int_equal(vac_meter_huge_pages(root, word), cases[i].word != NULL);
		if (cases[i].word)
			assert_string_equal(word, cases[i].word);
	}
}

static void test_old_meminfo(void **state)
{
	struct vac_host_memory host;
	uint64_t room;

	(void)state;
	put("proc/meminfo", "MemTotal:       1000 kB\nMemFree:        10 kB\n");
	host = measure();
	assert_true(host.total_valid && host.total_bytes == 1024000);
	assert_false(host.available_valid);
	assert_false(vac_host_room(&host, &room));
}

static void test_missing_files(void **state)
{
	struct vac_host_memory host;

	(void)state;
	put_proc("0::/a\n", MOUNT_V2);
	put("sys/fs/cgroup/a/memory.max", "1048576\n");
	host = measure(); /* a limit, but how much of it is used is not known */
	assert_true(host.cgroup_limit_valid && host.cgroup_limit_bytes == MIB);
	assert_false(host.cgroup_used_valid);
	assert_false(host.cgroup_room_valid);
	put("sys/fs/cgroup/a/memory.current", "524288\n");
	host = measure(); /* no memory.stat: nothing is taken for reclaimable */
	assert_limit(&host, 2, MIB, MIB / 2, 0, MIB / 2);
	put("sys/fs/cgroup/a/memory.stat", "inactive_file 600000\nactive_file 1\n");
	host = measure(); /* counters of two moments: never more than what is used */
	assert_limit(&host, 2, MIB, MIB / 2, MIB / 2, MIB);
	put("sys/fs/cgroup/a/memory.current", "2097152\n");
	put("sys/fs/cgroup/a/memory.stat", "inactive_file 0\nactive_file 0\n");
	host = measure(); /* over the limit, which may have been lowered */
	assert_limit(&host, 2, MIB, 2 * MIB, 0, 0);
}

static void test_broken_files(void **state)
{
	const char *const limits[] = {"", "\n", "lots\n", "12x\n", "99999999999999999999999\n"};
	const char *const mounts[] = {"", "30 23 0:26 /\n", "30 23 0:26 / /sys/fs/cgroup rw -\n",
				      "30 - cgroup2 x rw\n", " - cgroup2 \n"};
	struct vac_host_memory host;

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		put_proc("0::/a\n", MOUNT_V2);
		put_v2("sys/fs/cgroup/a", limits[i], MIB, 0, 0);
		host = measure();
		assert_no_limit(&host, 2);
	}
	put("sys/fs/cgroup/a/memory.max", "1048576\n");
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		put_proc("0::/a\n", mounts[i]);
		host = measure();
		assert_no_limit(&host, 0);
	}
	put_proc("nonsense\n0:\n:\n\n", MOUNT_V2);
	host = measure();
	assert_no_limit(&host, 0);
}

static void test_this_machine(void **state)
{
	struct vac_host_memory host;
	struct sysinfo info;
	uint64_t total, room;

	(void)state;
	assert_int_equal(sysinfo(&info), 0);
	total = (uint64_t)info.totalram * info.mem_unit;
	vac_meter_host("", &host);
	assert_true(host.total_valid && host.total_bytes == total);
	assert_true(host.available_valid && host.available_bytes <= total);
	assert_true(vac_host_room(&host, &room));
	assert_true(room > 0 && room <= host.available_bytes);
}

#define with_root(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_root(test_v2_nested),        with_root(test_v2_tight_parent),
		with_root(test_v2_no_limit),      with_root(test_machine_is_tighter),
		with_root(test_v2_hidden),        with_root(test_v2_mounted_part),
		with_root(test_v1_nested),        with_root(test_v1_no_limit),
		with_root(test_v1_hidden_parent), with_root(test_hybrid),
		with_root(test_nothing_there),    with_root(test_old_meminfo),
		with_root(test_missing_files),    with_root(test_broken_files),
		with_root(test_huge_pages),       cmocka_unit_test(test_this_machine),
	};

	return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
