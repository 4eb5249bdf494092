/*
 * utf8.h - decoding and encoding single code points of UTF-8, strictly: no
 * overlong forms, no surrogates, nothing above U+10FFFF. Any thread.
 */
#ifndef VAC_BASE_UTF8_H
#define VAC_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Reads the code point at `at`, which must lie before end. Returns how many
 * bytes it takes (1..4), or 0 when they are no UTF-8 or are cut off by end. */
static inline size_t vac_utf8_decode(const uint8_t *at, const uint8_t *end, uint32_t *code)
{
	uint32_t a = at[0];
	size_t have = (size_t)(end - at);

	if (a < 0x80) {
		*code = a;
		return 1;
	}
	/* 0x80..0xC1 cannot start a code point: continuation bytes and overlong forms. */
	if (a < 0xC2 || a > 0xF4 || have < 2 || (at[1] & 0xC0) != 0x80)
		return 0;
	if (a < 0xE0) {
		*code = (a & 0x1F) << 6 | (at[1] & 0x3Fu);
		return 2;
	}
	if (have < 3 || (at[2] & 0xC0) != 0x80)
		return 0;
	if (a < 0xF0) {
		*code = (a & 0x0F) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
		return *code < 0x800 || (*code >= 0xD800 && *code <= 0xDFFF) ? 0 : 3;
	}
	if (have < 4 || (at[3] & 0xC0) != 0x80)
		return 0;
	*code = (a & 0x07) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu);
	return *code < 0x10000 || *code > 0x10FFFF ? 0 : 4;
}

/* Writes a code point (not a surrogate, at most U+10FFFF); returns its 1..4 bytes. */
static inline size_t vac_utf8_encode(uint8_t *to, uint32_t code)
{
	if (code < 0x80) {
		to[0] = (uint8_t)code;
		return 1;
	}
	if (code < 0x800) {
		to[0] = (uint8_t)(0xC0 | code >> 6);
		to[1] = (uint8_t)(0x80 | (code & 0x3F));
		return 2;
	}
	if (code < 0x10000) {
		to[0] = (uint8_t)(0xE0 | code >> 12);
		to[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
		to[2] = (uint8_t)(0x80 | (code & 0x3F));
		return 3;
	}
	to[0] = (uint8_t)(0xF0 | code >> 18);
	to[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
	to[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
	to[3] = (uint8_t)(0x80 | (code & 0x3F));
	return 4;
}

#endif
