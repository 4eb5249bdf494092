/*
 * architecture.h - what an architecture is to the engine: a file that reads a
 * config, names its tensors, says what scratch it needs and calls operations.
 * architectures.c lists them. On the engine's thread.
 */
#ifndef VAC_ENGINE_ARCHITECTURE_H
#define VAC_ENGINE_ARCHITECTURE_H

#include "engine/weights.h"

/* An open model of some architecture; each defines what follows. */
struct vac_network {
	const struct vac_architecture *architecture;
	uint32_t hidden_size, layers, heads, vocab_size, type_vocab_size;
	uint32_t max_positions; /* longest sequence that it can compute */
};

struct vac_architecture {
	const char *model_type; /* config.json's */
	/* Checks the config and adds every tensor to w; the network keeps w's
	 * backend. On error nothing is left. */
	int (*open)(const struct vac_model_config *config, const struct vac_safetensors *files,
		    struct vac_weights *w, struct vac_network **out, struct vac_error *err);
	void (*close)(struct vac_network *network);
	/* Bytes of activations for so many rows, and of workspace for the
	 * operations on them, of which the longest sequence has so many. */
	int (*scratch)(const struct vac_network *network, uint32_t rows, uint32_t longest,
		       uint64_t *activation_bytes, uint64_t *workspace_bytes,
		       struct vac_error *err);
	/* Creates what the first batch of so many rows would create. */
	int (*prepare)(struct vac_network *network, uint32_t rows, struct vac_error *err);
	/* Computes the last hidden states, [rows x hidden] somewhere in scratch.
	 * Calls between(ctx), which may be NULL, between layers. */
	int (*run)(struct vac_network *network, const struct vac_tokens *tokens, void *scratch,
		   void (*between)(void *ctx), void *ctx, const void **out, struct vac_error *err);
};

extern const struct vac_architecture vac_architecture_bert;

/* NULL when none serves that model_type. */
const struct vac_architecture *vac_architecture_find(const char *model_type);
/* "bert, ..." */
void vac_architecture_list(char *out, size_t bytes);

#endif
