/*
 * test_engine_alloc.c - on the reference backend every allocation and every
 * mmap of a load, and of a request, fails in turn until it succeeds: each
 * failure is reported, and regions and descriptors end where they began.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "fail_alloc.h"
#include "temp_dir.h"
#include "tiny_model.h"

#define MOST 20000

static int load(struct vac_engine *engine, const char *dir, struct vac_model **out,
		struct vac_error *err)
{
	int rc = vac_model_begin_load(engine, 1, dir, NULL, out, err);
	if (rc < 0) {
		*out = NULL;
		return rc;
	}
	while ((rc = vac_model_load_step(*out, err)) > 0)
		;
	if (rc < 0) {
		vac_model_close(*out, NULL);
		*out = NULL;
	}
	return rc;
}

static void test_load(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dtype = TINY_F16, .dense_out = 8};
	const char *dir = tiny_write("model", &options);
	struct vac_engine_options o = {.backend = "reference"};
	struct vac_engine *engine;
	struct vac_model *model = NULL;
	struct vac_error err;
	unsigned long failures = 0;
	assert_int_equal(vac_engine_open(&engine, &o, &err), 0);
	int fds = count_fds();
	for (unsigned long n = 0; n < MOST; n++) {
		fail_after(n);
		int rc = load(engine, dir, &model, &err);
		bool refused = fail_count() > n;
		fail_never();
		if (rc < 0) {
			assert_true(refused);
			assert_int_equal(rc, -ENOMEM);
			assert_int_equal(err.code, VAC_E_NO_ROOM);
			failures++;
			assert_int_equal(vac_engine_ledger(engine)->count, 0);
			assert_int_equal(vac_engine_ledger(engine)->host_bytes, 0);
			assert_int_equal(count_fds(), fds);
			continue;
		}
		/* it got by without that one, or it was the last */
		assert_int_equal(vac_engine_ledger(engine)->host_bytes,
				 vac_plan_bytes(vac_model_plan(model), false));
		assert_int_equal(count_fds(), fds);
		vac_model_close(model, NULL);
		assert_int_equal(vac_engine_ledger(engine)->count, 0);
		if (!refused)
			break;
	}
	assert_true(failures > 30);
	vac_engine_close(engine);
}

static void test_open(void **state)
{
	(void)state;
	struct vac_engine_options o = {.backend = "reference"};
	struct vac_engine *engine;
	struct vac_error err;
	unsigned long n = 0;
	for (;; n++) {
		fail_after(n);
		int rc = vac_engine_open(&engine, &o, &err);
		bool refused = fail_count() > n;
		fail_never();
		if (rc == 0) {
			vac_engine_close(engine);
			if (!refused)
				break;
			continue;
		}
		assert_int_equal(rc, -ENOMEM);
	}
	assert_true(n >= 2);
}

static void count_done(struct vac_job *job, void *ctx)
{
	(void)job;
	(*(int *)ctx)++;
}

static void test_request(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1};
	struct vac_engine_options o = {.backend = "reference"};
	const struct vac_task_options embed = {.task = VAC_TASK_EMBED};
	struct vac_engine *engine;
	struct vac_model *model;
	struct vac_error err;
	unsigned long n, failures = 0;
	assert_int_equal(vac_engine_open(&engine, &o, &err), 0);
	assert_int_equal(load(engine, tiny_write("model", &options), &model, &err), 0);
	for (n = 0; n < MOST; n++) {
		struct vac_input inputs[2] = {{.text = "w0 w1", .text_bytes = 5},
					      {.text = "w7", .text_bytes = 2}};
		struct vac_job *job;
		int done = 0;
		fail_after(n);
		int rc = vac_job_create(model, &embed, inputs, 2, &job, &err);
		if (rc == 0) {
			/* submitting and computing allocate nothing that could fail */
			vac_job_submit(job, count_done, &done);
			while ((rc = vac_engine_step(engine, &err)) > 0)
				;
			assert_int_equal(done, 1);
			assert_int_equal(vac_job_status(job, NULL), 0);
			vac_job_free(job);
		} else {
			assert_int_equal(rc, -ENOMEM);
			failures++;
		}
		bool refused = fail_count() > n;
		fail_never();
		assert_false(vac_engine_has_work(engine));
		if (!refused)
			break;
	}
	assert_true(failures >= 3);
	vac_engine_close(engine);
}

static int make_dir(void **state)
{
	(void)state;
	temp_dir_make();
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
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_request),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
