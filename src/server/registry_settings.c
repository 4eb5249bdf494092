/*
 * registry_settings.c - what the operator says of models: looked up, kept, and
 * taken over when he changes his mind. Part of the registry; the loop's thread
 * only.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/admission.h"
#include "server/registry_private.h"

/* Of the devices that models take no RAM of: GPUs. */
static struct vac_device *roomiest(const struct vac_registry *registry)
{
	struct vac_device *best = NULL;
	uint64_t most = 0;

	for (uint32_t i = 0; i < registry->device_count; i++) {
		struct vac_device *device = &registry->devices[i];
		uint64_t room;

		if (!device->limited || !device->budget.on_device)
			continue;
		vac_budget_measure(&device->budget, vac_registry_now(registry),
				   VAC_ROOM_AGE_MS * NS_PER_MS);
		room = vac_budget_room_left(&device->budget);
		if (!best || room > most) {
			best = device;
			most = room;
		}
	}
	return best ? best : &registry->devices[0];
}

struct vac_device *vac_registry_device(const struct vac_registry *registry, const char *name)
{
	if (!name)
		return &registry->devices[0];
	if (strcmp(name, "auto") == 0)
		return roomiest(registry);
	for (uint32_t i = 0; i < registry->device_count; i++) {
		if (strcmp(registry->devices[i].name, name) == 0)
			return &registry->devices[i];
	}
	return NULL;
}

void vac_registry_no_device(const struct vac_registry *registry, const char *model,
			    const char *device, struct vac_error *err)
{
	char names[160] = "";
	size_t at = 0;

	for (uint32_t i = 0; i < registry->device_count && at + 4 < sizeof(names); i++) {
		int n = snprintf(names + at, sizeof(names) - at, "%s%.32s", at ? ", " : "",
				 registry->devices[i].name);

		at += n > 0 ? (size_t)n : 0;
	}
	vac_fail(err, VAC_E_UNSUPPORTED,
		 "model %.200s is to run on device '%.64s', which this server does not have; it "
		 "has: %s",
		 model, device, names);
}

void vac_registry_settings(const struct vac_registry *registry, const char *name,
			   struct vac_model_settings *out)
{
	*out = registry->options.defaults;
	if (registry->ops->settings)
		registry->ops->settings(registry->ctx, name, out);
}

int vac_registry_first_settings(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_model_settings found;

	vac_registry_settings(registry, model->name, &found);
	if (vac_model_settings_copy(&model->settings, &found) < 0)
		return -ENOMEM;
	model->keep_alive_ms = found.keep_alive_ms;
	model->charge.fixed = found.pin;
	vac_registry_place(registry, model);
	return 0;
}

void vac_registry_place(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_device *device = vac_registry_device(registry, model->settings.device);

	model->no_device = !device;
	model->device = device ? device : &registry->devices[0];
	model->isolated = model->charge.alone = model->settings.isolate;
	model->changed = false;
	if (model->next_dir) {
		free(model->dir);
		model->dir = model->next_dir;
		model->next_dir = NULL;
	}
}

/* What needs no new load. */
static void take_over(struct vac_registry *registry, struct vac_model *model,
		      const struct vac_model_settings *old)
{
	const struct vac_model_settings *fresh = &model->settings;

	vac_budget_fix(&model->device->budget, &model->charge, fresh->pin);
	if (fresh->keep_alive_ms != old->keep_alive_ms)
		model->keep_alive_ms = fresh->keep_alive_ms;
	if (fresh->pin != old->pin || fresh->priority != old->priority)
		vac_admission_sort(registry, model);
}

static void renew(struct vac_registry *registry, struct vac_model *model)
{
	if (model->plan_asked && !model->restoring)
		model->changed = true;
	else if (model->load_held && !model->restoring)
		vac_registry_start_over(registry, model);
	else
		vac_registry_unload(registry, model, VAC_UNLOAD_SETTINGS, false, NULL);
}

int vac_registry_find_home(struct vac_registry *registry, struct vac_model *model,
			   struct vac_error *why)
{
	char *dir;
	int rc = registry->ops->find(registry->ctx, model->name, &dir, why);

	if (rc < 0)
		return rc;
	free(model->dir);
	model->dir = dir;
	model->homeless = false;
	return 0;
}

/* Where the model lies now: *dir (new string), or NULL when it need not move.
 * *homeless: nowhere. */
static int find_place(struct vac_registry *registry, const struct vac_model *model,
		      const char *wanted, char **dir, bool *homeless)
{
	struct vac_error why;

	*dir = NULL;
	*homeless = false;
	if (wanted) {
		*dir = strdup(wanted);
		if (!*dir)
			return -ENOMEM;
	} else if (vac_model_active(model) && registry->ops->find &&
		   (model->settings.dir || model->homeless || model->next_dir)) {
		/* Its settings said it until now, and do not any more. A model that
		 * was found by its name is left alone: it answers when its files are
		 * gone, too. */
		if (registry->ops->find(registry->ctx, model->name, dir, &why) < 0) {
			if (why.code == VAC_E_NO_ROOM)
				return -ENOMEM;
			*homeless = true;
		}
	}
	if (*dir && strcmp(*dir, model->dir) == 0) {
		free(*dir);
		*dir = NULL;
	}
	return 0;
}

static int reconfigure(struct vac_registry *registry, struct vac_model *model)
{
	struct vac_model_settings found, fresh, old = model->settings;
	bool reload, homeless;
	char *dir;

	vac_registry_settings(registry, model->name, &found);
	if (find_place(registry, model, found.dir, &dir, &homeless) < 0)
		return -ENOMEM;
	reload = vac_model_settings_reload(&old, &found) || dir || homeless;
	if (vac_model_settings_copy(&fresh, &found) < 0) {
		free(dir);
		return -ENOMEM;
	}
	model->settings = fresh;
	model->homeless = homeless;
	free(model->next_dir);
	model->next_dir = dir;
	take_over(registry, model, &old);
	vac_model_settings_free(&old);
	if (reload)
		renew(registry, model);
	return 0;
}

int vac_registry_reconfigure(struct vac_registry *registry, struct vac_error *err)
{
	int rc = 0;

	for (struct vac_model *model = registry->models; model; model = model->next) {
		if (reconfigure(registry, model) == 0)
			continue;
		rc = vac_fail(err, VAC_E_NO_ROOM,
			      "no memory for the settings of model %.200s, which keeps its old "
			      "ones; reload them again",
			      model->name);
	}
	/* A keep_alive may be over already, a load may fit beside what was pinned. */
	vac_registry_wake_now(registry);
	return rc;
}
