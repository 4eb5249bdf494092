/*
 * frames.c - what a worker does with each frame. Private to src/worker; the
 * worker's one thread.
 */
#include "worker/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define PROGRESS_EVERY_NS INT64_C(50000000)
/* So many tasks at once leave a heap worth trimming. */
#define CROWD 256

static void reply_error(struct worker *w, uint64_t frame, const struct vac_error *err)
{
	vac_wire_put_error(&w->out, frame, err);
}

static struct worker_model *find_model(struct worker *w, uint32_t id)
{
	for (struct worker_model *m = w->models; m; m = m->next) {
		if (m->id == id)
			return m;
	}
	return NULL;
}

static struct vac_wire_string text(const char *s)
{
	return (struct vac_wire_string){s, (uint32_t)strlen(s)};
}

static void fill_model(struct vac_wire_model *out, const struct vac_plan *plan,
		       const struct vac_model_info *info)
{
	memset(out, 0, sizeof(*out));
	out->plan = *plan;
	out->architecture = text(info->architecture);
	out->dtype = text(info->dtype);
	out->pooling = text(info->pooling);
	out->normalize = info->normalize;
	out->parameters = info->parameters;
	out->hidden_size = info->hidden_size;
	out->layers = info->layers;
	out->heads = info->heads;
	out->vocab_size = info->vocab_size;
	out->embedding_dimensions = info->embedding_dimensions;
	out->max_tokens = info->max_tokens;
	out->tasks = info->tasks;
}

static void copy_text(char *to, struct vac_wire_string text)
{
	memcpy(to, text.text, text.bytes);
	to[text.bytes] = '\0';
}

/* What a PLAN or LOAD says, and the files that came with it. */
struct source {
	struct vac_wire_load load; /* points into the frame */
	struct vac_model_options options;
	char dtype[16];                /* what options point to */
	char *dir;                     /* owned */
	struct vac_handed_dir *handed; /* owned; NULL: the files are ours to open */
};

static void source_free(struct source *s)
{
	vac_handed_free(s->handed);
	free(s->dir);
}

/* Takes every descriptor that belongs to the frame, also when it fails: those
 * behind them belong to the next one. */
static int take_files(struct worker *w, struct source *s, struct vac_error *err)
{
	struct vac_wire_string files = s->load.files;
	struct vac_wire_file file;
	bool cut_short = false;
	int rc = 0;

	s->handed = vac_handed_new(s->dir);
	if (!s->handed)
		rc = vac_fail_nomem(err, "the files of a model", s->load.file_count);
	while (vac_wire_next_file(&files, &file)) {
		int fd = -1;

		if (file.state == VAC_HANDED_OPEN && !cut_short)
			fd = vac_wire_inbox_take(&w->inbox);
		if (fd == VAC_WIRE_CUT_SHORT) {
			cut_short = true;
			rc = vac_fail_errno(err, EMFILE, "%s: its files cannot be taken over",
					    s->dir);
		}
		if (rc < 0) {
			if (fd >= 0)
				close(fd);
		} else if (file.state == VAC_HANDED_OPEN && fd < 0) {
			rc = vac_fail(err, VAC_E_INVALID,
				      "the descriptor of %.*s did not come with its name",
				      (int)file.name.bytes, file.name.text);
		} else if (vac_handed_add(s->handed, file.name.text, file.name.bytes, file.state,
					  fd) < 0) {
			rc = vac_fail_nomem(err, "the files of a model", file.name.bytes);
		}
	}
	return rc;
}

/* The caller frees the source also when this fails. */
static int read_source(struct worker *w, const void *payload, size_t bytes, struct source *s,
		       struct vac_error *err)
{
	int rc = vac_wire_get_load(payload, bytes, &s->load, err);

	if (rc < 0) {
		/* How many descriptors came with it is not known: no later frame must
		 * take them for its own. */
		vac_wire_inbox_free(&w->inbox);
		return rc;
	}
	s->dir = malloc((size_t)s->load.dir.bytes + 1);
	if (!s->dir) {
		vac_wire_inbox_free(&w->inbox);
		return vac_fail_nomem(err, "the path of a model", s->load.dir.bytes);
	}
	copy_text(s->dir, s->load.dir);
	copy_text(s->dtype, s->load.dtype);
	s->options = (struct vac_model_options){.max_batch_tokens = s->load.max_batch_tokens,
						.dtype = s->dtype};
	return s->load.handed ? take_files(w, s, err) : 0;
}

static void handle_plan(struct worker *w, uint64_t frame, const void *payload, size_t bytes)
{
	struct source source = {0};
	struct vac_model_info info;
	struct vac_wire_model model;
	struct vac_plan plan;
	struct vac_error err;
	int rc = read_source(w, payload, bytes, &source, &err);

	if (rc == 0) {
		worker_tell(w, frame, 0);
		rc = vac_engine_plan(w->engine, source.dir, &source.options, &plan, &info, &err);
	}
	if (rc < 0) {
		reply_error(w, frame, &err);
	} else {
		fill_model(&model, &plan, &info);
		vac_wire_put_model(&w->out, VAC_WIRE_PLANNED, frame, &model);
	}
	source_free(&source);
}

uint64_t worker_close_model(struct worker *w, struct worker_model *m)
{
	struct worker_model **link = &w->models;
	uint64_t freed = 0;

	while (*link != m)
		link = &(*link)->next;
	*link = m->next;
	vac_model_close(m->model, &freed);
	vac_handed_free(m->handed);
	free(m);
	return freed;
}

/* Takes the source's files over. */
static int start_load(struct worker *w, uint64_t frame, struct source *source,
		      struct vac_error *err)
{
	const struct vac_wire_load *load = &source->load;
	struct worker_model *m;
	int rc;

	if (load->model == VAC_OWNER_SHARED || find_model(w, load->model))
		return vac_fail(err, VAC_E_INVALID, "model id %u is %s", load->model,
				load->model == VAC_OWNER_SHARED ? "reserved" : "in use");
	m = calloc(1, sizeof(*m));
	if (!m)
		return vac_fail_nomem(err, "a model's record", sizeof(*m));
	worker_tell(w, frame, load->model);
	rc = vac_model_begin_load(w->engine, load->model, source->dir, &source->options, &m->model,
				  err);
	if (rc < 0) {
		free(m);
		return rc;
	}
	m->id = load->model;
	m->load_frame = frame;
	m->loading = true;
	m->handed = source->handed;
	source->handed = NULL;
	m->next = w->models;
	w->models = m;
	return 0;
}

static void handle_load(struct worker *w, uint64_t frame, const void *payload, size_t bytes)
{
	struct source source = {0};
	struct vac_error err;
	int rc = read_source(w, payload, bytes, &source, &err);

	if (rc == 0 && w->options->plan_only)
		rc = vac_fail(&err, VAC_E_INVALID,
			      "this worker was started with --plan: it loads nothing");
	if (rc < 0 || start_load(w, frame, &source, &err) < 0)
		reply_error(w, frame, &err);
	source_free(&source);
}

static void finish_load(struct worker *w, struct worker_model *m)
{
	const struct vac_load_times *times = vac_model_load_times(m->model);
	struct vac_wire_model model;

	fill_model(&model, vac_model_plan(m->model), vac_model_info(m->model));
	model.ledger_bytes = vac_ledger_owner_bytes(vac_engine_ledger(w->engine), m->id);
	model.stage_ns[0] = times->open_ns;
	model.stage_ns[1] = times->tokenizer_ns;
	model.stage_ns[2] = times->map_ns;
	model.stage_ns[3] = times->read_ns;
	model.stage_ns[4] = times->pack_ns;
	model.stage_ns[5] = times->warm_ns;
	m->loading = false;
	vac_handed_free(m->handed);
	m->handed = NULL;
	vac_wire_put_model(&w->out, VAC_WIRE_LOADED, m->load_frame, &model);
}

bool worker_is_loading(const struct worker *w)
{
	for (const struct worker_model *m = w->models; m; m = m->next) {
		if (m->loading)
			return true;
	}
	return false;
}

void worker_load_some(struct worker *w)
{
	struct worker_model *m = w->models;
	struct vac_wire_progress progress;
	struct vac_error err;
	int rc;

	while (m && !m->loading)
		m = m->next;
	if (!m)
		return;
	w->batch_id = m->load_frame;
	w->batch_model = m->id;
	worker_tell(w, m->load_frame, m->id);
	w->in_engine = true;
	rc = vac_model_load_step(m->model, &err);
	w->in_engine = false;
	if (rc < 0) {
		uint64_t frame = m->load_frame;

		worker_close_model(w, m);
		reply_error(w, frame, &err);
	} else if (rc == 0) {
		finish_load(w, m);
	} else if (vac_now_ns() - m->progress_ns >= PROGRESS_EVERY_NS) {
		m->progress_ns = vac_now_ns();
		vac_model_load_progress(m->model, &progress.done_bytes, &progress.total_bytes);
		vac_wire_put_progress(&w->out, m->load_frame, &progress);
	}
}

uint64_t worker_task_of(const struct worker *w, uint32_t model)
{
	const struct worker_model *m = w->models;

	for (const struct worker_task *t = w->tasks; t; t = t->next) {
		if (t->model == model)
			return t->frame;
	}
	while (m && m->id != model)
		m = m->next;
	return m ? m->load_frame : 0;
}

static void forget_task(struct worker_task *t)
{
	struct worker_task **link = &t->worker->tasks;

	while (*link != t)
		link = &(*link)->next;
	*link = t->next;
	t->worker->task_count--;
	vac_job_free(t->job);
	free(t);
}

static void task_done(struct vac_job *job, void *ctx)
{
	struct worker_task *t = ctx;
	struct worker *w = t->worker;
	struct vac_wire_result result = {0};
	struct vac_job_times times;
	struct vac_error err;

	if (vac_job_status(job, &err) < 0) {
		reply_error(w, t->frame, &err);
		forget_task(t);
		return;
	}
	result.vectors = (const uint8_t *)vac_job_vectors(job, &result.rows, &result.dimensions);
	result.tokens = vac_job_tokens(job);
	vac_job_times(job, &times);
	result.tokenize_ns = times.tokenize_ns;
	result.queue_ns = times.queue_ns;
	result.compute_ns = times.compute_ns;
	if ((uint64_t)result.rows * result.dimensions * 4 > VAC_WIRE_MAX_PAYLOAD_BYTES - 64) {
		vac_fail(&err, VAC_E_TOO_LARGE,
			 "the answer has %u vectors of %u components, more than one frame holds; "
			 "send fewer inputs a request",
			 result.rows, result.dimensions);
		reply_error(w, t->frame, &err);
	} else {
		vac_wire_put_result(&w->out, t->frame, &result);
	}
	forget_task(t);
}

static int start_task(struct worker *w, uint64_t frame, const struct vac_wire_task *task,
		      struct vac_error *err)
{
	struct worker_model *m = find_model(w, task->model);
	struct worker_task *t;
	int rc;

	if (!m || m->loading)
		return vac_fail(err, VAC_E_NOT_FOUND, "model id %u is not resident in this worker",
				task->model);
	t = calloc(1, sizeof(*t));
	if (!t)
		return vac_fail_nomem(err, "a task's record", sizeof(*t));
	/* Tokenizing may be what it dies of, and may happen between the layers of
	 * another model's batch. */
	worker_tell(w, frame, m->id);
	rc = vac_job_create(m->model, &task->options, task->inputs, task->input_count, &t->job,
			    err);
	if (w->in_engine)
		worker_tell(w, w->batch_id, w->batch_model);
	if (rc < 0) {
		free(t);
		return rc;
	}
	t->worker = w;
	t->frame = frame;
	t->model = m->id;
	t->next = w->tasks;
	w->tasks = t;
	if (++w->task_count >= CROWD)
		w->crowded = true;
	vac_job_submit(t->job, task_done, t);
	return 0;
}

static void handle_task(struct worker *w, uint64_t frame, const void *payload, size_t bytes)
{
	struct vac_wire_task task;
	struct vac_error err;

	if (vac_wire_get_task(payload, bytes, &task, &err) < 0) {
		reply_error(w, frame, &err);
		return;
	}
	if (start_task(w, frame, &task, &err) < 0)
		reply_error(w, frame, &err);
	vac_wire_task_free(&task);
}

/* A cancelled task gets no answer; a cancelled load is closed and gets none. */
static void handle_cancel(struct worker *w, uint64_t frame)
{
	for (struct worker_task *t = w->tasks; t; t = t->next) {
		if (t->frame == frame) {
			forget_task(t);
			return;
		}
	}
	for (struct worker_model *m = w->models; m; m = m->next) {
		if (m->loading && m->load_frame == frame) {
			worker_close_model(w, m);
			return;
		}
	}
}

static void handle_unload(struct worker *w, uint64_t frame, const void *payload, size_t bytes)
{
	struct vac_wire_unloaded unloaded = {0};
	const struct vac_ledger *ledger = vac_engine_ledger(w->engine);
	uint64_t device_bytes = ledger->device_bytes;
	struct worker_model *m;
	struct vac_error err;
	uint32_t id;

	if (vac_wire_get_unload(payload, bytes, &id, &err) < 0) {
		reply_error(w, frame, &err);
		return;
	}
	m = find_model(w, id);
	if (!m) {
		vac_fail(&err, VAC_E_NOT_FOUND, "model id %u is not in this worker", id);
		reply_error(w, frame, &err);
		return;
	}
	if (m->loading) {
		vac_fail(&err, VAC_E_CANCELLED, "the model was unloaded while it was loading");
		reply_error(w, m->load_frame, &err);
	}
	unloaded.freed_bytes = worker_close_model(w, m);
	unloaded.freed_device_bytes = device_bytes - ledger->device_bytes;
	for (m = w->models; m; m = m->next)
		unloaded.models_left++;
	vac_wire_put_unloaded(&w->out, frame, &unloaded);
}

/* A running batch uses the scratch arena and the models, a step of a load its
 * model: what changes them waits until it ends, and everything after it keeps
 * its order. */
bool worker_must_wait(const struct worker *w, uint16_t type)
{
	return w->in_engine && type != VAC_WIRE_TASK && type != VAC_WIRE_PING &&
	       type != VAC_WIRE_MEASURE;
}

void worker_handle(struct worker *w, const struct vac_wire_header *header, const void *payload)
{
	size_t bytes = header->payload_bytes;
	struct vac_error err;

	switch (header->type) {
	case VAC_WIRE_PLAN:
		handle_plan(w, header->id, payload, bytes);
		break;
	case VAC_WIRE_LOAD:
		handle_load(w, header->id, payload, bytes);
		break;
	case VAC_WIRE_TASK:
		handle_task(w, header->id, payload, bytes);
		break;
	case VAC_WIRE_CANCEL:
		handle_cancel(w, header->id);
		break;
	case VAC_WIRE_UNLOAD:
		handle_unload(w, header->id, payload, bytes);
		break;
	case VAC_WIRE_MEASURE:
		vac_wire_put_measured(&w->out, header->id, vac_engine_ledger(w->engine));
		break;
	case VAC_WIRE_PING:
		vac_wire_put_empty(&w->out, VAC_WIRE_PONG, header->id);
		break;
	case VAC_WIRE_SHUTDOWN:
		w->ended = true;
		break;
	default:
		/* A later version of the server may ask what this one cannot do. */
		vac_fail(&err, VAC_E_UNSUPPORTED, "this worker does not know frame type %u",
			 header->type);
		reply_error(w, header->id, &err);
	}
}

void worker_free_all(struct worker *w)
{
	while (w->tasks)
		forget_task(w->tasks);
	while (w->models)
		worker_close_model(w, w->models);
}
