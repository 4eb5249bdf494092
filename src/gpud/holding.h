/*
 * holding.h - HOLD: looking at processes, parking and resuming them, on a thread of
 * its own while vacate-gpud's first thread answers other frames. A call of the driver
 * may take many seconds and cannot be cut short. The first thread calls these.
 */
#ifndef VAC_GPUD_HOLDING_H
#define VAC_GPUD_HOLDING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "hold/hold.h"
#include "wire/hold_frames.h"

struct vac_holding {
	bool running; /* the thread was started and is not joined */
	int event_fd; /* readable: there are frames, or the thread is done */
	pthread_t thread;
	atomic_bool cancelled;
	/* the thread's, while it runs */
	bool opened;
	struct vac_hold hold;
	uint64_t id;
	struct vac_wire_hold question;
	char device_uuid[VAC_WIRE_UUID_BYTES];
	char who[VAC_WIRE_WHO_BYTES];
	struct vac_wire_held *answer;
	size_t places[VAC_WIRE_MAX_TARGETS]; /* in the question, of what hold was given */
	/* both threads', under the lock */
	pthread_mutex_t lock;
	bool done;
	struct vac_buf frames;
};

int vac_holding_open(struct vac_holding *holding, struct vac_error *err) VAC_MUST_CHECK;
/* Waits for the thread, if it runs. */
void vac_holding_close(struct vac_holding *holding);
/* VAC_E_BUSY: there is another one. */
int vac_holding_begin(struct vac_holding *holding, uint64_t id, const uint8_t *payload,
		      size_t bytes, struct vac_error *err) VAC_MUST_CHECK;
/* To stop at the next safe point. Of another id: nothing. Any thread. */
void vac_holding_cancel(struct vac_holding *holding, uint64_t id);
void vac_holding_cancel_any(struct vac_holding *holding);
/* Appends the frames that there are; joins the thread when it is done. */
void vac_holding_take(struct vac_holding *holding, struct vac_buf *out);

#endif
