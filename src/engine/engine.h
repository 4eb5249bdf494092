/*
 * engine.h - one open device in this process and the models on it.
 *
 * The engine is single-threaded towards its caller: one thread calls
 * everything here (backends own their thread teams inside). It knows no HTTP,
 * no wire and no JSON of requests. Used by the worker, by libvacate and by
 * tests.
 *
 * A load is cut into steps so that other models go on answering between them;
 * a batch calls back between layers (options.between) so that the caller can
 * answer heartbeats and cancels.
 */
#ifndef VAC_ENGINE_ENGINE_H
#define VAC_ENGINE_ENGINE_H

#include "base/buf.h"
#include "base/task.h"
#include "memory/plan.h"

struct vac_engine;
struct vac_model;
struct vac_job;
struct vac_backend;

struct vac_engine_options {
	const char *backend; /* "cpu" (own kernels), "cuda" or "reference" (plain C) */
	/* The backend itself, found already (engine/compute.h); NULL: by its name. */
	const struct vac_backend *found;
	uint32_t device;            /* which one of that kind: 0 for cuda:0 */
	const char *dtype;          /* "float16", ...; NULL: the backend's choice */
	uint32_t threads;           /* of the compute team; 0: as many as CPUs are allowed */
	uint32_t max_batch_tokens;  /* rows of the scratch arena; 0: the backend's default.
	                            * A model whose longest sequence is longer raises it. */
	uint32_t batch_target_ms;   /* a batch is bounded by this much measured work; 0: 100 */
	void (*between)(void *ctx); /* called between layers and load chunks; may be NULL. It
	                             * may submit and cancel jobs, but not step, load or close. */
	/* A batch of that model is about to be computed or waited for, or its load goes on
	 * after that; may be NULL. */
	void (*computing)(void *ctx, uint32_t model);
	/* Something is done without from now on, in one line; may be NULL. */
	void (*warn)(void *ctx, const char *text);
	void *between_ctx; /* of all three */
};

/* "cpu", "cuda" (the first GPU) or "cuda:N": which backend that is (static),
 * and N. */
int vac_engine_parse_device(const char *device, const char **backend, uint32_t *number,
			    struct vac_error *err) VAC_MUST_CHECK;

/* What a backend needs of the machine and what of that was found, in lines for
 * people. Negative when something is missing (the lines say what). */
int vac_engine_diagnose(const char *backend, struct vac_buf *out);

int vac_engine_open(struct vac_engine **out, const struct vac_engine_options *options,
		    struct vac_error *err) VAC_MUST_CHECK;
/* Closes what is still resident. NULL is fine. */
void vac_engine_close(struct vac_engine *engine);
const struct vac_ledger *vac_engine_ledger(const struct vac_engine *engine);
/* "cpu", "cuda:0", and a line like "2 threads, AVX-512". Static or engine-owned. */
const char *vac_engine_device(const struct vac_engine *engine);
const char *vac_engine_description(const struct vac_engine *engine);

/* What a checkpoint is. Known from its headers alone. */
struct vac_model_info {
	char architecture[64]; /* "bert" */
	char dtype[16];        /* of the computation: "float32" */
	char pooling[24];      /* "mean" */
	bool normalize;
	uint64_t parameters; /* in the weight files */
	uint32_t hidden_size, layers, heads, vocab_size;
	uint32_t embedding_dimensions; /* width of an embed result */
	uint32_t max_tokens;           /* longest sequence, special tokens included */
	uint32_t tasks;                /* VAC_TASK_BIT of each that it can do */
};

/* How one model is to be served; NULL in its place: all as the engine chooses. */
struct vac_model_options {
	uint32_t max_batch_tokens; /* of one batch, though one sequence always fits; 0: the
	                            * engine's */
	const char *dtype; /* that it is computed in; NULL or "": the backend's default. One that
	                    * the backend does not compute in is refused (VAC_E_UNSUPPORTED). */
};

/* Plans a load without loading: headers, config and tokenizer only. Needs an
 * open engine because only the backend knows packed sizes; leaves nothing. */
int vac_engine_plan(struct vac_engine *engine, const char *dir,
		    const struct vac_model_options *options, struct vac_plan *plan,
		    struct vac_model_info *info, struct vac_error *err) VAC_MUST_CHECK;

/* Starts a load: everything is checked and the plan made; regions come with
 * the steps. dir is copied. id names the owner in the ledger (not 0, not in
 * use). On error nothing is left. */
int vac_model_begin_load(struct vac_engine *engine, uint32_t id, const char *dir,
			 const struct vac_model_options *options, struct vac_model **out,
			 struct vac_error *err) VAC_MUST_CHECK;
/* Reads and packs some more (about 10 ms of work, I/O waits aside). 1: more to
 * do, 0: resident, negative: failed, and the caller must vac_model_close. */
int vac_model_load_step(struct vac_model *model, struct vac_error *err) VAC_MUST_CHECK;
/* Bytes of the checkpoint done and in all. */
void vac_model_load_progress(const struct vac_model *model, uint64_t *done_bytes,
			     uint64_t *total_bytes);
const struct vac_plan *vac_model_plan(const struct vac_model *model);
const struct vac_model_info *vac_model_info(const struct vac_model *model);
uint32_t vac_model_id(const struct vac_model *model);
bool vac_model_resident(const struct vac_model *model);

/* Stage times of a load, for people: nanoseconds. */
struct vac_load_times {
	int64_t open_ns; /* headers, config */
	int64_t tokenizer_ns;
	int64_t device_ns; /* waited for the device to be up */
	int64_t map_ns;    /* regions mapped and touched */
	int64_t read_ns;
	int64_t pack_ns;
	int64_t warm_ns; /* what the first batch would wait for */
};
const struct vac_load_times *vac_model_load_times(const struct vac_model *model);

/* Unmaps every region of the model (and shrinks the shared scratch to what the
 * others need), drops library caches, trims allocators. Jobs of the model that
 * are still queued complete with VAC_E_CANCELLED. *freed_bytes (may be NULL):
 * what the ledger says went, host and device together. Fine at any state of
 * a load; NULL is fine. */
void vac_model_close(struct vac_model *model, uint64_t *freed_bytes);

/* One request. Creating it checks options and tokenizes (so that token counts
 * and errors are known at once); everything needed is copied. */
int vac_job_create(struct vac_model *model, const struct vac_task_options *options,
		   const struct vac_input *inputs, size_t input_count, struct vac_job **out,
		   struct vac_error *err) VAC_MUST_CHECK;
/* Queues it. done is called once, from within vac_engine_step or
 * vac_model_close, when all inputs are computed or the job failed; it may free
 * the job and submit others. */
void vac_job_submit(struct vac_job *job, void (*done)(struct vac_job *job, void *ctx), void *ctx);
/* 0 or the job's error. */
int vac_job_status(const struct vac_job *job, struct vac_error *err);
/* [input_count x dimensions] floats, row-major; valid until vac_job_free. */
const float *vac_job_vectors(const struct vac_job *job, uint32_t *rows, uint32_t *dimensions);
/* Tokens of all inputs as computed (special tokens included, after truncation). */
uint64_t vac_job_tokens(const struct vac_job *job);
struct vac_job_times {
	int64_t tokenize_ns; /* in vac_job_create */
	int64_t queue_ns;    /* submit to the first batch that holds part of it */
	/* Sum over the batches that held part of it. On a device a batch's time is from when
	 * it was asked for, or the one before had ended, until its end was seen: between looks
	 * the engine's thread tokenizes what comes, and a look may come as much too late. */
	int64_t compute_ns;
};
void vac_job_times(const struct vac_job *job, struct vac_job_times *out);
/* Takes it out of the queue when it is in there; done is not called then.
 * Rows of a running batch are computed and dropped. NULL is fine. */
void vac_job_free(struct vac_job *job);

/* Takes queued sequences (models take turns by tokens), packs one batch, runs
 * it, and ends with its results delivered. On a device the next one may be under way
 * then: it goes on beside what the caller does. 1: ran one, 0: nothing queued and nothing
 * under way, negative: the device is lost. */
int vac_engine_step(struct vac_engine *engine, struct vac_error *err) VAC_MUST_CHECK;
/* Called from within a step (by options->between): the caller has something to do that
 * waits for the step's end. The step begins no more batches. */
void vac_engine_want(struct vac_engine *engine);
/* Queued or under way. */
bool vac_engine_has_work(const struct vac_engine *engine);

/* What stays in the process between models, by name, for receipts and
 * `measure`: bytes as far as known. Returns how many were written. */
struct vac_residue {
	const char *name; /* "stacks of the thread team", ... static */
	bool bytes_valid;
	uint64_t bytes;
};
size_t vac_engine_residue(const struct vac_engine *engine, struct vac_residue *out,
			  size_t capacity);

/* What is on the device, measured by its management library and not by us. */
struct vac_device_usage {
	uint64_t used_bytes, total_bytes; /* by all processes */
	bool listed;                      /* this process has a context there */
	bool process_bytes_valid;
	uint64_t process_bytes;
};
/* VAC_E_UNSUPPORTED without a device (cpu). */
int vac_engine_measure(struct vac_engine *engine, struct vac_device_usage *out,
		       struct vac_error *err) VAC_MUST_CHECK;

#endif
