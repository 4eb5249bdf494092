/* keyfile.c - a file of API keys, and the search for one. Any thread; no state. */
#include "base/keyfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

/* ---- the search ---- */

/* 0 only for equal keys. It looks at every byte of both, whatever came before:
 * neither the first byte that differs nor the length of a key can be learned
 * from the time it takes. What is behind a key's end is zeros on both sides, and
 * the lengths are compared with the bytes. */
static uint32_t difference(const struct vac_key *a, const struct vac_key *b)
{
	uint32_t bits = a->bytes ^ b->bytes;

	for (size_t i = 0; i < VAC_KEY_MAX_BYTES; i++)
		bits |= (uint32_t)(unsigned char)(a->text[i] ^ b->text[i]);
	/* The compiler must not see that one bit would do, and stop at it. */
	__asm__ volatile("" : "+r"(bits));
	return bits;
}

bool vac_keys_match(const struct vac_keys *keys, const char *text, size_t bytes)
{
	struct vac_key given = {0};
	uint32_t found = 0;

	/* Too long a one is compared, too: its length is like that of no key. */
	memcpy(given.text, text, bytes < VAC_KEY_MAX_BYTES ? bytes : VAC_KEY_MAX_BYTES);
	given.bytes = bytes <= VAC_KEY_MAX_BYTES ? (uint32_t)bytes : VAC_KEY_MAX_BYTES + 1;
	for (size_t i = 0; i < keys->count; i++) {
		uint32_t bits = difference(&keys->keys[i], &given);

		/* bits has 16 bits at most: below 0 only for 0. */
		found |= (bits - 1) >> 31;
	}
	explicit_bzero(&given, sizeof(given));
	return found != 0;
}

void vac_keys_free(struct vac_keys *keys)
{
	if (keys->keys)
		explicit_bzero(keys->keys, keys->count * sizeof(*keys->keys));
	free(keys->keys);
	*keys = (struct vac_keys){0};
}

/* ---- the file ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static int check_key(const char *path, uint32_t line, const char *text, size_t bytes, size_t column,
		     struct vac_error *err)
{
	for (size_t i = 0; i < bytes; i++) {
		if (is_blank(text[i]))
			return vac_fail(err, VAC_E_INVALID,
					"%.200s: line %u, column %zu: there is a space in the key; "
					"write one key a line, and comments on lines that begin "
					"with #",
					path, line, column + i);
		if (text[i] < '!' || text[i] > '~')
			return vac_fail(err, VAC_E_INVALID,
					"%.200s: line %u, column %zu: byte 0x%02x cannot be in a "
					"key; take letters, digits and punctuation of ASCII",
					path, line, column + i, (unsigned char)text[i]);
	}
	if (bytes < VAC_KEY_MIN_BYTES || bytes > VAC_KEY_MAX_BYTES)
		return vac_fail(err, VAC_E_INVALID,
				"%.200s: line %u: the key has %zu characters where %d to %d are "
				"taken; `openssl rand -hex 32` makes a good one",
				path, line, bytes, VAC_KEY_MIN_BYTES, VAC_KEY_MAX_BYTES);
	return 0;
}

static int add_key(const char *path, uint32_t line, const char *text, size_t bytes,
		   struct vac_keys *keys, struct vac_error *err)
{
	struct vac_key *key, *grown;

	for (size_t i = 0; i < keys->count; i++) {
		if (keys->keys[i].bytes == bytes && memcmp(keys->keys[i].text, text, bytes) == 0)
			return vac_fail(err, VAC_E_INVALID,
					"%.200s: line %u has the key of line %u again; remove one, "
					"else the key stays valid when the other line goes",
					path, line, keys->keys[i].line);
	}
	if (keys->count == VAC_KEYS_MAX)
		return vac_fail(err, VAC_E_TOO_LARGE,
				"%.200s: line %u: more than %d keys; each request is compared with "
				"all of them",
				path, line, VAC_KEYS_MAX);
	/* No realloc: what it leaves behind would not be wiped. */
	grown = calloc(keys->count + 1, sizeof(*grown));
	if (!grown)
		return vac_fail_nomem(err, "API keys", (keys->count + 1) * sizeof(*grown));
	if (keys->keys) {
		memcpy(grown, keys->keys, keys->count * sizeof(*grown));
		explicit_bzero(keys->keys, keys->count * sizeof(*grown));
		free(keys->keys);
	}
	keys->keys = grown;
	key = &grown[keys->count++];
	memcpy(key->text, text, bytes);
	key->bytes = (uint32_t)bytes;
	key->line = line;
	return 0;
}

int vac_keys_parse(const char *path, const char *text, size_t bytes, struct vac_keys *out,
		   struct vac_error *err)
{
	const char *end = text + bytes, *at = text, *next;
	struct vac_keys keys = {0};
	uint32_t line = 1;
	int rc;

	for (; at < end; at = next, line++) {
		const char *stop = memchr(at, '\n', (size_t)(end - at)), *first = at;

		next = stop ? stop + 1 : end;
		if (!stop)
			stop = end;
		while (first < stop && is_blank(*first))
			first++;
		while (stop > first && is_blank(stop[-1]))
			stop--;
		if (first == stop || *first == '#')
			continue;
		rc = check_key(path, line, first, (size_t)(stop - first), (size_t)(first - at) + 1,
			       err);
		if (rc == 0)
			rc = add_key(path, line, first, (size_t)(stop - first), &keys, err);
		if (rc < 0)
			goto err;
	}
	if (keys.count == 0) {
		rc = vac_fail(err, VAC_E_INVALID,
			      "%.200s: there is no key in it; write one a line, for example one "
			      "that `openssl rand -hex 32` makes",
			      path);
		goto err;
	}
	*out = keys;
	return 0;
err:
	vac_keys_free(&keys);
	return rc;
}

static int check_owner(const char *path, int fd, struct vac_error *err)
{
	struct stat st;
	mode_t open_to;

	if (fstat(fd, &st) != 0)
		return vac_fail_errno(err, errno, "%.200s: cannot be examined", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return vac_fail(err, VAC_E_INVALID,
				"%.200s: belongs to user %u, who can change the keys; it must be "
				"root's or that of user %u, who reads it",
				path, (unsigned int)st.st_uid, (unsigned int)geteuid());
	/* A file of root's reaches another user through its group. */
	open_to = st.st_mode & (st.st_uid == 0 ? 037 : 077);
	if (open_to)
		return vac_fail(err, VAC_E_INVALID,
				"%.200s: its mode 0%o lets others at the keys; chmod it to %s",
				path, (unsigned int)(st.st_mode & 0777),
				st.st_uid == 0 ? "0600 or 0640" : "0600");
	return 0;
}

int vac_keys_read(const char *path, struct vac_keys *out, struct vac_error *err)
{
	uint64_t bytes;
	char *text = NULL;
	int fd = vac_open_file(path, &bytes, err), rc;

	if (fd < 0)
		return fd;
	rc = check_owner(path, fd, err);
	if (rc == 0 && bytes > VAC_KEYS_MAX_FILE_BYTES)
		rc = vac_fail(err, VAC_E_TOO_LARGE,
			      "%.200s: has %llu bytes where a file of keys has at most %zu", path,
			      (unsigned long long)bytes, VAC_KEYS_MAX_FILE_BYTES);
	if (rc == 0) {
		text = malloc((size_t)bytes + 1);
		if (!text)
			rc = vac_fail_nomem(err, "a file of API keys", (size_t)bytes + 1);
	}
	if (rc == 0)
		rc = vac_pread_full(fd, path, text, (size_t)bytes, 0, err);
	if (rc == 0)
		rc = vac_keys_parse(path, text, (size_t)bytes, out, err);
	if (text) {
		explicit_bzero(text, (size_t)bytes);
		free(text);
	}
	close(fd);
	return rc;
}
