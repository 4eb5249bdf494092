/*
 * holding_models.c - `vacate park` and `vacate resume` with models of a running server,
 * whose workers it moves itself. One thread.
 */
#include "cli/holding.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "hold/hold.h"

static void read_text(const json_t *object, const char *name, char *to, size_t room)
{
	const char *text = vac_reply_text(object, name);

	snprintf(to, room, "%s", text ? text : "");
}

static bool read_bytes(const json_t *object, const char *name, uint64_t *bytes)
{
	int64_t number;

	if (!vac_reply_number(object, name, &number) || number < 0)
		return false;
	*bytes = (uint64_t)number;
	return true;
}

static int64_t read_ms(const json_t *object, const char *name)
{
	double ms = json_number_value(json_object_get(object, name));

	return ms > 0 && ms < 1e12 ? (int64_t)(ms * 1e6) : 0;
}

static enum vac_wire_held_state read_state(const json_t *object, const char *name)
{
	const char *text = vac_reply_text(object, name);
	int state = VAC_WIRE_HELD_FAILED;

	while (text && state > VAC_WIRE_HELD_UNKNOWN &&
	       strcmp(text, vac_hold_state_name((enum vac_hold_state)state)) != 0)
		state--;
	return text ? (enum vac_wire_held_state)state : VAC_WIRE_HELD_UNKNOWN;
}

static void read_memory(const json_t *object, struct vac_wire_held_memory *out)
{
	out->listed = vac_reply_flag(object, "listed");
	out->bytes_valid = read_bytes(object, "process_bytes", &out->bytes);
	(void)read_bytes(object, "used_bytes", &out->used_bytes);
	(void)read_bytes(object, "total_bytes", &out->total_bytes);
}

static void read_receipt(const json_t *receipt, struct vac_wire_held_target *out)
{
	const json_t *device;
	uint64_t pid = 0;
	size_t i;

	memset(out, 0, sizeof(*out));
	(void)read_bytes(receipt, "pid", &pid);
	out->pid = (uint32_t)pid;
	read_text(receipt, "command", out->command, sizeof(out->command));
	out->before = read_state(receipt, "before");
	out->after = read_state(receipt, "after");
	out->rss_valid = read_bytes(receipt, "rss_before_bytes", &out->rss_before_bytes) &&
			 read_bytes(receipt, "rss_after_bytes", &out->rss_after_bytes);
	out->lock_ns = read_ms(receipt, "lock_ms");
	out->checkpoint_ns = read_ms(receipt, "checkpoint_ms");
	out->restore_ns = read_ms(receipt, "restore_ms");
	out->unlock_ns = read_ms(receipt, "unlock_ms");
	out->driver_ns = read_ms(receipt, "driver_ms");
	out->total_ns = read_ms(receipt, "total_ms");
	json_array_foreach(json_object_get(receipt, "devices"), i, device)
	{
		struct vac_wire_held_device *to = &out->devices[out->device_count];

		if (out->device_count == VAC_WIRE_MAX_HELD_DEVICES)
			break;
		read_text(device, "uuid", to->uuid, sizeof(to->uuid));
		read_memory(json_object_get(device, "before"), &to->before);
		read_memory(json_object_get(device, "after"), &to->after);
		out->device_count++;
	}
}

static int print_receipt(enum vac_wire_hold_operation operation, const json_t *receipt,
			 const char *driver)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	char *models = vac_reply_texts(receipt, "models");
	struct vac_wire_held_target held;
	int rc;

	read_receipt(receipt, &held);
	rc = vac_print_held(&terminal, operation, &held, driver ? driver : "");
	if (rc == 0 && models)
		rc = vac_print_line(&terminal, "  %-14s  %s",
				    strchr(models, ',') ? "its models" : "its model", models);
	free(models);
	return rc;
}

static json_t *make_body(const char *name, bool risk)
{
	return risk ? json_pack("{s:s,s:b}", "model", name, "risk", true)
		    : json_pack("{s:s}", "model", name);
}

static int take_receipts(const struct vac_command *command, enum vac_wire_hold_operation operation,
			 const json_t *reply, json_t *all, bool first)
{
	const json_t *receipts = vac_reply_list(command, reply, "receipts");
	json_t *receipt;
	size_t i;
	int rc = receipts ? 0 : -1;

	json_array_foreach(receipts, i, receipt)
	{
		if (all) {
			rc = json_array_append(all, receipt);
		} else {
			if (!first)
				fputc('\n', stdout);
			rc = print_receipt(operation, receipt, vac_reply_text(reply, "driver"));
			first = false;
		}
		if (rc != 0) {
			vac_complain(command, "out of memory for the receipt");
			break;
		}
	}
	return rc == 0 ? VAC_EXIT_OK : VAC_EXIT_FAILED;
}

int vac_holding_models(const struct vac_command *command, const struct vac_client *client,
		       enum vac_wire_hold_operation operation, const char *const *names,
		       size_t count, bool risk, json_t *receipts)
{
	const char *target = operation == VAC_WIRE_HOLD_PARK ? "/models/park" : "/models/resume";

	for (size_t i = 0; i < count; i++) {
		json_t *body = make_body(names[i], risk), *reply;
		int rc;

		if (!body)
			return vac_usage_error(command, "the model's name is not UTF-8");
		rc = vac_client_ask(command, client, "POST", target, body, VAC_MOVE_TIMEOUT_S,
				    &reply);
		json_decref(body);
		if (rc != VAC_CONTINUE)
			return rc;
		rc = take_receipts(command, operation, reply, receipts, i == 0);
		json_decref(reply);
		if (rc != VAC_EXIT_OK)
			return rc;
	}
	return VAC_EXIT_OK;
}
