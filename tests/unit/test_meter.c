/*
 * test_meter.c - the meter of processes and of the page cache. The truth is
 * what another process was told to map and touch: this program again, started
 * with --child, which does one thing for every byte that it is sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/meter.h"
#include "memory/region.h"

#define PAGE ((uint64_t)sysconf(_SC_PAGESIZE))
#define MIB  ((uint64_t)1 << 20)
/* What a process may touch of its own between two measurements. */
#define SLACK (2 * PAGE)

#define ANON_BYTES   (8 * MIB)
#define FILE_BYTES   (4 * MIB)
#define SHARED_BYTES (2 * MIB)
#define REGION_BYTES (37 * MIB + 4097)

static const char *program; /* argv[0] */

/* ---- the child ---------------------------------------------------------- */

enum { FILE_FD = 10, SHARED_FD = 11 };

/* Pages of a file that the kernel does not take back, short of memory or not. Not by mlock():
 * a sanitizer makes nothing of it. */
static uint8_t *map_and_read(int fd, uint64_t offset, uint64_t bytes)
{
	uint8_t *at = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, (off_t)offset);

	if (at != MAP_FAILED && syscall(SYS_mlock, at, bytes) != 0)
		return MAP_FAILED;
	return at;
}

static uint8_t *map_and_write(int fd, uint64_t bytes, int flags)
{
	volatile uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

	for (uint64_t i = 0; at != MAP_FAILED && i < bytes; i += 4096)
		at[i] = 1;
	return (uint8_t *)(uintptr_t)at;
}

static int child_main(void)
{
	static uint8_t *held;
	static uint64_t held_bytes;
	char command;

	while (read(STDIN_FILENO, &command, 1) == 1) {
		switch (command) {
		case 'a':
			held_bytes = ANON_BYTES;
			held = map_and_write(-1, held_bytes, MAP_PRIVATE | MAP_ANONYMOUS);
			break;
		case 'f':
			held_bytes = FILE_BYTES;
			held = map_and_read(FILE_FD, 0, held_bytes);
			break;
		case 's':
			held_bytes = SHARED_BYTES;
			held = map_and_write(SHARED_FD, held_bytes, MAP_SHARED);
			break;
		case 'u':
			munmap(held, held_bytes);
			break;
		case 'r':
			held = vac_host_map(REGION_BYTES);
			break;
		case 'R':
			vac_host_unmap(held, REGION_BYTES);
			break;
		default:
			break;
		}
		if (held == MAP_FAILED || !held || write(STDOUT_FILENO, &command, 1) != 1)
			return 1;
	}
	return 0;
}

struct child {
	pid_t pid;
	int to, from;
	int shared_fd;
	uint8_t *shared; /* mapped here too */
};

static void tell(const struct child *child, char command)
{
	char echo = 0;

	assert_int_equal(write(child->to, &command, 1), 1);
	assert_int_equal(read(child->from, &echo, 1), 1);
	assert_int_equal(echo, command);
}

static int file_of_bytes(uint64_t bytes, char *path)
{
	static uint8_t block[65536];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	memset(block, 0x5a, sizeof(block));
	while (bytes > 0) {
		size_t n = bytes < sizeof(block) ? (size_t)bytes : sizeof(block);

		assert_int_equal(write(fd, block, n), n);
		bytes -= n;
	}
	assert_int_equal(fsync(fd), 0); /* dirty pages cannot be dropped */
	return fd;
}

static int start_child(void **state)
{
	static struct child child;
	char path[] = "/var/tmp/vacate-test-XXXXXX";
	int in[2], out[2], file_fd;

	file_fd = file_of_bytes(FILE_BYTES, path);
	unlink(path);
	child.shared_fd = memfd_create("shared", MFD_CLOEXEC);
	assert_int_equal(ftruncate(child.shared_fd, SHARED_BYTES), 0);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		dup2(file_fd, FILE_FD);
		dup2(child.shared_fd, SHARED_FD);
		execl("/proc/self/exe", program, "--child", (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	close(file_fd);
	child.to = in[1];
	child.from = out[0];
	/* Everything once, so that code and stack are there already. */
	for (const char *command = "aufusurR"; *command; command++)
		tell(&child, *command);
	*state = &child;
	return 0;
}

static int stop_child(void **state)
{
	struct child *child = *state;
	int status = -1;

	close(child->to);
	close(child->from);
	close(child->shared_fd);
	if (child->pid > 0)
		waitpid(child->pid, &status, 0);
	return child->pid > 0 && status != 0;
}

static struct vac_usage measure_all(pid_t pid)
{
	struct vac_usage usage;
	struct vac_error err = {0};

	if (vac_meter_process(pid, &usage, &err) != 0)
		fail_msg("%s", err.message);
	assert_true(usage.valid);
	return usage;
}

/* What of a process is pages of its program and libraries. These come and go without its
 * doing: the kernel takes back what was not used for a while, and a page turns private, or
 * is shared by more, as other processes that map the same file end or begin. */
struct program {
	uint64_t rss_bytes, pss_bytes, uss_bytes;
};

/* Takes no memory of its own, which could be this process's. */
static char *read_smaps(pid_t pid)
{
	static char text[1 << 20];
	char path[64];
	size_t length = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	while ((n = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)n;
	close(fd);
	assert_true(n == 0 && length < sizeof(text) - 1);
	text[length] = '\0';
	return text;
}

static struct program program_of(pid_t pid)
{
	struct program sum = {0};
	bool counts = false;
	uint64_t kib, rss_kib = 0, pss_kib = 0, private_kib = 0;
	char *rest = read_smaps(pid), *line;

	while ((line = strsep(&rest, "\n")) && *line) {
		if (sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			rss_kib = kib;
		else if (sscanf(line, "Pss: %" SCNu64, &kib) == 1)
			pss_kib = kib;
		else if (sscanf(line, "Private_Clean: %" SCNu64, &kib) == 1)
			private_kib = kib;
		else if (sscanf(line, "Private_Dirty: %" SCNu64, &kib) == 1)
			private_kib += kib;
		else if (sscanf(line, "Anonymous: %" SCNu64, &kib) == 1 && counts)
			/* What was copied on a write is the process's own. */
			sum = (struct program){
				.rss_bytes = sum.rss_bytes + ((rss_kib - kib) << 10),
				.pss_bytes = sum.pss_bytes + ((pss_kib - kib) << 10),
				.uss_bytes = sum.uss_bytes + ((private_kib - kib) << 10),
			};
		else if (strchr("0123456789abcdef", *line))
			/* The files of the tests have no names any more. */
			counts = strchr(line, '/') && !strstr(line, " (deleted)");
	}
	return sum;
}

/* Without the pages of its program: what it was told to have, and its stacks and heaps. As
 * read twice alike, since the two sums are not of one moment. */
static struct vac_usage measure(pid_t pid)
{
	struct program program_before, program_now = {0};
	struct vac_usage before, now = {0};
	int tries = 1000;

	do {
		assert_true(tries-- > 0);
		before = now;
		program_before = program_now;
		now = measure_all(pid);
		program_now = program_of(pid);
	} while (now.uss_bytes != before.uss_bytes || now.pss_bytes != before.pss_bytes ||
		 now.rss_bytes != before.rss_bytes ||
		 memcmp(&program_now, &program_before, sizeof(program_now)) != 0);
	now.rss_bytes -= program_now.rss_bytes;
	now.pss_bytes -= program_now.pss_bytes;
	now.pss_file_bytes -= program_now.pss_bytes;
	now.uss_bytes -= program_now.uss_bytes;
	return now;
}

static void assert_grew(uint64_t before, uint64_t after, uint64_t by)
{
	if (after + SLACK < before + by || after > before + by + SLACK)
		fail_msg("from %llu to %llu where %llu more were expected",
			 (unsigned long long)before, (unsigned long long)after,
			 (unsigned long long)by);
}

/* ---- processes ---------------------------------------------------------- */

static void test_private_memory(void **state)
{
	struct child *child = *state;
	struct vac_usage before = measure(child->pid), with, after;

	tell(child, 'a');
	with = measure(child->pid);
	tell(child, 'u');
	after = measure(child->pid);
	assert_grew(before.uss_bytes, with.uss_bytes, ANON_BYTES);
	assert_grew(before.pss_bytes, with.pss_bytes, ANON_BYTES);
	assert_grew(before.pss_anon_bytes, with.pss_anon_bytes, ANON_BYTES);
	assert_grew(before.rss_bytes, with.rss_bytes, ANON_BYTES);
	assert_grew(before.pss_file_bytes, with.pss_file_bytes, 0);
	assert_grew(before.pss_shmem_bytes, with.pss_shmem_bytes, 0);
	assert_grew(before.uss_bytes, after.uss_bytes, 0);
	assert_grew(before.pss_anon_bytes, after.pss_anon_bytes, 0);
}

static void test_file_memory(void **state)
{
	struct child *child = *state;
	struct vac_usage before = measure(child->pid), with;

	tell(child, 'f');
	with = measure(child->pid);
	tell(child, 'u');
	assert_grew(before.pss_file_bytes, with.pss_file_bytes, FILE_BYTES);
	assert_grew(before.rss_bytes, with.rss_bytes, FILE_BYTES);
	/* Clean pages of a file that nobody else maps are private too. */
	assert_grew(before.uss_bytes, with.uss_bytes, FILE_BYTES);
	assert_grew(before.pss_anon_bytes, with.pss_anon_bytes, 0);
	assert_grew(before.pss_shmem_bytes, with.pss_shmem_bytes, 0);
}

static void test_shared_memory(void **state)
{
	struct child *child = *state;
	struct vac_usage before = measure(child->pid), alone, both;
	uint8_t *here;

	tell(child, 's');
	alone = measure(child->pid);
	here = map_and_write(child->shared_fd, SHARED_BYTES, MAP_SHARED);
	assert_true(here != MAP_FAILED);
	both = measure(child->pid);
	munmap(here, SHARED_BYTES);
	tell(child, 'u');
	assert_grew(before.pss_shmem_bytes, alone.pss_shmem_bytes, SHARED_BYTES);
	assert_grew(before.uss_bytes, alone.uss_bytes, SHARED_BYTES);
	/* With two who map it each has half, and it is nobody's alone. */
	assert_grew(before.pss_shmem_bytes, both.pss_shmem_bytes, SHARED_BYTES / 2);
	assert_grew(before.uss_bytes, both.uss_bytes, 0);
	assert_grew(before.rss_bytes, both.rss_bytes, SHARED_BYTES);
	assert_grew(before.pss_anon_bytes, both.pss_anon_bytes, 0);
}

/* A region is exactly its pages, seen from another process, and goes whole. */
static void test_region_from_outside(void **state)
{
	struct child *child = *state;
	struct vac_usage before = measure(child->pid), with, after;

	tell(child, 'r');
	with = measure(child->pid);
	tell(child, 'R');
	after = measure(child->pid);
	assert_grew(before.uss_bytes, with.uss_bytes, (REGION_BYTES + PAGE - 1) / PAGE * PAGE);
	assert_grew(before.uss_bytes, after.uss_bytes, 0);
}

static void test_rss(void **state)
{
	struct child *child = *state;
	uint64_t before, with, after;

	assert_int_equal(vac_meter_rss(child->pid, &before), 0);
	tell(child, 'r');
	assert_int_equal(vac_meter_rss(child->pid, &with), 0);
	tell(child, 'R');
	assert_int_equal(vac_meter_rss(child->pid, &after), 0);
	/* statm is kept per processor and summed loosely. */
	assert_true(with > before + REGION_BYTES - MIB && with < before + REGION_BYTES + MIB);
	assert_true(after < before + MIB);
}

static void test_own_process(void **state)
{
	struct vac_usage own = measure(getpid()), self = measure_all(0), same = measure(getpid());
	uint64_t rss;

	(void)state;
	assert_grew(own.pss_anon_bytes, self.pss_anon_bytes, 0);
	assert_grew(own.uss_bytes, same.uss_bytes, 0);
	assert_true(self.uss_bytes <= self.pss_bytes && self.pss_bytes <= self.rss_bytes);
	assert_true(self.uss_bytes > 0 && self.pss_file_bytes > 0);
	assert_int_equal(vac_meter_rss(0, &rss), 0);
	assert_true(rss > self.rss_bytes / 2 && rss < self.rss_bytes * 2);
}

/* What was before is told by counters, as a walk of all pages would have told it. */
static void test_counted_back(void **state)
{
	const struct child *child = *state;
	const char *const kinds = "as";
	for (int i = 0; i < 2; i++) {
		struct vac_resident then, now;
		struct vac_usage before, after, back;
		struct program program_then, program_now;
		int rc;

		tell(child, kinds[i]);
		before = measure(child->pid);
		rc = vac_meter_resident(child->pid, &then);
		program_then = program_of(child->pid);
		assert_int_equal(then.valid, rc == 0);
		tell(child, 'u');
		after = measure(child->pid);
		if (rc == -EOPNOTSUPP)
			skip(); /* an older kernel */
		assert_int_equal(rc, 0);
		assert_int_equal(vac_meter_resident(child->pid, &now), 0);
		program_now = program_of(child->pid);
		vac_usage_at(&after, &now, &then, &back);
		assert_true(back.valid);
		/* The counters are of all pages. */
		assert_grew(before.rss_bytes + program_then.rss_bytes,
			    back.rss_bytes + program_now.rss_bytes, 0);
		assert_int_equal(back.swap_bytes, before.swap_bytes);
		if (kinds[i] == 'a') {
			assert_grew(after.uss_bytes, back.uss_bytes, ANON_BYTES);
			assert_grew(before.uss_bytes, back.uss_bytes, 0);
			assert_grew(before.pss_anon_bytes, back.pss_anon_bytes, 0);
		}
	}
}

static void test_process_gone(void **state)
{
	struct vac_usage usage = {.valid = true};
	struct vac_resident resident = {.valid = true};
	struct vac_error err;
	char expected[64];
	siginfo_t info;
	uint64_t rss;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	snprintf(expected, sizeof(expected), "process %d cannot be measured: it is gone", pid);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(vac_meter_process(pid, &usage, &err), -ENOENT); /* a zombie */
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_string_equal(err.message, expected);
	assert_false(usage.valid);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(vac_meter_process(pid, &usage, &err), -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_string_equal(err.message, expected);
	assert_int_equal(vac_meter_process(pid, &usage, NULL), -ENOENT);
	assert_int_equal(vac_meter_rss(pid, &rss), -ENOENT);
	assert_true(vac_meter_resident(pid, &resident) < 0 && !resident.valid);
}

/* Runs check in a process of its own; what it returns is the exit status. */
static int in_process(int (*check)(const char *path), const char *path)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(check(path));
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int measure_as_nobody(const char *path)
{
	struct vac_usage usage;
	struct vac_error err;

	(void)path;
	if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
		return 1;
	if (vac_meter_process(getppid(), &usage, &err) != -EIO || err.code != VAC_E_IO)
		return 2;
	return strstr(err.message, "smaps_rollup: cannot measure the process: ") ? 0 : 3;
}

static void test_process_of_another_user(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_process(measure_as_nobody, NULL), 0);
}

/* ---- page cache --------------------------------------------------------- */

#define CACHED_BYTES (3 * MIB + 123)

/* From here on the process has no cachestat(2), like a kernel before 6.5. */
static int forbid_cachestat(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 451, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program_ = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program_);
}

/* Whole 64 KiB blocks that mincore is said to hold, as an exit status. */
static int blocks_by_mincore(const char *path)
{
	uint64_t bytes;

	if (forbid_cachestat() != 0 || vac_meter_page_cache(path, &bytes, NULL) != 0)
		return 255;
	return (int)((bytes + 65535) / 65536);
}

static int mincore_as_nobody(const char *path)
{
	uint64_t bytes;
	struct vac_error err;

	if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0 ||
	    forbid_cachestat() != 0)
		return 1;
	if (vac_meter_page_cache(path, &bytes, &err) != -EIO || err.code != VAC_E_IO)
		return 2;
	return strstr(err.message, "only to who owns the file") ? 0 : 3;
}

static void test_page_cache(void **state)
{
	char path[] = "/var/tmp/vacate-test-XXXXXX";
	uint64_t whole = (CACHED_BYTES + PAGE - 1) / PAGE * PAGE, cached = 0;
	int fd = file_of_bytes(CACHED_BYTES, path);
	uint8_t *kept = map_and_read(fd, 0, CACHED_BYTES);
	char byte;

	(void)state;
	assert_true(kept != MAP_FAILED);
	assert_int_equal(vac_meter_page_cache(path, &cached, NULL), 0);
	assert_true(cached == whole);
	assert_int_equal(in_process(blocks_by_mincore, path), (whole + 65535) / 65536);
	munmap(kept, CACHED_BYTES);

	assert_int_equal(vac_drop_page_cache(path, NULL), 0);
	assert_int_equal(vac_meter_page_cache(path, &cached, NULL), 0);
	assert_true(cached == 0);
	assert_int_equal(in_process(blocks_by_mincore, path), 0);

	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)MIB), 1);
	kept = map_and_read(fd, MIB, PAGE);
	assert_true(kept != MAP_FAILED);
	assert_int_equal(vac_meter_page_cache(path, &cached, NULL), 0);
	assert_true(cached >= PAGE && cached <= 65536);
	assert_int_equal(in_process(blocks_by_mincore, path), 1);
	if (geteuid() == 0) {
		assert_int_equal(fchmod(fd, 0644), 0);
		assert_int_equal(in_process(mincore_as_nobody, path), 0);
	}
	munmap(kept, PAGE);
	close(fd);
	unlink(path);
}

/* All files of one kind in a directory, links to them included. */
static void test_dir_cache(void **state)
{
	char dir[] = "/var/tmp/vacate-test-XXXXXX", paths[3][64], link_path[64], message[64];
	const char *const names[] = {"a.safetensors", "b.safetensors", "c.bin"};
	uint8_t *kept[3];
	uint64_t cached = 0;
	struct vac_error err;
	bool dropped = true;

	(void)state;
	assert_non_null(mkdtemp(dir));
	for (int i = 0; i < 3; i++) {
		char temporary[] = "/var/tmp/vacate-test-XXXXXX";
		int fd = file_of_bytes((i + 1) * MIB, temporary);

		kept[i] = map_and_read(fd, 0, (i + 1) * MIB);
		assert_true(kept[i] != MAP_FAILED);
		close(fd);
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", dir, names[i]);
		assert_int_equal(rename(temporary, paths[i]), 0);
	}
	snprintf(link_path, sizeof(link_path), "%s/d.safetensors", dir);
	assert_int_equal(symlink("c.bin", link_path), 0); /* as in the HuggingFace cache */
	assert_int_equal(vac_meter_dir_cache(dir, ".safetensors", false, &cached, &dropped, NULL),
			 0);
	assert_true(cached == 6 * MIB && !dropped);
	unlink(link_path);
	for (int i = 0; i < 2; i++)
		munmap(kept[i], (i + 1) * MIB);
	assert_int_equal(vac_meter_dir_cache(dir, ".safetensors", true, &cached, &dropped, NULL),
			 0);
	assert_true(cached == 0 && dropped);
	assert_int_equal(vac_meter_page_cache(paths[2], &cached, NULL), 0);
	assert_true(cached == 3 * MIB); /* another kind of file: left alone */
	munmap(kept[2], 3 * MIB);
	for (int i = 0; i < 3; i++)
		unlink(paths[i]);
	rmdir(dir);
	assert_int_equal(vac_meter_dir_cache(dir, ".safetensors", false, &cached, &dropped, &err),
			 -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	snprintf(message, sizeof(message), "%s: cannot list", dir);
	assert_non_null(strstr(err.message, message));
}

static void test_page_cache_errors(void **state)
{
	uint64_t cached = 77;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_meter_page_cache("/nowhere/at/all", &cached, &err), -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_non_null(strstr(err.message, "/nowhere/at/all"));
	assert_int_equal(vac_meter_page_cache("/var/tmp", &cached, &err), -EINVAL);
	assert_int_equal(err.code, VAC_E_INVALID);
	assert_non_null(strstr(err.message, "/var/tmp: is not a regular file"));
	assert_int_equal(vac_drop_page_cache("/nowhere/at/all", &err), -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_true(cached == 77);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_private_memory),
		cmocka_unit_test(test_file_memory),
		cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_region_from_outside),
		cmocka_unit_test(test_rss),
		cmocka_unit_test(test_own_process),
		cmocka_unit_test(test_counted_back),
		cmocka_unit_test(test_process_gone),
		cmocka_unit_test(test_process_of_another_user),
		cmocka_unit_test(test_page_cache),
		cmocka_unit_test(test_dir_cache),
		cmocka_unit_test(test_page_cache_errors),
	};

	program = argv[0];
	if (argc > 1 && strcmp(argv[1], "--child") == 0)
		return child_main();
	return cmocka_run_group_tests_name("meter", tests, start_child, stop_child);
}
