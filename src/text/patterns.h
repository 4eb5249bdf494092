/*
 * patterns.h - finding added tokens in a text. Private to text. Any thread.
 */
#ifndef VAC_TEXT_PATTERNS_H
#define VAC_TEXT_PATTERNS_H

#include "text/layout.h"

/* Cuts a text at the added tokens of one set. Zero-initialise, then set the
 * first four members. */
struct vac_cut {
	const struct vac_tokenizer *tokenizer;
	const struct vac_pattern_set *set;
	const char *text;
	size_t bytes;
	/* private */
	size_t searched; /* where the next search starts */
	size_t done;     /* end of the last match, its stripped space included */
	size_t token_from, token_to;
	const struct vac_pattern *token; /* found, to be handed out after the text before it */
};

/* The next part in the text's order: text[*from .. *to), which is the added
 * token, or, when *token is NULL, text between them. False: there is no more. */
bool vac_cut_next(struct vac_cut *cut, size_t *from, size_t *to, const struct vac_pattern **token);

#endif
