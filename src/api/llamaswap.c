/*
 * llamaswap.c - what llama-swap's clients ask: GET /running, GET /unload, POST
 * /api/models/unload and /api/models/unload/{model}. Any thread; no state.
 */
#include "api/common.h"

/* In its words; NULL: it is not running there. */
static const char *state_name(enum vac_model_state state)
{
	switch (state) {
	case VAC_MODEL_RESIDENT:
		return "ready";
	case VAC_MODEL_WAITING:
	case VAC_MODEL_LOADING:
		return "starting";
	case VAC_MODEL_DRAINING:
	case VAC_MODEL_PARKING:
		return "stopping";
	case VAC_MODEL_PARKED:
	case VAC_MODEL_ABSENT:
	case VAC_MODEL_FAILED:
		break;
	}
	return NULL;
}

/* Seconds without a request after which it is unloaded; 0: never. */
static int64_t ttl_s(const struct vac_model_view *model)
{
	int64_t second_ns = 1000000000;

	if (model->state != VAC_MODEL_RESIDENT || model->expires_ns < 0)
		return 0;
	/* What is left and what has passed; rounded up, since 0 says never. */
	return model->expires_ns / second_ns + model->idle_ns / second_ns + 1;
}

/* cmd and proxy are empty: no process and no address is the model's own. */
static void put_running(struct vac_buf *body, const struct vac_model_view *model)
{
	vac_buf_puts(body, "{\"model\":");
	vac_put_text(body, model->name);
	vac_buf_puts(body, ",\"state\":");
	vac_put_text(body, state_name(model->state));
	vac_buf_puts(body, ",\"cmd\":\"\",\"proxy\":\"\",\"ttl\":");
	vac_put_i64(body, ttl_s(model));
	vac_buf_puts(body, ",\"name\":");
	vac_put_text(body, model->name);
	vac_buf_puts(body, ",\"description\":");
	vac_put_text(body, model->planned && model->architecture ? model->architecture : "");
	vac_buf_putc(body, '}');
}

static int render_running(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	bool first = true;

	vac_buf_puts(out->body, "{\"running\":[");
	for (size_t i = 0; i < outcome->model_count; i++) {
		if (!state_name(outcome->models[i].state))
			continue;
		if (!first)
			vac_buf_putc(out->body, ',');
		first = false;
		put_running(out->body, &outcome->models[i]);
	}
	vac_buf_puts(out->body, "]}");
	return 0;
}

static int render_ok(struct vac_render *out)
{
	vac_buf_puts(out->body, "OK");
	return 0;
}

static int render_message(struct vac_render *out)
{
	vac_buf_puts(out->body, "{\"msg\":\"ok\"}");
	return 0;
}

static const struct vac_api_route routes[] = {
	{"GET", "/running", VAC_CALL_RUNNING, NULL, render_running},
	{"GET", "/unload", VAC_CALL_UNLOAD_ALL, NULL, render_ok, .content_type = "text/plain",
	 .changes = true},
	{"POST", "/api/models/unload", VAC_CALL_UNLOAD_ALL, NULL, render_message},
	{"POST", "/api/models/unload/", VAC_CALL_UNLOAD, NULL, render_ok,
	 .content_type = "text/plain", .rest_is_model = true},
	{0},
};

const struct vac_api_family vac_llamaswap_family = {
	.routes = routes,
	.error = vac_error_plain,
};
