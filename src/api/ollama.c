/*
 * ollama.c - Ollama: POST /api/embed, /api/embeddings, /api/generate (to load
 * and unload only), GET /api/ps, /api/tags, /api/version. Any thread; no state.
 */
#include "api/common.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Every model has a tag there; here it is the one that says nothing. */
static int read_model(struct vac_parse *parse)
{
	static const char latest[] = ":latest";
	int rc = vac_read_model(parse);
	char *name = parse->call->model;
	size_t n;

	if (rc != 0)
		return rc;
	n = strlen(name);
	if (n > sizeof(latest) - 1 && strcmp(name + n - (sizeof(latest) - 1), latest) == 0)
		name[n - (sizeof(latest) - 1)] = '\0';
	return 0;
}

static int read_prompt(struct vac_parse *parse)
{
	enum vac_json_type type = vac_json_next(&parse->json);

	if (type != VAC_JSON_STRING)
		return vac_body_fail(parse, VAC_E_INVALID, "prompt: expected a string, found %s",
				     vac_body_type_name(type));
	parse->has_prompt = parse->json.text_bytes > 0;
	return 0;
}

static const struct vac_member embed_members[] = {
	{"model", read_model, true},
	{"input", vac_read_texts, false},
	{"truncate", vac_read_truncate, false},
	{"dimensions", vac_read_dimensions, false},
	{"keep_alive", vac_read_keep_alive, false},
};

/* No input asks for the model to be loaded, or with keep_alive 0 to leave. */
static void load_or_unload(struct vac_call *call)
{
	call->kind =
		call->keep_alive_set && call->keep_alive_ms == 0 ? VAC_CALL_UNLOAD : VAC_CALL_LOAD;
}

static int parse_embed(struct vac_parse *parse)
{
	struct vac_call *call = parse->call;
	int rc;

	call->options.task = VAC_TASK_EMBED;
	call->options.normalize = VAC_NORMALIZE_ON;
	call->options.truncation = VAC_TRUNCATE_RIGHT;
	rc = vac_body_read(parse, VAC_MEMBERS(embed_members));
	if (rc == 0 && call->input_count == 0)
		load_or_unload(call);
	return rc;
}

/* The older route: one prompt, one vector, as the model gives it. */
static const struct vac_member embeddings_members[] = {
	{"model", read_model, true},
	{"prompt", vac_read_texts, false},
	{"keep_alive", vac_read_keep_alive, false},
};

static int parse_embeddings(struct vac_parse *parse)
{
	struct vac_call *call = parse->call;
	int rc;

	call->options.task = VAC_TASK_EMBED;
	call->options.normalize = VAC_NORMALIZE_OFF;
	call->options.truncation = VAC_TRUNCATE_RIGHT;
	rc = vac_body_read(parse, VAC_MEMBERS(embeddings_members));
	if (rc != 0)
		return rc;
	if (parse->has_inputs && !call->single) {
		parse->param = "prompt";
		return vac_fail(
			parse->err, VAC_E_INVALID,
			"prompt: expected a string, found an array; /api/embed takes several");
	}
	if (call->input_count == 0)
		load_or_unload(call);
	return 0;
}

static const struct vac_member generate_members[] = {
	{"model", read_model, true},
	{"prompt", read_prompt, false},
	{"keep_alive", vac_read_keep_alive, false},
};

static int parse_generate(struct vac_parse *parse)
{
	int rc = vac_body_read(parse, VAC_MEMBERS(generate_members));

	if (rc != 0)
		return rc;
	if (parse->has_prompt) {
		parse->param = "prompt";
		return vac_fail(parse->err, VAC_E_UNSUPPORTED,
				"prompt: text generation is not served here; without a prompt this "
				"route loads the model, and with keep_alive 0 unloads it");
	}
	load_or_unload(parse->call);
	return 0;
}

/* --- replies ---------------------------------------------------------------------- */

static void put_name(struct vac_buf *body, const struct vac_call *call,
		     const struct vac_outcome *outcome)
{
	vac_buf_puts(body, "{\"model\":");
	vac_put_text(body, outcome->model ? outcome->model : call->model);
}

static int render_embed(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	struct vac_buf *body = out->body;

	put_name(body, out->call, outcome);
	vac_buf_puts(body, ",\"embeddings\":");
	vac_put_rows(body, outcome);
	if (out->call->kind == VAC_CALL_TASK) {
		vac_buf_puts(body, ",\"total_duration\":");
		vac_put_i64(body, outcome->total_ns);
		vac_buf_puts(body, ",\"load_duration\":");
		vac_put_i64(body, outcome->load_ns);
		vac_buf_puts(body, ",\"prompt_eval_count\":");
		vac_put_u64(body, outcome->tokens);
	}
	vac_buf_putc(body, '}');
	return 0;
}

static int render_embeddings(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	struct vac_buf *body = out->body;

	vac_buf_puts(body, "{\"embedding\":");
	vac_put_floats(body, outcome->vectors, outcome->rows ? outcome->dimensions : 0);
	vac_buf_putc(body, '}');
	return 0;
}

static int render_generate(struct vac_render *out)
{
	struct vac_buf *body = out->body;

	put_name(body, out->call, out->outcome);
	vac_buf_puts(body, ",\"created_at\":");
	vac_put_time(body, vac_wall_ns());
	vac_buf_puts(body, ",\"response\":\"\",\"done\":true,\"done_reason\":");
	vac_put_text(body, out->call->kind == VAC_CALL_UNLOAD ? "unload" : "load");
	vac_buf_putc(body, '}');
	return 0;
}

/* FNV-1a, from a start of its own for each part of a digest. */
static uint64_t hash(uint64_t start, const void *data, size_t bytes)
{
	const uint8_t *at = data;
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ start * UINT64_C(0x9e3779b97f4a7c15);

	for (size_t i = 0; i < bytes; i++)
		h = (h ^ at[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* There it is the SHA-256 of a manifest, and clients cut twelve digits off it.
 * Here 64 digits that change with the model's place and modification time;
 * nothing reads gigabytes to list names. */
static void put_digest(struct vac_buf *body, const struct vac_model_view *model)
{
	uint64_t seconds = (uint64_t)model->modified_s;

	vac_buf_puts(body, ",\"digest\":\"");
	for (uint64_t part = 1; part <= 4; part++) {
		uint64_t h = hash(part, model->path, model->path ? strlen(model->path) : 0);

		vac_buf_printf(body, "%016" PRIx64, hash(h, &seconds, sizeof(seconds)));
	}
	vac_buf_putc(body, '"');
}

/* 22713216 -> "22.7M" */
static void put_parameter_size(struct vac_buf *body, const struct vac_model_view *model)
{
	double n = (double)model->parameters;

	if (!model->planned)
		vac_buf_puts(body, "\"\"");
	else if (n >= 1e9)
		vac_buf_printf(body, "\"%.1fB\"", n / 1e9);
	else if (n >= 1e6)
		vac_buf_printf(body, "\"%.1fM\"", n / 1e6);
	else
		vac_buf_printf(body, "\"%.1fK\"", n / 1e3);
}

static void put_details(struct vac_buf *body, const struct vac_model_view *model)
{
	const char *family = model->planned && model->architecture ? model->architecture : "";

	vac_buf_puts(body, ",\"details\":{\"parent_model\":\"\",\"format\":\"safetensors\","
			   "\"family\":");
	vac_put_text(body, family);
	vac_buf_puts(body, ",\"families\":[");
	if (*family)
		vac_put_text(body, family);
	vac_buf_puts(body, "],\"parameter_size\":");
	put_parameter_size(body, model);
	vac_buf_puts(body, ",\"quantization_level\":");
	vac_put_text(body, model->planned && model->dtype ? model->dtype : "");
	vac_buf_putc(body, '}');
}

static void put_head(struct vac_buf *body, const struct vac_model_view *model, const char *name,
		     uint64_t size)
{
	vac_buf_puts(body, "{\"name\":");
	vac_put_text(body, name);
	vac_buf_puts(body, ",\"model\":");
	vac_put_text(body, name);
	vac_buf_puts(body, ",\"size\":");
	vac_put_u64(body, size);
	put_digest(body, model);
	put_details(body, model);
}

/* A file system may claim any year. */
static int64_t clamp_ns(int64_t seconds)
{
	const int64_t most = INT64_MAX / 1000000000;

	if (seconds > most)
		return INT64_MAX;
	return seconds < -most ? -most * 1000000000 : seconds * 1000000000;
}

static void put_tag(struct vac_buf *body, const struct vac_model_view *model, const char *name)
{
	put_head(body, model, name, model->planned ? model->plan.file_bytes : 0);
	vac_buf_puts(body, ",\"modified_at\":");
	vac_put_time(body, clamp_ns(model->modified_s));
	vac_buf_putc(body, '}');
}

/* A copy under another name is a model there, with the same digest: so is an alias. */
static int render_tags(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	struct vac_buf *body = out->body;

	vac_buf_puts(body, "{\"models\":[");
	for (size_t i = 0; i < outcome->model_count; i++) {
		const struct vac_model_view *model = &outcome->models[i];

		if (i > 0)
			vac_buf_putc(body, ',');
		put_tag(body, model, model->name);
		for (size_t j = 0; j < model->alias_count; j++) {
			vac_buf_putc(body, ',');
			put_tag(body, model, model->aliases[j]);
		}
	}
	vac_buf_puts(body, "]}");
	return 0;
}

static void put_running(struct vac_buf *body, const struct vac_model_view *model, int64_t now_ns)
{
	uint64_t device = model->planned ? vac_plan_bytes(&model->plan, true) : 0;
	uint64_t host = model->planned ? vac_plan_bytes(&model->plan, false) : 0;

	put_head(body, model, model->name, host + device);
	vac_buf_puts(body, ",\"expires_at\":");
	/* For ever is a date that is far away, there and here. */
	if (model->state != VAC_MODEL_DRAINING && model->expires_ns < 0)
		vac_put_time(body, INT64_MAX);
	else if (model->state != VAC_MODEL_DRAINING && model->expires_ns < INT64_MAX - now_ns)
		vac_put_time(body, now_ns + model->expires_ns);
	else
		vac_put_time(body, now_ns);
	vac_buf_puts(body, ",\"size_vram\":");
	vac_put_u64(body, model->state == VAC_MODEL_PARKED ? 0 : device);
	vac_buf_puts(body, ",\"context_length\":");
	vac_put_u64(body, model->planned ? model->max_tokens : 0);
	vac_buf_putc(body, '}');
}

/* Models that hold memory and answer, or are on their way out. */
static int render_ps(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	struct vac_buf *body = out->body;
	int64_t now_ns = vac_wall_ns();
	bool first = true;

	vac_buf_puts(body, "{\"models\":[");
	for (size_t i = 0; i < outcome->model_count; i++) {
		const struct vac_model_view *model = &outcome->models[i];

		if (model->state != VAC_MODEL_RESIDENT && model->state != VAC_MODEL_DRAINING &&
		    model->state != VAC_MODEL_PARKING && model->state != VAC_MODEL_PARKED)
			continue;
		if (!first)
			vac_buf_putc(body, ',');
		first = false;
		put_running(body, model, now_ns);
	}
	vac_buf_puts(body, "]}");
	return 0;
}

static const struct vac_api_route routes[] = {
	{"POST", "/api/embed", VAC_CALL_TASK, parse_embed, render_embed},
	{"POST", "/api/embeddings", VAC_CALL_TASK, parse_embeddings, render_embeddings},
	{"POST", "/api/generate", VAC_CALL_LOAD, parse_generate, render_generate},
	{"GET", "/api/ps", VAC_CALL_RUNNING, NULL, render_ps},
	{"GET", "/api/tags", VAC_CALL_LIST, NULL, render_tags},
	{"GET", "/api/version", VAC_CALL_VERSION, NULL, vac_render_version},
	{0},
};

const struct vac_api_family vac_ollama_family = {
	.routes = routes,
	.prefix = "/api/",
	.status = vac_status_long_text,
	.error = vac_error_plain,
};
