/*
 * slow_client.c - clients that send a request one byte a second, and come back
 * as soon as they are thrown out. One thread, epoll.
 *
 *	slow_client PORT CLIENTS SECONDS
 *
 * Says "connected" on standard output when every client has tried once, and at
 * the end prints one JSON object: connections made, refused, closed by the
 * server, and the most that were open at once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVERY_NS INT64_C(1000000000)

struct slow {
	int fd;
	bool connected;
	uint32_t sent;
};

static const char text[] = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"
			   "Content-Type: application/json\r\nContent-Length: 100000\r\n"
			   "X-Slow: ";

static struct sockaddr_in address;
static int set;
static uint64_t made, refused, closed, open_now, open_most;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void dial(struct slow *s)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = s};

	s->connected = false;
	s->sent = 0;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0) {
		refused++;
		return;
	}
	if ((connect(s->fd, (struct sockaddr *)&address, sizeof(address)) != 0 &&
	     errno != EINPROGRESS) ||
	    epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &event) != 0) {
		refused++;
		close(s->fd);
		s->fd = -1;
	}
}

static void gone(struct slow *s)
{
	if (s->connected) {
		closed++;
		open_now--;
	} else {
		refused++;
	}
	close(s->fd);
	s->fd = -1;
}

/* The next byte: the head, then a header that never ends. */
static void send_one(struct slow *s)
{
	char c = s->sent < sizeof(text) - 1 ? text[s->sent] : 'a';

	if (send(s->fd, &c, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
		s->sent++;
}

static void serve(struct slow *s, uint32_t events)
{
	char ignored[512];
	ssize_t n;

	if (!s->connected && !(events & (EPOLLERR | EPOLLHUP))) {
		s->connected = true;
		made++;
		if (++open_now > open_most)
			open_most = open_now;
	}
	n = recv(s->fd, ignored, sizeof(ignored), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		gone(s);
}

int main(int argc, char **argv)
{
	struct epoll_event events[256];
	struct rlimit files;
	struct slow *all;
	int64_t start_ns = now_ns(), end_ns, next_ns;
	int count, at = 0;
	bool told = false;

	if (argc != 4) {
		fprintf(stderr, "usage: slow_client PORT CLIENTS SECONDS\n");
		return 2;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	address = (struct sockaddr_in){.sin_family = AF_INET,
				       .sin_port = htons((uint16_t)atoi(argv[1])),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	count = atoi(argv[2]);
	all = calloc((size_t)count, sizeof(*all));
	set = epoll_create1(EPOLL_CLOEXEC);
	if (!all || set < 0)
		return 1;
	for (int i = 0; i < count; i++)
		all[i].fd = -1;
	end_ns = start_ns + atoll(argv[3]) * EVERY_NS;
	next_ns = start_ns;
	while (now_ns() < end_ns) {
		int n;

		/* Each has its turn once a second, spread evenly over it. */
		while (now_ns() >= next_ns) {
			struct slow *s = &all[at];

			if (s->fd < 0)
				dial(s);
			else if (s->connected)
				send_one(s);
			at = (at + 1) % count;
			next_ns += EVERY_NS / count;
			if (at == 0 && !told) {
				puts("connected");
				fflush(stdout);
				told = true;
			}
		}
		n = epoll_wait(set, events, 256, 1);
		for (int i = 0; i < n; i++)
			serve(events[i].data.ptr, events[i].events);
	}
	printf("{\"made\": %llu, \"refused\": %llu, \"closed\": %llu, \"open_most\": %llu}\n",
	       (unsigned long long)made, (unsigned long long)refused, (unsigned long long)closed,
	       (unsigned long long)open_most);
	free(all);
	return 0;
}
