/* seats.c - who makes way when all connections are taken. One thread. */
#include "server/seats.h"

#include <assert.h>

#define NS_PER_MS INT64_C(1000000)
/* Kept for those who come: a share of the seats, so that a burst is let in while
 * others are told to go. */
#define KEPT_SHARE 16
#define KEPT_MOST  32

void vac_seats_init(struct vac_seats *seats, uint32_t most, void (*close)(struct vac_seat *seat))
{
	uint32_t kept = most / KEPT_SHARE;

	if (kept > KEPT_MOST)
		kept = KEPT_MOST;
	/* With one seat there is nothing to keep: it is told to go when its grace is over. */
	if (kept == 0)
		kept = 1;
	*seats = (struct vac_seats){.free_below = most - kept, .close = close};
}

/* Lists are in order of since_ns, since time does not go back. */
static void wait_in(struct vac_list *list, struct vac_seat *seat, int64_t now_ns)
{
	seat->since_ns = now_ns;
	seat->bytes = 0;
	if (seat->leaving)
		return;
	vac_list_drop(&seat->link); /* it may be the last itself */
	vac_list_insert(list, list->last, &seat->link);
}

void vac_seats_take(struct vac_seats *seats, struct vac_seat *seat, int64_t now_ns)
{
	*seat = (struct vac_seat){0};
	seats->taken++;
	wait_in(&seats->sending, seat, now_ns);
}

void vac_seats_leave(struct vac_seats *seats, struct vac_seat *seat)
{
	vac_list_drop(&seat->link);
	if (seat->leaving)
		return;
	assert(seats->taken > 0);
	seats->taken--;
}

void vac_seats_sends(struct vac_seats *seats, struct vac_seat *seat, int64_t now_ns)
{
	/* The first request of a connection began with the connection. */
	if (seat->link.list != &seats->sending)
		wait_in(&seats->sending, seat, now_ns);
}

void vac_seats_gets_on(struct vac_seats *seats, struct vac_seat *seat, size_t bytes, int64_t now_ns)
{
	seat->bytes += bytes;
	if (seat->bytes >= VAC_SEAT_PROGRESS_BYTES && seat->link.list)
		wait_in(&seats->sending, seat, now_ns);
}

void vac_seats_is_served(struct vac_seats *seats, struct vac_seat *seat)
{
	(void)seats;
	vac_list_drop(&seat->link);
}

void vac_seats_rests(struct vac_seats *seats, struct vac_seat *seat, int64_t now_ns)
{
	wait_in(&seats->resting, seat, now_ns);
}

/* The first of a list, if its grace is over; else *again_ns becomes the time when
 * that is, if it is earlier. */
static struct vac_seat *overdue(const struct vac_list *list, int64_t grace_ms, int64_t now_ns,
				int64_t *again_ns)
{
	struct vac_seat *seat;
	int64_t until_ns;

	if (!list->first)
		return NULL;
	seat = VAC_CONTAINER(list->first, struct vac_seat, link);
	until_ns = seat->since_ns + grace_ms * NS_PER_MS;
	if (until_ns <= now_ns)
		return seat;
	if (*again_ns < 0 || until_ns < *again_ns)
		*again_ns = until_ns;
	return NULL;
}

int64_t vac_seats_relieve(struct vac_seats *seats, int64_t now_ns)
{
	int64_t again_ns = -1;

	while (seats->taken > seats->free_below) {
		struct vac_seat *seat =
			overdue(&seats->sending, VAC_SEAT_SENDING_MS, now_ns, &again_ns);

		if (!seat)
			seat = overdue(&seats->resting, VAC_SEAT_RESTING_MS, now_ns, &again_ns);
		if (!seat)
			return again_ns;
		vac_list_drop(&seat->link);
		seat->leaving = true;
		seats->taken--;
		seats->crowded_out++;
		seats->close(seat);
	}
	return -1;
}
