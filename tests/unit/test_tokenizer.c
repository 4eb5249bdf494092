/*
 * test_tokenizer.c - token ids against those of the tokenizers library
 * (tests/golden/make_tokens.py), and what a tokenizer.json must not be.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/json.h"
#include "text/tokenizer.h"

#define TEXT_COUNT 500

struct loaded {
	void *memory;
	size_t bytes;
	const struct vac_tokenizer *tokenizer;
};

static struct vac_buf texts[TEXT_COUNT];
static struct vac_encode_scratch *scratch;

static char *golden_path(const char *format, const char *name)
{
	const char *root = getenv("SRCDIR");
	static char path[1024];
	int n = snprintf(path, sizeof(path), "%s/tests/golden/", root ? root : ".");

	snprintf(path + n, sizeof(path) - (size_t)n, format, name);
	return path;
}

static void read_file(const char *path, struct vac_buf *buf)
{
	struct vac_error err;

	if (vac_read_file(path, VAC_TOKENIZER_FILE_LIMIT_BYTES, buf, &err) < 0)
		fail_msg("%s", err.message);
	vac_buf_putc(buf, '\0');
	assert_true(vac_buf_ok(buf));
	buf->bytes--;
}

static void load(const char *path, struct loaded *out)
{
	struct vac_tokenizer_parsed *parsed;
	struct vac_buf file = VAC_BUF_INIT;
	struct vac_error err;

	read_file(path, &file);
	if (vac_tokenizer_parse((char *)file.data, file.bytes, path, &parsed, &err) < 0)
		fail_msg("%s", err.message);
	vac_buf_free(&file);
	out->bytes = vac_tokenizer_parsed_bytes(parsed);
	out->memory = test_calloc(1, out->bytes);
	out->tokenizer = vac_tokenizer_build(parsed, out->memory);
	vac_tokenizer_parsed_free(parsed);
}

static int read_texts(void **state)
{
	struct vac_buf file = VAC_BUF_INIT;
	struct vac_error err;
	struct vac_json json;

	(void)state;
	scratch = vac_encode_scratch_new();
	read_file(golden_path("%s", "texts.json"), &file);
	vac_json_init(&json, "texts.json", file.data, file.bytes, &err);
	if (vac_json_expect(&json, VAC_JSON_ARRAY_BEGIN, "texts") < 0)
		return -1;
	for (size_t i = 0; i < TEXT_COUNT; i++) {
		if (vac_json_expect(&json, VAC_JSON_STRING, "a text") < 0)
			return -1;
		vac_buf_put(&texts[i], json.text, json.text_bytes);
	}
	if (vac_json_expect(&json, VAC_JSON_ARRAY_END, "texts") < 0)
		return -1;
	vac_json_free(&json);
	vac_buf_free(&file);
	return scratch ? 0 : -1;
}

static int free_texts(void **state)
{
	(void)state;
	for (size_t i = 0; i < TEXT_COUNT; i++)
		vac_buf_free(&texts[i]);
	vac_encode_scratch_free(scratch);
	return 0;
}

/* One line "ID ID:TYPE ...", as the golden files have it. */
static void print_line(const struct vac_encoding *encoding, struct vac_buf *line)
{
	vac_buf_reset(line);
	for (size_t i = 0; i < encoding->count; i++) {
		vac_buf_printf(line, i ? " %d" : "%d", encoding->ids[i]);
		if (encoding->type_ids[i])
			vac_buf_printf(line, ":%u", encoding->type_ids[i]);
	}
	vac_buf_putc(line, '\0');
	assert_true(vac_buf_ok(line));
}

static void check_texts(const struct vac_tokenizer *tokenizer, const char *golden)
{
	struct vac_buf file = VAC_BUF_INIT, line = VAC_BUF_INIT;
	struct vac_encode_options options = {0};
	char *at, *next, side[8], mode[8];
	size_t limit;

	read_file(golden, &file);
	next = (char *)file.data;
	at = strsep(&next, "\n");
	assert_int_equal(sscanf(at, "%zu %7s %7s", &limit, side, mode), 3);
	options.max_tokens = limit;
	options.side = strcmp(side, "left") == 0 ? VAC_SIDE_LEFT : VAC_SIDE_RIGHT;
	options.add_special_tokens = strcmp(mode, "special") == 0;
	for (size_t i = 0; i < TEXT_COUNT; i++) {
		struct vac_encoding encoding;
		struct vac_error err;

		at = strsep(&next, "\n");
		assert_non_null(at);
		if (vac_encode(tokenizer, (char *)texts[i].data, texts[i].bytes, &options, scratch,
			       &encoding, &err) < 0)
			fail_msg("text %zu: %s", i, err.message);
		print_line(&encoding, &line);
		if (strcmp((char *)line.data, at) != 0)
			fail_msg("%s: text %zu:\nours   %s\ntheirs %s", golden, i, line.data, at);
		assert_true(encoding.full_count >= encoding.count);
		assert_true(!limit || encoding.count <= limit);
	}
	assert_string_equal(next, "");
	vac_buf_free(&file);
	vac_buf_free(&line);
}

static void golden_small(void **state)
{
	static const char *const runs[] = {
		"uncased.40.right.special",
		"uncased.40.left.special",
		"uncased.40.right.plain",
		"uncased.2.right.special",
		"uncased.1.left.plain",
		"cased.40.right.special",
		"lower_keep_accents.40.right.special",
		"cased_strip_accents.40.right.special",
		"no_chinese.40.right.special",
		"no_clean.40.right.special",
		"no_normalizer.40.right.special",
		"no_normalizer_no_split.40.right.special",
		"sequence_nfd_strip_lower.40.right.special",
		"lower_then_nfd.40.right.special",
		"split_space_punctuation.40.right.special",
		"split_word_punctuation.40.right.special",
		"bert_processing.40.right.special",
		"bert_processing.40.right.plain",
		"roberta_processing.40.right.special",
		"no_processor.40.right.special",
		"no_processor.40.left.special",
		"prefix_at.40.right.special",
		"prefix_none.40.right.special",
		"prefix_letter.40.right.special",
		"added.40.right.special",
		"added.40.left.special",
		"template.40.right.special",
		"template.40.left.special",
		"template.40.right.plain",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		struct loaded loaded;
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(runs[i], "."), runs[i]);
		load(golden_path("tokens/%s.json", name), &loaded);
		check_texts(loaded.tokenizer, golden_path("tokens/%s.txt", runs[i]));
		test_free(loaded.memory);
	}
}

static void golden_sample_model(void **state)
{
	const char *dir = getenv("VACATE_SAMPLE_MODEL");
	struct loaded loaded;
	char path[1024];

	(void)state;
	if (!dir)
		skip();
	snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
	load(path, &loaded);
	check_texts(loaded.tokenizer, golden_path("tokens/%s.txt", "sample.0.right.special"));
	check_texts(loaded.tokenizer, golden_path("tokens/%s.txt", "sample.256.right.special"));
	check_texts(loaded.tokenizer, golden_path("tokens/%s.txt", "sample.64.left.special"));
	assert_int_equal(vac_tokenizer_vocab_size(loaded.tokenizer), 30522);
	assert_int_equal(vac_tokenizer_special_count(loaded.tokenizer), 2);
	assert_in_range(loaded.bytes, 1, 1200000);
	test_free(loaded.memory);
}

/* The block may be copied to another place and used there. */
static void block_moves(void **state)
{
	struct loaded loaded;
	void *moved;

	(void)state;
	load(golden_path("tokens/%s.json", "added"), &loaded);
	moved = test_malloc(loaded.bytes);
	memcpy(moved, loaded.memory, loaded.bytes);
	memset(loaded.memory, 0xEE, loaded.bytes);
	test_free(loaded.memory);
	check_texts(moved, golden_path("tokens/%s.txt", "added.40.right.special"));
	test_free(moved);
}

static void encode_limits(void **state)
{
	struct vac_encode_options options = {.add_special_tokens = true};
	struct vac_encoding encoding;
	struct loaded loaded;
	struct vac_error err;

	(void)state;
	load(golden_path("tokens/%s.json", "uncased"), &loaded);
	assert_int_equal(
		vac_encode(loaded.tokenizer, "the the the", 11, &options, scratch, &encoding, &err),
		0);
	assert_int_equal(encoding.count, 5);
	assert_int_equal(encoding.full_count, 5);
	options.max_tokens = 3;
	assert_int_equal(
		vac_encode(loaded.tokenizer, "the the the", 11, &options, scratch, &encoding, &err),
		0);
	assert_int_equal(encoding.count, 3);
	assert_int_equal(encoding.full_count, 5);
	options.max_tokens = 1;
	assert_int_equal(vac_encode(loaded.tokenizer, "the", 3, &options, scratch, &encoding, &err),
			 -EINVAL);
	assert_int_equal(err.code, VAC_E_INVALID);
	assert_non_null(strstr(err.message, "1 tokens has no room for the 2 special"));
	options.add_special_tokens = false;
	assert_int_equal(vac_encode(loaded.tokenizer, NULL, 0, &options, scratch, &encoding, &err),
			 0);
	assert_int_equal(encoding.count, 0);
	test_free(loaded.memory);
}

static void encode_invalid_utf8(void **state)
{
	static const struct {
		const char *text;
		size_t position;
		const char *byte;
	} cases[] = {{"\xFF", 0, "0xFF"},
		     {"abcdefgh\x80", 8, "0x80"},
		     {"caf\xC3", 3, "0xC3"},
		     {"0123456789\xED\xA0\x80", 10, "0xED"},
		     {"ok \xE4\xB8\xAD \xC0\xAF", 7, "0xC0"},
		     {"\xF4\x90\x80\x80", 0, "0xF4"}};
	struct vac_encode_options options = {.add_special_tokens = true};
	struct loaded loaded;

	(void)state;
	load(golden_path("tokens/%s.json", "uncased"), &loaded);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_encoding encoding;
		struct vac_error err;
		char where[64];

		assert_int_equal(vac_encode(loaded.tokenizer, cases[i].text, strlen(cases[i].text),
					    &options, scratch, &encoding, &err),
				 -EINVAL);
		assert_int_equal(err.code, VAC_E_INVALID);
		snprintf(where, sizeof(where), "byte %s at position %zu", cases[i].byte,
			 cases[i].position);
		if (!strstr(err.message, where))
			fail_msg("\"%s\" does not say %s", err.message, where);
	}
	test_free(loaded.memory);
}

/* ---- files that are refused ---- */

/* A whole small file; parts of it are exchanged. */
static const char whole[] =
	"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":["
	"{\"id\":0,\"content\":\"[U]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
	"\"normalized\":false,\"special\":true}],"
	"\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
	"\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
	"\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
	"\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
	"{\"SpecialToken\":{\"id\":\"[U]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":"
	"0}}],"
	"\"pair\":[],\"special_tokens\":{\"[U]\":{\"id\":\"[U]\",\"ids\":[0],\"tokens\":[\"[U]\"]}}"
	"},"
	"\"decoder\":null,"
	"\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[U]\",\"continuing_subword_prefix\":\"##"
	"\","
	"\"max_input_chars_per_word\":100,\"vocab\":{\"[U]\":0,\"a\":1,\"##b\":2}}}";

static int parse_text(const char *text, size_t bytes, struct vac_error *err)
{
	struct vac_tokenizer_parsed *parsed = (void *)&parsed;
	int rc;

	memset(err, 0, sizeof(*err));
	rc = vac_tokenizer_parse(text, bytes, "t.json", &parsed, err);
	if (rc < 0)
		assert_null(parsed);
	else
		vac_tokenizer_parsed_free(parsed);
	return rc;
}

/* The whole file with its first `from` replaced; *at is where that was. */
static size_t exchange(const char *from, const char *to, char *out, size_t room, size_t *at)
{
	const char *found = strstr(whole, from);

	assert_non_null(found);
	*at = (size_t)(found - whole);
	assert_true(strlen(whole) + strlen(to) < room);
	return (size_t)snprintf(out, room, "%.*s%s%s", (int)*at, whole, to, found + strlen(from));
}

static void refused_files(void **state)
{
	static const struct {
		const char *from, *to;
		enum vac_error_code code;
		const char *says;
	} cases[] = {
		{"\"BertNormalizer\"", "\"NFKC\"", VAC_E_UNSUPPORTED,
		 "normalizer: the type \"NFKC\" is not implemented"},
		{"\"BertPreTokenizer\"", "\"ByteLevel\"", VAC_E_UNSUPPORTED,
		 "pre_tokenizer: the type \"ByteLevel\""},
		{"\"BertPreTokenizer\"", "\"BertPreTokenizer\\u0000x\"", VAC_E_UNSUPPORTED,
		 "pre_tokenizer: the type \"BertPreTokenizer?x\""},
		{"{\"type\":\"BertPreTokenizer\"}",
		 "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
		 "{\"type\":\"Digits\"}]}",
		 VAC_E_UNSUPPORTED, "pre_tokenizer.pretokenizers[1]: the type \"Digits\""},
		{"{\"type\":\"BertPreTokenizer\"}",
		 "{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}", VAC_E_UNSUPPORTED,
		 "pre_tokenizer.behavior: \"Removed\""},
		{"\"TemplateProcessing\"", "\"ByteLevel\"", VAC_E_UNSUPPORTED,
		 "post_processor: the type \"ByteLevel\""},
		{"\"WordPiece\"", "\"Unigram\"", VAC_E_UNSUPPORTED, "model: the type \"Unigram\""},
		{"\"version\":\"1.0\"", "\"version\":\"2.0\"", VAC_E_UNSUPPORTED, "version"},
		{"\"version\":\"1.0\"", "\"future\":1", VAC_E_UNSUPPORTED,
		 "tokenizer: the member \"future\" is not implemented"},
		{"\"clean_text\":true", "\"clean_text\":true,\"shout\":true", VAC_E_UNSUPPORTED,
		 "normalizer: the member \"shout\""},
		{"{\"type\":\"BertPreTokenizer\"}", "{\"type\":\"BertPreTokenizer\",\"x\":0}",
		 VAC_E_UNSUPPORTED, "pre_tokenizer: the member \"x\""},
		{"\"single_word\":false", "\"single_word\":false,\"strange\":1", VAC_E_UNSUPPORTED,
		 "added_tokens[0]: the member \"strange\""},
		{"\"max_input_chars_per_word\":100",
		 "\"max_input_chars_per_word\":100,\"dropout\":1", VAC_E_UNSUPPORTED,
		 "model: the member \"dropout\""},
		{"\"clean_text\":true,", "", VAC_E_CORRUPT, "normalizer.clean_text is missing"},
		{"\"clean_text\":true", "\"clean_text\":1", VAC_E_CORRUPT,
		 "normalizer.clean_text: true or false"},
		{"\"clean_text\":true", "\"clean_text\":true,\"clean_text\":true", VAC_E_CORRUPT,
		 "normalizer.clean_text stands there twice"},
		{"\"strip_accents\":null", "\"strip_accents\":\"yes\"", VAC_E_CORRUPT,
		 "normalizer.strip_accents"},
		{"\"unk_token\":\"[U]\",", "", VAC_E_CORRUPT, "model.unk_token is missing"},
		{"\"unk_token\":\"[U]\"", "\"unk_token\":\"[UNK]\"", VAC_E_CORRUPT,
		 "\"[UNK]\" is model.unk_token and is missing in model.vocab"},
		{"\"a\":1", "\"a\":1,\"a\":3", VAC_E_CORRUPT, "\"a\" stands in model.vocab twice"},
		{"\"a\":1", "\"a\":2", VAC_E_CORRUPT, "\"##b\" has the id of another token"},
		{"\"a\":1", "\"a\":-1", VAC_E_CORRUPT, "the id of \"a\" is no whole number"},
		{"\"a\":1", "\"a\":16777216", VAC_E_CORRUPT, "the id of \"a\" is no whole number"},
		{"\"a\":1", "\"a\":1.0", VAC_E_CORRUPT, "the id of \"a\" is no whole number"},
		{"\"a\":1", "\"a\":\"1\"", VAC_E_CORRUPT, "the id of \"a\" is no whole number"},
		{"{\"id\":0,\"content\":\"[U]\"", "{\"id\":1,\"content\":\"[U]\"",
		 VAC_E_UNSUPPORTED, "\"[U]\" of added_tokens has another id"},
		{"{\"id\":0,\"content\":\"[U]\"", "{\"id\":7,\"content\":\"new\"",
		 VAC_E_UNSUPPORTED, "\"new\" of added_tokens has another id"},
		{"\"ids\":[0]", "\"ids\":[9]", VAC_E_CORRUPT,
		 "the post_processor adds the token 9, which is in neither"},
		{"\"special_tokens\":{\"[U]\"", "\"special_tokens\":{\"[V]\"", VAC_E_CORRUPT,
		 "\"[U]\" of the template is missing in post_processor.special_tokens"},
		{"\"id\":\"A\"", "\"id\":\"B\"", VAC_E_UNSUPPORTED,
		 "post_processor.single does not hold the sequence A exactly once"},
		{"\"id\":\"A\"", "\"id\":\"C\"", VAC_E_CORRUPT, "post_processor.single[1]"},
		{"\"Sequence\":", "\"Secuence\":", VAC_E_UNSUPPORTED, "\"Secuence\""},
		{"\"type_id\":0}}]", "\"type_id\":256}}]", VAC_E_CORRUPT,
		 "post_processor.single[1].type_id: a whole number from 0 to 255"},
		{"\"special_tokens\":{\"[U]\":{\"id\":\"[U]\",\"ids\":[0],\"tokens\":[\"[U]\"]}}},",
		 "\"type\":\"x\"},", VAC_E_CORRUPT, "post_processor.type stands there twice"},
		{"\"decoder\":null", "\"model\":null,\"decoder\":null", VAC_E_CORRUPT,
		 "model is null"},
		{"\"max_input_chars_per_word\":100", "\"max_input_chars_per_word\":-1",
		 VAC_E_CORRUPT, "model.max_input_chars_per_word"},
		{"\"decoder\":null,", "\"decoder\":null,,", VAC_E_CORRUPT, "found ','"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_error err;
		char text[4096];
		size_t at, bytes = exchange(cases[i].from, cases[i].to, text, sizeof(text), &at);
		int rc = parse_text(text, bytes, &err);

		if (rc != vac_error_errno(cases[i].code) || err.code != cases[i].code ||
		    !strstr(err.message, cases[i].says) ||
		    strncmp(err.message, "t.json: byte ", 13) != 0)
			fail_msg("case %zu gave %d, \"%s\", not \"%s\"", i, rc, err.message,
				 cases[i].says);
	}
}

/* Files that differ from the usual but mean something all the same. */
static void accepted_files(void **state)
{
	static const struct {
		const char *from, *to;
	} cases[] = {
		{"{", "{"},
		{"\"type\":\"WordPiece\",", ""},
		{"\"strip_accents\":null,", ""},
		{"\"version\":\"1.0\",", ""},
		{"\"decoder\":null", "\"decoder\":{\"type\":\"Strange\",\"x\":[1,{}]}"},
		{"\"padding\":null", "\"padding\":{\"strategy\":{\"Fixed\":128}}"},
		{"{\"type\":\"BertPreTokenizer\"}", "null"},
		{"\"a\":1", "\"a\":16777215"},
		{"\"a\":1", "\"\":1"},
		{"\"added_tokens\":[", "\"added_tokens\":[{\"id\":9,\"content\":\"\",\"single_"
				       "word\":false,\"lstrip\":false,"
				       "\"rstrip\":false,\"normalized\":false,\"special\":true},"},
		{"\"unk_token\":\"[U]\",\"continuing_subword_prefix\":\"##\",",
		 "\"continuing_subword_prefix\":\"\\u0023#\",\"unk_token\":\"\\u005bU]\","},
	};
	struct vac_error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[4096];
		size_t at, bytes = exchange(cases[i].from, cases[i].to, text, sizeof(text), &at);

		if (parse_text(text, bytes, &err) != 0)
			fail_msg("case %zu: %s", i, err.message);
	}
}

static void refused_where(void **state)
{
	char text[4096], where[64];
	struct vac_error err;
	size_t at, bytes = exchange("\"a\":1", "\"a\":1,\"a\":3", text, sizeof(text), &at);

	(void)state;
	assert_true(parse_text(text, bytes, &err) < 0);
	snprintf(where, sizeof(where), "t.json: byte %zu: \"a\" stands", at + 6);
	assert_memory_equal(err.message, where, strlen(where));
	bytes = exchange("\"BertPreTokenizer\"", "\"Split\"", text, sizeof(text), &at);
	assert_true(parse_text(text, bytes, &err) < 0);
	snprintf(where, sizeof(where), "t.json: byte %zu: pre_tokenizer", at - 8);
	assert_memory_equal(err.message, where, strlen(where));
}

/* A file that is cut short anywhere is refused, and says that it ends. */
static void cut_short(void **state)
{
	struct vac_error err;

	(void)state;
	for (size_t bytes = 0; bytes < sizeof(whole) - 1; bytes++) {
		char *copy = test_malloc(bytes + 1); /* exact, for the address sanitizer */

		memcpy(copy, whole, bytes);
		assert_int_equal(parse_text(copy, bytes, &err), vac_error_errno(VAC_E_CORRUPT));
		assert_int_equal(err.code, VAC_E_CORRUPT);
		assert_non_null(strstr(err.message, "t.json: byte "));
		test_free(copy);
	}
	assert_int_equal(parse_text(whole, sizeof(whole) - 1, &err), 0);
}

static void doubled_added_tokens(void **state)
{
	static const char added[] = "\"added_tokens\":[";
	static const char token[] =
		"{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
		"\"rstrip\":false,\"normalized\":%s,\"special\":%s},";
	char text[4096], more[1024];
	struct vac_error err;
	size_t at, bytes;
	int n;

	(void)state;
	n = snprintf(more, sizeof(more), "%s", added);
	snprintf(more + n, sizeof(more) - (size_t)n, token, 0, "[U]", "true", "false");
	bytes = exchange(added, more, text, sizeof(text), &at);
	assert_true(parse_text(text, bytes, &err) < 0);
	assert_non_null(strstr(err.message, "\"[U]\" stands in added_tokens twice"));

	snprintf(more + n, sizeof(more) - (size_t)n, token, 3, "\\u0301", "true", "false");
	bytes = exchange(added, more, text, sizeof(text), &at);
	assert_int_equal(parse_text(text, bytes, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "of added_tokens is empty once it is normalized"));
}

static void too_large(void **state)
{
	struct vac_tokenizer_parsed *parsed;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_tokenizer_parse(whole, VAC_TOKENIZER_FILE_LIMIT_BYTES + 1, "t.json",
					     &parsed, &err),
			 -E2BIG);
	assert_int_equal(err.code, VAC_E_TOO_LARGE);
	assert_non_null(strstr(err.message, "at most 67108864"));
	/* Nobody wants to know why. */
	assert_int_equal(vac_tokenizer_parse("{", 1, "t.json", &parsed, NULL), -EBADMSG);
	vac_tokenizer_parsed_free(NULL);
	vac_encode_scratch_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_small),        cmocka_unit_test(golden_sample_model),
		cmocka_unit_test(block_moves),         cmocka_unit_test(encode_limits),
		cmocka_unit_test(encode_invalid_utf8), cmocka_unit_test(refused_files),
		cmocka_unit_test(accepted_files),      cmocka_unit_test(refused_where),
		cmocka_unit_test(cut_short),           cmocka_unit_test(doubled_added_tokens),
		cmocka_unit_test(too_large),
	};

	return cmocka_run_group_tests_name("tokenizer", tests, read_texts, free_texts);
}
