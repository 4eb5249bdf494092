/*
 * weights.c - finding tensors, laying them out, reading and converting them.
 *
 * Reading is pread by the backend's team, in chunks of a MiB, straight into
 * the region when the file holds floats and the device is the host. Products
 * pass through the staging, where q, k and v come together, and are packed
 * from there. The staging is one mapping that goes when the load ends.
 *
 * A device fetches for itself: it is told which bytes go where, and reads and
 * converts on its own way.
 */
#include "engine/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"

#define CHUNK_ELEMENTS  ((uint64_t)256 << 10) /* a MiB of floats: one pread */
#define CHUNKS_AT_ONCE  8                     /* their raw buffers for conversion: 4 MiB */
#define STEP_ELEMENTS   (CHUNK_ELEMENTS * CHUNKS_AT_ONCE)
#define RAW_CHUNK_BYTES (CHUNK_ELEMENTS * 2) /* F16 and BF16 */

void vac_weights_init(struct vac_weights *w, const struct vac_backend *backend,
		      struct vac_compute *compute, enum vac_dtype dtype)
{
	*w = (struct vac_weights){
		.backend = backend,
		.compute = compute,
		.element_bytes = (uint32_t)vac_dtype_bytes(dtype),
	};
	w->arena.chunk_bytes = 4096;
	w->last = &w->first;
}

static int drop_staging(struct vac_weights *w, struct vac_error *err)
{
	if (w->staging)
		vac_host_unmap(w->staging, w->staging_bytes);
	w->staging = NULL;
	if (!w->fetching)
		return 0;
	w->fetching = false;
	return w->backend->device->fetch_end(w->compute, err);
}

void vac_weights_free(struct vac_weights *w)
{
	int rc = drop_staging(w, NULL); /* who cares has asked vac_weights_step */
	(void)rc;
	vac_arena_free(&w->arena);
	w->first = w->at = NULL;
}

/* "a|b|c": the first that is there. */
static const struct vac_tensor *find_any(const struct vac_safetensors *files, const char *names)
{
	char name[256];
	while (*names) {
		size_t length = strcspn(names, "|");
		if (length < sizeof(name)) {
			memcpy(name, names, length);
			name[length] = '\0';
			const struct vac_tensor *tensor = vac_safetensors_find(files, name);
			if (tensor)
				return tensor;
		}
		names += length;
		names += *names == '|';
	}
	return NULL;
}

static void print_shape(char *to, size_t bytes, uint32_t dims, const uint64_t *shape)
{
	size_t at = 0;
	at += (size_t)snprintf(to, bytes, "[");
	for (uint32_t i = 0; i < dims && at < bytes; i++)
		at += (size_t)snprintf(to + at, bytes - at, "%s%" PRIu64, i ? ", " : "", shape[i]);
	if (at < bytes)
		snprintf(to + at, bytes - at, "]");
}

static int check_tensor(const struct vac_safetensors *files, const char *names, uint32_t dims,
			const uint64_t *shape, const struct vac_tensor **out, struct vac_error *err)
{
	char expected[64], found[192];
	print_shape(expected, sizeof(expected), dims, shape);
	const struct vac_tensor *t = find_any(files, names);
	if (!t)
		return vac_fail(err, VAC_E_CORRUPT,
				"%s: tensor %.*s is missing, expected with shape %s",
				files->file_count ? files->files[0].path : "checkpoint",
				(int)strcspn(names, "|"), names, expected);
	const char *path = files->files[t->file].path;
	if (t->dims != dims || memcmp(t->shape, shape, dims * sizeof(*shape)) != 0) {
		print_shape(found, sizeof(found), t->dims, t->shape);
		return vac_fail(err, VAC_E_CORRUPT,
				"%s: tensor %s has shape %s, and the config asks for %s", path,
				t->name, found, expected);
	}
	if (t->dtype != VAC_DTYPE_F32 && t->dtype != VAC_DTYPE_F16 && t->dtype != VAC_DTYPE_BF16)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: tensor %s is %s; served are F32, F16 and BF16", path, t->name,
				vac_dtype_name(t->dtype));
	*out = t;
	return 0;
}

static int add_piece(struct vac_weights *w, const struct vac_safetensors *files,
		     const char *const *names, uint32_t part_count, uint64_t rows, uint64_t columns,
		     struct vac_piece **out, struct vac_error *err)
{
	struct vac_piece *piece = vac_arena_alloc(&w->arena, sizeof(*piece));
	if (!piece)
		return vac_fail_nomem(err, "the list of tensors", sizeof(*piece));
	*piece = (struct vac_piece){.files = files, .part_count = part_count};
	uint64_t shape[2] = {rows, columns};
	for (uint32_t i = 0; i < part_count; i++) {
		int rc = check_tensor(files, names[i], columns ? 2 : 1, shape, &piece->parts[i],
				      err);
		if (rc < 0)
			return rc;
		piece->elements += rows * (columns ? columns : 1);
		w->converts |= piece->parts[i]->dtype != VAC_DTYPE_F32;
		w->total_bytes += piece->parts[i]->bytes;
	}
	*w->last = piece;
	w->last = &piece->next;
	*out = piece;
	return 0;
}

static uint64_t align_up(uint64_t bytes)
{
	return (bytes + VAC_PACKED_ALIGNMENT - 1) / VAC_PACKED_ALIGNMENT * VAC_PACKED_ALIGNMENT;
}

int vac_weights_add(struct vac_weights *w, const struct vac_safetensors *files,
		    const char *const *names, uint32_t part_count, uint64_t rows, uint64_t columns,
		    const void **slot, struct vac_error *err)
{
	struct vac_piece *piece;
	int rc = add_piece(w, files, names, part_count, rows, columns, &piece, err);
	if (rc < 0)
		return rc;
	piece->slot = slot;
	piece->offset = w->plain_bytes;
	w->plain_bytes += align_up(piece->elements * w->element_bytes);
	return 0;
}

int vac_weights_add_linear(struct vac_weights *w, const struct vac_safetensors *files,
			   const char *const *names, uint32_t part_count,
			   const struct vac_linear *linear, uint64_t rows, uint64_t columns,
			   const void **slot, struct vac_error *err)
{
	struct vac_piece *piece;
	int rc = add_piece(w, files, names, part_count, rows, columns, &piece, err);
	if (rc < 0)
		return rc;
	piece->linear = linear;
	piece->slot = slot;
	piece->offset = w->packed_bytes;
	w->packed_bytes += align_up(w->backend->linear_packed_bytes(linear));
	if (piece->elements * sizeof(float) > w->largest_linear_bytes)
		w->largest_linear_bytes = piece->elements * sizeof(float);
	return 0;
}

/* Floats of one product, then the raw chunks. */
static uint64_t staged_float_bytes(const struct vac_weights *w)
{
	return align_up(w->largest_linear_bytes);
}

uint64_t vac_weights_staging_bytes(const struct vac_weights *w)
{
	if (w->backend->device)
		return w->backend->device->fetch_bytes(w->compute);
	uint64_t bytes = staged_float_bytes(w);
	if (w->converts)
		bytes += CHUNKS_AT_ONCE * RAW_CHUNK_BYTES;
	return vac_page_round(bytes);
}

static int begin_staging(struct vac_weights *w, struct vac_error *err)
{
	if (w->backend->device) {
		int rc = w->backend->device->fetch_begin(w->compute, err);
		w->fetching = rc == 0;
		return rc;
	}
	w->staging_bytes = vac_weights_staging_bytes(w);
	if (w->staging_bytes) {
		w->staging = vac_host_map(w->staging_bytes);
		if (!w->staging)
			return vac_fail_nomem(err, "the load arena", w->staging_bytes);
	}
	return 0;
}

int vac_weights_begin(struct vac_weights *w, void *plain, void *packed, struct vac_error *err)
{
	int rc = begin_staging(w, err);
	if (rc < 0)
		return rc;
	w->plain = plain;
	w->packed = packed;
	w->at = w->first;
	w->at_elements = 0;
	for (struct vac_piece *p = w->first; p; p = p->next)
		*p->slot = (p->linear ? w->packed : w->plain) + p->offset;
	return 0;
}

/* One round of parallel reading: elements [first, last) of one tensor. */
struct reading {
	const struct vac_weight_file *file;
	const struct vac_tensor *tensor;
	uint64_t first, last;
	float *to;
	uint8_t *raw;
	int rc[CHUNKS_AT_ONCE];
	struct vac_error errors[CHUNKS_AT_ONCE];
};

static void read_chunk(void *ctx, uint32_t i)
{
	struct reading *r = ctx;
	uint64_t first = r->first + i * CHUNK_ELEMENTS;
	uint64_t count = r->last - first < CHUNK_ELEMENTS ? r->last - first : CHUNK_ELEMENTS;
	float *to = r->to + (first - r->first);
	enum vac_dtype dtype = r->tensor->dtype;
	size_t width = vac_dtype_bytes(dtype);
	void *raw = dtype == VAC_DTYPE_F32 ? (void *)to : r->raw + i * RAW_CHUNK_BYTES;
	r->rc[i] = vac_pread_full(r->file->fd, r->file->path, raw, count * width,
				  r->tensor->offset + first * width, &r->errors[i]);
	if (r->rc[i] == 0 && dtype != VAC_DTYPE_F32)
		vac_to_floats(dtype, raw, to, count);
}

static int read_elements(struct vac_weights *w, const struct vac_safetensors *files,
			 const struct vac_tensor *tensor, uint64_t first, uint64_t last, float *to,
			 struct vac_error *err)
{
	struct reading r = {
		.file = &files->files[tensor->file],
		.tensor = tensor,
		.raw = w->staging + staged_float_bytes(w),
	};
	while (first < last) {
		uint64_t count = last - first < STEP_ELEMENTS ? last - first : STEP_ELEMENTS;
		uint32_t chunks = (uint32_t)((count + CHUNK_ELEMENTS - 1) / CHUNK_ELEMENTS);
		r.first = first;
		r.last = first + count;
		r.to = to;
		if (chunks == 1)
			read_chunk(&r, 0);
		else
			w->backend->parallel(w->compute, chunks, read_chunk, &r);
		for (uint32_t i = 0; i < chunks; i++) {
			if (r.rc[i] < 0) {
				if (err)
					*err = r.errors[i];
				return r.rc[i];
			}
		}
		w->done_bytes += count * vac_dtype_bytes(tensor->dtype);
		first += count;
		to += count;
	}
	return 0;
}

/* Some of a table or vector, from where the last step ended. */
static int step_plain(struct vac_weights *w, struct vac_piece *piece, struct vac_error *err)
{
	uint64_t budget = STEP_ELEMENTS, part_elements = piece->elements / piece->part_count;
	while (budget && w->at_elements < piece->elements) {
		uint32_t part = (uint32_t)(w->at_elements / part_elements);
		uint64_t first = w->at_elements % part_elements;
		uint64_t count = part_elements - first < budget ? part_elements - first : budget;
		uint8_t *to = w->plain + piece->offset + w->at_elements * sizeof(float);
		int rc = read_elements(w, piece->files, piece->parts[part], first, first + count,
				       (float *)(void *)to, err);
		if (rc < 0)
			return rc;
		w->at_elements += count;
		budget -= count;
	}
	return 0;
}

static int step_linear(struct vac_weights *w, struct vac_piece *piece, struct vac_error *err)
{
	float *to = (float *)(void *)w->staging;
	uint64_t part_elements = piece->elements / piece->part_count;
	for (uint32_t i = 0; i < piece->part_count; i++, to += part_elements) {
		int rc = read_elements(w, piece->files, piece->parts[i], 0, part_elements, to, err);
		if (rc < 0)
			return rc;
	}
	int64_t start = vac_now_ns();
	int rc = w->backend->linear_pack(w->compute, piece->linear,
					 (const float *)(const void *)w->staging,
					 w->packed + piece->offset, err);
	w->pack_ns += vac_now_ns() - start;
	w->at_elements = piece->elements;
	return rc;
}

/* The next elements of the list, at most so many bytes of one part. */
static struct vac_fetch next_fetch(struct vac_weights *w, uint64_t most_bytes)
{
	struct vac_piece *piece = w->at;
	uint64_t part_elements = piece->elements / piece->part_count;
	const struct vac_tensor *tensor = piece->parts[w->at_elements / part_elements];
	uint64_t first = w->at_elements % part_elements, width = vac_dtype_bytes(tensor->dtype);
	uint64_t count = part_elements - first;
	if (count > most_bytes / width)
		count = most_bytes / width;
	uint8_t *base = (piece->linear ? w->packed : w->plain) + piece->offset;
	struct vac_fetch fetch = {
		.file = &piece->files->files[tensor->file],
		.offset = tensor->offset + first * width,
		.count = count,
		.dtype = tensor->dtype,
		.to = base + w->at_elements * w->element_bytes,
	};
	w->at_elements += count;
	w->done_bytes += count * width;
	if (w->at_elements == piece->elements) {
		w->at = piece->next;
		w->at_elements = 0;
	}
	return fetch;
}

/* VAC_FETCH_BYTES of the list. */
static int step_fetch(struct vac_weights *w, struct vac_error *err)
{
	struct vac_fetch items[VAC_FETCH_ITEMS];
	uint64_t room = VAC_FETCH_BYTES;
	uint32_t count = 0;
	while (w->at && count < VAC_FETCH_ITEMS && room >= sizeof(float)) {
		items[count] = next_fetch(w, room);
		room -= items[count].count * vac_dtype_bytes(items[count].dtype);
		count++;
	}
	int64_t start = vac_now_ns();
	int rc = w->backend->device->fetch(w->compute, items, count, err);
	w->read_ns += vac_now_ns() - start;
	return rc;
}

static int step_piece(struct vac_weights *w, struct vac_error *err)
{
	struct vac_piece *piece = w->at;
	int64_t start = vac_now_ns(), packed = w->pack_ns;
	int rc = piece->linear ? step_linear(w, piece, err) : step_plain(w, piece, err);
	w->read_ns += vac_now_ns() - start - (w->pack_ns - packed);
	if (rc < 0)
		return rc;
	if (w->at_elements == piece->elements) {
		w->at = piece->next;
		w->at_elements = 0;
	}
	return 0;
}

int vac_weights_step(struct vac_weights *w, struct vac_error *err)
{
	int rc = 0;
	if (w->at)
		rc = w->backend->device ? step_fetch(w, err) : step_piece(w, err);
	if (rc < 0)
		return rc;
	if (w->at)
		return 1;
	int64_t start = vac_now_ns();
	rc = drop_staging(w, err);
	w->read_ns += vac_now_ns() - start;
	return rc;
}
