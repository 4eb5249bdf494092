/*
 * api.c - finds the route of a request, lets its family read it, and lets the
 * same family write the reply. The table of families stands here; a family's
 * routes stand in its own file. Any thread; no state.
 */
#include "api/common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* native comes last: it takes every path that no other family claims. */
const struct vac_api_family *const vac_api_families[] = {
	&vac_openai_family,    &vac_tei_family,    &vac_kserve_family,
	&vac_llamaswap_family, /* before ollama, which claims all of /api/ */
	&vac_ollama_family,    &vac_native_family, NULL,
};

int vac_api_status(enum vac_error_code code)
{
	switch (code) {
	case VAC_OK:
		return 200;
	case VAC_E_INVALID:
		return 400;
	case VAC_E_NOT_FOUND:
		return 404;
	case VAC_E_TOO_LARGE:
		return 413;
	case VAC_E_UNSUPPORTED:
	case VAC_E_CORRUPT: /* the checkpoint, not the request: it cannot be served */
		return 422;
	case VAC_E_BUSY:
		return 429;
	case VAC_E_NO_ROOM:
	case VAC_E_GONE:
	case VAC_E_CANCELLED:
		return 503;
	case VAC_E_TIMEOUT:
		return 504;
	case VAC_E_IO:
	case VAC_E_INTERNAL:
		break;
	}
	return 500;
}

const char *vac_model_state_name(enum vac_model_state state)
{
	static const char *const names[] = {
		[VAC_MODEL_ABSENT] = "absent",     [VAC_MODEL_WAITING] = "waiting",
		[VAC_MODEL_LOADING] = "loading",   [VAC_MODEL_RESIDENT] = "resident",
		[VAC_MODEL_DRAINING] = "draining", [VAC_MODEL_FAILED] = "failed",
		[VAC_MODEL_PARKING] = "parking",   [VAC_MODEL_PARKED] = "parked",
	};

	if ((size_t)state >= sizeof(names) / sizeof(names[0]))
		return "unknown";
	return names[state];
}

static const char *suffix_of(const struct vac_api_route *route)
{
	return route->suffix ? route->suffix : "";
}

/* How many bytes of the path, behind the route's own, are a model's name. */
static size_t name_bytes(const struct vac_api_route *route, const char *path)
{
	size_t bytes = strlen(path), own = strlen(route->path), end = strlen(suffix_of(route));

	if (bytes <= own + end || strncmp(route->path, path, own) != 0 ||
	    strcmp(path + bytes - end, suffix_of(route)) != 0)
		return 0;
	return bytes - own - end;
}

static bool path_matches(const struct vac_api_route *route, const char *path)
{
	return route->rest_is_model ? name_bytes(route, path) > 0 : strcmp(route->path, path) == 0;
}

static bool method_matches(const struct vac_api_route *route, const char *method)
{
	return strcmp(route->method, method) == 0 ||
	       (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0 &&
		!route->changes);
}

/* They differ in their methods at most. */
static bool same_place(const struct vac_api_route *a, const struct vac_api_route *b)
{
	return strcmp(a->path, b->path) == 0 && strcmp(suffix_of(a), suffix_of(b)) == 0;
}

/* The family whose shape an error on this path has. */
static const struct vac_api_family *family_of(const char *path)
{
	for (size_t f = 0; vac_api_families[f]; f++) {
		const struct vac_api_family *family = vac_api_families[f];

		if (family->prefix && strncmp(path, family->prefix, strlen(family->prefix)) == 0)
			return family;
		for (const struct vac_api_route *route = family->routes; route->path; route++) {
			if (path_matches(route, path))
				return family;
		}
	}
	return &vac_native_family;
}

/* The route, or NULL with the methods that the path knows (0: unknown path). */
enum { KNOWS_GET = 1, KNOWS_POST = 2, KNOWS_HEAD = 4 };
static const struct vac_api_route *find_route(const struct vac_api_family *family,
					      const struct vac_http_request *request, int *knows)
{
	const struct vac_api_route *place = NULL;

	*knows = 0;
	for (const struct vac_api_route *route = family->routes; route->path; route++) {
		if (!path_matches(route, request->path) || (place && !same_place(place, route)))
			continue;
		if (method_matches(route, request->method))
			return route;
		place = route;
		if (strcmp(route->method, "GET") == 0)
			*knows |= route->changes ? KNOWS_GET : KNOWS_GET | KNOWS_HEAD;
		else
			*knows |= KNOWS_POST;
	}
	return NULL;
}

/* --- replies --------------------------------------------------------------------- */

static void write_failure(const struct vac_api_family *family,
			  const struct vac_api_failure *failure, struct vac_reply *reply)
{
	reply->status = family->status ? family->status(failure) : failure->status;
	reply->content_type = "application/json";
	family->error(failure, &reply->body);
	if (!vac_buf_ok(&reply->body))
		vac_buf_free(&reply->body); /* a status without a body says it, too */
}

static void write_error(const struct vac_api_family *family, const struct vac_error *error,
			int stage, struct vac_reply *reply)
{
	struct vac_api_failure failure = {
		.error = error, .status = vac_api_status(error->code), .stage = stage};

	write_failure(family, &failure, reply);
}

static int refuse_route(const struct vac_api_family *family, const struct vac_http_request *request,
			int knows, struct vac_reply *reply)
{
	static const char *const allows[] = {
		[KNOWS_GET] = "GET",
		[KNOWS_GET | KNOWS_HEAD] = "GET, HEAD",
		[KNOWS_POST] = "POST",
		[KNOWS_GET | KNOWS_POST] = "GET, POST",
		[KNOWS_GET | KNOWS_HEAD | KNOWS_POST] = "GET, HEAD, POST",
	};
	struct vac_error err;
	struct vac_api_failure failure = {.error = &err, .stage = VAC_STAGE_ROUTE};
	int rc;

	if (knows) {
		rc = vac_fail(&err, VAC_E_INVALID, "%.128s does not answer %.16s; use %s",
			      request->path, request->method, allows[knows]);
		failure.status = 405;
		reply->allow = allows[knows];
	} else {
		rc = vac_fail(&err, VAC_E_NOT_FOUND, "there is nothing at %.128s", request->path);
		failure.status = 404;
	}
	write_failure(family, &failure, reply);
	return rc;
}

/* X-Request-Timeout: how long the client will wait. */
static int read_timeout(struct vac_parse *parse)
{
	const struct vac_http_request *request = parse->request;
	const char *text =
		request->header ? request->header(request->ctx, "X-Request-Timeout") : NULL;

	if (!text)
		return 0;
	/* What is more than a hundred years is no limit; what is negative is nonsense. */
	if (vac_parse_duration_ms(text, &parse->call->timeout_ms) != 0 ||
	    parse->call->timeout_ms == 0 || *text == '-')
		return vac_fail(parse->err, VAC_E_INVALID,
				"X-Request-Timeout: expected seconds or a duration such as 1.5s, "
				"more than 0, not '%.32s'",
				text);
	parse->call->timeout_set = true;
	return 0;
}

/* ?autoload=false, as llama.cpp's router knows it. */
static int read_autoload(struct vac_parse *parse)
{
	const struct vac_http_request *request = parse->request;
	const char *text = request->query ? request->query(request->ctx, "autoload") : NULL;

	if (!text)
		return 0;
	parse->call->no_autoload = strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
	if (!parse->call->no_autoload && strcmp(text, "true") != 0 && strcmp(text, "1") != 0)
		return vac_fail(parse->err, VAC_E_INVALID,
				"autoload: expected true, 1, false or 0, not '%.32s'", text);
	return 0;
}

int vac_api_parse(const struct vac_http_request *request, struct vac_call *call,
		  struct vac_reply *reply)
{
	const struct vac_api_family *family = family_of(request->path);
	const struct vac_api_route *route;
	struct vac_error err = {0};
	struct vac_parse parse = {.request = request, .call = call, .err = &err, .place = ""};
	int knows, rc = 0;

	memset(call, 0, sizeof(*call));
	memset(reply, 0, sizeof(*reply));
	route = find_route(family, request, &knows);
	if (!route)
		return refuse_route(family, request, knows, reply);
	call->kind = route->kind;
	call->route = route;
	call->family = family;
	if (route->rest_is_model)
		rc = vac_set_model(&parse, request->path + strlen(route->path),
				   name_bytes(route, request->path));
	if (rc == 0)
		rc = read_timeout(&parse);
	if (rc == 0 && route->parse)
		rc = route->parse(&parse);
	if (rc == 0 && call->kind == VAC_CALL_TASK)
		rc = read_autoload(&parse);
	vac_json_free(&parse.json);
	if (rc != 0) {
		struct vac_api_failure failure = {.error = &err,
						  .status = vac_api_status(err.code),
						  .param = parse.param,
						  .stage = VAC_STAGE_REQUEST,
						  .empty = parse.empty};

		vac_call_free(call);
		write_failure(family, &failure, reply);
		return rc;
	}
	vac_inputs_seal(call);
	return 0;
}

void vac_api_render(const struct vac_call *call, const struct vac_outcome *outcome,
		    struct vac_reply *reply)
{
	const struct vac_api_route *route = call->route;
	struct vac_error err = {0};
	struct vac_render out = {.call = call,
				 .outcome = outcome,
				 .body = &reply->body,
				 .reply = reply,
				 .err = &err};

	memset(reply, 0, sizeof(*reply));
	if (outcome->error.code != VAC_OK) {
		write_error(call->family, &outcome->error, VAC_STAGE_OUTCOME, reply);
		reply->retry_after_s = outcome->retry_after_s;
		if (outcome->conflict)
			reply->status = 409;
		return;
	}
	reply->status = 200;
	reply->content_type = route->content_type ? route->content_type : "application/json";
	reply->timed = call->kind == VAC_CALL_TASK;
	reply->tokenize_ns = outcome->tokenize_ns;
	reply->queue_ns = outcome->queue_ns;
	reply->compute_ns = outcome->compute_ns;
	if (route->render(&out) == 0 && vac_buf_ok(&reply->body))
		return;
	reply->timed = false;
	reply->header_bytes = 0;
	vac_buf_free(&reply->body);
	if (err.code == VAC_OK)
		vac_fail_nomem(&err, "the reply", 0);
	write_error(call->family, &err, VAC_STAGE_OUTCOME, reply);
}

void vac_api_error(const char *path, const struct vac_error *error, uint32_t retry_after_s,
		   struct vac_reply *reply)
{
	memset(reply, 0, sizeof(*reply));
	write_error(family_of(path), error, VAC_STAGE_ROUTE, reply);
	reply->retry_after_s = retry_after_s;
}

const char *vac_failure_name(const struct vac_api_failure *failure)
{
	if (failure->status == 401)
		return "unauthorized";
	return failure->status == 403 ? "forbidden" : vac_error_name(failure->error->code);
}

bool vac_api_acts(const char *method, const char *path)
{
	const struct vac_http_request request = {.method = method, .path = path};
	int knows;
	const struct vac_api_route *route = find_route(family_of(path), &request, &knows);

	return route && (route->changes || strcmp(route->method, "GET") != 0);
}

void vac_api_forbidden(const char *path, const struct vac_error *why, struct vac_reply *reply)
{
	const struct vac_api_failure failure = {
		.error = why, .status = 403, .stage = VAC_STAGE_ROUTE};

	memset(reply, 0, sizeof(*reply));
	write_failure(family_of(path), &failure, reply);
	reply->status = 403; /* whatever a family makes of other errors */
}

void vac_api_unauthorized(const char *path, bool wrong, struct vac_reply *reply)
{
	const struct vac_api_family *family = family_of(path);
	struct vac_error err;
	struct vac_api_failure failure = {.error = &err, .status = 401, .stage = VAC_STAGE_ROUTE};

	memset(reply, 0, sizeof(*reply));
	vac_fail(&err, VAC_E_INVALID, "%s",
		 wrong ? "the API key is not one of this server's; ask who runs it for one"
		       : "this server wants an API key; send it as Authorization: Bearer KEY or "
			 "as X-Api-Key (the vacate commands take it from VACATE_API_KEY)");
	write_failure(family, &failure, reply);
	reply->status = 401; /* whatever a family makes of other errors */
	reply->authenticate = wrong ? "Bearer realm=\"vacate\", error=\"invalid_token\""
				    : "Bearer realm=\"vacate\"";
}

void vac_call_free(struct vac_call *call)
{
	free(call->model);
	call->model = NULL;
	free(call->id);
	call->id = NULL;
	vac_inputs_free(call);
}

void vac_reply_free(struct vac_reply *reply)
{
	vac_buf_free(&reply->body);
}
