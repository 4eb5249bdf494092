/*
 * test_hold_frames.c - HOLD, HOLD_PHASE and HELD against bytes written by hand
 * after docs/wire.md, and every way of cutting and bending them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/hold_frames.h"

static void a_question_is_what_the_document_says(void **state)
{
	static const uint8_t want[] = {
		56,   0,    0, 0, 11,  0,   0,   0,   5,   0, 0, 0, 0, 0, 0, 0, /* header */
		2,    1,    0,                                      /* park, risk, no pageout */
		0x10, 0x27, 0, 0,                                   /* lock_timeout_ms 10,000 */
		1,    0,    0, 0,                                   /* wait_ms */
		5,    0,    0, 0, 'G', 'P', 'U', '-', '7',          /* device_uuid */
		4,    0,    0, 0, 'p', 'a', 'r', 'k',               /* who */
		2,    0,    0, 0,                                   /* count */
		42,   0,    0, 0, 0,   1,   0,   0,   0,   0, 0, 0, /* pid 42, start 256 */
		43,   0,    0, 0, 1,   0,   0,   0,   0,   0, 0, 0, /* pid 43, start 1 */
	};
	const struct vac_wire_hold hold = {.operation = VAC_WIRE_HOLD_PARK,
					   .risk = true,
					   .lock_timeout_ms = 10000,
					   .wait_ms = 1,
					   .device_uuid = vac_wire_text("GPU-7"),
					   .who = vac_wire_text("park"),
					   .count = 2,
					   .targets = {{42, 256}, {43, 1}}};
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_wire_hold back;
	struct vac_error err;

	(void)state;
	vac_wire_put_hold(&buf, 5, &hold);
	assert_true(vac_buf_ok(&buf));
	assert_int_equal(buf.bytes, sizeof(want));
	assert_memory_equal(buf.data, want, sizeof(want));
	assert_int_equal(vac_wire_get_hold(buf.data + 16, buf.bytes - 16, &back, &err), 0);
	assert_int_equal(back.operation, VAC_WIRE_HOLD_PARK);
	assert_true(back.risk);
	assert_false(back.pageout);
	assert_int_equal(back.lock_timeout_ms, 10000);
	assert_int_equal(back.wait_ms, 1);
	assert_int_equal(back.device_uuid.bytes, 5);
	assert_int_equal(back.who.bytes, 4);
	assert_memory_equal(back.who.text, "park", 4);
	assert_int_equal(back.count, 2);
	assert_int_equal(back.targets[0].pid, 42);
	assert_int_equal(back.targets[0].start_ticks, 256);
	assert_int_equal(back.targets[1].pid, 43);
	for (size_t cut = 0; cut + 8 <= buf.bytes - 16; cut += 8)
		assert_int_equal(vac_wire_get_hold(buf.data + 16, cut, &back, &err), -EINVAL);
	vac_buf_free(&buf);
}

static void a_wrong_question_is_refused(void **state)
{
	/* state, nothing else said, of process 7 */
	static const uint8_t good[40] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
					 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9};
	static const struct {
		size_t at;
		uint8_t value;
		const char *field;
	} wrong[] = {
		{0, 0, "operation"}, {0, 4, "operation"},     {1, 2, "risk"},  {2, 0xff, "pageout"},
		{19, 0, "count"},    {19, 65, "count"},       {19, 3, "pid"},  {23, 0, "pid"},
		{26, 0x80, "pid"},   {11, 48, "device_uuid"}, {15, 48, "who"}, {39, 1, "HOLD"},
	};
	struct vac_wire_hold back;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_wire_get_hold(good, sizeof(good), &back, &err), 0);
	assert_int_equal(back.targets[0].pid, 7);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint8_t payload[sizeof(good)];

		memcpy(payload, good, sizeof(good));
		payload[wrong[i].at] = wrong[i].value;
		assert_int_equal(vac_wire_get_hold(payload, sizeof(payload), &back, &err), -EINVAL);
		assert_non_null(strstr(err.message, wrong[i].field));
	}
}

static void a_phase_is_what_the_document_says(void **state)
{
	static const uint8_t want[] = {8, 0, 0, 0, 0x92, 0, 0, 0, 6, 0, 0, 0,
				       0, 0, 0, 0, 3,    0, 0, 0, 7, 0, 0, 0};
	const struct vac_wire_hold_phase phase = {3, 7};
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_wire_hold_phase back;
	struct vac_error err;

	(void)state;
	vac_wire_put_hold_phase(&buf, 6, &phase);
	assert_int_equal(buf.bytes, sizeof(want));
	assert_memory_equal(buf.data, want, sizeof(want));
	assert_int_equal(vac_wire_get_hold_phase(buf.data + 16, 8, &back, &err), 0);
	assert_int_equal(back.target, 3);
	assert_int_equal(back.phase, 7);
	buf.data[16 + 4] = VAC_WIRE_HOLD_PHASES;
	assert_int_equal(vac_wire_get_hold_phase(buf.data + 16, 8, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'phase'"));
	buf.data[16 + 4] = 0;
	buf.data[16] = VAC_WIRE_MAX_TARGETS;
	assert_int_equal(vac_wire_get_hold_phase(buf.data + 16, 8, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'target'"));
	vac_buf_free(&buf);
}

static struct vac_wire_held *some_answer(void)
{
	struct vac_wire_held *held = calloc(1, sizeof(*held));
	struct vac_wire_held_target *target;

	assert_non_null(held);
	held->error.code = VAC_E_NO_ROOM;
	strcpy(held->error.message, "no room");
	strcpy(held->driver, "580.159");
	held->count = 1;
	target = &held->targets[0];
	target->pid = 42;
	target->uid = 1000;
	strcpy(target->command, "python3 x.py");
	target->before = VAC_WIRE_HELD_PARKED;
	target->after = VAC_WIRE_HELD_FAILED;
	target->rss_valid = true;
	target->rss_before_bytes = (uint64_t)5 << 30;
	target->rss_after_bytes = 11;
	target->restore_ns = 12;
	target->driver_ns = 13;
	target->total_ns = INT64_MAX;
	target->error.code = VAC_E_GONE;
	strcpy(target->error.message, "it is lost");
	strcpy(target->error.detail, "(2)");
	target->device_count = 1;
	strcpy(target->devices[0].uuid, "GPU-7");
	target->devices[0].before = (struct vac_wire_held_memory){false, true, 1, 2, 3};
	target->devices[0].after = (struct vac_wire_held_memory){true, false, 4, 5, 6};
	return held;
}

static const char some_bytes[] = "\5\0\0\0\7\0\0\0no room\0\0\0\0" /* error of the whole */
				 "\7\0\0\0"
				 "580.159"                          /* driver */
				 "\1\0\0\0"                         /* count */
				 "\52\0\0\0\350\3\0\0"              /* pid 42, uid 1000 */
				 "\14\0\0\0python3 x.py"            /* command */
				 "\3\4"                             /* parked, failed */
				 "\1\0\0\0\100\1\0\0\0"             /* rss_valid, before 5 GiB */
				 "\13\0\0\0\0\0\0\0"                /* after 11 */
				 "\0\0\0\0\0\0\0\0\0"               /* no pageout */
				 "\0\0\0\0\0\0\0\0"                 /* nothing swapped */
				 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" /* lock, checkpoint */
				 "\14\0\0\0\0\0\0\0"                /* restore */
				 "\0\0\0\0\0\0\0\0"                 /* unlock */
				 "\15\0\0\0\0\0\0\0"                /* driver's */
				 "\377\377\377\377\377\377\377\177" /* total */
				 "\12\0\0\0\12\0\0\0it is lost"     /* its error */
				 "\3\0\0\0(2)"
				 "\1\0\0\0\5\0\0\0GPU-7" /* devices */
				 "\0\1\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0"
				 "\1\0\4\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0";
#define SOME_BYTES (sizeof(some_bytes) - 1)

static void an_answer_is_what_the_document_says(void **state)
{
	struct vac_wire_held *held = some_answer(), *back = calloc(1, sizeof(*back));
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	assert_non_null(back);
	vac_wire_put_held(&buf, 5, held);
	assert_true(vac_buf_ok(&buf));
	assert_int_equal(buf.data[4], 0x8b);
	assert_true(buf.bytes - 16 >= SOME_BYTES && buf.bytes - 16 < SOME_BYTES + 8);
	assert_memory_equal(buf.data + 16, some_bytes, SOME_BYTES);
	assert_int_equal(vac_wire_get_held(buf.data + 16, buf.bytes - 16, back, &err), 0);
	assert_memory_equal(back, held, sizeof(*held));
	for (size_t cut = 0; cut < buf.bytes - 16; cut += 8)
		assert_int_equal(vac_wire_get_held(buf.data + 16, cut, back, &err), -EINVAL);
	vac_buf_free(&buf);
	free(held);
	free(back);
}

/* Where some_bytes holds that text. */
static size_t place_of(const char *text)
{
	const char *at = memmem(some_bytes, SOME_BYTES, text, strlen(text));

	assert_non_null(at);
	return (size_t)(at - some_bytes);
}

static void a_wrong_answer_is_refused(void **state)
{
	const size_t states = place_of("python3 x.py") + 12, devices = place_of("GPU-7") - 8;
	const struct {
		size_t at;
		uint8_t value;
		const char *field;
	} wrong[] = {
		{4, 250, "message"},
		{place_of("580") - 4, 80, "driver"},
		{place_of("580") + 7, 65, "count"},
		{place_of("python3") - 4, 64, "command"},
		{states, 5, "before"},
		{states + 1, 5, "after"},
		{states + 2, 2, "rss_valid"},
		{states + 2 + 17, 2, "pageout_valid"},
		{states + 2 + 17 + 17 + 7, 0x80, "times"},
		{devices, 17, "device_count"},
		{devices + 4, 48, "uuid"},
		{devices + 8 + 5, 2, "listed"},
		{devices + 8 + 6, 2, "bytes_valid"},
	};
	struct vac_wire_held *back = calloc(1, sizeof(*back));
	uint8_t payload[(SOME_BYTES + 7) / 8 * 8] = {0};
	struct vac_error err;

	(void)state;
	assert_non_null(back);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memcpy(payload, some_bytes, SOME_BYTES);
		payload[wrong[i].at] = wrong[i].value;
		assert_int_equal(vac_wire_get_held(payload, sizeof(payload), back, &err), -EINVAL);
		if (!strstr(err.message, wrong[i].field))
			fail_msg("%s: %s", wrong[i].field, err.message);
	}
	free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_question_is_what_the_document_says),
		cmocka_unit_test(a_wrong_question_is_refused),
		cmocka_unit_test(a_phase_is_what_the_document_says),
		cmocka_unit_test(an_answer_is_what_the_document_says),
		cmocka_unit_test(a_wrong_answer_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
