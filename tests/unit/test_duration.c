/* test_duration.c - durations as people, Go and Ollama write them, and moments. */
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

#define NOW_NS INT64_C(1800000000000000000)

static void moments(void **state)
{
	static const struct {
		const char *text;
		int64_t wall_ns;
	} cases[] = {
		{"1970-01-01T00:00:00Z", INT64_C(0)},
		{"2026-01-31T12:00:00Z", INT64_C(1769860800000000000)},
		{"2026-11-21t10:20:30.123456z", INT64_C(1795256430123456000)},
		{"2024-02-29 23:59:60Z", INT64_C(1709251200000000000)},
		{"2000-02-29T00:00:00+00:00", INT64_C(951782400000000000)},
		{"2026-01-01T00:30:00+01:00", INT64_C(1767223800000000000)},
		{"2026-12-31T23:30:00-01:30", INT64_C(1798765200000000000)},
		{"2100-03-01T00:00:00Z", INT64_C(4107542400000000000)},
		{"2261-12-31T23:59:59.999999999Z", INT64_C(9214646399999999999)},
		{"2026-01-31T12:00:00.1234567891234Z", INT64_C(1769860800123456789)},
		{"1h", NOW_NS - INT64_C(3600000000000)},
		{"45", NOW_NS - INT64_C(45000000000)},
		{"37000d", 0}, /* more than a hundred years: all */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t wall_ns = 4711;

		if (vac_parse_since(cases[i].text, NOW_NS, &wall_ns) != 0)
			fail_msg("%s is refused", cases[i].text);
		if (wall_ns != cases[i].wall_ns)
			fail_msg("%s: %lld ns", cases[i].text, (long long)wall_ns);
	}
}

static void no_moments(void **state)
{
	static const char *const cases[] = {
		"",
		"-1h",
		"-1",
		"yesterday",
		"2026-01-31",
		"2026-01-31T12:00:00",
		"2026-01-31T12:00Z",
		"2026-02-29T00:00:00Z",
		"1900-02-29T00:00:00Z",
		"1969-12-31T23:59:59Z",
		"2262-01-01T00:00:00Z",
		"2026-13-01T00:00:00Z",
		"2026-00-01T00:00:00Z",
		"2026-01-32T00:00:00Z",
		"2026-01-00T00:00:00Z",
		"2026-01-31T24:00:00Z",
		"2026-01-31T12:60:00Z",
		"2026-01-31T12:00:61Z",
		"2026-01-31T12:00:00.Z",
		"2026-01-31T12:00:00+1:00",
		"2026-01-31T12:00:00+24:00",
		"2026-01-31T12:00:00+01:60",
		"2026-01-31T12:00:00+0100",
		"2026-01-31T12:00:00Z ",
		"2026-01-31T12:00:00ZZ",
		"26-01-31T12:00:00Z",
		"2026-1-31T12:00:00Z",
		"+2026-01-31T12:00:00Z",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t wall_ns = 4711;

		if (vac_parse_since(cases[i], NOW_NS, &wall_ns) != -EINVAL)
			fail_msg("\"%s\" is taken for %lld ns", cases[i], (long long)wall_ns);
		assert_int_equal(wall_ns, 4711);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations),
		cmocka_unit_test(no_durations),
		cmocka_unit_test(moments),
		cmocka_unit_test(no_moments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
