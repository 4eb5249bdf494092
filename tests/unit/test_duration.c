/* test_duration.c - durations as people, Go and Ollama write them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/api.h"

static void durations(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} cases[] = {
		{"0", 0},
		{"0s", 0},
		{"-0", 0},
		{"45", 45000},
		{"+45", 45000},
		{"0.5", 500},
		{".5", 500},
		{"5.", 5000},
		{"10m", 600000},
		{"1h30m", 5400000},
		{"1.5s", 1500},
		{"1h2m3s4ms", 3723004},
		{"250ms", 250},
		{"1500us", 2},
		{"2000\xc2\xb5s", 2},
		{"2000\xce\xbcs", 2},
		{"1ns", 1}, /* something is not nothing */
		{"2d", 172800000},
		{"-1", -1},
		{"-5m", -1},
		{"-0.001s", -1},
		{"36500d", INT64_C(3153600000000)},
		{"37000d", -1}, /* more than a hundred years */
		{"99999999999999999999999999h", -1},
		{"2562047h47m16.854775807s", -1}, /* Go's longest */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ms = 4711;

		if (vac_parse_duration_ms(cases[i].text, &ms) != 0)
			fail_msg("%s is refused", cases[i].text);
		if (ms != cases[i].ms)
			fail_msg("%s: %lld ms", cases[i].text, (long long)ms);
	}
}

static void no_durations(void **state)
{
	static const char *const cases[] = {
		"",   "-",   "+",     "s",    ".",   "-.",  "m5",  "5 m", " 5",  "5 ",    "1e3",
		"5x", "5mm", "5m-3s", "0x10", "inf", "nan", "5m3", "1,5", "--1", "5\xc2", "\xff",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ms = 4711;

		if (vac_parse_duration_ms(cases[i], &ms) != -EINVAL)
			fail_msg("\"%s\" is taken for %lld ms", cases[i], (long long)ms);
		assert_int_equal(ms, 4711);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations),
		cmocka_unit_test(no_durations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
