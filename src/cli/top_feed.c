/* top_feed.c - see top_feed.h. */
#include "cli/top_feed.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/who_client.h"

#define NS_PER_MS 1000000
#define NS_PER_S  1000000000
/* A server measures all its workers for an answer; it has other things to do. */
#define SERVER_SHARE 10
/* For a thread to end. */
#define STOP_S 2

struct vac_top_feed {
	struct vac_top_feed_options options;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int event_fd;
	/* Below: under the lock. */
	bool stopping;
	uint64_t hurries;
	struct vac_top_machine *machine; /* news */
	struct vac_top_server *server;
	bool machine_runs, server_runs; /* these: of who starts and stops */
	pthread_t machine_thread, server_thread;
};

static void tell(struct vac_top_feed *feed)
{
	uint64_t one = 1;

	/* Full, it is readable as well. */
	(void)!write(feed->event_fd, &one, sizeof(one));
}

/* Waits until then, or until somebody is in a hurry. false: it is time to end. */
static bool wait_until(struct vac_top_feed *feed, int64_t then_ns, uint64_t *hurries)
{
	struct timespec then = {.tv_sec = then_ns / NS_PER_S, .tv_nsec = then_ns % NS_PER_S};
	bool go_on;

	pthread_mutex_lock(&feed->lock);
	while (!feed->stopping && feed->hurries == *hurries &&
	       pthread_cond_timedwait(&feed->changed, &feed->lock, &then) != ETIMEDOUT)
		;
	*hurries = feed->hurries;
	go_on = !feed->stopping;
	pthread_mutex_unlock(&feed->lock);
	return go_on;
}

/* ---- this machine ---- */

static void gather_machine(struct vac_top_feed *feed, struct vac_who_client *who)
{
	struct vac_ps_machine gathered = {0};
	struct vac_top_machine *machine, *stale;
	struct vac_error err;

	vac_ps_machine_ask(who, &gathered);
	if (vac_ps_machine_take(who, &gathered, &err) < 0) {
		gathered.surveyed = false;
		gathered.why = err;
	}
	machine = vac_top_machine_of(&gathered, vac_now_ns());
	vac_ps_machine_free(&gathered);
	/* No memory: the screen says how old the last news is. */
	if (!machine)
		return;
	pthread_mutex_lock(&feed->lock);
	stale = feed->machine;
	feed->machine = machine;
	pthread_mutex_unlock(&feed->lock);
	vac_top_machine_free(stale);
	tell(feed);
}

static void *watch_machine(void *ctx)
{
	struct vac_top_feed *feed = ctx;
	struct vac_who_client who = {0};
	uint64_t hurries = 0;
	int64_t begun_ns;

	/* vacate-gpud is this thread's child and ends with it. */
	do {
		begun_ns = vac_now_ns();
		gather_machine(feed, &who);
	} while (wait_until(feed, begun_ns + feed->options.interval_ms * NS_PER_MS, &hurries));
	vac_who_close(&who);
	return NULL;
}

/* ---- the server ---- */

static json_t *ask_server(const struct vac_top_feed *feed, struct vac_http_kept *kept,
			  struct vac_error *why)
{
	const struct vac_http_url *url = feed->options.server;
	struct vac_http_response response = {0};
	json_t *reply = NULL;
	const char *said;
	int rc = vac_http_get_kept(url, kept, "/models/ps", feed->options.timeout_ms, &response,
				   why);

	if (rc < 0 && why->code == VAC_E_TIMEOUT)
		vac_fail(why, why->code, "the server at %s does not answer", url->text);
	else if (rc < 0 && why->code == VAC_E_GONE)
		vac_fail(why, why->code, "no vacate server answers at %s", url->text);
	if (rc < 0)
		goto out;
	reply = json_loadb(response.body.data ? (const char *)response.body.data : "",
			   response.body.bytes, JSON_REJECT_DUPLICATES, NULL);
	if (response.status == 200 && json_is_array(json_object_get(reply, "models")))
		goto out;
	said = vac_reply_text(json_object_get(reply, "error"), "message");
	if (said)
		vac_fail(why, VAC_E_IO, "%s", said);
	else
		vac_fail(why, VAC_E_IO,
			 "%s answers GET /models/ps with status %d; is it a vacate server?",
			 url->text, response.status);
	json_decref(reply);
	reply = NULL;
out:
	vac_http_response_free(&response);
	return reply;
}

static void *watch_server(void *ctx)
{
	struct vac_top_feed *feed = ctx;
	struct vac_http_kept kept = {0};
	uint64_t hurries = 0;
	int64_t begun_ns, pause_ns;

	do {
		struct vac_error why = {0};
		struct vac_top_server *server, *stale;
		json_t *reply;

		begun_ns = vac_now_ns();
		reply = ask_server(feed, &kept, &why);
		pause_ns = (vac_now_ns() - begun_ns) * SERVER_SHARE;
		if (!reply || pause_ns < feed->options.interval_ms * NS_PER_MS)
			pause_ns = feed->options.interval_ms * NS_PER_MS;
		server = vac_top_server_of(reply, &why, vac_now_ns());
		json_decref(reply);
		if (!server)
			continue;
		pthread_mutex_lock(&feed->lock);
		stale = feed->server;
		feed->server = server;
		pthread_mutex_unlock(&feed->lock);
		vac_top_server_free(stale);
		tell(feed);
	} while (wait_until(feed, begun_ns + pause_ns, &hurries));
	vac_http_kept_close(&kept);
	return NULL;
}

/* ---- for who draws ---- */

static int start_thread(pthread_t *thread, bool *runs, void *(*run)(void *),
			struct vac_top_feed *feed, struct vac_error *err)
{
	sigset_t all, before;
	int error;

	/* Signals are for the thread that draws. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(thread, NULL, run, feed);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	*runs = error == 0;
	return error ? vac_fail_errno(err, error, "a thread cannot be started") : 0;
}

int vac_top_feed_start(struct vac_top_feed **out, const struct vac_top_feed_options *options,
		       struct vac_error *err)
{
	struct vac_top_feed *feed = calloc(1, sizeof(*feed));
	pthread_condattr_t attributes;
	int rc = 0;

	*out = NULL;
	if (!feed)
		return vac_fail_nomem(err, "the watch of this machine", sizeof(*feed));
	feed->options = *options;
	feed->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (feed->event_fd < 0) {
		rc = vac_fail_errno(err, errno, "an eventfd cannot be made");
		free(feed);
		return rc;
	}
	pthread_mutex_init(&feed->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&feed->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	if (options->machine)
		rc = start_thread(&feed->machine_thread, &feed->machine_runs, watch_machine, feed,
				  err);
	if (rc == 0 && options->server)
		rc = start_thread(&feed->server_thread, &feed->server_runs, watch_server, feed,
				  err);
	if (rc < 0)
		(void)vac_top_feed_stop(feed);
	else
		*out = feed;
	return rc;
}

int vac_top_feed_fd(const struct vac_top_feed *feed)
{
	return feed->event_fd;
}

struct vac_top_machine *vac_top_feed_machine(struct vac_top_feed *feed)
{
	struct vac_top_machine *machine;
	uint64_t count;

	(void)!read(feed->event_fd, &count, sizeof(count));
	pthread_mutex_lock(&feed->lock);
	machine = feed->machine;
	feed->machine = NULL;
	pthread_mutex_unlock(&feed->lock);
	return machine;
}

struct vac_top_server *vac_top_feed_server(struct vac_top_feed *feed)
{
	struct vac_top_server *server;

	pthread_mutex_lock(&feed->lock);
	server = feed->server;
	feed->server = NULL;
	pthread_mutex_unlock(&feed->lock);
	return server;
}

void vac_top_feed_hurry(struct vac_top_feed *feed)
{
	pthread_mutex_lock(&feed->lock);
	feed->hurries++;
	pthread_cond_broadcast(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
}

bool vac_top_feed_stop(struct vac_top_feed *feed)
{
	struct timespec until;

	if (!feed)
		return true;
	pthread_mutex_lock(&feed->lock);
	feed->stopping = true;
	pthread_cond_broadcast(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_S;
	if (feed->machine_runs)
		feed->machine_runs = pthread_timedjoin_np(feed->machine_thread, NULL, &until) != 0;
	if (feed->server_runs)
		feed->server_runs = pthread_timedjoin_np(feed->server_thread, NULL, &until) != 0;
	if (feed->machine_runs || feed->server_runs)
		return false;
	vac_top_machine_free(feed->machine);
	vac_top_server_free(feed->server);
	pthread_cond_destroy(&feed->changed);
	pthread_mutex_destroy(&feed->lock);
	close(feed->event_fd);
	free(feed);
	return true;
}
