/*
 * region.h - regions and the ledger.
 *
 * region: one mapping that holds bytes of one model (or of the worker's
 * shared scratch arena). ledger: all regions of a process. A model's bytes
 * live only in regions; the ledger never estimates.
 *
 * The ledger only records. Who maps the bytes is the device: host regions
 * come from vac_host_map() below, device regions from a backend.
 * One thread at a time (the thread that owns the engine).
 */
#ifndef VAC_MEMORY_REGION_H
#define VAC_MEMORY_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The numbers travel in wire frames and never change meaning. */
enum vac_region_kind {
	VAC_REGION_WEIGHTS = 1,   /* parameters in the layout of the checkpoint */
	VAC_REGION_PACKED = 2,    /* parameters in a layout of the backend */
	VAC_REGION_TOKENIZER = 3, /* vocabulary and its tables */
	VAC_REGION_SCRATCH = 4,   /* activations; shared by the models of a worker */
	VAC_REGION_CACHE = 5,     /* key/value cache */
};
const char *vac_region_kind_name(enum vac_region_kind kind); /* "weights", ... */

#define VAC_OWNER_SHARED UINT32_C(0) /* owner of the scratch arena: no model */

struct vac_region {
	uint32_t owner; /* model id, or VAC_OWNER_SHARED */
	enum vac_region_kind kind;
	bool on_device;          /* false: host memory */
	uint64_t bytes;          /* size of the mapping, whole pages */
	void *base;              /* address (host or device) */
	struct vac_region *next; /* the ledger's list */
};

struct vac_ledger {
	struct vac_region *regions; /* owned */
	uint64_t host_bytes;        /* sum over regions with !on_device */
	uint64_t device_bytes;
	size_t count;
};

/* Whole pages for bytes (0 stays 0): what a region of that payload will measure. */
uint64_t vac_page_round(uint64_t bytes);

/* Maps and touches whole pages of zeroed private host memory (so that planned
 * bytes are resident bytes), with transparent huge pages where the system
 * offers them by madvise and the size is worth it. bytes is rounded up with
 * vac_page_round. The pages before and after it are inaccessible. NULL when
 * the system refuses, and for 0 bytes. */
void *vac_host_map(uint64_t bytes);
/* bytes as given to vac_host_map; NULL is fine. */
void vac_host_unmap(void *base, uint64_t bytes);

/* Records a mapping of already rounded bytes; the entry lives until
 * vac_ledger_remove. NULL when out of memory. */
struct vac_region *vac_ledger_add(struct vac_ledger *ledger, uint32_t owner,
				  enum vac_region_kind kind, bool on_device, void *base,
				  uint64_t bytes);
void vac_ledger_remove(struct vac_ledger *ledger, struct vac_region *region);
/* Bytes of one owner, host and device together. */
uint64_t vac_ledger_owner_bytes(const struct vac_ledger *ledger, uint32_t owner);

#endif
