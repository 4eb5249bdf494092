/*
 * head.c - see head.h. A Dense module is y = activation(W x + b) with the
 * tensors linear.weight and linear.bias in a model.safetensors of its own.
 */
#include "engine/head.h"

#include <math.h>
#include <string.h>

static int open_dense(struct vac_head *head, const struct vac_dense_config *config,
		      struct vac_weights *w, struct vac_error *err)
{
	static const enum vac_activation activations[] = {
		[VAC_DENSE_IDENTITY] = VAC_ACTIVATION_NONE,
		[VAC_DENSE_TANH] = VAC_ACTIVATION_TANH,
		[VAC_DENSE_RELU] = VAC_ACTIVATION_RELU,
		[VAC_DENSE_GELU] = VAC_ACTIVATION_GELU,
		[VAC_DENSE_SIGMOID] = VAC_ACTIVATION_SIGMOID,
	};
	static const char *const weight = "linear.weight", *const bias = "linear.bias";
	struct vac_dense *dense = &head->dense[head->dense_count];
	if (config->in_features != head->width || config->out_features == 0)
		return vac_fail(err, VAC_E_CORRUPT,
				"%s/config.json: a Dense module takes %u and gives %u features, "
				"and what comes before it gives %u",
				config->dir, config->in_features, config->out_features,
				head->width);
	const struct vac_linear_shape shape = {
		.in = config->in_features,
		.out = config->out_features,
		.bias = config->bias,
		.activation = activations[config->activation],
	};
	int rc = vac_safetensors_open_dir(config->dir, &dense->files, err);
	if (rc < 0)
		return rc;
	head->dense_count++; /* from here on vac_head_close cleans up */
	rc = head->backend->linear_open(head->compute, &shape, &dense->linear, err);
	if (rc < 0)
		return rc;
	rc = vac_weights_add_linear(w, &dense->files, &weight, 1, dense->linear, shape.out,
				    shape.in, &dense->packed, err);
	if (rc == 0 && shape.bias)
		rc = vac_weights_add(w, &dense->files, &bias, 1, shape.out, 0, &dense->bias, err);
	dense->out = shape.out;
	head->width = shape.out;
	return rc;
}

int vac_head_open(struct vac_head *head, const struct vac_st_config *config, uint32_t hidden_size,
		  struct vac_weights *w, struct vac_error *err)
{
	*head = (struct vac_head){
		.backend = w->backend,
		.compute = w->compute,
		.pooling = config->pooling,
		.normalize = config->normalize,
		.hidden_size = hidden_size,
		.element_bytes = w->element_bytes,
		.width = hidden_size,
	};
	if (config->pooling_dimension && config->pooling_dimension != hidden_size)
		return vac_fail(err, VAC_E_CORRUPT,
				"the Pooling module's word_embedding_dimension is %u, and the "
				"model's hidden_size %u",
				config->pooling_dimension, hidden_size);
	for (uint32_t i = 0; i < config->dense_count; i++) {
		int rc = open_dense(head, &config->dense[i], w, err);
		if (rc < 0) {
			vac_head_close(head);
			return rc;
		}
	}
	return 0;
}

void vac_head_close_files(struct vac_head *head)
{
	for (uint32_t i = 0; i < head->dense_count; i++) {
		vac_safetensors_close(&head->dense[i].files);
		head->dense[i].files = (struct vac_safetensors){0};
	}
}

void vac_head_close(struct vac_head *head)
{
	vac_head_close_files(head);
	for (uint32_t i = 0; i < head->dense_count; i++)
		if (head->dense[i].linear)
			head->backend->linear_close(head->compute, head->dense[i].linear);
	head->dense_count = 0;
}

/* Each vector starts at a multiple of that. */
static uint64_t padded(uint64_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

int vac_head_scratch(const struct vac_head *head, uint32_t sequences, uint64_t *activation_bytes,
		     uint64_t *workspace_bytes, struct vac_error *err)
{
	uint64_t rows = head->backend->round_rows(head->compute, sequences);
	*workspace_bytes = 0;
	*activation_bytes = padded(rows * head->hidden_size * head->element_bytes);
	for (uint32_t i = 0; i < head->dense_count; i++) {
		uint64_t bytes;
		int rc = head->backend->linear_workspace(head->compute, head->dense[i].linear,
							 sequences, &bytes, err);
		if (rc < 0)
			return rc;
		if (bytes > *workspace_bytes)
			*workspace_bytes = bytes;
		*activation_bytes += padded(rows * head->dense[i].out * head->element_bytes);
	}
	if (head->backend->to_floats)
		*activation_bytes += rows * head->width * sizeof(float);
	return 0;
}

int vac_head_run(struct vac_head *head, const struct vac_tokens *tokens, const void *hidden,
		 void *scratch, const float **out, struct vac_error *err)
{
	size_t rows = head->backend->round_rows(head->compute, tokens->sequences);
	uint8_t *at = scratch, *next = at + padded(rows * head->hidden_size * head->element_bytes);
	head->backend->pool(head->compute, head->pooling, tokens, head->hidden_size, hidden, at);
	for (uint32_t i = 0; i < head->dense_count; i++) {
		const struct vac_dense *dense = &head->dense[i];
		int rc = head->backend->linear(head->compute, dense->linear, dense->packed,
					       dense->bias, tokens->sequences, at, next, err);
		if (rc < 0)
			return rc;
		at = next;
		next += padded(rows * dense->out * head->element_bytes);
	}
	*out = (const float *)(const void *)at;
	if (head->backend->to_floats) {
		float *floats = (float *)(void *)next;
		head->backend->to_floats(head->compute, (uint64_t)tokens->sequences * head->width,
					 at, floats);
		*out = floats;
	}
	return 0;
}

void vac_normalize_vector(float *x, uint32_t width)
{
	double square = 0;
	for (uint32_t i = 0; i < width; i++)
		square += (double)x[i] * x[i];
	float scale = (float)(1.0 / fmax(sqrt(square), 1e-12));
	for (uint32_t i = 0; i < width; i++)
		x[i] *= scale;
}
