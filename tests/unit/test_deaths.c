/*
 * test_deaths.c - workers that die: what is tried again, who is blamed, who comes
 * back.
 */
#include <errno.h>

#include "registry_world.h"

struct seen {
	struct vac_watch watch;
	int count;
	bool with_receipt;
	uint64_t id;
};

static void on_unloaded(struct vac_watch *watch, const struct vac_receipt *receipt)
{
	struct seen *seen = (struct seen *)watch;

	seen->count++;
	seen->with_receipt = receipt != NULL;
	seen->id = receipt ? receipt->id : 0;
}

/* ---- of one model ---- */

static void test_worker_death_retries_once(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a", "1,1,0");
	struct call call = {0};

	submit(w, m, &call, 1);
	asked(w);
	vac_registry_worker_gone(&w->registry, OTHER, NULL, &killed); /* not its worker */
	assert_int_equal(m->state, VAC_REGISTRY_RESIDENT);
	vac_registry_worker_gone(&w->registry, WORKER, NULL, &killed);
	assert_string_equal(asked(w), "died a;");
	assert_int_equal(m->state, VAC_REGISTRY_ABSENT);
	w->worker = OTHER;
	assert_true(vac_registry_lost(&w->registry, &call.waiter));
	assert_string_equal(asked(w), "load a;");
	loaded(w, m);
	assert_string_equal(asked(w), "run 1;");
	vac_registry_worker_gone(&w->registry, OTHER, NULL, &killed);
	assert_false(vac_registry_lost(&w->registry, &call.waiter));
	assert_int_equal(call.waiter.state, VAC_WAITER_IDLE);
	assert_int_equal(m->task_errors, 1);
	assert_int_equal(w->receipts, 2);
	assert_string_equal(asked(w), "died a;");
}

static void test_death_of_a_draining_model_ends_its_unload(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a", "1,1,0");
	struct call running = {0}, waiting = {0};
	struct seen seen = {.watch.done = on_unloaded};

	submit(w, m, &running, 1);
	vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen.watch);
	submit(w, m, &waiting, 2);
	asked(w);
	vac_registry_worker_gone(&w->registry, WORKER, NULL, &killed);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.id, 77);
	assert_string_equal(asked(w), "died a;load a;");
	assert_true(vac_registry_lost(&w->registry, &running.waiter));
	loaded(w, m);
	assert_string_equal(asked(w), "run 1;run 2;"); /* as they came */
}

static void test_death_while_unloading_is_the_unloads_affair(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a", "1,1,0");

	vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, NULL);
	pass(w, 0);
	asked(w);
	vac_registry_worker_gone(&w->registry, WORKER, NULL, &killed);
	assert_string_equal(asked(w), "");
	assert_int_equal(m->state, VAC_REGISTRY_DRAINING);
	unloaded(w, m);
	assert_int_equal(m->state, VAC_REGISTRY_ABSENT);
}

/* ---- of several: blame ---- */

static void test_set_aside(void **state)
{
	struct world *w = *state;
	struct vac_model *bad = model_of(w, "bad", "10,5,0"), *good = model_of(w, "good", "10,5,0");
	struct call calls[3] = {0};
	struct vac_error err;

	submit(w, bad, &calls[0], 1);
	submit(w, good, &calls[1], 2);
	for (int i = 1; i <= 3; i++) {
		loaded(w, bad);
		loaded(w, good);
		vac_registry_worker_gone(&w->registry, WORKER, bad, &killed);
		assert_int_equal(bad->strikes, i);
		assert_true(vac_registry_lost(&w->registry, &calls[1].waiter)); /* innocent */
		if (i == 3)
			break;
		/* Its first request ends with the second death; another comes. */
		assert_int_equal(vac_registry_lost(&w->registry, &calls[0].waiter), i == 1);
		if (i == 2)
			submit(w, bad, &calls[0], 3);
	}
	assert_false(vac_registry_lost(&w->registry, &calls[0].waiter));
	assert_true(bad->set_aside);
	assert_int_equal(bad->state, VAC_REGISTRY_FAILED);
	assert_non_null(strstr(bad->failure.message, "3 times in a row"));
	assert_non_null(strstr(bad->failure.message, "worker 9 was killed"));
	assert_int_equal(good->state, VAC_REGISTRY_LOADING);
	assert_int_equal(good->strikes, 0);
	/* Requests do not bring it back, asking for the load does. */
	calls[2] = (struct call){0};
	assert_int_equal(vac_registry_submit(&w->registry, bad, &calls[2].waiter, &err), -EPIPE);
	assert_non_null(strstr(err.message, "set aside"));
	calls[2].waiter.load_only = true;
	asked(w);
	submit(w, bad, &calls[2], 4);
	assert_string_equal(asked(w), "load bad;");
	loaded(w, bad);
	assert_true(calls[2].finished && !calls[2].failed);
	assert_false(bad->set_aside);
	assert_int_equal(bad->strikes, 0);
}

static void test_an_answer_forgives(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "10,5,0");
	struct call call = {0};

	for (int i = 0; i < 5; i++) {
		submit(w, a, &call, 1);
		loaded(w, a);
		vac_registry_worker_gone(&w->registry, WORKER, a, &killed);
		assert_true(vac_registry_lost(&w->registry, &call.waiter));
		assert_int_equal(a->strikes, 1);
		loaded(w, a);
		vac_registry_done(&w->registry, &call.waiter, true);
		assert_int_equal(a->strikes, 0);
		vac_registry_worker_gone(&w->registry, WORKER, NULL, &killed); /* idle */
		assert_int_equal(a->state, VAC_REGISTRY_ABSENT);
	}
}

static struct vac_model *pinned_resident(struct world *w)
{
	say(w, "pinned")->pin = true;
	return resident(w, "pinned", "10,5,0");
}

static void test_deaths_in_loads(void **state)
{
	struct world *w = *state;
	struct vac_model *bad = model_of(w, "bad", "10,5,0"), *good = model_of(w, "good", "10,5,0");
	struct vac_model *pinned = pinned_resident(w);
	struct vac_model *idle = resident(w, "idle", "10,5,0");
	struct call calls[2] = {0};

	submit(w, bad, &calls[0], 1);
	submit(w, good, &calls[1], 2);
	asked(w);
	for (int i = 1; i <= 2; i++) {
		assert_null(vac_registry_suspect(&w->registry, WORKER)); /* two loads */
		vac_registry_worker_gone(&w->registry, WORKER, bad, &killed);
		assert_int_equal(vac_registry_load_lost(&w->registry, bad, &killed), i == 1);
		assert_true(vac_registry_load_lost(&w->registry, good, &killed));
		if (i == 1)
			assert_string_equal(asked(w), "died idle;died pinned;load pinned;"
						      "load bad;load good;");
		if (i == 1)
			loaded(w, pinned);
	}
	vac_registry_load_failed(&w->registry, bad, &killed);
	assert_int_equal(bad->strikes, 2);
	assert_int_equal(idle->state, VAC_REGISTRY_ABSENT); /* nobody waits for it */
	submit(w, bad, &calls[0], 3);
	vac_registry_worker_gone(&w->registry, WORKER, bad, &killed);
	assert_false(vac_registry_load_lost(&w->registry, bad, &killed));
	vac_registry_load_failed(&w->registry, bad, &killed);
	assert_true(bad->set_aside);
	assert_non_null(strstr(w->last_error.message, "set aside"));
	assert_true(vac_registry_load_lost(&w->registry, good, &killed));
}

/* Of several on a worker those that are pinned or waited for are loaded again by
 * themselves, and the others wait until they are asked for. */
static void test_the_innocent_come_back(void **state)
{
	struct world *w = *state;
	struct vac_model *bad = resident(w, "bad", "10,5,0"), *pinned = pinned_resident(w);
	struct vac_model *busy = resident(w, "busy", "10,5,0");
	struct vac_model *waited = resident(w, "waited", "10,5,0");
	struct vac_model *idle = resident(w, "idle", "10,5,0");
	struct call calls[4] = {0};

	submit(w, bad, &calls[0], 1);
	submit(w, busy, &calls[1], 2);
	/* It drains, so that who comes now waits. */
	submit(w, waited, &calls[2], 3);
	vac_registry_unload(&w->registry, waited, VAC_UNLOAD_REQUEST, false, NULL);
	submit(w, waited, &calls[3], 4);
	asked(w);
	vac_registry_worker_gone(&w->registry, WORKER, bad, &killed);
	w->worker = OTHER;
	assert_true(vac_registry_lost(&w->registry, &calls[1].waiter));
	assert_true(vac_registry_lost(&w->registry, &calls[2].waiter));
	pass(w, 0);
	assert_int_equal(pinned->state, VAC_REGISTRY_LOADING);
	assert_int_equal(busy->state, VAC_REGISTRY_LOADING);
	assert_int_equal(waited->state, VAC_REGISTRY_LOADING);
	assert_int_equal(idle->state, VAC_REGISTRY_ABSENT);
	asked(w);
	loaded(w, pinned);
	loaded(w, busy);
	loaded(w, waited);
	assert_string_equal(asked(w), "run 2;run 3;run 4;");
	assert_int_equal(calls[1].waiter.losses + calls[2].waiter.losses, 0);
	assert_int_equal(pinned->strikes + busy->strikes + waited->strikes, 0);
}

/* Nobody knows who did it: a request is tried on two workers, as ever. */
static void test_death_without_a_culprit(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "10,5,0"), *b = resident(w, "b", "10,5,0");
	struct call calls[2] = {0};

	submit(w, a, &calls[0], 1);
	assert_ptr_equal(vac_registry_suspect(&w->registry, WORKER), a);
	submit(w, b, &calls[1], 2);
	assert_null(vac_registry_suspect(&w->registry, WORKER));
	vac_registry_worker_gone(&w->registry, WORKER, NULL, &killed);
	assert_true(vac_registry_lost(&w->registry, &calls[0].waiter));
	assert_true(vac_registry_lost(&w->registry, &calls[1].waiter));
	loaded(w, a);
	loaded(w, b);
	vac_registry_worker_gone(&w->registry, WORKER, NULL, &killed);
	assert_false(vac_registry_lost(&w->registry, &calls[0].waiter));
	assert_false(vac_registry_lost(&w->registry, &calls[1].waiter));
	assert_int_equal(a->strikes + b->strikes, 0);
}

/* Innocence has an end, too. */
static void test_innocent_tries_are_bounded(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "10,5,0"), *b = model_of(w, "b", "10,5,0");
	struct call call = {0};
	uint32_t tries = 0;

	submit(w, a, &call, 1);
	do {
		loaded(w, a);
		vac_registry_worker_gone(&w->registry, WORKER, b, &killed);
		b->strikes = 0;
		tries++;
	} while (vac_registry_lost(&w->registry, &call.waiter));
	assert_int_equal(tries, VAC_MAX_TRIES);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_limited, world_end)
	const struct CMUnitTest tests[] = {
		TEST(test_worker_death_retries_once),
		TEST(test_death_of_a_draining_model_ends_its_unload),
		TEST(test_death_while_unloading_is_the_unloads_affair),
		TEST(test_set_aside),
		TEST(test_an_answer_forgives),
		TEST(test_deaths_in_loads),
		TEST(test_the_innocent_come_back),
		TEST(test_death_without_a_culprit),
		TEST(test_innocent_tries_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
