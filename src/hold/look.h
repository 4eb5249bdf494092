/*
 * look.h - one process in full: what its memory is made of, what it has open of the
 * driver, and what could be had back of it, by which command. Any thread.
 */
#ifndef VAC_HOLD_LOOK_H
#define VAC_HOLD_LOOK_H

#include "base/error.h"
#include "hold/proc.h"
#include "hold/smaps.h"

#define VAC_LOOK_COMMAND_BYTES 1024
#define VAC_LOOK_MOST_REMEDIES 6

struct vac_look {
	struct vac_proc proc;
	char command[VAC_LOOK_COMMAND_BYTES]; /* its arguments, blanks between them; "" */
	int smaps_error;                      /* 0, or the errno that kept smaps from us */
	struct vac_smaps smaps;
	/* Page cache of each file of weights, whoever brought it there. */
	bool cached_valid[VAC_SMAPS_MOST_FILES];
	uint64_t cached_bytes[VAC_SMAPS_MOST_FILES];
	int nvidia_error; /* the same for its open files */
	struct vac_proc_nvidia nvidia;
};

/* VAC_E_NOT_FOUND: no such process. What may not be read is marked, and no error. */
int vac_look_at(const char *root, pid_t pid, struct vac_look *out,
		struct vac_error *err) VAC_MUST_CHECK;

struct vac_remedy {
	uint64_t bytes;
	bool at_most;       /* how much it will be is known to the process alone */
	bool vram;          /* of a device; else of RAM */
	char command[192];  /* to type, or to call in the process */
	const char *remark; /* what it costs, when it helps */
};
/* vram_bytes: what it has on all devices, 0: nothing, or not known; parked: it has been.
 * Returns how many there are, the largest first. */
size_t vac_look_remedies(const struct vac_look *look, uint64_t vram_bytes, bool parked,
			 struct vac_remedy out[VAC_LOOK_MOST_REMEDIES]);

/* "glibc", "jemalloc and glibc"; "not known". */
const char *vac_allocators_text(uint32_t allocators, char text[64]);

#define VAC_GPUS_TEXT_BYTES 384 /* of all 32 */
/* ", nvidia0, nvidia3" of vac_proc_nvidia's gpus. */
const char *vac_gpus_text(uint32_t gpus, char text[VAC_GPUS_TEXT_BYTES]);

#endif
