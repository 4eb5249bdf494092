/* devices.c - devices found and measured; see devices.h. The loop's thread only. */
#include "server/devices.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/state.h"

/* A reading of the GPUs that is older is renewed while somebody waits for room. */
#define READING_AGE_NS INT64_C(1000000000)

/* Of "cpu": what of its workers is in no file; statm is quick, and some pages
 * off. */
static void measure_cpu(void *ctx, struct vac_budget_room *out)
{
	const struct vac_server *server = ctx;
	const struct vac_worker *worker = server->supervisor.workers;

	vac_budget_measure_host(out);
	out->held_valid = true;
	for (; worker; worker = worker->next) {
		uint64_t bytes;

		if (worker->plan_only || (!worker->parked && strcmp(worker->device, "cpu") != 0))
			continue;
		/* One that is gone holds nothing. */
		if (vac_meter_anon(worker->pid, &bytes) < 0)
			continue;
		if (worker->parked)
			out->parked_bytes += bytes;
		else
			out->held_bytes += bytes;
	}
}

/* As vacate-gpud read it last; before loads and after unloads it is asked anew. */
static void measure_gpu(void *ctx, struct vac_budget_room *out)
{
	const struct vac_gpu_meter *meter = ctx;
	struct vac_gpus *gpus = &meter->server->gpus;
	const struct vac_gpu *gpu;
	const struct vac_worker *worker = meter->server->supervisor.workers;

	if (vac_now_ns() - gpus->read_ns > READING_AGE_NS)
		vac_gpus_refresh(gpus);
	gpu = vac_gpus_find(gpus, meter->device);
	memset(out, 0, sizeof(*out));
	if (!gpu)
		return;
	out->total_valid = out->free_valid = out->held_valid = true;
	out->total_bytes = gpu->total_bytes;
	if (gpu->used_bytes < gpu->total_bytes)
		out->free_bytes = gpu->total_bytes - gpu->used_bytes;
	for (; worker; worker = worker->next) {
		const struct vac_wire_gpu_process *process;

		if (worker->plan_only || strcmp(worker->device, meter->device) != 0)
			continue;
		process = vac_gpu_process(gpu, worker->pid);
		if (process && process->bytes_valid)
			out->held_bytes += process->bytes;
		else if (process)
			out->held_valid = false;
	}
}

/* ---- readings ---- */

static void read_after_load(struct vac_gpus_wait *wait)
{
	struct vac_gpu_meter *meter = VAC_CONTAINER(wait, struct vac_gpu_meter, wait);
	struct vac_server *server = meter->server;

	/* changed() was called already, and wakes the line in the loop's next turn */
	server->devices[meter - server->meters].stale = false;
}

void vac_devices_read_again(struct vac_server *server, struct vac_device *device)
{
	struct vac_gpu_meter *meter = &server->meters[device - server->devices];

	device->stale = true;
	vac_gpus_ask(&server->gpus, &meter->wait, read_after_load);
}

/* Whoever waits for room on a GPU may have it now. */
static void changed(void *ctx)
{
	struct vac_server *server = ctx;

	for (uint32_t i = 1; i < server->device_count; i++) {
		server->devices[i].budget.measured = false;
		if (server->devices[i].line.count > 0)
			vac_dispatch_registry_ops.wake_at(server, vac_now_ns());
	}
}

static bool in_use(void *ctx)
{
	const struct vac_server *server = ctx;
	const struct vac_worker *worker = server->supervisor.workers;

	if (vac_parking_busy(server))
		return true;
	while (worker && (worker->plan_only || strcmp(worker->device, "cpu") == 0))
		worker = worker->next;
	return worker != NULL;
}

/* ---- finding ---- */

/* Whether a driver is there at all, without loading it: then vacate-gpud is worth
 * a process. VACATE_GPUD names a program that knows more than the system. */
static bool driver_is_there(void)
{
	static const char *const files[] = {"/dev/nvidiactl", "/dev/dxg"};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (access(files[i], F_OK) == 0)
			return true;
	}
	return getenv("VACATE_GPUD") != NULL;
}

static bool wants(const char *device, bool named)
{
	return device && (strncmp(device, "cuda:", 5) == 0 ||
			  (!named && strcmp(device, "auto") == 0 && driver_is_there()));
}

/* Whether GPUs are worth looking for; named: because a setting names one. */
static bool gpus_are_wanted(const struct vac_server_options *options, bool named)
{
	if (wants(options->model_defaults.device, named))
		return true;
	for (size_t i = 0; i < options->model_count; i++) {
		if (wants(options->models[i].settings.device, named))
			return true;
	}
	return false;
}

static int64_t settle_first(void *ctx)
{
	struct vac_server *server = ctx;

	vac_supervisor_flush(&server->supervisor);
	return -1;
}

static void read_first(struct vac_gpus_wait *wait)
{
	struct vac_server *server = VAC_CONTAINER(wait, struct vac_server, first_reading);

	vac_loop_stop(&server->loop);
}

/* Nothing else is served yet: the loop runs for this alone. */
static int read_gpus(struct vac_server *server, struct vac_error *err)
{
	struct vac_loop *loop = &server->loop;
	int64_t (*settle)(void *) = loop->settle;
	int rc;

	loop->settle = settle_first;
	vac_gpus_ask(&server->gpus, &server->first_reading, read_first);
	rc = vac_loop_run(loop, err);
	loop->stopped = false;
	loop->settle = settle;
	return rc;
}

static void add_gpus(struct vac_server *server)
{
	const struct vac_server_options *options = &server->options;
	const struct vac_gpus *gpus = &server->gpus;

	for (uint32_t i = 0; i < gpus->count && server->device_count < VAC_SERVER_MAX_DEVICES;
	     i++) {
		const struct vac_gpu *gpu = &gpus->list[i];
		struct vac_gpu_meter *meter = &server->meters[server->device_count];
		struct vac_device *device = &server->devices[server->device_count++];

		/* A later reading may have fewer, and others in its places. */
		*meter = (struct vac_gpu_meter){.server = server};
		memcpy(meter->device, gpu->device, sizeof(meter->device));
		vac_device_init(device, meter->device, "--vram");
		vac_device_limit(device, true, &options->vram, &options->headroom, measure_gpu,
				 meter);
		vac_log(VAC_LOG_INFO, "%s is %s: %.1f of %.1f GiB used", gpu->device, gpu->name,
			(double)gpu->used_bytes / (1 << 30), (double)gpu->total_bytes / (1 << 30));
	}
}

/* The device of models that name none must be there. */
static int check_default(const struct vac_server *server, struct vac_error *err)
{
	const char *name = server->options.model_defaults.device;
	const struct vac_gpus *gpus = &server->gpus;

	if (!wants(name, true))
		return 0;
	for (uint32_t i = 0; i < server->device_count; i++) {
		if (strcmp(server->devices[i].name, name) == 0)
			return 0;
	}
	if (gpus->error.code != VAC_OK)
		return vac_fail(err, gpus->error.code, "--device %s: %s", name,
				gpus->error.message);
	return vac_fail(err, VAC_E_NOT_FOUND, "--device %s: the driver shows %u GPU%s%s", name,
			gpus->count, gpus->count == 1 ? "" : "s",
			getenv("CUDA_VISIBLE_DEVICES") ? " (CUDA_VISIBLE_DEVICES is set)" : "");
}

int vac_devices_find(struct vac_server *server, struct vac_error *err)
{
	const struct vac_server_options *options = &server->options;
	struct vac_device *cpu = &server->devices[server->device_count++];
	int rc = vac_gpus_init(&server->gpus, &server->supervisor, err);

	vac_device_init(cpu, "cpu", "--ram");
	vac_device_limit(cpu, false, &options->ram, &options->headroom, measure_cpu, server);
	if (rc < 0 || !gpus_are_wanted(options, false))
		return rc;
	rc = read_gpus(server, err);
	if (rc < 0)
		return rc;
	server->gpus.changed = changed;
	server->gpus.in_use = in_use;
	server->gpus.ctx = server;
	if (server->gpus.error.code == VAC_OK)
		add_gpus(server);
	else if (gpus_are_wanted(options, true))
		vac_log(VAC_LOG_WARN, "no GPU can be used: %s", server->gpus.error.message);
	else
		vac_log(VAC_LOG_INFO, "no GPU is used: %s", server->gpus.error.message);
	return check_default(server, err);
}
