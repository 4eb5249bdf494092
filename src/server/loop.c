/*
 * loop.c - the event loop of the server process: epoll and a binary heap of
 * timers. One thread.
 */
#include "server/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define NS_PER_MS 1000000

int vac_loop_init(struct vac_loop *loop, struct vac_error *err)
{
	memset(loop, 0, sizeof(*loop));
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return vac_fail_errno(err, errno, "cannot make an epoll set");
	return 0;
}

void vac_loop_free(struct vac_loop *loop)
{
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	loop->epoll_fd = -1;
	free(loop->heap);
	loop->heap = NULL;
}

void vac_loop_stop(struct vac_loop *loop)
{
	loop->stopped = true;
}

int vac_loop_add(struct vac_loop *loop, struct vac_source *source, uint32_t events,
		 struct vac_error *err)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) != 0)
		return vac_fail_errno(err, errno, "cannot watch descriptor %d", source->fd);
	return 0;
}

void vac_loop_change(struct vac_loop *loop, struct vac_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};
	int rc = epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event);

	/* MOD of a descriptor in the set allocates nothing and cannot fail. */
	assert(rc == 0);
	(void)rc;
}

void vac_loop_remove(struct vac_loop *loop, struct vac_source *source)
{
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	for (int i = loop->batch_at; i < loop->batch_count; i++) {
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
	}
}

/* ---- timers ---- */

static void put(struct vac_loop *loop, size_t slot, struct vac_timer *timer)
{
	loop->heap[slot] = timer;
	timer->slot = slot;
}

static void sift_up(struct vac_loop *loop, size_t slot)
{
	struct vac_timer *timer = loop->heap[slot];

	while (slot > 1 && loop->heap[slot / 2]->at_ns > timer->at_ns) {
		put(loop, slot, loop->heap[slot / 2]);
		slot /= 2;
	}
	put(loop, slot, timer);
}

static void sift_down(struct vac_loop *loop, size_t slot)
{
	struct vac_timer *timer = loop->heap[slot];

	while (slot * 2 <= loop->timer_count) {
		size_t child = slot * 2;

		if (child < loop->timer_count &&
		    loop->heap[child + 1]->at_ns < loop->heap[child]->at_ns)
			child++;
		if (loop->heap[child]->at_ns >= timer->at_ns)
			break;
		put(loop, slot, loop->heap[child]);
		slot = child;
	}
	put(loop, slot, timer);
}

int vac_timer_open(struct vac_loop *loop, struct vac_timer *timer,
		   void (*fire)(struct vac_timer *timer))
{
	/* Slot 0 is not used, so that "no slot" is 0. */
	if (loop->timer_opened + 2 > loop->heap_capacity) {
		size_t capacity = loop->heap_capacity ? loop->heap_capacity * 2 : 32;
		struct vac_timer **heap = realloc(loop->heap, capacity * sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		loop->heap = heap;
		loop->heap_capacity = capacity;
	}
	loop->timer_opened++;
	*timer = (struct vac_timer){.fire = fire};
	return 0;
}

void vac_timer_close(struct vac_loop *loop, struct vac_timer *timer)
{
	if (!timer->fire)
		return;
	vac_timer_clear(loop, timer);
	timer->fire = NULL;
	assert(loop->timer_opened > 0);
	loop->timer_opened--;
}

void vac_timer_set(struct vac_loop *loop, struct vac_timer *timer, int64_t at_ns)
{
	assert(timer->fire);
	if (timer->slot == 0) {
		assert(loop->timer_count < loop->timer_opened);
		put(loop, ++loop->timer_count, timer);
	}
	timer->at_ns = at_ns;
	sift_up(loop, timer->slot);
	sift_down(loop, timer->slot);
}

void vac_timer_clear(struct vac_loop *loop, struct vac_timer *timer)
{
	struct vac_timer *last;
	size_t slot = timer->slot;

	if (slot == 0)
		return;
	timer->slot = 0;
	last = loop->heap[loop->timer_count--];
	if (last == timer)
		return;
	put(loop, slot, last);
	sift_up(loop, slot);
	sift_down(loop, last->slot);
}

/* Fires what was due when it was called; a timer that sets itself to "now"
 * again waits for the next turn, so that it cannot starve the descriptors. */
static bool fire_due(struct vac_loop *loop)
{
	int64_t now_ns = vac_now_ns();
	size_t left = loop->timer_count;
	bool fired = false;

	while (left-- > 0 && loop->timer_count > 0 && loop->heap[1]->at_ns <= now_ns) {
		struct vac_timer *timer = loop->heap[1];

		vac_timer_clear(loop, timer);
		timer->fire(timer);
		fired = true;
	}
	return fired;
}

/* ---- turns ---- */

static int wait_ms(const struct vac_loop *loop, int64_t settle_ns)
{
	int64_t ns = settle_ns, ms;

	if (loop->timer_count > 0) {
		int64_t until = loop->heap[1]->at_ns - vac_now_ns();

		if (until < 0)
			until = 0;
		if (ns < 0 || until < ns)
			ns = until;
	}
	if (ns < 0)
		return -1;
	/* Rounded up: a timer must not wake the loop before it is due. */
	ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void serve_batch(struct vac_loop *loop, int count)
{
	loop->batch_count = count;
	for (loop->batch_at = 0; loop->batch_at < loop->batch_count;) {
		struct epoll_event *event = &loop->batch[loop->batch_at++];
		struct vac_source *source = event->data.ptr;

		if (source)
			source->ready(source, event->events);
	}
	loop->batch_at = loop->batch_count = 0;
}

int vac_loop_run(struct vac_loop *loop, struct vac_error *err)
{
	int64_t settle_ns = loop->settle(loop->settle_ctx);

	while (!loop->stopped) {
		int n = epoll_wait(loop->epoll_fd, loop->batch, VAC_LOOP_BATCH,
				   wait_ms(loop, settle_ns));

		if (n < 0 && errno != EINTR)
			return vac_fail_errno(err, errno, "cannot wait for events");
		serve_batch(loop, n < 0 ? 0 : n);
		settle_ns = loop->settle(loop->settle_ctx);
		if (fire_due(loop))
			settle_ns = loop->settle(loop->settle_ctx);
	}
	return 0;
}
