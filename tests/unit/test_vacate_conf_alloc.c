/*
 * test_vacate_conf_alloc.c - every allocation of reading a configuration fails in
 * turn, in a right file and in one full of mistakes: either that is said, or the
 * result is whole; nothing is left behind.
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

#include "cli/config_read.h"
#include "fail_alloc.h"
#include "temp_dir.h"

static int set_up(void **state)
{
	(void)state;
	temp_dir_make();
	temp_text("models/a/config.json", "{}");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

static void read_with_failures(const char *text, size_t problems)
{
	char path[512];
	unsigned long n, failures = 0;

	temp_text("vacate.conf", text);
	snprintf(path, sizeof(path), "%s", temp_path("vacate.conf"));
	for (n = 0;; n++) {
		struct vac_config *config = NULL;
		struct vac_error err;
		long live = fail_live();
		int rc;

		fail_after(n);
		rc = vac_config_read_file(path, &config, &err);
		if (fail_count() <= n) {
			assert_int_equal(rc, 0);
			assert_int_equal(config->problems.count, problems);
			vac_config_free(config);
			break;
		}
		fail_never();
		failures++;
		if (rc < 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_int_equal(err.code, VAC_E_NO_ROOM);
			assert_non_null(strstr(err.message, "out of memory"));
		} else {
			/* One that was not needed to know: it is told as a problem. */
			assert_true(config->problems.count >= problems);
			vac_config_free(config);
		}
		assert_int_equal(fail_live(), live);
	}
	fail_never();
	assert_true(failures >= 5);
}

static void test_right_file(void **state)
{
	(void)state;
	read_with_failures("[server]\nmodels = models\npin = a, c\njournal = x\n"
			   "[defaults]\nprompt = \"x\"\n"
			   "[model a]\npath = models/a\nalias = b, d\nalias = e\npin = yes\n",
			   0);
}

static void test_mistakes(void **state)
{
	(void)state;
	read_with_failures("port = 1\n[server]\nx\nprot = 1\nmodels = nowhere\npin = /\n"
			   "[model a]\npath = nowhere\nalias = a, /\n[model a]\nfoo = \"\n",
			   10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right_file),
		cmocka_unit_test(test_mistakes),
	};

	return cmocka_run_group_tests_name("vacate_conf_alloc", tests, set_up, tear_down);
}
