/*
 * test_target.c - processes held by pidfd and start time, and trees of them. The
 * processes are real ones, made here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hold/internal.h"
#include "hold/target.h"
#include "temp_dir.h"

static int descriptors(void)
{
	int count = 0;
	DIR *dir = opendir("/proc/self/fd");

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* A child that sleeps; it dies with us. */
static pid_t start_child(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void end_child(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void test_lives_and_dies(void **state)
{
	struct vac_target target;
	struct vac_error err;
	int before = descriptors();
	pid_t pid = start_child();
	siginfo_t info;

	(void)state;
	assert_int_equal(vac_target_open(pid, &target, &err), 0);
	assert_int_equal(target.pid, pid);
	assert_int_equal(target.uid, geteuid());
	assert_true(target.pidfd >= 0 && target.start_ticks > 0);
	assert_true(vac_target_alive(&target));
	assert_false(vac_target_stopped(&target));
	/* ended and not reaped: its directory is still there */
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_false(vac_target_alive(&target));
	struct vac_target other;
	assert_int_equal(vac_target_open(pid, &other, &err), -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_non_null(strstr(err.message, "has ended"));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(vac_target_alive(&target));
	assert_int_equal(vac_target_open(pid, &other, &err), -ENOENT);
	assert_non_null(strstr(err.message, "there is no process"));
	vac_target_close(&target);
	assert_int_equal(target.pidfd, -1);
	vac_target_close(&target);
	assert_int_equal(descriptors(), before);
}

/* Without a pidfd the start time tells another process with the same number. */
static void test_start_time(void **state)
{
	struct vac_target target;
	pid_t pid = start_child();

	(void)state;
	assert_int_equal(vac_target_open(pid, &target, NULL), 0);
	vac_target_close(&target);
	assert_true(vac_target_alive(&target));
	target.start_ticks++;
	assert_false(vac_target_alive(&target));
	target.start_ticks--;
	assert_int_equal(kill(pid, SIGKILL), 0);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_false(vac_target_alive(&target));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(vac_target_alive(&target));
}

static void wait_until_stopped(const struct vac_target *target, bool stopped)
{
	for (int i = 0; i < 60000 && vac_target_stopped(target) != stopped; i++)
		usleep(1000);
	assert_int_equal(vac_target_stopped(target), stopped);
}

static void test_stopped(void **state)
{
	struct vac_target target;
	pid_t pid = start_child();

	(void)state;
	assert_int_equal(vac_target_open(pid, &target, NULL), 0);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	wait_until_stopped(&target, true);
	assert_true(vac_target_alive(&target));
	assert_int_equal(kill(pid, SIGCONT), 0);
	wait_until_stopped(&target, false);
	vac_target_close(&target);
	end_child(pid);
}

static void test_no_process(void **state)
{
	static const pid_t none[] = {0, -1, INT32_MAX};
	struct vac_target target;
	struct vac_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		assert_int_equal(vac_target_open(none[i], &target, &err), -ENOENT);
		assert_int_equal(err.code, VAC_E_NOT_FOUND);
	}
}

/* The arguments as far as they go, in printable ASCII. */
static void test_command(void **state)
{
	struct vac_target target;
	char line[128] = "";
	int ready[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ready[1], 1);
		execl("/bin/sh", "/bin/sh", "-c",
		      "echo x; kill -STOP $$ # (\x01) \xc3\xa9 ##########", "end", NULL);
		_exit(127);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], line, 1), 1);
	assert_int_equal(vac_target_open(pid, &target, NULL), 0);
	assert_string_equal(target.command,
			    "/bin/sh -c echo x; kill -STOP $$ # (?) ?? ########## end");
	vac_target_close(&target);
	close(ready[0]);
	end_child(pid);
}

/* Who has no descriptor left cannot look, and does not take the process for one that ended. */
static void test_no_descriptors(void **state)
{
	struct rlimit before, none;
	struct vac_target target, second;
	struct vac_error err;
	pid_t pid = start_child();
	int alive, rc;

	(void)state;
	assert_int_equal(vac_target_open(pid, &target, NULL), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	alive = vac_target_alive(&target);
	rc = vac_target_open(pid, &second, &err);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(alive);
	assert_true(rc < 0);
	assert_int_not_equal(err.code, VAC_E_NOT_FOUND);
	assert_non_null(strstr(err.message, "Too many open files"));
	vac_target_close(&target);
	end_child(pid);
}

/* docker pause, systemctl freeze: by the files of the group, whichever hierarchy has it. */
static void test_frozen(void **state)
{
	static const struct {
		const char *group, *file, *text;
		bool frozen;
	} cases[] = {
		{"0::/a/b\n", "sys/fs/cgroup/a/b/cgroup.events", "populated 1\nfrozen 1\n", true},
		{"0::/a/b\n", "sys/fs/cgroup/a/b/cgroup.events", "populated 1\nfrozen 0\n", false},
		{"0::/a/b\n", "sys/fs/cgroup/a/cgroup.events", "populated 1\nfrozen 1\n", false},
		{"0::/../b\n", "sys/fs/cgroup/b/cgroup.events", "populated 1\nfrozen 1\n", false},
		{"1:cpu:/a\n0::/b\n", "sys/fs/cgroup/unified/b/cgroup.events", "frozen 1\n", true},
		{"6:freezer:/b\n0::/\n", "sys/fs/cgroup/freezer/b/freezer.state", "FROZEN\n", true},
		{"6:freezer:/b\n0::/\n", "sys/fs/cgroup/freezer/b/freezer.state", "FREEZING\n",
		 true},
		{"6:freezer:/b\n0::/\n", "sys/fs/cgroup/freezer/b/freezer.state", "THAWED\n",
		 false},
		{"nonsense\n\n:\n", "sys/fs/cgroup/freezer/freezer.state", "FROZEN\n", false},
	};
	const struct vac_target target = {.pid = 4711, .pidfd = -1};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		temp_dir_make();
		assert_false(vac_target_frozen(temp_path(""), &target)); /* no /proc */
		temp_text("proc/4711/cgroup", cases[i].group);
		temp_text(cases[i].file, cases[i].text);
		assert_int_equal(vac_target_frozen(temp_path(""), &target), cases[i].frozen);
		temp_dir_remove();
	}
}

/* A child that makes one of its own, which makes another; *deep is the last. */
static pid_t start_chain(pid_t *middle, pid_t *deep)
{
	int to_us[2];
	pid_t pid, said[2];

	assert_int_equal(pipe(to_us), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		said[0] = fork();
		if (said[0] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			said[0] = getpid();
			said[1] = fork();
			if (said[1] == 0)
				prctl(PR_SET_PDEATHSIG, SIGKILL);
			else if (write(to_us[1], said, sizeof(said)) < 0)
				_exit(1);
		}
		for (;;)
			pause();
	}
	close(to_us[1]);
	assert_int_equal(read(to_us[0], said, sizeof(said)), sizeof(said));
	close(to_us[0]);
	*middle = said[0];
	*deep = said[1];
	return pid;
}

static void test_tree(void **state)
{
	struct vac_target targets[4];
	struct vac_error err;
	size_t count;
	pid_t middle, deep, top = start_chain(&middle, &deep);
	int before = descriptors();

	(void)state;
	assert_int_equal(vac_target_tree(top, targets, 4, &count, &err), 0);
	assert_int_equal(count, 3);
	assert_int_equal(targets[0].pid, top);
	assert_int_equal(targets[1].pid, middle);
	assert_int_equal(targets[2].pid, deep);
	for (size_t i = 0; i < count; i++)
		vac_target_close(&targets[i]);
	assert_int_equal(vac_target_tree(top, targets, 2, &count, &err), -E2BIG);
	assert_int_equal(err.code, VAC_E_TOO_LARGE);
	assert_non_null(strstr(err.message, "more than 1 descendants"));
	assert_int_equal(count, 0);
	assert_int_equal(vac_target_tree(deep, targets, 1, &count, &err), 0);
	assert_int_equal(count, 1);
	vac_target_close(&targets[0]);
	assert_int_equal(vac_target_tree(INT32_MAX, targets, 4, &count, &err), -ENOENT);
	assert_int_equal(count, 0);
	assert_int_equal(descriptors(), before);
	end_child(top);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lives_and_dies), cmocka_unit_test(test_start_time),
		cmocka_unit_test(test_stopped),        cmocka_unit_test(test_no_process),
		cmocka_unit_test(test_command),        cmocka_unit_test(test_tree),
		cmocka_unit_test(test_frozen),         cmocka_unit_test(test_no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
