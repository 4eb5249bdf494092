/*
 * kserve_data.c - the elements of an input tensor: JSON arrays, flat or nested
 * as the shape is, and the binary form (little-endian, texts with their length
 * in front). Any thread; no state.
 */
#include "api/kserve.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/quote.h"

/* --- JSON ------------------------------------------------------------------------- */

/* One element of a row, whose first event is type. */
static int read_element(struct vac_parse *parse, const struct vac_tensor *tensor,
			enum vac_json_type type, uint64_t index)
{
	if (!tensor->is_text)
		return vac_inputs_id(parse, type, index);
	if (type != VAC_JSON_STRING)
		return vac_body_fail(parse, VAC_E_INVALID, "data[%zu]: expected a string, found %s",
				     parse->call->input_count, vac_body_type_name(type));
	return vac_inputs_text(parse);
}

/* So many elements, the first of which begins with type. The array goes on. */
static int read_row(struct vac_parse *parse, const struct vac_tensor *tensor, uint64_t row,
		    enum vac_json_type type)
{
	uint64_t count = tensor->rank == 2 ? tensor->shape[1] : 1;
	int rc;

	for (uint64_t i = 0; i < count; i++) {
		if (i > 0)
			type = vac_json_next(&parse->json);
		if (type == VAC_JSON_ARRAY_END)
			return vac_body_fail(parse, VAC_E_INVALID,
					     "data: ends after %" PRIu64 " elements of row %" PRIu64
					     " where the shape says %" PRIu64 " rows of %" PRIu64,
					     i, row, tensor->shape[0], count);
		rc = read_element(parse, tensor, type, i);
		if (rc != 0)
			return rc;
	}
	return tensor->is_text ? 0 : vac_inputs_end_ids(parse, count);
}

/* [[1,2],[3,4]]; the first bracket inside was just read. */
static int read_nested(struct vac_parse *parse, const struct vac_tensor *tensor)
{
	struct vac_json *json = &parse->json;
	enum vac_json_type type = VAC_JSON_ARRAY_BEGIN;
	int rc;

	for (uint64_t row = 0; row < tensor->shape[0]; row++) {
		if (row > 0)
			type = vac_json_next(json);
		if (type == VAC_JSON_ARRAY_END)
			return vac_body_fail(parse, VAC_E_INVALID,
					     "data: has %" PRIu64
					     " rows where the shape says %" PRIu64,
					     row, tensor->shape[0]);
		if (type != VAC_JSON_ARRAY_BEGIN)
			return vac_body_fail(parse, VAC_E_INVALID,
					     "data[%" PRIu64 "]: expected an array as the rows "
					     "before, found %s",
					     row, vac_body_type_name(type));
		rc = read_row(parse, tensor, row, vac_json_next(json));
		if (rc != 0)
			return rc;
		if (vac_json_next(json) != VAC_JSON_ARRAY_END)
			return vac_body_fail(parse, VAC_E_INVALID,
					     "data[%" PRIu64 "]: has more than the %" PRIu64
					     " elements that the shape says",
					     row, tensor->shape[1]);
	}
	return 0;
}

static int read_flat(struct vac_parse *parse, const struct vac_tensor *tensor,
		     enum vac_json_type type)
{
	for (uint64_t row = 0; row < tensor->shape[0]; row++) {
		int rc = read_row(parse, tensor, row, row ? vac_json_next(&parse->json) : type);

		if (rc != 0)
			return rc;
	}
	return 0;
}

static int read_array(struct vac_parse *parse, const struct vac_tensor *tensor)
{
	enum vac_json_type type = vac_json_next(&parse->json);
	int rc;

	if (type != VAC_JSON_ARRAY_BEGIN)
		return vac_body_fail(parse, VAC_E_INVALID, "data: expected an array, found %s",
				     vac_body_type_name(type));
	type = vac_json_next(&parse->json);
	if (type == VAC_JSON_ARRAY_BEGIN && tensor->rank == 2)
		rc = read_nested(parse, tensor);
	else
		rc = read_flat(parse, tensor, type);
	if (rc == 0 && vac_json_next(&parse->json) != VAC_JSON_ARRAY_END)
		rc = vac_body_fail(parse, VAC_E_INVALID,
				   "data: has more elements than the shape says");
	return rc;
}

/* The type may stand behind the data: so that is stepped over while the body is
 * read, and read here when the rest is known. Its levels were counted then. */
int vac_kserve_json_data(struct vac_parse *parse, const struct vac_tensor *tensor)
{
	struct vac_json body = parse->json;
	int rc;

	vac_json_init(&parse->json, body.name, body.data, tensor->data_end, body.err);
	parse->json.at = tensor->data_at;
	parse->param = "data";
	rc = read_array(parse, tensor);
	vac_json_free(&parse->json);
	parse->json = body;
	return rc;
}

/* --- binary ----------------------------------------------------------------------- */

static uint64_t get_u32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static int64_t get_id(const uint8_t *at, enum vac_tensor_type type)
{
	uint64_t value;

	if (type == VAC_TENSOR_INT32)
		return (int32_t)get_u32(at);
	memcpy(&value, at, sizeof(value));
	return (int64_t)le64toh(value);
}

static int binary_texts(struct vac_parse *parse, const struct vac_tensor *tensor,
			const uint8_t *binary)
{
	const size_t limit = parse->request->limits.max_input_bytes;
	size_t at = 0, bytes = tensor->binary_bytes;

	for (uint64_t i = 0; i < tensor->shape[0]; i++) {
		uint64_t n = bytes - at < 4 ? 0 : get_u32(binary + at);
		int rc;

		if (bytes - at < 4 || n > bytes - at - 4)
			return vac_fail(parse->err, VAC_E_INVALID,
					"inputs[0]: text %" PRIu64
					" at byte %zu of the binary data "
					"reaches beyond its end at %zu",
					i, at, bytes);
		at += 4;
		if (n > limit)
			return vac_fail(parse->err, VAC_E_TOO_LARGE,
					"inputs[0]: text %" PRIu64 " has %" PRIu64
					" bytes where at most %zu are accepted",
					i, n, limit);
		if (!vac_utf8_valid((const char *)binary + at, n))
			return vac_fail(parse->err, VAC_E_INVALID,
					"inputs[0]: text %" PRIu64
					" at byte %zu of the binary data "
					"is not UTF-8",
					i, at);
		rc = vac_inputs_put_text(parse, (const char *)binary + at, n);
		if (rc != 0)
			return rc;
		at += n;
	}
	if (at == bytes)
		return 0;
	return vac_fail(parse->err, VAC_E_INVALID,
			"inputs[0]: the binary data goes on at byte %zu after the %" PRIu64
			" texts that the shape says",
			at, tensor->shape[0]);
}

static int binary_ids(struct vac_parse *parse, const struct vac_tensor *tensor,
		      const uint8_t *binary)
{
	const size_t width = tensor->type == VAC_TENSOR_INT32 ? 4 : 8;
	const uint64_t count = tensor->shape[0] * tensor->shape[1];
	int rc = 0;

	/* Both factors are below the limits of a request: no overflow. */
	if (tensor->binary_bytes != count * width)
		return VAC_KSERVE_FAIL_AT(parse, tensor->binary_at, VAC_E_INVALID,
					  "parameters.binary_data_size: is %" PRIu64
					  " where the shape needs %" PRIu64,
					  tensor->binary_bytes, count * width);
	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		int64_t id = get_id(binary + i * width, tensor->type);

		if (id < 0 || id > INT32_MAX)
			return vac_fail(parse->err, VAC_E_INVALID,
					"inputs[0]: %" PRId64 " at byte %" PRIu64
					" of the binary data is no token id, an integer from 0 to "
					"2147483647",
					id, i * width);
		rc = vac_inputs_put_id(parse, (int32_t)id);
		if (rc == 0 && (i + 1) % tensor->shape[1] == 0)
			rc = vac_inputs_end_ids(parse, tensor->shape[1]);
	}
	return rc;
}

int vac_kserve_binary_data(struct vac_parse *parse, const struct vac_tensor *tensor,
			   const uint8_t *binary)
{
	return tensor->is_text ? binary_texts(parse, tensor, binary)
			       : binary_ids(parse, tensor, binary);
}
