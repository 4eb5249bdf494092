/* http_parse.c - an HTTP/1.1 response as it arrives. One owner; no locking. */
#include "cli/http_parse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void vac_http_parser_init(struct vac_http_parser *parser, struct vac_http_response *response)
{
	*response = (struct vac_http_response){.body.limit_bytes = VAC_HTTP_MAX_BODY_BYTES};
	*parser = (struct vac_http_parser){.response = response};
}

void vac_http_parser_free(struct vac_http_parser *parser)
{
	vac_buf_free(&parser->line);
}

void vac_http_response_free(struct vac_http_response *response)
{
	vac_buf_free(&response->body);
}

static int fail_http(struct vac_error *err, const char *what)
{
	return vac_fail(err, VAC_E_CORRUPT, "the reply is not HTTP/1.1: %s", what);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int parse_status(struct vac_http_parser *parser, const char *line, struct vac_error *err)
{
	struct vac_http_response *response = parser->response;

	if (strncmp(line, "HTTP/1.", 7) != 0 || !is_digit(line[7]) || line[8] != ' ' ||
	    line[9] < '1' || line[9] > '5' || !is_digit(line[10]) || !is_digit(line[11]) ||
	    (line[12] != ' ' && line[12] != '\0'))
		return fail_http(err, "it does not begin with a status line");
	response->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
	if (line[12] == ' ')
		strncpy(response->reason, line + 13, sizeof(response->reason) - 1);
	parser->state = VAC_HTTP_HEADER;
	return 0;
}

/* Value of a header line if it has that name (lower case, with its colon),
 * without the blanks around it; else NULL. Cuts the line. */
static char *header_value(char *line, const char *name)
{
	size_t length = strlen(name);
	char *end;

	if (strncasecmp(line, name, length) != 0)
		return NULL;
	line += length;
	line += strspn(line, " \t");
	end = line + strlen(line);
	while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = '\0';
	return line;
}

static int parse_length(struct vac_http_parser *parser, const char *value, struct vac_error *err)
{
	uint64_t length = 0;

	if (*value == '\0')
		return fail_http(err, "Content-Length is empty");
	for (; *value; value++) {
		if (!is_digit(*value))
			return fail_http(err, "Content-Length is not a number");
		length = length * 10 + (uint64_t)(*value - '0');
		if (length > VAC_HTTP_MAX_BODY_BYTES)
			return vac_fail(err, VAC_E_TOO_LARGE,
					"the reply is longer than the %zu bytes that are accepted",
					VAC_HTTP_MAX_BODY_BYTES);
	}
	if (parser->has_length && parser->length != length)
		return fail_http(err, "it has two different Content-Length headers");
	parser->has_length = true;
	parser->length = length;
	return 0;
}

/* The empty line: what kind of body follows? */
static void end_of_header(struct vac_http_parser *parser)
{
	int status = parser->response->status;

	if (status < 200) { /* an interim response; the real one follows */
		parser->has_length = parser->chunked = false;
		memset(parser->response->reason, 0, sizeof(parser->response->reason));
		parser->state = VAC_HTTP_STATUS;
	} else if (status == 204 || status == 304) {
		parser->state = VAC_HTTP_DONE;
	} else if (parser->chunked) {
		parser->state = VAC_HTTP_CHUNK_SIZE;
	} else if (parser->has_length) {
		parser->left = parser->length;
		parser->state = parser->left > 0 ? VAC_HTTP_LENGTH : VAC_HTTP_DONE;
	} else {
		parser->state = VAC_HTTP_CLOSE;
	}
}

static int parse_header(struct vac_http_parser *parser, char *line, struct vac_error *err)
{
	char *value;

	if (*line == '\0') {
		end_of_header(parser);
		return 0;
	}
	if (!strchr(line, ':') || *line == ':')
		return fail_http(err, "a header line has no name");
	value = header_value(line, "content-length:");
	if (value)
		return parse_length(parser, value, err);
	value = header_value(line, "transfer-encoding:");
	if (!value)
		return 0;
	if (strcasecmp(value, "chunked") != 0)
		return fail_http(err, "its Transfer-Encoding is not chunked");
	parser->chunked = true;
	return 0;
}

static int parse_chunk_size(struct vac_http_parser *parser, const char *line, struct vac_error *err)
{
	size_t digits = strspn(line, "0123456789abcdefABCDEF");

	/* Eight digits are more than a body may have; extensions are ignored. */
	if (digits == 0 || digits > 8 || !strchr("; \t", line[digits]))
		return fail_http(err, "the size of a chunk is not a number");
	parser->left = strtoull(line, NULL, 16);
	parser->state = parser->left > 0 ? VAC_HTTP_CHUNK : VAC_HTTP_TRAILER;
	return 0;
}

static int parse_line(struct vac_http_parser *parser, char *line, struct vac_error *err)
{
	switch (parser->state) {
	case VAC_HTTP_STATUS:
		return parse_status(parser, line, err);
	case VAC_HTTP_HEADER:
		return parse_header(parser, line, err);
	case VAC_HTTP_CHUNK_SIZE:
		return parse_chunk_size(parser, line, err);
	case VAC_HTTP_CHUNK_END:
		if (*line)
			return fail_http(err, "a chunk is longer than its size");
		parser->state = VAC_HTTP_CHUNK_SIZE;
		return 0;
	default:
		assert(parser->state == VAC_HTTP_TRAILER);
		if (*line == '\0')
			parser->state = VAC_HTTP_DONE;
		return 0;
	}
}

/* Takes bytes up to the end of a line and parses the line when it is whole. */
static int take_line(struct vac_http_parser *parser, const uint8_t *data, size_t bytes,
		     size_t *taken, struct vac_error *err)
{
	const uint8_t *newline = memchr(data, '\n', bytes);
	struct vac_buf *line = &parser->line;
	int rc;

	*taken = newline ? (size_t)(newline - data) + 1 : bytes;
	parser->header_bytes += *taken;
	/* Sizes of chunks are lines too, and a long body has many. */
	if (parser->state != VAC_HTTP_STATUS && parser->state != VAC_HTTP_HEADER)
		parser->header_bytes = line->bytes + *taken;
	if (parser->header_bytes > VAC_HTTP_MAX_HEADER_BYTES)
		return vac_fail(err, VAC_E_TOO_LARGE,
				"the reply's header is longer than the %zu bytes that are accepted",
				VAC_HTTP_MAX_HEADER_BYTES);
	vac_buf_put(line, data, newline ? *taken - 1 : *taken);
	if (!newline)
		return vac_buf_ok(line) ? 0 : vac_fail_nomem(err, "the reply's header", bytes);
	if (line->bytes > 0 && line->data[line->bytes - 1] == '\r')
		line->bytes--;
	/* What is no status line at all is better called that. */
	if (parser->state != VAC_HTTP_STATUS && line->bytes > 0 &&
	    memchr(line->data, '\0', line->bytes))
		return fail_http(err, "its header contains a zero byte");
	vac_buf_putc(line, '\0');
	if (!vac_buf_ok(line))
		return vac_fail_nomem(err, "the reply's header", bytes);
	rc = parse_line(parser, (char *)line->data, err);
	vac_buf_reset(line);
	return rc;
}

/* Takes bytes of the body. */
static int take_body(struct vac_http_parser *parser, const uint8_t *data, size_t bytes,
		     size_t *taken, struct vac_error *err)
{
	struct vac_buf *body = &parser->response->body;

	*taken = bytes;
	if (parser->state != VAC_HTTP_CLOSE && parser->left < bytes)
		*taken = (size_t)parser->left;
	if (*taken > VAC_HTTP_MAX_BODY_BYTES - body->bytes)
		return vac_fail(err, VAC_E_TOO_LARGE,
				"the reply is longer than the %zu bytes that are accepted",
				VAC_HTTP_MAX_BODY_BYTES);
	vac_buf_put(body, data, *taken);
	if (!vac_buf_ok(body))
		return vac_fail_nomem(err, "the reply", body->bytes + *taken);
	if (parser->state == VAC_HTTP_CLOSE)
		return 0;
	parser->left -= *taken;
	if (parser->left == 0)
		parser->state =
			parser->state == VAC_HTTP_CHUNK ? VAC_HTTP_CHUNK_END : VAC_HTTP_DONE;
	return 0;
}

int vac_http_feed(struct vac_http_parser *parser, const void *data, size_t bytes,
		  struct vac_error *err)
{
	const uint8_t *at = data;

	while (bytes > 0 && parser->state != VAC_HTTP_DONE) {
		bool in_body = parser->state == VAC_HTTP_LENGTH ||
			       parser->state == VAC_HTTP_CLOSE || parser->state == VAC_HTTP_CHUNK;
		size_t taken;
		int rc = in_body ? take_body(parser, at, bytes, &taken, err)
				 : take_line(parser, at, bytes, &taken, err);

		if (rc != 0)
			return rc;
		assert(taken > 0 && taken <= bytes);
		at += taken;
		bytes -= taken;
	}
	return parser->state == VAC_HTTP_DONE;
}

int vac_http_end(struct vac_http_parser *parser, struct vac_error *err)
{
	if (parser->state == VAC_HTTP_CLOSE)
		parser->state = VAC_HTTP_DONE;
	if (parser->state == VAC_HTTP_DONE)
		return 1;
	if (parser->state == VAC_HTTP_STATUS && parser->header_bytes == 0)
		return vac_fail(err, VAC_E_GONE, "the connection was closed without a reply");
	return vac_fail(err, VAC_E_GONE, "the connection was closed in the middle of the reply");
}
