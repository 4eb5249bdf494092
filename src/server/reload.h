/*
 * reload.h - settings that are read again while the server runs (SIGHUP). The
 * loop's thread only.
 */
#ifndef VAC_SERVER_RELOAD_H
#define VAC_SERVER_RELOAD_H

#include "base/buf.h"

struct vac_server;

/* How the last reading went. */
struct vac_reload {
	bool failed;
	int64_t succeeded_wall_ns; /* of the last one that did; the start is one */
	uint64_t count;
};

/* Reads them and follows; when they are wrong, nothing changes. */
void vac_reload(struct vac_server *server);
/* Prometheus text. */
void vac_reload_metrics(const struct vac_server *server, struct vac_buf *buf);

#endif
