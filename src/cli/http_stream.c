/* http_stream.c - a reply that goes on. One owner; no locking. */
#include "cli/http_stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define NS_PER_MS INT64_C(1000000)

/* What came of the body goes on to the events; nothing of it is kept. */
static int take_events(struct vac_http_stream *stream, struct vac_error *err)
{
	struct vac_buf *body = &stream->response.body;
	int rc;

	if (stream->response.status != 200 || body->bytes == 0)
		return 0;
	rc = vac_sse_feed(&stream->sse, body->data, body->bytes, err);
	vac_buf_reset(body);
	return rc;
}

int vac_http_stream_read(struct vac_http_stream *stream, struct vac_error *err)
{
	uint8_t data[16384];
	int rc = 0, taken;
	ssize_t n;

	while (rc == 0) {
		n = recv(stream->fd, data, sizeof(data), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return vac_fail_errno(err, errno, "the connection to %s broke",
					      stream->url->text);
		rc = n > 0 ? vac_http_feed(&stream->parser, data, (size_t)n, err)
			   : vac_http_end(&stream->parser, err);
		taken = rc < 0 ? rc : take_events(stream, err);
		if (taken < 0) {
			vac_error_prefix(err, "%s", stream->url->text);
			return taken;
		}
	}
	return rc;
}

int vac_http_stream_wait(const struct vac_http_stream *stream, int64_t timeout_ms)
{
	struct pollfd pfd = {.fd = stream->fd, .events = POLLIN};
	int ms = timeout_ms < 0 ? -1 : timeout_ms > 1000000 ? 1000000 : (int)timeout_ms;

	return poll(&pfd, 1, ms) > 0;
}

/* The head of the reply, or an error's whole reply. */
static int await_reply(struct vac_http_stream *stream, int64_t timeout_ms, struct vac_error *err)
{
	int64_t deadline_ns = vac_now_ns() + timeout_ms * NS_PER_MS;
	int rc = 0;

	while (rc == 0 &&
	       (stream->parser.state <= VAC_HTTP_HEADER || stream->response.status != 200)) {
		int64_t left_ns = deadline_ns - vac_now_ns();

		if (left_ns <= 0)
			return vac_fail(err, VAC_E_TIMEOUT, "%s did not answer in %g s",
					stream->url->text, (double)timeout_ms / 1000);
		if (vac_http_stream_wait(stream, left_ns / NS_PER_MS + 1))
			rc = vac_http_stream_read(stream, err);
	}
	return rc < 0 ? rc : 0;
}

int vac_http_stream_open(struct vac_http_stream *stream, const struct vac_http_url *url,
			 const char *target, int64_t timeout_ms,
			 void (*got)(void *ctx, const char *event, const char *data, size_t bytes),
			 void *ctx, struct vac_error *err)
{
	int rc;

	*stream = (struct vac_http_stream){.url = url, .sse = {.got = got, .ctx = ctx}};
	vac_http_parser_init(&stream->parser, &stream->response);
	stream->fd = vac_http_send(url, "GET", target, "text/event-stream", NULL, timeout_ms, err);
	if (stream->fd < 0)
		return stream->fd;
	rc = await_reply(stream, timeout_ms, err);
	if (rc < 0)
		vac_http_stream_close(stream);
	return rc;
}

void vac_http_stream_close(struct vac_http_stream *stream)
{
	if (!stream->url)
		return;
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
	vac_http_parser_free(&stream->parser);
	vac_http_response_free(&stream->response);
	vac_sse_free(&stream->sse);
}
