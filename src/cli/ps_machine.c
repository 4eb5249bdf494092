/*
 * ps_machine.c - the snapshot of this machine that `vacate ps` and `vacate top` show.
 * One thread.
 */
#include "cli/ps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/who_client.h"

/* To look for processes that have the driver open and that NVML does not list. */
#define LOOK_MS 200

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
	struct vac_holders_options options = {.look_ms = LOOK_MS, .except = who->gpud.process.pid};

	if (machine->why.code == VAC_OK)
		machine->surveyed = vac_who_answer(who, VAC_WHO_TIMEOUT_MS, &machine->survey,
						   &machine->why) == 0;
	return vac_holders_take(machine->surveyed ? &machine->survey : NULL, &options,
				&machine->holders, err);
}

void vac_ps_machine_free(struct vac_ps_machine *machine)
{
	vac_holders_free(&machine->holders);
	vac_survey_free(&machine->survey);
	machine->surveyed = false;
}
