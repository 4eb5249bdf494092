/*
 * handed.h - files that another process opened for this one.
 *
 * A worker in its sandbox may open nothing: who asks it to load a model opens
 * the model's files and hands their descriptors over with the request. While a
 * directory is registered here, vac_open_file(), vac_file_exists() and
 * vac_list_dir() of io.h answer from what was handed over for all paths below
 * it and do not ask the system; for other paths they work as ever.
 *
 * Registering and freeing happen in one thread; others may read meanwhile only
 * when they look for files of a directory that stays registered.
 */
#ifndef VAC_BASE_HANDED_H
#define VAC_BASE_HANDED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* What became of a file on the other side; also on the wire. */
enum vac_handed_state {
	VAC_HANDED_NAMED = 0,      /* it is there and was not opened */
	VAC_HANDED_OPEN = 1,       /* a descriptor was handed over */
	VAC_HANDED_SPECIAL = 2,    /* not a regular file */
	VAC_HANDED_UNREADABLE = 3, /* the permission is missing */
	VAC_HANDED_OUTSIDE = 4,    /* a link that leads out of where models lie */
};

struct vac_handed_dir;

/* Registers a directory, empty. NULL: out of memory. */
struct vac_handed_dir *vac_handed_new(const char *dir);
/* name: relative to the directory. fd: for VAC_HANDED_OPEN, taken over also
 * when this fails; else -1. 0 or -ENOMEM. */
int vac_handed_add(struct vac_handed_dir *handed, const char *name, size_t name_bytes,
		   enum vac_handed_state state, int fd) VAC_MUST_CHECK;
/* Forgets the directory and closes its descriptors; NULL is accepted. */
void vac_handed_free(struct vac_handed_dir *handed);

/* For io.c. False: the path is below no registered directory. Else *state says
 * what the path is (*there false: nothing of that name) and *fd is the
 * descriptor, still owned here. */
bool vac_handed_find(const char *path, bool *there, enum vac_handed_state *state, int *fd);
/* For io.c. False: not a registered directory. Else calls entry for each name
 * that lies directly in it. */
bool vac_handed_list(const char *dir, void (*entry)(void *ctx, const char *name), void *ctx);

#endif
