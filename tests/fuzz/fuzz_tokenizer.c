/*
 * fuzz_tokenizer.c - a tokenizer.json and a text, with a byte 0xFF (which is in
 * no UTF-8) between them: a file that is accepted encodes any text within its
 * promises.
 */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(int condition)
{
	if (!condition)
		abort();
}

static void encode(const struct vac_tokenizer *tokenizer, const char *text, size_t bytes,
		   struct vac_encode_scratch *scratch, size_t limit, enum vac_encode_side side)
{
	struct vac_encode_options options = {limit > 0, limit, side};
	struct vac_encoding encoding;
	struct vac_error err;
	size_t around = options.add_special_tokens ? vac_tokenizer_special_count(tokenizer) : 0;
	int rc = vac_encode(tokenizer, text, bytes, &options, scratch, &encoding, &err);

	if (rc < 0) {
		check(err.code == VAC_E_INVALID && err.message[0]);
		return;
	}
	check(encoding.count >= around && encoding.full_count >= encoding.count);
	check(limit == 0 ? encoding.full_count == encoding.count : encoding.count <= limit);
	for (size_t i = 0; i < encoding.count; i++)
		check(encoding.ids[i] >= 0 &&
		      (uint32_t)encoding.ids[i] < vac_tokenizer_vocab_size(tokenizer));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const uint8_t *end = bytes ? memchr(data, 0xFF, bytes) : NULL;
	size_t json_bytes = end ? (size_t)(end - data) : bytes;
	const char *text = (const char *)data + json_bytes + (end ? 1 : 0);
	size_t text_bytes = end ? bytes - json_bytes - 1 : 0;
	struct vac_encode_scratch *scratch;
	struct vac_tokenizer_parsed *parsed;
	const struct vac_tokenizer *tokenizer;
	struct vac_error err = {0};
	void *memory;

	if (vac_tokenizer_parse((const char *)data, json_bytes, "input", &parsed, &err) < 0) {
		check(err.code != VAC_OK && err.message[0]);
		return 0;
	}
	memory = calloc(1, vac_tokenizer_parsed_bytes(parsed));
	scratch = vac_encode_scratch_new();
	if (memory && scratch) {
		tokenizer = vac_tokenizer_build(parsed, memory);
		encode(tokenizer, text, text_bytes, scratch, 0, VAC_SIDE_RIGHT);
		encode(tokenizer, text, text_bytes, scratch, 5, VAC_SIDE_RIGHT);
		encode(tokenizer, text, text_bytes, scratch, 3, VAC_SIDE_LEFT);
	}
	vac_encode_scratch_free(scratch);
	free(memory);
	vac_tokenizer_parsed_free(parsed);
	return 0;
}
