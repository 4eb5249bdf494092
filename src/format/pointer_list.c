/* pointer_list.c - a list of pointers in an arena, and its sort. One owner. */
#include <string.h>

#include "format/safetensors_private.h"

int vac_pointer_list_add(struct pointer_list *list, struct vac_arena *arena, void *item,
			 struct vac_error *err)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 256;
		size_t bytes = capacity * sizeof(list->items[0]);
		void **grown = vac_arena_alloc(arena, bytes);

		if (!grown)
			return vac_fail_nomem(err, "a list of tensors", bytes);
		if (list->count)
			memcpy(grown, list->items, list->count * sizeof(list->items[0]));
		list->items = grown;
		list->capacity = capacity;
	}
	list->items[list->count++] = item;
	return 0;
}

/* Merges the sorted runs from[0..middle) and from[middle..count) into to. */
static void merge(void **to, void **from, size_t middle, size_t count,
		  int (*compare)(const void *a, const void *b))
{
	size_t left = 0, right = middle, at = 0;

	while (left < middle && right < count)
		to[at++] = compare(from[left], from[right]) <= 0 ? from[left++] : from[right++];
	while (left < middle)
		to[at++] = from[left++];
	while (right < count)
		to[at++] = from[right++];
}

int vac_pointer_list_sort(struct pointer_list *list, size_t from,
			  int (*compare)(const void *a, const void *b), struct vac_arena *arena,
			  struct vac_error *err)
{
	size_t count = list->count - from, sorted = 1;
	void **items, **other, **swap;

	if (count < 2)
		return 0;
	items = list->items + from;
	while (sorted < count && compare(items[sorted - 1], items[sorted]) <= 0)
		sorted++;
	if (sorted >= count)
		return 0;
	other = vac_arena_alloc(arena, count * sizeof(items[0]));
	if (!other)
		return vac_fail_nomem(err, "sorting tensors", count * sizeof(items[0]));
	for (size_t run = 1; run < count; run *= 2) {
		for (size_t at = 0; at < count; at += 2 * run) {
			size_t rest = count - at;

			merge(other + at, items + at, rest < run ? rest : run,
			      rest < 2 * run ? rest : 2 * run, compare);
		}
		swap = items;
		items = other;
		other = swap;
	}
	if (items != list->items + from)
		memcpy(list->items + from, items, count * sizeof(items[0]));
	return 0;
}
