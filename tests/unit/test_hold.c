/*
 * test_hold.c - park and resume: each state with each operation, what is checked
 * before, what the driver's answers become, receipts. Room is in test_hold_room.c,
 * faults on the way are in test_hold_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hold_world.h"

static void test_there_and_back(void **state)
{
	struct vac_record record;
	struct vac_hold_receipt *r = &world.receipts[0];

	(void)state;
	fake_hold.init_us = 3000;
	hold_world_add(5 * GIB);
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
	assert_false(hold_world_record(0, &record));
	assert_int_equal(hold_world_park(), 0);
	hold_world_expect_calls("lock 0, checkpoint 0");
	assert_int_equal(fake_hold.lock_timeout_ms, 10000);
	assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
	assert_int_equal(r->pid, world.targets[0].pid);
	assert_int_equal(r->uid, geteuid());
	assert_string_equal(r->command, world.targets[0].command);
	assert_int_equal(r->before, VAC_HOLD_RUNNING);
	assert_int_equal(r->after, VAC_HOLD_PARKED);
	assert_int_equal(r->error.code, VAC_OK);
	assert_int_equal(r->device_count, 1);
	assert_string_equal(r->devices_before[0].uuid, fake_hold_uuid(0));
	assert_true(r->devices_before[0].listed && r->devices_before[0].bytes_valid);
	assert_int_equal(r->devices_before[0].bytes, 5 * GIB);
	assert_int_equal(r->devices_before[0].used_bytes, 5 * GIB + fake_hold.reserved_bytes);
	assert_int_equal(r->devices_before[0].total_bytes, fake_hold.total_bytes);
	assert_string_equal(r->devices_after[0].uuid, fake_hold_uuid(0));
	assert_false(r->devices_after[0].listed);
	assert_true(r->devices_after[0].bytes_valid);
	assert_int_equal(r->devices_after[0].bytes, 0);
	assert_int_equal(r->devices_after[0].used_bytes, fake_hold.reserved_bytes);
	assert_true(r->rss_valid && r->rss_before_bytes > 0 && r->rss_after_bytes > 0);
	assert_true(r->lock_ns > 0 && r->checkpoint_ns > 0);
	assert_int_equal(r->restore_ns, 0);
	assert_int_equal(r->unlock_ns, 0);
	/* cuInit ran beside the checkpoint, was waited for, and is not called again */
	assert_int_equal(fake_hold.started, 1);
	assert_true(r->driver_ns >= r->lock_ns + r->checkpoint_ns);
	assert_true(r->total_ns >= r->driver_ns && r->total_ns >= 3000000);

	assert_true(hold_world_record(0, &record));
	assert_int_equal(record.state, VAC_HOLD_PARKED);
	assert_int_equal(record.intent, VAC_INTENT_NONE);
	assert_int_equal(record.by_pid, getpid());
	assert_int_equal(record.device_count, 1);
	assert_string_equal(record.devices[0].uuid, fake_hold_uuid(0));
	assert_int_equal(record.devices[0].bytes, 5 * GIB);

	fake_hold.log_count = 0;
	assert_int_equal(hold_world_resume(), 0);
	hold_world_expect_calls("restore 0, unlock 0");
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
	assert_int_equal(r->before, VAC_HOLD_PARKED);
	assert_int_equal(r->after, VAC_HOLD_RUNNING);
	assert_false(r->devices_before[0].listed);
	assert_true(r->devices_after[0].listed);
	assert_int_equal(r->devices_after[0].bytes, 5 * GIB);
	assert_int_equal(r->lock_ns, 0);
	assert_true(r->restore_ns > 0 && r->unlock_ns > 0);
	assert_int_equal(r->driver_ns, r->restore_ns + r->unlock_ns);
	assert_false(hold_world_record(0, &record));
	assert_int_equal(fake_hold.inits, 1);
}

/* Every state of the driver with each operation. */
static void test_states(void **state)
{
	static const struct {
		int driver;
		enum vac_hold_state before, parked, resumed;
		const char *park_calls, *resume_calls;
	} cases[] = {
		{VAC_CU_PROCESS_RUNNING, VAC_HOLD_RUNNING, VAC_HOLD_PARKED, VAC_HOLD_RUNNING,
		 "lock 0, checkpoint 0", ""},
		{VAC_CU_PROCESS_LOCKED, VAC_HOLD_LOCKED, VAC_HOLD_PARKED, VAC_HOLD_RUNNING,
		 "checkpoint 0", "unlock 0"},
		{VAC_CU_PROCESS_CHECKPOINTED, VAC_HOLD_PARKED, VAC_HOLD_PARKED, VAC_HOLD_RUNNING,
		 "", "restore 0, unlock 0"},
	};
	struct fake_process *process = hold_world_add(GIB);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		process->state = VAC_CU_PROCESS_RUNNING;
		if (cases[i].driver == VAC_CU_PROCESS_CHECKPOINTED)
			assert_int_equal(hold_world_park(), 0);
		process->state = cases[i].driver;
		fake_hold.log_count = 0;
		assert_int_equal(hold_world_park(), 0);
		hold_world_expect_calls(cases[i].park_calls);
		assert_int_equal(world.receipts[0].before, cases[i].before);
		assert_int_equal(world.receipts[0].after, cases[i].parked);
		process->state = cases[i].driver;
		fake_hold.log_count = 0;
		assert_int_equal(hold_world_resume(), 0);
		hold_world_expect_calls(cases[i].resume_calls);
		assert_int_equal(world.receipts[0].before, cases[i].before);
		assert_int_equal(world.receipts[0].after, cases[i].resumed);
	}
	process->state = VAC_CU_PROCESS_FAILED;
	fake_hold.log_count = 0;
	hold_world_expect(hold_world_park(), VAC_E_GONE, &world.err, "is lost", NULL);
	hold_world_expect(hold_world_resume(), VAC_E_GONE, &world.err, "is lost", NULL);
	assert_int_equal(world.receipts[0].before, VAC_HOLD_FAILED);
	assert_int_equal(world.receipts[0].after, VAC_HOLD_FAILED);
	assert_int_equal(hold_world_state(0), VAC_HOLD_FAILED);
	/* a process that the driver does not know */
	process->pid = 1;
	assert_int_equal(hold_world_state(0), VAC_HOLD_UNKNOWN);
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "uses no CUDA", NULL);
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err, "uses no CUDA", NULL);
	hold_world_expect_calls("");
}

/* What the driver may answer to a step: the code, and a part of the sentence. */
static void test_refusals(void **state)
{
	static const struct {
		enum fake_call call;
		int result;
		enum vac_error_code code;
		const char *part;
		enum vac_hold_state after;
	} cases[] = {
		{FAKE_LOCK, VAC_CU_NOT_READY, VAC_E_TIMEOUT, "did not end within 700 ms",
		 VAC_HOLD_RUNNING},
		{FAKE_LOCK, VAC_CU_INVALID_VALUE, VAC_E_UNSUPPORTED, "does not use CUDA",
		 VAC_HOLD_RUNNING},
		{FAKE_LOCK, VAC_CU_INVALID_HANDLE, VAC_E_UNSUPPORTED, "does not use CUDA",
		 VAC_HOLD_RUNNING},
		{FAKE_LOCK, VAC_CU_NOT_INITIALIZED, VAC_E_UNSUPPORTED, "does not use CUDA",
		 VAC_HOLD_RUNNING},
		{FAKE_LOCK, VAC_CU_ILLEGAL_STATE, VAC_E_BUSY, "its state changed meanwhile",
		 VAC_HOLD_RUNNING},
		{FAKE_LOCK, VAC_CU_OPERATING_SYSTEM, VAC_E_IO, "the system refused",
		 VAC_HOLD_RUNNING},
		{FAKE_LOCK, VAC_CU_NOT_SUPPORTED, VAC_E_UNSUPPORTED, "managed memory",
		 VAC_HOLD_RUNNING},
		{FAKE_LOCK, 999, VAC_E_GONE, "locking it", VAC_HOLD_RUNNING},
		{FAKE_CHECKPOINT, VAC_CU_NOT_SUPPORTED, VAC_E_UNSUPPORTED, "managed memory",
		 VAC_HOLD_RUNNING},
		{FAKE_CHECKPOINT, VAC_CU_OUT_OF_MEMORY, VAC_E_NO_ROOM, "found no memory",
		 VAC_HOLD_RUNNING},
		{FAKE_CHECKPOINT, 12345, VAC_E_INTERNAL, "checkpointing it", VAC_HOLD_RUNNING},
		{FAKE_UNLOCK, VAC_CU_OPERATING_SYSTEM, VAC_E_IO, "the system refused",
		 VAC_HOLD_LOCKED},
		{FAKE_RESTORE, VAC_CU_OPERATING_SYSTEM, VAC_E_GONE, "is lost", VAC_HOLD_FAILED},
		{FAKE_RESTORE, VAC_CU_NOT_SUPPORTED, VAC_E_GONE, "is lost", VAC_HOLD_FAILED},
		{FAKE_RESTORE, 999, VAC_E_GONE, "is lost", VAC_HOLD_FAILED},
		{FAKE_RESTORE, VAC_CU_ILLEGAL_STATE, VAC_E_BUSY, "its state changed meanwhile",
		 VAC_HOLD_PARKED},
	};

	(void)state;
	world.hold.init = VAC_HOLD_INIT_BEFORE; /* what it says then is its last word */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool resuming = cases[i].call == FAKE_UNLOCK || cases[i].call == FAKE_RESTORE;
		struct vac_record record;
		int rc;

		world.options.lock_timeout_ms = 700;
		hold_world_add(GIB);
		if (resuming)
			assert_int_equal(hold_world_park(), 0);
		fake_hold.fail_call = cases[i].call;
		fake_hold.fail_with = cases[i].result;
		fake_hold.fail_skip = 0;
		rc = resuming ? hold_world_resume() : hold_world_park();
		hold_world_expect(rc, cases[i].code, &world.err, cases[i].part, NULL);
		assert_int_equal(world.receipts[0].error.code, cases[i].code);
		assert_string_equal(world.receipts[0].error.message, world.err.message);
		assert_int_equal(world.receipts[0].after, cases[i].after);
		assert_int_equal(hold_world_state(0), cases[i].after);
		assert_int_equal(hold_world_record(0, &record), cases[i].after != VAC_HOLD_RUNNING);
		if (cases[i].after != VAC_HOLD_RUNNING) {
			assert_int_equal(record.state, cases[i].after);
			assert_int_equal(record.intent, VAC_INTENT_NONE);
		}
		if (cases[i].after == VAC_HOLD_FAILED) {
			/* for good, and the driver says another thing */
			assert_int_equal(fake_hold.processes[0].state, VAC_CU_PROCESS_CHECKPOINTED);
			assert_non_null(strstr(record.error, "is lost"));
			fake_hold.log_count = 0;
			hold_world_expect(hold_world_resume(), VAC_E_GONE, &world.err,
					  "earlier restore", NULL);
			assert_non_null(strstr(world.err.detail, "is lost"));
			hold_world_expect(hold_world_park(), VAC_E_GONE, &world.err,
					  "earlier restore", NULL);
			hold_world_expect_calls("");
		} else {
			/* whatever it was, it can be had back */
			assert_int_equal(hold_world_resume(), 0);
			assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
		}
		fake_hold_kill(world.targets[0].pid, true);
		vac_target_close(&world.targets[0]);
		world.count = 0;
		fake_hold.process_count = 0;
	}
}

/* The driver itself says that it broke: that is no process to unlock. */
static void test_broken_by_checkpoint(void **state)
{
	struct vac_record record;

	(void)state;
	hold_world_add(GIB);
	fake_hold.fail_call = FAKE_CHECKPOINT;
	fake_hold.fail_with = 719;
	fake_hold.fail_breaks = true;
	hold_world_expect(hold_world_park(), VAC_E_GONE, &world.err, "is lost", NULL);
	hold_world_expect_calls("lock 0, checkpoint 0");
	assert_int_equal(world.receipts[0].after, VAC_HOLD_FAILED);
	assert_true(hold_world_record(0, &record));
	assert_int_equal(record.state, VAC_HOLD_FAILED);
}

/* A wrong record of a failure is not for ever. */
static void test_risk_tries_again(void **state)
{
	(void)state;
	hold_world_add(GIB);
	assert_int_equal(hold_world_park(), 0);
	fake_hold.fail_call = FAKE_RESTORE;
	fake_hold.fail_with = 999;
	assert_int_equal(hold_world_resume(), -EPIPE);
	assert_int_equal(hold_world_resume(), -EPIPE);
	assert_int_equal(hold_world_state(0), VAC_HOLD_FAILED);
	world.options.risk = true;
	assert_int_equal(hold_world_resume(), 0);
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
}

static void test_drivers(void **state)
{
	(void)state;
	hold_world_add(GIB);
	assert_int_equal(hold_world_resume(), 0); /* it runs; and NVML has said its version */
	static const char *const untried[] = {"580.95.05", "580.1590", "", "581.159.03"};

	for (size_t i = 0; i < sizeof(untried) / sizeof(untried[0]); i++) {
		snprintf(world.hold.driver_text, sizeof(world.hold.driver_text), "%s", untried[i]);
		hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err,
				  *untried[i] ? untried[i] : "unknown version", "CUDA 13.0",
				  "--risk", NULL);
	}
	hold_world_expect_calls("");
	world.options.risk = true;
	assert_int_equal(hold_world_park(), 0);
	/* to have it back is no risk that was not taken already */
	world.options.risk = false;
	assert_int_equal(hold_world_resume(), 0);
}

static void test_old_driver(void **state)
{
	(void)state;
	fake_hold_old_driver();
	hold_world_add(GIB);
	assert_int_equal(hold_world_state(0), VAC_HOLD_UNKNOWN);
	world.options.risk = true;
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "CUDA 12.2",
			  "driver 570", NULL);
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err, "driver 570", NULL);
}

static void test_driver_does_not_start(void **state)
{
	enum vac_hold_state of;

	(void)state;
	hold_world_add(GIB);
	fake_hold.wants_init = true;
	fake_hold.init_result = VAC_CU_NO_DEVICE;
	hold_world_expect(hold_world_park(), VAC_E_NOT_FOUND, &world.err, "sees no GPU", NULL);
	assert_int_equal(world.receipts[0].error.code, VAC_E_NOT_FOUND);
	assert_int_equal(world.receipts[0].pid, world.targets[0].pid);
	assert_int_equal(vac_hold_state(&world.hold, &world.targets[0], &of, NULL), -ENOENT);
	fake_hold.init_result = 0;
	assert_int_equal(hold_world_park(), 0);
}

static void test_arguments(void **state)
{
	struct vac_target self;

	(void)state;
	hold_world_add(GIB);
	hold_world_expect(
		vac_hold_park(&world.hold, world.targets, 0, NULL, world.receipts, &world.err),
		VAC_E_INVALID, &world.err, "0 processes", NULL);
	world.targets[1] = world.targets[0];
	hold_world_expect(
		vac_hold_park(&world.hold, world.targets, 2, NULL, world.receipts, &world.err),
		VAC_E_INVALID, &world.err, "named twice", NULL);
	assert_int_equal(vac_target_open(getpid(), &self, NULL), 0);
	hold_world_expect(vac_hold_park(&world.hold, &self, 1, NULL, world.receipts, &world.err),
			  VAC_E_INVALID, &world.err, "cannot park or resume itself", NULL);
	vac_target_close(&self);
	hold_world_expect_calls("");
	/* neither options nor an error are needed */
	assert_int_equal(vac_hold_park(&world.hold, world.targets, 1, NULL, world.receipts, NULL),
			 0);
	assert_int_equal(vac_hold_resume(&world.hold, world.targets, 1, NULL, world.receipts, NULL),
			 0);
}

/* What cannot be seen from outside is parked only on request. */
static void test_unknown_use(void **state)
{
	struct fake_process *process = hold_world_add(GIB);
	struct vac_record record;

	(void)state;
	process->hidden = true;
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "NVML does not say",
			  "--risk", NULL);
	process->hidden = false;
	process->no_bytes = true;
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "NVML does not say",
			  "--risk", NULL);
	hold_world_expect_calls("");
	world.options.risk = true;
	assert_int_equal(hold_world_park(), 0);
	assert_false(world.receipts[0].devices_before[0].bytes_valid);
	assert_true(hold_world_record(0, &record));
	assert_int_equal(record.device_count, 1);
	assert_false(record.devices[0].bytes_valid);
	/* and so it is not known what it needs now */
	world.options.risk = false;
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err,
			  "not known what it needs", "--risk", NULL);
	assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
	world.options.risk = true;
	assert_int_equal(hold_world_resume(), 0);
}

/* Parked by another program: there is no record. */
static void test_parked_by_others(void **state)
{
	struct fake_process *process = hold_world_add(GIB);

	(void)state;
	process->state = VAC_CU_PROCESS_CHECKPOINTED;
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err,
			  "vacate has no record of it", NULL);
	world.options.risk = true;
	assert_int_equal(hold_world_resume(), 0);
}

static void test_mig_and_mps(void **state)
{
	struct fake_process *process = hold_world_add(GIB);

	(void)state;
	process->in_mig = true;
	world.options.risk = true;
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "MIG",
			  fake_hold_uuid(0), NULL);
	process->in_mig = false;
	/* a server of MPS on the same device, by its name */
	int ready[2];
	char byte;
	pid_t server;

	assert_int_equal(pipe(ready), 0);
	server = fork();
	assert_true(server >= 0);
	if (server == 0) {
		FILE *comm = fopen("/proc/self/comm", "w");

		if (!comm || fputs("nvidia-cuda-mps", comm) < 0 || fclose(comm) != 0 ||
		    write(ready[1], "x", 1) != 1)
			_exit(1);
		sleep(600);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	fake_hold_add(server, 100 * MIB);
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "MPS", NULL);
	fake_hold_kill(server, true);
	hold_world_expect_calls("");
	assert_int_equal(hold_world_park(), 0);
}

/* Somebody resumed it without vacate: what is on record of it is no longer so. */
static void test_resumed_by_others(void **state)
{
	struct vac_record record;

	(void)state;
	struct fake_process *process = hold_world_add(GIB);
	assert_int_equal(hold_world_park(), 0);
	assert_true(hold_world_record(0, &record));
	process->state = VAC_CU_PROCESS_RUNNING;
	assert_int_equal(hold_world_resume(), 0);
	hold_world_expect_calls("lock 0, checkpoint 0");
	assert_false(hold_world_record(0, &record));
}

/* A GPU that is lost keeps nobody from the others. */
static void test_a_lost_device(void **state)
{
	(void)state;
	fake_hold.devices = 3;
	struct fake_process *process = hold_world_add(5 * GIB);
	process->bytes[0] = 0;
	process->bytes[1] = 5 * GIB;
	fake_hold.lost = 1 << 0;
	assert_int_equal(hold_world_park(), 0);
	assert_int_equal(world.receipts[0].device_count, 1);
	assert_string_equal(world.receipts[0].devices_before[0].uuid, fake_hold_uuid(1));
	assert_int_equal(hold_world_resume(), 0);
	assert_int_equal(hold_world_park(), 0);
	fake_hold.lost = 1 << 1;
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err, "does not answer now",
			  NULL);
	assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
	/* none answers: nothing is known */
	fake_hold.lost = 7;
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err,
			  "NVML does not answer", NULL);
	fake_hold.lost = 0;
	assert_int_equal(hold_world_resume(), 0);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(vac_hold_state_name(VAC_HOLD_UNKNOWN), "unknown");
	assert_string_equal(vac_hold_state_name(VAC_HOLD_RUNNING), "running");
	assert_string_equal(vac_hold_state_name(VAC_HOLD_LOCKED), "locked");
	assert_string_equal(vac_hold_state_name(VAC_HOLD_PARKED), "parked");
	assert_string_equal(vac_hold_state_name(VAC_HOLD_FAILED), "failed");
	assert_string_equal(vac_hold_state_name((enum vac_hold_state)99), "unknown");
	assert_string_equal(vac_hold_phase_name(VAC_HOLD_CHECKING), "checking");
	assert_string_equal(vac_hold_phase_name(VAC_HOLD_MEASURING), "measuring");
	assert_string_equal(vac_hold_phase_name((enum vac_hold_phase)99), "unknown");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hold_world_begin, hold_world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_there_and_back),
		TEST(test_states),
		TEST(test_refusals),
		TEST(test_broken_by_checkpoint),
		TEST(test_risk_tries_again),
		TEST(test_drivers),
		TEST(test_old_driver),
		TEST(test_driver_does_not_start),
		TEST(test_arguments),
		TEST(test_unknown_use),
		TEST(test_parked_by_others),
		TEST(test_mig_and_mps),
		TEST(test_names),
		TEST(test_a_lost_device),
		TEST(test_resumed_by_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
