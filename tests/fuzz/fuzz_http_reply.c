/*
 * fuzz_http_reply.c - any bytes as an HTTP response, whole and byte by byte:
 * both ways must end the same, and nothing may be read or kept beyond limits.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int parse(const uint8_t *data, size_t bytes, size_t piece,
		 struct vac_http_response *response, struct vac_error *err)
{
	struct vac_http_parser parser;
	int rc = 0;

	vac_http_parser_init(&parser, response);
	for (size_t at = 0; at < bytes && rc == 0; at += piece)
		rc = vac_http_feed(&parser, data + at, bytes - at < piece ? bytes - at : piece,
				   err);
	if (rc == 0)
		rc = vac_http_end(&parser, err);
	vac_http_parser_free(&parser);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct vac_http_response whole, pieces;
	struct vac_error err = {0}, err_pieces = {0};
	int rc = parse(data, bytes, bytes ? bytes : 1, &whole, &err);
	int rc_pieces = parse(data, bytes, 1, &pieces, &err_pieces);

	if (rc != rc_pieces || strcmp(err.message, err_pieces.message) != 0)
		abort();
	if (rc == 1) {
		if (whole.status < 200 || whole.status > 599 || whole.body.bytes > bytes ||
		    whole.status != pieces.status || whole.body.bytes != pieces.body.bytes)
			abort();
		if (whole.body.bytes > 0 &&
		    memcmp(whole.body.data, pieces.body.data, whole.body.bytes) != 0)
			abort();
	}
	vac_http_response_free(&whole);
	vac_http_response_free(&pieces);
	return 0;
}
