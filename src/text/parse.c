/*
 * parse.c - reading a tokenizer.json: the top level, the model's vocabulary,
 * the added tokens. One owner; no locking.
 */
#include "text/tokenizer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "text/parsed.h"

int vac_next_member(struct vac_tokenizer_parsed *p, const char *path, const char *const *names,
		    uint32_t *seen, int *index)
{
	enum vac_json_type type = vac_json_next(&p->json);
	struct vac_quoted quoted;

	if (type == VAC_JSON_OBJECT_END)
		return 0;
	if (type != VAC_JSON_KEY)
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s: a member was expected", path);
	for (int i = 0; names[i]; i++) {
		if (!vac_json_is(&p->json, names[i]))
			continue;
		if (*seen & UINT32_C(1) << i)
			return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s.%s stands there twice",
					     path, names[i]);
		*seen |= UINT32_C(1) << i;
		*index = i;
		return 1;
	}
	return vac_json_fail(
		&p->json, VAC_E_UNSUPPORTED,
		"%s: the member %s is not implemented, and leaving it out might change the tokens",
		path, vac_quote(&quoted, p->json.text, p->json.text_bytes));
}

int vac_require_members(struct vac_tokenizer_parsed *p, const char *path, const char *const *names,
			uint32_t seen, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert(names[i]);
		if (!(seen & UINT32_C(1) << i))
			return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s.%s is missing", path,
					     names[i]);
	}
	return 0;
}

int vac_read_bool(struct vac_tokenizer_parsed *p, const char *path, const char *name, bool *out)
{
	enum vac_json_type type = vac_json_next(&p->json);

	if (type != VAC_JSON_TRUE && type != VAC_JSON_FALSE)
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s.%s: true or false was expected",
				     path, name);
	*out = type == VAC_JSON_TRUE;
	return 0;
}

int vac_read_uint(struct vac_tokenizer_parsed *p, const char *path, const char *name, uint32_t max,
		  uint32_t *out)
{
	enum vac_json_type type = vac_json_next(&p->json);

	if (type != VAC_JSON_INTEGER || p->json.integer < 0 || p->json.integer > max)
		return vac_json_fail(&p->json, VAC_E_CORRUPT,
				     "%s.%s: a whole number from 0 to %u was expected", path, name,
				     (unsigned int)max);
	*out = (uint32_t)p->json.integer;
	return 0;
}

int vac_keep_text(struct vac_tokenizer_parsed *p, struct vac_text *out)
{
	size_t bytes = p->json.text_bytes;

	/* The file has a limit far below 4 GiB. */
	assert(bytes < UINT32_MAX);
	out->text = vac_arena_strndup(&p->arena, p->json.text, bytes);
	out->bytes = (uint32_t)bytes;
	if (!out->text)
		return vac_fail_nomem(p->err, "a text of the tokenizer", bytes);
	return 0;
}

int vac_read_text(struct vac_tokenizer_parsed *p, const char *path, const char *name,
		  struct vac_text *out)
{
	if (vac_json_next(&p->json) != VAC_JSON_STRING)
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s.%s: a string was expected", path,
				     name);
	return vac_keep_text(p, out);
}

void *vac_grow(struct vac_tokenizer_parsed *p, void *array, uint32_t count, uint32_t *capacity,
	       size_t element_bytes)
{
	uint32_t more = *capacity ? *capacity * 2 : 64;
	void *room;

	if (count < *capacity)
		return array;
	room = vac_arena_alloc(&p->arena, more * element_bytes);
	if (!room) {
		vac_fail_nomem(p->err, "the tokenizer's tokens", more * element_bytes);
		return NULL;
	}
	if (count > 0)
		memcpy(room, array, count * element_bytes);
	*capacity = more;
	return room;
}

static int parse_vocab(struct vac_tokenizer_parsed *p)
{
	enum vac_json_type type;
	struct vac_quoted quoted;
	int rc = vac_json_expect(&p->json, VAC_JSON_OBJECT_BEGIN, "model.vocab");

	if (rc < 0)
		return rc;
	while ((type = vac_json_next(&p->json)) == VAC_JSON_KEY) {
		struct vac_vocab_entry *entry =
			vac_grow(p, p->entries, p->entry_count, &p->entry_capacity, sizeof(*entry));

		if (!entry)
			return -ENOMEM;
		p->entries = entry;
		if (p->entry_count == VAC_MAX_TOKENS || p->json.text_bytes > VAC_MAX_TOKEN_BYTES)
			return vac_json_fail(&p->json, VAC_E_TOO_LARGE,
					     "model.vocab has more tokens, or a longer one, than "
					     "can be served");
		entry = &p->entries[p->entry_count];
		entry->at = p->json.value_at;
		rc = vac_keep_text(p, &entry->token);
		if (rc < 0)
			return rc;
		if (vac_json_next(&p->json) != VAC_JSON_INTEGER || p->json.integer < 0 ||
		    p->json.integer > VAC_MAX_ID)
			return vac_json_fail(
				&p->json, VAC_E_CORRUPT,
				"model.vocab: the id of %s is no whole number from 0 to %u",
				vac_quote(&quoted, entry->token.text, entry->token.bytes),
				(unsigned int)VAC_MAX_ID);
		entry->id = (uint32_t)p->json.integer;
		p->entry_count++;
	}
	if (type != VAC_JSON_OBJECT_END)
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "model.vocab is broken");
	return 0;
}

static int parse_model(struct vac_tokenizer_parsed *p)
{
	enum { UNK, PREFIX, MAX_CHARS, VOCAB, TYPE };
	static const char *const names[] = {"unk_token",
					    "continuing_subword_prefix",
					    "max_input_chars_per_word",
					    "vocab",
					    "type",
					    NULL};
	static const char path[] = "model";
	char type[VAC_TYPE_BYTES];
	uint32_t seen = 0;
	int index, rc = vac_begin_component(p, path, vac_json_next(&p->json), type);

	if (rc == 0)
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "model is null");
	/* Files of before 2021 name no type; their members tell. */
	if (rc > 0 && type[0] && strcmp(type, "WordPiece") != 0)
		return vac_refuse_type(p, path, type);
	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		switch (index) {
		case UNK:
			rc = vac_read_text(p, path, names[index], &p->unk);
			break;
		case PREFIX:
			rc = vac_read_text(p, path, names[index], &p->prefix);
			break;
		case MAX_CHARS:
			rc = vac_read_uint(p, path, names[index], UINT32_MAX, &p->max_word_chars);
			break;
		case VOCAB:
			rc = parse_vocab(p);
			break;
		default:
			rc = vac_json_skip(&p->json);
		}
	}
	return rc < 0 ? rc : vac_require_members(p, path, names, seen, TYPE);
}

static int parse_added_token(struct vac_tokenizer_parsed *p, const char *path)
{
	enum { ID, CONTENT, SINGLE_WORD, LSTRIP, RSTRIP, NORMALIZED, SPECIAL, COUNT };
	static const char *const names[] = {"id",     "content",    "single_word", "lstrip",
					    "rstrip", "normalized", "special",     NULL};
	static const uint32_t flag_of[COUNT] = {[SINGLE_WORD] = VAC_PATTERN_SINGLE_WORD,
						[LSTRIP] = VAC_PATTERN_LSTRIP,
						[RSTRIP] = VAC_PATTERN_RSTRIP};
	struct vac_added_token *token = &p->added[p->added_count];
	uint32_t seen = 0;
	int index, rc = 0;

	memset(token, 0, sizeof(*token));
	token->at = p->json.value_at;
	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		bool on = false;

		if (index == ID) {
			rc = vac_read_uint(p, path, names[index], VAC_MAX_ID, &token->id);
		} else if (index == CONTENT) {
			rc = vac_read_text(p, path, names[index], &token->content);
		} else {
			rc = vac_read_bool(p, path, names[index], &on);
			token->flags |= on ? flag_of[index] : 0;
			token->normalized |= on && index == NORMALIZED;
			token->special |= on && index == SPECIAL;
		}
	}
	if (rc >= 0)
		rc = vac_require_members(p, path, names, seen, COUNT);
	if (rc >= 0 && token->content.bytes > VAC_MAX_TOKEN_BYTES)
		return vac_json_fail(&p->json, VAC_E_TOO_LARGE, "%s.content is too long", path);
	/* The library ignores an empty token. */
	if (rc >= 0 && token->content.bytes > 0)
		p->added_count++;
	return rc;
}

static int parse_added_tokens(struct vac_tokenizer_parsed *p)
{
	struct vac_added_token *token;
	enum vac_json_type type;
	char path[VAC_PATH_BYTES];
	int rc = vac_json_expect(&p->json, VAC_JSON_ARRAY_BEGIN, "added_tokens");

	for (uint32_t i = 0; rc >= 0; i++) {
		type = vac_json_next(&p->json);
		if (type == VAC_JSON_ARRAY_END)
			return 0;
		snprintf(path, sizeof(path), "added_tokens[%u]", (unsigned int)i);
		if (type != VAC_JSON_OBJECT_BEGIN)
			return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s: expected an object",
					     path);
		token = vac_grow(p, p->added, p->added_count, &p->added_capacity, sizeof(*token));
		if (!token)
			return -ENOMEM;
		p->added = token;
		rc = parse_added_token(p, path);
	}
	return rc;
}

static int parse_version(struct vac_tokenizer_parsed *p)
{
	int rc = vac_json_expect(&p->json, VAC_JSON_STRING, "version");

	if (rc >= 0 && !vac_json_is(&p->json, "1.0"))
		return vac_json_fail(&p->json, VAC_E_UNSUPPORTED,
				     "the file's version is not 1.0, the only one that is known");
	return rc;
}

/* How a text is padded or truncated is for the caller to say, and decoders are
 * not for encoding: those members are skipped. */
static int parse_top(struct vac_tokenizer_parsed *p)
{
	enum { MODEL, VERSION, ADDED, NORMALIZER, PRE_TOKENIZER, POST_PROCESSOR };
	static const char *const names[] = {
		"model",          "version", "added_tokens", "normalizer", "pre_tokenizer",
		"post_processor", "decoder", "truncation",   "padding",    NULL};
	static const char path[] = "tokenizer";
	uint32_t seen = 0;
	int index, rc = vac_json_expect(&p->json, VAC_JSON_OBJECT_BEGIN, path);

	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		switch (index) {
		case MODEL:
			rc = parse_model(p);
			break;
		case VERSION:
			rc = parse_version(p);
			break;
		case ADDED:
			rc = parse_added_tokens(p);
			break;
		case NORMALIZER:
			rc = vac_parse_normalizer(p, names[index], vac_json_next(&p->json));
			break;
		case PRE_TOKENIZER:
			rc = vac_parse_pre_tokenizer(p, names[index], vac_json_next(&p->json));
			break;
		case POST_PROCESSOR:
			rc = vac_parse_post_processor(p, names[index], vac_json_next(&p->json));
			break;
		default:
			rc = vac_json_skip(&p->json);
		}
	}
	if (rc >= 0)
		rc = vac_require_members(p, path, names, seen, MODEL + 1);
	if (rc >= 0)
		rc = vac_json_expect(&p->json, VAC_JSON_END, path);
	return rc;
}

int vac_tokenizer_parse(const char *json, size_t json_bytes, const char *path,
			struct vac_tokenizer_parsed **out, struct vac_error *err)
{
	struct vac_tokenizer_parsed *p;
	struct vac_error local; /* failures are told apart by err; there is always one */
	int rc;

	*out = NULL;
	if (!err)
		err = &local;
	if (json_bytes > VAC_TOKENIZER_FILE_LIMIT_BYTES)
		return vac_fail(err, VAC_E_TOO_LARGE,
				"%s: has %zu bytes where at most %zu are accepted", path,
				json_bytes, VAC_TOKENIZER_FILE_LIMIT_BYTES);
	p = calloc(1, sizeof(*p));
	if (!p)
		return vac_fail_nomem(err, path, sizeof(*p));
	p->arena.chunk_bytes = (size_t)1 << 20;
	p->err = err;
	vac_json_init(&p->json, path, json, json_bytes, err);
	rc = parse_top(p);
	if (rc >= 0)
		rc = vac_finish_tokenizer(p);
	vac_json_free(&p->json);
	p->err = NULL;
	if (rc < 0) {
		vac_tokenizer_parsed_free(p);
		return rc;
	}
	*out = p;
	return 0;
}

void vac_tokenizer_parsed_free(struct vac_tokenizer_parsed *parsed)
{
	if (!parsed)
		return;
	vac_arena_free(&parsed->arena);
	free(parsed);
}

size_t vac_tokenizer_parsed_bytes(const struct vac_tokenizer_parsed *parsed)
{
	return parsed->block->bytes;
}

const struct vac_tokenizer *vac_tokenizer_build(const struct vac_tokenizer_parsed *parsed,
						void *memory)
{
	memcpy(memory, parsed->block, parsed->block->bytes);
	return memory;
}
