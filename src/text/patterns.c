/*
 * patterns.c - added tokens in a text: leftmost match first, of those that
 * start there the longest, never overlapping. Any thread; no allocation.
 */
#include "text/patterns.h"

#include "base/utf8.h"
#include "text/unicode.h"

/* The first pattern in [low, high), all equal up to depth, whose byte there is
 * at least c. */
static uint32_t lower_bound(const struct vac_tokenizer *t, const struct vac_pattern *patterns,
			    uint32_t low, uint32_t high, uint32_t depth, unsigned int c)
{
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const uint8_t *text = vac_layout_at(t, patterns[middle].text_at);

		if (text[depth] < c)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The longest pattern that text starts with; the sorted array is walked like a
 * trie, the range of those that agree so far growing smaller byte by byte. */
static const struct vac_pattern *longest_at(const struct vac_cut *cut, size_t at)
{
	const struct vac_tokenizer *t = cut->tokenizer;
	const struct vac_pattern *patterns = vac_layout_at(t, cut->set->at), *best = NULL;
	const uint8_t *text = (const uint8_t *)cut->text + at;
	uint32_t low = cut->set->first[text[0]], high = cut->set->first[text[0] + 1];

	for (uint32_t depth = 1; low < high; depth++) {
		if (patterns[low].bytes == depth)
			best = &patterns[low++];
		if (depth == cut->bytes - at)
			break;
		low = lower_bound(t, patterns, low, high, depth, text[depth]);
		high = lower_bound(t, patterns, low, high, depth, text[depth] + 1u);
	}
	return best;
}

/* Flags of the character that ends before `at`, 0 at the start. */
static uint8_t flags_before(const struct vac_cut *cut, size_t at, size_t *bytes)
{
	const uint8_t *text = (const uint8_t *)cut->text;
	size_t from = at;
	uint32_t code = 0;

	*bytes = 0;
	if (at == 0)
		return 0;
	do
		from--;
	while (from > 0 && (text[from] & 0xC0) == 0x80);
	*bytes = at - from;
	vac_utf8_decode(text + from, text + at, &code);
	return vac_char_flags(code);
}

/* Flags of the character that starts at `at`, 0 at the end. */
static uint8_t flags_after(const struct vac_cut *cut, size_t at, size_t *bytes)
{
	const uint8_t *text = (const uint8_t *)cut->text;
	uint32_t code = 0;

	*bytes = 0;
	if (at == cut->bytes)
		return 0;
	*bytes = vac_utf8_decode(text + at, text + cut->bytes, &code);
	return vac_char_flags(code);
}

/* Takes a match in as the library does: a match that is no single word is
 * skipped over; stripped space belongs to the token, but the search goes on
 * behind the match itself. False: skipped. */
static bool accept(struct vac_cut *cut, const struct vac_pattern *token, size_t from, size_t to)
{
	size_t n;

	if (token->flags & VAC_PATTERN_SINGLE_WORD &&
	    (flags_before(cut, from, &n) | flags_after(cut, to, &n)) & VAC_CHAR_WORD)
		return false;
	if (token->flags & VAC_PATTERN_LSTRIP) {
		while (flags_before(cut, from, &n) & VAC_CHAR_SPACE)
			from -= n;
		if (from < cut->done)
			from = cut->done;
	}
	if (token->flags & VAC_PATTERN_RSTRIP) {
		while (flags_after(cut, to, &n) & VAC_CHAR_SPACE)
			to += n;
	}
	cut->token = token;
	cut->token_from = from;
	cut->token_to = to;
	return true;
}

static bool search(struct vac_cut *cut)
{
	const uint32_t *first = cut->set->first;
	const uint8_t *text = (const uint8_t *)cut->text;

	while (cut->set->count > 0 && cut->searched < cut->bytes) {
		size_t at = cut->searched;
		const struct vac_pattern *token;

		while (at < cut->bytes && first[text[at]] == first[text[at] + 1])
			at++;
		cut->searched = at;
		if (at == cut->bytes)
			return false;
		token = longest_at(cut, at);
		cut->searched = token ? at + token->bytes : at + 1;
		if (token && accept(cut, token, at, cut->searched))
			return true;
	}
	return false;
}

bool vac_cut_next(struct vac_cut *cut, size_t *from, size_t *to, const struct vac_pattern **token)
{
	for (;;) {
		if (!cut->token && !search(cut)) {
			*from = cut->done;
			*to = cut->bytes;
			*token = NULL;
			cut->done = cut->bytes;
			return *from < *to;
		}
		*from = cut->done;
		if (cut->done < cut->token_from) {
			cut->done = cut->token_from;
			*to = cut->token_from;
			*token = NULL;
			return true;
		}
		*from = cut->token_from;
		*to = cut->token_to;
		*token = cut->token;
		cut->token = NULL;
		cut->done = *to;
		/* The space that it strips may have gone to the token before it:
		 * then nothing is left of it. */
		if (*from < *to)
			return true;
	}
}
