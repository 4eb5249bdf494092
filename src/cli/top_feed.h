/*
 * top_feed.h - what `vacate top` shows, gathered beside the screen: one thread asks
 * vacate-gpud and /proc, one the server. Either may hang; who draws never waits for
 * them. The functions here are for that one thread.
 */
#ifndef VAC_CLI_TOP_FEED_H
#define VAC_CLI_TOP_FEED_H

#include "cli/top_rows.h"

struct vac_top_feed_options {
	int64_t interval_ms;
	int64_t timeout_ms; /* for the server's answer */
	/* What is not asked has no news, ever. */
	bool machine;
	const struct vac_http_url *server; /* outlives the feed; NULL: none is asked */
};

struct vac_top_feed;
int vac_top_feed_start(struct vac_top_feed **out, const struct vac_top_feed_options *options,
		       struct vac_error *err) VAC_MUST_CHECK;
/* Readable when there is news. */
int vac_top_feed_fd(const struct vac_top_feed *feed);
/* The news, the caller's to free; NULL: none since it was asked last. */
struct vac_top_machine *vac_top_feed_machine(struct vac_top_feed *feed);
struct vac_top_server *vac_top_feed_server(struct vac_top_feed *feed);
/* Ask now and not when it is time. */
void vac_top_feed_hurry(struct vac_top_feed *feed);
/* false: a thread hangs and lives on, so that the process may only be left by _exit. */
bool vac_top_feed_stop(struct vac_top_feed *feed);

#endif
