/* model_dirs.c - directories of models as users write them: "a:b". One thread. */
#include "cli/model_dirs.h"

#include <stdlib.h>
#include <string.h>

int vac_dir_list_parse(struct vac_dir_list *list, const char *text, struct vac_error *err)
{
	size_t most = 1;
	char *save = NULL;

	memset(list, 0, sizeof(*list));
	if (!text || !*text)
		return 0;
	for (const char *c = text; *c; c++)
		most += *c == ':';
	list->text = strdup(text);
	list->dirs = calloc(most, sizeof(*list->dirs));
	if (!list->text || !list->dirs) {
		vac_dir_list_free(list);
		return vac_fail_nomem(err, "a list of directories", most * sizeof(*list->dirs));
	}
	for (char *part = strtok_r(list->text, ":", &save); part; part = strtok_r(NULL, ":", &save))
		list->dirs[list->count++] = part;
	return 0;
}

void vac_dir_list_free(struct vac_dir_list *list)
{
	free(list->text);
	free(list->dirs);
	memset(list, 0, sizeof(*list));
}
