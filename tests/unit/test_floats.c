/*
 * test_floats.c - vac_format_float against strtof, which is the truth for
 * reading back, and against printf, which is the truth for how many digits
 * are needed. Also what one float costs.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/api.h"
#include "base/clock.h"

static float from_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static uint32_t to_bits(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/* Significant digits of a decimal: without leading and trailing zeros. */
static int significant(const char *text)
{
	int count = 0, zeros = 0;

	for (; *text && *text != 'e'; text++) {
		if (*text < '0' || *text > '9')
			continue;
		if (*text != '0') {
			count += zeros + 1;
			zeros = 0;
		} else if (count > 0) {
			zeros++;
		}
	}
	return count;
}

/* -? int frac? exp? of RFC 8259, and a '.' or an 'e' so that it is a float. */
static bool is_json_float(const char *at)
{
	bool marked = false;
	size_t n;

	at += *at == '-';
	n = strspn(at, "0123456789");
	if (n == 0 || (n > 1 && *at == '0'))
		return false;
	at += n;
	if (*at == '.') {
		n = strspn(++at, "0123456789");
		if (n == 0)
			return false;
		at += n;
		marked = true;
	}
	if (*at == 'e') {
		at += 1 + (at[1] == '-');
		n = strspn(at, "0123456789");
		if (n == 0)
			return false;
		at += n;
		marked = true;
	}
	return *at == '\0' && marked;
}

/* The fewest digits with which printf's (correctly rounded) decimal reads
 * back. Below six digits a rounded decimal that reads back is the only one
 * that can; the neighbour may read back too, with as many digits. */
static int fewest(float value)
{
	char text[48];

	for (int n = 1; n < 9; n++) {
		snprintf(text, sizeof(text), "%.*e", n - 1, (double)value);
		if (strtof(text, NULL) == value)
			return significant(text);
	}
	return 9;
}

static void check(uint32_t bits, bool minimal)
{
	float value = from_bits(bits);
	char text[VAC_FLOAT_TEXT_BYTES + 8];
	size_t n;

	memset(text, '#', sizeof(text));
	n = vac_format_float(text, value);
	if (n > VAC_FLOAT_TEXT_BYTES)
		fail_msg("%08x: %zu bytes", bits, n);
	for (size_t i = VAC_FLOAT_TEXT_BYTES; i < sizeof(text); i++) {
		if (text[i] != '#')
			fail_msg("%08x: writes at byte %zu", bits, i);
	}
	text[n] = '\0';
	if (!is_json_float(text))
		fail_msg("%08x: %s is no JSON number with a point or exponent", bits, text);
	if (to_bits(strtof(text, NULL)) != bits)
		fail_msg("%08x: %s reads back as %08x", bits, text, to_bits(strtof(text, NULL)));
	if (minimal && value != 0 && significant(text) > fewest(value))
		fail_msg("%08x: %s has more than %d digits", bits, text, fewest(value));
}

static void known_values(void **state)
{
	static const struct {
		float value;
		const char *text;
	} cases[] = {
		{0.0f, "0.0"},
		{-0.0f, "-0.0"},
		{1.0f, "1.0"},
		{-1.0f, "-1.0"},
		{0.1f, "0.1"},
		{0.5f, "0.5"},
		{100.0f, "100.0"},
		{1234.5f, "1234.5"},
		{16777216.0f, "16777216.0"},
		{123456789.0f, "123456790.0"},
		{1e9f, "1e9"},
		{1e10f, "1e10"},
		{3.4028235e38f, "3.4028235e38"},
		{1.17549435e-38f, "1.1754944e-38"},
		{1e-45f, "1e-45"},
		{0.00001f, "0.00001"},
		{0.000001f, "1e-6"},
		{-0.000012345f, "-0.000012345"},
		{0.3333333432674408f, "0.33333334"},
		{1.0f / 0.0f, "null"},
		{-1.0f / 0.0f, "null"},
		{NAN, "null"},
		{-NAN, "null"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[VAC_FLOAT_TEXT_BYTES + 1];
		size_t n = vac_format_float(text, cases[i].value);

		text[n] = '\0';
		assert_string_equal(text, cases[i].text);
	}
}

/* Around every power of two, every power of ten, and the subnormals. */
static void every_exponent(void **state)
{
	(void)state;
	for (uint32_t exponent = 0; exponent < 255; exponent++) {
		uint32_t base = exponent << 23;

		for (uint32_t i = 0; i < 64; i++) {
			check(base + i, true);
			check(base | (0x7fffff - i), true);
			check(base | (0x400000 - 32 + i), true);
			check((base + i) | 0x80000000, true);
		}
	}
	for (int power = -45; power <= 38; power++) {
		char text[16];
		uint32_t bits;

		snprintf(text, sizeof(text), "1e%d", power);
		bits = to_bits(strtof(text, NULL));
		for (uint32_t i = 0; i < 200; i++) {
			check(bits + i, true);
			if (bits > i)
				check(bits - i, true);
		}
	}
}

/* Integers, where decimals fall on the edge of the rounding interval. */
static void integers(void **state)
{
	(void)state;
	for (uint32_t i = 1; i < 100000; i++)
		check(to_bits((float)i), true);
	for (uint32_t i = 0; i < 100000; i++)
		check(to_bits((float)(16777216u + i * 2503u)), true);
}

/* A sanitizer makes each conversion ten times as slow and finds its faults in
 * far fewer of them. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
#define RANDOM_COUNT 200000
#else
#define RANDOM_COUNT 3000000
#endif

static uint64_t random_state = 88172645463325252u;
static uint32_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

static void random_bits(void **state)
{
	(void)state;
	for (int i = 0; i < RANDOM_COUNT; i++) {
		uint32_t bits = next_random();

		if ((bits & 0x7f800000) != 0x7f800000)
			check(bits, i % 8 == 0);
	}
}

/* Components of vectors of length one: what replies are made of. */
static void random_components(void **state)
{
	(void)state;
	for (int i = 0; i < RANDOM_COUNT / 3; i++) {
		double value = ((double)next_random() / 4294967296.0 - 0.5) / 4;

		check(to_bits((float)value), i % 4 == 0);
	}
}

static void cost(void **state)
{
	enum { COUNT = 1 << 14, ROUNDS = 20 };
	static float values[COUNT];
	char text[VAC_FLOAT_TEXT_BYTES];
	int64_t best = INT64_MAX;
	size_t total = 0;

	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		values[i] = (float)(((double)next_random() / 4294967296.0 - 0.5) / 4);
	for (int round = 0; round < ROUNDS; round++) {
		int64_t start = vac_now_ns();

		for (size_t i = 0; i < COUNT; i++)
			total += vac_format_float(text, values[i]);
		start = vac_now_ns() - start;
		if (start < best)
			best = start;
	}
	print_message("%.1f ns a float, %.2f bytes\n", (double)best / COUNT,
		      (double)total / COUNT / ROUNDS);
	assert_true(total > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_values),      cmocka_unit_test(every_exponent),
		cmocka_unit_test(integers),          cmocka_unit_test(random_bits),
		cmocka_unit_test(random_components), cmocka_unit_test(cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
