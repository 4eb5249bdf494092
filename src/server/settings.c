/* settings.c - settings copied and compared. No state; any thread. */
#include "server/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool copy_text(const char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

int vac_model_settings_copy(struct vac_model_settings *to, const struct vac_model_settings *from)
{
	bool ok;

	*to = *from;
	ok = copy_text(&to->device, from->device);
	ok = copy_text(&to->dtype, from->dtype) && ok;
	ok = copy_text(&to->prompt, from->prompt) && ok;
	ok = copy_text(&to->dir, from->dir) && ok;
	if (ok)
		return 0;
	vac_model_settings_free(to);
	return -ENOMEM;
}

void vac_model_settings_free(struct vac_model_settings *settings)
{
	free((char *)settings->device);
	free((char *)settings->dtype);
	free((char *)settings->prompt);
	free((char *)settings->dir);
	settings->device = settings->dtype = settings->prompt = settings->dir = NULL;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool vac_model_settings_reload(const struct vac_model_settings *a,
			       const struct vac_model_settings *b)
{
	return a->isolate != b->isolate || a->max_batch_tokens != b->max_batch_tokens ||
	       !same_text(a->device, b->device) || !same_text(a->dtype, b->dtype) ||
	       !same_text(a->prompt, b->prompt);
}
