/*
 * normalize.c - the normalizers, one step after the other over an array of
 * code points. A scratch belongs to one thread at a time.
 */
#include "text/normalize.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/unicode.h"

/* Longer runs of combining marks than this are sorted by counting, so that a
 * text of nothing but marks takes no quadratic time. */
#define SHORT_RUN 32

struct vac_encode_scratch *vac_encode_scratch_new(void)
{
	return calloc(1, sizeof(struct vac_encode_scratch));
}

void vac_encode_scratch_free(struct vac_encode_scratch *scratch)
{
	if (!scratch)
		return;
	vac_buf_free(&scratch->normal);
	vac_buf_free(&scratch->codes[0]);
	vac_buf_free(&scratch->codes[1]);
	vac_buf_free(&scratch->hashes);
	vac_buf_free(&scratch->ids);
	vac_buf_free(&scratch->types);
	free(scratch);
}

static uint32_t *codes_of(const struct vac_buf *buf)
{
	return (uint32_t *)(void *)buf->data;
}

/* Empties buf and makes room for count code points; NULL when out of memory. */
static uint32_t *room_for(struct vac_buf *buf, size_t count)
{
	vac_buf_reset(buf);
	return vac_buf_reserve(buf, (count ? count : 1) * sizeof(uint32_t));
}

static size_t clean(uint32_t *codes, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		uint8_t flags = vac_char_flags(codes[i]);

		if (flags & VAC_CHAR_REMOVED)
			continue;
		codes[kept++] = flags & VAC_CHAR_SPACE ? ' ' : codes[i];
	}
	return kept;
}

static size_t drop(uint32_t *codes, size_t count, uint8_t flag)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		if (!(vac_char_flags(codes[i]) & flag))
			codes[kept++] = codes[i];
	}
	return kept;
}

/* Steps that lengthen the text write into the other buffer. */
static size_t space_cjk(const uint32_t *from, size_t count, uint32_t *to)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		bool cjk = vac_char_is_cjk(from[i]);

		if (cjk)
			to[n++] = ' ';
		to[n++] = from[i];
		if (cjk)
			to[n++] = ' ';
	}
	return n;
}

static size_t lower(const uint32_t *from, size_t count, uint32_t *to)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += vac_char_lower(from[i], to + n);
	return n;
}

/* Sorts a long run of combining marks by class, equal ones in their order. */
static void sort_long_run(uint32_t *run, size_t count, uint32_t *spare)
{
	size_t starts[256] = {0}, sum = 0;

	for (size_t i = 0; i < count; i++)
		starts[vac_char_class(run[i])]++;
	for (size_t k = 0; k < 256; k++) {
		size_t n = starts[k];

		starts[k] = sum;
		sum += n;
	}
	for (size_t i = 0; i < count; i++)
		spare[starts[vac_char_class(run[i])]++] = run[i];
	memcpy(run, spare, count * sizeof(*run));
}

static void sort_run(uint32_t *run, size_t count, uint32_t *spare)
{
	if (count > SHORT_RUN) {
		sort_long_run(run, count, spare);
		return;
	}
	for (size_t i = 1; i < count; i++) {
		uint32_t code = run[i];
		uint8_t class = vac_char_class(code);
		size_t to = i;

		while (to > 0 && vac_char_class(run[to - 1]) > class) {
			run[to] = run[to - 1];
			to--;
		}
		run[to] = code;
	}
}

/* to has room for 2 * VAC_DECOMPOSITION_MAX * count: the second half is for sorting. */
static size_t decompose(const uint32_t *from, size_t count, uint32_t *to)
{
	uint32_t *spare = to + VAC_DECOMPOSITION_MAX * count;
	size_t n = 0, run = 0; /* marks before n that are not sorted yet */

	for (size_t i = 0; i < count; i++) {
		size_t end = n + vac_char_decompose(from[i], to + n);

		for (; n < end; n++) {
			if (vac_char_class(to[n]) != 0) {
				run++;
				continue;
			}
			if (run > 1)
				sort_run(to + n - run, run, spare);
			run = 0;
		}
	}
	if (run > 1)
		sort_run(to + n - run, run, spare);
	return n;
}

/* How many code points a step may write for one that it reads. */
static size_t growth(uint8_t step)
{
	switch (step) {
	case VAC_STEP_SPACE_CJK:
		return 3;
	case VAC_STEP_NFD:
		return (size_t)2 * VAC_DECOMPOSITION_MAX;
	case VAC_STEP_LOWERCASE:
		return VAC_LOWER_MAX;
	default:
		return 0; /* in place */
	}
}

/* Runs the steps over scratch->codes[0]; *which says where the result lies.
 * Returns its length, or SIZE_MAX when out of memory. */
static size_t run_steps(const uint8_t *steps, size_t step_count, size_t count,
			struct vac_encode_scratch *scratch, int *which)
{
	int now = 0;

	for (size_t i = 0; i < step_count; i++) {
		uint32_t *from = codes_of(&scratch->codes[now]), *to = NULL;

		if (growth(steps[i])) {
			to = room_for(&scratch->codes[1 - now], growth(steps[i]) * count);
			if (!to)
				return SIZE_MAX;
			now = 1 - now;
		}
		switch (steps[i]) {
		case VAC_STEP_CLEAN:
			count = clean(from, count);
			break;
		case VAC_STEP_SPACE_CJK:
			count = space_cjk(from, count, to);
			break;
		case VAC_STEP_NFD:
			count = decompose(from, count, to);
			break;
		case VAC_STEP_DROP_NONSPACING:
			count = drop(from, count, VAC_CHAR_NONSPACING);
			break;
		case VAC_STEP_DROP_MARKS:
			count = drop(from, count, VAC_CHAR_MARK);
			break;
		default:
			assert(steps[i] == VAC_STEP_LOWERCASE);
			count = lower(from, count, to);
		}
	}
	*which = now;
	return count;
}

int vac_normalize(const uint8_t *steps, size_t step_count, const char *text, size_t bytes,
		  struct vac_encode_scratch *scratch, struct vac_error *err)
{
	const uint8_t *at = (const uint8_t *)text, *end = at + bytes;
	uint32_t *codes = room_for(&scratch->codes[0], bytes);
	size_t count = 0, written = 0;
	uint8_t *to;
	int which;

	if (!codes)
		return vac_fail_nomem(err, "the code points of a text", bytes * sizeof(*codes));
	while (at < end) {
		size_t n = vac_utf8_decode(at, end, &codes[count++]);

		assert(n > 0);
		at += n;
	}
	count = run_steps(steps, step_count, count, scratch, &which);
	if (count == SIZE_MAX)
		return vac_fail_nomem(err, "normalizing a text", bytes * sizeof(*codes));
	vac_buf_reset(&scratch->normal);
	to = vac_buf_reserve(&scratch->normal, 4 * count + 1);
	if (!to)
		return vac_fail_nomem(err, "a normalized text", 4 * count);
	codes = codes_of(&scratch->codes[which]);
	for (size_t i = 0; i < count; i++)
		written += vac_utf8_encode(to + written, codes[i]);
	vac_buf_advance(&scratch->normal, written);
	return 0;
}
