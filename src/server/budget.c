/* budget.c - the arithmetic of room. The loop's thread only. */
#include "server/budget.h"

#include <assert.h>
#include <string.h>

#include "memory/meter.h"

/* What a worker says that a model takes is believed up to that, which no machine
 * has; sums of such numbers stay numbers. */
#define MOST_BYTES (UINT64_C(1) << 55)

void vac_budget_init(struct vac_budget *budget, bool on_device, const struct vac_size *limit,
		     const struct vac_size *headroom,
		     void (*measure)(void *ctx, struct vac_budget_room *out), void *ctx)
{
	*budget = (struct vac_budget){
		.on_device = on_device,
		.limit = *limit,
		.headroom = *headroom,
		.measure = measure,
		.ctx = ctx,
	};
}

/* ---- what is measured ---- */

void vac_budget_measure_host(struct vac_budget_room *out)
{
	struct vac_host_memory host;

	memset(out, 0, sizeof(*out));
	vac_meter_host("", &host);
	out->total_valid = host.total_valid || host.cgroup_limit_valid;
	out->total_bytes = host.total_valid ? host.total_bytes : UINT64_MAX;
	if (host.cgroup_limit_valid && host.cgroup_limit_bytes < out->total_bytes)
		out->total_bytes = host.cgroup_limit_bytes;
	out->free_valid = vac_host_room(&host, &out->free_bytes);
}

static uint64_t top_scratch(const struct vac_charge *first)
{
	return first ? first->scratch_bytes : 0;
}

uint64_t vac_budget_used(const struct vac_budget *budget)
{
	return budget->own_bytes + budget->load_bytes + top_scratch(budget->charges);
}

void vac_budget_measure(struct vac_budget *budget, int64_t now_ns, int64_t max_age_ns)
{
	if (budget->measured && now_ns - budget->measured_ns < max_age_ns)
		return;
	memset(&budget->room, 0, sizeof(budget->room));
	budget->measure(budget->ctx, &budget->room);
	budget->measured = true;
	budget->measured_ns = now_ns;
	/* While something loads, nobody can tell what of it is there already. */
	if (budget->room.held_valid && budget->loading == 0) {
		uint64_t used = vac_budget_used(budget), held = budget->room.held_bytes;

		budget->overhead_bytes = budget->count > 0 && held > used ? held - used : 0;
	}
}

bool vac_budget_limit(const struct vac_budget *budget, uint64_t *bytes)
{
	const struct vac_budget_room *room = &budget->room;
	uint64_t headroom;

	if (!room->total_valid) {
		*bytes = budget->limit.is_share ? UINT64_MAX : budget->limit.bytes;
		return !budget->limit.is_share;
	}
	headroom = vac_size_of(&budget->headroom, room->total_bytes);
	*bytes = vac_size_of(&budget->limit, room->total_bytes);
	/* What can never be free is no budget. */
	if (headroom >= room->total_bytes)
		*bytes = 0;
	else if (*bytes > room->total_bytes - headroom)
		*bytes = room->total_bytes - headroom;
	return true;
}

bool vac_budget_free(const struct vac_budget *budget, uint64_t *bytes)
{
	const struct vac_budget_room *room = &budget->room;
	uint64_t headroom;

	if (!room->free_valid)
		return false;
	headroom = vac_size_of(&budget->headroom, room->total_valid ? room->total_bytes : 0);
	*bytes = room->free_bytes > headroom ? room->free_bytes - headroom : 0;
	return true;
}

uint64_t vac_budget_room_left(const struct vac_budget *budget)
{
	uint64_t limit, room = 0;
	uint64_t used =
		vac_budget_used(budget) + budget->overhead_bytes + budget->room.parked_bytes;

	if (!vac_budget_free(budget, &room))
		return 0;
	room = room > budget->pending_bytes ? room - budget->pending_bytes : 0;
	if (vac_budget_limit(budget, &limit) && limit < used + room)
		room = limit > used ? limit - used : 0;
	return room;
}

/* ---- charges ---- */

static uint64_t bounded(uint64_t bytes)
{
	return bytes < MOST_BYTES ? bytes : MOST_BYTES;
}

static uint64_t own_bytes(const struct vac_budget *budget, const struct vac_charge *charge,
			  const struct vac_plan *plan)
{
	return bounded(charge->alone ? vac_plan_bytes(plan, budget->on_device)
				     : vac_plan_own_bytes(plan, budget->on_device));
}

/* What models share: the plan without own bytes. */
static uint64_t scratch_bytes(const struct vac_budget *budget, const struct vac_plan *plan,
			      uint64_t own)
{
	return bounded(vac_plan_bytes(plan, budget->on_device)) - own;
}

void vac_charge_plan(const struct vac_budget *budget, struct vac_charge *charge,
		     const struct vac_plan *plan)
{
	assert(!charge->counted);
	charge->own_bytes = own_bytes(budget, charge, plan);
	charge->scratch_bytes = scratch_bytes(budget, plan, charge->own_bytes);
	charge->load_bytes = budget->on_device ? 0 : bounded(plan->load_bytes);
}

uint64_t vac_charge_bytes(const struct vac_charge *charge)
{
	return charge->own_bytes + charge->scratch_bytes + charge->load_bytes;
}

static void link_charge(struct vac_budget *budget, struct vac_charge *charge)
{
	struct vac_charge *before = NULL, *after = budget->charges;

	while (after && after->scratch_bytes > charge->scratch_bytes) {
		before = after;
		after = after->next;
	}
	charge->prev = before;
	charge->next = after;
	if (before)
		before->next = charge;
	else
		budget->charges = charge;
	if (after)
		after->prev = charge;
}

static void find_top(struct vac_budget *budget, struct vac_charge *from)
{
	while (from && from->leaving)
		from = from->next;
	budget->top = from;
}

static void unlink_charge(struct vac_budget *budget, struct vac_charge *charge)
{
	if (charge->prev)
		charge->prev->next = charge->next;
	else
		budget->charges = charge->next;
	if (charge->next)
		charge->next->prev = charge->prev;
	charge->prev = charge->next = NULL;
}

void vac_budget_add(struct vac_budget *budget, struct vac_charge *charge)
{
	assert(!charge->counted);
	charge->counted = charge->loading = true;
	charge->leaving = false;
	link_charge(budget, charge);
	find_top(budget, budget->charges);
	budget->count++;
	budget->loading++;
	budget->fixed += charge->fixed;
	budget->own_bytes += charge->own_bytes;
	budget->load_bytes += charge->load_bytes;
	budget->pending_bytes += charge->own_bytes + charge->load_bytes;
}

static void end_loading(struct vac_budget *budget, struct vac_charge *charge)
{
	if (!charge->loading)
		return;
	charge->loading = false;
	budget->loading--;
	budget->load_bytes -= charge->load_bytes;
	budget->pending_bytes -= charge->own_bytes + charge->load_bytes;
	charge->load_bytes = 0;
}

void vac_budget_settle(struct vac_budget *budget, struct vac_charge *charge,
		       const struct vac_plan *plan)
{
	uint64_t own = own_bytes(budget, charge, plan);

	if (!charge->counted)
		return;
	end_loading(budget, charge);
	budget->own_bytes += own - charge->own_bytes;
	if (charge->leaving)
		budget->leaving_bytes += own - charge->own_bytes;
	charge->own_bytes = own;
	unlink_charge(budget, charge);
	charge->scratch_bytes = scratch_bytes(budget, plan, own);
	link_charge(budget, charge);
	find_top(budget, budget->charges);
	budget->measured = false;
}

void vac_budget_remove(struct vac_budget *budget, struct vac_charge *charge)
{
	if (!charge->counted)
		return;
	end_loading(budget, charge);
	if (charge->leaving)
		vac_budget_stay(budget, charge);
	charge->counted = false;
	unlink_charge(budget, charge);
	find_top(budget, budget->charges);
	budget->count--;
	budget->fixed -= charge->fixed;
	budget->own_bytes -= charge->own_bytes;
	budget->measured = false;
}

void vac_budget_leave(struct vac_budget *budget, struct vac_charge *charge)
{
	if (!charge->counted || charge->leaving)
		return;
	charge->leaving = true;
	budget->leaving++;
	budget->leaving_bytes += charge->own_bytes;
	budget->fixed -= charge->fixed;
	if (budget->top == charge)
		find_top(budget, charge->next);
}

void vac_budget_stay(struct vac_budget *budget, struct vac_charge *charge)
{
	if (!charge->leaving)
		return;
	charge->leaving = false;
	budget->leaving--;
	budget->leaving_bytes -= charge->own_bytes;
	budget->fixed += charge->fixed;
	/* Before top in the list everything is leaving, so that this one is the
	 * new top or stands behind it. */
	if (!budget->top || charge->scratch_bytes >= budget->top->scratch_bytes)
		find_top(budget, budget->charges);
}

void vac_budget_fix(struct vac_budget *budget, struct vac_charge *charge, bool fixed)
{
	if (charge->fixed == fixed)
		return;
	charge->fixed = fixed;
	if (!charge->counted || charge->leaving)
		return;
	if (fixed)
		budget->fixed++;
	else
		budget->fixed--;
}

/* ---- room ---- */

static uint64_t above(int64_t value)
{
	return value > 0 ? (uint64_t)value : 0;
}

struct vac_shortage vac_budget_shortage(const struct vac_budget *budget,
					const struct vac_charge *need, bool gone)
{
	const struct vac_charge *top = gone ? budget->top : budget->charges;
	int64_t leaving = gone ? (int64_t)budget->leaving_bytes : 0;
	int64_t own = (int64_t)budget->own_bytes - leaving;
	int64_t before = 0, after = (int64_t)top_scratch(top);
	uint32_t staying = budget->count - (gone ? budget->leaving : 0);
	/* What the worker holds beyond the plans goes with the models that hold
	 * it; a pinned one alone must not keep others out for it. */
	int64_t overhead = staying > budget->fixed ? (int64_t)budget->overhead_bytes : 0;
	struct vac_shortage shortage = {0};
	uint64_t limit, free_bytes;

	/* With the last model its worker ends, and gives its context back. */
	if (gone && need->whole && staying == 0)
		leaving += (int64_t)budget->overhead_bytes;

	/* The scratch of a load under way may not be there yet. */
	if (budget->charges && !budget->charges->loading)
		before = (int64_t)budget->charges->scratch_bytes;
	if (after < (int64_t)need->scratch_bytes)
		after = (int64_t)need->scratch_bytes;
	if (vac_budget_limit(budget, &limit) && limit < INT64_MAX)
		shortage.budget_bytes =
			above(own + (int64_t)budget->load_bytes + after + overhead +
			      (int64_t)budget->room.parked_bytes +
			      (int64_t)(need->own_bytes + need->load_bytes) - (int64_t)limit);
	if (vac_budget_free(budget, &free_bytes) && free_bytes < INT64_MAX)
		shortage.measured_bytes =
			above((int64_t)(need->own_bytes + need->load_bytes) + after - before +
			      (int64_t)budget->pending_bytes - leaving - (int64_t)free_bytes);
	return shortage;
}
