/*
 * tensor_header.c - the header of one safetensors file: its length field, its
 * JSON, and what they promise about the bytes behind them.
 *
 * Positions in messages about the JSON count from its first byte, which is
 * byte 8 of the file, and say so; positions of tensors count from the start
 * of the file. One owner; no locking.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/quote.h"
#include "format/safetensors_private.h"

#define LENGTH_BYTES     8u
#define HEADER_MAX_BYTES UINT64_C(100000000) /* the format's own limit */
#define AGAIN            "download it again, or save it again with the safetensors library"

static const struct {
	const char *name;
	size_t bytes;
} dtypes[] = {
	[VAC_DTYPE_F32] = {"F32", 4},         [VAC_DTYPE_F16] = {"F16", 2},
	[VAC_DTYPE_BF16] = {"BF16", 2},       [VAC_DTYPE_F64] = {"F64", 8},
	[VAC_DTYPE_I64] = {"I64", 8},         [VAC_DTYPE_I32] = {"I32", 4},
	[VAC_DTYPE_I16] = {"I16", 2},         [VAC_DTYPE_I8] = {"I8", 1},
	[VAC_DTYPE_U64] = {"U64", 8},         [VAC_DTYPE_U32] = {"U32", 4},
	[VAC_DTYPE_U16] = {"U16", 2},         [VAC_DTYPE_U8] = {"U8", 1},
	[VAC_DTYPE_BOOL] = {"BOOL", 1},       [VAC_DTYPE_F8_E4M3] = {"F8_E4M3", 1},
	[VAC_DTYPE_F8_E5M2] = {"F8_E5M2", 1},
};
#define DTYPE_COUNT (sizeof(dtypes) / sizeof(dtypes[0]))

size_t vac_dtype_bytes(enum vac_dtype dtype)
{
	return (size_t)dtype < DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}

const char *vac_dtype_name(enum vac_dtype dtype)
{
	return (size_t)dtype < DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

/* One header while it is read. */
struct header {
	struct vac_json json;
	struct tensor_list *list;
	const char *path;
	uint64_t data_at, file_bytes; /* tensor bytes lie in [data_at, file_bytes) */
	uint32_t file;
	struct vac_error *err;
};

/* The position of a member's name is more use than that of its value when the
 * whole member is at fault. */
static int fail_at(struct vac_json *json, size_t at, enum vac_error_code code, const char *what,
		   const char *name)
{
	json->value_at = at;
	return vac_json_fail(json, code, "tensor %s: %s; " AGAIN, QUOTED(name, strlen(name)), what);
}

/* A size or an offset: a whole number, not negative. "-0" is negative, as it is
 * for the format's own reader. */
static int read_count(struct header *header, const char *tensor, const char *what, uint64_t *out)
{
	struct vac_json *json = &header->json;

	if (json->data[json->value_at] == '-')
		return vac_json_fail(json, VAC_E_CORRUPT, "tensor %s: %s holds a negative number",
				     QUOTED(tensor, strlen(tensor)), what);
	*out = (uint64_t)json->integer;
	return 0;
}

/* Reads an array of at most limit counts. */
static int read_counts(struct header *header, const char *tensor, const char *what, uint64_t *out,
		       uint32_t limit, uint32_t *count)
{
	struct vac_json *json = &header->json;
	int rc = vac_json_expect(json, VAC_JSON_ARRAY_BEGIN, what);

	*count = 0;
	while (rc == 0) {
		enum vac_json_type type = vac_json_next(json);

		if (type == VAC_JSON_ARRAY_END)
			return 0;
		if (type == VAC_JSON_ERROR)
			return json->state;
		if (type != VAC_JSON_INTEGER)
			return vac_json_fail(json, VAC_E_CORRUPT,
					     "tensor %s: %s holds something that is not a whole "
					     "number of 63 bits",
					     QUOTED(tensor, strlen(tensor)), what);
		if (*count == limit)
			return vac_json_fail(json, limit == 2 ? VAC_E_CORRUPT : VAC_E_UNSUPPORTED,
					     "tensor %s: %s has more than %" PRIu32 " numbers",
					     QUOTED(tensor, strlen(tensor)), what, limit);
		rc = read_count(header, tensor, what, &out[(*count)++]);
	}
	return rc;
}

static int read_dtype(struct header *header, const char *tensor, enum vac_dtype *out)
{
	struct vac_json *json = &header->json;
	int rc = vac_json_expect(json, VAC_JSON_STRING, "dtype");

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < DTYPE_COUNT; i++) {
		if (vac_json_is(json, dtypes[i].name)) {
			*out = (enum vac_dtype)i;
			return 0;
		}
	}
	return vac_json_fail(json, VAC_E_UNSUPPORTED,
			     "tensor %s: dtype %s is not supported; convert the model to F32, F16 "
			     "or BF16",
			     QUOTED(tensor, strlen(tensor)), QUOTED(json->text, json->text_bytes));
}

/* begin <= end, and the range holds exactly what shape and dtype ask for. */
static int check_range(struct header *header, struct found_tensor *found, const uint64_t range[2])
{
	struct vac_tensor *tensor = &found->tensor;
	uint64_t need = 1;
	char what[160];
	bool overflow = false;

	/* In the order of the format's own reader: a 0 helps only against
	 * overflows behind it. */
	for (uint32_t i = 0; i < tensor->dims; i++)
		overflow = overflow || __builtin_mul_overflow(need, tensor->shape[i], &need);
	overflow = overflow || __builtin_mul_overflow(need, vac_dtype_bytes(tensor->dtype), &need);
	if (overflow)
		return fail_at(&header->json, found->name_at, VAC_E_CORRUPT,
			       "its shape asks for more bytes than 64 bits count", tensor->name);
	if (range[0] > range[1]) {
		snprintf(what, sizeof(what),
			 "data_offsets begin at %" PRIu64 ", after their end at %" PRIu64, range[0],
			 range[1]);
		return fail_at(&header->json, found->name_at, VAC_E_CORRUPT, what, tensor->name);
	}
	if (range[1] - range[0] != need) {
		snprintf(what, sizeof(what),
			 "shape and dtype %s need %" PRIu64
			 " bytes where data_offsets span %" PRIu64,
			 vac_dtype_name(tensor->dtype), need, range[1] - range[0]);
		return fail_at(&header->json, found->name_at, VAC_E_CORRUPT, what, tensor->name);
	}
	tensor->offset = header->data_at + range[0];
	tensor->bytes = need;
	return 0;
}

enum { SEEN_DTYPE = 1, SEEN_SHAPE = 2, SEEN_RANGE = 4 };

/* One member of a tensor's object; the last event was its name. */
static int read_member(struct header *header, struct found_tensor *found, uint64_t range[2],
		       unsigned *seen)
{
	struct vac_tensor *tensor = &found->tensor;
	struct vac_json *json = &header->json;
	unsigned member = vac_json_is(json, "dtype")          ? SEEN_DTYPE
			  : vac_json_is(json, "shape")        ? SEEN_SHAPE
			  : vac_json_is(json, "data_offsets") ? SEEN_RANGE
							      : 0;
	uint32_t count;
	int rc;

	if (*seen & member)
		return vac_json_fail(json, VAC_E_CORRUPT, "tensor %s: %s is there twice; " AGAIN,
				     QUOTED(tensor->name, strlen(tensor->name)),
				     QUOTED(json->text, json->text_bytes));
	*seen |= member;
	switch (member) {
	case SEEN_DTYPE:
		return read_dtype(header, tensor->name, &tensor->dtype);
	case SEEN_SHAPE:
		return read_counts(header, tensor->name, "shape", tensor->shape,
				   VAC_TENSOR_MAX_DIMS, &tensor->dims);
	case SEEN_RANGE:
		rc = read_counts(header, tensor->name, "data_offsets", range, 2, &count);
		if (rc == 0 && count != 2)
			rc = vac_json_fail(json, VAC_E_CORRUPT,
					   "tensor %s: data_offsets has %" PRIu32
					   " numbers where begin and end are needed",
					   QUOTED(tensor->name, strlen(tensor->name)), count);
		return rc;
	default:
		return vac_json_skip(json);
	}
}

/* The last event was the tensor's name. */
static int read_tensor(struct header *header)
{
	struct vac_json *json = &header->json;
	struct found_tensor *found = vac_arena_alloc(&header->list->scratch, sizeof(*found));
	char *name = vac_arena_strndup(header->list->keep, json->text, json->text_bytes);
	uint64_t range[2] = {0, 0};
	enum vac_json_type type;
	unsigned seen = 0;
	int rc;

	if (!found || !name)
		return vac_fail_nomem(header->err, "the list of tensors", json->text_bytes);
	if (memchr(name, '\0', json->text_bytes))
		return vac_json_fail(json, VAC_E_CORRUPT,
				     "a tensor's name holds the character U+0000; " AGAIN);
	memset(found, 0, sizeof(*found));
	found->name_at = json->value_at;
	found->tensor.name = name;
	found->tensor.file = header->file;
	rc = vac_json_expect(json, VAC_JSON_OBJECT_BEGIN, "a tensor's description");
	while (rc == 0 && (type = vac_json_next(json)) == VAC_JSON_KEY)
		rc = read_member(header, found, range, &seen);
	if (rc == 0 && json->state < 0)
		rc = json->state;
	if (rc != 0)
		return rc;
	if (!(seen & SEEN_DTYPE))
		return fail_at(json, found->name_at, VAC_E_CORRUPT, "dtype is missing", name);
	if (!(seen & SEEN_SHAPE))
		return fail_at(json, found->name_at, VAC_E_CORRUPT, "shape is missing", name);
	if (!(seen & SEEN_RANGE))
		return fail_at(json, found->name_at, VAC_E_CORRUPT, "data_offsets is missing",
			       name);
	rc = check_range(header, found, range);
	if (rc != 0)
		return rc;
	return vac_pointer_list_add(&header->list->found, &header->list->scratch, found,
				    header->err);
}

/* A JSON string's bytes, for comparing. */
struct span {
	const char *text;
	size_t bytes, at;
};

static int by_text(const void *a, const void *b)
{
	const struct span *left = a, *right = b;
	size_t shorter = left->bytes < right->bytes ? left->bytes : right->bytes;
	int order = memcmp(left->text, right->text, shorter);

	return order ? order : (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

/* __metadata__: null, or an object of strings. Nothing in it is used, but a
 * header that breaks the rules here is not trusted elsewhere. */
static int read_metadata(struct header *header)
{
	struct vac_arena *scratch = &header->list->scratch;
	struct vac_json *json = &header->json;
	enum vac_json_type type = vac_json_next(json);
	struct pointer_list keys = {0};
	int rc = 0;

	if (type == VAC_JSON_NULL)
		return 0;
	if (type != VAC_JSON_OBJECT_BEGIN)
		return vac_json_fail(json, VAC_E_CORRUPT, "__metadata__ is not an object; " AGAIN);
	while (rc == 0 && vac_json_next(json) == VAC_JSON_KEY) {
		struct span *key = vac_arena_alloc(scratch, sizeof(*key));
		char *text = vac_arena_strndup(scratch, json->text, json->text_bytes);

		if (!key || !text)
			return vac_fail_nomem(header->err, "__metadata__", json->text_bytes);
		*key = (struct span){text, json->text_bytes, json->value_at};
		rc = vac_pointer_list_add(&keys, scratch, key, header->err);
		if (rc == 0 && vac_json_next(json) != VAC_JSON_STRING)
			rc = vac_json_fail(
				json, VAC_E_CORRUPT,
				"__metadata__ holds a value that is not a string; " AGAIN);
	}
	if (rc == 0 && json->state < 0)
		rc = json->state;
	if (rc == 0)
		rc = vac_pointer_list_sort(&keys, 0, by_text, scratch, header->err);
	for (size_t i = 1; rc == 0 && i < keys.count; i++) {
		const struct span *key = keys.items[i];

		if (by_text(keys.items[i - 1], key) == 0) {
			json->value_at = key->at;
			rc = vac_json_fail(json, VAC_E_CORRUPT, "__metadata__ has %s twice; " AGAIN,
					   QUOTED(key->text, key->bytes));
		}
	}
	return rc;
}

static int by_name(const void *a, const void *b)
{
	const struct found_tensor *left = a, *right = b;

	return strcmp(left->tensor.name, right->tensor.name);
}

static int by_offset(const void *a, const void *b)
{
	const struct vac_tensor *left = &((const struct found_tensor *)a)->tensor;
	const struct vac_tensor *right = &((const struct found_tensor *)b)->tensor;

	if (left->offset != right->offset)
		return left->offset < right->offset ? -1 : 1;
	return (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

static int check_names(struct header *header, size_t from)
{
	struct pointer_list *found = &header->list->found;
	int rc = vac_pointer_list_sort(found, from, by_name, &header->list->scratch, header->err);

	for (size_t i = from + 1; rc == 0 && i < found->count; i++) {
		const struct found_tensor *tensor = found->items[i];

		if (by_name(found->items[i - 1], tensor) == 0)
			rc = fail_at(&header->json, tensor->name_at, VAC_E_CORRUPT,
				     "this name is there twice", tensor->tensor.name);
	}
	return rc;
}

/* Every byte behind the header belongs to exactly one tensor. */
static int check_coverage(struct header *header, size_t from)
{
	struct pointer_list *found = &header->list->found;
	uint64_t next = header->data_at;
	const char *last = NULL;
	int rc = vac_pointer_list_sort(found, from, by_offset, &header->list->scratch, header->err);

	if (rc != 0)
		return rc;
	for (size_t i = from; i < found->count; i++) {
		const struct vac_tensor *tensor = &((struct found_tensor *)found->items[i])->tensor;
		const char *name = QUOTED(tensor->name, strlen(tensor->name));

		if (tensor->offset < next)
			return vac_fail(header->err, VAC_E_CORRUPT,
					"%s: tensor %s at byte %" PRIu64
					" overlaps tensor %s, which ends at byte %" PRIu64
					"; " AGAIN,
					header->path, name, tensor->offset,
					QUOTED(last, strlen(last)), next);
		if (tensor->offset > next)
			return vac_fail(header->err, VAC_E_CORRUPT,
					"%s: bytes %" PRIu64 " to %" PRIu64
					" before tensor %s belong to no tensor; " AGAIN,
					header->path, next, tensor->offset, name);
		next = tensor->offset + tensor->bytes;
		if (next > header->file_bytes)
			return vac_fail(header->err, VAC_E_CORRUPT,
					"%s: tensor %s reaches to byte %" PRIu64
					", but the file ends at byte %" PRIu64
					": it was cut short, download it again",
					header->path, name, next, header->file_bytes);
		last = tensor->name;
	}
	if (next < header->file_bytes)
		return vac_fail(header->err, VAC_E_CORRUPT,
				"%s: the last tensor ends at byte %" PRIu64 ", and the %" PRIu64
				" bytes behind it belong to no tensor; " AGAIN,
				header->path, next, header->file_bytes - next);
	return 0;
}

static int read_object(struct header *header)
{
	struct vac_json *json = &header->json;
	bool metadata_seen = false;
	int rc;

	/* The format says that the JSON begins with its brace; JSON itself would
	 * allow spaces. Spaces behind it are the writer's padding. */
	if (json->bytes == 0 || json->data[0] != '{')
		return vac_json_fail(json, VAC_E_CORRUPT,
				     "the header does not start with '{': this is no safetensors "
				     "file; " AGAIN);
	rc = vac_json_expect(json, VAC_JSON_OBJECT_BEGIN, "the header");
	while (rc == 0 && vac_json_next(json) == VAC_JSON_KEY) {
		if (!vac_json_is(json, "__metadata__")) {
			rc = read_tensor(header);
		} else if (metadata_seen) {
			rc = vac_json_fail(json, VAC_E_CORRUPT,
					   "__metadata__ is there twice; " AGAIN);
		} else {
			metadata_seen = true;
			rc = read_metadata(header);
		}
	}
	if (rc == 0 && json->state < 0)
		rc = json->state;
	if (rc == 0)
		rc = vac_json_expect(json, VAC_JSON_END, "behind the header's object");
	return rc;
}

int vac_tensor_header_length(const uint8_t field[8], uint64_t file_bytes, const char *path,
			     size_t *header_bytes, struct vac_error *err)
{
	uint64_t length = 0;

	for (unsigned i = 0; i < LENGTH_BYTES; i++)
		length |= (uint64_t)field[i] << (8 * i);
	if (length > HEADER_MAX_BYTES)
		return vac_fail(err, VAC_E_CORRUPT,
				"%s: byte 0: the header is said to have %" PRIu64
				" bytes where at most %" PRIu64
				" are allowed: this is no safetensors file; " AGAIN,
				path, length, HEADER_MAX_BYTES);
	if (length > file_bytes - LENGTH_BYTES)
		return vac_fail(err, VAC_E_CORRUPT,
				"%s: byte 0: the header is said to end at byte %" PRIu64
				", but the file ends at byte %" PRIu64
				": it was cut short, download it again",
				path, length + LENGTH_BYTES, file_bytes);
	*header_bytes = (size_t)length;
	return 0;
}

int vac_tensor_header_parse(struct tensor_list *list, const uint8_t *head, size_t head_bytes,
			    uint64_t file_bytes, uint32_t file, const char *path,
			    struct vac_error *err)
{
	struct header header = {
		.list = list, .path = path, .file_bytes = file_bytes, .file = file, .err = err};
	size_t from = list->found.count, length = 0, name_bytes;
	char *name;
	int rc;

	if (file_bytes < LENGTH_BYTES)
		return vac_fail(err, VAC_E_CORRUPT,
				"%s: has %" PRIu64
				" bytes, too few for the header's length of 8: it "
				"was cut short, download it again",
				path, file_bytes);
	if (head_bytes < LENGTH_BYTES)
		return vac_fail(err, VAC_E_INVALID, "%s: the first 8 bytes are needed", path);
	rc = vac_tensor_header_length(head, file_bytes, path, &length, err);
	if (rc != 0)
		return rc;
	if (head_bytes - LENGTH_BYTES < length)
		return vac_fail(err, VAC_E_INVALID, "%s: the first %zu bytes are needed, not %zu",
				path, length + LENGTH_BYTES, head_bytes);
	name_bytes = strlen(path) + 64;
	name = vac_arena_alloc(&list->scratch, name_bytes);
	if (!name)
		return vac_fail_nomem(err, path, name_bytes);
	snprintf(name, name_bytes, "%s: header (counted from byte %u of the file)", path,
		 LENGTH_BYTES);
	header.data_at = LENGTH_BYTES + (uint64_t)length;
	vac_json_init(&header.json, name, head + LENGTH_BYTES, length, err);
	rc = read_object(&header);
	if (rc == 0)
		rc = check_names(&header, from);
	if (rc == 0)
		rc = check_coverage(&header, from);
	vac_json_free(&header.json);
	return rc;
}
