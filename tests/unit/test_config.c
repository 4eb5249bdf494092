/*
 * test_config.c - config.json, tokenizer_config.json and the files of
 * sentence-transformers. In the tables a '^' marks the byte that the message
 * must name; without one the message is about the file as a whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fail_alloc.h"
#include "format/config.h"
#include "temp_dir.h"

static int setup(void **state)
{
	(void)state;
	temp_dir_make();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

struct bad {
	const char *json;
	enum vac_error_code code;
	const char *part;
};

/* One parser of this module with its result thrown away. */
typedef int (*parser)(const char *json, size_t bytes, struct vac_error *err);

static void expect_bad(parser parse, const struct bad *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *marked = cases[i].json, *mark = strchr(marked, '^');
		char json[1024], start[64] = "PATH: ";
		struct vac_error err = {0};

		if (mark) {
			snprintf(json, sizeof(json), "%.*s%s", (int)(mark - marked), marked,
				 mark + 1);
			snprintf(start, sizeof(start), "PATH: byte %d: ", (int)(mark - marked));
		} else {
			snprintf(json, sizeof(json), "%s", marked);
		}
		if (parse(json, strlen(json), &err) != vac_error_errno(cases[i].code) ||
		    err.code != cases[i].code)
			fail_msg("%s: code %d: %s", marked, err.code, err.message);
		if (strncmp(err.message, start, strlen(start)) != 0 ||
		    !strstr(err.message, cases[i].part))
			fail_msg("%s: wanted \"%s\" and \"%s\" in: %s", marked, start,
				 cases[i].part, err.message);
	}
}
#define EXPECT_BAD(parse, cases) expect_bad(parse, cases, sizeof(cases) / sizeof((cases)[0]))

static int parse_model(const char *json, size_t bytes, struct vac_error *err)
{
	struct vac_model_config config;

	return vac_model_config_parse(json, bytes, "PATH", &config, err);
}

static void test_model(void **state)
{
	static const char json[] =
		"{\"architectures\":[\"BertForMaskedLM\",\"Other\"],\"model_type\":\"bert\","
		"\"hidden_act\":\"gelu_new\",\"hidden_size\":384,\"intermediate_size\":1536,"
		"\"num_hidden_layers\":6,\"num_attention_heads\":12,"
		"\"max_position_embeddings\":512,\"type_vocab_size\":2,\"vocab_size\":30522,"
		"\"pad_token_id\":0,\"layer_norm_eps\":1e-5,\"is_decoder\":true,"
		"\"position_embedding_type\":\"relative_key\",\"torch_dtype\":\"float16\","
		"\"unknown\":{\"hidden_size\":[-1,{\"a\":null}]},\"id2label\":{\"0\":\"x\"}}";
	static const char nulls[] =
		"{\"pad_token_id\":null,\"layer_norm_eps\":null,\"architectures\":null,"
		"\"hidden_size\":null,\"torch_dtype\":null,\"position_embedding_type\":null}";
	struct vac_model_config config;
	struct vac_error err = {0};

	(void)state;
	assert_int_equal(vac_model_config_parse(json, strlen(json), "PATH", &config, &err), 0);
	assert_string_equal(config.model_type, "bert");
	assert_string_equal(config.architecture, "BertForMaskedLM");
	assert_string_equal(config.hidden_act, "gelu_new");
	assert_string_equal(config.position_embedding_type, "relative_key");
	assert_string_equal(config.torch_dtype, "float16");
	assert_int_equal(config.hidden_size, 384);
	assert_int_equal(config.intermediate_size, 1536);
	assert_int_equal(config.num_hidden_layers, 6);
	assert_int_equal(config.num_attention_heads, 12);
	assert_int_equal(config.max_position_embeddings, 512);
	assert_int_equal(config.type_vocab_size, 2);
	assert_int_equal(config.vocab_size, 30522);
	assert_true(config.pad_token_id_valid);
	assert_int_equal(config.pad_token_id, 0);
	assert_true(config.layer_norm_eps == 1e-5);
	assert_true(config.is_decoder);
	for (int i = 0; i < 2; i++) {
		const char *text = i ? "{}" : nulls;

		assert_int_equal(vac_model_config_parse(text, strlen(text), "PATH", &config, &err),
				 0);
		assert_string_equal(config.position_embedding_type, "absolute");
		assert_string_equal(config.architecture, "");
		assert_string_equal(config.torch_dtype, "");
		assert_true(config.layer_norm_eps == 1e-12);
		assert_false(config.pad_token_id_valid);
		assert_int_equal(config.hidden_size, 0);
		assert_false(config.is_decoder);
	}
	assert_int_equal(vac_model_config_parse("{\"dtype\":\"bfloat16\",\"architectures\":[]}", 39,
						"PATH", &config, &err),
			 0);
	assert_string_equal(config.torch_dtype, "bfloat16");
}

static void test_bad_model(void **state)
{
	static const struct bad cases[] = {
		{"^", VAC_E_CORRUPT, ""},
		{"^[]", VAC_E_CORRUPT, "an object"},
		{"{}^{}", VAC_E_CORRUPT, ""},
		{"{\"hidden_size\":^0}", VAC_E_CORRUPT, "hidden_size must be between 1 and 65536"},
		{"{\"hidden_size\":^65537}", VAC_E_CORRUPT, "hidden_size must be between"},
		{"{\"hidden_size\":^-384}", VAC_E_CORRUPT, "hidden_size must be between"},
		{"{\"hidden_size\":^384.5}", VAC_E_CORRUPT, "hidden_size must be a whole number"},
		{"{\"hidden_size\":^384.0}", VAC_E_CORRUPT, "hidden_size must be a whole number"},
		{"{\"hidden_size\":^\"384\"}", VAC_E_CORRUPT, "hidden_size must be a whole number"},
		{"{\"hidden_size\":^[384]}", VAC_E_CORRUPT, "hidden_size must be a whole number"},
		{"{\"hidden_size\":^true}", VAC_E_CORRUPT, "hidden_size must be a whole number"},
		{"{\"hidden_size\":^99999999999999999999}", VAC_E_CORRUPT,
		 "hidden_size must be a whole number"},
		{"{\"hidden_size\":384,^\"hidden_size\":384}", VAC_E_CORRUPT,
		 "hidden_size is there twice"},
		{"{\"hidden_size\":null,^\"hidden_size\":384}", VAC_E_CORRUPT,
		 "hidden_size is there twice"},
		{"{\"num_hidden_layers\":^1025}", VAC_E_CORRUPT, "num_hidden_layers must be"},
		{"{\"num_attention_heads\":^0}", VAC_E_CORRUPT, "num_attention_heads must be"},
		{"{\"vocab_size\":^16777217}", VAC_E_CORRUPT, "vocab_size must be"},
		{"{\"pad_token_id\":^-2}", VAC_E_CORRUPT, "pad_token_id must be"},
		{"{\"layer_norm_eps\":^\"1e-12\"}", VAC_E_CORRUPT,
		 "layer_norm_eps must be a number"},
		{"{\"layer_norm_eps\":^-1e-12}", VAC_E_CORRUPT, "layer_norm_eps must be between"},
		{"{\"layer_norm_eps\":^2}", VAC_E_CORRUPT, "layer_norm_eps must be between"},
		{"{\"is_decoder\":^1}", VAC_E_CORRUPT, "is_decoder must be true or false"},
		{"{\"model_type\":^1}", VAC_E_CORRUPT, "model_type must be a string"},
		{"{\"model_type\":^\"a\\u0000\"}", VAC_E_CORRUPT, "model_type is \"a?\""},
		{"{\"torch_dtype\":^\"aaaaaaaaaaaaaaaa\"}", VAC_E_CORRUPT, "at most 15 bytes"},
		{"{\"architectures\":^\"BertModel\"}", VAC_E_CORRUPT,
		 "architectures must be an array of strings"},
		{"{\"architectures\":[^1]}", VAC_E_CORRUPT,
		 "architectures must be an array of strings"},
	};

	(void)state;
	EXPECT_BAD(parse_model, cases);
}

static void test_model_file(void **state)
{
	struct vac_model_config config;
	struct vac_error err = {0};
	char *large = calloc(1, (4 << 20) + 2);

	(void)state;
	assert_int_equal(vac_model_config_read(temp_path("m"), &config, &err),
			 vac_error_errno(VAC_E_NOT_FOUND));
	assert_non_null(strstr(err.message, "m/config.json: is missing"));
	temp_text("m/config.json", "{\"hidden_size\":0}");
	assert_int_equal(vac_model_config_read(temp_path("m"), &config, &err),
			 vac_error_errno(VAC_E_CORRUPT));
	assert_non_null(strstr(err.message, "m/config.json: byte 15: hidden_size"));
	memset(large, ' ', (4 << 20) + 1);
	memcpy(large, "{}", 2);
	temp_write("m/config.json", large, 4 << 20);
	assert_int_equal(vac_model_config_read(temp_path("m"), &config, &err), 0);
	temp_write("m/config.json", large, (4 << 20) + 1);
	assert_int_equal(vac_model_config_read(temp_path("m"), &config, &err),
			 vac_error_errno(VAC_E_TOO_LARGE));
	free(large);
}

static int parse_tokenizer(const char *json, size_t bytes, struct vac_error *err)
{
	uint32_t length;

	return vac_tokenizer_config_parse(json, bytes, "PATH", &length, err);
}

static void test_tokenizer(void **state)
{
	static const struct {
		const char *json;
		uint32_t length;
	} good[] = {
		{"{}", 0},
		{"{\"model_max_length\":null}", 0},
		{"{\"added_tokens_decoder\":{\"0\":{}},\"model_max_length\":512}", 512},
		{"{\"model_max_length\":1000000000000000019884624838656}", 0},
		{"{\"model_max_length\":1e30}", 0},
		{"{\"model_max_length\":4294967295}", 4294967295u},
		{"{\"model_max_length\":4294967296}", 0},
	};
	static const struct bad cases[] = {
		{"{\"model_max_length\":^0}", VAC_E_CORRUPT, "model_max_length must be"},
		{"{\"model_max_length\":^-1}", VAC_E_CORRUPT, "model_max_length must be"},
		{"{\"model_max_length\":^512.0}", VAC_E_CORRUPT, "model_max_length must be"},
		{"{\"model_max_length\":^\"512\"}", VAC_E_CORRUPT, "model_max_length must be"},
		{"{\"model_max_length\":1,^\"model_max_length\":1}", VAC_E_CORRUPT, "there twice"},
		{"^[]", VAC_E_CORRUPT, "an object"},
		{"{\"model_max_length\":1^", VAC_E_CORRUPT, "ends"},
	};
	struct vac_error err = {0};
	uint32_t length = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(vac_tokenizer_config_parse(good[i].json, strlen(good[i].json),
							    "PATH", &length, &err),
				 0);
		assert_int_equal(length, good[i].length);
	}
	EXPECT_BAD(parse_tokenizer, cases);
	length = 1;
	assert_int_equal(vac_tokenizer_config_max_length(temp_path(""), &length, &err), 0);
	assert_int_equal(length, 0);
	temp_text("tokenizer_config.json", "{\"model_max_length\":77}");
	assert_int_equal(vac_tokenizer_config_max_length(temp_path(""), &length, &err), 0);
	assert_int_equal(length, 77);
}

#define MODULE(path, type) "{\"idx\":0,\"name\":\"\",\"path\":\"" path "\",\"type\":\"" type "\"}"
#define ST(name)           "sentence_transformers.models." name
#define TRANSFORMER        MODULE("", ST("Transformer"))
#define POOLING            MODULE("1_Pooling", ST("Pooling"))
#define NORMALIZE          MODULE("2_Normalize", ST("Normalize"))

static int parse_modules(const char *json, size_t bytes, struct vac_error *err)
{
	struct vac_st_modules modules;

	return vac_st_modules_parse(json, bytes, "PATH", &modules, err);
}

static void test_modules(void **state)
{
	/* The second is as sentence-transformers 6 writes it. */
	static const char full[] =
		"[" TRANSFORMER "," POOLING "," MODULE("2_Dense", ST("Dense")) "," MODULE(
			"a/3_Dense", ST("Dense")) "," MODULE("4_Normalize", ST("Normalize")) "]";
	static const char moved[] = "[" MODULE(
		"", "sentence_transformers.base.modules.transformer."
		    "Transformer") "," MODULE("1_Pooling", "sentence_transformers.sentence_"
							   "transformer.modules.pooling."
							   "Pooling") "]";
	struct vac_st_modules modules;
	struct vac_error err = {0};

	(void)state;
	if (vac_st_modules_parse(full, strlen(full), "PATH", &modules, &err) != 0)
		fail_msg("%s", err.message);
	assert_string_equal(modules.pooling_path, "1_Pooling");
	assert_int_equal(modules.dense_count, 2);
	assert_string_equal(modules.dense_path[0], "2_Dense");
	assert_string_equal(modules.dense_path[1], "a/3_Dense");
	assert_true(modules.normalize);
	assert_string_equal(modules.normalize_path, "4_Normalize");
	assert_int_equal(vac_st_modules_parse(moved, strlen(moved), "PATH", &modules, &err), 0);
	assert_int_equal(modules.dense_count, 0);
	assert_false(modules.normalize);
}

static void test_bad_modules(void **state)
{
	static const struct bad cases[] = {
		{"^{}", VAC_E_CORRUPT, "an array"},
		{"[^]", VAC_E_UNSUPPORTED, "0 modules"},
		{"[" TRANSFORMER "^]", VAC_E_UNSUPPORTED, "1 modules"},
		{"[^1]", VAC_E_CORRUPT, "module 0 is not an object"},
		{"[" TRANSFORMER ",^null]", VAC_E_CORRUPT, "module 1 is not an object"},
		{"[" TRANSFORMER "," POOLING "]^,", VAC_E_CORRUPT, ""},
		{"[" TRANSFORMER ",^{\"path\":\"a\"}]", VAC_E_CORRUPT, "module 1 has no type"},
		{"[^{\"type\":\"a\"}]", VAC_E_CORRUPT, "module 0 has no path"},
		{"[{\"path\":^1,\"type\":\"a\"}]", VAC_E_CORRUPT, "path must be a string"},
		{"[^" POOLING "]", VAC_E_UNSUPPORTED, "module 0 is of type"},
		{"[" TRANSFORMER ",^" TRANSFORMER "]", VAC_E_UNSUPPORTED, "module 1 is of type"},
		{"[" TRANSFORMER ",^" NORMALIZE "]", VAC_E_UNSUPPORTED,
		 "\"sentence_transformers.models.Normalize\"; only the order"},
		{"[" TRANSFORMER "," POOLING ",^" POOLING "]", VAC_E_UNSUPPORTED,
		 "module 2 is of type"},
		{"[" TRANSFORMER "," POOLING "," NORMALIZE ",^" MODULE("d", ST("Dense")) "]",
		 VAC_E_UNSUPPORTED, "module 3 is of type"},
		{"[" TRANSFORMER "," POOLING ",^" MODULE("c", ST("CNN")) "]", VAC_E_UNSUPPORTED,
		 "module 2 is of type \"sentence_transformers.models.CNN\""},
		{"[^" MODULE("", "custom_st.Transformer") "]", VAC_E_UNSUPPORTED,
		 "\"custom_st.Transformer\""},
		{"[^" MODULE("", "sentence_transformersX.Transformer") "]", VAC_E_UNSUPPORTED,
		 "sentence_transformersX"},
		{"[^" MODULE("", "sentence_transformers.") "]", VAC_E_UNSUPPORTED, "module 0"},
		{"[^" MODULE("0_BERT", ST("Transformer")) "]", VAC_E_UNSUPPORTED, "\"0_BERT\""},
		{"[" TRANSFORMER ",^" MODULE("../1_Pooling", ST("Pooling")) "]", VAC_E_CORRUPT,
		 "module 1 of type \"sentence_transformers.models.Pooling\" has the path"},
		{"[" TRANSFORMER ",^" MODULE("/tmp", ST("Pooling")) "]", VAC_E_CORRUPT, "\"/tmp\""},
		{"[" TRANSFORMER ",^" MODULE("a/../b", ST("Pooling")) "]", VAC_E_CORRUPT, "a/../b"},
		{"[" TRANSFORMER ",^" MODULE("a//b", ST("Pooling")) "]", VAC_E_CORRUPT, "a//b"},
		{"[" TRANSFORMER ",^" MODULE("a/", ST("Pooling")) "]", VAC_E_CORRUPT, "a/"},
		{"[" TRANSFORMER ",^" MODULE("", ST("Pooling")) "]", VAC_E_CORRUPT, "\"\""},
		{"[" TRANSFORMER ",^" MODULE("a\\\\b", ST("Pooling")) "]", VAC_E_CORRUPT, "a?b"},
		{"[" TRANSFORMER "," POOLING
		 "," MODULE("d", ST("Dense")) "," MODULE("d", ST("Dense")) "," MODULE(
			 "d", ST("Dense")) "," MODULE("d",
						      ST("Dense")) ",^" MODULE("d",
									       ST("Dense")) "]",
		 VAC_E_UNSUPPORTED, "module 6"},
	};

	(void)state;
	EXPECT_BAD(parse_modules, cases);
}

static int parse_pooling(const char *json, size_t bytes, struct vac_error *err)
{
	struct vac_st_config config = {0};

	return vac_st_pooling_parse(json, bytes, "PATH", &config, err);
}

#define MODE(name, value) "\"pooling_mode_" name "\":" value

static void test_pooling(void **state)
{
	static const struct {
		const char *json;
		enum vac_pooling pooling;
		uint32_t dimension;
	} good[] = {
		{"{\"word_embedding_dimension\":384," MODE("cls_token", "false") "," MODE(
			 "mean_tokens", "true") "," MODE("max_tokens", "false") "}",
		 VAC_POOLING_MEAN, 384},
		{"{" MODE("cls_token", "true") "," MODE("mean_tokens",
							"false") ",\"include_prompt\":false}",
		 VAC_POOLING_CLS, 0},
		{"{" MODE("max_tokens", "true") "," MODE("mean_tokens", "false") "}",
		 VAC_POOLING_MAX, 0},
		{"{" MODE("mean_sqrt_len_tokens", "true") "," MODE("mean_tokens", "false") "}",
		 VAC_POOLING_MEAN_SQRT_LEN, 0},
		{"{\"word_embedding_dimension\":7}", VAC_POOLING_MEAN, 7},
		/* as sentence-transformers 6 writes it */
		{"{\"embedding_dimension\":8,\"pooling_mode\":\"cls\",\"include_prompt\":true}",
		 VAC_POOLING_CLS, 8},
		{"{\"pooling_mode\":[\"max\"]}", VAC_POOLING_MAX, 0},
		{"{\"pooling_mode\":\"mean_sqrt_len_tokens\"}", VAC_POOLING_MEAN_SQRT_LEN, 0},
	};
	static const struct bad cases[] = {
		{"{" MODE("mean_tokens", "false") "}", VAC_E_CORRUPT, "none of the pooling modes"},
		{"{" MODE("mean_tokens", "true") "," MODE("cls_token", "true") "}",
		 VAC_E_UNSUPPORTED, "cls and mean at once"},
		{"{" MODE("mean_tokens", "true") "," MODE("lasttoken", "true") "}",
		 VAC_E_UNSUPPORTED, "mean and lasttoken at once"},
		{"{" MODE("weightedmean_tokens", "true") "}", VAC_E_UNSUPPORTED, "weightedmean"},
		{"{" MODE("lasttoken", "true") "}", VAC_E_UNSUPPORTED, "with lasttoken"},
		{"{\"pooling_mode\":\"lasttoken\"}", VAC_E_UNSUPPORTED, "with lasttoken"},
		{"{\"pooling_mode\":\"new\"}", VAC_E_UNSUPPORTED, "\"new\""},
		{"{\"pooling_mode\":[\"max\",^\"mean\"]}", VAC_E_UNSUPPORTED, "several values"},
		{"{" MODE("mean_tokens", "^1") "}", VAC_E_CORRUPT, "true or false"},
		{"{\"word_embedding_dimension\":^0}", VAC_E_CORRUPT, "between 1 and 65536"},
		{"^[]", VAC_E_CORRUPT, "an object"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct vac_st_config config = {.max_seq_length = 5};
		struct vac_error err = {0};

		if (vac_st_pooling_parse(good[i].json, strlen(good[i].json), "PATH", &config,
					 &err) != 0)
			fail_msg("%s: %s", good[i].json, err.message);
		assert_int_equal(config.pooling, good[i].pooling);
		assert_int_equal(config.pooling_dimension, good[i].dimension);
		assert_int_equal(config.max_seq_length, 5);
	}
	EXPECT_BAD(parse_pooling, cases);
	assert_string_equal(vac_pooling_name(VAC_POOLING_CLS), "cls");
	assert_string_equal(vac_pooling_name(VAC_POOLING_MEAN), "mean");
	assert_string_equal(vac_pooling_name(VAC_POOLING_MAX), "max");
	assert_string_equal(vac_pooling_name(VAC_POOLING_MEAN_SQRT_LEN), "mean_sqrt_len");
}

static int parse_dense(const char *json, size_t bytes, struct vac_error *err)
{
	struct vac_dense_config dense;

	return vac_st_dense_parse(json, bytes, "PATH", &dense, err);
}

#define DENSE(rest) "{\"in_features\":8,\"out_features\":4" rest "}"
#define ACT(name)   ",\"activation_function\":\"" name "\""

static void test_dense(void **state)
{
	static const struct {
		const char *json;
		int activation;
		bool bias;
	} good[] = {
		{DENSE(""), VAC_DENSE_TANH, true},
		{DENSE(",\"bias\":false" ACT("torch.nn.modules.linear.Identity")),
		 VAC_DENSE_IDENTITY, false},
		{DENSE(ACT("torch.nn.modules.activation.Tanh")), VAC_DENSE_TANH, true},
		{DENSE(ACT("torch.nn.modules.activation.ReLU")), VAC_DENSE_RELU, true},
		{DENSE(ACT("torch.nn.modules.activation.GELU")), VAC_DENSE_GELU, true},
		{DENSE(ACT("torch.nn.Sigmoid") ",\"module_input_name\":\"sentence_embedding\","
					       "\"module_output_name\":null"),
		 VAC_DENSE_SIGMOID, true},
	};
	static const struct bad cases[] = {
		{DENSE(ACT("torch.nn.modules.activation.SELU")), VAC_E_UNSUPPORTED,
		 "\"torch.nn.modules.activation.SELU\""},
		{DENSE(ACT("my.own.Tanh")), VAC_E_UNSUPPORTED, "\"my.own.Tanh\""},
		{DENSE(ACT("Tanh")), VAC_E_UNSUPPORTED, "\"Tanh\""},
		{DENSE(ACT("")), VAC_E_UNSUPPORTED, "\"\""},
		{DENSE(",\"use_residual\":true"), VAC_E_UNSUPPORTED, "use_residual"},
		{DENSE(",\"module_input_name\":\"token_embeddings\""), VAC_E_UNSUPPORTED,
		 "\"token_embeddings\""},
		{DENSE(",\"module_output_name\":\"other\""), VAC_E_UNSUPPORTED, "\"other\""},
		{"{\"in_features\":8}", VAC_E_CORRUPT, "out_features is missing"},
		{"{\"out_features\":8}", VAC_E_CORRUPT, "in_features is missing"},
		{"{\"in_features\":^70000,\"out_features\":4}", VAC_E_CORRUPT, "between 1 and"},
		{DENSE(",\"bias\":^0"), VAC_E_CORRUPT, "bias must be"},
	};
	static const char other[] = "{\"module_input_name\":\"token_embeddings\"}";
	struct vac_error err = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct vac_dense_config dense;

		if (vac_st_dense_parse(good[i].json, strlen(good[i].json), "PATH", &dense, &err) !=
		    0)
			fail_msg("%s: %s", good[i].json, err.message);
		assert_int_equal(dense.in_features, 8);
		assert_int_equal(dense.out_features, 4);
		assert_int_equal(dense.activation, good[i].activation);
		assert_int_equal(dense.bias, good[i].bias);
	}
	EXPECT_BAD(parse_dense, cases);
	assert_int_equal(vac_st_normalize_parse("{}", 2, "PATH", &err), 0);
	assert_int_equal(vac_st_normalize_parse(other, strlen(other), "PATH", &err),
			 vac_error_errno(VAC_E_UNSUPPORTED));
}

static int parse_transformer(const char *json, size_t bytes, struct vac_error *err)
{
	struct vac_st_config config = {0};

	return vac_st_transformer_parse(json, bytes, "PATH", &config, err);
}

static int parse_prompts(const char *json, size_t bytes, struct vac_error *err)
{
	return vac_st_prompts_parse(json, bytes, "PATH", err);
}

static void test_transformer(void **state)
{
	static const char plain[] = "{\"max_seq_length\":256,\"do_lower_case\":true}";
	static const char empty[] = "{\"max_seq_length\":null,\"tokenizer_args\":{},"
				    "\"transformer_task\":\"feature-extraction\","
				    "\"module_output_name\":\"token_embeddings\"}";
	static const struct bad cases[] = {
		{"{\"max_seq_length\":^0}", VAC_E_CORRUPT, "max_seq_length must be between 1"},
		{"{\"max_seq_length\":^2.5}", VAC_E_CORRUPT, "max_seq_length must be a whole"},
		{"{\"do_lower_case\":^\"no\"}", VAC_E_CORRUPT, "do_lower_case must be"},
		{"{\"transformer_task\":\"fill-mask\"}", VAC_E_UNSUPPORTED, "\"fill-mask\""},
		{"{\"module_output_name\":\"x\"}", VAC_E_UNSUPPORTED, "\"x\""},
		{"{\"config_args\":{^\"a\":1}}", VAC_E_UNSUPPORTED, "config_args sets \"a\""},
		{"{\"model_args\":^[]}", VAC_E_CORRUPT, "model_args must be an object"},
	};
	static const struct bad prompts[] = {
		{"{\"default_prompt_name\":\"q\",\"prompts\":{\"p\":\"\",\"q\":^\"query: \"}}",
		 VAC_E_UNSUPPORTED, "the default prompt \"q\""},
		{"{\"prompts\":{\"q\":^\"query: \"},\"default_prompt_name\":\"q\"}",
		 VAC_E_UNSUPPORTED, "the default prompt \"q\""},
		{"{\"default_prompt_name\":\"q\",\"prompts\":{\"q\":^1}}", VAC_E_CORRUPT,
		 "prompts must hold strings"},
		{"{\"default_prompt_name\":^1}", VAC_E_CORRUPT, "must be a string"},
	};
	static const char *const harmless[] = {
		"{\"__version__\":{\"pytorch\":\"1.8.1\"}}",
		"{\"prompts\":{\"q\":\"query: \"},\"default_prompt_name\":null}",
		"{\"prompts\":{\"q\":\"\"},\"default_prompt_name\":\"q\"}",
	};
	struct vac_st_config config = {.pooling = VAC_POOLING_MAX};
	struct vac_error err = {0};

	(void)state;
	assert_int_equal(vac_st_transformer_parse(plain, strlen(plain), "PATH", &config, &err), 0);
	assert_int_equal(config.max_seq_length, 256);
	assert_true(config.do_lower_case);
	assert_int_equal(config.pooling, VAC_POOLING_MAX);
	assert_int_equal(vac_st_transformer_parse(empty, strlen(empty), "PATH", &config, &err), 0);
	assert_int_equal(config.max_seq_length, 0);
	assert_false(config.do_lower_case);
	EXPECT_BAD(parse_transformer, cases);
	EXPECT_BAD(parse_prompts, prompts);
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		assert_int_equal(parse_prompts(harmless[i], strlen(harmless[i]), &err), 0);
}

static void make_st_model(void)
{
	temp_text("m/modules.json",
		  "[" TRANSFORMER "," POOLING "," MODULE("2_Dense", ST("Dense")) "," MODULE(
			  "3_Normalize", ST("Normalize")) "]");
	temp_text("m/1_Pooling/config.json",
		  "{\"word_embedding_dimension\":8," MODE("cls_token", "true") "," MODE(
			  "mean_tokens", "false") "}");
	temp_text("m/2_Dense/config.json", DENSE(""));
	temp_text("m/sentence_bert_config.json", "{\"max_seq_length\":128}");
	temp_text("m/sentence_roberta_config.json", "{\"max_seq_length\":64}");
	temp_text("m/config_sentence_transformers.json", "{\"prompts\":{}}");
}

static void expect_st(enum vac_error_code code, const char *part)
{
	struct vac_st_config config;
	struct vac_error err = {0};
	int rc = vac_st_config_read(temp_path("m"), &config, &err);

	if (rc != vac_error_errno(code) || err.code != code || !strstr(err.message, part))
		fail_msg("wanted %d and \"%s\": %d: %s", code, part, err.code, err.message);
}

static void test_st_files(void **state)
{
	struct vac_st_config config;
	struct vac_error err = {0};
	int fds = count_fds();

	(void)state;
	/* Without modules.json the other files say nothing. */
	temp_text("m/sentence_bert_config.json", "{\"max_seq_length\":128}");
	assert_int_equal(vac_st_config_read(temp_path("m"), &config, &err), 0);
	assert_false(config.present);
	assert_int_equal(config.pooling, VAC_POOLING_MEAN);
	assert_false(config.normalize);
	assert_int_equal(config.max_seq_length, 0);
	make_st_model();
	if (vac_st_config_read(temp_path("m"), &config, &err) != 0)
		fail_msg("%s", err.message);
	assert_true(config.present);
	assert_int_equal(config.pooling, VAC_POOLING_CLS);
	assert_int_equal(config.pooling_dimension, 8);
	assert_int_equal(config.dense_count, 1);
	assert_string_equal(config.dense[0].dir, temp_path("m/2_Dense"));
	assert_int_equal(config.dense[0].out_features, 4);
	assert_true(config.normalize);
	assert_int_equal(config.max_seq_length, 128);
	temp_unlink("m/sentence_bert_config.json");
	assert_int_equal(vac_st_config_read(temp_path("m"), &config, &err), 0);
	assert_int_equal(config.max_seq_length, 64);
	temp_text("m/config_sentence_transformers.json",
		  "{\"prompts\":{\"q\":\"x\"},\"default_prompt_name\":\"q\"}");
	expect_st(VAC_E_UNSUPPORTED, "config_sentence_transformers.json: byte 16: ");
	temp_text("m/3_Normalize/config.json", "{\"module_input_name\":\"x\"}");
	expect_st(VAC_E_UNSUPPORTED, "3_Normalize/config.json: module_input_name is \"x\"");
	temp_text("m/2_Dense/config.json", "{\"in_features\":9,\"out_features\":4}");
	expect_st(VAC_E_CORRUPT, "2_Dense/config.json: in_features is 9 where");
	temp_unlink("m/2_Dense/config.json");
	expect_st(VAC_E_NOT_FOUND, "2_Dense/config.json: is missing");
	temp_unlink("m/1_Pooling/config.json");
	expect_st(VAC_E_NOT_FOUND, "1_Pooling/config.json: is missing");
	temp_text("m/modules.json", "[");
	expect_st(VAC_E_CORRUPT, "modules.json: byte 1: ");
	assert_int_equal(count_fds(), fds);
}

static void test_no_memory(void **state)
{
	struct vac_st_config st;
	struct vac_model_config model;
	struct vac_error err = {0};
	int rc, fds = count_fds();
	uint32_t length = 0;
	unsigned long n;

	(void)state;
	make_st_model();
	temp_text("m/config.json", "{\"hidden\\n\":1,\"layer_norm_eps\":1e-12}");
	temp_text("m/tokenizer_config.json", "{\"a\\n\":1,\"model_max_length\":9}");
	for (n = 0;; n++) {
		fail_after(n);
		rc = vac_st_config_read(temp_path("m"), &st, &err);
		if (rc == 0)
			rc = vac_model_config_read(temp_path("m"), &model, &err);
		if (rc == 0)
			rc = vac_tokenizer_config_max_length(temp_path("m"), &length, &err);
		fail_never();
		assert_int_equal(count_fds(), fds);
		if (rc == 0)
			break;
		assert_int_equal(rc, vac_error_errno(VAC_E_NO_ROOM));
		assert_int_equal(err.code, VAC_E_NO_ROOM);
	}
	assert_true(n > 15);
	assert_int_equal(length, 9);
	assert_int_equal(st.max_seq_length, 128);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_bad_model),
		cmocka_unit_test_setup_teardown(test_model_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tokenizer, setup, teardown),
		cmocka_unit_test(test_modules),
		cmocka_unit_test(test_bad_modules),
		cmocka_unit_test(test_pooling),
		cmocka_unit_test(test_dense),
		cmocka_unit_test(test_transformer),
		cmocka_unit_test_setup_teardown(test_st_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
