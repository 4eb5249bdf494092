/*
 * http_stream.c - streams of events as replies of libmicrohttpd. The loop's
 * thread only.
 *
 * libmicrohttpd asks for the next bytes whenever the client can take some. When
 * there are none its connection is suspended, and resumed when there are: as
 * with requests in work, MHD_run() must follow, and that the client left is
 * seen by our own watch of the socket (http.c). A client that does not read is
 * not suspended: libmicrohttpd holds one buffer full and waits for the socket,
 * no longer than its timeout of idle connections.
 */
#include <assert.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/state.h"

#define NS_PER_MS INT64_C(1000000)
/* For the last events to reach a slow client when the server ends. */
#define LAST_MS 1000
/* Of a client's socket; the kernel takes it twice. */
#define SEND_BUFFER_BYTES (32 << 10)

/* ---- bytes ---- */

static ssize_t next_bytes(void *cls, uint64_t position, char *to, size_t room)
{
	struct vac_request *request = cls;
	int64_t bytes;

	(void)position;
	bytes = vac_stream_take(&request->stream, to, room);
	if (bytes > 0)
		return (ssize_t)bytes;
	if (bytes < 0)
		return bytes == VAC_STREAM_OVER ? MHD_CONTENT_READER_END_OF_STREAM
						: MHD_CONTENT_READER_END_WITH_ERROR;
	request->suspended = true;
	MHD_suspend_connection(request->mhd);
	return 0;
}

static void resume(struct vac_request *request)
{
	if (!request->suspended)
		return;
	request->suspended = false;
	MHD_resume_connection(request->mhd);
	request->server->http.run_wanted = true;
}

static void wake(struct vac_stream *stream)
{
	resume(VAC_CONTAINER(stream, struct vac_request, stream));
}

/* What the kernel holds for a client that does not read is memory, too: left to
 * itself it lets it grow to megabytes. */
static void bound_send_buffer(struct vac_request *request)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	int bytes = SEND_BUFFER_BYTES;

	if (info)
		setsockopt(info->connect_fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

int vac_http_send_stream(struct vac_request *request)
{
	struct MHD_Response *response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, 1024, next_bytes, request, NULL);
	int rc;

	assert(request->stage == VAC_REQUEST_STREAMING);
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	/* Proxies of nginx's kind would gather it. */
	MHD_add_response_header(response, "X-Accel-Buffering", "no");
	bound_send_buffer(request);
	vac_metrics_reply(&request->server->metrics, 200);
	rc = MHD_queue_response(request->mhd, 200, response);
	MHD_destroy_response(response);
	return rc;
}

/* ---- life ---- */

static void break_off(struct vac_server *server)
{
	struct vac_request *request = server->http.requests;

	for (; request; request = request->next) {
		if (request->stage == VAC_REQUEST_STREAMING)
			vac_http_stream_left(request);
	}
}

/* Streams were silent for long, or what they last said is not taken. */
static void timed(struct vac_timer *timer)
{
	struct vac_server *server = VAC_CONTAINER(timer, struct vac_server, events_timer);
	int64_t next_ns;

	if (server->streams_end) {
		break_off(server);
		return;
	}
	next_ns = vac_events_tick(&server->events);
	if (vac_events_wanted(&server->events))
		vac_timer_set(&server->loop, timer, next_ns);
}

int vac_http_streams_init(struct vac_server *server)
{
	/* Half of the seats are for those who want an answer. */
	uint32_t most = server->http.connection_limit / 2;

	if (most > VAC_EVENTS_STREAMS)
		most = VAC_EVENTS_STREAMS;
	vac_events_init(&server->events, most, vac_tell_states, server);
	return vac_timer_open(&server->loop, &server->events_timer, timed);
}

void vac_http_open_stream(struct vac_request *request)
{
	struct vac_server *server = request->server;
	const char *name = request->call.model;
	struct vac_error err;

	/* Events know a model by its own name. */
	if (name)
		name = vac_catalog_name(&server->catalog, name);
	if (server->draining) {
		vac_fail(&err, VAC_E_GONE, "the server is shutting down");
		vac_dispatch_fail(request, &err, 1);
		return;
	}
	/* HEAD is answered with the head alone. */
	if (strcmp(request->method, "HEAD") != 0 &&
	    vac_stream_open(&request->stream, &server->events,
			    strcmp(request->path, "/models/sse") == 0 ? VAC_STREAM_LLAMA_CPP
								      : VAC_STREAM_NATIVE,
			    name, wake, &err) < 0) {
		vac_dispatch_fail(request, &err, 5);
		return;
	}
	request->stage = VAC_REQUEST_STREAMING;
	if (!vac_timer_is_set(&server->events_timer))
		vac_timer_set(&server->loop, &server->events_timer,
			      vac_now_ns() + VAC_EVENTS_SILENCE_MS * NS_PER_MS);
}

void vac_http_stream_left(struct vac_request *request)
{
	const union MHD_ConnectionInfo *info;

	request->stream.broken = true;
	/* Also where libmicrohttpd waits for a socket that nobody reads. */
	info = MHD_get_connection_info(request->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	if (info)
		shutdown(info->connect_fd, SHUT_RDWR);
	resume(request);
}

static const char *get_header(const struct vac_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->mhd, MHD_HEADER_KIND, name);
}

void vac_http_recheck_streams(struct vac_server *server)
{
	struct vac_request *request = server->http.requests;

	for (; request; request = request->next) {
		if (request->stage != VAC_REQUEST_STREAMING ||
		    vac_access_holds(&server->access, request->method, request->path,
				     get_header(request, MHD_HTTP_HEADER_AUTHORIZATION),
				     get_header(request, "X-Api-Key")))
			continue;
		vac_log(VAC_LOG_INFO, "a stream of events ends: its API key was taken back");
		vac_http_stream_left(request);
	}
}

void vac_http_end_streams(struct vac_server *server)
{
	struct vac_request *request = server->http.requests;

	if (server->streams_end)
		return;
	server->streams_end = true;
	vac_timer_set(&server->loop, &server->events_timer, vac_now_ns() + LAST_MS * NS_PER_MS);
	for (; request; request = request->next) {
		if (request->stage == VAC_REQUEST_STREAMING)
			vac_stream_end(&request->stream);
	}
}
