/*
 * fuzz_sse.c - any bytes as a stream of server-sent events, whole and in pieces:
 * the same events must come out; and as the moment of --since.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "cli/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void got(void *ctx, const char *event, const char *data, size_t bytes)
{
	struct vac_buf *all = ctx;

	if (data[bytes] != '\0' || strlen(event) > 31)
		abort();
	vac_buf_puts(all, event);
	vac_buf_putc(all, '=');
	vac_buf_put(all, data, bytes);
	vac_buf_putc(all, '\n');
}

static int feed(const uint8_t *data, size_t bytes, size_t piece, struct vac_buf *all)
{
	struct vac_sse sse = {.got = got, .ctx = all};
	struct vac_error err;
	int rc = 0;

	for (size_t at = 0; at < bytes && rc == 0; at += piece)
		rc = vac_sse_feed(&sse, data + at, bytes - at < piece ? bytes - at : piece, &err);
	vac_sse_free(&sse);
	return rc;
}

static void check_since(const uint8_t *data, size_t bytes)
{
	int64_t now_ns = INT64_C(1800000000000000000), wall_ns = -1;
	char text[64];

	if (bytes >= sizeof(text))
		return;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	if (vac_parse_since(text, now_ns, &wall_ns) != 0 && wall_ns != -1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct vac_buf whole = VAC_BUF_INIT, pieces = VAC_BUF_INIT;
	int rc = feed(data, bytes, bytes ? bytes : 1, &whole);
	int rc_pieces = feed(data, bytes, 1 + bytes % 7, &pieces);

	if (rc != rc_pieces || whole.bytes != pieces.bytes ||
	    (whole.bytes > 0 && memcmp(whole.data, pieces.data, whole.bytes) != 0))
		abort();
	vac_buf_free(&whole);
	vac_buf_free(&pieces);
	check_since(data, bytes);
	return 0;
}
