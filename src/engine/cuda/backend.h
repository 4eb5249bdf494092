/*
 * backend.h - the parts of the cuda backend among themselves.
 *
 * The engine's one thread calls everything; between start and ready two
 * threads of ours work, too: one brings the device up, one loads cuBLASLt.
 * The context is our own and never the primary one, which other users of the
 * process (PyTorch) share: destroying it takes nothing from them, and gives
 * all of it back.
 */
#ifndef VAC_ENGINE_CUDA_BACKEND_H
#define VAC_ENGINE_CUDA_BACKEND_H

#include <pthread.h>

#include "driver/cuda.h"
#include "engine/compute.h"
#include "engine/cuda/cublaslt.h"
#include "hold/lock.h"

struct vac_team;

/* Regions are whole granules: the smallest that cuMemCreate gives, checked
 * when the device is up. A plan needs no device, so it is a constant. */
#define VAC_CUDA_GRANULE_BYTES ((uint64_t)2 << 20)
/* cuBLASLt's workspace, in the planned scratch. */
#define VAC_CUDA_BLAS_WORKSPACE_BYTES ((uint64_t)16 << 20)
/* The oldest that the kernels' instructions are there on. */
#define VAC_CUDA_OLDEST_ARCHITECTURE 80
#define VAC_CUDA_LARGEST_HEAD        1024
#define VAC_CUDA_FETCH_SLOTS         4
/* Up to so many rows batches are small: as graphs, with algorithms of their own. */
#define VAC_CUDA_SMALL_ROWS 512
/* From so many rows on a product may be one kernel with its GELU: product.c. */
#define VAC_CUDA_FUSED_ROWS 4096
/* The graphs of all models together: how many, and of the driver's memory. */
#define VAC_CUDA_MOST_GRAPHS  48
#define VAC_CUDA_GRAPHS_BYTES ((uint64_t)32 << 20)

/* X(name): the functions of kernels/ */
#define VAC_CUDA_KERNELS(X)                                                                        \
	X(embed_warp)                                                                              \
	X(embed_block)                                                                             \
	X(layer_norm_warp)                                                                         \
	X(layer_norm_block)                                                                        \
	X(activate_gelu)                                                                           \
	X(activate_gelu_tanh)                                                                      \
	X(activate_relu)                                                                           \
	X(activate_tanh)                                                                           \
	X(activate_sigmoid)                                                                        \
	X(attention_any)                                                                           \
	X(pool)                                                                                    \
	X(convert)                                                                                 \
	X(to_floats)
/* For elements of 16 bits only. */
#define VAC_CUDA_KERNELS_16(X)                                                                     \
	X(attention_32)                                                                            \
	X(attention_64)                                                                            \
	X(attention_64_wide)                                                                       \
	X(attention_96)                                                                            \
	X(attention_128)
/* Of these only what code for sm_90a has; else NULL. */
#define VAC_CUDA_KERNELS_90A(X)                                                                    \
	X(attention_64_wgmma)                                                                      \
	X(product_gelu_wgmma)                                                                      \
	X(product_gelu_wide_wgmma)

struct vac_cuda_functions {
#define VAC_CUDA_FUNCTION(name) struct CUfunc_st *name;
	VAC_CUDA_KERNELS(VAC_CUDA_FUNCTION)
	VAC_CUDA_KERNELS_16(VAC_CUDA_FUNCTION)
	VAC_CUDA_KERNELS_90A(VAC_CUDA_FUNCTION)
#undef VAC_CUDA_FUNCTION
};

/* The kernels for one type of element. */
struct vac_cuda_module {
	struct CUmod_st *module; /* NULL: not needed so far */
	struct vac_cuda_functions functions;
};

/* Host memory that the GPU reads, for what is on its way from files. */
struct vac_cuda_ring {
	uint32_t users; /* loads under way */
	uint8_t *base;
	bool registered;
	vac_cu_address address; /* the same for the GPU */
	uint64_t slot_bytes;
	uint32_t next;
	struct CUevent_st *done[VAC_CUDA_FETCH_SLOTS]; /* the slot has been read */
	struct vac_team *team;
};

/* A class of small batches; owner NULL: none. */
struct vac_cuda_graph {
	const void *owner, *base;
	struct vac_batch_shape shape;
	uint32_t uses;               /* before it was recorded */
	uint64_t used;               /* the last time, by the clock */
	struct CUgraphExec_st *exec; /* NULL: not recorded */
	bool played;
	uint64_t bytes;   /* that it took of the device's memory */
	const float *out; /* its results */
};

struct vac_cuda_graphs {
	bool wanted; /* batches are computed in classes */
	bool off;    /* something failed: no graphs until the device is started again */
	uint64_t clock, bytes;
	struct vac_cuda_graph all[VAC_CUDA_MOST_GRAPHS];
};

/* Of products, for algorithms: choices.c. */
struct vac_cuda_trials {
	int64_t spent_ns;                /* in this load */
	double ns_each[VAC_MOST_DTYPES]; /* of a multiplication in large ones; 0: unknown */
};

/* The lock of the device among all of Vacate's processes: claim.c. */
struct vac_cuda_claim {
	struct vac_lock lock;
	bool off;          /* it cannot be used, or there is no device */
	bool told;         /* that it cannot */
	int64_t since_ns;  /* it is another's since then; 0: it is not waited for */
	int64_t asked_ns;  /* the last time */
	char warning[512]; /* to be told; or "" */
};

/* One thing that is brought up by a thread of its own. */
struct vac_cuda_task {
	pthread_t thread;
	bool running;
	_Atomic bool stop; /* nobody waits for it any more */
	int rc;
	struct vac_error error;
};

struct vac_compute {
	const struct vac_cuda *cuda;
	const struct vac_blas *blas;               /* from ready on */
	void (*warn)(void *ctx, const char *text); /* may be NULL */
	void *warn_ctx;
	uint32_t threads;
	uint32_t ordinal;
	int driver;                           /* its version */
	enum vac_dtype dtype;                 /* in use */
	const struct vac_cuda_module *module; /* of it */
	char description[192];
	/* from start to stop */
	bool started, up;
	enum vac_dtype first_dtype; /* in use when it was started */
	struct vac_cuda_task device_task, blas_task;
	int device, architecture; /* 90: sm_90 */
	char device_name[96];
	char uuid[VAC_CUDA_UUID_BYTES]; /* as NVML writes it; "": not asked yet */
	struct vac_cuda_claim claim;
	struct CUctx_st *ctx;
	struct CUstream_st *stream;
	struct CUevent_st *marks[VAC_MARKS]; /* NULL: not needed so far */
	struct vac_cuda_module modules[VAC_MOST_DTYPES];
	struct cublasLtContext *handle;
	struct vac_cuda_ring ring;
	struct vac_cuda_graphs graphs;
	struct vac_cuda_trials trials;
	void *workspace;
	uint64_t workspace_bytes;
	/* the first failure since the last synchronize, mark or failed */
	int failure;
	struct vac_error error;
	/* not bound to the device */
	struct vac_linear *linears;
};

/* What one launch of convert.cu takes, as its parameter. */
struct vac_cuda_conversion {
	uint32_t count, blocks; /* blocks: of all of them */
	struct vac_cuda_converted {
		uint64_t from, to, count; /* addresses on the device; elements */
		uint32_t first_block;
		uint32_t type; /* 32 float, 16 half, 17 bfloat16 */
	} items[VAC_FETCH_ITEMS];
};

/* 32, 16 or 17, as the kernels name types. */
int vac_cuda_element(enum vac_dtype dtype);

/* Notes what failed in an operation that cannot say so itself. */
void vac_cuda_note(struct vac_compute *c, int result, const char *what);

/* device.c: the device table but for fetching. */
int vac_cuda_start(struct vac_compute *c, struct vac_error *err) VAC_MUST_CHECK;
void vac_cuda_use(struct vac_compute *c, enum vac_dtype dtype);
int vac_cuda_ready(struct vac_compute *c, struct vac_error *err) VAC_MUST_CHECK;
void vac_cuda_stop(struct vac_compute *c);
void vac_cuda_enter(struct vac_compute *c);
void vac_cuda_leave(struct vac_compute *c);

/* doctor.c */
int vac_cuda_diagnose(struct vac_buf *out);

/* places.c */
void vac_cuda_places(void (*add)(void *ctx, const char *path, enum vac_place how), void *ctx);

/* measure.c */
int vac_cuda_measure(struct vac_compute *c, struct vac_device_usage *out,
		     struct vac_error *err) VAC_MUST_CHECK;

/* claim.c */
extern uint32_t vac_cuda_claim_limit_ms; /* that another's restore is waited for; tests set it */
void vac_cuda_claim_open(struct vac_compute *c);
void vac_cuda_claim_close(struct vac_compute *c);
/* Tells what open and claim could not, on the engine's thread. */
void vac_cuda_claim_warn(struct vac_compute *c);
/* 0: nobody restores into the device until yield. 1: somebody does; ask again, after a
 * moment that has been waited for already. -EAGAIN: for too long, err says who. */
int vac_cuda_claim(struct vac_compute *c, struct vac_error *err) VAC_MUST_CHECK;
void vac_cuda_yield(struct vac_compute *c);

/* regions.c */
uint64_t vac_cuda_region_bytes(const struct vac_compute *c, uint64_t payload_bytes);
int vac_cuda_map(struct vac_compute *c, uint64_t bytes, void **out,
		 struct vac_error *err) VAC_MUST_CHECK;
void vac_cuda_unmap(struct vac_compute *c, void *base, uint64_t bytes);

/* fetch.c */
uint64_t vac_cuda_fetch_bytes(const struct vac_compute *c);
int vac_cuda_fetch_begin(struct vac_compute *c, struct vac_error *err) VAC_MUST_CHECK;
int vac_cuda_fetch(struct vac_compute *c, const struct vac_fetch *items, uint32_t count,
		   struct vac_error *err) VAC_MUST_CHECK;
int vac_cuda_fetch_end(struct vac_compute *c, struct vac_error *err) VAC_MUST_CHECK;

/* linear.c: products, as compute.h has them. */
int vac_cuda_linear_open(struct vac_compute *c, const struct vac_linear_shape *shape,
			 struct vac_linear **out, struct vac_error *err) VAC_MUST_CHECK;
void vac_cuda_linear_close(struct vac_compute *c, struct vac_linear *linear);
uint64_t vac_cuda_linear_packed_bytes(const struct vac_linear *linear);
int vac_cuda_linear_workspace(struct vac_compute *c, const struct vac_linear *linear, uint32_t rows,
			      uint64_t *bytes, struct vac_error *err) VAC_MUST_CHECK;
int vac_cuda_linear_prepare(struct vac_compute *c, struct vac_linear *linear, uint32_t rows,
			    struct vac_error *err) VAC_MUST_CHECK;
int vac_cuda_linear(struct vac_compute *c, struct vac_linear *linear, const void *packed,
		    const void *bias, uint32_t rows, const void *x, void *y,
		    struct vac_error *err) VAC_MUST_CHECK;
uint32_t vac_cuda_round_rows(const struct vac_compute *c, uint32_t rows);
/* choices.c: of all trials of products in one load, and of each with its GELU beside them;
 * variables for tests. */
extern int64_t vac_cuda_trials_ns, vac_cuda_fused_ns;
/* The upper end of the bucket that so many rows belong to. */
uint32_t vac_cuda_bucket_rows(uint32_t rows);

/* transfer.c: as compute.h has them. */
int vac_cuda_host_map(struct vac_compute *c, uint64_t bytes, void **out,
		      struct vac_error *err) VAC_MUST_CHECK;
void vac_cuda_host_unmap(struct vac_compute *c, void *base, uint64_t bytes);
void vac_cuda_upload(struct vac_compute *c, void *to, const void *from, size_t bytes);
void vac_cuda_download(struct vac_compute *c, void *to, const void *from, size_t bytes);
int vac_cuda_failed(struct vac_compute *c, struct vac_error *err) VAC_MUST_CHECK;
int vac_cuda_mark(struct vac_compute *c, uint32_t number, struct vac_error *err) VAC_MUST_CHECK;
int vac_cuda_reached(struct vac_compute *c, uint32_t number, bool wait,
		     struct vac_error *err) VAC_MUST_CHECK;
int vac_cuda_synchronize(struct vac_compute *c, struct vac_error *err) VAC_MUST_CHECK;
void vac_cuda_marks_close(struct vac_compute *c);

/* graphs.c: small batches, as compute.h has them. */
bool vac_cuda_graphs_wanted(void); /* by the environment */
bool vac_cuda_round_batch(const struct vac_compute *c, const struct vac_batch_shape *room,
			  struct vac_batch_shape *shape);
int vac_cuda_replay(struct vac_compute *c, const struct vac_replay *replay, const float **out,
		    struct vac_error *err) VAC_MUST_CHECK;
void vac_cuda_forget(struct vac_compute *c, const void *owner);

/* operations.c: kernels launched. */
void vac_cuda_activate(struct vac_compute *c, enum vac_activation activation, uint64_t count,
		       void *y);
void vac_cuda_conversion_add(struct vac_cuda_conversion *all, enum vac_dtype dtype, uint64_t count,
			     vac_cu_address from, void *to);
void vac_cuda_convert(struct vac_compute *c, struct vac_cuda_conversion *all);
void vac_cuda_embed(struct vac_compute *c, const struct vac_embed *embed,
		    const struct vac_tokens *tokens, void *y);
void vac_cuda_layer_norm(struct vac_compute *c, uint32_t rows, uint32_t hidden, float eps,
			 const void *gamma, const void *beta, void *x);
void vac_cuda_attention(struct vac_compute *c, const struct vac_attention *attention,
			const struct vac_tokens *tokens, const void *qkv, void *out);
void vac_cuda_pool(struct vac_compute *c, enum vac_pooling pooling, const struct vac_tokens *tokens,
		   uint32_t hidden, const void *x, void *out);
void vac_cuda_to_floats(struct vac_compute *c, uint64_t count, const void *x, float *out);

#endif
