/*
 * st_config.c - the files that sentence-transformers adds to a model:
 * modules.json, the configurations of its Pooling, Dense and Normalize
 * modules, sentence_bert_config.json and the default prompt. What would change
 * a vector and is not implemented is refused by name. Any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/quote.h"
#include "format/config.h"
#include "format/config_reader.h"

#define QUOTED(text, bytes) vac_quote(&(struct vac_quoted){{0}}, text, bytes)
#define LENGTH(array)       (sizeof(array) / sizeof((array)[0]))
#define WIDTH_MAX           (1 << 16)

#define MEMBER(name, type, struct_type, field, low, high)                                          \
	{                                                                                          \
		name, type, offsetof(struct struct_type, field),                                   \
			sizeof(((struct struct_type *)0)->field), low, high                        \
	}

const char *vac_pooling_name(enum vac_pooling pooling)
{
	static const char *const names[] = {
		[VAC_POOLING_CLS] = "cls",
		[VAC_POOLING_MEAN] = "mean",
		[VAC_POOLING_MAX] = "max",
		[VAC_POOLING_MEAN_SQRT_LEN] = "mean_sqrt_len",
	};

	return (size_t)pooling < LENGTH(names) ? names[pooling] : "unknown";
}

/* ---- modules.json ---- */

enum module_kind {
	MODULE_TRANSFORMER,
	MODULE_POOLING,
	MODULE_DENSE,
	MODULE_NORMALIZE,
	MODULE_OTHER
};

struct module {
	char type[256], path[256];
};
enum { MODULE_PATH_GIVEN = 1, MODULE_TYPE_GIVEN = 2 };
static const struct config_member module_members[] = {
	MEMBER("path", CONFIG_TEXT, module, path, 0, 0),
	MEMBER("type", CONFIG_TEXT, module, type, 0, 0),
};

/* The package moved its classes between modules more than once; the class's
 * own name stayed. */
static enum module_kind module_kind(const char *type)
{
	static const char *const names[] = {
		[MODULE_TRANSFORMER] = "Transformer",
		[MODULE_POOLING] = "Pooling",
		[MODULE_DENSE] = "Dense",
		[MODULE_NORMALIZE] = "Normalize",
	};
	const char *last = strrchr(type, '.');

	if (strncmp(type, "sentence_transformers.", 22) != 0)
		return MODULE_OTHER;
	for (size_t i = 0; i < LENGTH(names); i++)
		if (strcmp(last + 1, names[i]) == 0)
			return (enum module_kind)i;
	return MODULE_OTHER;
}

/* Components between single slashes, none of which begins with a dot: it stays
 * within the model's directory whatever it says. */
static bool module_path_ok(const char *path)
{
	bool start = true;

	for (const char *at = path; *at; at++) {
		if ((unsigned char)*at < 0x20 || *at == 0x7f || *at == '\\')
			return false;
		if (start && (*at == '/' || *at == '.'))
			return false;
		start = *at == '/';
	}
	return path[0] != '\0' && !start;
}

/* Adds one module to the pipeline if it may stand at this place. */
static int add_module(struct vac_json *json, const struct module *module, uint32_t index,
		      struct vac_st_modules *out)
{
	enum module_kind kind = module_kind(module->type);
	const char *type = QUOTED(module->type, strlen(module->type));

	if (kind == MODULE_OTHER)
		return vac_json_fail(
			json, VAC_E_UNSUPPORTED,
			"module %u is of type %s; only Transformer, Pooling, Dense and "
			"Normalize of sentence_transformers are supported",
			index, type);
	if ((index == 0) != (kind == MODULE_TRANSFORMER) ||
	    (index == 1) != (kind == MODULE_POOLING) || out->normalize)
		return vac_json_fail(
			json, VAC_E_UNSUPPORTED,
			"module %u is of type %s; only the order Transformer, Pooling, "
			"Dense modules, Normalize is supported",
			index, type);
	if (kind == MODULE_TRANSFORMER) {
		if (module->path[0] == '\0')
			return 0;
		return vac_json_fail(json, VAC_E_UNSUPPORTED,
				     "the Transformer lies in %s; only one in the model's own "
				     "directory is supported",
				     QUOTED(module->path, strlen(module->path)));
	}
	if (!module_path_ok(module->path))
		return vac_json_fail(
			json, VAC_E_CORRUPT,
			"module %u of type %s has the path %s, which is not one within "
			"the model's directory",
			index, type, QUOTED(module->path, strlen(module->path)));
	if (kind == MODULE_POOLING) {
		strcpy(out->pooling_path, module->path);
	} else if (kind == MODULE_NORMALIZE) {
		out->normalize = true;
		strcpy(out->normalize_path, module->path);
	} else {
		if (out->dense_count == VAC_MAX_DENSE)
			return vac_json_fail(
				json, VAC_E_UNSUPPORTED,
				"module %u of type %s is one Dense module more than the "
				"%d that are supported",
				index, type, VAC_MAX_DENSE);
		strcpy(out->dense_path[out->dense_count++], module->path);
	}
	return 0;
}

static int read_modules(struct vac_json *json, struct vac_st_modules *out)
{
	uint32_t index = 0;
	enum vac_json_type type = VAC_JSON_ERROR;
	int rc = vac_json_expect(json, VAC_JSON_ARRAY_BEGIN, "the list of modules");

	while (rc == 0 && (type = vac_json_next(json)) == VAC_JSON_OBJECT_BEGIN) {
		struct module module = {{0}, {0}};
		size_t start = json->value_at;
		uint32_t given;

		rc = vac_config_members(json, module_members, LENGTH(module_members), &module,
					&given);
		if (rc != 0)
			return rc;
		json->value_at = start;
		if (given != (MODULE_PATH_GIVEN | MODULE_TYPE_GIVEN))
			return vac_json_fail(json, VAC_E_CORRUPT, "module %u has no %s", index,
					     given & MODULE_TYPE_GIVEN ? "path" : "type");
		rc = add_module(json, &module, index++, out);
	}
	if (rc != 0 || type == VAC_JSON_ERROR)
		return rc ? rc : json->state;
	if (type != VAC_JSON_ARRAY_END)
		return vac_json_fail(json, VAC_E_CORRUPT, "module %u is not an object", index);
	if (index < 2)
		return vac_json_fail(json, VAC_E_UNSUPPORTED,
				     "there are %u modules; Transformer and Pooling are needed",
				     index);
	return vac_json_expect(json, VAC_JSON_END, "behind the list of modules");
}

int vac_st_modules_parse(const char *text, size_t bytes, const char *path,
			 struct vac_st_modules *out, struct vac_error *err)
{
	struct vac_json json;
	int rc;

	memset(out, 0, sizeof(*out));
	vac_json_init(&json, path, text, bytes, err);
	rc = read_modules(&json, out);
	vac_json_free(&json);
	return rc;
}

/* ---- Pooling ---- */

static const struct {
	const char *name;
	bool supported;
	enum vac_pooling pooling;
} pooling_modes[] = {
	{"cls", true, VAC_POOLING_CLS},
	{"max", true, VAC_POOLING_MAX},
	{"mean", true, VAC_POOLING_MEAN},
	{"mean_sqrt_len_tokens", true, VAC_POOLING_MEAN_SQRT_LEN},
	{"weightedmean", false, VAC_POOLING_MEAN},
	{"lasttoken", false, VAC_POOLING_MEAN},
};

struct pooling_file {
	bool flags[LENGTH(pooling_modes)]; /* as pooling_modes */
	bool include_prompt;
	uint32_t dimension;
	char mode[32];
};
#define MEAN 2 /* the default: index of mean, and its bit among the given members */
static const struct config_member pooling_members[] = {
	MEMBER("pooling_mode_cls_token", CONFIG_BOOL, pooling_file, flags[0], 0, 0),
	MEMBER("pooling_mode_max_tokens", CONFIG_BOOL, pooling_file, flags[1], 0, 0),
	MEMBER("pooling_mode_mean_tokens", CONFIG_BOOL, pooling_file, flags[2], 0, 0),
	MEMBER("pooling_mode_mean_sqrt_len_tokens", CONFIG_BOOL, pooling_file, flags[3], 0, 0),
	MEMBER("pooling_mode_weightedmean_tokens", CONFIG_BOOL, pooling_file, flags[4], 0, 0),
	MEMBER("pooling_mode_lasttoken", CONFIG_BOOL, pooling_file, flags[5], 0, 0),
	/* Says whether a prompt counts; without prompts it changes nothing. */
	MEMBER("include_prompt", CONFIG_BOOL, pooling_file, include_prompt, 0, 0),
	MEMBER("word_embedding_dimension", CONFIG_COUNT, pooling_file, dimension, 1, WIDTH_MAX),
	/* The names since sentence-transformers 5. */
	MEMBER("embedding_dimension", CONFIG_COUNT, pooling_file, dimension, 1, WIDTH_MAX),
	MEMBER("pooling_mode", CONFIG_ONE_TEXT, pooling_file, mode, 0, 0),
};

/* Index into pooling_modes, or a negative errno. */
static int choose_pooling(const struct pooling_file *file, uint32_t given, const char *path,
			  struct vac_error *err)
{
	int chosen = -1;

	if (file->mode[0]) {
		for (size_t i = 0; i < LENGTH(pooling_modes); i++)
			if (strcmp(file->mode, pooling_modes[i].name) == 0)
				return (int)i;
		return vac_fail(
			err, VAC_E_UNSUPPORTED,
			"%s: pooling_mode is %s, which is not supported; cls, mean, max and "
			"mean_sqrt_len_tokens are",
			path, QUOTED(file->mode, strlen(file->mode)));
	}
	for (size_t i = 0; i < LENGTH(pooling_modes); i++) {
		if (!file->flags[i])
			continue;
		if (chosen >= 0)
			return vac_fail(err, VAC_E_UNSUPPORTED,
					"%s: pools with %s and %s at once, which is not supported",
					path, pooling_modes[chosen].name, pooling_modes[i].name);
		chosen = (int)i;
	}
	if (chosen >= 0)
		return chosen;
	if (given & (UINT32_C(1) << MEAN))
		return vac_fail(err, VAC_E_CORRUPT,
				"%s: none of the pooling modes is true; set exactly one", path);
	return MEAN;
}

int vac_st_pooling_parse(const char *text, size_t bytes, const char *path,
			 struct vac_st_config *out, struct vac_error *err)
{
	struct pooling_file file = {.include_prompt = true};
	uint32_t given = 0;
	int rc = vac_config_document(text, bytes, path, pooling_members, LENGTH(pooling_members),
				     &file, &given, err);

	if (rc != 0)
		return rc;
	rc = choose_pooling(&file, given, path, err);
	if (rc < 0)
		return rc;
	if (!pooling_modes[rc].supported)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: pools with %s, which is not supported; cls, mean, max and "
				"mean_sqrt_len_tokens are",
				path, pooling_modes[rc].name);
	out->pooling = pooling_modes[rc].pooling;
	out->pooling_dimension = file.dimension;
	return 0;
}

/* ---- Dense and Normalize ---- */

struct stage_file {
	uint32_t in_features, out_features;
	bool bias, use_residual;
	char activation[128], input[64], output[64];
};
enum { IN_GIVEN = 1, OUT_GIVEN = 2 };
static const struct config_member stage_members[] = {
	MEMBER("in_features", CONFIG_COUNT, stage_file, in_features, 1, WIDTH_MAX),
	MEMBER("out_features", CONFIG_COUNT, stage_file, out_features, 1, WIDTH_MAX),
	MEMBER("bias", CONFIG_BOOL, stage_file, bias, 0, 0),
	MEMBER("activation_function", CONFIG_TEXT, stage_file, activation, 0, 0),
	MEMBER("module_input_name", CONFIG_TEXT, stage_file, input, 0, 0),
	MEMBER("module_output_name", CONFIG_TEXT, stage_file, output, 0, 0),
	MEMBER("use_residual", CONFIG_BOOL, stage_file, use_residual, 0, 0),
};

/* Both kinds may be told to work on something else than the pooled vector. */
static int read_stage(const char *text, size_t bytes, const char *path, struct stage_file *file,
		      uint32_t *given, struct vac_error *err)
{
	int rc = vac_config_document(text, bytes, path, stage_members, LENGTH(stage_members), file,
				     given, err);

	if (rc != 0)
		return rc;
	if (file->input[0] && strcmp(file->input, "sentence_embedding") != 0)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: module_input_name is %s; only \"sentence_embedding\" is "
				"supported",
				path, QUOTED(file->input, strlen(file->input)));
	if (file->output[0] && strcmp(file->output, "sentence_embedding") != 0)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: module_output_name is %s; only \"sentence_embedding\" is "
				"supported",
				path, QUOTED(file->output, strlen(file->output)));
	return 0;
}

static int find_activation(const char *type, const char *path, struct vac_dense_config *out,
			   struct vac_error *err)
{
	static const char *const names[] = {
		[VAC_DENSE_IDENTITY] = "Identity", [VAC_DENSE_TANH] = "Tanh",
		[VAC_DENSE_RELU] = "ReLU",         [VAC_DENSE_GELU] = "GELU",
		[VAC_DENSE_SIGMOID] = "Sigmoid",
	};

	if (strncmp(type, "torch.nn.", 9) == 0) {
		for (size_t i = 0; i < LENGTH(names); i++) {
			if (strcmp(strrchr(type, '.') + 1, names[i]) == 0) {
				out->activation = i;
				return 0;
			}
		}
	}
	return vac_fail(err, VAC_E_UNSUPPORTED,
			"%s: activation_function is %s; Identity, Tanh, ReLU, GELU and Sigmoid of "
			"torch.nn are supported",
			path, QUOTED(type, strlen(type)));
}

int vac_st_dense_parse(const char *text, size_t bytes, const char *path,
		       struct vac_dense_config *out, struct vac_error *err)
{
	/* bias and Tanh are the defaults of sentence-transformers. */
	struct stage_file file = {.bias = true, .activation = "torch.nn.Tanh"};
	uint32_t given = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = read_stage(text, bytes, path, &file, &given, err);
	if (rc != 0)
		return rc;
	if (!(given & IN_GIVEN) || !(given & OUT_GIVEN))
		return vac_fail(err, VAC_E_CORRUPT, "%s: %s is missing; download the model again",
				path, given & IN_GIVEN ? "out_features" : "in_features");
	if (file.use_residual)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: use_residual is true, which is not supported", path);
	out->in_features = file.in_features;
	out->out_features = file.out_features;
	out->bias = file.bias;
	return find_activation(file.activation, path, out, err);
}

int vac_st_normalize_parse(const char *text, size_t bytes, const char *path, struct vac_error *err)
{
	struct stage_file file = {0};

	return read_stage(text, bytes, path, &file, NULL, err);
}

/* ---- sentence_bert_config.json ---- */

struct transformer_file {
	uint32_t max_seq_length;
	bool do_lower_case;
	char task[64], output[64];
};
static const struct config_member transformer_members[] = {
	MEMBER("max_seq_length", CONFIG_COUNT, transformer_file, max_seq_length, 1, 1 << 24),
	MEMBER("do_lower_case", CONFIG_BOOL, transformer_file, do_lower_case, 0, 0),
	MEMBER("transformer_task", CONFIG_TEXT, transformer_file, task, 0, 0),
	MEMBER("module_output_name", CONFIG_TEXT, transformer_file, output, 0, 0),
	/* Arguments for classes of other libraries: any of them may change a vector. */
	{"model_args", CONFIG_EMPTY, 0, 0, 0, 0},
	{"config_args", CONFIG_EMPTY, 0, 0, 0, 0},
	{"tokenizer_args", CONFIG_EMPTY, 0, 0, 0, 0},
	{"processing_kwargs", CONFIG_EMPTY, 0, 0, 0, 0},
};

int vac_st_transformer_parse(const char *text, size_t bytes, const char *path,
			     struct vac_st_config *out, struct vac_error *err)
{
	struct transformer_file file = {0};
	int rc = vac_config_document(text, bytes, path, transformer_members,
				     LENGTH(transformer_members), &file, NULL, err);

	if (rc != 0)
		return rc;
	if (file.task[0] && strcmp(file.task, "feature-extraction") != 0)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: transformer_task is %s; only \"feature-extraction\" is "
				"supported",
				path, QUOTED(file.task, strlen(file.task)));
	if (file.output[0] && strcmp(file.output, "token_embeddings") != 0)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: module_output_name is %s; only \"token_embeddings\" is "
				"supported",
				path, QUOTED(file.output, strlen(file.output)));
	out->max_seq_length = file.max_seq_length;
	out->do_lower_case = file.do_lower_case;
	return 0;
}

/* ---- config_sentence_transformers.json ---- */

struct prompts_file {
	char default_name[256];
};
static const struct config_member prompts_members[] = {
	MEMBER("default_prompt_name", CONFIG_TEXT, prompts_file, default_name, 0, 0),
};

/* Second reading of the document: the text of one prompt. The first has shown
 * that it is a valid object. */
static int check_prompt(struct vac_json *json, const char *name)
{
	int rc = vac_json_expect(json, VAC_JSON_OBJECT_BEGIN, "the configuration");
	enum vac_json_type type;

	while (rc == 0 && vac_json_next(json) == VAC_JSON_KEY) {
		if (!vac_json_is(json, "prompts")) {
			rc = vac_json_skip(json);
			continue;
		}
		rc = vac_json_expect(json, VAC_JSON_OBJECT_BEGIN, "prompts");
		while (rc == 0 && vac_json_next(json) == VAC_JSON_KEY) {
			bool wanted = vac_json_is(json, name);

			type = vac_json_next(json);
			if (type != VAC_JSON_STRING && type != VAC_JSON_NULL)
				return vac_json_fail(json, VAC_E_CORRUPT,
						     "prompts must hold strings");
			if (wanted && type == VAC_JSON_STRING && json->text_bytes > 0)
				return vac_json_fail(
					json, VAC_E_UNSUPPORTED,
					"the default prompt %s puts text before every input, which "
					"is not supported; set default_prompt_name to null and "
					"send "
					"the prompt with the text",
					QUOTED(name, strlen(name)));
		}
	}
	return rc == 0 && json->state < 0 ? json->state : rc;
}

int vac_st_prompts_parse(const char *text, size_t bytes, const char *path, struct vac_error *err)
{
	struct prompts_file file = {{0}};
	struct vac_json json;
	uint32_t given = 0;
	int rc = vac_config_document(text, bytes, path, prompts_members, LENGTH(prompts_members),
				     &file, &given, err);

	if (rc != 0 || !given)
		return rc;
	vac_json_init(&json, path, text, bytes, err);
	rc = check_prompt(&json, file.default_name);
	vac_json_free(&json);
	return rc;
}
