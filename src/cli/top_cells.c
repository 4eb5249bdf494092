/* top_cells.c - rows of `vacate top` as texts for its columns; see top_model.h. */
#include "cli/top_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CURVE_LEAST 5
#define CURVE_MOST  60
#define VRAM_CURVE  (VAC_TOP_VRAM_CURVE + 1)
#define GPU_CURVE   (VAC_TOP_GPU_CURVE + 1)

/* In 80 columns all but the device's number. */
const struct vac_top_column vac_top_process_columns[VAC_TOP_PROCESS_COLUMNS] = {
	[VAC_TOP_PROCESS_PID] = {"PID", 7, 7, .right = true},
	[VAC_TOP_PROCESS_USER] = {"USER", 8, 12, .rank = 4},
	[VAC_TOP_PROCESS_WHAT] = {"NAME", 10, 48},
	[VAC_TOP_PROCESS_DEVICE] = {"DEVICE", 6, 10, .rank = 7},
	[VAC_TOP_PROCESS_VRAM] = {"VRAM", 8, 8, .right = true},
	[VAC_TOP_PROCESS_RAM] = {"RAM", 8, 8, .right = true, .rank = 2},
	[VAC_TOP_PROCESS_GPU] = {"GPU", 4, 4, .right = true, .rank = 3},
	[VAC_TOP_PROCESS_IDLE] = {"IDLE", 8, 8, .right = true, .rank = 3},
	[VAC_TOP_PROCESS_STATE] = {"STATE", 8, 16, .rank = 1},
	[VAC_TOP_PROCESS_VRAM_CURVE] = {"VRAM", CURVE_LEAST, CURVE_MOST, .rank = 5,
					.curve = VRAM_CURVE},
	[VAC_TOP_PROCESS_GPU_CURVE] = {"GPU", CURVE_LEAST, CURVE_MOST, .rank = 6,
				       .curve = GPU_CURVE},
};

const struct vac_top_column vac_top_model_columns[VAC_TOP_MODEL_COLUMNS] = {
	[VAC_TOP_MODEL_NAME] = {"MODEL", 14, 80},
	[VAC_TOP_MODEL_STATE] = {"STATE", 8, 12},
	[VAC_TOP_MODEL_DEVICE] = {"DEVICE", 6, 8, .rank = 3},
	[VAC_TOP_MODEL_RAM] = {"RAM", 8, 8, .right = true},
	[VAC_TOP_MODEL_VRAM] = {"VRAM", 8, 8, .right = true, .rank = 1},
	[VAC_TOP_MODEL_WORKER] = {"WORKER", 7, 7, .right = true, .rank = 5},
	[VAC_TOP_MODEL_REQUESTS] = {"REQUESTS", 8, 8, .right = true, .rank = 6},
	[VAC_TOP_MODEL_IDLE] = {"IDLE", 8, 8, .right = true, .rank = 4},
	[VAC_TOP_MODEL_UNTIL] = {"UNTIL", 8, 8, .right = true, .rank = 2},
};

const struct vac_top_column vac_top_device_columns[VAC_TOP_DEVICE_COLUMNS] = {
	[VAC_TOP_DEVICE_DEVICE] = {"GPU", 6, 6},
	[VAC_TOP_DEVICE_NAME] = {"NAME", 9, 40, .rank = 5},
	[VAC_TOP_DEVICE_TOTAL] = {"TOTAL", 8, 8, .right = true, .rank = 4},
	[VAC_TOP_DEVICE_USED] = {"USED", 8, 8, .right = true, .rank = 2},
	[VAC_TOP_DEVICE_FREE] = {"FREE", 8, 8, .right = true},
	[VAC_TOP_DEVICE_UNACCOUNTED] = {"UNACCOUNTED", 11, 11, .right = true, .rank = 3},
	[VAC_TOP_DEVICE_GPU] = {"USE", 4, 4, .right = true, .rank = 1},
	[VAC_TOP_DEVICE_VRAM_CURVE] = {"VRAM", CURVE_LEAST, CURVE_MOST, .rank = 6,
				       .curve = VRAM_CURVE},
	[VAC_TOP_DEVICE_GPU_CURVE] = {"USE", CURVE_LEAST, CURVE_MOST, .rank = 7,
				      .curve = GPU_CURVE},
};

static void put(char *cell, const char *text)
{
	vac_top_clean(cell, VAC_TOP_NAME_BYTES, text && *text ? text : "-");
}

static void put_bytes(char *cell, bool valid, uint64_t bytes)
{
	char text[VAC_TEXT_BYTES];

	put(cell, valid ? vac_format_bytes(text, bytes) : NULL);
}

static void put_percent(char *cell, const struct vac_gauge *gauge)
{
	if (gauge->valid)
		snprintf(cell, VAC_TOP_NAME_BYTES, "%" PRIu32 "%%", gauge->value);
	else
		put(cell, NULL);
}

static void put_idle(char *cell, const struct vac_top_idle *idle)
{
	char text[VAC_TEXT_BYTES];

	if (idle->valid && idle->busy)
		put(cell, "busy");
	else if (idle->valid)
		snprintf(cell, VAC_TOP_NAME_BYTES, "%s%s", idle->at_least ? ">" : "",
			 vac_format_ms(text, idle->ms));
	else
		put(cell, NULL);
}

void vac_top_process_cells(const struct vac_top_process *p, vac_top_cells cells)
{
	memset(cells, 0, sizeof(vac_top_cells));
	snprintf(cells[VAC_TOP_PROCESS_PID], VAC_TOP_NAME_BYTES, "%" PRIu32, p->shown_pid);
	put(cells[VAC_TOP_PROCESS_USER], p->user);
	put(cells[VAC_TOP_PROCESS_WHAT], p->what);
	put(cells[VAC_TOP_PROCESS_DEVICE], p->devices);
	put_bytes(cells[VAC_TOP_PROCESS_VRAM], p->vram_valid, p->vram_bytes);
	put_bytes(cells[VAC_TOP_PROCESS_RAM], p->ram_valid, p->ram_bytes);
	put_percent(cells[VAC_TOP_PROCESS_GPU], &p->gpu_percent);
	put_idle(cells[VAC_TOP_PROCESS_IDLE], &p->idle);
	put(cells[VAC_TOP_PROCESS_STATE], p->state);
}

void vac_top_model_cells(const struct vac_top_model *m, vac_top_cells cells)
{
	memset(cells, 0, sizeof(vac_top_cells));
	put(cells[VAC_TOP_MODEL_NAME], m->name);
	put(cells[VAC_TOP_MODEL_STATE], m->state);
	put(cells[VAC_TOP_MODEL_DEVICE], m->device);
	put_bytes(cells[VAC_TOP_MODEL_RAM], m->ram_valid, m->ram_bytes);
	put_bytes(cells[VAC_TOP_MODEL_VRAM], m->vram_valid, m->vram_bytes);
	put_idle(cells[VAC_TOP_MODEL_IDLE], &m->idle);
	put(cells[VAC_TOP_MODEL_UNTIL], m->until);
	put(cells[VAC_TOP_MODEL_WORKER], NULL);
	put(cells[VAC_TOP_MODEL_REQUESTS], NULL);
	if (m->worker > 0)
		snprintf(cells[VAC_TOP_MODEL_WORKER], VAC_TOP_NAME_BYTES, "%lld",
			 (long long)m->worker);
	if (m->requests_valid)
		snprintf(cells[VAC_TOP_MODEL_REQUESTS], VAC_TOP_NAME_BYTES, "%" PRIu64,
			 m->requests);
}

void vac_top_device_cells(const struct vac_top_device *d, vac_top_cells cells)
{
	memset(cells, 0, sizeof(vac_top_cells));
	put(cells[VAC_TOP_DEVICE_DEVICE], d->device);
	put(cells[VAC_TOP_DEVICE_NAME], d->answers ? d->name : d->error);
	put_bytes(cells[VAC_TOP_DEVICE_TOTAL], d->answers, d->total_bytes);
	put_bytes(cells[VAC_TOP_DEVICE_USED], d->answers, d->used_bytes);
	put_bytes(cells[VAC_TOP_DEVICE_FREE], d->answers, d->free_bytes);
	put_bytes(cells[VAC_TOP_DEVICE_UNACCOUNTED], d->unaccounted_valid, d->unaccounted_bytes);
	put_percent(cells[VAC_TOP_DEVICE_GPU], &d->gpu_percent);
}

void vac_top_field(char *to, const char *text, unsigned width, bool right)
{
	size_t length = strlen(text), dots = width < 3 ? width : 3, head, words = width;

	memset(to, ' ', width);
	to[width] = '\0';
	/* "parked 5.3 GiB" is "parked" for short. */
	while (length > width && words > width / 2 && text[words] != ' ')
		words--;
	if (length > width && words > width / 2)
		length = words;
	if (length <= width) {
		memcpy(to + (right ? width - length : 0), text, length);
		return;
	}
	head = (width - dots + 1) / 2;
	memcpy(to, text, head);
	memset(to + head, '.', dots);
	memcpy(to + head + dots, text + length - (width - dots - head), width - dots - head);
}
