/* handed.c - see handed.h. */
#include "base/handed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

struct handed_file {
	struct handed_file *next;
	enum vac_handed_state state;
	int fd;
	char name[]; /* relative to the directory */
};

struct vac_handed_dir {
	struct vac_handed_dir *next;
	struct handed_file *files;
	size_t prefix_bytes;
	char prefix[]; /* the directory and one slash */
};

/* The newest first: it is the one that the running load looks into. A load has
 * some ten files, and a worker one load at a time. */
static struct vac_handed_dir *registered;

struct vac_handed_dir *vac_handed_new(const char *dir)
{
	size_t n = strlen(dir);
	struct vac_handed_dir *handed;

	while (n > 1 && dir[n - 1] == '/')
		n--;
	handed = calloc(1, sizeof(*handed) + n + 2);
	if (!handed)
		return NULL;
	memcpy(handed->prefix, dir, n);
	if (n > 0 && dir[n - 1] != '/')
		handed->prefix[n++] = '/';
	handed->prefix_bytes = n;
	handed->next = registered;
	registered = handed;
	return handed;
}

int vac_handed_add(struct vac_handed_dir *handed, const char *name, size_t name_bytes,
		   enum vac_handed_state state, int fd)
{
	struct handed_file *file = malloc(sizeof(*file) + name_bytes + 1);

	if (!file) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	memcpy(file->name, name, name_bytes);
	file->name[name_bytes] = '\0';
	file->state = state;
	file->fd = fd;
	file->next = handed->files;
	handed->files = file;
	return 0;
}

void vac_handed_free(struct vac_handed_dir *handed)
{
	struct vac_handed_dir **at = &registered;

	if (!handed)
		return;
	while (*at && *at != handed)
		at = &(*at)->next;
	if (*at)
		*at = handed->next;
	while (handed->files) {
		struct handed_file *file = handed->files;

		handed->files = file->next;
		if (file->fd >= 0)
			close(file->fd);
		free(file);
	}
	free(handed);
}

/* Equal but for repeated slashes and "." components, which joining paths makes. */
static bool same_name(const char *asked, const char *name)
{
	for (;;) {
		while (asked[0] == '/' || (asked[0] == '.' && asked[1] == '/'))
			asked++;
		while (*asked && *asked != '/' && *asked == *name) {
			asked++;
			name++;
		}
		if (*asked == '\0' || *name == '\0')
			return *asked == *name;
		if (*asked != '/' || *name != '/')
			return false;
		name++;
	}
}

bool vac_handed_find(const char *path, bool *there, enum vac_handed_state *state, int *fd)
{
	for (const struct vac_handed_dir *dir = registered; dir; dir = dir->next) {
		if (strncmp(path, dir->prefix, dir->prefix_bytes) != 0)
			continue;
		*there = false;
		for (const struct handed_file *f = dir->files; f && !*there; f = f->next) {
			if (!same_name(path + dir->prefix_bytes, f->name))
				continue;
			*there = true;
			*state = f->state;
			*fd = f->fd;
		}
		return true;
	}
	return false;
}

bool vac_handed_list(const char *path, void (*entry)(void *ctx, const char *name), void *ctx)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (const struct vac_handed_dir *dir = registered; dir; dir = dir->next) {
		if (dir->prefix_bytes != n + 1 || strncmp(path, dir->prefix, n) != 0)
			continue;
		for (const struct handed_file *f = dir->files; f; f = f->next) {
			if (!strchr(f->name, '/'))
				entry(ctx, f->name);
		}
		return true;
	}
	return false;
}
