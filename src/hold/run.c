/*
 * run.c - what every park and resume begins and ends with: receipts, readings of the
 * devices, the caller's progress and wish to stop.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/stage.h"
#include "hold/internal.h"
#include "memory/meter.h"

static int check_targets(const struct vac_target *targets, size_t count, struct vac_error *err)
{
	if (count == 0 || count > VAC_HOLD_MOST_TARGETS)
		return vac_fail(err, VAC_E_INVALID, "%zu processes at once: 1 to %d can be named",
				count, VAC_HOLD_MOST_TARGETS);
	for (size_t i = 0; i < count; i++) {
		/* The calls to it would wait for the one that makes them. */
		if (targets[i].pid == getpid())
			return vac_fail(err, VAC_E_INVALID,
					"process %d is this one: it cannot park or resume itself",
					(int)targets[i].pid);
		for (size_t k = 0; k < i; k++)
			if (targets[k].pid == targets[i].pid)
				return vac_fail(err, VAC_E_INVALID, "process %d is named twice",
						(int)targets[i].pid);
	}
	return 0;
}

static void begin_receipt(const struct vac_target *target, struct vac_hold_receipt *receipt)
{
	memset(receipt, 0, sizeof(*receipt));
	receipt->pid = target->pid;
	receipt->uid = target->uid;
	memcpy(receipt->command, target->command, sizeof(receipt->command));
	/* statm: smaps_rollup of a process of many GiB would cost more than parking it may */
	receipt->rss_valid = vac_meter_rss(target->pid, &receipt->rss_before_bytes) == 0;
	if (!receipt->rss_valid)
		receipt->rss_before_bytes = 0;
}

int vac_run_begin(struct vac_hold_run **out, enum vac_hold_operation operation,
		  struct vac_hold *hold, const struct vac_target *targets, size_t count,
		  const struct vac_hold_options *options, struct vac_hold_receipt *receipts,
		  struct vac_error *err)
{
	static const struct vac_hold_options defaults;
	struct vac_hold_run *run = NULL;
	struct vac_error why = {0};
	int64_t begun_ns = vac_now_ns();
	size_t bytes = sizeof(*run) + count * sizeof(run->members[0]);
	int rc;

	for (size_t i = 0; i < count; i++)
		begin_receipt(&targets[i], &receipts[i]);
	rc = check_targets(targets, count, &why);
	if (rc == 0)
		rc = vac_hold_start(hold, &why);
	if (rc == 0 && !(run = calloc(1, bytes)))
		rc = vac_fail_nomem(&why, "the parking of processes", bytes);
	if (rc < 0) {
		vac_hold_join(hold);
		for (size_t i = 0; i < count; i++)
			receipts[i].error = why;
		if (err)
			*err = why;
		return rc;
	}
	run->hold = hold;
	run->operation = operation;
	run->begun_ns = begun_ns;
	run->options = options ? *options : defaults;
	if (run->options.lock_timeout_ms == 0)
		run->options.lock_timeout_ms = VAC_HOLD_LOCK_TIMEOUT_MS;
	run->count = count;
	for (size_t i = 0; i < count; i++) {
		run->members[i].target = &targets[i];
		run->members[i].receipt = &receipts[i];
		run->members[i].lock = VAC_LOCK_NONE;
	}
	vac_record_sweep(hold->directory);
	*out = run;
	return 0;
}

const struct vac_nvml_device *vac_reading_find(const struct vac_hold_reading *reading,
					       const char *uuid)
{
	for (uint32_t i = 0; i < reading->count; i++)
		if (strcmp(reading->devices[i].uuid, uuid) == 0)
			return &reading->devices[i];
	return NULL;
}

void vac_run_read(struct vac_hold_run *run)
{
	struct vac_hold_reading *reading = &run->reading;
	int64_t since;

	vac_hold_wait_nvml(run->hold);
	since = vac_now_ns();
	reading->valid = vac_nvml_read_answering(reading->devices, VAC_HOLD_MOST_READ,
						 &reading->count, NULL) == 0 &&
			 reading->count <= VAC_HOLD_MOST_READ;
	if (!reading->valid)
		reading->count = 0;
	vac_stage("reading", since);
}

void vac_run_progress(const struct vac_hold_run *run, const struct vac_hold_member *member,
		      enum vac_hold_phase phase)
{
	if (run->options.progress)
		run->options.progress(run->options.ctx, (size_t)(member - run->members), phase);
}

int vac_run_cancelled(const struct vac_hold_run *run, struct vac_error *err)
{
	if (!run->options.cancelled || !run->options.cancelled(run->options.ctx))
		return 0;
	return vac_fail(err, VAC_E_CANCELLED, "cancelled");
}

static struct vac_hold_device *find_device(struct vac_hold_device *devices, uint32_t count,
					   const char *uuid)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(devices[i].uuid, uuid) == 0)
			return &devices[i];
	return NULL;
}

static struct vac_hold_device *add_device(struct vac_hold_device *devices, uint32_t *count,
					  const char *uuid)
{
	struct vac_hold_device *device = find_device(devices, *count, uuid);

	if (device || *count == VAC_HOLD_MOST_DEVICES)
		return device;
	device = &devices[(*count)++];
	memset(device, 0, sizeof(*device));
	snprintf(device->uuid, sizeof(device->uuid), "%.*s", VAC_HOLD_UUID_BYTES - 1, uuid);
	return device;
}

void vac_member_measure(const struct vac_hold_run *run, struct vac_hold_member *member,
			struct vac_hold_device *devices, uint32_t *count)
{
	const struct vac_hold_reading *reading = &run->reading;

	for (uint32_t i = 0; i < member->record.device_count; i++)
		(void)add_device(devices, count, member->record.devices[i].uuid);
	for (uint32_t i = 0; i < reading->count; i++) {
		const struct vac_nvml_device *from = &reading->devices[i];
		const struct vac_nvml_process *process =
			vac_nvml_find(from, (uint32_t)member->target->pid);
		struct vac_hold_device *to = process ? add_device(devices, count, from->uuid)
						     : find_device(devices, *count, from->uuid);

		if (!to)
			continue;
		to->used_bytes = from->memory.used;
		to->total_bytes = from->memory.total;
		to->listed = process != NULL;
		to->bytes_valid = !process || process->used_bytes != UINT64_MAX;
		to->bytes = process && to->bytes_valid ? process->used_bytes : 0;
	}
}

/* The same devices as before, at the same places, and then what is new. */
static void measure_after(const struct vac_hold_run *run, struct vac_hold_member *member)
{
	struct vac_hold_receipt *receipt = member->receipt;
	uint32_t count = receipt->device_count;
	uint64_t rss;

	memcpy(receipt->devices_after, receipt->devices_before, sizeof(receipt->devices_after));
	for (uint32_t i = 0; i < count; i++) {
		receipt->devices_after[i].listed = false;
		receipt->devices_after[i].bytes_valid = false;
		receipt->devices_after[i].bytes = 0;
	}
	vac_member_measure(run, member, receipt->devices_after, &count);
	for (uint32_t i = receipt->device_count; i < count; i++) {
		/* on this one it was not before: moved */
		receipt->devices_before[i] = receipt->devices_after[i];
		receipt->devices_before[i].listed = false;
		receipt->devices_before[i].bytes_valid = true;
		receipt->devices_before[i].bytes = 0;
	}
	receipt->device_count = count;
	if (receipt->rss_valid && vac_meter_rss(member->target->pid, &rss) == 0)
		receipt->rss_after_bytes = rss;
	else
		receipt->rss_valid = false;
}

/* The driver's start is the first target's. */
static void end_start(struct vac_hold_run *run)
{
	struct vac_hold_receipt *receipt = run->members[0].receipt;
	int64_t since = vac_now_ns();

	vac_hold_join(run->hold);
	if (receipt->total_ns > 0)
		receipt->total_ns += vac_now_ns() - since;
	receipt->driver_ns += run->hold->init_ns;
	run->hold->init_ns = 0;
}

int vac_run_end(struct vac_hold_run *run, struct vac_error *err)
{
	int rc = 0;

	vac_run_read(run);
	end_start(run);
	for (size_t i = 0; i < run->count; i++) {
		struct vac_hold_member *member = &run->members[i];
		struct vac_hold_receipt *receipt = member->receipt;

		vac_run_progress(run, member, VAC_HOLD_MEASURING);
		receipt->after =
			vac_target_alive(member->target) ? member->state : VAC_HOLD_UNKNOWN;
		measure_after(run, member);
		vac_lock_release(&member->lock, true);
		if (receipt->total_ns == 0)
			receipt->total_ns = vac_now_ns() - run->begun_ns;
		if (rc == 0 && receipt->error.code != VAC_OK &&
		    (!run->refused || run->refused == member)) {
			rc = vac_error_errno(receipt->error.code);
			if (err)
				*err = receipt->error;
		}
	}
	vac_stage("hold", run->begun_ns);
	free(run);
	return rc;
}
