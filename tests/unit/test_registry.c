/*
 * test_registry.c - the states of models: loads, idle time, unloads, the table.
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

/* ---- loads ---- */

static void test_single_flight(void **state)
{
	struct world *w = *state;
	struct vac_model *m = model_of(w, "a", "1,1,0");
	struct call calls[3] = {0};

	for (int i = 0; i < 3; i++)
		submit(w, m, &calls[i], i + 1);
	assert_string_equal(asked(w), "load a;");
	assert_int_equal(m->state, VAC_REGISTRY_LOADING);
	assert_int_equal(m->waiting.count, 3);
	w->now_ns += 30 * MS;
	loaded(w, m);
	assert_string_equal(asked(w), "run 1;run 2;run 3;");
	assert_int_equal(m->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(m->load_ns, 30 * MS);
	assert_int_equal(m->loads, 1);
	for (int i = 0; i < 3; i++)
		vac_registry_done(&w->registry, &calls[i].waiter, true);
	assert_int_equal(m->requests, 3);
}

static void test_failed_load_tells_all_and_is_tried_again(void **state)
{
	struct world *w = *state;
	struct vac_model *m = model_of(w, "a", "1,1,0");
	struct call calls[2] = {0}, later = {0};
	struct vac_error why;

	submit(w, m, &calls[0], 1);
	calls[1].waiter.load_only = true;
	submit(w, m, &calls[1], 2);
	asked(w);
	vac_fail(&why, VAC_E_UNSUPPORTED, "not served");
	vac_registry_load_failed(&w->registry, m, &why);
	assert_string_equal(asked(w), "fail 1;fail 2;");
	assert_int_equal(w->last_error.code, VAC_E_UNSUPPORTED);
	assert_int_equal(m->state, VAC_REGISTRY_FAILED);
	assert_string_equal(m->failure.message, "not served");
	assert_int_equal(m->load_failures, 1);
	submit(w, m, &later, 3);
	assert_string_equal(asked(w), "load a;");
	assert_int_equal(m->failure.code, VAC_OK);
}

static void test_cancelled_waiter_does_not_end_the_load(void **state)
{
	struct world *w = *state;
	struct vac_model *m = model_of(w, "a", "1,1,0");
	struct call calls[2] = {0};

	submit(w, m, &calls[0], 1);
	vac_registry_cancel(&w->registry, &calls[0].waiter);
	assert_int_equal(m->state, VAC_REGISTRY_LOADING);
	submit(w, m, &calls[1], 2);
	loaded(w, m);
	assert_string_equal(asked(w), "load a;run 2;");
	/* Twice is once. */
	vac_registry_cancel(&w->registry, &calls[0].waiter);
	vac_registry_cancel(&w->registry, &calls[1].waiter);
	assert_int_equal(m->running.count, 0);
	assert_int_equal(m->requests, 0);
}

static void test_queue_is_bounded(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a", "1,1,0"), *other = resident(w, "b", "1,1,0");
	struct call calls[MAX_CALLS + 1] = {0};
	struct vac_error err;

	for (int i = 0; i < MAX_CALLS; i++)
		submit(w, m, &calls[i], i);
	assert_int_equal(vac_registry_submit(&w->registry, m, &calls[MAX_CALLS].waiter, &err),
			 -EAGAIN);
	assert_int_equal(err.code, VAC_E_BUSY);
	assert_non_null(strstr(err.message, "model a"));
	assert_int_equal(calls[MAX_CALLS].waiter.state, VAC_WAITER_IDLE);
	submit(w, other, &calls[MAX_CALLS], 9);
	vac_registry_done(&w->registry, &calls[0].waiter, true);
	submit(w, m, &calls[0], 10);
}

/* ---- idle ---- */

static void test_idle_model_leaves(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a", "1,1,0");
	struct call call = {0};

	pass(w, KEEP_MS - 100);
	submit(w, m, &call, 1); /* the clock stands while something runs */
	pass(w, 5 * KEEP_MS);
	assert_string_equal(asked(w), "run 1;");
	assert_int_equal(vac_registry_expires_at_ns(m), -1);
	vac_registry_done(&w->registry, &call.waiter, true);
	pass(w, KEEP_MS - 1);
	assert_string_equal(asked(w), "");
	pass(w, 1);
	assert_string_equal(asked(w), "unload a idle;");
	assert_int_equal(m->state, VAC_REGISTRY_DRAINING);
	unloaded(w, m);
	assert_int_equal(m->state, VAC_REGISTRY_ABSENT);
	pass(w, 10 * KEEP_MS);
	assert_string_equal(asked(w), "");
}

static void test_keep_alive_of_a_request(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a", "1,1,0");
	struct call forever = {.waiter = {.keep_alive_set = true, .keep_alive_ms = -1}};
	struct call plain = {0}, none = {.waiter = {.keep_alive_set = true, .keep_alive_ms = 0}};

	submit(w, m, &forever, 1);
	vac_registry_done(&w->registry, &forever.waiter, true);
	pass(w, 100 * KEEP_MS);
	assert_string_equal(asked(w), "run 1;");
	submit(w, m, &plain, 2); /* it says nothing: for ever still holds */
	vac_registry_done(&w->registry, &plain.waiter, true);
	pass(w, 100 * KEEP_MS);
	assert_string_equal(asked(w), "run 2;");
	plain = (struct call){0};
	submit(w, m, &none, 3);
	submit(w, m, &plain, 4);
	vac_registry_done(&w->registry, &none.waiter, true);
	pass(w, 50); /* one still runs: 0 means when all is answered */
	assert_string_equal(asked(w), "run 3;run 4;");
	vac_registry_done(&w->registry, &plain.waiter, true);
	assert_string_equal(asked(w), ""); /* not before its reply has left */
	pass(w, 0);
	assert_string_equal(asked(w), "unload a idle;");
	unloaded(w, m);
	/* The next life begins with the server's own keep_alive. */
	resident(w, "a", "1,1,0");
	assert_int_equal(m->keep_alive_ms, KEEP_MS);
}

/* ---- unloads ---- */

static void test_unload_drains(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a", "1,1,0");
	struct call before = {0}, after = {0};
	struct seen seen[2] = {{.watch.done = on_unloaded}, {.watch.done = on_unloaded}};

	submit(w, m, &before, 1);
	assert_true(
		vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen[0].watch));
	assert_true(vac_registry_unload(&w->registry, m, VAC_UNLOAD_IDLE, true, &seen[1].watch));
	assert_int_equal(m->reason, VAC_UNLOAD_REQUEST); /* the first decides */
	assert_true(m->drop_cache);
	submit(w, m, &after, 2);
	pass(w, 100);
	assert_string_equal(asked(w), "run 1;");
	vac_registry_done(&w->registry, &before.waiter, true);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a request;");
	assert_true(vac_registry_load_waits(&w->registry, WORKER, "cpu", NULL));
	unloaded(w, m);
	/* Who came later loads it again. */
	assert_string_equal(asked(w), "load a;");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(seen[i].count, 1);
		assert_int_equal(seen[i].id, 1);
	}
	loaded(w, m);
	assert_string_equal(asked(w), "run 2;");
	assert_false(m->drop_cache);
}

static void test_unload_of_what_is_not_there(void **state)
{
	struct world *w = *state;
	struct vac_model *m = model_of(w, "a", "1,1,0");
	struct seen seen = {.watch.done = on_unloaded};

	assert_false(vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen.watch));
	pass(w, 10);
	assert_int_equal(seen.count, 0);
	assert_string_equal(asked(w), "");
}

static void test_unload_while_loading(void **state)
{
	struct world *w = *state;
	struct vac_model *m = model_of(w, "a", "1,1,0");
	struct call call = {0};
	struct seen seen = {.watch.done = on_unloaded};
	struct vac_error why;

	submit(w, m, &call, 1);
	assert_true(vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen.watch));
	pass(w, 10);
	loaded(w, m);
	/* Its receipt says no negative time. */
	assert_int_equal(m->decided_ns, m->resident_ns);
	pass(w, 10);
	assert_string_equal(asked(w), "load a;run 1;"); /* who waited is answered */
	vac_registry_done(&w->registry, &call.waiter, true);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a request;");
	unloaded(w, m);
	assert_int_equal(seen.count, 1);

	/* A load that fails leaves nothing to unload. */
	submit(w, m, &call, 2);
	assert_true(vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen.watch));
	vac_fail(&why, VAC_E_IO, "no");
	vac_registry_load_failed(&w->registry, m, &why);
	assert_int_equal(seen.count, 2);
	assert_false(seen.with_receipt);
	assert_false(m->unload_wanted);
}

static void test_one_unload_at_a_time_and_none_beside_a_load(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "1,1,0"), *b = resident(w, "b", "1,1,0"),
			 *c = model_of(w, "c", "1,1,0");
	struct call call = {0};

	vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL);
	vac_registry_unload(&w->registry, b, VAC_UNLOAD_REQUEST, false, NULL);
	pass(w, 0);
	/* Newer entries stand first. */
	assert_string_equal(asked(w), "unload b request;");
	submit(w, c, &call, 1);
	pass(w, 10);
	assert_string_equal(asked(w), ""); /* the load is held: b is being measured */
	assert_true(vac_registry_load_waits(&w->registry, WORKER, "cpu", NULL));
	unloaded(w, b);
	pass(w, 0);
	assert_string_equal(asked(w), "load c;");
	pass(w, 10);
	assert_string_equal(asked(w), "");
	loaded(w, c);
	pass(w, 0);
	assert_string_equal(asked(w), "run 1;unload a request;");
	unloaded(w, a);
}

/* The idle model could not leave yet: it must not turn requests away meanwhile. */
static void test_idle_model_answers_while_another_loads(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "1,1,0"), *b = model_of(w, "b", "1,1,0");
	struct call call_a = {0}, call_b = {0};

	submit(w, b, &call_b, 1);
	pass(w, KEEP_MS + 10);
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	submit(w, a, &call_a, 2);
	assert_string_equal(asked(w), "load b;run 2;");
	vac_registry_done(&w->registry, &call_a.waiter, true);
	pass(w, KEEP_MS + 10);
	assert_string_equal(asked(w), "");
	loaded(w, b);
	pass(w, 0);
	assert_string_equal(asked(w), "run 1;unload a idle;");
	unloaded(w, a);
}

static void test_watch_can_leave(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a", "1,1,0");
	struct seen seen[2] = {{.watch.done = on_unloaded}, {.watch.done = on_unloaded}};

	for (int i = 0; i < 2; i++)
		vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen[i].watch);
	vac_registry_unwatch(&w->registry, &seen[0].watch);
	pass(w, 0);
	unloaded(w, m);
	assert_int_equal(seen[0].count, 0);
	assert_int_equal(seen[1].count, 1);
}

/* ---- the table ---- */

static bool keep_b(void *ctx, const struct vac_model *model)
{
	(void)ctx;
	return strcmp(model->name, "b") == 0;
}

static void test_table(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "1,1,0"), *c;
	bool several;

	assert_ptr_equal(model_of(w, "a", "1,1,0"), a);
	assert_null(vac_registry_only(&w->registry, &several));
	assert_false(several);
	model_of(w, "b", "1,1,0");
	c = resident(w, "c", "1,1,0");
	assert_ptr_equal(vac_registry_only(&w->registry, &several), c);
	/* A resident model keeps its directory, an absent one takes the new. */
	assert_ptr_equal(vac_registry_enter(&w->registry, "c", "/elsewhere"), c);
	assert_string_equal(c->dir, "1,1,0");
	assert_ptr_equal(vac_registry_enter(&w->registry, "a", "/elsewhere"), a);
	assert_string_equal(a->dir, "/elsewhere");
	vac_registry_sweep(&w->registry, keep_b, NULL);
	assert_null(vac_registry_find(&w->registry, "a"));
	assert_non_null(vac_registry_find(&w->registry, "b"));
	assert_ptr_equal(vac_registry_find(&w->registry, "c"), c);
	assert_int_equal(w->registry.model_count, 2);
	resident(w, "a", "1,1,0");
	assert_null(vac_registry_only(&w->registry, &several));
	assert_true(several);
	assert_int_equal(vac_registry_models_on(&w->registry, WORKER), 2);
	assert_int_equal(vac_registry_models_on(&w->registry, OTHER), 0);
}

static void test_close(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "1,1,0"), *b = model_of(w, "b", "1,1,0"),
			 *c = resident(w, "c", "1,1,0");
	struct call running = {0}, loading = {0}, again = {0}, late = {0};
	struct vac_error err;

	submit(w, a, &running, 1);
	vac_registry_unload(&w->registry, c, VAC_UNLOAD_REQUEST, false, NULL);
	submit(w, c, &again, 2);
	submit(w, b, &loading, 3);
	asked(w);
	vac_registry_close(&w->registry);
	assert_string_equal(asked(w), "fail 2;"); /* it would have loaded c again */
	assert_int_equal(w->last_error.code, VAC_E_GONE);
	assert_int_equal(vac_registry_submit(&w->registry, a, &late.waiter, &err), -EPIPE);
	loaded(w, b);
	assert_string_equal(asked(w), "run 3;"); /* what was asked before is answered */
	vac_registry_done(&w->registry, &loading.waiter, true);
	vac_registry_done(&w->registry, &running.waiter, true);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_unlimited, world_end)
	const struct CMUnitTest tests[] = {
		TEST(test_single_flight),
		TEST(test_failed_load_tells_all_and_is_tried_again),
		TEST(test_cancelled_waiter_does_not_end_the_load),
		TEST(test_queue_is_bounded),
		TEST(test_idle_model_leaves),
		TEST(test_keep_alive_of_a_request),
		TEST(test_unload_drains),
		TEST(test_unload_of_what_is_not_there),
		TEST(test_unload_while_loading),
		TEST(test_one_unload_at_a_time_and_none_beside_a_load),
		TEST(test_idle_model_answers_while_another_loads),
		TEST(test_watch_can_leave),
		TEST(test_table),
		TEST(test_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
