/*
 * internal.h - the engine's structs, shared by engine.c, model.c, job.c, queue.c,
 * batch.c and step.c. All of it belongs to the engine's one thread.
 */
#ifndef VAC_ENGINE_INTERNAL_H
#define VAC_ENGINE_INTERNAL_H

#include "base/buf.h"
#include "engine/ahead.h"
#include "engine/architecture.h"
#include "engine/head.h"
#include "text/tokenizer.h"

/* Sequences in one batch: bounds the room for their results. */
#define VAC_BATCH_MAX_SEQUENCES 256
/* A batch's size until the model's speed has been measured. */
#define VAC_BATCH_FIRST_TOKENS 64
/* A GPU takes about as long for fewer: its launches take that. */
#define VAC_BATCH_DEVICE_TOKENS 512

/* Of max_batch_tokens. */
#define VAC_BATCH_MAX_TOKENS (1u << 20)

/* How one model divides the scratch region: a batch's tokens, activations,
 * the head's, and the rest as the kernels' workspace. Each starts at a multiple
 * of 256 bytes. */
struct vac_scratch_layout {
	uint32_t rows, sequences;
	uint64_t activations, head, workspace; /* offsets; the tokens are first */
	uint64_t bytes;                        /* of all */
};

enum vac_load_stage {
	VAC_LOAD_TOKENIZER,
	VAC_LOAD_DEVICE,
	VAC_LOAD_MAP_WEIGHTS,
	VAC_LOAD_MAP_PACKED,
	VAC_LOAD_MAP_SCRATCH,
	VAC_LOAD_READ,
	VAC_LOAD_WARM,
	VAC_LOAD_RESIDENT,
};

struct vac_model {
	struct vac_engine *engine;
	struct vac_model *next; /* the engine's list */
	uint32_t id;
	enum vac_load_stage stage;
	char *dir;
	enum vac_dtype dtype;         /* of its elements */
	uint32_t max_batch_tokens;    /* of a batch of more than one sequence */
	struct vac_safetensors files; /* closed when resident */
	struct vac_ahead *ahead;      /* of files, until they are read */
	struct vac_tokenizer_parsed *parsed;
	size_t tokenizer_json_bytes;
	struct vac_weights weights; /* the list goes when resident */
	struct vac_network *network;
	struct vac_head head;
	const struct vac_tokenizer *tokenizer; /* in its region */
	struct vac_model_info info;
	struct vac_plan plan;
	struct vac_scratch_layout layout;
	struct vac_load_times times;
	uint64_t done_bytes, total_bytes; /* of the checkpoint's tensors */
	/* what the scheduler knows */
	struct vac_job *jobs;                     /* all that exist: next_of_model */
	struct vac_job *queue_first, *queue_last; /* with sequences to take: next_in_queue */
	uint64_t served_tokens;   /* the model's clock: the least has the next turn */
	double tokens_per_second; /* measured; 0: not yet */
};

enum vac_job_state { VAC_JOB_CREATED, VAC_JOB_SUBMITTED, VAC_JOB_DONE };

struct vac_job {
	struct vac_engine *engine; /* NULL: closed */
	struct vac_model *model;   /* NULL: closed */
	struct vac_job *next_of_model, *previous_of_model;
	struct vac_job *next_in_queue, *previous_in_queue;
	bool in_queue;
	enum vac_job_state state;
	struct vac_task_options options;
	bool normalize;
	uint32_t sequences, dimensions;
	uint32_t taken;   /* sequences that went into batches */
	uint32_t open;    /* sequences without a result yet */
	uint32_t *starts; /* [sequences + 1] into ids */
	struct vac_buf ids, types;
	float *vectors;
	int rc;
	struct vac_error error;
	struct vac_job_times times;
	int64_t submitted_ns;
	bool started;   /* some of it was in a batch */
	uint64_t batch; /* number of the last batch that held some of it */
	void (*done)(struct vac_job *job, void *ctx);
	void *ctx;
};

/* Batches under way at once on a device: one is computed, another waits behind it or
 * is delivered. */
#define VAC_BATCHES 2

/* A batch that is being computed. Its token ids, types and starts lie one
 * after the other, each at a multiple of 64 bytes, in the scratch; where that is
 * not host memory, they are put together in input first. */
struct vac_batch {
	uint64_t number;
	struct vac_model *model;
	uint32_t count, rows, longest, width;
	bool ended; /* with rc and error; vectors are there */
	int rc;
	struct vac_error error;
	int64_t start_ns, end_ns; /* of being computed */
	const float *vectors;     /* [entries x width] */
	uint8_t *input;           /* of input_bytes, the device's; NULL without one */
	uint64_t input_bytes;
	float *results; /* [entries x width], the device's; NULL without one */
	uint64_t results_bytes;
	uint32_t starts[VAC_BATCH_MAX_SEQUENCES + 1];
	struct vac_batch_entry {
		struct vac_job *job; /* NULL: freed meanwhile */
		uint32_t index;      /* sequence of the job */
	} entries[VAC_BATCH_MAX_SEQUENCES];
};

struct vac_engine {
	const struct vac_backend *backend;
	struct vac_compute *compute;
	char device[32];      /* "cuda:0" */
	enum vac_dtype dtype; /* of models that do not say */
	bool started;         /* the device, and not stopped */
	struct vac_ledger ledger;
	uint32_t max_batch_tokens, batch_target_ms;
	void (*between)(void *ctx);
	void (*computing)(void *ctx, uint32_t model);
	void *between_ctx;
	struct vac_model *models;
	struct vac_region *scratch; /* NULL: no model */
	struct vac_encode_scratch *encode;
	struct vac_job *orphans; /* submitted after their model had gone: next_in_queue */
	bool news;               /* something was queued since this was cleared */
	bool wanted;             /* the caller has something that waits for the step's end */
	/* under way, in their order: from first on, round about */
	struct vac_batch batches[VAC_BATCHES];
	uint32_t first, under_way;
	uint64_t batches_made;
	int64_t ended_ns; /* when the last batch was done */
	int lost;         /* what ended the device: negative, with lost_error; steps tell it */
	struct vac_error lost_error;
	uint64_t turn; /* the clock of the model that was next last */
};

/* engine.c: what a region of that payload measures. */
uint64_t vac_engine_region_bytes(const struct vac_engine *engine, bool on_device,
				 uint64_t payload_bytes);
/* Around calls of the backend, see struct vac_backend_device. Nothing without one. */
void vac_engine_enter(struct vac_engine *engine);
void vac_engine_leave(struct vac_engine *engine);
/* What went wrong on the device since it was asked last; 0 without one. */
int vac_engine_failed(struct vac_engine *engine, struct vac_error *err) VAC_MUST_CHECK;
/* What the device keeps for small batches of that model; NULL: of all. Entered. */
void vac_engine_forget(struct vac_engine *engine, const struct vac_model *model);
/* The dtype of that name among the backend's; NULL or "": the engine's own. */
int vac_engine_find_dtype(const struct vac_engine *engine, const char *name, enum vac_dtype *out,
			  struct vac_error *err) VAC_MUST_CHECK;
/* The calls of the backend that follow are for that model. */
void vac_engine_use(struct vac_engine *engine, enum vac_dtype dtype);
/* Starts the device when the first model comes, and stops it when the last has
 * left. */
int vac_engine_start(struct vac_engine *engine, struct vac_error *err) VAC_MUST_CHECK;
void vac_engine_stop_if_empty(struct vac_engine *engine);
/* A region of a model, mapped and in the ledger. VAC_E_NO_ROOM, and what map of struct
 * vac_backend_device returns. */
int vac_engine_map(struct vac_engine *engine, uint32_t owner, enum vac_region_kind kind,
		   uint64_t payload_bytes, struct vac_region **out,
		   struct vac_error *err) VAC_MUST_CHECK;
void vac_engine_unmap(struct vac_engine *engine, struct vac_region *region);
/* Makes the scratch as large as the models in the list (and resident or past
 * VAC_LOAD_MAP_SCRATCH) need; 0 models: none. Shrinking cannot fail for want
 * of memory: the larger one stays then. 1: as vac_engine_map. */
int vac_engine_fit_scratch(struct vac_engine *engine, struct vac_error *err) VAC_MUST_CHECK;

/* batch.c */
uint64_t vac_batch_input_bytes(uint32_t rows, uint32_t sequences);
/* Host memory for a batch of that model on its way to and from a device. */
int vac_batch_reserve(struct vac_model *model, struct vac_error *err) VAC_MUST_CHECK;
/* That of all batches. Not entered. */
void vac_batch_free(struct vac_engine *engine);
/* Computes what vac_queue_fill put into it, or asks the device for it. A failure
 * ends it. */
void vac_batch_begin(struct vac_engine *engine, struct vac_model *model, struct vac_batch *batch);
/* Whether it has ended, in order or not; true if wait. */
bool vac_batch_ended(struct vac_engine *engine, struct vac_batch *batch, bool wait);
/* The job is freed: what batches compute of it is dropped. */
void vac_batches_forget(const struct vac_job *job);

/* step.c: waits for what the device computes; the next step delivers it. Before
 * anything else than a batch uses the device or the scratch. Of which model that is, is
 * told again: then's, if it is not NULL. */
void vac_engine_settle(struct vac_engine *engine, const struct vac_model *then);
/* The same, and delivers. */
void vac_engine_finish_all(struct vac_engine *engine);

/* queue.c */
void vac_queue_put(struct vac_job *job);
void vac_queue_remove(struct vac_job *job);
/* The model whose turn it is; NULL: nothing is queued. */
struct vac_model *vac_queue_next(const struct vac_engine *engine);
/* Whether what the model has in its queue is a batch that would take no more. */
bool vac_queue_full(const struct vac_engine *engine, const struct vac_model *model);
/* Moves sequences from the model's queue into the batch, and counts its turn. */
void vac_queue_fill(struct vac_engine *engine, struct vac_model *model, struct vac_batch *batch);

/* job.c */
/* Ends a job: takes it from the queue, sets its status, calls done. */
void vac_job_finish(struct vac_job *job, int rc, const struct vac_error *err);
/* The model goes: its jobs are cancelled and forget it. */
void vac_jobs_orphan(struct vac_model *model);

#endif
