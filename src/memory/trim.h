/*
 * trim.h - asks every allocator that is present in this process to give its
 * free memory back: glibc malloc_trim, jemalloc mallctl("arena.4096.purge"),
 * tcmalloc MallocExtension_ReleaseFreeMemory, mimalloc mi_collect, macOS
 * malloc_zone_pressure_relief. Each is found with dlsym at run time; each one
 * that resolves is called. Any thread.
 */
#ifndef VAC_MEMORY_TRIM_H
#define VAC_MEMORY_TRIM_H

#include <stdint.h>

enum vac_allocator {
	VAC_ALLOCATOR_GLIBC = 1 << 0,
	VAC_ALLOCATOR_JEMALLOC = 1 << 1,
	VAC_ALLOCATOR_TCMALLOC = 1 << 2,
	VAC_ALLOCATOR_MIMALLOC = 1 << 3,
	VAC_ALLOCATOR_MACOS = 1 << 4,
};
/* Returns a mask of the allocators that were called. */
uint32_t vac_trim(void);

#endif
