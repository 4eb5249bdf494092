/*
 * engine_bench.c - times the engine without server and wire.
 *
 *   engine_bench MODEL_DIR [--device cpu] [--backend NAME] [--dtype float16]
 *                [--threads N] [--shapes 1x16,32x128] [--seconds 1] [--embed]
 *
 * For each shape (sequences x tokens each, special tokens included) it submits
 * one request of random token ids again and again and prints the time of each
 * as JSON: median and least, in microseconds. The load's stages come first.
 * A line "go" on standard input is waited for before each shape with
 * --lockstep, so that another program's runs can be put in between.
 *
 * --in-flight N: N requests of the text on standard input are in the engine at any
 * time, each made from the text anew, as a worker's would be; prints how many were
 * answered a second.
 *
 * --batch-tokens N, --batch-ms N: how many tokens a batch may have, and how long it may
 * take by the speed measured so far (a profiler makes that too low).
 *
 * --embed: texts from standard input, each ended by a NUL byte, one request
 * each (or for --together so many); vectors to standard output as float32. Times from the start of the
 * program to the first answer go to standard error, as JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"

struct arguments {
	const char *dir, *device, *backend, *dtype, *shapes;
	uint32_t threads, batch_tokens, batch_ms, in_flight;
	double seconds;
	size_t together;
	bool embed, lockstep;
};

static void mark_done(struct vac_job *job, void *ctx)
{
	(void)job;
	*(bool *)ctx = true;
}

static void warn(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "engine_bench: warning: %s\n", text);
}

static int compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static int fail(const char *what, const struct vac_error *err)
{
	fprintf(stderr, "engine_bench: %s: %s (%s)\n", what, err->message, err->detail);
	return 1;
}

static int run_once(struct vac_engine *engine, struct vac_model *model,
		    const struct vac_input *inputs, size_t count, FILE *out, struct vac_error *err)
{
	struct vac_job *job;
	bool done = false;
	const struct vac_task_options options = {.task = VAC_TASK_EMBED,
						 .truncation = VAC_TRUNCATE_RIGHT};
	int rc = vac_job_create(model, &options, inputs, count, &job, err);
	if (rc < 0)
		return rc;
	vac_job_submit(job, mark_done, &done);
	while (rc >= 0 && !done)
		rc = vac_engine_step(engine, err);
	if (rc >= 0)
		rc = vac_job_status(job, err);
	if (rc >= 0 && out) {
		uint32_t rows, width;
		const float *vectors = vac_job_vectors(job, &rows, &width);
		fwrite(vectors, sizeof(float), (size_t)rows * width, out);
	}
	vac_job_free(job);
	return rc < 0 ? rc : 0;
}

static int64_t program_start;

static void print_stages(const struct vac_engine *engine, const struct vac_model *model, FILE *out)
{
	const struct vac_load_times *t = vac_model_load_times(model);
	fprintf(out,
		"{\"device\": \"%s\", \"load_ms\": {\"open\": %.1f, \"tokenizer\": %.1f, "
		"\"device\": %.1f, \"map\": %.1f, \"read\": %.1f, \"pack\": %.1f, \"warm\": %.1f}",
		vac_engine_description(engine), (double)t->open_ns * 1e-6,
		(double)t->tokenizer_ns * 1e-6, (double)t->device_ns * 1e-6,
		(double)t->map_ns * 1e-6, (double)t->read_ns * 1e-6, (double)t->pack_ns * 1e-6,
		(double)t->warm_ns * 1e-6);
}

/* Texts from standard input; NULL when out of memory. The last buffer of getdelim
 * stays with the last text. */
static struct vac_input *read_texts(size_t *count)
{
	struct vac_input *inputs = NULL;
	*count = 0;
	for (;;) {
		char *text = NULL;
		size_t capacity = 0;
		ssize_t length = getdelim(&text, &capacity, '\0', stdin);
		if (length <= 0) {
			free(text);
			return inputs ? inputs : calloc(1, sizeof(*inputs));
		}
		struct vac_input *more = realloc(inputs, (*count + 1) * sizeof(*inputs));
		if (!more)
			return NULL;
		inputs = more;
		inputs[(*count)++] = (struct vac_input){
			.text = text, .text_bytes = (size_t)length - (text[length - 1] == '\0')};
	}
}

static int embed_stdin(struct vac_engine *engine, struct vac_model *model, size_t together)
{
	struct vac_error err = {0};
	int64_t loaded = vac_now_ns();
	size_t count;
	int failed = 0;
	struct vac_input *inputs = read_texts(&count);
	for (size_t i = 0; inputs && !failed && i < count; i += together) {
		size_t some = count - i < together ? count - i : together;
		if (run_once(engine, model, inputs + i, some, stdout, &err) < 0)
			failed = fail("embedding", &err);
		if (i == 0 && !failed) {
			print_stages(engine, model, stderr);
			fprintf(stderr, ", \"loaded_ms\": %.1f, \"first_answer_ms\": %.1f}\n",
				(double)(loaded - program_start) * 1e-6,
				(double)(vac_now_ns() - program_start) * 1e-6);
		}
	}
	for (size_t i = 0; inputs && i < count; i++)
		free((char *)(uintptr_t)inputs[i].text);
	free(inputs);
	return failed || !inputs;
}

/* One of --in-flight. */
struct flight {
	struct vac_job *job;
	bool done;
};

static int take_off(struct vac_model *model, const struct vac_input *input, struct flight *flight,
		    struct vac_error *err)
{
	const struct vac_task_options options = {.task = VAC_TASK_EMBED};
	int rc = vac_job_create(model, &options, input, 1, &flight->job, err);
	flight->done = false;
	if (rc >= 0)
		vac_job_submit(flight->job, mark_done, &flight->done);
	return rc;
}

static int time_flights(struct vac_engine *engine, struct vac_model *model,
			const struct arguments *a)
{
	static char text[1 << 16];
	const struct vac_input input = {.text = text,
					.text_bytes = fread(text, 1, sizeof(text), stdin)};
	struct flight *flights = calloc(a->in_flight, sizeof(*flights));
	struct vac_error err = {0};
	int64_t start = 0, warm = vac_now_ns() + 500000000, now = 0;
	uint64_t answered = 0;
	int rc = flights ? 0 : -1;
	for (uint32_t i = 0; rc >= 0 && i < a->in_flight; i++)
		rc = take_off(model, &input, &flights[i], &err);
	while (rc >= 0 && (start == 0 || now < start + (int64_t)(a->seconds * 1e9))) {
		rc = vac_engine_step(engine, &err);
		for (uint32_t i = 0; rc >= 0 && i < a->in_flight; i++) {
			if (!flights[i].done)
				continue;
			rc = vac_job_status(flights[i].job, &err);
			vac_job_free(flights[i].job);
			flights[i].job = NULL;
			answered++;
			if (rc >= 0)
				rc = take_off(model, &input, &flights[i], &err);
		}
		now = vac_now_ns();
		if (start == 0 && now >= warm) {
			start = now;
			answered = 0;
		}
	}
	if (rc >= 0)
		printf("{\"answered\": %llu, \"seconds\": %.3f}\n", (unsigned long long)answered,
		       (double)(now - start) * 1e-9);
	for (uint32_t i = 0; flights && i < a->in_flight; i++) {
		if (flights[i].job)
			vac_job_free(flights[i].job);
	}
	free(flights);
	return rc < 0 ? fail("in flight", &err) : 0;
}

static int time_shape(struct vac_engine *engine, struct vac_model *model, uint32_t sequences,
		      uint32_t tokens, double seconds, bool last)
{
	enum { MOST = 100000 };
	struct vac_error err = {0};
	struct vac_input *inputs = calloc(sequences, sizeof(*inputs));
	int32_t *ids = calloc((size_t)sequences * tokens, sizeof(*ids));
	int64_t *times = calloc(MOST, sizeof(*times));
	uint64_t random = 88172645463325252u;
	size_t count = 0;
	int failed = !inputs || !ids || !times;
	for (size_t i = 0; !failed && i < (size_t)sequences * tokens; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		ids[i] = (int32_t)(random % vac_model_info(model)->vocab_size);
	}
	for (uint32_t i = 0; !failed && i < sequences; i++)
		inputs[i] = (struct vac_input){.ids = ids + (size_t)i * tokens, .id_count = tokens};
	for (int i = 0; !failed && i < 3; i++) /* compiles, and learns the speed */
		failed = run_once(engine, model, inputs, sequences, NULL, &err) < 0;
	int64_t end = vac_now_ns() + (int64_t)(seconds * 1e9);
	while (!failed && count < MOST && (vac_now_ns() < end || count < 3)) {
		int64_t start = vac_now_ns();
		failed = run_once(engine, model, inputs, sequences, NULL, &err) < 0;
		times[count++] = vac_now_ns() - start;
	}
	if (failed) {
		fail("shape", &err);
	} else {
		qsort(times, count, sizeof(*times), compare_times);
		printf("  {\"shape\": \"%ux%u\", \"runs\": %zu, \"median_us\": %.1f, "
		       "\"least_us\": %.1f, \"tokens_per_second\": %.0f}%s\n",
		       sequences, tokens, count, (double)times[count / 2] * 1e-3,
		       (double)times[0] * 1e-3,
		       (double)sequences * tokens / ((double)times[count / 2] * 1e-9),
		       last ? "" : ",");
		fflush(stdout);
	}
	free(times);
	free(ids);
	free(inputs);
	return failed;
}

static int time_shapes(struct vac_engine *engine, struct vac_model *model,
		       const struct arguments *a)
{
	print_stages(engine, model, stdout);
	printf(", \"shapes\": [\n");
	fflush(stdout);
	for (const char *at = a->shapes; *at;) {
		unsigned sequences, tokens;
		int used = 0;
		char line[16];
		if (sscanf(at, "%ux%u%n", &sequences, &tokens, &used) != 2 || !sequences ||
		    !tokens) {
			fprintf(stderr, "engine_bench: shapes are like 1x16,32x128\n");
			return 1;
		}
		at += used;
		at += *at == ',';
		if (a->lockstep && !fgets(line, sizeof(line), stdin))
			return 1;
		if (time_shape(engine, model, sequences, tokens, a->seconds, !*at))
			return 1;
	}
	printf("]}\n");
	return 0;
}

static int run(const struct arguments *a)
{
	struct vac_engine *engine;
	struct vac_model *model;
	struct vac_error err = {0};
	struct vac_engine_options options = {.dtype = a->dtype,
					     .threads = a->threads,
					     .max_batch_tokens = a->batch_tokens,
					     .batch_target_ms = a->batch_ms,
					     .warn = warn};
	if (vac_engine_parse_device(a->device, &options.backend, &options.device, &err) < 0)
		return fail("device", &err);
	if (a->backend)
		options.backend = a->backend;
	if (vac_engine_open(&engine, &options, &err) < 0)
		return fail("open", &err);
	int64_t start = vac_now_ns();
	int rc = vac_model_begin_load(engine, 1, a->dir, NULL, &model, &err);
	int failed = rc < 0 ? fail("load", &err) : 0;
	while (!failed && (rc = vac_model_load_step(model, &err)) != 0)
		failed = rc < 0 ? fail("load", &err) : 0;
	fprintf(stderr, "load %.1f ms\n", (double)(vac_now_ns() - start) * 1e-6);
	if (!failed && a->in_flight)
		failed = time_flights(engine, model, a);
	else if (!failed)
		failed = a->embed ? embed_stdin(engine, model, a->together)
				  : time_shapes(engine, model, a);
	vac_engine_close(engine);
	return failed;
}

int main(int argc, char **argv)
{
	program_start = vac_now_ns();
	struct arguments a = {
		.device = "cpu", .shapes = "1x16,1x128,32x128", .seconds = 1, .together = 1};
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (strcmp(argv[i], "--embed") == 0)
			a.embed = true;
		else if (strcmp(argv[i], "--lockstep") == 0)
			a.lockstep = true;
		else if (strcmp(argv[i], "--backend") == 0)
			a.backend = value, i++;
		else if (strcmp(argv[i], "--device") == 0)
			a.device = value, i++;
		else if (strcmp(argv[i], "--together") == 0)
			a.together = (size_t)atoi(value) + (atoi(value) == 0), i++;
		else if (strcmp(argv[i], "--dtype") == 0)
			a.dtype = value, i++;
		else if (strcmp(argv[i], "--shapes") == 0)
			a.shapes = value, i++;
		else if (strcmp(argv[i], "--threads") == 0)
			a.threads = (uint32_t)atoi(value), i++;
		else if (strcmp(argv[i], "--batch-tokens") == 0)
			a.batch_tokens = (uint32_t)atoi(value), i++;
		else if (strcmp(argv[i], "--batch-ms") == 0)
			a.batch_ms = (uint32_t)atoi(value), i++;
		else if (strcmp(argv[i], "--in-flight") == 0)
			a.in_flight = (uint32_t)atoi(value), i++;
		else if (strcmp(argv[i], "--seconds") == 0)
			a.seconds = atof(value), i++;
		else
			a.dir = argv[i];
	}
	if (!a.dir) {
		fprintf(stderr, "usage: engine_bench MODEL_DIR [--device cpu] [--backend NAME] "
				"[--dtype float16] [--threads N] [--shapes 1x16,32x128] [--seconds "
				"1] [--lockstep] [--embed] [--in-flight N] [--batch-tokens N] "
				"[--batch-ms N]\n");
		return 2;
	}
	return run(&a);
}
