/*
 * receipt.h - measured memory before and after an unload.
 *
 * before and after are measurements of processes from outside; ledger_bytes
 * is what the worker says went. Nothing measured is derived from the ledger.
 * Source of the rule: rules of memory 7 and 8 in docs/architecture.md.
 */
#ifndef VAC_MEMORY_RECEIPT_H
#define VAC_MEMORY_RECEIPT_H

#include "memory/meter.h"
#include "memory/plan.h"

#define VAC_RECEIPT_NAME_BYTES 256

enum vac_unload_reason {
	VAC_UNLOAD_REQUEST = 1,     /* somebody asked */
	VAC_UNLOAD_IDLE = 2,        /* keep_alive ran out */
	VAC_UNLOAD_SHUTDOWN = 3,    /* the server or program ends */
	VAC_UNLOAD_WORKER_DIED = 4, /* the worker crashed or was killed */
	VAC_UNLOAD_EVICTED = 5,     /* another model needed the room */
	VAC_UNLOAD_SETTINGS = 6,    /* its settings changed: the next load has the new ones */
};
#define VAC_UNLOAD_REASONS 7
const char *vac_unload_reason_name(enum vac_unload_reason reason); /* "request", "idle", ... */

/* One device as its management library (NVML) counts it. */
struct vac_device_memory {
	bool valid;
	bool listed;              /* the worker has a context there */
	bool process_bytes_valid; /* of a process that is not listed: valid and 0 */
	uint64_t process_bytes;   /* of the worker */
	uint64_t used_bytes;      /* of all processes */
};

struct vac_receipt {
	uint64_t id; /* counts up from 1 in one server's life */
	char model[VAC_RECEIPT_NAME_BYTES];
	char device[32]; /* "cpu", "cuda:0" */
	enum vac_unload_reason reason;
	int64_t wall_ns;     /* when it was done, since 1970 */
	int64_t resident_ns; /* how long it had been resident */
	int64_t unload_ns;   /* from the decision to the last measurement */
	uint64_t requests;   /* answered while resident */

	uint64_t planned_bytes;        /* the plan, host and device together */
	uint64_t ledger_bytes;         /* what the ledger says went */
	bool on_device;                /* the device has memory of its own */
	uint64_t device_planned_bytes; /* of both, on the device */
	uint64_t device_ledger_bytes;
	struct vac_device_memory device_before, device_after;
	pid_t worker_pid;               /* process that held the model */
	bool worker_exited;             /* it was the last model: the process is reaped */
	struct vac_usage worker_before; /* the worker, just before */
	struct vac_usage worker_after;  /* all 0 and valid when worker_exited */
	struct vac_usage server_before; /* the caller's own process (server or program) */
	struct vac_usage server_after;

	bool page_cache_valid;
	uint64_t page_cache_bytes; /* of the checkpoint's files: kept by the kernel */
	bool page_cache_dropped;   /* --drop-cache was asked for */
};

/* Private bytes (USS, and what of it was in swap) that the measurement saw go
 * from the worker; negative when it grew. 0 when a measurement is missing: see
 * vac_receipt_valid. */
int64_t vac_receipt_returned_bytes(const struct vac_receipt *receipt);
/* The same of the device, of the worker if NVML tells, else of all processes;
 * false: not measured. */
bool vac_receipt_device_returned(const struct vac_receipt *receipt, int64_t *bytes);
/* max(0, ledger - returned), of the host and of the device: what the ledger says
 * went and the measurement did not see go; all of it when nothing was measured. */
uint64_t vac_receipt_unaccounted_bytes(const struct vac_receipt *receipt);
/* Both measurements of the worker are there, and both of a device. */
bool vac_receipt_valid(const struct vac_receipt *receipt);

#endif
