/*
 * backend.c - the table of the cuda backend, exported as vac_backend_cuda by the
 * module libvacate-cuda.so. Opening and planning touch no GPU.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/cuda/backend.h"

static int cuda_open(const struct vac_compute_options *options, struct vac_compute **out,
		     struct vac_error *err)
{
	const struct vac_cuda *cuda;
	int rc = vac_cuda_load(&cuda, err);
	if (rc < 0)
		return rc;
	struct vac_compute *c = calloc(1, sizeof(*c));
	if (!c)
		return vac_fail_nomem(err, "the cuda backend", sizeof(*c));
	c->cuda = cuda;
	c->threads = options->threads;
	c->warn = options->warn;
	c->warn_ctx = options->warn_ctx;
	c->graphs.wanted = vac_cuda_graphs_wanted();
	c->ordinal = options->device;
	c->dtype = VAC_DTYPE_F16;
	c->claim.lock = VAC_LOCK_NONE;
	snprintf(c->description, sizeof(c->description), "not started");
	*out = c;
	return 0;
}

static void cuda_close(struct vac_compute *c)
{
	if (!c)
		return;
	vac_cuda_stop(c);
	free(c);
}

static const char *cuda_description(const struct vac_compute *c)
{
	return c->description;
}

static void cuda_workspace(struct vac_compute *c, void *base, uint64_t bytes)
{
	c->workspace = base;
	c->workspace_bytes = bytes;
}

static uint64_t cuda_attention_workspace(const struct vac_compute *c,
					 const struct vac_attention *attention, uint32_t longest)
{
	(void)c, (void)attention, (void)longest;
	return 0;
}

static size_t cuda_residue(const struct vac_compute *c, struct vac_residue *out, size_t capacity)
{
	size_t count = 0;
	if (c->up && count < capacity)
		out[count++] = (struct vac_residue){.name = "the CUDA context"};
	if (c->graphs.bytes && count < capacity)
		out[count++] = (struct vac_residue){
			.name = "CUDA graphs", .bytes_valid = true, .bytes = c->graphs.bytes};
	if (c->blas && count < capacity)
		out[count++] = (struct vac_residue){.name = "libcuda and cuBLASLt on the host"};
	return count;
}

static const struct vac_backend_device device = {
	.start = vac_cuda_start,
	.ready = vac_cuda_ready,
	.stop = vac_cuda_stop,
	.enter = vac_cuda_enter,
	.leave = vac_cuda_leave,
	.region_bytes = vac_cuda_region_bytes,
	.map = vac_cuda_map,
	.unmap = vac_cuda_unmap,
	.host_map = vac_cuda_host_map,
	.host_unmap = vac_cuda_host_unmap,
	.upload = vac_cuda_upload,
	.download = vac_cuda_download,
	.failed = vac_cuda_failed,
	.mark = vac_cuda_mark,
	.reached = vac_cuda_reached,
	.fetch_bytes = vac_cuda_fetch_bytes,
	.fetch_begin = vac_cuda_fetch_begin,
	.fetch = vac_cuda_fetch,
	.fetch_end = vac_cuda_fetch_end,
	.round_batch = vac_cuda_round_batch,
	.replay = vac_cuda_replay,
	.forget = vac_cuda_forget,
	.measure = vac_cuda_measure,
};

extern const struct vac_backend vac_backend_cuda;
__attribute__((visibility("default"))) const struct vac_backend vac_backend_cuda = {
	.name = "cuda",
	.device = &device,
	.default_batch_tokens = 16384,
	.dtypes = {VAC_DTYPE_F16, VAC_DTYPE_BF16, VAC_DTYPE_F32},
	.dtype_count = 3,
	.open = cuda_open,
	.close = cuda_close,
	.description = cuda_description,
	.use = vac_cuda_use,
	.workspace = cuda_workspace,
	.linear_open = vac_cuda_linear_open,
	.linear_close = vac_cuda_linear_close,
	.linear_packed_bytes = vac_cuda_linear_packed_bytes,
	.linear_workspace = vac_cuda_linear_workspace,
	.linear_prepare = vac_cuda_linear_prepare,
	.linear = vac_cuda_linear,
	.round_rows = vac_cuda_round_rows,
	.embed = vac_cuda_embed,
	.layer_norm = vac_cuda_layer_norm,
	.attention_workspace = cuda_attention_workspace,
	.attention = vac_cuda_attention,
	.pool = vac_cuda_pool,
	.to_floats = vac_cuda_to_floats,
	.synchronize = vac_cuda_synchronize,
	.residue = cuda_residue,
	.diagnose = vac_cuda_diagnose,
	.places = vac_cuda_places,
};
