/*
 * modelpath.h - where models lie on disk: a directory, an entry under one of
 * the --models directories (or such a directory itself, by its own name), or a snapshot in the HuggingFace cache
 * (HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub;
 * models--org--name/refs/main names snapshots/<commit>). Names only: no file
 * of a model is opened. Any thread.
 */
#ifndef VAC_BASE_MODELPATH_H
#define VAC_BASE_MODELPATH_H

#include <stdbool.h>

#include "base/error.h"

struct vac_model_dirs {
	const char *const *dirs; /* --models, in order of preference */
	size_t dir_count;
	const char *hub_cache; /* NULL: as the environment says */
};

/* Whether a directory in a model's may hold a part of it, as "1_Pooling" does: what
 * is hidden does not, nor "checkpoint-500", which training left beside the model. */
bool vac_model_has_part(const char *subdir);
/* "name" or "org/name", by the rules that vac_model_resolve() has for names. */
bool vac_model_name_ok(const char *name);

/* Name or path -> directory that holds config.json (new string, caller
 * frees). A name is one or two components ("org/name"); components "", ".",
 * ".." and names with control characters or backslashes are VAC_E_INVALID.
 * Text that starts with '/' or "./" or "../" is a path and taken as such only
 * when allow_path, and then also what is no model's name and is one's directory. Not found: VAC_E_NOT_FOUND, and the message says where was
 * looked. */
int vac_model_resolve(const struct vac_model_dirs *where, const char *name, bool allow_path,
		      char **dir, struct vac_error *err) VAC_MUST_CHECK;

/* The hub cache's directory (new string, caller frees); NULL when nothing says
 * where it is (no HOME either). */
int vac_model_hub_cache(const struct vac_model_dirs *where, char **out,
			struct vac_error *err) VAC_MUST_CHECK;

/* Everything that looks like a model (a directory with config.json) in those
 * places, sorted by name, without duplicates; at most limit entries. */
struct vac_model_entry {
	char *name; /* "org/name", or the directory's name under --models (one or two levels) */
	char *dir;
};
int vac_model_list(const struct vac_model_dirs *where, size_t limit, struct vac_model_entry **out,
		   size_t *count, struct vac_error *err) VAC_MUST_CHECK;
void vac_model_list_free(struct vac_model_entry *entries, size_t count);

#endif
