/*
 * room.c - the restore: locks of the devices, a fresh reading, room for what the
 * process had there and a margin, and only then the driver's call. A restore that finds
 * no room is the one failure that cannot be made good.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "hold/internal.h"

#define POLL_US 100000

void vac_room_holders(const struct vac_nvml_device *device, char out[VAC_HOLD_HOLDER_TEXT_BYTES])
{
	uint32_t count = device->process_count, shown = 0;
	size_t at = 0;

	if (count > VAC_NVML_MOST_PROCESSES)
		count = VAC_NVML_MOST_PROCESSES;
	out[0] = '\0';
	for (uint32_t i = 0; i < count && shown < 4; i++) {
		const struct vac_nvml_process *process = &device->processes[i];
		char size[VAC_HOLD_SIZE_TEXT_BYTES] = "an unknown amount";
		struct vac_target target = {.command = "", .pidfd = -1};

		if (process->used_bytes != UINT64_MAX)
			vac_hold_size_text(process->used_bytes, size);
		if (vac_target_open((pid_t)process->pid, &target, NULL) == 0)
			vac_target_close(&target);
		target.command[strcspn(target.command, " ")] = '\0';
		at += (size_t)snprintf(
			out + at, VAC_HOLD_HOLDER_TEXT_BYTES - at, "%sprocess %u%s%.16s%s holds %s",
			shown > 0 ? ", " : "", process->pid, *target.command ? " (" : "",
			strrchr(target.command, '/') ? strrchr(target.command, '/') + 1
						     : target.command,
			*target.command ? ")" : "", size);
		if (at >= VAC_HOLD_HOLDER_TEXT_BYTES)
			return;
		shown++;
	}
	if (shown == 0)
		snprintf(out, VAC_HOLD_HOLDER_TEXT_BYTES, "by nobody that NVML lists");
	else if (device->process_count > shown)
		snprintf(out + at, VAC_HOLD_HOLDER_TEXT_BYTES - at, ", and %u more",
			 device->process_count - shown);
}

static int fail_room(const struct vac_hold_member *member, const struct vac_record_device *needs,
		     const struct vac_nvml_device *device)
{
	char need[VAC_HOLD_SIZE_TEXT_BYTES], margin[VAC_HOLD_SIZE_TEXT_BYTES],
		room[VAC_HOLD_SIZE_TEXT_BYTES], holders[VAC_HOLD_HOLDER_TEXT_BYTES];

	vac_room_holders(device, holders);
	return vac_fail(&member->receipt->error, VAC_E_NO_ROOM,
			"process %d needs %s and %s of margin on %s, where %s are free: %s",
			(int)member->target->pid, vac_hold_size_text(needs->bytes, need),
			vac_hold_size_text(vac_room_margin_bytes(needs), margin), device->uuid,
			vac_hold_size_text(device->memory.free, room), holders);
}

/* By the run's reading. */
static int check_room(const struct vac_hold_run *run, const struct vac_hold_member *member,
		      const struct vac_record_device *needs, uint32_t count)
{
	struct vac_error *err = &member->receipt->error;
	bool known = count > 0 && run->reading.valid;

	for (uint32_t i = 0; i < count; i++)
		known &= needs[i].bytes_valid;
	if (!known && !run->options.risk)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"process %d: it is not known what it needs on which GPU (%s), and "
				"without room it would be lost; --risk does it all the same",
				(int)member->target->pid,
				run->reading.valid ? "vacate has no record of it"
						   : "NVML does not answer");
	for (uint32_t i = 0; known && i < count; i++) {
		const struct vac_nvml_device *device =
			vac_reading_find(&run->reading, needs[i].uuid);

		if (!device)
			return vac_fail(err, VAC_E_UNSUPPORTED,
					"process %d was on %s, which does not answer now",
					(int)member->target->pid, needs[i].uuid);
		if (needs[i].bytes + vac_room_margin_bytes(&needs[i]) > device->memory.free)
			return fail_room(member, &needs[i], device);
	}
	return 0;
}

static int compare_devices(const void *a, const void *b)
{
	const struct vac_record_device *x = a, *y = b;

	return strcmp(x->uuid, y->uuid);
}

/* All in one order, so that two cannot wait for each other. */
static int take_locks(struct vac_hold_run *run, struct vac_hold_member *member,
		      const struct vac_record_device *needs, uint32_t count, struct vac_lock *locks)
{
	struct vac_record_device sorted[VAC_HOLD_MOST_DEVICES];
	int64_t deadline_ns = vac_now_ns() + (int64_t)run->hold->device_lock_ms * 1000000;
	pid_t holder;
	int rc = 0;

	memcpy(sorted, needs, count * sizeof(*needs));
	qsort(sorted, count, sizeof(*sorted), compare_devices);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		rc = vac_lock_take_device(&locks[i], run->hold->lock_directory, sorted[i].uuid, 0,
					  NULL, NULL, &holder, &member->receipt->error);
		if (rc != -EAGAIN)
			continue;
		vac_run_progress(run, member, VAC_HOLD_WAITING);
		rc = vac_lock_take_device(&locks[i], run->hold->lock_directory, sorted[i].uuid,
					  deadline_ns, run->options.cancelled, run->options.ctx,
					  &holder, &member->receipt->error);
	}
	if (rc == -EAGAIN)
		vac_error_prefix(&member->receipt->error, "process %d waited %u ms for the GPU",
				 (int)member->target->pid, run->hold->device_lock_ms);
	return rc;
}

static void release_locks(struct vac_lock *locks)
{
	for (size_t i = 0; i < VAC_HOLD_MOST_DEVICES; i++)
		vac_lock_release(&locks[i], false);
}

/* It failed although there was room just before: who took it? */
static void name_racer(struct vac_hold_run *run, struct vac_hold_member *member,
		       const struct vac_record_device *needs, uint32_t count)
{
	char holders[VAC_HOLD_HOLDER_TEXT_BYTES], room[VAC_HOLD_SIZE_TEXT_BYTES];
	struct vac_error *err = &member->receipt->error;

	vac_run_read(run);
	for (uint32_t i = 0; i < count; i++) {
		const struct vac_nvml_device *device =
			vac_reading_find(&run->reading, needs[i].uuid);
		size_t n = strlen(err->message);

		if (!device || device->memory.free >= needs[i].bytes)
			continue;
		vac_room_holders(device, holders);
		snprintf(err->message + n, sizeof(err->message) - n,
			 "; %s are free on %s now, since its room was taken meanwhile: %s",
			 vac_hold_size_text(device->memory.free, room), device->uuid, holders);
	}
}

/* Once: 0, or -ENOMEM where waiting may help. */
static int try_restore(struct vac_hold_run *run, struct vac_hold_member *member,
		       const struct vac_record_device *needs, uint32_t count,
		       struct vac_cu_restore *remap)
{
	struct vac_lock locks[VAC_HOLD_MOST_DEVICES];
	int rc;

	for (size_t i = 0; i < VAC_HOLD_MOST_DEVICES; i++)
		locks[i] = VAC_LOCK_NONE;
	rc = take_locks(run, member, needs, count, locks);
	if (rc == 0) {
		vac_run_read(run);
		if (run->operation == VAC_HOLD_RESUME) /* else it is put back: not before */
			vac_member_measure(run, member, member->receipt->devices_before,
					   &member->receipt->device_count);
		rc = check_room(run, member, needs, count);
	}
	if (rc == 0) {
		rc = vac_member_step(run, member, VAC_STEP_RESTORE, remap);
		if (rc < 0 && member->state == VAC_HOLD_FAILED) {
			name_racer(run, member, needs, count);
			vac_member_note_failure(run, member);
		}
	}
	release_locks(locks);
	return rc;
}

/* The driver refused the pairs, and nothing was done. */
static bool is_refused(const struct vac_hold_member *member, int rc)
{
	return rc < 0 && member->touched && member->state == VAC_HOLD_PARKED &&
	       member->receipt->error.code == VAC_E_UNSUPPORTED;
}

/* A move is tried with the one pair that is meant, and where the driver wants every GPU named
 * that the process had opened, which nobody tells while it is parked, with all. */
static int restore_somewhere(struct vac_hold_run *run, struct vac_hold_member *member,
			     const struct vac_record_device *needs, uint32_t count,
			     struct vac_hold_move *move)
{
	struct vac_cu_restore remap = {.pairs = move->pairs, .pair_count = 1};
	bool touched = member->touched;
	int rc;

	if (move->count == 0)
		return try_restore(run, member, needs, count, NULL);
	member->touched = false;
	rc = try_restore(run, member, needs, count, &remap);
	if (is_refused(member, rc) && move->count > 1) {
		remap.pair_count = move->count;
		rc = try_restore(run, member, needs, count, &remap);
	}
	if (is_refused(member, rc))
		rc = vac_member_fail_move(member, needs->uuid);
	member->touched |= touched;
	return rc;
}

int vac_member_restore(struct vac_hold_run *run, struct vac_hold_member *member, uint32_t wait_ms,
		       const char *uuid)
{
	int64_t deadline_ns = vac_now_ns() + (int64_t)wait_ms * 1000000;
	struct vac_record_device needs[VAC_HOLD_MOST_DEVICES];
	uint32_t count = member->record.device_count;
	struct vac_hold_move move;
	int rc;

	memcpy(needs, member->record.devices, sizeof(needs));
	rc = vac_member_plan_move(run, member, uuid, needs, &move);
	if (rc < 0)
		return rc;
	for (;;) {
		rc = restore_somewhere(run, member, needs, count, &move);
		/* -ENOMEM of the driver itself is no longer that */
		if (rc != -ENOMEM || member->state != VAC_HOLD_PARKED ||
		    vac_now_ns() >= deadline_ns)
			break;
		vac_run_progress(run, member, VAC_HOLD_WAITING);
		usleep(POLL_US);
		rc = vac_run_cancelled(run, &member->receipt->error);
		if (rc < 0)
			break;
		if (!vac_target_alive(member->target)) {
			rc = vac_fail(&member->receipt->error, VAC_E_NOT_FOUND,
				      "process %d has ended", (int)member->target->pid);
			break;
		}
	}
	if (rc == 0 && move.count > 0)
		memcpy(member->record.devices, needs, sizeof(needs));
	return rc;
}
