/*
 * channel.h - the frames between the server and one worker: non-blocking
 * socket, bounded buffers, the table of exchanges. Between supervisor.c and
 * channel.c only.
 */
#ifndef VAC_SERVER_CHANNEL_H
#define VAC_SERVER_CHANNEL_H

#include "server/supervisor.h"

/* Makes the socket non-blocking and watches it. */
int vac_channel_open(struct vac_worker *worker, struct vac_error *err) VAC_MUST_CHECK;
/* Closes the socket and drops what was not sent. May be called twice. */
void vac_channel_close(struct vac_worker *worker);
/* Reads and handles what lies in the socket: a turn's worth of it. */
void vac_channel_read(struct vac_worker *worker);
/* The same of a worker that ended: all of it. */
void vac_channel_read_last(struct vac_worker *worker);

/* Called by channel.c: HELLO came and is right; the socket was closed from the
 * other side; the worker has work (again). */
void vac_worker_greeted(struct vac_worker *worker);
void vac_worker_hung_up(struct vac_worker *worker);
void vac_worker_watch(struct vac_worker *worker);

#endif
