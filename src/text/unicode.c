/* unicode.c - look-ups in the generated tables. Any thread; no allocation. */
#include "text/unicode.h"

#include <assert.h>
#include <stdlib.h>

#include "text/unicode_table.h"

#define HANGUL_FIRST 0xAC00u
#define HANGUL_LAST  0xD7A3u

static unsigned int record_of(uint32_t code)
{
	assert(code <= 0x10FFFF);
	return unicode_blocks[unicode_index[code / UNICODE_BLOCK] * UNICODE_BLOCK +
			      code % UNICODE_BLOCK];
}

uint8_t vac_char_flags(uint32_t code)
{
	return unicode_records[record_of(code)].flags;
}

uint8_t vac_char_class(uint32_t code)
{
	return unicode_records[record_of(code)].combining_class;
}

/* The first field of an entry is its key, in both tables. */
static int compare_code(const void *key, const void *entry)
{
	uint32_t a = *(const uint32_t *)key, b = *(const uint32_t *)entry;

	return a < b ? -1 : a > b;
}

size_t vac_char_decompose(uint32_t code, uint32_t out[VAC_DECOMPOSITION_MAX])
{
	const uint32_t *key;
	size_t i, n = 0;

	if (code >= HANGUL_FIRST && code <= HANGUL_LAST) {
		uint32_t s = code - HANGUL_FIRST;

		out[0] = 0x1100 + s / 588;
		out[1] = 0x1161 + s % 588 / 28;
		out[2] = 0x11A7 + s % 28;
		return s % 28 ? 3 : 2;
	}
	out[0] = code;
	if (!(vac_char_flags(code) & VAC_CHAR_DECOMPOSES))
		return 1;
	key = bsearch(&code, decomposition_keys, DECOMPOSITION_COUNT, sizeof(*key), compare_code);
	assert(key);
	i = (size_t)(key - decomposition_keys);
	for (size_t from = decomposition_starts[i]; from < decomposition_starts[i + 1]; from++)
		out[n++] = decomposition_parts[from];
	return n;
}

size_t vac_char_lower(uint32_t code, uint32_t out[VAC_LOWER_MAX])
{
	const uint32_t(*entry)[3];

	out[0] = code;
	if (!(vac_char_flags(code) & VAC_CHAR_LOWERS))
		return 1;
	entry = bsearch(&code, lower_table, LOWER_COUNT, sizeof(*entry), compare_code);
	assert(entry);
	out[0] = (*entry)[1];
	out[1] = (*entry)[2];
	return out[1] ? 2 : 1;
}
