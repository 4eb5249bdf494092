/* test_json.c - the JSON reader: what it accepts, what it refuses and where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

/* Events as letters: { } [ ] k(ey) s(tring) i(nteger) n(umber) t f 0(null) */
static char letter(enum vac_json_type type)
{
	static const char letters[] = ".{}[]ksintf0";

	return type == VAC_JSON_ERROR ? '!' : letters[type];
}

/* Reads to the end; the letters of all events, '!' for an error. */
static void read_all(const char *text, size_t bytes, char *events, size_t room,
		     struct vac_error *err)
{
	struct vac_json json;
	enum vac_json_type type;
	size_t n = 0;

	memset(err, 0, sizeof(*err));
	vac_json_init(&json, "file", text, bytes, err);
	do {
		type = vac_json_next(&json);
		assert_true(n + 1 < room);
		events[n++] = letter(type);
	} while (type != VAC_JSON_ERROR && type != VAC_JSON_END);
	/* Both states stay. */
	assert_int_equal(vac_json_next(&json), type);
	events[n] = '\0';
	vac_json_free(&json);
}

static void check_events(const char *text, const char *expected)
{
	struct vac_error err;
	char events[512];

	read_all(text, strlen(text), events, sizeof(events), &err);
	assert_string_equal(events, expected);
}

static void events_in_order(void **state)
{
	(void)state;
	check_events("null", "0.");
	check_events(" \t\r\n true \n", "t.");
	check_events("{}", "{}.");
	check_events("[]", "[].");
	check_events("[[],{},[]]", "[[]{}[]].");
	check_events("{\"a\":1,\"b\":[true,false,null],\"c\":{\"d\":\"x\"}}", "{kik[tf0]k{ks}}.");
	check_events("[1,-1,0,-0,1.5,1e3,1E-3,0.0]", "[iiiinnnn].");
}

static void check_error(const char *text, size_t position, const char *what)
{
	struct vac_error err;
	char events[512], where[64];

	read_all(text, strlen(text), events, sizeof(events), &err);
	assert_int_equal(events[strlen(events) - 1], '!');
	assert_int_equal(err.code, VAC_E_CORRUPT);
	snprintf(where, sizeof(where), "file: byte %zu: ", position);
	if (strncmp(err.message, where, strlen(where)) != 0 || !strstr(err.message, what))
		fail_msg("%s: got \"%s\", expected %s...%s", text, err.message, where, what);
}

static void broken_syntax(void **state)
{
	(void)state;
	check_error("", 0, "the JSON ends where a value was expected");
	check_error("  ", 2, "ends where a value");
	check_error("tru", 0, "found 't' where a value");
	check_error("nul", 0, "found 'n' where a value");
	check_error("NaN", 0, "found 'N'");
	check_error("Infinity", 0, "found 'I'");
	check_error("'a'", 0, "found '''");
	check_error("[1,]", 3, "found ']' where a value");
	check_error("{\"a\":1,}", 7, "found '}' where a member name");
	check_error("{,}", 1, "found ',' where a member name");
	check_error("{a:1}", 1, "found 'a' where a member name");
	check_error("{\"a\" 1}", 5, "found '1' where a ':'");
	check_error("{\"a\":}", 5, "found '}' where a value");
	check_error("[1 2]", 3, "found '2' where ',' or ']'");
	check_error("{\"a\":1 \"b\":2}", 7, "found '\"' where ',' or '}'");
	check_error("[1}", 2, "found '}' where ',' or ']'");
	check_error("{\"a\":1]", 6, "found ']' where ',' or '}'");
	check_error("[1", 2, "the JSON ends where ',' or ']'");
	check_error("{\"a\":1", 6, "the JSON ends where ',' or '}'");
	check_error("1 2", 2, "found '2' where the document was complete");
	check_error("{} x", 3, "where the document was complete");
	check_error("[] // no", 3, "found '/' where the document");
	check_error("/* no */ 1", 0, "found '/' where a value");
	check_error("\xEF\xBB\xBF{}", 0, "found byte 0xEF where a value");
	check_error("[1,\x01]", 3, "found byte 0x01");
	check_error("]", 0, "found ']' where a value");
}

static void broken_numbers(void **state)
{
	(void)state;
	check_error("01", 0, "superfluous 0");
	check_error("-01", 0, "superfluous 0");
	check_error("-", 1, "ends where a digit");
	check_error("[-]", 2, "found ']' where a digit");
	check_error("+1", 0, "found '+' where a value");
	check_error(".5", 0, "found '.' where a value");
	check_error("1.", 2, "ends where a digit");
	check_error("[1.e3]", 3, "found 'e' where a digit");
	check_error("1e", 2, "ends where a digit");
	check_error("1e+", 3, "ends where a digit");
	check_error("[0, 1e999]", 4, "too large");
	check_error("[-1e999]", 1, "too large");
	check_error("0x10", 1, "found 'x' where the document");
}

static void broken_strings(void **state)
{
	(void)state;
	check_error("[\"abc", 1, "no closing quote");
	check_error("\"abc\\", 4, "ends in an escape");
	check_error("\"a\nb\"", 2, "control character");
	check_error("\"a\\xb\"", 2, "unknown escape");
	check_error("\"\\u12g4\"", 1, "four hex digits");
	check_error("\"\\u12", 1, "four hex digits");
	check_error("\"\\ud800\"", 1, "lone surrogate");
	check_error("\"\\udc00\"", 1, "lone surrogate");
	check_error("\"\\ud800\\ud800\"", 1, "lone surrogate");
	check_error("\"\\ud800x\"", 1, "lone surrogate");
	check_error("\"\\ud800\\n\"", 1, "lone surrogate");
}

static void broken_utf8(void **state)
{
	static const char *const bad[] = {"\x80",
					  "\xBF",
					  "\xC0\x80",
					  "\xC1\xBF",
					  "\xC3",
					  "\xC3\x28",
					  "\xE0\x80\x80",
					  "\xE0\x9F\xBF",
					  "\xE2\x82",
					  "\xED\xA0\x80",
					  "\xED\xBF\xBF",
					  "\xF0\x80\x80\x80",
					  "\xF0\x8F\xBF\xBF",
					  "\xF4\x90\x80\x80",
					  "\xF5\x80\x80\x80",
					  "\xFF",
					  "\xF0\x9F\x98"};
	char text[64];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "\"0123456789%s\"", bad[i]);
		check_error(text, 11, "invalid UTF-8");
		snprintf(text, sizeof(text), "{\"%s\":0}", bad[i]);
		check_error(text, 2, "invalid UTF-8");
		snprintf(text, sizeof(text), "[%s]", bad[i]);
		check_error(text, 1, "where a value");
	}
}

static void check_string(const char *text, const char *expected, size_t expected_bytes)
{
	struct vac_error err;
	struct vac_json json;

	vac_json_init(&json, "file", text, strlen(text), &err);
	assert_int_equal(vac_json_next(&json), VAC_JSON_STRING);
	assert_int_equal(json.text_bytes, expected_bytes);
	assert_memory_equal(json.text, expected, expected_bytes);
	assert_int_equal(vac_json_next(&json), VAC_JSON_END);
	vac_json_free(&json);
}

static void strings_unescaped(void **state)
{
	(void)state;
	check_string("\"\"", "", 0);
	check_string("\"plain\"", "plain", 5);
	check_string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8);
	check_string("\"a\\u0041\\u00e9\\u4E2D\"", "aA\xC3\xA9\xE4\xB8\xAD", 7);
	check_string("\"\\ud83d\\ude00!\"", "\xF0\x9F\x98\x80!", 5);
	check_string("\"\\udbff\\udfff\"", "\xF4\x8F\xBF\xBF", 4);
	check_string("\"\\u0000x\"", "\0x", 2);
	check_string("\"\\uffff\"", "\xEF\xBF\xBF", 3);
	check_string("\"long enough to be read in words of eight \\n bytes\"",
		     "long enough to be read in words of eight \n bytes", 48);
	check_string("\"\xC3\xA9\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\x7F\"",
		     "\xC3\xA9\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\x7F", 17);
}

static void numbers_exact(void **state)
{
	static const struct {
		const char *text;
		enum vac_json_type type;
		int64_t integer;
		double number;
	} cases[] = {
		{"0", VAC_JSON_INTEGER, 0, 0},
		{"-0", VAC_JSON_INTEGER, 0, 0},
		{"9223372036854775807", VAC_JSON_INTEGER, INT64_MAX, 0},
		{"-9223372036854775808", VAC_JSON_INTEGER, INT64_MIN, 0},
		{"9223372036854775808", VAC_JSON_NUMBER, 0, 9223372036854775808.0},
		{"-9223372036854775809", VAC_JSON_NUMBER, 0, -9223372036854775808.0},
		{"18446744073709551616", VAC_JSON_NUMBER, 0, 18446744073709551616.0},
		{"0.1", VAC_JSON_NUMBER, 0, 0.1},
		{"-2.5e-3", VAC_JSON_NUMBER, 0, -2.5e-3},
		{"1E+2", VAC_JSON_NUMBER, 0, 100},
		{"4.9406564584124654e-324", VAC_JSON_NUMBER, 0, 4.9406564584124654e-324},
		{"1e-999", VAC_JSON_NUMBER, 0, 0},
		{"1.7976931348623157e308", VAC_JSON_NUMBER, 0, 1.7976931348623157e308},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_error err;
		struct vac_json json;

		vac_json_init(&json, "file", cases[i].text, strlen(cases[i].text), &err);
		assert_int_equal(vac_json_next(&json), cases[i].type);
		if (cases[i].type == VAC_JSON_INTEGER)
			assert_true(json.integer == cases[i].integer);
		else
			assert_true(json.number == cases[i].number);
		assert_int_equal(vac_json_next(&json), VAC_JSON_END);
		vac_json_free(&json);
	}
}

static void number_length_limit(void **state)
{
	char text[600];

	(void)state;
	memset(text, '1', sizeof(text));
	text[511] = '\0';
	check_error(text, 0, "too large"); /* 1e510 */
	memcpy(text, "0.", 2);
	check_events(text, "n.");
	text[511] = '1';
	text[512] = '\0';
	check_error(text, 0, "more than 511 characters");
}

static void depth_limit(void **state)
{
	char text[2 * VAC_JSON_MAX_DEPTH + 3], expected[2 * VAC_JSON_MAX_DEPTH + 8];

	(void)state;
	memset(text, '[', VAC_JSON_MAX_DEPTH);
	memset(text + VAC_JSON_MAX_DEPTH, ']', VAC_JSON_MAX_DEPTH);
	text[2 * VAC_JSON_MAX_DEPTH] = '\0';
	snprintf(expected, sizeof(expected), "%s.", text);
	check_events(text, expected);
	memset(text, '[', VAC_JSON_MAX_DEPTH + 1);
	check_error(text, VAC_JSON_MAX_DEPTH, "64 levels");
}

static void skipping(void **state)
{
	static const char text[] =
		"{\"a\":{\"x\":[1,{\"y\":[]}]},\"b\":\"s\",\"c\":[[[]]],\"d\":7}";
	struct vac_error err;
	struct vac_json json;

	(void)state;
	vac_json_init(&json, "file", text, sizeof(text) - 1, &err);
	assert_int_equal(vac_json_expect(&json, VAC_JSON_OBJECT_BEGIN, "top"), 0);
	for (const char *key = "abc"; *key; key++) {
		char name[2] = {*key, '\0'};

		assert_int_equal(vac_json_expect(&json, VAC_JSON_KEY, "member"), 0);
		assert_true(vac_json_is(&json, name));
		assert_int_equal(vac_json_skip(&json), 0);
	}
	assert_int_equal(vac_json_expect(&json, VAC_JSON_KEY, "member"), 0);
	assert_true(vac_json_is(&json, "d"));
	assert_false(vac_json_is(&json, ""));
	assert_false(vac_json_is(&json, "dd"));
	assert_int_equal(vac_json_expect(&json, VAC_JSON_INTEGER, "d"), 0);
	assert_false(vac_json_is(&json, "7"));
	assert_int_equal(json.integer, 7);
	/* There is no value here. */
	assert_int_equal(vac_json_skip(&json), vac_error_errno(VAC_E_CORRUPT));
	assert_non_null(strstr(err.message, "expected a value, found the end of an object"));
	vac_json_free(&json);

	vac_json_init(&json, "file", "[1,[2,", 6, &err);
	assert_int_equal(vac_json_skip(&json), vac_error_errno(VAC_E_CORRUPT));
	assert_non_null(strstr(err.message, "file: byte 6: the JSON ends where a value"));
	vac_json_free(&json);
}

static void expecting(void **state)
{
	struct vac_error err;
	struct vac_json json;

	(void)state;
	vac_json_init(&json, "file", "  [1]", 5, &err);
	assert_int_equal(vac_json_expect(&json, VAC_JSON_OBJECT_BEGIN, "model.vocab"),
			 vac_error_errno(VAC_E_CORRUPT));
	assert_string_equal(err.message,
			    "file: byte 2: model.vocab: expected an object, found an array");
	/* It stays failed, and the first message stays. */
	assert_int_equal(vac_json_next(&json), VAC_JSON_ERROR);
	assert_int_equal(vac_json_fail(&json, VAC_E_TOO_LARGE, "something else"),
			 vac_error_errno(VAC_E_CORRUPT));
	assert_int_equal(vac_json_skip(&json), vac_error_errno(VAC_E_CORRUPT));
	assert_int_equal(vac_json_expect(&json, VAC_JSON_INTEGER, "x"),
			 vac_error_errno(VAC_E_CORRUPT));
	assert_non_null(strstr(err.message, "model.vocab: expected an object"));
	vac_json_free(&json);
}

static void failing_with_a_position(void **state)
{
	struct vac_error err;
	struct vac_json json;

	(void)state;
	vac_json_init(&json, "file", "{\"a\" : 12}", 10, &err);
	assert_int_equal(vac_json_expect(&json, VAC_JSON_OBJECT_BEGIN, "top"), 0);
	assert_int_equal(vac_json_expect(&json, VAC_JSON_KEY, "member"), 0);
	assert_int_equal(json.value_at, 1);
	assert_int_equal(vac_json_expect(&json, VAC_JSON_INTEGER, "a"), 0);
	assert_int_equal(vac_json_fail(&json, VAC_E_UNSUPPORTED, "no %d", 12),
			 vac_error_errno(VAC_E_UNSUPPORTED));
	assert_string_equal(err.message, "file: byte 7: no 12");
	assert_int_equal(err.code, VAC_E_UNSUPPORTED);
	vac_json_free(&json);

	vac_json_init(&json, "file", "x", 1, NULL); /* nobody wants to know */
	assert_int_equal(vac_json_next(&json), VAC_JSON_ERROR);
	vac_json_free(&json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_in_order), cmocka_unit_test(broken_syntax),
		cmocka_unit_test(broken_numbers),  cmocka_unit_test(broken_strings),
		cmocka_unit_test(broken_utf8),     cmocka_unit_test(strings_unescaped),
		cmocka_unit_test(numbers_exact),   cmocka_unit_test(number_length_limit),
		cmocka_unit_test(depth_limit),     cmocka_unit_test(skipping),
		cmocka_unit_test(expecting),       cmocka_unit_test(failing_with_a_position),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
