/*
 * test_hold_locks.c - park and resume beside others: another vacate that has a process or
 * a device locked, locks and records of other users.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "hold_world.h"

static void test_second_vacate(void **state)
{
	char path[256], holder[32];
	pid_t pid;

	(void)state;
	hold_world_add(GIB);
	snprintf(path, sizeof(path), "records/vacate-process-%d-%llu.lock",
		 (int)world.targets[0].pid, (unsigned long long)world.targets[0].start_ticks);
	pid = hold_world_hold_lock(temp_path(path), 600);
	snprintf(holder, sizeof(holder), "process %d holds", (int)pid);
	hold_world_expect(hold_world_park(), VAC_E_BUSY, &world.err, "another vacate is at it",
			  holder, NULL);
	hold_world_expect(hold_world_resume(), VAC_E_BUSY, &world.err, "another vacate is at it",
			  holder, NULL);
	hold_world_expect_calls("");
	fake_hold_kill(pid, true); /* and the file is left behind: it is nobody's */
	assert_int_equal(hold_world_park(), 0);
}

static pid_t lock_holder;

static void end_lock_holder(void *ctx, size_t target, enum vac_hold_phase phase)
{
	(void)ctx, (void)target;
	if (phase == VAC_HOLD_WAITING)
		fake_hold_kill(lock_holder, true);
}

static bool is_cancelled;

static bool cancelled(void *ctx)
{
	(void)ctx;
	return is_cancelled;
}

static void test_device_lock(void **state)
{
	char path[256], holder[32];

	(void)state;
	hold_world_add(GIB);
	assert_int_equal(hold_world_park(), 0);
	snprintf(path, sizeof(path), "records/vacate-%s.lock", fake_hold_uuid(0));
	lock_holder = hold_world_hold_lock(temp_path(path), 600);
	snprintf(holder, sizeof(holder), "process %d holds", (int)lock_holder);
	hold_world_expect(hold_world_resume(), VAC_E_BUSY, &world.err, "waited 100 ms for the GPU",
			  holder, NULL);
	assert_int_equal(world.receipts[0].after, VAC_HOLD_PARKED);
	world.hold.device_lock_ms = 600000;
	world.options.cancelled = cancelled;
	is_cancelled = true;
	hold_world_expect(hold_world_resume(), VAC_E_CANCELLED, &world.err, "cancelled", NULL);
	is_cancelled = false;
	world.options.progress = end_lock_holder;
	assert_int_equal(hold_world_resume(), 0);
	/* parking makes room and waits for nobody */
	world.options.progress = NULL;
	lock_holder = hold_world_hold_lock(temp_path(path), 600);
	assert_int_equal(hold_world_park(), 0);
	fake_hold_kill(lock_holder, true);
}

/* A program that parks by the library may fork at any time, and what it forked need not exec. */
static void test_a_child_keeps_no_lock(void **state)
{
	struct vac_lock lock, second;
	struct vac_error err;
	pid_t holder, child;

	(void)state;
	assert_int_equal(vac_lock_take_device(&lock, temp_path("records"), "GPU-a", 0, NULL, NULL,
					      &holder, &err),
			 0);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	assert_true(child > 0);
	vac_lock_release(&lock, false);
	assert_int_equal(vac_lock_take_device(&second, temp_path("records"), "GPU-a", 0, NULL, NULL,
					      &holder, &err),
			 0);
	vac_lock_release(&second, true);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

/* Locks are among users: what one made, the other may lock. */
static void test_locks(void **state)
{
	struct vac_lock lock, second;
	struct vac_error err;
	struct stat st;
	mode_t mask = umask(0077);
	pid_t holder;
	int64_t since;

	(void)state;
	assert_int_equal(vac_lock_take_device(&lock, temp_path("records"), "GPU-a/b", 0, NULL, NULL,
					      &holder, &err),
			 0);
	umask(mask);
	assert_int_equal(stat(temp_path("records/vacate-GPU-a_b.lock"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0444);
	since = vac_now_ns();
	hold_world_expect(vac_lock_take_device(&second, temp_path("records"), "GPU-a/b",
					       since + 50000000, NULL, NULL, &holder, &err),
			  VAC_E_BUSY, &err, "vacate-GPU-a_b.lock", NULL);
	assert_true(vac_now_ns() - since >= 50000000);
	assert_int_equal(holder, getpid());
	assert_int_equal(second.fd, -1);
	vac_lock_release(&lock, false);
	vac_lock_release(&lock, false);
	assert_int_equal(stat(temp_path("records/vacate-GPU-a_b.lock"), &st), 0);
	assert_int_equal(vac_lock_take(&second, temp_path("records"), "vacate-GPU-a_b.lock", 0,
				       NULL, NULL, &holder, &err),
			 0);
	vac_lock_release(&second, true);
	assert_int_equal(stat(temp_path("records/vacate-GPU-a_b.lock"), &st), -1);
	/* neither a link nor a directory nor a fifo is followed, opened or waited for */
	temp_text("elsewhere", "x");
	temp_symlink("../elsewhere", "records/link");
	hold_world_expect(
		vac_lock_take(&lock, temp_path("records"), "link", 0, NULL, NULL, &holder, &err),
		VAC_E_IO, &err, "records/link", "cannot be used", NULL);
	temp_mkdir("records/directory");
	hold_world_expect(vac_lock_take(&lock, temp_path("records"), "directory", 0, NULL, NULL,
					&holder, &err),
			  VAC_E_IO, &err, "no plain file", NULL);
	assert_int_equal(mkfifo(temp_path("records/fifo"), 0666), 0);
	hold_world_expect(
		vac_lock_take(&lock, temp_path("records"), "fifo", 0, NULL, NULL, &holder, &err),
		VAC_E_IO, &err, "no plain file", NULL);
	hold_world_expect(
		vac_lock_take(&lock, temp_path("nowhere"), "x", 0, NULL, NULL, &holder, &err),
		VAC_E_IO, &err, "nowhere/x", NULL);
}

/* Taken again and again on one open file. */
static void test_kept_lock(void **state)
{
	struct vac_lock kept, other;
	struct vac_error err;
	pid_t holder;
	int fd;

	(void)state;
	assert_int_equal(vac_lock_open_device(&kept, temp_path("records"), "GPU-1", &err), 0);
	fd = kept.fd;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(vac_lock_retake(&kept, 0, NULL, NULL, &holder, &err), 0);
		assert_int_equal(kept.fd, fd);
		assert_int_equal(vac_lock_take_device(&other, temp_path("records"), "GPU-1", 0,
						      NULL, NULL, &holder, &err),
				 -EAGAIN);
		vac_lock_leave(&kept);
		assert_int_equal(vac_lock_take_device(&other, temp_path("records"), "GPU-1", 0,
						      NULL, NULL, &holder, &err),
				 0);
		hold_world_expect(vac_lock_retake(&kept, 0, NULL, NULL, &holder, &err), VAC_E_BUSY,
				  &err, "vacate-GPU-1.lock", NULL);
		assert_int_equal(holder, getpid());
		assert_int_equal(kept.fd, fd);
		vac_lock_release(&other, i == 1); /* and once its file goes: another one then */
		fd = i == 1 ? -1 : fd;
		if (fd < 0) {
			assert_int_equal(vac_lock_retake(&kept, 0, NULL, NULL, &holder, &err), 0);
			assert_int_equal(access(temp_path("records/vacate-GPU-1.lock"), F_OK), 0);
			vac_lock_leave(&kept);
			fd = kept.fd;
		}
	}
	vac_lock_release(&kept, false);
	assert_int_equal(kept.fd, -1);
	vac_lock_leave(&kept);
	hold_world_expect(vac_lock_open_device(&kept, temp_path("nowhere"), "GPU-1", &err),
			  VAC_E_IO, &err, "nowhere/vacate-GPU-1.lock", "cannot be used", NULL);
	assert_int_equal(kept.fd, -1);
}

/* As another user (only root can become one): a lock that root made. */
static void test_lock_of_another_user(void **state)
{
	struct vac_lock lock;
	pid_t holder, pid;
	int status;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(temp_path("."), 0755), 0);
	assert_int_equal(chmod(temp_path("records"), 01777), 0);
	assert_int_equal(vac_lock_take_device(&lock, temp_path("records"), "GPU-1", 0, NULL, NULL,
					      &holder, NULL),
			 0);
	vac_lock_release(&lock, false);
	pid = fork();
	if (pid == 0) {
		int rc = setuid(65534);

		if (rc == 0)
			rc = vac_lock_take_device(&lock, temp_path("records"), "GPU-1", 0, NULL,
						  NULL, &holder, NULL);
		_exit(rc == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(chmod(temp_path("records"), 0755), 0);
}

/* Another user's process: said in words before the driver is asked. */
static void test_another_user(void **state)
{
	pid_t target, pid;
	int status;

	(void)state;
	if (geteuid() != 0)
		skip();
	target = fake_hold_child(65533);
	fake_hold_add(target, GIB);
	assert_int_equal(vac_target_open(target, &world.targets[world.count++], NULL), 0);
	assert_int_equal(world.targets[0].uid, 65533);
	pid = fork();
	if (pid == 0) { /* assertions would end the parent's test: it says by its status */
		enum vac_hold_state of = VAC_HOLD_FAILED;

		if (setuid(65532) != 0)
			_exit(1);
		if (vac_hold_state(&world.hold, &world.targets[0], &of, NULL) != 0 ||
		    of != VAC_HOLD_UNKNOWN)
			_exit(2);
		if (hold_world_park() != -EIO || world.err.code != VAC_E_IO ||
		    !strstr(world.err.message, "another user (uid 65533)"))
			_exit(3);
		if (hold_world_resume() != -EIO || fake_hold.log_count != 0)
			_exit(4);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* root may; and its record says whose process it is */
	assert_int_equal(hold_world_park(), 0);
	struct vac_record record;
	assert_true(hold_world_record(0, &record));
	assert_int_equal(record.uid, 65533);
	assert_int_equal(record.by_uid, 0);
	/* that it is another's is no reason for what root is refused */
	fake_hold.fail_call = FAKE_RESTORE;
	fake_hold.fail_with = VAC_CU_OPERATING_SYSTEM;
	hold_world_expect(hold_world_resume(), VAC_E_GONE, &world.err, "is lost",
			  "the system refused the driver's restore", NULL);
	assert_null(strstr(world.err.message, "another user"));
	world.options.risk = true;
	assert_int_equal(hold_world_resume(), 0);
}

/* Parked by root, resumed by its user, who may not remove root's record. */
static void test_two_users_records(void **state)
{
	struct vac_record record;
	pid_t target, pid;
	int status;

	(void)state;
	if (geteuid() != 0)
		skip();
	target = fake_hold_child(65533);
	struct fake_process *process = fake_hold_add(target, GIB);
	assert_int_equal(vac_target_open(target, &world.targets[world.count++], NULL), 0);
	temp_mkdir("all");
	assert_int_equal(chmod(temp_path("all"), 01777), 0);
	assert_int_equal(chmod(temp_path("."), 0755), 0);
	snprintf(world.hold.lock_directory, sizeof(world.hold.lock_directory), "%s",
		 temp_path("all"));
	snprintf(world.hold.directory, sizeof(world.hold.directory), "%s",
		 temp_path("all/vacate-hold-0"));
	assert_int_equal(hold_world_park(), 0);
	pid = fork();
	if (pid == 0) {
		if (setuid(65533) != 0)
			_exit(1);
		snprintf(world.hold.directory, sizeof(world.hold.directory), "%s",
			 temp_path("all/vacate-hold-65533"));
		_exit(hold_world_resume() == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	process->state = VAC_CU_PROCESS_RUNNING; /* that was the child's own copy */
	assert_true(vac_record_find(&world.hold, &world.targets[0], &record));
	assert_int_equal(record.state, VAC_HOLD_RUNNING);
	assert_int_equal(record.by_uid, 65533);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hold_world_begin, hold_world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_second_vacate), TEST(test_device_lock),
		TEST(test_locks),         TEST(test_a_child_keeps_no_lock),
		TEST(test_kept_lock),     TEST(test_lock_of_another_user),
		TEST(test_another_user),  TEST(test_two_users_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
