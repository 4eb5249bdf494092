/*
 * test_cuda_claim.c - the lock of the device that a restore holds: memory is taken under
 * it, waited for while another process has it, refused after a while, and done without
 * where it cannot be used. The driver is the fake of fake_cuda.c, the other process a
 * real one.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/cuda/backend.h"
#include "fake_cuda.h"
#include "temp_dir.h"
#include "tiny_model.h"

/* As fake_cuda.c has it for device 0. */
#define LOCK "locks/vacate-GPU-00102030-4050-6070-8090-a0b0c0d0e0f0.lock"

static const struct tiny_options tiny = {.seed = 1};
static const char *model_dir;
static char warning[1024];
static int warnings;

static void warn(void *ctx, const char *text)
{
	(void)ctx;
	warnings++;
	snprintf(warning, sizeof(warning), "%s", text);
}

static struct vac_engine *open_engine(void)
{
	const struct vac_engine_options options = {.backend = "cuda",
						   .threads = 2,
						   .dtype = "float32",
						   .max_batch_tokens = 64,
						   .warn = warn};
	struct vac_engine *engine;
	struct vac_error err;
	if (vac_engine_open(&engine, &options, &err) < 0)
		fail_msg("%s", err.message);
	return engine;
}

static struct vac_model *begin(struct vac_engine *engine, uint32_t id)
{
	struct vac_model *model;
	struct vac_error err;
	if (vac_model_begin_load(engine, id, model_dir, NULL, &model, &err) < 0)
		fail_msg("%s", err.message);
	return model;
}

static void finish(struct vac_model *model)
{
	struct vac_error err;
	int rc;
	while ((rc = vac_model_load_step(model, &err)) > 0)
		;
	if (rc < 0)
		fail_msg("%s", err.message);
	assert_true(vac_model_resident(model));
}

static void mark_done(struct vac_job *job, void *ctx)
{
	(void)job;
	*(int *)ctx += 1;
}

/* It answers. */
static void ask(struct vac_engine *engine, struct vac_model *model)
{
	static const int32_t ids[] = {2, 5, 6, 3};
	const struct vac_task_options options = {.task = VAC_TASK_EMBED};
	const struct vac_input input = {.ids = ids, .id_count = 4};
	struct vac_error err;
	struct vac_job *job;
	int done = 0, rc;
	assert_int_equal(vac_job_create(model, &options, &input, 1, &job, &err), 0);
	vac_job_submit(job, mark_done, &done);
	while ((rc = vac_engine_step(engine, &err)) > 0)
		;
	assert_int_equal(rc, 0);
	assert_int_equal(done, 1);
	assert_int_equal(vac_job_status(job, &err), 0);
	vac_job_free(job);
}

/* A process that holds the lock until it is killed. */
static pid_t start_holder(void)
{
	int ready[2];
	char byte;
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = open(temp_path(LOCK), O_RDONLY | O_CREAT, 0444);
		if (fd < 0 || flock(fd, LOCK_EX) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		alarm(600);
		pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void end_holder(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Some steps of a load that waits. */
static void step_some(struct vac_model *model)
{
	struct vac_error err;
	for (int i = 0; i < 10; i++)
		assert_int_equal(vac_model_load_step(model, &err), 1);
}

/* Nobody else could take it now. */
static int taken;
static void check_held(void)
{
	int fd = open(temp_path(LOCK), O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	close(fd);
	taken++;
}

static void check_free(void)
{
	int fd = open(temp_path(LOCK), O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
}

static void close_all(struct vac_engine *engine)
{
	vac_engine_close(engine);
	assert_int_equal(fake_cuda_live(), 0);
	assert_int_equal(fake_cuda.used_bytes, 0);
}

/* Context, weights, packed weights and activations, each under the lock and only that
 * long; what is open in between is gone in the end. */
static void test_memory_is_taken_under_the_lock(void **state)
{
	(void)state;
	struct stat st;
	int fds = count_fds();
	fake_cuda.taking = check_held;
	struct vac_engine *engine = open_engine();
	struct vac_model *model = begin(engine, 1);
	finish(model);
	assert_int_equal(taken, 4);
	check_free();
	ask(engine, model);
	assert_int_equal(taken, 4);
	vac_model_close(model, NULL);
	model = begin(engine, 2);
	finish(model);
	assert_int_equal(taken, 8);
	close_all(engine);
	assert_int_equal(warnings, 0);
	assert_int_equal(count_fds(), fds);
	/* anybody may lock it */
	assert_int_equal(stat(temp_path(LOCK), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0444);
}

/* A process is being resumed when the first model comes. */
static void test_context_waits(void **state)
{
	(void)state;
	pid_t holder = start_holder();
	struct vac_engine *engine = open_engine();
	struct vac_model *model = begin(engine, 1);
	step_some(model);
	assert_int_equal(fake_cuda.contexts, 0);
	end_holder(holder);
	finish(model);
	ask(engine, model);
	close_all(engine);
	assert_int_equal(warnings, 0);
}

/* ... and when another one comes: those that are there answer meanwhile, also to the
 * end of a load, and one of them may leave. */
static void test_regions_wait(void **state)
{
	(void)state;
	struct vac_engine *engine = open_engine();
	struct vac_model *first = begin(engine, 1), *second;
	finish(first);
	uint64_t used = fake_cuda.used_bytes;
	pid_t holder = start_holder();
	second = begin(engine, 2);
	step_some(second);
	ask(engine, first);
	step_some(second);
	assert_int_equal(fake_cuda.used_bytes, used);
	end_holder(holder);
	finish(second);
	ask(engine, second);
	holder = start_holder();
	vac_model_close(first, NULL);
	ask(engine, second);
	end_holder(holder);
	close_all(engine);
}

/* The shared scratch shrinks by a copy, which is not made now: the larger one stays,
 * until there is reason to look again: also the end of a load that had nothing to do with the
 * device yet. */
static void scratch_stays(bool given_up)
{
	const struct tiny_options wide = {
		.seed = 2, .hidden = 64, .heads = 4, .intermediate = 16384};
	struct vac_engine *engine = open_engine();
	struct vac_model *small = begin(engine, 1), *large;
	finish(small);
	uint64_t alone = fake_cuda.used_bytes;
	model_dir = tiny_write("wide", &wide);
	large = begin(engine, 2);
	finish(large);
	uint64_t own = vac_plan_own_bytes(vac_model_plan(large), true);
	assert_true(fake_cuda.used_bytes > alone + own);
	pid_t holder = start_holder();
	uint64_t both = fake_cuda.used_bytes;
	vac_model_close(large, NULL);
	assert_int_equal(fake_cuda.used_bytes, both - own);
	ask(engine, small);
	end_holder(holder);
	model_dir = tiny_write("model", &tiny);
	large = begin(engine, 3);
	if (!given_up)
		finish(large);
	vac_model_close(large, NULL);
	assert_int_equal(fake_cuda.used_bytes, alone);
	ask(engine, small);
	close_all(engine);
}

static void test_scratch_stays(void **state)
{
	(void)state;
	scratch_stays(false);
	scratch_stays(true);
}

/* What comes of a load that waits for longer than the limit. */
static void refuse(struct vac_engine *engine, struct vac_model *model, pid_t holder)
{
	char process[32];
	struct vac_error err;
	int rc;
	snprintf(process, sizeof(process), "process %d holds", (int)holder);
	while ((rc = vac_model_load_step(model, &err)) > 0)
		;
	assert_int_equal(rc, -EAGAIN);
	assert_int_equal(err.code, VAC_E_BUSY);
	assert_non_null(strstr(err.message, "cuda:0 gave no memory for 0 s"));
	assert_non_null(strstr(err.message, process));
	assert_non_null(strstr(err.message, strrchr(LOCK, '/')));
	vac_model_close(model, NULL);
	assert_int_equal(vac_engine_ledger(engine)->device_bytes, 0);
}

static void test_for_too_long(void **state)
{
	(void)state;
	struct vac_engine *engine = open_engine();
	vac_cuda_claim_limit_ms = 100;
	pid_t holder = start_holder();
	refuse(engine, begin(engine, 1), holder); /* the context */
	assert_int_equal(fake_cuda_live(), 0);
	end_holder(holder);
	/* a region: the holder comes when the context is there */
	struct vac_model *model = begin(engine, 2);
	struct vac_error err;
	while (fake_cuda.contexts == 0)
		assert_int_equal(vac_model_load_step(model, &err), 1);
	holder = start_holder();
	if (vac_engine_ledger(engine)->device_bytes == 0)
		refuse(engine, model, holder);
	end_holder(holder);
	model = begin(engine, 3);
	finish(model);
	close_all(engine);
	assert_int_equal(warnings, 0);
}

/* Who gives up while the context waits does not wait any longer. */
static void test_given_up(void **state)
{
	(void)state;
	pid_t holder = start_holder();
	struct vac_engine *engine = open_engine();
	vac_cuda_claim_limit_ms = 600000; /* the test would time out */
	struct vac_model *model = begin(engine, 1);
	step_some(model);
	vac_model_close(model, NULL);
	assert_int_equal(fake_cuda_live(), 0);
	end_holder(holder);
	model = begin(engine, 2);
	finish(model);
	close_all(engine);
}

/* A cleaner of /tmp removed the file, and a restore made another. */
static void test_file_is_removed(void **state)
{
	(void)state;
	struct vac_engine *engine = open_engine();
	struct vac_model *first = begin(engine, 1);
	finish(first);
	temp_unlink(LOCK);
	pid_t holder = start_holder();
	struct vac_model *second = begin(engine, 2);
	step_some(second);
	end_holder(holder);
	fake_cuda.taking = check_held;
	finish(second);
	assert_int_equal(taken, 2);
	close_all(engine);
	assert_int_equal(warnings, 0);
}

/* No load is refused for want of a lock; a line says so, once. */
static void test_no_lock(void **state)
{
	(void)state;
	setenv("VACATE_HOLD_DIR", temp_path("nowhere"), 1);
	struct vac_engine *engine = open_engine();
	struct vac_model *model = begin(engine, 1);
	finish(model);
	ask(engine, model);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(warning, "cuda:0 is used without the lock"));
	assert_non_null(strstr(warning, "nowhere/vacate-GPU-"));
	vac_model_close(model, NULL);
	model = begin(engine, 2);
	finish(model);
	assert_int_equal(warnings, 1);
	close_all(engine);
	/* a driver that does not tell which GPU it is */
	fake_cuda.no_uuid = true;
	setenv("VACATE_HOLD_DIR", temp_path("locks"), 1);
	engine = open_engine();
	finish(begin(engine, 1));
	assert_int_equal(warnings, 2);
	assert_non_null(strstr(warning, "UUID"));
	close_all(engine);
}

static int set_up(void **state)
{
	(void)state;
	temp_dir_make();
	temp_mkdir("locks");
	setenv("VACATE_HOLD_DIR", temp_path("locks"), 1);
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
	fake_cuda_reset();
	fake_cuda_install();
	model_dir = tiny_write("model", &tiny);
	warnings = taken = 0;
	vac_cuda_claim_limit_ms = 60000;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_cuda_remove();
	temp_dir_remove();
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_memory_is_taken_under_the_lock),
		TEST(test_context_waits),
		TEST(test_regions_wait),
		TEST(test_scratch_stays),
		TEST(test_for_too_long),
		TEST(test_given_up),
		TEST(test_file_is_removed),
		TEST(test_no_lock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
