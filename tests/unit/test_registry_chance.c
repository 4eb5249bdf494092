/*
 * test_registry_chance.c - models on a GPU that are asked for, parked, unloaded and given
 * up, whose workers die, all by chance and in any order: nobody waits for ever, and what
 * was counted is given back.
 */
#include <errno.h>

#include "registry_world.h"

enum { MODELS = 5, CALLS = 12, TOLDS = 4, WORKERS = 12, ROUNDS = 300, STEPS = 120 };

struct told {
	struct vac_park_watch watch;
	bool waits;
};

struct left {
	struct vac_watch watch;
	bool waits;
};

struct life {
	struct world *w;
	uint32_t seed;
	struct vac_model *models[MODELS];
	struct call calls[CALLS];
	struct told tolds[TOLDS];
	struct left lefts[TOLDS];
};

static uint32_t chance(struct life *life, uint32_t below)
{
	life->seed = life->seed * 1664525u + 1013904223u;
	return (life->seed >> 8) % below;
}

static void on_parked(struct vac_park_watch *watch, const struct vac_error *why)
{
	(void)why;
	assert_true(((struct told *)watch)->waits);
	((struct told *)watch)->waits = false;
}

static void on_left(struct vac_watch *watch, const struct vac_receipt *receipt)
{
	(void)receipt;
	assert_true(((struct left *)watch)->waits);
	((struct left *)watch)->waits = false;
}

/* ---- workers ---- */

static bool is_moving(const struct vac_model *model)
{
	return model->device->moving == model;
}

static bool is_parked(const struct life *life, const struct vac_worker *worker)
{
	for (int i = 0; i < MODELS; i++) {
		const struct vac_model *model = life->models[i];

		if (model->worker == worker &&
		    (model->state == VAC_REGISTRY_PARKED || model->restoring || is_moving(model)))
			return true;
	}
	return false;
}

/* Loads get a worker that is on its GPU. */
static void choose_worker(struct life *life)
{
	uintptr_t number = 1;

	while (is_parked(life, (struct vac_worker *)(number * 0x1000)))
		number++;
	assert_true(number < WORKERS);
	life->w->worker = (struct vac_worker *)(number * 0x1000);
}

static void let_pass(struct life *life, int64_t ms)
{
	choose_worker(life);
	pass(life->w, ms);
}

static void kill_worker(struct life *life, struct vac_worker *worker)
{
	struct vac_registry *registry = &life->w->registry;
	struct vac_waiter *lost[CALLS];
	struct vac_model *loads[MODELS];
	int lost_count = 0, load_count = 0;

	choose_worker(life);
	for (int i = 0; i < MODELS; i++) {
		struct vac_model *model = life->models[i];

		if (model->worker != worker)
			continue;
		for (struct vac_waiter *at = model->running.first; at; at = at->next)
			lost[lost_count++] = at;
		if (model->unloading)
			model->worker = NULL; /* it is being measured */
		else if (model->state == VAC_REGISTRY_LOADING && !model->restoring &&
			 (model->load_asked || model->plan_asked))
			loads[load_count++] = model;
	}
	vac_registry_worker_gone(registry, worker, NULL, &killed);
	for (int i = 0; i < load_count; i++)
		if (!vac_registry_load_lost(registry, loads[i], &killed))
			vac_registry_load_failed(registry, loads[i], &killed);
	for (int i = 0; i < lost_count; i++)
		(void)vac_registry_lost(registry, lost[i]);
}

/* ---- what was asked is done ---- */

static void fail_with(struct life *life, struct vac_error *why)
{
	static const enum vac_error_code codes[] = {VAC_E_NO_ROOM, VAC_E_BUSY, VAC_E_UNSUPPORTED,
						    VAC_E_GONE};

	vac_fail(why, codes[chance(life, 4)], "no");
}

static void end_move(struct life *life, struct vac_model *model, bool good)
{
	struct vac_registry *registry = &life->w->registry;
	struct vac_error why;

	fail_with(life, &why);
	if (model->restoring && good)
		vac_registry_restored(registry, model);
	else if (model->restoring)
		vac_registry_restore_refused(registry, model, &why);
	else if (good)
		vac_registry_parked(registry, model, 30 * MIB, 35 * MIB);
	else
		vac_registry_not_parked(registry, model, &why);
}

static void end_unload(struct life *life, struct vac_model *model)
{
	if (model->ends_worker && model->worker)
		kill_worker(life, model->worker);
	choose_worker(life);
	unloaded(life->w, model);
}

/* One thing that is under way with a model ends; false: nothing is. */
static bool end_one(struct life *life, struct vac_model *model, bool good)
{
	struct vac_registry *registry = &life->w->registry;
	struct vac_plan plan = plan_of(model);
	struct vac_error why;

	choose_worker(life);
	fail_with(life, &why);
	if (model->plan_asked)
		vac_registry_planned(registry, model, &plan);
	else if (is_moving(model))
		end_move(life, model, good);
	else if (model->load_asked && good)
		loaded(life->w, model);
	else if (model->load_asked)
		vac_registry_load_failed(registry, model, &why);
	else if (model->unloading)
		end_unload(life, model);
	else if (model->running.first)
		vac_registry_done(registry, model->running.first, good);
	else
		return false;
	return true;
}

/* ---- what is asked ---- */

static void ask(struct life *life, struct vac_model *model)
{
	struct call *call = &life->calls[chance(life, CALLS)];
	struct vac_error err;
	bool parked = model->state == VAC_REGISTRY_PARKED || model->state == VAC_REGISTRY_PARKING;

	if (call->waiter.state != VAC_WAITER_IDLE) {
		if (chance(life, 3) == 0)
			vac_registry_cancel(&life->w->registry, &call->waiter);
		return;
	}
	*call = (struct call){.waiter = {.load_only = chance(life, 3) == 0}};
	call->waiter.resume_only = call->waiter.load_only && parked;
	(void)!vac_registry_submit(&life->w->registry, model, &call->waiter, &err);
}

static void ask_park(struct life *life, struct vac_model *model)
{
	struct told *told = &life->tolds[chance(life, TOLDS)];
	struct vac_error err;

	if (told->waits) {
		vac_registry_unwatch_park(&life->w->registry, &told->watch);
		told->waits = false;
		return;
	}
	told->watch.done = on_parked;
	told->waits = true;
	if (vac_registry_park(&life->w->registry, model, &told->watch, &err) != 0)
		told->waits = false;
}

static void ask_unload(struct life *life, struct vac_model *model)
{
	struct left *left = &life->lefts[chance(life, TOLDS)];

	if (left->waits)
		return;
	left->watch.done = on_left;
	left->waits = true;
	if (!vac_registry_unload(&life->w->registry, model, VAC_UNLOAD_REQUEST, false,
				 &left->watch))
		left->waits = false;
}

/* The operator changes his mind: some changes take a new load. */
static void change(struct life *life, const struct vac_model *model)
{
	struct vac_model_settings *settings = say(life->w, model->name);
	struct vac_error err;

	if (chance(life, 2))
		settings->priority = (int)chance(life, 3);
	else
		settings->max_batch_tokens = 64 + chance(life, 2);
	assert_int_equal(vac_registry_reconfigure(&life->w->registry, &err), 0);
}

static void step(struct life *life)
{
	struct vac_model *model = life->models[chance(life, MODELS)];

	choose_worker(life);
	switch (chance(life, 16)) {
	case 0:
	case 1:
	case 2:
	case 3:
		ask(life, model);
		break;
	case 4:
	case 5:
		ask_park(life, model);
		break;
	case 6:
		ask_unload(life, model);
		break;
	case 7:
		if (model->worker && chance(life, 3) == 0)
			kill_worker(life, model->worker);
		break;
	case 8:
		life->w->others_mib = chance(life, 2) * 9950;
		break;
	case 9:
		change(life, model);
		let_pass(life, 3000);
		break;
	default:
		(void)end_one(life, model, chance(life, 5) > 0);
		break;
	}
	let_pass(life, 0);
}

/* ---- the end ---- */

static void settle(struct life *life)
{
	bool any = true;

	life->w->others_mib = 0;
	for (int i = 0; any || i < 50; i++) {
		assert_true(i < 2000);
		any = false;
		for (int k = 0; k < MODELS; k++)
			any |= end_one(life, life->models[k], true);
		let_pass(life, 200);
	}
}

static void nobody_waits(const struct life *life)
{
	const struct vac_device *device = &life->w->devices[0];

	for (int i = 0; i < CALLS; i++)
		assert_int_equal(life->calls[i].waiter.state, VAC_WAITER_IDLE);
	for (int i = 0; i < TOLDS; i++)
		assert_false(life->tolds[i].waits || life->lefts[i].waits);
	assert_int_equal(device->loading + device->planning + device->parking, 0);
	assert_null(device->moving);
	assert_null(device->unloading);
	assert_int_equal(device->line.count, 0);
	for (int i = 0; i < MODELS; i++) {
		assert_false(life->models[i]->restoring || life->models[i]->load_held);
		assert_true(life->models[i]->state == VAC_REGISTRY_PARKED ||
			    life->models[i]->state == VAC_REGISTRY_RESIDENT ||
			    !life->models[i]->active.list);
	}
}

static void nothing_is_left(const struct life *life)
{
	const struct vac_budget *budget = &life->w->devices[0].budget;

	assert_true(vac_registry_empty(&life->w->registry));
	assert_int_equal(vac_budget_used(budget), 0);
	assert_int_equal(budget->count + budget->leaving + budget->loading + budget->fixed, 0);
	assert_int_equal(budget->pending_bytes + budget->leaving_bytes, 0);
}

static void live(uint32_t seed)
{
	static const char *const names[MODELS] = {"a", "b", "c", "d", "e"};
	struct life life = {.seed = seed};
	void *state;

	assert_int_equal(world_limited(&state), 0);
	life.w = state;
	life.w->quiet = true;
	life.w->devices[0].budget.on_device = true;
	life.w->plans_come_late = seed % 2;
	for (int i = 0; i < MODELS; i++) {
		struct vac_model_settings *settings = say(life.w, names[i]);

		settings->pin = i == 0 && seed % 3 == 0;
		settings->keep_alive_ms = seed % 5 == 0 ? 1500 : KEEP_MS;
	}
	for (int i = 0; i < MODELS; i++)
		life.models[i] = model_of(life.w, names[i], "25,5,0");
	for (int i = 0; i < STEPS; i++)
		step(&life);
	if (seed % 7 > 0) {
		settle(&life);
		nobody_waits(&life);
	}
	if (seed % 2 == 0)
		vac_registry_close(&life.w->registry);
	for (int i = 0; i < MODELS; i++)
		vac_registry_unload(&life.w->registry, life.models[i], VAC_UNLOAD_SHUTDOWN, false,
				    NULL);
	settle(&life);
	nobody_waits(&life);
	if (seed % 2 == 0)
		nothing_is_left(&life);
	world_end(&state);
}

static void test_lives(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= ROUNDS; seed++)
		live(seed);
}

/* Found by chance: an unload that waited for a plan, whose model then waited for it. */
static void test_an_unload_behind_a_plan(void **state)
{
	struct world *w = *state;
	struct vac_model *a = resident(w, "a", "60,5,0"), *b = model_of(w, "b", "60,5,0");
	struct vac_plan plan = plan_of(b);
	struct call call = {0};

	w->plans_come_late = true;
	submit(w, b, &call, 1);
	pass(w, 0);
	assert_string_equal(asked(w), "plan b;");
	assert_true(vac_registry_unload(&w->registry, a, VAC_UNLOAD_REQUEST, false, NULL));
	pass(w, 1000);
	assert_string_equal(asked(w), "");
	vac_registry_planned(&w->registry, b, &plan);
	pass(w, 0);
	assert_string_equal(asked(w), "unload a request;");
	unloaded(w, a);
	pass(w, 0);
	assert_string_equal(asked(w), "load b;");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lives),
		cmocka_unit_test_setup_teardown(test_an_unload_behind_a_plan, world_limited,
						world_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
