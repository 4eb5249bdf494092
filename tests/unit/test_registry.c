/*
 * test_registry.c - the states of models, driven with a clock of the test's
 * own and a table of operations that only writes down what was asked.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/registry.h"

#define MS        INT64_C(1000000)
#define KEEP_MS   1000
#define MAX_QUEUE 4
#define WORKER(n) ((struct vac_worker *)(uintptr_t)(0x1000 * (n)))

struct world {
	struct vac_registry registry;
	int64_t now_ns, wake_at_ns; /* wake_at_ns 0: nothing is wanted */
	char log[512];              /* what was asked: "load a;run 1;" */
	struct vac_worker *worker;  /* of loads */
	int receipts;               /* of died() */
	struct vac_error last_error;
};

static const struct vac_error gone = {.code = VAC_E_GONE, .message = "killed"};

struct call {
	struct vac_waiter waiter;
	int number;
	bool finished, failed;
};

struct seen {
	struct vac_watch watch;
	int count;
	bool with_receipt;
	uint64_t id;
};

static void note(struct world *w, const char *fmt, ...)
{
	size_t n = strlen(w->log);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->log + n, sizeof(w->log) - n, fmt, ap);
	va_end(ap);
}

static int64_t now_ns(void *ctx)
{
	return ((struct world *)ctx)->now_ns;
}

static void load(void *ctx, struct vac_model *model)
{
	struct world *w = ctx;

	model->worker = w->worker;
	note(w, "load %s;", model->name);
}

static void run(void *ctx, struct vac_model *model, struct vac_waiter *waiter)
{
	(void)model;
	note(ctx, "run %d;", ((struct call *)waiter)->number);
}

static void unload(void *ctx, struct vac_model *model)
{
	note(ctx, "unload %s %d;", model->name, (int)model->reason);
}

static void finish(void *ctx, struct vac_waiter *waiter, const struct vac_error *why)
{
	struct call *call = (struct call *)waiter;
	struct world *w = ctx;

	call->finished = true;
	call->failed = why != NULL;
	if (why)
		w->last_error = *why;
	note(w, why ? "fail %d;" : "done %d;", call->number);
}

static void died(void *ctx, struct vac_model *model, struct vac_receipt *receipt)
{
	struct world *w = ctx;

	w->receipts++;
	receipt->id = 77;
	receipt->reason = model->reason;
	note(w, "died %s %d;", model->name, (int)model->reason);
}

static void wake_at(void *ctx, int64_t at_ns)
{
	struct world *w = ctx;

	if (w->wake_at_ns == 0 || at_ns < w->wake_at_ns)
		w->wake_at_ns = at_ns;
}

static const struct vac_registry_ops ops = {
	.now_ns = now_ns,
	.load = load,
	.run = run,
	.unload = unload,
	.finish = finish,
	.died = died,
	.wake_at = wake_at,
};

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	w->now_ns = 1000 * MS;
	w->worker = WORKER(1);
	vac_registry_init(
		&w->registry, &ops, w,
		&(struct vac_registry_options){.keep_alive_ms = KEEP_MS, .max_queue = MAX_QUEUE},
		NULL);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	/* The calls lay on the stack of the test that is over. */
	for (struct vac_model *m = w->registry.models; m; m = m->next)
		m->waiting = m->running = (struct vac_waiter_list){0};
	vac_registry_free(&w->registry);
	free(w);
	return 0;
}

/* The log since the last call. */
static const char *asked(struct world *w)
{
	static char copy[sizeof(w->log)];

	memcpy(copy, w->log, sizeof(copy));
	w->log[0] = '\0';
	return copy;
}

/* What the timer does: at least as late as was wanted. */
static void pass(struct world *w, int64_t ms)
{
	int64_t end_ns = w->now_ns + ms * MS;
	int ticks = 0;

	while (w->wake_at_ns != 0 && w->wake_at_ns <= end_ns) {
		if (w->wake_at_ns > w->now_ns)
			w->now_ns = w->wake_at_ns;
		w->wake_at_ns = 0;
		vac_registry_tick(&w->registry);
		/* Ticks that want themselves again at once would spin the loop. */
		assert_true(++ticks < 5);
	}
	w->now_ns = end_ns;
}

static struct vac_model *model_of(struct world *w, const char *name)
{
	struct vac_model *model = vac_registry_enter(&w->registry, name, "/models/x");

	assert_non_null(model);
	return model;
}

static void submit(struct world *w, struct vac_model *model, struct call *call, int number)
{
	struct vac_error err;

	call->number = number;
	assert_int_equal(vac_registry_submit(&w->registry, model, &call->waiter, &err), 0);
}

static struct vac_model *resident(struct world *w, const char *name)
{
	static const struct vac_model_info info = {.ledger_bytes = 4096};
	struct vac_model *model = model_of(w, name);
	struct call call = {.waiter = {.load_only = true}};

	submit(w, model, &call, 0);
	vac_registry_loaded(&w->registry, model, &info);
	assert_true(call.finished && !call.failed);
	pass(w, 0);
	asked(w);
	return model;
}

static void loaded(struct world *w, struct vac_model *model)
{
	static const struct vac_model_info info = {.ledger_bytes = 4096};

	vac_registry_loaded(&w->registry, model, &info);
}

static void on_unloaded(struct vac_watch *watch, const struct vac_receipt *receipt)
{
	struct seen *seen = (struct seen *)watch;

	seen->count++;
	seen->with_receipt = receipt != NULL;
	seen->id = receipt ? receipt->id : 0;
}

static void unloaded(struct world *w, struct vac_model *model, uint64_t id)
{
	struct vac_receipt receipt = {.id = id};

	vac_registry_unloaded(&w->registry, model, &receipt);
}

/* ---- loads ---- */

static void test_single_flight(void **state)
{
	struct world *w = *state;
	struct vac_model *m = model_of(w, "a");
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
	struct vac_model *m = model_of(w, "a");
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
	struct vac_model *m = model_of(w, "a");
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
	struct vac_model *m = resident(w, "a"), *other = resident(w, "b");
	struct call calls[MAX_QUEUE + 1] = {0};
	struct vac_error err;

	for (int i = 0; i < MAX_QUEUE; i++)
		submit(w, m, &calls[i], i);
	assert_int_equal(vac_registry_submit(&w->registry, m, &calls[MAX_QUEUE].waiter, &err),
			 -EAGAIN);
	assert_int_equal(err.code, VAC_E_BUSY);
	assert_non_null(strstr(err.message, "model a"));
	assert_int_equal(calls[MAX_QUEUE].waiter.state, VAC_WAITER_IDLE);
	submit(w, other, &calls[MAX_QUEUE], 9);
	vac_registry_done(&w->registry, &calls[0].waiter, true);
	submit(w, m, &calls[0], 10);
}

/* ---- idle ---- */

static void test_idle_model_leaves(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a");
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
	assert_string_equal(asked(w), "unload a 2;");
	assert_int_equal(m->state, VAC_REGISTRY_DRAINING);
	unloaded(w, m, 1);
	assert_int_equal(m->state, VAC_REGISTRY_ABSENT);
	pass(w, 10 * KEEP_MS);
	assert_string_equal(asked(w), "");
}

static void test_keep_alive_of_a_request(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a");
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
	assert_string_equal(asked(w), "unload a 2;");
	unloaded(w, m, 1);
	/* The next life begins with the server's own keep_alive. */
	resident(w, "a");
	assert_int_equal(m->keep_alive_ms, KEEP_MS);
}

/* ---- unloads ---- */

static void test_unload_drains(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a");
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
	assert_string_equal(asked(w), "unload a 1;");
	assert_true(vac_registry_load_waits(&w->registry, WORKER(1)));
	unloaded(w, m, 42);
	/* Who came later loads it again. */
	assert_string_equal(asked(w), "load a;");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(seen[i].count, 1);
		assert_int_equal(seen[i].id, 42);
	}
	loaded(w, m);
	assert_string_equal(asked(w), "run 2;");
	assert_false(m->drop_cache);
}

static void test_unload_of_what_is_not_there(void **state)
{
	struct world *w = *state;
	struct vac_model *m = model_of(w, "a");
	struct seen seen = {.watch.done = on_unloaded};

	assert_false(vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen.watch));
	pass(w, 10);
	assert_int_equal(seen.count, 0);
	assert_string_equal(asked(w), "");
}

static void test_unload_while_loading(void **state)
{
	struct world *w = *state;
	struct vac_model *m = model_of(w, "a");
	struct call call = {0};
	struct seen seen = {.watch.done = on_unloaded};
	struct vac_error why;

	submit(w, m, &call, 1);
	assert_true(vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen.watch));
	pass(w, 10);
	loaded(w, m);
	pass(w, 10);
	assert_string_equal(asked(w), "load a;run 1;"); /* who waited is answered */
	vac_registry_done(&w->registry, &call.waiter, true);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a 1;");
	unloaded(w, m, 1);
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
	struct vac_model *a = resident(w, "a"), *b = resident(w, "b"), *c = model_of(w, "c");
	struct call call = {0};

	vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL);
	vac_registry_unload(&w->registry, b, VAC_UNLOAD_REQUEST, false, NULL);
	pass(w, 0);
	/* Newer entries stand first. */
	assert_string_equal(asked(w), "unload b 1;");
	submit(w, c, &call, 1);
	pass(w, 10);
	assert_string_equal(asked(w), ""); /* the load is held: b is being measured */
	assert_true(vac_registry_load_waits(&w->registry, WORKER(1)));
	unloaded(w, b, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "load c;");
	pass(w, 10);
	assert_string_equal(asked(w), "");
	loaded(w, c);
	pass(w, 0);
	assert_string_equal(asked(w), "run 1;unload a 1;");
	unloaded(w, a, 2);
}

/* The idle model could not leave yet: it must not turn requests away meanwhile. */
static void test_idle_model_answers_while_another_loads(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a"), *b = model_of(w, "b");
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
	assert_string_equal(asked(w), "run 1;unload a 2;");
	unloaded(w, a, 1);
}

static void test_watch_can_leave(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a");
	struct seen seen[2] = {{.watch.done = on_unloaded}, {.watch.done = on_unloaded}};

	for (int i = 0; i < 2; i++)
		vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen[i].watch);
	vac_registry_unwatch(&w->registry, &seen[0].watch);
	pass(w, 0);
	unloaded(w, m, 5);
	assert_int_equal(seen[0].count, 0);
	assert_int_equal(seen[1].count, 1);
}

/* ---- deaths ---- */

static void test_worker_death_retries_once(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a");
	struct call call = {0};

	submit(w, m, &call, 1);
	asked(w);
	vac_registry_worker_gone(&w->registry, WORKER(2), NULL, &gone); /* not its worker */
	assert_int_equal(m->state, VAC_REGISTRY_RESIDENT);
	vac_registry_worker_gone(&w->registry, WORKER(1), NULL, &gone);
	assert_string_equal(asked(w), "died a 4;");
	assert_int_equal(m->state, VAC_REGISTRY_ABSENT);
	w->worker = WORKER(2);
	assert_true(vac_registry_lost(&w->registry, &call.waiter));
	assert_string_equal(asked(w), "load a;");
	loaded(w, m);
	assert_string_equal(asked(w), "run 1;");
	vac_registry_worker_gone(&w->registry, WORKER(2), NULL, &gone);
	assert_false(vac_registry_lost(&w->registry, &call.waiter));
	assert_int_equal(call.waiter.state, VAC_WAITER_IDLE);
	assert_int_equal(m->task_errors, 1);
	assert_int_equal(w->receipts, 2);
	assert_string_equal(asked(w), "died a 4;");
}

static void test_death_of_a_draining_model_ends_its_unload(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a");
	struct call running = {0}, waiting = {0};
	struct seen seen = {.watch.done = on_unloaded};

	submit(w, m, &running, 1);
	vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, &seen.watch);
	submit(w, m, &waiting, 2);
	asked(w);
	vac_registry_worker_gone(&w->registry, WORKER(1), NULL, &gone);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.id, 77);
	assert_string_equal(asked(w), "died a 4;load a;");
	assert_true(vac_registry_lost(&w->registry, &running.waiter));
	loaded(w, m);
	assert_string_equal(asked(w), "run 1;run 2;"); /* as they came */
}

static void test_death_while_unloading_is_the_unloads_affair(void **state)
{
	struct world *w = *state;
	struct vac_model *m = resident(w, "a");

	vac_registry_unload(&w->registry, m, VAC_UNLOAD_REQUEST, false, NULL);
	pass(w, 0);
	asked(w);
	vac_registry_worker_gone(&w->registry, WORKER(1), NULL, &gone);
	assert_string_equal(asked(w), "");
	assert_int_equal(m->state, VAC_REGISTRY_DRAINING);
	unloaded(w, m, 3);
	assert_int_equal(m->state, VAC_REGISTRY_ABSENT);
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
	struct vac_model *a = model_of(w, "a"), *c;
	bool several;

	assert_ptr_equal(model_of(w, "a"), a);
	assert_null(vac_registry_only(&w->registry, &several));
	assert_false(several);
	model_of(w, "b");
	c = resident(w, "c");
	assert_ptr_equal(vac_registry_only(&w->registry, &several), c);
	/* A resident model keeps its directory, an absent one takes the new. */
	assert_ptr_equal(vac_registry_enter(&w->registry, "c", "/elsewhere"), c);
	assert_string_equal(c->dir, "/models/x");
	assert_ptr_equal(vac_registry_enter(&w->registry, "a", "/elsewhere"), a);
	assert_string_equal(a->dir, "/elsewhere");
	vac_registry_sweep(&w->registry, keep_b, NULL);
	assert_null(vac_registry_find(&w->registry, "a"));
	assert_non_null(vac_registry_find(&w->registry, "b"));
	assert_ptr_equal(vac_registry_find(&w->registry, "c"), c);
	assert_int_equal(w->registry.model_count, 2);
	resident(w, "a");
	assert_null(vac_registry_only(&w->registry, &several));
	assert_true(several);
	assert_int_equal(vac_registry_models_on(&w->registry, WORKER(1)), 2);
	assert_int_equal(vac_registry_models_on(&w->registry, WORKER(2)), 0);
}

static void test_close(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a"), *b = model_of(w, "b"), *c = resident(w, "c");
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
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
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
		TEST(test_worker_death_retries_once),
		TEST(test_death_of_a_draining_model_ends_its_unload),
		TEST(test_death_while_unloading_is_the_unloads_affair),
		TEST(test_table),
		TEST(test_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
