/*
 * kserve_infer.c - POST /v2/models/{model}/infer: one tensor in, texts or token
 * ids, and what comes out of it asked for by name; in JSON or, with Triton's
 * binary tensor data extension, behind it. Any thread; no state.
 */
#include "api/kserve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What a request says beside the call. */
struct infer {
	struct vac_tensor tensor;
	bool binary_all;    /* parameters.binary_data_output */
	bool output_named;  /* outputs lists it, */
	bool output_chosen; /* and says how it is wanted: */
	bool output_binary;
};

static struct infer *infer_of(const struct vac_parse *parse)
{
	return parse->own;
}

/* --- parameters ------------------------------------------------------------------- */

static int refuse_memory(struct vac_parse *parse)
{
	vac_json_next(&parse->json);
	return vac_body_fail(parse, VAC_E_UNSUPPORTED,
			     "%s: shared memory is not served; send the data itself", parse->param);
}

static int refuse_classes(struct vac_parse *parse)
{
	vac_json_next(&parse->json);
	return vac_body_fail(parse, VAC_E_UNSUPPORTED,
			     "classification: an embedding has no classes to count");
}

static int read_binary_output(struct vac_parse *parse)
{
	return vac_read_bool(parse, &infer_of(parse)->binary_all);
}

/* As Triton's clients send it; X-Request-Timeout goes before it. */
static int read_timeout(struct vac_parse *parse)
{
	enum vac_json_type type = vac_json_next(&parse->json);
	int64_t us;

	if (!vac_body_integer(parse, type, 0, INT64_MAX, &us))
		return vac_body_fail(parse, VAC_E_INVALID,
				     "timeout: expected a number of microseconds, 0 for none");
	if (parse->call->timeout_set || us == 0)
		return 0;
	parse->call->timeout_set = true;
	parse->call->timeout_ms = us / 1000 < VAC_FOREVER_MS ? us / 1000 + (us % 1000 != 0) : -1;
	return 0;
}

static int read_binary_size(struct vac_parse *parse)
{
	struct vac_tensor *tensor = &infer_of(parse)->tensor;
	enum vac_json_type type = vac_json_next(&parse->json);
	int64_t bytes;

	if (!vac_body_integer(parse, type, 0, INT64_MAX, &bytes))
		return vac_body_fail(parse, VAC_E_INVALID,
				     "binary_data_size: expected a number of bytes");
	tensor->has_binary = true;
	tensor->binary_bytes = (uint64_t)bytes;
	tensor->binary_at = parse->json.value_at;
	return 0;
}

static int read_binary_data(struct vac_parse *parse)
{
	struct infer *infer = infer_of(parse);

	infer->output_chosen = true;
	return vac_read_bool(parse, &infer->output_binary);
}

static const struct vac_member request_parameters[] = {
	{"keep_alive", vac_read_keep_alive, false},
	{"normalize", vac_read_normalize, false},
	{"truncate", vac_read_truncate, false},
	{"dimensions", vac_read_dimensions, false},
	{"timeout", read_timeout, false},
	{"binary_data_output", read_binary_output, false},
};
static const struct vac_member input_parameters[] = {
	{"binary_data_size", read_binary_size, false},
	{"shared_memory_region", refuse_memory, false},
};
static const struct vac_member output_parameters[] = {
	{"binary_data", read_binary_data, false},
	{"classification", refuse_classes, false},
	{"shared_memory_region", refuse_memory, false},
};

int vac_kserve_parameters(struct vac_parse *parse, const char *place,
			  const struct vac_member *members, size_t count)
{
	enum vac_json_type type = vac_json_next(&parse->json);
	int rc;

	if (type != VAC_JSON_OBJECT_BEGIN)
		return vac_body_fail(parse, VAC_E_INVALID,
				     "parameters: expected an object, found %s",
				     vac_body_type_name(type));
	parse->scalars_only = true;
	rc = vac_body_members(parse, place, members, count);
	parse->scalars_only = false;
	return rc;
}

static int read_request_parameters(struct vac_parse *parse)
{
	return vac_kserve_parameters(parse, "parameters.", VAC_MEMBERS(request_parameters));
}

static int read_input_parameters(struct vac_parse *parse)
{
	return vac_kserve_parameters(parse, "inputs[0].parameters.", VAC_MEMBERS(input_parameters));
}

static int read_output_parameters(struct vac_parse *parse)
{
	return vac_kserve_parameters(parse, "outputs[0].parameters.",
				     VAC_MEMBERS(output_parameters));
}

/* --- the input -------------------------------------------------------------------- */

static int read_name(struct vac_parse *parse)
{
	struct vac_tensor *tensor = &infer_of(parse)->tensor;
	enum vac_json_type type = vac_json_next(&parse->json);

	tensor->name_at = parse->json.value_at;
	tensor->is_text = type == VAC_JSON_STRING && vac_json_is(&parse->json, VAC_KSERVE_TEXT);
	if (!tensor->is_text &&
	    (type != VAC_JSON_STRING || !vac_json_is(&parse->json, VAC_KSERVE_IDS)))
		return vac_body_fail(parse, VAC_E_INVALID,
				     "name: expected \"" VAC_KSERVE_TEXT "\" or \"" VAC_KSERVE_IDS
				     "\", the inputs that there are");
	return 0;
}

static int read_datatype(struct vac_parse *parse)
{
	static const char *const names[] = {
		[VAC_TENSOR_BYTES] = "BYTES",
		[VAC_TENSOR_INT32] = "INT32",
		[VAC_TENSOR_INT64] = "INT64",
	};
	const size_t count = sizeof(names) / sizeof(names[0]);
	struct vac_tensor *tensor = &infer_of(parse)->tensor;
	enum vac_json_type type = vac_json_next(&parse->json);
	size_t i = 0;

	tensor->type_at = parse->json.value_at;
	while (type == VAC_JSON_STRING && i < count && !vac_json_is(&parse->json, names[i]))
		i++;
	if (type != VAC_JSON_STRING || i == count)
		return vac_body_fail(
			parse, VAC_E_INVALID,
			"datatype: expected \"BYTES\" for texts, \"INT64\" or \"INT32\" "
			"for token ids");
	tensor->type = (enum vac_tensor_type)i;
	return 0;
}

static int read_shape(struct vac_parse *parse)
{
	struct vac_tensor *tensor = &infer_of(parse)->tensor;
	struct vac_json *json = &parse->json;
	enum vac_json_type type = vac_json_next(json);
	int64_t rows;

	tensor->shape_at = json->value_at;
	if (type != VAC_JSON_ARRAY_BEGIN)
		return vac_body_fail(parse, VAC_E_INVALID, "shape: expected an array, found %s",
				     vac_body_type_name(type));
	while ((type = vac_json_next(json)) != VAC_JSON_ARRAY_END) {
		if (tensor->rank == 2)
			return vac_body_fail(parse, VAC_E_INVALID,
					     "shape: has more than 2 dimensions");
		if (!vac_body_integer(parse, type, 0, INT64_MAX, &rows))
			return vac_body_fail(parse, VAC_E_INVALID,
					     "shape[%d]: expected an integer of at least 0",
					     tensor->rank);
		tensor->shape[tensor->rank++] = (uint64_t)rows;
	}
	if (tensor->rank == 0)
		return vac_body_fail(parse, VAC_E_INVALID,
				     "shape: is empty; a tensor of n rows is [n]");
	return 0;
}

static int skip_data(struct vac_parse *parse)
{
	struct vac_tensor *tensor = &infer_of(parse)->tensor;

	tensor->has_data = true;
	tensor->data_at = parse->json.at;
	if (vac_json_skip(&parse->json) != 0)
		return vac_body_fail(parse, VAC_E_INVALID, "data: is not a value");
	tensor->data_end = parse->json.at;
	return 0;
}

static const struct vac_member input_members[] = {
	{"name", read_name, true},         {"shape", read_shape, true},
	{"datatype", read_datatype, true}, {"parameters", read_input_parameters, false},
	{"data", skip_data, false},
};

/* The members of an array's objects; there may be one. */
static int read_only_object(struct vac_parse *parse, const char *what,
			    const struct vac_member *members, size_t count, bool *found)
{
	const char *name = parse->param, *place = *name == 'i' ? "inputs[0]." : "outputs[0].";
	enum vac_json_type type = vac_json_next(&parse->json);
	int rc;

	if (type != VAC_JSON_ARRAY_BEGIN)
		return vac_body_fail(parse, VAC_E_INVALID, "%s: expected an array, found %s", name,
				     vac_body_type_name(type));
	while ((type = vac_json_next(&parse->json)) != VAC_JSON_ARRAY_END) {
		if (*found)
			return vac_body_fail(parse, VAC_E_INVALID, "%s[1]: there is one %s", name,
					     what);
		if (type != VAC_JSON_OBJECT_BEGIN)
			return vac_body_fail(parse, VAC_E_INVALID,
					     "%s[0]: expected an object, found %s", name,
					     vac_body_type_name(type));
		rc = vac_body_members(parse, place, members, count);
		if (rc != 0)
			return rc;
		*found = true;
	}
	return 0;
}

static int read_inputs(struct vac_parse *parse)
{
	bool found = false;
	int rc = read_only_object(parse,
				  "input, \"" VAC_KSERVE_TEXT "\" or else \"" VAC_KSERVE_IDS
				  "\"; its rows are the batch",
				  VAC_MEMBERS(input_members), &found);

	if (rc == 0 && !found)
		rc = vac_body_fail(parse, VAC_E_INVALID,
				   "inputs: is empty; send \"" VAC_KSERVE_TEXT
				   "\" or \"" VAC_KSERVE_IDS "\"");
	return rc;
}

/* Names and types, and that the rows are no more than a request may hold. The
 * data is held against the shape when it is read. */
static int check_tensor(struct vac_parse *parse, const struct vac_tensor *tensor)
{
	const struct vac_api_limits *limits = &parse->request->limits;

	if (tensor->is_text != (tensor->type == VAC_TENSOR_BYTES))
		return VAC_KSERVE_FAIL_AT(parse, tensor->type_at, VAC_E_INVALID,
					  "datatype: is not that of \"%s\", which takes %s",
					  tensor->is_text ? VAC_KSERVE_TEXT : VAC_KSERVE_IDS,
					  tensor->is_text ? "BYTES" : "INT64 or INT32");
	if (tensor->is_text && tensor->rank == 2 && tensor->shape[1] != 1)
		return VAC_KSERVE_FAIL_AT(parse, tensor->shape_at, VAC_E_INVALID,
					  "shape: expected [n] or [n,1] for n texts");
	if (!tensor->is_text && tensor->rank != 2)
		return VAC_KSERVE_FAIL_AT(parse, tensor->shape_at, VAC_E_INVALID,
					  "shape: expected [n,length] for n rows of token ids");
	if (tensor->shape[0] == 0 || (tensor->rank == 2 && tensor->shape[1] == 0))
		return VAC_KSERVE_FAIL_AT(parse, tensor->shape_at, VAC_E_INVALID,
					  "shape: holds a 0; there is nothing to embed");
	if (tensor->shape[0] > limits->max_inputs)
		return VAC_KSERVE_FAIL_AT(parse, tensor->shape_at, VAC_E_TOO_LARGE,
					  "shape: has %" PRIu64
					  " rows where at most %zu are accepted; send fewer in one "
					  "request",
					  tensor->shape[0], limits->max_inputs);
	if (!tensor->is_text && tensor->shape[1] > limits->max_input_bytes)
		return VAC_KSERVE_FAIL_AT(parse, tensor->shape_at, VAC_E_TOO_LARGE,
					  "shape: has %" PRIu64
					  " token ids a row where at most %zu are accepted",
					  tensor->shape[1], limits->max_input_bytes);
	return 0;
}

/* --- outputs and id --------------------------------------------------------------- */

static int read_output_name(struct vac_parse *parse)
{
	enum vac_json_type type = vac_json_next(&parse->json);

	if (type != VAC_JSON_STRING || !vac_json_is(&parse->json, VAC_KSERVE_OUTPUT))
		return vac_body_fail(parse, VAC_E_INVALID,
				     "name: expected \"" VAC_KSERVE_OUTPUT
				     "\", the output that there is");
	return 0;
}

static const struct vac_member output_members[] = {
	{"name", read_output_name, true},
	{"parameters", read_output_parameters, false},
};

static int read_outputs(struct vac_parse *parse)
{
	return read_only_object(parse, "output, \"" VAC_KSERVE_OUTPUT "\"",
				VAC_MEMBERS(output_members), &infer_of(parse)->output_named);
}

static int read_id(struct vac_parse *parse)
{
	struct vac_call *call = parse->call;
	enum vac_json_type type = vac_json_next(&parse->json);
	size_t bytes = parse->json.text_bytes;

	if (type != VAC_JSON_STRING)
		return vac_body_fail(parse, VAC_E_INVALID, "id: expected a string, found %s",
				     vac_body_type_name(type));
	call->id = malloc(bytes + 1);
	if (!call->id)
		return vac_fail_nomem(parse->err, "a request's id", bytes + 1);
	memcpy(call->id, parse->json.text, bytes);
	call->id_bytes = bytes;
	return 0;
}

/* --- the whole -------------------------------------------------------------------- */

static const struct vac_member infer_members[] = {
	{"inputs", read_inputs, true},
	{"outputs", read_outputs, false},
	{"parameters", read_request_parameters, false},
	{"id", read_id, false},
};

/* How many bytes of the body are JSON; all where the header is missing. */
static int header_bytes(struct vac_parse *parse, bool *given, size_t *bytes)
{
	static const char name[] = "Inference-Header-Content-Length";
	const struct vac_http_request *request = parse->request;
	const char *text = request->header ? request->header(request->ctx, name) : NULL;
	size_t value = 0;

	*given = text != NULL;
	*bytes = request->body_bytes;
	if (!text)
		return 0;
	if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
		return vac_fail(parse->err, VAC_E_INVALID,
				"%s: expected a number of bytes, not '%.32s'", name, text);
	for (; *text && value <= request->body_bytes; text++)
		value = value * 10 + (size_t)(*text - '0');
	if (value > request->body_bytes)
		return vac_fail(parse->err, VAC_E_INVALID,
				"%s: is more than the %zu bytes of the body", name,
				request->body_bytes);
	*bytes = value;
	return 0;
}

static int read_tensor(struct vac_parse *parse, const struct vac_tensor *tensor, bool header,
		       const uint8_t *binary, size_t binary_bytes)
{
	if (tensor->has_binary && tensor->has_data)
		return VAC_KSERVE_FAIL_AT(parse, tensor->binary_at, VAC_E_INVALID,
					  "parameters.binary_data_size: is there beside data");
	if (!tensor->has_binary && !tensor->has_data)
		return VAC_KSERVE_FAIL_AT(parse, tensor->name_at, VAC_E_INVALID,
					  "data: is missing");
	if (tensor->has_binary && !header)
		return VAC_KSERVE_FAIL_AT(parse, tensor->binary_at, VAC_E_INVALID,
					  "parameters.binary_data_size: needs the header "
					  "Inference-Header-Content-Length");
	if (tensor->has_binary && tensor->binary_bytes != binary_bytes)
		return VAC_KSERVE_FAIL_AT(parse, tensor->binary_at, VAC_E_INVALID,
					  "parameters.binary_data_size: is %" PRIu64
					  " where %zu bytes follow the JSON",
					  tensor->binary_bytes, binary_bytes);
	if (!tensor->has_binary && binary_bytes > 0)
		return VAC_KSERVE_FAIL_AT(parse, tensor->name_at, VAC_E_INVALID,
					  "parameters.binary_data_size: is missing, and %zu bytes "
					  "follow the JSON",
					  binary_bytes);
	if (tensor->has_binary)
		return vac_kserve_binary_data(parse, tensor, binary);
	return vac_kserve_json_data(parse, tensor);
}

int vac_kserve_parse_infer(struct vac_parse *parse)
{
	const struct vac_http_request *whole = parse->request;
	struct vac_http_request json = *whole;
	struct infer infer = {0};
	bool header;
	int rc = header_bytes(parse, &header, &json.body_bytes);

	if (rc != 0)
		return rc;
	parse->own = &infer;
	parse->request = &json;
	parse->call->options.task = VAC_TASK_EMBED;
	rc = vac_body_read(parse, VAC_MEMBERS(infer_members));
	parse->place = "inputs[0].";
	if (rc == 0)
		rc = check_tensor(parse, &infer.tensor);
	if (rc == 0)
		rc = read_tensor(parse, &infer.tensor, header,
				 (const uint8_t *)whole->body + json.body_bytes,
				 whole->body_bytes - json.body_bytes);
	parse->place = "";
	parse->own = NULL;
	parse->request = whole;
	parse->call->binary = infer.output_chosen ? infer.output_binary : infer.binary_all;
	return rc;
}
