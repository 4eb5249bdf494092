/*
 * test_hold_faults.c - what goes wrong on the way: targets that end or are stopped at
 * each step, others that take the room, several of which one is refused, callers that
 * want to stop or are killed. Locks and other users are in test_hold_locks.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hold_world.h"

/* What the next call of one kind is met with. */
static struct {
	enum fake_call call;
	void (*act)(pid_t pid);
	int times;
} trap;

static void spring(enum fake_call call, pid_t pid)
{
	if (trap.act && call == trap.call && trap.times++ == 0)
		trap.act(pid);
}

static void set_trap(enum fake_call call, void (*act)(pid_t pid))
{
	trap.call = call;
	trap.act = act;
	trap.times = 0;
	fake_hold.before = spring;
}

static void forget_all(void)
{
	for (size_t i = 0; i < world.count; i++) {
		if (waitpid(world.targets[i].pid, NULL, WNOHANG) == 0)
			fake_hold_kill(world.targets[i].pid, true);
		vac_target_close(&world.targets[i]);
	}
	world.count = 0;
	fake_hold.process_count = 0;
	fake_hold.log_count = 0;
	fake_hold.before = NULL;
	trap.act = NULL;
}

static void die(pid_t pid)
{
	fake_hold_kill(pid, false);
}

static void die_and_be_reaped(pid_t pid)
{
	fake_hold_kill(pid, true);
}

/* It ends just as the driver is called. */
static void test_dies_under_the_call(void **state)
{
	static const enum fake_call calls[] = {FAKE_LOCK, FAKE_CHECKPOINT, FAKE_RESTORE,
					       FAKE_UNLOCK};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(calls) / sizeof(calls[0]); i++) {
		enum fake_call call = calls[i / 2];
		bool resuming = call == FAKE_RESTORE || call == FAKE_UNLOCK;
		int rc;

		hold_world_add(GIB);
		if (resuming)
			assert_int_equal(hold_world_park(), 0);
		set_trap(call, i % 2 ? die_and_be_reaped : die);
		rc = resuming ? hold_world_resume() : hold_world_park();
		hold_world_expect(rc, VAC_E_GONE, &world.err, "ended while vacate was at it", NULL);
		assert_int_equal(world.receipts[0].after, VAC_HOLD_UNKNOWN);
		assert_false(world.receipts[0].devices_after[0].listed);
		forget_all();
	}
}

static int wanted_phase;
static void (*at_phase)(pid_t pid);
static size_t at_target;

static void act_at_phase(void *ctx, size_t target, enum vac_hold_phase phase)
{
	(void)ctx;
	if ((int)phase != wanted_phase || target != at_target)
		return;
	wanted_phase = -1;
	at_phase(world.targets[target].pid);
}

static void set_phase(enum vac_hold_phase phase, size_t target, void (*act)(pid_t pid))
{
	wanted_phase = (int)phase;
	at_target = target;
	at_phase = act;
	world.options.progress = act_at_phase;
}

/* It has ended before the driver is called: the call is not made. */
static void test_dies_before_the_call(void **state)
{
	static const struct {
		enum vac_hold_phase phase;
		bool resuming;
		enum vac_error_code code;
		const char *calls;
	} cases[] = {
		{VAC_HOLD_CHECKING, false, VAC_E_NOT_FOUND, ""},
		{VAC_HOLD_LOCKING, false, VAC_E_NOT_FOUND, ""},
		{VAC_HOLD_CHECKPOINTING, false, VAC_E_GONE, "lock 0"},
		{VAC_HOLD_CHECKING, true, VAC_E_NOT_FOUND, ""},
		{VAC_HOLD_RESTORING, true, VAC_E_NOT_FOUND, ""},
		{VAC_HOLD_UNLOCKING, true, VAC_E_GONE, "restore 0"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int rc;

		world.options.progress = NULL;
		hold_world_add(GIB);
		if (cases[i].resuming)
			assert_int_equal(hold_world_park(), 0);
		fake_hold.log_count = 0;
		set_phase(cases[i].phase, 0, die_and_be_reaped);
		rc = cases[i].resuming ? hold_world_resume() : hold_world_park();
		hold_world_expect(rc, cases[i].code, &world.err, "ended", NULL);
		hold_world_expect_calls(cases[i].calls);
		forget_all();
	}
}

static void test_dead_already(void **state)
{
	enum vac_hold_state of;

	(void)state;
	hold_world_add(GIB);
	die(world.targets[0].pid);
	hold_world_expect(hold_world_park(), VAC_E_NOT_FOUND, &world.err, "has ended", NULL);
	hold_world_expect(hold_world_resume(), VAC_E_NOT_FOUND, &world.err, "has ended", NULL);
	assert_int_equal(vac_hold_state(&world.hold, &world.targets[0], &of, &world.err), -ENOENT);
	hold_world_expect_calls("");
	assert_int_equal(waitpid(world.targets[0].pid, NULL, 0), world.targets[0].pid);
}

static void stop(pid_t pid)
{
	fake_hold_stop(pid, true);
}

/* A stopped process is not called; what it is left in can be had back. */
static void test_stopped(void **state)
{
	static const struct {
		enum vac_hold_phase phase;
		bool resuming;
		const char *calls, *part;
		enum vac_hold_state after;
	} cases[] = {
		{VAC_HOLD_CHECKING, false, "", "is stopped", VAC_HOLD_UNKNOWN},
		{VAC_HOLD_LOCKING, false, "", "is stopped", VAC_HOLD_RUNNING},
		{VAC_HOLD_CHECKPOINTING, false, "lock 0", "it was left locked", VAC_HOLD_LOCKED},
		{VAC_HOLD_RESTORING, true, "", "is stopped", VAC_HOLD_PARKED},
		{VAC_HOLD_UNLOCKING, true, "restore 0", "is stopped", VAC_HOLD_LOCKED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_record record;
		char text[32];
		int rc;

		world.options.progress = NULL;
		hold_world_add(GIB);
		if (cases[i].resuming)
			assert_int_equal(hold_world_park(), 0);
		fake_hold.log_count = 0;
		set_phase(cases[i].phase, 0, stop);
		rc = cases[i].resuming ? hold_world_resume() : hold_world_park();
		snprintf(text, sizeof(text), "kill -CONT %d", (int)world.targets[0].pid);
		hold_world_expect(rc, VAC_E_BUSY, &world.err, cases[i].part, text, NULL);
		hold_world_expect_calls(cases[i].calls);
		assert_int_equal(world.receipts[0].after, cases[i].after);
		assert_int_equal(hold_world_record(0, &record), cases[i].after == VAC_HOLD_LOCKED ||
					 cases[i].after == VAC_HOLD_PARKED);
		world.options.progress = NULL;
		fake_hold_stop(world.targets[0].pid, false);
		assert_int_equal(hold_world_resume(), 0);
		assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
		forget_all();
	}
}

/* Somebody who does not ask for the lock takes the room between the reading and the
 * restore: the loss is seen, named, recorded, and stays although the driver says that
 * the process is checkpointed. */
static void take_the_room(pid_t pid)
{
	(void)pid;
	fake_hold_add(getpid(), 50 * GIB);
}

static void test_racer(void **state)
{
	struct vac_record record;
	struct vac_hold later;
	enum vac_hold_state of;
	char racer[32];

	(void)state;
	hold_world_add(45 * GIB);
	assert_int_equal(hold_world_park(), 0);
	set_trap(FAKE_RESTORE, take_the_room);
	snprintf(racer, sizeof(racer), "process %d (", (int)getpid());
	hold_world_expect(hold_world_resume(), VAC_E_GONE, &world.err, "is lost",
			  "the GPU had no room for it", "its room was taken meanwhile", racer,
			  "holds 50.0 GiB", NULL);
	assert_int_equal(world.receipts[0].after, VAC_HOLD_FAILED);
	assert_int_equal(fake_hold.processes[0].state, VAC_CU_PROCESS_CHECKPOINTED);
	assert_true(hold_world_record(0, &record));
	assert_int_equal(record.state, VAC_HOLD_FAILED);
	assert_non_null(strstr(record.error, "is lost"));
	/* another vacate, later */
	assert_int_equal(vac_hold_open(&later, NULL), 0);
	assert_int_equal(vac_hold_state(&later, &world.targets[0], &of, NULL), 0);
	assert_int_equal(of, VAC_HOLD_FAILED);
	vac_hold_close(&later);
	/* as the real driver: once more does not help, and the loss stays on record */
	fake_hold_find(getpid())->bytes[0] = 0;
	world.options.risk = true;
	hold_world_expect(hold_world_resume(), VAC_E_GONE, &world.err,
			  "after one that found no room", NULL);
	assert_int_equal(hold_world_state(0), VAC_HOLD_FAILED);
}

/* Three at once; one is refused, at each place and step: all run as before. */
static void test_all_or_none(void **state)
{
	static const struct {
		enum fake_call call;
		size_t target;
		const char *calls;
	} cases[] = {
		{FAKE_LOCK, 0, "lock 0"},
		{FAKE_LOCK, 1, "lock 0, lock 1, unlock 0"},
		{FAKE_LOCK, 2, "lock 0, lock 1, lock 2, unlock 1, unlock 0"},
		{FAKE_CHECKPOINT, 0,
		 "lock 0, lock 1, lock 2, checkpoint 0, unlock 2, unlock 1, unlock 0"},
		{FAKE_CHECKPOINT, 1,
		 "lock 0, lock 1, lock 2, checkpoint 0, checkpoint 1, unlock 2, unlock 1, "
		 "restore 0, unlock 0"},
		{FAKE_CHECKPOINT, 2,
		 "lock 0, lock 1, lock 2, checkpoint 0, checkpoint 1, checkpoint 2, unlock 2, "
		 "restore 1, unlock 1, restore 0, unlock 0"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_record record;
		char who[32];

		for (int k = 0; k < 3; k++)
			hold_world_add(GIB);
		fake_hold.fail_call = cases[i].call;
		fake_hold.fail_pid = world.targets[cases[i].target].pid;
		fake_hold.fail_with = VAC_CU_NOT_SUPPORTED;
		fake_hold.fail_skip = 0;
		snprintf(who, sizeof(who), "process %d", fake_hold.fail_pid);
		hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, who,
				  "managed memory", NULL);
		hold_world_expect_calls(cases[i].calls);
		for (size_t k = 0; k < 3; k++) {
			const struct vac_hold_receipt *r = &world.receipts[k];

			assert_int_equal(hold_world_state(k), VAC_HOLD_RUNNING);
			assert_int_equal(r->after, VAC_HOLD_RUNNING);
			assert_int_equal(r->devices_after[0].bytes, GIB);
			assert_int_equal(r->error.code, k == cases[i].target ? VAC_E_UNSUPPORTED
									     : VAC_E_CANCELLED);
			assert_non_null(strstr(r->error.message, who));
			assert_false(hold_world_record(k, &record));
		}
		forget_all();
	}
}

/* One of them was locked or parked before: it goes back to just that. */
static void test_back_to_what_it_was(void **state)
{
	(void)state;
	hold_world_add(GIB)->state = VAC_CU_PROCESS_LOCKED;
	hold_world_add(GIB);
	hold_world_add(GIB);
	world.count = 2;
	assert_int_equal(
		vac_hold_park(&world.hold, &world.targets[1], 1, NULL, world.receipts, NULL), 0);
	fake_hold.log_count = 0;
	world.count = 3;
	fake_hold.fail_call = FAKE_CHECKPOINT;
	fake_hold.fail_pid = world.targets[2].pid;
	fake_hold.fail_with = VAC_CU_NOT_SUPPORTED;
	assert_int_equal(hold_world_park(), -ENOTSUP);
	hold_world_expect_calls("lock 2, checkpoint 0, checkpoint 2, unlock 2, restore 0");
	assert_int_equal(world.receipts[0].after, VAC_HOLD_LOCKED);
	assert_int_equal(world.receipts[1].after, VAC_HOLD_PARKED);
	assert_int_equal(world.receipts[2].after, VAC_HOLD_RUNNING);
	assert_non_null(strstr(world.receipts[1].error.message, "nothing was done"));
}

/* What should go back finds its room taken: it stays parked, and its receipt says so. */
static void test_no_way_back(void **state)
{
	(void)state;
	hold_world_add(45 * GIB);
	hold_world_add(GIB);
	fake_hold.fail_call = FAKE_CHECKPOINT;
	fake_hold.fail_pid = world.targets[1].pid;
	fake_hold.fail_with = VAC_CU_NOT_SUPPORTED;
	set_trap(FAKE_UNLOCK, take_the_room);
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "managed memory", NULL);
	hold_world_expect_calls("lock 0, lock 1, checkpoint 0, checkpoint 1, unlock 1");
	assert_int_equal(world.receipts[0].after, VAC_HOLD_PARKED);
	hold_world_expect(-ENOMEM, VAC_E_NO_ROOM, &world.receipts[0].error, "it was left parked",
			  "needs 45.0 GiB", "holds 50.0 GiB", NULL);
	fake_hold_find(getpid())->bytes[0] = 0;
	world.count = 1;
	assert_int_equal(hold_world_resume(), 0);
	world.count = 2;
}

/* It grew while the others were locked: what counts is read again then. */
static void grow(pid_t pid)
{
	fake_hold_find(pid)->bytes[0] = 6 * GIB;
}

static void test_looked_at_again(void **state)
{
	struct vac_record record;

	(void)state;
	hold_world_add(GIB);
	set_trap(FAKE_LOCK, grow);
	hold_world_available(4 * GIB);
	hold_world_expect(hold_world_park(), VAC_E_NO_ROOM, &world.err, "needs 6.0 GiB", NULL);
	hold_world_expect_calls("lock 0, unlock 0");
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
	hold_world_available(8 * GIB);
	assert_int_equal(hold_world_park(), 0);
	assert_true(hold_world_record(0, &record));
	assert_int_equal(record.devices[0].bytes, 6 * GIB);
}

/* The caller wants to stop, at each time he is asked. */
static int asked, stop_at;

static bool cancel_later(void *ctx)
{
	(void)ctx;
	return asked++ >= stop_at;
}

static void test_cancelled(void **state)
{
	(void)state;
	hold_world_add(GIB);
	hold_world_add(GIB);
	world.options.cancelled = cancel_later;
	for (stop_at = 0;; stop_at++) {
		asked = 0;
		fake_hold.log_count = 0;
		int rc = hold_world_park();

		if (rc == 0)
			break;
		hold_world_expect(rc, VAC_E_CANCELLED, &world.err, "cancelled", NULL);
		assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
		assert_int_equal(hold_world_state(1), VAC_HOLD_RUNNING);
	}
	assert_int_equal(stop_at, 4); /* before each call */
	for (stop_at = 0;; stop_at++) {
		asked = 0;
		int rc = hold_world_resume();

		if (rc == 0)
			break;
		hold_world_expect(rc, VAC_E_CANCELLED, &world.err, "cancelled", NULL);
		/* what was begun is ended, and no one is left locked */
		assert_int_equal(hold_world_state(0),
				 stop_at == 0 ? VAC_HOLD_PARKED : VAC_HOLD_RUNNING);
		assert_int_equal(hold_world_state(1),
				 stop_at <= 1 ? VAC_HOLD_PARKED : VAC_HOLD_RUNNING);
		world.options.cancelled = NULL;
		assert_int_equal(hold_world_park(), 0);
		world.options.cancelled = cancel_later;
	}
	assert_int_equal(stop_at, 2);
	/* while it waits for room */
	world.options.cancelled = NULL;
	assert_int_equal(hold_world_park(), 0);
	fake_hold_add(getpid(), 79 * GIB + 200 * MIB);
	world.options.cancelled = cancel_later;
	world.options.wait_ms = 600000;
	stop_at = 2;
	asked = 0;
	hold_world_expect(hold_world_resume(), VAC_E_CANCELLED, &world.err, "cancelled", NULL);
	assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
}

/* Who wants to stop still wants what was begun to be put back, and waited for. */
static void test_cancelled_and_waiting(void **state)
{
	char path[256];
	pid_t lock_holder;

	(void)state;
	hold_world_add(GIB);
	hold_world_add(GIB);
	snprintf(path, sizeof(path), "records/vacate-%s.lock", fake_hold_uuid(0));
	lock_holder = hold_world_hold_lock(temp_path(path), 1);
	world.hold.device_lock_ms = 600000;
	world.options.cancelled = cancel_later;
	stop_at = 3; /* before the second checkpoint */
	asked = 0;
	hold_world_expect(hold_world_park(), VAC_E_CANCELLED, &world.err, "cancelled", NULL);
	hold_world_expect_calls("lock 0, lock 1, checkpoint 0, unlock 1, restore 0, unlock 0");
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
	assert_int_equal(hold_world_state(1), VAC_HOLD_RUNNING);
	assert_int_equal(waitpid(lock_holder, NULL, 0), lock_holder);
}

/* vacate itself is killed in the middle: another one finds out and puts it right. */
static void kill_vacate(pid_t pid)
{
	(void)pid;
	kill(getpid(), SIGKILL);
}

static void test_killed(void **state)
{
	static const struct {
		enum fake_call call;
		enum vac_record_intent intent;
		enum vac_hold_state recorded;
		int driver; /* what the real driver would have come to */
	} cases[] = {
		{FAKE_LOCK, VAC_INTENT_LOCK, VAC_HOLD_RUNNING, VAC_CU_PROCESS_RUNNING},
		{FAKE_LOCK, VAC_INTENT_LOCK, VAC_HOLD_RUNNING, VAC_CU_PROCESS_LOCKED},
		{FAKE_CHECKPOINT, VAC_INTENT_CHECKPOINT, VAC_HOLD_LOCKED, VAC_CU_PROCESS_LOCKED},
		{FAKE_CHECKPOINT, VAC_INTENT_CHECKPOINT, VAC_HOLD_LOCKED,
		 VAC_CU_PROCESS_CHECKPOINTED},
		{FAKE_RESTORE, VAC_INTENT_RESTORE, VAC_HOLD_PARKED, VAC_CU_PROCESS_CHECKPOINTED},
		{FAKE_RESTORE, VAC_INTENT_RESTORE, VAC_HOLD_PARKED, VAC_CU_PROCESS_LOCKED},
		{FAKE_UNLOCK, VAC_INTENT_UNLOCK, VAC_HOLD_LOCKED, VAC_CU_PROCESS_LOCKED},
		{FAKE_UNLOCK, VAC_INTENT_UNLOCK, VAC_HOLD_LOCKED, VAC_CU_PROCESS_RUNNING},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool resuming = cases[i].call == FAKE_RESTORE || cases[i].call == FAKE_UNLOCK;
		struct vac_record record;
		int status;
		pid_t pid;

		hold_world_add(GIB);
		if (resuming)
			assert_int_equal(hold_world_park(), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			set_trap(cases[i].call, kill_vacate);
			_exit(resuming ? hold_world_resume() : hold_world_park());
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		assert_true(hold_world_record(0, &record));
		assert_int_equal(record.intent, cases[i].intent);
		assert_int_equal(record.state, cases[i].recorded);
		assert_int_equal(record.by_pid, pid);
		assert_int_equal(record.devices[0].bytes, GIB);
		fake_hold.processes[0].state = cases[i].driver;
		assert_int_equal(hold_world_resume(), 0);
		assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
		forget_all();
	}
}

/* Nothing is taken from a process when it cannot be noted; to give back, no note is needed. */
static void test_no_record(void **state)
{
	(void)state;
	if (geteuid() == 0) { /* whom no permission stops */
		hold_world_add(GIB);
		assert_int_equal(chmod(temp_path("records"), 0777), 0);
		hold_world_expect(hold_world_park(), VAC_E_IO, &world.err,
				  "can be written by others", "VACATE_HOLD_DIR", NULL);
		hold_world_expect_calls("");
		assert_int_equal(chmod(temp_path("records"), 0755), 0);
		assert_int_equal(hold_world_park(), 0);
		assert_int_equal(chmod(temp_path("records"), 0775), 0);
		assert_int_equal(hold_world_resume(), 0);
		assert_int_equal(chmod(temp_path("records"), 0755), 0);
	} else {
		skip();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hold_world_begin, hold_world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_dies_under_the_call),
		TEST(test_dies_before_the_call),
		TEST(test_dead_already),
		TEST(test_stopped),
		TEST(test_racer),
		TEST(test_all_or_none),
		TEST(test_back_to_what_it_was),
		TEST(test_no_way_back),
		TEST(test_looked_at_again),
		TEST(test_cancelled),
		TEST(test_cancelled_and_waiting),
		TEST(test_killed),
		TEST(test_no_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
