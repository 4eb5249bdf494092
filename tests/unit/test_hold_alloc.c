/*
 * test_hold_alloc.c - each allocation of park and resume fails once: the call is
 * refused or done, the process is in a state that the receipt names and can be had
 * back, and nothing is left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "fail_alloc.h"
#include "hold_world.h"

static void go_round(bool all_later)
{
	bool refused = true;

	for (unsigned long n = 0; refused; n++) {
		long live = fail_live();
		int rc;

		all_later ? fail_from(n) : fail_after(n);
		rc = hold_world_park();
		refused = fail_count() > n;
		fail_never();
		assert_int_equal(fail_live(), live);
		assert_int_equal(rc == 0, world.receipts[0].error.code == VAC_OK);
		if (rc < 0)
			assert_true(world.err.message[0] != '\0');
		else
			assert_int_equal(hold_world_state(0), VAC_HOLD_PARKED);
		if (!refused)
			break;
		assert_int_equal(hold_world_resume(), 0);
		assert_int_equal(hold_world_state(0), VAC_HOLD_RUNNING);
		assert_true(n < 1000);
	}
	for (unsigned long n = 0; refused || n == 0; n++) {
		long live = fail_live();
		enum vac_hold_state state;
		int rc;

		all_later ? fail_from(n) : fail_after(n);
		rc = hold_world_resume();
		refused = fail_count() > n;
		fail_never();
		assert_int_equal(fail_live(), live);
		assert_int_equal(rc == 0, world.receipts[0].error.code == VAC_OK);
		/* never lost by it */
		state = hold_world_state(0);
		assert_true(state == VAC_HOLD_RUNNING || state == VAC_HOLD_PARKED);
		assert_int_equal(rc == 0, state == VAC_HOLD_RUNNING);
		if (refused)
			assert_int_equal(hold_world_park(), 0);
		assert_true(n < 1000);
	}
}

static void test_one_fails(void **state)
{
	(void)state;
	hold_world_add(GIB);
	go_round(false);
}

static void test_all_from_one_on_fail(void **state)
{
	(void)state;
	hold_world_add(GIB);
	go_round(true);
}

/* A machine's processes in a tree. */
static void test_tree(void **state)
{
	struct vac_target targets[4];
	bool refused = true;
	size_t count;

	(void)state;
	hold_world_add(GIB);
	for (unsigned long n = 0; refused; n++) {
		long live = fail_live();
		int rc;

		fail_after(n);
		rc = vac_target_tree(world.targets[0].pid, targets, 4, &count, &world.err);
		refused = fail_count() > n;
		fail_never();
		assert_int_equal(fail_live(), live);
		assert_int_equal(rc, refused ? -ENOMEM : 0);
		assert_int_equal(count, refused ? 0 : 1);
		if (rc == 0)
			vac_target_close(&targets[0]);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hold_world_begin, hold_world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_fails),
		TEST(test_all_from_one_on_fail),
		TEST(test_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
