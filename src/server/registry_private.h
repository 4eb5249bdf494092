/*
 * registry_private.h - what the files of the registry (registry*.c and
 * admission.c) share. Nobody else includes it. The loop's thread only.
 */
#ifndef VAC_SERVER_REGISTRY_PRIVATE_H
#define VAC_SERVER_REGISTRY_PRIVATE_H

#include "server/registry.h"

#define NS_PER_MS INT64_C(1000000)

static inline int64_t vac_registry_now(const struct vac_registry *registry)
{
	return registry->ops->now_ns(registry->ctx);
}

static inline void vac_registry_wake_now(struct vac_registry *registry)
{
	registry->ops->wake_at(registry->ctx, vac_registry_now(registry));
}

/* Loading, resident or draining. */
static inline bool vac_model_active(const struct vac_model *model)
{
	return model->active.list != NULL;
}

/* registry.c */

/* Tells whoever wants to know; model, device and at_ns are filled in. */
void vac_registry_note(const struct vac_registry *registry, const struct vac_model *model,
		       const struct vac_event *event);
void vac_registry_note_why(const struct vac_registry *registry, const struct vac_model *model,
			   enum vac_event_kind kind, const struct vac_error *why);
/* It left, or gave its load up (receipt NULL). */
void vac_registry_note_absent(const struct vac_registry *registry, const struct vac_model *model,
			      const struct vac_receipt *receipt);
void vac_registry_note_draining(const struct vac_registry *registry, const struct vac_model *model);
void vac_registry_begin_load(struct vac_registry *registry, struct vac_model *model);
/* Its held load takes a new place in line, as its settings are now. */
void vac_registry_start_over(struct vac_registry *registry, struct vac_model *model);
/* Neither loading nor resident any more. */
void vac_registry_deactivate(struct vac_registry *registry, struct vac_model *model,
			     enum vac_registry_state state);
void vac_registry_fail_waiting(struct vac_registry *registry, struct vac_model *model,
			       const struct vac_error *why);
/* As requests are told why a worker or vacate-gpud refused. What those call busy is room that
 * is not there for a while: of a request, VAC_E_BUSY says that its queue is full. */
struct vac_error vac_registry_as_told(const struct vac_error *why);

/* Nothing runs on it: its idle clock starts. Then who waits is run. */
void vac_registry_serve(struct vac_registry *registry, struct vac_model *model);
void vac_registry_finish(struct vac_registry *registry, struct vac_waiter *waiter,
			 const struct vac_error *why);

/* registry_park.c */

/* A parked model is asked for: its worker takes a place in line, if it has none. */
void vac_registry_recall(struct vac_registry *registry, struct vac_model *model);
/* It was loaded while its worker was about to be parked: it goes along. */
void vac_registry_join_park(struct vac_registry *registry, struct vac_model *model);
/* An unload of a model that is parking or parked was decided. */
void vac_registry_unpark(struct vac_registry *registry, struct vac_model *model);
/* Its worker died. */
void vac_registry_park_over(struct vac_registry *registry, struct vac_model *model,
			    const struct vac_error *why);
/* A restore that stands in line leaves it; why NULL: nobody wants it any more. */
void vac_registry_stay_parked(struct vac_registry *registry, struct vac_model *model,
			      const struct vac_error *why);
/* Somebody waits for a model of its worker, or an unload does. */
bool vac_registry_is_recalled(const struct vac_registry *registry, const struct vac_model *model);
/* When the keep_alive of all models on its parked worker is over; negative: never. */
int64_t vac_registry_parked_until_ns(const struct vac_registry *registry,
				     const struct vac_model *model);
/* Parked models that are to leave, and workers that may be parked now. */
void vac_registry_settle_parked(struct vac_registry *registry, struct vac_device *device);
void vac_registry_begin_park(struct vac_registry *registry, struct vac_device *device);

/* registry_unload.c */

void vac_registry_tell_watches(struct vac_model *model, const struct vac_receipt *receipt);
void vac_registry_clear_unload(struct vac_model *model);

/* registry_settings.c */

/* Of a new entry. Negative: no memory. */
int vac_registry_first_settings(struct vac_registry *registry, struct vac_model *model);
/* Where a homeless model lies after all; negative: nowhere, it is not loaded. */
int vac_registry_find_home(struct vac_registry *registry, struct vac_model *model,
			   struct vac_error *why);
/* Before a load: device, isolation and directory become those of its settings. */
void vac_registry_place(struct vac_registry *registry, struct vac_model *model);

#endif
