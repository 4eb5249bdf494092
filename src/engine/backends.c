/*
 * backends.c - finds a backend by name: the reference is built in, the others
 * are modules (libvacate-NAME.so) that are loaded when first asked for and
 * stay: their thread teams cannot be taken down safely. On the engine's thread.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/compute.h"

#ifndef VAC_BACKEND_DIR
#define VAC_BACKEND_DIR "/usr/local/lib/vacate"
#endif
#ifndef VAC_LIBDIR
#define VAC_LIBDIR "lib"
#endif

/* Where the search went so far, for the message when nothing is found. */
struct search {
	const char *name;
	void *module;
	char looked[256];  /* directories */
	char refused[256]; /* dlerror of a file that is there and does not load */
};

static void try_directory(struct search *s, const char *directory, const char *below)
{
	char path[PATH_MAX];
	size_t used = strlen(s->looked);
	if (s->module || !directory || !*directory)
		return;
	int length =
		snprintf(path, sizeof(path), "%s%s/libvacate-%s.so", directory, below, s->name);
	if (length < 0 || (size_t)length >= sizeof(path))
		return;
	snprintf(s->looked + used, sizeof(s->looked) - used, "%s%s%s", used ? ", " : "", directory,
		 below);
	if (access(path, R_OK) != 0)
		return;
	s->module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	const char *why = s->module ? NULL : dlerror();
	if (why && !*s->refused)
		snprintf(s->refused, sizeof(s->refused), "%s", why);
}

/* The directory that holds a file, and the places relative to it. */
static void try_around(struct search *s, const char *file)
{
	char directory[PATH_MAX];
	snprintf(directory, sizeof(directory), "%s", file);
	char *slash = strrchr(directory, '/');
	if (!slash)
		return;
	*slash = '\0';
	try_directory(s, directory, "");
	try_directory(s, directory, "/vacate");
	try_directory(s, directory, "/../lib/vacate");
	/* an installation that was moved: from libexec/vacate and from bin */
	try_directory(s, directory, "/../../" VAC_LIBDIR "/vacate");
	try_directory(s, directory, "/../" VAC_LIBDIR "/vacate");
}

static void search(struct search *s)
{
	char executable[PATH_MAX];
	Dl_info self;
	try_directory(s, getenv("VACATE_BACKEND_PATH"), "");
	ssize_t length = readlink("/proc/self/exe", executable, sizeof(executable) - 1);
	if (length > 0) {
		executable[length] = '\0';
		try_around(s, executable);
	}
	/* the engine may lie in a shared library of its own */
	if (dladdr((const void *)(uintptr_t)vac_backend_find, &self) && self.dli_fname)
		try_around(s, self.dli_fname);
	try_directory(s, VAC_BACKEND_DIR, "");
}

int vac_backend_find(const char *name, const struct vac_backend **out, struct vac_error *err)
{
	char symbol[64];
	struct search s = {.name = name};
	if (strcmp(name, vac_backend_reference.name) == 0) {
		*out = &vac_backend_reference;
		return 0;
	}
	/* the name becomes part of a path */
	if (!*name || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") != strlen(name) ||
	    strlen(name) > 16)
		return vac_fail(err, VAC_E_INVALID,
				"backend \"%.32s\" is not a name of small letters and digits",
				name);
	snprintf(symbol, sizeof(symbol), "vac_backend_%s", name);
	*out = dlsym(RTLD_DEFAULT, symbol);
	if (*out)
		return 0;
	search(&s);
	if (!s.module && *s.refused)
		return vac_fail(err, VAC_E_NOT_FOUND, "backend %s does not load: %s", name,
				s.refused);
	if (!s.module)
		return vac_fail(err, VAC_E_NOT_FOUND,
				"backend %s: no libvacate-%s.so in %s; set VACATE_BACKEND_PATH to "
				"its directory",
				name, name, s.looked);
	*out = dlsym(s.module, symbol);
	if (!*out)
		return vac_fail(err, VAC_E_INTERNAL, "libvacate-%s.so does not export %s", name,
				symbol);
	return 0;
}
