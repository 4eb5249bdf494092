/* problems.c - what is wrong with a configuration. One thread. */
#include "cli/problems.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Words that are longer are near to nothing. */
#define WORD_BYTES 40u

void vac_problems_init(struct vac_problems *problems, struct vac_arena *arena)
{
	*problems = (struct vac_problems){.arena = arena};
}

void vac_problems_free(struct vac_problems *problems)
{
	free(problems->items);
	*problems = (struct vac_problems){0};
}

static bool grow(struct vac_problems *problems)
{
	size_t capacity = problems->capacity ? problems->capacity * 2 : 8;
	void *grown;

	if (problems->count < problems->capacity)
		return true;
	grown = realloc(problems->items, capacity * sizeof(problems->items[0]));
	if (!grown)
		return false;
	problems->items = grown;
	problems->capacity = capacity;
	return true;
}

void vac_problem_add(struct vac_problems *problems, uint32_t line, const char *fmt, ...)
{
	char text[512];
	const char *kept;
	va_list ap;

	if (problems->count == VAC_PROBLEMS_MOST) {
		problems->omitted++;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	kept = vac_arena_strndup(problems->arena, text, strlen(text));
	if (!kept || !grow(problems)) {
		problems->no_memory = true;
		return;
	}
	problems->items[problems->count++] = (struct vac_problem){.line = line, .message = kept};
}

/* Few, and nearly in order: those of the lines, then those of their meaning. */
void vac_problems_sort(struct vac_problems *problems)
{
	for (size_t i = 1; i < problems->count; i++) {
		struct vac_problem item = problems->items[i];
		size_t at = i;

		for (; at > 0 && problems->items[at - 1].line > item.line; at--)
			problems->items[at] = problems->items[at - 1];
		problems->items[at] = item;
	}
}

static char folded(char c)
{
	return c == '_' ? '-' : c;
}

/* Insertions, removals and replacements that make one word the other; both are
 * at most WORD_BYTES long. */
static size_t distance(const char *a, const char *b)
{
	size_t row[WORD_BYTES + 1], width = strlen(b);

	for (size_t j = 0; j <= width; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t corner = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < width; j++) {
			size_t best = corner + (folded(a[i]) != folded(b[j]));

			corner = row[j + 1];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (corner + 1 < best)
				best = corner + 1;
			row[j + 1] = best;
		}
	}
	return row[width];
}

const char *vac_nearest(const char *word, const char *(*next)(const void *ctx, size_t i),
			const void *ctx)
{
	/* A third of the word may be wrong, at most three letters. */
	size_t length = strlen(word), most = length / 3 < 3 ? (length + 2) / 3 : 3;
	const char *nearest = NULL, *candidate;

	if (length > WORD_BYTES)
		return NULL;
	for (size_t i = 0; (candidate = next(ctx, i)); i++) {
		size_t away;

		if (strlen(candidate) > WORD_BYTES)
			continue;
		away = distance(word, candidate);
		if (away <= most) {
			nearest = candidate;
			if (away == 0)
				break;
			most = away - 1;
		}
	}
	return nearest;
}
