/*
 * metrics.h - counters of the server's life and their Prometheus text
 * (exposition format 0.0.4). The loop's thread only.
 */
#ifndef VAC_SERVER_METRICS_H
#define VAC_SERVER_METRICS_H

#include "base/buf.h"
#include "memory/receipt.h"

#define VAC_HISTOGRAM_BUCKETS 14

struct vac_histogram {
	uint64_t buckets[VAC_HISTOGRAM_BUCKETS + 1]; /* not cumulative; the last: beyond */
	uint64_t count;
	int64_t sum_ns;
};

#define VAC_METRICS_STATUSES 600

struct vac_metrics {
	uint32_t replies[VAC_METRICS_STATUSES]; /* by HTTP status */
	uint64_t connections;
	struct vac_histogram task;   /* from the whole request to its reply */
	struct vac_histogram worker; /* of that, from the frame to its answer */
	struct vac_histogram load;
	struct vac_histogram unload;
	uint64_t unloads[VAC_UNLOAD_REASONS]; /* by enum vac_unload_reason */
	uint64_t timeouts;                    /* requests whose time was over */
	uint64_t returned_bytes, unaccounted_bytes;
};

void vac_histogram_add(struct vac_histogram *histogram, int64_t ns);
void vac_metrics_reply(struct vac_metrics *metrics, int status);
void vac_metrics_unload(struct vac_metrics *metrics, const struct vac_receipt *receipt);

/* Text is written metric by metric: one HELP and TYPE line, then its samples. */
void vac_metrics_head(struct vac_buf *buf, const char *name, const char *type, const char *help);
/* name{label="value"} number; label NULL: none. The value is escaped. */
void vac_metrics_sample(struct vac_buf *buf, const char *name, const char *label, const char *value,
			double number);
void vac_metrics_histogram(struct vac_buf *buf, const char *name, const char *help,
			   const struct vac_histogram *histogram);

struct vac_server;
/* Everything. Measures the server itself, asks no worker, loads nothing. */
void vac_metrics_write(struct vac_server *server, struct vac_buf *buf);

#endif
