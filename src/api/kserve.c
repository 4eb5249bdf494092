/*
 * kserve.c - the Open Inference Protocol v2 of KServe and Triton, with Triton's
 * extensions model_repository and binary_tensor_data: health, metadata, infer
 * (read in kserve_infer.c), and the repository's index, load and unload.
 * A model has one version, "1". Any thread; no state.
 */
#include "api/kserve.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* --- requests --------------------------------------------------------------------- */

/* Else "no model a/versions/2" would leave the reader to find out why. */
static int check_version(struct vac_parse *parse)
{
	const char *at = strstr(parse->call->model, "/versions/");

	if (!at)
		return 0;
	return vac_fail(
		parse->err, VAC_E_NOT_FOUND,
		"model %.*s has no version %.64s; version " VAC_KSERVE_VERSION " is the only one",
		(int)(at - parse->call->model), parse->call->model, at + strlen("/versions/"));
}

static int parse_infer(struct vac_parse *parse)
{
	int rc = check_version(parse);

	return rc != 0 ? rc : vac_kserve_parse_infer(parse);
}

/* Silently leaving an override out would load another model than was meant. */
static int refuse_config(struct vac_parse *parse)
{
	if (vac_json_skip(&parse->json) != 0)
		return vac_body_fail(parse, VAC_E_INVALID, "config: is not a value");
	return vac_body_fail(parse, VAC_E_UNSUPPORTED,
			     "config: a checkpoint's own configuration cannot be replaced here");
}

static const struct vac_member load_parameters[] = {
	{"keep_alive", vac_read_keep_alive, false},
	{"config", refuse_config, false},
};

static const struct vac_member unload_parameters[] = {
	{"drop_cache", vac_read_drop_cache, false},
};

static int read_parameters(struct vac_parse *parse)
{
	if (parse->call->kind == VAC_CALL_LOAD)
		return vac_kserve_parameters(parse, "parameters.", VAC_MEMBERS(load_parameters));
	return vac_kserve_parameters(parse, "parameters.", VAC_MEMBERS(unload_parameters));
}

static const struct vac_member change_members[] = {
	{"parameters", read_parameters, false},
};

/* Load and unload; the body may be empty. */
static int parse_change(struct vac_parse *parse)
{
	if (parse->request->body_bytes == 0)
		return 0;
	return vac_body_read(parse, VAC_MEMBERS(change_members));
}

static int read_ready(struct vac_parse *parse)
{
	return vac_read_bool(parse, &parse->call->ready_only);
}

static const struct vac_member index_members[] = {
	{"ready", read_ready, false},
};

static int parse_index(struct vac_parse *parse)
{
	if (parse->request->body_bytes == 0)
		return 0;
	return vac_body_read(parse, VAC_MEMBERS(index_members));
}

/* --- replies ---------------------------------------------------------------------- */

static int render_server(struct vac_render *out)
{
	vac_buf_puts(out->body, "{\"name\":\"vacate\",\"version\":\"" VAC_VERSION "\","
				"\"extensions\":[\"model_repository\",\"binary_tensor_data\"]}");
	return 0;
}

static int render_live(struct vac_render *out)
{
	vac_buf_puts(out->body, "{\"live\":true}");
	return 0;
}

static int render_ready(struct vac_render *out)
{
	vac_buf_puts(out->body, "{\"ready\":true}");
	return 0;
}

/* Ready is what answers without a load. */
static int render_model_ready(struct vac_render *out)
{
	const struct vac_model_view *model = &out->outcome->models[0];
	bool ready = model->state == VAC_MODEL_RESIDENT;

	out->reply->status = ready ? 200 : 503;
	vac_buf_puts(out->body, "{\"name\":");
	vac_put_text(out->body, out->call->model); /* perhaps an alias */
	vac_buf_puts(out->body, ",\"ready\":");
	vac_put_bool(out->body, ready);
	if (!ready && model->reason) {
		vac_buf_puts(out->body, ",\"error\":");
		vac_put_text(out->body, model->reason);
	} else if (!ready) {
		vac_buf_printf(out->body,
			       ",\"error\":\"the model is %s; a request for it, or /load, makes it "
			       "ready\"",
			       vac_model_state_name(model->state));
	}
	vac_buf_putc(out->body, '}');
	return 0;
}

static int render_metadata(struct vac_render *out)
{
	const struct vac_model_view *model = &out->outcome->models[0];

	vac_buf_puts(out->body, "{\"name\":");
	vac_put_text(out->body, out->call->model); /* perhaps an alias */
	vac_buf_puts(out->body,
		     ",\"versions\":[\"" VAC_KSERVE_VERSION "\"],"
		     "\"platform\":\"vacate_safetensors\",\"inputs\":[{\"name\":\"" VAC_KSERVE_TEXT
		     "\",\"datatype\":\"BYTES\",\"shape\":[-1]}],"
		     "\"outputs\":[{\"name\":\"" VAC_KSERVE_OUTPUT
		     "\",\"datatype\":\"FP32\",\"shape\":[-1,");
	vac_put_u64(out->body, model->embedding_dimensions);
	vac_buf_puts(out->body, "]}]}");
	return 0;
}

/* Little-endian, as they lie in memory on most machines. */
static void put_binary(struct vac_buf *body, const float *values, size_t count)
{
#if __BYTE_ORDER == __LITTLE_ENDIAN
	vac_buf_put(body, values, count * sizeof(*values));
#else
	for (size_t i = 0; i < count; i++) {
		uint32_t bits;

		memcpy(&bits, &values[i], sizeof(bits));
		bits = htole32(bits);
		vac_buf_put(body, &bits, sizeof(bits));
	}
#endif
}

static int render_infer(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	const struct vac_call *call = out->call;
	const size_t count = (size_t)outcome->rows * outcome->dimensions;
	struct vac_buf *body = out->body;

	vac_buf_puts(body, "{\"model_name\":");
	vac_put_text(body, outcome->model ? outcome->model : call->model);
	vac_buf_puts(body, ",\"model_version\":\"" VAC_KSERVE_VERSION "\"");
	if (call->id) {
		vac_buf_puts(body, ",\"id\":");
		vac_put_string(body, call->id, call->id_bytes);
	}
	vac_buf_puts(body, ",\"outputs\":[{\"name\":\"" VAC_KSERVE_OUTPUT
			   "\",\"datatype\":\"FP32\",\"shape\":[");
	vac_put_u64(body, outcome->rows);
	vac_buf_putc(body, ',');
	vac_put_u64(body, outcome->dimensions);
	if (!call->binary) {
		vac_buf_puts(body, "],\"data\":");
		vac_put_floats(body, outcome->vectors, count);
		vac_buf_puts(body, "}]}");
		return 0;
	}
	vac_buf_puts(body, "],\"parameters\":{\"binary_data_size\":");
	vac_put_u64(body, count * sizeof(float));
	vac_buf_puts(body, "}}]}");
	out->reply->content_type = "application/octet-stream";
	out->reply->header_bytes = body->bytes;
	put_binary(body, outcome->vectors, count);
	return 0;
}

/* In the words of Triton's index. */
static const char *state_name(enum vac_model_state state)
{
	switch (state) {
	case VAC_MODEL_RESIDENT:
		return "READY";
	case VAC_MODEL_WAITING:
	case VAC_MODEL_LOADING:
		return "LOADING";
	case VAC_MODEL_DRAINING:
	case VAC_MODEL_PARKING:
		return "UNLOADING";
	case VAC_MODEL_PARKED:
	case VAC_MODEL_ABSENT:
	case VAC_MODEL_FAILED:
		break;
	}
	return "UNAVAILABLE";
}

static const char *state_reason(const struct vac_model_view *model)
{
	if (model->reason)
		return model->reason;
	switch (model->state) {
	case VAC_MODEL_WAITING:
		return "waits for room in memory";
	case VAC_MODEL_PARKED:
		return "parked: off its GPU until it is asked for";
	case VAC_MODEL_ABSENT:
		return "unloaded";
	default:
		return "";
	}
}

static void put_index(struct vac_buf *body, const struct vac_model_view *model, const char *name)
{
	vac_buf_puts(body, "{\"name\":");
	vac_put_text(body, name);
	vac_buf_puts(body, ",\"version\":\"" VAC_KSERVE_VERSION "\",\"state\":");
	vac_put_text(body, state_name(model->state));
	vac_buf_puts(body, ",\"reason\":");
	vac_put_text(body, state_reason(model));
	vac_buf_putc(body, '}');
}

static int render_index(struct vac_render *out)
{
	const struct vac_outcome *outcome = out->outcome;
	bool first = true;

	vac_buf_putc(out->body, '[');
	for (size_t i = 0; i < outcome->model_count; i++) {
		const struct vac_model_view *model = &outcome->models[i];

		if (out->call->ready_only && model->state != VAC_MODEL_RESIDENT)
			continue;
		if (!first)
			vac_buf_putc(out->body, ',');
		first = false;
		put_index(out->body, model, model->name);
		for (size_t j = 0; j < model->alias_count; j++) {
			vac_buf_putc(out->body, ',');
			put_index(out->body, model, model->aliases[j]);
		}
	}
	vac_buf_putc(out->body, ']');
	return 0;
}

static int render_change(struct vac_render *out)
{
	const bool load = out->call->kind == VAC_CALL_LOAD;

	vac_buf_puts(out->body, "{\"name\":");
	vac_put_text(out->body, out->outcome->model ? out->outcome->model : out->call->model);
	vac_buf_puts(out->body, load ? ",\"load\":true" : ",\"unload\":true,");
	if (!load)
		vac_put_receipts(out->body, out->outcome);
	vac_buf_putc(out->body, '}');
	return 0;
}

/* A model that is called org/ready is asked for as org/ready/versions/1. */
#define MODELS     "/v2/models/"
#define REPOSITORY "/v2/repository/models/"
#define VERSION    "/versions/" VAC_KSERVE_VERSION
static const struct vac_api_route routes[] = {
	{"GET", "/v2", VAC_CALL_VERSION, NULL, render_server},
	{"GET", "/v2/health/live", VAC_CALL_HEALTH, NULL, render_live},
	{"GET", "/v2/health/ready", VAC_CALL_READY, NULL, render_ready},
	{"POST", MODELS, VAC_CALL_TASK, parse_infer, render_infer, .rest_is_model = true,
	 .suffix = VERSION "/infer"},
	{"GET", MODELS, VAC_CALL_SHOW, check_version, render_model_ready, .rest_is_model = true,
	 .suffix = VERSION "/ready"},
	{"GET", MODELS, VAC_CALL_PLAN, check_version, render_metadata, .rest_is_model = true,
	 .suffix = VERSION},
	{"POST", MODELS, VAC_CALL_TASK, parse_infer, render_infer, .rest_is_model = true,
	 .suffix = "/infer"},
	{"GET", MODELS, VAC_CALL_SHOW, check_version, render_model_ready, .rest_is_model = true,
	 .suffix = "/ready"},
	{"GET", MODELS, VAC_CALL_PLAN, check_version, render_metadata, .rest_is_model = true},
	{"POST", "/v2/repository/index", VAC_CALL_LIST, parse_index, render_index},
	{"POST", REPOSITORY, VAC_CALL_LOAD, parse_change, render_change, .rest_is_model = true,
	 .suffix = "/load"},
	{"POST", REPOSITORY, VAC_CALL_UNLOAD, parse_change, render_change, .rest_is_model = true,
	 .suffix = "/unload"},
	{0},
};

const struct vac_api_family vac_kserve_family = {
	.routes = routes,
	.prefix = "/v2/",
	.error = vac_error_plain,
};
