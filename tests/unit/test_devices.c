/*
 * test_devices.c - several devices: each has its own budget, line and turns, and
 * nothing on one holds up another.
 */
#include <errno.h>

#include "registry_world.h"

static struct vac_model *on_other(struct world *w, const char *name, const char *sizes)
{
	say(w, name)->device = "other";
	return model_of(w, name, sizes);
}

static void test_each_has_its_budget(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "80,5,0"), *b = on_other(w, "b", "70,5,0");
	struct call calls[2] = {0};

	submit(w, a, &calls[0], 1);
	submit(w, b, &calls[1], 2);
	assert_string_equal(asked(w), "load a;load b;");
	assert_ptr_equal(a->device, &w->devices[0]);
	assert_ptr_equal(b->device, &w->devices[1]);
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 85 * MIB);
	assert_int_equal(vac_budget_used(&w->devices[1].budget), 75 * MIB);
	assert_int_equal(w->devices[0].loading, 1);
	assert_int_equal(w->devices[1].loading, 1);
	loaded(w, a);
	loaded(w, b);
	assert_int_equal(w->devices[0].loading + w->devices[1].loading, 0);
	assert_int_equal(w->devices[0].busy.count, 1);
	assert_int_equal(w->devices[1].busy.count, 1);
}

/* One that waits for room on the first does not keep those out that are for the
 * second, whatever is under way there. */
static void test_line_of_one_does_not_block_another(void **state)
{
	struct world *w = *state;
	struct vac_model *a, *big = model_of(w, "big", "90,5,0"), *b = on_other(w, "b", "70,5,0");
	struct call calls[4] = {0};

	say(w, "a")->min_resident_ms = 60 * 1000;
	a = resident(w, "a", "60,5,0");
	submit(w, big, &calls[0], 1);
	pass(w, 50);
	assert_string_equal(asked(w), "");
	assert_int_equal(w->devices[0].line.count, 1);
	submit(w, b, &calls[1], 2);
	assert_string_equal(asked(w), "load b;");
	loaded(w, b);
	assert_string_equal(asked(w), "run 2;");
	vac_registry_done(&w->registry, &calls[1].waiter, true);
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(big->state, VAC_REGISTRY_LOADING);
}

/* Room on one is made by models of that one. */
static void test_evictions_stay_on_their_device(void **state)
{
	struct world *w = *state;
	struct vac_model *old, *other, *d, *e;
	struct call calls[2] = {0};

	on_other(w, "other", "60,5,0");
	other = resident(w, "other", "60,5,0"); /* the least recently used of all */
	old = resident(w, "old", "60,5,0");
	d = model_of(w, "d", "60,5,0");
	submit(w, d, &calls[0], 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload old evicted;");
	assert_int_equal(w->devices[0].evictions, 1);
	assert_int_equal(w->devices[1].evictions, 0);
	unloaded(w, old);
	assert_string_equal(asked(w), "load d;");
	assert_int_equal(other->state, VAC_REGISTRY_RESIDENT);
	/* What can never fit is said with that device's name and option. */
	e = on_other(w, "e", "101,5,0");
	submit(w, e, &calls[1], 2);
	assert_string_equal(asked(w), "fail 2;");
	assert_non_null(strstr(w->last_error.message, "can never fit on other"));
	assert_non_null(strstr(w->last_error.message, "--other"));
	assert_int_equal(w->devices[0].refusals, 0);
	assert_int_equal(w->devices[1].refusals, 1);
}

/* An unload of each at a time, and a load beside the other's unload. */
static void test_unloads_of_two_devices_run_beside_each_other(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *a2 = resident(w, "a2", "20,5,0");
	struct vac_model *b, *c;
	struct call call = {0};

	on_other(w, "b", "20,5,0");
	b = resident(w, "b", "20,5,0");
	vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL);
	vac_registry_unload(&w->registry, a2, VAC_UNLOAD_REQUEST, false, NULL);
	vac_registry_unload(&w->registry, b, VAC_UNLOAD_REQUEST, false, NULL);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a2 request;unload b request;");
	assert_ptr_equal(w->devices[0].unloading, a2);
	assert_ptr_equal(w->devices[1].unloading, b);
	unloaded(w, b);
	c = on_other(w, "c", "20,5,0");
	submit(w, c, &call, 1);
	assert_string_equal(asked(w), "load c;"); /* a2 is still being measured */
	unloaded(w, a2);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a request;"); /* beside c's load */
	unloaded(w, a);
	loaded(w, c);
}

static void test_worker_of_a_device_is_wanted_by_its_loads(void **state)
{
	struct world *w = *state;
	struct vac_model *big = model_of(w, "big", "90,5,0");
	struct call call = {0};

	say(w, "a")->min_resident_ms = 60 * 1000;
	resident(w, "a", "60,5,0");
	submit(w, big, &call, 1);
	assert_true(vac_registry_load_waits(&w->registry, OTHER, "cpu", NULL));
	assert_false(vac_registry_load_waits(&w->registry, OTHER, "other", NULL));
	assert_false(vac_registry_load_waits(&w->registry, OTHER, "cpu", "big"));
}

static void test_device_that_there_is_not(void **state)
{
	struct world *w = *state;
	struct vac_model *a;
	struct call call = {0};

	say(w, "a")->device = "cuda:7";
	a = model_of(w, "a", "10,5,0");
	submit(w, a, &call, 1);
	assert_string_equal(asked(w), "fail 1;");
	assert_int_equal(w->last_error.code, VAC_E_UNSUPPORTED);
	assert_string_equal(w->last_error.message,
			    "model a is to run on device 'cuda:7', which this server does not "
			    "have; it has: cpu, other");
	assert_int_equal(a->state, VAC_REGISTRY_FAILED);
	/* It is said how it should be, and the next request tries again. */
	say(w, "a")->device = NULL;
	assert_int_equal(vac_registry_reconfigure(&w->registry, NULL), 0);
	submit(w, a, &call, 2);
	assert_string_equal(asked(w), "load a;");
	assert_ptr_equal(a->device, &w->devices[0]);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_of_two, world_end)
	const struct CMUnitTest tests[] = {
		TEST(test_each_has_its_budget),
		TEST(test_line_of_one_does_not_block_another),
		TEST(test_evictions_stay_on_their_device),
		TEST(test_unloads_of_two_devices_run_beside_each_other),
		TEST(test_worker_of_a_device_is_wanted_by_its_loads),
		TEST(test_device_that_there_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
