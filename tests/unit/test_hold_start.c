/*
 * test_hold_start.c - when the driver is started: beside the first long call, and what
 * that may meet. A driver that does nothing before cuInit; one that is started slowly, or
 * never; NVML that is not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hold_world.h"

#define SLOW_US 300000
#define SLOW_NS ((int64_t)SLOW_US * 1000)

/* cuInit has begun and is not through when the checkpoint begins; ended when that is over. */
static int inits_seen, started_seen;

static void look_at_init(enum fake_call call, pid_t pid)
{
	(void)pid;
	if (call != FAKE_CHECKPOINT && call != FAKE_RESTORE)
		return;
	started_seen = fake_hold.started;
	inits_seen = fake_hold.inits;
}

/* As another program would. */
static void open_again(void)
{
	const char *root = world.hold.host_root;

	vac_hold_close(&world.hold);
	assert_int_equal(vac_hold_open(&world.hold, &world.err), 0);
	world.hold.host_root = root;
}

static void test_slow(void **state)
{
	struct vac_hold_receipt *r = &world.receipts[0];

	(void)state;
	fake_hold.init_us = SLOW_US;
	fake_hold.before = look_at_init;
	hold_world_add(GIB);
	started_seen = 99;
	assert_int_equal(hold_world_park(), 0);
	assert_int_equal(started_seen, 0);
	/* it was waited for, and that is the driver's time */
	assert_int_equal(fake_hold.started, 1);
	assert_true(r->total_ns >= SLOW_NS);
	assert_true(r->driver_ns > r->lock_ns + r->checkpoint_ns);
	assert_true(r->driver_ns <= r->total_ns);
	/* and never again by the same hold */
	assert_int_equal(hold_world_resume(), 0);
	assert_int_equal(fake_hold.inits, 1);
	assert_int_equal(r->driver_ns, r->restore_ns + r->unlock_ns);
}

/* Somebody else's resume begins with it, too. */
static void test_slow_resume(void **state)
{
	struct vac_hold_receipt *r = &world.receipts[0];

	(void)state;
	hold_world_add(GIB);
	assert_int_equal(hold_world_park(), 0);
	open_again();
	fake_hold.init_us = SLOW_US;
	fake_hold.before = look_at_init;
	fake_hold.inits = fake_hold.started = 0;
	started_seen = 99;
	assert_int_equal(hold_world_resume(), 0);
	assert_int_equal(started_seen, 0);
	assert_int_equal(fake_hold.started, 1);
	assert_true(r->driver_ns > r->restore_ns + r->unlock_ns && r->driver_ns <= r->total_ns);
	assert_int_equal(r->after, VAC_HOLD_RUNNING);
}

/* What the checkpoint did counts, and not that cuInit was refused beside it. */
static void test_late_failure(void **state)
{
	(void)state;
	fake_hold.init_us = SLOW_US;
	fake_hold.init_result = VAC_CU_NO_DEVICE;
	hold_world_add(GIB);
	assert_int_equal(hold_world_park(), 0);
	assert_int_equal(fake_hold.inits, 1);
	assert_int_equal(fake_hold.started, 0);
	assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
	/* tried again, and no hindrance again */
	assert_int_equal(hold_world_resume(), 0);
	assert_int_equal(fake_hold.inits, 2);
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
}

/* Each call is refused with 3 once: the driver is started, and asked once more. */
static void test_refused_first(void **state)
{
	static const enum fake_call calls[] = {FAKE_STATE, FAKE_LOCK, FAKE_CHECKPOINT, FAKE_RESTORE,
					       FAKE_UNLOCK};

	(void)state;
	hold_world_add(GIB);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		open_again();
		if (calls[i] == FAKE_RESTORE || calls[i] == FAKE_UNLOCK) {
			world.hold.init = VAC_HOLD_INIT_NEVER; /* else it is done by then */
			assert_int_equal(hold_world_park(), 0);
		}
		fake_hold.inits = fake_hold.log_count = 0;
		memset(fake_hold.calls, 0, sizeof(fake_hold.calls));
		fake_hold.fail_call = calls[i];
		fake_hold.fail_with = VAC_CU_NOT_INITIALIZED;
		fake_hold.fail_skip = 0;
		if (calls[i] == FAKE_RESTORE || calls[i] == FAKE_UNLOCK) {
			assert_int_equal(hold_world_resume(), 0);
		} else {
			assert_int_equal(hold_world_park(), 0);
		}
		assert_int_equal(fake_hold.inits, 1);
		assert_int_equal(fake_hold.calls[calls[i]], 2);
		assert_int_equal(world.receipts[0].error.code, VAC_OK);
		if (calls[i] != FAKE_RESTORE && calls[i] != FAKE_UNLOCK)
			assert_int_equal(hold_world_resume(), 0);
	}
}

/* Once more, and not for ever. */
static void test_refused_again(void **state)
{
	(void)state;
	hold_world_add(GIB);
	assert_int_equal(hold_world_park(), 0);
	assert_int_equal(hold_world_resume(), 0);
	fake_hold.log_count = 0;
	fake_hold.fail_call = FAKE_CHECKPOINT;
	fake_hold.fail_with = VAC_CU_NOT_INITIALIZED;
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "checkpointing",
			  "does not use CUDA", NULL);
	hold_world_expect_calls("lock 0, checkpoint 0, unlock 0");
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
}

/* The driver that does nothing without cuInit: each of its refusals in the words that they
 * have elsewhere, and nothing is touched. */
static void test_does_not_start(void **state)
{
	static const struct {
		int result;
		enum vac_error_code code;
		const char *says;
	} cases[] = {
		{VAC_CU_NO_DEVICE, VAC_E_NOT_FOUND, "sees no GPU"},
		{VAC_CU_OPERATING_SYSTEM, VAC_E_IO, "/dev/nvidia"},
		{VAC_CU_SYSTEM_NOT_READY, VAC_E_BUSY, "fabricmanager"},
		{VAC_CU_DRIVER_MISMATCH, VAC_E_UNSUPPORTED, "reboot"},
		{999, VAC_E_GONE, "starting the NVIDIA driver"},
	};
	enum vac_hold_state of;

	(void)state;
	hold_world_add(GIB);
	fake_hold.wants_init = true;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_hold.init_result = cases[i].result;
		hold_world_expect(vac_hold_state(&world.hold, &world.targets[0], &of, &world.err),
				  cases[i].code, &world.err, cases[i].says, NULL);
		hold_world_expect(hold_world_park(), cases[i].code, &world.err,
				  "starting the NVIDIA driver", cases[i].says, NULL);
		assert_int_equal(world.receipts[0].error.code, cases[i].code);
		hold_world_expect(hold_world_resume(), cases[i].code, &world.err, cases[i].says,
				  NULL);
	}
	hold_world_expect_calls("");
	assert_false(hold_world_has_locks());
	fake_hold.init_result = VAC_CU_OK;
	assert_int_equal(hold_world_park(), 0);
	assert_int_equal(hold_world_resume(), 0);
}

/* The state is known without it, and the checkpoint is not: put back as it was. */
static void test_checkpoint_wants_it(void **state)
{
	struct vac_record record;

	(void)state;
	hold_world_add(GIB);
	fake_hold.init_us = SLOW_US;
	fake_hold.init_result = VAC_CU_NO_DEVICE;
	fake_hold.fail_call = FAKE_CHECKPOINT;
	fake_hold.fail_with = VAC_CU_NOT_INITIALIZED;
	hold_world_expect(hold_world_park(), VAC_E_NOT_FOUND, &world.err, "sees no GPU", NULL);
	hold_world_expect_calls("lock 0, checkpoint 0, unlock 0");
	assert_int_equal(world.receipts[0].after, VAC_HOLD_RUNNING);
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
	assert_false(hold_world_record(0, &record));
}

/* It ends while cuInit is waited for: nothing is called for its number. */
static pid_t doomed;

static void kill_it(enum fake_call call, pid_t pid)
{
	if (call != FAKE_LOCK)
		return;
	fake_hold.before = NULL;
	doomed = pid;
	kill(pid, SIGKILL);
}

static void test_ends_meanwhile(void **state)
{
	(void)state;
	hold_world_add(GIB);
	fake_hold.before = kill_it;
	fake_hold.fail_call = FAKE_LOCK;
	fake_hold.fail_with = VAC_CU_NOT_INITIALIZED;
	fake_hold.init_us = SLOW_US;
	assert_true(hold_world_park() < 0);
	assert_int_equal(doomed, world.targets[0].pid);
	assert_int_equal(world.err.code, VAC_E_GONE);
	hold_world_expect_calls("lock 0");
}

/* As VACATE_CUDA_INIT has it. */
static void test_choices(void **state)
{
	static const struct {
		const char *word;
		int begun, done; /* when the checkpoint begins */
		int after;
	} cases[] = {{"before", 1, 1, 1},
		     {"never", 0, 0, 0},
		     {"late", -1, 0, 1},
		     {"early", -1, 0, 1},
		     {"nonsense", -1, 0, 1}};

	(void)state;
	hold_world_add(GIB);
	fake_hold.init_us = SLOW_US;
	fake_hold.before = look_at_init;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(setenv("VACATE_CUDA_INIT", cases[i].word, 1), 0);
		open_again();
		unsetenv("VACATE_CUDA_INIT");
		fake_hold.inits = fake_hold.started = 0;
		inits_seen = started_seen = 99;
		assert_int_equal(hold_world_park(), 0);
		if (cases[i].begun >= 0) /* else its thread may be on its way */
			assert_int_equal(inits_seen, cases[i].begun);
		assert_int_equal(started_seen, cases[i].done);
		assert_int_equal(fake_hold.started, cases[i].after);
		assert_int_equal(hold_world_resume(), 0);
		assert_int_equal(fake_hold.inits, cases[i].after);
	}
}

static void test_early(void **state)
{
	(void)state;
	world.hold.init = VAC_HOLD_INIT_EARLY;
	fake_hold.init_us = SLOW_US;
	hold_world_add(GIB);
	/* refused before any long call: it was begun all the same, and is waited for */
	fake_hold.fail_call = FAKE_LOCK;
	fake_hold.fail_with = VAC_CU_NOT_READY;
	hold_world_expect(hold_world_park(), VAC_E_TIMEOUT, &world.err, "did not end", NULL);
	assert_int_equal(fake_hold.started, 1);
	assert_true(world.receipts[0].total_ns >= SLOW_NS);
	assert_int_equal(hold_world_park(), 0);
	assert_int_equal(fake_hold.inits, 1);
	assert_int_equal(hold_world_resume(), 0);
}

/* Who may leave it behind is answered before it is through. */
static void test_may_stay(void **state)
{
	(void)state;
	world.hold.init_may_stay = true;
	fake_hold.init_us = SLOW_US;
	hold_world_add(GIB);
	assert_int_equal(hold_world_park(), 0);
	assert_true(world.hold.init_running);
	assert_int_equal(hold_world_resume(), 0); /* none is begun beside it */
	vac_hold_finish(&world.hold);
	assert_false(world.hold.init_running);
	assert_true(world.hold.init_done);
	assert_int_equal(fake_hold.inits, 1);
	assert_int_equal(fake_hold.started, 1);
}

/* Nothing that is refused before it is needed waits for it, nor begins it where that is
 * left until then. */
static void test_not_needed(void **state)
{
	(void)state;
	assert_int_equal(setenv("VACATE_CUDA_INIT", "late", 1), 0);
	open_again();
	unsetenv("VACATE_CUDA_INIT");
	hold_world_add(GIB);
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
	assert_int_equal(hold_world_resume(), 0);
	hold_world_available(MIB);
	hold_world_expect(hold_world_park(), VAC_E_NO_ROOM, &world.err, "host RAM", NULL);
	assert_int_equal(fake_hold.inits, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hold_world_begin, hold_world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slow),
		TEST(test_slow_resume),
		TEST(test_late_failure),
		TEST(test_refused_first),
		TEST(test_refused_again),
		TEST(test_does_not_start),
		TEST(test_checkpoint_wants_it),
		TEST(test_ends_meanwhile),
		TEST(test_choices),
		TEST(test_early),
		TEST(test_may_stay),
		TEST(test_not_needed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
