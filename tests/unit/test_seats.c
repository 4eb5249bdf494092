/* test_seats.c - who makes way when all connections are taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/seats.h"

#define MS   INT64_C(1000000)
#define MOST 32 /* two are kept for those who come */

static struct vac_seat *closed[64];
static int closed_count;

static void note(struct vac_seat *seat)
{
	assert_true(seat->leaving);
	closed[closed_count++] = seat;
}

static void begin(struct vac_seats *seats)
{
	closed_count = 0;
	vac_seats_init(seats, MOST, note);
	assert_int_equal(seats->free_below, MOST - 2);
}

static void take(struct vac_seats *seats, struct vac_seat *all, int from, int to, int64_t now_ns)
{
	for (int i = from; i < to; i++)
		vac_seats_take(seats, &all[i], now_ns + i);
}

/* The longest first, nobody before the grace, and no more than is needed. */
static void test_senders(void **state)
{
	struct vac_seats seats;
	struct vac_seat all[MOST];

	(void)state;
	begin(&seats);
	take(&seats, all, 0, 30, 0);
	assert_int_equal(vac_seats_relieve(&seats, 1000 * MS), -1);
	assert_int_equal(closed_count, 0);
	take(&seats, all, 30, 32, 50 * MS);
	/* Two too many; the first may be told at the end of its grace. */
	assert_int_equal(vac_seats_relieve(&seats, 99 * MS), VAC_SEAT_SENDING_MS * MS);
	assert_int_equal(closed_count, 0);
	assert_int_equal(vac_seats_relieve(&seats, VAC_SEAT_SENDING_MS * MS + 1), -1);
	assert_int_equal(closed_count, 2);
	assert_ptr_equal(closed[0], &all[0]);
	assert_ptr_equal(closed[1], &all[1]);
	/* They count no more, and go later. */
	assert_int_equal(seats.taken, 30);
	assert_int_equal(vac_seats_relieve(&seats, 5000 * MS), -1);
	for (int i = 0; i < 32; i++)
		vac_seats_leave(&seats, &all[i]);
	assert_int_equal(seats.taken, 0);
	assert_int_equal(seats.crowded_out, 2);
	assert_int_equal(seats.sending.count + seats.resting.count, 0);
}

/* Senders go before those that rest; whoever is served does not go. */
static void test_order(void **state)
{
	struct vac_seats seats;
	struct vac_seat all[MOST];
	int64_t later = 10000 * MS;

	(void)state;
	begin(&seats);
	take(&seats, all, 0, 31, 0);
	for (int i = 0; i < 31; i++)
		vac_seats_is_served(&seats, &all[i]);
	/* One too many, all in work: nobody goes, and there is no time to wait for. */
	assert_int_equal(vac_seats_relieve(&seats, later), -1);
	assert_int_equal(closed_count, 0);
	vac_seats_rests(&seats, &all[7], later);
	vac_seats_rests(&seats, &all[3], later + 1);
	assert_int_equal(vac_seats_relieve(&seats, later + 2), later + VAC_SEAT_RESTING_MS * MS);
	vac_seats_sends(&seats, &all[3], later + 3);
	later += VAC_SEAT_RESTING_MS * MS + 10;
	assert_int_equal(vac_seats_relieve(&seats, later), -1);
	assert_int_equal(closed_count, 1);
	assert_ptr_equal(closed[0], &all[3]); /* began to send last, and rests no more */
	/* What a connection that was told to go still does brings it no seat. */
	vac_seats_rests(&seats, &all[3], later);
	vac_seats_sends(&seats, &all[3], later);
	assert_null(all[3].link.list);
	vac_seats_take(&seats, &all[31], later);
	assert_int_equal(vac_seats_relieve(&seats, later), -1);
	assert_ptr_equal(closed[1], &all[7]);
}

/* A large body that gets on is not slow; one that trickles is. */
static void test_progress(void **state)
{
	struct vac_seats seats;
	struct vac_seat all[MOST];

	(void)state;
	begin(&seats);
	take(&seats, all, 0, 29, 0);
	for (int i = 0; i < 29; i++)
		vac_seats_is_served(&seats, &all[i]);
	take(&seats, all, 29, 31, 0);
	for (int64_t at = 1; at < 1000; at++) {
		vac_seats_gets_on(&seats, &all[29], VAC_SEAT_PROGRESS_BYTES / 16, at * MS);
		vac_seats_gets_on(&seats, &all[30], 1, at * MS);
	}
	assert_int_equal(vac_seats_relieve(&seats, 1000 * MS), -1);
	assert_int_equal(closed_count, 1);
	assert_ptr_equal(closed[0], &all[30]);
	/* The request of the other became whole: its bytes bring it into no list. */
	vac_seats_is_served(&seats, &all[29]);
	vac_seats_gets_on(&seats, &all[29], VAC_SEAT_PROGRESS_BYTES, 1001 * MS);
	assert_null(all[29].link.list);
}

static void test_few(void **state)
{
	static const struct {
		uint32_t most, free_below;
	} cases[] = {{1, 0}, {2, 1}, {15, 14}, {16, 15}, {32, 30}, {1024, 992}, {20000, 19968}};
	struct vac_seats seats;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vac_seats_init(&seats, cases[i].most, note);
		assert_int_equal(seats.free_below, cases[i].free_below);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_senders),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_few),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
