/*
 * park.c - `vacate park` and `vacate resume`: a live process, or a model of a server, leaves
 * its GPUs, and comes back with the same bits. docs/hold.md. One thread.
 */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "cli/client.h"
#include "cli/holding.h"

static int parse_duration(const struct vac_command *command, const char *option, const char *text,
			  uint32_t *ms)
{
	int64_t value;

	if (!text)
		return 0;
	if (vac_parse_duration_ms(text, &value) < 0 || value < 1 || value > UINT32_MAX)
		return vac_usage_error(command, "--%s takes a duration such as 10s or 5m, not '%s'",
				       option, text);
	*ms = (uint32_t)value;
	return 0;
}

/* What is named on a command line: processes by numbers, models by names. */
struct move {
	const struct vac_command *command;
	struct vac_wire_hold hold;
	struct vac_client client;
	const char *models[VAC_WIRE_MAX_TARGETS];
	size_t model_count;
	bool tree, json;
	const char *for_processes; /* an option that was given and is for these alone */
};

/* VAC_CONTINUE, or the exit code after a complaint. */
static int add_all(struct move *move, const struct vac_arguments *arguments)
{
	const struct vac_command *command = move->command;
	struct vac_error err;

	for (size_t i = 0; i < arguments->count; i++) {
		const char *name = arguments->values[i];

		if (vac_holding_is_model(name)) {
			if (move->for_processes)
				return vac_usage_error(command,
						       "--%s is for processes, and %s is a model",
						       move->for_processes, name);
			move->models[move->model_count++] = name;
			continue;
		}
		if (vac_holding_add(&move->hold, name, move->tree, &err) == 0)
			continue;
		if (err.code == VAC_E_INVALID)
			return vac_usage_error(command, "%s", err.message);
		return vac_holding_refused(command, move->hold.operation, move->json, &err);
	}
	return VAC_CONTINUE;
}

/* Models first: a server may be asked in vain, and then nothing else has moved. */
static int run_all(struct move *move)
{
	json_t *receipts = move->json ? json_array() : NULL;
	int rc;

	move->client.json = move->client.compose = move->json;
	if (move->json && !receipts) {
		vac_complain(move->command, "out of memory");
		return VAC_EXIT_FAILED;
	}
	rc = vac_holding_models(move->command, &move->client, move->hold.operation, move->models,
				move->model_count, move->hold.risk, receipts);
	if (move->hold.count == 0 && !move->json)
		return rc;
	if (rc == VAC_EXIT_OK) {
		if (move->model_count > 0 && !move->json)
			fputc('\n', stdout);
		rc = vac_holding_run(move->command, &move->hold, move->tree, move->json, receipts);
	} else if (json_array_size(receipts) > 0) {
		struct vac_wire_hold none = {.operation = move->hold.operation};

		/* The refusal has been printed. */
		(void)vac_holding_run(move->command, &none, false, true, receipts);
	}
	json_decref(receipts);
	return rc;
}

static int park(const struct vac_command *command, int argc, char **argv)
{
	struct move move = {
		.command = command,
		.hold = {.operation = VAC_WIRE_HOLD_PARK, .who = vac_wire_text("park")}};
	const char *values[VAC_WIRE_MAX_TARGETS], *timeout = NULL;
	struct vac_arguments arguments = {
		.values = values, .least = 1, .most = VAC_WIRE_MAX_TARGETS};
	bool pageout = false;
	const struct vac_option options[] = {
		{"timeout", "DURATION", "for its CUDA calls to end (10s)", NULL, &timeout},
		{"tree", NULL, "its children too, all or none", &move.tree, NULL},
		{"risk", NULL, "also where the driver or the process's use is untried",
		 &move.hold.risk, NULL},
		{"pageout", NULL, "hand the copy in RAM to swap", &pageout, NULL},
		{"json", NULL, "print the receipts as JSON", &move.json, NULL},
		{"server", "URL", "of models (else VACATE_SERVER, 127.0.0.1:8321)", NULL,
		 &move.client.server},
		{"api-key-file", "FILE", "its first key is sent (else VACATE_API_KEY)", NULL,
		 &move.client.keys},
	};
	int rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]),
				   &arguments, argc, argv);

	move.hold.pageout = pageout;
	move.for_processes = move.tree ? "tree" : pageout ? "pageout" : timeout ? "timeout" : NULL;
	if (rc == VAC_CONTINUE &&
	    parse_duration(command, "timeout", timeout, &move.hold.lock_timeout_ms) != 0)
		rc = VAC_EXIT_USAGE;
	if (rc == VAC_CONTINUE)
		rc = add_all(&move, &arguments);
	if (rc != VAC_CONTINUE)
		return rc;
	if (!move.json && move.hold.count > 0)
		fputs("vacate park: resumed later, it needs its room on the GPU again; should "
		      "another\nprogram take that room in the moment of the restore, it is lost "
		      "(docs/hold.md)\n",
		      stderr);
	return run_all(&move);
}

static int resume(const struct vac_command *command, int argc, char **argv)
{
	struct move move = {.command = command, .hold = {.operation = VAC_WIRE_HOLD_RESUME}};
	const char *values[VAC_WIRE_MAX_TARGETS], *wait = NULL, *device = NULL;
	struct vac_arguments arguments = {
		.values = values, .least = 1, .most = VAC_WIRE_MAX_TARGETS};
	const struct vac_option options[] = {
		{"wait", "DURATION", "for room on its GPU (refused at once without)", NULL, &wait},
		{"device", "UUID", "on that GPU of the same kind (driver 580)", NULL, &device},
		{"tree", NULL, "its children too", &move.tree, NULL},
		{"risk", NULL, "also where the driver is untried", &move.hold.risk, NULL},
		{"json", NULL, "print the receipts as JSON", &move.json, NULL},
		{"server", "URL", "of models (else VACATE_SERVER, 127.0.0.1:8321)", NULL,
		 &move.client.server},
		{"api-key-file", "FILE", "its first key is sent (else VACATE_API_KEY)", NULL,
		 &move.client.keys},
	};
	int rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]),
				   &arguments, argc, argv);

	move.for_processes = move.tree ? "tree" : wait ? "wait" : device ? "device" : NULL;
	if (rc == VAC_CONTINUE && parse_duration(command, "wait", wait, &move.hold.wait_ms) != 0)
		rc = VAC_EXIT_USAGE;
	if (rc == VAC_CONTINUE && device &&
	    (strncmp(device, "GPU-", 4) != 0 || strlen(device) >= VAC_WIRE_UUID_BYTES))
		rc = vac_usage_error(command,
				     "--device takes a GPU's UUID as `nvidia-smi -L` shows it, "
				     "not '%s'",
				     device);
	if (rc == VAC_CONTINUE)
		rc = add_all(&move, &arguments);
	if (rc != VAC_CONTINUE)
		return rc;
	move.hold.device_uuid = vac_wire_text(device);
	return run_all(&move);
}

const struct vac_command vac_command_park = {
	.name = "park",
	.arguments = "PID|MODEL ... [options]",
	.summary = "Takes a live process or a model off its GPU, into RAM",
	.details =
		"Its CUDA calls are let end and then wait; everything that it has on GPUs, the\n"
		"context included, goes into its RAM. `vacate resume PID` brings it back with the\n"
		"same bits. Several are parked all or none.\n"
		"A MODEL is one of a running server, which parks the worker that has it, with all\n"
		"models of that worker; a request for one of them brings it back.",
	.run = park,
};

const struct vac_command vac_command_resume = {
	.name = "resume",
	.arguments = "PID|MODEL ... [options]",
	.summary = "Brings parked processes and models back to their GPUs",
	.details =
		"Looks first whether the GPU has the room. One that is locked only is unlocked.\n"
		"A MODEL is one of a running server.",
	.run = resume,
};
