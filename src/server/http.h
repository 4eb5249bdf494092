/*
 * http.h - libmicrohttpd in the server's loop. The loop's thread only.
 */
#ifndef VAC_SERVER_HTTP_H
#define VAC_SERVER_HTTP_H

#include "server/linger.h"
#include "server/listen.h"
#include "server/loop.h"

struct MHD_Daemon;
struct MHD_Connection;
struct vac_server;
struct vac_request;
struct vac_connection;

struct vac_http {
	struct vac_server *server;
	struct MHD_Daemon *daemon;
	struct vac_listeners listeners;
	struct vac_lingers lingers;
	struct vac_source source; /* the daemon's epoll descriptor */
	bool run_wanted;          /* MHD_run() has something to do */
	int64_t run_at_ns;        /* MHD_run() will have something to do; negative: no */
	struct vac_request *requests;
	uint32_t request_count, connection_count;
	uint32_t connection_limit;
	size_t held_bytes; /* of all bodies */
};

/* Listens, and begins to take connections. */
int vac_http_start(struct vac_http *http, struct vac_server *server,
		   struct vac_error *err) VAC_MUST_CHECK;
/* Takes no more connections. */
void vac_http_close_listener(struct vac_http *http);
/* Every request must be DONE. */
void vac_http_stop(struct vac_http *http);
/* Lets libmicrohttpd do what is there to do. Returns for how long it needs no
 * more, in nanoseconds; negative: until its descriptor is ready. */
int64_t vac_http_run(struct vac_http *http);
/* reply is filled: sends it in this turn of the loop. */
void vac_request_finish(struct vac_request *request);

#endif
