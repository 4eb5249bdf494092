/*
 * http.c - libmicrohttpd in the server's loop: connections, bodies, replies.
 * The loop's thread only.
 *
 * libmicrohttpd 0.9.75 runs without a thread of its own (MHD_USE_EPOLL without
 * MHD_USE_INTERNAL_POLLING_THREAD); its epoll descriptor is in our epoll set.
 * What that mode needs, as seen with strace:
 * - MHD_resume_connection() makes nothing readable: MHD_run() must be called
 *   after it (run_wanted), and then calls the handler again, which queues the
 *   reply; it leaves in the same call.
 * - A suspended connection is out of libmicrohttpd's epoll set: that its client
 *   left is seen by our own edge-triggered watch for EPOLLRDHUP.
 * - libmicrohttpd switches Nagle's algorithm off by itself.
 * - MHD_get_timeout() must be asked before each wait (edge-triggered work that
 *   it has not finished shows only there).
 * - It watches clients edge-triggered and takes a short read for "nothing left":
 *   that a client left is lost when it came together with its last bytes.
 * - It has no listener of its own: listen.c accepts, on any number of sockets, and
 *   hands connections over. It takes them in the next MHD_run().
 * - After an error of its own (a head that is no HTTP, or larger than
 *   CONNECTION_BYTES: 400, 414, 431) it closes at once; linger.c sees to it that the
 *   client, which still sends, gets the reply and not a reset.
 */
#include "server/http.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "memory/trim.h"
#include "server/browser.h"
#include "server/head.h"
#include "server/state.h"

#define NS_PER_MS 1000000
/* Of headers and libmicrohttpd's own buffers, for each connection. */
#define CONNECTION_BYTES ((size_t)16 << 10)
/* A body that was refused is read to its end and thrown away, since most clients
 * look for a reply only then and a connection closed before would be a reset to
 * them. No further than this times max_body_bytes: beyond, and for clients that
 * wait for "100 Continue", the reply leaves at once. */
#define REFUSED_FACTOR 4
/* Between two wake-ups for the end of a client that left. */
#define LEFT_MS 20
/* Of the descriptors that may be open, for other things than connections: also the
 * files of a model on their way to a worker. */
#define SPARE_DESCRIPTORS (32 + VAC_WIRE_MAX_FDS)
/* Of a reply, which is held in memory, a client must take so much in each
 * client_timeout_ms. */
#define REPLY_PROGRESS_BYTES ((uint64_t)256 << 10)
/* From that many connections down to that few: what they took goes back. */
#define TRIM_FROM 256
#define TRIM_AT   32

struct vac_connection {
	struct vac_http *http;
	struct vac_source source; /* the client's socket, for its leaving */
	struct vac_timer timer;   /* until a request must be whole, then until it must be
				      * answered, then until the reply must be taken */
	struct vac_seat seat;
	uint64_t taken_bytes;        /* by the client, when the timer was set for a reply */
	struct vac_request *request; /* in work; NULL between requests */
	bool left;                   /* the client shut its side */
	bool slow;                   /* its time was over */
	bool whole;                  /* the last request was read to its end */
};

/* ---- one connection ---- */

/* Until the connection is closed. A client that left is owed no more than
 * libmicrohttpd's turns at what it sent before. */
static void give_time(struct vac_connection *connection, int64_t ms)
{
	if (connection->left)
		ms = LEFT_MS;
	vac_timer_set(&connection->http->server->loop, &connection->timer,
		      vac_now_ns() + ms * NS_PER_MS);
}

static void client_left(struct vac_source *source, uint32_t events)
{
	struct vac_connection *connection = VAC_CONTAINER(source, struct vac_connection, source);
	struct vac_error why;

	(void)events;
	if (connection->left)
		return;
	connection->left = true;
	if (!connection->request || connection->request->stage <= VAC_REQUEST_REFUSED) {
		give_time(connection, LEFT_MS);
	} else if (connection->request->stage == VAC_REQUEST_STREAMING) {
		vac_http_stream_left(connection->request);
	} else if (connection->request->stage == VAC_REQUEST_WORKING) {
		vac_fail(&why, VAC_E_CANCELLED, "the client closed its side of the connection");
		vac_dispatch_abandon(connection->request, &why);
	}
}

/* Bytes that the client has acknowledged over the life of the connection. Who is
 * no TCP client is one of this machine, and libmicrohttpd's time-out is enough. */
static uint64_t taken_bytes(const struct vac_connection *connection)
{
	struct tcp_info info = {0};
	socklen_t bytes = sizeof(info);

	if (getsockopt(connection->source.fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0)
		return UINT64_MAX;
	return info.tcpi_bytes_acked;
}

static void watch_reply(struct vac_connection *connection)
{
	const struct vac_server *server = connection->http->server;

	connection->taken_bytes = taken_bytes(connection);
	if (connection->taken_bytes != UINT64_MAX)
		vac_timer_set(&connection->http->server->loop, &connection->timer,
			      vac_now_ns() + server->options.client_timeout_ms * NS_PER_MS);
}

static void too_slow(struct vac_timer *timer)
{
	struct vac_connection *connection = VAC_CONTAINER(timer, struct vac_connection, timer);
	const struct vac_request *request = connection->request;

	if (request && request->stage == VAC_REQUEST_WORKING) {
		vac_dispatch_expire(connection->request);
		return;
	}
	if (request && request->stage == VAC_REQUEST_DONE &&
	    taken_bytes(connection) - connection->taken_bytes >= REPLY_PROGRESS_BYTES) {
		watch_reply(connection);
		return;
	}
	/* libmicrohttpd sees the end and closes; it may be anywhere in its states. */
	if (connection->left && !(request && request->stage == VAC_REQUEST_DONE)) {
		/* What it sent stays readable. It may take some turns to read, and
		 * a wake-up before the last of them is lost, too. */
		shutdown(connection->source.fd, SHUT_RD);
		give_time(connection, LEFT_MS);
		return;
	}
	vac_log(VAC_LOG_DEBUG, "a client was too slow, its connection is closed");
	connection->slow = true;
	shutdown(connection->source.fd, SHUT_RDWR);
}

/* ---- when all connections are taken ---- */

static void crowded_out(struct vac_seat *seat)
{
	struct vac_connection *connection = VAC_CONTAINER(seat, struct vac_connection, seat);

	vac_log(VAC_LOG_DEBUG, "a slow or resting client makes way, its connection is closed");
	connection->slow = true;
	shutdown(connection->source.fd, SHUT_RDWR);
}

static void relieve(struct vac_http *http)
{
	int64_t again_ns = vac_seats_relieve(&http->seats, vac_now_ns());

	if (again_ns >= 0)
		vac_timer_set(&http->server->loop, &http->seats_timer, again_ns);
}

static void seats_due(struct vac_timer *timer)
{
	relieve(VAC_CONTAINER(timer, struct vac_http, seats_timer));
}

/* ---- connections come and go ---- */

static void connection_began(struct vac_http *http, struct MHD_Connection *mhd, void **context)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct vac_connection *connection = calloc(1, sizeof(*connection));
	struct vac_loop *loop = &http->server->loop;
	struct vac_error err;

	*context = NULL;
	if (!connection || !info)
		goto err;
	connection->http = http;
	connection->source = (struct vac_source){.fd = info->connect_fd, .ready = client_left};
	if (vac_timer_open(loop, &connection->timer, too_slow) < 0)
		goto err;
	if (vac_loop_add(loop, &connection->source, EPOLLRDHUP | EPOLLET, &err) < 0) {
		vac_timer_close(loop, &connection->timer);
		goto err;
	}
	give_time(connection, http->server->options.client_timeout_ms);
	vac_seats_take(&http->seats, &connection->seat, vac_now_ns());
	relieve(http);
	http->connection_count++;
	http->crowded = http->crowded || http->connection_count >= TRIM_FROM;
	http->server->metrics.connections++;
	*context = connection;
	return;
err:
	/* Its requests find no context and are refused. */
	free(connection);
	vac_log(VAC_LOG_WARN, "out of memory for a connection");
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct vac_http *http = cls;
	struct vac_connection *connection = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		connection_began(http, mhd, context);
		return;
	}
	if (!connection)
		return;
	assert(!connection->request);
	vac_loop_remove(&http->server->loop, &connection->source);
	if (!connection->whole && !connection->left && !connection->slow)
		vac_linger_add(&http->lingers, connection->source.fd);
	vac_timer_close(&http->server->loop, &connection->timer);
	vac_seats_leave(&http->seats, &connection->seat);
	http->connection_count--;
	vac_listeners_resume(&http->listeners);
	free(connection);
	*context = NULL;
}

/* The first line of a request is there: from now on it must hurry. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct vac_http *http = cls;

	(void)uri;
	if (info && info->socket_context) {
		struct vac_connection *connection = info->socket_context;

		connection->whole = false;
		give_time(connection, http->server->options.client_timeout_ms);
		vac_seats_sends(&http->seats, &connection->seat, vac_now_ns());
	}
	return NULL; /* becomes the request's context */
}

/* ---- replies ---- */

static void drop_body(struct vac_request *request)
{
	request->server->http.held_bytes -= request->held_bytes;
	request->held_bytes = 0;
	vac_buf_free(&request->body);
}

static void add_number(struct MHD_Response *response, const char *name, int64_t value)
{
	char number[24];

	snprintf(number, sizeof(number), "%" PRId64, value);
	MHD_add_response_header(response, name, number);
}

static enum MHD_Result send_reply(struct vac_request *request)
{
	struct vac_reply *reply = &request->reply;
	struct MHD_Response *response;
	enum MHD_Result rc;
	char number[16];

	assert(request->stage == VAC_REQUEST_DONE || request->stage == VAC_REQUEST_REFUSED);
	response = MHD_create_response_from_buffer(reply->body.bytes, reply->body.data,
						   MHD_RESPMEM_MUST_FREE);
	if (!response)
		return MHD_NO;
	/* It is the response's now, and held like a body until the client took it. */
	request->held_bytes += reply->body.bytes;
	request->server->http.held_bytes += reply->body.bytes;
	if (reply->body.bytes > REPLY_PROGRESS_BYTES)
		watch_reply(request->connection);
	reply->body = VAC_BUF_INIT;
	if (reply->content_type)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
					reply->content_type);
	if (reply->retry_after_s) {
		snprintf(number, sizeof(number), "%" PRIu32, reply->retry_after_s);
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, number);
	}
	if (reply->timed) {
		add_number(response, "X-Vacate-Tokenize-Ns", reply->tokenize_ns);
		add_number(response, "X-Vacate-Queue-Ns", reply->queue_ns);
		add_number(response, "X-Vacate-Compute-Ns", reply->compute_ns);
	}
	if (reply->header_bytes)
		add_number(response, "Inference-Header-Content-Length",
			   (int64_t)reply->header_bytes);
	if (reply->authenticate)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
					reply->authenticate);
	if (reply->allow)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, reply->allow);
	if (request->server->draining || request->last)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	vac_metrics_reply(&request->server->metrics, reply->status);
	rc = MHD_queue_response(request->mhd, (unsigned int)reply->status, response);
	MHD_destroy_response(response);
	return rc;
}

void vac_request_finish(struct vac_request *request)
{
	assert(request->stage == VAC_REQUEST_WORKING || request->stage == VAC_REQUEST_READING);
	request->stage = VAC_REQUEST_DONE;
	vac_timer_clear(&request->server->loop, &request->connection->timer);
	if (!request->suspended)
		return; /* the handler that called us queues it */
	request->suspended = false;
	MHD_resume_connection(request->mhd);
	request->server->http.run_wanted = true;
}

/* ---- requests ---- */

static const char *get_query(void *ctx, const char *name)
{
	return MHD_lookup_connection_value(ctx, MHD_GET_ARGUMENT_KIND, name);
}

static const char *get_header(void *ctx, const char *name)
{
	return MHD_lookup_connection_value(ctx, MHD_HEADER_KIND, name);
}

void vac_http_describe(struct vac_request *request, struct vac_http_request *out)
{
	const struct vac_server_options *options = &request->server->options;

	*out = (struct vac_http_request){
		.method = request->method,
		.path = request->path,
		.query = get_query,
		.header = get_header,
		.ctx = request->mhd,
		.body = (const char *)request->body.data,
		.body_bytes = request->body.bytes,
		.limits = {.max_inputs = options->max_inputs,
			   .max_input_bytes = options->max_input_bytes},
	};
}

static void refuse(struct vac_request *request, const struct vac_error *err, uint32_t retry_after_s)
{
	drop_body(request);
	vac_api_error(request->path, err, retry_after_s, &request->reply);
	request->stage = VAC_REQUEST_REFUSED;
}

static void refuse_large(struct vac_request *request, uint64_t bytes)
{
	struct vac_error err;

	vac_fail(&err, VAC_E_TOO_LARGE,
		 "the request body has %s%" PRIu64 " bytes where at most %zu are accepted; send "
		 "fewer inputs at once or raise --max-body",
		 bytes ? "" : "more than ",
		 bytes ? bytes : (uint64_t)request->server->options.max_body_bytes,
		 request->server->options.max_body_bytes);
	refuse(request, &err, 0);
}

/* No web page of a stranger made a browser ask. Keys are what such a page has not. */
static int check_browser(const struct vac_request *request, struct vac_error *err)
{
	const struct vac_server *server = request->server;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct MHD_Connection *mhd = request->mhd;

	if (server->access.path || server->options.allow_no_key ||
	    (info && info->client_addr && info->client_addr->sa_family == AF_UNIX) ||
	    vac_access_is_open(&server->access, request->method, request->path))
		return 0;
	return vac_browser_check(
		&(struct vac_browser_head){.host = get_header(mhd, MHD_HTTP_HEADER_HOST),
					   .origin = get_header(mhd, MHD_HTTP_HEADER_ORIGIN),
					   .fetch_site = get_header(mhd, "Sec-Fetch-Site"),
					   .acts = vac_api_acts(request->method, request->path)},
		server->options.host, err);
}

/* Who asks may ask. Before anything of the body is kept. */
static bool admit(struct vac_request *request)
{
	struct vac_error why;
	struct vac_access *access = &request->server->access;
	enum vac_access_verdict verdict =
		vac_access_check(access, request->method, request->path,
				 get_header(request->mhd, MHD_HTTP_HEADER_AUTHORIZATION),
				 get_header(request->mhd, "X-Api-Key"));

	if (verdict == VAC_ACCESS_GRANTED && check_browser(request, &why) == 0)
		return true;
	drop_body(request);
	if (verdict == VAC_ACCESS_GRANTED) {
		access->foreign++;
		vac_api_forbidden(request->path, &why, &request->reply);
	} else {
		vac_api_unauthorized(request->path, verdict == VAC_ACCESS_WRONG, &request->reply);
	}
	request->stage = VAC_REQUEST_REFUSED;
	return false;
}

/* When memory is short, a body that does not get on makes way. */
static bool hold(struct vac_request *request, size_t bytes)
{
	struct vac_request *slow;
	struct vac_error err, why;

	while (vac_http_hold(request, bytes, &err) < 0) {
		slow = vac_http_slowest(request, bytes);
		if (!slow) {
			refuse(request, &err, 1);
			return false;
		}
		vac_fail(&why, VAC_E_BUSY,
			 "the request body came too slowly while others needed the memory that "
			 "--max-pending allows; send it again");
		refuse(slow, &why, 1);
	}
	return true;
}

static struct vac_request *begin(struct vac_http *http, struct MHD_Connection *mhd,
				 const char *path, const char *method)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct vac_request *request;
	uint64_t bytes = 0;
	struct vac_error err;

	if (!info || !info->socket_context)
		return NULL;
	request = calloc(1, sizeof(*request));
	if (!request)
		return NULL;
	request->server = http->server;
	request->mhd = mhd;
	request->connection = info->socket_context;
	request->seat = &request->connection->seat;
	request->method = method;
	request->path = vac_head_path(path);
	request->next = http->requests;
	if (http->requests)
		http->requests->prev = request;
	http->requests = request;
	http->request_count++;
	request->connection->request = request;
	if (vac_head_check(mhd, &err) < 0) {
		request->last = true;
		refuse(request, &err, 0);
		return request;
	}
	if (!admit(request))
		return request;
	/* What is announced is not held before it comes: an announcement is cheap. */
	if (vac_head_body_bytes(mhd, &bytes) && bytes > http->server->options.max_body_bytes)
		refuse_large(request, bytes);
	return request;
}

static enum MHD_Result take_body(struct vac_request *request, const char *data, size_t bytes)
{
	const struct vac_server_options *options = &request->server->options;
	size_t total = request->body.bytes + bytes;
	struct vac_error err;

	vac_seats_gets_on(&request->server->http.seats, &request->connection->seat, bytes,
			  vac_now_ns());
	if (request->stage == VAC_REQUEST_REFUSED) {
		request->body.bytes += bytes; /* counts; there is no memory behind it */
		return request->body.bytes / REFUSED_FACTOR > options->max_body_bytes ? MHD_NO
										      : MHD_YES;
	}
	if (total > options->max_body_bytes) {
		refuse_large(request, 0);
		return MHD_YES;
	}
	if (total > request->held_bytes && !hold(request, total - request->held_bytes))
		return MHD_YES;
	vac_buf_put(&request->body, data, bytes);
	if (!vac_buf_ok(&request->body)) {
		vac_fail_nomem(&err, "the request body", total);
		refuse(request, &err, 1);
	}
	return MHD_YES;
}

/* A refused body: the client will look for the reply at its end. */
static bool worth_reading(const struct vac_request *request)
{
	uint64_t bytes;

	return !request->last &&
	       !MHD_lookup_connection_value(request->mhd, MHD_HEADER_KIND,
					    MHD_HTTP_HEADER_EXPECT) &&
	       vac_head_body_bytes(request->mhd, &bytes) &&
	       bytes / REFUSED_FACTOR <= request->server->options.max_body_bytes;
}

static enum MHD_Result complete(struct vac_request *request)
{
	struct vac_connection *connection = request->connection;
	struct vac_error why;

	connection->whole = true;
	vac_timer_clear(&request->server->loop, &connection->timer);
	vac_seats_is_served(&request->server->http.seats, &connection->seat);
	if (request->stage == VAC_REQUEST_REFUSED)
		return send_reply(request);
	request->arrived_ns = vac_now_ns();
	vac_dispatch(request);
	/* The call owns copies of what it needs. They are about as large as the
	 * body was and count like it until the request ends. */
	vac_buf_free(&request->body);
	if (request->stage == VAC_REQUEST_WORKING && connection->left) {
		vac_fail(&why, VAC_E_CANCELLED, "the client closed its side of the connection");
		vac_dispatch_abandon(request, &why);
	}
	if (request->stage == VAC_REQUEST_DONE)
		return send_reply(request);
	if (request->stage == VAC_REQUEST_STREAMING) {
		if (connection->left)
			vac_http_stream_left(request);
		return vac_http_send_stream(request) == MHD_YES ? MHD_YES : MHD_NO;
	}
	assert(request->stage == VAC_REQUEST_WORKING);
	if (request->timeout_ms > 0)
		vac_timer_set(&request->server->loop, &connection->timer,
			      request->arrived_ns + request->timeout_ms * NS_PER_MS);
	request->suspended = true;
	MHD_suspend_connection(request->mhd);
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *path,
				  const char *method, const char *version, const char *data,
				  size_t *bytes, void **context)
{
	struct vac_request *request = *context;

	(void)version;
	if (!request) {
		request = begin(cls, mhd, path, method);
		if (!request)
			return MHD_NO;
		*context = request;
		return request->stage == VAC_REQUEST_REFUSED && !worth_reading(request)
			       ? send_reply(request)
			       : MHD_YES;
	}
	if (*bytes > 0) {
		enum MHD_Result rc = take_body(request, data, *bytes);

		*bytes = 0;
		return rc;
	}
	switch (request->stage) {
	case VAC_REQUEST_READING:
	case VAC_REQUEST_REFUSED:
		return complete(request);
	case VAC_REQUEST_DONE:
		return send_reply(request);
	case VAC_REQUEST_WORKING:
	case VAC_REQUEST_STREAMING:
		break;
	}
	return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context,
			 enum MHD_RequestTerminationCode code)
{
	struct vac_request *request = *context;
	struct vac_http *http = cls;

	(void)mhd;
	(void)code;
	*context = NULL;
	if (!request)
		return;
	/* libmicrohttpd does not end a suspended connection. */
	assert(!request->suspended && request->stage != VAC_REQUEST_WORKING);
	request->connection->request = NULL;
	give_time(request->connection, http->server->options.idle_timeout_ms);
	vac_seats_rests(&http->seats, &request->connection->seat, vac_now_ns());
	if (http->seats.taken > http->seats.free_below && !vac_timer_is_set(&http->seats_timer))
		relieve(http);
	vac_dispatch_release(request);
	vac_stream_close(&request->stream);
	drop_body(request);
	vac_reply_free(&request->reply);
	if (request->prev)
		request->prev->next = request->next;
	else
		http->requests = request->next;
	if (request->next)
		request->next->prev = request->prev;
	http->request_count--;
	free(request);
}

/* ---- the daemon ---- */

/* Connections leave descriptors for workers, the journal and listings. */
static unsigned int connection_limit(const struct vac_server_options *options)
{
	struct rlimit files;
	rlim_t most;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY)
		return options->max_connections;
	most = files.rlim_cur > 2 * SPARE_DESCRIPTORS ? files.rlim_cur - SPARE_DESCRIPTORS
						      : files.rlim_cur / 4 + 1;
	if (most >= options->max_connections)
		return options->max_connections;
	vac_log(VAC_LOG_WARN,
		"at most %ju connections instead of %" PRIu32
		", since %ju descriptors may be open; raise that limit (ulimit -n)",
		(uintmax_t)most, options->max_connections, (uintmax_t)files.rlim_cur);
	return (unsigned int)most;
}

/* A connection from a listener; it is counted when libmicrohttpd begins with it. */
static bool take_connection(void *ctx, int fd, const struct sockaddr *address, socklen_t bytes)
{
	struct vac_http *http = ctx;

	/* It closes what it does not take. */
	if (MHD_add_connection(http->daemon, fd, address, bytes) != MHD_YES)
		vac_log(VAC_LOG_DEBUG, "a connection was not taken: %s", strerror(errno));
	http->run_wanted = true;
	return http->connection_count < http->connection_limit;
}

static void mhd_ready(struct vac_source *source, uint32_t events)
{
	(void)events;
	VAC_CONTAINER(source, struct vac_http, source)->run_wanted = true;
}

static void log_mhd(void *ctx, const char *fmt, va_list ap)
{
	char text[512];
	size_t n;

	(void)ctx;
	vsnprintf(text, sizeof(text), fmt, ap);
	n = strlen(text);
	if (n > 0 && text[n - 1] == '\n')
		text[n - 1] = '\0';
	/* It treats connections that it is given as TCP; those over a Unix socket
	 * have no such options, and need none. */
	if (strncmp(text, "Setting TCP_", 12) == 0 || strncmp(text, "Failed to push", 14) == 0)
		return;
	/* Clients that reset or talk nonsense are no news. */
	vac_log(VAC_LOG_DEBUG, "http: %s", text);
}

int vac_http_start(struct vac_http *http, struct vac_server *server, struct vac_error *err)
{
	const struct vac_server_options *options = &server->options;
	const struct vac_listen_options where = {.host = options->host,
						 .port = options->port,
						 .open_to_all = options->api_key_file ||
								options->allow_no_key};
	int rc;

	*http = (struct vac_http){.server = server, .run_at_ns = -1};
	http->lingers.loop = &server->loop;
	if (vac_timer_open(&server->loop, &http->seats_timer, seats_due) < 0)
		return vac_fail_nomem(err, "a timer", 0);
	rc = vac_listeners_open(&http->listeners, &where, err);
	if (rc < 0)
		return rc;
	http->connection_limit = connection_limit(options);
	vac_seats_init(&http->seats, http->connection_limit, crowded_out);
	if (vac_http_streams_init(server) < 0) {
		vac_listeners_close(&http->listeners);
		return vac_fail_nomem(err, "a timer", 0);
	}
	http->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO | MHD_USE_ERROR_LOG |
			MHD_USE_NO_LISTEN_SOCKET,
		0, NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, log_mhd, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_NOTIFY_CONNECTION,
		on_connection, http, MHD_OPTION_URI_LOG_CALLBACK, on_uri, http,
		MHD_OPTION_UNESCAPE_CALLBACK, vac_head_unescape, NULL,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned int)http->connection_limit, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned int)((options->idle_timeout_ms + 999) / 1000), MHD_OPTION_END);
	if (!http->daemon) {
		rc = vac_fail(err, VAC_E_IO, "libmicrohttpd cannot start: %s", strerror(errno));
		vac_listeners_close(&http->listeners);
		return rc;
	}
	http->listeners.take = take_connection;
	http->listeners.ctx = http;
	http->source.fd = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	http->source.ready = mhd_ready;
	http->run_wanted = true;
	rc = vac_loop_add(&server->loop, &http->source, EPOLLIN, err);
	return rc < 0 ? rc : vac_listeners_watch(&http->listeners, &server->loop, err);
}

void vac_http_close_listener(struct vac_http *http)
{
	vac_listeners_close(&http->listeners);
}

void vac_http_stop(struct vac_http *http)
{
	vac_listeners_close(&http->listeners);
	if (!http->daemon)
		return;
	vac_loop_remove(&http->server->loop, &http->source);
	MHD_stop_daemon(http->daemon);
	http->daemon = NULL;
	vac_lingers_close(&http->lingers);
}

int64_t vac_http_run(struct vac_http *http)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (http->run_at_ns >= 0 && vac_now_ns() >= http->run_at_ns)
		http->run_wanted = true;
	if (http->run_wanted) {
		http->run_wanted = false;
		MHD_run(http->daemon);
	}
	if (http->crowded && http->connection_count <= TRIM_AT) {
		http->crowded = false;
		vac_trim();
	}
	if (http->run_wanted)
		return 0; /* a handler finished another request meanwhile */
	http->run_at_ns = -1;
	if (MHD_get_timeout(http->daemon, &ms) != MHD_YES)
		return -1;
	http->run_at_ns = vac_now_ns() + (int64_t)ms * NS_PER_MS;
	return (int64_t)ms * NS_PER_MS;
}
