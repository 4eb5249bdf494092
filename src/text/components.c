/*
 * components.c - the normalizer and the pre-tokenizer of a tokenizer.json.
 * What is not implemented is refused with its path and type; nothing is
 * approximated. One owner; no locking.
 */
#include <stdio.h>
#include <string.h>

#include "base/quote.h"
#include "text/parsed.h"

int vac_refuse_type(struct vac_tokenizer_parsed *p, const char *path, const char *type)
{
	struct vac_quoted quoted;

	return vac_json_fail(&p->json, VAC_E_UNSUPPORTED,
			     "%s: the type %s is not implemented; only tokenizers of the BERT "
			     "family can be served",
			     path, vac_quote(&quoted, type, strlen(type)));
}

/* Copies a type. Those that are known are short and have no control character,
 * a NUL for example, which would hide what follows it. */
static int keep_type(struct vac_json *json, const char *path, char type[VAC_TYPE_BYTES])
{
	struct vac_quoted quoted;

	for (size_t i = 0; i < json->text_bytes; i++) {
		if (i == VAC_TYPE_BYTES - 1 || (uint8_t)json->text[i] < 0x20)
			return vac_json_fail(json, VAC_E_UNSUPPORTED,
					     "%s: the type %s is not implemented", path,
					     vac_quote(&quoted, json->text, json->text_bytes));
	}
	memcpy(type, json->text, json->text_bytes);
	type[json->text_bytes] = '\0';
	return 0;
}

/* Looks ahead with a reader of its own, which stops inside the object. */
static int find_type(struct vac_tokenizer_parsed *p, const char *path, char type[VAC_TYPE_BYTES])
{
	struct vac_json ahead;
	enum vac_json_type event;
	int rc = 0;

	type[0] = '\0';
	vac_json_init(&ahead, p->json.name, p->json.data, p->json.bytes, p->err);
	ahead.at = p->json.value_at;
	event = vac_json_next(&ahead);
	while (rc == 0 && (event = vac_json_next(&ahead)) == VAC_JSON_KEY) {
		if (!vac_json_is(&ahead, "type")) {
			rc = vac_json_skip(&ahead);
			continue;
		}
		if (vac_json_next(&ahead) != VAC_JSON_STRING)
			rc = vac_json_fail(&ahead, VAC_E_CORRUPT, "%s.type: expected a string",
					   path);
		else
			rc = keep_type(&ahead, path, type);
		break;
	}
	if (rc == 0 && event == VAC_JSON_ERROR)
		rc = vac_json_fail(&ahead, VAC_E_CORRUPT, "%s is broken", path);
	vac_json_free(&ahead);
	return rc;
}

int vac_begin_component(struct vac_tokenizer_parsed *p, const char *path, enum vac_json_type event,
			char type[VAC_TYPE_BYTES])
{
	int rc;

	if (event == VAC_JSON_NULL)
		return 0;
	if (event != VAC_JSON_OBJECT_BEGIN)
		return vac_json_fail(&p->json, VAC_E_CORRUPT, "%s: expected an object or null",
				     path);
	rc = find_type(p, path, type);
	return rc < 0 ? rc : 1;
}

static int add_step(struct vac_tokenizer_parsed *p, const char *path, enum vac_normalizer_step step)
{
	if (p->step_count == VAC_MAX_NORMALIZER_STEPS)
		return vac_json_fail(&p->json, VAC_E_TOO_LARGE,
				     "%s: the normalizers take more than %d steps", path,
				     VAC_MAX_NORMALIZER_STEPS);
	p->steps[p->step_count++] = (uint8_t)step;
	return 0;
}

/* Skips the rest of a component that has no members but its type. */
static int no_members(struct vac_tokenizer_parsed *p, const char *path)
{
	static const char *const names[] = {"type", NULL};
	uint32_t seen = 0;
	int index, rc = 0;

	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0)
		rc = vac_json_skip(&p->json);
	return rc;
}

static int parse_bert_normalizer(struct vac_tokenizer_parsed *p, const char *path)
{
	enum { CLEAN, CJK, LOWER, ACCENTS, REQUIRED = ACCENTS };
	static const char *const names[] = {
		"clean_text", "handle_chinese_chars", "lowercase", "strip_accents", "type", NULL};
	bool on[4] = {false};
	bool accents_null = true;
	uint32_t seen = 0;
	int index, rc = 0;

	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		if (index == ACCENTS) {
			enum vac_json_type event = vac_json_next(&p->json);

			accents_null = event == VAC_JSON_NULL;
			on[ACCENTS] = event == VAC_JSON_TRUE;
			if (event != VAC_JSON_NULL && event != VAC_JSON_TRUE &&
			    event != VAC_JSON_FALSE)
				rc = vac_json_fail(&p->json, VAC_E_CORRUPT,
						   "%s.strip_accents: expected true, false or null",
						   path);
		} else if (index < ACCENTS) {
			rc = vac_read_bool(p, path, names[index], &on[index]);
		} else {
			rc = vac_json_skip(&p->json);
		}
	}
	if (rc >= 0)
		rc = vac_require_members(p, path, names, seen, REQUIRED);
	if (accents_null)
		on[ACCENTS] = on[LOWER];
	if (rc >= 0 && on[CLEAN])
		rc = add_step(p, path, VAC_STEP_CLEAN);
	if (rc >= 0 && on[CJK])
		rc = add_step(p, path, VAC_STEP_SPACE_CJK);
	if (rc >= 0 && on[ACCENTS])
		rc = add_step(p, path, VAC_STEP_NFD);
	if (rc >= 0 && on[ACCENTS])
		rc = add_step(p, path, VAC_STEP_DROP_NONSPACING);
	if (rc >= 0 && on[LOWER])
		rc = add_step(p, path, VAC_STEP_LOWERCASE);
	return rc;
}

/* The "normalizers" or "pretokenizers" of a Sequence. */
static int parse_sequence(struct vac_tokenizer_parsed *p, const char *path, const char *member,
			  int (*parse)(struct vac_tokenizer_parsed *p, const char *path,
				       enum vac_json_type event))
{
	const char *const names[] = {member, "type", NULL};
	uint32_t seen = 0;
	int index, rc = 0;

	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		if (index != 0) {
			rc = vac_json_skip(&p->json);
			continue;
		}
		rc = vac_json_expect(&p->json, VAC_JSON_ARRAY_BEGIN, path);
		for (uint32_t i = 0; rc >= 0; i++) {
			enum vac_json_type event = vac_json_next(&p->json);
			char inner[VAC_PATH_BYTES];

			if (event == VAC_JSON_ARRAY_END)
				break;
			snprintf(inner, sizeof(inner), "%.100s.%s[%u]", path, member,
				 (unsigned int)i);
			if (event == VAC_JSON_OBJECT_BEGIN)
				rc = parse(p, inner, event);
			else
				rc = vac_json_fail(&p->json, VAC_E_CORRUPT,
						   "%s: expected an object", inner);
		}
	}
	return rc < 0 ? rc : vac_require_members(p, path, names, seen, 1);
}

int vac_parse_normalizer(struct vac_tokenizer_parsed *p, const char *path, enum vac_json_type event)
{
	static const struct {
		const char *type;
		enum vac_normalizer_step step;
	} simple[] = {{"NFD", VAC_STEP_NFD},
		      {"StripAccents", VAC_STEP_DROP_MARKS},
		      {"Lowercase", VAC_STEP_LOWERCASE}};
	char type[VAC_TYPE_BYTES];
	int rc = vac_begin_component(p, path, event, type);

	if (rc <= 0)
		return rc;
	if (strcmp(type, "BertNormalizer") == 0)
		return parse_bert_normalizer(p, path);
	if (strcmp(type, "Sequence") == 0)
		return parse_sequence(p, path, "normalizers", vac_parse_normalizer);
	for (size_t i = 0; i < sizeof(simple) / sizeof(simple[0]); i++) {
		if (strcmp(type, simple[i].type) == 0) {
			rc = add_step(p, path, simple[i].step);
			return rc < 0 ? rc : no_members(p, path);
		}
	}
	return vac_refuse_type(p, path, type);
}

/* Of the behaviours of Punctuation, only the one that its BERT use has. */
static int parse_punctuation(struct vac_tokenizer_parsed *p, const char *path)
{
	static const char *const names[] = {"behavior", "type", NULL};
	uint32_t seen = 0;
	int index, rc = 0;

	while (rc >= 0 && (rc = vac_next_member(p, path, names, &seen, &index)) > 0) {
		struct vac_quoted quoted;

		if (index != 0) {
			rc = vac_json_skip(&p->json);
			continue;
		}
		rc = vac_json_expect(&p->json, VAC_JSON_STRING, path);
		if (rc >= 0 && !vac_json_is(&p->json, "Isolated"))
			rc = vac_json_fail(&p->json, VAC_E_UNSUPPORTED,
					   "%s.behavior: %s is not implemented, only "
					   "\"Isolated\" is",
					   path,
					   vac_quote(&quoted, p->json.text, p->json.text_bytes));
	}
	return rc;
}

int vac_parse_pre_tokenizer(struct vac_tokenizer_parsed *p, const char *path,
			    enum vac_json_type event)
{
	char type[VAC_TYPE_BYTES];
	int rc = vac_begin_component(p, path, event, type);

	if (rc <= 0)
		return rc;
	if (strcmp(type, "Sequence") == 0)
		return parse_sequence(p, path, "pretokenizers", vac_parse_pre_tokenizer);
	if (strcmp(type, "Punctuation") == 0) {
		p->splitting.isolates_punct = true;
		return parse_punctuation(p, path);
	}
	if (strcmp(type, "BertPreTokenizer") == 0) {
		p->splitting.drops_space = true;
		p->splitting.isolates_punct = true;
	} else if (strcmp(type, "WhitespaceSplit") == 0) {
		p->splitting.drops_space = true;
	} else if (strcmp(type, "Whitespace") == 0) {
		p->splitting.drops_space = true;
		p->splitting.splits_word = true;
	} else {
		return vac_refuse_type(p, path, type);
	}
	return no_members(p, path);
}
