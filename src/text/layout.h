/*
 * layout.h - how a tokenizer lies in its one block of memory. Private to text:
 * parse fills it (finish.c), encode reads it.
 *
 * Everything is found by its offset from the start of the block, so the block
 * may be copied and mapped anywhere.
 */
#ifndef VAC_TEXT_LAYOUT_H
#define VAC_TEXT_LAYOUT_H

#include "text/tokenizer.h"

#define VAC_MAX_NORMALIZER_STEPS 16
#define VAC_MAX_TEMPLATE_ITEMS   64
/* In a slot 24 bits hold the entry's number plus 1; ids have the same limit. */
#define VAC_MAX_TOKENS ((UINT32_C(1) << 24) - 2)
#define VAC_MAX_ID     ((UINT32_C(1) << 24) - 1)
/* Bounds the scratch that one word needs. */
#define VAC_MAX_TOKEN_BYTES ((size_t)64 << 10)

/* The normalizers of a file, flattened into what is done to the text in turn. */
enum vac_normalizer_step {
	VAC_STEP_CLEAN,           /* drop control characters, make white space ' ' */
	VAC_STEP_SPACE_CJK,       /* put spaces around Chinese characters */
	VAC_STEP_NFD,             /* decompose and reorder */
	VAC_STEP_DROP_NONSPACING, /* BertNormalizer's strip_accents, after NFD */
	VAC_STEP_DROP_MARKS,      /* StripAccents */
	VAC_STEP_LOWERCASE,
};

/* The pre-tokenizers of a file. Each only looks at one character and its
 * neighbour, so a sequence of them is the union of what they do. */
struct vac_splitting {
	bool drops_space;    /* white space ends a word and is dropped */
	bool isolates_punct; /* a punctuation character is a word */
	bool splits_word;    /* a word is all \w or has none */
};

/* An added token, as one of the two sets looks for it. */
enum { VAC_PATTERN_SINGLE_WORD = 1, VAC_PATTERN_LSTRIP = 2, VAC_PATTERN_RSTRIP = 4 };
struct vac_pattern {
	uint32_t text_at; /* in the block */
	uint32_t bytes;   /* at least 1 */
	uint32_t id;
	uint32_t flags; /* VAC_PATTERN_* */
};

/* Patterns sorted by their bytes; those that start with byte b are
 * first[b]..first[b + 1]. */
struct vac_pattern_set {
	uint32_t at; /* of struct vac_pattern[count] */
	uint32_t count;
	uint32_t first[257];
};

/* What stands around the text: special tokens and the text's own place. */
enum vac_template_kind { VAC_TEMPLATE_TOKEN, VAC_TEMPLATE_A, VAC_TEMPLATE_B };
struct vac_template_item {
	uint32_t id; /* TOKEN */
	uint8_t kind;
	uint8_t type_id;
};
struct vac_template {
	uint32_t count; /* 0: no template, the text stands alone with type 0 */
	struct vac_template_item items[VAC_MAX_TEMPLATE_ITEMS];
};

struct vac_tokenizer {
	size_t bytes; /* of the whole block */
	/* Vocabulary: an open hash table of token texts. A slot is 0 or holds
	 * eight bits of the hash above the entry's number plus 1. */
	uint32_t slots_at;  /* uint32_t[1 << slot_bits] */
	uint32_t slot_bits; /* at most half of the slots are used */
	uint32_t starts_at; /* uint32_t[token_count + 1]: where a token's text starts in the pool */
	uint32_t ids_at;    /* uint32_t[token_count] */
	uint32_t pool_at;
	uint32_t token_count;
	uint32_t longest_bytes; /* of a token */
	uint32_t vocab_size;    /* highest id + 1, added tokens included */
	/* WordPiece */
	uint32_t unk_id;
	uint32_t max_word_chars;
	uint32_t prefix_at, prefix_bytes; /* of pieces that continue a word */
	uint64_t prefix_hash;
	/* The rest of the pipeline. */
	uint8_t steps[VAC_MAX_NORMALIZER_STEPS]; /* enum vac_normalizer_step */
	uint32_t step_count;
	struct vac_splitting splitting;
	uint8_t ascii_normal[128]; /* an ASCII character normalized; VAC_ASCII_DROPPED */
	uint8_t ascii_flags[128];  /* VAC_CHAR_* that matter for splitting */
	struct vac_pattern_set raw, normalized;
	struct vac_template single, pair;
	uint32_t special_count; /* tokens that single adds */
};

#define VAC_ASCII_DROPPED 0x80

static inline const void *vac_layout_at(const struct vac_tokenizer *t, uint32_t at)
{
	return (const uint8_t *)t + at;
}

/* The hash of a text is built byte by byte, so that one run over a word gives
 * the hashes of all its beginnings. */
#define VAC_HASH_START UINT64_C(0xCBF29CE484222325)
static inline uint64_t vac_hash_byte(uint64_t hash, uint8_t byte)
{
	return (hash ^ byte) * UINT64_C(0x100000001B3);
}
static inline uint64_t vac_hash_bytes(uint64_t hash, const void *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		hash = vac_hash_byte(hash, ((const uint8_t *)text)[i]);
	return hash;
}
/* Spreads the bits of a finished hash: the top ones name the slot, the low
 * eight are kept in it. */
static inline uint64_t vac_hash_finish(uint64_t hash)
{
	hash ^= hash >> 32;
	hash *= UINT64_C(0x9E3779B97F4A7C15);
	return hash ^ hash >> 29;
}

#endif
