/*
 * bert.c - the BERT encoder: embeddings, then layers of self-attention and a
 * two-layer perceptron, each with a residual and a layer normalization after
 * it. Devlin et al. 2018; tensor names and config members as in HuggingFace's
 * BertModel, with or without the "bert." in front, and with the LayerNorm's
 * old names gamma and beta.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/architecture.h"

/* Beyond these a config is nonsense, and byte counts could overflow. */
#define MAX_HIDDEN 65536
#define MAX_TABLE  (1u << 24)
#define MAX_LAYERS 512

struct layer {
	const void *qkv, *projection, *up, *down; /* packed */
	const void *qkv_bias, *projection_bias, *up_bias, *down_bias;
	const void *attention_gamma, *attention_beta, *gamma, *beta;
};

struct bert {
	struct vac_network network;
	const struct vac_backend *backend;
	struct vac_compute *compute;
	uint32_t intermediate_size;
	uint32_t element_bytes;
	float eps;
	struct vac_attention attention;
	struct vac_embed embed;
	struct vac_linear *qkv, *projection, *up, *down; /* the same kind in each layer */
	struct layer layers[];
};

static void bert_close(struct vac_network *network)
{
	struct bert *b = (struct bert *)network;
	if (!b)
		return;
	struct vac_linear *all[] = {b->qkv, b->projection, b->up, b->down};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i])
			b->backend->linear_close(b->compute, all[i]);
	free(b);
}

static int check_member(const char *name, uint32_t value, uint32_t limit, struct vac_error *err)
{
	if (value == 0 || value > limit)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"config.json: %s is %u, expected 1 to %u for model_type bert", name,
				value, limit);
	return 0;
}

static int check_config(const struct vac_model_config *config, enum vac_activation *activation,
			struct vac_error *err)
{
	const struct {
		const char *name;
		uint32_t value, limit;
	} members[] = {
		{"hidden_size", config->hidden_size, MAX_HIDDEN},
		{"intermediate_size", config->intermediate_size, 4 * MAX_HIDDEN},
		{"num_hidden_layers", config->num_hidden_layers, MAX_LAYERS},
		{"num_attention_heads", config->num_attention_heads, MAX_HIDDEN},
		{"max_position_embeddings", config->max_position_embeddings, MAX_TABLE},
		{"type_vocab_size", config->type_vocab_size, MAX_TABLE},
		{"vocab_size", config->vocab_size, MAX_TABLE},
	};
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		int rc = check_member(members[i].name, members[i].value, members[i].limit, err);
		if (rc < 0)
			return rc;
	}
	if (config->hidden_size % config->num_attention_heads)
		return vac_fail(err, VAC_E_CORRUPT,
				"config.json: hidden_size %u is not a multiple of "
				"num_attention_heads %u",
				config->hidden_size, config->num_attention_heads);
	if (strcmp(config->position_embedding_type, "absolute") != 0)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"config.json: position_embedding_type \"%s\" is not served, only "
				"\"absolute\"",
				config->position_embedding_type);
	if (config->is_decoder)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"config.json: is_decoder is true, and only encoders are served");
	if (!(config->layer_norm_eps >= 0 && config->layer_norm_eps < 1))
		return vac_fail(err, VAC_E_CORRUPT, "config.json: layer_norm_eps is out of range");
	if (strcmp(config->hidden_act, "gelu") == 0)
		*activation = VAC_ACTIVATION_GELU;
	else if (strcmp(config->hidden_act, "gelu_new") == 0 ||
		 strcmp(config->hidden_act, "gelu_pytorch_tanh") == 0)
		*activation = VAC_ACTIVATION_GELU_TANH;
	else if (strcmp(config->hidden_act, "relu") == 0)
		*activation = VAC_ACTIVATION_RELU;
	else
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"config.json: hidden_act \"%s\" is not served; served are gelu, "
				"gelu_new, gelu_pytorch_tanh and relu",
				config->hidden_act);
	return 0;
}

/* "encoder.layer.3.X|bert.encoder.layer.3.X" */
#define NAME_BYTES 256
static const char *layer_name(char out[NAME_BYTES], uint32_t layer, const char *rest)
{
	snprintf(out, NAME_BYTES, "encoder.layer.%u.%s|bert.encoder.layer.%u.%s", layer, rest,
		 layer, rest);
	return out;
}

/* The same for a LayerNorm's weight or bias, with its old name. */
static const char *norm_name(char out[NAME_BYTES], const char *prefix, const char *now,
			     const char *then)
{
	snprintf(out, NAME_BYTES, "%s.%s|bert.%s.%s|%s.%s|bert.%s.%s", prefix, now, prefix, now,
		 prefix, then, prefix, then);
	return out;
}

static int add_norm(struct bert *b, const struct vac_safetensors *files, struct vac_weights *w,
		    const char *prefix, const void **gamma, const void **beta,
		    struct vac_error *err)
{
	char buffer[NAME_BYTES];
	const char *name = norm_name(buffer, prefix, "weight", "gamma");
	uint32_t hidden = b->network.hidden_size;
	int rc = vac_weights_add(w, files, &name, 1, hidden, 0, gamma, err);
	if (rc < 0)
		return rc;
	name = norm_name(buffer, prefix, "bias", "beta");
	return vac_weights_add(w, files, &name, 1, hidden, 0, beta, err);
}

static int add_embeddings(struct bert *b, const struct vac_model_config *config,
			  const struct vac_safetensors *files, struct vac_weights *w,
			  struct vac_error *err)
{
	const struct {
		const char *name;
		uint32_t rows;
		const void **slot;
	} tables[] = {
		{"embeddings.word_embeddings.weight|bert.embeddings.word_embeddings.weight",
		 config->vocab_size, &b->embed.word},
		{"embeddings.position_embeddings.weight|bert.embeddings.position_embeddings.weight",
		 config->max_position_embeddings, &b->embed.position},
		{"embeddings.token_type_embeddings.weight"
		 "|bert.embeddings.token_type_embeddings.weight",
		 config->type_vocab_size, &b->embed.type},
	};
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		int rc = vac_weights_add(w, files, &tables[i].name, 1, tables[i].rows,
					 config->hidden_size, tables[i].slot, err);
		if (rc < 0)
			return rc;
	}
	return add_norm(b, files, w, "embeddings.LayerNorm", &b->embed.gamma, &b->embed.beta, err);
}

/* One product of a layer: its weights below each other, and their biases. */
struct product {
	const struct vac_linear *linear;
	uint32_t parts;
	const char *names[VAC_PIECE_PARTS]; /* without ".weight" and ".bias" */
	uint32_t out, in;                   /* of one part */
	const void **packed;
	const void **bias;
};

static int add_product(const struct product *p, uint32_t layer, const struct vac_safetensors *files,
		       struct vac_weights *w, struct vac_error *err)
{
	char buffers[VAC_PIECE_PARTS][NAME_BYTES], rest[96];
	const char *names[VAC_PIECE_PARTS];
	for (uint32_t i = 0; i < p->parts; i++) {
		snprintf(rest, sizeof(rest), "%s.weight", p->names[i]);
		names[i] = layer_name(buffers[i], layer, rest);
	}
	int rc = vac_weights_add_linear(w, files, names, p->parts, p->linear, p->out, p->in,
					p->packed, err);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < p->parts; i++) {
		snprintf(rest, sizeof(rest), "%s.bias", p->names[i]);
		names[i] = layer_name(buffers[i], layer, rest);
	}
	return vac_weights_add(w, files, names, p->parts, p->out, 0, p->bias, err);
}

static int add_layer(struct bert *b, uint32_t i, const struct vac_safetensors *files,
		     struct vac_weights *w, struct vac_error *err)
{
	struct layer *l = &b->layers[i];
	uint32_t hidden = b->network.hidden_size, wide = b->intermediate_size;
	const struct product products[] = {
		{b->qkv,
		 3,
		 {"attention.self.query", "attention.self.key", "attention.self.value"},
		 hidden,
		 hidden,
		 &l->qkv,
		 &l->qkv_bias},
		{b->projection,
		 1,
		 {"attention.output.dense"},
		 hidden,
		 hidden,
		 &l->projection,
		 &l->projection_bias},
		{b->up, 1, {"intermediate.dense"}, wide, hidden, &l->up, &l->up_bias},
		{b->down, 1, {"output.dense"}, hidden, wide, &l->down, &l->down_bias},
	};
	char prefix[96];
	for (size_t k = 0; k < sizeof(products) / sizeof(products[0]); k++) {
		int rc = add_product(&products[k], i, files, w, err);
		if (rc < 0)
			return rc;
	}
	snprintf(prefix, sizeof(prefix), "encoder.layer.%u.attention.output.LayerNorm", i);
	int rc = add_norm(b, files, w, prefix, &l->attention_gamma, &l->attention_beta, err);
	if (rc < 0)
		return rc;
	snprintf(prefix, sizeof(prefix), "encoder.layer.%u.output.LayerNorm", i);
	return add_norm(b, files, w, prefix, &l->gamma, &l->beta, err);
}

static int open_linears(struct bert *b, enum vac_activation activation, struct vac_error *err)
{
	uint32_t hidden = b->network.hidden_size, wide = b->intermediate_size;
	const struct {
		struct vac_linear_shape shape;
		struct vac_linear **out;
	} all[] = {
		{{.in = hidden, .out = 3 * hidden, .bias = true}, &b->qkv},
		{{.in = hidden, .out = hidden, .bias = true, .accumulate = true}, &b->projection},
		{{.in = hidden, .out = wide, .bias = true, .activation = activation}, &b->up},
		{{.in = wide, .out = hidden, .bias = true, .accumulate = true}, &b->down},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int rc = b->backend->linear_open(b->compute, &all[i].shape, all[i].out, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int bert_open(const struct vac_model_config *config, const struct vac_safetensors *files,
		     struct vac_weights *w, struct vac_network **out, struct vac_error *err)
{
	enum vac_activation activation = VAC_ACTIVATION_NONE;
	int rc = check_config(config, &activation, err);
	if (rc < 0)
		return rc;
	size_t bytes = sizeof(struct bert) + config->num_hidden_layers * sizeof(struct layer);
	struct bert *b = calloc(1, bytes);
	if (!b)
		return vac_fail_nomem(err, "the model's layers", bytes);
	b->network = (struct vac_network){
		.architecture = &vac_architecture_bert,
		.hidden_size = config->hidden_size,
		.layers = config->num_hidden_layers,
		.heads = config->num_attention_heads,
		.vocab_size = config->vocab_size,
		.type_vocab_size = config->type_vocab_size,
		.max_positions = config->max_position_embeddings,
	};
	b->backend = w->backend;
	b->compute = w->compute;
	b->element_bytes = w->element_bytes;
	b->intermediate_size = config->intermediate_size;
	b->eps = (float)config->layer_norm_eps;
	b->attention.heads = config->num_attention_heads;
	b->attention.head_size = config->hidden_size / config->num_attention_heads;
	b->attention.scale = 1.0f / sqrtf((float)b->attention.head_size);
	b->embed.hidden = config->hidden_size;
	b->embed.eps = b->eps;
	rc = open_linears(b, activation, err);
	if (rc == 0)
		rc = add_embeddings(b, config, files, w, err);
	for (uint32_t i = 0; rc == 0 && i < b->network.layers; i++)
		rc = add_layer(b, i, files, w, err);
	if (rc < 0) {
		bert_close(&b->network);
		return rc;
	}
	*out = &b->network;
	return 0;
}

/* Activations: x, then one place for what lives during attention (q, k, v and
 * the context) or during the perceptron (its middle). */
static uint64_t row_elements(const struct bert *b)
{
	uint64_t attention = 4 * (uint64_t)b->network.hidden_size, middle = b->intermediate_size;
	return b->network.hidden_size + (attention > middle ? attention : middle);
}

static int bert_scratch(const struct vac_network *network, uint32_t rows, uint32_t longest,
			uint64_t *activation_bytes, uint64_t *workspace_bytes,
			struct vac_error *err)
{
	const struct bert *b = (const struct bert *)network;
	const struct vac_linear *all[] = {b->qkv, b->projection, b->up, b->down};
	*activation_bytes =
		b->backend->round_rows(b->compute, rows) * row_elements(b) * b->element_bytes;
	*workspace_bytes = b->backend->attention_workspace(b->compute, &b->attention, longest);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		uint64_t bytes;
		int rc = b->backend->linear_workspace(b->compute, all[i], rows, &bytes, err);
		if (rc < 0)
			return rc;
		if (bytes > *workspace_bytes)
			*workspace_bytes = bytes;
	}
	return 0;
}

static int bert_prepare(struct vac_network *network, uint32_t rows, struct vac_error *err)
{
	struct bert *b = (struct bert *)network;
	struct vac_linear *all[] = {b->qkv, b->projection, b->up, b->down};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(all) / sizeof(all[0]); i++)
		rc = b->backend->linear_prepare(b->compute, all[i], rows, err);
	return rc;
}

static int run_layer(struct bert *b, const struct layer *l, const struct vac_tokens *tokens,
		     void *x, uint8_t *wide, struct vac_error *err)
{
	const struct vac_backend *be = b->backend;
	struct vac_compute *c = b->compute;
	uint32_t rows = tokens->rows, hidden = b->network.hidden_size;
	void *context = wide + 3 * (size_t)be->round_rows(c, rows) * hidden * b->element_bytes;
	int rc = be->linear(c, b->qkv, l->qkv, l->qkv_bias, rows, x, wide, err);
	if (rc < 0)
		return rc;
	be->attention(c, &b->attention, tokens, wide, context);
	rc = be->linear(c, b->projection, l->projection, l->projection_bias, rows, context, x, err);
	if (rc < 0)
		return rc;
	be->layer_norm(c, rows, hidden, b->eps, l->attention_gamma, l->attention_beta, x);
	rc = be->linear(c, b->up, l->up, l->up_bias, rows, x, wide, err);
	if (rc < 0)
		return rc;
	rc = be->linear(c, b->down, l->down, l->down_bias, rows, wide, x, err);
	if (rc < 0)
		return rc;
	be->layer_norm(c, rows, hidden, b->eps, l->gamma, l->beta, x);
	return 0;
}

static int bert_run(struct vac_network *network, const struct vac_tokens *tokens, void *scratch,
		    void (*between)(void *ctx), void *ctx, const void **out, struct vac_error *err)
{
	struct bert *b = (struct bert *)network;
	uint8_t *x = scratch;
	uint8_t *wide = x + (size_t)b->backend->round_rows(b->compute, tokens->rows) *
				    b->network.hidden_size * b->element_bytes;
	b->backend->embed(b->compute, &b->embed, tokens, x);
	for (uint32_t i = 0; i < b->network.layers; i++) {
		int rc = run_layer(b, &b->layers[i], tokens, x, wide, err);
		if (rc < 0)
			return rc;
		if (between)
			between(ctx);
	}
	*out = x;
	return 0;
}

const struct vac_architecture vac_architecture_bert = {
	.model_type = "bert",
	.open = bert_open,
	.close = bert_close,
	.scratch = bert_scratch,
	.prepare = bert_prepare,
	.run = bert_run,
};
