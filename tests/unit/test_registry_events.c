/*
 * test_registry_events.c - what the registry tells of loads, unloads, evictions
 * and refusals: all of it, in order, with its numbers.
 */
#include <errno.h>

#include "registry_world.h"

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(vac_event_kind_name(VAC_EVENT_PLANNED), "planned");
	assert_string_equal(vac_event_kind_name(VAC_EVENT_SET_ASIDE), "set_aside");
	assert_string_equal(vac_event_kind_name(VAC_EVENT_MODEL_PARKED), "model_parked");
	assert_string_equal(vac_event_kind_name((enum vac_event_kind)0), "unknown");
	assert_string_equal(vac_event_kind_name(VAC_EVENT_RESUMED), "resumed");
	assert_string_equal(vac_event_kind_name((enum vac_event_kind)15), "unknown");
}

static void test_load_and_unload(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "40,10,5");
	struct call call = {.waiter = {.load_only = true}};

	w->noting = true;
	submit(w, a, &call, 1);
	assert_string_equal(asked(w), "[planned a][loading a]load a;");
	assert_int_equal(w->event.done_bytes + w->event.total_bytes, 0);
	vac_registry_progress(&w->registry, a, 10, 40);
	assert_string_equal(asked(w), "[loading a]");
	assert_int_equal(w->event.done_bytes, 10);
	assert_int_equal(w->event.total_bytes, 40);
	w->now_ns += 30 * MS;
	loaded(w, a);
	assert_string_equal(asked(w), "[resident a]done 1;");
	assert_int_equal(w->event.bytes, 4096);
	assert_int_equal(w->event.load_ns, 30 * MS);
	vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL);
	assert_string_equal(asked(w), "[draining a]");
	assert_int_equal(w->event.reason, VAC_UNLOAD_REQUEST);
	pass(w, 0);
	unloaded(w, a);
	assert_string_equal(asked(w), "unload a request;[absent a]");
	assert_int_equal(w->event.reason, VAC_UNLOAD_REQUEST);
	assert_non_null(w->event.receipt);
	assert_string_equal(w->event.device, "cpu");
}

static void test_eviction(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "60,10,0"), *b = model_of(w, "b", "50,10,5");
	struct call call = {0};
	struct vac_error err;

	w->noting = true;
	say(w, "a")->min_resident_ms = 10 * TURN_MS;
	assert_int_equal(vac_registry_reconfigure(&w->registry, &err), 0);
	submit(w, b, &call, 1);
	assert_string_equal(asked(w), "[planned b][waiting b]");
	assert_int_equal(w->event.bytes, 65 * MIB);
	pass(w, 3 * TURN_MS);
	assert_string_equal(asked(w), ""); /* said once */
	say(w, "a")->min_resident_ms = 0;
	assert_int_equal(vac_registry_reconfigure(&w->registry, &err), 0);
	w->noting = false;
	vac_registry_tick(&w->registry);
	assert_int_equal(w->event.kind, VAC_EVENT_DRAINING);
	assert_int_equal(w->event.reason, VAC_UNLOAD_EVICTED);
	w->noting = true;
	unloaded(w, a);
	assert_string_equal(asked(w), "unload a evicted;[absent a][loading b]load b;");
}

static struct vac_event evicted;
static char evicted_for[16];

static void keep_eviction(void *ctx, const struct vac_event *event)
{
	(void)ctx;
	if (event->kind != VAC_EVENT_EVICTED)
		return;
	evicted = *event;
	snprintf(evicted_for, sizeof(evicted_for), "%s", event->for_model);
}

static void test_eviction_says_for_whom(void **state)
{
	struct world *w = *state;
	static struct vac_registry_ops ops;
	struct vac_model *a = resident(w, "a", "60,10,0"), *b = model_of(w, "b", "50,10,5");
	struct call call = {0};

	ops = *w->registry.ops;
	ops.noted = keep_eviction;
	w->registry.ops = &ops;
	submit(w, b, &call, 1);
	assert_string_equal(evicted.model, "a");
	assert_string_equal(evicted_for, "b");
	assert_int_equal(evicted.bytes, 60 * MIB);
	assert_int_equal(evicted.reason, VAC_UNLOAD_EVICTED);
	assert_int_equal(a->state, VAC_REGISTRY_DRAINING);
}

static void test_given_up_in_line(void **state)
{
	struct world *w = *state;
	struct vac_model *b = model_of(w, "b", "60,10,5");
	struct call call = {0};

	say(w, "a")->min_resident_ms = 60 * 1000;
	resident(w, "a", "60,10,0");
	w->noting = true;
	submit(w, b, &call, 1);
	vac_registry_cancel(&w->registry, &call.waiter);
	assert_string_equal(asked(w), "[planned b][waiting b][absent b]");
	assert_null(w->event.receipt);
	assert_int_equal(w->event.reason, 0);
}

static void test_refusals(void **state)
{
	struct world *w = *state;
	struct vac_model *big = model_of(w, "big", "200,10,5"), *a = model_of(w, "a", "10,5,0");
	struct call call = {0}, calls[MAX_CALLS + 1] = {0};
	struct vac_error err;

	w->noting = true;
	submit(w, big, &call, 1);
	assert_string_equal(asked(w), "[planned big][refused big][failed big]fail 1;");
	assert_int_equal(w->last_error.code, VAC_E_NO_ROOM);
	for (int i = 0; i < MAX_CALLS; i++)
		submit(w, a, &calls[i], i);
	asked(w);
	assert_int_equal(vac_registry_submit(&w->registry, a, &calls[MAX_CALLS].waiter, &err),
			 -EAGAIN);
	assert_string_equal(asked(w), "[refused a]");
	assert_int_equal(w->last_error.code, VAC_E_BUSY);
	/* The caller need not want to know why. */
	assert_int_equal(vac_registry_submit(&w->registry, a, &calls[MAX_CALLS].waiter, NULL),
			 -EAGAIN);
}

static void test_set_aside(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "10,5,0");
	struct call call = {0};
	struct vac_error err;

	w->noting = true;
	for (int i = 0; i < 3; i++) {
		call = (struct call){0};
		submit(w, a, &call, 1);
		loaded(w, a);
		asked(w);
		vac_registry_worker_gone(&w->registry, WORKER, a, &killed);
		if (i < 2) {
			assert_string_equal(asked(w), "died a;[absent a]");
			assert_int_equal(w->event.reason, VAC_UNLOAD_WORKER_DIED);
			assert_int_equal(w->event.receipt != NULL, 1);
			vac_registry_cancel(&w->registry, &call.waiter);
		}
	}
	assert_string_equal(asked(w), "[set_aside a]died a;[absent a]");
	assert_non_null(strstr(w->last_error.message, "3 times in a row"));
	assert_false(vac_registry_lost(&w->registry, &call.waiter));
	assert_int_equal(vac_registry_submit(&w->registry, a, &call.waiter, &err), -EPIPE);
	assert_string_equal(asked(w), "[refused a]");
	assert_int_equal(w->last_error.code, VAC_E_GONE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_limited, world_end)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names), TEST(test_load_and_unload),
		TEST(test_eviction),          TEST(test_eviction_says_for_whom),
		TEST(test_given_up_in_line),  TEST(test_refusals),
		TEST(test_set_aside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
