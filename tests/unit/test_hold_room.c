/*
 * test_hold_room.c - park and resume: room in the host's RAM and on devices, several
 * devices and another one, and what goes to swap.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hold_world.h"

static void test_host_room(void **state)
{
	char pid[16], path[64];

	(void)state;
	hold_world_add(5 * GIB);
	hold_world_add(3 * GIB);
	hold_world_available(7 * GIB);
	hold_world_expect(hold_world_park(), VAC_E_NO_ROOM, &world.err, "needs 3.0 GiB of host RAM",
			  "(8.0 GiB with the others)", "7.0 GiB are free (of the machine)", NULL);
	hold_world_expect_calls("");
	hold_world_available(4 * GIB);
	hold_world_expect(hold_world_park(), VAC_E_NO_ROOM, &world.err, "needs 5.0 GiB of host RAM",
			  "4.0 GiB are free (of the machine)", NULL);
	snprintf(pid, sizeof(pid), "process %d ", (int)world.targets[0].pid);
	assert_non_null(strstr(world.err.message, pid));
	assert_int_equal(world.receipts[0].error.code, VAC_E_NO_ROOM);
	assert_int_equal(world.receipts[1].error.code, VAC_E_CANCELLED);
	/* enough in the machine, not in the second one's control group */
	hold_world_available(64 * GIB);
	temp_text("root/proc/self/mountinfo",
		  "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	snprintf(path, sizeof(path), "root/proc/%d/cgroup", (int)world.targets[1].pid);
	temp_text(path, "0::/users/eve\n");
	temp_text("root/sys/fs/cgroup/users/eve/memory.max", "2147483648\n");
	temp_text("root/sys/fs/cgroup/users/eve/memory.current", "1073741824\n");
	temp_text("root/sys/fs/cgroup/users/eve/memory.stat", "inactive_file 0\nactive_file 0\n");
	hold_world_expect(hold_world_park(), VAC_E_NO_ROOM, &world.err, "needs 3.0 GiB of host RAM",
			  "1.0 GiB are free (control group /users/eve)", NULL);
	hold_world_expect_calls("");
	temp_text("root/sys/fs/cgroup/users/eve/memory.max", "5368709120\n");
	/* both in one group: each fits, together they do not */
	snprintf(path, sizeof(path), "root/proc/%d/cgroup", (int)world.targets[0].pid);
	temp_text(path, "0::/users/eve\n");
	fake_hold.processes[0].bytes[0] = 2 * GIB;
	hold_world_expect(hold_world_park(), VAC_E_NO_ROOM, &world.err, "needs 3.0 GiB of host RAM",
			  "(5.0 GiB with the others)",
			  "4.0 GiB are free (control group /users/eve)", NULL);
	temp_text(path, "0::/users/bob\n");
	assert_int_equal(hold_world_park(), 0);
}

static void test_host_unknown(void **state)
{
	(void)state;
	hold_world_add(GIB);
	temp_unlink("root/proc/meminfo");
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err,
			  "not known how much host RAM", NULL);
	world.options.risk = true;
	assert_int_equal(hold_world_park(), 0);
}

static void test_device_room(void **state)
{
	char pid[32];

	(void)state;
	hold_world_add(45 * GIB);
	assert_int_equal(hold_world_park(), 0);
	hold_world_add(45 * GIB);
	world.count = 1;
	hold_world_expect(hold_world_resume(), VAC_E_NO_ROOM, &world.err, "needs 45.0 GiB",
			  fake_hold_uuid(0), "34.1 GiB are free", "holds 45.0 GiB", NULL);
	snprintf(pid, sizeof(pid), "process %d (", (int)world.targets[1].pid);
	assert_non_null(strstr(world.err.message, pid));
	assert_int_equal(world.receipts[0].after, VAC_HOLD_PARKED);
	assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
	world.options.risk = true; /* is not asked when it is known that it does not fit */
	assert_int_equal(hold_world_resume(), -ENOMEM);
	hold_world_expect_calls("lock 0, checkpoint 0");
	world.count = 2;
	fake_hold_kill(world.targets[1].pid, false);
	world.count = 1;
	assert_int_equal(hold_world_resume(), 0);
	world.count = 2;
}

/* The margin: 2 %, at least 64 MiB, at most what was free beside it when it was parked. */
static void test_margin(void **state)
{
	static const struct {
		uint64_t bytes, spare, margin;
	} cases[] = {
		{GIB, 40 * GIB, 64 * MIB},
		{50 * GIB, 20 * GIB, GIB},
		{78 * GIB, 100 * MIB, 100 * MIB},
		{GIB, 0, 0},
	};
	struct fake_process *other;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = cases[i].bytes, margin = cases[i].margin;

		fake_hold.process_count = 0;
		fake_hold.total_bytes = fake_hold.reserved_bytes + bytes + cases[i].spare;
		hold_world_add(bytes);
		assert_int_equal(hold_world_park(), 0);
		if (cases[i].spare > margin) {
			other = fake_hold_add(getpid(), cases[i].spare - margin + 1);
			hold_world_expect(hold_world_resume(), VAC_E_NO_ROOM, &world.err, "margin",
					  NULL);
			other->bytes[0]--;
		}
		assert_int_equal(hold_world_resume(), 0);
		fake_hold_kill(world.targets[0].pid, true);
		vac_target_close(&world.targets[0]);
		world.count = 0;
	}
}

static struct fake_process *in_the_way;
static int waits;

static void end_after_three(void *ctx, size_t target, enum vac_hold_phase phase)
{
	(void)ctx, (void)target;
	if (phase == VAC_HOLD_WAITING && ++waits == 3)
		in_the_way->bytes[0] = 0;
}

static void test_waits_for_room(void **state)
{
	(void)state;
	hold_world_add(45 * GIB);
	assert_int_equal(hold_world_park(), 0);
	in_the_way = fake_hold_add(getpid(), 45 * GIB);
	world.options.wait_ms = 250; /* it passes */
	hold_world_expect(hold_world_resume(), VAC_E_NO_ROOM, &world.err, "are free", NULL);
	world.options.wait_ms = 600000;
	world.options.progress = end_after_three;
	waits = 0;
	assert_int_equal(hold_world_resume(), 0);
	assert_int_equal(waits, 3);
}

static void test_moves(void **state)
{
	struct vac_record record;
	struct vac_hold_receipt *r = &world.receipts[0];
	struct fake_process *process;

	(void)state;
	fake_hold.devices = 2;
	process = hold_world_add(4 * GIB);
	assert_int_equal(hold_world_park(), 0);
	snprintf(world.options.device_uuid, sizeof(world.options.device_uuid), "GPU-none");
	hold_world_expect(hold_world_resume(), VAC_E_NOT_FOUND, &world.err,
			  "there is no GPU GPU-none", NULL);
	snprintf(world.options.device_uuid, sizeof(world.options.device_uuid), "%s",
		 fake_hold_uuid(1));
	world.hold.driver_version = 12080;
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err, "needs driver 580",
			  "CUDA 12.8", NULL);
	world.hold.driver_version = 13000;
	assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
	/* a refusal of the move is no loss */
	fake_hold.wants_pairs = 9;
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err, "cannot be moved to",
			  fake_hold_uuid(1), "stays parked", NULL);
	assert_string_equal(world.err.detail, "CUDA error 1");
	assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
	fake_hold.wants_pairs = 0;
	assert_int_equal(hold_world_resume(), 0);
	assert_string_equal(fake_hold.remapped[0], fake_hold_uuid(0));
	assert_string_equal(fake_hold.remapped[1], fake_hold_uuid(1));
	assert_int_equal(process->bytes[0], 0);
	assert_int_equal(process->bytes[1], 4 * GIB);
	assert_int_equal(r->device_count, 2);
	assert_false(r->devices_after[0].listed);
	assert_string_equal(r->devices_before[1].uuid, fake_hold_uuid(1));
	assert_string_equal(r->devices_after[1].uuid, fake_hold_uuid(1));
	assert_false(r->devices_before[1].listed);
	assert_true(r->devices_after[1].listed);
	assert_int_equal(r->devices_after[1].bytes, 4 * GIB);
	assert_false(hold_world_record(0, &record));
	/* where it is already: no move */
	assert_int_equal(hold_world_park(), 0);
	fake_hold.remapped[1][0] = '\0';
	assert_int_equal(hold_world_resume(), 0);
	assert_string_equal(fake_hold.remapped[1], "");
	/* on two at once */
	process->bytes[0] = GIB;
	assert_int_equal(hold_world_park(), 0);
	assert_int_equal(r->device_count, 2);
	hold_world_expect(hold_world_resume(), VAC_E_UNSUPPORTED, &world.err, "on 2 of them", NULL);
	world.options.device_uuid[0] = '\0';
	assert_int_equal(hold_world_resume(), 0);
}

/* The driver wants every GPU named that the process had opened: the two change places. */
static void test_move_names_all(void **state)
{
	struct fake_process *process;

	(void)state;
	fake_hold.devices = fake_hold.wants_pairs = 3;
	process = hold_world_add(4 * GIB);
	assert_int_equal(hold_world_park(), 0);
	snprintf(world.options.device_uuid, sizeof(world.options.device_uuid), "%s",
		 fake_hold_uuid(2));
	fake_hold.log_count = 0;
	assert_int_equal(hold_world_resume(), 0);
	hold_world_expect_calls("restore 0, restore 0, unlock 0");
	assert_int_equal(process->bytes[0], 0);
	assert_int_equal(process->bytes[2], 4 * GIB);
	assert_int_equal(world.receipts[0].error.code, VAC_OK);
	/* and back; what else refuses is asked once */
	assert_int_equal(hold_world_park(), 0);
	snprintf(world.options.device_uuid, sizeof(world.options.device_uuid), "%s",
		 fake_hold_uuid(0));
	fake_hold.fail_call = FAKE_RESTORE;
	fake_hold.fail_with = VAC_CU_ILLEGAL_STATE;
	fake_hold.log_count = 0;
	hold_world_expect(hold_world_resume(), VAC_E_BUSY, &world.err, "its state changed", NULL);
	hold_world_expect_calls("restore 0");
	assert_int_equal(hold_world_resume(), 0);
	assert_int_equal(process->bytes[0], 4 * GIB);
	/* without room on the other one nothing is asked */
	assert_int_equal(hold_world_park(), 0);
	hold_world_add(79 * GIB)->bytes[1] = 79 * GIB;
	fake_hold.processes[1].bytes[0] = 0;
	snprintf(world.options.device_uuid, sizeof(world.options.device_uuid), "%s",
		 fake_hold_uuid(1));
	world.count = 1;
	fake_hold.log_count = 0;
	hold_world_expect(hold_world_resume(), VAC_E_NO_ROOM, &world.err, fake_hold_uuid(1), NULL);
	hold_world_expect_calls("");
	world.count = 2;
}

/* Both devices of a process must have room, and the refusal names the one that has not. */
static void test_two_devices(void **state)
{
	struct fake_process *process, *other;
	struct vac_record record;

	(void)state;
	fake_hold.devices = 2;
	process = hold_world_add(4 * GIB);
	process->bytes[1] = 60 * GIB;
	assert_int_equal(hold_world_park(), 0);
	assert_true(hold_world_record(0, &record));
	assert_int_equal(record.device_count, 2);
	other = fake_hold_add(getpid(), 0);
	other->bytes[1] = 40 * GIB;
	hold_world_expect(hold_world_resume(), VAC_E_NO_ROOM, &world.err, fake_hold_uuid(1),
			  "needs 60.0 GiB", NULL);
	other->bytes[1] = 0;
	assert_int_equal(hold_world_resume(), 0);
}

/* NVML's list of a device is as long as it is; what has no room in it is never taken for
 * what an older reading left there. */
static void test_many_on_a_device(void **state)
{
	(void)state;
	hold_world_add(5 * GIB);
	fake_hold.strangers = 500;
	assert_int_equal(hold_world_park(), 0);
	assert_int_equal(world.receipts[0].devices_before[0].bytes, 5 * GIB);
	assert_int_equal(hold_world_resume(), 0);
	fake_hold.strangers = 5000;
	hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "NVML does not say",
			  NULL);
	assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
}

/* More than the device has, or than a record can hold, is no number of bytes. */
static void test_impossible_bytes(void **state)
{
	static const uint64_t impossible[] = {UINT64_MAX - 1, UINT64_MAX - 64 * MIB,
					      (uint64_t)1 << 63, 80 * GIB};
	struct vac_record record;

	(void)state;
	struct fake_process *process = hold_world_add(GIB);
	for (size_t i = 0; i < sizeof(impossible) / sizeof(impossible[0]); i++) {
		process->bytes[0] = impossible[i];
		hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err,
				  "NVML does not say what it has", NULL);
	}
	world.options.risk = true;
	assert_int_equal(hold_world_park(), 0);
	assert_true(hold_world_record(0, &record));
	assert_false(record.devices[0].bytes_valid);
	process->bytes[0] = GIB;
	assert_int_equal(hold_world_resume(), 0);
}

static bool has_swap(void)
{
	char line[256];
	int lines = 0;
	FILE *swaps = fopen("/proc/swaps", "r");

	while (swaps && fgets(line, sizeof(line), swaps))
		lines++;
	if (swaps)
		fclose(swaps);
	return lines > 1;
}

/* No swap, or not for us: then nothing is parked. */
static void test_pageout_refused(void **state)
{
	(void)state;
	if (has_swap() && geteuid() == 0)
		skip();
	hold_world_add(GIB);
	world.options.pageout = true;
	if (has_swap())
		hold_world_expect(hold_world_park(), VAC_E_IO, &world.err, "CAP_SYS_NICE", NULL);
	else
		hold_world_expect(hold_world_park(), VAC_E_UNSUPPORTED, &world.err, "no swap",
				  NULL);
	hold_world_expect_calls("");
}

/* Its anonymous memory goes, and is not lost. */
static void test_pageout(void **state)
{
	const size_t bytes = 64 * MIB;
	int ready[2], go[2];
	char byte = 0;
	pid_t pid;

	(void)state;
	if (!has_swap() || geteuid() != 0)
		skip();
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		unsigned char *memory = malloc(bytes);

		for (size_t i = 0; memory && i < bytes; i++)
			memory[i] = (unsigned char)(i >> 12);
		if (!memory || write(ready[1], "x", 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(1);
		for (size_t i = 0; i < bytes; i++)
			if (memory[i] != (unsigned char)(i >> 12))
				_exit(2);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	fake_hold_add(pid, GIB);
	assert_int_equal(vac_target_open(pid, &world.targets[world.count++], NULL), 0);
	world.options.pageout = true;
	assert_int_equal(hold_world_park(), 0);
	assert_true(world.receipts[0].pageout_valid);
	assert_true(world.receipts[0].pageout_bytes >= bytes / 2);
	assert_true(world.receipts[0].swapped_bytes >= bytes / 2);
	assert_true(world.receipts[0].rss_after_bytes + bytes / 2 <=
		    world.receipts[0].rss_before_bytes);
	assert_int_equal(hold_world_resume(), 0);
	assert_int_equal(write(go[1], "x", 1), 1);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hold_world_begin, hold_world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_host_room),        TEST(test_host_unknown),
		TEST(test_device_room),      TEST(test_margin),
		TEST(test_waits_for_room),   TEST(test_moves),
		TEST(test_move_names_all),   TEST(test_two_devices),
		TEST(test_many_on_a_device), TEST(test_impossible_bytes),
		TEST(test_pageout_refused),  TEST(test_pageout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
