/*
 * run.c - `vacate run`: a worker of one's own loads a model, answers what the
 * command line or standard input asks, and leaves a receipt. No server.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/modelpath.h"
#include "cli/client.h"
#include "cli/gpu_reading.h"
#include "cli/model_dirs.h"
#include "cli/progress.h"
#include "cli/worker_client.h"

#define MODEL_ID UINT32_C(1)
/* One task: enough for full batches, little enough for steady output. The first
 * one is small and the next ones double: long texts on a slow machine would
 * otherwise show nothing for many seconds. */
#define TASK_INPUTS    64
#define FIRST_INPUTS   4
#define TASK_BYTES     ((size_t)1 << 20)
#define READ_BYTES     ((size_t)64 << 10)
#define MAX_LINE_BYTES ((size_t)16 << 20)
/* Tasks under way: one is computed while the next is read and sent. */
#define TASKS_IN_FLIGHT 2

/* Where texts come from: the command line, or lines of standard input. */
struct source {
	const char **args;
	size_t arg_count, next_arg;
	struct vac_buf lines; /* read and not used yet, from used on */
	size_t used;
	bool input_ended;                 /* standard input has no more bytes */
	bool ended;                       /* and no more lines */
	uint64_t bytes_read, bytes_total; /* of standard input; total 0: not a file */
};

struct run {
	const struct vac_command *command;
	struct vac_worker_client worker;
	struct vac_task_options options;
	struct source source;
	uint64_t next_task, next_answer; /* frame ids count up */
	uint32_t task_inputs;            /* of the next task, at most */
	uint64_t texts_done, tokens;
	/* The answer that came before its turn, if its id is next_answer or more. */
	struct vac_wire_header early;
	struct vac_buf early_payload;
	struct vac_progress progress;
	struct vac_buf out;            /* a task's answer as JSON lines */
	struct vac_worker_client gpud; /* while the receipt of a GPU is made */
	struct vac_receipt receipt;
	int64_t resident_at_ns;
	bool drop_cache;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
	interrupted = signal_number;
}

static void catch_interrupts(void)
{
	/* The first one ends in order, with a receipt; the second ends at once,
	 * since what the first waits for may hang. The worker dies with us. */
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void show_load(const struct vac_wire_progress *p, void *ctx)
{
	struct run *r = ctx;

	vac_progress_bytes(&r->progress, p->done_bytes, p->total_bytes);
}

static int load(struct run *r, const char *dir, const struct vac_model_dirs *where,
		struct vac_error *err)
{
	struct vac_wire_load load = {.model = MODEL_ID, .dir = vac_wire_text(dir)};
	struct vac_wire_header header;
	struct vac_wire_model model;
	const uint8_t *payload;
	int rc;

	vac_progress_start(&r->progress, "loading");
	rc = vac_client_send_load(&r->worker, VAC_WIRE_LOAD, r->next_task, &load, where, err);
	if (rc == 0)
		rc = vac_client_wait(&r->worker, VAC_WIRE_LOADED, r->next_task, show_load, r,
				     &header, &payload, err);
	if (rc == 0)
		rc = vac_wire_get_model(payload, header.payload_bytes, &model, err);
	vac_progress_end(&r->progress);
	if (rc < 0)
		return rc;
	r->next_answer = ++r->next_task;
	r->receipt.planned_bytes =
		vac_plan_bytes(&model.plan, false) + vac_plan_bytes(&model.plan, true);
	r->receipt.device_planned_bytes = vac_plan_bytes(&model.plan, true);
	r->resident_at_ns = vac_now_ns();
	return 0;
}

static void source_open(struct source *s, const char **args, size_t count)
{
	struct stat st;

	s->args = args;
	s->arg_count = count;
	if (count == 0 && fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode))
		s->bytes_total = (uint64_t)st.st_size;
}

/* More of standard input; waits for it. */
static int source_fill(struct source *s, struct vac_error *err)
{
	void *to;
	ssize_t n;

	vac_buf_consume(&s->lines, s->used);
	s->used = 0;
	if (s->lines.bytes > MAX_LINE_BYTES)
		return vac_fail(err, VAC_E_TOO_LARGE,
				"standard input: a line has more than %zu bytes", MAX_LINE_BYTES);
	to = vac_buf_reserve(&s->lines, READ_BYTES);
	if (!to)
		return vac_fail_nomem(err, "a line of standard input", s->lines.bytes);
	n = read(STDIN_FILENO, to, READ_BYTES);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0)
		return vac_fail_errno(err, errno, "standard input");
	if (n == 0)
		s->input_ended = true;
	vac_buf_advance(&s->lines, (size_t)n);
	s->bytes_read += (uint64_t)n;
	return 0;
}

/* The next line if it is there already; the last one needs no newline. */
static bool source_line(struct source *s, const char **text, size_t *bytes)
{
	size_t left = s->lines.bytes - s->used;
	const char *from, *end;

	if (left == 0)
		return false;
	from = (const char *)s->lines.data + s->used;
	end = memchr(from, '\n', left);
	if (!end && !s->input_ended)
		return false;
	*text = from;
	*bytes = end ? (size_t)(end - from) : left;
	s->used += *bytes + (end != NULL);
	if (*bytes > 0 && from[*bytes - 1] == '\r')
		--*bytes;
	return true;
}

static bool input_waits(void)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* The next text: 1; 0 when there is none, for good (ended is set) or, unless
 * wait is set, now. It stays valid until the next call. */
static int source_next(struct source *s, bool wait, const char **text, size_t *bytes,
		       struct vac_error *err)
{
	if (s->arg_count) {
		s->ended = s->next_arg == s->arg_count;
		if (s->ended)
			return 0;
		*text = s->args[s->next_arg++];
		*bytes = strlen(*text);
		return 1;
	}
	while (!source_line(s, text, bytes)) {
		int rc;

		s->ended = s->input_ended || interrupted;
		if (s->ended || (!wait && !input_waits()))
			return 0;
		rc = source_fill(s, err);
		if (rc < 0)
			return rc;
	}
	return 1;
}

/* Sends the texts that are there as one task; waits for the first of them when
 * wait is set. 1: a task is on the way, 0: there was no text. */
static int send_task(struct run *r, bool wait, struct vac_error *err)
{
	struct vac_input inputs[TASK_INPUTS];
	struct vac_wire_task task = {.model = MODEL_ID, .options = r->options, .inputs = inputs};
	struct vac_arena arena = {.chunk_bytes = (size_t)256 << 10};
	size_t bytes = 0;
	int rc = 1;

	while (rc == 1 && !interrupted && task.input_count < r->task_inputs && bytes < TASK_BYTES) {
		struct vac_input *input = &inputs[task.input_count];
		const char *text;

		memset(input, 0, sizeof(*input));
		rc = source_next(&r->source, wait && task.input_count == 0, &text,
				 &input->text_bytes, err);
		if (rc != 1)
			break;
		input->text = vac_arena_strndup(&arena, text, input->text_bytes);
		if (!input->text) {
			rc = vac_fail_nomem(err, "a text", input->text_bytes);
			break;
		}
		bytes += input->text_bytes;
		task.input_count++;
	}
	if (rc >= 0 && task.input_count > 0) {
		if (task.input_count == r->task_inputs && r->task_inputs < TASK_INPUTS)
			r->task_inputs *= 2;
		vac_wire_put_task(&r->worker.out, r->next_task++, &task);
		rc = vac_client_send(&r->worker, err);
		rc = rc < 0 ? rc : 1;
	}
	vac_arena_free(&arena);
	return rc < 0 ? rc : task.input_count > 0;
}

/* One line of JSON a text. */
static int print_result(struct run *r, const struct vac_wire_result *result, struct vac_error *err)
{
	const float *vector = (const float *)(const void *)result->vectors;
	char number[VAC_FLOAT_TEXT_BYTES];

	vac_buf_reset(&r->out);
	for (uint32_t row = 0; row < result->rows; row++) {
		vac_buf_printf(&r->out, "{\"index\":%" PRIu64 ",\"embedding\":[",
			       r->texts_done + row);
		for (uint32_t i = 0; i < result->dimensions; i++) {
			if (i)
				vac_buf_putc(&r->out, ',');
			vac_buf_put(&r->out, number, vac_format_float(number, *vector++));
		}
		vac_buf_puts(&r->out, "]}\n");
	}
	if (!vac_buf_ok(&r->out))
		return vac_fail_nomem(err, "an answer", r->out.bytes);
	if (fwrite(r->out.data, 1, r->out.bytes, stdout) != r->out.bytes || fflush(stdout) != 0)
		return vac_fail_errno(err, errno, "standard output");
	return 0;
}

/* The frame that answers the oldest task. Answers come in any order (a text
 * that is refused overtakes one that is computed): one is kept for its turn. */
static int wait_answer(struct run *r, struct vac_wire_header *header, const uint8_t **payload,
		       struct vac_error *err)
{
	_Static_assert(TASKS_IN_FLIGHT == 2, "one answer at most comes too early");

	if (r->early.id == r->next_answer) {
		*header = r->early;
		*payload = r->early_payload.data;
		return 0;
	}
	for (;;) {
		int rc = vac_client_receive(&r->worker, header, payload, err);

		if (rc < 0 || header->id == r->next_answer)
			return rc;
		if (header->id != r->next_answer + 1 || header->id >= r->next_task ||
		    r->early.id == header->id)
			return vac_fail(err, VAC_E_INTERNAL,
					"the worker sent frame type %u for %" PRIu64
					", which was not asked",
					header->type, header->id);
		vac_buf_reset(&r->early_payload);
		vac_buf_put(&r->early_payload, *payload, header->payload_bytes);
		if (!vac_buf_ok(&r->early_payload))
			return vac_fail_nomem(err, "an answer", header->payload_bytes);
		r->early = *header;
	}
}

/* The worker refused a task; it counts the inputs of that one alone. */
static int refused(const struct run *r, const uint8_t *payload, size_t bytes, struct vac_error *err)
{
	struct vac_error told;
	int rc = vac_wire_get_error(payload, bytes, &told, err);

	if (rc < 0)
		return rc;
	if (r->texts_done == 0)
		return vac_fail(err, told.code, "%s", told.message);
	return vac_fail(err, told.code, "after the first %" PRIu64 " texts: %s", r->texts_done,
			told.message);
}

static int take_answer(struct run *r, struct vac_error *err)
{
	struct vac_wire_header header;
	struct vac_wire_result result;
	const uint8_t *payload;
	int rc = wait_answer(r, &header, &payload, err);

	if (rc == 0 && header.type == VAC_WIRE_ERROR)
		rc = refused(r, payload, header.payload_bytes, err);
	else if (rc == 0 && header.type != VAC_WIRE_RESULT)
		rc = vac_fail(err, VAC_E_INTERNAL, "the worker answered a task with frame type %u",
			      header.type);
	if (rc == 0)
		rc = vac_wire_get_result(payload, header.payload_bytes, &result, err);
	if (rc == 0)
		rc = print_result(r, &result, err);
	if (rc < 0)
		return rc;
	r->next_answer++;
	r->receipt.requests++;
	r->texts_done += result.rows;
	r->tokens += result.tokens;
	if (r->source.bytes_total)
		vac_progress_bytes(&r->progress, r->source.bytes_read, r->source.bytes_total);
	else
		vac_progress_count(&r->progress, r->texts_done, "texts");
	return 0;
}

static int answer_all(struct run *r, struct vac_error *err)
{
	int rc = 0;

	vac_progress_start(&r->progress, "embedding");
	while (rc >= 0) {
		uint64_t waiting = r->next_task - r->next_answer;
		bool sent = false;

		if (waiting < TASKS_IN_FLIGHT && !r->source.ended && !interrupted) {
			/* Who types a line gets its answer before the next one. */
			rc = send_task(r, waiting == 0, err);
			sent = rc > 0;
		}
		if (rc < 0 || sent)
			continue;
		if (waiting == 0)
			break;
		rc = take_answer(r, err);
	}
	vac_progress_end(&r->progress);
	return rc;
}

/* A GPU that cannot be measured is said to be so, and is no failure. */
static void measure_device(struct run *r, struct vac_device_memory *out)
{
	const struct vac_receipt *receipt = &r->receipt;
	struct vac_error err;

	if (!receipt->on_device)
		return;
	if (vac_gpu_read(&r->gpud, receipt->device, receipt->worker_pid, out, &err) < 0)
		vac_complain(r->command, "VRAM is not measured: %s", err.message);
}

static int unload(struct run *r, const char *dir, struct vac_error *err)
{
	struct vac_receipt *receipt = &r->receipt;
	struct vac_wire_unloaded unloaded;
	struct vac_wire_header header;
	const uint8_t *payload;
	int64_t started;
	int rc;

	receipt->worker_pid = r->worker.process.pid;
	measure_device(r, &receipt->device_before);
	started = vac_now_ns();
	receipt->resident_ns = started - r->resident_at_ns;
	if (vac_meter_process(receipt->worker_pid, &receipt->worker_before, NULL) < 0)
		receipt->worker_before.valid = false;
	if (vac_meter_process(0, &receipt->server_before, NULL) < 0)
		receipt->server_before.valid = false;
	vac_wire_put_unload(&r->worker.out, r->next_task, MODEL_ID);
	rc = vac_client_send(&r->worker, err);
	if (rc == 0)
		rc = vac_client_wait(&r->worker, VAC_WIRE_UNLOADED, r->next_task, NULL, NULL,
				     &header, &payload, err);
	if (rc == 0)
		rc = vac_wire_get_unloaded(payload, header.payload_bytes, &unloaded, err);
	if (rc < 0)
		return rc;
	vac_client_stop(&r->worker);
	receipt->ledger_bytes = unloaded.freed_bytes;
	receipt->device_ledger_bytes = unloaded.freed_device_bytes;
	receipt->worker_exited = true;
	receipt->worker_after.valid = true;
	if (vac_meter_process(0, &receipt->server_after, NULL) < 0)
		receipt->server_after.valid = false;
	receipt->unload_ns = vac_now_ns() - started;
	if (receipt->device_before.valid)
		measure_device(r, &receipt->device_after);
	vac_client_stop(&r->gpud);
	receipt->wall_ns = vac_wall_ns();
	receipt->page_cache_valid =
		vac_meter_dir_cache(dir, ".safetensors", r->drop_cache, &receipt->page_cache_bytes,
				    &receipt->page_cache_dropped, NULL) == 0;
	return 0;
}

static void print_receipt(const struct run *r, bool as_json)
{
	struct vac_terminal terminal = vac_terminal_of(stderr);
	struct vac_buf text = VAC_BUF_INIT;
	json_t *json;

	vac_receipt_json(&text, &r->receipt);
	if (!vac_buf_ok(&text)) {
		vac_complain(r->command, "out of memory: the receipt cannot be printed");
	} else if (as_json) {
		fprintf(stderr, "%.*s\n", (int)text.bytes, (const char *)text.data);
	} else {
		json = json_loadb((const char *)text.data, text.bytes, 0, NULL);
		if (!json || vac_print_receipt(&terminal, json) < 0)
			vac_complain(r->command, "out of memory: the receipt cannot be printed");
		json_decref(json);
	}
	vac_buf_free(&text);
}

static int run(struct run *r, const struct vac_spawn_options *spawn, const char *dir,
	       const struct vac_model_dirs *where, struct vac_error *err)
{
	struct vac_error unload_err;
	int rc = vac_client_start(&r->worker, spawn, err);

	if (rc < 0)
		return rc;
	rc = load(r, dir, where, err);
	if (rc < 0)
		return rc;
	rc = answer_all(r, err);
	/* What it took comes back also after an error, and a worker that died
	 * has nothing left to return. */
	if (!r->worker.exited) {
		/* Answers that nobody waits for any more must not be taken for
		 * the unload's. */
		for (; rc < 0 && r->next_answer < r->next_task; r->next_answer++) {
			vac_wire_put_empty(&r->worker.out, VAC_WIRE_CANCEL, r->next_answer);
		}
		if (unload(r, dir, &unload_err) < 0 && rc >= 0) {
			*err = unload_err;
			rc = vac_error_errno(unload_err.code);
		}
	}
	return rc;
}

static int parse_number(const struct vac_command *command, const char *option, const char *text,
			uint32_t *out)
{
	unsigned long value;
	char *end;

	if (!text)
		return 0;
	value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || value == 0 || value > 65536)
		return vac_usage_error(command, "--%s takes a number from 1 to 65536, not '%s'",
				       option, text);
	*out = (uint32_t)value;
	return 0;
}

/* What the command line and the environment say. */
struct settings {
	const char *models, *device, *backend, *threads, *dimensions, *sandbox;
	bool json, no_truncate, drop_cache;
};

static int parse_settings(const struct vac_command *command, struct settings *s,
			  struct vac_arguments *arguments, int argc, char **argv)
{
	const struct vac_option options[] = {
		{"models", "DIRS", "where models lie besides the HuggingFace cache (a:b)", NULL,
		 &s->models},
		{"device", "NAME", "cpu (the default), or cuda:0 and so on", NULL, &s->device},
		{"backend", "NAME", "the device's own, or reference (plain C, slow)", NULL,
		 &s->backend},
		{"threads", "N", "of the compute team", NULL, &s->threads},
		{"sandbox", "MODE", "of the worker: auto, require or off (auto)", NULL,
		 &s->sandbox},
		{"dimensions", "N", "keep the first N components of each vector", NULL,
		 &s->dimensions},
		{"no-truncate", NULL, "a text that is too long is an error", &s->no_truncate, NULL},
		{"drop-cache", NULL, "give the page cache of the model's files back, too",
		 &s->drop_cache, NULL},
		{"json", NULL, "print the receipt as JSON", &s->json, NULL},
	};

	s->models = getenv("VACATE_MODELS");
	s->backend = getenv("VACATE_BACKEND");
	s->threads = getenv("VACATE_THREADS");
	s->sandbox = getenv("VACATE_SANDBOX");
	return vac_options_parse(command, options, sizeof(options) / sizeof(options[0]), arguments,
				 argc, argv);
}

static int prepare(struct run *r, const struct settings *s, struct vac_spawn_options *spawn)
{
	if (parse_number(r->command, "threads", s->threads, &spawn->threads) != 0 ||
	    parse_number(r->command, "dimensions", s->dimensions, &r->options.dimensions) != 0)
		return VAC_EXIT_USAGE;
	if (s->sandbox && *s->sandbox && vac_sandbox_parse(s->sandbox, &spawn->sandbox) != 0)
		return vac_usage_error(r->command, "--sandbox takes auto, require or off, not '%s'",
				       s->sandbox);
	spawn->device = s->device ? s->device : "cpu";
	if (strcmp(spawn->device, "cuda") == 0)
		spawn->device = "cuda:0";
	spawn->backend = s->backend;
	r->options.task = VAC_TASK_EMBED;
	r->options.truncation = s->no_truncate ? VAC_TRUNCATE_NONE : VAC_TRUNCATE_RIGHT;
	r->drop_cache = s->drop_cache;
	r->next_task = r->next_answer = 1;
	r->receipt.id = 1;
	r->receipt.reason = VAC_UNLOAD_SHUTDOWN;
	snprintf(r->receipt.device, sizeof(r->receipt.device), "%s", spawn->device);
	r->receipt.on_device = strcmp(spawn->device, "cpu") != 0;
	return VAC_CONTINUE;
}

static int find_and_run(struct run *r, const struct settings *s,
			const struct vac_spawn_options *spawn, const char *model,
			struct vac_error *err)
{
	struct vac_dir_list dirs;
	struct vac_model_dirs where = {0};
	char *dir = NULL;
	int rc = vac_dir_list_parse(&dirs, s->models, err);

	if (rc < 0)
		return rc;
	snprintf(r->receipt.model, sizeof(r->receipt.model), "%s", model);
	where.dirs = dirs.dirs;
	where.dir_count = dirs.count;
	rc = vac_model_resolve(&where, model, true, &dir, err);
	if (rc == 0)
		rc = run(r, spawn, dir, &where, err);
	vac_progress_end(&r->progress);
	free(dir);
	vac_dir_list_free(&dirs);
	return rc;
}

static int run_command(const struct vac_command *command, int argc, char **argv)
{
	const char **values = calloc((size_t)argc + 1, sizeof(*values));
	struct vac_arguments arguments = {.values = values, .least = 1, .most = (size_t)argc};
	struct run r = {.command = command, .task_inputs = FIRST_INPUTS};
	struct vac_spawn_options spawn = {0};
	struct settings settings = {0};
	struct vac_error err = {0};
	int code;

	if (!values) {
		vac_complain(command, "out of memory");
		return VAC_EXIT_NO_ROOM;
	}
	code = parse_settings(command, &settings, &arguments, argc, argv);
	if (code == VAC_CONTINUE)
		code = prepare(&r, &settings, &spawn);
	if (code != VAC_CONTINUE) {
		free(values);
		return code;
	}
	catch_interrupts();
	source_open(&r.source, values + 1, arguments.count - 1);
	code = VAC_EXIT_OK;
	if (find_and_run(&r, &settings, &spawn, values[0], &err) < 0) {
		vac_complain(command, "%s", err.message);
		code = vac_exit_of(err.code);
	} else if (interrupted) {
		code = 128 + interrupted;
	}
	if (r.receipt.worker_exited)
		print_receipt(&r, settings.json);
	vac_client_stop(&r.worker);
	vac_client_stop(&r.gpud);
	vac_buf_free(&r.out);
	vac_buf_free(&r.early_payload);
	vac_buf_free(&r.source.lines);
	free(values);
	return code;
}

const struct vac_command vac_command_run = {
	.name = "run",
	.arguments = "MODEL [TEXT ...]",
	.summary = "Answers without a server: loads, embeds, unloads, prints the receipt",
	.details = "Starts a worker of its own, loads MODEL (a name in the HuggingFace cache or\n"
		   "under --models, or a path), embeds each TEXT, or each line of standard input\n"
		   "when there is none, and prints one line of JSON a text on standard output:\n"
		   "{\"index\":0,\"embedding\":[...]}. The receipt goes to standard error.",
	.run = run_command,
};
