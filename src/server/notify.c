/* notify.c - messages to the service manager. The loop's thread only. */
#include "server/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define NS_PER_US INT64_C(1000)
#define NS_PER_S  INT64_C(1000000000)
/* While draining more time is asked for so often, each time so much. */
#define EXTEND_EVERY_S 5
#define EXTEND_BY_S    20

static void send_text(struct vac_notify *notify, const char *text)
{
	ssize_t n;

	if (notify->fd < 0)
		return;
	do {
		n = sendto(notify->fd, text, strlen(text), MSG_NOSIGNAL,
			   (const struct sockaddr *)&notify->to, notify->to_bytes);
	} while (n < 0 && errno == EINTR);
	/* Once: the next sign of life would say the same. */
	if (n < 0 && !notify->failed)
		vac_log(VAC_LOG_WARN, "the service manager cannot be told %.*s: %s",
			(int)strcspn(text, "\n"), text, strerror(errno));
	notify->failed = n < 0;
}

/* ---- status ---- */

/* "STATUS=" and the line, behind what stands in text. */
static void append_status(struct vac_notify *notify, char *text, size_t room)
{
	char line[VAC_NOTIFY_STATUS_BYTES] = "";
	size_t at = strlen(text);

	if (!notify->describe)
		return;
	notify->describe(notify->ctx, line, sizeof(line));
	/* A newline would begin another message. */
	for (char *c = line; *c; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	}
	notify->status_ns = vac_now_ns();
	memcpy(notify->said, line, sizeof(line));
	snprintf(text + at, room - at, "STATUS=%s\n", line);
}

static void tell_status(struct vac_timer *timer)
{
	struct vac_notify *notify = VAC_CONTAINER(timer, struct vac_notify, status);
	char text[VAC_NOTIFY_STATUS_BYTES + 16] = "", before[VAC_NOTIFY_STATUS_BYTES];

	memcpy(before, notify->said, sizeof(before));
	append_status(notify, text, sizeof(text));
	if (strcmp(before, notify->said) != 0)
		send_text(notify, text);
}

void vac_notify_changed(struct vac_notify *notify)
{
	int64_t now_ns = vac_now_ns(), at_ns = notify->status_ns + NS_PER_S;

	if (notify->fd < 0 || !notify->describe || vac_timer_is_set(&notify->status))
		return;
	vac_timer_set(notify->loop, &notify->status, at_ns > now_ns ? at_ns : now_ns);
}

/* ---- signs of life, time to end ---- */

static void tell_alive(struct vac_timer *timer)
{
	struct vac_notify *notify = VAC_CONTAINER(timer, struct vac_notify, watchdog);

	send_text(notify, "WATCHDOG=1\n");
	vac_timer_set(notify->loop, timer, vac_now_ns() + notify->watchdog_ns);
}

static void ask_for_time(struct vac_timer *timer)
{
	struct vac_notify *notify = VAC_CONTAINER(timer, struct vac_notify, drain);
	char text[64];

	snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%d\n", EXTEND_BY_S * 1000000);
	send_text(notify, text);
	vac_timer_set(notify->loop, timer, vac_now_ns() + EXTEND_EVERY_S * NS_PER_S);
}

/* ---- life ---- */

static void read_socket(struct vac_notify *notify)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t bytes = path ? strlen(path) : 0;

	if (bytes == 0)
		return;
	/* '@' stands for the zero that begins an abstract name. */
	if ((path[0] != '/' && path[0] != '@') || path[1] == '\0' ||
	    bytes >= sizeof(notify->to.sun_path)) {
		vac_log(VAC_LOG_WARN,
			"NOTIFY_SOCKET=%.120s is no address that can be told anything", path);
		return;
	}
	notify->to.sun_family = AF_UNIX;
	memcpy(notify->to.sun_path, path, bytes);
	if (path[0] == '@')
		notify->to.sun_path[0] = '\0';
	notify->to_bytes =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes + (path[0] == '/'));
	notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (notify->fd < 0)
		vac_log(VAC_LOG_WARN, "the service manager cannot be told anything: %s",
			strerror(errno));
}

static bool read_number(const char *text, uint64_t *out)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

static void read_watchdog(struct vac_notify *notify)
{
	const char *interval = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t us, number;

	if (notify->fd < 0 || !interval)
		return;
	/* Of another process: it was inherited by mistake. */
	if (pid && (!read_number(pid, &number) || number != (uint64_t)getpid()))
		return;
	if (!read_number(interval, &us) || us == 0 || us > INT64_MAX / NS_PER_US) {
		vac_log(VAC_LOG_WARN, "WATCHDOG_USEC=%.40s is no time", interval);
		return;
	}
	notify->watchdog_ns = (int64_t)us * NS_PER_US / 2;
}

int vac_notify_open(struct vac_notify *notify, struct vac_loop *loop, struct vac_error *err)
{
	*notify = (struct vac_notify){.fd = -1, .loop = loop};
	if (vac_timer_open(loop, &notify->watchdog, tell_alive) < 0 ||
	    vac_timer_open(loop, &notify->drain, ask_for_time) < 0 ||
	    vac_timer_open(loop, &notify->status, tell_status) < 0)
		return vac_fail_nomem(err, "timers", 0);
	read_socket(notify);
	read_watchdog(notify);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return 0;
}

void vac_notify_close(struct vac_notify *notify)
{
	if (!notify->loop)
		return;
	vac_timer_close(notify->loop, &notify->watchdog);
	vac_timer_close(notify->loop, &notify->drain);
	vac_timer_close(notify->loop, &notify->status);
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

void vac_notify_ready(struct vac_notify *notify)
{
	char text[VAC_NOTIFY_STATUS_BYTES + 32] = "READY=1\n";

	if (notify->fd < 0)
		return;
	append_status(notify, text, sizeof(text));
	send_text(notify, text);
	if (notify->watchdog_ns > 0 && !vac_timer_is_set(&notify->watchdog))
		tell_alive(&notify->watchdog);
}

void vac_notify_reloading(struct vac_notify *notify)
{
	char text[80];

	/* The time tells this reload's READY=1 from an earlier one's. */
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\n",
		 vac_now_ns() / NS_PER_US);
	send_text(notify, text);
}

void vac_notify_stopping(struct vac_notify *notify)
{
	char text[VAC_NOTIFY_STATUS_BYTES + 32] = "STOPPING=1\n";

	if (notify->fd < 0)
		return;
	append_status(notify, text, sizeof(text));
	send_text(notify, text);
	ask_for_time(&notify->drain);
}
