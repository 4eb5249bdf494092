/*
 * problems.h - everything that is wrong with a configuration, collected, so
 * that all of it can be told at once. One thread.
 */
#ifndef VAC_CLI_PROBLEMS_H
#define VAC_CLI_PROBLEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

/* Of one configuration; more are counted and not kept. */
#define VAC_PROBLEMS_MOST 1000u

struct vac_problem {
	uint32_t line;       /* of the file; 0: not about the file */
	const char *message; /* one sentence, without the place; in the arena */
};

struct vac_problems {
	struct vac_arena *arena; /* of the messages; the owner's */
	struct vac_problem *items;
	size_t count, capacity;
	size_t omitted;
	bool no_memory; /* one could not be kept: nothing is known to be right */
};

void vac_problems_init(struct vac_problems *problems, struct vac_arena *arena);
void vac_problems_free(struct vac_problems *problems);
void vac_problem_add(struct vac_problems *problems, uint32_t line, const char *fmt, ...)
	VAC_PRINTF(3, 4);
/* By line; those of one line as they were found. */
void vac_problems_sort(struct vac_problems *problems);

/* The one of the candidates that the word was probably meant to be; NULL: none
 * is near. next(ctx, i) is the i-th, NULL behind the last. '-' and '_' are the
 * same. */
const char *vac_nearest(const char *word, const char *(*next)(const void *ctx, size_t i),
			const void *ctx);

#endif
