/*
 * worker_client.h - a worker of one's own, spoken to and waited for: what
 * `vacate run` uses instead of a server. One thread.
 */
#ifndef VAC_CLI_WORKER_CLIENT_H
#define VAC_CLI_WORKER_CLIENT_H

#include "memory/receipt.h"
#include "wire/files.h"
#include "wire/spawn.h"
#include "wire/wire.h"

struct vac_worker_client {
	struct vac_worker_process process; /* pid 0: not started */
	struct vac_buf in, out;
	size_t used;      /* bytes of in that the last frame took */
	int64_t until_ns; /* vac_now_ns(): nothing is received later; 0: at any time */
	bool is_gpud;     /* it may hang in a driver: nothing waits for it without a limit */
	bool released;    /* SHUTDOWN was sent */
	bool exited;      /* reaped, or left behind */
	int exit_status;  /* as waitpid gives it */
};

/* Starts a worker and reads its hello; vacate-gpud has 10 s for it (VAC_E_TIMEOUT), since
 * it owes nothing else first. On error nothing is left. */
int vac_client_start(struct vac_worker_client *client, const struct vac_spawn_options *options,
		     struct vac_error *err) VAC_MUST_CHECK;
/* Sends what was encoded into client->out. */
int vac_client_send(struct vac_worker_client *client, struct vac_error *err) VAC_MUST_CHECK;
/* Sends a PLAN or LOAD and hands the model's files over with it. Fills load's files. */
int vac_client_send_load(struct vac_worker_client *client, enum vac_wire_type type, uint64_t id,
			 struct vac_wire_load *load, const struct vac_model_dirs *where,
			 struct vac_error *err) VAC_MUST_CHECK;
/* Waits for the next frame. The payload is valid until the next call. A worker
 * that ended is VAC_E_GONE, with how it ended in words. */
int vac_client_receive(struct vac_worker_client *client, struct vac_wire_header *header,
		       const uint8_t **payload, struct vac_error *err) VAC_MUST_CHECK;
/* Waits for the frame of that type and id; an ERROR frame of that id becomes
 * err. PROGRESS frames on the way go to progress (may be NULL); answers to
 * earlier ids are passed over. */
int vac_client_wait(struct vac_worker_client *client, enum vac_wire_type type, uint64_t id,
		    void (*progress)(const struct vac_wire_progress *p, void *ctx), void *ctx,
		    struct vac_wire_header *header, const uint8_t **payload,
		    struct vac_error *err) VAC_MUST_CHECK;
/* SHUTDOWN: it may end while its answer is looked at. vac_client_stop waits for it. */
void vac_client_release(struct vac_worker_client *client);
/* The same, then waits until it is reaped; closes everything. A vacate-gpud that has not
 * ended after 10 s is left behind, and ends with this process at the latest, unless it moves
 * another one: then when that is done. Fine on a client that never started. */
void vac_client_stop(struct vac_worker_client *client);
/* Kills it and waits but a moment: one that hangs in a driver may not even be killed. It
 * ends with this process at the latest. Closes everything. */
void vac_client_abandon(struct vac_worker_client *client);
/* How long vacate-gpud has for what the kernel and NVML may hang in, a start of the driver
 * included, before it moves anything. */
#define VAC_CLIENT_GPUD_MS 30000
/* Until fd is readable; -ETIMEDOUT: it was not until then (vac_now_ns()). */
int vac_client_poll(int fd, int64_t until_ns);
/* vac_client_stop for a command that ends with it: a vacate-gpud that has said all that
 * it will is left to the system, which takes a while to close a driver's files, where
 * somebody reaps it. */
void vac_client_leave(struct vac_worker_client *client);

#endif
