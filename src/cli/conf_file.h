/*
 * conf_file.h - the lines of a vacate.conf: sections, keys and values as text,
 * each with its line, and everything that is wrong with the lines themselves.
 * What keys and values mean is not known here (config_read.h). One thread.
 *
 * The format is inih's: "[section]", "key = value" or "key: value", comments
 * behind ';' or '#' at the start of a line and behind " ;" elsewhere. Two things
 * are ours: a section may be of a kind and have a name ("[model org/name]"), and
 * a value in double quotes keeps its blanks and knows \" \\ \; \n and \t.
 */
#ifndef VAC_CLI_CONF_FILE_H
#define VAC_CLI_CONF_FILE_H

#include "cli/problems.h"

/* Longest line; and the size of the file. */
#define VAC_CONF_LINE_BYTES 4096u
#define VAC_CONF_FILE_BYTES ((size_t)16 << 20)

struct vac_conf_item {
	struct vac_conf_item *next;
	const char *key, *value;
	bool quoted; /* the value was */
	uint32_t line;
};

struct vac_conf_section {
	struct vac_conf_section *next;
	const char *kind; /* "model"; "" for what stands before the first section */
	const char *name; /* "org/name"; "": none */
	uint32_t line;
	struct vac_conf_item *first, **last;
};

/* Strings and lists live in the problems' arena. */
struct vac_conf {
	struct vac_conf_section *first, **last;
};

/* Reads text (bytes long, NUL not needed). Whatever is wrong with a line is a
 * problem, and the line does not count. Negative only without memory. */
int vac_conf_parse(struct vac_conf *conf, const char *text, size_t bytes,
		   struct vac_problems *problems, struct vac_error *err) VAC_MUST_CHECK;

#endif
