/*
 * compute.h - a device: where regions are mapped and the dozen operations
 * that models are made of.
 *
 * A backend is a table of functions (struct vac_backend). engine/reference is
 * always built in; the others are modules that engine/backends.c loads at
 * need. All calls come from the engine's one thread; a backend owns its thread
 * team inside. Pointers named x, y, out and tables are addresses on the device
 * (host memory when it has no device table).
 *
 * An element is one activation or parameter in the type that a model is computed
 * in, one of the backend's dtypes: use() says which one the next calls mean.
 *
 * A device's operations may return before they have run: they run in order,
 * and what goes wrong in them is told by synchronize().
 *
 * Nothing here allocates tensors: activations lie in the engine's scratch
 * arena, and what a kernel needs beside them in the part of it that was given
 * with workspace().
 */
#ifndef VAC_ENGINE_COMPUTE_H
#define VAC_ENGINE_COMPUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "format/config.h"
#include "format/safetensors.h"

struct vac_compute; /* one open device; each backend defines its own */
struct vac_linear;  /* one kind of product; each backend defines its own */

enum vac_activation {
	VAC_ACTIVATION_NONE,
	VAC_ACTIVATION_GELU,      /* x/2 (1 + erf(x / sqrt 2)) */
	VAC_ACTIVATION_GELU_TANH, /* its tanh approximation, only when a config says so */
	VAC_ACTIVATION_RELU,
	VAC_ACTIVATION_TANH,
	VAC_ACTIVATION_SIGMOID,
};

/* y = activation(x W^T + b), or with accumulate y += x W^T + b (then without
 * an activation). x is [rows x in], y [rows x out], both dense. */
struct vac_linear_shape {
	uint32_t in, out;
	bool bias;
	bool accumulate;
	enum vac_activation activation;
};

/* Rows of three tables added up, then layer normalization. */
struct vac_embed {
	const void *word, *position, *type; /* [.. x hidden] */
	const void *gamma, *beta;           /* [hidden] */
	float eps;
	uint32_t hidden;
};

/* The tokens of a batch without padding. On the device. */
struct vac_tokens {
	/* All three may be larger than what there is after round_batch. */
	uint32_t rows;               /* sum of the lengths */
	uint32_t sequences;          /* each has at least one row */
	uint32_t longest;            /* length of the longest */
	const int32_t *ids;          /* [rows] */
	const uint8_t *types;        /* [rows] */
	const uint32_t *starts;      /* [sequences + 1]: rows of sequence s are
	                         * starts[s] .. starts[s + 1] - 1; its first row has
	                         * position 0 */
	const uint32_t *host_starts; /* the same in host memory */
};

/* softmax(scale q k^T) v for each sequence and head. qkv is [rows x 3 heads
 * head_size]: all q, then all k, then all v of a row; out is [rows x heads
 * head_size]. */
struct vac_attention {
	uint32_t heads, head_size;
	float scale;
};

#define VAC_MOST_DTYPES 3

struct vac_compute_options {
	uint32_t threads;
	uint32_t device; /* which one of its kind: 0 for cuda:0 */
	/* Told what is done without, in one line; may be NULL. On the engine's thread. */
	void (*warn)(void *ctx, const char *text);
	void *warn_ctx;
};

/* The sizes of a batch, as in struct vac_tokens. */
struct vac_batch_shape {
	uint32_t rows, sequences, longest;
};

/* A small batch, which is computed again and again with other contents. */
struct vac_replay {
	const void *owner; /* its model */
	const void *base;  /* of all that it reads and writes beside weights */
	struct vac_batch_shape shape;
	/* The calls that compute it. They depend on the above and on the owner alone,
	 * leave *out the same each time, and may be made twice. */
	int (*run)(void *ctx, const float **out, struct vac_error *err);
	void *ctx;
};

/* Some elements of a checkpoint, on their way to a place in a region. */
struct vac_fetch {
	const struct vac_weight_file *file;
	uint64_t offset;      /* of the first, in the file */
	uint64_t count;       /* elements */
	enum vac_dtype dtype; /* in the file: F32, F16 or BF16 */
	void *to;
};
/* The most bytes of files, and items, in one call of fetch. */
#define VAC_FETCH_BYTES ((uint64_t)8 << 20)
#define VAC_FETCH_ITEMS 64

/* "float32" for F32, as people say it; NULL for what nothing computes in. */
const char *vac_compute_dtype_name(enum vac_dtype dtype);
/* Of F16 or BF16, as they lie in a file; exact. */
void vac_to_floats(enum vac_dtype dtype, const uint16_t *from, float *to, uint64_t count);

/* Numbers of mark and reached: 0 to this. */
#define VAC_MARKS 2

/* What a backend has whose regions are not host memory. */
struct vac_backend_device {
	/* Everything that costs memory on the device beside regions exists from
	 * start to stop: the engine calls start when its first model comes and stop
	 * when the last has left. start returns at once; ready waits for it, and for
	 * what the dtype in use needs. 1: it waited for a moment, and is to be asked
	 * again. */
	int (*start)(struct vac_compute *c, struct vac_error *err);
	int (*ready)(struct vac_compute *c, struct vac_error *err);
	void (*stop)(struct vac_compute *c);
	/* Around a series of calls: makes the device the calling thread's own, and
	 * gives the thread back as it was. Not needed for open, close, start, ready,
	 * stop and what plans a load. */
	void (*enter)(struct vac_compute *c);
	void (*leave)(struct vac_compute *c);

	/* What a region of so many bytes measures. */
	uint64_t (*region_bytes)(const struct vac_compute *c, uint64_t payload_bytes);
	/* bytes as region_bytes gives them. VAC_E_NO_ROOM; 1: another process of ours is
	 * just using what room there is (hold/lock.h), ask again; VAC_E_BUSY: for too
	 * long. */
	int (*map)(struct vac_compute *c, uint64_t bytes, void **out, struct vac_error *err);
	void (*unmap)(struct vac_compute *c, void *base, uint64_t bytes);
	/* Host memory, whole pages, that upload and download reach by themselves: upload
	 * returns at once and reads it until what was asked for then is done. */
	int (*host_map)(struct vac_compute *c, uint64_t bytes, void **out, struct vac_error *err);
	void (*host_unmap)(struct vac_compute *c, void *base, uint64_t bytes);
	/* Between memory of host_map and of map, in the order of all other calls. */
	void (*upload)(struct vac_compute *c, void *to, const void *from, size_t bytes);
	void (*download)(struct vac_compute *c, void *to, const void *from, size_t bytes);

	/* Tells and forgets the first failure since the last mark, synchronize or failed, without
	 * waiting; that the device is lost stays. */
	int (*failed)(struct vac_compute *c, struct vac_error *err);
	/* Tells the first failure since the last of these, and else marks what has
	 * been asked for so far as VAC_MARKS of number. reached: 0 when all of that is
	 * done, 1 when not and !wait; negative: the device is lost (VAC_E_GONE). */
	int (*mark)(struct vac_compute *c, uint32_t number, struct vac_error *err);
	int (*reached)(struct vac_compute *c, uint32_t number, bool wait, struct vac_error *err);

	/* Between fetch_begin and fetch_end (counted) lies host memory for what is
	 * on its way: so many bytes for all loads together. fetch has read
	 * the files when it returns; the elements are there after fetch_end, which
	 * waits, also when it fails. */
	uint64_t (*fetch_bytes)(const struct vac_compute *c);
	int (*fetch_begin)(struct vac_compute *c, struct vac_error *err);
	int (*fetch)(struct vac_compute *c, const struct vac_fetch *items, uint32_t count,
		     struct vac_error *err);
	int (*fetch_end)(struct vac_compute *c, struct vac_error *err);

	/* Raises the sizes of a small batch to those of a class of batches, within room,
	 * so that few differ. Then the last sequences are empty, and the rows from
	 * starts[sequences] on hold no token: what comes of them is meaningless. false: left
	 * as it was. */
	bool (*round_batch)(const struct vac_compute *c, const struct vac_batch_shape *room,
			    struct vac_batch_shape *shape);
	/* For what round_batch has raised: runs it, or plays back what an earlier run with
	 * the same owner, base and shape has asked of the device. The results are the
	 * same, to the bit. */
	int (*replay)(struct vac_compute *c, const struct vac_replay *replay, const float **out,
		      struct vac_error *err);
	/* Drops what is kept for replay of that owner; NULL: of all. Before any of its
	 * memory goes. */
	void (*forget)(struct vac_compute *c, const void *owner);

	/* Who uses the device, from outside. Also before start and after stop. */
	int (*measure)(struct vac_compute *c, struct vac_device_usage *out, struct vac_error *err);
};

/* A place of the file system, and what a backend's libraries do there. */
enum vac_place {
	VAC_PLACE_READ,    /* a file, or a directory and all below it */
	VAC_PLACE_LIBRARY, /* the same, and code */
	VAC_PLACE_WRITE,   /* a directory whose files are read, made, replaced and removed */
	VAC_PLACE_DEVICE,  /* a device file */
};

struct vac_backend {
	const char *name;                        /* "cpu" */
	const struct vac_backend_device *device; /* NULL: regions are host memory */
	uint32_t default_batch_tokens;
	enum vac_dtype dtypes[VAC_MOST_DTYPES]; /* F32, F16 or BF16; the first is the default */
	uint32_t dtype_count;

	int (*open)(const struct vac_compute_options *options, struct vac_compute **out,
		    struct vac_error *err);
	void (*close)(struct vac_compute *c);
	/* A line for people: libraries, threads, instruction set. Owned by c. */
	const char *(*description)(const struct vac_compute *c);
	/* What an element is in the calls that follow, until the next use; kinds of
	 * product keep what they were opened with. NULL: there is but one dtype. */
	void (*use)(struct vac_compute *c, enum vac_dtype dtype);
	/* Where kernels keep what they need for a moment; replaces the last one. */
	void (*workspace)(struct vac_compute *c, void *base, uint64_t bytes);

	/* Runs fn(ctx, 0 .. count - 1) on the team's host threads, in any order;
	 * returns when all are done. fn may block on reads. Without a device only. */
	void (*parallel)(struct vac_compute *c, uint32_t count, void (*fn)(void *ctx, uint32_t i),
			 void *ctx);

	/* A kind of product, shared and counted: each open needs one close. The
	 * last close drops everything that the backend's library keeps for it. */
	int (*linear_open)(struct vac_compute *c, const struct vac_linear_shape *shape,
			   struct vac_linear **out, struct vac_error *err);
	void (*linear_close)(struct vac_compute *c, struct vac_linear *linear);
	uint64_t (*linear_packed_bytes)(const struct vac_linear *linear);
	/* Workspace that it wants for up to so many rows. */
	int (*linear_workspace)(struct vac_compute *c, const struct vac_linear *linear,
				uint32_t rows, uint64_t *bytes, struct vac_error *err);
	/* weight: [out x in] floats; packed: 64-byte aligned. Without a device only: a
	 * device's packed weights are [out x in] elements. */
	int (*linear_pack)(struct vac_compute *c, const struct vac_linear *linear,
			   const float *weight, void *packed, struct vac_error *err);
	/* Creates now what the first call with so many rows would create. */
	int (*linear_prepare)(struct vac_compute *c, struct vac_linear *linear, uint32_t rows,
			      struct vac_error *err);
	/* Computes round_rows(rows) rows: x and y need room for them, and what
	 * stands in the rows beyond is read, written and meaningless. */
	int (*linear)(struct vac_compute *c, struct vac_linear *linear, const void *packed,
		      const void *bias, uint32_t rows, const void *x, void *y,
		      struct vac_error *err);
	uint32_t (*round_rows)(const struct vac_compute *c, uint32_t rows);

	void (*embed)(struct vac_compute *c, const struct vac_embed *embed,
		      const struct vac_tokens *tokens, void *y);
	/* In place: [rows x hidden]. */
	void (*layer_norm)(struct vac_compute *c, uint32_t rows, uint32_t hidden, float eps,
			   const void *gamma, const void *beta, void *x);
	uint64_t (*attention_workspace)(const struct vac_compute *c,
					const struct vac_attention *attention, uint32_t longest);
	void (*attention)(struct vac_compute *c, const struct vac_attention *attention,
			  const struct vac_tokens *tokens, const void *qkv, void *out);
	/* One row of out ([sequences x hidden]) for each sequence of x. */
	void (*pool)(struct vac_compute *c, enum vac_pooling pooling,
		     const struct vac_tokens *tokens, uint32_t hidden, const void *x, void *out);
	/* Elements to floats, for results. NULL: they are floats already. */
	void (*to_floats)(struct vac_compute *c, uint64_t count, const void *x, float *out);
	/* Waits for all of the above. 0, or the device is lost (VAC_E_GONE). */
	int (*synchronize)(struct vac_compute *c, struct vac_error *err);

	/* What the backend's libraries keep in the process; returns how many. */
	size_t (*residue)(const struct vac_compute *c, struct vac_residue *out, size_t capacity);

	/* What it needs of the machine and what of that was found, in lines for
	 * people; needs no open device. 0, or negative when something is missing.
	 * NULL: it needs nothing. */
	int (*diagnose)(struct vac_buf *out);
	/* Adds what its libraries open from open to close, for a process that gives up all
	 * other files before. Some need not be there. NULL: nothing. */
	void (*places)(void (*add)(void *ctx, const char *path, enum vac_place how), void *ctx);
};

#define VAC_PACKED_ALIGNMENT 64 /* of the packed weights of one product, and of tables */

/* The built-in backend, and the symbol that a backend's module exports. */
extern const struct vac_backend vac_backend_reference;

/* "reference", "cpu", "cuda", ...: found for the life of the process (a module
 * stays loaded); one that the program itself exports comes first. Not found: VAC_E_NOT_FOUND with the places that were looked in. */
int vac_backend_find(const char *name, const struct vac_backend **out,
		     struct vac_error *err) VAC_MUST_CHECK;

#endif
