/*
 * processes.c - libvacate: other processes on a GPU, parked and resumed. Thin: src/hold
 * does it; each call opens what it needs and closes it again, but for the driver and NVML,
 * which stay. Any thread.
 */
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/nvml.h"
#include "hold/hold.h"
#include "memory/meter.h"

_Static_assert((int)VACATE_PROCESS_UNKNOWN == (int)VAC_HOLD_UNKNOWN, "states");
_Static_assert((int)VACATE_PROCESS_RUNNING == (int)VAC_HOLD_RUNNING, "states");
_Static_assert((int)VACATE_PROCESS_LOCKED == (int)VAC_HOLD_LOCKED, "states");
_Static_assert((int)VACATE_PROCESS_PARKED == (int)VAC_HOLD_PARKED, "states");
_Static_assert((int)VACATE_PROCESS_FAILED == (int)VAC_HOLD_FAILED, "states");
_Static_assert(VACATE_MOST_DEVICES == VAC_HOLD_MOST_DEVICES, "devices");

typedef int hold_fn(struct vac_hold *hold, const struct vac_target *targets, size_t count,
		    const struct vac_hold_options *options, struct vac_hold_receipt *receipts,
		    struct vac_error *err);

/* The processes of one call. Tens of KiB: not for a stack that may be small. */
struct call {
	struct vac_hold hold;
	const struct vacate_park_options *options;
	size_t count;
	struct vac_target targets[VAC_HOLD_MOST_TARGETS];
	struct vac_hold_receipt receipts[];
};

static int open_target(int64_t pid, struct vac_target *out, struct vac_error *err)
{
	if (pid <= 0 || pid > INT_MAX)
		return vac_fail(err, VAC_E_NOT_FOUND, "%lld is no number of a process",
				(long long)pid);
	return vac_target_open((pid_t)pid, out, err);
}

static bool is_cancelled(void *ctx)
{
	const struct vacate_park_options *options = ctx;

	return options->cancelled(options->ctx) != 0;
}

static int translate(const struct vacate_park_options *from, struct vac_hold_options *to,
		     struct vac_error *err)
{
	memset(to, 0, sizeof(*to));
	if (!from)
		return 0;
	to->risk = from->risk != 0;
	to->pageout = from->pageout != 0;
	to->lock_timeout_ms = from->lock_timeout_ms;
	to->wait_ms = from->wait_ms;
	if (from->cancelled) {
		to->cancelled = is_cancelled;
		to->ctx = (void *)(uintptr_t)from; /* read only */
	}
	if (!from->device_uuid)
		return 0;
	if (strlen(from->device_uuid) >= sizeof(to->device_uuid))
		return vac_fail(err, VAC_E_INVALID, "a GPU's UUID has less than %zu bytes",
				sizeof(to->device_uuid));
	strcpy(to->device_uuid, from->device_uuid);
	return 0;
}

/* Adds a process's part; false: not known. */
static bool add_devices(const struct vac_hold_device *devices, uint32_t count, uint64_t *bytes)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!devices[i].bytes_valid)
			return false;
		*bytes += devices[i].bytes;
	}
	return true;
}

static void sum_up(const struct call *call, struct vacate_park_receipt *out)
{
	uint64_t before = 0, after = 0;

	memset(out, 0, sizeof(*out));
	out->processes = (uint32_t)call->count;
	out->before = (enum vacate_process_state)call->receipts[0].before;
	out->after = (enum vacate_process_state)call->receipts[0].after;
	out->measured = out->device_measured = 1;
	for (size_t i = 0; i < call->count; i++) {
		const struct vac_hold_receipt *receipt = &call->receipts[i];

		if (receipt->device_count == 0 ||
		    !add_devices(receipt->devices_before, receipt->device_count, &before) ||
		    !add_devices(receipt->devices_after, receipt->device_count, &after))
			out->device_measured = 0;
		out->measured &= receipt->rss_valid;
		out->rss_before_bytes += receipt->rss_before_bytes;
		out->rss_after_bytes += receipt->rss_after_bytes;
		out->pageout_bytes += receipt->pageout_valid ? receipt->pageout_bytes : 0;
		out->swapped_bytes += receipt->pageout_valid ? receipt->swapped_bytes : 0;
		out->driver_ns += receipt->driver_ns;
		if (receipt->total_ns > out->total_ns)
			out->total_ns = receipt->total_ns;
	}
	if (out->device_measured) {
		out->device_before_bytes = before;
		out->device_after_bytes = after;
	}
	if (!out->measured)
		out->rss_before_bytes = out->rss_after_bytes = 0;
}

static int begin(int64_t pid, const struct vacate_park_options *options, struct call **out,
		 struct vac_error *err)
{
	size_t bytes =
		sizeof(struct call) + VAC_HOLD_MOST_TARGETS * sizeof(struct vac_hold_receipt);
	struct call *call = calloc(1, bytes);
	int rc;

	if (!call)
		return vac_fail_nomem(err, "the parking of processes", bytes);
	if (options && options->tree && pid > 0 && pid <= INT_MAX)
		rc = vac_target_tree((pid_t)pid, call->targets, VAC_HOLD_MOST_TARGETS, &call->count,
				     err);
	else if ((rc = open_target(pid, &call->targets[0], err)) == 0)
		call->count = 1;
	if (rc < 0) {
		free(call);
		return rc;
	}
	*out = call;
	return 0;
}

/* Of a tree only those that use CUDA are meant: a shell in it is not. If none does, one
 * stays, for the reason to be said. */
static int keep_cuda(struct call *call, struct vac_error *err)
{
	size_t kept = 0;

	for (size_t i = 0; i < call->count; i++) {
		struct vac_target *target = &call->targets[i];
		enum vac_hold_state state = VAC_HOLD_UNKNOWN;
		int rc = vac_hold_state(&call->hold, target, &state, err);
		bool ours = geteuid() == 0 || geteuid() == target->uid;

		if (rc < 0 && vac_target_alive(target))
			return rc;
		if (state == VAC_HOLD_UNKNOWN && ours && (kept > 0 || i + 1 < call->count)) {
			vac_target_close(target);
		} else if (kept++ != i) {
			call->targets[kept - 1] = *target;
			target->pidfd = -1; /* it has another owner */
		}
	}
	call->count = kept;
	return 0;
}

/* NVML stays started from the first call on, as the driver does: its start takes longer than
 * all else that is done beside the driver's calls. */
static void keep_nvml(struct vac_hold *hold)
{
	static atomic_flag kept = ATOMIC_FLAG_INIT;

	if (hold->nvml_started && !atomic_flag_test_and_set(&kept))
		hold->nvml_started = false; /* the start that the call made is nobody's to end */
}

static int operate(hold_fn *fn, int64_t pid, const struct vacate_park_options *options,
		   struct vacate_park_receipt *receipt, struct vac_error *err)
{
	struct vac_hold_options hold_options;
	struct call *call = NULL;
	int rc;

	if (receipt)
		memset(receipt, 0, sizeof(*receipt));
	rc = translate(options, &hold_options, err);
	if (rc == 0)
		rc = begin(pid, options, &call, err);
	if (rc < 0)
		return rc;
	rc = vac_hold_open(&call->hold, err);
	if (rc == 0) {
		if (call->count > 1)
			rc = keep_cuda(call, err);
		if (rc == 0) {
			rc = fn(&call->hold, call->targets, call->count, &hold_options,
				call->receipts, err);
			keep_nvml(&call->hold);
			if (receipt)
				sum_up(call, receipt);
		}
		vac_hold_close(&call->hold);
	}
	for (size_t i = 0; i < call->count; i++)
		vac_target_close(&call->targets[i]);
	free(call);
	return rc;
}

int vacate_park(int64_t pid, const struct vacate_park_options *options,
		struct vacate_park_receipt *receipt, struct vac_error *err)
{
	return operate(vac_hold_park, pid, options, receipt, err);
}

int vacate_resume(int64_t pid, const struct vacate_park_options *options,
		  struct vacate_park_receipt *receipt, struct vac_error *err)
{
	return operate(vac_hold_resume, pid, options, receipt, err);
}

int vacate_process_state(int64_t pid, enum vacate_process_state *out, struct vac_error *err)
{
	enum vac_hold_state state = VAC_HOLD_UNKNOWN;
	struct vac_target target;
	struct vac_hold hold;
	int rc = open_target(pid, &target, err);

	if (rc < 0)
		return rc;
	rc = vac_hold_open(&hold, err);
	if (rc == 0) {
		rc = vac_hold_state(&hold, &target, &state, err);
		vac_hold_close(&hold);
	}
	vac_target_close(&target);
	if (rc == 0)
		*out = (enum vacate_process_state)state;
	return rc;
}

static int read_devices(pid_t pid, struct vacate_process_usage *out, struct vac_error *err)
{
	enum { MOST_READ = 64 }; /* of the machine; of the process the first 16 are told */
	struct vac_nvml_device *devices = calloc(MOST_READ, sizeof(*devices));
	uint32_t count = 0;

	if (!devices)
		return vac_fail_nomem(err, "the devices of the machine",
				      MOST_READ * sizeof(*devices));
	out->device_measured = vac_nvml_read_answering(devices, MOST_READ, &count, NULL) == 0;
	for (uint32_t i = 0; out->device_measured && i < count && i < MOST_READ &&
			     out->device_count < VACATE_MOST_DEVICES;
	     i++) {
		const struct vac_nvml_process *process = vac_nvml_find(&devices[i], (uint32_t)pid);

		if (!process)
			continue;
		strncat(out->devices[out->device_count].uuid, devices[i].uuid,
			sizeof(out->devices[0].uuid) - 1);
		out->devices[out->device_count].known = process->used_bytes != UINT64_MAX;
		out->devices[out->device_count].bytes =
			process->used_bytes != UINT64_MAX ? process->used_bytes : 0;
		out->devices[out->device_count].used_bytes = devices[i].memory.used;
		out->devices[out->device_count].total_bytes = devices[i].memory.total;
		out->device_count++;
	}
	free(devices);
	return 0;
}

int vacate_process_usage(int64_t pid, struct vacate_process_usage *out, struct vac_error *err)
{
	struct vac_target target;
	struct vac_usage usage;
	int rc = open_target(pid, &target, err);

	if (rc < 0)
		return rc;
	memset(out, 0, sizeof(*out));
	if (vac_meter_process(target.pid, &usage, NULL) == 0) {
		out->measured = 1;
		out->rss_bytes = usage.rss_bytes;
		out->uss_bytes = usage.uss_bytes;
		out->pss_bytes = usage.pss_bytes;
	}
	rc = read_devices(target.pid, out, err);
	/* what was read is of the process that was meant */
	if (rc == 0 && !vac_target_alive(&target))
		rc = vac_fail(err, VAC_E_NOT_FOUND, "process %d has ended", (int)target.pid);
	vac_target_close(&target);
	return rc;
}
