/*
 * weights_missing.c - what to say about a directory that has no safetensors:
 * which weights lie there instead, and how to convert them. Any thread.
 */
#include <string.h>

#include "base/io.h"
#include "base/quote.h"
#include "base/text.h"
#include "format/safetensors_private.h"

enum weights_kind { NO_WEIGHTS, FLAX_WEIGHTS, TF_WEIGHTS, TORCH_WEIGHTS };

/* What a training run leaves beside the weights in the same formats. */
static bool is_training_state(const char *name)
{
	return strncmp(name, "training_args", 13) == 0 || strncmp(name, "optimizer", 9) == 0 ||
	       strncmp(name, "scheduler", 9) == 0 || strncmp(name, "rng_state", 9) == 0 ||
	       strncmp(name, "scaler", 6) == 0;
}

static enum weights_kind kind_of(const char *name)
{
	static const char *const torch_ends[] = {".bin", ".bin.index.json", ".pt", ".pth", ".ckpt"};

	if (name[0] == '.' || is_training_state(name))
		return NO_WEIGHTS;
	for (size_t i = 0; i < sizeof(torch_ends) / sizeof(torch_ends[0]); i++)
		if (vac_ends_with(name, torch_ends[i]))
			return TORCH_WEIGHTS;
	if (vac_ends_with(name, ".h5"))
		return TF_WEIGHTS;
	return vac_ends_with(name, ".msgpack") ? FLAX_WEIGHTS : NO_WEIGHTS;
}

struct search {
	enum weights_kind best;
	char found[256];
};

static void look_at(void *ctx, const char *name)
{
	struct search *s = ctx;
	enum weights_kind kind = kind_of(name);

	/* The kind that converts best, then the first by name: the answer must
	 * not depend on the order of the directory. */
	if (kind < s->best || kind == NO_WEIGHTS || strlen(name) >= sizeof(s->found) ||
	    (kind == s->best && strcmp(name, s->found) > 0))
		return;
	s->best = kind;
	strcpy(s->found, name);
}

int vac_weights_missing(const char *dir, struct vac_error *err)
{
	/* The word for from_pretrained that goes with each kind. */
	static const char *const from[] = {[FLAX_WEIGHTS] = ", from_flax=True",
					   [TF_WEIGHTS] = ", from_tf=True",
					   [TORCH_WEIGHTS] = ""};
	struct search s = {.best = NO_WEIGHTS};
	int rc = vac_list_dir(dir, look_at, &s);

	if (rc < 0)
		return vac_fail_errno(err, -rc, "%s: cannot list", dir);
	if (s.best == NO_WEIGHTS)
		return vac_fail(err, VAC_E_NOT_FOUND,
				"%s: has neither model.safetensors nor "
				"model.safetensors.index.json; download the model's weights there",
				dir);
	return vac_fail(err, VAC_E_UNSUPPORTED,
			"%s: has %s but no safetensors, and Vacate reads only those; convert with: "
			"python3 -c \"import sys, transformers as t; d = sys.argv[1]; "
			"c = getattr(t, t.AutoConfig.from_pretrained(d).architectures[0]); "
			"c.from_pretrained(d%s).save_pretrained(d, safe_serialization=True)\" DIR",
			dir, QUOTED(s.found, strlen(s.found)), from[s.best]);
}
