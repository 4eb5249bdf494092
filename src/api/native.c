/*
 * native.c - Vacate's own routes: what is on disk and in memory, loading,
 * unloading with receipts, health and metrics. The command line speaks these.
 * Any thread; no state.
 */
#include "api/common.h"
#include "api/document.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

static int parse_plan(struct vac_parse *parse)
{
	int rc = vac_query_model(parse);

	if (rc == 0 && !parse->call->model)
		rc = vac_fail(parse->err, VAC_E_INVALID, "model: is missing; ask for ?model=NAME");
	return rc;
}

static const char *query(const struct vac_parse *parse, const char *name)
{
	const struct vac_http_request *request = parse->request;

	return request->query ? request->query(request->ctx, name) : NULL;
}

static int parse_receipts(struct vac_parse *parse)
{
	const char *text = query(parse, "since");
	size_t limit = 0;

	if (text && vac_parse_since(text, vac_wall_ns(), &parse->call->since_wall_ns) != 0)
		return vac_fail(parse->err, VAC_E_INVALID,
				"since: expected a duration such as 1h, or a time such as "
				"2026-01-31T12:00:00Z, not '%.64s'",
				text);
	text = query(parse, "limit");
	if (!text)
		return 0;
	if (*text == '\0' || strlen(text) > 9 || text[strspn(text, "0123456789")] != '\0')
		return vac_fail(parse->err, VAC_E_INVALID,
				"limit: expected a number of receipts from 0 (all) to 999999999");
	for (; *text; text++)
		limit = limit * 10 + (size_t)(*text - '0');
	parse->call->limit = limit;
	return 0;
}

static const struct vac_member load_members[] = {
	{"model", vac_read_model, true},
	{"keep_alive", vac_read_keep_alive, false},
};

static int parse_load(struct vac_parse *parse)
{
	return vac_body_read(parse, VAC_MEMBERS(load_members));
}

static int read_all(struct vac_parse *parse)
{
	return vac_read_bool(parse, &parse->all);
}

static const struct vac_member unload_members[] = {
	{"model", vac_read_model, false},
	{"all", read_all, false},
	{"drop_cache", vac_read_drop_cache, false},
};

static int parse_unload(struct vac_parse *parse)
{
	int rc = vac_body_read(parse, VAC_MEMBERS(unload_members));

	if (rc != 0)
		return rc;
	if (parse->all == (parse->call->model != NULL))
		return vac_fail(parse->err, VAC_E_INVALID,
				"model: name one model, or send {\"all\": true} and no name");
	if (parse->all)
		parse->call->kind = VAC_CALL_UNLOAD_ALL;
	return 0;
}

static int read_risk(struct vac_parse *parse)
{
	return vac_read_bool(parse, &parse->call->risk);
}

static const struct vac_member park_members[] = {
	{"model", vac_read_model, true},
	{"risk", read_risk, false},
};

static int parse_park(struct vac_parse *parse)
{
	return vac_body_read(parse, VAC_MEMBERS(park_members));
}

static const struct vac_member resume_members[] = {
	{"model", vac_read_model, true},
};

static int parse_resume(struct vac_parse *parse)
{
	return vac_body_read(parse, VAC_MEMBERS(resume_members));
}

/* The state as llama.cpp's router knows it. */
static const char *router_state(enum vac_model_state state)
{
	switch (state) {
	case VAC_MODEL_WAITING:
	case VAC_MODEL_LOADING:
		return "loading";
	case VAC_MODEL_RESIDENT:
	case VAC_MODEL_PARKING:
	case VAC_MODEL_PARKED:
	case VAC_MODEL_DRAINING: /* its memory is not back yet */
		return "loaded";
	case VAC_MODEL_ABSENT:
	case VAC_MODEL_FAILED:
		break;
	}
	return "unloaded";
}

/* Beside our own list stands the one that clients of that router read. */
static void put_router_model(struct vac_buf *body, size_t index, const struct vac_model_view *model)
{
	vac_buf_puts(body, index ? ",{\"id\":" : "{\"id\":");
	vac_put_text(body, model->name);
	vac_buf_puts(body, ",\"aliases\":");
	vac_put_aliases(body, model);
	vac_buf_puts(body, ",\"object\":\"model\",\"created\":");
	vac_put_i64(body, model->modified_s);
	vac_buf_puts(body, ",\"owned_by\":\"vacate\",\"status\":{\"value\":");
	vac_put_text(body, router_state(model->state));
	if (model->state == VAC_MODEL_FAILED)
		vac_buf_puts(body, ",\"failed\":true");
	vac_buf_puts(body, "}}");
}

static int render_models(struct vac_render *out)
{
	struct vac_buf *body = out->body;

	vac_buf_putc(body, '{');
	vac_put_models(body, out->outcome);
	vac_buf_puts(body, ",\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < out->outcome->model_count; i++)
		put_router_model(body, i, &out->outcome->models[i]);
	vac_buf_puts(body, "]}");
	return 0;
}

static int render_plan(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;

	if (outcome->model_count == 0)
		return vac_fail(out->err, VAC_E_NOT_FOUND, "no model %.200s", out->call->model);
	vac_put_model(out->body, &outcome->models[0]);
	return 0;
}

static int render_ps(struct vac_render *out)
{
	vac_put_ps(out->body, out->outcome);
	return 0;
}

static int render_load(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	struct vac_buf *body = out->body;

	vac_buf_puts(body, "{\"success\":true,\"model\":");
	if (outcome->model_count > 0)
		vac_put_model(body, &outcome->models[0]);
	else
		vac_buf_puts(body, "null");
	vac_buf_putc(body, '}');
	return 0;
}

static int render_unload(struct vac_render *out)
{
	struct vac_buf *body = out->body;

	vac_buf_puts(body, "{\"success\":true,");
	vac_put_receipts(body, out->outcome);
	vac_buf_putc(body, '}');
	return 0;
}

static int render_held(struct vac_render *out)
{
	vac_put_held(out->body, out->call->kind == VAC_CALL_PARK, out->outcome);
	return 0;
}

static int render_receipts(struct vac_render *out)
{
	struct vac_buf *body = out->body;

	vac_buf_putc(body, '{');
	vac_put_receipts(body, out->outcome);
	vac_buf_putc(body, '}');
	return 0;
}

static int render_health(struct vac_render *out)
{
	vac_buf_puts(out->body, "{\"status\":\"ok\"}");
	return 0;
}

static int render_openapi(struct vac_render *out)
{
	vac_buf_put(out->body, vac_openapi, vac_openapi_bytes);
	return 0;
}

static void error(const struct vac_api_failure *failure, struct vac_buf *body)
{
	vac_buf_puts(body, "{\"error\":{\"code\":");
	vac_put_text(body, vac_failure_name(failure));
	vac_buf_puts(body, ",\"message\":");
	vac_put_text(body, failure->error->message);
	vac_buf_puts(body, ",\"detail\":");
	vac_put_text(body, failure->error->detail);
	vac_buf_puts(body, "}}");
}

static const struct vac_api_route routes[] = {
	{"GET", "/healthz", VAC_CALL_HEALTH, NULL, render_health},
	{"GET", "/version", VAC_CALL_VERSION, NULL, vac_render_version},
	{"GET", "/openapi.json", VAC_CALL_VERSION, NULL, render_openapi},
	/* the server appends its text to the empty body */
	{"GET", "/metrics", VAC_CALL_METRICS, NULL, vac_render_nothing,
	 .content_type = "text/plain; version=0.0.4; charset=utf-8"},
	{"GET", "/models", VAC_CALL_LIST, NULL, render_models},
	{"GET", "/models/plan", VAC_CALL_PLAN, parse_plan, render_plan},
	{"GET", "/models/ps", VAC_CALL_PS, NULL, render_ps},
	{"GET", "/models/events", VAC_CALL_EVENTS, vac_query_model, vac_render_nothing,
	 .content_type = "text/event-stream"},
	{"GET", "/models/sse", VAC_CALL_EVENTS, vac_query_model, vac_render_nothing,
	 .content_type = "text/event-stream"},
	{"POST", "/models/load", VAC_CALL_LOAD, parse_load, render_load},
	{"POST", "/models/unload", VAC_CALL_UNLOAD, parse_unload, render_unload},
	{"POST", "/models/park", VAC_CALL_PARK, parse_park, render_held},
	{"POST", "/models/resume", VAC_CALL_RESUME, parse_resume, render_held},
	{"GET", "/receipts", VAC_CALL_RECEIPTS, parse_receipts, render_receipts},
	{0},
};

const struct vac_api_family vac_native_family = {
	.routes = routes,
	.error = error,
};
