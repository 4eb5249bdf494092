/*
 * mapped.c - files read in place: the GPU is given the pages of the page cache
 * (cuMemHostRegister of a read-only mapping) and fetches them over the bus itself. No
 * byte passes through the processor. See fetch.c for what goes this way and what
 * through the ring.
 *
 * A file is mapped whole and registered in windows, as they are needed; a window is
 * registered by all threads of the ring's team while the GPU copies from the one before,
 * and goes when it is the one used longest ago. What does not go this way (the driver
 * refuses, the file is not in the page cache) goes through the ring.
 *
 * Nobody but the GPU reads the mapping, and it reads pages that are pinned: a file that is
 * cut short meanwhile raises no SIGBUS. Registering beyond the end fails, and what was
 * registered before is compared with the file's size in the end. Copies are at least
 * LEAST_BYTES long: the driver may make short ones with the processor.
 *
 * On the engine's thread, in the context.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/io.h"
#include "engine/cuda/backend.h"
#include "engine/team.h"
#include "memory/meter.h"
#include "memory/region.h"

#define LEAST_BYTES      ((uint64_t)256 << 10) /* of an item */
#define AUTO_LEAST_BYTES ((uint64_t)64 << 20)  /* of a file */
/* After tests/gpu/run large has shown it: VAC_CUDA_READ_AUTO. */
#define DEFAULT_READ VAC_CUDA_READ_RING

uint64_t vac_cuda_window_bytes = (uint64_t)16 << 20;

enum vac_cuda_read vac_cuda_read_wanted(bool *known)
{
	const char *text = getenv("VACATE_CUDA_READ");
	*known = true;
	if (!text || !*text)
		return DEFAULT_READ;
	if (strcmp(text, "mapped") == 0)
		return VAC_CUDA_READ_MAPPED;
	if (strcmp(text, "auto") == 0)
		return VAC_CUDA_READ_AUTO;
	*known = strcmp(text, "ring") == 0;
	return *known ? VAC_CUDA_READ_RING : DEFAULT_READ;
}

static uint64_t piece_bytes(void)
{
	return vac_cuda_window_bytes / VAC_CUDA_WINDOW_PIECES;
}

/* No file is read in place from now on. */
static void switch_off(struct vac_compute *c, int result)
{
	struct vac_error why;
	char text[sizeof(why.message) + 96];
	if (c->mapped.off)
		return;
	c->mapped.off = true;
	(void)vac_cuda_fail(c->cuda, &why, result, "registering pages of a file");
	snprintf(text, sizeof(text), "files are copied to the GPU and not read in place: %s",
		 why.message);
	if (c->warn)
		c->warn(c->warn_ctx, text);
}

/* The driver can register what may not be written to. */
static bool is_supported(struct vac_compute *c)
{
	int value = 0;
	if (c->mapped.asked)
		return !c->mapped.off;
	c->mapped.asked = true;
	int result =
		c->cuda->device_attribute(&value, VAC_CU_ATTRIBUTE_READ_ONLY_REGISTER, c->device);
	if (result != VAC_CU_OK || !value)
		switch_off(c, result != VAC_CU_OK ? result : VAC_CU_NOT_SUPPORTED);
	return !c->mapped.off;
}

static bool is_cached(const struct vac_weight_file *file)
{
	uint64_t cached;
	return vac_meter_cached(file->fd, file->bytes, &cached) == 0 && cached >= file->bytes;
}

/* NULL: there is no place for one more. With base NULL: not to be read in place. */
static struct vac_cuda_mapping *find_mapping(struct vac_compute *c,
					     const struct vac_weight_file *file)
{
	struct vac_cuda_mapping *place = NULL;
	for (uint32_t i = 0; i < VAC_CUDA_MAPPINGS; i++) {
		struct vac_cuda_mapping *at = &c->mapped.mappings[i];
		if (at->file == file)
			return at;
		if (!at->file && !place)
			place = at;
	}
	if (!place)
		return NULL;
	*place = (struct vac_cuda_mapping){.file = file};
	if (!file->bytes || !is_cached(file) ||
	    (c->mapped.read == VAC_CUDA_READ_AUTO && file->bytes < AUTO_LEAST_BYTES))
		return place;
	void *base = mmap(NULL, file->bytes, PROT_READ, MAP_SHARED, file->fd, 0);
	if (base != MAP_FAILED)
		place->base = base;
	return place;
}

/* Pieces of one window, registered or given back by several threads. */
struct pieces {
	struct vac_compute *c;
	uint8_t *base;
	uint64_t bytes;
	int results[VAC_CUDA_WINDOW_PIECES];
};

static void register_piece(void *ctx, uint32_t i, uint32_t thread)
{
	struct pieces *p = ctx;
	const struct vac_cuda *cuda = p->c->cuda;
	struct CUctx_st *popped;
	uint64_t at = i * piece_bytes(), bytes = p->bytes - at;
	(void)thread;
	p->results[i] = cuda->ctx_push(p->c->ctx);
	if (p->results[i] != VAC_CU_OK)
		return;
	p->results[i] =
		cuda->host_register(p->base + at, bytes < piece_bytes() ? bytes : piece_bytes(),
				    VAC_CU_HOST_REGISTER_READ_ONLY);
	cuda->ctx_pop(&popped);
}

static void unregister_piece(void *ctx, uint32_t i, uint32_t thread)
{
	struct pieces *p = ctx;
	const struct vac_cuda *cuda = p->c->cuda;
	struct CUctx_st *popped;
	(void)thread;
	if (p->results[i] != VAC_CU_OK)
		return;
	bool entered = cuda->ctx_push(p->c->ctx) == VAC_CU_OK;
	cuda->host_unregister(p->base + i * piece_bytes());
	if (entered)
		cuda->ctx_pop(&popped);
}

/* Whole pages, the last one of the file too. Returns how many pieces there are. */
static uint32_t find_pieces(struct vac_compute *c, const struct vac_cuda_mapping *mapping,
			    uint64_t number, struct pieces *out)
{
	uint64_t at = number * vac_cuda_window_bytes, bytes = mapping->file->bytes - at;
	if (bytes > vac_cuda_window_bytes)
		bytes = vac_cuda_window_bytes;
	*out = (struct pieces){.c = c, .base = mapping->base + at, .bytes = vac_page_round(bytes)};
	return (uint32_t)((out->bytes + piece_bytes() - 1) / piece_bytes());
}

static void drop_window(struct vac_compute *c, struct vac_cuda_window *window)
{
	struct pieces pieces;
	if (!window->mapping)
		return;
	uint32_t count = find_pieces(c, window->mapping, window->number, &pieces);
	vac_team_run(c->ring.team, count, unregister_piece, &pieces);
	*window = (struct vac_cuda_window){0};
}

static uint64_t size_now(const struct vac_weight_file *file)
{
	struct stat st;
	return vac_fstat(file->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* All of its pieces or none. */
static bool fill_window(struct vac_compute *c, struct vac_cuda_window *window,
			struct vac_cuda_mapping *mapping, uint64_t number)
{
	struct pieces pieces;
	int failed = VAC_CU_OK;
	uint32_t count = find_pieces(c, mapping, number, &pieces);
	vac_team_run(c->ring.team, count, register_piece, &pieces);
	for (uint32_t i = 0; i < count && failed == VAC_CU_OK; i++)
		failed = pieces.results[i];
	if (failed == VAC_CU_OK) {
		window->mapping = mapping;
		window->number = number;
		return true;
	}
	vac_team_run(c->ring.team, count, unregister_piece, &pieces);
	/* a file that was cut short meanwhile is the ring's to tell */
	if (size_now(mapping->file) >= mapping->file->bytes)
		switch_off(c, failed);
	return false;
}

/* Registers it if it is not; false: that cannot be had. */
static bool use_window(struct vac_compute *c, struct vac_cuda_mapping *mapping, uint64_t number)
{
	struct vac_cuda_window *place = NULL;
	for (uint32_t i = 0; i < VAC_CUDA_WINDOWS; i++) {
		struct vac_cuda_window *at = &c->mapped.windows[i];
		if (at->mapping == mapping && at->number == number) {
			at->used = c->mapped.call;
			return true;
		}
		/* the GPU may still copy from what was used by the last few calls */
		bool at_rest = !at->mapping || at->used + VAC_CUDA_FETCH_SLOTS <= c->mapped.call;
		if (at_rest && (!place || at->used < place->used))
			place = at;
	}
	if (!place)
		return false;
	drop_window(c, place);
	if (!fill_window(c, place, mapping, number))
		return false;
	place->used = c->mapped.call;
	return true;
}

bool vac_cuda_mapped_has(struct vac_compute *c, const struct vac_fetch *item)
{
	uint64_t bytes = item->count * vac_dtype_bytes(item->dtype);
	if (c->mapped.read == VAC_CUDA_READ_RING || c->mapped.off || bytes < LEAST_BYTES ||
	    !is_supported(c))
		return false;
	/* what is converted goes by way of the scratch */
	if (item->dtype != c->dtype && c->workspace_bytes < VAC_CUDA_FETCH_SLOT_BYTES)
		return false;
	struct vac_cuda_mapping *mapping = find_mapping(c, item->file);
	if (!mapping || !mapping->base || item->offset > item->file->bytes ||
	    bytes > item->file->bytes - item->offset)
		return false;
	uint64_t last = (item->offset + bytes - 1) / vac_cuda_window_bytes;
	for (uint64_t i = item->offset / vac_cuda_window_bytes; i <= last; i++)
		if (!use_window(c, mapping, i))
			return false;
	if (item->offset + bytes > mapping->end)
		mapping->end = item->offset + bytes;
	return true;
}

void vac_cuda_mapped_upload(struct vac_compute *c, const struct vac_fetch *item, vac_cu_address to)
{
	const uint8_t *base = find_mapping(c, item->file)->base;
	uint64_t at = item->offset, end = at + item->count * vac_dtype_bytes(item->dtype);
	while (at < end) { /* no copy reaches from one registration into another */
		uint64_t next = (at / piece_bytes() + 1) * piece_bytes();
		if (next > end)
			next = end;
		vac_cuda_note(c, c->cuda->upload(to, base + at, next - at, c->stream),
			      "copying weights");
		to += next - at;
		at = next;
	}
}

int vac_cuda_mapped_end(struct vac_compute *c, struct vac_error *err)
{
	int rc = 0;
	for (uint32_t i = 0; i < VAC_CUDA_WINDOWS; i++)
		drop_window(c, &c->mapped.windows[i]);
	for (uint32_t i = 0; i < VAC_CUDA_MAPPINGS; i++) {
		struct vac_cuda_mapping *mapping = &c->mapped.mappings[i];
		uint64_t size = mapping->base ? size_now(mapping->file) : mapping->end;
		if (rc == 0 && size < mapping->end)
			rc = vac_fail(err, VAC_E_CORRUPT,
				      "%s: it was cut short while it was read: it ends at byte "
				      "%" PRIu64 ", and had %" PRIu64,
				      mapping->file->path, size, mapping->file->bytes);
		if (mapping->base)
			munmap(mapping->base, mapping->file->bytes);
		*mapping = (struct vac_cuda_mapping){0};
	}
	return rc;
}
