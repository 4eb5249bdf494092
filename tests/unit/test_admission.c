/*
 * test_admission.c - the line of loads, and room by plans and by measured memory.
 */
#include <errno.h>
#include <time.h>

#include "registry_world.h"

/* ---- admission ---- */

static void test_loads_that_fit_go_at_once(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "40,10,5"), *b = model_of(w, "b", "40,10,5");
	struct call calls[2] = {0};

	submit(w, a, &calls[0], 1);
	submit(w, b, &calls[1], 2);
	assert_string_equal(asked(w), "load a;load b;");
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 100 * MIB);
	loaded(w, a);
	loaded(w, b);
	assert_string_equal(asked(w), "run 1;run 2;");
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 90 * MIB);
}

static void test_plan_comes_first(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "40,10,5");
	struct vac_plan planned = plan_of(a);
	struct call call = {0};

	w->plans_come_late = true;
	submit(w, a, &call, 1);
	pass(w, 500);
	assert_string_equal(asked(w), "plan a;");
	vac_registry_planned(&w->registry, a, &planned);
	assert_string_equal(asked(w), "load a;");
}

/* An unload measures a process: no plan and no load beside it, and it waits for
 * those that are under way. */
static void test_unloads_and_plans_take_turns(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "40,10,5"), *b = model_of(w, "b", "20,10,5");
	struct vac_plan planned = plan_of(b);
	struct call calls[2] = {0};

	w->plans_come_late = true;
	submit(w, b, &calls[0], 1);
	vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL);
	pass(w, 50);
	assert_string_equal(asked(w), "plan b;");
	vac_registry_planned(&w->registry, b, &planned);
	pass(w, 50);
	assert_string_equal(asked(w), "load b;");
	loaded(w, b);
	pass(w, 50);
	assert_string_equal(asked(w), "run 1;unload a request;");
	b = model_of(w, "c", "20,10,5");
	submit(w, b, &calls[1], 2);
	pass(w, 50);
	assert_string_equal(asked(w), "");
	unloaded(w, a);
	assert_string_equal(asked(w), "plan c;");
}

static void test_what_can_never_fit_is_refused(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "90,10,1"), *b = model_of(w, "b", "90,10,0");
	struct call call = {0};

	submit(w, a, &call, 1);
	assert_string_equal(asked(w), "fail 1;");
	assert_int_equal(w->last_error.code, VAC_E_NO_ROOM);
	assert_non_null(strstr(w->last_error.message,
			       "101.0 MiB (90.0 its own, 10.0 scratch, 1.0 for a moment"));
	assert_non_null(strstr(w->last_error.message, "the budget is 100.0 MiB"));
	assert_int_equal(a->state, VAC_REGISTRY_FAILED);
	assert_int_equal(w->devices[0].refusals, 1);
	submit(w, b, &call, 2); /* to the byte */
	assert_string_equal(asked(w), "load b;");
}

static void test_line_is_first_come_first_served(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "60,10,0"), *big = model_of(w, "big", "80,10,0");
	struct vac_model *small = model_of(w, "small", "5,1,0");
	struct call calls[3] = {0};

	submit(w, a, &calls[0], 1);
	submit(w, big, &calls[1], 2);
	submit(w, small, &calls[2], 3); /* would fit, but big was first */
	pass(w, 5);
	assert_string_equal(asked(w), "run 1;");
	assert_int_equal(a->state, VAC_REGISTRY_DRAINING);
	vac_registry_done(&w->registry, &calls[0].waiter, true);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a evicted;");
	unloaded(w, a);
	assert_string_equal(asked(w), "load big;load small;");
}

static void test_nobody_waits_any_more(void **state)
{
	struct world *w = *state;
	struct vac_model *a, *b = model_of(w, "b", "60,10,0"), *c = model_of(w, "c", "30,10,0");
	struct call calls[3] = {0};

	say(w, "a")->min_resident_ms = 10 * TURN_MS;
	a = resident(w, "a", "60,10,0");
	submit(w, b, &calls[0], 1);
	submit(w, c, &calls[1], 2);
	pass(w, 100);
	assert_string_equal(asked(w), "");
	vac_registry_cancel(&w->registry, &calls[0].waiter);
	assert_int_equal(b->state, VAC_REGISTRY_ABSENT);
	pass(w, 0);
	assert_string_equal(asked(w), "load c;");
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	/* A load that was asked goes on. */
	vac_registry_cancel(&w->registry, &calls[1].waiter);
	assert_int_equal(c->state, VAC_REGISTRY_LOADING);
}

/* ---- priority in line ---- */

/* A resident that is not to go before a minute is over: loads wait in line. */
static struct vac_model *blocker(struct world *w)
{
	say(w, "blocker")->min_resident_ms = 60 * 1000;
	return resident(w, "blocker", "90,5,0");
}

static void test_higher_priority_stands_before_lower(void **state)
{
	struct world *w = *state;
	struct vac_model *names[5];
	struct call calls[5] = {0};

	w->quiet = true;
	blocker(w);
	say(w, "high1")->priority = say(w, "high2")->priority = 5;
	say(w, "low")->priority = -1;
	names[0] = model_of(w, "low", "10,1,0");
	names[1] = model_of(w, "plain1", "10,1,0");
	names[2] = model_of(w, "high1", "10,1,0");
	names[3] = model_of(w, "plain2", "10,1,0");
	names[4] = model_of(w, "high2", "10,1,0");
	for (int i = 0; i < 5; i++) {
		submit(w, names[i], &calls[i], i);
		pass(w, 10);
	}
	w->quiet = false;
	pass(w, 60 * 1000);
	assert_string_equal(asked(w), "unload blocker evicted;");
	unloaded(w, w->devices[0].unloading);
	assert_string_equal(asked(w), "load high1;load high2;load plain1;load plain2;load low;");
}

/* Without an end to loads of a higher priority a low one gets its turn. */
static void test_low_priority_does_not_starve(void **state)
{
	struct world *w = *state;
	struct vac_model *low, *high[3];
	struct call calls[4] = {0};

	w->quiet = true;
	blocker(w);
	for (int i = 0; i < 3; i++) {
		static const char *const names[3] = {"high0", "high1", "high2"};

		say(w, names[i])->priority = 100;
		high[i] = model_of(w, names[i], "90,1,0");
	}
	low = model_of(w, "low", "90,1,0");
	submit(w, high[0], &calls[1], 1);
	submit(w, low, &calls[0], 0);
	pass(w, VAC_PATIENCE_MS - 1);
	submit(w, high[1], &calls[2], 2); /* passes low */
	pass(w, 1);
	submit(w, high[2], &calls[3], 3); /* does not any more */
	assert_ptr_equal(VAC_MODEL_AT(w->devices[0].line.first, line), high[0]);
	assert_ptr_equal(VAC_MODEL_AT(high[0]->line.next, line), high[1]);
	assert_ptr_equal(VAC_MODEL_AT(high[1]->line.next, line), low);
	assert_ptr_equal(VAC_MODEL_AT(low->line.next, line), high[2]);
}

/* ---- memory of others ---- */

static void test_memory_of_others_counts(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0"), *b = resident(w, "b", "30,5,0");
	struct vac_model *c = model_of(w, "c", "20,5,0");
	struct call call = {0};

	w->others_mib = 10000 - 65 - 5; /* 5 free, where the budget has 15 and c needs 20 */
	submit(w, c, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a evicted;");
	unloaded(w, a);
	/* They took more meanwhile: measured again, and the next one goes. */
	w->others_mib += 30;
	pass(w, VAC_ROOM_AGE_MS);
	assert_int_equal(b->state, VAC_REGISTRY_RESIDENT);
	asked(w);
}

static void test_room_is_measured_after_an_eviction(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0"), *b = resident(w, "b", "30,5,0");
	struct vac_model *c = model_of(w, "c", "20,5,0");
	struct call call = {0};

	w->others_mib = 10000 - 65 - 5;
	submit(w, c, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a evicted;");
	w->others_mib += 20; /* while a leaves */
	unloaded(w, a);
	pass(w, 0);
	assert_string_equal(asked(w), "unload b evicted;");
	unloaded(w, b);
	assert_string_equal(asked(w), "load c;");
}

/* Nobody here could make room: no one is evicted in vain, those behind pass,
 * and the load goes on when the memory is back. */
static void test_others_hold_all(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "10,5,0"), *b = model_of(w, "b", "50,5,0");
	struct vac_model *c = model_of(w, "c", "5,5,0");
	struct call calls[2] = {0};

	w->others_mib = 10000 - 15 - 10;
	submit(w, b, &calls[0], 1);
	submit(w, c, &calls[1], 2);
	assert_string_equal(asked(w), "load c;");
	loaded(w, c);
	pass(w, 5000);
	assert_string_equal(asked(w), "run 2;");
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	vac_admission_explain(&w->registry, b, &w->last_error);
	assert_int_equal(w->last_error.code, VAC_E_TIMEOUT);
	assert_non_null(strstr(w->last_error.message, "waited 5.0 s for room"));
	w->others_mib = 0;
	pass(w, VAC_ROOM_POLL_MS);
	assert_string_equal(asked(w), "load b;");
}

/* ---- size ---- */

static int64_t clock_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * INT64_C(1000000000) + at.tv_nsec;
}

enum { KNOWN = 10000, RESIDENT = 2000, ROUNDS = 101 };

/* 10,000 models are known, 2,000 of them resident. */
static void fill(struct world *w, bool priorities)
{
	char name[16];

	w->quiet = true;
	w->devices[0].budget.limit.bytes = (RESIDENT * 4 + 1) * MIB;
	for (int i = 0; i < KNOWN; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		w->registry.options.defaults.priority = priorities ? i * 7919 % KNOWN : 0;
		model_of(w, name, "4,1,0");
	}
	for (int i = 0; i < RESIDENT; i++) {
		snprintf(name, sizeof(name), "m%d", i * 5);
		resident(w, name, "4,1,0");
	}
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* The decision whom to evict takes at most 100 us, and the request that finds its
 * model no longer. */
static void measure_decisions(struct world *w, const char *what)
{
	int64_t took[ROUNDS];
	char name[16];

	for (int i = 0; i < ROUNDS; i++) {
		struct vac_model *model;
		struct call call = {0};
		int64_t began_ns;

		snprintf(name, sizeof(name), "m%d", i * 5 + 1);
		pass(w, 100);
		began_ns = clock_ns();
		model = vac_registry_find(&w->registry, name);
		submit(w, model, &call, i); /* decides the eviction */
		took[i] = clock_ns() - began_ns;
		assert_int_equal(w->devices[0].evictions, i + 1);
		pass(w, 0);
		unloaded(w, w->devices[0].unloading);
		loaded(w, model);
		vac_registry_done(&w->registry, &call.waiter, true);
		pass(w, TURN_MS + 1);
	}
	/* The median: this machine has others to serve, too. */
	qsort(took, ROUNDS, sizeof(took[0]), by_size);
	print_message("eviction decision, %d known, %d resident%s: median %.1f us, p90 %.1f us\n",
		      KNOWN, RESIDENT, what, (double)took[ROUNDS / 2] / 1e3,
		      (double)took[ROUNDS * 9 / 10] / 1e3);
	assert_true(took[ROUNDS / 2] <= 100 * 1000);
}

static void test_decision_is_quick(void **state)
{
	fill(*state, false);
	measure_decisions(*state, "");
}

/* Lists are in order of priority; where a model stands in them is looked for. */
static void test_use_is_quick_with_priorities(void **state)
{
	struct world *w = *state;
	struct vac_link *link;
	int64_t began_ns, took_ns;
	int requests = 0;

	fill(w, true);
	measure_decisions(w, " of as many priorities");
	began_ns = clock_ns();
	for (link = w->registry.active.first; link; link = link->next) {
		struct call call = {0};

		answer(w, VAC_MODEL_AT(link, active), &call, 1);
		requests++;
	}
	took_ns = (clock_ns() - began_ns) / requests;
	print_message("a request's way through them: %.1f us\n", (double)took_ns / 1e3);
	assert_true(took_ns <= 100 * 1000);
}

/* Whoever can make others give memory back hears how much would do, and no more:
 * models that may leave go first. */
static void test_what_others_hold_is_told(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "40,5,0"), *b = model_of(w, "b", "30,5,0");
	struct call call = {0};

	w->others_mib = 10000 - 45 - 8; /* 8 free; with a gone 53 */
	pass(w, 5000);
	submit(w, b, &call, 2);
	assert_null(w->lacked); /* a goes */
	assert_int_equal(a->state, VAC_REGISTRY_DRAINING);
	pass(w, 1);
	assert_string_equal(asked(w), "unload a evicted;");
	w->others_mib += 30;
	unloaded(w, a);
	assert_ptr_equal(w->lacked, b);
	assert_int_equal(w->lacked_bytes, (35 - 23) * MIB);
	assert_true(b->load_held);
	w->others_mib -= 12;
	/* somebody counts on that room */
	w->devices[0].held = true;
	pass(w, 1000);
	assert_true(b->load_held);
	w->devices[0].held = false;
	w->wake_at_ns = w->now_ns; /* who held it says so */
	pass(w, 1000);
	assert_false(b->load_held);
}

static void test_a_load_in_line_is_refused(void **state)
{
	const struct vac_error why = {.code = VAC_E_NO_ROOM, .message = "process 7 holds it"};
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "40,5,0");
	struct call call = {0};

	w->others_mib = 9990;
	submit(w, a, &call, 1);
	assert_ptr_equal(w->lacked, a);
	vac_registry_refuse(&w->registry, a, &why);
	assert_true(call.finished && call.failed);
	assert_string_equal(w->last_error.message, why.message);
	assert_int_equal(a->state, VAC_REGISTRY_FAILED);
	assert_int_equal(w->devices[0].refusals, 1);
	/* not of one that is in no line */
	vac_registry_refuse(&w->registry, a, &why);
	assert_int_equal(w->devices[0].refusals, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_limited, world_end)
	const struct CMUnitTest tests[] = {
		TEST(test_loads_that_fit_go_at_once),
		TEST(test_plan_comes_first),
		TEST(test_unloads_and_plans_take_turns),
		TEST(test_what_can_never_fit_is_refused),
		TEST(test_line_is_first_come_first_served),
		TEST(test_nobody_waits_any_more),
		TEST(test_higher_priority_stands_before_lower),
		TEST(test_low_priority_does_not_starve),
		TEST(test_memory_of_others_counts),
		TEST(test_room_is_measured_after_an_eviction),
		TEST(test_others_hold_all),
		TEST(test_what_others_hold_is_told),
		TEST(test_a_load_in_line_is_refused),
		TEST(test_decision_is_quick),
		TEST(test_use_is_quick_with_priorities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
