/*
 * registry_table.c - the table of models by name. Part of the registry; the
 * loop's thread only.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "server/registry_private.h"

#define FIRST_BUCKETS 64u /* a power of two */

static struct vac_model **bucket(const struct vac_registry *registry, const char *name)
{
	return &registry->buckets[vac_hash_text(name) & (registry->bucket_count - 1)];
}

struct vac_model *vac_registry_find(struct vac_registry *registry, const char *name)
{
	struct vac_model *model = registry->bucket_count ? *bucket(registry, name) : NULL;

	while (model && strcmp(model->name, name) != 0)
		model = model->chain;
	return model;
}

/* Without memory the table stays as it is, and slower; false only when there is
 * none at all. */
static bool grow(struct vac_registry *registry)
{
	uint32_t count = registry->bucket_count ? registry->bucket_count * 2 : FIRST_BUCKETS;
	struct vac_model **buckets;

	if (registry->model_count < registry->bucket_count)
		return true;
	buckets = calloc(count, sizeof(struct vac_model *));
	if (!buckets)
		return registry->bucket_count > 0;
	free(registry->buckets);
	registry->buckets = buckets;
	registry->bucket_count = count;
	for (struct vac_model *model = registry->models; model; model = model->next) {
		struct vac_model **at = bucket(registry, model->name);

		model->chain = *at;
		*at = model;
	}
	return true;
}

static struct vac_model *add(struct vac_registry *registry, const char *name)
{
	struct vac_model *model = grow(registry) ? calloc(1, sizeof(*model)) : NULL;
	struct vac_model **at;

	if (model)
		model->name = strdup(name);
	if (!model || !model->name || vac_registry_first_settings(registry, model) < 0) {
		if (model)
			free(model->name);
		free(model);
		return NULL;
	}
	model->next = registry->models;
	registry->models = model;
	registry->model_count++;
	at = bucket(registry, name);
	model->chain = *at;
	*at = model;
	return model;
}

struct vac_model *vac_registry_enter(struct vac_registry *registry, const char *name,
				     const char *dir)
{
	struct vac_model *model = vac_registry_find(registry, name);
	char *copy;

	if (model && (model->active.list || strcmp(model->dir, dir) == 0))
		return model;
	copy = strdup(dir);
	if (!copy)
		return NULL;
	if (!model)
		model = add(registry, name);
	if (!model) {
		free(copy);
		return NULL;
	}
	free(model->dir);
	model->dir = copy;
	return model;
}

struct vac_model *vac_registry_only(struct vac_registry *registry, bool *several)
{
	*several = registry->active.count > 1;
	return *several ? NULL : VAC_MODEL_AT(registry->active.first, active);
}

static void free_model(struct vac_registry *registry, struct vac_model *model)
{
	assert(model->waiting.count == 0 && model->running.count == 0);
	if (registry->ops->forget)
		registry->ops->forget(registry->ctx, model);
	free(model->name);
	free(model->dir);
	free(model->next_dir);
	vac_model_settings_free(&model->settings);
	free(model);
}

static void unchain(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_model **at = bucket(registry, model->name);

	while (*at != model)
		at = &(*at)->chain;
	*at = model->chain;
}

void vac_registry_sweep(struct vac_registry *registry,
			bool (*keep)(void *ctx, const struct vac_model *model), void *ctx)
{
	struct vac_model **at = &registry->models;

	while (*at) {
		struct vac_model *model = *at;

		/* A plan may still be asked for it although the end has begun. */
		if (model->active.list || model->plan_asked || model->waiting.count ||
		    model->running.count || keep(ctx, model)) {
			at = &model->next;
			continue;
		}
		*at = model->next;
		unchain(registry, model);
		registry->model_count--;
		free_model(registry, model);
	}
}

void vac_registry_free(struct vac_registry *registry)
{
	while (registry->models) {
		struct vac_model *model = registry->models;

		registry->models = model->next;
		free_model(registry, model);
	}
	registry->model_count = registry->bucket_count = 0;
	free(registry->buckets);
	registry->buckets = NULL;
}
