/*
 * tei.c - Text Embeddings Inference: POST /embed and POST /, GET /info,
 * GET /health and GET /.
 * Those servers hold one model; here it is named by a member of the body, by
 * ?model=, or not at all where only one can be meant. Any thread; no state.
 */
#include "api/common.h"

#include <strings.h>

static int read_direction(struct vac_parse *parse)
{
	enum vac_json_type type = vac_json_next(&parse->json);
	const char *text = parse->json.text;
	size_t n = parse->json.text_bytes;

	if (type == VAC_JSON_STRING && n == 4 && strncasecmp(text, "left", 4) == 0)
		parse->truncate_left = true;
	else if (type != VAC_JSON_STRING || n != 5 || strncasecmp(text, "right", 5) != 0)
		return vac_body_fail(parse, VAC_E_INVALID,
				     "truncation_direction: expected \"Left\" or \"Right\"");
	return 0;
}

/* Silently leaving a prompt out would give other vectors. null never comes here. */
static int refuse_prompt(struct vac_parse *parse)
{
	if (vac_json_skip(&parse->json) != 0)
		return vac_body_fail(parse, VAC_E_INVALID, "prompt_name: is not a value");
	return vac_body_fail(parse, VAC_E_UNSUPPORTED,
			     "prompt_name: prompts are not applied here; put the prompt in front "
			     "of each input");
}

static const struct vac_member embed_members[] = {
	{"inputs", vac_read_inputs, true},      {"normalize", vac_read_normalize, false},
	{"truncate", vac_read_truncate, false}, {"truncation_direction", read_direction, false},
	{"prompt_name", refuse_prompt, false},  {"dimensions", vac_read_dimensions, false},
	{"model", vac_read_model, false},       {"keep_alive", vac_read_keep_alive, false},
};

static int parse_embed(struct vac_parse *parse)
{
	struct vac_call *call = parse->call;
	int rc;

	call->options.task = VAC_TASK_EMBED;
	call->options.normalize = VAC_NORMALIZE_ON;
	rc = vac_body_read(parse, VAC_MEMBERS(embed_members));
	if (rc != 0)
		return rc;
	if (call->input_count == 0) {
		parse->empty = true;
		return vac_fail(parse->err, VAC_E_INVALID, "inputs: is an empty array");
	}
	if (call->options.truncation != VAC_TRUNCATE_NONE && parse->truncate_left)
		call->options.truncation = VAC_TRUNCATE_LEFT;
	return vac_query_model(parse);
}

static int render_embed(struct vac_render *out)
{
	vac_put_rows(out->body, out->outcome);
	return 0;
}

/* A named model is planned, so that its figures are there. */
static int parse_info(struct vac_parse *parse)
{
	int rc = vac_query_model(parse);

	if (rc == 0 && parse->call->model)
		parse->call->kind = VAC_CALL_PLAN;
	return rc;
}

/* The model that a client of a one-model server means: the only one that is
 * resident, else the only one there is. */
static const struct vac_model_view *only_model(const struct vac_outcome *outcome)
{
	const struct vac_model_view *found = NULL;
	size_t count = 0;

	for (size_t i = 0; i < outcome->model_count; i++) {
		if (outcome->models[i].state == VAC_MODEL_RESIDENT) {
			found = &outcome->models[i];
			count++;
		}
	}
	if (count == 0 && outcome->model_count == 1)
		return &outcome->models[0];
	return count == 1 ? found : NULL;
}

static int render_info(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	struct vac_buf *body = out->body;
	const struct vac_model_view *model = only_model(outcome);

	if (!model)
		return vac_fail(
			out->err, VAC_E_INVALID,
			"%zu models could be meant; name one with ?model=", outcome->model_count);
	vac_buf_puts(body, "{\"model_id\":");
	vac_put_text(body, model->name);
	vac_buf_puts(body, ",\"model_sha\":null,\"model_dtype\":");
	vac_put_text(body, model->planned ? model->dtype : NULL);
	vac_buf_puts(body, ",\"model_type\":{\"embedding\":{\"pooling\":");
	vac_put_text(body, model->planned ? model->pooling : NULL);
	vac_buf_puts(body, "}},\"max_input_length\":");
	if (model->planned)
		vac_put_u64(body, model->max_tokens);
	else
		vac_buf_puts(body, "null");
	vac_buf_puts(body, ",\"version\":\"" VAC_VERSION "\"}");
	return 0;
}

/* Clients of Ollama, too, ask here whether somebody is there. */
static int render_root(struct vac_render *out)
{
	vac_buf_puts(out->body, "Vacate is running");
	return 0;
}

/* What fails behind the request is 424 there. */
static int status(const struct vac_api_failure *failure)
{
	return failure->status == 500 ? 424 : failure->status;
}

static const char *type_name(const struct vac_api_failure *failure)
{
	if (failure->empty)
		return "Empty";
	switch (failure->status) {
	case 429:
		return "Overloaded";
	case 503:
		return "Unhealthy";
	case 500:
	case 504:
		return "Backend";
	default:
		return "Validation";
	}
}

static void error(const struct vac_api_failure *failure, struct vac_buf *body)
{
	vac_buf_puts(body, "{\"error\":");
	vac_put_text(body, failure->error->message);
	vac_buf_puts(body, ",\"error_type\":");
	vac_put_text(body, type_name(failure));
	vac_buf_putc(body, '}');
}

static const struct vac_api_route routes[] = {
	{"POST", "/embed", VAC_CALL_TASK, parse_embed, render_embed},
	/* where huggingface_hub's InferenceClient sends it */
	{"POST", "/", VAC_CALL_TASK, parse_embed, render_embed},
	{"GET", "/", VAC_CALL_HEALTH, NULL, render_root, .content_type = "text/plain"},
	{"GET", "/info", VAC_CALL_LIST, parse_info, render_info},
	{"GET", "/health", VAC_CALL_HEALTH, NULL, vac_render_nothing}, /* no body, as there */
	{0},
};

const struct vac_api_family vac_tei_family = {
	.routes = routes,
	.status = status,
	.error = error,
};
