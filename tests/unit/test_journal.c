/*
 * test_journal.c - lines, rotation, and every system call of a rotation failing
 * or being the last before a crash. The linker leads open, rename, link and
 * writev here (meson.build).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "server/journal.h"
#include "base/rotate.h"
#include "temp_dir.h"

/* ---- system calls that fail ---- */

static const char *path;         /* the journal */
static int fail_at = -1, called; /* the fail_at-th call fails (from 0) */
static int fail_with;            /* errno; 0: the process "crashes" before the call */
static int short_bytes = -1;     /* writev: so many bytes only, then ENOSPC */
static bool no_space;            /* writev: ENOSPC */
static bool watched;             /* the journal must be there before each call */
static jmp_buf crash;

int __real_open(const char *name, int flags, mode_t mode);
int __real_rename(const char *from, const char *to);
int __real_link(const char *from, const char *to);
ssize_t __real_writev(int fd, const struct iovec *parts, int count);
int __wrap_open(const char *name, int flags, mode_t mode);
int __wrap_open64(const char *name, int flags, mode_t mode);
int __wrap_rename(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);

static bool fails(void)
{
	if (watched)
		assert_int_equal(access(path, F_OK), 0);
	if (called++ != fail_at)
		return false;
	if (fail_with == 0)
		longjmp(crash, 1);
	errno = fail_with;
	return true;
}

int __wrap_open(const char *name, int flags, mode_t mode)
{
	/* What only looks at the end of a file is no step. */
	if ((flags & O_ACCMODE) == O_WRONLY && fails())
		return -1;
	return __real_open(name, flags, mode);
}

int __wrap_open64(const char *name, int flags, mode_t mode)
{
	return __wrap_open(name, flags, mode);
}

int __wrap_rename(const char *from, const char *to)
{
	return fails() ? -1 : __real_rename(from, to);
}

int __wrap_link(const char *from, const char *to)
{
	return fails() ? -1 : __real_link(from, to);
}

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
	if (fails())
		return -1;
	if (no_space) {
		struct iovec some = parts[1];

		if (short_bytes > 0) {
			some.iov_len = (size_t)short_bytes;
			short_bytes = -1;
			return __real_writev(fd, &some, 1);
		}
		errno = ENOSPC;
		return -1;
	}
	return __real_writev(fd, parts, count);
}

static int set_up(void **state)
{
	(void)state;
	vac_log_init("test", VAC_LOG_ERROR);
	temp_dir_make();
	path = temp_path("journal");
	fail_at = -1;
	called = 0;
	no_space = watched = false;
	short_bytes = -1;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

/* ---- what is in the files ---- */

#define MOST 400
static int seen[MOST]; /* how often each line is there */
static int torn;       /* lines that are not whole */

static void read_file(const char *name)
{
	FILE *file = fopen(name, "r");
	char line[512];
	int number;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (line[strlen(line) - 1] != '\n' || !strstr(line, "\"}\n") || line[0] != '{') {
			torn += strcmp(line, "\n") != 0;
			continue;
		}
		assert_non_null(strstr(line, "\"event\":\"set_aside\""));
		assert_int_equal(sscanf(strstr(line, "\"model\":"), "\"model\":\"%d\"", &number),
				 1);
		assert_in_range(number, 0, MOST - 1);
		seen[number]++;
	}
	fclose(file);
}

/* Every file once, as a reader does that knows of second names. Returns how many. */
static int read_files(void)
{
	ino_t known[16] = {0};
	int count = 0;

	memset(seen, 0, sizeof(seen));
	torn = 0;
	for (int i = 0; i < 12; i++) {
		char name[4096];
		struct stat st;
		bool again = false;

		if (i == 0)
			snprintf(name, sizeof(name), "%s", path);
		else
			snprintf(name, sizeof(name), "%s.%d", path, i);
		if (stat(name, &st) != 0)
			continue;
		for (int k = 0; k < count; k++)
			again = again || known[k] == st.st_ino;
		if (again)
			continue;
		known[count++] = st.st_ino;
		read_file(name);
	}
	return count;
}

static void put(struct vac_journal *journal, int number)
{
	struct vac_error why = {.code = VAC_E_GONE, .message = "for a test"};
	char name[16];
	struct vac_event event = {
		.kind = VAC_EVENT_SET_ASIDE, .model = name, .device = "cpu", .why = &why};

	snprintf(name, sizeof(name), "%d", number);
	vac_journal_event(journal, &event, &(struct vac_event_more){.wall_ns = 0});
}

static void begin(struct vac_journal *journal, uint64_t max_bytes, uint32_t keep)
{
	struct vac_journal_options options = {.path = path, .max_bytes = max_bytes, .keep = keep};
	struct vac_error err;

	assert_int_equal(vac_journal_open(journal, &options, &err), 0);
}

/* ---- tests ---- */

static void test_lines(void **state)
{
	struct vac_receipt receipt = {.id = 3, .model = "m", .device = "cpu", .reason = 1};
	struct vac_journal journal;
	char line[2048];
	FILE *file;

	(void)state;
	begin(&journal, 0, 0);
	put(&journal, 1);
	vac_journal_write(&journal, &receipt);
	vac_journal_close(&journal);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	assert_string_equal(line, "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"set_aside\","
				  "\"model\":\"1\",\"device\":\"cpu\",\"code\":\"gone\",\"reason\":"
				  "\"for a test\"}\n");
	assert_non_null(fgets(line, sizeof(line), file));
	/* A receipt's members stand in the line itself, as they always did. */
	assert_int_equal(
		strncmp(line,
			"{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"receipt\","
			"\"id\":3,\"model\":\"m\",\"device\":\"cpu\",\"reason\":\"request\",",
			strlen("{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"receipt\","
			       "\"id\":3,\"model\":\"m\",\"device\":\"cpu\",\"reason\":"
			       "\"request\",")),
		0);
	assert_string_equal(line + strlen(line) - strlen("\"page_cache_dropped\":false}\n"),
			    "\"page_cache_dropped\":false}\n");
	assert_null(fgets(line, sizeof(line), file));
	fclose(file);
}

/* Sizes hold, the oldest goes, and nothing else is lost. */
static void test_rotation(void **state)
{
	struct vac_journal journal;
	struct stat st;
	int files;

	(void)state;
	begin(&journal, 500, 3);
	assert_int_equal(chmod(path, 0600), 0);
	watched = true;
	for (int i = 0; i < 60; i++)
		put(&journal, i);
	watched = false;
	assert_int_equal(journal.lines, 60);
	assert_true(journal.rotations >= 10);
	vac_journal_close(&journal);
	files = read_files();
	assert_int_equal(files, 4);
	assert_int_equal(torn, 0);
	for (int i = 0, begun = 0; i < 60; i++) {
		begun = begun || seen[i];
		assert_int_equal(seen[i], begun); /* the newest, without a gap */
		assert_true(i < 45 || begun);
	}
	for (int i = 1; i < 4; i++) {
		char name[4096];

		snprintf(name, sizeof(name), "%s.%d", path, i);
		assert_int_equal(stat(name, &st), 0);
		assert_in_range(st.st_size, 300, 500);
		assert_int_equal(st.st_mode & 0777, 0600); /* as the first was */
	}
	assert_int_equal(access(temp_path("journal.4"), F_OK), -1);
	assert_int_equal(access(temp_path("journal.new"), F_OK), -1);
}

static void test_keep_one_and_none(void **state)
{
	struct vac_journal journal;

	(void)state;
	for (uint32_t keep = 0; keep < 2; keep++) {
		begin(&journal, 400, keep);
		for (int i = 0; i < 20; i++)
			put(&journal, i);
		vac_journal_close(&journal);
		assert_int_equal(read_files(), (int)keep + 1);
		assert_int_equal(seen[19], 1);
		assert_int_equal(seen[0], 0);
	}
}

/* Each call of a run of rotations fails once: every line is there, once. */
static void test_calls_that_fail(void **state)
{
	struct vac_journal journal;
	int calls = 1;

	(void)state;
	for (int at = 0; at < calls; at++) {
		temp_dir_remove();
		temp_dir_make();
		path = temp_path("journal");
		begin(&journal, 1000, 9);
		called = 0;
		fail_at = at;
		fail_with = at % 2 ? ENOSPC : EACCES;
		watched = true;
		for (int i = 0; i < 40; i++)
			put(&journal, i);
		watched = false;
		calls = called;
		fail_at = -1;
		put(&journal, 40);
		assert_int_equal(journal.errors + journal.rotation_errors, 1);
		assert_int_equal(journal.dropped, 0);
		assert_false(journal.failing);
		assert_false(journal.stuck);
		vac_journal_close(&journal);
		read_files();
		for (int i = 0; i <= 40; i++)
			assert_int_equal(seen[i], 1);
	}
	assert_true(calls > 50);
}

/* The process ends before each call of a run of rotations; the next one goes on
 * with what it finds. A line that was handed over may be lost with the process
 * that had it, and none that was written. */
static void test_crashes(void **state)
{
	volatile int number = 0, at = 0;
	volatile bool ended = false; /* a run that nothing stopped */

	(void)state;
	for (; !ended; at++) {
		struct vac_journal journal;
		volatile int lost = -1;

		temp_dir_remove();
		temp_dir_make();
		path = temp_path("journal");
		begin(&journal, 1000, 9);
		called = 0;
		fail_at = at;
		fail_with = 0;
		watched = true;
		if (setjmp(crash) == 0) {
			for (number = 0; number < 40; number++)
				put(&journal, number);
			ended = true;
		} else {
			lost = number;
		}
		watched = false;
		fail_at = -1;
		close(journal.fd);
		vac_buf_free(&journal.pending);
		begin(&journal, 1000, 9);
		for (number = lost + 1; lost >= 0 && number < 40; number++)
			put(&journal, number);
		assert_int_equal(journal.rotation_errors, 0);
		vac_journal_close(&journal);
		read_files();
		for (int i = 0; i < 40; i++)
			assert_int_equal(seen[i], i == lost ? 0 : 1);
		/* A hole was closed: numbers do not wander off. */
		assert_int_equal(access(temp_path("journal.8"), F_OK), -1);
	}
	assert_true(at > 50);
}

/* A disk without room, cut in the middle of a line: what waits is written when
 * there is room, and what does not fit the memory for it is counted. */
static void test_full_disk(void **state)
{
	struct vac_journal journal;

	(void)state;
	begin(&journal, 0, 0);
	put(&journal, 0);
	no_space = true;
	short_bytes = 20;
	for (int i = 1; i < 5; i++)
		put(&journal, i);
	assert_int_equal(journal.errors, 4);
	assert_int_equal(journal.lines, 1);
	assert_true(journal.failing);
	no_space = false;
	put(&journal, 5);
	assert_int_equal(journal.lines, 6);
	assert_false(journal.failing);
	assert_int_equal(journal.pending.capacity, 0);
	read_files();
	assert_int_equal(torn, 1);
	for (int i = 0; i < 6; i++)
		assert_int_equal(seen[i], 1);
	no_space = true;
	for (int i = 0; i < 5000; i++)
		put(&journal, 6);
	assert_true(journal.pending.bytes <= VAC_JOURNAL_PENDING_BYTES);
	assert_true(journal.pending.bytes > VAC_JOURNAL_PENDING_BYTES - 200);
	assert_true(journal.dropped > 2000 && journal.dropped < 5000);
	no_space = false;
	vac_journal_close(&journal); /* the last try */
	assert_int_equal(journal.lines, 6 + 5000 - journal.dropped);
}

/* The server before was cut off in the middle of a line. */
static void test_torn_end(void **state)
{
	struct vac_journal journal;
	FILE *file = fopen(path, "w");

	(void)state;
	assert_non_null(file);
	fputs("{\"id\":1,\"mod", file);
	fclose(file);
	begin(&journal, 0, 0);
	put(&journal, 0);
	vac_journal_close(&journal);
	read_files();
	assert_int_equal(torn, 1);
	assert_int_equal(seen[0], 1);
}

/* Rotation does not work: the file grows to twice its size and no further. */
static void test_stuck(void **state)
{
	struct vac_journal journal;
	struct stat st;

	(void)state;
	begin(&journal, 1000, 2);
	assert_int_equal(mkdir(temp_path("journal.new"), 0700), 0);
	for (int i = 0; i < 40; i++)
		put(&journal, i);
	assert_true(journal.rotation_errors > 10);
	assert_true(journal.stuck);
	assert_int_equal(stat(path, &st), 0);
	assert_in_range(st.st_size, 1800, 2000);
	assert_true(journal.pending.bytes > 0);
	assert_int_equal(rmdir(temp_path("journal.new")), 0);
	put(&journal, 40);
	assert_int_equal(journal.lines, 41);
	assert_false(journal.stuck);
	vac_journal_close(&journal);
	/* What waited fills more files than are kept; the newest are there. */
	read_files();
	for (int i = 35; i <= 40; i++)
		assert_int_equal(seen[i], 1);
}

/* Two servers with one journal, and one that moves it away. */
static void test_two_writers(void **state)
{
	struct vac_journal one, other;
	int fd;

	(void)state;
	begin(&one, 1000, 9);
	begin(&other, 1000, 9);
	for (int i = 0; i < 60; i++)
		put(i % 3 ? &one : &other, i);
	read_files();
	for (int i = 0; i < 60; i++)
		assert_int_equal(seen[i], 1);
	assert_int_equal(rename(path, temp_path("moved")), 0);
	put(&one, 60);
	put(&other, 61);
	assert_int_equal(access(path, F_OK), 0);
	read_files();
	assert_int_equal(seen[60] + seen[61], 2);
	/* Somebody else is rotating: a line more in the full file is no harm. */
	fd = open(path, O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(vac_rotate(path, one.fd, 9), -EBUSY);
	for (int i = 70; i < 100; i++)
		put(&one, i);
	assert_int_equal(one.rotation_errors, 0);
	assert_int_equal(one.lines, 40 + 1 + 30);
	close(fd);
	vac_journal_close(&one);
	vac_journal_close(&other);
	read_files();
	for (int i = 70; i < 100; i++)
		assert_int_equal(seen[i], 1);
}

static void test_cannot_be_opened(void **state)
{
	struct vac_journal_options options = {.path = temp_path("missing/journal")};
	struct vac_journal journal;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_journal_open(&journal, &options, &err), -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_non_null(strstr(err.message, "missing/journal: cannot be opened for writing"));
	vac_journal_close(&journal);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_lines),
		TEST(test_rotation),
		TEST(test_keep_one_and_none),
		TEST(test_calls_that_fail),
		TEST(test_crashes),
		TEST(test_full_disk),
		TEST(test_torn_end),
		TEST(test_stuck),
		TEST(test_two_writers),
		TEST(test_cannot_be_opened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
