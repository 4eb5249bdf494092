/*
 * test_engine.c - the engine on small checkpoints that the test writes: vectors
 * against plain formulas in double precision, plans against the ledger, what
 * a checkpoint and a request must not be, turns, and what a close gives back.
 * Everything runs on each backend that is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/compute.h"
#include "temp_dir.h"
#include "tiny_model.h"

static const char *const backends[] = {"reference", "cpu"};
static size_t backend_count = 1;

static struct vac_engine *open_engine(const char *backend, const struct vac_engine_options *more)
{
	struct vac_engine *engine;
	struct vac_error err;
	struct vac_engine_options options = more ? *more : (struct vac_engine_options){0};
	options.backend = backend;
	if (vac_engine_open(&engine, &options, &err) < 0)
		fail_msg("%s", err.message);
	return engine;
}

static struct vac_model *load(struct vac_engine *engine, uint32_t id, const char *dir)
{
	struct vac_model *model;
	struct vac_error err;
	int rc = vac_model_begin_load(engine, id, dir, NULL, &model, &err);
	if (rc < 0)
		fail_msg("%s", err.message);
	while ((rc = vac_model_load_step(model, &err)) > 0)
		;
	if (rc < 0)
		fail_msg("%s", err.message);
	assert_true(vac_model_resident(model));
	return model;
}

static void count_done(struct vac_job *job, void *ctx)
{
	(void)job;
	(*(int *)ctx)++;
}

static void run_all(struct vac_engine *engine)
{
	struct vac_error err;
	int rc;
	while ((rc = vac_engine_step(engine, &err)) > 0)
		;
	assert_int_equal(rc, 0);
	assert_false(vac_engine_has_work(engine));
}

static struct vac_job *make_job(struct vac_model *model, const struct vac_task_options *options,
				const struct vac_input *inputs, size_t count)
{
	struct vac_job *job;
	struct vac_error err;
	if (vac_job_create(model, options, inputs, count, &job, &err) < 0)
		fail_msg("%s", err.message);
	return job;
}

static const struct vac_task_options plain_embed = {.task = VAC_TASK_EMBED};

/* Vectors of sequences of ids against the truth. */
static void check_vectors(struct vac_engine *engine, struct vac_model *model, const int32_t *ids,
			  const size_t *lengths, size_t count)
{
	struct vac_input inputs[16];
	const int32_t *at = ids;
	uint32_t rows, width;
	uint64_t tokens = 0;
	int done = 0;
	for (size_t i = 0; i < count; i++) {
		inputs[i] = (struct vac_input){.ids = at, .id_count = lengths[i]};
		at += lengths[i];
		tokens += lengths[i];
	}
	struct vac_job *job = make_job(model, &plain_embed, inputs, count);
	assert_int_equal(vac_job_tokens(job), tokens);
	vac_job_submit(job, count_done, &done);
	run_all(engine);
	assert_int_equal(done, 1);
	assert_int_equal(vac_job_status(job, NULL), 0);
	const float *vectors = vac_job_vectors(job, &rows, &width);
	assert_int_equal(rows, count);
	assert_int_equal(width, tiny_width());
	for (size_t i = 0; i < count; i++)
		tiny_check(i, inputs[i].ids, inputs[i].id_count, vectors + i * width);
	vac_job_free(job);
}

static const int32_t sample_ids[] = {2,  5,  3,  2,  3,  2,  10, 11, 12, 13, 14, 15, 16,
				     17, 3,  39, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
				     10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};
static const size_t sample_lengths[] = {3, 2, 10, 1, 23};

static void test_vectors(void **state)
{
	(void)state;
	const struct tiny_options all[] = {
		{.seed = 1},
		{.seed = 2, .prefix = "bert.", .old_names = true, .normalize = true},
		{.seed = 3, .dtype = TINY_F16, .pooling = "cls_token"},
		{.seed = 4, .dtype = TINY_BF16, .pooling = "max_tokens", .hidden_act = "relu"},
		{.seed = 5,
		 .hidden = 48,
		 .heads = 3,
		 .intermediate = 200,
		 .pooling = "mean_sqrt_len_tokens",
		 .hidden_act = "gelu_new"},
		{.seed = 6,
		 .hidden = 20,
		 .heads = 4,
		 .intermediate = 7,
		 .dense_out = 13,
		 .normalize = true},
		{.seed = 7,
		 .hidden = 128,
		 .heads = 2,
		 .intermediate = 512,
		 .layers = 3,
		 .dense_out = 160,
		 .hidden_act = "gelu_pytorch_tanh"},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const char *dir = tiny_write("model", &all[i]);
		for (size_t b = 0; b < backend_count; b++) {
			struct vac_engine *engine = open_engine(backends[b], NULL);
			struct vac_model *model = load(engine, 1, dir);
			check_vectors(engine, model, sample_ids, sample_lengths, 5);
			vac_engine_close(engine);
		}
	}
}

static void test_info(void **state)
{
	(void)state;
	struct vac_plan plan;
	struct vac_model_info info;
	struct vac_error err;
	const struct tiny_options options = {
		.seed = 1, .dense_out = 24, .normalize = true, .max_seq_length = 11};
	const char *dir = tiny_write("model", &options);
	struct vac_engine *engine = open_engine("reference", NULL);
	assert_int_equal(vac_engine_plan(engine, dir, NULL, &plan, &info, &err), 0);
	assert_string_equal(info.architecture, "bert");
	assert_string_equal(info.dtype, "float32");
	assert_string_equal(info.pooling, "mean");
	assert_true(info.normalize);
	assert_int_equal(info.hidden_size, 32);
	assert_int_equal(info.layers, 2);
	assert_int_equal(info.heads, 4);
	assert_int_equal(info.vocab_size, TINY_VOCAB);
	assert_int_equal(info.embedding_dimensions, 24);
	assert_int_equal(info.max_tokens, 11);
	assert_int_equal(info.tasks, VAC_TASK_BIT(VAC_TASK_EMBED));
	/* tables, their norm; a layer's six products and two norms; pooler; Dense */
	uint64_t layer = 4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32;
	assert_int_equal(info.parameters,
			 (TINY_VOCAB + 24 + 2 + 2) * 32 + 2 * layer + 32 * 32 + 24 * 32 + 24);
	assert_int_equal(vac_engine_ledger(engine)->count, 0);
	vac_engine_close(engine);
}

static uint64_t ledger_bytes(const struct vac_engine *engine)
{
	const struct vac_ledger *ledger = vac_engine_ledger(engine);
	return ledger->host_bytes + ledger->device_bytes;
}

/* Plan and ledger agree to the byte, region by region, and a close gives back
 * what the ledger held. */
static void test_plan_is_ledger(void **state)
{
	(void)state;
	const struct tiny_options all[] = {
		{.seed = 1},
		{.seed = 2, .hidden = 96, .heads = 3, .intermediate = 384, .dense_out = 17},
		{.seed = 3,
		 .dtype = TINY_F16,
		 .hidden = 256,
		 .intermediate = 1024,
		 .positions = 900},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const char *dir = tiny_write("model", &all[i]);
		for (size_t b = 0; b < backend_count; b++) {
			struct vac_engine *engine = open_engine(backends[b], NULL);
			struct vac_plan plan = {0};
			struct vac_error err;
			uint64_t freed, done, total;
			assert_int_equal(vac_engine_plan(engine, dir, NULL, &plan, NULL, &err), 0);
			struct vac_model *model = load(engine, 7, dir);
			const struct vac_ledger *ledger = vac_engine_ledger(engine);
			assert_int_equal(ledger->count, plan.count);
			assert_int_equal(ledger_bytes(engine), vac_plan_bytes(&plan, false) +
								       vac_plan_bytes(&plan, true));
			assert_int_equal(vac_ledger_owner_bytes(ledger, 7),
					 vac_plan_own_bytes(&plan, false));
			for (uint32_t k = 0; k < plan.count; k++) {
				const struct vac_region *r = ledger->regions;
				while (r && (r->kind != plan.items[k].kind ||
					     r->bytes != plan.items[k].bytes))
					r = r->next;
				assert_non_null(r);
			}
			vac_model_load_progress(model, &done, &total);
			assert_int_equal(done, total);
			assert_true(total > 0 && total <= plan.file_bytes);
			check_vectors(engine, model, sample_ids, sample_lengths, 5);
			assert_int_equal(ledger_bytes(engine), vac_plan_bytes(&plan, false));
			vac_model_close(model, &freed);
			assert_int_equal(freed, vac_plan_bytes(&plan, false));
			assert_int_equal(ledger->count, 0);
			assert_int_equal(ledger_bytes(engine), 0);
			vac_engine_close(engine);
		}
	}
}

/* The scratch is the larger model's while both are there. */
static void test_scratch_is_shared(void **state)
{
	(void)state;
	char small_dir[512];
	const struct tiny_options small = {.seed = 1},
				  large = {.seed = 2, .hidden = 256, .intermediate = 2048};
	snprintf(small_dir, sizeof(small_dir), "%s", tiny_write("small", &small));
	const char *dir = tiny_write("large", &large);
	for (size_t b = 0; b < backend_count; b++) {
		struct vac_engine *engine = open_engine(backends[b], NULL);
		const struct vac_ledger *ledger = vac_engine_ledger(engine);
		struct vac_model *one = load(engine, 1, small_dir);
		uint64_t before = vac_ledger_owner_bytes(ledger, VAC_OWNER_SHARED);
		struct vac_model *two = load(engine, 2, dir);
		const struct vac_plan *plan = vac_model_plan(two);
		uint64_t own = vac_plan_own_bytes(plan, false), freed;
		uint64_t shared = vac_plan_bytes(plan, false) - own;
		assert_true(shared > before);
		assert_int_equal(vac_ledger_owner_bytes(ledger, VAC_OWNER_SHARED), shared);
		check_vectors(engine, two, sample_ids, sample_lengths, 5);
		vac_model_close(two, &freed);
		assert_int_equal(freed, own + shared - before);
		assert_int_equal(vac_ledger_owner_bytes(ledger, VAC_OWNER_SHARED), before);
		vac_model_close(one, NULL);
		assert_int_equal(ledger->count, 0);
		vac_engine_close(engine);
	}
}

/* A load that must fail in begin, with a code and parts of the message. */
static void refuse_load(const struct tiny_options *options, enum vac_error_code code,
			const char *const parts[], size_t count)
{
	const char *dir = tiny_write("model", options);
	for (size_t b = 0; b < backend_count; b++) {
		struct vac_engine *engine = open_engine(backends[b], NULL);
		struct vac_model *model;
		struct vac_error err = {0};
		int fds = count_fds();
		assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err),
				 vac_error_errno(code));
		assert_int_equal(err.code, code);
		for (size_t i = 0; i < count; i++)
			if (!strstr(err.message, parts[i]))
				fail_msg("\"%s\" does not say \"%s\"", err.message, parts[i]);
		assert_int_equal(vac_engine_ledger(engine)->count, 0);
		assert_int_equal(count_fds(), fds);
		vac_engine_close(engine);
	}
}

static void test_refused_checkpoints(void **state)
{
	(void)state;
	struct tiny_options o = {.leave_out = "encoder.layer.1.output.dense.bias"};
	refuse_load(&o, VAC_E_CORRUPT,
		    (const char *const[]){"model.safetensors", "encoder.layer.1.output.dense.bias",
					  "missing", "[32]"},
		    4);
	o = (struct tiny_options){.wrong_shape = "encoder.layer.0.attention.self.key.bias"};
	refuse_load(&o, VAC_E_CORRUPT,
		    (const char *const[]){"model.safetensors",
					  "encoder.layer.0.attention.self.key.bias", "[16, 2]",
					  "[32]"},
		    4);
	o = (struct tiny_options){.hidden_act = "swish"};
	refuse_load(&o, VAC_E_UNSUPPORTED, (const char *const[]){"hidden_act", "swish", "gelu_new"},
		    3);
	o = (struct tiny_options){.extra_config =
					  ", \"position_embedding_type\": \"relative_key\""};
	refuse_load(&o, VAC_E_UNSUPPORTED,
		    (const char *const[]){"position_embedding_type", "relative_key"}, 2);
	o = (struct tiny_options){.heads = 5};
	refuse_load(&o, VAC_E_CORRUPT, (const char *const[]){"num_attention_heads 5"}, 1);
}

static void test_unknown_architecture(void **state)
{
	(void)state;
	struct vac_engine *engine = open_engine("reference", NULL);
	struct vac_model *model;
	struct vac_plan plan;
	struct vac_error err;
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("other", &options);
	temp_text("other/config.json", "{\"model_type\":\"mamba\"}");
	assert_int_equal(vac_engine_plan(engine, dir, NULL, &plan, NULL, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "\"mamba\""));
	assert_non_null(strstr(err.message, "served are: bert"));
	temp_unlink("other/tokenizer.json");
	dir = tiny_write("other", &options);
	temp_unlink("other/tokenizer.json");
	assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), -ENOENT);
	assert_non_null(strstr(err.message, "tokenizer.json"));
	assert_int_equal(vac_model_begin_load(engine, 0, dir, NULL, &model, &err), -EINVAL);
	vac_engine_close(engine);
}

/* The file loses its end between the header and the reading. */
static void test_file_shrinks(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	for (size_t b = 0; b < backend_count; b++) {
		struct vac_engine *engine = open_engine(backends[b], NULL);
		struct vac_model *model;
		struct vac_error err;
		int fds = count_fds(), rc;
		dir = tiny_write("model", &options);
		assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), 0);
		assert_int_equal(truncate(temp_path("model/model.safetensors"), 20000), 0);
		while ((rc = vac_model_load_step(model, &err)) > 0)
			;
		assert_int_equal(rc, -EBADMSG);
		assert_non_null(strstr(err.message, "model.safetensors"));
		assert_false(vac_model_resident(model));
		vac_model_close(model, NULL);
		assert_int_equal(vac_engine_ledger(engine)->count, 0);
		assert_int_equal(count_fds(), fds);
		vac_engine_close(engine);
	}
}

/* The file is replaced while it is read: the one that was opened is loaded. */
static void test_file_is_replaced(void **state)
{
	(void)state;
	const struct tiny_options old = {.seed = 1}, other = {.seed = 99};
	struct vac_engine *engine = open_engine("reference", NULL);
	struct vac_model *model;
	struct vac_error err;
	int rc;
	tiny_write("other", &other);
	const char *dir = tiny_write("model", &old);
	assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), 0);
	char to[512];
	snprintf(to, sizeof(to), "%s", temp_path("model/model.safetensors"));
	assert_int_equal(rename(temp_path("other/model.safetensors"), to), 0);
	while ((rc = vac_model_load_step(model, &err)) > 0)
		;
	assert_int_equal(rc, 0);
	check_vectors(engine, model, sample_ids, sample_lengths, 5);
	vac_engine_close(engine);
}

static void refuse_job(struct vac_model *model, const struct vac_task_options *options,
		       const struct vac_input *inputs, size_t count, enum vac_error_code code,
		       const char *part)
{
	struct vac_job *job;
	struct vac_error err = {0};
	assert_int_equal(vac_job_create(model, options, inputs, count, &job, &err),
			 vac_error_errno(code));
	if (!strstr(err.message, part))
		fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static void test_refused_requests(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .max_seq_length = 8};
	struct vac_engine *engine = open_engine("reference", NULL);
	struct vac_model *model = load(engine, 1, tiny_write("model", &options));
	const int32_t ids[] = {2, 5, 40, 3}, negative[] = {-1}, many[9] = {2};
	struct vac_input input = {.ids = ids, .id_count = 4};
	refuse_job(model, &plain_embed, &input, 1, VAC_E_INVALID, "token id 40 at position 2");
	input = (struct vac_input){.ids = negative, .id_count = 1};
	refuse_job(model, &plain_embed, &input, 1, VAC_E_INVALID, "token id -1 at position 0");
	input = (struct vac_input){.ids = ids, .id_count = 0};
	refuse_job(model, &plain_embed, &input, 1, VAC_E_INVALID, "input 0 has no tokens");
	input = (struct vac_input){.ids = many, .id_count = 9};
	refuse_job(model, &plain_embed, &input, 1, VAC_E_TOO_LARGE, "9 tokens");
	refuse_job(model, &plain_embed, &input, 1, VAC_E_TOO_LARGE, "at most 8");
	input = (struct vac_input){.text = "w0 w1 w2 w3 w4 w5 w6", .text_bytes = 20};
	refuse_job(model, &plain_embed, &input, 1, VAC_E_TOO_LARGE, "input 0 has 9 tokens");
	input = (struct vac_input){.text = "w0 \xff", .text_bytes = 4};
	refuse_job(model, &plain_embed, &input, 1, VAC_E_INVALID, "input 0");
	refuse_job(model, &plain_embed, &input, 0, VAC_E_INVALID, "0 inputs");
	struct vac_task_options wide = {.task = VAC_TASK_EMBED, .dimensions = 33};
	refuse_job(model, &wide, &input, 1, VAC_E_INVALID, "dimensions is 33");
	struct vac_task_options other = {.task = (enum vac_task)99};
	refuse_job(model, &other, &input, 1, VAC_E_UNSUPPORTED, "task 99");
	vac_engine_close(engine);
}

static void embed_text(struct vac_engine *engine, struct vac_model *model,
		       const struct vac_task_options *options, const char *text, float *out,
		       uint32_t *width, uint64_t *tokens)
{
	struct vac_input input = {.text = text, .text_bytes = strlen(text)};
	struct vac_job *job = make_job(model, options, &input, 1);
	uint32_t rows;
	int done = 0;
	vac_job_submit(job, count_done, &done);
	run_all(engine);
	const float *vectors = vac_job_vectors(job, &rows, width);
	memcpy(out, vectors, *width * sizeof(float));
	*tokens = vac_job_tokens(job);
	vac_job_free(job);
}

static void check_close(const float *a, const double *b, uint32_t width)
{
	for (uint32_t c = 0; c < width; c++)
		if (!(fabs(a[c] - b[c]) <= 5e-6))
			fail_msg("component %u: %.9g, expected %.9g", c, a[c], b[c]);
}

static void test_texts_and_truncation(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .max_seq_length = 6};
	const int32_t empty[] = {TINY_CLS, TINY_SEP}, words[] = {TINY_CLS, 5, 7, TINY_SEP};
	const int32_t right[] = {TINY_CLS, 5, 6, 7, 8, TINY_SEP};
	const int32_t left[] = {TINY_CLS, 7, 8, 9, 10, TINY_SEP};
	struct vac_task_options cut = {.task = VAC_TASK_EMBED, .truncation = VAC_TRUNCATE_RIGHT};
	double truth[64];
	float vector[64];
	uint32_t width;
	uint64_t tokens;
	const char *dir = tiny_write("model", &options);
	for (size_t b = 0; b < backend_count; b++) {
		struct vac_engine *engine = open_engine(backends[b], NULL);
		struct vac_model *model = load(engine, 1, dir);
		embed_text(engine, model, &plain_embed, "", vector, &width, &tokens);
		tiny_truth(empty, 2, truth);
		check_close(vector, truth, width);
		assert_int_equal(tokens, 2);
		embed_text(engine, model, &plain_embed, "w0 W2", vector, &width, &tokens);
		tiny_truth(words, 4, truth);
		check_close(vector, truth, width);
		embed_text(engine, model, &cut, "w0 w1 w2 w3 w4 w5", vector, &width, &tokens);
		tiny_truth(right, 6, truth);
		check_close(vector, truth, width);
		assert_int_equal(tokens, 6);
		cut.truncation = VAC_TRUNCATE_LEFT;
		embed_text(engine, model, &cut, "w0 w1 w2 w3 w4 w5", vector, &width, &tokens);
		tiny_truth(left, 6, truth);
		check_close(vector, truth, width);
		cut.truncation = VAC_TRUNCATE_RIGHT;
		vac_engine_close(engine);
	}
}

static double length_of(const float *x, uint32_t width)
{
	double square = 0;
	for (uint32_t c = 0; c < width; c++)
		square += (double)x[c] * x[c];
	return sqrt(square);
}

static void test_dimensions_and_normalize(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .normalize = true};
	const int32_t ids[] = {TINY_CLS, 5, TINY_SEP};
	struct vac_engine *engine = open_engine("reference", NULL);
	struct vac_model *model = load(engine, 1, tiny_write("model", &options));
	struct vac_task_options o = {.task = VAC_TASK_EMBED, .normalize = VAC_NORMALIZE_OFF};
	double truth[64];
	float off[64], cut[64], on[64];
	uint32_t width;
	uint64_t tokens;
	tiny_truth(ids, 3, truth);
	embed_text(engine, model, &o, "w0", off, &width, &tokens);
	double length = length_of(off, width);
	assert_true(fabs(length - 1) > 0.01);
	for (uint32_t c = 0; c < width; c++)
		assert_true(fabs(off[c] / length - truth[c]) < 5e-6);
	o.dimensions = 5;
	embed_text(engine, model, &o, "w0", cut, &width, &tokens);
	assert_int_equal(width, 5);
	assert_memory_equal(cut, off, 5 * sizeof(float));
	o.normalize = VAC_NORMALIZE_MODEL;
	embed_text(engine, model, &o, "w0", on, &width, &tokens);
	assert_int_equal(width, 5);
	assert_true(fabs(length_of(on, 5) - 1) < 1e-6);
	for (uint32_t c = 0; c < 5; c++)
		assert_true(fabs(on[c] - off[c] / length_of(off, 5)) < 1e-6);
	vac_engine_close(engine);
}

/* The order in which jobs were done. */
struct order {
	int next;
};
struct watched {
	struct order *order;
	int place;
};

static void note_order(struct vac_job *job, void *ctx)
{
	struct watched *w = ctx;
	(void)job;
	w->place = w->order->next++;
}

static void submit_words(struct vac_model *model, size_t count, struct watched *watched,
			 struct vac_job **out)
{
	static const int32_t ids[] = {2, 5, 6, 7, 8, 9, 10, 3};
	struct vac_input *inputs = calloc(count, sizeof(*inputs));
	for (size_t i = 0; i < count; i++)
		inputs[i] = (struct vac_input){.ids = ids, .id_count = 8};
	*out = make_job(model, &plain_embed, inputs, count);
	free(inputs);
	vac_job_submit(*out, note_order, watched);
}

/* A small job of one model, and one of the same model, do not wait for a large
 * job: models take turns by tokens, jobs by sequences. */
static void test_turns(void **state)
{
	(void)state;
	const struct vac_engine_options small = {.max_batch_tokens = 32};
	const struct tiny_options options = {.seed = 1};
	struct vac_engine *engine = open_engine("reference", &small);
	struct vac_model *a = load(engine, 1, tiny_write("model", &options));
	struct vac_model *b = load(engine, 2, temp_path("model"));
	struct order order = {0};
	struct watched w[3] = {{&order, -1}, {&order, -1}, {&order, -1}};
	struct vac_job *jobs[3];
	struct vac_error err;
	submit_words(a, 100, &w[0], &jobs[0]);
	submit_words(a, 1, &w[1], &jobs[1]);
	submit_words(b, 6, &w[2], &jobs[2]);
	/* at most four sequences a batch: two batches of b and one or two of a */
	for (int i = 0; i < 4; i++)
		assert_int_equal(vac_engine_step(engine, &err), 1);
	assert_int_equal(w[1].place >= 0, 1);
	assert_int_equal(w[2].place >= 0, 1);
	assert_int_equal(w[0].place, -1);
	run_all(engine);
	assert_int_equal(w[0].place, 2);
	for (int i = 0; i < 3; i++)
		vac_job_free(jobs[i]);
	vac_engine_close(engine);
}

/* While one model computes alone for long, another cannot save turns up. */
static void test_idle_model_saves_no_turns(void **state)
{
	(void)state;
	const struct vac_engine_options small = {.max_batch_tokens = 32};
	const struct tiny_options options = {.seed = 1};
	struct vac_engine *engine = open_engine("reference", &small);
	struct vac_model *a = load(engine, 1, tiny_write("model", &options));
	struct vac_model *b = load(engine, 2, temp_path("model"));
	struct order order = {0};
	struct watched w[3] = {{&order, -1}, {&order, -1}, {&order, -1}};
	struct vac_job *jobs[3];
	struct vac_error err;
	submit_words(a, 60, &w[0], &jobs[0]);
	for (int i = 0; i < 10; i++)
		assert_int_equal(vac_engine_step(engine, &err), 1);
	submit_words(b, 60, &w[1], &jobs[1]);
	submit_words(a, 1, &w[2], &jobs[2]);
	for (int i = 0; i < 4; i++)
		assert_int_equal(vac_engine_step(engine, &err), 1);
	assert_true(w[2].place == 0);
	assert_int_equal(w[1].place, -1);
	run_all(engine);
	for (int i = 0; i < 3; i++)
		vac_job_free(jobs[i]);
	vac_engine_close(engine);
}

/* Nor while nothing of the other one is queued when it comes: all of that was computed. */
static void test_an_idle_engine_saves_no_turns(void **state)
{
	(void)state;
	const struct vac_engine_options small = {.max_batch_tokens = 32};
	const struct tiny_options options = {.seed = 1};
	struct vac_engine *engine = open_engine("reference", &small);
	struct vac_model *a = load(engine, 1, tiny_write("model", &options));
	struct vac_model *b = load(engine, 2, temp_path("model"));
	struct order order = {0};
	struct watched w[3] = {{&order, -1}, {&order, -1}, {&order, -1}};
	struct vac_job *jobs[3];
	struct vac_error err;
	submit_words(a, 100, &w[0], &jobs[0]);
	run_all(engine);
	submit_words(b, 100, &w[1], &jobs[1]);
	submit_words(a, 1, &w[2], &jobs[2]);
	for (int i = 0; i < 4; i++)
		assert_int_equal(vac_engine_step(engine, &err), 1);
	assert_int_equal(w[2].place, 1);
	assert_int_equal(w[1].place, -1);
	run_all(engine);
	for (int i = 0; i < 3; i++)
		vac_job_free(jobs[i]);
	vac_engine_close(engine);
}

static struct vac_job *freed_between;

static void free_between(void *ctx)
{
	(*(int *)ctx)++;
	vac_job_free(freed_between);
	freed_between = NULL;
}

/* Jobs may be freed while queued and, by between, while they are computed. */
static void test_cancel(void **state)
{
	(void)state;
	int calls = 0;
	const struct tiny_options options = {.seed = 1};
	struct vac_engine_options o = {.between = free_between, .between_ctx = &calls};
	struct vac_error err;
	const char *dir = tiny_write("model", &options);
	for (size_t b = 0; b < backend_count; b++) {
		struct vac_engine *engine = open_engine(backends[b], &o);
		struct vac_model *model = load(engine, 1, dir);
		struct order order = {0};
		struct watched w[3] = {{&order, -1}, {&order, -1}, {&order, -1}};
		struct vac_job *jobs[3];
		for (int i = 0; i < 3; i++)
			submit_words(model, 2, &w[i], &jobs[i]);
		vac_job_free(jobs[0]);
		freed_between = jobs[1];
		calls = 0;
		assert_int_equal(vac_engine_step(engine, &err), 1);
		assert_true(calls >= 2); /* once a layer */
		run_all(engine);
		assert_int_equal(w[0].place, -1);
		assert_int_equal(w[1].place, -1);
		assert_int_equal(w[2].place, 0);
		assert_int_equal(vac_job_status(jobs[2], &err), 0);
		vac_job_free(jobs[2]);
		vac_engine_close(engine);
	}
}

/* Closing a model ends its jobs with VAC_E_CANCELLED, once each. */
static void test_close_cancels(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1};
	struct vac_engine *engine = open_engine("reference", NULL);
	struct vac_model *model = load(engine, 1, tiny_write("model", &options));
	struct order order = {0};
	struct watched w[2] = {{&order, -1}, {&order, -1}};
	struct vac_job *jobs[2], *late;
	struct vac_input input = {.text = "w1", .text_bytes = 2};
	struct vac_error err;
	int done = 0;
	submit_words(model, 3, &w[0], &jobs[0]);
	submit_words(model, 3, &w[1], &jobs[1]);
	late = make_job(model, &plain_embed, &input, 1);
	vac_model_close(model, NULL);
	assert_int_equal(order.next, 2);
	assert_int_equal(vac_job_status(jobs[0], &err), -ECANCELED);
	assert_int_equal(err.code, VAC_E_CANCELLED);
	vac_job_submit(late, count_done, &done);
	assert_int_equal(done, 0);
	assert_true(vac_engine_has_work(engine));
	run_all(engine);
	assert_int_equal(done, 1);
	assert_int_equal(vac_job_status(late, &err), -ECANCELED);
	vac_job_free(late);
	vac_job_free(jobs[0]);
	vac_job_free(jobs[1]);
	assert_int_equal(vac_engine_ledger(engine)->count, 0);
	vac_engine_close(engine);
}

/* Closed in the middle of a load, at every step. */
static void test_close_while_loading(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 9};
	const char *dir = tiny_write("model", &options);
	struct vac_engine *engine = open_engine("reference", NULL);
	struct vac_model *model;
	struct vac_error err;
	struct vac_job *job;
	struct vac_input input = {.text = "w1", .text_bytes = 2};
	int fds = count_fds();
	assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err), 0);
	assert_int_equal(vac_job_create(model, &plain_embed, &input, 1, &job, &err), -EAGAIN);
	assert_true(count_fds() > fds);
	vac_model_close(model, NULL);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(vac_engine_ledger(engine)->count, 0);
	vac_engine_close(engine);
}

static void test_backends(void **state)
{
	(void)state;
	const struct vac_backend *backend;
	struct vac_error err;
	assert_int_equal(vac_backend_find("reference", &backend, &err), 0);
	assert_string_equal(backend->name, "reference");
	assert_int_equal(vac_backend_find("nothere", &backend, &err), -ENOENT);
	assert_non_null(strstr(err.message, "libvacate-nothere.so"));
	assert_non_null(strstr(err.message, "VACATE_BACKEND_PATH"));
	assert_int_equal(vac_backend_find("../x", &backend, &err), -EINVAL);
}

static int make_dir(void **state)
{
	(void)state;
	const struct vac_backend *backend;
	struct vac_error err;
	temp_dir_make();
	/* both, or the tests would say nothing about the one that people use */
	assert_int_equal(vac_backend_find("cpu", &backend, &err), 0);
	backend_count = 2;
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_plan_is_ledger),
		cmocka_unit_test(test_scratch_is_shared),
		cmocka_unit_test(test_refused_checkpoints),
		cmocka_unit_test(test_unknown_architecture),
		cmocka_unit_test(test_file_shrinks),
		cmocka_unit_test(test_file_is_replaced),
		cmocka_unit_test(test_refused_requests),
		cmocka_unit_test(test_texts_and_truncation),
		cmocka_unit_test(test_dimensions_and_normalize),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_idle_model_saves_no_turns),
		cmocka_unit_test(test_an_idle_engine_saves_no_turns),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_close_cancels),
		cmocka_unit_test(test_close_while_loading),
		cmocka_unit_test(test_backends),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
