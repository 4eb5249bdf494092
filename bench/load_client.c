/*
 * load_client.c - many kept-alive HTTP/1.1 connections that ask the same again
 * and again, each as soon as it was answered. One thread, epoll.
 *
 *	load_client PORT PATH CONNECTIONS REQUESTS [SECONDS [new]] < BODIES
 *
 * Bodies are separated by NUL bytes; each request takes the next one, the first
 * again after the last.
 * Ends after REQUESTS replies or SECONDS (0: no limit), whichever comes first,
 * and prints one JSON object: how many replies there were, how many that were
 * not 200 or broke off, and latencies in microseconds. new: a connection is made
 * for each request, and its making is part of the latency. A connection that
 * the server closes between two requests is made again; that is no failure.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_INPUT_BYTES (64u << 20)
#define HEAD_BYTES      4096
/* Latencies: 16 steps for each doubling. */
#define STEPS   16
#define BUCKETS (40 * STEPS)

struct request {
	char *data; /* head and body */
	size_t bytes;
};

struct client {
	int fd; /* -1: to be connected */
	bool connecting;
	const struct request *request;
	size_t sent;       /* of it */
	size_t head_used;  /* of the reply's head */
	int64_t body_left; /* negative: the head is not whole */
	int64_t began_ns;
	char head[HEAD_BYTES];
};

static struct request *requests;
static size_t request_count, request_next;
static struct sockaddr_in address;
static struct client *clients;
static int set;
static bool once; /* a connection a request */
static uint64_t wanted, started, done, failed, reconnects, reply_bytes, histogram[BUCKETS];
static int64_t longest_ns, end_ns;
static char scratch[1 << 16];

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "load_client: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned bucket_of(uint64_t us)
{
	unsigned bits;

	if (us < STEPS)
		return (unsigned)us;
	bits = 63 - (unsigned)__builtin_clzll(us);
	return (bits - 3) * STEPS + (unsigned)((us >> (bits - 4)) & (STEPS - 1));
}

static double bucket_us(unsigned bucket)
{
	unsigned bits = bucket / STEPS + 3;

	if (bucket < STEPS)
		return bucket;
	return (double)((uint64_t)(STEPS + bucket % STEPS) << (bits - 4));
}

static double percentile(double share)
{
	uint64_t need = (uint64_t)(share * (double)done), seen = 0;

	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += histogram[i];
		if (seen > need)
			return bucket_us(i);
	}
	return (double)longest_ns / 1e3;
}

static void watch(struct client *c, int what, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (epoll_ctl(set, what, c->fd, &event) != 0)
		die("epoll_ctl");
}

static void begin(struct client *c)
{
	c->request = &requests[request_next];
	request_next = (request_next + 1) % request_count;
	c->sent = c->head_used = 0;
	c->body_left = -1;
	started++;
}

static void dial(struct client *c)
{
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		die("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0 &&
	    errno != EINPROGRESS)
		die("connect");
	c->connecting = true;
	watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void hang_up(struct client *c)
{
	close(c->fd);
	c->fd = -1;
}

/* Nothing more is asked. */
static bool enough(void)
{
	return started >= wanted;
}

static void push(struct client *c)
{
	while (c->sent < c->request->bytes) {
		ssize_t n = send(c->fd, c->request->data + c->sent, c->request->bytes - c->sent,
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0)
			return; /* the reading side tells */
		c->sent += (size_t)n;
	}
	watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void next(struct client *c)
{
	if (enough()) {
		hang_up(c);
		return;
	}
	begin(c);
	c->began_ns = now_ns();
	if (once) {
		hang_up(c);
		dial(c);
	} else {
		push(c);
	}
}

static void answered(struct client *c, bool good)
{
	int64_t ns = now_ns() - c->began_ns;

	done++;
	failed += !good;
	histogram[bucket_of((uint64_t)ns / 1000)]++;
	if (ns > longest_ns)
		longest_ns = ns;
}

/* The connection ended. Before a byte of the reply on a connection that rested,
 * it crossed our request: asked again, as HTTP clients do. */
static void broke(struct client *c)
{
	hang_up(c);
	reconnects++;
	if (c->head_used > 0 || once) {
		answered(c, false);
		if (enough())
			return;
		begin(c);
		c->began_ns = now_ns();
	}
	c->sent = c->head_used = 0;
	c->body_left = -1;
	dial(c);
}

/* The head is whole: what of the body came with it is counted. false: nonsense. */
static bool parse_head(struct client *c, char *end)
{
	size_t head_bytes = (size_t)(end - c->head) + 4;
	int64_t body = -1;

	*end = '\0';
	for (char *line = strchr(c->head, '\n'); line; line = strchr(line + 1, '\n')) {
		if (strncasecmp(line + 1, "content-length:", 15) == 0)
			body = strtoll(line + 16, NULL, 10);
	}
	if (body < 0)
		return false;
	reply_bytes += (uint64_t)body;
	c->body_left = body - (int64_t)(c->head_used - head_bytes);
	return c->body_left >= 0;
}

static void pull(struct client *c)
{
	for (;;) {
		bool head = c->body_left < 0;
		size_t room = head ? HEAD_BYTES - 1 - c->head_used : sizeof(scratch);
		ssize_t n = recv(c->fd, head ? c->head + c->head_used : scratch, room, 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			broke(c);
			return;
		}
		if (head) {
			char *end;

			c->head_used += (size_t)n;
			c->head[c->head_used] = '\0';
			end = strstr(c->head, "\r\n\r\n");
			if (!end && c->head_used < HEAD_BYTES - 1)
				continue;
			if (!end || !parse_head(c, end)) {
				errno = EPROTO;
				die("a reply without an end or a length");
			}
		} else {
			c->body_left -= n;
		}
		if (c->body_left == 0) {
			answered(c, strncmp(c->head, "HTTP/1.1 200", 12) == 0);
			next(c);
			return;
		}
	}
}

static void serve(struct client *c, uint32_t events)
{
	if (c->connecting) {
		int error = 0;
		socklen_t bytes = sizeof(error);

		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
		if (error) {
			errno = error;
			die("connect");
		}
		c->connecting = false;
		push(c);
		return;
	}
	if (events & EPOLLOUT)
		push(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		pull(c);
}

static void run(int count)
{
	struct epoll_event events[256];

	while (done < wanted && (end_ns == 0 || now_ns() < end_ns)) {
		int n = epoll_wait(set, events, 256, 100);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++)
			serve(events[i].data.ptr, events[i].events);
	}
	for (int i = 0; i < count; i++) {
		if (clients[i].fd >= 0)
			close(clients[i].fd);
	}
}

static void add_request(const char *path, const char *body, size_t bytes)
{
	struct request *more = realloc(requests, (request_count + 1) * sizeof(*more));
	char *data = malloc(HEAD_BYTES + bytes);
	int head;

	if (!more || !data)
		die("memory");
	head = snprintf(data, HEAD_BYTES,
			"%s %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Type: application/json\r\n"
			"Content-Length: %zu\r\n\r\n",
			bytes ? "POST" : "GET", path, once ? "Connection: close\r\n" : "", bytes);
	if (head < 0 || head >= HEAD_BYTES)
		die("a path");
	memcpy(data + head, body, bytes);
	requests = more;
	requests[request_count++] = (struct request){data, (size_t)head + bytes};
}

static void read_requests(const char *port, const char *path)
{
	char *input = malloc(MAX_INPUT_BYTES);
	size_t bytes, at = 0;

	if (!input)
		die("memory");
	bytes = fread(input, 1, MAX_INPUT_BYTES - 1, stdin);
	input[bytes] = '\0';
	do { /* none at all is one without a body */
		size_t length = strlen(input + at);

		if (length || request_count == 0)
			add_request(path, input + at, length);
		at += length + 1;
	} while (at < bytes);
	free(input);
	address = (struct sockaddr_in){.sin_family = AF_INET,
				       .sin_port = htons((uint16_t)atoi(port)),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int main(int argc, char **argv)
{
	struct rlimit files;
	int64_t start_ns;
	int count;

	if (argc < 5) {
		fprintf(stderr, "usage: load_client PORT PATH CONNECTIONS REQUESTS [SECONDS [new]] "
				"< BODIES\n");
		return 2;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	count = atoi(argv[3]);
	wanted = strtoull(argv[4], NULL, 10);
	once = argc > 6 && strcmp(argv[6], "new") == 0;
	read_requests(argv[1], argv[2]);
	clients = calloc((size_t)count, sizeof(*clients));
	set = epoll_create1(EPOLL_CLOEXEC);
	if (!clients || set < 0)
		die("memory");
	start_ns = now_ns();
	if (argc > 5 && atof(argv[5]) > 0)
		end_ns = start_ns + (int64_t)(atof(argv[5]) * 1e9);
	for (int i = 0; i < count; i++) {
		clients[i].fd = -1;
		if (enough())
			continue;
		begin(&clients[i]);
		clients[i].began_ns = now_ns();
		dial(&clients[i]);
	}
	run(count);
	printf("{\"replies\": %llu, \"failed\": %llu, \"reconnects\": %llu, \"seconds\": %.3f, "
	       "\"reply_bytes\": %llu, \"p50_us\": %.0f, \"p99_us\": %.0f, \"longest_us\": %.0f}\n",
	       (unsigned long long)done, (unsigned long long)failed, (unsigned long long)reconnects,
	       (double)(now_ns() - start_ns) / 1e9, (unsigned long long)reply_bytes,
	       percentile(0.5), percentile(0.99), (double)longest_ns / 1e3);
	free(clients);
	for (size_t i = 0; i < request_count; i++)
		free(requests[i].data);
	free(requests);
	return 0;
}
