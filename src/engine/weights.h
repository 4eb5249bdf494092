/*
 * weights.h - what of a checkpoint goes where, and the reading of it.
 *
 * An architecture names its tensors once, with the shape that it expects; that
 * lays out two regions (weights as they are, and packed products), and later
 * the same list is worked off in steps. So the plan and the load cannot
 * disagree. Used by architectures and by model.c, on the engine's thread.
 */
#ifndef VAC_ENGINE_WEIGHTS_H
#define VAC_ENGINE_WEIGHTS_H

#include "base/arena.h"
#include "engine/compute.h"
#include "format/safetensors.h"
#include "memory/plan.h"

/* Fused products are at most q, k and v. */
#define VAC_PIECE_PARTS 3

/* Tensors that lie one after the other at one place of one region. */
struct vac_piece {
	struct vac_piece *next;
	const struct vac_safetensors *files;
	const struct vac_tensor *parts[VAC_PIECE_PARTS];
	uint32_t part_count;
	const struct vac_linear *linear; /* NULL: elements as they are */
	uint64_t offset;                 /* in its region */
	uint64_t elements;               /* all parts together */
	const void **slot;               /* set to the address once it is mapped */
};

struct vac_weights {
	const struct vac_backend *backend;
	struct vac_compute *compute;
	uint32_t element_bytes;
	struct vac_arena arena; /* of the pieces */
	struct vac_piece *first, **last;
	uint64_t plain_bytes, packed_bytes; /* payload of the two regions */
	uint64_t largest_linear_bytes;      /* floats of the largest product */
	bool converts;                      /* some tensor is not F32 */
	uint64_t total_bytes, done_bytes;   /* of the checkpoint's tensors in use */
	/* while loading */
	uint8_t *plain, *packed; /* regions */
	uint8_t *staging;        /* the load arena */
	uint64_t staging_bytes;
	bool fetching;        /* a device's fetch_begin was called */
	struct vac_piece *at; /* next to do */
	uint64_t at_elements; /* of it that are done */
	int64_t read_ns, pack_ns;
};

/* dtype: of an element. */
void vac_weights_init(struct vac_weights *w, const struct vac_backend *backend,
		      struct vac_compute *compute, enum vac_dtype dtype);
/* Drops the list and the staging; the regions are their owner's. */
void vac_weights_free(struct vac_weights *w);

/* names: part_count tensors of shape [rows x columns] each (columns 0: one
 * dimension). They are put below each other. A missing tensor or another
 * shape is VAC_E_CORRUPT with the tensor, what is expected, what was found and
 * the file. Each name may have alternatives: "a|b". */
int vac_weights_add(struct vac_weights *w, const struct vac_safetensors *files,
		    const char *const *names, uint32_t part_count, uint64_t rows, uint64_t columns,
		    const void **slot, struct vac_error *err) VAC_MUST_CHECK;
/* The same for the [out x in] weight of a product, packed. */
int vac_weights_add_linear(struct vac_weights *w, const struct vac_safetensors *files,
			   const char *const *names, uint32_t part_count,
			   const struct vac_linear *linear, uint64_t rows, uint64_t columns,
			   const void **slot, struct vac_error *err) VAC_MUST_CHECK;

/* Host bytes that the steps hold beside the regions. */
uint64_t vac_weights_staging_bytes(const struct vac_weights *w);
/* Sets every slot and maps the staging; regions are mapped. */
int vac_weights_begin(struct vac_weights *w, void *plain, void *packed,
		      struct vac_error *err) VAC_MUST_CHECK;
/* Reads (and packs) one piece, or 8 MiB of a large table or of small pieces on
 * their way to a device. 1: more, 0: done. */
int vac_weights_step(struct vac_weights *w, struct vac_error *err) VAC_MUST_CHECK;

#endif
