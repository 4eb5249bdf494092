/*
 * transfer.c - what goes to the GPU with a batch and comes back, and when it is there. All
 * calls go into one stream: a batch may be asked for while another is computed, and
 * neither sees the other's. On the engine's thread, in the context.
 */
#include "engine/cuda/backend.h"
#include "memory/region.h"

int vac_cuda_host_map(struct vac_compute *c, uint64_t bytes, void **out, struct vac_error *err)
{
	void *base = vac_host_map(bytes);
	if (!base)
		return vac_fail_nomem(err, "a batch on its way to the GPU", bytes);
	int result = c->cuda->host_register(base, bytes, 0);
	if (result != VAC_CU_OK) {
		vac_host_unmap(base, bytes);
		return vac_cuda_fail(c->cuda, err, result, "pinning memory for batches");
	}
	*out = base;
	return 0;
}

void vac_cuda_host_unmap(struct vac_compute *c, void *base, uint64_t bytes)
{
	/* what of it is left goes with the context */
	c->cuda->host_unregister(base);
	vac_host_unmap(base, bytes);
}

void vac_cuda_upload(struct vac_compute *c, void *to, const void *from, size_t bytes)
{
	vac_cuda_note(c, c->cuda->upload((uintptr_t)to, from, bytes, c->stream),
		      "copying to the GPU");
}

void vac_cuda_download(struct vac_compute *c, void *to, const void *from, size_t bytes)
{
	vac_cuda_note(c, c->cuda->download(to, (uintptr_t)from, bytes, c->stream),
		      "copying from the GPU");
}

/* The first failure since it was asked for last. What ended the context stays: everything
 * after it fails as well. */
int vac_cuda_failed(struct vac_compute *c, struct vac_error *err)
{
	int rc = c->failure;
	if (rc < 0 && err)
		*err = c->error;
	if (rc < 0 && c->error.code != VAC_E_GONE)
		c->failure = 0;
	return rc;
}

int vac_cuda_synchronize(struct vac_compute *c, struct vac_error *err)
{
	vac_cuda_note(c, c->cuda->stream_synchronize(c->stream), "computing a batch");
	return vac_cuda_failed(c, err);
}

int vac_cuda_mark(struct vac_compute *c, uint32_t number, struct vac_error *err)
{
	struct CUevent_st **mark = &c->marks[number];
	if (!*mark)
		vac_cuda_note(c, c->cuda->event_create(mark, VAC_CU_EVENT_DISABLE_TIMING),
			      "marking a batch");
	if (c->failure == 0)
		vac_cuda_note(c, c->cuda->event_record(*mark, c->stream), "computing a batch");
	return vac_cuda_failed(c, err);
}

int vac_cuda_reached(struct vac_compute *c, uint32_t number, bool wait, struct vac_error *err)
{
	if (c->failure == 0) {
		int result = wait ? c->cuda->event_synchronize(c->marks[number])
				  : c->cuda->event_query(c->marks[number]);
		if (result == VAC_CU_NOT_READY)
			return 1;
		vac_cuda_note(c, result, "computing a batch");
	}
	return vac_cuda_failed(c, err);
}

void vac_cuda_marks_close(struct vac_compute *c)
{
	for (uint32_t i = 0; i < VAC_MARKS; i++) {
		if (c->marks[i])
			c->cuda->event_destroy(c->marks[i]);
		c->marks[i] = NULL;
	}
}
