/* http_client.c - HTTP/1.1 requests, blocking, with a deadline. */
#include "cli/http_client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

#define CONNECT_TIMEOUT_MS 5000
#define FULL_RETRY_MS      20
#define READ_BYTES         65536
#define NS_PER_MS          1000000

static int fail_url(struct vac_error *err, const char *text, const char *what)
{
	return vac_fail(err, VAC_E_INVALID,
			"--server %.200s: %s; write http://HOST:PORT or unix:/PATH", text, what);
}

/* Splits "HOST[:PORT]" or "[ADDRESS][:PORT]". */
static int parse_authority(const char *text, const char *at, size_t length,
			   struct vac_http_url *url, struct vac_error *err)
{
	const char *end = at + length, *host = at, *host_end, *port;
	long number;
	char *rest;

	if (length > 0 && *at == '[') {
		host = at + 1;
		host_end = memchr(at, ']', length);
		if (!host_end)
			return fail_url(err, text, "the address has no closing bracket");
		port = host_end + 1;
	} else {
		host_end = memchr(at, ':', length);
		if (!host_end)
			host_end = end;
		port = host_end;
	}
	if (host_end == host)
		return fail_url(err, text, "it names no host");
	if ((size_t)(host_end - host) >= sizeof(url->host))
		return fail_url(err, text, "the host's name is too long");
	memcpy(url->host, host, (size_t)(host_end - host));
	url->host[host_end - host] = '\0';
	if (strpbrk(url->host, "@ \t?#"))
		return fail_url(err, text, "that is no name of a host");
	if (port == end)
		return 0;
	if (*port != ':' || port + 1 == end || (size_t)(end - port - 1) >= sizeof(url->port))
		return fail_url(err, text, "the port is not a number from 1 to 65535");
	memcpy(url->port, port + 1, (size_t)(end - port - 1));
	url->port[end - port - 1] = '\0';
	number = strtol(url->port, &rest, 10);
	if (*rest || number < 1 || number > 65535 || strspn(url->port, "0123456789") == 0)
		return fail_url(err, text, "the port is not a number from 1 to 65535");
	return 0;
}

static int parse_unix(const char *text, struct vac_http_url *url, struct vac_error *err)
{
	const char *path = text + 5;

	if (path[0] != '/')
		return fail_url(err, text, "the socket's whole path is wanted");
	if (strlen(path) >= sizeof(url->path))
		return fail_url(err, text, "the socket's path has more than 107 bytes");
	strcpy(url->path, path);
	strcpy(url->host, "localhost");
	snprintf(url->text, sizeof(url->text), "unix:%s", path);
	return 0;
}

int vac_http_url_parse(const char *text, struct vac_http_url *url, struct vac_error *err)
{
	const char *at = text, *path;
	bool brackets;
	size_t length;
	int rc;

	*url = (struct vac_http_url){.port = "8321"};
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text, url, err);
	if (strncasecmp(at, "http://", 7) == 0) {
		at += 7;
		strcpy(url->port, "80");
	} else if (strstr(at, "://")) {
		return fail_url(err, text, "only http:// is spoken");
	}
	path = strchr(at, '/');
	length = path ? (size_t)(path - at) : strlen(at);
	rc = parse_authority(text, at, length, url, err);
	if (rc != 0)
		return rc;
	if (path) {
		length = strlen(path);
		while (length > 0 && path[length - 1] == '/')
			length--;
		if (length >= sizeof(url->prefix) || strpbrk(path, " \t\r\n?#"))
			return fail_url(err, text, "the path is too long or not a plain one");
		memcpy(url->prefix, path, length);
		url->prefix[length] = '\0';
	}
	brackets = strchr(url->host, ':') != NULL;
	snprintf(url->text, sizeof(url->text), "http://%s%s%s:%s%.200s", brackets ? "[" : "",
		 url->host, brackets ? "]" : "", url->port, url->prefix);
	return 0;
}

/* Waits for events until the deadline (0: none). 0, or a negative errno. */
static int wait_for(int fd, short events, int64_t deadline_ns)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	for (;;) {
		int timeout_ms = -1, rc;

		if (deadline_ns != 0) {
			int64_t left_ns = deadline_ns - vac_now_ns();

			if (left_ns <= 0)
				return -ETIMEDOUT;
			left_ns = left_ns / NS_PER_MS + 1;
			timeout_ms = left_ns > 1000000 ? 1000000 : (int)left_ns;
		}
		rc = poll(&pfd, 1, timeout_ms);
		if (rc > 0)
			return 0;
		if (rc < 0 && errno != EINTR)
			return -errno;
	}
}

static int connect_one(const struct sockaddr *address, socklen_t bytes, int64_t deadline_ns)
{
	socklen_t size = sizeof(int);
	int rc, error = 0;
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	rc = connect(fd, address, bytes) == 0 ? 0 : -errno;
	if (rc == -EINPROGRESS) {
		rc = wait_for(fd, POLLOUT, deadline_ns);
		if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
			rc = -errno;
		else if (rc == 0)
			rc = -error;
	}
	if (rc != 0) {
		close(fd);
		return rc;
	}
	return fd;
}

static int fail_connect(const struct vac_http_url *url, int errnum, struct vac_error *err)
{
	char text[96];

	if (errnum == ECONNREFUSED || (errnum == ENOENT && url->path[0]))
		return vac_fail(err, VAC_E_GONE,
				"no vacate server at %s: %s; start one with `vacate serve`",
				url->text,
				errnum == ENOENT ? "there is no socket" : "connection refused");
	if (errnum == ETIMEDOUT)
		return vac_fail(err, VAC_E_GONE, "no vacate server at %s: no answer in %d s",
				url->text, CONNECT_TIMEOUT_MS / 1000);
	return vac_fail(err, VAC_E_GONE, "no vacate server at %s: %s", url->text,
			strerror_r(errnum, text, sizeof(text)));
}

/* A socket whose server has a full queue refuses at once, where TCP waits. */
static int connect_unix(const struct vac_http_url *url, int64_t deadline_ns)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	strcpy(address.sun_path, url->path);
	for (;;) {
		fd = connect_one((const struct sockaddr *)&address, sizeof(address), deadline_ns);
		if (fd != -EAGAIN)
			return fd;
		if (vac_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
		poll(NULL, 0, FULL_RETRY_MS);
	}
}

/* A connected, non-blocking socket, or a negative errno with err set. */
static int connect_to(const struct vac_http_url *url, struct vac_error *err)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	int64_t deadline_ns = vac_now_ns() + (int64_t)CONNECT_TIMEOUT_MS * NS_PER_MS;
	int fd = -ECONNREFUSED, rc;
	char text[96];

	if (url->path[0]) {
		fd = connect_unix(url, deadline_ns);
		return fd < 0 ? fail_connect(url, -fd, err) : fd;
	}
	rc = getaddrinfo(url->host, url->port, &hints, &list);
	if (rc != 0)
		return vac_fail(err, VAC_E_GONE, "no vacate server at %s: %s", url->text,
				rc == EAI_SYSTEM ? strerror_r(errno, text, sizeof(text))
						 : gai_strerror(rc));
	for (const struct addrinfo *at = list; at; at = at->ai_next) {
		fd = connect_one(at->ai_addr, at->ai_addrlen, deadline_ns);
		if (fd >= 0)
			break;
	}
	freeaddrinfo(list);
	return fd < 0 ? fail_connect(url, -fd, err) : fd;
}

static int fail_transfer(const struct vac_http_url *url, int errnum, int64_t timeout_ms,
			 struct vac_error *err)
{
	char text[96];

	if (errnum == ETIMEDOUT && timeout_ms > 0)
		return vac_fail(err, VAC_E_TIMEOUT,
				"%s did not answer in %g s; --timeout gives it longer", url->text,
				(double)timeout_ms / 1000);
	return vac_fail(err, VAC_E_GONE, "the connection to %s broke: %s", url->text,
			strerror_r(errnum, text, sizeof(text)));
}

/* 0 or a negative errno. */
static int send_all(int fd, const struct vac_buf *buf, int64_t deadline_ns)
{
	size_t sent = 0;

	while (sent < buf->bytes) {
		ssize_t n = send(fd, buf->data + sent, buf->bytes - sent, MSG_NOSIGNAL);
		int rc = 0;

		if (n >= 0)
			sent += (size_t)n;
		else if (errno == EAGAIN)
			rc = wait_for(fd, POLLOUT, deadline_ns);
		else if (errno != EINTR)
			rc = -errno;
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* The same for a reply, and what is to be done meanwhile. */
static int wait_for_reply(int fd, int64_t deadline_ns, struct vac_http_beside *beside)
{
	int64_t tick_ns = beside ? vac_now_ns() + beside->every_ms * NS_PER_MS : 0;

	while (beside) {
		struct pollfd pfds[2] = {{.fd = fd, .events = POLLIN},
					 {.fd = beside->fd, .events = POLLIN}};
		int64_t now_ns = vac_now_ns();

		if (deadline_ns != 0 && now_ns >= deadline_ns)
			return -ETIMEDOUT;
		if (now_ns >= tick_ns) {
			beside->tick(beside);
			tick_ns = now_ns + beside->every_ms * NS_PER_MS;
		}
		if (poll(pfds, 2, beside->every_ms) < 0 && errno != EINTR)
			return -errno;
		if (beside->fd >= 0 && pfds[1].revents)
			beside->ready(beside);
		if (pfds[0].revents)
			return 0;
	}
	return wait_for(fd, POLLIN, deadline_ns);
}

static int receive(int fd, const struct vac_http_url *url, int64_t timeout_ms, int64_t deadline_ns,
		   struct vac_http_beside *beside, struct vac_http_response *response,
		   struct vac_error *err)
{
	struct vac_http_parser parser;
	int rc = 0;

	vac_http_parser_init(&parser, response);
	while (rc == 0) {
		uint8_t data[READ_BYTES];
		ssize_t n;

		rc = wait_for_reply(fd, deadline_ns, beside);
		if (rc != 0) {
			rc = fail_transfer(url, -rc, timeout_ms, err);
			break;
		}
		n = recv(fd, data, sizeof(data), 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0) {
			rc = fail_transfer(url, errno, timeout_ms, err);
			break;
		}
		rc = n > 0 ? vac_http_feed(&parser, data, (size_t)n, err)
			   : vac_http_end(&parser, err);
		if (rc < 0)
			vac_error_prefix(err, "%s", url->text);
	}
	vac_http_parser_free(&parser);
	return rc < 0 ? rc : 0;
}

static void put_request(struct vac_buf *request, const struct vac_http_url *url, const char *method,
			const char *target, const char *accept, const char *body, bool keep)
{
	bool brackets = strchr(url->host, ':') != NULL;

	vac_buf_printf(request,
		       "%s %s%s HTTP/1.1\r\nHost: %s%s%s:%s\r\nUser-Agent: vacate/" VAC_VERSION
		       "\r\nAccept: %s\r\n%s",
		       method, url->prefix, target, brackets ? "[" : "", url->host,
		       brackets ? "]" : "", url->port, accept, keep ? "" : "Connection: close\r\n");
	if (url->key)
		vac_buf_printf(request, "Authorization: Bearer %s\r\n", url->key);
	if (body)
		vac_buf_printf(request,
			       "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			       strlen(body), body);
	else
		vac_buf_puts(request, "\r\n");
}

/* Sends on fd, -1: on a new connection. The descriptor, or a negative errno; then fd is
 * closed. */
static int send_request(const struct vac_http_url *url, const struct vac_buf *request, int fd,
			int64_t timeout_ms, int64_t deadline_ns, struct vac_error *err)
{
	int rc;

	if (!vac_buf_ok(request)) {
		rc = vac_fail_nomem(err, "a request", request->bytes);
		goto err;
	}
	if (fd < 0)
		fd = connect_to(url, err);
	if (fd < 0)
		return fd;
	rc = send_all(fd, request, deadline_ns);
	/* A server that refuses early answers and closes while we still send:
	 * its answer says more than our broken pipe. */
	if (rc == 0 || rc == -EPIPE || rc == -ECONNRESET)
		return fd;
	rc = fail_transfer(url, -rc, timeout_ms, err);
err:
	if (fd >= 0)
		close(fd);
	return rc;
}

static int64_t deadline_of(int64_t timeout_ms)
{
	return timeout_ms > 0 ? vac_now_ns() + timeout_ms * NS_PER_MS : 0;
}

int vac_http_send(const struct vac_http_url *url, const char *method, const char *target,
		  const char *accept, const char *body, int64_t timeout_ms, struct vac_error *err)
{
	struct vac_buf request = VAC_BUF_INIT;
	int fd;

	put_request(&request, url, method, target, accept, body, false);
	fd = send_request(url, &request, -1, timeout_ms, deadline_of(timeout_ms), err);
	vac_buf_free(&request);
	return fd;
}

/* Nothing comes between two requests but the end of the connection. */
static bool still_open(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 0;
}

int vac_http_get_kept(const struct vac_http_url *url, struct vac_http_kept *kept,
		      const char *target, int64_t timeout_ms, struct vac_http_response *response,
		      struct vac_error *err)
{
	int64_t deadline_ns = deadline_of(timeout_ms);
	struct vac_buf request = VAC_BUF_INIT;
	int rc;

	*response = (struct vac_http_response){0};
	if (kept->open && !still_open(kept->fd))
		vac_http_kept_close(kept);
	put_request(&request, url, "GET", target, "application/json", NULL, true);
	rc = send_request(url, &request, kept->open ? kept->fd : -1, timeout_ms, deadline_ns, err);
	vac_buf_free(&request);
	kept->open = rc >= 0;
	kept->fd = rc;
	if (rc >= 0)
		rc = receive(kept->fd, url, timeout_ms, deadline_ns, NULL, response, err);
	if (rc < 0)
		vac_http_kept_close(kept);
	return rc;
}

void vac_http_kept_close(struct vac_http_kept *kept)
{
	if (kept->open)
		close(kept->fd);
	kept->open = false;
}

int vac_http_request(const struct vac_http_url *url, const char *method, const char *target,
		     const char *body, int64_t timeout_ms, struct vac_http_beside *beside,
		     struct vac_http_response *response, struct vac_error *err)
{
	int64_t deadline_ns = deadline_of(timeout_ms);
	int fd, rc;

	*response = (struct vac_http_response){0};
	fd = vac_http_send(url, method, target, "application/json", body, timeout_ms, err);
	if (fd < 0)
		return fd;
	rc = receive(fd, url, timeout_ms, deadline_ns, beside, response, err);
	if (beside)
		beside->over(beside);
	close(fd);
	return rc;
}

void vac_http_escape(struct vac_buf *buf, const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~/";

	for (; *text; text++) {
		if (strchr(plain, *text))
			vac_buf_putc(buf, *text);
		else
			vac_buf_printf(buf, "%%%02X", (unsigned char)*text);
	}
}
