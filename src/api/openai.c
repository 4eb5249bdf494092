/*
 * openai.c - OpenAI's embeddings and models, as its official clients speak
 * them: POST /v1/embeddings, GET /v1/models, GET /v1/models/{model}.
 * Any thread; no state.
 */
#include "api/common.h"

#include <string.h>

static int read_encoding_format(struct vac_parse *parse)
{
	enum vac_json_type type = vac_json_next(&parse->json);

	if (type == VAC_JSON_STRING && vac_json_is(&parse->json, "base64"))
		parse->call->base64 = true;
	else if (type != VAC_JSON_STRING || !vac_json_is(&parse->json, "float"))
		return vac_body_fail(parse, VAC_E_INVALID,
				     "encoding_format: expected \"float\" or \"base64\"");
	return 0;
}

/* truncate and keep_alive are ours; OpenAI has neither. */
static const struct vac_member embeddings_members[] = {
	{"input", vac_read_inputs, true},
	{"model", vac_read_model, true},
	{"encoding_format", read_encoding_format, false},
	{"dimensions", vac_read_dimensions, false},
	{"truncate", vac_read_truncate, false},
	{"keep_alive", vac_read_keep_alive, false},
};

static int parse_embeddings(struct vac_parse *parse)
{
	int rc;

	parse->call->options.task = VAC_TASK_EMBED;
	rc = vac_body_read(parse, VAC_MEMBERS(embeddings_members));
	if (rc == 0 && parse->call->input_count == 0) {
		parse->param = "input";
		rc = vac_fail(parse->err, VAC_E_INVALID,
			      "input: is an empty array; send at least one input");
	}
	return rc;
}

static int render_embeddings(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	struct vac_buf *body = out->body;
	const size_t dimensions = outcome->dimensions;

	vac_buf_puts(body, "{\"object\":\"list\",\"data\":[");
	for (uint32_t row = 0; row < outcome->rows; row++) {
		const float *vector = outcome->vectors + row * dimensions;

		vac_buf_puts(body, row ? ",{\"object\":\"embedding\",\"index\":"
				       : "{\"object\":\"embedding\",\"index\":");
		vac_put_u64(body, row);
		if (out->call->base64) {
			vac_buf_puts(body, ",\"embedding\":\"");
			vac_put_base64_floats(body, vector, dimensions);
			vac_buf_puts(body, "\"}");
		} else {
			vac_buf_puts(body, ",\"embedding\":");
			vac_put_floats(body, vector, dimensions);
			vac_buf_putc(body, '}');
		}
	}
	vac_buf_puts(body, "],\"model\":");
	vac_put_text(body, outcome->model ? outcome->model : out->call->model);
	vac_buf_puts(body, ",\"usage\":{\"prompt_tokens\":");
	vac_put_u64(body, outcome->tokens);
	vac_buf_puts(body, ",\"total_tokens\":");
	vac_put_u64(body, outcome->tokens);
	vac_buf_puts(body, "}}");
	return 0;
}

/* An alias is a model there, whose root says what it stands for. */
static void put_model(struct vac_buf *body, const struct vac_model_view *model, const char *alias)
{
	vac_buf_puts(body, "{\"id\":");
	vac_put_text(body, alias ? alias : model->name);
	vac_buf_puts(body, ",\"object\":\"model\",\"created\":");
	vac_put_i64(body, model->modified_s);
	vac_buf_puts(body, ",\"owned_by\":\"vacate\"");
	if (alias) {
		vac_buf_puts(body, ",\"root\":");
		vac_put_text(body, model->name);
	}
	vac_buf_putc(body, '}');
}

static int render_models(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	struct vac_buf *body = out->body;

	vac_buf_puts(body, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < outcome->model_count; i++) {
		const struct vac_model_view *model = &outcome->models[i];

		if (i > 0)
			vac_buf_putc(body, ',');
		put_model(body, model, NULL);
		for (size_t j = 0; j < model->alias_count; j++) {
			vac_buf_putc(body, ',');
			put_model(body, model, model->aliases[j]);
		}
	}
	vac_buf_puts(body, "]}");
	return 0;
}

/* One of the list: asking for a plan would start a worker for a mere question. */
static int render_model(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;

	for (size_t i = 0; i < outcome->model_count; i++) {
		const struct vac_model_view *model = &outcome->models[i];

		if (strcmp(model->name, out->call->model) == 0) {
			put_model(out->body, model, NULL);
			return 0;
		}
		for (size_t j = 0; j < model->alias_count; j++) {
			if (strcmp(model->aliases[j], out->call->model) == 0) {
				put_model(out->body, model, model->aliases[j]);
				return 0;
			}
		}
	}
	return vac_fail(
		out->err, VAC_E_NOT_FOUND,
		"The model '%.200s' does not exist here; GET /v1/models lists those that do",
		out->call->model);
}

static int parse_models(struct vac_parse *parse)
{
	parse->call->names_only = true;
	return 0;
}

static const char *code_name(const struct vac_api_failure *failure)
{
	if (failure->status == 401)
		return "invalid_api_key";
	if (failure->error->code == VAC_E_NOT_FOUND)
		return failure->stage == VAC_STAGE_ROUTE ? "unknown_url" : "model_not_found";
	if (failure->error->code == VAC_E_BUSY)
		return "rate_limit_exceeded";
	if (failure->error->code == VAC_E_TOO_LARGE && failure->stage == VAC_STAGE_OUTCOME)
		return "context_length_exceeded";
	return vac_failure_name(failure);
}

static void error(const struct vac_api_failure *failure, struct vac_buf *body)
{
	const char *type = failure->status >= 500   ? "server_error"
			   : failure->status == 429 ? "rate_limit_error"
						    : "invalid_request_error";

	vac_buf_puts(body, "{\"error\":{\"message\":");
	vac_put_text(body, failure->error->message);
	vac_buf_puts(body, ",\"type\":");
	vac_put_text(body, type);
	vac_buf_puts(body, ",\"param\":");
	vac_put_text(body, failure->param);
	vac_buf_puts(body, ",\"code\":");
	vac_put_text(body, code_name(failure));
	vac_buf_puts(body, "}}");
}

static const struct vac_api_route routes[] = {
	{"POST", "/v1/embeddings", VAC_CALL_TASK, parse_embeddings, render_embeddings},
	{"GET", "/v1/models", VAC_CALL_LIST, parse_models, render_models},
	{"GET", "/v1/models/", VAC_CALL_LIST, parse_models, render_model, .rest_is_model = true},
	{0},
};

const struct vac_api_family vac_openai_family = {
	.routes = routes,
	.prefix = "/v1/",
	.status = vac_status_long_text,
	.error = error,
};
