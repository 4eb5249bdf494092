/*
 * reload.c - a running server takes new settings. The loop's thread only.
 *
 * What can be wrong is looked at before anything changes: settings that are wrong
 * leave the server as it was.
 */
#include "server/reload.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/state.h"

static int follow(struct vac_server *server, const struct vac_server_options *options,
		  struct vac_error *err)
{
	struct vac_registry *registry = &server->registry;

	vac_log_set_level(options->log_level);
	server->options = *options;
	for (uint32_t i = 0; i < server->device_count; i++) {
		struct vac_budget *budget = &server->devices[i].budget;

		budget->limit = budget->on_device ? options->vram : options->ram;
		budget->headroom = options->headroom;
		budget->measured = false;
	}
	registry->options.defaults = options->model_defaults;
	registry->options.max_queue = options->max_queue;
	registry->options.turn_ms = options->turn_ms;
	server->journal.options.max_bytes = options->journal_max_bytes;
	server->journal.options.keep = options->journal_keep;
	if (vac_parking_configure(server, err) < 0)
		return -EINVAL;
	return vac_registry_reconfigure(registry, err);
}

static int reload(struct vac_server *server, struct vac_error *err)
{
	const struct vac_server_options *now = &server->options, *options;
	struct vac_catalog catalog;
	int rc;

	rc = now->reload(now->reload_ctx, &options, err);
	if (rc < 0)
		return rc;
	rc = vac_catalog_init(&catalog, options, err);
	if (rc < 0) {
		now->reloaded(now->reload_ctx, false);
		return rc;
	}
	vac_catalog_free(&server->catalog);
	server->catalog = catalog;
	rc = follow(server, options, err);
	options->reloaded(options->reload_ctx, true);
	return rc;
}

void vac_reload(struct vac_server *server)
{
	struct vac_error err;

	/* What is ending needs no new settings. */
	if (!server->options.reload || server->draining)
		return;
	server->reload.count++;
	server->reload.failed = reload(server, &err) < 0;
	if (server->reload.failed) {
		vac_log(VAC_LOG_ERROR, "SIGHUP: %s", err.message);
		return;
	}
	server->reload.succeeded_wall_ns = vac_wall_ns();
	vac_log(VAC_LOG_INFO, "SIGHUP: the settings were read again");
}

void vac_reload_metrics(const struct vac_server *server, struct vac_buf *buf)
{
	const struct vac_reload *reload = &server->reload;

	vac_metrics_head(buf, "vacate_config_last_reload_successful", "gauge",
			 "0 while the settings that SIGHUP read last were wrong and old ones "
			 "hold.");
	vac_metrics_sample(buf, "vacate_config_last_reload_successful", NULL, NULL,
			   reload->failed ? 0 : 1);
	vac_metrics_head(buf, "vacate_config_last_reload_success_timestamp_seconds", "gauge",
			 "When settings were last taken, since 1970; the start counts.");
	vac_metrics_sample(buf, "vacate_config_last_reload_success_timestamp_seconds", NULL, NULL,
			   (double)reload->succeeded_wall_ns / 1e9);
	vac_metrics_head(buf, "vacate_config_reloads_total", "counter",
			 "Readings of the settings since the start.");
	vac_metrics_sample(buf, "vacate_config_reloads_total", NULL, NULL, (double)reload->count);
}
