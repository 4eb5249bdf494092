/* test_stage.c - stages in a file: one line each, whose times are those of the call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/stage.h"
#include "temp_dir.h"

static void test_lines(void **state)
{
	int64_t before = vac_now_ns(), first, second, from, to;
	char name[32];
	FILE *file;
	int pid;

	(void)state;
	first = vac_stage("one", before);
	second = vac_stage("two", first);
	assert_true(before <= first && first <= second && second <= vac_now_ns());
	file = fopen(temp_path("stages"), "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d %31s %" SCNd64 " %" SCNd64 "\n", &pid, name, &from, &to),
			 4);
	assert_int_equal(pid, getpid());
	assert_string_equal(name, "one");
	assert_true(from == before && to == first);
	assert_int_equal(fscanf(file, "%d %31s %" SCNd64 " %" SCNd64 "\n", &pid, name, &from, &to),
			 4);
	assert_string_equal(name, "two");
	assert_true(from == first && to == second);
	assert_int_equal(fgetc(file), EOF);
	fclose(file);
}

static int begin(void **state)
{
	(void)state;
	temp_dir_make();
	return setenv("VACATE_STAGES", temp_path("stages"), 1);
}

static int end(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines)};

	return cmocka_run_group_tests(tests, begin, end);
}
