/*
 * region.c - host regions and the ledger that lists all regions of a process.
 * One thread at a time: the one that owns the engine.
 */
#include "memory/region.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE_BYTES ((uint64_t)2 << 20)
/* Below that, aligning to huge pages gains less than it costs to set up. */
#define HUGE_WORTH_BYTES ((uint64_t)4 << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older headers lack it */
#endif

static const char *const kind_names[] = {
	[VAC_REGION_WEIGHTS] = "weights",     [VAC_REGION_PACKED] = "packed",
	[VAC_REGION_TOKENIZER] = "tokenizer", [VAC_REGION_SCRATCH] = "scratch",
	[VAC_REGION_CACHE] = "cache",
};

static uint64_t page_bytes(void)
{
	/* Cannot fail for this name, and never changes while a process lives. */
	long bytes = sysconf(_SC_PAGESIZE);

	return bytes > 0 ? (uint64_t)bytes : 4096;
}

const char *vac_region_kind_name(enum vac_region_kind kind)
{
	size_t index = (size_t)kind;

	if (index >= sizeof(kind_names) / sizeof(kind_names[0]) || !kind_names[index])
		return "unknown";
	return kind_names[index];
}

uint64_t vac_page_round(uint64_t bytes)
{
	uint64_t page = page_bytes();

	if (bytes > UINT64_MAX - (page - 1))
		return UINT64_MAX / page * page;
	return (bytes + page - 1) / page * page;
}

/* Makes every page resident. 0, or -1 when the system has no memory for it:
 * asking the kernel first gives an error where touching would get us killed. */
static int touch_pages(uint8_t *base, size_t bytes)
{
	while (madvise(base, bytes, MADV_POPULATE_WRITE) != 0) {
		if (errno == EINVAL) { /* a kernel before 5.14 */
			for (size_t at = 0; at < bytes; at += (size_t)page_bytes())
				((volatile uint8_t *)base)[at] = 0;
			return 0;
		}
		if (errno != EINTR && errno != EAGAIN)
			return -1;
	}
	return 0;
}

/*
 * The mapping lies between two inaccessible pages. They keep the kernel from
 * merging it with a neighbour: a huge page that spanned both would count more
 * than our bytes, and munmap of a part of it would not give the rest back.
 * They also turn an overrun into a fault at once.
 */
void *vac_host_map(uint64_t bytes)
{
	uint64_t page = page_bytes(), rounded = vac_page_round(bytes);
	uint64_t align = rounded >= HUGE_WORTH_BYTES ? HUGE_PAGE_BYTES : page;
	uint64_t reserved_bytes, head, tail;
	uint8_t *reserved, *base;

	if (rounded == 0 || rounded > (uint64_t)SIZE_MAX / 2 - align - page)
		return NULL;
	/* Room for a guard on both sides and for moving the start to alignment. */
	reserved_bytes = rounded + align + page;
	reserved =
		mmap(NULL, (size_t)reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reserved == MAP_FAILED)
		return NULL;
	base = (uint8_t *)(((uintptr_t)reserved + page + align - 1) / align * align);
	head = (uint64_t)(base - page - reserved);
	tail = reserved_bytes - head - rounded - 2 * page;
	/* Giving address space back at the ends of a mapping cannot fail. */
	if (head > 0)
		munmap(reserved, (size_t)head);
	if (tail > 0)
		munmap(base + rounded + page, (size_t)tail);
	if (mprotect(base, (size_t)rounded, PROT_READ | PROT_WRITE) != 0)
		goto err;
	/* Advice only: a kernel without huge pages refuses, and that is fine. */
	if (rounded >= HUGE_WORTH_BYTES)
		(void)madvise(base, (size_t)rounded, MADV_HUGEPAGE);
	if (touch_pages(base, (size_t)rounded) != 0)
		goto err;
	return base;
err:
	vac_host_unmap(base, rounded);
	return NULL;
}

void vac_host_unmap(void *base, uint64_t bytes)
{
	uint64_t page = page_bytes();
	int rc;

	if (!base)
		return;
	rc = munmap((uint8_t *)base - page, (size_t)(vac_page_round(bytes) + 2 * page));
	assert(rc == 0);
	(void)rc;
}

static uint64_t *sum_of(struct vac_ledger *ledger, bool on_device)
{
	return on_device ? &ledger->device_bytes : &ledger->host_bytes;
}

struct vac_region *vac_ledger_add(struct vac_ledger *ledger, uint32_t owner,
				  enum vac_region_kind kind, bool on_device, void *base,
				  uint64_t bytes)
{
	struct vac_region *region = malloc(sizeof(*region));

	assert(base && bytes > 0);
	assert(on_device || bytes == vac_page_round(bytes));
	if (!region)
		return NULL;
	*region = (struct vac_region){
		.owner = owner,
		.kind = kind,
		.on_device = on_device,
		.bytes = bytes,
		.base = base,
		.next = ledger->regions,
	};
	ledger->regions = region;
	*sum_of(ledger, on_device) += bytes;
	ledger->count++;
	return region;
}

void vac_ledger_remove(struct vac_ledger *ledger, struct vac_region *region)
{
	struct vac_region **at = &ledger->regions;

	if (!region)
		return;
	while (*at && *at != region)
		at = &(*at)->next;
	assert(*at == region);
	if (!*at)
		return;
	assert(ledger->count > 0 && *sum_of(ledger, region->on_device) >= region->bytes);
	*at = region->next;
	*sum_of(ledger, region->on_device) -= region->bytes;
	ledger->count--;
	free(region);
}

uint64_t vac_ledger_owner_bytes(const struct vac_ledger *ledger, uint32_t owner)
{
	uint64_t bytes = 0;

	for (const struct vac_region *region = ledger->regions; region; region = region->next) {
		if (region->owner == owner)
			bytes += region->bytes;
	}
	return bytes;
}
