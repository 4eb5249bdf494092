/*
 * listen.h - where the server can be reached: addresses, Unix sockets, and
 * sockets that systemd made for it. The loop's thread only.
 *
 * A Unix socket of a server that is dead is replaced, one of a server that
 * lives is not: who starts holds a lock on the folder meanwhile. The file goes
 * when the server takes no more connections.
 */
#ifndef VAC_SERVER_LISTEN_H
#define VAC_SERVER_LISTEN_H

#include <netdb.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "server/loop.h"

#define VAC_LISTENERS_MAX 16

struct vac_listeners;

struct vac_listener {
	struct vac_source source; /* fd owned; -1: closed */
	struct vac_listeners *all;
	char address[128]; /* "http://127.0.0.1:8321", "unix:/run/vacate.sock" */
	char *path;        /* owned; Unix socket of our own, which we unlink; else NULL */
	dev_t device;      /* of it */
	ino_t inode;
};

struct vac_listen_options {
	const char *host; /* "127.0.0.1,unix:/PATH": addresses, names and sockets */
	uint16_t port;    /* 0: any free one */
	bool open_to_all; /* others may ask: there are keys, or somebody said so */
};

struct vac_listeners {
	struct vac_listener items[VAC_LISTENERS_MAX];
	size_t count;
	struct vac_loop *loop;
	bool watched;
	bool paused; /* takes no connections for the moment */
	struct vac_timer timer;
	/* A connection. Its descriptor (non-blocking, close-on-exec) goes over to
	 * the callee. Returns whether it would take another. */
	bool (*take)(void *ctx, int fd, const struct sockaddr *address, socklen_t bytes);
	void *ctx;
};

/* Binds; nothing is accepted before vac_listeners_watch(). Sockets that systemd
 * hands over (LISTEN_FDS, which leaves the environment) take the place of
 * options->host. On error nothing is left. */
int vac_listeners_open(struct vac_listeners *listeners, const struct vac_listen_options *options,
		       struct vac_error *err) VAC_MUST_CHECK;
int vac_listeners_watch(struct vac_listeners *listeners, struct vac_loop *loop,
			struct vac_error *err) VAC_MUST_CHECK;
/* Accepts nothing until it is resumed; clients wait in the system's queue. */
void vac_listeners_pause(struct vac_listeners *listeners);
void vac_listeners_resume(struct vac_listeners *listeners);
/* Takes no more connections; unlinks what is ours. May be called twice. */
void vac_listeners_close(struct vac_listeners *listeners);

/* Whether only this machine can reach an address. */
bool vac_address_is_local(const struct sockaddr *address);

#endif
