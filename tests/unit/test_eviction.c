/*
 * test_eviction.c - who makes way for a load, and when.
 */
#include "registry_world.h"

/* ---- evictions ---- */

static void test_least_recently_used_goes_first(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0"), *b = resident(w, "b", "30,5,0");
	struct vac_model *c = resident(w, "c", "30,5,0"), *d = model_of(w, "d", "30,5,0");
	struct call call = {0};

	answer(w, a, &call, 1); /* b is the oldest now */
	asked(w);
	submit(w, d, &call, 2);
	pass(w, 0);
	assert_string_equal(asked(w), "unload b evicted;");
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	unloaded(w, b);
	assert_string_equal(asked(w), "load d;");
	assert_int_equal(c->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(w->devices[0].evictions, 1);
}

/* The small one is older, and would not help: it stays. */
static void test_never_more_than_needed(void **state)
{
	struct world *w = *state;
	struct vac_model *small = resident(w, "small", "5,1,0");
	struct vac_model *large = resident(w, "large", "60,1,0"), *d = model_of(w, "d", "60,1,0");
	struct call call = {0};

	submit(w, d, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload large evicted;");
	unloaded(w, large);
	assert_string_equal(asked(w), "load d;");
	assert_int_equal(small->state, VAC_REGISTRY_RESIDENT);
}

static void test_several_go_one_by_one(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0"), *b = resident(w, "b", "30,5,0");
	struct vac_model *c = resident(w, "c", "30,5,0"), *d = model_of(w, "d", "65,5,0");
	struct call call = {0};

	submit(w, d, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a evicted;");
	pass(w, 100);
	assert_string_equal(asked(w), ""); /* measured before anything else */
	unloaded(w, a);
	pass(w, 0);
	assert_string_equal(asked(w), "unload b evicted;");
	unloaded(w, b);
	assert_string_equal(asked(w), "load d;");
	assert_int_equal(c->state, VAC_REGISTRY_RESIDENT);
}

static void test_pinned_stays(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "30,5,0"), *b = model_of(w, "b", "60,5,0");
	struct vac_model *c = model_of(w, "c", "70,5,0"), *pinned;
	struct call call = {0};

	say(w, "pinned")->pin = true;
	pinned = resident(w, "pinned", "30,5,0");
	pass(w, 2 * (int64_t)KEEP_MS);
	asked(w);
	assert_int_equal(pinned->state, VAC_REGISTRY_RESIDENT); /* idle for long */
	unloaded(w, a);
	a = resident(w, "a", "30,5,0");
	submit(w, b, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a evicted;");
	unloaded(w, a);
	assert_string_equal(asked(w), "load b;");
	loaded(w, b);
	vac_registry_done(&w->registry, &call.waiter, true);
	pass(w, TURN_MS);
	asked(w);
	/* It would fit without the pinned one: told at once, and nobody goes. */
	submit(w, c, &call, 2);
	assert_string_equal(asked(w), "fail 2;");
	assert_int_equal(w->last_error.code, VAC_E_NO_ROOM);
	assert_non_null(strstr(w->last_error.message, "what is pinned (pinned)"));
	assert_int_equal(b->state, VAC_REGISTRY_RESIDENT);
	/* Who asks for it unloads it all the same. */
	assert_true(vac_registry_unload(&w->registry, pinned, VAC_UNLOAD_REQUEST, false, NULL));
	pass(w, 0);
	assert_string_equal(asked(w), "unload pinned request;");
}

static void test_min_resident(void **state)
{
	struct world *w = *state;
	struct vac_model *a, *b = model_of(w, "b", "60,5,0");
	struct call calls[2] = {0};

	say(w, "a")->min_resident_ms = 3 * TURN_MS; /* of the one that is to go */
	a = model_of(w, "a", "60,5,0");
	submit(w, a, &calls[0], 1);
	loaded(w, a);
	vac_registry_done(&w->registry, &calls[0].waiter, true);
	submit(w, b, &calls[1], 2);
	pass(w, 3 * TURN_MS - 1);
	assert_string_equal(asked(w), "load a;run 1;");
	pass(w, 1);
	assert_string_equal(asked(w), "unload a evicted;");
}

static void test_lower_priority_goes_first(void **state)
{
	struct world *w = *state;
	struct vac_model *a, *b, *c, *d, *e = model_of(w, "e", "50,5,0");
	struct call call = {0};

	say(w, "a")->priority = 1;
	say(w, "b")->priority = -1;
	a = resident(w, "a", "20,5,0"); /* the oldest, and the last to go */
	c = resident(w, "c", "20,5,0");
	d = resident(w, "d", "20,5,0");
	b = resident(w, "b", "20,5,0"); /* used last, and the first to go */
	submit(w, e, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "unload b evicted;");
	unloaded(w, b);
	pass(w, 0);
	assert_string_equal(asked(w), "unload c evicted;");
	unloaded(w, c);
	assert_string_equal(asked(w), "load e;");
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(d->state, VAC_REGISTRY_RESIDENT);
}

/* A busy one is not made to wait for others' sake while an idle one can go. */
static void test_idle_goes_before_busy_whatever_the_priority(void **state)
{
	struct world *w = *state;
	struct vac_model *high, *low, *load = model_of(w, "load", "40,5,0");
	struct call calls[2] = {0};

	say(w, "high")->priority = 9;
	say(w, "low")->priority = -9;
	high = resident(w, "high", "40,5,0");
	low = resident(w, "low", "40,5,0");
	submit(w, low, &calls[0], 1);
	submit(w, load, &calls[1], 2);
	pass(w, 0);
	assert_string_equal(asked(w), "run 1;unload high evicted;");
	assert_int_equal(low->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(high->state, VAC_REGISTRY_DRAINING);
}

/* ---- turns ---- */

/* Eight clients each that ask again as soon as they are answered; an answer of
 * all takes 10 ms, a load and an unload 30 ms. */
struct side {
	struct vac_model *model;
	struct call calls[8];
	int answers;
	int64_t last_ns, worst_ns; /* when it last answered; the longest without */
};

static void ask_again(struct world *w, struct side *side)
{
	for (int i = 0; i < 8; i++) {
		if (side->calls[i].waiter.state == VAC_WAITER_IDLE)
			submit(w, side->model, &side->calls[i], i);
	}
}

static void answer_all(struct world *w, struct side *side)
{
	for (int i = 0; i < 8; i++) {
		if (side->calls[i].waiter.state != VAC_WAITER_RUNNING)
			continue;
		vac_registry_done(&w->registry, &side->calls[i].waiter, true);
		side->answers++;
		if (w->now_ns - side->last_ns > side->worst_ns)
			side->worst_ns = w->now_ns - side->last_ns;
		side->last_ns = w->now_ns;
	}
}

static void test_two_that_alternate_both_progress(void **state)
{
	struct world *w = *state;
	struct side sides[2] = {{.model = model_of(w, "a", "60,5,0")},
				{.model = model_of(w, "b", "60,5,0")}};
	int64_t end_ns = w->now_ns + 60 * 1000 * MS, both_ns = w->now_ns, worst_both_ns = 0;
	int64_t move_until_ns = 0;

	w->quiet = true;
	sides[0].last_ns = sides[1].last_ns = w->now_ns;
	while (w->now_ns < end_ns) {
		int answers = sides[0].answers + sides[1].answers;

		for (int i = 0; i < 2; i++)
			ask_again(w, &sides[i]);
		pass(w, 10);
		if (w->devices[0].unloading || w->devices[0].loading > 0) {
			if (move_until_ns == 0)
				move_until_ns = w->now_ns + 30 * MS;
			if (w->now_ns < move_until_ns)
				continue;
			move_until_ns = 0;
			if (w->devices[0].unloading)
				unloaded(w, w->devices[0].unloading);
			for (int i = 0; i < 2; i++) {
				if (sides[i].model->load_asked)
					loaded(w, sides[i].model);
			}
			continue;
		}
		for (int i = 0; i < 2; i++)
			answer_all(w, &sides[i]);
		if (sides[0].answers + sides[1].answers > answers)
			both_ns = w->now_ns;
		if (w->now_ns - both_ns > worst_both_ns)
			worst_both_ns = w->now_ns - both_ns;
	}
	/* Fair, rarely changed, and never longer than a turn and its changes. */
	assert_true(sides[0].answers > 10000 && sides[1].answers > 10000);
	assert_true(abs(sides[0].answers - sides[1].answers) < 3000);
	assert_in_range(w->devices[0].evictions, 40, 60);
	assert_true(sides[0].worst_ns <= (TURN_MS + 300) * MS);
	assert_true(sides[1].worst_ns <= (TURN_MS + 300) * MS);
	assert_true(worst_both_ns <= 150 * MS);
	assert_true(w->devices[0].quick_reloads >= w->devices[0].evictions - 2);
}

/* An answered model whose clients may ask again is left alone for a moment. */
static void test_linger(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "60,5,0"), *b = model_of(w, "b", "60,5,0");
	struct call calls[2] = {0};

	submit(w, a, &calls[0], 1);
	loaded(w, a);
	submit(w, b, &calls[1], 2);
	vac_registry_done(&w->registry, &calls[0].waiter, true);
	pass(w, VAC_LINGER_MS - 1);
	answer(w, a, &calls[0], 3);
	pass(w, VAC_LINGER_MS - 1);
	assert_string_equal(asked(w), "load a;run 1;run 3;");
	pass(w, 1);
	assert_string_equal(asked(w), "unload a evicted;");
}

/* A turn is worth its load. */
static void test_turn_grows_with_the_load(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "60,5,0"), *b = model_of(w, "b", "60,5,0");
	struct call calls[2] = {0};

	submit(w, a, &calls[0], 1);
	w->now_ns += 2000 * MS;
	loaded(w, a);
	submit(w, b, &calls[1], 2);
	pass(w, VAC_TURN_LOADS * 2000 - 1);
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	pass(w, 1);
	assert_int_equal(a->state, VAC_REGISTRY_DRAINING);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_limited, world_end)
	const struct CMUnitTest tests[] = {
		TEST(test_least_recently_used_goes_first),
		TEST(test_never_more_than_needed),
		TEST(test_several_go_one_by_one),
		TEST(test_pinned_stays),
		TEST(test_min_resident),
		TEST(test_lower_priority_goes_first),
		TEST(test_idle_goes_before_busy_whatever_the_priority),
		TEST(test_two_that_alternate_both_progress),
		TEST(test_linger),
		TEST(test_turn_grows_with_the_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
