/*
 * park.c - `vacate park` and `vacate resume`: a live process leaves its GPUs, and
 * comes back with the same bits. docs/hold.md. One thread.
 */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
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

/* VAC_CONTINUE, or the exit code after a complaint. */
static int add_all(const struct vac_command *command, struct vac_wire_hold *hold,
		   const struct vac_arguments *arguments, bool tree)
{
	struct vac_error err;

	for (size_t i = 0; i < arguments->count; i++) {
		if (vac_holding_add(hold, arguments->values[i], tree, &err) == 0)
			continue;
		if (err.code == VAC_E_INVALID)
			return vac_usage_error(command, "%s", err.message);
		vac_complain(command, "%s", err.message);
		return err.code == VAC_E_NOT_FOUND ? VAC_EXIT_NOT_FOUND : VAC_EXIT_FAILED;
	}
	return VAC_CONTINUE;
}

static int park(const struct vac_command *command, int argc, char **argv)
{
	struct vac_wire_hold hold = {.operation = VAC_WIRE_HOLD_PARK, .who = vac_wire_text("park")};
	const char *values[VAC_WIRE_MAX_TARGETS], *timeout = NULL;
	struct vac_arguments arguments = {
		.values = values, .least = 1, .most = VAC_WIRE_MAX_TARGETS};
	bool tree = false, json = false;
	const struct vac_option options[] = {
		{"timeout", "DURATION", "for its CUDA calls to end (10s)", NULL, &timeout},
		{"tree", NULL, "its children too, all or none", &tree, NULL},
		{"risk", NULL, "also where the driver or the process's use is untried", &hold.risk,
		 NULL},
		{"pageout", NULL, "hand the copy in RAM to swap", &hold.pageout, NULL},
		{"json", NULL, "print the receipts as JSON", &json, NULL},
	};
	int rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]),
				   &arguments, argc, argv);

	if (rc == VAC_CONTINUE &&
	    parse_duration(command, "timeout", timeout, &hold.lock_timeout_ms) != 0)
		rc = VAC_EXIT_USAGE;
	if (rc == VAC_CONTINUE)
		rc = add_all(command, &hold, &arguments, tree);
	if (rc != VAC_CONTINUE)
		return rc;
	if (!json)
		fputs("vacate park: resumed later, it needs its room on the GPU again; should "
		      "another\nprogram take that room in the moment of the restore, it is lost "
		      "(docs/hold.md)\n",
		      stderr);
	return vac_holding_run(command, &hold, tree, json);
}

static int resume(const struct vac_command *command, int argc, char **argv)
{
	struct vac_wire_hold hold = {.operation = VAC_WIRE_HOLD_RESUME};
	const char *values[VAC_WIRE_MAX_TARGETS], *wait = NULL, *device = NULL;
	struct vac_arguments arguments = {
		.values = values, .least = 1, .most = VAC_WIRE_MAX_TARGETS};
	bool tree = false, json = false;
	const struct vac_option options[] = {
		{"wait", "DURATION", "for room on its GPU (refused at once without)", NULL, &wait},
		{"device", "UUID", "on that GPU of the same kind (driver 580)", NULL, &device},
		{"tree", NULL, "its children too", &tree, NULL},
		{"risk", NULL, "also where the driver is untried", &hold.risk, NULL},
		{"json", NULL, "print the receipts as JSON", &json, NULL},
	};
	int rc = vac_options_parse(command, options, sizeof(options) / sizeof(options[0]),
				   &arguments, argc, argv);

	if (rc == VAC_CONTINUE && parse_duration(command, "wait", wait, &hold.wait_ms) != 0)
		rc = VAC_EXIT_USAGE;
	if (rc == VAC_CONTINUE && device &&
	    (strncmp(device, "GPU-", 4) != 0 || strlen(device) >= VAC_WIRE_UUID_BYTES))
		rc = vac_usage_error(command,
				     "--device takes a GPU's UUID as `nvidia-smi -L` shows it, "
				     "not '%s'",
				     device);
	if (rc == VAC_CONTINUE)
		rc = add_all(command, &hold, &arguments, tree);
	if (rc != VAC_CONTINUE)
		return rc;
	hold.device_uuid = vac_wire_text(device);
	return vac_holding_run(command, &hold, tree, json);
}

const struct vac_command vac_command_park = {
	.name = "park",
	.arguments = "PID ... [options]",
	.summary = "Takes a live process off its GPUs, into its own RAM",
	.details =
		"Its CUDA calls are let end and then wait; everything that it has on GPUs, the\n"
		"context included, goes into its RAM. `vacate resume PID` brings it back with the\n"
		"same bits. Several are parked all or none.",
	.run = park,
};

const struct vac_command vac_command_resume = {
	.name = "resume",
	.arguments = "PID ... [options]",
	.summary = "Brings parked processes back to their GPUs",
	.details = "Looks first whether the GPU has the room. One that is locked only is unlocked.",
	.run = resume,
};
