/*
 * hf_config.c - transformers' config.json and tokenizer_config.json. The
 * ranges are those within which sizes and products of sizes stay harmless;
 * whether members fit together is for the architecture to say. Any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "format/config.h"
#include "format/config_reader.h"

#define MEMBER(member_name, type, field, low, high)                                                \
	{                                                                                          \
		member_name, type, offsetof(struct vac_model_config, field),                       \
			sizeof(((struct vac_model_config *)0)->field), low, high                   \
	}
#define COUNT(field, low, high) MEMBER(#field, CONFIG_COUNT, field, low, high)
#define TEXT(field)             MEMBER(#field, CONFIG_TEXT, field, 0, 0)

#define VOCAB_MAX (1 << 24)
/* tokenizer_config.json lists added tokens one by one. */
#define TOKENIZER_CONFIG_MAX_BYTES ((size_t)16 << 20)

/* pad_token_id stands first: its bit in the mask of given members. */
#define PAD_GIVEN UINT32_C(1)
static const struct config_member model_members[] = {
	MEMBER("pad_token_id", CONFIG_INTEGER, pad_token_id, -1, VOCAB_MAX - 1),
	TEXT(model_type),
	MEMBER("architectures", CONFIG_FIRST_TEXT, architecture, 0, 0),
	TEXT(hidden_act),
	TEXT(position_embedding_type),
	TEXT(torch_dtype),
	MEMBER("dtype", CONFIG_TEXT, torch_dtype, 0, 0), /* its name since transformers 4.56 */
	COUNT(hidden_size, 1, 1 << 16),
	COUNT(intermediate_size, 1, 1 << 20),
	COUNT(num_hidden_layers, 1, 1024),
	COUNT(num_attention_heads, 1, 1024),
	COUNT(max_position_embeddings, 1, 1 << 24),
	COUNT(type_vocab_size, 0, 1 << 16),
	COUNT(vocab_size, 1, VOCAB_MAX),
	MEMBER("layer_norm_eps", CONFIG_REAL, layer_norm_eps, 0, 1),
	MEMBER("is_decoder", CONFIG_BOOL, is_decoder, 0, 0),
};

int vac_model_config_parse(const char *json, size_t bytes, const char *path,
			   struct vac_model_config *out, struct vac_error *err)
{
	uint32_t given = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	strcpy(out->position_embedding_type, "absolute");
	out->layer_norm_eps = 1e-12;
	rc = vac_config_document(json, bytes, path, model_members,
				 sizeof(model_members) / sizeof(model_members[0]), out, &given,
				 err);
	out->pad_token_id_valid = (given & PAD_GIVEN) != 0;
	return rc;
}

int vac_model_config_read(const char *dir, struct vac_model_config *out, struct vac_error *err)
{
	struct vac_buf buf;
	bool found;
	char *path;
	int rc = vac_config_file(dir, "config.json", CONFIG_MAX_BYTES, &path, &buf, &found, err);

	if (rc == 0 && !found)
		rc = vac_fail(err, VAC_E_NOT_FOUND,
			      "%s: is missing; give the directory of a model, or download the "
			      "model again",
			      path);
	if (rc == 0)
		rc = vac_model_config_parse((const char *)buf.data, buf.bytes, path, out, err);
	vac_buf_free(&buf);
	free(path);
	return rc;
}

/* The value of model_max_length; the last event was its name. */
static int read_max_length(struct vac_json *json, uint32_t *out)
{
	enum vac_json_type type = vac_json_next(json);

	if (type == VAC_JSON_NULL)
		return 0;
	/* HF writes int(1e30) for "unlimited"; what no 32-bit count can hold
	 * limits nothing either. */
	if (type == VAC_JSON_NUMBER && json->number > (double)UINT32_MAX)
		return 0;
	if (type == VAC_JSON_INTEGER && json->integer > (int64_t)UINT32_MAX)
		return 0;
	if (type != VAC_JSON_INTEGER || json->integer < 1)
		return vac_json_fail(json, VAC_E_CORRUPT,
				     "model_max_length must be a whole number of at least 1");
	*out = (uint32_t)json->integer;
	return 0;
}

int vac_tokenizer_config_parse(const char *json, size_t bytes, const char *path, uint32_t *out,
			       struct vac_error *err)
{
	struct vac_json reader;
	bool seen = false;
	int rc;

	*out = 0;
	vac_json_init(&reader, path, json, bytes, err);
	rc = vac_json_expect(&reader, VAC_JSON_OBJECT_BEGIN, "the configuration");
	while (rc == 0 && vac_json_next(&reader) == VAC_JSON_KEY) {
		if (!vac_json_is(&reader, "model_max_length")) {
			rc = vac_json_skip(&reader);
		} else if (seen) {
			rc = vac_json_fail(&reader, VAC_E_CORRUPT,
					   "model_max_length is there twice");
		} else {
			seen = true;
			rc = read_max_length(&reader, out);
		}
	}
	if (rc == 0 && reader.state < 0)
		rc = reader.state;
	if (rc == 0)
		rc = vac_json_expect(&reader, VAC_JSON_END, "behind the configuration");
	vac_json_free(&reader);
	return rc;
}

int vac_tokenizer_config_max_length(const char *dir, uint32_t *out, struct vac_error *err)
{
	struct vac_buf buf;
	bool found;
	char *path;
	int rc = vac_config_file(dir, "tokenizer_config.json", TOKENIZER_CONFIG_MAX_BYTES, &path,
				 &buf, &found, err);

	*out = 0;
	if (rc == 0 && found)
		rc = vac_tokenizer_config_parse((const char *)buf.data, buf.bytes, path, out, err);
	vac_buf_free(&buf);
	free(path);
	return rc;
}
