/*
 * shard_index.c - model.safetensors.index.json: which tensor lies in which
 * file of a checkpoint that was cut into shards. The headers of the shards
 * stay the truth; the index must agree with them. One owner; no locking.
 */
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/quote.h"
#include "format/safetensors_private.h"

#define INDEX_MAX_BYTES ((size_t)100 * 1000 * 1000) /* as a header */
#define AGAIN           "download the model again"

/* A plain file name within the checkpoint's directory. */
static bool shard_name_ok(const char *text, size_t bytes)
{
	if (bytes == 0 || bytes > 255 || text[0] == '.' || memmem(text, bytes, "..", 2))
		return false;
	for (size_t i = 0; i < bytes; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f || text[i] == '/' ||
		    text[i] == '\\')
			return false;
	return true;
}

/* Finds or adds the shard that the last event names. The list is kept sorted,
 * so that a hostile index costs no more than an honest one. */
static int find_shard(struct shard_index *index, struct vac_json *json, struct shard **out)
{
	size_t low = 0, high = index->shards.count;
	char *name = vac_arena_strndup(&index->arena, json->text, json->text_bytes);
	struct shard *shard;
	int rc;

	if (!name)
		return vac_fail_nomem(json->err, "the names of shards", json->text_bytes);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(((struct shard *)index->shards.items[middle])->name, name);

		if (order == 0) {
			*out = index->shards.items[middle];
			return 0;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (index->shards.count == SHARDS_MAX)
		return vac_json_fail(json, VAC_E_UNSUPPORTED,
				     "more than %u different shards; save the model again with "
				     "larger ones",
				     SHARDS_MAX);
	shard = vac_arena_alloc(&index->arena, sizeof(*shard));
	if (!shard)
		return vac_fail_nomem(json->err, "the names of shards", sizeof(*shard));
	*shard = (struct shard){.name = name};
	rc = vac_pointer_list_add(&index->shards, &index->arena, shard, json->err);
	if (rc != 0)
		return rc;
	memmove(&index->shards.items[low + 1], &index->shards.items[low],
		(index->shards.count - 1 - low) * sizeof(index->shards.items[0]));
	index->shards.items[low] = shard;
	*out = shard;
	return 0;
}

/* One member of weight_map; the last event was the tensor's name. */
static int read_entry(struct shard_index *index, struct vac_json *json, struct shard **last)
{
	struct shard_entry *entry = vac_arena_alloc(&index->arena, sizeof(*entry));
	char *tensor = vac_arena_strndup(&index->arena, json->text, json->text_bytes);
	int rc;

	if (!entry || !tensor)
		return vac_fail_nomem(json->err, "weight_map", json->text_bytes);
	if (memchr(tensor, '\0', json->text_bytes))
		return vac_json_fail(json, VAC_E_CORRUPT,
				     "a tensor's name holds the character U+0000; " AGAIN);
	entry->tensor = tensor;
	entry->at = json->value_at;
	rc = vac_json_expect(json, VAC_JSON_STRING, "the shard of a tensor");
	if (rc != 0)
		return rc;
	if (!shard_name_ok(json->text, json->text_bytes))
		return vac_json_fail(json, VAC_E_CORRUPT,
				     "tensor %s: the shard %s is not a plain file name; " AGAIN,
				     QUOTED(tensor, strlen(tensor)),
				     QUOTED(json->text, json->text_bytes));
	/* Tensors of one shard mostly follow one another. */
	if (!*last || !vac_json_is(json, (*last)->name))
		rc = find_shard(index, json, last);
	if (rc != 0)
		return rc;
	entry->shard = *last;
	return vac_pointer_list_add(&index->entries, &index->arena, entry, json->err);
}

static int by_tensor(const void *a, const void *b)
{
	const struct shard_entry *left = a, *right = b;

	return strcmp(left->tensor, right->tensor);
}

static int read_weight_map(struct shard_index *index, struct vac_json *json)
{
	struct shard *last = NULL;
	int rc = vac_json_expect(json, VAC_JSON_OBJECT_BEGIN, "weight_map");

	while (rc == 0 && vac_json_next(json) == VAC_JSON_KEY)
		rc = read_entry(index, json, &last);
	if (rc == 0 && json->state < 0)
		rc = json->state;
	if (rc == 0)
		rc = vac_pointer_list_sort(&index->entries, 0, by_tensor, &index->arena, json->err);
	for (size_t i = 1; rc == 0 && i < index->entries.count; i++) {
		const struct shard_entry *entry = index->entries.items[i];

		if (by_tensor(index->entries.items[i - 1], entry) == 0) {
			json->value_at = entry->at;
			rc = vac_json_fail(json, VAC_E_CORRUPT,
					   "weight_map has tensor %s twice; " AGAIN,
					   QUOTED(entry->tensor, strlen(entry->tensor)));
		}
	}
	return rc;
}

static int read_index(struct shard_index *index, struct vac_json *json)
{
	bool seen = false;
	int rc = vac_json_expect(json, VAC_JSON_OBJECT_BEGIN, "the index");

	while (rc == 0 && vac_json_next(json) == VAC_JSON_KEY) {
		if (!vac_json_is(json, "weight_map")) {
			rc = vac_json_skip(json);
		} else if (seen) {
			rc = vac_json_fail(json, VAC_E_CORRUPT,
					   "weight_map is there twice; " AGAIN);
		} else {
			seen = true;
			rc = read_weight_map(index, json);
		}
	}
	if (rc == 0 && json->state < 0)
		rc = json->state;
	if (rc == 0)
		rc = vac_json_expect(json, VAC_JSON_END, "behind the index's object");
	if (rc == 0 && index->entries.count == 0)
		rc = vac_json_fail(json, VAC_E_CORRUPT,
				   seen ? "weight_map names no tensor; " AGAIN
					: "weight_map is missing; " AGAIN);
	return rc;
}

int vac_shard_index_parse(struct shard_index *index, const void *bytes, size_t count,
			  const char *path, struct vac_error *err)
{
	struct vac_json json;
	int rc;

	vac_json_init(&json, path, bytes, count, err);
	rc = read_index(index, &json);
	vac_json_free(&json);
	return rc;
}

int vac_shard_index_read(struct shard_index *index, const char *path, struct vac_error *err)
{
	uint64_t bytes;
	void *text;
	int rc, fd = vac_open_file(path, &bytes, err);

	if (fd < 0)
		return fd;
	if (bytes > INDEX_MAX_BYTES) {
		close(fd);
		return vac_fail(err, VAC_E_CORRUPT,
				"%s: has %llu bytes where at most %zu are accepted; " AGAIN, path,
				(unsigned long long)bytes, INDEX_MAX_BYTES);
	}
	text = vac_arena_alloc(&index->arena, (size_t)bytes);
	if (text)
		rc = vac_pread_full(fd, path, text, (size_t)bytes, 0, err);
	else
		rc = vac_fail_nomem(err, path, (size_t)bytes);
	close(fd);
	return rc == 0 ? vac_shard_index_parse(index, text, (size_t)bytes, path, err) : rc;
}

void vac_shard_index_free(struct shard_index *index)
{
	vac_arena_free(&index->arena);
	memset(index, 0, sizeof(*index));
}

/* Both are sorted by name, so one walk over both finds every difference. */
int vac_shard_index_check(const struct shard_index *index, const struct vac_safetensors *st,
			  const char *path, struct vac_error *err)
{
	size_t i = 0, k = 0;

	while (i < index->entries.count || k < st->tensor_count) {
		const struct shard_entry *entry =
			i < index->entries.count ? index->entries.items[i] : NULL;
		const struct vac_tensor *tensor = k < st->tensor_count ? &st->tensors[k] : NULL;
		int order = !tensor ? -1 : !entry ? 1 : strcmp(entry->tensor, tensor->name);

		if (order < 0)
			return vac_fail(err, VAC_E_CORRUPT,
					"%s: byte %zu: tensor %s is said to lie in %s, which does "
					"not hold it; " AGAIN,
					path, entry->at,
					QUOTED(entry->tensor, strlen(entry->tensor)),
					QUOTED(entry->shard->name, strlen(entry->shard->name)));
		if (order > 0)
			return vac_fail(
				err, VAC_E_CORRUPT,
				"%s: holds tensor %s, which weight_map of %s does not name; " AGAIN,
				st->files[tensor->file].path,
				QUOTED(tensor->name, strlen(tensor->name)), path);
		if (entry->shard->file != tensor->file)
			return vac_fail(err, VAC_E_CORRUPT,
					"%s: byte %zu: tensor %s is said to lie in %s, but lies in "
					"%s; " AGAIN,
					path, entry->at,
					QUOTED(entry->tensor, strlen(entry->tensor)),
					QUOTED(entry->shard->name, strlen(entry->shard->name)),
					st->files[tensor->file].path);
		i++;
		k++;
	}
	return 0;
}
