/*
 * wire.h - the public protocol between server and worker, version 1.
 * docs/wire.md is the normative text; this header is its C form.
 *
 * A connected stream socket carries frames both ways. A frame is a 16-byte
 * header and a payload whose length is a multiple of 8 (zero bytes close it), so
 * that every frame of a stream starts aligned; integers are little-endian, strings are a u32 length
 * and UTF-8 bytes. Decoders point into the frame that they are given and
 * allocate at most one array of inputs. No state is kept here; any thread.
 */
#ifndef VAC_WIRE_WIRE_H
#define VAC_WIRE_WIRE_H

#include <string.h>

#include "base/buf.h"
#include "base/handed.h"
#include "base/survey.h"
#include "base/task.h"
#include "memory/plan.h"

#define VAC_WIRE_VERSION      1u
#define VAC_WIRE_HEADER_BYTES 16u
#define VAC_WIRE_ALIGN        8u /* payload lengths are multiples of it */
/* Longest payload either side accepts. */
#define VAC_WIRE_MAX_PAYLOAD_BYTES ((uint32_t)64 << 20)
#define VAC_WIRE_MAX_INPUTS        65536u
#define VAC_WIRE_MAX_NAME_BYTES    4096u
/* Of one model: entries of a list, and descriptors (what Linux passes at once). */
#define VAC_WIRE_MAX_FILES 4096u
#define VAC_WIRE_MAX_FDS   253

enum vac_wire_type {
	/* worker -> server, once, first */
	VAC_WIRE_HELLO = 1,
	/* server -> worker                   worker -> server, same id */
	VAC_WIRE_PLAN = 2,     /* VAC_WIRE_PLANNED or _ERROR */
	VAC_WIRE_LOAD = 3,     /* _PROGRESS ..., then _LOADED or _ERROR */
	VAC_WIRE_TASK = 4,     /* _RESULT or _ERROR */
	VAC_WIRE_CANCEL = 5,   /* (id of a task or load) no answer of its own */
	VAC_WIRE_UNLOAD = 6,   /* _UNLOADED or _ERROR */
	VAC_WIRE_MEASURE = 7,  /* _MEASURED */
	VAC_WIRE_PING = 8,     /* _PONG */
	VAC_WIRE_SHUTDOWN = 9, /* worker ends its work and exits; no answer */
	VAC_WIRE_GPUS = 10,    /* to vacate-gpud: _GPUS_READ or _ERROR */
	VAC_WIRE_HOLD = 11,    /* to vacate-gpud: _HOLD_PHASE ..., then _HELD or _ERROR */
	VAC_WIRE_WHO = 12,     /* to vacate-gpud: _WHO_READ or _ERROR */

	VAC_WIRE_PLANNED = 0x82,
	VAC_WIRE_LOADED = 0x83,
	VAC_WIRE_RESULT = 0x84,
	VAC_WIRE_UNLOADED = 0x86,
	VAC_WIRE_MEASURED = 0x87,
	VAC_WIRE_PONG = 0x88,
	VAC_WIRE_GPUS_READ = 0x8a,
	VAC_WIRE_HELD = 0x8b,
	VAC_WIRE_WHO_READ = 0x8c,
	VAC_WIRE_PROGRESS = 0x90,
	VAC_WIRE_WORKING = 0x91, /* what it is at; id: of a PLAN, LOAD or TASK */
	VAC_WIRE_HOLD_PHASE = 0x92,
	VAC_WIRE_ERROR = 0xff,
};

struct vac_wire_header {
	uint32_t payload_bytes;
	uint16_t type;  /* enum vac_wire_type */
	uint16_t flags; /* 0; a set bit that is not known is an error */
	uint64_t id;    /* chosen by the server, echoed in every answer */
};

struct vac_wire_string { /* points into the frame; not NUL-terminated */
	const char *text;
	uint32_t bytes;
};

/* A C string, or nothing for NULL. */
static inline struct vac_wire_string vac_wire_text(const char *text)
{
	return (struct vac_wire_string){text ? text : "", text ? (uint32_t)strlen(text) : 0};
}

struct vac_wire_hello {
	uint32_t version;
	uint32_t pid;
	struct vac_wire_string program;     /* "vacate-worker 0.1.0" */
	struct vac_wire_string device;      /* "cpu" */
	struct vac_wire_string description; /* a line for people */
	/* What confines it: "seccomp, landlock 7", "none (WHY)"; empty: it does not say. */
	struct vac_wire_string sandbox;
};

/* PLAN and LOAD */
struct vac_wire_load {
	uint32_t model;             /* id that tasks will name; LOAD only, else 0 */
	struct vac_wire_string dir; /* absolute path of the model's directory */
	uint32_t max_batch_tokens;  /* 0: as the worker chooses */
	/* What to compute in, "float32"; empty: as the worker chooses. */
	struct vac_wire_string dtype;
	/* The model's files were opened for the worker, which shall open none itself;
	 * files.h. Entries as vac_wire_list_file() writes them. */
	bool handed;
	uint32_t file_count;
	struct vac_wire_string files;
};

struct vac_wire_file {
	enum vac_handed_state state;
	struct vac_wire_string name; /* relative to the directory */
};

#define VAC_WIRE_STAGES 6 /* of a load: open, tokenizer, map, read, pack, warm */
struct vac_wire_model {   /* PLANNED and LOADED: what it is and takes */
	struct vac_plan plan;
	struct vac_wire_string architecture, dtype, pooling;
	bool normalize;
	uint64_t parameters;
	uint32_t hidden_size, layers, heads, vocab_size;
	uint32_t embedding_dimensions, max_tokens, tasks;
	uint64_t ledger_bytes;             /* LOADED: what the ledger holds for it; PLANNED: 0 */
	int64_t stage_ns[VAC_WIRE_STAGES]; /* LOADED: open, tokenizer, map, read, pack, warm */
};

struct vac_wire_progress {
	uint64_t done_bytes, total_bytes;
};

/* How an input of a task is written. */
enum vac_wire_input {
	VAC_WIRE_INPUT_TEXT = 0, /* u32 bytes, UTF-8 */
	VAC_WIRE_INPUT_IDS = 1,  /* u32 count, zero bytes up to a multiple of 4 from the
	                          * frame's start, count x i32 */
};

struct vac_wire_task {
	uint32_t model;
	struct vac_task_options options;
	/* Encoder only: put before every text. Token ids are left alone. */
	struct vac_wire_string prompt;
	uint32_t input_count;
	struct vac_input *inputs; /* malloc'ed by the decoder: vac_wire_task_free */
};

struct vac_wire_result {
	uint32_t rows, dimensions;
	uint64_t tokens;
	int64_t tokenize_ns, queue_ns, compute_ns;
	const uint8_t *vectors; /* rows x dimensions little-endian float32, 4-byte
	                                 * aligned relative to the payload's start */
};

struct vac_wire_unloaded {
	uint64_t freed_bytes;        /* what the ledger says went */
	uint64_t freed_device_bytes; /* of that, on the device */
	uint32_t models_left;
};

#define VAC_WIRE_MAX_REGIONS 1024u
struct vac_wire_region {
	uint32_t owner;
	enum vac_region_kind kind;
	bool on_device;
	uint64_t bytes;
};
struct vac_wire_measured {
	uint64_t host_bytes, device_bytes; /* of the ledger */
	uint32_t region_count;
	struct vac_wire_region regions[VAC_WIRE_MAX_REGIONS]; /* the first so many */
};

/* What NVML says of the GPUs that the driver shows. */
#define VAC_WIRE_MAX_GPUS          VAC_SURVEY_MOST_DEVICES
#define VAC_WIRE_MAX_GPU_PROCESSES 64u
struct vac_wire_gpu_process {
	uint32_t pid;
	bool bytes_valid;
	uint64_t bytes;
};
struct vac_wire_gpu {
	struct vac_wire_string device; /* "cuda:0" */
	struct vac_wire_string name, uuid;
	uint64_t total_bytes, used_bytes;
	uint32_t process_count; /* with a context there; the first so many: */
	struct vac_wire_gpu_process processes[VAC_WIRE_MAX_GPU_PROCESSES];
};
struct vac_wire_gpus {
	uint32_t count;
	struct vac_wire_gpu gpus[VAC_WIRE_MAX_GPUS];
};

/* Encoders append one whole frame; failure shows in vac_buf_ok(). */
void vac_wire_put_hello(struct vac_buf *buf, const struct vac_wire_hello *hello);
void vac_wire_put_load(struct vac_buf *buf, enum vac_wire_type type, uint64_t id,
		       const struct vac_wire_load *load); /* PLAN or LOAD */
/* Appends an entry to what will be vac_wire_load.files. */
void vac_wire_list_file(struct vac_buf *list, const char *name, enum vac_handed_state state);
void vac_wire_put_model(struct vac_buf *buf, enum vac_wire_type type, uint64_t id,
			const struct vac_wire_model *model); /* PLANNED or LOADED */
void vac_wire_put_progress(struct vac_buf *buf, uint64_t id, const struct vac_wire_progress *p);
void vac_wire_put_task(struct vac_buf *buf, uint64_t id, const struct vac_wire_task *task);
void vac_wire_put_result(struct vac_buf *buf, uint64_t id, const struct vac_wire_result *result);
void vac_wire_put_unload(struct vac_buf *buf, uint64_t id, uint32_t model);
void vac_wire_put_unloaded(struct vac_buf *buf, uint64_t id, const struct vac_wire_unloaded *u);
void vac_wire_put_measured(struct vac_buf *buf, uint64_t id, const struct vac_ledger *ledger);
void vac_wire_put_gpus(struct vac_buf *buf, uint64_t id, const struct vac_wire_gpus *gpus);
void vac_wire_put_working(struct vac_buf *buf, uint64_t id, uint32_t model);
void vac_wire_put_error(struct vac_buf *buf, uint64_t id, const struct vac_error *error);
/* CANCEL, MEASURE, PING, PONG, SHUTDOWN, GPUS, WHO: no payload. */
void vac_wire_put_empty(struct vac_buf *buf, enum vac_wire_type type, uint64_t id);

/* 1: a whole frame lies at data, header is filled and the payload follows it;
 * 0: not yet; negative: the stream is broken (too long, unknown flags), err set. */
int vac_wire_peek(const void *data, size_t bytes, struct vac_wire_header *header,
		  struct vac_error *err) VAC_MUST_CHECK;

/* Decoders take a payload. Anything short, long or out of range is
 * VAC_E_INVALID naming the field. */
int vac_wire_get_hello(const void *payload, size_t bytes, struct vac_wire_hello *out,
		       struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_load(const void *payload, size_t bytes, struct vac_wire_load *out,
		      struct vac_error *err) VAC_MUST_CHECK;
/* Takes the first entry off files, which vac_wire_get_load() has checked. False:
 * there is none left. */
bool vac_wire_next_file(struct vac_wire_string *files, struct vac_wire_file *out);
int vac_wire_get_model(const void *payload, size_t bytes, struct vac_wire_model *out,
		       struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_progress(const void *payload, size_t bytes, struct vac_wire_progress *out,
			  struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_task(const void *payload, size_t bytes, struct vac_wire_task *out,
		      struct vac_error *err) VAC_MUST_CHECK;
void vac_wire_task_free(struct vac_wire_task *task);
int vac_wire_get_result(const void *payload, size_t bytes, struct vac_wire_result *out,
			struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_unload(const void *payload, size_t bytes, uint32_t *model,
			struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_unloaded(const void *payload, size_t bytes, struct vac_wire_unloaded *out,
			  struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_measured(const void *payload, size_t bytes, struct vac_wire_measured *out,
			  struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_gpus(const void *payload, size_t bytes, struct vac_wire_gpus *out,
		      struct vac_error *err) VAC_MUST_CHECK;
int vac_wire_get_working(const void *payload, size_t bytes, uint32_t *model,
			 struct vac_error *err) VAC_MUST_CHECK;
/* Turns an ERROR payload back into a struct vac_error. */
int vac_wire_get_error(const void *payload, size_t bytes, struct vac_error *out,
		       struct vac_error *err) VAC_MUST_CHECK;

#endif
