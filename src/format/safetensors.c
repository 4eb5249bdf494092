/*
 * safetensors.c - opening checkpoints: one file, or the shards of an index.
 * Headers are read into mappings that are gone when opening ends; what stays
 * is the files' descriptors, and one arena with paths, names and tensors.
 * One owner; no locking.
 */
#include "format/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/quote.h"
#include "format/safetensors_private.h"

#define LENGTH_BYTES 8u

static int begin(struct vac_safetensors *st, struct tensor_list *list, struct vac_error *err)
{
	memset(st, 0, sizeof(*st));
	memset(list, 0, sizeof(*list));
	st->arena = calloc(1, sizeof(*st->arena));
	if (!st->arena)
		return vac_fail_nomem(err, "a checkpoint", sizeof(*st->arena));
	list->keep = st->arena;
	return 0;
}

static int reserve_files(struct vac_safetensors *st, size_t count, struct vac_error *err)
{
	size_t bytes = count * sizeof(st->files[0]);

	st->files = vac_arena_alloc(st->arena, bytes);
	return st->files ? 0 : vac_fail_nomem(err, "the files of a checkpoint", bytes);
}

/* Opens the file as st->files[file_count] and counts it, so that close knows. */
static int add_file(struct vac_safetensors *st, const char *path, struct vac_error *err)
{
	struct vac_weight_file *file = &st->files[st->file_count];
	struct stat status;

	file->path = vac_arena_strndup(st->arena, path, strlen(path));
	if (!file->path)
		return vac_fail_nomem(err, path, strlen(path) + 1);
	file->fd = vac_open_file(path, NULL, err);
	if (file->fd < 0)
		return file->fd;
	st->file_count++;
	if (vac_fstat(file->fd, &status) != 0)
		return vac_fail_errno(err, errno, "%s: cannot stat", path);
	file->bytes = (uint64_t)status.st_size;
	file->dev = status.st_dev;
	file->ino = status.st_ino;
	file->mtime_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
	return 0;
}

/* Reads the header of the file that was added last. */
static int read_header(struct vac_safetensors *st, struct tensor_list *list, struct vac_error *err)
{
	const struct vac_weight_file *file = &st->files[st->file_count - 1];
	struct vac_arena arena = {0};
	uint8_t field[LENGTH_BYTES], *head = field;
	size_t length = 0;
	int rc;

	if (file->bytes >= LENGTH_BYTES) {
		rc = vac_pread_full(file->fd, file->path, field, LENGTH_BYTES, 0, err);
		if (rc == 0)
			rc = vac_tensor_header_length(field, file->bytes, file->path, &length, err);
		if (rc != 0)
			return rc;
		head = vac_arena_alloc(&arena, LENGTH_BYTES + length);
		if (!head)
			return vac_fail_nomem(err, file->path, LENGTH_BYTES + length);
		memcpy(head, field, LENGTH_BYTES);
		rc = vac_pread_full(file->fd, file->path, head + LENGTH_BYTES, length, LENGTH_BYTES,
				    err);
		if (rc != 0)
			goto out;
	}
	rc = vac_tensor_header_parse(list, head, LENGTH_BYTES + length, file->bytes,
				     (uint32_t)(st->file_count - 1), file->path, err);
out:
	vac_arena_free(&arena);
	return rc;
}

static int by_name(const void *a, const void *b)
{
	const struct found_tensor *left = a, *right = b;

	return strcmp(left->tensor.name, right->tensor.name);
}

/* Moves the tensors to where they stay, sorted by name. */
static int finish(struct vac_safetensors *st, struct tensor_list *list, struct vac_error *err)
{
	size_t count = list->found.count, bytes = count * sizeof(st->tensors[0]);
	int rc = vac_pointer_list_sort(&list->found, 0, by_name, &list->scratch, err);

	if (rc != 0)
		return rc;
	st->tensors = vac_arena_alloc(st->arena, bytes);
	if (!st->tensors)
		return vac_fail_nomem(err, "the list of tensors", bytes);
	for (size_t i = 0; i < count; i++) {
		const struct vac_tensor *tensor =
			&((struct found_tensor *)list->found.items[i])->tensor;
		const struct vac_tensor *before = i ? &st->tensors[i - 1] : NULL;

		/* Within one file this was found before. */
		if (before && strcmp(before->name, tensor->name) == 0)
			return vac_fail(err, VAC_E_CORRUPT,
					"%s: tensor %s lies in %s too; download the model again",
					st->files[tensor->file].path,
					QUOTED(tensor->name, strlen(tensor->name)),
					st->files[before->file].path);
		st->tensors[i] = *tensor;
		st->tensor_bytes += tensor->bytes;
	}
	st->tensor_count = count;
	return 0;
}

/* Ends an opening that went well or not: on failure nothing is left. */
static int end(struct vac_safetensors *st, struct tensor_list *list, int rc)
{
	vac_arena_free(&list->scratch);
	if (rc != 0)
		vac_safetensors_close(st);
	return rc;
}

int vac_safetensors_parse(const void *head, size_t head_bytes, uint64_t file_bytes,
			  const char *path, struct vac_safetensors *out, struct vac_error *err)
{
	struct tensor_list list;
	int rc = begin(out, &list, err);

	if (rc == 0)
		rc = vac_tensor_header_parse(&list, head, head_bytes, file_bytes, 0, path, err);
	if (rc == 0)
		rc = finish(out, &list, err);
	return end(out, &list, rc);
}

int vac_safetensors_open_file(const char *path, struct vac_safetensors *out, struct vac_error *err)
{
	struct tensor_list list;
	int rc = begin(out, &list, err);

	if (rc == 0)
		rc = reserve_files(out, 1, err);
	if (rc == 0)
		rc = add_file(out, path, err);
	if (rc == 0)
		rc = read_header(out, &list, err);
	if (rc == 0)
		rc = finish(out, &list, err);
	return end(out, &list, rc);
}

static int open_shards(const char *dir, const char *path, struct shard_index *index,
		       struct vac_safetensors *st, struct tensor_list *list, struct vac_error *err)
{
	int rc = reserve_files(st, index->shards.count, err);

	for (size_t i = 0; rc == 0 && i < index->shards.count; i++) {
		struct shard *shard = index->shards.items[i];
		char *file = vac_path_join(dir, shard->name);

		if (!file)
			return vac_fail_nomem(err, shard->name, strlen(shard->name));
		shard->file = (uint32_t)i;
		rc = add_file(st, file, err);
		if (rc == -ENOENT)
			rc = vac_fail(err, VAC_E_NOT_FOUND,
				      "%s: this shard is missing, and %s names it; download the "
				      "model again",
				      file, path);
		free(file);
		if (rc == 0)
			rc = read_header(st, list, err);
	}
	if (rc == 0)
		rc = finish(st, list, err);
	return rc == 0 ? vac_shard_index_check(index, st, path, err) : rc;
}

static int open_index(const char *dir, const char *path, struct vac_safetensors *out,
		      struct vac_error *err)
{
	struct shard_index index = {0};
	struct tensor_list list;
	int rc = begin(out, &list, err);

	if (rc == 0)
		rc = vac_shard_index_read(&index, path, err);
	if (rc == 0)
		rc = open_shards(dir, path, &index, out, &list, err);
	vac_shard_index_free(&index);
	return end(out, &list, rc);
}

int vac_safetensors_open_dir(const char *dir, struct vac_safetensors *out, struct vac_error *err)
{
	/* In transformers, too, the single file wins over the index. */
	char *single = vac_path_join(dir, "model.safetensors");
	char *index = vac_path_join(dir, "model.safetensors.index.json");
	int rc;

	memset(out, 0, sizeof(*out));
	if (!single || !index)
		rc = vac_fail_nomem(err, dir, strlen(dir));
	else if (vac_file_exists(single))
		rc = vac_safetensors_open_file(single, out, err);
	else if (vac_file_exists(index))
		rc = open_index(dir, index, out, err);
	else
		rc = vac_weights_missing(dir, err);
	free(single);
	free(index);
	return rc;
}

void vac_safetensors_close(struct vac_safetensors *st)
{
	if (!st || !st->arena)
		return;
	while (st->file_count > 0)
		close(st->files[--st->file_count].fd);
	vac_arena_free(st->arena);
	free(st->arena);
	memset(st, 0, sizeof(*st));
}

const struct vac_tensor *vac_safetensors_find(const struct vac_safetensors *st, const char *name)
{
	size_t low = 0, high = st->tensor_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(st->tensors[middle].name, name);

		if (order == 0)
			return &st->tensors[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}
