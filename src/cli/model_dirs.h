/*
 * model_dirs.h - directories of models as users write them: "a:b". One thread.
 */
#ifndef VAC_CLI_MODEL_DIRS_H
#define VAC_CLI_MODEL_DIRS_H

#include <stddef.h>

#include "base/error.h"

struct vac_dir_list {
	const char **dirs; /* point into text */
	size_t count;
	char *text;
};

/* Splits at ':'; empty parts are skipped; NULL is an empty list. */
int vac_dir_list_parse(struct vac_dir_list *list, const char *text,
		       struct vac_error *err) VAC_MUST_CHECK;
void vac_dir_list_free(struct vac_dir_list *list);

#endif
