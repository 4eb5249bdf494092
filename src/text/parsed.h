/*
 * parsed.h - a tokenizer.json while it is read. Private to text: parse.c and
 * components.c fill it in the order of the file, finish.c checks what needs
 * the whole and lays the tokenizer out. One owner; no locking.
 */
#ifndef VAC_TEXT_PARSED_H
#define VAC_TEXT_PARSED_H

#include "base/arena.h"
#include "base/json.h"
#include "text/layout.h"

/* JSON paths in messages: "normalizer.normalizers[3].type". */
#define VAC_PATH_BYTES 160

struct vac_text { /* in the arena, not NUL-terminated */
	const char *text;
	uint32_t bytes;
};

struct vac_vocab_entry {
	struct vac_text token;
	uint32_t id;
	size_t at; /* byte in the file, for messages */
};

struct vac_added_token {
	struct vac_text content;
	uint32_t id;    /* as the file says */
	uint32_t flags; /* VAC_PATTERN_* */
	bool special, normalized;
	bool in_vocab;
	size_t at;
};

/* A special token of a TemplateProcessing, by its name. */
struct vac_special {
	struct vac_text name;
	uint32_t ids[VAC_MAX_TEMPLATE_ITEMS];
	uint32_t id_count;
};

/* A template as the file has it; names are looked up in finish.c, because they
 * may be defined after their use. */
struct vac_piece {
	enum vac_template_kind kind;
	struct vac_text name; /* TOKEN of a TemplateProcessing; else NULL and id counts */
	uint32_t id;
	uint32_t type_id;
	size_t at;
};
struct vac_pieces {
	bool present;
	uint32_t count;
	struct vac_piece items[VAC_MAX_TEMPLATE_ITEMS];
};

struct vac_tokenizer_parsed {
	struct vac_arena arena;
	struct vac_json json; /* only while parsing */
	struct vac_error *err;
	/* model */
	struct vac_vocab_entry *entries;
	uint32_t entry_count, entry_capacity;
	struct vac_text unk, prefix;
	uint32_t max_word_chars;
	/* added_tokens */
	struct vac_added_token *added;
	uint32_t added_count, added_capacity;
	/* the rest of the pipeline */
	uint8_t steps[VAC_MAX_NORMALIZER_STEPS];
	uint32_t step_count;
	struct vac_splitting splitting;
	struct vac_pieces single, pair;
	struct vac_special *specials;
	uint32_t special_count, special_capacity;
	/* the finished block, in the arena: build copies it */
	struct vac_tokenizer *block;
};

/* ---- parse.c: reading members ---- */

/* Steps to the next member of the object that was opened: 1, and *index says
 * which of names it is (a list that ends with NULL); 0 at the end of the
 * object. An unknown member is refused, because it may change what comes out,
 * and so is one that comes twice. *seen holds the bits of those that came. */
int vac_next_member(struct vac_tokenizer_parsed *p, const char *path, const char *const *names,
		    uint32_t *seen, int *index) VAC_MUST_CHECK;
/* Fails unless all of the first count names were seen. */
int vac_require_members(struct vac_tokenizer_parsed *p, const char *path, const char *const *names,
			uint32_t seen, uint32_t count) VAC_MUST_CHECK;
int vac_read_bool(struct vac_tokenizer_parsed *p, const char *path, const char *name,
		  bool *out) VAC_MUST_CHECK;
int vac_read_uint(struct vac_tokenizer_parsed *p, const char *path, const char *name, uint32_t max,
		  uint32_t *out) VAC_MUST_CHECK;
/* Reads a string into the arena. */
int vac_read_text(struct vac_tokenizer_parsed *p, const char *path, const char *name,
		  struct vac_text *out) VAC_MUST_CHECK;
/* Copies the last KEY or STRING into the arena. */
int vac_keep_text(struct vac_tokenizer_parsed *p, struct vac_text *out) VAC_MUST_CHECK;
/* The array of the arena with room for one more element: the same, or a copy
 * of twice the size. NULL when out of memory, with the error set. */
void *vac_grow(struct vac_tokenizer_parsed *p, void *array, uint32_t count, uint32_t *capacity,
	       size_t element_bytes) VAC_MUST_CHECK;

/* ---- components.c: each reads a value whose first event was just read; it may be null ---- */
int vac_parse_normalizer(struct vac_tokenizer_parsed *p, const char *path,
			 enum vac_json_type event) VAC_MUST_CHECK;
int vac_parse_pre_tokenizer(struct vac_tokenizer_parsed *p, const char *path,
			    enum vac_json_type event) VAC_MUST_CHECK;
/* Begins an object with a "type", which it finds wherever it stands: 1, or 0
 * for null. The type is "" when there is none. */
#define VAC_TYPE_BYTES 64
int vac_begin_component(struct vac_tokenizer_parsed *p, const char *path, enum vac_json_type event,
			char type[VAC_TYPE_BYTES]) VAC_MUST_CHECK;
int vac_refuse_type(struct vac_tokenizer_parsed *p, const char *path, const char *type);

/* ---- processors.c ---- */
int vac_parse_post_processor(struct vac_tokenizer_parsed *p, const char *path,
			     enum vac_json_type event) VAC_MUST_CHECK;

/* ---- finish.c ---- */
int vac_finish_tokenizer(struct vac_tokenizer_parsed *p) VAC_MUST_CHECK;

#endif
