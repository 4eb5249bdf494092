/*
 * native.c - Vacate's own routes: what is on disk and in memory, loading,
 * unloading with receipts, health and metrics. The command line speaks these.
 * Any thread; no state.
 */
#include "api/common.h"

#include <errno.h>
#include <string.h>

static int parse_plan(struct vac_parse *parse)
{
	int rc = vac_query_model(parse);

	if (rc == 0 && !parse->call->model)
		rc = vac_fail(parse->err, VAC_E_INVALID, "model: is missing; ask for ?model=NAME");
	return rc;
}

static int parse_receipts(struct vac_parse *parse)
{
	const struct vac_http_request *request = parse->request;
	const char *text = request->query ? request->query(request->ctx, "limit") : NULL;
	size_t limit = 0;

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
	return vac_body_read(parse, load_members, sizeof(load_members) / sizeof(load_members[0]));
}

static int read_all(struct vac_parse *parse)
{
	return vac_read_bool(parse, &parse->all);
}

static int read_drop_cache(struct vac_parse *parse)
{
	return vac_read_bool(parse, &parse->call->drop_cache);
}

static const struct vac_member unload_members[] = {
	{"model", vac_read_model, false},
	{"all", read_all, false},
	{"drop_cache", read_drop_cache, false},
};

static int parse_unload(struct vac_parse *parse)
{
	int rc = vac_body_read(parse, unload_members,
			       sizeof(unload_members) / sizeof(unload_members[0]));

	if (rc != 0)
		return rc;
	if (parse->all == (parse->call->model != NULL))
		return vac_fail(parse->err, VAC_E_INVALID,
				"model: name one model, or send {\"all\": true} and no name");
	if (parse->all)
		parse->call->kind = VAC_CALL_UNLOAD_ALL;
	return 0;
}

static int render_models(const struct vac_call *call, const struct vac_outcome *outcome,
			 struct vac_buf *body, struct vac_error *err)
{
	(void)call;
	(void)err;
	vac_buf_putc(body, '{');
	vac_put_models(body, outcome);
	vac_buf_putc(body, '}');
	return 0;
}

static int render_plan(const struct vac_call *call, const struct vac_outcome *outcome,
		       struct vac_buf *body, struct vac_error *err)
{
	if (outcome->model_count == 0)
		return vac_fail(err, VAC_E_NOT_FOUND, "no model %.200s", call->model);
	vac_put_model(body, &outcome->models[0]);
	return 0;
}

static int render_ps(const struct vac_call *call, const struct vac_outcome *outcome,
		     struct vac_buf *body, struct vac_error *err)
{
	(void)call;
	(void)err;
	vac_put_ps(body, outcome);
	return 0;
}

static int render_load(const struct vac_call *call, const struct vac_outcome *outcome,
		       struct vac_buf *body, struct vac_error *err)
{
	(void)call;
	(void)err;
	vac_buf_puts(body, "{\"success\":true,\"model\":");
	if (outcome->model_count > 0)
		vac_put_model(body, &outcome->models[0]);
	else
		vac_buf_puts(body, "null");
	vac_buf_putc(body, '}');
	return 0;
}

static int render_unload(const struct vac_call *call, const struct vac_outcome *outcome,
			 struct vac_buf *body, struct vac_error *err)
{
	(void)call;
	(void)err;
	vac_buf_puts(body, "{\"success\":true,");
	vac_put_receipts(body, outcome);
	vac_buf_putc(body, '}');
	return 0;
}

static int render_receipts(const struct vac_call *call, const struct vac_outcome *outcome,
			   struct vac_buf *body, struct vac_error *err)
{
	(void)call;
	(void)err;
	vac_buf_putc(body, '{');
	vac_put_receipts(body, outcome);
	vac_buf_putc(body, '}');
	return 0;
}

static int render_health(const struct vac_call *call, const struct vac_outcome *outcome,
			 struct vac_buf *body, struct vac_error *err)
{
	(void)call;
	(void)outcome;
	(void)err;
	vac_buf_puts(body, "{\"status\":\"ok\"}");
	return 0;
}

static int render_version(const struct vac_call *call, const struct vac_outcome *outcome,
			  struct vac_buf *body, struct vac_error *err)
{
	(void)call;
	(void)outcome;
	(void)err;
	vac_buf_puts(body, "{\"version\":\"" VAC_VERSION "\"}");
	return 0;
}

/* The server appends its text to the empty body. */
static int render_metrics(const struct vac_call *call, const struct vac_outcome *outcome,
			  struct vac_buf *body, struct vac_error *err)
{
	(void)call;
	(void)outcome;
	(void)body;
	(void)err;
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
	{"GET", "/version", VAC_CALL_VERSION, NULL, render_version},
	{"GET", "/metrics", VAC_CALL_METRICS, NULL, render_metrics,
	 .content_type = "text/plain; version=0.0.4; charset=utf-8"},
	{"GET", "/models", VAC_CALL_LIST, NULL, render_models},
	{"GET", "/models/plan", VAC_CALL_PLAN, parse_plan, render_plan},
	{"GET", "/models/ps", VAC_CALL_PS, NULL, render_ps},
	{"POST", "/models/load", VAC_CALL_LOAD, parse_load, render_load},
	{"POST", "/models/unload", VAC_CALL_UNLOAD, parse_unload, render_unload},
	{"GET", "/receipts", VAC_CALL_RECEIPTS, parse_receipts, render_receipts},
	{0},
};

const struct vac_api_family vac_native_family = {
	.routes = routes,
	.error = error,
};
