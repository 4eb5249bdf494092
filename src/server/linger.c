/* linger.c - see linger.h. The loop's thread only. */
#include "server/linger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

/* At once; they take descriptors that others need. */
#define MOST        16
#define PATIENCE_MS 2000
/* What a client may still send: more is no slip. */
#define MOST_BYTES ((size_t)4 << 20)
#define NS_PER_MS  1000000

struct vac_linger {
	struct vac_lingers *all;
	struct vac_linger *next;
	struct vac_source source; /* fd owned */
	struct vac_timer timer;
	size_t bytes; /* thrown away */
};

static void end(struct vac_linger *linger)
{
	struct vac_linger **at = &linger->all->first;

	while (*at != linger)
		at = &(*at)->next;
	*at = linger->next;
	linger->all->count--;
	vac_loop_remove(linger->all->loop, &linger->source);
	vac_timer_close(linger->all->loop, &linger->timer);
	close(linger->source.fd);
	free(linger);
}

static void ready(struct vac_source *source, uint32_t events)
{
	struct vac_linger *linger = VAC_CONTAINER(source, struct vac_linger, source);
	char waste[16384];
	ssize_t n = recv(source->fd, waste, sizeof(waste), 0);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		linger->bytes += (size_t)n;
	if (n <= 0 || linger->bytes > MOST_BYTES)
		end(linger);
}

static void patience_ends(struct vac_timer *timer)
{
	end(VAC_CONTAINER(timer, struct vac_linger, timer));
}

void vac_linger_add(struct vac_lingers *lingers, int fd)
{
	struct vac_linger *linger;
	struct vac_error err;

	if (lingers->count >= MOST)
		return;
	linger = calloc(1, sizeof(*linger));
	if (!linger)
		return;
	linger->all = lingers;
	linger->source = (struct vac_source){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .ready = ready};
	if (linger->source.fd < 0)
		goto err;
	if (vac_timer_open(lingers->loop, &linger->timer, patience_ends) < 0)
		goto err_fd;
	if (vac_loop_add(lingers->loop, &linger->source, EPOLLIN, &err) < 0)
		goto err_timer;
	/* The client reads its reply, and then the end. */
	shutdown(fd, SHUT_WR);
	vac_timer_set(lingers->loop, &linger->timer,
		      vac_now_ns() + (int64_t)PATIENCE_MS * NS_PER_MS);
	linger->next = lingers->first;
	lingers->first = linger;
	lingers->count++;
	return;
err_timer:
	vac_timer_close(lingers->loop, &linger->timer);
err_fd:
	close(linger->source.fd);
err:
	free(linger);
}

void vac_lingers_close(struct vac_lingers *lingers)
{
	while (lingers->first)
		end(lingers->first);
}
