/* temp_dir.c - files that a test makes for itself. One thread. */
#include "temp_dir.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[PATH_MAX];

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	abort();
}

const char *temp_dir_make(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(root, sizeof(root), "%s/vacate-test-XXXXXX", tmp ? tmp : "/tmp");
	must(mkdtemp(root) != NULL, root);
	return root;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void temp_dir_remove(void)
{
	must(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, root);
}

const char *temp_path(const char *name)
{
	static char paths[8][PATH_MAX * 2];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

/* Makes the directories that path's last component lies in. */
static void make_parents(const char *path)
{
	char copy[PATH_MAX * 2];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *at = copy + strlen(root) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		must(mkdir(copy, 0700) == 0 || errno == EEXIST, copy);
		*at = '/';
	}
}

void temp_write(const char *name, const void *data, size_t bytes)
{
	const char *path = temp_path(name);
	FILE *file;

	make_parents(path);
	file = fopen(path, "wb");
	must(file != NULL, path);
	must(fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0, path);
}

void temp_text(const char *name, const char *text)
{
	temp_write(name, text, strlen(text));
}

void temp_mkdir(const char *name)
{
	const char *path = temp_path(name);

	make_parents(path);
	must(mkdir(path, 0700) == 0, path);
}

void temp_symlink(const char *target, const char *name)
{
	const char *path = temp_path(name);

	make_parents(path);
	must(symlink(target, path) == 0, path);
}

void temp_unlink(const char *name)
{
	must(remove(temp_path(name)) == 0, name);
}

int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	must(dir != NULL, "/proc/self/fd");
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}
