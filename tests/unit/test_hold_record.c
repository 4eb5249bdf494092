/*
 * test_hold_record.c - records: their text, who is believed, where they are looked for,
 * and when they go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_hold.h"
#include "hold/record.h"
#include "temp_dir.h"

#define HEAD "vacate-hold 1\nprocess 12 3456 4026531836 1000\n"

static const char whole[] =
	HEAD "state parked checkpoint\nby 77 0 1700000000000000000 5\nwho guard 7\n"
	     "device GPU-a 1073741824 99\ndevice GPU-b ? 0\n"
	     "error it broke\nend\n";

static int parse(const char *text, struct vac_record *out, struct vac_error *err)
{
	return vac_record_parse("R", text, strlen(text), out, err);
}

static void test_whole(void **state)
{
	struct vac_buf text = VAC_BUF_INIT;
	struct vac_record r;

	(void)state;
	assert_int_equal(parse(whole, &r, NULL), 0);
	assert_int_equal(r.pid, 12);
	assert_int_equal(r.start_ticks, 3456);
	assert_int_equal(r.pid_namespace, 4026531836);
	assert_int_equal(r.uid, 1000);
	assert_int_equal(r.state, VAC_HOLD_PARKED);
	assert_int_equal(r.intent, VAC_INTENT_CHECKPOINT);
	assert_int_equal(r.by_pid, 77);
	assert_int_equal(r.by_uid, 0);
	assert_int_equal(r.wall_ns, 1700000000000000000);
	assert_int_equal(r.order_ns, 5);
	assert_string_equal(r.who, "guard 7");
	assert_int_equal(r.device_count, 2);
	assert_string_equal(r.devices[0].uuid, "GPU-a");
	assert_true(r.devices[0].bytes_valid);
	assert_int_equal(r.devices[0].bytes, 1073741824);
	assert_int_equal(r.devices[0].spare_bytes, 99);
	assert_string_equal(r.devices[1].uuid, "GPU-b");
	assert_false(r.devices[1].bytes_valid);
	assert_string_equal(r.error, "it broke");
	vac_record_write(&r, &text);
	assert_int_equal(text.bytes, strlen(whole));
	assert_memory_equal(text.data, whole, text.bytes);
	vac_buf_free(&text);
	assert_string_equal(vac_record_intent_name(VAC_INTENT_RESTORE), "restore");
	assert_string_equal(vac_record_intent_name((enum vac_record_intent)9), "unknown");
}

#define STATE "state running none\n"
#define BY    "by 1 2 3 4\n"

static void test_broken(void **state)
{
	static const struct {
		const char *text, *where;
	} cases[] = {
		{"", "R: line 1: not a record"},
		{"vacate-hold 2\n", "R: line 1: not a record"},
		{"vacate-hold 1", "R: line 1: not a record"},
		{"vacate-hold 1\n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess 0 1 1 1\n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess -1 1 1 1\n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess 2147483648 1 1 1\n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess 1 18446744073709551616 1 1\n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess 1 1 1\n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess 1 1 1 1 1\n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess 1  1 1 1\n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess 1 1 1 1 \n", "R: line 2: no process"},
		{"vacate-hold 1\nprocess 1 1 1 4294967296\n", "R: line 2: no process"},
		{HEAD, "R: line 3: no state"},
		{HEAD "state gone none\n", "R: line 3: no state"},
		{HEAD "state running\n", "R: line 3: no state"},
		{HEAD "state running nothing\n", "R: line 3: no state"},
		{HEAD STATE "by 1 2 3\n", "R: line 4: it does not say who"},
		{HEAD STATE "by 1 2 9223372036854775808 3\n", "R: line 4: it does not say who"},
		{HEAD STATE BY, "R: line 5: the record breaks off"},
		{HEAD STATE BY "device GPU-1 1\nend\n", "R: line 5: a device"},
		{HEAD STATE BY "device GPU-1 x 1\nend\n", "R: line 5: a device"},
		{HEAD STATE BY "device GPU-1 ? \nend\n", "R: line 5: a device"},
		{HEAD STATE BY "device GPU-1 ?\nend\n", "R: line 5: a device"},
		{HEAD STATE BY "device GPU-1 9223372036854775808 1\nend\n", "R: line 5: a device"},
		{HEAD STATE BY "device G\033[1m 1 1\nend\n", "R: line 5: a device"},
		{HEAD STATE BY "device GPU-45678901234567890123456789012345678901234567 1 1\nend\n",
		 "R: line 5: a device"},
		{HEAD STATE BY "device GPU-1 1 1\n", "R: line 6: the record breaks off"},
		{HEAD STATE BY "error \033[31m\nend\n", "R: line 5: a reason"},
		{HEAD STATE BY "error x\nerror y\nend\n", "R: line 6: something"},
		{HEAD STATE BY "error x\ndevice GPU-1 1 1\nend\n", "R: line 6: something"},
		{HEAD STATE BY "who \033[31m\nend\n", "R: line 5: what parked it"},
		{HEAD STATE BY "who 456789012345678901234567890123456789012345678901\nend\n",
		 "R: line 5: what parked it"},
		{HEAD STATE BY "who guard\n", "R: line 6: the record breaks off"},
		{HEAD STATE BY "device GPU-1 1 1\nwho guard\nend\n", "R: line 6: something"},
		{HEAD STATE BY "end\n\n", "R: line 5: something"},
		{HEAD STATE BY "end", "R: line 5: the record breaks off"},
	};
	struct vac_record r;
	struct vac_error err;
	char many[VAC_RECORD_LIMIT_BYTES + 2];

	(void)state;
	assert_int_equal(parse(HEAD STATE BY "end\n", &r, NULL), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		err.code = VAC_OK;
		if (parse(cases[i].text, &r, &err) != -EBADMSG || err.code != VAC_E_CORRUPT ||
		    strncmp(err.message, cases[i].where, strlen(cases[i].where)) != 0)
			fail_msg("%zu: %s", i, err.message);
	}
	/* a NUL byte in a word */
	assert_int_equal(vac_record_parse("R", HEAD "state run\0ing none\n" BY "end\n",
					  sizeof(HEAD "state run\0ing none\n" BY "end\n") - 1, &r,
					  &err),
			 -EBADMSG);
	int at = snprintf(many, sizeof(many), HEAD STATE BY);
	for (int i = 0; i < 17; i++)
		at += snprintf(many + at, sizeof(many) - (size_t)at, "device GPU-%d 1 1\n", i);
	snprintf(many + at, sizeof(many) - (size_t)at, "end\n");
	assert_int_equal(parse(many, &r, &err), -EBADMSG);
	assert_string_equal(err.message, "R: line 21: too many devices");
	memset(many, 'x', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	assert_int_equal(parse(many, &r, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "8193 bytes"));
}

/* What every test of files begins with: a directory for all, in the place of /tmp. */
static struct vac_hold hold;

static int begin(void **state)
{
	(void)state;
	temp_dir_make();
	memset(&hold, 0, sizeof(hold));
	snprintf(hold.lock_directory, sizeof(hold.lock_directory), "%s", temp_path("all"));
	temp_mkdir("all");
	chmod(temp_path("."), 0755);
	chmod(temp_path("all"), 01777);
	snprintf(hold.directory, sizeof(hold.directory), "%s/vacate-hold-%u", temp_path("all"),
		 (unsigned)geteuid());
	return 0;
}

static int end(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

static void save(const char *directory, const struct vac_target *target, enum vac_hold_state to)
{
	struct vac_record record;

	vac_record_init(&record, target);
	record.state = to;
	assert_int_equal(vac_record_save(directory, &record, NULL), 0);
}

static void test_saved_and_found(void **state)
{
	struct vac_record record, found[4];
	struct vac_target target;
	struct stat st;
	mode_t mask;
	size_t count;
	int before = count_fds();

	(void)state;
	assert_int_equal(vac_target_open(fake_hold_child(0), &target, NULL), 0);
	assert_false(vac_record_find(&hold, &target, &record));
	assert_int_equal(vac_record_list(&hold, found, 4, &count, NULL), 0);
	assert_int_equal(count, 0);
	assert_int_equal(access(hold.directory, F_OK), -1); /* asking makes nothing */
	mask = umask(0077);
	save(hold.directory, &target, VAC_HOLD_PARKED);
	umask(mask);
	assert_int_equal(stat(hold.directory, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_true(vac_record_find(&hold, &target, &record));
	assert_int_equal(record.state, VAC_HOLD_PARKED);
	assert_int_equal(record.uid, geteuid());
	assert_int_equal(record.by_pid, getpid());
	assert_true(record.wall_ns > 0 && record.order_ns > 0);
	assert_int_equal(vac_record_list(&hold, found, 4, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(found[0].pid, target.pid);
	assert_int_equal(vac_record_list(&hold, found, 0, &count, NULL), 0);
	assert_int_equal(count, 1);
	/* of another process that had this number */
	target.start_ticks++;
	assert_false(vac_record_find(&hold, &target, &record));
	target.start_ticks--;
	save(hold.directory, &target, VAC_HOLD_FAILED);
	assert_true(vac_record_find(&hold, &target, &record));
	assert_int_equal(record.state, VAC_HOLD_FAILED);
	vac_record_sweep(hold.directory);
	assert_true(vac_record_find(&hold, &target, &record));
	fake_hold_kill(target.pid, false);
	assert_int_equal(vac_record_list(&hold, found, 4, &count, NULL), 0);
	assert_int_equal(count, 0);
	vac_record_sweep(hold.directory);
	assert_false(vac_record_find(&hold, &target, &record));
	assert_int_equal(waitpid(target.pid, NULL, 0), target.pid);
	vac_target_close(&target);
	assert_int_equal(count_fds(), before);
}

static void test_removed(void **state)
{
	struct vac_record record;
	struct vac_target target;

	(void)state;
	assert_int_equal(vac_target_open(fake_hold_child(0), &target, NULL), 0);
	save(hold.directory, &target, VAC_HOLD_PARKED);
	vac_record_remove(hold.directory, &target);
	assert_false(vac_record_find(&hold, &target, &record));
	vac_record_remove(hold.directory, &target);
	fake_hold_kill(target.pid, true);
	vac_target_close(&target);
}

/* A directory that is not ours alone is neither written to nor read. */
static void test_directory_of_others(void **state)
{
	struct vac_record record;
	struct vac_target target;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_target_open(fake_hold_child(0), &target, NULL), 0);
	save(hold.directory, &target, VAC_HOLD_PARKED);
	assert_int_equal(chmod(hold.directory, 0757), 0);
	assert_false(vac_record_find(&hold, &target, &record));
	vac_record_init(&record, &target);
	assert_int_equal(vac_record_save(hold.directory, &record, &err), -EIO);
	assert_non_null(strstr(err.message, hold.directory));
	assert_non_null(strstr(err.message, "can be written by others"));
	assert_int_equal(chmod(hold.directory, 0755), 0);
	assert_int_equal(rename(hold.directory, temp_path("moved")), 0);
	assert_int_equal(symlink(temp_path("moved"), hold.directory), 0);
	assert_false(vac_record_find(&hold, &target, &record));
	assert_int_equal(vac_record_save(hold.directory, &record, &err), -EIO);
	assert_non_null(strstr(err.message, "cannot be used"));
	if (geteuid() == 0) {
		assert_int_equal(unlink(hold.directory), 0);
		assert_int_equal(mkdir(hold.directory, 0755), 0);
		assert_int_equal(chown(hold.directory, 65534, 65534), 0);
		assert_int_equal(vac_record_save(hold.directory, &record, &err), -EIO);
		assert_non_null(strstr(err.message, "belongs to user 65534"));
	}
	fake_hold_kill(target.pid, true);
	vac_target_close(&target);
}

/* Files that are links, broken, or somebody else's are not believed. */
static void test_files_of_others(void **state)
{
	struct vac_record record;
	struct vac_target target;
	char path[512], text[600];
	struct stat st;

	(void)state;
	assert_int_equal(stat("/proc/self/ns/pid", &st), 0);
	assert_int_equal(vac_target_open(fake_hold_child(0), &target, NULL), 0);
	save(hold.directory, &target, VAC_HOLD_PARKED);
	snprintf(path, sizeof(path), "%s/%" PRIu64 ".%d", hold.directory, (uint64_t)st.st_ino,
		 (int)target.pid);
	assert_int_equal(access(path, R_OK), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_false(vac_record_find(&hold, &target, &record));
		assert_int_equal(chown(path, 0, 0), 0);
	}
	assert_int_equal(chmod(path, 0646), 0);
	assert_false(vac_record_find(&hold, &target, &record));
	assert_int_equal(chmod(path, 0644), 0);
	assert_true(vac_record_find(&hold, &target, &record));
	snprintf(text, sizeof(text), "%s.real", path);
	assert_int_equal(rename(path, text), 0);
	assert_int_equal(symlink(text, path), 0);
	assert_false(vac_record_find(&hold, &target, &record));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0644), 0);
	assert_false(vac_record_find(&hold, &target, &record)); /* and does not wait */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(truncate(text, 30), 0);
	assert_int_equal(rename(text, path), 0);
	assert_false(vac_record_find(&hold, &target, &record));
	/* what cannot be read is swept no more than what is alive */
	vac_record_sweep(hold.directory);
	assert_int_equal(access(path, F_OK), 0);
	fake_hold_kill(target.pid, true);
	vac_target_close(&target);
}

/* What root parked the user finds, and the newer of two counts. */
static void test_users(void **state)
{
	struct vac_record record, found[4];
	struct vac_target target;
	size_t count;
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(vac_target_open(fake_hold_child(65533), &target, NULL), 0);
	save(hold.directory, &target, VAC_HOLD_PARKED);
	assert_int_equal(chmod(temp_path("."), 0755), 0);
	pid = fork();
	if (pid == 0) { /* its user */
		if (setuid(65533) != 0)
			_exit(1);
		snprintf(hold.directory, sizeof(hold.directory), "%s",
			 temp_path("all/vacate-hold-65533"));
		if (!vac_record_find(&hold, &target, &record) || record.by_uid != 0 ||
		    record.state != VAC_HOLD_PARKED)
			_exit(2);
		record.state = VAC_HOLD_LOCKED;
		if (vac_record_save(hold.directory, &record, NULL) != 0)
			_exit(3);
		if (!vac_record_find(&hold, &target, &record) || record.by_uid != 65533 ||
		    record.state != VAC_HOLD_LOCKED)
			_exit(4);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(vac_record_find(&hold, &target, &record));
	assert_int_equal(record.by_uid, 65533);
	assert_int_equal(vac_record_list(&hold, found, 4, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(found[0].state, VAC_HOLD_LOCKED);
	save(hold.directory, &target, VAC_HOLD_FAILED);
	assert_true(vac_record_find(&hold, &target, &record));
	assert_int_equal(record.state, VAC_HOLD_FAILED);
	pid = fork();
	if (pid == 0) { /* somebody else says that root's process is lost */
		struct vac_target of_root;

		if (vac_target_open(getppid(), &of_root, NULL) != 0 || setuid(65531) != 0)
			_exit(1);
		snprintf(hold.directory, sizeof(hold.directory), "%s",
			 temp_path("all/vacate-hold-65531"));
		vac_record_init(&record, &of_root);
		record.state = VAC_HOLD_FAILED;
		if (vac_record_save(hold.directory, &record, NULL) != 0)
			_exit(2);
		/* or that it is his */
		if (vac_target_open(1, &of_root, NULL) != 0)
			_exit(3);
		vac_record_init(&record, &of_root);
		record.uid = 65531;
		if (vac_record_save(hold.directory, &record, NULL) != 0)
			_exit(4);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(vac_record_list(&hold, found, 4, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(found[0].pid, target.pid);
	/* in a directory whose name says another user than it has */
	save(temp_path("all/vacate-hold-65530"), &target, VAC_HOLD_PARKED);
	assert_int_equal(vac_record_list(&hold, found, 4, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(found[0].state, VAC_HOLD_FAILED);
	fake_hold_kill(target.pid, true);
	vac_target_close(&target);
}

/* Named by VACATE_HOLD_DIR: there and nowhere else. */
static void test_one_place(void **state)
{
	struct vac_record record, found[2];
	struct vac_target target;
	size_t count;

	(void)state;
	assert_int_equal(vac_target_open(fake_hold_child(0), &target, NULL), 0);
	save(hold.directory, &target, VAC_HOLD_PARKED);
	assert_int_equal(setenv("VACATE_HOLD_DIR", temp_path("named"), 1), 0);
	struct vac_hold named;
	assert_int_equal(vac_hold_open(&named, NULL), 0);
	assert_string_equal(named.directory, temp_path("named"));
	assert_string_equal(named.lock_directory, temp_path("named"));
	assert_false(vac_record_find(&named, &target, &record));
	save(named.directory, &target, VAC_HOLD_LOCKED);
	assert_true(vac_record_find(&named, &target, &record));
	assert_int_equal(record.state, VAC_HOLD_LOCKED);
	assert_int_equal(vac_record_list(&named, found, 2, &count, NULL), 0);
	assert_int_equal(count, 1);
	char long_name[400];
	struct vac_error err;
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(setenv("VACATE_HOLD_DIR", long_name, 1), 0);
	assert_int_equal(vac_hold_open(&named, &err), -EINVAL);
	assert_non_null(strstr(err.message, "VACATE_HOLD_DIR"));
	assert_int_equal(setenv("VACATE_HOLD_DIR", "", 1), 0);
	assert_int_equal(vac_hold_open(&named, &err), 0);
	char expected[320];
	struct stat st;
	bool run_lock = stat("/run/lock", &st) == 0 && (st.st_mode & 01777) == 01777;
	assert_string_equal(named.lock_directory, run_lock ? "/run/lock" : "/tmp");
	snprintf(expected, sizeof(expected), "%s/vacate-hold-%u", named.lock_directory,
		 (unsigned)geteuid());
	assert_string_equal(named.directory, expected);
	unsetenv("VACATE_HOLD_DIR");
	fake_hold_kill(target.pid, true);
	vac_target_close(&target);
}

#define FILES(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_broken),
		FILES(test_saved_and_found),
		FILES(test_removed),
		FILES(test_directory_of_others),
		FILES(test_files_of_others),
		FILES(test_users),
		FILES(test_one_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
