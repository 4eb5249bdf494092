/*
 * test_library_processes.c - the public face of parking (vacate.h): options and receipts
 * one to one, sums over a tree, codes; without a GPU the host's part of usage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fail_alloc.h"
#include "hold_world.h"

static void test_there_and_back(void **state)
{
	struct vacate_park_receipt receipt;
	enum vacate_process_state of;
	struct vac_error err;
	pid_t pid;

	(void)state;
	hold_world_add(5 * GIB);
	pid = world.targets[0].pid;
	assert_int_equal(vacate_process_state(pid, &of, &err), 0);
	assert_int_equal(of, VACATE_PROCESS_RUNNING);
	assert_int_equal(vacate_park(pid, NULL, &receipt, &err), 0);
	assert_int_equal(receipt.processes, 1);
	assert_int_equal(receipt.before, VACATE_PROCESS_RUNNING);
	assert_int_equal(receipt.after, VACATE_PROCESS_PARKED);
	assert_int_equal(receipt.device_measured, 1);
	assert_int_equal(receipt.device_before_bytes, 5 * GIB);
	assert_int_equal(receipt.device_after_bytes, 0);
	assert_int_equal(receipt.measured, 1);
	assert_true(receipt.rss_before_bytes > 0 && receipt.rss_after_bytes > 0);
	assert_true(receipt.driver_ns > 0 && receipt.total_ns >= receipt.driver_ns);
	assert_int_equal(vacate_process_state(pid, &of, &err), 0);
	assert_int_equal(of, VACATE_PROCESS_PARKED);
	assert_int_equal(vacate_resume(pid, NULL, NULL, NULL), 0);
	assert_int_equal(vacate_process_state(pid, &of, NULL), 0);
	assert_int_equal(of, VACATE_PROCESS_RUNNING);
	hold_world_expect_calls("lock 0, checkpoint 0, restore 0, unlock 0");
}

/* The first of all calls, of a process's life: what it leaves is that NVML is started, and
 * no more of that comes with others. */
static void test_nvml_is_kept(void **state)
{
	enum vacate_process_state of;
	pid_t pid;

	(void)state;
	hold_world_add(GIB);
	pid = world.targets[0].pid;
	assert_int_equal(vacate_process_state(pid, &of, NULL), 0);
	assert_int_equal(fake_hold.nvml_depth, 0);
	assert_int_equal(fake_hold.inits, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(vacate_park(pid, NULL, NULL, NULL), 0);
		assert_int_equal(fake_hold.nvml_depth, 1);
		assert_int_equal(vacate_resume(pid, NULL, NULL, NULL), 0);
		assert_int_equal(fake_hold.nvml_depth, 1);
	}
	/* a refusal leaves no more, either */
	fake_hold.fail_call = FAKE_CHECKPOINT;
	fake_hold.fail_with = VAC_CU_NOT_SUPPORTED;
	assert_true(vacate_park(pid, NULL, NULL, NULL) < 0);
	assert_int_equal(fake_hold.nvml_depth, 1);
	fake_hold.nvml_depth = 0; /* the other tests have other drivers */
}

static int never(void *ctx)
{
	++*(int *)ctx;
	return 0;
}

static int always(void *ctx)
{
	(void)ctx;
	return 1;
}

static void test_options(void **state)
{
	struct vacate_park_options options = {.lock_timeout_ms = 1234};
	struct vacate_park_receipt receipt;
	struct vac_error err;
	char uuid[64];
	int asked = 0;
	pid_t pid;

	(void)state;
	fake_hold.devices = 2;
	struct fake_process *process = hold_world_add(GIB);
	pid = world.targets[0].pid;
	options.cancelled = never;
	options.ctx = &asked;
	assert_int_equal(vacate_park(pid, &options, NULL, &err), 0);
	assert_int_equal(fake_hold.lock_timeout_ms, 1234);
	assert_int_equal(asked, 2);
	snprintf(uuid, sizeof(uuid), "%s", fake_hold_uuid(1));
	options.device_uuid = uuid;
	assert_int_equal(vacate_resume(pid, &options, &receipt, &err), 0);
	assert_int_equal(process->bytes[1], GIB);
	assert_int_equal(receipt.device_before_bytes, 0);
	assert_int_equal(receipt.device_after_bytes, GIB);
	options.device_uuid = "GPU-0123456789012345678901234567890123456789012345";
	hold_world_expect(vacate_resume(pid, &options, &receipt, &err), VAC_E_INVALID, &err, "UUID",
			  NULL);
	options.device_uuid = NULL;
	options.cancelled = always;
	hold_world_expect(vacate_park(pid, &options, &receipt, &err), VAC_E_CANCELLED, &err,
			  "cancelled", NULL);
	assert_int_equal(receipt.after, VACATE_PROCESS_RUNNING);
	options.cancelled = NULL;
	process->no_bytes = true;
	hold_world_expect(vacate_park(pid, &options, &receipt, &err), VAC_E_UNSUPPORTED, &err,
			  "NVML does not say", NULL);
	options.risk = 1;
	assert_int_equal(vacate_park(pid, &options, &receipt, &err), 0);
	assert_int_equal(receipt.device_measured, 0);
	assert_int_equal(receipt.device_before_bytes, 0);
	assert_int_equal(vacate_resume(pid, &options, &receipt, &err), 0);
}

static void test_no_process(void **state)
{
	static const int64_t none[] = {0, -5, INT64_C(1) << 40, INT32_MAX};
	struct vacate_park_options options = {.tree = 1};
	struct vacate_process_usage usage;
	struct vacate_park_receipt receipt;
	enum vacate_process_state of;
	struct vac_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		receipt.processes = 9;
		hold_world_expect(vacate_park(none[i], NULL, &receipt, &err), VAC_E_NOT_FOUND, &err,
				  "process", NULL);
		assert_int_equal(receipt.processes, 0);
		hold_world_expect(vacate_park(none[i], &options, &receipt, &err), VAC_E_NOT_FOUND,
				  &err, "process", NULL);
		hold_world_expect(vacate_resume(none[i], NULL, &receipt, &err), VAC_E_NOT_FOUND,
				  &err, "process", NULL);
		hold_world_expect(vacate_process_state(none[i], &of, &err), VAC_E_NOT_FOUND, &err,
				  "process", NULL);
		hold_world_expect(vacate_process_usage(none[i], &usage, &err), VAC_E_NOT_FOUND,
				  &err, "process", NULL);
	}
	assert_int_equal(vacate_park(getpid(), NULL, NULL, NULL), -EINVAL);
}

/* A process with a child: both or none, and sums of both. */
static void test_tree(void **state)
{
	struct vacate_park_options options = {.tree = 1};
	struct vacate_park_receipt receipt;
	enum vacate_process_state of;
	struct vac_error err;
	int ready[2];
	pid_t top, child;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	top = fork();
	assert_true(top >= 0);
	if (top == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child = fork();
		if (child == 0)
			prctl(PR_SET_PDEATHSIG, SIGKILL);
		else if (write(ready[1], &child, sizeof(child)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &child, sizeof(child)), sizeof(child));
	close(ready[0]);
	close(ready[1]);
	/* none of them uses CUDA */
	hold_world_expect(vacate_park(top, &options, &receipt, &err), VAC_E_UNSUPPORTED, &err,
			  "uses no CUDA", NULL);
	assert_int_equal(receipt.processes, 1);
	/* the child alone does, as below a shell */
	fake_hold_add(child, 2 * GIB);
	assert_int_equal(vacate_park(top, &options, &receipt, &err), 0);
	assert_int_equal(receipt.processes, 1);
	assert_int_equal(receipt.before, VACATE_PROCESS_RUNNING);
	assert_int_equal(receipt.after, VACATE_PROCESS_PARKED);
	assert_int_equal(vacate_resume(top, &options, &receipt, &err), 0);
	fake_hold_add(top, GIB);
	assert_int_equal(vacate_park(top, &options, &receipt, &err), 0);
	assert_int_equal(receipt.processes, 2);
	assert_int_equal(receipt.device_before_bytes, 3 * GIB);
	assert_int_equal(receipt.device_after_bytes, 0);
	assert_int_equal(vacate_process_state(child, &of, NULL), 0);
	assert_int_equal(of, VACATE_PROCESS_PARKED);
	assert_int_equal(vacate_resume(top, &options, &receipt, &err), 0);
	assert_int_equal(receipt.device_after_bytes, 3 * GIB);
	fake_hold.fail_call = FAKE_CHECKPOINT;
	fake_hold.fail_pid = child;
	fake_hold.fail_with = VAC_CU_NOT_SUPPORTED;
	hold_world_expect(vacate_park(top, &options, &receipt, &err), VAC_E_UNSUPPORTED, &err,
			  "managed memory", NULL);
	assert_int_equal(receipt.after, VACATE_PROCESS_RUNNING);
	assert_int_equal(receipt.device_after_bytes, 3 * GIB);
	fake_hold_kill(top, true);
}

static void test_usage(void **state)
{
	struct vacate_process_usage usage;
	struct vac_error err;

	(void)state;
	fake_hold.devices = 3;
	struct fake_process *process = hold_world_add(0);
	process->bytes[1] = GIB;
	process->bytes[2] = 2 * GIB;
	assert_int_equal(vacate_process_usage(world.targets[0].pid, &usage, &err), 0);
	assert_int_equal(usage.measured, 1);
	assert_true(usage.rss_bytes >= usage.pss_bytes && usage.pss_bytes >= usage.uss_bytes);
	assert_true(usage.uss_bytes > 0);
	assert_int_equal(usage.device_measured, 1);
	assert_int_equal(usage.device_count, 2);
	assert_string_equal(usage.devices[0].uuid, fake_hold_uuid(1));
	assert_int_equal(usage.devices[0].known, 1);
	assert_int_equal(usage.devices[0].bytes, GIB);
	assert_int_equal(usage.devices[0].used_bytes, GIB + fake_hold.reserved_bytes);
	assert_int_equal(usage.devices[0].total_bytes, fake_hold.total_bytes);
	assert_string_equal(usage.devices[1].uuid, fake_hold_uuid(2));
	assert_int_equal(usage.devices[1].bytes, 2 * GIB);
	process->no_bytes = true;
	assert_int_equal(vacate_process_usage(world.targets[0].pid, &usage, &err), 0);
	assert_int_equal(usage.device_count, 2);
	assert_int_equal(usage.devices[0].known, 0);
	assert_int_equal(usage.devices[0].bytes, 0);
	/* itself, and nothing on a GPU */
	assert_int_equal(vacate_process_usage(getpid(), &usage, &err), 0);
	assert_int_equal(usage.device_count, 0);
	assert_true(usage.uss_bytes > 0);
}

/* Two threads, one process each; the tables are shared. */
static void *round_trips(void *ctx)
{
	int64_t pid = *(pid_t *)ctx;

	for (int i = 0; i < 20; i++)
		if (vacate_park(pid, NULL, NULL, NULL) != 0 ||
		    vacate_resume(pid, NULL, NULL, NULL) != 0)
			return ctx;
	return NULL;
}

static void test_allocations(void **state)
{
	struct vacate_park_receipt receipt;
	struct vacate_process_usage usage;
	bool refused = true;
	struct vac_error err;

	(void)state;
	hold_world_add(GIB);
	for (unsigned long n = 0; refused; n++) {
		long live = fail_live();

		fail_after(n);
		(void)!vacate_process_usage(world.targets[0].pid, &usage, &err);
		(void)!vacate_park(world.targets[0].pid, NULL, &receipt, &err);
		(void)!vacate_resume(world.targets[0].pid, NULL, &receipt, &err);
		refused = fail_count() > n;
		fail_never();
		assert_int_equal(fail_live(), live);
		assert_int_equal(vacate_resume(world.targets[0].pid, NULL, &receipt, &err), 0);
		assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
		assert_true(n < 1000);
	}
}

static void test_threads(void **state)
{
	pthread_t threads[2];
	pid_t pids[2];
	void *failed[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		hold_world_add(GIB);
		pids[i] = world.targets[i].pid;
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, round_trips, &pids[i]), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], &failed[i]), 0);
	assert_null(failed[0]);
	assert_null(failed[1]);
}

/* Of a driver that does nothing before it is started, which takes a while: whichever comes
 * first, nobody is refused. */
static void test_threads_start_it(void **state)
{
	fake_hold.wants_init = true;
	fake_hold.init_us = 20000;
	test_threads(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hold_world_begin, hold_world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nvml_is_kept), TEST(test_there_and_back), TEST(test_options),
		TEST(test_no_process),   TEST(test_tree),           TEST(test_usage),
		TEST(test_allocations),  TEST(test_threads),        TEST(test_threads_start_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
