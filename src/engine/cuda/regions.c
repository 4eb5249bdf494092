/*
 * regions.c - device memory by virtual memory management: each region is one
 * physical allocation, mapped at an address of its own. What is unmapped is back
 * with the driver at once and to the byte; cuMemAlloc would keep some of it for
 * the next allocation. On the engine's thread, in the context.
 */
#include <inttypes.h>

#include "engine/cuda/backend.h"

uint64_t vac_cuda_region_bytes(const struct vac_compute *c, uint64_t payload_bytes)
{
	(void)c;
	if (payload_bytes > UINT64_MAX - VAC_CUDA_GRANULE_BYTES)
		return UINT64_MAX / VAC_CUDA_GRANULE_BYTES * VAC_CUDA_GRANULE_BYTES;
	return (payload_bytes + VAC_CUDA_GRANULE_BYTES - 1) / VAC_CUDA_GRANULE_BYTES *
	       VAC_CUDA_GRANULE_BYTES;
}

/* A result of the driver. */
static int map(struct vac_compute *c, uint64_t bytes, void **out)
{
	const struct vac_cuda *cuda = c->cuda;
	const struct vac_cu_allocation properties = {
		.type = VAC_CU_ALLOCATION_PINNED,
		.location = {.type = VAC_CU_LOCATION_DEVICE, .id = c->device},
	};
	const struct vac_cu_access access = {
		.location = properties.location,
		.flags = VAC_CU_ACCESS_READWRITE,
	};
	vac_cu_address at;
	vac_cu_memory memory;
	int rc = cuda->mem_reserve(&at, bytes, 0, 0, 0);
	if (rc != VAC_CU_OK)
		return rc;
	rc = cuda->mem_create(&memory, bytes, &properties, 0);
	if (rc != VAC_CU_OK)
		goto free_address;
	rc = cuda->mem_map(at, bytes, 0, memory, 0);
	/* the mapping holds the memory from here on, or nobody does */
	cuda->mem_release(memory);
	if (rc != VAC_CU_OK)
		goto free_address;
	rc = cuda->mem_set_access(at, bytes, &access, 1);
	if (rc == VAC_CU_OK) {
		*out = (void *)(uintptr_t)at;
		return rc;
	}
	cuda->mem_unmap(at, bytes);
free_address:
	cuda->mem_address_free(at, bytes);
	return rc;
}

int vac_cuda_map(struct vac_compute *c, uint64_t bytes, void **out, struct vac_error *err)
{
	int rc = vac_cuda_claim(c, err);
	if (rc != 0)
		return rc;
	int result = map(c, bytes, out);
	vac_cuda_yield(c);
	vac_cuda_claim_warn(c);
	/* A GPU that is lost has no want of room, and nothing is gained by waiting for some. */
	if (result == VAC_CU_OUT_OF_MEMORY)
		return vac_fail(err, VAC_E_NO_ROOM, "cuda:%u has no room for %" PRIu64 " bytes",
				c->ordinal, bytes);
	return result == VAC_CU_OK ? 0 : vac_cuda_fail(c->cuda, err, result, "mapping a region");
}

void vac_cuda_unmap(struct vac_compute *c, void *base, uint64_t bytes)
{
	vac_cu_address at = (uintptr_t)base;
	/* what was asked before may still be writing there */
	vac_cuda_note(c, c->cuda->stream_synchronize(c->stream), "waiting for the GPU");
	vac_cuda_note(c, c->cuda->mem_unmap(at, bytes), "unmapping a region");
	vac_cuda_note(c, c->cuda->mem_address_free(at, bytes), "freeing a region's addresses");
}
