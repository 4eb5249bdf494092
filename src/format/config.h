/*
 * config.h - HuggingFace's config.json, as far as architectures ask for it.
 *
 * Unknown members are skipped; a member of a wrong type or out of range is
 * VAC_E_CORRUPT with the file and the member's name. Which members an
 * architecture needs is that architecture's business: a member that was
 * absent stays 0 / "" / the default noted here. Plain data.
 */
#ifndef VAC_FORMAT_CONFIG_H
#define VAC_FORMAT_CONFIG_H

#include <stdbool.h>

#include "base/error.h"

struct vac_model_config {
	char model_type[64];              /* "bert" */
	char architecture[96];            /* first of architectures: "BertModel" */
	char hidden_act[32];              /* "gelu" */
	char position_embedding_type[32]; /* default "absolute" */
	char torch_dtype[16];             /* also written "dtype" */
	uint32_t hidden_size;
	uint32_t intermediate_size;
	uint32_t num_hidden_layers;
	uint32_t num_attention_heads;
	uint32_t max_position_embeddings;
	uint32_t type_vocab_size;
	uint32_t vocab_size;
	bool pad_token_id_valid;
	int32_t pad_token_id;
	double layer_norm_eps; /* default 1e-12 */
	bool is_decoder;
};
int vac_model_config_parse(const char *json, size_t bytes, const char *path,
			   struct vac_model_config *out, struct vac_error *err) VAC_MUST_CHECK;
/* Reads DIR/config.json (at most 4 MiB). */
int vac_model_config_read(const char *dir, struct vac_model_config *out,
			  struct vac_error *err) VAC_MUST_CHECK;

/* sentence-transformers: modules.json, the Pooling and Dense modules'
 * config.json, sentence_bert_config.json's max_seq_length. */
enum vac_pooling {
	VAC_POOLING_CLS,
	VAC_POOLING_MEAN,
	VAC_POOLING_MAX,
	VAC_POOLING_MEAN_SQRT_LEN,
};
const char *vac_pooling_name(enum vac_pooling pooling);

#define VAC_MAX_DENSE 4
struct vac_dense_config {
	char dir[512]; /* of its model.safetensors */
	uint32_t in_features, out_features;
	bool bias;
	enum {
		VAC_DENSE_IDENTITY,
		VAC_DENSE_TANH,
		VAC_DENSE_RELU,
		VAC_DENSE_GELU,
		VAC_DENSE_SIGMOID
	} activation;
};

/* A pipeline is Transformer, Pooling, then Dense modules, then Normalize or
 * not. Anything else, or a pooling with several modes at once, is
 * VAC_E_UNSUPPORTED with its name. Without modules.json the defaults hold:
 * mean pooling, no normalize (what sentence-transformers does, and says). */
struct vac_st_config {
	bool present; /* there was a modules.json */
	enum vac_pooling pooling;
	uint32_t pooling_dimension; /* word_embedding_dimension; 0: not stated */
	uint32_t dense_count;
	struct vac_dense_config dense[VAC_MAX_DENSE];
	bool normalize;
	uint32_t max_seq_length; /* 0: not stated */
	bool do_lower_case;      /* sentence_bert_config.json's own, applied before the tokenizer */
};
/* Reads DIR/modules.json and what it names. A default prompt (one that
 * sentence-transformers would put before every text) is VAC_E_UNSUPPORTED. */
int vac_st_config_read(const char *dir, struct vac_st_config *out,
		       struct vac_error *err) VAC_MUST_CHECK;

/* The single files, from memory; path is for messages. For vac_st_config_read,
 * tests and the fuzzer. The last two change only the members they know of. */
struct vac_st_modules {
	char pooling_path[256]; /* within the model's directory */
	uint32_t dense_count;
	char dense_path[VAC_MAX_DENSE][256];
	bool normalize;
	char normalize_path[256];
};
int vac_st_modules_parse(const char *json, size_t bytes, const char *path,
			 struct vac_st_modules *out, struct vac_error *err) VAC_MUST_CHECK;
int vac_st_dense_parse(const char *json, size_t bytes, const char *path,
		       struct vac_dense_config *out, struct vac_error *err) VAC_MUST_CHECK;
int vac_st_normalize_parse(const char *json, size_t bytes, const char *path,
			   struct vac_error *err) VAC_MUST_CHECK;
int vac_st_prompts_parse(const char *json, size_t bytes, const char *path,
			 struct vac_error *err) VAC_MUST_CHECK;
int vac_st_pooling_parse(const char *json, size_t bytes, const char *path,
			 struct vac_st_config *out, struct vac_error *err) VAC_MUST_CHECK;
/* sentence_bert_config.json */
int vac_st_transformer_parse(const char *json, size_t bytes, const char *path,
			     struct vac_st_config *out, struct vac_error *err) VAC_MUST_CHECK;

/* tokenizer_config.json's model_max_length; *out = 0 when absent or the huge
 * number that HF writes for "unlimited". */
int vac_tokenizer_config_max_length(const char *dir, uint32_t *out,
				    struct vac_error *err) VAC_MUST_CHECK;
int vac_tokenizer_config_parse(const char *json, size_t bytes, const char *path, uint32_t *out,
			       struct vac_error *err) VAC_MUST_CHECK;

#endif
