/* top_screen.c - what `vacate top` draws; see top.h. */
#include "cli/top.h"

#include <curses.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define NS_PER_MS     1000000
#define MOST_WIDTH    512
#define MESSAGE_LINES 3
/* So tall, there is room for the curves of what is chosen. */
#define CURVES_FROM_LINES 18
#define CURVES_LINES      2
#define CURVES_LABEL      18
#define OLD_MS            3000

static chtype color_attribute(enum vac_color color)
{
	switch (color) {
	case VAC_COLOR_NONE:
		return A_NORMAL;
	case VAC_COLOR_BOLD:
		return A_BOLD;
	case VAC_COLOR_RED:
		return vac_top_colors() ? COLOR_PAIR(color) | A_BOLD : A_BOLD;
	default:
		return vac_top_colors() ? COLOR_PAIR(color) : A_NORMAL;
	}
}

/* One line from the left, cut at the right; text is printable ASCII. */
static void put_line(int y, chtype attribute, const char *text)
{
	attrset(attribute);
	mvaddnstr(y, 0, text, COLS);
	attrset(A_NORMAL);
}

static void put_curve(int y, int x, unsigned width, const struct vac_top_history *history,
		      enum vac_top_curve curve, uint64_t most)
{
	static const wchar_t block[VAC_TOP_LEVELS + 1] = {L' ',      L'\x2581', L'\x2582',
							  L'\x2583', L'\x2584', L'\x2585',
							  L'\x2586', L'\x2587', L'\x2588'};
	static const char plain[VAC_TOP_LEVELS + 2] = " _.:-=+*#";
	uint8_t levels[VAC_TOP_SAMPLES];

	if (width > VAC_TOP_SAMPLES)
		width = VAC_TOP_SAMPLES;
	vac_top_spark(history, curve, most, width, levels);
	for (unsigned i = 0; i < width; i++) {
		if (vac_top_blocks())
			mvaddnwstr(y, x + (int)i, &block[levels[i]], 1);
		else
			mvaddch(y, x + (int)i, (chtype)plain[levels[i]]);
	}
}

struct columns {
	const struct vac_top_column *list;
	size_t count;
	unsigned widths[VAC_TOP_MAX_COLUMNS];
};

static struct columns lay_out(const struct vac_top_column *list, size_t count)
{
	struct columns columns = {.list = list, .count = count};

	vac_top_layout(list, count, (unsigned)COLS, columns.widths);
	return columns;
}

static void put_header(int y, const struct columns *columns, const char *ordered)
{
	char field[MOST_WIDTH + 1];
	int x = 0;

	for (size_t i = 0; i < columns->count; i++) {
		const struct vac_top_column *column = &columns->list[i];
		unsigned width = columns->widths[i] < MOST_WIDTH ? columns->widths[i] : MOST_WIDTH;

		if (width == 0)
			continue;
		vac_top_field(field, column->header, width, column->right);
		attrset(!column->curve && strcmp(column->header, ordered) == 0
				? A_BOLD | A_UNDERLINE
				: A_BOLD);
		mvaddnstr(y, x, field, (int)width);
		x += (int)width + 1;
	}
	attrset(A_NORMAL);
}

/* A row; cells, and curves of the track (NULL: none) against these. */
static void put_row(int y, const struct columns *columns, vac_top_cells cells, size_t state,
		    enum vac_color color, const struct vac_top_track *track,
		    const uint64_t mosts[2], bool chosen)
{
	char field[MOST_WIDTH + 1];
	int x = 0;

	if (chosen) {
		attrset(A_REVERSE);
		mvhline(y, 0, ' ', COLS);
	}
	for (size_t i = 0; i < columns->count; i++) {
		const struct vac_top_column *column = &columns->list[i];
		unsigned width = columns->widths[i] < MOST_WIDTH ? columns->widths[i] : MOST_WIDTH;
		chtype attribute = i == state ? color_attribute(color) : A_NORMAL;

		if (width == 0)
			continue;
		attrset(attribute | (chosen ? A_REVERSE : 0));
		if (!column->curve) {
			vac_top_field(field, cells[i], width, column->right);
			mvaddnstr(y, x, field, (int)width);
		} else if (track) {
			put_curve(y, x, width, &track->history,
				  (enum vac_top_curve)(column->curve - 1),
				  mosts[column->curve - 1]);
		}
		x += (int)width + 1;
	}
	attrset(A_NORMAL);
}

static const uint64_t process_mosts[2] = {0, 100}; /* VRAM: its own most */

static void draw_processes(struct vac_top *top, int y, unsigned lines)
{
	const struct vac_top_machine *machine = top->machine;
	struct columns columns = lay_out(vac_top_process_columns, VAC_TOP_PROCESS_COLUMNS);
	size_t *first = &top->first[VAC_TOP_PROCESSES], count = machine->process_count;
	bool here = top->chosen == VAC_TOP_PROCESSES;

	if (count == 0) {
		put_line(y, A_NORMAL, "no process is on a GPU");
		return;
	}
	put_header(y, &columns, vac_top_order_name(top->order));
	*first = vac_top_scroll(*first, count, lines - 1, here ? top->index : count);
	for (unsigned i = 0; i + 1 < lines && *first + i < count; i++) {
		const struct vac_top_process *row = &machine->processes[*first + i];
		vac_top_cells cells;

		vac_top_process_cells(row, cells);
		put_row(y + 1 + (int)i, &columns, cells, VAC_TOP_PROCESS_STATE, row->color,
			row->track, process_mosts, here && *first + i == top->index);
	}
}

static void draw_models(struct vac_top *top, int y, unsigned lines)
{
	const struct vac_top_server *server = top->server;
	struct columns columns = lay_out(vac_top_model_columns, VAC_TOP_MODEL_COLUMNS);
	size_t *first = &top->first[VAC_TOP_MODELS], count = server->model_count;
	bool here = top->chosen == VAC_TOP_MODELS;

	if (count == 0) {
		put_line(y, A_NORMAL, "no model is loaded");
		return;
	}
	put_header(y, &columns,
		   top->order == VAC_TOP_BY_NAME ? "MODEL" : vac_top_order_name(top->order));
	*first = vac_top_scroll(*first, count, lines - 1, here ? top->index : count);
	for (unsigned i = 0; i + 1 < lines && *first + i < count; i++) {
		const struct vac_top_model *row = &server->models[*first + i];
		vac_top_cells cells;

		vac_top_model_cells(row, cells);
		put_row(y + 1 + (int)i, &columns, cells, VAC_TOP_MODEL_STATE, row->color, NULL,
			NULL, here && *first + i == top->index);
	}
}

static void draw_devices(struct vac_top *top, int y, unsigned lines)
{
	const struct vac_top_machine *machine = top->machine;
	struct columns columns = lay_out(vac_top_device_columns, VAC_TOP_DEVICE_COLUMNS);

	if (machine->device_count == 0) {
		put_line(y, color_attribute(VAC_COLOR_YELLOW), machine->why);
		return;
	}
	put_header(y, &columns, "");
	for (unsigned i = 0; i + 1 < lines && i < machine->device_count; i++) {
		const struct vac_top_device *row = &machine->devices[i];
		const uint64_t mosts[2] = {row->total_bytes, 100};
		vac_top_cells cells;

		vac_top_device_cells(row, cells);
		put_row(y + 1 + (int)i, &columns, cells, VAC_TOP_DEVICE_NAME,
			row->answers ? VAC_COLOR_NONE : VAC_COLOR_RED, row->track, mosts, false);
	}
}

/* The curves of the chosen process over the whole width. */
static void draw_curves(const struct vac_top *top, int y)
{
	const struct vac_top_process *process = vac_top_chosen_process(top);

	if (!process || !process->track || COLS <= CURVES_LABEL)
		return;
	for (int i = 0; i < 2; i++) {
		char label[64];

		snprintf(label, sizeof(label), "%" PRIu32 " %s", process->shown_pid,
			 i == 0 ? "VRAM" : "GPU");
		mvaddnstr(y + i, 0, label, CURVES_LABEL - 1);
		put_curve(y + i, CURVES_LABEL, (unsigned)(COLS - CURVES_LABEL),
			  &process->track->history, i == 0 ? VAC_TOP_VRAM_CURVE : VAC_TOP_GPU_CURVE,
			  process_mosts[i]);
	}
}

/* ---- lines around the lists ---- */

static void draw_title(const struct vac_top *top)
{
	const struct vac_top_machine *machine = top->machine;
	char text[MOST_WIDTH], used[VAC_TEXT_BYTES], total[VAC_TEXT_BYTES], age[VAC_TEXT_BYTES];
	int64_t now_ns = vac_now_ns(), old_ms;
	size_t at;

	at = (size_t)snprintf(text, sizeof(text), "vacate top  by %s%s  every %s",
			      vac_top_order_name(top->order), top->reversed ? " (reversed)" : "",
			      vac_format_ms(age, top->interval_ms));
	if (!machine && top->watches_machine) {
		snprintf(text + at, sizeof(text) - at, "  asking NVML for %s",
			 vac_format_ms(age, (now_ns - top->begun_ns) / NS_PER_MS));
	} else if (machine) {
		old_ms = (now_ns - machine->at_ns) / NS_PER_MS - top->interval_ms;
		if (old_ms > OLD_MS)
			at += (size_t)snprintf(text + at, sizeof(text) - at,
					       "  no answer of NVML for %s",
					       vac_format_ms(age, old_ms));
		if (machine->host.available_valid && machine->host.total_valid)
			at += (size_t)snprintf(
				text + at, sizeof(text) - at, "  RAM %s of %s free",
				vac_format_bytes(used, machine->host.available_bytes),
				vac_format_bytes(total, machine->host.total_bytes));
		if (machine->driver[0])
			snprintf(text + at, sizeof(text) - at, "  driver %s", machine->driver);
	}
	put_line(0, A_BOLD, text);
}

static void draw_server(const struct vac_top *top)
{
	const struct vac_top_server *server = top->server;
	char text[MOST_WIDTH], bytes[VAC_TEXT_BYTES], age[VAC_TEXT_BYTES], where[128];
	chtype attribute = A_NORMAL;
	size_t at = 0;

	vac_top_clean(where, sizeof(where), top->server_text);
	if (!server) {
		snprintf(text, sizeof(text), "asking the server at %s", where);
	} else if (server->late) {
		snprintf(text, sizeof(text), "%.250s for %s", server->error,
			 vac_format_ms(age, (vac_now_ns() - top->answered_ns) / NS_PER_MS));
		attribute = color_attribute(VAC_COLOR_YELLOW);
	} else if (!server->answered) {
		snprintf(text, sizeof(text), "%.250s", server->error);
	} else {
		at = (size_t)snprintf(text, sizeof(text), "%s: %zu model%s", where,
				      server->model_count, server->model_count == 1 ? "" : "s");
		if (server->worker_count > 0 && server->workers_valid)
			at += (size_t)snprintf(text + at, sizeof(text) - at, ", %zu worker%s of %s",
					       server->worker_count,
					       server->worker_count == 1 ? "" : "s",
					       vac_format_bytes(bytes, server->workers_bytes));
		if (server->own_valid)
			snprintf(text + at, sizeof(text) - at, ", server %s",
				 vac_format_bytes(bytes, server->own_bytes));
	}
	put_line(1, attribute, text);
}

/* What stands on the line of messages. */
static const char *message_of(const struct vac_top *top, char to[VAC_TOP_MESSAGE_BYTES])
{
	char took[VAC_TEXT_BYTES], object[VAC_TOP_INPUT_BYTES];

	if (top->mode == VAC_TOP_ASK_NAME) {
		snprintf(to, VAC_TOP_MESSAGE_BYTES, "model to load (Esc: none): %s_", top->input);
	} else if (top->mode == VAC_TOP_LIST && top->child.pid > 0 && !top->message[0]) {
		vac_top_clean(object, sizeof(object), top->running.object);
		snprintf(to, VAC_TOP_MESSAGE_BYTES, "%s %s ... %s", top->running.verb, object,
			 vac_format_ms(took, (vac_now_ns() - top->child.begun_ns) / NS_PER_MS));
	} else {
		return top->message;
	}
	return to;
}

/* Broken where it must be; returns the lines that it takes, drawn or not. */
static unsigned put_message(int y, chtype attribute, const char *text, bool draw)
{
	size_t length = strlen(text), at = 0;
	unsigned lines = 0;

	do {
		size_t end = length - at <= (size_t)COLS ? length : at + (size_t)COLS;
		size_t gap = end;

		/* After a word, if there is one. */
		while (end < length && gap > at && text[gap] != ' ')
			gap--;
		if (end < length && gap > at)
			end = gap;
		if (draw) {
			attrset(attribute);
			mvaddnstr(y + (int)lines, 0, text + at, (int)(end - at));
		}
		at = end;
		while (text[at] == ' ')
			at++;
		lines++;
	} while (at < length && lines < MESSAGE_LINES);
	attrset(A_NORMAL);
	return lines;
}

static void draw_keys(const struct vac_top *top)
{
	static const char *const keys[] = {
		[VAC_TOP_LIST] = ("?help q:quit p:park r:resume l:load u:unload d:details "
				  "order: v m g i n"),
		[VAC_TOP_ASK_NAME] = "Enter: go on  Esc: back",
		[VAC_TOP_CONFIRM] = "y: do it  any other key: not",
		[VAC_TOP_TEXT] = "arrows, j k, space: scroll  any other key: back",
	};

	attrset(A_REVERSE);
	mvhline(LINES - 1, 0, ' ', COLS);
	put_line(LINES - 1, A_REVERSE, keys[top->mode]);
}

static void draw_text(struct vac_top *top, unsigned lines)
{
	const char *at = top->text ? top->text : "out of memory";
	size_t count = 1, shown = 0;
	char line[MOST_WIDTH], clean[MOST_WIDTH];

	for (const char *c = at; *c; c++)
		count += *c == '\n' && c[1];
	top->text_page = lines > 1 ? lines - 1 : 1;
	top->text_first = vac_top_scroll(top->text_first, count, top->text_page, count);
	put_line(2, A_BOLD | A_UNDERLINE, top->title);
	for (size_t i = 0; *at; i++) {
		size_t length = strcspn(at, "\n");

		if (i >= top->text_first && shown < top->text_page) {
			snprintf(line, sizeof(line), "%.*s",
				 (int)(length < MOST_WIDTH - 1 ? length : MOST_WIDTH - 1), at);
			vac_top_clean(clean, sizeof(clean), line);
			put_line(3 + (int)shown++, A_NORMAL, clean);
		}
		at += length + (at[length] == '\n');
	}
}

static void draw_lists(struct vac_top *top, unsigned lines)
{
	const struct vac_top_machine *machine = top->machine;
	const struct vac_top_server *server = top->server;
	size_t wanted[VAC_TOP_SECTIONS] = {0};
	unsigned shares[VAC_TOP_SECTIONS];
	int y = 2;

	if (machine) {
		wanted[VAC_TOP_DEVICES] = machine->device_count + 1;
		wanted[VAC_TOP_PROCESSES] = machine->process_count + 1;
		/* That nobody is there is not known then. */
		if (machine->process_count == 0 && !machine->surveyed)
			wanted[VAC_TOP_PROCESSES] = 0;
	}
	if (server && (server->answered || server->late))
		wanted[VAC_TOP_MODELS] = server->model_count + 1;
	if (vac_top_chosen_process(top) && LINES >= CURVES_FROM_LINES && lines > CURVES_LINES + 4) {
		lines -= CURVES_LINES;
		draw_curves(top, y + (int)lines);
	}
	vac_top_share(lines, wanted, shares);
	if (shares[VAC_TOP_DEVICES] > 0)
		draw_devices(top, y, shares[VAC_TOP_DEVICES]);
	y += (int)shares[VAC_TOP_DEVICES];
	if (shares[VAC_TOP_MODELS] > 0)
		draw_models(top, y, shares[VAC_TOP_MODELS]);
	y += (int)shares[VAC_TOP_MODELS];
	if (shares[VAC_TOP_PROCESSES] > 0)
		draw_processes(top, y, shares[VAC_TOP_PROCESSES]);
}

void vac_top_screen_draw(struct vac_top *top)
{
	char room[VAC_TOP_MESSAGE_BYTES];
	const char *message = message_of(top, room);
	unsigned message_lines, lines;

	erase();
	if (COLS < VAC_TOP_LEAST_COLUMNS || LINES < VAC_TOP_LEAST_LINES) {
		snprintf(room, sizeof(room), "too small (%dx%d): %dx%d are needed", COLS, LINES,
			 VAC_TOP_LEAST_COLUMNS, VAC_TOP_LEAST_LINES);
		put_message(0, A_NORMAL, room, true);
		refresh();
		return;
	}
	message_lines = put_message(0, A_NORMAL, message, false);
	lines = (unsigned)LINES - 3 - message_lines;
	draw_title(top);
	if (top->server_text)
		draw_server(top);
	if (top->mode == VAC_TOP_TEXT)
		draw_text(top, lines);
	else
		draw_lists(top, lines);
	put_message(LINES - 1 - (int)message_lines, color_attribute(top->message_color), message,
		    true);
	draw_keys(top);
	refresh();
}
