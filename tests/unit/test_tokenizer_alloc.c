/*
 * test_tokenizer_alloc.c - every allocation of reading a tokenizer.json, laying
 * it out and encoding fails in turn; each failure is reported as such, and
 * nothing is left behind (the sanitizers' leak check sees to malloc, the count
 * of mappings below to mmap).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "fail_alloc.h"
#include "text/tokenizer.h"

static struct vac_buf file;

static int read_tokenizer(void **state)
{
	const char *root = getenv("SRCDIR");
	struct vac_error err;
	char path[1024];

	(void)state;
	snprintf(path, sizeof(path), "%s/tests/golden/tokens/added.json", root ? root : ".");
	return vac_read_file(path, VAC_TOKENIZER_FILE_LIMIT_BYTES, &file, &err);
}

static int free_tokenizer(void **state)
{
	(void)state;
	vac_buf_free(&file);
	return 0;
}

/* Pages that are mapped, in all. */
static unsigned long mapped_pages(void)
{
	unsigned long pages = 0;
	FILE *statm = fopen("/proc/self/statm", "r");

	assert_non_null(statm);
	assert_int_equal(fscanf(statm, "%lu", &pages), 1);
	fclose(statm);
	return pages;
}

/* Parse, build and encode; 0 or the first error. */
static int go_through(struct vac_error *err, void *memory, size_t memory_bytes)
{
	static const char text[] = "[MASK] Caf\xC3\xA9 the fox jumps over \xE4\xB8\xAD\xE6\x96\x87 "
				   "unaffable e\xCC\x81\xCC\xA3 GPU";
	struct vac_encode_options options = {.add_special_tokens = true, .max_tokens = 12};
	struct vac_tokenizer_parsed *parsed;
	struct vac_encode_scratch *scratch;
	struct vac_encoding encoding;
	int rc;

	memset(err, 0, sizeof(*err));
	rc = vac_tokenizer_parse((char *)file.data, file.bytes, "added.json", &parsed, err);
	if (rc < 0)
		return rc;
	assert_true(vac_tokenizer_parsed_bytes(parsed) <= memory_bytes);
	memset(memory, 0, memory_bytes);
	vac_tokenizer_build(parsed, memory);
	vac_tokenizer_parsed_free(parsed);
	scratch = vac_encode_scratch_new();
	if (!scratch)
		return vac_fail_nomem(err, "a scratch", 0);
	rc = vac_encode(memory, text, sizeof(text) - 1, &options, scratch, &encoding, err);
	if (rc == 0)
		assert_int_equal(encoding.count, 12);
	vac_encode_scratch_free(scratch);
	return rc;
}

static void each_allocation_fails(void **state)
{
	size_t memory_bytes = (size_t)1 << 20;
	void *memory = malloc(memory_bytes);
	struct vac_error err;
	unsigned long pages = 0, n, failures = 0;

	(void)state;
	assert_non_null(memory);
	assert_int_equal(go_through(&err, memory, memory_bytes), 0);
	for (n = 0;; n++) {
		int rc;

		fail_after(n);
		rc = go_through(&err, memory, memory_bytes);
		if (fail_count() <= n) {
			assert_int_equal(rc, 0);
			break;
		}
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(err.code, VAC_E_NO_ROOM);
		assert_non_null(strstr(err.message, "out of memory"));
		failures++;
		fail_never();
		/* The C library's own mappings have settled after a few rounds. */
		if (n == 4)
			pages = mapped_pages();
	}
	fail_never();
	assert_in_range(failures, 10, 1000);
	/* A leaked arena would be a mapping of a mebibyte each. */
	assert_in_range(mapped_pages(), 0, pages + 64);
	assert_int_equal(go_through(&err, memory, memory_bytes), 0);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_fails),
	};

	return cmocka_run_group_tests_name("tokenizer_alloc", tests, read_tokenizer,
					   free_tokenizer);
}
