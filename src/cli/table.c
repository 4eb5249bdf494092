/* table.c - tables that fit the terminal. One owner; no locking. */
#include "cli/table.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/format.h"

#define DEFAULT_WIDTH 80 /* of a terminal that does not know its own */
/* Of a file or pipe: what reads it is to have whole names. */
#define ENDLESS_WIDTH 32767
#define MIN_WIDTH     20
#define GAP           2 /* blanks between columns */
/* A name is shortened to that before columns are left out. */
#define SHRINK_TO 20

struct vac_cell {
	char *text; /* owned */
	enum vac_color color;
};

struct vac_terminal vac_terminal_of(FILE *file)
{
	struct vac_terminal terminal = {.file = file};
	const char *columns = getenv("COLUMNS"), *no_color = getenv("NO_COLOR");
	const char *term = getenv("TERM");
	bool is_terminal = isatty(fileno(file)) == 1;
	struct winsize size;

	terminal.width = is_terminal ? DEFAULT_WIDTH : ENDLESS_WIDTH;
	if (is_terminal && ioctl(fileno(file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		terminal.width = size.ws_col;
	else if (columns && atoi(columns) > 0)
		terminal.width = (size_t)atoi(columns);
	if (terminal.width < MIN_WIDTH)
		terminal.width = MIN_WIDTH;
	terminal.color =
		is_terminal && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
	return terminal;
}

const char *vac_color_on(const struct vac_terminal *terminal, enum vac_color color)
{
	static const char *const codes[] = {
		[VAC_COLOR_NONE] = "",          [VAC_COLOR_BOLD] = "\033[1m",
		[VAC_COLOR_GREEN] = "\033[32m", [VAC_COLOR_YELLOW] = "\033[33m",
		[VAC_COLOR_RED] = "\033[31m",
	};

	return terminal->color ? codes[color] : "";
}

const char *vac_color_off(const struct vac_terminal *terminal, enum vac_color color)
{
	return terminal->color && color != VAC_COLOR_NONE ? "\033[0m" : "";
}

void vac_table_init(struct vac_table *table, const struct vac_column *columns, size_t count)
{
	assert(count > 0 && count <= VAC_TABLE_MAX_COLUMNS);
	*table = (struct vac_table){.columns = columns, .column_count = count};
}

void vac_table_row(struct vac_table *table, const char *const *texts)
{
	struct vac_cell *row;

	if (table->row_count == table->row_capacity) {
		size_t capacity = table->row_capacity ? table->row_capacity * 2 : 16;
		struct vac_cell *cells = reallocarray(
			table->cells, capacity, table->column_count * sizeof(struct vac_cell));

		if (!cells) {
			table->failed = true;
			return;
		}
		table->cells = cells;
		table->row_capacity = capacity;
	}
	row = &table->cells[table->row_count++ * table->column_count];
	for (size_t i = 0; i < table->column_count; i++) {
		row[i].text = strdup(texts[i] ? texts[i] : "-");
		row[i].color = VAC_COLOR_NONE;
		if (!row[i].text)
			table->failed = true;
	}
}

void vac_table_color(struct vac_table *table, size_t column, enum vac_color color)
{
	assert(column < table->column_count);
	if (table->row_count > 0)
		table->cells[(table->row_count - 1) * table->column_count + column].color = color;
}

void vac_table_free(struct vac_table *table)
{
	for (size_t i = 0; i < table->row_count * table->column_count; i++)
		free(table->cells[i].text);
	free(table->cells);
	*table = (struct vac_table){0};
}

/* Columns as they will be shown; width 0: left out. */
struct layout {
	size_t widths[VAC_TABLE_MAX_COLUMNS];
};

static size_t total_width(const struct layout *layout, size_t count)
{
	size_t total = 0;

	for (size_t i = 0; i < count; i++) {
		if (layout->widths[i] > 0)
			total += layout->widths[i] + (total > 0 ? GAP : 0);
	}
	return total;
}

/* Takes what is too much from the columns that may shrink, not below least. */
static void shrink_columns(const struct vac_table *table, struct layout *layout, size_t width,
			   size_t least)
{
	for (size_t i = 0; i < table->column_count; i++) {
		size_t total = total_width(layout, table->column_count);
		size_t *at = &layout->widths[i];

		if (!table->columns[i].shrink || total <= width || *at <= least)
			continue;
		*at -= total - width < *at - least ? total - width : *at - least;
	}
}

/* The column to leave out next: the highest rank, the last of those; -1: none. */
static int next_to_drop(const struct vac_table *table, const struct layout *layout)
{
	int found = -1, rank = 0;

	for (size_t i = 0; i < table->column_count; i++) {
		if (layout->widths[i] > 0 && table->columns[i].rank > 0 &&
		    table->columns[i].rank >= rank) {
			rank = table->columns[i].rank;
			found = (int)i;
		}
	}
	return found;
}

static bool is_empty(const struct vac_table *table, size_t column)
{
	for (size_t row = 0; row < table->row_count; row++) {
		const char *text = table->cells[row * table->column_count + column].text;

		if (text && strcmp(text, "-") != 0)
			return false;
	}
	return true;
}

static void plan_layout(const struct vac_table *table, struct layout *layout, size_t width)
{
	struct layout natural = {{0}};

	for (size_t i = 0; i < table->column_count; i++) {
		size_t *at = &natural.widths[i];

		if (table->columns[i].maybe && is_empty(table, i))
			continue;
		*at = vac_text_columns(table->columns[i].header);
		for (size_t row = 0; row < table->row_count; row++) {
			const struct vac_cell *cell = &table->cells[row * table->column_count + i];
			size_t columns = vac_text_columns(cell->text);

			if (columns > *at)
				*at = columns;
		}
	}
	for (;;) {
		int drop = next_to_drop(table, &natural);

		*layout = natural;
		shrink_columns(table, layout, width, SHRINK_TO);
		if (drop < 0 || total_width(layout, table->column_count) <= width)
			break;
		natural.widths[drop] = 0;
	}
	/* Nothing more to leave out: the name gives what it has, and then the
	 * last columns give way. */
	shrink_columns(table, layout, width, 4);
	for (size_t i = table->column_count;
	     i-- > 1 && total_width(layout, table->column_count) > width;)
		layout->widths[i] = 0;
	if (layout->widths[0] > width)
		layout->widths[0] = width;
}

/* text in a field of so many columns. */
static int print_cell(const struct vac_terminal *terminal, const char *text, size_t width,
		      bool right, bool last, enum vac_color color)
{
	char *fitted = vac_text_fit(text, width);
	int pad;

	if (!fitted)
		return -ENOMEM;
	pad = (int)(width - vac_text_columns(fitted));
	fprintf(terminal->file, "%*s%s%s%s%*s", right ? pad : 0, "", vac_color_on(terminal, color),
		fitted, vac_color_off(terminal, color), right || last ? 0 : pad, "");
	free(fitted);
	return 0;
}

static int print_row(const struct vac_table *table, const struct vac_terminal *terminal,
		     const struct layout *layout, const struct vac_cell *row)
{
	size_t end = table->column_count;
	bool first = true;
	int rc = 0;

	while (end > 0 && layout->widths[end - 1] == 0)
		end--;
	for (size_t i = 0; i < end && rc == 0; i++) {
		const struct vac_column *column = &table->columns[i];

		if (layout->widths[i] == 0)
			continue;
		if (!first)
			fprintf(terminal->file, "%*s", GAP, "");
		first = false;
		rc = print_cell(terminal, row ? row[i].text : column->header, layout->widths[i],
				column->right, i + 1 == end, row ? row[i].color : VAC_COLOR_BOLD);
	}
	fputc('\n', terminal->file);
	return rc;
}

int vac_table_print(const struct vac_table *table, const struct vac_terminal *terminal)
{
	struct layout layout;
	int rc;

	if (table->failed)
		return -ENOMEM;
	plan_layout(table, &layout, terminal->width);
	rc = print_row(table, terminal, &layout, NULL);
	for (size_t i = 0; i < table->row_count && rc == 0; i++)
		rc = print_row(table, terminal, &layout, &table->cells[i * table->column_count]);
	return rc;
}

int vac_print_line(const struct vac_terminal *terminal, const char *fmt, ...)
{
	char *text, *fitted;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	fitted = vac_text_fit(text, terminal->width);
	free(text);
	if (!fitted)
		return -ENOMEM;
	fprintf(terminal->file, "%s\n", fitted);
	free(fitted);
	return 0;
}
