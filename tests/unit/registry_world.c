/* registry_world.c - see registry_world.h. */
#include "registry_world.h"

const struct vac_error killed = {.code = VAC_E_GONE, .message = "worker 9 was killed"};

static void note(struct world *w, const char *fmt, ...)
{
	size_t n = strlen(w->log);
	va_list ap;

	if (w->quiet)
		return;
	va_start(ap, fmt);
	vsnprintf(w->log + n, sizeof(w->log) - n, fmt, ap);
	va_end(ap);
}

const char *asked(struct world *w)
{
	static char copy[sizeof(w->log)];

	memcpy(copy, w->log, sizeof(copy));
	w->log[0] = '\0';
	return copy;
}

struct vac_plan plan_of(const struct vac_model *model)
{
	struct vac_plan plan = {0};
	unsigned own = 0, scratch = 0, load = 0;

	bool on_device = model->device->budget.on_device;

	assert_int_equal(sscanf(model->dir, "%u,%u,%u", &own, &scratch, &load), 3);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_WEIGHTS, on_device, own * MIB), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_SCRATCH, on_device, scratch * MIB), 0);
	plan.load_bytes = load * MIB;
	return plan;
}

/* ---- operations ---- */

static int64_t now_ns(void *ctx)
{
	return ((struct world *)ctx)->now_ns;
}

static void settings(void *ctx, const char *name, struct vac_model_settings *out)
{
	for (const struct said *said = ((struct world *)ctx)->said; said->name; said++) {
		if (strcmp(said->name, name) == 0)
			*out = said->settings;
	}
}

static void plan(void *ctx, struct vac_model *model)
{
	struct vac_plan planned = plan_of(model);
	struct world *w = ctx;

	if (!model->restoring)
		model->worker = w->worker;
	if (w->plans_come_late)
		note(w, "plan %s;", model->name);
	else
		vac_registry_planned(&w->registry, model, &planned);
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
	note(ctx, "%s %s %s;", model->ends_worker ? "end" : "unload", model->name,
	     vac_unload_reason_name(model->reason));
}

static void park(void *ctx, struct vac_model *model)
{
	note(ctx, "park %s;", model->name);
}

static void restore(void *ctx, struct vac_model *model)
{
	note(ctx, "restore %s;", model->name);
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
	assert_true(model->ends_worker || model->reason == VAC_UNLOAD_WORKER_DIED);
	note(w, "died %s;", model->name);
}

static void wake_at(void *ctx, int64_t at_ns)
{
	struct world *w = ctx;

	if (w->wake_at_ns == 0 || at_ns < w->wake_at_ns)
		w->wake_at_ns = at_ns;
}

static void lacks(void *ctx, struct vac_model *model, uint64_t missing_bytes)
{
	struct world *w = ctx;

	w->lacked = model;
	w->lacked_bytes = missing_bytes;
}

static void noted(void *ctx, const struct vac_event *event)
{
	struct world *w = ctx;

	assert_int_equal(event->at_ns, w->now_ns);
	assert_non_null(event->device);
	w->event = *event;
	if (event->why)
		w->last_error = *event->why;
	if (w->noting)
		note(w, "[%s %s]", vac_event_kind_name(event->kind), event->model);
}

static const struct vac_registry_ops ops = {
	.now_ns = now_ns,
	.settings = settings,
	.plan = plan,
	.load = load,
	.run = run,
	.unload = unload,
	.park = park,
	.restore = restore,
	.finish = finish,
	.died = died,
	.wake_at = wake_at,
	.lacks = lacks,
	.noted = noted,
};

/* ---- the world ---- */

static void measure_device(const struct world *w, const struct vac_device *device,
			   struct vac_budget_room *out)
{
	uint64_t held = vac_budget_used(&device->budget) - device->budget.load_bytes;

	*out = (struct vac_budget_room){.total_valid = true,
					.free_valid = true,
					.total_bytes = 10000 * MIB,
					.free_bytes = (10000 - w->others_mib) * MIB - held};
}

static void measure_cpu(void *ctx, struct vac_budget_room *out)
{
	measure_device(ctx, &((struct world *)ctx)->devices[0], out);
}

static void measure_other(void *ctx, struct vac_budget_room *out)
{
	measure_device(ctx, &((struct world *)ctx)->devices[1], out);
}

static int begin(void **state, uint32_t devices, uint32_t limited)
{
	static void (*const measures[2])(void *, struct vac_budget_room *) = {measure_cpu,
									      measure_other};
	const struct vac_size limit = {.bytes = ROOM_MIB * MIB}, headroom = {0};
	const struct vac_registry_options options = {
		.defaults = {.keep_alive_ms = KEEP_MS}, .max_queue = MAX_CALLS, .turn_ms = TURN_MS};
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	w->now_ns = 1000 * MS;
	w->worker = WORKER;
	vac_device_init(&w->devices[0], "cpu", "--ram");
	vac_device_init(&w->devices[1], "other", "--other");
	for (uint32_t i = 0; i < limited; i++)
		vac_device_limit(&w->devices[i], false, &limit, &headroom, measures[i], w);
	vac_registry_init(&w->registry, &ops, w, &options, w->devices, devices);
	*state = w;
	return 0;
}

int world_unlimited(void **state)
{
	return begin(state, 1, 0);
}

int world_limited(void **state)
{
	return begin(state, 1, 1);
}

int world_of_two(void **state)
{
	return begin(state, 2, 2);
}

int world_end(void **state)
{
	struct world *w = *state;

	/* The calls lay on the stack of the test that is over. */
	for (struct vac_model *m = w->registry.models; m; m = m->next)
		m->waiting = m->running = (struct vac_waiter_list){0};
	vac_registry_free(&w->registry);
	free(w);
	return 0;
}

struct vac_model_settings *say(struct world *w, const char *name)
{
	struct said *said = w->said;

	while (said->name && strcmp(said->name, name) != 0)
		said++;
	assert_true(said < w->said + 7);
	if (!said->name)
		*said = (struct said){name, w->registry.options.defaults};
	return &said->settings;
}

void pass(struct world *w, int64_t ms)
{
	int64_t end_ns = w->now_ns + ms * MS;
	int64_t most = w->devices[0].limited ? 100 + ms / 10 : 5, ticks = 0;

	while (w->wake_at_ns != 0 && w->wake_at_ns <= end_ns) {
		if (w->wake_at_ns > w->now_ns)
			w->now_ns = w->wake_at_ns;
		w->wake_at_ns = 0;
		vac_registry_tick(&w->registry);
		/* Ticks that want themselves again at once would spin the loop. */
		assert_true(++ticks < most);
	}
	w->now_ns = end_ns;
}

struct vac_model *model_of(struct world *w, const char *name, const char *sizes)
{
	struct vac_model *model = vac_registry_enter(&w->registry, name, sizes);

	assert_non_null(model);
	return model;
}

void submit(struct world *w, struct vac_model *model, struct call *call, int number)
{
	struct vac_error err;

	call->number = number;
	call->finished = call->failed = false;
	assert_int_equal(vac_registry_submit(&w->registry, model, &call->waiter, &err), 0);
}

void loaded(struct world *w, struct vac_model *model)
{
	struct vac_model_info info = {.plan = plan_of(model), .ledger_bytes = 4096};

	vac_registry_loaded(&w->registry, model, &info);
}

void unloaded(struct world *w, struct vac_model *model)
{
	struct vac_receipt receipt = {.id = 1, .reason = model->reason};

	vac_registry_unloaded(&w->registry, model, &receipt);
}

struct vac_model *resident(struct world *w, const char *name, const char *sizes)
{
	struct vac_model *model = model_of(w, name, sizes);
	struct call call = {.waiter = {.load_only = true}};

	submit(w, model, &call, 0);
	loaded(w, model);
	assert_true(call.finished && !call.failed);
	pass(w, w->devices[0].limited ? TURN_MS + 1 : 0);
	asked(w);
	return model;
}

void answer(struct world *w, struct vac_model *model, struct call *call, int number)
{
	submit(w, model, call, number);
	vac_registry_done(&w->registry, &call->waiter, true);
}
