/*
 * ps_machine.c - the snapshot of this machine that `vacate ps` and `vacate top` show.
 * One thread.
 */
#include "cli/ps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/who_client.h"
#include "hold/record.h"

/* To look for processes that have the driver open and that NVML does not list. */
#define LOOK_MS      200
#define MOST_RECORDS 512

static struct vac_holder_record make_record(const struct vac_record *from)
{
	struct vac_holder_record record = {
		.pid = from->pid,
		.start_ticks = from->start_ticks,
		.state = from->state,
		.interrupted = from->intent != VAC_INTENT_NONE,
		.bytes_valid = from->device_count > 0,
		.by_uid = from->by_uid,
	};

	for (uint32_t i = 0; i < from->device_count; i++) {
		record.bytes_valid &= from->devices[i].bytes_valid;
		record.bytes += from->devices[i].bytes;
	}
	memcpy(record.by, from->who, sizeof(record.by));
	return record;
}

/* Of processes that were parked, locked or lost: NVML does not tell of them. What
 * cannot be read is as if it were not there. The caller frees the list. */
static struct vac_holder_record *read_records(size_t *count)
{
	struct vac_record *all = calloc(MOST_RECORDS, sizeof(*all));
	struct vac_holder_record *list = calloc(MOST_RECORDS, sizeof(*list));
	struct vac_hold hold;
	size_t found = 0;

	*count = 0;
	if (!all || !list || vac_hold_open(&hold, NULL) < 0)
		goto out;
	if (vac_record_list(&hold, all, MOST_RECORDS, &found, NULL) < 0)
		found = 0;
	vac_hold_close(&hold);
	*count = found < MOST_RECORDS ? found : MOST_RECORDS;
	for (size_t i = 0; i < *count; i++)
		list[i] = make_record(&all[i]);
out:
	free(all);
	return list;
}

void vac_ps_machine_ask(struct vac_who_client *who, struct vac_ps_machine *machine)
{
	machine->surveyed = false;
	machine->why = (struct vac_error){0};
	if (vac_who_ask(who, &machine->why) < 0 && machine->why.code == VAC_OK)
		vac_fail(&machine->why, VAC_E_INTERNAL, "vacate-gpud could not be asked");
}

int vac_ps_machine_take(struct vac_who_client *who, struct vac_ps_machine *machine,
			struct vac_error *err)
{
	struct vac_holders_options options = {.look_ms = machine->quick ? 0 : LOOK_MS,
					      .except = who->gpud.process.pid};
	struct vac_holder_record *records = read_records(&options.record_count);
	int rc;

	options.records = records;
	if (machine->why.code == VAC_OK)
		machine->surveyed = vac_who_answer(who, VAC_WHO_TIMEOUT_MS, &machine->survey,
						   &machine->why) == 0;
	rc = vac_holders_take(machine->surveyed ? &machine->survey : NULL, &options,
			      &machine->holders, err);
	free(records);
	return rc;
}

void vac_ps_machine_free(struct vac_ps_machine *machine)
{
	vac_holders_free(&machine->holders);
	vac_survey_free(&machine->survey);
	machine->surveyed = false;
}
