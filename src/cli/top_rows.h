/*
 * top_rows.h - rows of `vacate top` (top_model.h) made of what was gathered: a snapshot
 * of this machine, a server's reply. Each is one thread's at a time, and is handed over
 * whole.
 */
#ifndef VAC_CLI_TOP_ROWS_H
#define VAC_CLI_TOP_ROWS_H

#include "cli/ps.h"
#include "cli/top_model.h"

#define VAC_TOP_LINE_BYTES 256

/* This machine at one moment. */
struct vac_top_machine {
	int64_t at_ns;
	bool surveyed;                /* NVML answered */
	char why[VAC_TOP_LINE_BYTES]; /* else: why not; "" */
	char driver[VAC_TEXT_BYTES];
	struct vac_host_memory host;
	size_t process_count, device_count;
	struct vac_top_process *processes;
	struct vac_top_device *devices;
};

/* What a server answered, or that it did not. */
struct vac_top_server {
	int64_t at_ns;
	bool answered;
	bool late;                      /* no answer in time: it may be busy */
	char error[VAC_TOP_LINE_BYTES]; /* else: why not */
	size_t model_count, worker_count;
	struct vac_top_model *models;
	bool workers_valid, own_valid;
	uint64_t workers_bytes, own_bytes; /* private memory */
};

/* Names of users are looked up here, which may take its time. NULL: no memory. */
struct vac_top_machine *vac_top_machine_of(const struct vac_ps_machine *from, int64_t now_ns);
void vac_top_machine_free(struct vac_top_machine *machine);

/* reply: NULL where there is none, and why says why not. NULL: no memory. */
struct vac_top_server *vac_top_server_of(const json_t *reply, const struct vac_error *why,
					 int64_t now_ns);
void vac_top_server_free(struct vac_top_server *server);

/* Names the workers among the processes after their models. */
void vac_top_name_workers(struct vac_top_machine *machine, const struct vac_top_server *server);
/* Adds what is new to the tracks, and points rows to theirs. Once for a snapshot; without
 * memory rows are without a track. */
void vac_top_follow(struct vac_top_machine *machine, struct vac_top_tracks *tracks);

#endif
