/*
 * test_memory.c - regions, ledger, plan, receipts and trim. What a region
 * takes is read from /proc/self/smaps, not from what the code under test says.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/plan.h"
#include "memory/receipt.h"
#include "memory/region.h"
#include "memory/trim.h"

#if defined(__has_feature) /* clang's name for it */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#define PAGE ((uint64_t)sysconf(_SC_PAGESIZE))
#define MIB  ((uint64_t)1 << 20)

/* The mapping that starts at base, as the kernel describes it. */
struct mapping {
	bool found;
	char access[5];
	uint64_t bytes, rss_bytes, private_dirty_bytes, huge_bytes;
};

static struct mapping find_mapping(const void *base)
{
	struct mapping m = {0};
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[512];

	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		uint64_t start, end, kib;
		char access[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s ", &start, &end, access) == 3) {
			if (m.found)
				break;
			m.found = start == (uint64_t)(uintptr_t)base;
			m.bytes = end - start;
			memcpy(m.access, access, sizeof(access));
		}
		if (!m.found)
			continue;
		if (sscanf(line, "Rss: %" SCNu64 " kB", &kib) == 1)
			m.rss_bytes = kib * 1024;
		if (sscanf(line, "Private_Dirty: %" SCNu64 " kB", &kib) == 1)
			m.private_dirty_bytes = kib * 1024;
		if (sscanf(line, "AnonHugePages: %" SCNu64 " kB", &kib) == 1)
			m.huge_bytes = kib * 1024;
	}
	fclose(smaps);
	return m;
}

/* Is that byte in a mapping that nobody may touch? Then nothing else can come
 * to lie there, as it could where nothing is mapped. */
static bool is_guarded(const void *byte)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	bool guarded = false;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		uint64_t start, end, at = (uint64_t)(uintptr_t)byte;
		char access[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s ", &start, &end, access) == 3 &&
		    at >= start && at < end)
			guarded = strcmp(access, "---p") == 0;
	}
	fclose(maps);
	return guarded;
}

static bool is_accessible(const void *byte)
{
	int fds[2];
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	n = write(fds[1], byte, 1);
	close(fds[0]);
	close(fds[1]);
	return n == 1;
}

static bool sysfs_says(const char *path, const char *word)
{
	char text[256] = "";
	FILE *file = fopen(path, "re");
	bool said;

	if (!file)
		return false;
	said = fgets(text, sizeof(text), file) && strstr(text, word);
	fclose(file);
	return said;
}

static void test_page_round(void **state)
{
	(void)state;
	assert_true(vac_page_round(0) == 0);
	assert_true(vac_page_round(1) == PAGE);
	assert_true(vac_page_round(PAGE - 1) == PAGE);
	assert_true(vac_page_round(PAGE) == PAGE);
	assert_true(vac_page_round(PAGE + 1) == 2 * PAGE);
	assert_true(vac_page_round(UINT64_MAX) == UINT64_MAX - (PAGE - 1));
	assert_true(vac_page_round(UINT64_MAX - PAGE + 1) == UINT64_MAX - (PAGE - 1));
}

static void test_region_kind_names(void **state)
{
	(void)state;
	assert_string_equal(vac_region_kind_name(VAC_REGION_WEIGHTS), "weights");
	assert_string_equal(vac_region_kind_name(VAC_REGION_PACKED), "packed");
	assert_string_equal(vac_region_kind_name(VAC_REGION_TOKENIZER), "tokenizer");
	assert_string_equal(vac_region_kind_name(VAC_REGION_SCRATCH), "scratch");
	assert_string_equal(vac_region_kind_name(VAC_REGION_CACHE), "cache");
	assert_string_equal(vac_region_kind_name((enum vac_region_kind)0), "unknown");
	assert_string_equal(vac_region_kind_name((enum vac_region_kind)6), "unknown");
}

/* Every page is there at once, none beyond, all zero, and the guards hold. */
static void test_region_measures_its_bytes(void **state)
{
	const uint64_t sizes[] = {1,       PAGE,        PAGE + 1,      2 * MIB + 5,
				  4 * MIB, 4 * MIB + 1, 7 * MIB + 777, 33 * MIB + PAGE};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t rounded = (sizes[i] + PAGE - 1) / PAGE * PAGE;
		uint8_t *base = vac_host_map(sizes[i]);
		struct mapping m;

		assert_non_null(base);
		m = find_mapping(base);
		assert_true(m.found);
		assert_string_equal(m.access, "rw-p");
		assert_true(m.bytes == rounded);
		assert_true(m.rss_bytes == rounded);
		assert_true(m.private_dirty_bytes == rounded);
		for (uint64_t at = 0; at < rounded; at += 64)
			assert_int_equal(base[at], 0);
		assert_true(is_guarded(base - 1) && is_guarded(base - PAGE));
		assert_false(is_accessible(base - 1));
		assert_true(is_accessible(base));
		assert_true(is_accessible(base + rounded - 1));
		assert_true(is_guarded(base + rounded) && is_guarded(base + rounded + PAGE - 1));
		assert_false(is_accessible(base + rounded));
		vac_host_unmap(base, sizes[i]);
		assert_false(find_mapping(base).found);
		assert_false(is_accessible(base));
		assert_false(is_guarded(base - 1) || is_guarded(base + rounded));
	}
}

static void test_region_uses_huge_pages(void **state)
{
	uint64_t bytes = 32 * MIB + PAGE;
	uint8_t *base = vac_host_map(bytes);
	struct mapping m;

	(void)state;
	assert_non_null(base);
	m = find_mapping(base);
	vac_host_unmap(base, bytes);
	if (sysfs_says("/sys/kernel/mm/transparent_hugepage/enabled", "[never]") ||
	    access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) != 0)
		skip();
	assert_true((uintptr_t)base % (2 * MIB) == 0);
	/* Fragmented memory may refuse some; none at all would be our fault. */
	assert_true(m.huge_bytes >= 2 * MIB);
	assert_true(m.huge_bytes <= 32 * MIB);
}

/* Neighbours stay apart: taking one away takes all of it and nothing else. */
static void test_regions_do_not_merge(void **state)
{
	enum { COUNT = 16 };
	uint64_t bytes = 5 * MIB + PAGE;
	uint8_t *bases[COUNT];

	(void)state;
	for (int i = 0; i < COUNT; i++) {
		bases[i] = vac_host_map(bytes);
		assert_non_null(bases[i]);
		memset(bases[i], i + 1, bytes);
	}
	for (int i = 0; i < COUNT; i += 2)
		vac_host_unmap(bases[i], bytes);
	for (int i = 1; i < COUNT; i += 2) {
		struct mapping m = find_mapping(bases[i]);

		assert_true(m.found);
		assert_true(m.bytes == bytes && m.rss_bytes == bytes);
		assert_int_equal(bases[i][0], i + 1);
		assert_int_equal(bases[i][bytes - 1], i + 1);
		assert_false(find_mapping(bases[i - 1]).found);
		vac_host_unmap(bases[i], bytes);
	}
}

static void test_region_refused(void **state)
{
	(void)state;
	assert_null(vac_host_map(0));
	assert_null(vac_host_map((uint64_t)1 << 62));
	assert_null(vac_host_map(UINT64_MAX));
	/* More than any machine has: refused when it is to be charged, without
	 * touching a page; unless the system was told to promise everything. */
	if (!sysfs_says("/proc/sys/vm/overcommit_memory", "1"))
		assert_null(vac_host_map((uint64_t)1 << 46));
	vac_host_unmap(NULL, 4096);
}

static void test_ledger_sums(void **state)
{
	struct vac_ledger ledger = {0};
	struct vac_region *a, *b, *c, *d;
	char at[4];

	(void)state;
	a = vac_ledger_add(&ledger, 1, VAC_REGION_WEIGHTS, false, &at[0], 10 * PAGE);
	b = vac_ledger_add(&ledger, 1, VAC_REGION_PACKED, true, &at[1], 200 * PAGE);
	c = vac_ledger_add(&ledger, 2, VAC_REGION_WEIGHTS, false, &at[2], 3000 * PAGE);
	d = vac_ledger_add(&ledger, VAC_OWNER_SHARED, VAC_REGION_SCRATCH, false, &at[3],
			   40000 * PAGE);
	assert_true(a && b && c && d);
	assert_true(a->owner == 1 && a->kind == VAC_REGION_WEIGHTS && !a->on_device &&
		    a->base == &at[0] && a->bytes == 10 * PAGE);
	assert_int_equal(ledger.count, 4);
	assert_true(ledger.host_bytes == 43010 * PAGE);
	assert_true(ledger.device_bytes == 200 * PAGE);
	assert_true(vac_ledger_owner_bytes(&ledger, 1) == 210 * PAGE);
	assert_true(vac_ledger_owner_bytes(&ledger, 2) == 3000 * PAGE);
	assert_true(vac_ledger_owner_bytes(&ledger, VAC_OWNER_SHARED) == 40000 * PAGE);
	assert_true(vac_ledger_owner_bytes(&ledger, 3) == 0);

	vac_ledger_remove(&ledger, b); /* in the middle of the list */
	assert_int_equal(ledger.count, 3);
	assert_true(ledger.device_bytes == 0 && ledger.host_bytes == 43010 * PAGE);
	assert_true(vac_ledger_owner_bytes(&ledger, 1) == 10 * PAGE);
	vac_ledger_remove(&ledger, d); /* its head */
	vac_ledger_remove(&ledger, a); /* its end */
	assert_true(ledger.regions == c && c->next == NULL);
	vac_ledger_remove(&ledger, NULL);
	vac_ledger_remove(&ledger, c);
	assert_null(ledger.regions);
	assert_int_equal(ledger.count, 0);
	assert_true(ledger.host_bytes == 0 && ledger.device_bytes == 0);
}

static void test_plan_rounds_and_sums(void **state)
{
	struct vac_plan plan = {0};

	(void)state;
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_WEIGHTS, false, 1), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_WEIGHTS, false, PAGE), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_PACKED, true, 5 * PAGE + 1), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_SCRATCH, false, 7 * PAGE - 1), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_SCRATCH, true, 9 * PAGE), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_CACHE, false, 0), 0);
	assert_int_equal(plan.count, 5); /* same kinds stay apart, nothing for 0 */
	assert_true(plan.items[0].bytes == PAGE && plan.items[1].bytes == PAGE);
	assert_true(plan.items[2].bytes == 6 * PAGE && plan.items[2].on_device);
	assert_true(plan.items[3].kind == VAC_REGION_SCRATCH && plan.items[3].bytes == 7 * PAGE);
	assert_true(vac_plan_bytes(&plan, false) == 9 * PAGE);
	assert_true(vac_plan_bytes(&plan, true) == 15 * PAGE);
	assert_true(vac_plan_own_bytes(&plan, false) == 2 * PAGE);
	assert_true(vac_plan_own_bytes(&plan, true) == 6 * PAGE);
}

static void test_plan_limits(void **state)
{
	struct vac_plan plan = {0};

	(void)state;
	for (int i = 0; i < VAC_PLAN_MAX_ITEMS; i++)
		assert_int_equal(vac_plan_add(&plan, VAC_REGION_WEIGHTS, false, UINT64_MAX), 0);
	assert_int_equal(vac_plan_add(&plan, VAC_REGION_WEIGHTS, false, 1), -ENOSPC);
	assert_int_equal(plan.count, VAC_PLAN_MAX_ITEMS);
	/* A sum that would wrap around stays large. */
	assert_true(vac_plan_bytes(&plan, false) == UINT64_MAX);
	assert_true(vac_plan_own_bytes(&plan, false) == UINT64_MAX);
}

static struct vac_receipt receipt_of(uint64_t before, uint64_t after, uint64_t ledger)
{
	return (struct vac_receipt){
		.ledger_bytes = ledger,
		.worker_before = {.valid = true, .uss_bytes = before},
		.worker_after = {.valid = true, .uss_bytes = after},
	};
}

static void test_receipt_arithmetic(void **state)
{
	struct vac_receipt r;

	(void)state;
	r = receipt_of(100 * MIB, 10 * MIB, 90 * MIB);
	assert_true(vac_receipt_valid(&r));
	assert_true(vac_receipt_returned_bytes(&r) == (int64_t)(90 * MIB));
	assert_true(vac_receipt_unaccounted_bytes(&r) == 0);

	r = receipt_of(100 * MIB, 0, 90 * MIB); /* the worker exited: more came back */
	assert_true(vac_receipt_returned_bytes(&r) == (int64_t)(100 * MIB));
	assert_true(vac_receipt_unaccounted_bytes(&r) == 0);

	r = receipt_of(100 * MIB, 11 * MIB, 90 * MIB);
	assert_true(vac_receipt_returned_bytes(&r) == (int64_t)(89 * MIB));
	assert_true(vac_receipt_unaccounted_bytes(&r) == MIB);

	r = receipt_of(100 * MIB, 103 * MIB, 90 * MIB); /* it grew */
	assert_true(vac_receipt_returned_bytes(&r) == -(int64_t)(3 * MIB));
	assert_true(vac_receipt_unaccounted_bytes(&r) == 90 * MIB);

	r = receipt_of(40 * MIB, 10 * MIB, 90 * MIB); /* 60 MiB of it were in swap */
	r.worker_before.swap_bytes = 60 * MIB;
	assert_true(vac_receipt_returned_bytes(&r) == (int64_t)(90 * MIB));
	assert_true(vac_receipt_unaccounted_bytes(&r) == 0);
}

static void test_receipt_without_measurement(void **state)
{
	struct vac_receipt r;

	(void)state;
	r = receipt_of(100 * MIB, 10 * MIB, 90 * MIB);
	r.worker_before.valid = false;
	assert_false(vac_receipt_valid(&r));
	assert_true(vac_receipt_returned_bytes(&r) == 0);
	assert_true(vac_receipt_unaccounted_bytes(&r) == 90 * MIB);
	r = receipt_of(100 * MIB, 10 * MIB, 90 * MIB);
	r.worker_after.valid = false;
	assert_false(vac_receipt_valid(&r));
	assert_true(vac_receipt_returned_bytes(&r) == 0);
}

static void test_unload_reason_names(void **state)
{
	(void)state;
	assert_string_equal(vac_unload_reason_name(VAC_UNLOAD_REQUEST), "request");
	assert_string_equal(vac_unload_reason_name(VAC_UNLOAD_IDLE), "idle");
	assert_string_equal(vac_unload_reason_name(VAC_UNLOAD_SHUTDOWN), "shutdown");
	assert_string_equal(vac_unload_reason_name(VAC_UNLOAD_WORKER_DIED), "worker_died");
	assert_string_equal(vac_unload_reason_name(VAC_UNLOAD_EVICTED), "evicted");
	assert_string_equal(vac_unload_reason_name(VAC_UNLOAD_SETTINGS), "settings");
	assert_string_equal(vac_unload_reason_name((enum vac_unload_reason)0), "unknown");
	assert_string_equal(vac_unload_reason_name((enum vac_unload_reason)VAC_UNLOAD_REASONS),
			    "unknown");
}

/* Allocators that are not here, found by name all the same. */
static int mallctl_flushed, mallctl_purged, tcmalloc_released, mimalloc_collected;

__attribute__((visibility("default"))) int mallctl(const char *name, void *old, size_t *old_bytes,
						   void *value, size_t value_bytes);
__attribute__((visibility("default"))) void MallocExtension_ReleaseFreeMemory(void);
__attribute__((visibility("default"))) void mi_collect(bool force);

int mallctl(const char *name, void *old, size_t *old_bytes, void *value, size_t value_bytes)
{
	assert_true(!old && !old_bytes && !value && value_bytes == 0);
	if (strcmp(name, "thread.tcache.flush") == 0) {
		assert_int_equal(mallctl_flushed, mallctl_purged); /* flush, then purge */
		mallctl_flushed++;
	} else {
		assert_string_equal(name, "arena.4096.purge");
		mallctl_purged++;
	}
	return 0;
}

void MallocExtension_ReleaseFreeMemory(void)
{
	tcmalloc_released++;
}

void mi_collect(bool force)
{
	assert_true(force);
	mimalloc_collected++;
}

static void test_trim_calls_all(void **state)
{
	uint32_t called = vac_trim();

	(void)state;
	assert_true(called & VAC_ALLOCATOR_JEMALLOC);
	assert_int_equal(mallctl_flushed, 1);
	assert_int_equal(mallctl_purged, 1);
	assert_true(called & VAC_ALLOCATOR_TCMALLOC);
	assert_int_equal(tcmalloc_released, 1);
	assert_true(called & VAC_ALLOCATOR_MIMALLOC);
	assert_int_equal(mimalloc_collected, 1);
	assert_false(called & VAC_ALLOCATOR_MACOS);
#ifdef __GLIBC__
	assert_true(called & VAC_ALLOCATOR_GLIBC);
#else
	assert_false(called & VAC_ALLOCATOR_GLIBC);
#endif
}

/* What malloc keeps after free goes back to the system. */
static void test_trim_returns_memory(void **state)
{
	enum { COUNT = 4096, BYTES = 8192 };
	static void *blocks[COUNT];
	uint64_t before, full, after;
	void *top;

	(void)state;
#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
	skip(); /* another malloc, with a quarantine of its own */
#endif
	assert_int_equal(vac_meter_rss(0, &before), 0);
	for (int i = 0; i < COUNT; i++) {
		blocks[i] = malloc(BYTES);
		assert_non_null(blocks[i]);
		memset(blocks[i], 1, BYTES);
	}
	top = malloc(64); /* keeps the heap's end where it is */
	assert_non_null(top);
	for (int i = 0; i < COUNT; i++)
		free(blocks[i]);
	assert_int_equal(vac_meter_rss(0, &full), 0);
	assert_true(full >= before + 30 * MIB);
	vac_trim();
	assert_int_equal(vac_meter_rss(0, &after), 0);
	assert_true(after < before + MIB);
	free(top);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_round),
		cmocka_unit_test(test_region_kind_names),
		cmocka_unit_test(test_region_measures_its_bytes),
		cmocka_unit_test(test_region_uses_huge_pages),
		cmocka_unit_test(test_regions_do_not_merge),
		cmocka_unit_test(test_region_refused),
		cmocka_unit_test(test_ledger_sums),
		cmocka_unit_test(test_plan_rounds_and_sums),
		cmocka_unit_test(test_plan_limits),
		cmocka_unit_test(test_receipt_arithmetic),
		cmocka_unit_test(test_receipt_without_measurement),
		cmocka_unit_test(test_unload_reason_names),
		cmocka_unit_test(test_trim_calls_all),
		cmocka_unit_test(test_trim_returns_memory),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
