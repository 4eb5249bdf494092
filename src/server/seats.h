/*
 * seats.h - who makes way when all connections are taken.
 *
 * A connection that sends a request, or rests between two, can keep its seat
 * for as long as its time-outs allow (tens of seconds); clients that send a byte
 * a second would so lock everybody out. Therefore the last seats are kept free
 * for those who come: when one of them is taken, the connection that has been
 * sending its request longest makes way, then the one that has rested longest.
 * Neither before a grace, and one that gets on with a large body counts from its
 * last VAC_SEAT_PROGRESS_BYTES. Whose request is being answered is not touched.
 *
 * Pure logic over times that are given; one thread.
 */
#ifndef VAC_SERVER_SEATS_H
#define VAC_SERVER_SEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/list.h"

#define VAC_SEAT_SENDING_MS     INT64_C(100)
#define VAC_SEAT_RESTING_MS     INT64_C(1000)
#define VAC_SEAT_PROGRESS_BYTES ((size_t)16 << 10)

/* Embedded in a connection. */
struct vac_seat {
	struct vac_link link; /* in sending or resting; in none: busy, or told to go */
	int64_t since_ns;     /* since when it sends or rests */
	size_t bytes;         /* of its body, since then */
	bool leaving;         /* told to go */
};

struct vac_seats {
	uint32_t free_below;              /* so many seats are for everybody */
	uint32_t taken;                   /* without those that were told to go */
	struct vac_list sending, resting; /* longest first */
	uint64_t crowded_out;             /* over the server's life, for the metrics */
	/* Close it; vac_seats_leave() follows, later. */
	void (*close)(struct vac_seat *seat);
};

/* most: connections that can be open at once. */
void vac_seats_init(struct vac_seats *seats, uint32_t most, void (*close)(struct vac_seat *seat));

/* A connection began; it is about to send. */
void vac_seats_take(struct vac_seats *seats, struct vac_seat *seat, int64_t now_ns);
/* It is closed. */
void vac_seats_leave(struct vac_seats *seats, struct vac_seat *seat);
/* It began to send a request. */
void vac_seats_sends(struct vac_seats *seats, struct vac_seat *seat, int64_t now_ns);
/* Bytes of its body came. */
void vac_seats_gets_on(struct vac_seats *seats, struct vac_seat *seat, size_t bytes,
		       int64_t now_ns);
/* Its request is whole. */
void vac_seats_is_served(struct vac_seats *seats, struct vac_seat *seat);
/* Its reply has left. */
void vac_seats_rests(struct vac_seats *seats, struct vac_seat *seat, int64_t now_ns);

/* Tells connections to go while too many seats are taken and somebody's grace is
 * over. Returns when to look again, negative when there is no need to. */
int64_t vac_seats_relieve(struct vac_seats *seats, int64_t now_ns);

#endif
