/*
 * processors.c - the post-processor of a tokenizer.json: which special tokens
 * stand around a text. One owner; no locking.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "text/parsed.h"

/* Type ids travel as bytes. */
#define MAX_TYPE_ID 255u

static struct vac_piece *add_piece(struct vac_tokenizer_parsed *p, const char *path,
				   struct vac_pieces *pieces)
{
	struct vac_piece *piece;

	if (pieces->count == VAC_MAX_TEMPLATE_ITEMS) {
		vac_json_fail(&p->json, VAC_E_TOO_LARGE, "%s: has more than %d pieces", path,
			      VAC_MAX_TEMPLATE_ITEMS);
		return NULL;
	}
	piece = &pieces->items[pieces->count++];
	memset(piece, 0, sizeof(*piece));
	piece->at = p->json.value_at;
	return piece;
}

/* {"id": ..., "type_id": N}, of a Sequence ("A" or "B") or a SpecialToken (a name). */
static int parse_piece_body(struct vac_tokenizer_parsed *p, const char *path, bool sequence,
			    struct vac_piece *piece)
{
	static const char *const names[] = {"id", "type_id", NULL};
	struct vac_text id = {NULL, 0};
	uint32_t seen = 0;
	int index, rc = vac_json_expect(&p->json, VAC_JSON_OBJECT_BEGIN, path);

	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		if (index == 0)
			rc = vac_read_text(p, path, names[0], &id);
		else
			rc = vac_read_uint(p, path, names[1], MAX_TYPE_ID, &piece->type_id);
	}
	if (rc >= 0)
		rc = vac_require_members(p, path, names, seen, 2);
	if (rc < 0)
		return rc;
	piece->kind = VAC_TEMPLATE_TOKEN;
	piece->name = id;
	if (!sequence)
		return 0;
	if (id.bytes != 1 || (id.text[0] != 'A' && id.text[0] != 'B'))
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s.id: a Sequence is \"A\" or \"B\"",
				     path);
	piece->kind = id.text[0] == 'A' ? VAC_TEMPLATE_A : VAC_TEMPLATE_B;
	return 0;
}

static int parse_pieces(struct vac_tokenizer_parsed *p, const char *path, const char *name,
			struct vac_pieces *pieces)
{
	static const char *const kinds[] = {"SpecialToken", "Sequence", NULL};
	char inner[VAC_PATH_BYTES];
	int index, rc = vac_json_expect(&p->json, VAC_JSON_ARRAY_BEGIN, path);

	pieces->present = true;
	for (uint32_t i = 0; rc >= 0; i++) {
		enum vac_json_type event = vac_json_next(&p->json);
		struct vac_piece *piece;
		uint32_t seen = 0;

		if (event == VAC_JSON_ARRAY_END)
			break;
		snprintf(inner, sizeof(inner), "%.100s.%s[%u]", path, name, (unsigned int)i);
		if (event != VAC_JSON_OBJECT_BEGIN)
			return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s: expected an object",
					     inner);
		piece = add_piece(p, inner, pieces);
		if (!piece)
			return -E2BIG;
		rc = vac_next_member(p, inner, kinds, &seen, &index);
		if (rc == 0)
			return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s: is empty", inner);
		if (rc > 0)
			rc = parse_piece_body(p, inner, index == 1, piece);
		if (rc >= 0)
			rc = vac_json_expect(&p->json, VAC_JSON_OBJECT_END, inner);
	}
	return rc;
}

static int parse_ids(struct vac_tokenizer_parsed *p, const char *path, struct vac_special *special)
{
	int rc = vac_json_expect(&p->json, VAC_JSON_ARRAY_BEGIN, path);
	enum vac_json_type event;

	if (rc < 0)
		return rc;
	while ((event = vac_json_next(&p->json)) == VAC_JSON_INTEGER) {
		if (p->json.integer < 0 || p->json.integer > VAC_MAX_ID ||
		    special->id_count == VAC_MAX_TEMPLATE_ITEMS)
			return vac_json_fail(&p->json, VAC_E_CORRUPT,
					     "%s.ids: too many ids, or no token id", path);
		special->ids[special->id_count++] = (uint32_t)p->json.integer;
	}
	if (event != VAC_JSON_ARRAY_END)
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s.ids: a token id was expected",
				     path);
	return 0;
}

/* {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]}, ...} */
static int parse_specials(struct vac_tokenizer_parsed *p, const char *path)
{
	enum { IDS, TOKENS, ID, REQUIRED };
	static const char *const names[] = {"ids", "tokens", "id", NULL};
	int index, rc = vac_json_expect(&p->json, VAC_JSON_OBJECT_BEGIN, path);
	enum vac_json_type event;

	if (rc < 0)
		return rc;
	while ((event = vac_json_next(&p->json)) == VAC_JSON_KEY) {
		struct vac_special *special = vac_grow(p, p->specials, p->special_count,
						       &p->special_capacity, sizeof(*special));
		uint32_t seen = 0;

		if (!special)
			return -ENOMEM;
		p->specials = special;
		special = &p->specials[p->special_count++];
		memset(special, 0, sizeof(*special));
		rc = vac_keep_text(p, &special->name);
		if (rc >= 0)
			rc = vac_json_expect(&p->json, VAC_JSON_OBJECT_BEGIN, path);
		while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
			if (index == IDS)
				rc = parse_ids(p, path, special);
			else
				rc = vac_json_skip(&p->json);
		}
		if (rc >= 0)
			rc = vac_require_members(p, path, names, seen, REQUIRED);
		if (rc < 0)
			return rc;
	}
	if (event != VAC_JSON_OBJECT_END)
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s: is broken", path);
	return 0;
}

static int parse_template(struct vac_tokenizer_parsed *p, const char *path)
{
	enum { SINGLE, PAIR, SPECIALS, REQUIRED };
	static const char *const names[] = {"single", "pair", "special_tokens", "type", NULL};
	uint32_t seen = 0;
	int index, rc = 0;

	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		if (index == SINGLE)
			rc = parse_pieces(p, path, names[SINGLE], &p->single);
		else if (index == PAIR)
			rc = parse_pieces(p, path, names[PAIR], &p->pair);
		else if (index == SPECIALS)
			rc = parse_specials(p, "post_processor.special_tokens");
		else
			rc = vac_json_skip(&p->json);
	}
	return rc < 0 ? rc : vac_require_members(p, path, names, seen, REQUIRED);
}

/* ["[SEP]", 102] */
static int parse_named_id(struct vac_tokenizer_parsed *p, const char *path, const char *name,
			  uint32_t *id)
{
	char inner[VAC_PATH_BYTES];
	int rc;

	snprintf(inner, sizeof(inner), "%.100s.%s", path, name);
	rc = vac_json_expect(&p->json, VAC_JSON_ARRAY_BEGIN, inner);
	if (rc >= 0)
		rc = vac_json_expect(&p->json, VAC_JSON_STRING, inner);
	if (rc >= 0)
		rc = vac_read_uint(p, path, name, VAC_MAX_ID, id);
	if (rc >= 0)
		rc = vac_json_expect(&p->json, VAC_JSON_ARRAY_END, inner);
	return rc;
}

/* Adds the pieces that the letters name: c and s are the tokens of ids, A and B
 * the texts; types has the type id of each as a digit. */
static int add_pieces(struct vac_tokenizer_parsed *p, const char *path, struct vac_pieces *pieces,
		      const char *pattern, const char *types, const uint32_t ids[2])
{
	pieces->present = true;
	for (size_t i = 0; pattern[i]; i++) {
		struct vac_piece *piece = add_piece(p, path, pieces);

		if (!piece)
			return -E2BIG;
		piece->type_id = (uint32_t)(types[i] - '0');
		if (pattern[i] == 'A')
			piece->kind = VAC_TEMPLATE_A;
		else if (pattern[i] == 'B')
			piece->kind = VAC_TEMPLATE_B;
		else
			piece->id = ids[pattern[i] == 's'];
	}
	return 0;
}

/* BertProcessing; RobertaProcessing has two more members, which change offsets
 * into the text but no token, and a pair template of its own. */
static int parse_bert(struct vac_tokenizer_parsed *p, const char *path, bool roberta)
{
	enum { SEP, CLS, TYPE, TRIM, PREFIX_SPACE };
	static const char *const bert_names[] = {"sep", "cls", "type", NULL};
	static const char *const roberta_names[] = {
		"sep", "cls", "type", "trim_offsets", "add_prefix_space", NULL};
	const char *const *names = roberta ? roberta_names : bert_names;
	uint32_t ids[2] = {0, 0}, seen = 0; /* cls, sep */
	bool ignored;
	int index, rc = 0;

	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		if (index == SEP || index == CLS)
			rc = parse_named_id(p, path, names[index], &ids[index == SEP]);
		else if (index == TYPE)
			rc = vac_json_skip(&p->json);
		else
			rc = vac_read_bool(p, path, names[index], &ignored);
	}
	if (rc >= 0)
		rc = vac_require_members(p, path, names, seen, roberta ? PREFIX_SPACE + 1 : TYPE);
	if (rc >= 0)
		rc = add_pieces(p, path, &p->single, "cAs", "000", ids);
	if (rc >= 0 && roberta)
		rc = add_pieces(p, path, &p->pair, "cAssBs", "000000", ids);
	else if (rc >= 0)
		rc = add_pieces(p, path, &p->pair, "cAsBs", "00011", ids);
	return rc;
}

int vac_parse_post_processor(struct vac_tokenizer_parsed *p, const char *path,
			     enum vac_json_type event)
{
	char type[VAC_TYPE_BYTES];
	int rc = vac_begin_component(p, path, event, type);

	if (rc <= 0)
		return rc;
	if (strcmp(type, "TemplateProcessing") == 0)
		return parse_template(p, path);
	if (strcmp(type, "BertProcessing") == 0)
		return parse_bert(p, path, false);
	if (strcmp(type, "RobertaProcessing") == 0)
		return parse_bert(p, path, true);
	return vac_refuse_type(p, path, type);
}
