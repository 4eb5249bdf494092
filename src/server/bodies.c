/*
 * bodies.c - how much memory requests and replies may hold together, and who makes
 * way when it is taken. The loop's thread only.
 */
#include "base/clock.h"
#include "server/state.h"

/* So long without VAC_SEAT_PROGRESS_BYTES, and a body does not get on. */
#define GRACE_MS INT64_C(1000)

int vac_http_hold(struct vac_request *request, size_t bytes, struct vac_error *err)
{
	struct vac_http *http = &request->server->http;
	size_t most = request->server->options.max_pending_bytes;

	if (http->held_bytes > most || bytes > most - http->held_bytes)
		return vac_fail(err, VAC_E_BUSY,
				"requests of %zu bytes are in work already, which is near the "
				"most; try again soon or raise --max-pending",
				http->held_bytes);
	http->held_bytes += bytes;
	request->held_bytes += bytes;
	return 0;
}

struct vac_request *vac_http_slowest(const struct vac_request *but, size_t bytes)
{
	const struct vac_server *server = but->server;
	int64_t since_ns = vac_now_ns() - GRACE_MS * INT64_C(1000000);
	struct vac_request *slowest = NULL, *request = server->http.requests;

	/* All together would not be enough. */
	if (bytes > server->options.max_pending_bytes)
		return NULL;
	for (; request; request = request->next) {
		if (request == but || request->stage != VAC_REQUEST_READING ||
		    request->held_bytes == 0 || request->seat->since_ns > since_ns)
			continue;
		since_ns = request->seat->since_ns;
		slowest = request;
	}
	return slowest;
}
