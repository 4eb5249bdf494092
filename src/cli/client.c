/* client.c - asking a running server and reading its reply. One thread. */
#include "cli/client.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* Seconds as text -> milliseconds. */
static int parse_timeout(const struct vac_command *command, const char *text, int64_t *ms)
{
	char *end;
	double seconds;

	errno = 0;
	seconds = strtod(text, &end);
	if (errno != 0 || end == text || *end || !isfinite(seconds) || seconds < 0 || seconds > 1e9)
		return vac_usage_error(command, "--timeout %s is not a number of seconds", text);
	*ms = (int64_t)(seconds * 1000);
	if (*ms == 0 && seconds > 0)
		*ms = 1;
	return VAC_CONTINUE;
}

static void print_raw(const struct vac_http_response *response)
{
	const struct vac_buf *body = &response->body;

	fwrite(body->data, 1, body->bytes, stdout);
	if (body->bytes > 0 && body->data[body->bytes - 1] != '\n')
		fputc('\n', stdout);
}

static enum vac_error_code code_of_name(const char *name)
{
	for (int code = VAC_E_INVALID; name && code <= VAC_E_INTERNAL; code++) {
		if (strcmp(name, vac_error_name((enum vac_error_code)code)) == 0)
			return (enum vac_error_code)code;
	}
	return VAC_E_INTERNAL;
}

/* The server refused: says why and returns the exit code. */
static int refused(const struct vac_command *command, const struct vac_http_url *url,
		   const char *what, const struct vac_http_response *response, const json_t *reply)
{
	const json_t *error = json_object_get(reply, "error");
	const char *message = vac_reply_text(error, "message");
	const char *detail = vac_reply_text(error, "detail");

	if (!message) {
		vac_complain(command, "%s answered %s with status %d%s%s; is it a vacate server?",
			     url->text, what, response->status, response->reason[0] ? " " : "",
			     response->reason);
		return VAC_EXIT_FAILED;
	}
	vac_complain(command, "%s%s%s%s", message, detail && *detail ? " (" : "",
		     detail ? detail : "", detail && *detail ? ")" : "");
	switch (code_of_name(vac_reply_text(error, "code"))) {
	case VAC_E_NOT_FOUND:
		return VAC_EXIT_NOT_FOUND;
	case VAC_E_NO_ROOM:
	case VAC_E_BUSY:
		return VAC_EXIT_NO_ROOM;
	default: /* also gone and timeout: the server itself was there */
		return VAC_EXIT_FAILED;
	}
}

int vac_client_refused(const struct vac_command *command, const struct vac_client *client,
		       const struct vac_http_url *url, const char *what,
		       const struct vac_http_response *response)
{
	json_t *reply = json_loadb(response->body.data ? (const char *)response->body.data : "",
				   response->body.bytes, JSON_REJECT_DUPLICATES, NULL);
	int rc;

	if (client->json && json_is_object(reply))
		print_raw(response);
	rc = refused(command, url, what, response, reply);
	json_decref(reply);
	return rc;
}

/* A whole reply has come. */
static int judge(const struct vac_command *command, const struct vac_client *client,
		 const struct vac_http_url *url, const char *what,
		 const struct vac_http_response *response, json_t **out)
{
	json_error_t problem;
	json_t *reply = json_loadb(response->body.data ? (const char *)response->body.data : "",
				   response->body.bytes, JSON_REJECT_DUPLICATES, &problem);
	bool good = response->status >= 200 && response->status < 300;
	bool raw = client->json && !(good && client->compose);
	int rc;

	if (raw && json_is_object(reply))
		print_raw(response);
	if (!good) {
		rc = refused(command, url, what, response, reply);
	} else if (!reply) {
		vac_complain(command,
			     "%s answered %s with something that is not JSON (line %d, column %d: "
			     "%s); is it a vacate server?",
			     url->text, what, problem.line, problem.column, problem.text);
		rc = VAC_EXIT_FAILED;
	} else if (!json_is_object(reply)) {
		vac_complain(command,
			     "%s answered %s with JSON that is not an object; is it a vacate "
			     "server?",
			     url->text, what);
		rc = VAC_EXIT_FAILED;
	} else if (raw) {
		rc = VAC_EXIT_OK;
	} else {
		*out = reply;
		return VAC_CONTINUE;
	}
	json_decref(reply);
	return rc;
}

static const char *variable(const char *name)
{
	const char *text = getenv(name);

	return text && *text ? text : NULL;
}

int vac_client_find(const struct vac_command *command, const struct vac_client *client,
		    struct vac_client_server *server)
{
	const char *text = client->server ? client->server : variable("VACATE_SERVER");
	const char *key = variable("VACATE_API_KEY"), *path = client->keys;
	struct vac_error err = {0};

	server->keys = (struct vac_keys){0};
	if (vac_http_url_parse(text && *text ? text : VAC_HTTP_DEFAULT_SERVER, &server->url,
			       &err) != 0)
		return vac_usage_error(command, "%s", err.message);
	if (!path && !key)
		path = variable("VACATE_API_KEY_FILE");
	if (path) {
		if (vac_keys_read(path, &server->keys, &err) < 0)
			return vac_usage_error(command, "--api-key-file %s", err.message);
		key = server->keys.keys[0].text;
	}
	/* It must not end its header line and begin another. */
	for (const char *c = key; c && *c; c++) {
		if (*c < '!' || *c > '~')
			return vac_usage_error(command,
					       "VACATE_API_KEY has a character that no key has");
	}
	server->url.key = key;
	return VAC_CONTINUE;
}

void vac_client_forget(struct vac_client_server *server)
{
	server->url.key = NULL;
	vac_keys_free(&server->keys);
}

int vac_client_ask(const struct vac_command *command, const struct vac_client *client,
		   const char *method, const char *target, const json_t *body, int timeout_s,
		   json_t **reply)
{
	int64_t timeout_ms = (int64_t)timeout_s * 1000;
	struct vac_http_response response = {0};
	struct vac_client_server server;
	struct vac_error err = {0};
	char *text = NULL, what[64];
	int rc;

	*reply = NULL;
	rc = vac_client_find(command, client, &server);
	if (rc == VAC_CONTINUE && client->timeout)
		rc = parse_timeout(command, client->timeout, &timeout_ms);
	if (rc != VAC_CONTINUE)
		goto out;
	if (body) {
		text = json_dumps(body, JSON_COMPACT);
		if (!text) {
			vac_complain(command, "out of memory for the request");
			rc = VAC_EXIT_FAILED;
			goto out;
		}
	}
	if (vac_http_request(&server.url, method, target, text, timeout_ms, client->beside,
			     &response, &err) != 0) {
		rc = vac_exit_of(err.code);
		if (rc == VAC_EXIT_UNREACHABLE && client->unreachable)
			*client->unreachable = err;
		else
			vac_complain(command, "%s", err.message);
	} else {
		snprintf(what, sizeof(what), "%s %.*s", method, (int)strcspn(target, "?"), target);
		rc = judge(command, client, &server.url, what, &response, reply);
	}
out:
	free(text);
	vac_http_response_free(&response);
	vac_client_forget(&server);
	return rc;
}

int vac_client_get(const struct vac_command *command, int argc, char **argv, const char *target,
		   json_t **reply)
{
	struct vac_client client = {0};
	const struct vac_option options[] = {VAC_CLIENT_OPTIONS(client)};
	struct vac_arguments arguments = {0};
	int rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]),
				   &arguments, argc, argv);

	if (rc != VAC_CONTINUE)
		return rc;
	return vac_client_ask(command, &client, "GET", target, NULL, VAC_ASK_TIMEOUT_S, reply);
}

const json_t *vac_reply_list(const struct vac_command *command, const json_t *reply,
			     const char *name)
{
	const json_t *list = json_object_get(reply, name);

	if (json_is_array(list))
		return list;
	vac_complain(command, "the server's reply has no list \"%s\"; is it a vacate server?",
		     name);
	return NULL;
}

const char *vac_reply_text(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

bool vac_reply_number(const json_t *object, const char *name, int64_t *number)
{
	const json_t *value = json_object_get(object, name);

	if (json_is_integer(value)) {
		*number = json_integer_value(value);
		return true;
	}
	/* Times may have decimals; a double beyond int64_t has no value as one. */
	if (json_is_real(value) && fabs(json_real_value(value)) < 9e18) {
		*number = llround(json_real_value(value));
		return true;
	}
	return false;
}

bool vac_reply_flag(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

char *vac_reply_texts(const json_t *object, const char *name)
{
	struct vac_buf joined = VAC_BUF_INIT;
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(object, name), i, item)
	{
		if (!json_is_string(item))
			continue;
		if (joined.bytes > 0)
			vac_buf_puts(&joined, ", ");
		vac_buf_puts(&joined, json_string_value(item));
	}
	if (joined.bytes > 0)
		vac_buf_putc(&joined, '\0');
	if (!vac_buf_ok(&joined) || joined.bytes == 0) {
		vac_buf_free(&joined);
		return NULL;
	}
	return (char *)joined.data;
}

const char *vac_reply_count(const json_t *object, const char *name, char to[VAC_TEXT_BYTES])
{
	int64_t number;

	if (!vac_reply_number(object, name, &number))
		return NULL;
	snprintf(to, VAC_TEXT_BYTES, "%lld", (long long)number);
	return to;
}

const char *vac_reply_bytes(const json_t *object, const char *name, char to[VAC_TEXT_BYTES])
{
	int64_t bytes;

	return vac_reply_number(object, name, &bytes) ? vac_format_signed_bytes(to, bytes, 0) : "-";
}

const char *vac_reply_ms(const json_t *object, const char *name, char to[VAC_TEXT_BYTES])
{
	int64_t ms;

	return vac_reply_number(object, name, &ms) ? vac_format_ms(to, ms) : "-";
}

const char *vac_reply_vram(const json_t *model, char to[VAC_TEXT_BYTES])
{
	const json_t *plan = json_object_get(model, "plan");
	int64_t bytes;

	if (!vac_reply_number(plan, "device_bytes", &bytes) || bytes <= 0)
		return NULL;
	return vac_reply_bytes(plan, "device_bytes", to);
}

enum vac_color vac_state_color(const char *state)
{
	if (!state || strcmp(state, "absent") == 0)
		return VAC_COLOR_NONE;
	if (strcmp(state, "resident") == 0)
		return VAC_COLOR_GREEN;
	return strcmp(state, "failed") == 0 ? VAC_COLOR_RED : VAC_COLOR_YELLOW;
}
