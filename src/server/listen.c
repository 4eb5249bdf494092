/*
 * listen.c - where the server can be reached. The loop's thread only; a name is
 * looked up (which may block) before the loop runs.
 */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/* A crowd that comes at once waits here; beyond, the kernel drops its SYNs, which
 * costs each a second. */
#define PORTS_TRIED 16 /* of port 0 with several addresses */
#define BACKLOG     4096
/* Connections that one listener may take in one turn of the loop. */
#define BATCH 64
/* Until accept() is tried again when it failed for want of descriptors or memory. */
#define RETRY_MS  100
#define NS_PER_MS 1000000
/* First descriptor that systemd hands over. */
#define SYSTEMD_FD 3

#define SOCKET_MODE_MASK 0117 /* of umask: mode 0660 */

union any_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un un;
	struct sockaddr_storage room;
};

/* ---- addresses ---- */

bool vac_address_is_local(const struct sockaddr *address)
{
	union any_address at;

	if (address->sa_family == AF_UNIX)
		return true;
	if (address->sa_family == AF_INET) {
		memcpy(&at.v4, address, sizeof(at.v4));
		return ntohl(at.v4.sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family != AF_INET6)
		return false;
	memcpy(&at.v6, address, sizeof(at.v6));
	if (IN6_IS_ADDR_V4MAPPED(&at.v6.sin6_addr))
		return at.v6.sin6_addr.s6_addr[12] == 127;
	return IN6_IS_ADDR_LOOPBACK(&at.v6.sin6_addr);
}

/* "http://HOST:PORT" of what a socket is bound to. */
static int describe_inet(struct vac_listener *listener, const union any_address *at, socklen_t size,
			 struct vac_error *err)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];
	int rc = getnameinfo(&at->any, size, host, sizeof(host), port, sizeof(port),
			     NI_NUMERICHOST | NI_NUMERICSERV);

	if (rc != 0)
		return vac_fail(err, VAC_E_IO, "a bound address cannot be read: %s",
				gai_strerror(rc));
	snprintf(listener->address, sizeof(listener->address),
		 at->any.sa_family == AF_INET6 ? "http://[%.80s]:%.8s" : "http://%.80s:%.8s", host,
		 port);
	return 0;
}

static int refuse_open(const char *what, struct vac_error *err)
{
	return vac_fail(
		err, VAC_E_INVALID,
		"%.100s can be reached from other machines, and without a key anybody there "
		"could use and unload models: give --api-key-file FILE, listen on 127.0.0.1 "
		"or unix:/PATH, or say --allow-no-key yes if a proxy or a firewall decides "
		"who may ask",
		what);
}

static struct vac_listener *add(struct vac_listeners *listeners, int fd)
{
	struct vac_listener *listener = &listeners->items[listeners->count++];

	*listener = (struct vac_listener){.source = {.fd = fd}, .all = listeners};
	return listener;
}

static int check_room(const struct vac_listeners *listeners, struct vac_error *err)
{
	if (listeners->count < VAC_LISTENERS_MAX)
		return 0;
	return vac_fail(err, VAC_E_TOO_LARGE, "at most %d addresses can be listened on",
			VAC_LISTENERS_MAX);
}

/* only_v6: another of the addresses may be 0.0.0.0, which :: includes otherwise. */
static int bind_inet(struct vac_listeners *listeners, const struct addrinfo *to, const char *host,
		     bool only_v6, struct vac_error *err)
{
	union any_address at = {0};
	socklen_t size = to->ai_addrlen;
	char text[NI_MAXHOST] = "?";
	int fd, on = 1, saved, rc;

	rc = check_room(listeners, err);
	if (rc < 0)
		return rc;
	fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vac_fail_errno(err, errno, "cannot make a socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (to->ai_family == AF_INET6 && only_v6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, to->ai_addr, to->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
		saved = errno;
		close(fd);
		memcpy(&at.room, to->ai_addr, to->ai_addrlen);
		getnameinfo(to->ai_addr, to->ai_addrlen, text, sizeof(text), NULL, 0,
			    NI_NUMERICHOST);
		if (saved == EADDRINUSE)
			return vac_fail(err, VAC_E_BUSY,
					"port %u of %.80s is in use by another program; stop it or "
					"choose another with --port",
					ntohs(at.v4.sin_port), text);
		if (saved == EADDRNOTAVAIL)
			return vac_fail(err, VAC_E_INVALID,
					"--host %.100s is no address of this machine", host);
		return vac_fail_errno(err, saved, "cannot listen on %.80s port %u", text,
				      ntohs(at.v4.sin_port));
	}
	if (getsockname(fd, &at.any, &size) != 0) {
		saved = errno;
		close(fd);
		return vac_fail_errno(err, saved, "cannot read the port that was bound");
	}
	return describe_inet(add(listeners, fd), &at, size, err);
}

/* The port that the first listener was given, for the others. */
static uint16_t bound_port(const struct vac_listeners *listeners)
{
	const char *colon;

	for (size_t i = 0; i < listeners->count; i++) {
		colon = strrchr(listeners->items[i].address, ':');
		if (!listeners->items[i].path && colon)
			return (uint16_t)strtoul(colon + 1, NULL, 10);
	}
	return 0;
}

static int listen_inet(struct vac_listeners *listeners, const struct vac_listen_options *options,
		       const char *host, struct vac_error *err)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *list = NULL;
	size_t length = strlen(host);
	char name[256];
	int rc;

	/* One address, and the same one everywhere. */
	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	if (length >= sizeof(name))
		return vac_fail(err, VAC_E_INVALID, "--host %.100s... is too long a name", host);
	if (host[0] == '[' && host[length - 1] == ']')
		snprintf(name, sizeof(name), "%.*s", (int)length - 2, host + 1);
	else
		snprintf(name, sizeof(name), "%s", host);
	rc = getaddrinfo(name, NULL, &hints, &list);
	if (rc != 0)
		return vac_fail(err, VAC_E_INVALID,
				"--host %.100s is no address of this machine (%s); give one, such "
				"as 127.0.0.1 or ::1, a name of it, or unix:/PATH",
				host, gai_strerror(rc));
	for (struct addrinfo *at = list; rc == 0 && at; at = at->ai_next) {
		uint16_t port = options->port ? options->port : bound_port(listeners);

		if (at->ai_family == AF_INET)
			((struct sockaddr_in *)(void *)at->ai_addr)->sin_port = htons(port);
		else if (at->ai_family == AF_INET6)
			((struct sockaddr_in6 *)(void *)at->ai_addr)->sin6_port = htons(port);
		else
			continue;
		if (!options->open_to_all && !vac_address_is_local(at->ai_addr)) {
			snprintf(name, sizeof(name), "--host %.100s", host);
			rc = refuse_open(name, err);
		} else {
			rc = bind_inet(listeners, at, host, strchr(options->host, ','), err);
		}
	}
	freeaddrinfo(list);
	return rc;
}

/* ---- Unix sockets ---- */

/* Somebody accepts connections there. */
static bool somebody_listens(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool listens;

	if (fd < 0)
		return true; /* unknown: nothing is taken away */
	listens = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
		  errno != ECONNREFUSED;
	close(fd);
	return listens;
}

/* A socket of a server that is dead goes; anything else stays, and is an error. */
static int remove_stale(const struct sockaddr_un *address, struct vac_error *err)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : vac_fail_errno(err, errno, "unix:%s", path);
	if (!S_ISSOCK(st.st_mode))
		return vac_fail(err, VAC_E_INVALID,
				"unix:%s: there is something that is no socket; remove it or "
				"choose another path",
				path);
	if (somebody_listens(address))
		return vac_fail(err, VAC_E_BUSY,
				"unix:%s: another server listens there; stop it or choose another "
				"path",
				path);
	if (unlink(path) != 0 && errno != ENOENT)
		return vac_fail_errno(
			err, errno,
			"unix:%s: the socket of a server that is gone cannot be removed", path);
	return 0;
}

static int bind_unix(int fd, const struct sockaddr_un *address, struct vac_error *err)
{
	mode_t mask;
	int rc = remove_stale(address, err), saved;

	if (rc < 0)
		return rc;
	/* With its final mode from the start: a chmod would come after a moment
	 * in which others could connect. There is one thread. */
	mask = umask(SOCKET_MODE_MASK);
	rc = bind(fd, (const struct sockaddr *)address, sizeof(*address));
	saved = errno;
	umask(mask);
	if (rc != 0)
		return vac_fail_errno(err, saved, "unix:%s: cannot make the socket",
				      address->sun_path);
	if (listen(fd, BACKLOG) != 0) {
		saved = errno;
		unlink(address->sun_path);
		return vac_fail_errno(err, saved, "unix:%s: cannot listen", address->sun_path);
	}
	return 0;
}

/* Two servers that start at once must not both find a dead one's socket, and
 * one remove what the other made: the folder is locked from the look at it until
 * somebody listens. -1: no lock can be had there, go on without. */
static int lock_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;

	snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_EX) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int listen_unix(struct vac_listeners *listeners, const char *path, struct vac_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct vac_listener *listener;
	struct stat st;
	int fd, lock, rc;

	if (path[0] != '/')
		return vac_fail(err, VAC_E_INVALID,
				"--host unix:%.100s: write unix:/PATH, with the whole path", path);
	if (strlen(path) >= sizeof(address.sun_path))
		return vac_fail(err, VAC_E_INVALID,
				"--host unix:%.150s: the path has %zu bytes where the system takes "
				"at most %zu; choose a shorter one",
				path, strlen(path), sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	rc = check_room(listeners, err);
	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vac_fail_errno(err, errno, "cannot make a socket");
	lock = lock_folder(path);
	rc = bind_unix(fd, &address, err);
	if (lock >= 0)
		close(lock);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	listener = add(listeners, fd);
	snprintf(listener->address, sizeof(listener->address), "unix:%s", path);
	listener->path = strdup(path);
	if (!listener->path) {
		unlink(path);
		return vac_fail_nomem(err, "a socket's path", strlen(path));
	}
	if (lstat(path, &st) == 0) {
		listener->device = st.st_dev;
		listener->inode = st.st_ino;
	}
	return 0;
}

static void unlink_own(struct vac_listener *listener)
{
	struct stat st;

	/* Somebody may have put another one there meanwhile. */
	if (listener->path && lstat(listener->path, &st) == 0 && st.st_dev == listener->device &&
	    st.st_ino == listener->inode && unlink(listener->path) != 0)
		vac_log(VAC_LOG_WARN, "%s: cannot be removed: %s", listener->address,
			strerror(errno));
	free(listener->path);
	listener->path = NULL;
}

/* ---- sockets from systemd ---- */

/* How many systemd hands over; 0: it does not. The variables are for us alone. */
static unsigned long systemd_sockets(void)
{
	const char *pid = getenv("LISTEN_PID"), *number = getenv("LISTEN_FDS");
	unsigned long count = 0;
	char *end;

	if (pid && number && strtoul(pid, &end, 10) == (unsigned long)getpid() && !*end) {
		count = strtoul(number, &end, 10);
		if (*end || count > VAC_LISTENERS_MAX)
			count = VAC_LISTENERS_MAX + 1;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return count;
}

static int take_inherited(struct vac_listeners *listeners, int fd, bool open_to_all,
			  struct vac_error *err)
{
	union any_address at = {0};
	socklen_t size = sizeof(at), option_size = sizeof(int);
	struct vac_listener *listener;
	int type = 0, listens = 0, flags = fcntl(fd, F_GETFL), rc = 0;

	if (flags < 0 || getsockname(fd, &at.any, &size) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &option_size) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &option_size) != 0 ||
	    type != SOCK_STREAM || !listens)
		return vac_fail(err, VAC_E_INVALID,
				"descriptor %d of LISTEN_FDS is no listening stream socket; use "
				"ListenStream= and Accept=no",
				fd);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return vac_fail_errno(err, errno, "descriptor %d of LISTEN_FDS", fd);
	listener = add(listeners, fd);
	if (at.any.sa_family == AF_UNIX)
		snprintf(listener->address, sizeof(listener->address), "unix:%.*s",
			 (int)(size - offsetof(struct sockaddr_un, sun_path)), at.un.sun_path);
	else
		rc = describe_inet(listener, &at, size, err);
	if (rc == 0 && !open_to_all && !vac_address_is_local(&at.any))
		rc = refuse_open(listener->address, err);
	return rc;
}

static int take_all_inherited(struct vac_listeners *listeners, unsigned long count,
			      bool open_to_all, struct vac_error *err)
{
	if (count > VAC_LISTENERS_MAX)
		return vac_fail(err, VAC_E_INVALID, "LISTEN_FDS is no number from 1 to %d",
				VAC_LISTENERS_MAX);
	for (unsigned long i = 0; i < count; i++) {
		int rc = take_inherited(listeners, SYSTEMD_FD + (int)i, open_to_all, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- all of them ---- */

/* Another port may do: the one that the first address was given is taken at this one. */
static bool is_unlucky(const struct vac_listeners *listeners,
		       const struct vac_listen_options *options, const char *host,
		       const struct vac_error *err)
{
	return err->code == VAC_E_BUSY && options->port == 0 && bound_port(listeners) != 0 &&
	       strncmp(host, "unix:", 5) != 0;
}

static int listen_on(struct vac_listeners *listeners, const struct vac_listen_options *options,
		     const char *host, struct vac_error *err)
{
	if (!*host)
		return vac_fail(err, VAC_E_INVALID,
				"--host %.100s: an address between the commas is missing",
				options->host);
	if (strncmp(host, "unix:", 5) == 0)
		return listen_unix(listeners, host + 5, err);
	return listen_inet(listeners, options, host, err);
}

/* again: another try may find a port that is free at all of them. */
static int listen_on_all(struct vac_listeners *listeners, const struct vac_listen_options *options,
			 bool *again, struct vac_error *err)
{
	char *hosts, *rest, *host;
	int rc = 0;

	*listeners = (struct vac_listeners){0};
	*again = false;
	hosts = rest = strdup(options->host);
	if (!hosts)
		return vac_fail_nomem(err, "the addresses of --host", strlen(options->host));
	while (rc == 0 && (host = strsep(&rest, ","))) {
		host += strspn(host, " ");
		for (size_t n = strlen(host); n > 0 && host[n - 1] == ' '; n--)
			host[n - 1] = '\0';
		rc = listen_on(listeners, options, host, err);
		*again = rc < 0 && is_unlucky(listeners, options, host, err);
	}
	free(hosts);
	return rc;
}

int vac_listeners_open(struct vac_listeners *listeners, const struct vac_listen_options *options,
		       struct vac_error *err)
{
	unsigned long inherited = systemd_sockets();
	bool again = true;
	int rc = 0;

	*listeners = (struct vac_listeners){0};
	if (inherited > 0) {
		rc = take_all_inherited(listeners, inherited, options->open_to_all, err);
		if (rc < 0)
			vac_listeners_close(listeners);
		return rc;
	}
	for (int i = 0; i < PORTS_TRIED && again; i++) {
		rc = listen_on_all(listeners, options, &again, err);
		if (rc < 0)
			vac_listeners_close(listeners);
	}
	return rc;
}

static void accept_ready(struct vac_source *source, uint32_t events)
{
	struct vac_listener *listener = VAC_CONTAINER(source, struct vac_listener, source);
	struct vac_listeners *all = listener->all;

	(void)events;
	for (int i = 0; i < BATCH && !all->paused; i++) {
		union any_address at = {0};
		socklen_t size = sizeof(at);
		int fd = accept4(source->fd, &at.any, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			if (!all->take(all->ctx, fd, &at.any, size))
				vac_listeners_pause(all);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN)
			return;
		/* No descriptor, or no memory: when a connection has ended, or
		 * when somebody else has given some back. */
		vac_log(VAC_LOG_DEBUG, "%s: no connection can be taken: %s", listener->address,
			strerror(errno));
		vac_listeners_pause(all);
		vac_timer_set(all->loop, &all->timer, vac_now_ns() + RETRY_MS * NS_PER_MS);
	}
}

static void retry(struct vac_timer *timer)
{
	vac_listeners_resume(VAC_CONTAINER(timer, struct vac_listeners, timer));
}

int vac_listeners_watch(struct vac_listeners *listeners, struct vac_loop *loop,
			struct vac_error *err)
{
	listeners->loop = loop;
	if (vac_timer_open(loop, &listeners->timer, retry) < 0)
		return vac_fail_nomem(err, "a timer", 0);
	listeners->watched = true;
	for (size_t i = 0; i < listeners->count; i++) {
		struct vac_source *source = &listeners->items[i].source;
		int rc;

		source->ready = accept_ready;
		rc = vac_loop_add(loop, source, EPOLLIN, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void watch_for(struct vac_listeners *listeners, uint32_t events)
{
	for (size_t i = 0; i < listeners->count; i++) {
		if (listeners->items[i].source.fd >= 0)
			vac_loop_change(listeners->loop, &listeners->items[i].source, events);
	}
}

void vac_listeners_pause(struct vac_listeners *listeners)
{
	if (listeners->paused)
		return;
	listeners->paused = true;
	watch_for(listeners, 0);
}

void vac_listeners_resume(struct vac_listeners *listeners)
{
	if (!listeners->paused)
		return;
	listeners->paused = false;
	watch_for(listeners, EPOLLIN);
}

void vac_listeners_close(struct vac_listeners *listeners)
{
	for (size_t i = 0; i < listeners->count; i++) {
		struct vac_listener *listener = &listeners->items[i];

		if (listener->source.fd >= 0) {
			if (listeners->watched)
				vac_loop_remove(listeners->loop, &listener->source);
			close(listener->source.fd);
		}
		listener->source.fd = -1;
		unlink_own(listener);
	}
	if (listeners->watched)
		vac_timer_close(listeners->loop, &listeners->timer);
	listeners->watched = false;
}
