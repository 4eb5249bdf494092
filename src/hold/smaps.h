/*
 * smaps.h - what a process's memory is made of, from the text of /proc/PID/smaps.
 * A function of text; nothing is allocated. One struct a thread.
 */
#ifndef VAC_HOLD_SMAPS_H
#define VAC_HOLD_SMAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vac_smaps_group {
	VAC_SMAPS_ANONYMOUS, /* private, of no file: large blocks of malloc, thread stacks */
	VAC_SMAPS_HEAP,      /* [heap], by brk: small blocks of malloc */
	VAC_SMAPS_STACK,     /* of the first thread */
	VAC_SMAPS_FILE,      /* programs, libraries, files */
	VAC_SMAPS_WEIGHTS,   /* files of a model's weights: page cache */
	VAC_SMAPS_SHARED,    /* shared memory of no file, /dev/shm and memfd too */
	VAC_SMAPS_DRIVER,    /* /dev/nvidia*: pinned memory and the device's own */
	VAC_SMAPS_OTHER,     /* other devices, and what the kernel maps */
	VAC_SMAPS_GROUPS
};
/* "anonymous", "heap", ... */
const char *vac_smaps_group_name(enum vac_smaps_group group);

struct vac_smaps_sum {
	uint32_t mappings;
	uint64_t size_bytes; /* of addresses */
	uint64_t rss_bytes, pss_bytes;
	uint64_t private_bytes; /* clean and dirty: what would be free without the process */
	uint64_t swap_bytes;
};

enum vac_allocator { /* bits */
		     VAC_ALLOCATOR_GLIBC = 1,
		     VAC_ALLOCATOR_JEMALLOC = 2,
		     VAC_ALLOCATOR_TCMALLOC = 4,
		     VAC_ALLOCATOR_MIMALLOC = 8,
		     VAC_ALLOCATOR_MUSL = 16,
};

#define VAC_SMAPS_MOST_FILES 32
#define VAC_SMAPS_PATH_BYTES 512

struct vac_smaps_file { /* of weights */
	char path[VAC_SMAPS_PATH_BYTES];
	uint64_t size_bytes, rss_bytes; /* mapped, and of that in memory */
};

struct vac_smaps {
	struct vac_smaps_sum groups[VAC_SMAPS_GROUPS], total;
	uint32_t allocators; /* libraries that are mapped, enum vac_allocator */
	uint32_t file_count; /* more than there is room for are in their group alone */
	struct vac_smaps_file files[VAC_SMAPS_MOST_FILES];
	/* private: the mapping that the next lines are about */
	int group; /* -1: none so far */
	int file;  /* -1: of no file of weights */
};

void vac_smaps_init(struct vac_smaps *smaps);
/* Takes the whole lines at the beginning of text; returns how many bytes they have.
 * What is left, and more of the file behind it, is to come with the next call. Lines
 * that make no sense are passed over. */
size_t vac_smaps_take(struct vac_smaps *smaps, const char *text, size_t bytes);

#endif
