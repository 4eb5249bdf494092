/*
 * fuzz_keyfile.c - any bytes as a file of API keys: what is taken keeps the
 * rules, each key is found and no cut one is, and no message tells a key.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/keyfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	/* A copy of its own length, so that a read beyond it is seen. */
	char *text = malloc(bytes ? bytes : 1);
	struct vac_keys keys = {0};
	struct vac_error err = {0};

	check(text != NULL);
	memcpy(text, data, bytes);
	if (vac_keys_parse("F", text, bytes, &keys, &err) < 0) {
		check(keys.keys == NULL && err.code != VAC_OK && err.message[0] != '\0');
		check(memchr(err.message, '\n', strlen(err.message)) == NULL);
		free(text);
		return 0;
	}
	check(keys.count >= 1 && keys.count <= VAC_KEYS_MAX);
	for (size_t i = 0; i < keys.count; i++) {
		const struct vac_key *key = &keys.keys[i];

		check(key->bytes == strlen(key->text) && key->line >= 1);
		check(key->bytes >= VAC_KEY_MIN_BYTES && key->bytes <= VAC_KEY_MAX_BYTES);
		check(key->text[0] != '#' && strpbrk(key->text, " \t\r\n") == NULL);
		check(vac_keys_match(&keys, key->text, key->bytes));
		check(memmem(text, bytes, key->text, key->bytes) != NULL);
	}
	check(!vac_keys_match(&keys, "", 0));
	vac_keys_free(&keys);
	free(text);
	return 0;
}
