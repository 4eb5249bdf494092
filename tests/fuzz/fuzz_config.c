/*
 * fuzz_config.c - the configuration files of transformers and of
 * sentence-transformers; byte 0 chooses which.
 */
#include <stdlib.h>
#include <string.h>

#include "format/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static int parse_modules(const char *text, size_t bytes, struct vac_error *err)
{
	struct vac_st_modules modules;
	int rc = vac_st_modules_parse(text, bytes, "fuzz", &modules, err);

	if (rc == 0) {
		must(modules.pooling_path[0] != '/' && modules.pooling_path[0] != '.');
		must(!strstr(modules.pooling_path, "/."));
		must(modules.dense_count <= VAC_MAX_DENSE);
	}
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct vac_model_config model;
	struct vac_st_config st = {0};
	struct vac_dense_config dense;
	struct vac_error err = {0};
	const char *text = (const char *)data + 1;
	uint32_t length;
	int rc = 0;

	if (bytes-- < 1)
		return 0;
	switch (data[0] % 8) {
	case 0:
		rc = vac_model_config_parse(text, bytes, "fuzz", &model, &err);
		break;
	case 1:
		rc = parse_modules(text, bytes, &err);
		break;
	case 2:
		rc = vac_st_pooling_parse(text, bytes, "fuzz", &st, &err);
		break;
	case 3:
		rc = vac_st_dense_parse(text, bytes, "fuzz", &dense, &err);
		must(rc != 0 || (dense.in_features > 0 && dense.out_features > 0));
		break;
	case 4:
		rc = vac_st_transformer_parse(text, bytes, "fuzz", &st, &err);
		break;
	case 5:
		rc = vac_st_prompts_parse(text, bytes, "fuzz", &err);
		break;
	case 6:
		rc = vac_tokenizer_config_parse(text, bytes, "fuzz", &length, &err);
		break;
	case 7:
		rc = vac_st_normalize_parse(text, bytes, "fuzz", &err);
		break;
	}
	must((rc == 0) == (err.code == VAC_OK));
	must(rc == 0 || err.message[0] != '\0');
	return 0;
}
