/*
 * http_parse.h - takes an HTTP/1.1 response apart as it arrives: status,
 * Content-Length, chunked and until-close bodies, within limits. No I/O.
 * One owner; no locking.
 */
#ifndef VAC_CLI_HTTP_PARSE_H
#define VAC_CLI_HTTP_PARSE_H

#include "base/buf.h"

#define VAC_HTTP_MAX_HEADER_BYTES ((size_t)64 << 10)
#define VAC_HTTP_MAX_BODY_BYTES   ((size_t)64 << 20)

struct vac_http_response {
	int status;          /* 100 to 599 */
	char reason[64];     /* phrase of the status line, may be empty */
	struct vac_buf body; /* owned; decoded */
};

enum vac_http_state {
	VAC_HTTP_STATUS,     /* the status line is next */
	VAC_HTTP_HEADER,     /* a header line or the empty line */
	VAC_HTTP_LENGTH,     /* left bytes of the body */
	VAC_HTTP_CLOSE,      /* the body, to the end of the connection */
	VAC_HTTP_CHUNK_SIZE, /* the line before a chunk */
	VAC_HTTP_CHUNK,      /* left bytes of a chunk */
	VAC_HTTP_CHUNK_END,  /* the empty line behind a chunk */
	VAC_HTTP_TRAILER,    /* lines behind the last chunk */
	VAC_HTTP_DONE,
};

struct vac_http_parser {
	enum vac_http_state state;
	struct vac_http_response *response; /* the caller's */
	struct vac_buf line;                /* the start of a line that has not ended */
	size_t header_bytes;                /* of all lines so far */
	uint64_t left;                      /* LENGTH, CHUNK: bytes to come */
	uint64_t length;                    /* of Content-Length */
	bool has_length, chunked;
};

/* response is reset; free the parser with vac_http_parser_free and the
 * response with vac_http_response_free. */
void vac_http_parser_init(struct vac_http_parser *parser, struct vac_http_response *response);
void vac_http_parser_free(struct vac_http_parser *parser);
void vac_http_response_free(struct vac_http_response *response);

/* 1: the response is complete (what follows is ignored); 0: more is needed;
 * negative: it is not HTTP (VAC_E_CORRUPT) or too long (VAC_E_TOO_LARGE). */
int vac_http_feed(struct vac_http_parser *parser, const void *data, size_t bytes,
		  struct vac_error *err) VAC_MUST_CHECK;
/* The connection has ended: 1 when that completes the response, else an error. */
int vac_http_end(struct vac_http_parser *parser, struct vac_error *err) VAC_MUST_CHECK;

#endif
