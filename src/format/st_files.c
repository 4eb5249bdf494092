/*
 * st_files.c - finds the files of sentence-transformers in a model's directory
 * and puts what they say together. Any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "format/config.h"
#include "format/config_reader.h"

#define MISSING "%s: is missing, and modules.json names its module; download the model again"

static int read_pooling(const char *dir, const struct vac_st_modules *modules,
			struct vac_st_config *out, struct vac_error *err)
{
	char *sub = vac_path_join(dir, modules->pooling_path), *path = NULL;
	struct vac_buf buf = VAC_BUF_INIT;
	bool found;
	int rc;

	if (!sub)
		return vac_fail_nomem(err, modules->pooling_path, 0);
	rc = vac_config_file(sub, "config.json", CONFIG_MAX_BYTES, &path, &buf, &found, err);
	if (rc == 0 && !found)
		rc = vac_fail(err, VAC_E_NOT_FOUND, MISSING, path);
	if (rc == 0)
		rc = vac_st_pooling_parse((const char *)buf.data, buf.bytes, path, out, err);
	vac_buf_free(&buf);
	free(path);
	free(sub);
	return rc;
}

/* Reads one Dense module; its width must be what comes out of the stage before
 * it (0: not stated). */
static int read_dense(const char *dir, const char *module, uint32_t width,
		      struct vac_dense_config *out, struct vac_error *err)
{
	char *sub = vac_path_join(dir, module), *path = NULL;
	struct vac_buf buf = VAC_BUF_INIT;
	bool found;
	int rc;

	if (!sub)
		return vac_fail_nomem(err, module, 0);
	rc = vac_config_file(sub, "config.json", CONFIG_MAX_BYTES, &path, &buf, &found, err);
	if (rc == 0 && !found)
		rc = vac_fail(err, VAC_E_NOT_FOUND, MISSING, path);
	if (rc == 0)
		rc = vac_st_dense_parse((const char *)buf.data, buf.bytes, path, out, err);
	if (rc == 0 && strlen(sub) >= sizeof(out->dir))
		rc = vac_fail(err, VAC_E_TOO_LARGE,
			      "%s: the path has more than the %zu bytes that are supported; move "
			      "the model to a shorter one",
			      sub, sizeof(out->dir) - 1);
	if (rc == 0 && width && out->in_features != width)
		rc = vac_fail(err, VAC_E_CORRUPT,
			      "%s: in_features is %u where the module before it gives %u; download "
			      "the model again",
			      path, out->in_features, width);
	if (rc == 0)
		strcpy(out->dir, sub);
	vac_buf_free(&buf);
	free(path);
	free(sub);
	return rc;
}

/* Older versions wrote no file for it. */
static int read_normalize(const char *dir, const char *module, struct vac_error *err)
{
	char *sub = vac_path_join(dir, module), *path = NULL;
	struct vac_buf buf = VAC_BUF_INIT;
	bool found;
	int rc;

	if (!sub)
		return vac_fail_nomem(err, module, 0);
	rc = vac_config_file(sub, "config.json", CONFIG_MAX_BYTES, &path, &buf, &found, err);
	if (rc == 0 && found)
		rc = vac_st_normalize_parse((const char *)buf.data, buf.bytes, path, err);
	vac_buf_free(&buf);
	free(path);
	free(sub);
	return rc;
}

/* The names that sentence-transformers tries, in its order; the first wins. */
static int read_transformer(const char *dir, struct vac_st_config *out, struct vac_error *err)
{
	static const char *const names[] = {
		"sentence_bert_config.json",       "sentence_roberta_config.json",
		"sentence_distilbert_config.json", "sentence_camembert_config.json",
		"sentence_albert_config.json",     "sentence_xlm-roberta_config.json",
		"sentence_xlnet_config.json",
	};
	bool found = false;
	int rc = 0;

	for (size_t i = 0; rc == 0 && !found && i < sizeof(names) / sizeof(names[0]); i++) {
		struct vac_buf buf;
		char *path;

		rc = vac_config_file(dir, names[i], CONFIG_MAX_BYTES, &path, &buf, &found, err);
		if (rc == 0 && found)
			rc = vac_st_transformer_parse((const char *)buf.data, buf.bytes, path, out,
						      err);
		vac_buf_free(&buf);
		free(path);
	}
	return rc;
}

static int read_prompts(const char *dir, struct vac_error *err)
{
	struct vac_buf buf;
	bool found;
	char *path;
	int rc = vac_config_file(dir, "config_sentence_transformers.json", CONFIG_MAX_BYTES, &path,
				 &buf, &found, err);

	if (rc == 0 && found)
		rc = vac_st_prompts_parse((const char *)buf.data, buf.bytes, path, err);
	vac_buf_free(&buf);
	free(path);
	return rc;
}

static int read_modules(const char *dir, const struct vac_st_modules *modules,
			struct vac_st_config *out, struct vac_error *err)
{
	int rc = read_pooling(dir, modules, out, err);
	uint32_t width = out->pooling_dimension;

	for (uint32_t i = 0; rc == 0 && i < modules->dense_count; i++) {
		rc = read_dense(dir, modules->dense_path[i], width, &out->dense[i], err);
		width = out->dense[i].out_features;
	}
	out->dense_count = modules->dense_count;
	out->normalize = modules->normalize;
	if (rc == 0 && modules->normalize)
		rc = read_normalize(dir, modules->normalize_path, err);
	if (rc == 0)
		rc = read_transformer(dir, out, err);
	return rc == 0 ? read_prompts(dir, err) : rc;
}

int vac_st_config_read(const char *dir, struct vac_st_config *out, struct vac_error *err)
{
	struct vac_st_modules modules;
	struct vac_buf buf;
	bool found;
	char *path;
	int rc;

	memset(out, 0, sizeof(*out));
	/* What sentence-transformers does with a plain transformers model. */
	out->pooling = VAC_POOLING_MEAN;
	rc = vac_config_file(dir, "modules.json", CONFIG_MAX_BYTES, &path, &buf, &found, err);
	if (rc == 0 && found) {
		out->present = true;
		rc = vac_st_modules_parse((const char *)buf.data, buf.bytes, path, &modules, err);
		if (rc == 0)
			rc = read_modules(dir, &modules, out, err);
	}
	vac_buf_free(&buf);
	free(path);
	return rc;
}
