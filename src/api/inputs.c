/*
 * inputs.c - the inputs of a request: str | [str] | [int] | [[int]].
 *
 * Texts go one after the other into one buffer and token ids into another;
 * both may move while they grow, so the inputs hold only lengths until
 * vac_inputs_seal() lays the pointers. Any thread; no state.
 */
#include "api/common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* struct vac_call.storage */
struct storage {
	struct vac_buf texts;  /* UTF-8, no separators */
	struct vac_buf ids;    /* int32_t */
	struct vac_buf inputs; /* struct vac_input */
};

/* Marks an input of token ids until the pointers are laid. */
static const int32_t ids_mark;

static struct storage *get_storage(struct vac_parse *parse)
{
	if (!parse->call->storage) {
		parse->call->storage = calloc(1, sizeof(struct storage));
		if (!parse->call->storage)
			vac_fail_nomem(parse->err, "a request's inputs", sizeof(struct storage));
	}
	return parse->call->storage;
}

/* "input" or "input[3]": the place of the index'th input for messages. */
struct place {
	char text[64];
};

static struct place place_of(const struct vac_parse *parse, size_t index)
{
	struct place place;

	if (parse->call->single)
		snprintf(place.text, sizeof(place.text), "%s", parse->param);
	else
		snprintf(place.text, sizeof(place.text), "%s[%zu]", parse->param, index);
	return place;
}

static int add_input(struct vac_parse *parse, struct storage *storage,
		     const struct vac_input *input)
{
	vac_buf_put(&storage->inputs, input, sizeof(*input));
	if (!vac_buf_ok(&storage->inputs))
		return vac_fail_nomem(parse->err, "a request's inputs", storage->inputs.bytes);
	parse->call->input_count++;
	return 0;
}

int vac_inputs_put_text(struct vac_parse *parse, const char *text, size_t bytes)
{
	struct storage *storage = get_storage(parse);
	struct vac_input input = {.text_bytes = bytes};

	if (!storage)
		return -ENOMEM;
	vac_buf_put(&storage->texts, text, bytes);
	if (!vac_buf_ok(&storage->texts))
		return vac_fail_nomem(parse->err, "a request's texts", bytes);
	return add_input(parse, storage, &input);
}

int vac_inputs_text(struct vac_parse *parse)
{
	const struct vac_json *json = &parse->json;
	size_t limit = parse->request->limits.max_input_bytes;

	if (json->text_bytes > limit)
		return vac_body_fail(
			parse, VAC_E_TOO_LARGE, "%s: has %zu bytes where at most %zu are accepted",
			place_of(parse, parse->call->input_count).text, json->text_bytes, limit);
	return vac_inputs_put_text(parse, json->text, json->text_bytes);
}

int vac_inputs_put_id(struct vac_parse *parse, int32_t id)
{
	struct storage *storage = get_storage(parse);

	if (!storage)
		return -ENOMEM;
	vac_buf_put(&storage->ids, &id, sizeof(id));
	return 0; /* the end of the array asks whether there was room */
}

int vac_inputs_id(struct vac_parse *parse, enum vac_json_type type, size_t index)
{
	/* A token has at least one byte of text: the same limit holds. */
	size_t limit = parse->request->limits.max_input_bytes;
	int64_t id;

	if (!vac_body_integer(parse, type, 0, INT32_MAX, &id))
		return vac_body_fail(
			parse, VAC_E_INVALID,
			"%s[%zu]: expected a token id, an integer from 0 to 2147483647",
			place_of(parse, parse->call->input_count).text, index);
	if (index >= limit)
		return vac_body_fail(parse, VAC_E_TOO_LARGE, "%s: has more than %zu token ids",
				     place_of(parse, parse->call->input_count).text, limit);
	return vac_inputs_put_id(parse, (int32_t)id);
}

int vac_inputs_end_ids(struct vac_parse *parse, size_t count)
{
	struct storage *storage = get_storage(parse);
	struct vac_input input = {.ids = &ids_mark, .id_count = count};

	if (!storage)
		return -ENOMEM;
	if (!vac_buf_ok(&storage->ids))
		return vac_fail_nomem(parse->err, "a request's token ids", storage->ids.bytes);
	return add_input(parse, storage, &input);
}

/* Token ids up to the end of their array; type is what follows the bracket. */
static int add_ids(struct vac_parse *parse, enum vac_json_type type)
{
	size_t count = 0;

	for (; type != VAC_JSON_ARRAY_END; type = vac_json_next(&parse->json)) {
		int rc = vac_inputs_id(parse, type, count++);

		if (rc != 0)
			return rc;
	}
	if (count == 0)
		return vac_body_fail(parse, VAC_E_INVALID, "%s: is an empty array of token ids",
				     place_of(parse, parse->call->input_count).text);
	return vac_inputs_end_ids(parse, count);
}

/* How many elements an array has from the one on whose first event is type;
 * level: depth inside that array. A body that breaks there ends the count. */
static size_t count_rest(struct vac_json *json, enum vac_json_type type, int level)
{
	size_t count = 0;

	for (;; type = vac_json_next(json)) {
		switch (type) {
		case VAC_JSON_ERROR:
			return count;
		case VAC_JSON_ARRAY_BEGIN:
		case VAC_JSON_OBJECT_BEGIN:
			count += json->depth == level + 1;
			break;
		case VAC_JSON_ARRAY_END:
		case VAC_JSON_OBJECT_END:
			if (json->depth < level)
				return count;
			break;
		default:
			count += json->depth == level;
		}
	}
}

/* One element of the array of inputs. */
static int add_element(struct vac_parse *parse, enum vac_json_type type, bool ids_allowed)
{
	if (type == VAC_JSON_STRING)
		return vac_inputs_text(parse);
	if (type == VAC_JSON_ARRAY_BEGIN && ids_allowed)
		return add_ids(parse, vac_json_next(&parse->json));
	return vac_body_fail(parse, VAC_E_INVALID, "%s: expected a string%s, found %s",
			     place_of(parse, parse->call->input_count).text,
			     ids_allowed ? " or an array of token ids" : "",
			     vac_body_type_name(type));
}

static int read_array(struct vac_parse *parse, bool ids_allowed)
{
	struct vac_json *json = &parse->json;
	size_t max = parse->request->limits.max_inputs;
	int level = json->depth, rc;
	enum vac_json_type type = vac_json_next(json);

	if (ids_allowed && (type == VAC_JSON_INTEGER || type == VAC_JSON_NUMBER)) {
		parse->call->single = true; /* [int] is one input */
		return add_ids(parse, type);
	}
	for (; type != VAC_JSON_ARRAY_END; type = vac_json_next(json)) {
		if (parse->call->input_count == max) {
			size_t count = max + count_rest(json, type, level);

			return vac_body_fail(parse, VAC_E_TOO_LARGE,
					     "%s: has %zu inputs where at most %zu are accepted; "
					     "send fewer in one request",
					     parse->param, count, max);
		}
		rc = add_element(parse, type, ids_allowed);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int read_inputs(struct vac_parse *parse, bool ids_allowed)
{
	enum vac_json_type type;

	parse->has_inputs = true;
	type = vac_json_next(&parse->json);
	if (type == VAC_JSON_ARRAY_BEGIN)
		return read_array(parse, ids_allowed);
	if (type != VAC_JSON_STRING)
		return vac_body_fail(parse, VAC_E_INVALID,
				     "%s: expected a string or an array of strings%s, found %s",
				     parse->param, ids_allowed ? " or of token ids" : "",
				     vac_body_type_name(type));
	parse->call->single = true;
	return vac_inputs_text(parse);
}

int vac_read_inputs(struct vac_parse *parse)
{
	return read_inputs(parse, true);
}

int vac_read_texts(struct vac_parse *parse)
{
	return read_inputs(parse, false);
}

void vac_inputs_seal(struct vac_call *call)
{
	struct storage *storage = call->storage;
	const int32_t *ids;
	const char *texts;

	if (!storage)
		return;
	call->inputs = (struct vac_input *)storage->inputs.data;
	/* No text at all (inputs that are all empty) leaves the buffer without data. */
	texts = storage->texts.data ? (const char *)storage->texts.data : "";
	ids = (const int32_t *)storage->ids.data;
	for (size_t i = 0; i < call->input_count; i++) {
		struct vac_input *input = &call->inputs[i];

		if (input->ids) {
			input->ids = ids;
			ids += input->id_count;
		} else {
			input->text = texts;
			texts += input->text_bytes;
		}
	}
}

void vac_inputs_free(struct vac_call *call)
{
	struct storage *storage = call->storage;

	if (!storage)
		return;
	vac_buf_free(&storage->texts);
	vac_buf_free(&storage->ids);
	vac_buf_free(&storage->inputs);
	free(storage);
	call->storage = NULL;
	call->inputs = NULL;
	call->input_count = 0;
}
