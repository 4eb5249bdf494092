/*
 * tokenizer.h - text to token ids, exactly as the HuggingFace `tokenizers`
 * library does it for the same tokenizer.json (truth: tokenizers 0.22).
 *
 * A tokenizer is immutable after it is built; encoding takes a scratch of the
 * caller's, so several threads may encode with one tokenizer.
 */
#ifndef VAC_TEXT_TOKENIZER_H
#define VAC_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct vac_tokenizer;

/* Upper limit of a tokenizer.json. */
#define VAC_TOKENIZER_FILE_LIMIT_BYTES ((size_t)64 << 20)

/*
 * Parses a whole tokenizer.json and lays the tokenizer out. Two passes, so
 * that a plan knows the bytes before a load and both agree:
 *
 * vac_tokenizer_parse() reads and checks everything (an unknown component is
 * VAC_E_UNSUPPORTED with its JSON path and type; a broken file VAC_E_CORRUPT
 * with the byte position) into temporary memory;
 * vac_tokenizer_parsed_bytes() says how many bytes the tokenizer will occupy;
 * vac_tokenizer_build() lays it out in memory of the caller's (zeroed, page
 * aligned, at least that many bytes), which must stay mapped while the
 * tokenizer is used. The tokenizer itself lies inside that memory: dropping
 * the memory drops the tokenizer, there is nothing else to free.
 */
struct vac_tokenizer_parsed;
int vac_tokenizer_parse(const char *json, size_t json_bytes, const char *path,
			struct vac_tokenizer_parsed **out, struct vac_error *err) VAC_MUST_CHECK;
size_t vac_tokenizer_parsed_bytes(const struct vac_tokenizer_parsed *parsed);
const struct vac_tokenizer *vac_tokenizer_build(const struct vac_tokenizer_parsed *parsed,
						void *memory);
void vac_tokenizer_parsed_free(struct vac_tokenizer_parsed *parsed); /* NULL is fine */

/* Growable buffers that encoding reuses. Zero-initialise; free once. */
struct vac_encode_scratch;
struct vac_encode_scratch *vac_encode_scratch_new(void);
void vac_encode_scratch_free(struct vac_encode_scratch *scratch);

enum vac_encode_side { VAC_SIDE_RIGHT, VAC_SIDE_LEFT };
struct vac_encode_options {
	bool add_special_tokens;
	size_t max_tokens;         /* special tokens included; 0: no truncation */
	enum vac_encode_side side; /* where truncation drops tokens */
};

struct vac_encoding {
	const int32_t *ids; /* live in the scratch until its next use */
	const uint8_t *type_ids;
	size_t count;
	size_t full_count; /* before truncation, special tokens included */
};

/* Invalid UTF-8 is VAC_E_INVALID with the byte position. */
int vac_encode(const struct vac_tokenizer *tokenizer, const char *text, size_t text_bytes,
	       const struct vac_encode_options *options, struct vac_encode_scratch *scratch,
	       struct vac_encoding *out, struct vac_error *err) VAC_MUST_CHECK;

/* Number of ids in use: highest id + 1, added tokens included. */
uint32_t vac_tokenizer_vocab_size(const struct vac_tokenizer *tokenizer);
/* How many special tokens the template adds to one text. */
size_t vac_tokenizer_special_count(const struct vac_tokenizer *tokenizer);

#endif
