/*
 * test_cuda_mapped.c - files that the GPU reads in place: right vectors whatever the
 * windows, files that are cut short at any moment, drivers that refuse, and nothing
 * left registered. The driver is the fake of fake_cuda.c, which pins pages as the system
 * does.
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver/cuda.h"
#include "engine/cuda/backend.h"
#include "fake_cuda.h"
#include "memory/meter.h"
#include "temp_dir.h"
#include "tiny_model.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

/* Matrices of a MiB and vectors of a few KiB. */
static const struct tiny_options tiny = {
	.seed = 3, .hidden = 256, .heads = 4, .intermediate = 1024, .layers = 1};
static char warning[1024];
static int warnings;

static void warn(void *ctx, const char *text)
{
	(void)ctx;
	warnings++;
	snprintf(warning, sizeof(warning), "%s", text);
}

static struct vac_engine *open_engine(const char *how)
{
	const struct vac_engine_options options = {.backend = "cuda",
						   .threads = 3,
						   .dtype = "float32",
						   .max_batch_tokens = 64,
						   .warn = warn};
	struct vac_engine *engine;
	struct vac_error err;
	if (how)
		setenv("VACATE_CUDA_READ", how, 1);
	else
		unsetenv("VACATE_CUDA_READ");
	if (vac_engine_open(&engine, &options, &err) < 0)
		fail_msg("%s", err.message);
	return engine;
}

static int load(struct vac_engine *engine, const char *dir, struct vac_model **out,
		struct vac_error *err)
{
	int rc = vac_model_begin_load(engine, 1, dir, NULL, out, err);
	if (rc < 0)
		return rc;
	while ((rc = vac_model_load_step(*out, err)) > 0)
		;
	if (rc < 0)
		vac_model_close(*out, NULL);
	return rc;
}

static void mark_done(struct vac_job *job, void *ctx)
{
	(void)job;
	*(int *)ctx += 1;
}

static void check_vectors(struct vac_engine *engine, struct vac_model *model)
{
	static const int32_t ids[] = {2, 5, 6, 7, 8, 3};
	static double truth[2048];
	const struct vac_task_options options = {.task = VAC_TASK_EMBED};
	const struct vac_input input = {.ids = ids, .id_count = 6};
	struct vac_error err;
	struct vac_job *job;
	uint32_t rows, width;
	int done = 0;
	double largest = 0;
	assert_int_equal(vac_job_create(model, &options, &input, 1, &job, &err), 0);
	vac_job_submit(job, mark_done, &done);
	while (vac_engine_step(engine, &err) > 0)
		;
	assert_int_equal(vac_job_status(job, &err), 0);
	const float *vector = vac_job_vectors(job, &rows, &width);
	tiny_truth(ids, 6, truth);
	for (uint32_t i = 0; i < width; i++)
		largest = fmax(largest, fabs(truth[i]));
	for (uint32_t i = 0; i < width; i++)
		if (!(fabs(vector[i] - truth[i]) <= 2.5e-6 * tiny_gain() * largest))
			fail_msg("component %u: %.9g, the truth is %.9g", i, vector[i], truth[i]);
	vac_job_free(job);
}

static void check_nothing_is_left(struct vac_engine *engine)
{
	vac_engine_close(engine);
	assert_int_equal(fake_cuda_live(), 0);
	assert_int_equal(fake_cuda.used_bytes, 0);
}

static uint64_t file_bytes(const char *dir)
{
	char path[512];
	struct stat st;
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

/* Every type of number, windows of every kind: less than a matrix, as large as the
 * file, and so small that all of them are needed again and again. */
static void test_vectors(void **state)
{
	(void)state;
	static const uint64_t windows[] = {16 * KIB, 64 * KIB, 16 * MIB};
	static const enum tiny_dtype dtypes[] = {TINY_F32, TINY_F16, TINY_BF16};
	for (size_t i = 0; i < 9; i++) {
		struct tiny_options options = tiny;
		struct vac_error err = {0};
		struct vac_model *model;
		options.dtype = dtypes[i / 3];
		const char *dir = tiny_write("model", &options);
		fake_cuda_reset();
		vac_cuda_window_bytes = windows[i % 3];
		struct vac_engine *engine = open_engine("mapped");
		if (load(engine, dir, &model, &err) < 0)
			fail_msg("%s", err.message);
		check_vectors(engine, model);
		/* large matrices go this way, vectors do not; with the smallest windows not all
		 * of a matrix have room at a time */
		if (i % 3 == 2)
			assert_true(fake_cuda.bytes_in_place > file_bytes(dir) / 2);
		else if (i % 3 == 1)
			assert_true(fake_cuda.bytes_in_place > file_bytes(dir) / 10);
		assert_true(fake_cuda.bytes_in_place < file_bytes(dir));
		assert_int_equal(fake_cuda.registered, 0);
		check_nothing_is_left(engine);
		assert_int_equal(warnings, 0);
	}
}

/* The ring unless something else is asked for; a word that is none is told. */
static void test_ways(void **state)
{
	(void)state;
	static const struct {
		const char *how;
		bool in_place;
		int warnings;
	} cases[] = {{"ring", false, 0}, {"mapped", true, 0}, {"auto", false, 0}, /* it is small */
		     {NULL, false, 0},   {"", false, 0},      {"Mapped", false, 1}};
	const char *dir = tiny_write("model", &tiny);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_error err = {0};
		struct vac_model *model;
		fake_cuda_reset();
		warnings = 0;
		struct vac_engine *engine = open_engine(cases[i].how);
		assert_int_equal(load(engine, dir, &model, &err), 0);
		check_vectors(engine, model);
		assert_int_equal(fake_cuda.pages_registered > 0, cases[i].in_place);
		assert_int_equal(warnings, cases[i].warnings);
		check_nothing_is_left(engine);
	}
	assert_non_null(strstr(warning, "VACATE_CUDA_READ takes mapped, ring or auto"));
}

/* Where the driver cannot, the ring can; it is asked and told once. */
static void test_refused(void **state)
{
	(void)state;
	const char *dir = tiny_write("model", &tiny);
	struct vac_error err = {0};
	struct vac_model *model;
	for (int kind = 0; kind < 2; kind++) {
		fake_cuda_reset();
		warnings = 0;
		if (kind == 0)
			fake_cuda.read_only = 0;
		else
			fake_cuda.refuse_pages = VAC_CU_NOT_PERMITTED;
		struct vac_engine *engine = open_engine("mapped");
		for (int i = 0; i < 2; i++) {
			assert_int_equal(load(engine, dir, &model, &err), 0);
			check_vectors(engine, model);
			vac_model_close(model, NULL);
			assert_int_equal(warnings, 1);
			fake_cuda.refuse_pages = 0; /* too late */
			fake_cuda.read_only = 1;
		}
		assert_int_equal(fake_cuda.pages_registered, 0);
		assert_non_null(
			strstr(warning, "files are copied to the GPU and not read in place"));
		assert_int_equal(strstr(warning, "the driver does not permit it") != NULL,
				 kind == 1);
		check_nothing_is_left(engine);
	}
}

/* At each step of a load the file is cut to each of a few lengths: that is an error
 * which names it, or was too late to matter; never a signal. */
static void test_cut_short(void **state)
{
	(void)state;
	static const uint64_t parts[] = {0, 3, 9}; /* tenths of it that stay */
	int errors = 0, steps = 0, most = 0;
	fake_cuda_reset();
	vac_cuda_window_bytes = 256 * KIB;
	for (size_t i = 0; i < 3; i++) {
		for (steps = 0; steps <= most || most == 0; steps++) {
			const char *dir = tiny_write("model", &tiny);
			struct vac_error err = {0};
			struct vac_model *model;
			char path[512];
			int rc = 1, taken = 0;
			struct vac_engine *engine = open_engine("mapped");
			snprintf(path, sizeof(path), "%s/model.safetensors", dir);
			assert_int_equal(vac_model_begin_load(engine, 1, dir, NULL, &model, &err),
					 0);
			while (rc > 0) {
				if (taken++ == steps)
					assert_int_equal(truncate(path, (off_t)(file_bytes(dir) *
										parts[i] / 10)),
							 0);
				rc = vac_model_load_step(model, &err);
			}
			if (taken > most)
				most = taken;
			if (rc < 0) {
				errors++;
				assert_int_equal(err.code, VAC_E_CORRUPT);
				assert_non_null(strstr(err.message, "model.safetensors"));
			} else {
				check_vectors(engine, model);
			}
			vac_model_close(model, NULL);
			check_nothing_is_left(engine);
			assert_int_equal(warnings, 0);
		}
	}
	assert_true(errors >= 3);
}

/* Cut after its last window was registered, before all of it was copied: what the
 * pages held may be half of it. */
static const char *cut_path;
static void cut(void)
{
	assert_int_equal(truncate(cut_path, 100), 0);
}

static void test_cut_at_the_last_moment(void **state)
{
	(void)state;
	static char path[512];
	const char *dir = tiny_write("model", &tiny);
	struct vac_error err = {0};
	struct vac_model *model;
	fake_cuda_reset();
	fake_cuda.on_upload = cut;
	fake_cuda.upload_from = 1 * MIB; /* of what is read in place */
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	cut_path = path;
	struct vac_engine *engine = open_engine("mapped");
	assert_int_equal(load(engine, dir, &model, &err), vac_error_errno(VAC_E_CORRUPT));
	assert_int_equal(err.code, VAC_E_CORRUPT);
	assert_non_null(strstr(err.message, "model.safetensors"));
	check_nothing_is_left(engine);
}

/* What is not in the page cache is read, and not faulted in page by page. */
static void test_cold(void **state)
{
	(void)state;
	const char *dir = tiny_write("model", &tiny);
	char path[512];
	struct vac_weight_file file = {.path = path};
	struct vac_error err = {0};
	struct vac_compute c = {.mapped.read = VAC_CUDA_READ_MAPPED, .dtype = VAC_DTYPE_F32};
	struct vac_fetch item = {.file = &file, .count = MIB / 4, .dtype = VAC_DTYPE_F32};
	uint64_t cached;
	const struct vac_cuda *cuda;
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	file.fd = open(path, O_RDONLY | O_CLOEXEC);
	file.bytes = file_bytes(dir);
	assert_true(file.fd >= 0 && fsync(file.fd) == 0);
	assert_int_equal(vac_drop_page_cache(path, &err), 0);
	bool cold = vac_meter_page_cache(path, &cached, &err) == 0 && cached < file.bytes;
	assert_int_equal(vac_cuda_load(&cuda, &err), 0);
	c.cuda = cuda;
	fake_cuda_reset();
	if (cold)
		assert_false(vac_cuda_mapped_has(&c, &item));
	assert_int_equal(fake_cuda.pages_registered, 0);
	assert_int_equal(vac_cuda_mapped_end(&c, &err), 0);
	close(file.fd);
	if (!cold)
		skip(); /* a file system in memory, or one that does not tell */
}

/* Every call of the driver fails in turn. */
static void test_each_call_fails(void **state)
{
	(void)state;
	const char *dir = tiny_write("model", &tiny);
	vac_cuda_window_bytes = 512 * KIB;
	for (long n = 0;; n++) {
		struct vac_error err = {0};
		struct vac_model *model;
		fake_cuda_reset();
		fake_cuda.fail_at = n;
		fake_cuda.fail_with = VAC_CU_OUT_OF_MEMORY;
		struct vac_engine *engine = open_engine("mapped");
		int rc = load(engine, dir, &model, &err);
		const char *failed = fake_cuda.failed;
		if (rc < 0)
			assert_int_equal(err.code, VAC_E_NO_ROOM);
		fake_cuda.fail_at = -1;
		if (rc == 0 && (!failed || strcmp(failed, "host_register") == 0 ||
				strcmp(failed, "device_attribute") == 0))
			check_vectors(engine, model);
		check_nothing_is_left(engine);
		if (!failed) {
			assert_int_equal(rc, 0);
			assert_true(n > 60);
			break;
		}
	}
}

static int set_up(void **state)
{
	(void)state;
	setenv("VACATE_HOLD_DIR", temp_dir_make(), 1);
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
	fake_cuda_reset();
	fake_cuda_install();
	warnings = 0;
	vac_cuda_window_bytes = 16 * MIB;
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
		TEST(test_vectors),
		TEST(test_ways),
		TEST(test_refused),
		TEST(test_cut_short),
		TEST(test_cut_at_the_last_moment),
		TEST(test_cold),
		TEST(test_each_call_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
