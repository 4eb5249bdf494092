/*
 * test_usage.c - who holds what: surveys made by hand, processes in a directory that
 * stands for /proc and /dev, records made by hand.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "hold/usage.h"
#include "temp_dir.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static const char *root;

static int make_dir(void **state)
{
	(void)state;
	root = temp_dir_make();
	temp_mkdir("proc");
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

/* A process of uid 1000 + pid that was started at tick pid * 10. */
static void write_process(int pid, const char *name, const char *numbers)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "proc/%d/stat", pid);
	snprintf(text, sizeof(text), "%d (x) S 1 1 1 0 -1 0 0 0 0 0 5 5 0 0 20 0 1 0 %d 0 0\n", pid,
		 pid * 10);
	temp_text(path, text);
	snprintf(path, sizeof(path), "proc/%d/status", pid);
	snprintf(text, sizeof(text), "Uid:\t1 %d 1 1\nNSpid:\t%s\nThreads:\t1\n", 1000 + pid,
		 numbers);
	temp_text(path, text);
	snprintf(path, sizeof(path), "proc/%d/comm", pid);
	temp_text(path, name);
	snprintf(path, sizeof(path), "proc/%d/cmdline", pid);
	temp_text(path, "");
	snprintf(path, sizeof(path), "proc/%d/statm", pid);
	temp_text(path, "100 25 0 0 0 0 0\n");
	snprintf(path, sizeof(path), "proc/%d/fd", pid);
	temp_mkdir(path);
}

static void open_device(int pid, const char *device)
{
	static int next = 3;
	char path[64];

	snprintf(path, sizeof(path), "proc/%d/fd/%d", pid, next++);
	temp_symlink(device, path);
}

/* Two devices of 80 GiB; 11 is on both. */
static struct vac_survey_process first[4] = {
	{.pid = 11,
	 .compute = true,
	 .bytes_valid = true,
	 .bytes = 5 * GIB,
	 .sm_percent = {true, 0},
	 .used_at_us = 2000000},
	{.pid = 12,
	 .compute = true,
	 .bytes_valid = true,
	 .bytes = 7 * GIB,
	 .sm_percent = {true, 0}},
	{.pid = 13,
	 .graphics = true,
	 .bytes_valid = true,
	 .bytes = GIB,
	 .sm_percent = {true, 9},
	 .used_at_us = 9000000},
};
static struct vac_survey_process second[1] = {
	{.pid = 11, .compute = true, .bytes_valid = true, .bytes = 2 * GIB},
};

static struct vac_survey make_survey(void)
{
	static struct vac_survey_device devices[2];
	struct vac_survey survey = {.at_us = 10000000, .count = 2, .devices = devices};

	survey.devices[0] = (struct vac_survey_device){.total_bytes = 80 * GIB,
						       .used_bytes = 14 * GIB,
						       .free_bytes = 66 * GIB,
						       .listed = true,
						       .sampled = true,
						       .since_us = 1000000,
						       .process_count = 3,
						       .processes = first};
	survey.devices[1] = (struct vac_survey_device){.index = 1,
						       .total_bytes = 80 * GIB,
						       .used_bytes = 2 * GIB - MIB,
						       .free_bytes = 78 * GIB + MIB,
						       .listed = true,
						       .process_count = 1,
						       .processes = second};
	return survey;
}

static const struct vac_holder *by_pid(const struct vac_holders *holders, pid_t pid)
{
	for (uint32_t i = 0; i < holders->count; i++)
		if (holders->list[i].pid == pid)
			return &holders->list[i];
	fail_msg("process %d is not there", (int)pid);
	return NULL;
}

static void test_a_snapshot(void **state)
{
	const struct vac_survey survey = make_survey();
	const struct vac_holders_options options = {.root = root};
	struct vac_holders holders;
	struct vac_error err;
	uint64_t bytes;

	(void)state;
	write_process(11, "train\n", "11");
	write_process(12, "serve\n", "12");
	assert_int_equal(vac_holders_take(&survey, &options, &holders, &err), 0);
	assert_int_equal(holders.count, 3);
	/* By device, and then the largest first. */
	assert_int_equal(holders.list[0].nvml_pid, 11); /* 7 GiB on two */
	assert_int_equal(holders.list[1].nvml_pid, 12);
	assert_int_equal(holders.list[2].nvml_pid, 13);
	const struct vac_holder *eleven = by_pid(&holders, 11);

	assert_string_equal(eleven->name, "train");
	assert_true(eleven->uid_valid && eleven->rss_valid);
	assert_int_equal(eleven->uid, 1011);
	assert_int_equal(eleven->start_ticks, 110);
	assert_int_equal(eleven->rss_bytes, 25 * (uint64_t)sysconf(_SC_PAGESIZE));
	assert_int_equal(eleven->inner_pid, 0);
	assert_int_equal(eleven->state, VAC_HOLD_RUNNING);
	assert_int_equal(eleven->part_count, 2);
	assert_true(vac_holder_bytes(eleven, &bytes));
	assert_int_equal(bytes, 7 * GIB);
	/* Used 8 s ago; since before the samples of 9 s; of the second device nothing is known. */
	assert_true(eleven->parts[0].idle_valid);
	assert_false(eleven->parts[0].idle_at_least || eleven->parts[1].idle_valid);
	assert_int_equal(eleven->parts[0].idle_ms, 8000);
	const struct vac_holder *twelve = by_pid(&holders, 12);

	assert_true(twelve->parts[0].idle_valid && twelve->parts[0].idle_at_least);
	assert_int_equal(twelve->parts[0].idle_ms, 9000);
	/* 13 cannot be seen from here. */
	assert_int_equal(holders.list[2].pid, 0);
	assert_true(holders.list[2].parts[0].graphics_only);
	assert_false(holders.list[2].uid_valid || holders.list[2].rss_valid);
	/* 14 GiB used, 13 GiB listed; on the second more is listed than is used. */
	assert_true(holders.devices[0].unaccounted_valid && holders.devices[1].unaccounted_valid);
	assert_int_equal(holders.devices[0].listed_bytes, 13 * GIB);
	assert_int_equal(holders.devices[0].unaccounted_bytes, GIB);
	assert_int_equal(holders.devices[1].unaccounted_bytes, 0);
	vac_holders_free(&holders);
}

static void test_bytes_that_are_not_known(void **state)
{
	struct vac_survey_process process = {.pid = 11, .compute = true};
	struct vac_survey survey = make_survey();
	const struct vac_holders_options options = {.root = root};
	struct vac_holders holders;
	uint64_t bytes;

	(void)state;
	survey.devices[1].processes = &process;
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_true(holders.devices[0].unaccounted_valid);
	assert_false(holders.devices[1].unaccounted_valid);
	assert_int_equal(holders.list[1].nvml_pid, 11);
	assert_false(vac_holder_bytes(&holders.list[1], &bytes));
	vac_holders_free(&holders);
	/* Nor of a device whose processes are not told, or that does not answer. */
	survey.devices[0].listed = false;
	survey.devices[0].process_count = 0;
	survey.devices[1] = (struct vac_survey_device){.index = 1, .result = 15};
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_int_equal(holders.count, 0);
	assert_int_equal(holders.device_count, 2);
	assert_false(holders.devices[0].unaccounted_valid);
	assert_false(holders.devices[1].unaccounted_valid);
	vac_holders_free(&holders);
}

static void test_without_a_survey(void **state)
{
	const struct vac_holder_record records[] = {
		{.pid = 21,
		 .start_ticks = 210,
		 .state = VAC_HOLD_PARKED,
		 .bytes_valid = true,
		 .bytes = 3 * GIB},
		{.pid = 22, .start_ticks = 220, .state = VAC_HOLD_RUNNING},
		{.pid = 23, .start_ticks = 1, .state = VAC_HOLD_PARKED},
	};
	const struct vac_holders_options options = {
		.root = root, .records = records, .record_count = 3};
	struct vac_holders holders;

	(void)state;
	write_process(21, "parked\n", "21");
	write_process(22, "running\n", "22");
	write_process(23, "another\n", "23");
	assert_int_equal(vac_holders_take(NULL, &options, &holders, NULL), 0);
	assert_int_equal(holders.device_count, 0);
	assert_int_equal(holders.count, 1);
	assert_int_equal(holders.list[0].pid, 21);
	assert_int_equal(holders.list[0].state, VAC_HOLD_PARKED);
	assert_true(holders.list[0].parked_valid);
	assert_int_equal(holders.list[0].parked_bytes, 3 * GIB);
	assert_int_equal(holders.list[0].part_count, 0);
	vac_holders_free(&holders);
}

/* What the record says, what NVML says, and what is shown. */
static void test_records_and_lists(void **state)
{
	static const struct {
		enum vac_hold_state record;
		bool interrupted, listed;
		enum vac_hold_state shown; /* UNKNOWN: as if there were no record */
	} cases[] = {
		{VAC_HOLD_PARKED, false, false, VAC_HOLD_PARKED},
		{VAC_HOLD_PARKED, true, false, VAC_HOLD_PARKED},
		{VAC_HOLD_PARKED, true, true, VAC_HOLD_LOCKED},
		{VAC_HOLD_PARKED, false, true, VAC_HOLD_UNKNOWN},
		{VAC_HOLD_LOCKED, false, true, VAC_HOLD_LOCKED},
		{VAC_HOLD_LOCKED, true, true, VAC_HOLD_LOCKED},
		{VAC_HOLD_LOCKED, true, false, VAC_HOLD_PARKED},
		{VAC_HOLD_LOCKED, false, false, VAC_HOLD_UNKNOWN},
		{VAC_HOLD_RUNNING, true, true, VAC_HOLD_LOCKED},
		{VAC_HOLD_RUNNING, false, true, VAC_HOLD_UNKNOWN},
		{VAC_HOLD_RUNNING, true, false, VAC_HOLD_UNKNOWN},
		{VAC_HOLD_FAILED, false, true, VAC_HOLD_FAILED},
		{VAC_HOLD_FAILED, false, false, VAC_HOLD_FAILED},
	};
	struct vac_survey survey = make_survey();

	(void)state;
	survey.count = 1;
	write_process(11, "one\n", "11");
	write_process(21, "other\n", "21");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pid_t pid = cases[i].listed ? 11 : 21;
		const struct vac_holder_record record = {.pid = pid,
							 .start_ticks = (uint64_t)pid * 10,
							 .state = cases[i].record,
							 .interrupted = cases[i].interrupted};
		const struct vac_holders_options options = {
			.root = root, .records = &record, .record_count = 1};
		struct vac_holders holders;
		const struct vac_holder *found = NULL;

		assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
		for (uint32_t k = 0; k < holders.count; k++)
			if (holders.list[k].pid == pid)
				found = &holders.list[k];
		if (cases[i].shown != VAC_HOLD_UNKNOWN)
			assert_true(found && found->state == cases[i].shown);
		else if (cases[i].listed)
			assert_true(found && found->state == VAC_HOLD_RUNNING);
		else
			assert_null(found);
		vac_holders_free(&holders);
	}
	/* The number is another process's by now. */
	const struct vac_holder_record old = {
		.pid = 11, .start_ticks = 7, .state = VAC_HOLD_FAILED};
	const struct vac_holders_options options = {
		.root = root, .records = &old, .record_count = 1};
	struct vac_holders holders;

	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_int_equal(by_pid(&holders, 11)->state, VAC_HOLD_RUNNING);
	vac_holders_free(&holders);
}

/* ---- numbers of other namespaces ---- */

/* /proc is the host's; the driver gives the container's numbers. */
static void test_numbers_of_a_container(void **state)
{
	const struct vac_survey survey = make_survey();
	const struct vac_holders_options options = {.root = root, .look_ms = 60000};
	struct vac_holders holders;

	(void)state;
	temp_text("dev/nvidiactl", "");
	write_process(11, "somebody else\n", "11");
	write_process(4011, "train\n", "4011 11");
	write_process(4012, "serve\n", "4012\t12");
	write_process(5012, "another container's\n", "5012 13");
	open_device(4011, "/dev/nvidia-uvm");
	open_device(4011, "/dev/nvidia0");
	open_device(4012, "/dev/nvidia0");
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_int_equal(holders.count, 3);
	const struct vac_holder *train = by_pid(&holders, 4011);

	assert_int_equal(train->nvml_pid, 11);
	assert_int_equal(train->inner_pid, 11);
	assert_string_equal(train->name, "train");
	assert_int_equal(by_pid(&holders, 4012)->nvml_pid, 12);
	/* 5012 has nothing of the driver open: it is not 13. */
	assert_int_equal(holders.list[2].nvml_pid, 13);
	assert_int_equal(holders.list[2].pid, 0);
	vac_holders_free(&holders);
}

/* Two containers have the number: nothing is guessed. */
static void test_a_number_that_two_have(void **state)
{
	const struct vac_survey survey = make_survey();
	const struct vac_holders_options options = {.root = root, .look_ms = 60000};
	struct vac_holders holders;

	(void)state;
	temp_text("dev/nvidiactl", "");
	write_process(4012, "one\n", "4012 12");
	write_process(5012, "two\n", "5012 12");
	open_device(4012, "/dev/nvidia0");
	open_device(5012, "/dev/nvidia0");
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_int_equal(holders.count, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(holders.list[i].pid, 0);
	vac_holders_free(&holders);
}

static void test_a_process_in_a_container(void **state)
{
	const struct vac_survey survey = make_survey();
	const struct vac_holders_options options = {.root = root};
	struct vac_holders holders;

	(void)state;
	write_process(11, "train\n", "11 7 3");
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_int_equal(by_pid(&holders, 11)->inner_pid, 3);
	vac_holders_free(&holders);
}

/* ---- processes that NVML does not list ---- */

static void test_unlisted(void **state)
{
	const struct vac_survey survey = make_survey();
	struct vac_holders_options options = {.root = root, .look_ms = 60000};
	struct vac_holders holders;

	(void)state;
	temp_text("dev/nvidiactl", "");
	write_process(11, "train\n", "11");
	open_device(11, "/dev/nvidia0");
	write_process(31, "hidden\n", "31");
	open_device(31, "/dev/nvidia-uvm");
	open_device(31, "/dev/nvidia0");
	write_process(32, "nvidia-smi\n", "32"); /* no CUDA: it only looks */
	open_device(32, "/dev/nvidiactl");
	open_device(32, "/dev/nvidia0");
	write_process(33, "ourselves\n", "33");
	open_device(33, "/dev/nvidia-uvm");
	open_device(33, "/dev/nvidia0");
	options.except = 33;
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_int_equal(holders.count, 4); /* 11, 12, 13 and 31 */
	const struct vac_holder *hidden = by_pid(&holders, 31);

	assert_int_equal(hidden->nvml_pid, 0);
	assert_int_equal(hidden->state, VAC_HOLD_UNKNOWN);
	assert_int_equal(hidden->part_count, 0);
	assert_ptr_equal(hidden, &holders.list[3]);
	assert_false(holders.cut_short);
	vac_holders_free(&holders);
	/* Not asked for, not looked for. */
	options.look_ms = 0;
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_int_equal(holders.count, 3);
	vac_holders_free(&holders);
}

/* Anybody may open the driver as often as he likes. */
static void test_a_crowd(void **state)
{
	const struct vac_survey survey = make_survey();
	const struct vac_holders_options options = {.root = root, .look_ms = 60000};
	struct vac_holders holders;

	(void)state;
	temp_text("dev/nvidiactl", "");
	for (int pid = 10000; pid <= 10000 + 4096; pid++) {
		char path[64];

		snprintf(path, sizeof(path), "proc/%d/fd", pid);
		temp_mkdir(path);
		open_device(pid, "/dev/nvidiactl");
	}
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_true(holders.cut_short);
	assert_int_equal(holders.count, 3);
	vac_holders_free(&holders);
}

/* A process that is parked, and unlisted therefore. */
static void test_parked_and_open(void **state)
{
	const struct vac_survey survey = make_survey();
	const struct vac_holder_record record = {
		.pid = 31, .start_ticks = 310, .state = VAC_HOLD_PARKED};
	const struct vac_holders_options options = {
		.root = root, .look_ms = 60000, .records = &record, .record_count = 1};
	struct vac_holders holders;

	(void)state;
	temp_text("dev/nvidiactl", "");
	write_process(31, "parked\n", "31");
	open_device(31, "/dev/nvidia-uvm");
	open_device(31, "/dev/nvidia0");
	assert_int_equal(vac_holders_take(&survey, &options, &holders, NULL), 0);
	assert_int_equal(holders.count, 4);
	assert_int_equal(by_pid(&holders, 31)->state, VAC_HOLD_PARKED);
	vac_holders_free(&holders);
}

/* ---- USS ---- */

static void test_measuring(void **state)
{
	struct vac_holder list[3] = {
		{.pid = getpid(), .rss_bytes = 2}, {.pid = 0}, {.pid = 0x7ffffff0, .rss_bytes = 1}};
	struct vac_holders holders = {.count = 3, .list = list};

	(void)state;
	vac_holders_measure(&holders, vac_now_ns() + 60 * (int64_t)1000000000);
	assert_true(list[0].usage.valid);
	assert_true(list[0].usage.uss_bytes > 0 &&
		    list[0].usage.uss_bytes <= list[0].usage.rss_bytes);
	assert_false(list[0].usage_late || list[1].usage_late || list[2].usage_late);
	assert_false(list[1].usage.valid || list[2].usage.valid);
}

/* No time at all: nothing is lost, everything is marked, whoever was read meanwhile. */
static void test_measuring_without_time(void **state)
{
	enum { COUNT = 200 };
	static struct vac_holder list[COUNT];
	struct vac_holders holders = {.count = COUNT, .list = list};

	(void)state;
	for (int turn = 0; turn < 20; turn++) {
		memset(list, 0, sizeof(list));
		for (int i = 0; i < COUNT; i++)
			list[i].pid = getpid();
		vac_holders_measure(&holders, vac_now_ns() - 1);
		for (int i = 0; i < COUNT; i++)
			assert_true(list[i].usage.valid != list[i].usage_late);
	}
	holders.count = 0;
	vac_holders_measure(&holders, 0);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_a_snapshot),
		IN_DIR(test_bytes_that_are_not_known),
		IN_DIR(test_without_a_survey),
		IN_DIR(test_records_and_lists),
		IN_DIR(test_numbers_of_a_container),
		IN_DIR(test_a_number_that_two_have),
		IN_DIR(test_a_process_in_a_container),
		IN_DIR(test_unlisted),
		IN_DIR(test_a_crowd),
		IN_DIR(test_parked_and_open),
		cmocka_unit_test(test_measuring),
		cmocka_unit_test(test_measuring_without_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
