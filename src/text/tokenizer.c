/*
 * tokenizer.c - text to token ids with a tokenizer that is laid out.
 *
 * The way of a text: cut at the added tokens that are looked for in raw text;
 * each part between them is normalized and cut at the added tokens that are
 * looked for in normalized text; what is left is split into words, and a word
 * into the longest pieces that the vocabulary has. The template's tokens come
 * around the whole, after truncation. Any thread; a scratch has one user.
 */
#include "text/tokenizer.h"

#include <assert.h>
#include <string.h>

#include "base/utf8.h"
#include "text/layout.h"
#include "text/normalize.h"
#include "text/patterns.h"
#include "text/unicode.h"

#define NO_TOKEN UINT32_MAX

/* One encoding. Appending to the buffers of the scratch never fails at once;
 * that is asked at the end. */
struct encoder {
	const struct vac_tokenizer *t;
	struct vac_encode_scratch *scratch;
	const uint32_t *slots, *starts;
	const int32_t *ids;
	const uint8_t *pool;
	struct vac_error *err;
};

static void push_id(struct encoder *e, uint32_t id)
{
	int32_t value = (int32_t)id;

	vac_buf_put(&e->scratch->ids, &value, sizeof(value));
}

/* The id of the token that is the prefix (if continuing) and the text. */
static uint32_t find_token(const struct encoder *e, uint64_t hash, bool continuing,
			   const uint8_t *text, size_t bytes)
{
	const struct vac_tokenizer *t = e->t;
	uint32_t mask = (UINT32_C(1) << t->slot_bits) - 1;
	uint32_t prefix_bytes = continuing ? t->prefix_bytes : 0;
	uint32_t at, slot, tag;

	hash = vac_hash_finish(hash);
	at = (uint32_t)(hash >> (64 - t->slot_bits));
	tag = (uint32_t)hash & 0xFF;
	for (; (slot = e->slots[at]) != 0; at = (at + 1) & mask) {
		uint32_t entry = (slot & 0xFFFFFF) - 1;
		const uint8_t *have = e->pool + e->starts[entry];

		if (slot >> 24 == tag &&
		    e->starts[entry + 1] - e->starts[entry] == prefix_bytes + bytes &&
		    memcmp(have, vac_layout_at(t, t->prefix_at), prefix_bytes) == 0 &&
		    memcmp(have + prefix_bytes, text, bytes) == 0)
			return (uint32_t)e->ids[entry];
	}
	return NO_TOKEN;
}

static bool longer_than(const uint8_t *text, size_t bytes, size_t max_chars)
{
	size_t chars = 0;

	if (bytes <= max_chars)
		return false;
	for (size_t i = 0; i < bytes; i++)
		chars += (text[i] & 0xC0) != 0x80;
	return chars > max_chars;
}

/* Greedy: the longest piece that is in the vocabulary, then the longest one
 * that continues it, ...; if any place has none, the whole word is unknown. */
static void encode_word(struct encoder *e, const uint8_t *word, size_t bytes)
{
	const struct vac_tokenizer *t = e->t;
	size_t first_id = e->scratch->ids.bytes, start = 0;
	uint64_t *hashes = (uint64_t *)(void *)e->scratch->hashes.data;

	assert(bytes > 0);
	if (longer_than(word, bytes, t->max_word_chars)) {
		push_id(e, t->unk_id);
		return;
	}
	while (start < bytes) {
		uint32_t prefix_bytes = start > 0 ? t->prefix_bytes : 0, id = NO_TOKEN;
		uint64_t hash = start > 0 ? t->prefix_hash : VAC_HASH_START;
		size_t limit =
			t->longest_bytes > prefix_bytes ? t->longest_bytes - prefix_bytes : 0;
		size_t length;

		if (limit > bytes - start)
			limit = bytes - start;
		for (size_t i = 0; i < limit; i++)
			hashes[i] = hash = vac_hash_byte(hash, word[start + i]);
		for (length = limit; length > 0 && id == NO_TOKEN; length--)
			id = find_token(e, hashes[length - 1], start > 0, word + start, length);
		if (id == NO_TOKEN) {
			e->scratch->ids.bytes = first_id;
			push_id(e, t->unk_id);
			return;
		}
		push_id(e, id);
		start += length + 1; /* the loop counted one too far */
	}
}

/* Splits normalized text into words. */
static void split_words(struct encoder *e, const uint8_t *text, size_t bytes)
{
	const struct vac_splitting *how = &e->t->splitting;
	const uint8_t *ascii = e->t->ascii_flags;
	const uint8_t *at = text, *end = text + bytes, *word = NULL; /* NULL: none is open */
	uint8_t kind = 0; /* VAC_CHAR_WORD of the open word */

	while (at < end) {
		uint32_t code = *at;
		size_t n = 1;
		uint8_t flags;

		if (code < 0x80) {
			flags = ascii[code];
		} else {
			n = vac_utf8_decode(at, end, &code);
			assert(n > 0);
			flags = vac_char_flags(code);
		}
		if (how->drops_space && flags & VAC_CHAR_SPACE) {
			if (word)
				encode_word(e, word, (size_t)(at - word));
			word = NULL;
		} else if (how->isolates_punct && flags & VAC_CHAR_PUNCT) {
			if (word)
				encode_word(e, word, (size_t)(at - word));
			encode_word(e, at, n);
			word = NULL;
		} else if (!word) {
			word = at;
			kind = flags & VAC_CHAR_WORD;
		} else if (how->splits_word && (flags & VAC_CHAR_WORD) != kind) {
			encode_word(e, word, (size_t)(at - word));
			word = at;
			kind = flags & VAC_CHAR_WORD;
		}
		at += n;
	}
	if (word)
		encode_word(e, word, (size_t)(end - word));
}

static bool is_ascii(const char *text, size_t bytes)
{
	uint64_t w, all = 0;
	size_t i = 0;

	for (; bytes - i >= sizeof(w); i += sizeof(w)) {
		memcpy(&w, text + i, sizeof(w));
		all |= w;
	}
	for (; i < bytes; i++)
		all |= (uint8_t)text[i];
	return (all & UINT64_C(0x8080808080808080)) == 0;
}

/* ASCII goes through a table: no step makes more than one character of one,
 * or looks at a neighbour. */
static int normalize_ascii(struct encoder *e, const char *text, size_t bytes)
{
	const uint8_t *map = e->t->ascii_normal;
	size_t kept = 0;
	uint8_t *to;

	vac_buf_reset(&e->scratch->normal);
	to = vac_buf_reserve(&e->scratch->normal, bytes + 1);
	if (!to)
		return vac_fail_nomem(e->err, "a normalized text", bytes);
	for (size_t i = 0; i < bytes; i++) {
		uint8_t c = map[(uint8_t)text[i]];

		to[kept] = c;
		kept += c != VAC_ASCII_DROPPED;
	}
	vac_buf_advance(&e->scratch->normal, kept);
	return 0;
}

/* A part of the text between added tokens of the raw set. */
static int encode_part(struct encoder *e, const char *text, size_t bytes)
{
	struct vac_cut cut = {.tokenizer = e->t, .set = &e->t->normalized};
	const struct vac_pattern *token;
	size_t from, to;
	int rc;

	if (is_ascii(text, bytes))
		rc = normalize_ascii(e, text, bytes);
	else
		rc = vac_normalize(e->t->steps, e->t->step_count, text, bytes, e->scratch, e->err);
	if (rc < 0)
		return rc;
	cut.text = (const char *)e->scratch->normal.data;
	cut.bytes = e->scratch->normal.bytes;
	while (vac_cut_next(&cut, &from, &to, &token)) {
		if (token)
			push_id(e, token->id);
		else
			split_words(e, (const uint8_t *)cut.text + from, to - from);
	}
	return 0;
}

static int check_utf8(const char *text, size_t bytes, struct vac_error *err)
{
	const uint8_t *start = (const uint8_t *)text, *at = start;
	/* An empty text may be NULL, which no number may be added to. */
	const uint8_t *end = bytes ? start + bytes : start;

	while (at < end) {
		uint64_t w;
		uint32_t code;
		size_t n;

		if ((size_t)(end - at) >= sizeof(w)) {
			memcpy(&w, at, sizeof(w));
			if (!(w & UINT64_C(0x8080808080808080))) {
				at += sizeof(w);
				continue;
			}
		}
		n = vac_utf8_decode(at, end, &code);
		if (n == 0)
			return vac_fail(err, VAC_E_INVALID,
					"the text is not valid UTF-8: byte 0x%02X at position %zu",
					*at, (size_t)(at - start));
		at += n;
	}
	return 0;
}

/* How many tokens of the template stand before and after the text. */
static void count_around(const struct vac_template *template, size_t *before, size_t *after)
{
	size_t *to = before;

	*before = *after = 0;
	for (uint32_t i = 0; i < template->count; i++) {
		if (template->items[i].kind == VAC_TEMPLATE_A)
			to = after;
		else
			(*to)++;
	}
}

/* Truncates, and writes the template's tokens around what is left. The ids of
 * the text lie at scratch->ids from `room` on. */
static int finish(struct encoder *e, const struct vac_encode_options *options, size_t room,
		  struct vac_encoding *out)
{
	struct vac_encode_scratch *s = e->scratch;
	const struct vac_template *template = &e->t->single;
	size_t special = options->add_special_tokens ? e->t->special_count : 0;
	size_t count, kept, drop = 0, before, after, n = 0;
	int32_t *ids;
	uint8_t *types;

	count_around(template, &before, &after);
	vac_buf_reset(&s->types);
	if (!vac_buf_ok(&s->ids) || !vac_buf_reserve(&s->ids, (after + 1) * sizeof(*ids)))
		return vac_fail_nomem(e->err, "the token ids of a text", s->ids.bytes);
	count = kept = s->ids.bytes / sizeof(*ids) - room;
	if (options->max_tokens && kept > options->max_tokens - special)
		kept = options->max_tokens - special;
	types = vac_buf_reserve(&s->types, kept + special + 1);
	if (!types)
		return vac_fail_nomem(e->err, "the type ids of a text", kept + special);
	if (options->side == VAC_SIDE_LEFT)
		drop = count - kept;
	ids = (int32_t *)(void *)s->ids.data + room + drop - (special ? before : 0);
	for (uint32_t i = 0; i < template->count; i++) {
		const struct vac_template_item *item = &template->items[i];

		if (item->kind == VAC_TEMPLATE_A) {
			memset(types + n, item->type_id, kept);
			n += kept;
		} else if (special) {
			ids[n] = (int32_t)item->id;
			types[n++] = item->type_id;
		}
	}
	if (template->count == 0)
		memset(types, 0, kept);
	assert(template->count == 0 || n == kept + special);
	out->ids = ids;
	out->type_ids = types;
	out->count = kept + special;
	out->full_count = count + special;
	return 0;
}

int vac_encode(const struct vac_tokenizer *tokenizer, const char *text, size_t text_bytes,
	       const struct vac_encode_options *options, struct vac_encode_scratch *scratch,
	       struct vac_encoding *out, struct vac_error *err)
{
	const struct vac_tokenizer *t = tokenizer;
	struct encoder e = {.t = t,
			    .scratch = scratch,
			    .slots = vac_layout_at(t, t->slots_at),
			    .starts = vac_layout_at(t, t->starts_at),
			    .ids = vac_layout_at(t, t->ids_at),
			    .pool = vac_layout_at(t, t->pool_at),
			    .err = err};
	struct vac_cut cut = {.tokenizer = t, .set = &t->raw, .text = text, .bytes = text_bytes};
	const struct vac_pattern *token;
	size_t from, to, before, after;
	int rc = check_utf8(text, text_bytes, err);

	memset(out, 0, sizeof(*out));
	if (rc < 0)
		return rc;
	if (options->add_special_tokens && options->max_tokens &&
	    options->max_tokens < t->special_count)
		return vac_fail(err, VAC_E_INVALID,
				"a limit of %zu tokens has no room for the %u special tokens that "
				"stand around each text",
				options->max_tokens, (unsigned int)t->special_count);
	vac_buf_reset(&scratch->hashes);
	vac_buf_reset(&scratch->ids);
	count_around(&t->single, &before, &after);
	if (!vac_buf_reserve(&scratch->hashes, ((size_t)t->longest_bytes + 1) * sizeof(uint64_t)) ||
	    !vac_buf_reserve(&scratch->ids, (before + 1) * sizeof(int32_t)))
		return vac_fail_nomem(err, "encoding a text", before * sizeof(int32_t));
	vac_buf_advance(&scratch->ids, before * sizeof(int32_t));
	while (vac_cut_next(&cut, &from, &to, &token)) {
		if (token) {
			push_id(&e, token->id);
			continue;
		}
		rc = encode_part(&e, text + from, to - from);
		if (rc < 0)
			return rc;
	}
	return finish(&e, options, before, out);
}

uint32_t vac_tokenizer_vocab_size(const struct vac_tokenizer *tokenizer)
{
	return tokenizer->vocab_size;
}

size_t vac_tokenizer_special_count(const struct vac_tokenizer *tokenizer)
{
	return tokenizer->special_count;
}
