/*
 * test_settings.c - what the operator says of one model, and what becomes of it
 * when he changes his mind while the server runs.
 */
#include <errno.h>

#include "registry_world.h"

static void reconfigure(struct world *w)
{
	struct vac_error err;

	assert_int_equal(vac_registry_reconfigure(&w->registry, &err), 0);
}

static void test_copies_are_whole(void **state)
{
	const struct vac_model_settings from = {.pin = true,
						.priority = -3,
						.device = "cpu",
						.dtype = "float32",
						.prompt = "query: ",
						.dir = "/models/a"};
	struct vac_model_settings copy, other = from;

	(void)state;
	assert_int_equal(vac_model_settings_copy(&copy, &from), 0);
	assert_true(copy.pin && copy.priority == -3);
	assert_string_equal(copy.dtype, "float32");
	assert_ptr_not_equal(copy.dtype, from.dtype);
	assert_string_equal(copy.prompt, "query: ");
	assert_string_equal(copy.dir, "/models/a");
	assert_false(vac_model_settings_reload(&copy, &from));
	/* What needs no new load. */
	other.pin = false;
	other.priority = 7;
	other.keep_alive_ms = other.min_resident_ms = 9;
	assert_false(vac_model_settings_reload(&copy, &other));
	other = from;
	other.isolate = true;
	assert_true(vac_model_settings_reload(&copy, &other));
	other = from;
	other.max_batch_tokens = 1;
	assert_true(vac_model_settings_reload(&copy, &other));
	other = from;
	other.device = "cuda:0";
	assert_true(vac_model_settings_reload(&copy, &other));
	other = from;
	other.dtype = NULL;
	assert_true(vac_model_settings_reload(&copy, &other));
	other = from;
	other.prompt = "passage: ";
	assert_true(vac_model_settings_reload(&copy, &other));
	vac_model_settings_free(&copy);
	assert_null(copy.prompt);
}

static void test_keep_alive_of_each(void **state)
{
	struct world *w = *state;
	struct vac_model *a, *b;

	say(w, "a")->keep_alive_ms = 5000;
	say(w, "b")->keep_alive_ms = -1;
	a = resident(w, "a", "10,5,0");
	b = resident(w, "b", "10,5,0");
	pass(w, 5000);
	assert_string_equal(asked(w), "unload a idle;");
	unloaded(w, a);
	pass(w, 2 * (int64_t)KEEP_MS);
	assert_string_equal(asked(w), "");
	assert_int_equal(b->state, VAC_REGISTRY_RESIDENT);
}

static void test_resident_takes_over_what_it_can(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0"), *b = resident(w, "b", "30,5,0");
	struct vac_model *c = model_of(w, "c", "50,5,0");
	struct call call = {0};

	/* Nothing changed: nothing happens. */
	reconfigure(w);
	pass(w, 100);
	assert_string_equal(asked(w), "");
	/* a is older, and goes last now. */
	say(w, "a")->priority = 1;
	say(w, "b")->keep_alive_ms = 10 * 1000;
	reconfigure(w);
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(b->keep_alive_ms, 10 * 1000);
	submit(w, c, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload b evicted;");
	unloaded(w, b);
	assert_string_equal(asked(w), "load c;");
	loaded(w, c);
	vac_registry_done(&w->registry, &call.waiter, true);
	pass(w, TURN_MS);
	/* Pinned from now on: it stays when its time is over, and nobody evicts it. */
	say(w, "a")->pin = true;
	say(w, "a")->keep_alive_ms = 0;
	reconfigure(w);
	pass(w, 100);
	asked(w);
	b = model_of(w, "b", "40,5,0");
	submit(w, b, &call, 2);
	pass(w, 0);
	assert_string_equal(asked(w), "unload c evicted;");
	unloaded(w, c);
	assert_string_equal(asked(w), "load b;");
	loaded(w, b);
	asked(w);
	/* And not any more: its keep_alive is over at once. */
	say(w, "a")->pin = false;
	reconfigure(w);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a idle;");
	unloaded(w, a);
	assert_int_equal(w->devices[0].budget.fixed, 0);
}

static void test_priority_changes_in_line(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "90,1,0"), *b = model_of(w, "b", "90,1,0");
	struct call calls[2] = {0};

	say(w, "first")->min_resident_ms = 60 * 1000;
	resident(w, "first", "90,5,0");
	submit(w, a, &calls[0], 1);
	pass(w, 10);
	submit(w, b, &calls[1], 2);
	assert_ptr_equal(VAC_MODEL_AT(w->devices[0].line.first, line), a);
	say(w, "b")->priority = 1;
	reconfigure(w);
	assert_ptr_equal(VAC_MODEL_AT(w->devices[0].line.first, line), b);
	say(w, "b")->priority = 0; /* as it came */
	reconfigure(w);
	assert_ptr_equal(VAC_MODEL_AT(w->devices[0].line.first, line), a);
	assert_int_equal(w->devices[0].line.count, 2);
}

/* What only a load can change: the resident leaves when it has answered. */
static void test_resident_is_loaded_anew_when_somebody_waits(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0"), *b = resident(w, "b", "30,5,0");
	struct call calls[2] = {0};

	submit(w, a, &calls[0], 1);
	say(w, "a")->max_batch_tokens = 64;
	reconfigure(w);
	assert_int_equal(a->state, VAC_REGISTRY_DRAINING);
	submit(w, a, &calls[1], 2);
	pass(w, 10);
	assert_string_equal(asked(w), "run 1;");
	vac_registry_done(&w->registry, &calls[0].waiter, true);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a settings;");
	unloaded(w, a);
	assert_string_equal(asked(w), "load a;");
	assert_int_equal(a->settings.max_batch_tokens, 64);
	loaded(w, a);
	assert_string_equal(asked(w), "run 2;");
	assert_int_equal(b->state, VAC_REGISTRY_RESIDENT); /* untouched */
}

static void test_resident_is_loaded_anew_when_it_is_pinned(void **state)
{
	struct world *w = *state;
	struct vac_model *a, *b = resident(w, "b", "30,5,0");

	say(w, "a")->pin = true;
	a = resident(w, "a", "30,5,0");
	say(w, "a")->prompt = "query: ";
	say(w, "b")->prompt = "query: ";
	reconfigure(w);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a settings;");
	unloaded(w, a);
	assert_string_equal(asked(w), "load a;");
	loaded(w, a);
	pass(w, 0);
	assert_string_equal(asked(w), "unload b settings;");
	unloaded(w, b);
	pass(w, 0);
	assert_int_equal(b->state, VAC_REGISTRY_ABSENT); /* nobody asked for it */
	/* Somebody unloads it by hand: it stays away. */
	vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL);
	pass(w, 0);
	unloaded(w, a);
	pass(w, 0);
	assert_int_equal(a->state, VAC_REGISTRY_ABSENT);
}

static void test_moves_to_another_device(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0");
	struct call call = {0};

	assert_int_equal(vac_budget_used(&w->devices[0].budget), 35 * MIB);
	say(w, "a")->device = "other";
	reconfigure(w);
	submit(w, a, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a settings;");
	assert_ptr_equal(a->device, &w->devices[0]);
	assert_true(vac_registry_load_waits(&w->registry, OTHER, "other", NULL));
	assert_false(vac_registry_load_waits(&w->registry, WORKER, "cpu", NULL));
	unloaded(w, a);
	assert_string_equal(asked(w), "load a;");
	assert_ptr_equal(a->device, &w->devices[1]);
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 0);
	assert_int_equal(vac_budget_used(&w->devices[1].budget), 35 * MIB);
}

static void test_another_directory(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0");
	struct call call = {0};

	say(w, "a")->dir = "30,5,0"; /* where it is already */
	reconfigure(w);
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	say(w, "a")->dir = "40,5,0";
	reconfigure(w);
	assert_string_equal(a->dir, "30,5,0"); /* until it has left */
	submit(w, a, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a settings;");
	unloaded(w, a);
	assert_string_equal(asked(w), "load a;");
	assert_string_equal(a->dir, "40,5,0");
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 45 * MIB);
}

/* Changed while a load waits, while its plan is asked, and while it loads. */
static void test_changes_on_the_way(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "30,5,0");
	struct vac_plan planned = plan_of(a);
	struct call call = {0};

	w->plans_come_late = true;
	submit(w, a, &call, 1);
	assert_string_equal(asked(w), "plan a;");
	say(w, "a")->device = "other";
	reconfigure(w);
	vac_registry_planned(&w->registry, a, &planned); /* of what is not wanted any more */
	assert_string_equal(asked(w), "plan a;");
	assert_int_equal(w->devices[0].planning, 0);
	assert_int_equal(w->devices[1].planning, 1);
	say(w, "a")->dtype = "bfloat16";
	reconfigure(w);
	/* That the old plan failed says nothing about the new. */
	vac_registry_load_failed(&w->registry, a, &killed);
	assert_false(call.finished);
	pass(w, 0);
	assert_string_equal(asked(w), "plan a;");
	vac_registry_planned(&w->registry, a, &planned);
	assert_string_equal(asked(w), "load a;");
	say(w, "a")->dtype = NULL;
	reconfigure(w);
	pass(w, 10);
	loaded(w, a);
	assert_string_equal(asked(w), "run 1;"); /* who waited is answered first */
	vac_registry_done(&w->registry, &call.waiter, true);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a settings;");
	unloaded(w, a);
	assert_int_equal(a->state, VAC_REGISTRY_ABSENT);
	assert_int_equal(w->devices[1].planning + w->devices[1].loading, 0);
}

static void test_changes_in_line(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "90,1,0");
	struct call call = {0};

	say(w, "first")->min_resident_ms = 60 * 1000;
	resident(w, "first", "90,5,0");
	submit(w, a, &call, 1);
	pass(w, 10);
	assert_string_equal(asked(w), "");
	say(w, "a")->device = "other";
	reconfigure(w);
	pass(w, 0);
	assert_string_equal(asked(w), "load a;");
	assert_int_equal(w->devices[0].line.count, 0);
	assert_ptr_equal(a->device, &w->devices[1]);
}

/* ---- a worker of its own ---- */

/* It shares no scratch, and its worker is nobody else's. */
static void test_isolated(void **state)
{
	struct world *w = *state;
	struct vac_model *a, *b = resident(w, "b", "20,10,0"), *c;
	struct call call = {0};

	assert_int_equal(vac_budget_used(&w->devices[0].budget), 30 * MIB);
	say(w, "a")->isolate = true;
	a = model_of(w, "a", "20,10,0");
	w->worker = OTHER;
	submit(w, a, &call, 1);
	assert_true(a->isolated && !b->isolated);
	assert_true(vac_registry_load_waits(&w->registry, OTHER, "cpu", "a"));
	loaded(w, a);
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 60 * MIB);
	asked(w);
	vac_registry_worker_gone(&w->registry, OTHER, a, &killed);
	assert_string_equal(asked(w), "died a;");
	assert_int_equal(b->state, VAC_REGISTRY_RESIDENT);
	assert_true(vac_registry_lost(&w->registry, &call.waiter));
	loaded(w, a);
	vac_registry_done(&w->registry, &call.waiter, true);
	/* Who waits for the shared worker does not keep this one. */
	vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL);
	c = model_of(w, "c", "90,1,0");
	submit(w, c, &call, 2);
	assert_false(vac_registry_load_waits(&w->registry, OTHER, "cpu", "a"));
	assert_true(vac_registry_load_waits(&w->registry, WORKER, "cpu", NULL));
	submit(w, a, &(struct call){0}, 3);
	assert_true(vac_registry_load_waits(&w->registry, OTHER, "cpu", "a"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_of_two, world_end)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies_are_whole),
		TEST(test_keep_alive_of_each),
		TEST(test_resident_takes_over_what_it_can),
		TEST(test_priority_changes_in_line),
		TEST(test_resident_is_loaded_anew_when_somebody_waits),
		TEST(test_resident_is_loaded_anew_when_it_is_pinned),
		TEST(test_moves_to_another_device),
		TEST(test_another_directory),
		TEST(test_changes_on_the_way),
		TEST(test_changes_in_line),
		TEST(test_isolated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
