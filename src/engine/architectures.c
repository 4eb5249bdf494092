/* architectures.c - the table of architectures. */
#include "engine/architecture.h"

#include <stdio.h>
#include <string.h>

static const struct vac_architecture *const architectures[] = {
	&vac_architecture_bert,
};
#define COUNT (sizeof(architectures) / sizeof(architectures[0]))

const struct vac_architecture *vac_architecture_find(const char *model_type)
{
	for (size_t i = 0; i < COUNT; i++)
		if (strcmp(architectures[i]->model_type, model_type) == 0)
			return architectures[i];
	return NULL;
}

void vac_architecture_list(char *out, size_t bytes)
{
	size_t at = 0;
	for (size_t i = 0; i < COUNT && at < bytes; i++)
		at += (size_t)snprintf(out + at, bytes - at, "%s%s", i ? ", " : "",
				       architectures[i]->model_type);
}
