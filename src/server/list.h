/*
 * list.h - doubly linked lists of links that are embedded in somebody's
 * struct. A link knows its list, so that it can be dropped wherever it is.
 */
#ifndef VAC_SERVER_LIST_H
#define VAC_SERVER_LIST_H

#include <stddef.h>
#include <stdint.h>

struct vac_list;

struct vac_link {
	struct vac_list *list; /* NULL: in none */
	struct vac_link *prev, *next;
};

struct vac_list {
	struct vac_link *first, *last;
	uint32_t count;
};

/* From a pointer to an embedded member to the struct that holds it. */
#define VAC_CONTAINER(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

static inline void vac_list_drop(struct vac_link *link)
{
	struct vac_list *list = link->list;

	if (!list)
		return;
	if (link->prev)
		link->prev->next = link->next;
	else
		list->first = link->next;
	if (link->next)
		link->next->prev = link->prev;
	else
		list->last = link->prev;
	list->count--;
	*link = (struct vac_link){0};
}

/* Behind a link of the list, NULL: at its start. One that is in a list leaves it
 * first, and must not be after itself. */
static inline void vac_list_insert(struct vac_list *list, struct vac_link *after,
				   struct vac_link *link)
{
	vac_list_drop(link);
	link->list = list;
	link->prev = after;
	link->next = after ? after->next : list->first;
	if (after)
		after->next = link;
	else
		list->first = link;
	if (link->next)
		link->next->prev = link;
	else
		list->last = link;
	list->count++;
}

/* At the start. */
static inline void vac_list_prepend(struct vac_list *list, struct vac_link *link)
{
	vac_list_insert(list, NULL, link);
}

#endif
