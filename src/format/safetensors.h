/*
 * safetensors.h - strict reader of safetensors headers, single files and
 * sharded checkpoints (model.safetensors.index.json).
 *
 * Only headers are read here; tensor bytes are pread by the engine straight
 * into regions. Rules (source: the Rust reader of the safetensors project,
 * README "Format" and its validation): header length at most 100 MB and
 * within the file; UTF-8 JSON object; no duplicate keys; offsets sorted, no
 * overlap, no holes, full coverage to the end of the file; no overflow;
 * shape x dtype equals the range. Files stay open (one descriptor each) until
 * closed, so that a file replaced on disk does not change what is read.
 * Stricter than that reader: a name (of a tensor, of a tensor's member, in
 * __metadata__) that is there twice, white space before the '{', more than
 * VAC_TENSOR_MAX_DIMS dimensions and other dtypes than these are refused.
 * One owner; no locking.
 */
#ifndef VAC_FORMAT_SAFETENSORS_H
#define VAC_FORMAT_SAFETENSORS_H

#include <sys/types.h>

#include "base/error.h"

#define VAC_TENSOR_MAX_DIMS 8

enum vac_dtype {
	VAC_DTYPE_F32,
	VAC_DTYPE_F16,
	VAC_DTYPE_BF16,
	VAC_DTYPE_F64,
	VAC_DTYPE_I64,
	VAC_DTYPE_I32,
	VAC_DTYPE_I16,
	VAC_DTYPE_I8,
	VAC_DTYPE_U64,
	VAC_DTYPE_U32,
	VAC_DTYPE_U16,
	VAC_DTYPE_U8,
	VAC_DTYPE_BOOL,
	VAC_DTYPE_F8_E4M3,
	VAC_DTYPE_F8_E5M2,
};
size_t vac_dtype_bytes(enum vac_dtype dtype);
const char *vac_dtype_name(enum vac_dtype dtype); /* as in the header: "F32" */

struct vac_tensor {
	const char *name; /* NUL-terminated, owned by the checkpoint */
	enum vac_dtype dtype;
	uint32_t dims;                       /* 0: scalar */
	uint64_t shape[VAC_TENSOR_MAX_DIMS]; /* outermost first */
	uint32_t file;                       /* index into the checkpoint's files */
	uint64_t offset;                     /* absolute byte position in that file */
	uint64_t bytes;
};

struct vac_weight_file {
	char *path;     /* owned */
	int fd;         /* open, O_RDONLY | O_CLOEXEC */
	uint64_t bytes; /* size when it was opened */
	dev_t dev;
	ino_t ino;
	int64_t mtime_ns;
};

struct vac_safetensors {
	struct vac_weight_file *files;
	size_t file_count;
	struct vac_tensor *tensors; /* sorted by name, for vac_safetensors_find */
	size_t tensor_count;
	uint64_t tensor_bytes; /* sum over tensors */
	/* private */
	struct vac_arena *arena;
};

/* Opens DIR/model.safetensors, or the shards of DIR/model.safetensors.index.json
 * (every tensor of weight_map in the file that it names; shard names with '/'
 * or ".." are refused). A directory with only pytorch_model.bin (or other
 * pickles) is VAC_E_UNSUPPORTED, and the message says how to convert. */
int vac_safetensors_open_dir(const char *dir, struct vac_safetensors *out,
			     struct vac_error *err) VAC_MUST_CHECK;
/* Opens one file. */
int vac_safetensors_open_file(const char *path, struct vac_safetensors *out,
			      struct vac_error *err) VAC_MUST_CHECK;
void vac_safetensors_close(struct vac_safetensors *st);
/* NULL when there is none of that name. */
const struct vac_tensor *vac_safetensors_find(const struct vac_safetensors *st, const char *name);
/* From memory: the length field and all of the JSON behind it (file_bytes: of
 * the whole file); for the fuzzer and tests.
 * Fills tensors with file = 0. */
int vac_safetensors_parse(const void *head, size_t head_bytes, uint64_t file_bytes,
			  const char *path, struct vac_safetensors *out,
			  struct vac_error *err) VAC_MUST_CHECK;

#endif
