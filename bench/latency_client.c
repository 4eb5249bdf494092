/*
 * latency_client.c - what the server itself costs a request: a lean HTTP/1.1
 * client on one kept-alive connection, one request at a time. For each
 * request: time on the client's clock minus the compute time that the answer
 * states in its X-Vacate-Compute-Ns header. Prints one line "TOTAL COMPUTE"
 * (nanoseconds) a request; bench/server_cost.py makes the percentiles.
 *
 *	latency_client PORT PATH REQUESTS WARMUP < BODY
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_BODY_BYTES  (1u << 20)
#define MAX_REPLY_BYTES (16u << 20)

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "latency_client: %s\n", what);
	exit(1);
}

static int dial(const char *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		fail("cannot connect");
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
		fail("cannot set TCP_NODELAY");
	return fd;
}

/* The value of a header in a NUL-terminated head; -1 when it is not there. */
static int64_t header_value(const char *head, const char *name)
{
	size_t length = strlen(name);
	for (const char *line = strchr(head, '\n'); line; line = strchr(line + 1, '\n')) {
		if (strncasecmp(line + 1, name, length) == 0 && line[1 + length] == ':')
			return strtoll(line + length + 2, NULL, 10);
	}
	return -1;
}

/* Sends one request and reads its whole reply; returns the stated compute time. */
static int64_t ask(int fd, const char *request, size_t request_bytes, char *reply)
{
	for (size_t sent = 0; sent < request_bytes;) {
		ssize_t n = write(fd, request + sent, request_bytes - sent);
		if (n <= 0)
			fail("cannot send");
		sent += (size_t)n;
	}
	size_t got = 0, whole = SIZE_MAX;
	int64_t compute_ns = -1;
	while (got < whole) {
		ssize_t n = read(fd, reply + got, MAX_REPLY_BYTES - 1 - got);
		if (n <= 0)
			fail("the server closed the connection");
		got += (size_t)n;
		reply[got] = '\0';
		char *end = whole == SIZE_MAX ? strstr(reply, "\r\n\r\n") : NULL;
		if (!end)
			continue;
		*end = '\0';
		int64_t body_bytes = header_value(reply, "Content-Length");
		compute_ns = header_value(reply, "X-Vacate-Compute-Ns");
		if (strncmp(reply, "HTTP/1.1 200", 12) != 0)
			fail(reply);
		if (body_bytes < 0 || compute_ns < 0)
			fail("a reply without Content-Length or X-Vacate-Compute-Ns");
		whole = (size_t)(end - reply) + 4 + (size_t)body_bytes;
		if (whole >= MAX_REPLY_BYTES)
			fail("the reply is too large");
	}
	return compute_ns;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		fail("usage: latency_client PORT PATH REQUESTS WARMUP < BODY");
	char *request = malloc(MAX_BODY_BYTES + 1024), *body = malloc(MAX_BODY_BYTES);
	char *reply = malloc(MAX_REPLY_BYTES);
	if (!request || !body || !reply)
		fail("out of memory");
	size_t body_bytes = fread(body, 1, MAX_BODY_BYTES, stdin);
	int head = snprintf(request, 1024,
			    "POST %s HTTP/1.1\r\nHost: localhost\r\n"
			    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
			    argv[2], body_bytes);
	if (head < 0 || head >= 1024)
		fail("the path is too long");
	memcpy(request + head, body, body_bytes);

	int fd = dial(argv[1]);
	long warmup = atol(argv[4]), requests = atol(argv[3]);
	for (long i = 0; i < warmup + requests; i++) {
		int64_t started = now_ns();
		int64_t compute_ns = ask(fd, request, (size_t)head + body_bytes, reply);
		int64_t total_ns = now_ns() - started;
		if (i >= warmup)
			printf("%lld %lld\n", (long long)total_ns, (long long)compute_ns);
	}
	close(fd);
	free(request);
	free(body);
	free(reply);
	return 0;
}
