/* metrics.c - Prometheus text. The loop's thread only. */
#include "server/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "server/admission.h"
#include "server/state.h"

/* Upper bounds in seconds, the same for all histograms. */
static const double bounds_s[VAC_HISTOGRAM_BUCKETS] = {
	0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30};

void vac_histogram_add(struct vac_histogram *histogram, int64_t ns)
{
	double s = (double)ns / 1e9;
	size_t i = 0;

	while (i < VAC_HISTOGRAM_BUCKETS && s > bounds_s[i])
		i++;
	histogram->buckets[i]++;
	histogram->count++;
	histogram->sum_ns += ns;
}

void vac_metrics_reply(struct vac_metrics *metrics, int status)
{
	if (status > 0 && status < VAC_METRICS_STATUSES)
		metrics->replies[status]++;
}

void vac_metrics_unload(struct vac_metrics *metrics, const struct vac_receipt *receipt)
{
	int64_t returned = vac_receipt_returned_bytes(receipt);

	vac_histogram_add(&metrics->unload, receipt->unload_ns);
	if ((size_t)receipt->reason < sizeof(metrics->unloads) / sizeof(metrics->unloads[0]))
		metrics->unloads[receipt->reason]++;
	if (!vac_receipt_valid(receipt))
		return;
	metrics->returned_bytes += returned > 0 ? (uint64_t)returned : 0;
	metrics->unaccounted_bytes += vac_receipt_unaccounted_bytes(receipt);
}

/* ---- text ---- */

void vac_metrics_head(struct vac_buf *buf, const char *name, const char *type, const char *help)
{
	vac_buf_printf(buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_label(struct vac_buf *buf, const char *value)
{
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			vac_buf_putc(buf, '\\');
		if (*value == '\n')
			vac_buf_puts(buf, "\\n");
		else
			vac_buf_putc(buf, *value);
	}
}

static void put_number(struct vac_buf *buf, double number)
{
	/* Counters of bytes and events are whole: no exponent, every digit. */
	if (number == floor(number) && fabs(number) < 9007199254740992.0)
		vac_buf_printf(buf, " %.0f\n", number);
	else
		vac_buf_printf(buf, " %.15g\n", number);
}

void vac_metrics_sample(struct vac_buf *buf, const char *name, const char *label, const char *value,
			double number)
{
	vac_buf_puts(buf, name);
	if (label) {
		vac_buf_printf(buf, "{%s=\"", label);
		put_label(buf, value);
		vac_buf_puts(buf, "\"}");
	}
	put_number(buf, number);
}

void vac_metrics_histogram(struct vac_buf *buf, const char *name, const char *help,
			   const struct vac_histogram *histogram)
{
	uint64_t total = 0;

	vac_metrics_head(buf, name, "histogram", help);
	for (size_t i = 0; i < VAC_HISTOGRAM_BUCKETS; i++) {
		total += histogram->buckets[i];
		vac_buf_printf(buf, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds_s[i], total);
	}
	vac_buf_printf(buf, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, histogram->count);
	vac_buf_printf(buf, "%s_sum", name);
	put_number(buf, (double)histogram->sum_ns / 1e9);
	vac_buf_printf(buf, "%s_count %" PRIu64 "\n", name, histogram->count);
}

static void one(struct vac_buf *buf, const char *name, const char *type, const char *help,
		double number)
{
	vac_metrics_head(buf, name, type, help);
	vac_metrics_sample(buf, name, NULL, NULL, number);
}

/* ---- what the server knows ---- */

static void put_access(const struct vac_server *server, struct vac_buf *buf)
{
	const struct vac_access *access = &server->access;

	if (!access->path) {
		one(buf, "vacate_foreign_page_refusals_total", "counter",
		    "Requests refused because a web page of another site made a browser send "
		    "them.",
		    (double)access->foreign);
		return;
	}
	vac_metrics_head(buf, "vacate_key_refusals_total", "counter",
			 "Requests refused for having no API key, or one that is not known.");
	vac_metrics_sample(buf, "vacate_key_refusals_total", "reason", "missing",
			   (double)access->missing);
	vac_metrics_sample(buf, "vacate_key_refusals_total", "reason", "wrong",
			   (double)access->wrong);
	one(buf, "vacate_keys", "gauge", "API keys that are taken.", (double)access->keys.count);
	one(buf, "vacate_key_reload_errors_total", "counter",
	    "Times that the file of keys was read again and was of no use.",
	    (double)access->keep_olds);
}

static void put_http(const struct vac_server *server, struct vac_buf *buf)
{
	const struct vac_metrics *m = &server->metrics;
	char status[8];

	vac_metrics_head(buf, "vacate_http_replies_total", "counter",
			 "HTTP replies by status code.");
	for (int i = 0; i < VAC_METRICS_STATUSES; i++) {
		snprintf(status, sizeof(status), "%d", i);
		if (m->replies[i] > 0)
			vac_metrics_sample(buf, "vacate_http_replies_total", "code", status,
					   m->replies[i]);
	}
	one(buf, "vacate_http_connections_total", "counter", "Connections accepted.",
	    (double)m->connections);
	one(buf, "vacate_http_connections", "gauge", "Connections open now.",
	    server->http.connection_count);
	one(buf, "vacate_http_crowded_out_total", "counter",
	    "Connections that were closed for new ones, since all were taken.",
	    (double)server->http.seats.crowded_out);
	one(buf, "vacate_http_requests_in_flight", "gauge", "Requests that have no reply yet.",
	    server->http.request_count);
	one(buf, "vacate_http_held_bytes", "gauge",
	    "Requests, and replies that were not taken yet, held in memory now.",
	    (double)server->http.held_bytes);
	put_access(server, buf);
}

static double count_state(const struct vac_server *server, enum vac_registry_state state)
{
	double count = 0;

	for (const struct vac_model *model = server->registry.models; model; model = model->next)
		count += model->state == state;
	return count;
}

struct model_metric {
	const char *name, *type, *help;
	double (*value)(const struct vac_model *model);
};

static double loads_of(const struct vac_model *model)
{
	return (double)model->loads;
}

static double failures_of(const struct vac_model *model)
{
	return (double)model->load_failures;
}

static double tasks_of(const struct vac_model *model)
{
	return (double)model->tasks;
}

static double errors_of(const struct vac_model *model)
{
	return (double)model->task_errors;
}

static double queue_of(const struct vac_model *model)
{
	return model->waiting.count + model->running.count;
}

static double resident_of(const struct vac_model *model)
{
	return model->state == VAC_REGISTRY_RESIDENT || model->state == VAC_REGISTRY_DRAINING ||
	       model->state == VAC_REGISTRY_PARKING || model->state == VAC_REGISTRY_PARKED;
}

static double parked_of(const struct vac_model *model)
{
	return model->state == VAC_REGISTRY_PARKED;
}

static double ledger_of(const struct vac_model *model)
{
	return resident_of(model) > 0 ? (double)model->info.ledger_bytes : 0;
}

static const struct model_metric model_metrics[] = {
	{"vacate_loads_total", "counter", "Loads that succeeded.", loads_of},
	{"vacate_load_failures_total", "counter", "Loads that failed.", failures_of},
	{"vacate_tasks_total", "counter", "Tasks answered.", tasks_of},
	{"vacate_task_errors_total", "counter", "Tasks that ended in an error.", errors_of},
	{"vacate_model_queue_length", "gauge", "Calls that wait for or run on the model.",
	 queue_of},
	{"vacate_model_resident", "gauge", "1 while the model is in a worker.", resident_of},
	{"vacate_model_parked", "gauge", "1 while the model's worker is off its GPU.", parked_of},
	{"vacate_model_ledger_bytes", "gauge", "Bytes of the model's regions; 0 while absent.",
	 ledger_of},
};

static void put_models(const struct vac_server *server, struct vac_buf *buf)
{
	static const char *const states[] = {"absent", "loading", "resident", "draining",
					     "failed", "parking", "parked"};

	vac_metrics_head(buf, "vacate_models", "gauge",
			 "Models that were asked for at least once, by state.");
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		vac_metrics_sample(buf, "vacate_models", "state", states[i],
				   count_state(server, (enum vac_registry_state)i));
	for (size_t i = 0; i < sizeof(model_metrics) / sizeof(model_metrics[0]); i++) {
		const struct model_metric *m = &model_metrics[i];
		const struct vac_model *model = server->registry.models;

		vac_metrics_head(buf, m->name, m->type, m->help);
		for (; model; model = model->next)
			vac_metrics_sample(buf, m->name, "model", model->name, m->value(model));
	}
}

static void put_unloads(const struct vac_server *server, struct vac_buf *buf)
{
	const struct vac_metrics *m = &server->metrics;

	vac_metrics_head(buf, "vacate_unloads_total", "counter", "Unloads by reason.");
	for (int i = VAC_UNLOAD_REQUEST; i < VAC_UNLOAD_REASONS; i++)
		vac_metrics_sample(buf, "vacate_unloads_total", "reason",
				   vac_unload_reason_name((enum vac_unload_reason)i),
				   (double)m->unloads[i]);
	one(buf, "vacate_returned_bytes_total", "counter",
	    "Private bytes that measurements saw go in unloads.", (double)m->returned_bytes);
	one(buf, "vacate_unaccounted_bytes_total", "counter",
	    "Bytes that a ledger said went and the measurement did not see go.",
	    (double)m->unaccounted_bytes);
}

static void put_events(const struct vac_server *server, struct vac_buf *buf)
{
	const struct vac_journal *j = &server->journal;
	const struct vac_events *e = &server->events;

	one(buf, "vacate_event_streams", "gauge", "Clients that listen to events now.",
	    e->streams.count);
	one(buf, "vacate_events_total", "counter", "Events told while somebody listened.",
	    (double)e->told);
	one(buf, "vacate_event_streams_lost_total", "counter",
	    "Times that a client was too slow for the events and was told the state anew.",
	    (double)e->lost);
	if (!j->options.path)
		return;
	one(buf, "vacate_journal_lines_total", "counter", "Lines written to the journal.",
	    (double)j->lines);
	one(buf, "vacate_journal_errors_total", "counter",
	    "Times that the journal could not be written; what was to be waits in memory.",
	    (double)j->errors);
	one(buf, "vacate_journal_dropped_total", "counter",
	    "Lines given up, since too many waited for the journal.", (double)j->dropped);
	one(buf, "vacate_journal_pending_bytes", "gauge", "Bytes that wait for the journal.",
	    (double)j->pending.bytes);
	one(buf, "vacate_journal_rotations_total", "counter",
	    "Files of the journal that were full.", (double)j->rotations);
	one(buf, "vacate_journal_rotation_errors_total", "counter",
	    "Times that a full file could not be rotated.", (double)j->rotation_errors);
}

struct device_metric {
	const char *name, *type, *help;
	/* false: it is not known, and has no sample. */
	bool (*value)(const struct vac_device *device, double *value);
};

static bool limit_of(const struct vac_device *device, double *value)
{
	uint64_t bytes;

	if (!device->limited || !vac_budget_limit(&device->budget, &bytes))
		return false;
	*value = (double)bytes;
	return true;
}

static bool planned_of(const struct vac_device *device, double *value)
{
	*value = (double)vac_budget_used(&device->budget);
	return device->limited;
}

static bool free_of(const struct vac_device *device, double *value)
{
	uint64_t bytes;

	if (!device->limited || !vac_budget_free(&device->budget, &bytes))
		return false;
	*value = (double)bytes;
	return true;
}

static bool line_of(const struct vac_device *device, double *value)
{
	*value = device->line.count;
	return true;
}

static bool longest_wait_of(const struct vac_device *device, double *value)
{
	int64_t now_ns = vac_now_ns(), longest_ns = 0;

	for (const struct vac_link *link = device->line.first; link; link = link->next) {
		const struct vac_model *model = VAC_MODEL_AT(link, line);

		if (now_ns - model->load_asked_ns > longest_ns)
			longest_ns = now_ns - model->load_asked_ns;
	}
	*value = (double)longest_ns / 1e9;
	return true;
}

static bool evictions_of(const struct vac_device *device, double *value)
{
	*value = (double)device->evictions;
	return true;
}

static bool quick_reloads_of(const struct vac_device *device, double *value)
{
	*value = (double)device->quick_reloads;
	return true;
}

static bool refusals_of(const struct vac_device *device, double *value)
{
	*value = (double)device->refusals;
	return true;
}

static const struct device_metric device_metrics[] = {
	{"vacate_budget_bytes", "gauge",
	 "Memory that models may take (--ram or the like, less --headroom).", limit_of},
	{"vacate_planned_bytes", "gauge",
	 "Memory that resident and loading models take, as planned.", planned_of},
	{"vacate_free_bytes", "gauge", "Memory measured to be free, less --headroom.", free_of},
	{"vacate_models_waiting", "gauge", "Loads that wait in line for room.", line_of},
	{"vacate_longest_wait_seconds", "gauge", "Of the loads in line, the longest wait so far.",
	 longest_wait_of},
	{"vacate_evictions_total", "counter", "Models that made way for another.", evictions_of},
	{"vacate_quick_reloads_total", "counter",
	 "Loads of models that were evicted less than 10 s before: thrashing.", quick_reloads_of},
	{"vacate_refusals_total", "counter", "Loads refused because they can never fit.",
	 refusals_of},
};

static void put_devices(struct vac_server *server, struct vac_buf *buf)
{
	double value;

	for (uint32_t d = 0; d < server->device_count; d++) {
		if (server->devices[d].limited)
			vac_budget_measure(&server->devices[d].budget, vac_now_ns(),
					   VAC_ROOM_AGE_MS * INT64_C(1000000));
	}
	for (size_t i = 0; i < sizeof(device_metrics) / sizeof(device_metrics[0]); i++) {
		const struct device_metric *m = &device_metrics[i];

		vac_metrics_head(buf, m->name, m->type, m->help);
		for (uint32_t d = 0; d < server->device_count; d++) {
			if (m->value(&server->devices[d], &value))
				vac_metrics_sample(buf, m->name, "device", server->devices[d].name,
						   value);
		}
	}
}

static void put_workers(const struct vac_server *server, struct vac_buf *buf)
{
	double unconfined = 0;

	vac_metrics_head(buf, "vacate_workers", "gauge", "Worker processes now.");
	for (uint32_t d = 0; d < server->device_count; d++) {
		const struct vac_worker *worker = server->supervisor.workers;
		const char *device = server->devices[d].name;
		double count = 0;

		for (; worker; worker = worker->next)
			count += strcmp(worker->device, device) == 0;
		vac_metrics_sample(buf, "vacate_workers", "device", device, count);
	}
	for (const struct vac_worker *w = server->supervisor.workers; w; w = w->next)
		unconfined += w->ready_ns != 0 && vac_worker_lacks_sandbox(w);
	one(buf, "vacate_workers_without_sandbox", "gauge", "Workers that nothing confines.",
	    unconfined);
	one(buf, "vacate_set_aside_total", "counter",
	    "Models set aside for bringing their worker down again and again.",
	    (double)server->registry.set_aside);
	one(buf, "vacate_request_timeouts_total", "counter", "Requests whose time was over.",
	    (double)server->metrics.timeouts);
	one(buf, "vacate_worker_starts_total", "counter", "Worker processes started.",
	    (double)server->supervisor.starts);
	one(buf, "vacate_worker_deaths_total", "counter",
	    "Worker processes that ended without being asked to.",
	    (double)server->supervisor.deaths);
}

static void put_process(const struct vac_server *server, struct vac_buf *buf)
{
	struct vac_usage usage = {0};
	struct vac_error err;

	vac_metrics_head(buf, "vacate_build_info", "gauge", "Always 1; the version is a label.");
	vac_metrics_sample(buf, "vacate_build_info", "version", VAC_VERSION, 1);
	one(buf, "vacate_start_time_seconds", "gauge", "When the server started, since 1970.",
	    (double)server->started_wall_ns / 1e9);
	if (vac_meter_process(0, &usage, &err) < 0 || !usage.valid)
		return; /* unknown is not 0: the metrics are absent */
	one(buf, "vacate_server_private_bytes", "gauge", "The server's own private memory (USS).",
	    (double)usage.uss_bytes);
	one(buf, "vacate_server_resident_bytes", "gauge", "The server's own resident memory (RSS).",
	    (double)usage.rss_bytes);
}

void vac_metrics_write(struct vac_server *server, struct vac_buf *buf)
{
	const struct vac_metrics *m = &server->metrics;

	put_process(server, buf);
	put_http(server, buf);
	put_models(server, buf);
	put_unloads(server, buf);
	put_events(server, buf);
	put_devices(server, buf);
	put_workers(server, buf);
	vac_parking_metrics(server, buf);
	vac_reload_metrics(server, buf);
	vac_metrics_histogram(buf, "vacate_task_duration_seconds",
			      "From a task's whole request to its reply.", &m->task);
	vac_metrics_histogram(buf, "vacate_worker_duration_seconds",
			      "Of that, from the frame to the worker until its answer.",
			      &m->worker);
	vac_metrics_histogram(buf, "vacate_load_duration_seconds",
			      "From the first request for an absent model until it is resident.",
			      &m->load);
	vac_metrics_histogram(buf, "vacate_unload_duration_seconds",
			      "From the decision to unload until the last measurement.",
			      &m->unload);
}
