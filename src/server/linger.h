/*
 * linger.h - connections that the server ends while the client still sends. A
 * socket that is closed with bytes unread, or to which bytes come after its
 * close, is reset by the kernel, and the client may lose the reply that told it
 * why. So it is half closed, and what comes is thrown away until the client has
 * seen the end, for a short while. The loop's thread only.
 */
#ifndef VAC_SERVER_LINGER_H
#define VAC_SERVER_LINGER_H

#include "server/loop.h"

struct vac_linger;
struct vac_lingers {
	struct vac_loop *loop;
	struct vac_linger *first;
	unsigned int count;
};

/* The caller is about to close fd, whose reply has been sent. Takes a duplicate;
 * where that cannot be, the client may see a reset. */
void vac_linger_add(struct vac_lingers *lingers, int fd);
void vac_lingers_close(struct vac_lingers *lingers);

#endif
