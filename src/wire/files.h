/*
 * files.h - the files of a model on their way from who asks for a load to the
 * worker: listed in the PLAN or LOAD frame, their descriptors beside its bytes
 * (SCM_RIGHTS). One owner; any thread.
 *
 * The worker may then be forbidden to open anything. It gets what a model can
 * be read from (*.json, *.safetensors, *.txt, *.model, of the directory itself
 * and of those one level below that may hold parts of it) and the names of the rest.
 */
#ifndef VAC_WIRE_FILES_H
#define VAC_WIRE_FILES_H

#include <sys/types.h>

#include "base/modelpath.h"
#include "wire/wire.h"

struct vac_wire_files {
	struct vac_wire_files *next; /* the holder's: of what is not sent yet */
	size_t at;                   /* the holder's: where its frame begins */
	struct vac_buf list;         /* entries as they stand in the frame */
	uint32_t count;              /* of entries */
	uint32_t fd_count;
	int fds[VAC_WIRE_MAX_FDS]; /* owned, in the order of the entries that say OPEN */
};

/* Lists a model's directory and opens its files. A link is followed when it leads
 * to the directory itself, to the hub's repository that it is a snapshot of (also
 * where who keeps the cache put that, or its blobs, with a link), or to anywhere
 * below the places of `where` (may be NULL): a checkpoint must not choose for
 * itself what is read. A directory that is not there has no files:
 * the worker says so. */
int vac_wire_files_open(const char *dir, const struct vac_model_dirs *where,
			struct vac_wire_files **out, struct vac_error *err) VAC_MUST_CHECK;
/* Closes the descriptors; NULL is accepted. */
void vac_wire_files_free(struct vac_wire_files *files);

/* sendmsg() with the descriptors beside the first of the bytes: bytes sent or -1
 * with errno. flags as of send(). They may be closed afterwards. */
ssize_t vac_wire_send_files(int socket, const void *data, size_t bytes,
			    const struct vac_wire_files *files, int flags);

/* Descriptors that arrived and that no frame has asked for yet. Behind those of a
 * message that was cut short, since this process may open no more, stands
 * VAC_WIRE_CUT_SHORT: its frame is refused, the next one finds its own. */
#define VAC_WIRE_CUT_SHORT (-2)

struct vac_wire_inbox {
	int *fds; /* owned */
	size_t count, capacity;
};
/* recvmsg() that keeps what descriptors come along. As recv(); ENOMEM also when
 * more came than anybody may send. */
ssize_t vac_wire_receive(int socket, void *to, size_t bytes, int flags,
			 struct vac_wire_inbox *inbox);
/* The oldest, which the caller then owns; -1: there is none; VAC_WIRE_CUT_SHORT. */
int vac_wire_inbox_take(struct vac_wire_inbox *inbox);
void vac_wire_inbox_free(struct vac_wire_inbox *inbox);

#endif
