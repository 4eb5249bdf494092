/*
 * finish.c - checks what needs the whole tokenizer.json and lays the tokenizer
 * out in one block. One owner; no locking.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "text/normalize.h"
#include "text/parsed.h"
#include "text/unicode.h"

/* What is made from a struct vac_tokenizer_parsed on the way to its block. */
struct layout {
	struct vac_tokenizer_parsed *p;
	uint32_t *slots; /* as in the block */
	uint32_t slot_bits;
	uint8_t *used_ids; /* one bit an id */
	size_t used_ids_bytes;
	uint32_t unk_id;
	uint32_t vocab_size;
	struct wanted {
		const char *text; /* in the arena */
		uint32_t bytes, id, flags, order;
	} * raw, *normalized; /* sorted */
	uint32_t raw_count, normalized_count;
	struct vac_template single, pair;
};

static int fail_at(struct vac_tokenizer_parsed *p, size_t at, enum vac_error_code code,
		   const char *what, const struct vac_text *token)
{
	struct vac_quoted quoted;

	p->json.value_at = at;
	return vac_json_fail(&p->json, code, "%s %s", vac_quote(&quoted, token->text, token->bytes),
			     what);
}

static bool id_used(const struct layout *l, uint32_t id)
{
	return id / 8 < l->used_ids_bytes && l->used_ids[id / 8] >> (id % 8) & 1;
}

/* False: somebody has it already. */
static bool take_id(struct layout *l, uint32_t id)
{
	if (id_used(l, id))
		return false;
	assert(id / 8 < l->used_ids_bytes);
	l->used_ids[id / 8] |= (uint8_t)(1 << id % 8);
	if (id >= l->vocab_size)
		l->vocab_size = id + 1;
	return true;
}

/* The entry of a token, or NULL; *slot is then the free one where it belongs. */
static struct vac_vocab_entry *find_entry(const struct layout *l, const struct vac_text *token,
					  uint32_t *slot, uint32_t *tag)
{
	uint64_t hash = vac_hash_finish(vac_hash_bytes(VAC_HASH_START, token->text, token->bytes));
	uint32_t mask = (UINT32_C(1) << l->slot_bits) - 1;
	uint32_t at = (uint32_t)(hash >> (64 - l->slot_bits));

	*tag = (uint32_t)hash & 0xFF;
	for (; l->slots[at]; at = (at + 1) & mask) {
		struct vac_vocab_entry *entry = &l->p->entries[(l->slots[at] & 0xFFFFFF) - 1];

		if (l->slots[at] >> 24 == *tag && entry->token.bytes == token->bytes &&
		    memcmp(entry->token.text, token->text, token->bytes) == 0)
			return entry;
	}
	*slot = at;
	return NULL;
}

static int index_vocab(struct layout *l)
{
	struct vac_tokenizer_parsed *p = l->p;
	uint32_t highest = 0, slot, tag;
	size_t slots_bytes;

	for (uint32_t i = 0; i < p->entry_count; i++)
		highest = p->entries[i].id > highest ? p->entries[i].id : highest;
	/* Added tokens get ids above. */
	l->used_ids_bytes = ((size_t)highest + p->added_count + p->entry_count) / 8 + 2;
	l->used_ids = vac_arena_alloc(&p->arena, l->used_ids_bytes);
	for (l->slot_bits = 4; UINT32_C(1) << l->slot_bits < 2 * p->entry_count;)
		l->slot_bits++;
	slots_bytes = sizeof(*l->slots) << l->slot_bits;
	l->slots = vac_arena_alloc(&p->arena, slots_bytes);
	if (!l->used_ids || !l->slots)
		return vac_fail_nomem(p->err, "the index of the vocabulary", slots_bytes);
	memset(l->used_ids, 0, l->used_ids_bytes);
	memset(l->slots, 0, slots_bytes);
	for (uint32_t i = 0; i < p->entry_count; i++) {
		struct vac_vocab_entry *entry = &p->entries[i];

		if (find_entry(l, &entry->token, &slot, &tag))
			return fail_at(p, entry->at, VAC_E_CORRUPT, "stands in model.vocab twice",
				       &entry->token);
		if (!take_id(l, entry->id))
			return fail_at(p, entry->at, VAC_E_CORRUPT,
				       "has the id of another token of model.vocab", &entry->token);
		l->slots[slot] = tag << 24 | (i + 1);
	}
	return 0;
}

static int compare_content(const void *a, const void *b)
{
	const struct vac_added_token *x = *(const struct vac_added_token *const *)a;
	const struct vac_added_token *y = *(const struct vac_added_token *const *)b;
	uint32_t n = x->content.bytes < y->content.bytes ? x->content.bytes : y->content.bytes;
	int order = memcmp(x->content.text, y->content.text, n);

	if (order == 0)
		order = x->content.bytes < y->content.bytes ? -1
							    : x->content.bytes > y->content.bytes;
	return order ? order : x->at < y->at ? -1 : x->at > y->at;
}

static int refuse_double_added(struct layout *l)
{
	struct vac_tokenizer_parsed *p = l->p;
	const struct vac_added_token **sorted;
	uint32_t count = p->added_count;

	if (count == 0)
		return 0;
	sorted = vac_arena_alloc(&p->arena, count * sizeof(*sorted));
	if (!sorted)
		return vac_fail_nomem(p->err, "the added tokens", count * sizeof(*sorted));
	for (uint32_t i = 0; i < count; i++)
		sorted[i] = &p->added[i];
	qsort(sorted, count, sizeof(*sorted), compare_content);
	for (uint32_t i = 1; i < count; i++) {
		const struct vac_text *a = &sorted[i - 1]->content, *b = &sorted[i]->content;

		if (a->bytes == b->bytes && memcmp(a->text, b->text, a->bytes) == 0)
			return fail_at(p, sorted[i]->at, VAC_E_CORRUPT,
				       "stands in added_tokens twice", b);
	}
	return 0;
}

/* The library gives an added token the id that the vocabulary has for it, or
 * the next one after the vocabulary and the added tokens before it, whatever
 * the file says. A file that disagrees is refused. */
static int number_added_tokens(struct layout *l)
{
	struct vac_tokenizer_parsed *p = l->p;
	uint32_t next = p->entry_count; /* the library counts tokens, not ids */
	uint32_t slot, tag;

	for (uint32_t i = 0; i < p->added_count; i++) {
		struct vac_added_token *token = &p->added[i];
		struct vac_vocab_entry *entry = find_entry(l, &token->content, &slot, &tag);
		uint32_t id = entry ? entry->id : next;

		if (token->id != id)
			return fail_at(p, token->at, VAC_E_UNSUPPORTED,
				       "of added_tokens has another id than the vocabulary or its "
				       "place in the list give it",
				       &token->content);
		if (id > VAC_MAX_ID || (!entry && !take_id(l, id)))
			return fail_at(p, token->at, VAC_E_CORRUPT,
				       "of added_tokens has the id of another token",
				       &token->content);
		if (id >= next)
			next = id + 1;
	}
	return 0;
}

static int compare_wanted(const void *a, const void *b)
{
	const struct wanted *x = a, *y = b;
	int order = memcmp(x->text, y->text, x->bytes < y->bytes ? x->bytes : y->bytes);

	if (order == 0)
		order = x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
	return order ? order : x->order < y->order ? -1 : x->order > y->order;
}

/* Sorts patterns; of those that look alike only the first remains. */
static uint32_t sort_wanted(struct wanted *wanted, uint32_t count)
{
	uint32_t kept = 0;

	if (count == 0)
		return 0;
	qsort(wanted, count, sizeof(*wanted), compare_wanted);
	for (uint32_t i = 1; i < count; i++) {
		if (wanted[i].bytes != wanted[kept].bytes ||
		    memcmp(wanted[i].text, wanted[kept].text, wanted[i].bytes) != 0)
			wanted[++kept] = wanted[i];
	}
	return kept + 1;
}

static int add_wanted(struct layout *l, const struct vac_added_token *token, uint32_t order,
		      struct vac_encode_scratch *scratch)
{
	struct vac_tokenizer_parsed *p = l->p;
	struct wanted *to;
	int rc;

	if (!token->normalized) {
		l->raw[l->raw_count++] = (struct wanted){token->content.text, token->content.bytes,
							 token->id, token->flags, order};
		return 0;
	}
	rc = vac_normalize(p->steps, p->step_count, token->content.text, token->content.bytes,
			   scratch, p->err);
	if (rc < 0)
		return rc;
	if (scratch->normal.bytes == 0)
		return fail_at(p, token->at, VAC_E_UNSUPPORTED,
			       "of added_tokens is empty once it is normalized", &token->content);
	to = &l->normalized[l->normalized_count++];
	*to = (struct wanted){NULL, (uint32_t)scratch->normal.bytes, token->id, token->flags,
			      order};
	to->text = vac_arena_strndup(&p->arena, (const char *)scratch->normal.data, to->bytes);
	return to->text ? 0 : vac_fail_nomem(p->err, "an added token", to->bytes);
}

/* Special tokens are looked for before others that look the same. */
static int collect_patterns(struct layout *l)
{
	struct vac_tokenizer_parsed *p = l->p;
	size_t room = ((size_t)p->added_count + 1) * sizeof(*l->raw);
	struct vac_encode_scratch *scratch;
	int rc = 0;

	l->raw = vac_arena_alloc(&p->arena, room);
	l->normalized = vac_arena_alloc(&p->arena, room);
	if (!l->raw || !l->normalized)
		return vac_fail_nomem(p->err, "the added tokens", room);
	scratch = vac_encode_scratch_new();
	if (!scratch)
		return vac_fail_nomem(p->err, "a scratch", sizeof(*scratch));
	for (int special = 1; special >= 0; special--) {
		for (uint32_t i = 0; rc >= 0 && i < p->added_count; i++) {
			if (p->added[i].special == special)
				rc = add_wanted(l, &p->added[i], i + (special ? 0 : p->added_count),
						scratch);
		}
	}
	vac_encode_scratch_free(scratch);
	if (rc < 0)
		return rc;
	l->raw_count = sort_wanted(l->raw, l->raw_count);
	l->normalized_count = sort_wanted(l->normalized, l->normalized_count);
	return 0;
}

static int add_item(struct layout *l, const struct vac_piece *piece, uint32_t id,
		    struct vac_template *to)
{
	if (to->count == VAC_MAX_TEMPLATE_ITEMS)
		return fail_at(l->p, piece->at, VAC_E_TOO_LARGE,
			       "of the post_processor makes its template too long", &piece->name);
	if (piece->kind == VAC_TEMPLATE_TOKEN && !id_used(l, id)) {
		l->p->json.value_at = piece->at;
		return vac_json_fail(&l->p->json, VAC_E_CORRUPT,
				     "the post_processor adds the token %u, which is in neither "
				     "model.vocab nor added_tokens",
				     (unsigned int)id);
	}
	to->items[to->count++] = (struct vac_template_item){
		.id = id, .kind = (uint8_t)piece->kind, .type_id = (uint8_t)piece->type_id};
	return 0;
}

static int resolve_template(struct layout *l, const struct vac_pieces *from,
			    struct vac_template *to)
{
	struct vac_tokenizer_parsed *p = l->p;
	int rc = 0;

	for (uint32_t i = 0; rc >= 0 && i < from->count; i++) {
		const struct vac_piece *piece = &from->items[i];
		const struct vac_special *special = NULL;

		if (!piece->name.text || piece->kind != VAC_TEMPLATE_TOKEN) {
			rc = add_item(l, piece, piece->id, to);
			continue;
		}
		for (uint32_t k = 0; k < p->special_count; k++) {
			if (p->specials[k].name.bytes == piece->name.bytes &&
			    memcmp(p->specials[k].name.text, piece->name.text, piece->name.bytes) ==
				    0)
				special = &p->specials[k];
		}
		if (!special)
			return fail_at(p, piece->at, VAC_E_CORRUPT,
				       "of the template is missing in "
				       "post_processor.special_tokens",
				       &piece->name);
		for (uint32_t k = 0; rc >= 0 && k < special->id_count; k++)
			rc = add_item(l, piece, special->ids[k], to);
	}
	return rc;
}

/* A template for one text holds that text, once. */
static int resolve_templates(struct layout *l)
{
	struct vac_tokenizer_parsed *p = l->p;
	uint32_t texts = 0;
	int rc = resolve_template(l, &p->single, &l->single);

	if (rc >= 0)
		rc = resolve_template(l, &p->pair, &l->pair);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < l->single.count; i++) {
		texts += l->single.items[i].kind == VAC_TEMPLATE_A;
		/* The second text of a pair has no place here. */
		texts += l->single.items[i].kind == VAC_TEMPLATE_B ? 2 : 0;
	}
	if (p->single.present && texts != 1)
		return vac_json_fail(&p->json, VAC_E_UNSUPPORTED,
				     "post_processor.single does not hold the sequence A exactly "
				     "once");
	return 0;
}

/* Gives out space in the block that is being planned, each part aligned. */
static uint32_t reserve(size_t *end, size_t bytes)
{
	size_t at = (*end + 15) / 16 * 16;

	*end = at + bytes;
	/* The file's limit keeps every block far below 4 GiB. */
	assert(*end <= UINT32_MAX);
	return (uint32_t)at;
}

static void place_patterns(struct vac_tokenizer *t, struct vac_pattern_set *set, uint32_t set_at,
			   uint32_t texts_at, const struct wanted *wanted, uint32_t count)
{
	struct vac_pattern *patterns = (void *)((uint8_t *)t + set_at);
	uint32_t next = 0;

	set->at = set_at;
	set->count = count;
	for (uint32_t i = 0; i < count; i++) {
		memcpy((uint8_t *)t + texts_at, wanted[i].text, wanted[i].bytes);
		patterns[i] = (struct vac_pattern){.text_at = texts_at,
						   .bytes = wanted[i].bytes,
						   .id = wanted[i].id,
						   .flags = wanted[i].flags};
		texts_at += wanted[i].bytes;
	}
	for (unsigned int byte = 0; byte < 257; byte++) {
		while (next < count && (uint8_t)wanted[next].text[0] < byte)
			next++;
		set->first[byte] = next;
	}
}

static void place_vocab(struct vac_tokenizer *t, const struct vac_tokenizer_parsed *p)
{
	uint32_t *starts = (void *)((uint8_t *)t + t->starts_at), at = 0;
	int32_t *ids = (void *)((uint8_t *)t + t->ids_at);
	uint8_t *pool = (uint8_t *)t + t->pool_at;

	for (uint32_t i = 0; i < p->entry_count; i++) {
		const struct vac_text *token = &p->entries[i].token;

		starts[i] = at;
		ids[i] = (int32_t)p->entries[i].id;
		memcpy(pool + at, token->text, token->bytes);
		at += token->bytes;
		if (token->bytes > t->longest_bytes)
			t->longest_bytes = token->bytes;
	}
	starts[p->entry_count] = at;
}

static size_t texts_bytes(const struct wanted *wanted, uint32_t count)
{
	size_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += wanted[i].bytes;
	return sum;
}

/* How the steps treat each ASCII character by itself, and how it splits. */
static int fill_ascii(struct vac_tokenizer *t, struct vac_tokenizer_parsed *p)
{
	struct vac_encode_scratch *scratch = vac_encode_scratch_new();
	int rc = 0;

	if (!scratch)
		return vac_fail_nomem(p->err, "a scratch", sizeof(*scratch));
	for (int c = 0; rc >= 0 && c < 128; c++) {
		char text = (char)c;

		t->ascii_flags[c] = vac_char_flags((uint32_t)c);
		rc = vac_normalize(p->steps, p->step_count, &text, 1, scratch, p->err);
		if (rc < 0)
			break;
		assert(scratch->normal.bytes <= 1);
		t->ascii_normal[c] =
			scratch->normal.bytes ? scratch->normal.data[0] : VAC_ASCII_DROPPED;
	}
	vac_encode_scratch_free(scratch);
	return rc;
}

static int lay_out(struct layout *l)
{
	struct vac_tokenizer_parsed *p = l->p;
	size_t end = sizeof(struct vac_tokenizer), pool_bytes = 0;
	size_t raw_bytes = texts_bytes(l->raw, l->raw_count);
	size_t slots_bytes = sizeof(uint32_t) << l->slot_bits;
	uint32_t raw_at, normalized_at, raw_texts_at, normalized_texts_at;
	struct vac_tokenizer t = {.slot_bits = l->slot_bits};

	for (uint32_t i = 0; i < p->entry_count; i++)
		pool_bytes += p->entries[i].token.bytes;
	t.slots_at = reserve(&end, slots_bytes);
	t.starts_at = reserve(&end, ((size_t)p->entry_count + 1) * sizeof(uint32_t));
	t.ids_at = reserve(&end, (size_t)p->entry_count * sizeof(int32_t));
	t.pool_at = reserve(&end, pool_bytes);
	t.prefix_at = reserve(&end, p->prefix.bytes);
	raw_at = reserve(&end, l->raw_count * sizeof(struct vac_pattern));
	normalized_at = reserve(&end, l->normalized_count * sizeof(struct vac_pattern));
	raw_texts_at = reserve(&end, raw_bytes);
	normalized_texts_at = reserve(&end, texts_bytes(l->normalized, l->normalized_count));
	t.bytes = (end + 15) / 16 * 16;
	t.token_count = p->entry_count;
	t.vocab_size = l->vocab_size;
	t.unk_id = l->unk_id;
	t.max_word_chars = p->max_word_chars;
	t.prefix_bytes = p->prefix.bytes;
	t.prefix_hash = vac_hash_bytes(VAC_HASH_START, p->prefix.text, p->prefix.bytes);
	memcpy(t.steps, p->steps, sizeof(t.steps));
	t.step_count = p->step_count;
	t.splitting = p->splitting;
	t.single = l->single;
	t.pair = l->pair;
	t.special_count = l->single.count ? l->single.count - 1 : 0;
	p->block = vac_arena_alloc(&p->arena, t.bytes);
	if (!p->block)
		return vac_fail_nomem(p->err, "a tokenizer", t.bytes);
	memset(p->block, 0, t.bytes); /* the gaps too: equal files give equal blocks */
	*p->block = t;
	memcpy((uint8_t *)p->block + t.slots_at, l->slots, slots_bytes);
	memcpy((uint8_t *)p->block + t.prefix_at, p->prefix.text, p->prefix.bytes);
	place_vocab(p->block, p);
	place_patterns(p->block, &p->block->raw, raw_at, raw_texts_at, l->raw, l->raw_count);
	place_patterns(p->block, &p->block->normalized, normalized_at, normalized_texts_at,
		       l->normalized, l->normalized_count);
	return fill_ascii(p->block, p);
}

int vac_finish_tokenizer(struct vac_tokenizer_parsed *p)
{
	struct layout l = {.p = p};
	struct vac_vocab_entry *unk;
	uint32_t slot, tag;
	int rc = index_vocab(&l);

	if (rc < 0)
		return rc;
	unk = find_entry(&l, &p->unk, &slot, &tag);
	if (!unk)
		return fail_at(p, p->json.value_at, VAC_E_CORRUPT,
			       "is model.unk_token and is missing in model.vocab", &p->unk);
	l.unk_id = unk->id;
	rc = refuse_double_added(&l);
	if (rc >= 0)
		rc = number_added_tokens(&l);
	if (rc >= 0)
		rc = collect_patterns(&l);
	if (rc >= 0)
		rc = resolve_templates(&l);
	return rc < 0 ? rc : lay_out(&l);
}
