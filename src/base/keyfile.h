/*
 * keyfile.h - API keys: a file of them, and whether a given one is among them.
 *
 * One key a line, of 16 to 256 printable ASCII characters without a space;
 * spaces around it, empty lines and lines that begin with # do not count. The
 * same file serves the server, which takes any of the keys, and a client, which
 * sends the first. No message quotes a key. Any thread; no state.
 */
#ifndef VAC_BASE_KEYFILE_H
#define VAC_BASE_KEYFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define VAC_KEY_MIN_BYTES       16 /* shorter ones can be guessed */
#define VAC_KEY_MAX_BYTES       256
#define VAC_KEYS_MAX            256
#define VAC_KEYS_MAX_FILE_BYTES ((size_t)1 << 20)

struct vac_key {
	char text[VAC_KEY_MAX_BYTES + 1]; /* padded with zeros */
	uint32_t bytes;
	uint32_t line; /* of the file, from 1 */
};

struct vac_keys {
	struct vac_key *keys; /* owned; free with vac_keys_free */
	size_t count;
};

/* Reads a file that belongs to this process's user or to root, that nobody else
 * may write, and that nobody else may read, but for the group of a file of
 * root's (the rule that PostgreSQL has for its key files). On error out is
 * untouched. */
int vac_keys_read(const char *path, struct vac_keys *out, struct vac_error *err) VAC_MUST_CHECK;
/* The same of a file's content; path is for messages. text needs no NUL. */
int vac_keys_parse(const char *path, const char *text, size_t bytes, struct vac_keys *out,
		   struct vac_error *err) VAC_MUST_CHECK;
/* Whether text is one of the keys. How long it takes depends on how many keys
 * there are and on how long text is, not on what the keys are. */
bool vac_keys_match(const struct vac_keys *keys, const char *text, size_t bytes);
/* Also wipes the memory. NULL keys are fine. */
void vac_keys_free(struct vac_keys *keys);

#endif
