/* test_size.c - amounts of memory as people write them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/size.h"

static void test_bytes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"65536", 65536},
		{"1B", 1},
		{"64K", UINT64_C(65536)},
		{"64KiB", UINT64_C(65536)},
		{"64KB", UINT64_C(64000)},
		{"512MiB", UINT64_C(536870912)},
		{"512MB", UINT64_C(512000000)},
		{"12GB", UINT64_C(12000000000)},
		{"1.5G", UINT64_C(1610612736)},
		{"2.25KB", UINT64_C(2250)},
		{"0.0005KB", 0},
		{"2T", UINT64_C(2199023255552)},
		{"18446744073709551615", UINT64_MAX},
	};
	static const char *const bad[] = {
		"",          "B",
		"-1",        "+1",
		" 1",        "1 ",
		"1.5",       "1.5B",
		"1.G",       ".5G",
		"1kb",       "1KIB",
		"1Ki",       "1KiBs",
		"1e3",       "0x10",
		"1,5G",      "1.5.1G",
		"80%",       "G",
		"12 GB",     "1GBB",
		"99999T99",  "18446744073709551616",
		"16777217T", "18446744073709551615.5K",
	};
	uint64_t bytes = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(vac_size_parse_bytes(good[i].text, &bytes), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vac_size_parse_bytes(bad[i], &bytes), -EINVAL);
}

static void test_shares(void **state)
{
	static const char *const bad[] = {"101%", "100.5%", "-5%", "%", "5%%", "5 %", "5%B", ""};
	struct vac_size size;

	(void)state;
	assert_int_equal(vac_size_parse("80%", &size), 0);
	assert_true(size.is_share);
	assert_int_equal(vac_size_of(&size, 1000), 800);
	assert_int_equal(vac_size_parse("2.5%", &size), 0);
	assert_int_equal(vac_size_of(&size, 1000), 25);
	assert_int_equal(vac_size_parse("100%", &size), 0);
	assert_int_equal(vac_size_of(&size, 1000), 1000);
	assert_int_equal(vac_size_parse("0%", &size), 0);
	assert_int_equal(vac_size_of(&size, 1000), 0);
	assert_int_equal(vac_size_parse("512MiB", &size), 0);
	assert_false(size.is_share);
	assert_int_equal(vac_size_of(&size, 1000), 536870912);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vac_size_parse(bad[i], &size), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
