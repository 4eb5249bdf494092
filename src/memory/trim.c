/*
 * trim.c - gives the allocators' free memory back to the system. Any thread.
 *
 * An allocator that was preloaded replaces malloc without our knowing, so
 * each one is looked up by the name of its function, every time: a library
 * that brings its own may have been loaded since.
 */
#include "memory/trim.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* ISO C has no conversion from dlsym's pointer to a function pointer; POSIX
 * promises that the bytes are the same. */
#define LOOK_UP(function, name)                                                                    \
	do {                                                                                       \
		void *symbol_ = dlsym(RTLD_DEFAULT, name);                                         \
		memcpy(&(function), &symbol_, sizeof(function));                                   \
	} while (0)

static bool trim_glibc(void)
{
	int (*malloc_trim)(size_t);

	LOOK_UP(malloc_trim, "malloc_trim");
	if (!malloc_trim)
		return false;
	malloc_trim(0);
	return true;
}

static bool trim_jemalloc(void)
{
	int (*mallctl)(const char *, void *, size_t *, void *, size_t);

	LOOK_UP(mallctl, "mallctl");
	if (!mallctl)
		LOOK_UP(mallctl, "je_mallctl"); /* built with its usual prefix */
	if (!mallctl)
		return false;
	/* This thread's cache first: what it holds is not free to the arenas. */
	mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	mallctl("arena.4096.purge", NULL, NULL, NULL, 0); /* 4096: MALLCTL_ARENAS_ALL */
	return true;
}

static bool trim_tcmalloc(void)
{
	void (*release)(void);

	LOOK_UP(release, "MallocExtension_ReleaseFreeMemory");
	if (!release)
		return false;
	release();
	return true;
}

static bool trim_mimalloc(void)
{
	void (*collect)(bool);

	LOOK_UP(collect, "mi_collect");
	if (!collect)
		return false;
	collect(true);
	return true;
}

static bool trim_macos(void)
{
	size_t (*relieve)(void *, size_t);

	LOOK_UP(relieve, "malloc_zone_pressure_relief");
	if (!relieve)
		return false;
	relieve(NULL, 0); /* all zones, as much as there is */
	return true;
}

uint32_t vac_trim(void)
{
	static const struct {
		enum vac_allocator allocator;
		bool (*trim)(void);
	} table[] = {
		{VAC_ALLOCATOR_GLIBC, trim_glibc},       {VAC_ALLOCATOR_JEMALLOC, trim_jemalloc},
		{VAC_ALLOCATOR_TCMALLOC, trim_tcmalloc}, {VAC_ALLOCATOR_MIMALLOC, trim_mimalloc},
		{VAC_ALLOCATOR_MACOS, trim_macos},
	};
	uint32_t called = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].trim())
			called |= table[i].allocator;
	}
	return called;
}
