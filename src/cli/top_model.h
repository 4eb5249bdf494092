/*
 * top_model.h - what `vacate top` shows, as data: rows, their order, their history, and
 * what of them a screen has room for. Functions of their arguments alone: no terminal,
 * no clock and no process is asked. One thread.
 *
 * All text in rows is printable ASCII: names of processes are anybody's, and what is
 * not on this screen's terms must not steer the terminal.
 */
#ifndef VAC_CLI_TOP_MODEL_H
#define VAC_CLI_TOP_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/survey.h"
#include "cli/format.h"
#include "cli/table.h"

/* ---- history ---- */

#define VAC_TOP_SAMPLES 240
#define VAC_TOP_LEVELS  8

struct vac_top_sample {
	bool bytes_valid;
	uint64_t bytes; /* of VRAM */
	struct vac_gauge percent;
};

struct vac_top_history {
	uint32_t count, next;
	struct vac_top_sample samples[VAC_TOP_SAMPLES];
};

enum vac_top_curve { VAC_TOP_VRAM_CURVE, VAC_TOP_GPU_CURVE };

void vac_top_history_add(struct vac_top_history *history, const struct vac_top_sample *sample);
/* age 0: the newest; NULL: there is none that old. */
const struct vac_top_sample *vac_top_history_at(const struct vac_top_history *history,
						uint32_t age);
/* The newest samples as heights, the newest on the right: 0 not known, 1 (nothing) to
 * VAC_TOP_LEVELS (most). most 0: the largest of the whole history. */
void vac_top_spark(const struct vac_top_history *history, enum vac_top_curve curve, uint64_t most,
		   uint32_t width, uint8_t *levels);

/* ---- what is remembered from one refresh to the next ---- */

struct vac_top_idle {
	bool valid, busy;
	bool at_least; /* it may be longer */
	int64_t ms;
};

/* Of one process or device. */
struct vac_top_track {
	uint64_t key[2];
	uint64_t seen; /* the refresh in which it was there last */
	struct vac_top_history history;
	bool idle_known, idle_at_least;
	int64_t idle_since_ms;
};

struct vac_top_tracks {
	uint64_t refresh; /* number of the one under way */
	uint32_t count, capacity, hint;
	struct vac_top_track **list;
};

/* Its track, made if need be; NULL: no memory. It stays where it is until swept. */
struct vac_top_track *vac_top_track(struct vac_top_tracks *tracks, uint64_t key0, uint64_t key1);
/* Ends a refresh: forgets who was not there. */
void vac_top_sweep(struct vac_top_tracks *tracks);
void vac_top_tracks_free(struct vac_top_tracks *tracks);
/* NVML's samples reach back some seconds, a track as long as it is watched. */
struct vac_top_idle vac_top_watch_idle(struct vac_top_track *track, const struct vac_top_idle *told,
				       int64_t now_ms);

/* ---- rows ---- */

#define VAC_TOP_NAME_BYTES  96
#define VAC_TOP_EXACT_BYTES 256

struct vac_top_process {
	pid_t pid;          /* 0: not visible from here, nothing can be done with it */
	uint32_t shown_pid; /* NVML's then */
	uint64_t start_ticks;
	char user[VAC_TEXT_BYTES], what[VAC_TOP_NAME_BYTES], devices[VAC_TEXT_BYTES];
	char state[VAC_TEXT_BYTES];
	enum vac_color color; /* of the state */
	bool vram_valid, ram_valid;
	uint64_t vram_bytes, ram_bytes;
	struct vac_gauge gpu_percent;
	struct vac_top_idle idle;
	struct vac_top_track *track; /* NULL: none */
};

struct vac_top_model {
	char exact[VAC_TOP_EXACT_BYTES]; /* its name as the server knows it: not to be shown */
	char name[VAC_TOP_NAME_BYTES], state[VAC_TEXT_BYTES], device[VAC_TEXT_BYTES];
	char until[VAC_TEXT_BYTES];
	enum vac_color color;
	pid_t worker; /* 0: none */
	bool vram_valid, ram_valid, requests_valid;
	uint64_t vram_bytes, ram_bytes, requests;
	struct vac_top_idle idle;
};

struct vac_top_device {
	uint32_t index;
	char device[VAC_TEXT_BYTES], name[VAC_TOP_NAME_BYTES];
	bool answers;
	char error[VAC_TOP_NAME_BYTES]; /* why not */
	uint64_t total_bytes, used_bytes, free_bytes;
	bool unaccounted_valid;
	uint64_t unaccounted_bytes;
	struct vac_gauge gpu_percent;
	struct vac_top_track *track;
};

/* Copies text, cut where it is too long; what is not printable ASCII becomes '?', each
 * character of UTF-8 one. */
void vac_top_clean(char *to, size_t room, const char *text);

/* ---- order ---- */

enum vac_top_order {
	VAC_TOP_BY_VRAM,
	VAC_TOP_BY_RAM,
	VAC_TOP_BY_GPU,
	VAC_TOP_BY_IDLE,
	VAC_TOP_BY_NAME,
	VAC_TOP_ORDERS
};
/* "VRAM", ...: also the header of that column */
const char *vac_top_order_name(enum vac_top_order order);
/* Largest and longest first, names from A; reversed the other way round. What is not
 * known comes last either way. */
void vac_top_sort_processes(struct vac_top_process *list, size_t count, enum vac_top_order order,
			    bool reversed);
void vac_top_sort_models(struct vac_top_model *list, size_t count, enum vac_top_order order,
			 bool reversed);

/* ---- room ---- */

#define VAC_TOP_LEAST_COLUMNS 40
#define VAC_TOP_LEAST_LINES   8
#define VAC_TOP_MAX_COLUMNS   16

struct vac_top_column {
	const char *header;
	unsigned least, most; /* width */
	bool right;           /* aligned */
	int rank;             /* 0: never left out; the highest is left out first */
	int curve;            /* enum vac_top_curve and one; 0: text */
};
/* Widths that with a blank between them are not wider than width; 0: left out. */
void vac_top_layout(const struct vac_top_column *columns, size_t count, unsigned width,
		    unsigned *widths);

enum vac_top_section { VAC_TOP_DEVICES, VAC_TOP_MODELS, VAC_TOP_PROCESSES, VAC_TOP_SECTIONS };
/* Lines for each section: a header and rows, or one line; 0: left out. Processes come
 * first where there is not enough, then devices. */
void vac_top_share(unsigned lines, const size_t wanted[VAC_TOP_SECTIONS],
		   unsigned shares[VAC_TOP_SECTIONS]);
/* The first of count rows to show so that the selected one is among room. before: the
 * first of the last time. */
size_t vac_top_scroll(size_t before, size_t count, size_t room, size_t selected);

/* ---- cells (top_cells.c) ---- */

enum {
	VAC_TOP_PROCESS_PID,
	VAC_TOP_PROCESS_USER,
	VAC_TOP_PROCESS_WHAT,
	VAC_TOP_PROCESS_DEVICE,
	VAC_TOP_PROCESS_VRAM,
	VAC_TOP_PROCESS_RAM,
	VAC_TOP_PROCESS_GPU,
	VAC_TOP_PROCESS_IDLE,
	VAC_TOP_PROCESS_STATE,
	VAC_TOP_PROCESS_VRAM_CURVE,
	VAC_TOP_PROCESS_GPU_CURVE,
	VAC_TOP_PROCESS_COLUMNS
};
enum {
	VAC_TOP_MODEL_NAME,
	VAC_TOP_MODEL_STATE,
	VAC_TOP_MODEL_DEVICE,
	VAC_TOP_MODEL_RAM,
	VAC_TOP_MODEL_VRAM,
	VAC_TOP_MODEL_WORKER,
	VAC_TOP_MODEL_REQUESTS,
	VAC_TOP_MODEL_IDLE,
	VAC_TOP_MODEL_UNTIL,
	VAC_TOP_MODEL_COLUMNS
};
enum {
	VAC_TOP_DEVICE_DEVICE,
	VAC_TOP_DEVICE_NAME,
	VAC_TOP_DEVICE_TOTAL,
	VAC_TOP_DEVICE_USED,
	VAC_TOP_DEVICE_FREE,
	VAC_TOP_DEVICE_UNACCOUNTED,
	VAC_TOP_DEVICE_GPU,
	VAC_TOP_DEVICE_VRAM_CURVE,
	VAC_TOP_DEVICE_GPU_CURVE,
	VAC_TOP_DEVICE_COLUMNS
};

extern const struct vac_top_column vac_top_process_columns[VAC_TOP_PROCESS_COLUMNS];
extern const struct vac_top_column vac_top_model_columns[VAC_TOP_MODEL_COLUMNS];
extern const struct vac_top_column vac_top_device_columns[VAC_TOP_DEVICE_COLUMNS];

/* Texts of a row; those of curves stay empty. */
typedef char vac_top_cells[VAC_TOP_MAX_COLUMNS][VAC_TOP_NAME_BYTES];
void vac_top_process_cells(const struct vac_top_process *process, vac_top_cells cells);
void vac_top_model_cells(const struct vac_top_model *model, vac_top_cells cells);
void vac_top_device_cells(const struct vac_top_device *device, vac_top_cells cells);

/* text in a field of width: aligned, and where it is too long without its last words or
 * its middle. to has room for width + 1. */
void vac_top_field(char *to, const char *text, unsigned width, bool right);

#endif
