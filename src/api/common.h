/*
 * common.h - what the API families share: how a route is described, how a
 * request body is read, and how an error becomes a reply. Only files of api/
 * include it. Any thread; no state outside the structs.
 */
#ifndef VAC_API_COMMON_H
#define VAC_API_COMMON_H

#include "api/write.h"
#include "base/json.h"

/* Longest model name that a request may give. */
#define VAC_MODEL_NAME_LIMIT_BYTES 1024u
/* A hundred years: more is for ever, and sums of nanoseconds stay far from overflow. */
#define VAC_FOREVER_MS INT64_C(3155760000000)

/* An error on its way to a family's shape. */
struct vac_api_failure {
	const struct vac_error *error;
	int status;
	const char *param; /* member of the body at fault; NULL: none in particular */
	enum {
		VAC_STAGE_ROUTE,   /* no such path or method, or before anything was read */
		VAC_STAGE_REQUEST, /* the body or the query is wrong */
		VAC_STAGE_OUTCOME, /* the server could not do it */
	} stage;
	bool empty; /* REQUEST: there is no input in it */
};
/* The name of the error for families that give it one: vac_error_name() of its
 * code, but for 401 and 403, which are about the client and no failure of ours. */
const char *vac_failure_name(const struct vac_api_failure *failure);

/* A request while it is read. */
struct vac_parse {
	const struct vac_http_request *request;
	struct vac_call *call;
	struct vac_error *err;
	struct vac_json json;
	const char *place; /* put before names in messages: "inputs[0]."; "" at the top */
	const char *param; /* member being read; static */
	void *own;         /* what only one family's parser needs */
	bool scalars_only; /* a member that is not in the table is no object or array */
	bool empty;
	uint64_t seen; /* bit i: member i of the table was there */
	/* what a family collects until all members are read */
	bool truncate_left, all, has_inputs, has_prompt;
};

/* A member of a body. read() takes the value (one vac_json_next or more); one
 * that is not in the family's table is ignored, as those servers do. null is
 * the same as absent and never reaches read(). */
struct vac_member {
	const char *name;
	int (*read)(struct vac_parse *parse);
	bool required;
};

/* A reply while it is written. */
struct vac_render {
	const struct vac_call *call;
	const struct vac_outcome *outcome;
	struct vac_buf *body;    /* of the reply */
	struct vac_reply *reply; /* status 200 and the route's content type stand in it */
	struct vac_error *err;
};

/* A table of members and how many it has, as two arguments. */
#define VAC_MEMBERS(table) (table), sizeof(table) / sizeof((table)[0])

struct vac_api_route {
	const char *method; /* "GET" answers HEAD too, unless it changes something */
	const char *path;   /* one that ends in '/': a model's name follows where it says so */
	enum vac_call_kind kind;
	/* NULL: there is nothing to read. Called once with an empty call. */
	int (*parse)(struct vac_parse *parse);
	/* A success; errors take the family's error(). May itself fail: returns a
	 * negative errno with err set, and what it wrote is dropped. */
	int (*render)(struct vac_render *out);
	const char *content_type; /* NULL: application/json */
	bool rest_is_model;       /* what follows path is a model's name, */
	const char *suffix;       /* up to this end; NULL: none */
	bool changes;             /* a GET that is no mere question */
};

struct vac_api_family {
	/* Ends with a NULL path. Of several that match, the place of the first
	 * counts: longer suffixes stand before shorter ones. */
	const struct vac_api_route *routes;
	/* Start of the paths whose errors have this family's shape although no
	 * route is there; NULL: none. */
	const char *prefix;
	/* May lower or raise the status to what its clients know. */
	int (*status)(const struct vac_api_failure *failure);
	void (*error)(const struct vac_api_failure *failure, struct vac_buf *body);
};

extern const struct vac_api_family vac_openai_family, vac_tei_family, vac_kserve_family,
	vac_llamaswap_family, vac_ollama_family, vac_native_family;
/* All of them, in the order in which they are asked; ends with NULL. */
extern const struct vac_api_family *const vac_api_families[];

/* --- reading (body.c, inputs.c) ------------------------------------------------ */

/* Reads the body as one JSON object. A member of the table that is there twice
 * or missing though required is an error, as is anything that is not JSON;
 * messages name the member, line and column. */
int vac_body_read(struct vac_parse *parse, const struct vac_member *members,
		  size_t count) VAC_MUST_CHECK;
/* The same for an object inside the body whose brace was just read; place is
 * "inputs[0]." or the like. */
int vac_body_members(struct vac_parse *parse, const char *place, const struct vac_member *members,
		     size_t count) VAC_MUST_CHECK;
/* Fails at the value that was read last: "input[3]: expected ... (line 1, column 9)". */
int vac_body_fail(struct vac_parse *parse, enum vac_error_code code, const char *fmt, ...)
	VAC_PRINTF(3, 4);
/* "a string", "an array", ... of the last value, for messages. */
const char *vac_body_type_name(enum vac_json_type type);

/* The value that was read last is an integer between the two: *out. 3.0 is the
 * integer 3, as JSON Schema and languages without integers have it. */
bool vac_body_integer(const struct vac_parse *parse, enum vac_json_type type, int64_t least,
		      int64_t most, int64_t *out) VAC_MUST_CHECK;

int vac_read_model(struct vac_parse *parse);
int vac_read_keep_alive(struct vac_parse *parse);
int vac_read_drop_cache(struct vac_parse *parse);
int vac_read_dimensions(struct vac_parse *parse);
int vac_read_truncate(struct vac_parse *parse);  /* bool -> options.truncation RIGHT or NONE */
int vac_read_normalize(struct vac_parse *parse); /* bool -> options.normalize ON or OFF */
int vac_read_bool(struct vac_parse *parse, bool *out) VAC_MUST_CHECK;
/* str | [str] | [int] | [[int]] and only str | [str] */
int vac_read_inputs(struct vac_parse *parse);
int vac_read_texts(struct vac_parse *parse);
/* Model from the query (?model=), when the body named none. */
int vac_query_model(struct vac_parse *parse) VAC_MUST_CHECK;
/* Checks a name and keeps a copy in the call. */
int vac_set_model(struct vac_parse *parse, const char *name, size_t bytes) VAC_MUST_CHECK;
/* The string that was just read, or these bytes, become the next input; only
 * the first looks at the limit. */
int vac_inputs_text(struct vac_parse *parse) VAC_MUST_CHECK;
int vac_inputs_put_text(struct vac_parse *parse, const char *text, size_t bytes) VAC_MUST_CHECK;
/* What was just read (type), or this number, is a token id of the next input,
 * its index'th; only the first is checked. Then count of them are that input. */
int vac_inputs_id(struct vac_parse *parse, enum vac_json_type type, size_t index) VAC_MUST_CHECK;
int vac_inputs_put_id(struct vac_parse *parse, int32_t id) VAC_MUST_CHECK;
int vac_inputs_end_ids(struct vac_parse *parse, size_t count) VAC_MUST_CHECK;
/* Points inputs at their texts and ids; after all is read. */
void vac_inputs_seal(struct vac_call *call);
void vac_inputs_free(struct vac_call *call);

/* --- replies that several families give (common.c) ----------------------------- */

int vac_render_nothing(struct vac_render *out);                            /* no body */
int vac_render_version(struct vac_render *out);                            /* {"version":"0.1.0"} */
void vac_put_rows(struct vac_buf *buf, const struct vac_outcome *outcome); /* [[...],...] */
void vac_error_plain(const struct vac_api_failure *failure, struct vac_buf *body); /* {"error"} */
/* A family's status(): a text that is too long for the model is 400; 413 stays
 * for what a request as a whole holds too much of. */
int vac_status_long_text(const struct vac_api_failure *failure);

#endif
