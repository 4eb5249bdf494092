/* find.c - see find.h. */
#include "driver/find.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATTERN_BYTES (PATH_MAX + 64)

/* The file that a handle was loaded from. */
static void name_of(void *handle, const char *fallback, char out[PATH_MAX])
{
	struct link_map *map = NULL;
	if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map && map->l_name && *map->l_name)
		fallback = map->l_name;
	snprintf(out, PATH_MAX, "%s", fallback);
}

static int try_file(const char *path, struct vac_found_library *out)
{
	out->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (out->handle) {
		name_of(out->handle, path, out->path);
		return 0;
	}
	const char *why = dlerror();
	if (!*out->refused && why && (!strchr(path, '/') || access(path, F_OK) == 0) &&
	    !strstr(why, "No such file or directory"))
		snprintf(out->refused, sizeof(out->refused), "%s", why);
	return -1;
}

/* Files that match DIR/BELOW/NAME, where DIR may hold patterns only if it is ours. */
static int try_pattern(const char *directory, const char *below, const char *name,
		       struct vac_found_library *out)
{
	char pattern[PATTERN_BYTES];
	glob_t files;
	int rc = -1;
	int length = snprintf(pattern, sizeof(pattern), "%s/%s%s", directory, below, name);
	if (length < 0 || (size_t)length >= sizeof(pattern) || glob(pattern, 0, NULL, &files) != 0)
		return -1;
	/* the last is the newest: python3.9 aside */
	for (size_t i = files.gl_pathc; rc < 0 && i > 0; i--)
		rc = try_file(files.gl_pathv[i - 1], out);
	globfree(&files);
	return rc;
}

/* Each part of a list like PATH's. */
static int each(const char *list,
		int (*fn)(const char *directory, const char *name, struct vac_found_library *out),
		const char *name, struct vac_found_library *out)
{
	char directory[PATH_MAX];
	while (list && *list) {
		size_t length = strcspn(list, ":");
		if (length > 0 && length < sizeof(directory)) {
			memcpy(directory, list, length);
			directory[length] = '\0';
			if (fn(directory, name, out) == 0)
				return 0;
		}
		list += length;
		list += *list == ':';
	}
	return -1;
}

static int try_site_packages(const char *directory, const char *name, struct vac_found_library *out)
{
	return try_pattern(directory, "nvidia/*/lib/", name, out);
}

/* A folder of libraries, a toolkit, or a site-packages. */
static int try_named(const char *directory, const char *name, struct vac_found_library *out)
{
	static const char *const below[] = {"", "lib64/", "lib/"};
	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++)
		if (try_pattern(directory, below[i], name, out) == 0)
			return 0;
	return try_site_packages(directory, name, out);
}

/* A Python environment by its root. */
static int try_environment(const char *root, const char *name, struct vac_found_library *out)
{
	static const char *const below[] = {
		"lib/python3*/site-packages/nvidia/*/lib/",
		"lib/python3*/dist-packages/nvidia/*/lib/",
		"lib/",
	};
	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++)
		if (try_pattern(root, below[i], name, out) == 0)
			return 0;
	return -1;
}

/* A directory of PATH that has a python3: its environment. */
static int try_python(const char *directory, const char *name, struct vac_found_library *out)
{
	char path[PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s/python3", directory);
	if (access(path, X_OK) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/..", directory);
	return try_environment(path, name, out);
}

static int try_toolkit(const char *name, struct vac_found_library *out)
{
	static const char *const roots[] = {"/usr/local/cuda", "/usr/local/cuda-*", "/opt/cuda"};
	static const char *const below[] = {"lib64/", "lib/", "targets/*/lib/"};
	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++)
		for (size_t k = 0; k < sizeof(below) / sizeof(below[0]); k++)
			if (try_pattern(roots[i], below[k], name, out) == 0)
				return 0;
	return -1;
}

static int try_everywhere(const char *name, enum vac_find what, struct vac_found_library *out)
{
	const char *home = getenv("HOME"), *environment;
	char path[PATH_MAX];
	if (each(getenv("VACATE_CUDA_PATH"), try_named, name, out) == 0 || try_file(name, out) == 0)
		return 0;
	if (what == VAC_FIND_DRIVER) {
		/* containers and WSL mount the driver's libraries there */
		static const char *const places[] = {"/usr/local/nvidia/lib64",
						     "/usr/local/nvidia/lib", "/usr/lib/wsl/lib"};
		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
			if (try_pattern(places[i], "", name, out) == 0)
				return 0;
		return -1;
	}
	if ((environment = getenv("VIRTUAL_ENV")) && try_environment(environment, name, out) == 0)
		return 0;
	if ((environment = getenv("CONDA_PREFIX")) && try_environment(environment, name, out) == 0)
		return 0;
	if (try_toolkit(name, out) == 0 || each(getenv("PATH"), try_python, name, out) == 0)
		return 0;
	if (home && snprintf(path, sizeof(path), "%s/.local", home) < (int)sizeof(path) &&
	    try_environment(path, name, out) == 0)
		return 0;
	return try_environment("/usr/local", name, out);
}

/* All that the functions above look at. Below a directory of VACATE_CUDA_PATH and below
 * the toolkit's root is nothing else; of a Python environment only what must be seen. */
struct telling {
	void (*add)(void *ctx, const char *directory);
	void *ctx;
};

static void tell_below(const struct telling *to, const char *root, const char *below)
{
	char path[PATTERN_BYTES];
	if (root && *root && snprintf(path, sizeof(path), "%s/%s", root, below) < PATTERN_BYTES)
		to->add(to->ctx, path);
}

static void tell_each(const struct telling *to, const char *list, const char *below)
{
	char directory[PATH_MAX], python[PATH_MAX + 16];
	for (; list && *list; list += *list == ':') {
		size_t length = strcspn(list, ":");
		if (length > 0 && length < sizeof(directory)) {
			memcpy(directory, list, length);
			directory[length] = '\0';
			snprintf(python, sizeof(python), "%s/python3", directory);
			if (!*below)
				to->add(to->ctx, directory);
			else if (access(python, X_OK) == 0)
				tell_below(to, directory, below);
		}
		list += length;
	}
}

void vac_find_places(void (*add)(void *ctx, const char *directory), void *ctx)
{
	static const char *const fixed[] = {"/usr/local/nvidia", "/usr/lib/wsl", "/opt/cuda",
					    "/usr/local/lib"};
	const struct telling to = {add, ctx};
	glob_t roots;
	tell_each(&to, getenv("VACATE_CUDA_PATH"), "");
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		add(ctx, fixed[i]);
	if (glob("/usr/local/cuda*", 0, NULL, &roots) == 0) {
		for (size_t i = 0; i < roots.gl_pathc; i++)
			add(ctx, roots.gl_pathv[i]);
		globfree(&roots);
	}
	tell_below(&to, getenv("VIRTUAL_ENV"), "lib");
	tell_below(&to, getenv("CONDA_PREFIX"), "lib");
	tell_each(&to, getenv("PATH"), "../lib");
	tell_below(&to, getenv("HOME"), ".local/lib");
}

int vac_find_library(const char *const *names, size_t count, enum vac_find what,
		     struct vac_found_library *out)
{
	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < count; i++)
		if (try_everywhere(names[i], what, out) == 0)
			return 0;
	return -1;
}

int vac_find_symbols(const struct vac_found_library *library, const struct vac_symbol *symbols,
		     size_t count, void *table, struct vac_error *err)
{
	for (size_t i = 0; i < count; i++) {
		/* a function's address is an object pointer to dlsym */
		void *function = dlsym(library->handle, symbols[i].name);
		if (!function)
			return vac_fail(err, VAC_E_UNSUPPORTED,
					"%s has no %s: it is too old; install a newer one",
					library->path, symbols[i].name);
		*(void **)((char *)table + symbols[i].offset) = function;
	}
	return 0;
}

void vac_find_optional(const struct vac_found_library *library, const struct vac_symbol *symbols,
		       size_t count, void *table)
{
	for (size_t i = 0; i < count; i++)
		*(void **)((char *)table + symbols[i].offset) =
			dlsym(library->handle, symbols[i].name);
}

int vac_library_load_toolkit(struct vac_library *library, const struct vac_toolkit_library *from,
			     int cuda_major, struct vac_error *err)
{
	size_t skip = cuda_major < 13;
	if (!library->found.handle &&
	    vac_find_library(from->names + skip, 2 - skip, VAC_FIND_TOOLKIT, &library->found) < 0)
		return vac_fail(err, VAC_E_NOT_FOUND,
				"%s: pip install %s%s, or install the CUDA toolkit, or set "
				"VACATE_CUDA_PATH%s%s",
				from->missing, from->wheel, cuda_major < 13 ? "-cu12" : "",
				*library->found.refused ? "; " : "", library->found.refused);
	return vac_find_symbols(&library->found, from->symbols, from->symbol_count, library->table,
				err);
}

int vac_library_get(struct vac_library *library, int cuda_major, const void **out,
		    struct vac_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&library->lock);
	if (!library->injected && !library->loaded) {
		rc = library->load(library, cuda_major, err);
		library->loaded = rc == 0;
	}
	if (rc == 0)
		*out = library->injected ? library->injected : library->table;
	pthread_mutex_unlock(&library->lock);
	return rc;
}

void vac_library_inject(struct vac_library *library, const void *table)
{
	pthread_mutex_lock(&library->lock);
	library->injected = table;
	pthread_mutex_unlock(&library->lock);
}

const char *vac_library_path(const struct vac_library *library)
{
	return library->loaded && !library->injected ? library->found.path : NULL;
}
