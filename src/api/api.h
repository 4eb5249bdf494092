/*
 * api.h - from an HTTP request to what the server is to do, and from what it
 * did to HTTP bytes. One file an API family (openai.c, tei.c, kserve.c,
 * llamaswap.c, ollama.c, native.c); the table in api.c lists them. Nothing here
 * does I/O, keeps state, or sees a weight. Any thread.
 *
 * A request becomes a struct vac_call; the server carries it out and gives
 * the outcome back to the family that parsed it, which writes the reply.
 */
#ifndef VAC_API_API_H
#define VAC_API_API_H

#include "base/buf.h"
#include "base/task.h"
#include "memory/receipt.h"

struct vac_api_family;
struct vac_api_route;
struct vac_wire_held_target;

struct vac_api_limits {
	size_t max_inputs;      /* of one request; beyond: 413 naming both numbers */
	size_t max_input_bytes; /* of one text */
};

struct vac_http_request {
	const char *method; /* "GET", "POST", ... */
	const char *path;   /* decoded path, without the query */
	/* value of a query parameter or header (case-insensitive), NULL when absent */
	const char *(*query)(void *ctx, const char *name);
	const char *(*header)(void *ctx, const char *name);
	void *ctx;
	const char *body;
	size_t body_bytes;
	struct vac_api_limits limits;
};

enum vac_call_kind {
	VAC_CALL_TASK,   /* run task on model (loading it if absent) */
	VAC_CALL_LOAD,   /* load model, answer when resident */
	VAC_CALL_UNLOAD, /* drain and unload; outcome: receipts */
	VAC_CALL_UNLOAD_ALL,
	VAC_CALL_PARK,     /* model's worker off its GPU; outcome: held */
	VAC_CALL_RESUME,   /* and back */
	VAC_CALL_LIST,     /* models on disk, with plans where known */
	VAC_CALL_PLAN,     /* plan of one model */
	VAC_CALL_SHOW,     /* one model as LIST shows it; its plan only if it is known */
	VAC_CALL_PS,       /* models that are loading, resident or draining; workers */
	VAC_CALL_RUNNING,  /* the models of PS alone: no process is measured for it */
	VAC_CALL_RECEIPTS, /* newest first; limit, since */
	VAC_CALL_METRICS,  /* the server writes Prometheus text itself */
	VAC_CALL_EVENTS,   /* a stream that the server writes; model: only of that one */
	VAC_CALL_HEALTH,   /* alive, whatever else */
	VAC_CALL_READY,    /* fails while the server is shutting down */
	VAC_CALL_VERSION,  /* or anything else that is always the same */
};

/* What a request asks. Strings and inputs live in memory that the call owns. */
struct vac_call {
	enum vac_call_kind kind;
	const struct vac_api_family *family;
	const struct vac_api_route *route;
	char *model; /* NULL: not named (the server picks the only one) */
	bool keep_alive_set;
	int64_t keep_alive_ms; /* negative: for ever; 0: at once */
	struct vac_task_options options;
	struct vac_input *inputs;
	size_t input_count;
	bool timeout_set; /* X-Request-Timeout */
	int64_t timeout_ms;
	bool names_only;       /* LIST of what models are called: no plans are needed */
	bool no_autoload;      /* TASK on a model that is not loaded: refused, not loaded */
	bool drop_cache;       /* UNLOAD */
	bool risk;             /* PARK: also where the driver is untried */
	size_t limit;          /* RECEIPTS; 0: all kept */
	int64_t since_wall_ns; /* RECEIPTS: none that is older */
	/* for the family's own rendering */
	bool base64;
	bool binary;     /* vectors as they lie in memory, behind the JSON */
	bool ready_only; /* of a list */
	bool single;     /* one input that was not in an array */
	char *id;        /* the request's name for itself, owned; NULL: none */
	size_t id_bytes; /* it may hold NUL */
	/* private: owner of the inputs */
	void *storage;
};

/* What the server knows of a model, for LIST, PS, PLAN, LOAD. */
enum vac_model_state {
	VAC_MODEL_ABSENT,
	VAC_MODEL_WAITING, /* for room to load */
	VAC_MODEL_LOADING,
	VAC_MODEL_RESIDENT,
	VAC_MODEL_DRAINING,
	VAC_MODEL_FAILED,
	VAC_MODEL_PARKING, /* its worker is about to leave its GPU */
	VAC_MODEL_PARKED,
};
const char *vac_model_state_name(enum vac_model_state state); /* "absent", ... */

struct vac_model_view {
	const char *name;
	const char *path;
	const char *const *aliases; /* other names that requests may give it */
	size_t alias_count;
	int32_t priority;
	bool pinned, isolate; /* as its settings are now */
	enum vac_model_state state;
	const char *reason; /* FAILED: why; else NULL */
	const char *device; /* NULL while absent */
	pid_t worker_pid;   /* 0: none */
	bool planned;       /* plan and what follows are known */
	struct vac_plan plan;
	const char *architecture, *dtype, *pooling;
	bool normalize;
	uint64_t parameters;
	uint32_t hidden_size, layers, heads, vocab_size, embedding_dimensions, max_tokens;
	uint64_t load_done_bytes, load_total_bytes; /* LOADING */
	int64_t load_ns;                            /* RESIDENT: how long the load took */
	int64_t stage_ns[6]; /* RESIDENT: open, tokenizer, map, read, pack, warm */
	int64_t start_ns;    /* RESIDENT: of load_ns, the worker's start (0: it ran) */
	int64_t idle_ns;     /* RESIDENT: since the last answer */
	int64_t expires_ns;  /* RESIDENT: until the idle unload; negative: never */
	int64_t modified_s;  /* mtime of config.json, seconds since 1970 */
	uint64_t requests;   /* answered since the load */
	uint32_t queued;     /* waiting or running now */
};

struct vac_worker_view {
	const char *device, *description;
	const char *sandbox; /* what confines it, in its words; NULL: it does not say */
	pid_t pid;
	uint32_t models;
	struct vac_usage usage; /* valid when it was asked for */
	bool vram_valid;
	uint64_t vram_bytes; /* by NVML, its context included */
};

struct vac_gpu_view {
	const char *device, *name, *uuid;
	uint64_t total_bytes, used_bytes; /* by NVML, of all processes */
	uint64_t planned_bytes;           /* of our models */
	bool limit_valid;
	uint64_t limit_bytes; /* what may be planned */
	uint32_t processes;   /* that have a context there */
};

/* What came out. Pointers are the server's and live during the render call. */
struct vac_outcome {
	struct vac_error error; /* code VAC_OK: success */
	const char *model;      /* name as resolved */
	/* TASK */
	const float *vectors; /* rows x dimensions */
	uint32_t rows, dimensions;
	uint64_t tokens;
	int64_t total_ns, load_ns, tokenize_ns, queue_ns, compute_ns;
	/* LIST, PS, PLAN, LOAD */
	const struct vac_model_view *models;
	size_t model_count;
	const struct vac_worker_view *workers;
	size_t worker_count;
	const struct vac_gpu_view *gpus; /* PS */
	size_t gpu_count;
	const struct vac_usage *server_usage; /* PS */
	const struct vac_host_memory *host;   /* PS */
	/* UNLOAD, UNLOAD_ALL, RECEIPTS */
	const struct vac_receipt *receipts;
	size_t receipt_count;
	/* PARK, RESUME: what its worker went through, with the names of its models */
	const struct vac_wire_held_target *held;
	const char *held_driver; /* its version; "": not known */
	const char *const *held_models;
	size_t held_model_count;
	/* errors: seconds for Retry-After, 0: none */
	uint32_t retry_after_s;
	bool conflict; /* errors: 409, whatever the code: the model's state is not one for it */
};

struct vac_reply {
	int status;               /* HTTP */
	const char *content_type; /* static */
	struct vac_buf body;      /* owned by the reply */
	uint32_t retry_after_s;   /* 0: no header */
	bool timed; /* a TASK that was answered: the times are told in X-Vacate-*-Ns headers */
	int64_t tokenize_ns, queue_ns, compute_ns;
	const char *allow;        /* 405: value of the Allow header, static; else NULL */
	size_t header_bytes;      /* of the body are JSON, the rest is binary; told in
			      * Inference-Header-Content-Length. 0: no such header */
	const char *authenticate; /* 401: value of WWW-Authenticate, static; else NULL */
};

/* Finds the route and parses the body, which is not looked at afterwards.
 * call and reply are overwritten. 0: call is filled (free it with
 * vac_call_free). Negative: reply is filled with the family's error (404 for
 * an unknown path, 405 for a wrong method, 400/413/422 for the body, 503 out
 * of memory); free it with vac_reply_free. GET routes answer HEAD too. */
int vac_api_parse(const struct vac_http_request *request, struct vac_call *call,
		  struct vac_reply *reply) VAC_MUST_CHECK;
/* Writes the reply of a call's outcome, errors included. reply is overwritten;
 * free it with vac_reply_free. A reply that memory did not suffice for is a
 * 503, at worst without a body. METRICS: status and content type are set and
 * the server appends its text to the empty body. */
void vac_api_render(const struct vac_call *call, const struct vac_outcome *outcome,
		    struct vac_reply *reply);
/* An error before there is a call (body too large, draining, ...), in the
 * shape of the family that the path belongs to. */
void vac_api_error(const char *path, const struct vac_error *error, uint32_t retry_after_s,
		   struct vac_reply *reply);
/* 401, in the shape of the family that the path belongs to. wrong: there was a
 * key, but none of the server's. */
void vac_api_unauthorized(const char *path, bool wrong, struct vac_reply *reply);
/* 403 in that shape: who asks may not, and no key would help. */
void vac_api_forbidden(const char *path, const struct vac_error *why, struct vac_reply *reply);
/* The route computes something or changes something; false for paths that are none. */
bool vac_api_acts(const char *method, const char *path);
void vac_call_free(struct vac_call *call);
void vac_reply_free(struct vac_reply *reply);

/* HTTP status of an error code: invalid 400, not_found 404, unsupported 422,
 * too_large 413, no_room 503, busy 429, timeout 504, gone 503, ... */
int vac_api_status(enum vac_error_code code);

/* "10m", "1h30m", "45", "1.5s", "-1", "0" -> milliseconds; -1: for ever, as is
 * more than a hundred years. Units ns, us, ms, s, m, h, d; plain numbers are
 * seconds (Ollama's rule); more than nothing is at least 1 ms. -EINVAL else. */
int vac_parse_duration_ms(const char *text, int64_t *ms) VAC_MUST_CHECK;

/* "1h" (a duration, that long before now) or "2026-01-31T12:00:00Z" (RFC 3339,
 * from 1970 to 2261) -> nanoseconds since 1970. -EINVAL else. */
int vac_parse_since(const char *text, int64_t now_wall_ns, int64_t *wall_ns) VAC_MUST_CHECK;

/* One receipt as a JSON object on one line, as the journal keeps it. */
void vac_receipt_json(struct vac_buf *buf, const struct vac_receipt *receipt);

/* The correctly rounded decimal of fewest digits that reads back as the same
 * float32; integers keep a ".0", so that typed readers see a float. NaN and
 * infinities (which JSON lacks) become null. Writes at most 16 bytes, returns
 * how many. */
#define VAC_FLOAT_TEXT_BYTES 16
size_t vac_format_float(char *to, float value);

#endif
