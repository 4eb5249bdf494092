/*
 * test_openapi.c - the OpenAPI document that is served, against the tables of
 * routes: each route is in it and it has no other, with the family's error
 * shape and the content type of a success. What servers answer is held against
 * it in tests/e2e/test_openapi.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/common.h"
#include "api_help.h"

static json_t *document;

static int load_document(void **state)
{
	struct vac_http_request request = help_request("GET", "/openapi.json", NULL, NULL);
	struct vac_outcome outcome = {0};
	struct vac_reply reply;
	struct vac_call call;

	(void)state;
	assert_int_equal(vac_api_parse(&request, &call, &reply), 0);
	vac_api_render(&call, &outcome, &reply);
	assert_int_equal(reply.status, 200);
	assert_string_equal(reply.content_type, "application/json");
	document = help_json(&reply);
	vac_reply_free(&reply);
	vac_call_free(&call);
	return document ? 0 : -1;
}

static int free_document(void **state)
{
	(void)state;
	json_decref(document);
	return 0;
}

/* The path of a route as the document writes it. */
static void write_path(const struct vac_api_route *route, char *to, size_t room)
{
	snprintf(to, room, "%s%s%s", route->path, route->rest_is_model ? "{model}" : "",
		 route->suffix ? route->suffix : "");
}

static const json_t *operation_of(const struct vac_api_route *route)
{
	const json_t *paths = json_object_get(document, "paths");
	char path[128], method[8];

	write_path(route, path, sizeof(path));
	snprintf(method, sizeof(method), "%s", strcmp(route->method, "GET") == 0 ? "get" : "post");
	return json_object_get(json_object_get(paths, path), method);
}

static void every_route_is_there(void **state)
{
	(void)state;
	for (size_t f = 0; vac_api_families[f]; f++) {
		for (const struct vac_api_route *route = vac_api_families[f]->routes; route->path;
		     route++) {
			if (!operation_of(route))
				fail_msg("docs/openapi.json lacks %s %s%s%s", route->method,
					 route->path, route->rest_is_model ? "{model}" : "",
					 route->suffix ? route->suffix : "");
		}
	}
}

static bool is_route(const char *path, const char *method)
{
	char written[128];

	for (size_t f = 0; vac_api_families[f]; f++) {
		for (const struct vac_api_route *route = vac_api_families[f]->routes; route->path;
		     route++) {
			write_path(route, written, sizeof(written));
			if (strcmp(written, path) == 0 && strcasecmp(route->method, method) == 0)
				return true;
		}
	}
	return false;
}

static void nothing_else_is_there(void **state)
{
	json_t *paths = json_object_get(document, "paths"), *item, *operation;
	const char *path, *method;

	(void)state;
	json_object_foreach(paths, path, item)
	{
		json_object_foreach(item, method, operation)
		{
			if (!is_route(path, method))
				fail_msg("docs/openapi.json has %s %s, which is no route", method,
					 path);
		}
	}
}

/* Names of components, one a family in the order of the table. */
static const char *const error_shapes[] = {"OpenAIError", "TEIError",   "PlainError",
					   "PlainError",  "PlainError", "Error"};

static void errors_and_types(void **state)
{
	char wanted[64];

	(void)state;
	for (size_t f = 0; vac_api_families[f]; f++) {
		snprintf(wanted, sizeof(wanted), "#/components/responses/%s", error_shapes[f]);
		for (const struct vac_api_route *route = vac_api_families[f]->routes; route->path;
		     route++) {
			const json_t *responses = json_object_get(operation_of(route), "responses");
			const json_t *bad = json_object_get(responses, "400");
			const json_t *content =
				json_object_get(json_object_get(responses, "200"), "content");
			const char *type =
				route->content_type ? route->content_type : "application/json";
			char main_type[64];

			if (strcmp(json_string_value(json_object_get(bad, "$ref")), wanted) != 0)
				fail_msg("%s%s: 400 is not %s", route->path,
					 route->suffix ? route->suffix : "", wanted);
			snprintf(main_type, sizeof(main_type), "%.*s", (int)strcspn(type, ";"),
				 type);
			/* one without content has no body */
			if (content && !json_object_get(content, main_type))
				fail_msg("%s: 200 is not %s", route->path, main_type);
		}
	}
}

static void version(void **state)
{
	const json_t *info = json_object_get(document, "info");

	(void)state;
	assert_string_equal(json_string_value(json_object_get(info, "version")), VAC_VERSION);
	assert_string_equal(json_string_value(json_object_get(document, "openapi")), "3.1.0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_route_is_there),
		cmocka_unit_test(nothing_else_is_there),
		cmocka_unit_test(errors_and_types),
		cmocka_unit_test(version),
	};

	return cmocka_run_group_tests(tests, load_document, free_document);
}
