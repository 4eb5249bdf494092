/*
 * table.h - tables that fit the terminal: no line is ever wider. One column
 * may be shortened in its middle; columns of a lesser rank are left out where
 * that is not enough. One owner; no locking.
 */
#ifndef VAC_CLI_TABLE_H
#define VAC_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define VAC_TABLE_MAX_COLUMNS 16

enum vac_color {
	VAC_COLOR_NONE,
	VAC_COLOR_BOLD,
	VAC_COLOR_GREEN,
	VAC_COLOR_YELLOW,
	VAC_COLOR_RED,
};

/* What is written to. */
struct vac_terminal {
	FILE *file;
	size_t width; /* columns */
	bool color;
};
/* Width: of the terminal, else COLUMNS, else no limit. Colours: only on a terminal,
 * not with NO_COLOR or TERM=dumb. */
struct vac_terminal vac_terminal_of(FILE *file);

/* Escape sequences to switch a colour on and all off; "" without colours. */
const char *vac_color_on(const struct vac_terminal *terminal, enum vac_color color);
const char *vac_color_off(const struct vac_terminal *terminal, enum vac_color color);

struct vac_column {
	const char *header;
	bool right;  /* aligned to the right, as numbers are */
	bool shrink; /* may lose its middle */
	bool maybe;  /* left out where every row has "-" */
	int rank;    /* 0: always shown; the highest rank is left out first */
};

struct vac_cell;
struct vac_table {
	const struct vac_column *columns; /* the caller's */
	size_t column_count;
	struct vac_cell *cells; /* rows one after the other */
	size_t row_count, row_capacity;
	bool failed; /* out of memory: what was added is incomplete */
};

void vac_table_init(struct vac_table *table, const struct vac_column *columns, size_t count);
/* Adds a row; texts has one entry a column and is copied; NULL shows as "-". */
void vac_table_row(struct vac_table *table, const char *const *texts);
/* Colours one cell of the newest row. */
void vac_table_color(struct vac_table *table, size_t column, enum vac_color color);
/* 0, or -ENOMEM when a row was lost; nothing is printed then. */
int vac_table_print(const struct vac_table *table, const struct vac_terminal *terminal);
void vac_table_free(struct vac_table *table);

/* One line of text, cut in its middle where it is too long. 0 or -ENOMEM. */
int vac_print_line(const struct vac_terminal *terminal, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
