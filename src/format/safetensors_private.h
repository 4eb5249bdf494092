/*
 * safetensors_private.h - what the files of the safetensors reader share; no
 * other file includes it.
 *
 * While a checkpoint is opened its tensors are collected in a list whose
 * memory is a scratch arena; names go straight into the checkpoint's own arena,
 * and at the end the tensors follow, sorted and counted.
 */
#ifndef VAC_FORMAT_SAFETENSORS_PRIVATE_H
#define VAC_FORMAT_SAFETENSORS_PRIVATE_H

#include "base/arena.h"
#include "base/json.h"
#include "format/safetensors.h"

/* Pointers in an arena; a zeroed one is empty. */
struct pointer_list {
	void **items;
	size_t count, capacity;
};
int vac_pointer_list_add(struct pointer_list *list, struct vac_arena *arena, void *item,
			 struct vac_error *err) VAC_MUST_CHECK;
/* Stable merge sort of items[from..count): n log n whatever a hostile file
 * holds, linear when it is sorted already, which most are. Its second array
 * comes from the arena. */
int vac_pointer_list_sort(struct pointer_list *list, size_t from,
			  int (*compare)(const void *a, const void *b), struct vac_arena *arena,
			  struct vac_error *err) VAC_MUST_CHECK;

struct found_tensor {
	struct vac_tensor tensor;
	size_t name_at; /* byte of the header's JSON where its name starts */
};

struct tensor_list {
	struct vac_arena scratch; /* gone when the checkpoint is open */
	struct vac_arena *keep;   /* the checkpoint's: names */
	struct pointer_list found;
};

/* Reads one header (head: length field and JSON) and appends its tensors, each
 * with this file index. All rules that concern a single file are checked. */
int vac_tensor_header_parse(struct tensor_list *list, const uint8_t *head, size_t head_bytes,
			    uint64_t file_bytes, uint32_t file, const char *path,
			    struct vac_error *err) VAC_MUST_CHECK;
/* Checks the length field alone: *header_bytes is what follows it. */
int vac_tensor_header_length(const uint8_t field[8], uint64_t file_bytes, const char *path,
			     size_t *header_bytes, struct vac_error *err) VAC_MUST_CHECK;

/* Text for a message: what JSON strings may hold is not what a line may. */
#define QUOTED(text, bytes) vac_quote(&(struct vac_quoted){{0}}, text, bytes)

struct shard {
	const char *name; /* file name within the directory */
	uint32_t file;    /* index into the checkpoint's files */
};
struct shard_index {
	struct vac_arena arena;
	struct pointer_list entries; /* of struct shard_entry, sorted by tensor */
	struct pointer_list shards;  /* of struct shard, sorted by name */
};
struct shard_entry {
	const char *tensor;
	struct shard *shard;
	size_t at; /* byte of the JSON where the tensor's name starts */
};
#define SHARDS_MAX 1000u /* each one takes a descriptor */

int vac_shard_index_parse(struct shard_index *index, const void *json, size_t bytes,
			  const char *path, struct vac_error *err) VAC_MUST_CHECK;
/* The index and the shards' own headers name the same tensors in the same
 * files; st->tensors is complete and sorted. */
int vac_shard_index_check(const struct shard_index *index, const struct vac_safetensors *st,
			  const char *path, struct vac_error *err) VAC_MUST_CHECK;
/* Reads the file, whose bytes are left in the index's arena. */
int vac_shard_index_read(struct shard_index *index, const char *path,
			 struct vac_error *err) VAC_MUST_CHECK;
void vac_shard_index_free(struct shard_index *index);

/* Sets the error for a directory without safetensors: unsupported when other
 * weights lie there, otherwise not found. Returns the errno. */
int vac_weights_missing(const char *dir, struct vac_error *err);

#endif
