/*
 * move.c - a process that was on one GPU restored on another of the same kind: whether that
 * can be, what it needs there, and the driver's words for it.
 */
#include <stdio.h>
#include <string.h>

#include "hold/internal.h"

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The 16 bytes of "GPU-8f7a...": its digits, between which are hyphens. */
static bool parse_uuid(const char *text, struct vac_cu_uuid *out)
{
	size_t digits = 0;

	memset(out, 0, sizeof(*out));
	if (strncmp(text, "GPU-", 4) != 0)
		return false;
	for (const char *c = text + 4; *c; c++) {
		int value = digit(*c);

		if (*c == '-')
			continue;
		if (value < 0 || digits == 2 * sizeof(out->bytes))
			return false;
		out->bytes[digits / 2] =
			(char)((unsigned char)out->bytes[digits / 2] << 4 | (unsigned char)value);
		digits++;
	}
	return digits == 2 * sizeof(out->bytes);
}

static int check_move(struct vac_hold_run *run, struct vac_hold_member *member)
{
	struct vac_error *err = &member->receipt->error;
	int pid = (int)member->target->pid;

	if (run->hold->driver_version < 13000)
		return vac_fail(
			err, VAC_E_UNSUPPORTED,
			"process %d cannot move to another GPU: that needs driver 580 (CUDA "
			"13.0), and this one is for CUDA %d.%d",
			pid, run->hold->driver_version / 1000,
			run->hold->driver_version % 1000 / 10);
	if (member->record.device_count != 1)
		return vac_fail(
			err, VAC_E_UNSUPPORTED,
			"process %d cannot move to another GPU: it was on %u of them, and one "
			"can be moved",
			pid, member->record.device_count);
	return 0;
}

/* The two change places, the others stay. */
static bool fill_pairs(const struct vac_hold_reading *reading, const struct vac_nvml_device *from,
		       const struct vac_nvml_device *to, struct vac_hold_move *move)
{
	if (!parse_uuid(from->uuid, &move->pairs[0].from) ||
	    !parse_uuid(to->uuid, &move->pairs[0].to))
		return false;
	move->pairs[1] = (struct vac_cu_gpu_pair){move->pairs[0].to, move->pairs[0].from};
	move->count = 2;
	for (uint32_t i = 0; i < reading->count; i++) {
		struct vac_cu_gpu_pair *pair = &move->pairs[move->count];

		if (&reading->devices[i] == from || &reading->devices[i] == to ||
		    !parse_uuid(reading->devices[i].uuid, &pair->from))
			continue;
		pair->to = pair->from;
		move->count++;
	}
	return true;
}

int vac_member_plan_move(struct vac_hold_run *run, struct vac_hold_member *member, const char *uuid,
			 struct vac_record_device *needs, struct vac_hold_move *move)
{
	struct vac_error *err = &member->receipt->error;
	const struct vac_nvml_device *from, *to;
	int pid = (int)member->target->pid, rc;

	move->count = 0;
	if (!*uuid || (member->record.device_count == 1 && strcmp(uuid, needs->uuid) == 0))
		return 0;
	rc = check_move(run, member);
	if (rc < 0)
		return rc;
	vac_run_read(run);
	from = vac_reading_find(&run->reading, needs->uuid);
	to = vac_reading_find(&run->reading, uuid);
	if (!from || !to)
		return vac_fail(err, VAC_E_NOT_FOUND, "process %d cannot move: there is no GPU %s",
				pid, to ? needs->uuid : uuid);
	if (strcmp(from->name, to->name) != 0)
		return vac_fail(
			err, VAC_E_UNSUPPORTED,
			"process %d cannot move from a %s to a %s: both must be of one kind", pid,
			from->name, to->name);
	if (!fill_pairs(&run->reading, from, to, move))
		return vac_fail(err, VAC_E_UNSUPPORTED, "process %d cannot move from %s to %s", pid,
				from->uuid, to->uuid);
	snprintf(needs->uuid, sizeof(needs->uuid), "%s", uuid);
	return 0;
}

int vac_member_fail_move(struct vac_hold_member *member, const char *uuid)
{
	struct vac_error *err = &member->receipt->error;
	char detail[sizeof(err->detail)];
	int rc;

	memcpy(detail, err->detail, sizeof(detail));
	rc = vac_fail(err, VAC_E_UNSUPPORTED,
		      "process %d cannot be moved to %s: the driver refused that; it stays parked, "
		      "and can be resumed where it was",
		      (int)member->target->pid, uuid);
	memcpy(err->detail, detail, sizeof(detail));
	return rc;
}
