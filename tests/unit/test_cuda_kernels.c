/*
 * test_cuda_kernels.c - the kernels compile for every architecture and type of
 * element, by the NVRTC that is found; without one, the test is skipped. And
 * what the cache on disk must not use.
 */
#include <dirent.h>
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

#include "engine/cuda/kernels.h"
#include "temp_dir.h"

static void test_compile(void **state)
{
	(void)state;
	static const int architectures[] = {80, 90, 100}, elements[] = {16, 17, 32};
	const struct vac_nvrtc *nvrtc;
	struct vac_error err = {0};
	if (vac_nvrtc_load(99, &nvrtc, &err) < 0) {
		assert_int_equal(err.code, VAC_E_NOT_FOUND);
		assert_non_null(strstr(err.message, "VACATE_CUDA_PATH"));
		skip();
	}
	for (size_t a = 0; a < 3; a++) {
		for (size_t e = 0; e < 3; e++) {
			void *image;
			size_t bytes;
			if (vac_cuda_compile(nvrtc, architectures[a], elements[e], &image, &bytes,
					     &err) < 0)
				fail_msg("sm_%d: %s (%s)", architectures[a], err.message,
					 err.detail);
			assert_true(bytes > 1000);
			assert_memory_equal(image, "\177ELF", 4);
			free(image);
		}
	}
}

/* Those that the build compiled ahead, if it did, are code for that GPU. */
static void test_ahead(void **state)
{
	(void)state;
	if (!vac_cuda_cubins[0].image)
		skip();
	for (const struct vac_cuda_cubin *at = vac_cuda_cubins; at->image; at++) {
		uint16_t machine;
		uint32_t flags;
		assert_ptr_equal(vac_cuda_cubin(at->architecture, at->element), at->image);
		assert_int_equal((uintptr_t)at->image % 16, 0);
		assert_memory_equal(at->image, "\177ELF", 4);
		memcpy(&machine, (const char *)at->image + 18, sizeof(machine));
		assert_int_equal(machine, 190); /* EM_CUDA */
		memcpy(&flags, (const char *)at->image + 48, sizeof(flags));
		assert_true((flags & 0xff) == (uint32_t)at->architecture ||
			    (flags >> 8 & 0xff) == (uint32_t)at->architecture);
	}
	assert_null(vac_cuda_cubin(75, 16));
}

/* An NVRTC that gives eight bytes and counts. */
static int compiled;
static char code[] = "machine!";

static int fake_create(struct _nvrtcProgram **program, const char *source, const char *name,
		       int count, const char *const *headers, const char *const *names)
{
	(void)source, (void)name, (void)headers, (void)names;
	assert_int_equal(count, vac_cuda_source_count);
	*program = (struct _nvrtcProgram *)(void *)code;
	return 0;
}

static int fake_destroy(struct _nvrtcProgram **program)
{
	*program = NULL;
	return 0;
}

static int fake_compile(struct _nvrtcProgram *program, int count, const char *const *options)
{
	(void)program;
	assert_int_equal(count, 3);
	assert_non_null(strstr(options[0], "sm_90"));
	compiled++;
	return 0;
}

static int fail_compile(struct _nvrtcProgram *program, int count, const char *const *options)
{
	(void)program, (void)count, (void)options;
	return 6;
}

static int fake_bytes(struct _nvrtcProgram *program, size_t *bytes)
{
	(void)program;
	*bytes = 8;
	return 0;
}

static int fake_cubin(struct _nvrtcProgram *program, char *to)
{
	(void)program;
	memcpy(to, code, 8);
	return 0;
}

static int fake_log_bytes(struct _nvrtcProgram *program, size_t *bytes)
{
	(void)program;
	*bytes = 64;
	return 0;
}

static int fake_log(struct _nvrtcProgram *program, char *to)
{
	(void)program;
	memset(to, 0, 64);
	strcpy(to, "a.cu(1): warning: x\na.cu(7): error: no such\nmore\n");
	return 0;
}

static const struct vac_nvrtc fake = {
	.create = fake_create,
	.destroy = fake_destroy,
	.compile = fake_compile,
	.cubin_bytes = fake_bytes,
	.cubin = fake_cubin,
	.log_bytes = fake_log_bytes,
	.log = fake_log,
};

/* The only file in the cache. */
static const char *cached_file(void)
{
	static char path[768];
	char directory[512];
	*path = '\0';
	snprintf(directory, sizeof(directory), "%s", temp_path("vacate/kernels"));
	DIR *d = opendir(directory);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (*e->d_name == '.')
			continue;
		assert_string_equal(path, "");
		snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
	}
	closedir(d);
	return path;
}

static void get(int expected)
{
	struct vac_error err;
	void *image;
	size_t bytes;
	assert_int_equal(vac_cuda_kernels(13000, 90, 16, &image, &bytes, &err), 0);
	assert_int_equal(bytes, 8);
	assert_memory_equal(image, code, 8);
	free(image);
	assert_int_equal(compiled, expected);
}

static void test_cache(void **state)
{
	(void)state;
	struct stat st;
	vac_nvrtc_inject(&fake);
	setenv("XDG_CACHE_HOME", temp_path("."), 1);
	compiled = 0;
	get(1);
	get(1); /* from the cache */
	assert_int_equal(stat(cached_file(), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* damaged in its last byte, cut short, and open to others */
	FILE *f = fopen(cached_file(), "r+");
	assert_non_null(f);
	fseek(f, -1, SEEK_END);
	fputc('?', f);
	fclose(f);
	get(2);
	get(2);
	assert_int_equal(truncate(cached_file(), st.st_size - 1), 0);
	get(3);
	assert_int_equal(chmod(cached_file(), 0622), 0);
	get(4);
	get(4); /* it was replaced by one of ours */
	assert_int_equal(chmod(temp_path("vacate/kernels"), 0777), 0);
	get(5);
	get(6);
	assert_int_equal(chmod(temp_path("vacate/kernels"), 0700), 0);
	get(6);
	/* small things of other kinds */
	int number = 7, other = 0;
	char byte;
	assert_false(vac_cuda_cache_get("product-1", &other, sizeof(other)));
	vac_cuda_cache_put("product-1", &number, sizeof(number));
	assert_true(vac_cuda_cache_get("product-1", &other, sizeof(other)));
	assert_int_equal(other, 7);
	assert_false(vac_cuda_cache_get("product-1", &byte, sizeof(byte)));
	/* who had our number was killed while it wrote that */
	char name[64];
	snprintf(name, sizeof(name), "vacate/kernels/product-2.%ld", (long)getpid());
	f = fopen(temp_path(name), "w");
	assert_non_null(f);
	fclose(f);
	assert_true(vac_cuda_cache_put("product-2", &number, sizeof(number)));
	assert_true(vac_cuda_cache_get("product-2", &other, sizeof(other)));
	/* no place for a cache */
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
	get(7);
	vac_nvrtc_inject(NULL);
}

static void test_compile_error(void **state)
{
	(void)state;
	struct vac_nvrtc failing = fake;
	struct vac_error err = {0};
	void *image;
	size_t bytes;
	failing.compile = fail_compile;
	assert_int_equal(vac_cuda_compile(&failing, 90, 16, &image, &bytes, &err),
			 vac_error_errno(VAC_E_INTERNAL));
	assert_non_null(strstr(err.message, "sm_90"));
	assert_string_equal(err.detail, "a.cu(7): error: no such");
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
		cmocka_unit_test(test_compile),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_compile_error),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
