/* test_loop.c - the event loop: the order of timers, and sources that go while others are served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "server/loop.h"

#define TIMERS 200
#define MS     INT64_C(1000000)

struct own_timer {
	struct vac_timer timer;
	struct vac_loop *loop;
	int fired;
	int64_t fired_at_ns, planned_ns;
};

static int64_t last_planned_ns;
static int fired_in_all;

static int64_t no_settle(void *ctx)
{
	(void)ctx;
	return -1;
}

static void fire(struct vac_timer *timer)
{
	struct own_timer *own = VAC_CONTAINER(timer, struct own_timer, timer);

	own->fired++;
	own->fired_at_ns = vac_now_ns();
	assert_true(own->fired_at_ns >= own->planned_ns);
	assert_true(own->planned_ns >= last_planned_ns);
	last_planned_ns = own->planned_ns;
	if (++fired_in_all == TIMERS / 2)
		vac_loop_stop(own->loop);
}

/* Set, moved and cleared at random: those that are left fire once, in order. */
static void test_timers(void **state)
{
	static struct own_timer timers[TIMERS];
	int64_t base_ns = vac_now_ns() + 5 * MS;
	struct vac_loop loop;
	struct vac_error err;

	(void)state;
	srand(7);
	assert_int_equal(vac_loop_init(&loop, &err), 0);
	loop.settle = no_settle;
	for (int i = 0; i < TIMERS; i++) {
		timers[i].loop = &loop;
		assert_int_equal(vac_timer_open(&loop, &timers[i].timer, fire), 0);
		assert_false(vac_timer_is_set(&timers[i].timer));
	}
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < TIMERS; i++) {
			timers[i].planned_ns = base_ns + rand() % 1000 * (MS / 50);
			vac_timer_set(&loop, &timers[i].timer, timers[i].planned_ns);
		}
	}
	for (int i = 0; i < TIMERS; i += 2) {
		if (i % 4)
			vac_timer_clear(&loop, &timers[i].timer);
		else
			vac_timer_close(&loop, &timers[i].timer);
	}
	assert_int_equal(vac_loop_run(&loop, &err), 0);
	for (int i = 0; i < TIMERS; i++)
		assert_int_equal(timers[i].fired, i % 2);
	assert_int_equal(loop.timer_count, 0);
	vac_loop_free(&loop);
}

struct pair {
	struct vac_source source;
	struct vac_loop *loop;
	struct pair *other;
	int served;
	bool gone;
};

static void serve(struct vac_source *source, uint32_t events)
{
	struct pair *own = VAC_CONTAINER(source, struct pair, source);

	assert_true(events & EPOLLIN);
	assert_false(own->gone);
	own->served++;
	vac_loop_remove(own->loop, &own->other->source);
	own->other->gone = true;
	vac_loop_stop(own->loop);
}

/* Both are ready in one turn; the one that is served first removes the other. */
static void test_removed_source_is_not_served(void **state)
{
	struct pair pairs[2] = {0};
	struct vac_loop loop;
	struct vac_error err;
	int fds[2][2];

	(void)state;
	assert_int_equal(vac_loop_init(&loop, &err), 0);
	loop.settle = no_settle;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(fds[i]), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
		pairs[i] = (struct pair){
			.source = {.fd = fds[i][0], .ready = serve},
			.loop = &loop,
			.other = &pairs[1 - i],
		};
		assert_int_equal(vac_loop_add(&loop, &pairs[i].source, EPOLLIN, &err), 0);
	}
	assert_int_equal(vac_loop_run(&loop, &err), 0);
	assert_int_equal(pairs[0].served + pairs[1].served, 1);
	for (int i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	vac_loop_free(&loop);
}

static void test_bad_descriptor(void **state)
{
	struct vac_source source = {.fd = -1, .ready = serve};
	struct vac_loop loop;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_loop_init(&loop, &err), 0);
	assert_true(vac_loop_add(&loop, &source, EPOLLIN, &err) < 0);
	assert_int_equal(err.code, VAC_E_IO);
	assert_non_null(strstr(err.message, "descriptor -1"));
	vac_loop_free(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_removed_source_is_not_served),
		cmocka_unit_test(test_bad_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
