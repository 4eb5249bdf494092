/* test_budget.c - the arithmetic of room, with a meter of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/budget.h"

#define MIB UINT64_C(1048576)

struct meter {
	struct vac_budget_room room;
	int looks;
};

static void measure(void *ctx, struct vac_budget_room *out)
{
	struct meter *meter = ctx;

	meter->looks++;
	*out = meter->room;
}

static struct vac_plan plan_of(uint64_t own, uint64_t scratch, uint64_t load)
{
	struct vac_plan plan = {.load_bytes = load * MIB};

	assert_int_equal(vac_plan_add(&plan, VAC_REGION_WEIGHTS, false, own * MIB), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_SCRATCH, false, scratch * MIB), 0);
	return plan;
}

static struct vac_charge charge_of(struct vac_budget *budget, uint64_t own, uint64_t scratch,
				   uint64_t load)
{
	struct vac_plan plan = plan_of(own, scratch, load);
	struct vac_charge charge = {0};

	vac_charge_plan(budget, &charge, &plan);
	return charge;
}

static void loaded(struct vac_budget *budget, struct vac_charge *charge)
{
	struct vac_plan plan = {0};

	assert_int_equal(vac_plan_add(&plan, VAC_REGION_WEIGHTS, false, charge->own_bytes), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_SCRATCH, false, charge->scratch_bytes), 0);
	vac_budget_settle(budget, charge, &plan);
}

/* 1000 MiB of which 900 are free, a limit of 50 %, no headroom. */
static struct vac_budget *budget_of(struct vac_budget *budget, struct meter *meter)
{
	const struct vac_size limit = {.is_share = true, .share = 0.5}, headroom = {0};

	*meter = (struct meter){.room = {.total_valid = true,
					 .free_valid = true,
					 .total_bytes = 1000 * MIB,
					 .free_bytes = 900 * MIB}};
	vac_budget_init(budget, false, &limit, &headroom, measure, meter);
	vac_budget_measure(budget, 0, 0);
	return budget;
}

static void short_of(const struct vac_budget *budget, const struct vac_charge *need, bool gone,
		     uint64_t planned_mib, uint64_t measured_mib)
{
	struct vac_shortage shortage = vac_budget_shortage(budget, need, gone);

	assert_int_equal(shortage.budget_bytes, planned_mib * MIB);
	assert_int_equal(shortage.measured_bytes, measured_mib * MIB);
}

static void test_limit(void **state)
{
	struct vac_budget b;
	struct meter meter;
	uint64_t bytes;

	(void)state;
	budget_of(&b, &meter);
	assert_true(vac_budget_limit(&b, &bytes));
	assert_int_equal(bytes, 500 * MIB);
	/* What the headroom takes can never be planned. */
	b.limit.share = 1;
	b.headroom = (struct vac_size){.bytes = 200 * MIB};
	assert_true(vac_budget_limit(&b, &bytes));
	assert_int_equal(bytes, 800 * MIB);
	assert_true(vac_budget_free(&b, &bytes));
	assert_int_equal(bytes, 700 * MIB);
	b.headroom = (struct vac_size){.bytes = 2000 * MIB};
	assert_true(vac_budget_limit(&b, &bytes));
	assert_int_equal(bytes, 0);
	assert_true(vac_budget_free(&b, &bytes));
	assert_int_equal(bytes, 0);
	/* Nothing known: a share of it is no limit, bytes are. */
	meter.room = (struct vac_budget_room){0};
	vac_budget_measure(&b, 1, 0);
	assert_false(vac_budget_limit(&b, &bytes));
	assert_false(vac_budget_free(&b, &bytes));
	b.limit = (struct vac_size){.bytes = 300 * MIB};
	assert_true(vac_budget_limit(&b, &bytes));
	assert_int_equal(bytes, 300 * MIB);
}

/* Own bytes add up, scratch is shared, load bytes are there for a moment. */
static void test_sum(void **state)
{
	struct vac_budget b;
	struct vac_charge a, c, need;
	struct meter meter;

	(void)state;
	budget_of(&b, &meter);
	a = charge_of(&b, 100, 30, 5);
	c = charge_of(&b, 200, 20, 10);
	assert_int_equal(vac_charge_bytes(&a), 135 * MIB);
	assert_int_equal(vac_budget_used(&b), 0);
	vac_budget_add(&b, &a);
	assert_int_equal(vac_budget_used(&b), 135 * MIB);
	vac_budget_add(&b, &c);
	assert_int_equal(vac_budget_used(&b), 345 * MIB);
	loaded(&b, &a);
	loaded(&b, &c);
	assert_int_equal(vac_budget_used(&b), 330 * MIB);
	/* 300 + 40 (its scratch is the largest) + 160 = 500 fits to the byte. */
	need = charge_of(&b, 150, 40, 10);
	short_of(&b, &need, false, 0, 0);
	need = charge_of(&b, 151, 40, 10);
	short_of(&b, &need, false, 1, 0);
	/* Without a: 200 + max(20, 40) + 161. */
	vac_budget_leave(&b, &a);
	short_of(&b, &need, false, 1, 0);
	short_of(&b, &need, true, 0, 0);
	vac_budget_stay(&b, &a);
	short_of(&b, &need, true, 1, 0);
	/* The scratch shrinks to what is left. */
	need = charge_of(&b, 279, 1, 0);
	vac_budget_leave(&b, &a);
	short_of(&b, &need, true, 0, 0);
	need = charge_of(&b, 281, 1, 0);
	short_of(&b, &need, true, 1, 0);
	vac_budget_remove(&b, &a);
	vac_budget_remove(&b, &a); /* not counted: nothing */
	assert_int_equal(vac_budget_used(&b), 220 * MIB);
	vac_budget_remove(&b, &c);
	assert_int_equal(vac_budget_used(&b), 0);
	assert_int_equal(b.count + b.leaving + b.loading + b.fixed, 0);
	assert_int_equal(b.leaving_bytes + b.pending_bytes + b.load_bytes + b.own_bytes, 0);
}

/* Others took memory: the budget has room and the machine has not. */
static void test_measured(void **state)
{
	struct vac_budget b;
	struct vac_charge a, need;
	struct meter meter;

	(void)state;
	budget_of(&b, &meter);
	b.headroom = (struct vac_size){.is_share = true, .share = 0.1};
	need = charge_of(&b, 200, 30, 20);
	meter.room.free_bytes = 300 * MIB; /* 200 beyond the headroom */
	vac_budget_measure(&b, 10, 20);    /* what is 10 ns old is believed */
	short_of(&b, &need, false, 0, 0);
	vac_budget_measure(&b, 20, 20);
	short_of(&b, &need, false, 0, 50);
	assert_int_equal(meter.looks, 2);
	/* A load under way has not taken its part yet. */
	a = charge_of(&b, 50, 30, 10);
	vac_budget_add(&b, &a);
	need = charge_of(&b, 100, 30, 0);
	short_of(&b, &need, false, 0, 0);
	need = charge_of(&b, 111, 30, 0);
	short_of(&b, &need, false, 0, 1);
	loaded(&b, &a);
	/* Now it has, and what is free says so; its scratch is shared. */
	meter.room.free_bytes = 220 * MIB;
	vac_budget_measure(&b, 21, 1000); /* the end of a load is measured anew */
	need = charge_of(&b, 120, 30, 0);
	short_of(&b, &need, false, 0, 0);
	need = charge_of(&b, 121, 30, 0);
	short_of(&b, &need, false, 0, 1);
	/* If a leaves, 50 + 30 come and 30 are mapped again. */
	need = charge_of(&b, 171, 30, 0);
	vac_budget_leave(&b, &a);
	short_of(&b, &need, true, 0, 1);
	need = charge_of(&b, 170, 30, 0);
	short_of(&b, &need, true, 0, 0);
	need = charge_of(&b, 170, 31, 0);
	short_of(&b, &need, true, 0, 1);
}

/* What a worker was measured to hold beyond the plans counts, but goes with the
 * models: alone a model has the whole budget. */
static void test_overhead(void **state)
{
	struct vac_budget b;
	struct vac_charge a, need;
	struct meter meter;

	(void)state;
	budget_of(&b, &meter);
	a = charge_of(&b, 100, 20, 0);
	vac_budget_add(&b, &a);
	meter.room.held_valid = true;
	meter.room.held_bytes = 150 * MIB;
	vac_budget_measure(&b, 1, 0);
	need = charge_of(&b, 380, 20, 0); /* 500 with a: nobody can tell yet */
	short_of(&b, &need, false, 0, 0);
	loaded(&b, &a);
	vac_budget_measure(&b, 2, 0);
	short_of(&b, &need, false, 30, 0);
	vac_budget_leave(&b, &a);
	need = charge_of(&b, 480, 20, 0);
	short_of(&b, &need, true, 0, 0);
	vac_budget_remove(&b, &a);
	short_of(&b, &need, false, 0, 0);
	/* A pinned one keeps nobody out by more than its plan. */
	a = charge_of(&b, 100, 20, 0);
	a.fixed = true;
	vac_budget_add(&b, &a);
	loaded(&b, &a);
	vac_budget_measure(&b, 3, 0);
	assert_int_equal(b.overhead_bytes, 30 * MIB);
	need = charge_of(&b, 380, 20, 0);
	short_of(&b, &need, false, 0, 0);
}

/* The largest scratch of those that stay is found whatever leaves and comes
 * back, in any order: against a plain count. */
static void test_scratch_of_the_staying(void **state)
{
	enum { COUNT = 12, ROUNDS = 4000 };
	struct vac_budget b;
	struct vac_charge charges[COUNT], nothing = {0};
	struct meter meter;
	uint32_t random = 12345;

	(void)state;
	budget_of(&b, &meter);
	b.limit = (struct vac_size){0}; /* a shortage is then all that is planned */
	for (uint32_t i = 0; i < COUNT; i++) {
		charges[i] = charge_of(&b, 10 + i, i / 3 * 7, 0);
		vac_budget_add(&b, &charges[i]);
		loaded(&b, &charges[i]);
	}
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t own = 0, scratch = 0;
		struct vac_charge *one;

		random = random * 1664525u + 1013904223u;
		one = &charges[(random >> 8) % COUNT];
		if (random >> 31)
			vac_budget_leave(&b, one);
		else
			vac_budget_stay(&b, one);
		for (int i = 0; i < COUNT; i++) {
			if (charges[i].leaving)
				continue;
			own += charges[i].own_bytes;
			if (charges[i].scratch_bytes > scratch)
				scratch = charges[i].scratch_bytes;
		}
		assert_int_equal(vac_budget_shortage(&b, &nothing, true).budget_bytes,
				 own + scratch);
	}
}

/* A worker that says nonsense makes no room. */
static void test_wild_plans(void **state)
{
	struct vac_charge first, second, wild = {0}, next;
	struct vac_plan plan = {.load_bytes = UINT64_MAX};
	struct vac_budget budget;
	struct meter meter;
	uint64_t limit;

	(void)state;
	budget_of(&budget, &meter);
	vac_budget_measure(&budget, 0, 0);
	for (int i = 0; i < 2; i++)
		plan.items[plan.count++] =
			(struct vac_plan_item){.kind = VAC_REGION_WEIGHTS, .bytes = UINT64_MAX};
	vac_charge_plan(&budget, &wild, &plan);
	assert_true(vac_budget_limit(&budget, &limit) && vac_charge_bytes(&wild) > limit);
	assert_false(vac_shortage_none(vac_budget_shortage(&budget, &wild, false)));

	/* Planned with a little, and loaded as if it were all that there is. */
	first = charge_of(&budget, 100, 0, 0);
	second = charge_of(&budget, 100, 0, 0);
	next = charge_of(&budget, 1, 0, 0);
	vac_budget_add(&budget, &first);
	loaded(&budget, &first);
	vac_budget_add(&budget, &second);
	vac_budget_settle(&budget, &second, &plan);
	vac_budget_measure(&budget, 1, 0);
	assert_true(vac_budget_used(&budget) > limit);
	assert_true(vac_budget_shortage(&budget, &next, false).budget_bytes > 0);
	vac_budget_remove(&budget, &second);
	assert_int_equal(vac_budget_used(&budget), 100 * MIB);
	vac_budget_measure(&budget, 2, 0);
	assert_true(vac_shortage_none(vac_budget_shortage(&budget, &next, false)));
}

static void test_this_machine(void **state)
{
	struct vac_budget_room room;

	(void)state;
	vac_budget_measure_host(&room);
	assert_true(room.total_valid && room.free_valid);
	assert_true(room.total_bytes > 64 * MIB && room.free_bytes > MIB);
	assert_true(room.free_bytes <= room.total_bytes);
}

/* What parked workers brought along counts against the limit, whoever leaves. */
static void test_parked(void **state)
{
	struct vac_budget budget;
	struct meter meter;
	struct vac_charge a, b;

	(void)state;
	budget_of(&budget, &meter);
	a = charge_of(&budget, 200, 0, 0);
	vac_budget_add(&budget, &a);
	loaded(&budget, &a);
	meter.room.parked_bytes = 150 * MIB;
	vac_budget_measure(&budget, 1, 0);
	b = charge_of(&budget, 200, 0, 0);
	assert_int_equal(vac_budget_shortage(&budget, &b, false).budget_bytes, 50 * MIB);
	assert_int_equal(vac_budget_room_left(&budget), 150 * MIB);
	vac_budget_leave(&budget, &a);
	assert_true(vac_shortage_none(vac_budget_shortage(&budget, &b, true)));
	b = charge_of(&budget, 400, 0, 0);
	assert_int_equal(vac_budget_shortage(&budget, &b, true).budget_bytes, 50 * MIB);
}

/* A worker that comes back has its context in its charge: that of those that leave is
 * gone with the last of them. */
static void test_a_whole_worker(void **state)
{
	struct vac_budget budget;
	struct meter meter;
	struct vac_charge a, whole, part;

	(void)state;
	budget_of(&budget, &meter);
	a = charge_of(&budget, 100, 0, 0);
	vac_budget_add(&budget, &a);
	loaded(&budget, &a);
	meter.room.held_valid = true;
	meter.room.held_bytes = 350 * MIB; /* 250 are its context */
	meter.room.free_bytes = 50 * MIB;
	vac_budget_measure(&budget, 1, 0);
	part = charge_of(&budget, 380, 0, 0);
	whole = part;
	whole.whole = true;
	vac_budget_leave(&budget, &a);
	assert_int_equal(vac_budget_shortage(&budget, &part, true).measured_bytes, 230 * MIB);
	assert_int_equal(vac_budget_shortage(&budget, &whole, true).measured_bytes, 0);
	vac_budget_stay(&budget, &a);
	assert_int_equal(vac_budget_shortage(&budget, &whole, true).measured_bytes, 330 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parked),
		cmocka_unit_test(test_a_whole_worker),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_measured),
		cmocka_unit_test(test_overhead),
		cmocka_unit_test(test_scratch_of_the_staying),
		cmocka_unit_test(test_wild_plans),
		cmocka_unit_test(test_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
