/* request.c - see request.h. */
#include "worker/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ERROR 4095 /* of the kernel's */

static const char *take_item(struct vac_sandbox_request *request, char *item)
{
	struct vac_call_rule *rule;
	char *error, *end;
	long value = 0;
	int number;

	if (strcmp(item, "calls") == 0) {
		request->no_filter = true;
		return NULL;
	}
	if (strcmp(item, "files") == 0) {
		request->no_landlock = true;
		return NULL;
	}
	if (*item == '/') {
		if (request->path_count == VAC_REQUEST_ITEMS)
			return "VACATE_GPU_SANDBOX names too many paths";
		request->paths[request->path_count++] = item;
		return NULL;
	}
	error = strchr(item, '=');
	if (error) {
		*error++ = '\0';
		value = strtol(error, &end, 10);
		if (*error < '0' || *error > '9' || *end || value > MOST_ERROR)
			return "VACATE_GPU_SANDBOX takes CALL=N with an error's number";
	}
	number = vac_filter_number(item);
	if (number < 0)
		return "VACATE_GPU_SANDBOX names a call that no rule is about";
	if (request->call_count == VAC_REQUEST_ITEMS)
		return "VACATE_GPU_SANDBOX names too many calls";
	rule = &request->calls[request->call_count++];
	rule->number = number;
	rule->action = error ? VAC_CALL_ERRNO : VAC_CALL_ALLOW;
	rule->error = (int)value;
	snprintf(rule->name, sizeof(rule->name), "%s", item);
	return NULL;
}

int vac_sandbox_request(const char *text, struct vac_sandbox_request *out, const char **why)
{
	const char *problem = NULL;
	char *rest, *item;

	memset(out, 0, sizeof(*out));
	if (!text || !*text)
		return 0;
	if (strcmp(text, "off") == 0) {
		out->kind = VAC_REQUEST_OFF;
		return 0;
	}
	if (strcmp(text, "trial") == 0) {
		out->kind = VAC_REQUEST_TRIAL;
		return 0;
	}
	snprintf(out->text, sizeof(out->text), "%s", text);
	rest = out->text;
	item = strsep(&rest, ",");
	if (strcmp(item, "on") != 0)
		problem = "VACATE_GPU_SANDBOX takes on, off or trial";
	else if (strlen(text) >= sizeof(out->text))
		problem = "VACATE_GPU_SANDBOX is too long";
	while (!problem && (item = strsep(&rest, ",")))
		problem = take_item(out, item);
	if (problem) {
		memset(out, 0, sizeof(*out));
		*why = problem;
		return -EINVAL;
	}
	out->kind = VAC_REQUEST_ON;
	return 0;
}
