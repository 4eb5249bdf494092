/*
 * test_idle.c - idleness put together from looks: what counts, what begins it anew, and
 * when nothing is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "hold/idle.h"

#define SECOND_NS INT64_C(1000000000)
#define SECOND_US INT64_C(1000000)
/* Any moment will do. */
#define WALL_US (INT64_C(1700000000) * SECOND_US)

struct scene {
	struct vac_idle idle;
	struct vac_survey survey;
	struct vac_survey_device devices[2];
	struct vac_survey_process on[2];
	struct vac_holders holders;
	struct vac_holder list[2];
	struct vac_holder_part parts[2][2];
	int64_t now_s;
};

/* Two processes on one device that nobody uses. */
static void begin(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s->survey.count = 1;
	s->survey.devices = s->devices;
	s->survey.devices[0].sampled = true;
	s->survey.devices[0].gpu_percent.valid = true;
	s->survey.devices[0].process_count = 2;
	s->survey.devices[0].processes = s->on;
	s->holders.count = 2;
	s->holders.list = s->list;
	for (uint32_t i = 0; i < 2; i++) {
		s->on[i].pid = 100 + i;
		s->list[i] = (struct vac_holder){.pid = (pid_t)(100 + i),
						 .nvml_pid = 100 + i,
						 .start_ticks = 7,
						 .state = VAC_HOLD_RUNNING,
						 .part_count = 1,
						 .parts = s->parts[i]};
	}
}

/* A look so many seconds after the last one, by both clocks. */
static void look(struct scene *s, int64_t seconds)
{
	s->now_s += seconds;
	s->survey.at_us = WALL_US + s->now_s * SECOND_US;
	assert_int_equal(vac_idle_look(&s->idle, &s->survey, &s->holders,
				       (1000 + s->now_s) * SECOND_NS, NULL),
			 0);
}

static int64_t idle_ms(const struct scene *s, pid_t pid)
{
	const struct vac_idle_process *process = vac_idle_find(&s->idle, pid, 7);

	assert_non_null(process);
	return vac_idle_ms(&s->idle, process);
}

static enum vac_idle_doubt doubt(const struct scene *s, pid_t pid)
{
	return vac_idle_find(&s->idle, pid, 7)->doubt;
}

static void used_ago(struct scene *s, uint32_t which, int64_t seconds)
{
	s->on[which].used_at_us = WALL_US + (s->now_s - seconds) * SECOND_US;
}

static void test_counts_from_the_first_look(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	/* what was before it counts for nothing, however long ago it was used */
	s.on[0].used_at_us = WALL_US - 3600 * SECOND_US;
	s.survey.devices[0].since_us = WALL_US - 7200 * SECOND_US;
	look(&s, 0);
	assert_int_equal(idle_ms(&s, 100), 0);
	look(&s, 10);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 20000);
	assert_int_equal(idle_ms(&s, 101), 20000);
	vac_idle_free(&s.idle);
}

static void test_use_begins_it_anew(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.survey.devices[0].since_us = WALL_US - SECOND_US;
	look(&s, 0);
	look(&s, 30);
	s.now_s += 10;
	used_ago(&s, 0, 4); /* between two looks */
	look(&s, 0);
	assert_int_equal(idle_ms(&s, 100), 4000);
	assert_int_equal(idle_ms(&s, 101), 40000);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 14000);
	/* a clock that is behind NVML's: now, not later */
	used_ago(&s, 0, -100);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 0);
	vac_idle_free(&s.idle);
}

/* A sample names one process: short use beside another's may be nobody's. CPU time tells,
 * there and nowhere else. */
static void test_cpu_time_beside_others(void **state)
{
	const uint64_t second = (uint64_t)sysconf(_SC_CLK_TCK);
	struct scene s;

	(void)state;
	begin(&s);
	s.survey.devices[0].since_us = WALL_US - SECOND_US;
	s.list[0].cpu_ticks = 1000 * second; /* before the first look: nothing */
	look(&s, 0);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 10000);
	/* nobody uses the device: how busy it is elsewhere does not matter */
	s.list[0].cpu_ticks += 10 * second;
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 20000);
	/* the other one does: a little is an interpreter's */
	used_ago(&s, 1, -10);
	s.list[0].cpu_ticks += second / 10;
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 30000);
	assert_int_equal(idle_ms(&s, 101), 0);
	used_ago(&s, 1, -10);
	s.list[0].cpu_ticks += second / 4;
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 0);
	/* that was since the look before, and is not counted again */
	used_ago(&s, 1, -10);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 10000);
	vac_idle_free(&s.idle);
}

/* A use that NVML goes on to tell was counted at the look that it came before. */
static void test_old_use_is_counted_once(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.survey.devices[0].since_us = WALL_US - SECOND_US;
	look(&s, 0);
	for (int i = 1; i <= 3; i++) {
		/* at the earliest that it is asked for: a second before the last look */
		used_ago(&s, 0, 1);
		look(&s, 10);
		assert_int_equal(idle_ms(&s, 100), 10000 * i);
	}
	vac_idle_free(&s.idle);
}

static void test_resumed_has_the_whole_time(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.survey.devices[0].since_us = WALL_US - SECOND_US;
	look(&s, 0);
	look(&s, 10);
	vac_idle_begin_anew(&s.idle, 100, 8, (1000 + s.now_s + 1) * SECOND_NS); /* another */
	assert_int_equal(idle_ms(&s, 100), 10000);
	vac_idle_begin_anew(&s.idle, 100, 7, (1000 + s.now_s + 1) * SECOND_NS);
	assert_int_equal(idle_ms(&s, 100), 0);
	assert_int_equal(idle_ms(&s, 101), 10000);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 9000);
	vac_idle_free(&s.idle);
}

static void test_samples_must_meet(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	look(&s, 0);
	look(&s, 10);
	s.survey.devices[0].since_us = WALL_US + 10 * SECOND_US; /* just so */
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 20000);
	s.survey.devices[0].since_us = WALL_US + 20 * SECOND_US + 1;
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), -1);
	assert_int_equal(doubt(&s, 100), VAC_IDLE_GAP);
	assert_non_null(strstr(vac_idle_doubt_text(VAC_IDLE_GAP), "do not reach back"));
	look(&s, 5);
	assert_int_equal(idle_ms(&s, 100), 5000);
	vac_idle_free(&s.idle);
}

static void test_looks_oftener(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	look(&s, 0);
	assert_int_equal(vac_idle_next_ms(&s.idle, 10000), 10000);
	s.survey.devices[0].since_us = WALL_US + 2 * SECOND_US;
	look(&s, 10); /* they reach back 8 s */
	assert_int_equal(vac_idle_next_ms(&s.idle, 10000), 6000);
	assert_int_equal(vac_idle_next_ms(&s.idle, 3000), 3000);
	s.survey.devices[0].since_us = WALL_US + 19900 * 1000;
	look(&s, 10); /* 0.1 s: that would be ten times a second */
	assert_int_equal(vac_idle_next_ms(&s.idle, 10000), 1000);
	assert_int_equal(vac_idle_next_ms(&s.idle, 200), 200);
	vac_idle_free(&s.idle);
}

static void test_nothing_told(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	s.survey.devices[0].sampled = false;
	look(&s, 0);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), -1);
	assert_int_equal(doubt(&s, 100), VAC_IDLE_UNTOLD);
	s.survey.devices[0].sampled = true;
	s.survey.devices[0].gpu_percent.valid = false;
	look(&s, 10);
	assert_int_equal(doubt(&s, 100), VAC_IDLE_UNTOLD);
	s.survey.devices[0].gpu_percent.valid = true;
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 10000);
	vac_idle_free(&s.idle);
}

static void test_used_by_nobody(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	look(&s, 0);
	look(&s, 10);
	s.survey.devices[0].gpu_percent.value = 50;
	look(&s, 10); /* its sample may come a little later */
	assert_int_equal(idle_ms(&s, 100), 20000);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), -1);
	assert_int_equal(doubt(&s, 101), VAC_IDLE_NOBODY);
	/* one that says who is enough for the others */
	s.now_s += 10;
	used_ago(&s, 1, 1);
	s.survey.devices[0].since_us = WALL_US;
	look(&s, 0);
	assert_int_equal(idle_ms(&s, 100), 10000);
	assert_int_equal(idle_ms(&s, 101), 1000);
	vac_idle_free(&s.idle);
}

static void test_clocks_apart(void **state)
{
	struct scene s;

	(void)state;
	for (int64_t apart = -3; apart <= 3; apart += 6) {
		begin(&s);
		look(&s, 0);
		look(&s, 10);
		s.survey.at_us = WALL_US + (20 + apart) * SECOND_US;
		assert_int_equal(
			vac_idle_look(&s.idle, &s.survey, &s.holders, 1020 * SECOND_NS, NULL), 0);
		assert_int_equal(idle_ms(&s, 100), 0);
		vac_idle_free(&s.idle);
	}
}

static void test_blind(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	look(&s, 0);
	look(&s, 10);
	vac_idle_find(&s.idle, 100, 7)->quiet_until_ns = 77;
	vac_idle_blind(&s.idle);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 0);
	assert_int_equal(vac_idle_find(&s.idle, 100, 7)->quiet_until_ns, 77);
	vac_idle_free(&s.idle);
}

static void test_parked_and_back(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	look(&s, 0);
	look(&s, 10);
	s.list[0].state = VAC_HOLD_PARKED;
	s.list[0].part_count = 0;
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), -1);
	assert_int_equal(vac_idle_find(&s.idle, 100, 7)->before, VAC_HOLD_RUNNING);
	s.list[0].state = VAC_HOLD_RUNNING;
	s.list[0].part_count = 1;
	look(&s, 10);
	assert_int_equal(vac_idle_find(&s.idle, 100, 7)->before, VAC_HOLD_PARKED);
	assert_int_equal(idle_ms(&s, 100), 0);
	assert_int_equal(idle_ms(&s, 101), 30000);
	vac_idle_free(&s.idle);
}

/* NVML's list is older than what is on record: who was resumed in between is in neither. */
static void test_missed_once(void **state)
{
	const struct vac_idle_process *process;
	struct scene s;

	(void)state;
	begin(&s);
	look(&s, 0);
	s.list[0].state = VAC_HOLD_PARKED;
	look(&s, 10);
	s.holders.list = s.list + 1;
	s.holders.count = 1;
	look(&s, 10);
	s.holders.list = s.list;
	s.holders.count = 2;
	s.list[0].state = VAC_HOLD_RUNNING;
	look(&s, 10);
	process = vac_idle_find(&s.idle, 100, 7);
	assert_true(process->before == VAC_HOLD_PARKED && process->state == VAC_HOLD_RUNNING);
	assert_int_equal(idle_ms(&s, 100), 0);
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 10000);
	/* one that runs was not observed meanwhile */
	s.holders.count = 1;
	look(&s, 10);
	s.holders.count = 2;
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), 30000);
	assert_int_equal(idle_ms(&s, 101), 0);
	s.holders.count = 1;
	look(&s, 10);
	look(&s, 10);
	assert_null(vac_idle_find(&s.idle, 101, 7));
	vac_idle_free(&s.idle);
}

static void test_who_is_who(void **state)
{
	struct scene s;

	(void)state;
	begin(&s);
	look(&s, 0);
	look(&s, 10);
	s.list[0].start_ticks = 8; /* another process with its number */
	s.list[1].pid = 0;         /* that cannot be seen any more */
	look(&s, 10);
	assert_int_equal(vac_idle_ms(&s.idle, vac_idle_find(&s.idle, 100, 8)), 0);
	look(&s, 10); /* who is missed is kept for one look */
	assert_null(vac_idle_find(&s.idle, 100, 7));
	assert_null(vac_idle_find(&s.idle, 101, 7));
	assert_int_equal(s.idle.count, 1);
	vac_idle_free(&s.idle);
}

static void test_two_devices(void **state)
{
	struct vac_survey_process second = {.pid = 100};
	struct scene s;

	(void)state;
	begin(&s);
	s.survey.count = 2;
	s.survey.devices[1] = s.survey.devices[0];
	s.survey.devices[1].processes = &second;
	s.survey.devices[1].process_count = 1;
	s.list[0].part_count = 2;
	s.list[0].parts[1].device = 1;
	look(&s, 0);
	look(&s, 10);
	s.now_s += 10;
	second.used_at_us = WALL_US + (s.now_s - 2) * SECOND_US;
	s.survey.devices[1].since_us = WALL_US;
	look(&s, 0);
	assert_int_equal(idle_ms(&s, 100), 2000);
	assert_int_equal(idle_ms(&s, 101), 20000);
	s.survey.devices[1].sampled = false;
	look(&s, 10);
	assert_int_equal(idle_ms(&s, 100), -1);
	assert_int_equal(idle_ms(&s, 101), 30000);
	vac_idle_free(&s.idle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts_from_the_first_look),
		cmocka_unit_test(test_use_begins_it_anew),
		cmocka_unit_test(test_cpu_time_beside_others),
		cmocka_unit_test(test_old_use_is_counted_once),
		cmocka_unit_test(test_resumed_has_the_whole_time),
		cmocka_unit_test(test_samples_must_meet),
		cmocka_unit_test(test_looks_oftener),
		cmocka_unit_test(test_nothing_told),
		cmocka_unit_test(test_used_by_nobody),
		cmocka_unit_test(test_clocks_apart),
		cmocka_unit_test(test_blind),
		cmocka_unit_test(test_parked_and_back),
		cmocka_unit_test(test_missed_once),
		cmocka_unit_test(test_who_is_who),
		cmocka_unit_test(test_two_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
