/*
 * test_cuda_failures.c - the cuda backend without a GPU: every call of the driver and of
 * cuBLASLt fails in turn and nothing is left, room is short, and one sentence for each thing
 * that is missing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda_world.h"
#include "driver/cuda.h"
#include "engine/compute.h"

#define MIB ((uint64_t)1 << 20)

/* Every call of the driver fails in turn, once and for good. */
static void test_each_call_fails(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 8};
	const char *dir = tiny_write("model", &options);
	const int results[] = {VAC_CU_OUT_OF_MEMORY, VAC_CU_ILLEGAL_ADDRESS};
	for (int kind = 0; kind < 2; kind++) {
		for (long n = 0;; n++) {
			struct vac_error err = {0};
			fake_cuda_reset();
			fake_cuda.fail_at = n;
			fake_cuda.fail_with = results[kind];
			/* what is sticky stays */
			fake_cuda.fail_lasts = kind;
			struct vac_engine *engine = world_engine("float32");
			int rc = world_answer(engine, dir, &err);
			const char *failed = fake_cuda.failed;
			/* a name is asked for twice: without the second there is no lock */
			if (failed && rc == 0 && strcmp(failed, "stream_synchronize") != 0 &&
			    strcmp(failed, "ctx_push") != 0 && strcmp(failed, "device_name") != 0)
				fail_msg("call %ld, %s, failed and nobody noticed", n, failed);
			if (failed && rc < 0 && (err.code == VAC_OK || !*err.message))
				fail_msg("call %ld, %s: no error", n, failed);
			if (rc < 0 && kind == 0 && err.code != VAC_E_NO_ROOM)
				fail_msg("call %ld, %s: %s", n, failed, err.message);
			world_nothing_is_left(engine);
			vac_engine_close(engine);
			if (!failed) {
				assert_int_equal(rc, 0);
				assert_true(n > 60);
				break;
			}
		}
	}
}

/* What is sticky is told as that, also where memory was asked for: a lost GPU has room. */
static void test_lost_is_no_want_of_room(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 8};
	const char *dir = tiny_write("model", &options);
	for (long n = 0;; n++) {
		struct vac_error err = {0};
		struct vac_model *model;
		fake_cuda_reset();
		fake_cuda.fail_at = n;
		fake_cuda.fail_with = VAC_CU_ILLEGAL_ADDRESS;
		fake_cuda.fail_lasts = 1;
		struct vac_engine *engine = world_engine("float32");
		int rc = world_load(engine, 1, dir, &model, &err);
		const char *failed = fake_cuda.failed;
		if (rc < 0 && err.code != VAC_E_GONE)
			fail_msg("call %ld, %s: %s", n, failed, err.message);
		if (rc == 0)
			vac_model_close(model, NULL);
		vac_engine_close(engine);
		if (rc == 0 && !failed)
			break;
	}
}

/* Every call of a second model's load fails once, and every call of its unload: the first
 * model answers on, and what it is told is its own. */
static void test_a_neighbour_answers_on(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 8};
	const char *dir = tiny_write("model", &options);
	bool all = false;
	for (long n = 0; !all; n++) {
		float vectors[WORLD_TEXTS * 8];
		struct vac_error err = {0};
		struct vac_model *first, *second;
		fake_cuda_reset();
		struct vac_engine *engine = world_engine("float32");
		assert_int_equal(world_load(engine, 1, dir, &first, &err), 0);
		uint64_t used = fake_cuda.used_bytes;
		fake_cuda.fail_at = fake_cuda.calls + n;
		fake_cuda.fail_with = VAC_CU_OUT_OF_MEMORY;
		int rc = world_load(engine, 2, dir, &second, &err);
		all = rc == 0 && !fake_cuda.failed;
		const char *failed = fake_cuda.failed ? fake_cuda.failed : "none";
		fake_cuda.fail_at = -1;
		err = (struct vac_error){0};
		if (world_embed(engine, first, vectors, &err) < 0)
			fail_msg("call %ld, %s, of the load: the other one's batch: %s", n, failed,
				 err.message);
		world_truth(vectors);
		if (rc == 0)
			vac_model_close(second, NULL);
		assert_int_equal(fake_cuda.used_bytes, used);
		if (world_embed(engine, first, vectors, &err) < 0)
			fail_msg("call %ld, %s: %s", n, failed, err.message);
		vac_model_close(first, NULL);
		world_nothing_is_left(engine);
		vac_engine_close(engine);
	}
}

/* A device that a load or an unload finds lost ends the engine's next step, also when
 * nobody asks the model that is left: its context is of no use to anybody. */
static void test_lost_beside_another(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 8};
	const char *dir = tiny_write("model", &options);
	for (int unload = 0; unload < 2; unload++) {
		for (long n = 0; n < 20; n++) {
			struct vac_error err = {0};
			struct vac_model *first, *second;
			fake_cuda_reset();
			struct vac_engine *engine = world_engine("float32");
			assert_int_equal(world_load(engine, 1, dir, &first, &err), 0);
			if (unload)
				assert_int_equal(world_load(engine, 2, dir, &second, &err), 0);
			fake_cuda.fail_at = fake_cuda.calls + n;
			fake_cuda.fail_with = VAC_CU_ECC_UNCORRECTABLE;
			fake_cuda.fail_lasts = 1;
			if (unload)
				vac_model_close(second, NULL);
			else
				assert_int_equal(world_load(engine, 2, dir, &second, &err),
						 vac_error_errno(VAC_E_GONE));
			if (!fake_cuda.failed) { /* an unload asks for little */
				assert_true(unload && n > 2);
				vac_engine_close(engine);
				break;
			}
			err = (struct vac_error){0};
			if (!vac_engine_has_work(engine))
				fail_msg("call %ld, %s: nothing is to be told", n,
					 fake_cuda.failed);
			assert_int_equal(vac_engine_step(engine, &err),
					 vac_error_errno(VAC_E_GONE));
			assert_non_null(strstr(err.message, "ECC"));
			vac_engine_close(engine);
		}
	}
}

static void test_each_blas_call_fails(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1, .dense_out = 8};
	const char *dir = tiny_write("model", &options);
	for (long n = 0;; n++) {
		struct vac_error err = {0};
		fake_cuda_reset();
		fake_cuda.blas_fail_at = n;
		struct vac_engine *engine = world_engine("float32");
		int rc = world_answer(engine, dir, &err);
		bool failed = fake_cuda.blas_calls > n;
		if (rc < 0) {
			assert_int_equal(err.code, VAC_E_INTERNAL);
			assert_non_null(strstr(err.message, "cuBLASLt"));
		}
		world_nothing_is_left(engine);
		vac_engine_close(engine);
		if (!failed) {
			assert_int_equal(rc, 0);
			assert_true(n > 40);
			break;
		}
	}
}

/* Too little room on the device for each region in turn. */
static void test_no_room(void **state)
{
	(void)state;
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	const char *const missing[] = {"weights", "packed", "activations"};
	for (uint64_t i = 0; i < 3; i++) {
		struct vac_error err = {0};
		struct vac_model *model;
		fake_cuda_reset();
		fake_cuda.room_bytes = (2 * i + 1) * MIB;
		struct vac_engine *engine = world_engine("float32");
		assert_int_equal(world_load(engine, 1, dir, &model, &err), -ENOMEM);
		assert_int_equal(err.code, VAC_E_NO_ROOM);
		if (!strstr(err.message, missing[i]))
			fail_msg("\"%s\" does not say \"%s\"", err.message, missing[i]);
		world_nothing_is_left(engine);
		/* there is room again: it loads */
		fake_cuda.room_bytes = 100 * MIB;
		assert_int_equal(world_load(engine, 1, dir, &model, &err), 0);
		vac_engine_close(engine);
		assert_int_equal(fake_cuda_live(), 0);
	}
}

static void refuse(enum vac_error_code code, const char *part)
{
	const struct tiny_options options = {.seed = 1};
	const char *dir = tiny_write("model", &options);
	struct vac_error err = {0};
	struct vac_model *model;
	struct vac_engine *engine = world_engine("float32");
	assert_int_equal(world_load(engine, 1, dir, &model, &err), vac_error_errno(code));
	assert_int_equal(err.code, code);
	if (!strstr(err.message, part))
		fail_msg("\"%s\" does not say \"%s\"", err.message, part);
	world_nothing_is_left(engine);
	vac_engine_close(engine);
	fake_cuda_reset();
}

static void test_refused_devices(void **state)
{
	(void)state;
	fake_cuda_reset();
	fake_cuda.devices = 0;
	refuse(VAC_E_NOT_FOUND, "the driver sees no GPU");
	fake_cuda.driver = 11080;
	refuse(VAC_E_UNSUPPORTED, "made for CUDA 11.8; install driver 525");
	fake_cuda.major = 7;
	fake_cuda.minor = 5;
	refuse(VAC_E_UNSUPPORTED, "compute capability 7.5; 8.0");
	fake_cuda.vmm = 0;
	refuse(VAC_E_UNSUPPORTED, "virtual memory management");
	fake_cuda.fail_at = 0;
	fake_cuda.fail_with = VAC_CU_OPERATING_SYSTEM;
	refuse(VAC_E_IO, "who may open /dev/nvidia*");
	fake_cuda.fail_at = 0;
	fake_cuda.fail_with = VAC_CU_DRIVER_MISMATCH;
	refuse(VAC_E_UNSUPPORTED, "different versions; reboot");
	fake_cuda.fail_at = 0;
	fake_cuda.fail_with = 999;
	refuse(VAC_E_GONE, "dmesg");
}

static void test_refused_options(void **state)
{
	(void)state;
	struct vac_engine *engine;
	struct vac_error err = {0};
	struct vac_engine_options options = {.backend = "cuda", .dtype = "float64"};
	uint32_t number;
	assert_int_equal(vac_engine_open(&engine, &options, &err), -ENOTSUP);
	assert_non_null(strstr(err.message,
			       "does not compute in float64; it can: float16, bfloat16, float32"));
	options = (struct vac_engine_options){.backend = "reference", .dtype = "float16"};
	assert_int_equal(vac_engine_open(&engine, &options, &err), -ENOTSUP);
	assert_non_null(strstr(err.message,
			       "backend reference does not compute in float16; it can: float32"));
	const char *backend;
	assert_int_equal(vac_engine_parse_device("cuda:3", &backend, &number, &err), 0);
	assert_string_equal(backend, "cuda");
	assert_int_equal(number, 3);
	assert_int_equal(vac_engine_parse_device("cpu", &backend, &number, &err), 0);
	assert_string_equal(backend, "cpu");
	const char *const bad[] = {"", "cuda:", "cuda:x", "cuda:1x", "cuda:256", "gpu", "cuda:-1"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(vac_engine_parse_device(bad[i], &backend, &number, &err), -EINVAL);
		assert_non_null(strstr(err.message, "is not a device"));
	}
	/* a GPU that is not there is found out when it is needed */
	fake_cuda_reset();
	struct vac_model *model;
	const struct tiny_options tiny = {.seed = 1};
	const char *dir = tiny_write("model", &tiny);
	options = (struct vac_engine_options){.backend = "cuda", .device = 2};
	assert_int_equal(vac_engine_open(&engine, &options, &err), 0);
	assert_int_equal(world_load(engine, 1, dir, &model, &err), -ENOENT);
	assert_non_null(strstr(err.message, "there is no cuda:2: the driver shows 1 GPU"));
	vac_engine_close(engine);
}

static void test_no_driver(void **state)
{
	(void)state;
	const struct vac_cuda *cuda;
	struct vac_error err = {0};
	fake_cuda_remove();
	int rc = vac_cuda_load(&cuda, &err);
	fake_cuda_install();
	if (rc == 0)
		skip(); /* this machine has one */
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_non_null(strstr(err.message, "there is no NVIDIA driver here"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost_is_no_want_of_room),
		cmocka_unit_test(test_a_neighbour_answers_on),
		cmocka_unit_test(test_lost_beside_another),
		cmocka_unit_test(test_each_call_fails),
		cmocka_unit_test(test_each_blas_call_fails),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_refused_devices),
		cmocka_unit_test(test_refused_options),
		cmocka_unit_test(test_no_driver),
	};
	return cmocka_run_group_tests(tests, world_begin, world_end);
}
