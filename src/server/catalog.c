/* catalog.c - models by name, alias and place. The loop's thread only. */
#include "server/catalog.h"

#include <stdlib.h>
#include <string.h>

struct vac_catalog_name {
	const char *name;
	const struct vac_server_model *model;
};

static int by_name(const void *a, const void *b)
{
	const struct vac_catalog_name *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int vac_catalog_init(struct vac_catalog *catalog, const struct vac_server_options *options,
		     struct vac_error *err)
{
	size_t count = 0;

	*catalog = (struct vac_catalog){
		.dirs = {.dirs = options->model_dirs,
			 .dir_count = options->model_dir_count,
			 .hub_cache = options->hub_cache},
		.models = options->models,
		.model_count = options->model_count,
		.defaults = options->model_defaults,
	};
	for (size_t i = 0; i < options->model_count; i++)
		count += 1 + options->models[i].alias_count;
	if (count == 0)
		return 0;
	catalog->names = calloc(count, sizeof(*catalog->names));
	if (!catalog->names)
		return vac_fail_nomem(err, "the names of models", count * sizeof(*catalog->names));
	for (size_t i = 0; i < options->model_count; i++) {
		const struct vac_server_model *model = &options->models[i];

		catalog->names[catalog->name_count++] =
			(struct vac_catalog_name){model->name, model};
		for (size_t j = 0; j < model->alias_count; j++)
			catalog->names[catalog->name_count++] =
				(struct vac_catalog_name){model->aliases[j], model};
	}
	qsort(catalog->names, count, sizeof(*catalog->names), by_name);
	return 0;
}

void vac_catalog_free(struct vac_catalog *catalog)
{
	free(catalog->names);
	*catalog = (struct vac_catalog){0};
}

const struct vac_server_model *vac_catalog_find(const struct vac_catalog *catalog, const char *name)
{
	struct vac_catalog_name key = {.name = name};
	const struct vac_catalog_name *found =
		catalog->name_count ? bsearch(&key, catalog->names, catalog->name_count,
					      sizeof(*catalog->names), by_name)
				    : NULL;

	return found ? found->model : NULL;
}

const char *vac_catalog_name(const struct vac_catalog *catalog, const char *name)
{
	const struct vac_server_model *model = vac_catalog_find(catalog, name);

	return model ? model->name : name;
}

const struct vac_model_settings *vac_catalog_settings(const struct vac_catalog *catalog,
						      const char *name)
{
	const struct vac_server_model *model = vac_catalog_find(catalog, name);

	/* What is on disk under a name that has become an alias is another model. */
	return model && strcmp(model->name, name) == 0 ? &model->settings : &catalog->defaults;
}

int vac_catalog_resolve(const struct vac_catalog *catalog, const char *name, char **dir,
			struct vac_error *err)
{
	const struct vac_server_model *model = vac_catalog_find(catalog, name);
	int rc;

	if (!model || !model->path)
		return vac_model_resolve(&catalog->dirs, name, false, dir, err);
	rc = vac_model_resolve(&catalog->dirs, model->path, true, dir, err);
	if (rc < 0)
		vac_error_prefix(err, "model %.200s", name);
	return rc;
}

/* ---- the list ---- */

static int by_entry_name(const void *a, const void *b)
{
	const struct vac_model_entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static bool set_dir(struct vac_model_entry *entry, const char *dir)
{
	char *copy = strdup(dir);

	if (!copy)
		return false;
	free(entry->dir);
	entry->dir = copy;
	return true;
}

/* Puts a model with a path in: over what is found on disk under its name, or
 * behind the sorted ones. */
static bool put(struct vac_model_entry *entries, size_t sorted, size_t *count,
		const struct vac_server_model *model)
{
	struct vac_model_entry key = {.name = (char *)model->name}, *entry;

	entry = sorted ? bsearch(&key, entries, sorted, sizeof(*entries), by_entry_name) : NULL;
	if (entry)
		return set_dir(entry, model->path);
	entry = &entries[*count];
	*entry = (struct vac_model_entry){.name = strdup(model->name)};
	if (!entry->name || !set_dir(entry, model->path)) {
		free(entry->name);
		return false;
	}
	(*count)++;
	return true;
}

/* What lies on disk under the alias of another model has no name any more. */
static size_t hide(const struct vac_catalog *catalog, struct vac_model_entry *entries, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		if (strcmp(vac_catalog_name(catalog, entries[i].name), entries[i].name) == 0) {
			entries[kept++] = entries[i];
			continue;
		}
		free(entries[i].name);
		free(entries[i].dir);
	}
	return kept;
}

static void cut(struct vac_model_entry *entries, size_t *count, size_t limit)
{
	while (*count > limit) {
		(*count)--;
		free(entries[*count].name);
		free(entries[*count].dir);
	}
}

int vac_catalog_list(const struct vac_catalog *catalog, size_t limit, struct vac_model_entry **out,
		     size_t *count, struct vac_error *err)
{
	struct vac_model_entry *entries, *grown;
	size_t placed = 0, sorted;
	int rc = vac_model_list(&catalog->dirs, limit, &entries, &sorted, err);

	if (rc < 0)
		return rc;
	sorted = hide(catalog, entries, sorted);
	*out = entries;
	*count = sorted;
	for (size_t i = 0; i < catalog->model_count; i++)
		placed += catalog->models[i].path != NULL;
	if (placed == 0)
		return 0;
	grown = realloc(entries, (sorted + placed) * sizeof(*entries));
	if (!grown)
		goto err;
	entries = *out = grown;
	for (size_t i = 0; i < catalog->model_count; i++) {
		if (catalog->models[i].path && !put(entries, sorted, count, &catalog->models[i]))
			goto err;
	}
	qsort(entries, *count, sizeof(*entries), by_entry_name);
	cut(entries, count, limit);
	return 0;
err:
	vac_model_list_free(*out, *count);
	*out = NULL;
	*count = 0;
	return vac_fail_nomem(err, "the list of models", placed * sizeof(*entries));
}
