/*
 * test_sse.c - streams of server-sent events, whole and byte by byte; what must
 * come out is written by hand from the rules of the HTML standard, 9.2.6.
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

#include "cli/sse.h"

static char seen[1024];

static void got(void *ctx, const char *event, const char *data, size_t bytes)
{
	size_t at = strlen(seen);

	assert_ptr_equal(ctx, seen);
	assert_int_equal(strlen(data), bytes); /* none of these hold NUL bytes */
	snprintf(seen + at, sizeof(seen) - at, "%s=%s|", event, data);
}

static void streams(void **state)
{
	static const struct {
		const char *stream, *seen;
	} cases[] = {
		{"data: a\n\n", "message=a|"},
		{"event: x\ndata: a\n\ndata: b\n\n", "x=a|message=b|"},
		{"data: a\r\n\r\n", "message=a|"},
		{"data: a\r\rdata: b\r\r", "message=a|message=b|"},
		{"data:a\ndata: b\ndata:  c\n\n", "message=a\nb\n c|"},
		{"data\n\n", "message=|"},
		{"data\ndata\n\n", "message=\n|"},
		{"data:\n\n", "message=|"},
		{": comment\n\n: \ndata: a\n:\n\n", "message=a|"},
		{"id: 3\nretry: 2000\n\n", ""},
		{"event: x\n\ndata: a\n\n", "message=a|"}, /* a name without data is dropped */
		{"event: x\nevent: y\ndata: a\n\n", "y=a|"},
		{"data: a\n", ""}, /* it has not ended */
		{"data: a", ""},
		{"\xef\xbb\xbf"
		 "data: a\n\n",
		 "message=a|"},
		{"data: a\n\n\xef\xbb\xbf"
		 "data: b\n\n",
		 "message=a|"},
		{"\n\n\ndata: a:b: c\n\n", "message=a:b: c|"},
		{"Data: a\ndata : b\n data: c\n\n", ""},
		{"event: a-name-that-is-longer-than-32-bytes-is-cut\ndata: a\n\n",
		 "a-name-that-is-longer-than-32-b=a|"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t bytes = strlen(cases[i].stream);

		for (size_t piece = 1; piece <= bytes; piece++) {
			struct vac_sse sse = {.got = got, .ctx = seen};
			struct vac_error err;

			seen[0] = '\0';
			for (size_t at = 0; at < bytes; at += piece)
				assert_int_equal(
					vac_sse_feed(&sse, cases[i].stream + at,
						     bytes - at < piece ? bytes - at : piece, &err),
					0);
			if (strcmp(seen, cases[i].seen) != 0)
				fail_msg("case %zu in pieces of %zu: %s", i, piece, seen);
			vac_sse_free(&sse);
		}
	}
}

static int feed_long(const char *head, size_t fill, const char *tail, struct vac_error *err)
{
	struct vac_sse sse = {.got = got, .ctx = seen};
	char block[4096];
	int rc = vac_sse_feed(&sse, head, strlen(head), err);

	seen[0] = '\0';
	memset(block, 'x', sizeof(block));
	for (; rc == 0 && fill >= sizeof(block); fill -= sizeof(block))
		rc = vac_sse_feed(&sse, block, sizeof(block), err);
	if (rc == 0)
		rc = vac_sse_feed(&sse, block, fill, err);
	if (rc == 0)
		rc = vac_sse_feed(&sse, tail, strlen(tail), err);
	vac_sse_free(&sse);
	return rc;
}

static void too_long(void **state)
{
	struct vac_error err = {0};

	(void)state;
	assert_int_equal(feed_long("data: ", VAC_SSE_MAX_BYTES - 100, "\n\n", &err), 0);
	assert_int_equal(strncmp(seen, "message=xxx", 11), 0);
	assert_int_equal(feed_long("data: ", VAC_SSE_MAX_BYTES + 1, "\n\n", &err), -E2BIG);
	assert_int_equal(err.code, VAC_E_TOO_LARGE);
	assert_non_null(strstr(err.message, "262144"));
	/* Also when it never ends, and when it is a comment. */
	assert_int_equal(feed_long(": ", VAC_SSE_MAX_BYTES + 1, "", &err), -E2BIG);
	/* Many lines of one event. */
	assert_int_equal(feed_long("data: ", VAC_SSE_MAX_BYTES / 2, "\n", &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams),
		cmocka_unit_test(too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
