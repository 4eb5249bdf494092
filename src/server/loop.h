/*
 * loop.h - the event loop that everything in the server process runs on: one
 * epoll set, a heap of timers, and one hook.
 *
 * A turn is: wait, descriptors that are ready, the hook (settle), timers that
 * are due, and the hook again if there were any. Replies leave in the hook, so
 * whatever a timer starts (an unload and its measurements) never delays a
 * reply that was ready before it. One thread; nothing here locks.
 */
#ifndef VAC_SERVER_LOOP_H
#define VAC_SERVER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/error.h"
#include "server/list.h"

/* A descriptor of somebody's, embedded in its struct. */
struct vac_source {
	int fd; /* not owned */
	void (*ready)(struct vac_source *source, uint32_t events);
};

/* A deadline of somebody's, embedded in its struct. */
struct vac_timer {
	int64_t at_ns; /* of vac_now_ns() */
	size_t slot;   /* position in the heap, from 1; 0: not set */
	void (*fire)(struct vac_timer *timer);
};

#define VAC_LOOP_BATCH 64

struct vac_loop {
	int epoll_fd; /* owned */
	bool stopped;
	struct epoll_event batch[VAC_LOOP_BATCH]; /* events of this turn */
	int batch_at, batch_count;
	struct vac_timer **heap; /* owned; [1..timer_count], earliest first */
	size_t timer_count, timer_opened, heap_capacity;
	/* Does what the turn left to do; returns for how long the loop may then
	 * wait, in nanoseconds; negative: as long as the timers allow. */
	int64_t (*settle)(void *ctx);
	void *settle_ctx;
};

int vac_loop_init(struct vac_loop *loop, struct vac_error *err) VAC_MUST_CHECK;
void vac_loop_free(struct vac_loop *loop);
/* Runs until vac_loop_stop(). Negative when the system refuses to wait. */
int vac_loop_run(struct vac_loop *loop, struct vac_error *err) VAC_MUST_CHECK;
void vac_loop_stop(struct vac_loop *loop);

int vac_loop_add(struct vac_loop *loop, struct vac_source *source, uint32_t events,
		 struct vac_error *err) VAC_MUST_CHECK;
/* events of a source that was added. */
void vac_loop_change(struct vac_loop *loop, struct vac_source *source, uint32_t events);
/* Before the descriptor is closed. No event of this turn reaches it any more. */
void vac_loop_remove(struct vac_loop *loop, struct vac_source *source);

/* Reserves the timer's place, so that setting it cannot fail. */
int vac_timer_open(struct vac_loop *loop, struct vac_timer *timer,
		   void (*fire)(struct vac_timer *timer)) VAC_MUST_CHECK;
void vac_timer_close(struct vac_loop *loop, struct vac_timer *timer);
/* (Re)sets it; a time that is past fires in this turn or the next. */
void vac_timer_set(struct vac_loop *loop, struct vac_timer *timer, int64_t at_ns);
void vac_timer_clear(struct vac_loop *loop, struct vac_timer *timer);
static inline bool vac_timer_is_set(const struct vac_timer *timer)
{
	return timer->slot != 0;
}

#endif
