/*
 * test_cli.c - numbers as text, fitting text into columns, and HTTP responses
 * cut into pieces at every byte. What the program prints is tested from
 * outside, in tests/e2e/test_cli_tables.py.
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

#include "base/error.h"
#include "cli/format.h"
#include "cli/http_client.h"
#include "cli/http_parse.h"
#include "cli/table.h"

static void test_bytes(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{0, "0 B"},
		{1023, "1023 B"},
		{1024, "1.0 KiB"},
		{102297, "99.9 KiB"},
		{102399, "100 KiB"},    /* never "100.0" */
		{1048063, "1023 KiB"},  /* 1023.499 */
		{1048064, "1.0 MiB"},   /* 1023.5 would round to "1024 KiB" */
		{95315558, "90.9 MiB"}, /* 90.9000 */
		{536870912, "512 MiB"},
		{1073741823, "1.0 GiB"},
		{25276448768, "23.5 GiB"},
		{UINT64_C(1) << 50, "1.0 PiB"},
		{UINT64_MAX, "16.0 EiB"},
	};
	char text[VAC_TEXT_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(vac_format_bytes(text, cases[i].bytes), cases[i].text);
	assert_string_equal(vac_format_signed_bytes(text, 0, 1), "0 B");
	assert_string_equal(vac_format_signed_bytes(text, 2048, 1), "+2.0 KiB");
	assert_string_equal(vac_format_signed_bytes(text, 2048, 0), "2.0 KiB");
	assert_string_equal(vac_format_signed_bytes(text, -2048, 0), "-2.0 KiB");
	assert_string_equal(vac_format_signed_bytes(text, INT64_MIN, 1), "-8.0 EiB");
}

static void test_durations(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
		{-5, "0 ms"},         {0, "0 ms"},
		{999, "999 ms"},      {1000, "1.0 s"},
		{59949, "59.9 s"},    {59950, "0m 59s"},
		{60000, "1m 00s"},    {245999, "4m 05s"},
		{3599999, "59m 59s"}, {3600000, "1h 00m"},
		{7999999, "2h 13m"},  {86399999, "23h 59m"},
		{86400000, "1d 0h"},  {INT64_MAX, "106751991167d 7h"},
	};
	char text[VAC_TEXT_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(vac_format_ms(text, cases[i].ms), cases[i].text);
}

static void test_counts(void **state)
{
	char text[VAC_TEXT_BYTES];

	(void)state;
	assert_string_equal(vac_format_count(text, 950), "950");
	assert_string_equal(vac_format_count(text, 1000), "1.0k");
	assert_string_equal(vac_format_count(text, 22713216), "22.7M");
	assert_string_equal(vac_format_count(text, 109482240), "109M");
	assert_string_equal(vac_format_count(text, 999500000), "1.0B");
	assert_string_equal(vac_format_exact(text, 0), "0");
	assert_string_equal(vac_format_exact(text, 999), "999");
	assert_string_equal(vac_format_exact(text, 1000), "1,000");
	assert_string_equal(vac_format_exact(text, 47382528), "47,382,528");
	assert_string_equal(vac_format_exact(text, UINT64_MAX), "18,446,744,073,709,551,615");
}

static void assert_fits(const char *text, size_t columns, const char *expected)
{
	char *fitted = vac_text_fit(text, columns);

	assert_non_null(fitted);
	assert_string_equal(fitted, expected);
	assert_true(vac_text_columns(fitted) <= columns);
	free(fitted);
}

static void test_text_fit(void **state)
{
	(void)state;
	assert_int_equal(vac_text_columns(""), 0);
	assert_int_equal(vac_text_columns("abc"), 3);
	assert_int_equal(vac_text_columns("n\xc3\xa4m"), 3);               /* a umlaut */
	assert_int_equal(vac_text_columns("na\xcc\x88m"), 3);              /* the same, combined */
	assert_int_equal(vac_text_columns("\xe6\x97\xa5\xe6\x9c\xac"), 4); /* two kanji */
	assert_int_equal(vac_text_columns("\xf0\x9f\x98\x80"), 2);         /* an emoji */
	assert_int_equal(vac_text_columns("\xff\xe6\x97"), 3);             /* not UTF-8 */

	assert_fits("abcdefghij", 10, "abcdefghij");
	assert_fits("abcdefghij", SIZE_MAX, "abcdefghij");
	assert_fits("abcdefghij", 9, "abc...hij");
	assert_fits("abcdefghij", 8, "abc...ij");
	assert_fits("abcdefghij", 4, "a...");
	assert_fits("abcdefghij", 3, "...");
	assert_fits("abcdefghij", 1, ".");
	assert_fits("abcdefghij", 0, "");
	assert_fits("", 0, "");
	/* A wide character that has room for one half only is left out. */
	assert_fits("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe6\x97\xa5", 7,
		    "\xe6\x97\xa5...\xe6\x97\xa5");
	assert_fits("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe6\x97\xa5", 6, "\xe6\x97\xa5...");
	assert_fits("a\033[2J\x7f\xc2\x9b", 40, "a?[2J??"); /* 9b: CSI as one character */
	assert_fits("a\xe2\x80\xae"
		    "b",
		    40, "a?b"); /* right-to-left override */
	assert_fits("a\xe2\x80\xa8\xe2\x80\x8f\xd8\x9c", 40, "a???");
	assert_int_equal(vac_text_columns("a\xe2\x80\x8f\xe2\x80\x8b"), 2); /* shown as '?' */
	assert_fits("a\xff\xe6", 40, "a??");
}

static void print_table(char *to, size_t size, size_t width)
{
	static const struct vac_column columns[] = {
		{.header = "NAME", .shrink = true},
		{.header = "N", .right = true},
		{.header = "LESS", .rank = 1},
		{.header = "LEAST", .rank = 2},
	};
	struct vac_table table;
	struct vac_terminal terminal = {.width = width};

	memset(to, 0, size);
	terminal.file = fmemopen(to, size - 1, "w");
	assert_non_null(terminal.file);
	vac_table_init(&table, columns, 4);
	vac_table_row(&table, (const char *const[]){"a-name-of-twenty-six-chars", "5", "b", "c"});
	vac_table_row(&table, (const char *const[]){"x", "12345", NULL, "d"});
	vac_table_color(&table, 0, VAC_COLOR_RED); /* shows on terminals only */
	assert_int_equal(vac_table_print(&table, &terminal), 0);
	vac_table_free(&table);
	fclose(terminal.file);
}

static void test_table(void **state)
{
	char text[1024];

	(void)state;
	print_table(text, sizeof(text), 46);
	assert_string_equal(text, "NAME                            N  LESS  LEAST\n"
				  "a-name-of-twenty-six-chars      5  b     c\n"
				  "x                           12345  -     d\n");
	print_table(text, sizeof(text), 41); /* the name gives what is missing ... */
	assert_string_equal(text, "NAME                       N  LESS  LEAST\n"
				  "a-name-of...six-chars      5  b     c\n"
				  "x                      12345  -     d\n");
	print_table(text, sizeof(text), 39); /* ... down to 20, then a column goes */
	assert_string_equal(text, "NAME                            N  LESS\n"
				  "a-name-of-twenty-six-chars      5  b\n"
				  "x                           12345  -\n");
	print_table(text, sizeof(text), 20);
	assert_string_equal(text, "NAME               N\n"
				  "a-nam...chars      5\n"
				  "x              12345\n");
	print_table(text, sizeof(text), 5);
	assert_string_equal(text, "NAME\na...\nx\n");
}

/* Feeds a response in pieces of so many bytes; what feeding or the end said. */
static int feed(const char *text, size_t bytes, size_t piece, struct vac_http_response *response,
		struct vac_error *err)
{
	struct vac_http_parser parser;
	int rc = 0;

	vac_http_parser_init(&parser, response);
	for (size_t at = 0; at < bytes && rc == 0; at += piece)
		rc = vac_http_feed(&parser, text + at, bytes - at < piece ? bytes - at : piece,
				   err);
	if (rc == 0)
		rc = vac_http_end(&parser, err);
	vac_http_parser_free(&parser);
	return rc;
}

static void assert_body(const char *text, int status, const char *reason, const char *body)
{
	for (size_t piece = 1; piece <= strlen(text); piece++) {
		struct vac_http_response response;
		struct vac_error err;

		assert_int_equal(feed(text, strlen(text), piece, &response, &err), 1);
		assert_int_equal(response.status, status);
		assert_string_equal(response.reason, reason);
		assert_int_equal(response.body.bytes, strlen(body));
		if (*body)
			assert_memory_equal(response.body.data, body, strlen(body));
		vac_http_response_free(&response);
	}
}

static void test_http_bodies(void **state)
{
	(void)state;
	assert_body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello ignored", 200, "OK",
		    "hello");
	assert_body("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, "Not Found", "");
	assert_body("HTTP/1.0 200\n\nto the end", 200, "", "to the end");
	assert_body("HTTP/1.1 204 No Content\r\n\r\n", 204, "No Content", "");
	assert_body("HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\n"
		    "HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nab",
		    200, "OK", "ab");
	assert_body("HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\nContent-Length: 1\r\n\r\n"
		    "3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\n",
		    200, "OK", "abc0123456789");
}

static void test_http_errors(void **state)
{
	static const struct {
		const char *text;
		enum vac_error_code code;
		const char *message;
	} cases[] = {
		{"", VAC_E_GONE, "closed without a reply"},
		{"HTTP/1.1 200 OK\r\n", VAC_E_GONE, "in the middle"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", VAC_E_GONE, "in the middle"},
		{"HTTP/2 200 OK\r\n", VAC_E_CORRUPT, "status line"},
		{"HTTP/1.1 600 OK\r\n", VAC_E_CORRUPT, "status line"},
		{"HTTP/1.1 20 OK\r\n", VAC_E_CORRUPT, "status line"},
		{"HTTP/1.1 2000 OK\r\n", VAC_E_CORRUPT, "status line"},
		{"HTTP/1.1 200 OK\r\n: x\r\n", VAC_E_CORRUPT, "header line has no name"},
		{"HTTP/1.1 200 OK\r\nContent-Length: \r\n", VAC_E_CORRUPT, "is empty"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n", VAC_E_CORRUPT, "not a number"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n", VAC_E_TOO_LARGE, "67108864"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", VAC_E_CORRUPT,
		 "not chunked"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", VAC_E_CORRUPT,
		 "size of a chunk"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1x\r\n", VAC_E_CORRUPT,
		 "size of a chunk"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", VAC_E_CORRUPT,
		 "longer than its size"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", VAC_E_GONE,
		 "in the middle"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t piece = 1; piece < 20; piece++) {
			struct vac_http_response response;
			struct vac_error err = {0};

			assert_int_equal(
				feed(cases[i].text, strlen(cases[i].text), piece, &response, &err),
				vac_error_errno(cases[i].code));
			assert_int_equal(err.code, cases[i].code);
			assert_non_null(strstr(err.message, cases[i].message));
			vac_http_response_free(&response);
		}
	}
}

static void assert_url(const char *text, const char *host, const char *port, const char *prefix,
		       const char *shown)
{
	struct vac_http_url url;

	assert_int_equal(vac_http_url_parse(text, &url, NULL), 0);
	assert_string_equal(url.host, host);
	assert_string_equal(url.port, port);
	assert_string_equal(url.prefix, prefix);
	assert_string_equal(url.text, shown);
}

static void test_urls(void **state)
{
	struct vac_http_url url;
	struct vac_error err;
	char text[700];

	(void)state;
	assert_url("http://127.0.0.1:8321", "127.0.0.1", "8321", "", "http://127.0.0.1:8321");
	assert_url("HTTP://box", "box", "80", "", "http://box:80");
	assert_url("box", "box", "8321", "", "http://box:8321");
	assert_url("box:1/", "box", "1", "", "http://box:1");
	assert_url("http://box/a/b//", "box", "80", "/a/b", "http://box:80/a/b");
	assert_url("[::1]:65535", "::1", "65535", "", "http://[::1]:65535");
	assert_url("http://[fe80::1]/x", "fe80::1", "80", "/x", "http://[fe80::1]:80/x");
	assert_url("unix:/run/a b.sock", "localhost", "8321", "", "unix:/run/a b.sock");
	assert_int_equal(vac_http_url_parse("unix:/run/x.sock", &url, &err), 0);
	assert_string_equal(url.path, "/run/x.sock");
	assert_null(url.key);
	assert_int_equal(vac_http_url_parse("unix:x.sock", &url, &err), -EINVAL);
	assert_non_null(strstr(err.message, "--server unix:x.sock: the socket's whole path"));
	snprintf(text, sizeof(text), "unix:/%0106d", 0); /* 107 bytes and the last NUL fit */
	assert_int_equal(vac_http_url_parse(text, &url, &err), 0);
	assert_int_equal(strlen(url.path), 107);
	snprintf(text, sizeof(text), "unix:/%0107d", 0);
	assert_int_equal(vac_http_url_parse(text, &url, &err), -EINVAL);
	assert_non_null(strstr(err.message, "more than 107 bytes"));
	assert_int_equal(vac_http_url_parse("ftp://box", &url, &err), -EINVAL);
	assert_int_equal(err.code, VAC_E_INVALID);
	assert_non_null(strstr(err.message, "--server ftp://box: only http:// is spoken"));
	assert_int_equal(vac_http_url_parse("box:0", &url, &err), -EINVAL);
	assert_int_equal(vac_http_url_parse("box:65536", &url, &err), -EINVAL);
	assert_int_equal(vac_http_url_parse("[::1]x", &url, &err), -EINVAL);
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(vac_http_url_parse(text, &url, &err), -EINVAL);
	assert_non_null(strstr(err.message, "the host's name is too long"));
	memcpy(text, "box/", 4);
	assert_int_equal(vac_http_url_parse(text, &url, &err), -EINVAL);
	assert_non_null(strstr(err.message, "the path is too long"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),       cmocka_unit_test(test_durations),
		cmocka_unit_test(test_counts),      cmocka_unit_test(test_text_fit),
		cmocka_unit_test(test_table),       cmocka_unit_test(test_http_bodies),
		cmocka_unit_test(test_http_errors), cmocka_unit_test(test_urls),
	};

	return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
