/*
 * admission.h - which load may begin, and who makes way for it.
 *
 * On each device loads wait in one line, higher priority first, then first come,
 * first served. One that has waited for VAC_PATIENCE_MS is not passed any more,
 * so that low ones get their turn. The first is admitted when
 * its plan is known and its budget has room; else models make way: idle ones,
 * the lower priority and then the least recently used first, and only as many as
 * are needed; then busy ones whose turn is over, which end what they have and let new requests wait in
 * line behind. One is unloaded at a time, and the room is measured again after
 * each. A load that nothing here could make room for lets those behind it pass,
 * and is looked at again from time to time.
 *
 * Part of the registry (it works on its lists); only registry.c calls what is
 * not const.
 */
#ifndef VAC_SERVER_ADMISSION_H
#define VAC_SERVER_ADMISSION_H

#include "server/registry.h"

/* An idle model is left alone for so long after its last answer while its turn
 * lasts: its clients may be about to ask again. */
#define VAC_LINGER_MS 20
/* A turn lasts at least so many times as the load that it began with. */
#define VAC_TURN_LOADS 4
/* After so long in line a load is passed by nobody who comes then. */
#define VAC_PATIENCE_MS 10000
/* Between looks at memory that others hold. */
#define VAC_ROOM_POLL_MS 100
/* What was measured counts for so long. */
#define VAC_ROOM_AGE_MS 20
/* Plans, and loads, that are asked of a device's workers at the same time. They
 * take them one by one anyway, and each holds its model's files open meanwhile,
 * here and there: what a worker may hold (inbox of wire/files.c) must suffice for
 * so many of both. */
#define VAC_LOADS_AT_ONCE 8u
/* A load so soon after an eviction of the same model is a quick reload. */
#define VAC_QUICK_RELOAD_MS 10000

/* A load that is to begin: takes a place in line; first: at its front (it had one
 * before). */
void vac_admission_enter(struct vac_registry *registry, struct vac_model *model, bool first);
/* It does not wait any more. */
void vac_admission_leave(struct vac_registry *registry, struct vac_model *model);
/* Looks at the line: admits, decides evictions, refuses what can never fit. */
void vac_admission_advance(struct vac_registry *registry);
/* A resident model has become idle or busy, was asked once more, or may not be
 * evicted any more (it is draining or gone). */
void vac_admission_used(struct vac_registry *registry, struct vac_model *model);
/* Its priority or pin changed. */
void vac_admission_sort(struct vac_registry *registry, struct vac_model *model);
/* Refuses a load that is in line. */
void vac_admission_refuse(struct vac_registry *registry, struct vac_model *model,
			  const struct vac_error *why);
/* Why a load waits, with the arithmetic. */
void vac_admission_explain(const struct vac_registry *registry, const struct vac_model *model,
			   struct vac_error *err);

#endif
