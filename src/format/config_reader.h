/*
 * config_reader.h - flat JSON objects by a table: which members are known,
 * their types, their ranges and where they go. Unknown members are skipped,
 * null is the same as absent, and a known member that comes twice is an error.
 * Private to format/. Any thread.
 */
#ifndef VAC_FORMAT_CONFIG_READER_H
#define VAC_FORMAT_CONFIG_READER_H

#include "base/json.h"

enum config_type {
	CONFIG_COUNT,      /* uint32_t, low <= value <= high */
	CONFIG_INTEGER,    /* int32_t, low <= value <= high */
	CONFIG_REAL,       /* double, low <= value <= high */
	CONFIG_BOOL,       /* bool */
	CONFIG_TEXT,       /* char[bytes], NUL-terminated */
	CONFIG_FIRST_TEXT, /* the same, the first of an array of strings */
	CONFIG_ONE_TEXT,   /* the same, a string or an array of exactly one */
	CONFIG_EMPTY,      /* nothing is stored; anything but {} is VAC_E_UNSUPPORTED */
};

struct config_member {
	const char *name;
	enum config_type type;
	size_t at;    /* offset in the struct that is filled */
	size_t bytes; /* of a text's buffer */
	int64_t low, high;
};

/* Reads the members of the object that the last event began. *given (may be NULL) gets
 * bit i for members[i] when it was there and not null; at most 32 members. */
int vac_config_members(struct vac_json *json, const struct config_member *members, size_t count,
		       void *into, uint32_t *given) VAC_MUST_CHECK;

/* The same for a document that is one such object. */
int vac_config_document(const char *text, size_t bytes, const char *path,
			const struct config_member *members, size_t count, void *into,
			uint32_t *given, struct vac_error *err) VAC_MUST_CHECK;

#define CONFIG_MAX_BYTES ((size_t)4 << 20)

/* Reads DIR/name into buf (initialized here; the caller frees it and *path
 * whatever is returned). *found false and 0: there is no such file. */
int vac_config_file(const char *dir, const char *name, size_t limit_bytes, char **path,
		    struct vac_buf *buf, bool *found, struct vac_error *err) VAC_MUST_CHECK;

#endif
