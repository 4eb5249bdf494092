/*
 * encode_lines.c - encodes texts from standard input for comparisons against
 * other implementations (tests/golden/compare_tokens.py).
 *
 *     encode_lines TOKENIZER_JSON MAX_TOKENS left|right special|plain
 *
 * A text is a 32-bit length in the machine's byte order and that many bytes;
 * for each one a line of token ids, with ":TYPE" where a type id is not 0, or
 * "error: ..." comes out. With a fifth argument N, it encodes all texts N
 * times and prints megabytes a second instead.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "text/tokenizer.h"

#define INPUT_LIMIT_BYTES ((size_t)1 << 30)

static void read_all(struct vac_buf *buf)
{
	size_t n;

	buf->limit_bytes = INPUT_LIMIT_BYTES;
	do {
		void *to = vac_buf_reserve(buf, 1 << 16);

		if (!to) {
			fprintf(stderr, "the input is too large\n");
			exit(1);
		}
		n = fread(to, 1, 1 << 16, stdin);
		vac_buf_advance(buf, n);
	} while (n > 0);
}

static void print_line(const struct vac_encoding *encoding)
{
	for (size_t i = 0; i < encoding->count; i++) {
		printf(i ? " %" PRId32 : "%" PRId32, encoding->ids[i]);
		if (encoding->type_ids[i])
			printf(":%u", encoding->type_ids[i]);
	}
	putchar('\n');
}

/* Returns the bytes of text that were encoded. */
static size_t encode_all(const struct vac_tokenizer *tokenizer, const struct vac_buf *input,
			 const struct vac_encode_options *options,
			 struct vac_encode_scratch *scratch, int print)
{
	size_t at = 0, sum = 0;

	while (input->bytes - at >= sizeof(uint32_t)) {
		struct vac_encoding encoding;
		struct vac_error err;
		uint32_t bytes;

		memcpy(&bytes, input->data + at, sizeof(bytes));
		at += sizeof(bytes);
		if (bytes > input->bytes - at)
			break;
		if (vac_encode(tokenizer, (const char *)input->data + at, bytes, options, scratch,
			       &encoding, &err) < 0) {
			if (print)
				printf("error: %s\n", err.message);
		} else if (print) {
			print_line(&encoding);
		}
		at += bytes;
		sum += bytes;
	}
	return sum;
}

int main(int argc, char **argv)
{
	struct vac_buf file = VAC_BUF_INIT, input = VAC_BUF_INIT;
	struct vac_encode_scratch *scratch = vac_encode_scratch_new();
	struct vac_encode_options options = {0};
	const struct vac_tokenizer *tokenizer;
	struct vac_tokenizer_parsed *parsed;
	struct vac_error err;
	int64_t start, parse_ns;
	void *memory;

	if (argc < 5 || !scratch) {
		fprintf(stderr, "usage: encode_lines TOKENIZER_JSON MAX_TOKENS left|right "
				"special|plain [ROUNDS]\n");
		return 2;
	}
	options.max_tokens = strtoul(argv[2], NULL, 10);
	options.side = strcmp(argv[3], "left") == 0 ? VAC_SIDE_LEFT : VAC_SIDE_RIGHT;
	options.add_special_tokens = strcmp(argv[4], "special") == 0;
	if (vac_read_file(argv[1], VAC_TOKENIZER_FILE_LIMIT_BYTES, &file, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	start = vac_now_ns();
	if (vac_tokenizer_parse((const char *)file.data, file.bytes, argv[1], &parsed, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	memory = calloc(1, vac_tokenizer_parsed_bytes(parsed));
	if (!memory)
		return 1;
	tokenizer = vac_tokenizer_build(parsed, memory);
	parse_ns = vac_now_ns() - start;
	read_all(&input);
	if (argc > 5) {
		int rounds = atoi(argv[5]);
		size_t sum = 0;

		start = vac_now_ns();
		for (int i = 0; i < rounds; i++)
			sum += encode_all(tokenizer, &input, &options, scratch, 0);
		printf("%.1f MB/s; parse and build %.2f ms; %zu bytes\n",
		       (double)sum * 1e3 / (double)(vac_now_ns() - start), (double)parse_ns / 1e6,
		       vac_tokenizer_parsed_bytes(parsed));
	} else {
		encode_all(tokenizer, &input, &options, scratch, 1);
	}
	vac_tokenizer_parsed_free(parsed);
	vac_encode_scratch_free(scratch);
	vac_buf_free(&file);
	vac_buf_free(&input);
	free(memory);
	return 0;
}
