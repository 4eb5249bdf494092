/*
 * notify.h - what the service manager is told (sd_notify's protocol, without its
 * library): ready, reloading, stopping, a line of status, and that the loop
 * turns. The loop's thread only.
 *
 * Every message leaves from the loop's thread, so a loop that hangs says
 * nothing, and the service manager's watchdog ends it. Without NOTIFY_SOCKET in
 * the environment nothing happens. Protocol: sd_notify(3).
 */
#ifndef VAC_SERVER_NOTIFY_H
#define VAC_SERVER_NOTIFY_H

#include <sys/socket.h>
#include <sys/un.h>

#include "server/loop.h"

#define VAC_NOTIFY_STATUS_BYTES 256

struct vac_notify {
	int fd; /* owned; -1: nobody wants to know */
	struct sockaddr_un to;
	socklen_t to_bytes;
	struct vac_loop *loop;
	struct vac_timer watchdog; /* set: a sign of life is due then */
	struct vac_timer drain;    /* set while draining: asks for more time */
	struct vac_timer status;   /* set: the status is to be told then */
	int64_t watchdog_ns;       /* between signs of life; 0: none are wanted */
	int64_t status_ns;         /* when it was told last */
	bool failed;               /* the last message could not be sent */
	char said[VAC_NOTIFY_STATUS_BYTES];
	/* Writes one line without its end: what the service is doing. */
	void (*describe)(void *ctx, char *to, size_t room);
	void *ctx;
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of the
 * environment: workers have nothing to tell. Something that makes no sense there
 * is logged and left; only memory can fail. */
int vac_notify_open(struct vac_notify *notify, struct vac_loop *loop,
		    struct vac_error *err) VAC_MUST_CHECK;
void vac_notify_close(struct vac_notify *notify);

/* Requests are taken; from now on signs of life are sent. */
void vac_notify_ready(struct vac_notify *notify);
/* SIGHUP came; vac_notify_ready() follows when it was carried out. */
void vac_notify_reloading(struct vac_notify *notify);
/* SIGTERM came. Asks for more time until the end, again and again. */
void vac_notify_stopping(struct vac_notify *notify);
/* Something changed that describe() would tell: it is told soon, and not more
 * often than once a second. */
void vac_notify_changed(struct vac_notify *notify);

#endif
