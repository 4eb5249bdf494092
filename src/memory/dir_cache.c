/* dir_cache.c - the page cache of a model's files together. Any thread. */
#include "memory/meter.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

static bool ends_in(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n >= m && strcmp(name + n - m, suffix) == 0;
}

static int one_file(const char *path, bool drop, uint64_t *cached_bytes, bool *dropped,
		    struct vac_error *err)
{
	uint64_t bytes;
	int rc;

	if (drop && vac_drop_page_cache(path, NULL) < 0)
		*dropped = false;
	rc = vac_meter_page_cache(path, &bytes, err);
	if (rc == 0)
		*cached_bytes += bytes;
	return rc;
}

int vac_meter_dir_cache(const char *dir, const char *suffix, bool drop, uint64_t *cached_bytes,
			bool *dropped, struct vac_error *err)
{
	DIR *stream = opendir(dir);
	struct dirent *entry;
	int rc = 0, error = 0;

	if (!stream)
		return vac_fail_errno(err, errno, "%s: cannot list", dir);
	*cached_bytes = 0;
	*dropped = drop;
	while (rc == 0 && (entry = vac_next_entry(stream, &error))) {
		char *path;

		if (!ends_in(entry->d_name, suffix))
			continue;
		path = vac_path_join(dir, entry->d_name);
		rc = path ? one_file(path, drop, cached_bytes, dropped, err)
			  : vac_fail_nomem(err, "a path", strlen(dir));
		free(path);
	}
	closedir(stream);
	if (rc == 0 && error)
		rc = vac_fail_errno(err, error, "%s: cannot list", dir);
	return rc;
}
