/*
 * head.h - from hidden states to the result vectors: sentence-transformers'
 * pooling and Dense modules on the device, dimensions and L2 normalization of
 * each result on the host. On the engine's thread.
 */
#ifndef VAC_ENGINE_HEAD_H
#define VAC_ENGINE_HEAD_H

#include "engine/weights.h"

struct vac_head {
	const struct vac_backend *backend;
	struct vac_compute *compute;
	enum vac_pooling pooling;
	bool normalize;
	uint32_t hidden_size;
	uint32_t width; /* of a result */
	uint32_t element_bytes;
	uint32_t dense_count;
	struct vac_dense {
		struct vac_safetensors files;
		struct vac_linear *linear;
		const void *packed;
		const void *bias; /* NULL: none */
		uint32_t out;
	} dense[VAC_MAX_DENSE];
};

/* Opens the Dense modules' files and adds their tensors to w. head must stay
 * where it is. On error nothing is left. */
int vac_head_open(struct vac_head *head, const struct vac_st_config *config, uint32_t hidden_size,
		  struct vac_weights *w, struct vac_error *err) VAC_MUST_CHECK;
void vac_head_close(struct vac_head *head);
/* The files are only needed to load. */
void vac_head_close_files(struct vac_head *head);
int vac_head_scratch(const struct vac_head *head, uint32_t sequences, uint64_t *activation_bytes,
		     uint64_t *workspace_bytes, struct vac_error *err) VAC_MUST_CHECK;
/* [sequences x width] floats somewhere in scratch. */
int vac_head_run(struct vac_head *head, const struct vac_tokens *tokens, const void *hidden,
		 void *scratch, const float **out, struct vac_error *err) VAC_MUST_CHECK;

/* x / max(|x|, 1e-12), as torch's normalize does it. */
void vac_normalize_vector(float *x, uint32_t width);

#endif
