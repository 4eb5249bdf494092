/*
 * test_registry_park.c - workers that leave their GPU with their models, and come back:
 * who waits for whom, what room it takes, and what an unload or a death does to it.
 */
#include <errno.h>

#include "registry_world.h"

/* One device, which has memory of its own. */
static int world_of_a_gpu(void **state)
{
	int rc = world_limited(state);
	struct world *w = *state;

	if (rc == 0)
		w->devices[0].budget.on_device = true;
	return rc;
}

struct told {
	struct vac_park_watch watch;
	int count;
	struct vac_error why;
};

static void on_parked(struct vac_park_watch *watch, const struct vac_error *why)
{
	struct told *told = (struct told *)watch;

	told->count++;
	told->why = why ? *why : (struct vac_error){0};
}

/* Asks for it, and lets it begin. */
static void begin(struct world *w, struct vac_model *model, struct told *told)
{
	struct vac_error err;

	told->watch.done = on_parked;
	assert_int_equal(vac_registry_park(&w->registry, model, &told->watch, &err), 0);
	pass(w, 0);
}

/* A worker of 60 MiB leaves. */
static void parked(struct world *w, struct vac_model *model)
{
	struct told told = {0};

	begin(w, model, &told);
	vac_registry_parked(&w->registry, w->devices[0].moving, 50 * MIB, 60 * MIB);
	assert_int_equal(told.count, 1);
	assert_int_equal(told.why.code, VAC_OK);
	asked(w);
	assert_int_equal(model->state, VAC_REGISTRY_PARKED);
}

static void unload(struct world *w, struct vac_model *model)
{
	assert_true(vac_registry_unload(&w->registry, model, VAC_UNLOAD_REQUEST, false, NULL));
	pass(w, 0);
}

static void died(struct world *w, const struct vac_worker *worker)
{
	vac_registry_worker_gone(&w->registry, worker, NULL, &killed);
}

/* ---- off the GPU ---- */

static void test_it_ends_what_it_has(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *b = resident(w, "b", "20,5,0");
	struct call running = {0}, waiting = {0};
	struct told told = {0}, also = {0};

	submit(w, b, &running, 1);
	begin(w, a, &told);
	begin(w, a, &also);
	assert_int_equal(a->state, VAC_REGISTRY_PARKING);
	assert_int_equal(b->state, VAC_REGISTRY_PARKING);
	submit(w, b, &waiting, 2);
	assert_string_equal(asked(w), "run 1;");
	vac_registry_done(&w->registry, &running.waiter, true);
	pass(w, 0);
	assert_string_equal(asked(w), "park b;"); /* one for both */
	pass(w, 1000);
	assert_string_equal(asked(w), "");
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 45 * MIB);
	vac_registry_parked(&w->registry, b, 50 * MIB, 60 * MIB);
	assert_int_equal(told.count + also.count, 2);
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 0);
	/* Who asked meanwhile brings it back, all of it. */
	pass(w, 0);
	assert_string_equal(asked(w), "restore b;");
	assert_int_equal(a->state, VAC_REGISTRY_PARKED);
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 60 * MIB);
	vac_registry_restored(&w->registry, b);
	assert_string_equal(asked(w), "run 2;");
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(b->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 45 * MIB);
	assert_int_equal(a->loads, 1);
	assert_int_equal(w->devices[0].loading + w->devices[0].parking, 0);
	assert_null(w->devices[0].moving);
}

static void test_refusals(void **state)
{
	struct world *w = *state;
	struct vac_model *a = model_of(w, "a", "20,5,0");
	struct call call = {0};
	struct vac_error err;

	assert_int_equal(vac_registry_park(&w->registry, a, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.message, "model a is not loaded"));
	submit(w, a, &call, 1);
	assert_int_equal(vac_registry_park(&w->registry, a, NULL, &err), -EAGAIN);
	assert_non_null(strstr(err.message, "being loaded"));
	loaded(w, a);
	w->devices[0].budget.on_device = false;
	assert_true(vac_registry_park(&w->registry, a, NULL, &err) < 0);
	assert_int_equal(err.code, VAC_E_UNSUPPORTED);
	assert_non_null(strstr(err.message, "model a is on cpu and holds no VRAM"));
	w->devices[0].budget.on_device = true;
	unload(w, a);
	assert_int_equal(vac_registry_park(&w->registry, a, NULL, &err), -EAGAIN);
	assert_non_null(strstr(err.message, "being unloaded"));
}

static void test_the_driver_refuses(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0");
	struct call call = {0};
	struct told told = {0};
	struct vac_error why;

	begin(w, a, &told);
	submit(w, a, &call, 1);
	vac_fail(&why, VAC_E_UNSUPPORTED, "no such call");
	asked(w);
	vac_registry_not_parked(&w->registry, a, &why);
	assert_string_equal(asked(w), "run 1;");
	assert_int_equal(told.count, 1);
	assert_string_equal(told.why.message, "no such call");
	assert_int_equal(a->state, VAC_REGISTRY_RESIDENT);
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 25 * MIB);
}

static void test_loads_wait_for_it(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *b = model_of(w, "b", "20,5,0");
	struct call call = {0};
	struct told told = {0};

	begin(w, a, &told);
	submit(w, b, &call, 1);
	pass(w, 100);
	assert_string_equal(asked(w), "park a;");
	w->worker = OTHER; /* a parked one is given nothing */
	vac_registry_parked(&w->registry, a, 50 * MIB, 60 * MIB);
	pass(w, 0);
	assert_string_equal(asked(w), "load b;");
}

/* A load that was under way on the same worker ends: what it loaded goes along. */
static void test_a_load_ends_meanwhile(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *b = model_of(w, "b", "20,5,0");
	struct call load = {0}, waiting = {0};
	struct told told = {0};

	submit(w, b, &load, 1);
	assert_string_equal(asked(w), "load b;");
	begin(w, a, &told);
	assert_string_equal(asked(w), "");
	loaded(w, b);
	pass(w, 0);
	assert_string_equal(asked(w), "run 1;"); /* who waited for it is answered */
	submit(w, b, &waiting, 2);
	vac_registry_done(&w->registry, &load.waiter, true);
	pass(w, 0);
	assert_string_equal(asked(w), "park b;");
	vac_registry_parked(&w->registry, b, 50 * MIB, 60 * MIB);
	assert_int_equal(told.count, 1);
	assert_int_equal(a->state, VAC_REGISTRY_PARKED);
	pass(w, 0);
	assert_string_equal(asked(w), "restore b;");
}

/* ---- back ---- */

static void test_others_make_way(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *b;
	struct call call = {0};

	parked(w, a);
	w->worker = OTHER;
	b = resident(w, "b", "70,5,0");
	submit(w, a, &call, 1);
	pass(w, 100);
	assert_string_equal(asked(w), "unload b evicted;");
	assert_true(a->load_held);
	unloaded(w, b);
	pass(w, 0);
	assert_string_equal(asked(w), "restore a;");
}

static void test_nobody_waits_any_more(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0");
	struct call call = {0};

	parked(w, a);
	w->others_mib = 9990;
	submit(w, a, &call, 1);
	pass(w, 500);
	assert_string_equal(asked(w), "");
	vac_registry_cancel(&w->registry, &call.waiter);
	assert_int_equal(a->state, VAC_REGISTRY_PARKED);
	assert_false(a->restoring || a->load_held);
	w->others_mib = 0;
	pass(w, 500);
	assert_string_equal(asked(w), "");
	submit(w, a, &call, 2);
	pass(w, 0);
	assert_string_equal(asked(w), "restore a;");
}

static void test_somebody_is_quicker(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0");
	struct call call = {0};
	struct vac_error why;

	parked(w, a);
	submit(w, a, &call, 1);
	vac_fail(&why, VAC_E_NO_ROOM, "taken");
	for (unsigned i = 0; i < VAC_MAX_TRIES; i++) {
		pass(w, 0);
		assert_string_equal(asked(w), "restore a;");
		vac_registry_restore_refused(&w->registry, a, &why);
	}
	assert_string_equal(asked(w), "fail 1;");
	assert_string_equal(w->last_error.message, "taken");
	assert_int_equal(a->state, VAC_REGISTRY_PARKED);
	assert_int_equal(vac_budget_used(&w->devices[0].budget), 0);
	assert_int_equal(w->devices[0].loading, 0);
}

/* Busy is what has it in its hands, and no queue of ours. */
static void test_what_is_busy(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0");
	struct call call = {0};
	struct told told = {0};
	struct vac_error why;

	vac_fail(&why, VAC_E_BUSY, "another has it");
	begin(w, a, &told);
	asked(w);
	vac_registry_not_parked(&w->registry, a, &why);
	assert_int_equal(told.why.code, VAC_E_NO_ROOM);
	assert_string_equal(told.why.message, "another has it");
	parked(w, a);
	submit(w, a, &call, 1);
	for (unsigned i = 0; i < VAC_MAX_TRIES; i++) { /* it may be free soon */
		pass(w, 0);
		assert_string_equal(asked(w), "restore a;");
		vac_registry_restore_refused(&w->registry, a, &why);
	}
	assert_string_equal(asked(w), "fail 1;");
	assert_int_equal(w->last_error.code, VAC_E_NO_ROOM);
	assert_string_equal(w->last_error.message, "another has it");
}

/* ---- away ---- */

/* Who wants it back and no more is told; who has a task has it loaded again. */
static void test_unloaded_in_line(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0");
	struct call resume = {.waiter = {.load_only = true, .resume_only = true}}, task = {0};

	parked(w, a);
	w->others_mib = 9990;
	submit(w, a, &resume, 1);
	submit(w, a, &task, 2);
	pass(w, 500);
	assert_string_equal(asked(w), "");
	unload(w, a);
	assert_string_equal(asked(w), "end a request;");
	w->others_mib = 0;
	unloaded(w, a);
	assert_true(resume.failed);
	assert_int_equal(w->last_error.code, VAC_E_CANCELLED);
	assert_non_null(strstr(w->last_error.message, "model a was unloaded before it was back"));
	pass(w, 500);
	assert_false(task.finished);
	assert_string_equal(asked(w), "fail 1;load a;");
}

static void test_unloaded_alone_in_line(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0");
	struct call resume = {.waiter = {.load_only = true, .resume_only = true}};

	parked(w, a);
	w->others_mib = 9990;
	submit(w, a, &resume, 1);
	pass(w, 500);
	unload(w, a);
	w->others_mib = 0;
	unloaded(w, a);
	pass(w, 500);
	assert_string_equal(asked(w), "end a request;fail 1;");
	assert_int_equal(a->state, VAC_REGISTRY_ABSENT);
	assert_true(vac_registry_empty(&w->registry));
}

static void test_unloaded_with_its_worker(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *b = resident(w, "b", "20,5,0");

	parked(w, a);
	vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL);
	unload(w, b);
	/* The list has the last loaded first. */
	assert_string_equal(asked(w), "end b request;");
	unloaded(w, b);
	died(w, WORKER);
	assert_string_equal(asked(w), "died a;");
	assert_int_equal(a->reason, VAC_UNLOAD_REQUEST);
	assert_int_equal(a->state, VAC_REGISTRY_ABSENT);
	assert_true(vac_registry_empty(&w->registry));
}

static void test_one_of_two_is_unloaded(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *b = resident(w, "b", "20,5,0");

	parked(w, a);
	unload(w, a);
	pass(w, 0);
	assert_string_equal(asked(w), "restore a;");
	vac_registry_restored(&w->registry, a);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a request;");
	assert_int_equal(b->state, VAC_REGISTRY_PARKING);
	unloaded(w, a);
	pass(w, 0);
	assert_string_equal(asked(w), "park b;");
}

/* It cannot come back for the unload: all go. */
static void test_one_of_two_in_vain(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *b = resident(w, "b", "20,5,0");
	struct vac_error why;

	parked(w, a);
	unload(w, a);
	pass(w, 0);
	assert_string_equal(asked(w), "restore a;");
	vac_fail(&why, VAC_E_UNSUPPORTED, "the driver does not");
	vac_registry_restore_refused(&w->registry, a, &why);
	pass(w, 0);
	assert_string_equal(asked(w), "end b request;");
	unloaded(w, b);
	died(w, WORKER);
	assert_true(vac_registry_empty(&w->registry));
}

static void test_keep_alives_end_together(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0"), *b;

	pass(w, KEEP_MS / 2);
	b = resident(w, "b", "20,5,0");
	parked(w, b);
	pass(w, KEEP_MS - 2 * TURN_MS);
	assert_string_equal(asked(w), ""); /* a's is over */
	pass(w, 2 * TURN_MS);
	assert_string_equal(asked(w), "end b idle;");
	unloaded(w, b);
	died(w, WORKER);
	assert_string_equal(asked(w), "died a;");
	assert_int_equal(a->reason, VAC_UNLOAD_IDLE);
}

static void test_it_dies(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0");
	struct call task = {0}, resume = {.waiter = {.load_only = true, .resume_only = true}};
	struct told told = {0};

	parked(w, a);
	died(w, WORKER);
	assert_string_equal(asked(w), "died a;");
	assert_int_equal(a->state, VAC_REGISTRY_ABSENT);

	a = resident(w, "a", "20,5,0");
	begin(w, a, &told);
	died(w, WORKER);
	assert_int_equal(told.why.code, VAC_E_GONE);
	assert_int_equal(w->devices[0].parking, 0);
	assert_null(w->devices[0].moving);

	a = resident(w, "a", "20,5,0");
	parked(w, a);
	submit(w, a, &resume, 1);
	submit(w, a, &task, 2);
	pass(w, 0);
	assert_string_equal(asked(w), "restore a;");
	died(w, WORKER);
	assert_null(w->devices[0].moving);
	/* Who wanted an answer gets it from a new one. */
	pass(w, 0);
	assert_string_equal(asked(w), "fail 1;died a;load a;");
	loaded(w, a);
	assert_string_equal(asked(w), "run 2;");
	assert_int_equal(w->devices[0].loading, 0);
	assert_int_equal(a->strikes, 0);
}

static void test_the_end(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "20,5,0");
	struct call call = {0};

	parked(w, a);
	w->others_mib = 9990;
	submit(w, a, &call, 1);
	pass(w, 100);
	vac_registry_close(&w->registry);
	assert_string_equal(asked(w), "fail 1;");
	assert_int_equal(w->last_error.code, VAC_E_GONE);
	vac_registry_unload(&w->registry, a, VAC_UNLOAD_SHUTDOWN, false, NULL);
	pass(w, 0);
	assert_string_equal(asked(w), "end a shutdown;");
	unloaded(w, a);
	assert_true(vac_registry_empty(&w->registry));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_ends_what_it_has, world_of_a_gpu,
						world_end),
		cmocka_unit_test_setup_teardown(test_refusals, world_of_a_gpu, world_end),
		cmocka_unit_test_setup_teardown(test_the_driver_refuses, world_of_a_gpu, world_end),
		cmocka_unit_test_setup_teardown(test_loads_wait_for_it, world_of_a_gpu, world_end),
		cmocka_unit_test_setup_teardown(test_a_load_ends_meanwhile, world_of_a_gpu,
						world_end),
		cmocka_unit_test_setup_teardown(test_others_make_way, world_of_a_gpu, world_end),
		cmocka_unit_test_setup_teardown(test_nobody_waits_any_more, world_of_a_gpu,
						world_end),
		cmocka_unit_test_setup_teardown(test_somebody_is_quicker, world_of_a_gpu,
						world_end),
		cmocka_unit_test_setup_teardown(test_what_is_busy, world_of_a_gpu, world_end),
		cmocka_unit_test_setup_teardown(test_unloaded_in_line, world_of_a_gpu, world_end),
		cmocka_unit_test_setup_teardown(test_unloaded_alone_in_line, world_of_a_gpu,
						world_end),
		cmocka_unit_test_setup_teardown(test_unloaded_with_its_worker, world_of_a_gpu,
						world_end),
		cmocka_unit_test_setup_teardown(test_one_of_two_is_unloaded, world_of_a_gpu,
						world_end),
		cmocka_unit_test_setup_teardown(test_one_of_two_in_vain, world_of_a_gpu, world_end),
		cmocka_unit_test_setup_teardown(test_keep_alives_end_together, world_of_a_gpu,
						world_end),
		cmocka_unit_test_setup_teardown(test_it_dies, world_of_a_gpu, world_end),
		cmocka_unit_test_setup_teardown(test_the_end, world_of_a_gpu, world_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
