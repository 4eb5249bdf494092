/*
 * http_stream.h - a reply that goes on: server-sent events of a running server.
 * One owner; no locking.
 */
#ifndef VAC_CLI_HTTP_STREAM_H
#define VAC_CLI_HTTP_STREAM_H

#include "cli/http_client.h"
#include "cli/sse.h"

struct vac_http_stream {
	int fd;                         /* -1: not open */
	const struct vac_http_url *url; /* the caller's; lives as long */
	struct vac_http_response response;
	struct vac_http_parser parser;
	struct vac_sse sse;
};

/* Asks for target and waits until the reply has begun, at most that long. sse's
 * got() is called from vac_http_stream_read(). A status other than 200 is left
 * to the caller: response.status says it, and its body is read as a whole. */
int vac_http_stream_open(struct vac_http_stream *stream, const struct vac_http_url *url,
			 const char *target, int64_t timeout_ms,
			 void (*got)(void *ctx, const char *event, const char *data, size_t bytes),
			 void *ctx, struct vac_error *err) VAC_MUST_CHECK;
/* Takes what has arrived, without waiting. 0; 1: the stream is over. */
int vac_http_stream_read(struct vac_http_stream *stream, struct vac_error *err) VAC_MUST_CHECK;
/* Waits for more, for at most that long (negative: for ever). 1: there is; 0: not. */
int vac_http_stream_wait(const struct vac_http_stream *stream, int64_t timeout_ms);
/* May be called for one that is not open. */
void vac_http_stream_close(struct vac_http_stream *stream);

#endif
