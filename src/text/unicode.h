/*
 * unicode.h - character properties exactly as the pinned version of the
 * tokenizers library has them (tools/make_unicode_table.py), not as any one
 * Unicode version does. Private to text. Any thread; no allocation.
 */
#ifndef VAC_TEXT_UNICODE_H
#define VAC_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

enum {
	VAC_CHAR_REMOVED = 1 << 0,    /* BertNormalizer's clean_text drops it */
	VAC_CHAR_SPACE = 1 << 1,      /* char::is_whitespace, and \s of added tokens */
	VAC_CHAR_PUNCT = 1 << 2,      /* BertPreTokenizer isolates it */
	VAC_CHAR_NONSPACING = 1 << 3, /* BertNormalizer's strip_accents drops it after NFD */
	VAC_CHAR_MARK = 1 << 4,       /* the StripAccents normalizer drops it */
	VAC_CHAR_WORD = 1 << 5,       /* \w of added tokens and of the Whitespace pre-tokenizer */
	VAC_CHAR_DECOMPOSES = 1 << 6, /* NFD changes it (Hangul syllables aside) */
	VAC_CHAR_LOWERS = 1 << 7,     /* lower-casing changes it */
};

#define VAC_DECOMPOSITION_MAX 4
#define VAC_LOWER_MAX         2

/* VAC_CHAR_* of a code point up to U+10FFFF. */
uint8_t vac_char_flags(uint32_t code);
/* Canonical combining class of a code point that NFD leaves alone. */
uint8_t vac_char_class(uint32_t code);
/* Complete canonical decomposition, the code point itself where it has none;
 * returns how many code points it wrote. */
size_t vac_char_decompose(uint32_t code, uint32_t out[VAC_DECOMPOSITION_MAX]);
/* char::to_lowercase: each character by itself, so a final sigma is like any other. */
size_t vac_char_lower(uint32_t code, uint32_t out[VAC_LOWER_MAX]);
/* BertNormalizer puts spaces around it. */
static inline int vac_char_is_cjk(uint32_t c)
{
	return (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) ||
	       (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x2A6DF) ||
	       (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
	       (c >= 0x2F800 && c <= 0x2FA1F);
}

#endif
