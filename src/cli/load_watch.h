/*
 * load_watch.h - what a load is at, shown while its reply is waited for: a bar
 * on a terminal, a line every few seconds elsewhere. It is told by the server's
 * stream of events; a server without one is waited for in silence. One thread.
 */
#ifndef VAC_CLI_LOAD_WATCH_H
#define VAC_CLI_LOAD_WATCH_H

#include "cli/client.h"
#include "cli/http_stream.h"
#include "cli/progress.h"

struct vac_load_watch {
	struct vac_http_beside beside; /* for the request */
	struct vac_client_server server;
	struct vac_http_stream stream;
	struct vac_progress progress;
	const char *name; /* of the model, the caller's */
	char stage[32];   /* name of the last event */
	char reason[160]; /* why it waits */
	int64_t done_bytes, total_bytes, missing_bytes, planned_bytes;
	int64_t started_ns, stage_ns, said_ns; /* the last: a line was written */
};

/* Begins to listen; where that fails the load is just not shown. VAC_CONTINUE, or
 * the exit code after a complaint about the client's options. */
int vac_load_watch_begin(struct vac_load_watch *watch, const struct vac_command *command,
			 const struct vac_client *client, const char *name);
/* The line was cleared when the reply came. Not after begin() has failed. */
void vac_load_watch_end(struct vac_load_watch *watch);

#endif
