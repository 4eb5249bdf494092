/*
 * supervisor.h - worker processes: started, greeted, asked, watched, reaped.
 *
 * worker: one process and the socket to it. exchange: one question to a worker
 * that an answer (or the worker's death) will end; it is embedded in whoever
 * asks. Frames for a worker gather in its output buffer and leave once a turn
 * of the loop, in vac_supervisor_flush(). The loop's thread only.
 *
 * Life of a worker: starting (no HELLO yet: what is asked waits in the output
 * buffer) -> ready -> stopping (SHUTDOWN sent) -> reaped. A worker that breaks
 * the protocol, stays silent or cannot be written to is killed; the kill is
 * addressed to its pidfd, never to a number that may be somebody else's.
 * Only when the process is reaped do its exchanges end, with the reason in words.
 */
#ifndef VAC_SERVER_SUPERVISOR_H
#define VAC_SERVER_SUPERVISOR_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/modelpath.h"
#include "server/loop.h"
#include "wire/files.h"
#include "memory/meter.h"
#include "wire/spawn.h"
#include "wire/wire.h"

struct vac_worker;

struct vac_exchange {
	uint64_t id;               /* of the frame; 0: nothing is asked */
	struct vac_worker *worker; /* who was asked, while id is not 0 */
	struct vac_exchange *chain;
	/* An answer. The exchange is over before the call, unless it is PROGRESS or
	 * HOLD_PHASE;
	 * payload lives during the call. Negative (err set): the frame is not what
	 * was asked for; the worker is killed and the exchange will be lost. */
	int (*answer)(struct vac_exchange *exchange, const struct vac_wire_header *header,
		      const void *payload, struct vac_error *err);
	/* The worker died first. */
	void (*lost)(struct vac_exchange *exchange, const struct vac_error *why);
};

enum vac_worker_state {
	VAC_WORKER_STARTING,
	VAC_WORKER_READY,
	VAC_WORKER_STOPPING, /* SHUTDOWN was sent */
	VAC_WORKER_DYING,    /* killed, or its socket is closed; not reaped yet */
};

#define VAC_EXCHANGE_BUCKETS 256 /* power of two */

struct vac_worker {
	struct vac_supervisor *supervisor;
	struct vac_worker *next;
	enum vac_worker_state state;
	bool plan_only;
	bool dirty;  /* frames were appended since the last flush */
	bool paused; /* the socket was full: waiting for EPOLLOUT */
	bool parked; /* off its GPU, or on its way: nothing is asked of it, nobody new is given it */
	char device[32];
	char *owner;           /* owned; the model that has it alone; NULL: all others share it */
	char description[160]; /* from HELLO */
	char sandbox[160];     /* from HELLO; empty: it did not say */
	pid_t pid;
	int pidfd;                /* owned; -1 where the kernel has none */
	struct vac_source socket; /* fd owned */
	struct vac_source process;
	struct vac_timer timer; /* hello, heartbeat, or the end of patience */
	struct vac_buf in, out;
	size_t out_at;                /* bytes of out that were sent */
	struct vac_wire_files *files; /* owned; to leave with frames in out, in order */
	int64_t started_ns, ready_ns;
	int64_t heard_ns; /* last bytes from it */
	/* Its memory when a model beside others had come, and counters at the same time: what
	 * unloads find cheaply from there on (unload.c). */
	bool to_walk;
	struct vac_usage walked;
	struct vac_resident counted;
	uint64_t working_id; /* of the last WORKING: the question; 0: it never said */
	uint32_t working_model;
	struct vac_error why; /* DYING: why it was killed; code VAC_OK: see exit status */
	struct vac_exchange *buckets[VAC_EXCHANGE_BUCKETS];
	uint32_t exchange_count;
};

struct vac_supervisor_options {
	const char *backend; /* NULL: the worker's default */
	uint32_t threads;
	enum vac_sandbox_mode sandbox;     /* of each worker */
	const struct vac_model_dirs *dirs; /* where links of models may lead; NULL: nowhere */
	int64_t hello_timeout_ms;
	int64_t heartbeat_ms;       /* between PINGs of a worker that has work */
	int64_t silence_timeout_ms; /* a worker that has work and says nothing for so long is killed */
	int64_t stop_timeout_ms;    /* from SHUTDOWN to SIGKILL */
};

struct vac_supervisor {
	struct vac_loop *loop;
	struct vac_supervisor_options options;
	struct vac_worker *workers; /* owned */
	uint64_t next_id;
	bool any_dirty;
	uint64_t starts, deaths; /* deaths: workers that ended without being asked to */
	/* A worker was reaped. Called before its exchanges end, so that whoever
	 * asks again is given another worker. expected: it was asked to stop. */
	void (*gone)(void *ctx, struct vac_worker *worker, bool expected,
		     const struct vac_error *why);
	void *ctx;
};

void vac_supervisor_init(struct vac_supervisor *supervisor, struct vac_loop *loop,
			 const struct vac_supervisor_options *options);
/* Kills and reaps what is left; exchanges are dropped without a call. */
void vac_supervisor_free(struct vac_supervisor *supervisor);

/* The worker of a device and owner that is starting or ready, else a new one.
 * NULL when it cannot be started (err set). owner: the name of a model that has
 * a worker of its own; NULL: the one that the others share. */
struct vac_worker *vac_supervisor_worker(struct vac_supervisor *supervisor, const char *device,
					 const char *owner, bool plan_only, struct vac_error *err);

/* Asks: begin, append one frame with a vac_wire_put_*(&worker->out, id, ...),
 * commit. Commit takes the frame back and fails when it did not fit (VAC_E_TOO_LARGE)
 * or there was no memory for it (VAC_E_NO_ROOM). An exchange of NULL expects no answer.
 * A worker that is dying takes everything; the exchange is lost when it is reaped. */
struct vac_ask {
	struct vac_worker *worker;
	size_t mark;
	uint64_t id;
};
struct vac_ask vac_worker_begin(struct vac_worker *worker);
int vac_worker_commit(const struct vac_ask *ask, struct vac_exchange *exchange,
		      struct vac_error *err) VAC_MUST_CHECK;
/* Begins and commits a PLAN or LOAD: opens the model's files and hands them over
 * with it. Fills load's files. On error nothing was asked. */
int vac_worker_ask_load(struct vac_worker *worker, enum vac_wire_type type,
			struct vac_wire_load *load, struct vac_exchange *exchange,
			struct vac_error *err) VAC_MUST_CHECK;
/* Forgets an exchange and tells the worker (CANCEL). */
void vac_worker_cancel(struct vac_exchange *exchange);
/* Asks the worker to end; gone() follows. */
void vac_worker_stop(struct vac_worker *worker);
/* Ends one that cannot be asked, since it is parked; the same follows. */
void vac_worker_end(struct vac_worker *worker);
/* Kills the worker for what it did; gone() and lost() follow. */
void vac_worker_fail(struct vac_worker *worker, enum vac_error_code code, const char *fmt, ...)
	VAC_PRINTF(3, 4);
/* Sends what waits. Once a turn. */
void vac_supervisor_flush(struct vac_supervisor *supervisor);
/* What one is asked goes out now. Not with files, which may be the end of it. */
void vac_worker_flush(struct vac_worker *worker);
/* SIGCHLD, for kernels without pidfds. */
void vac_supervisor_reap(struct vac_supervisor *supervisor);

/* It may read models, and nothing confines it, by its own word. vacate-gpud reads none. */
bool vac_worker_lacks_sandbox(const struct vac_worker *worker);

#endif
