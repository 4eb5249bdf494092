/*
 * parking.h - processes of others that make way for models. When all that this server
 * could unload from a GPU would not make room for a load, processes there that [guard]
 * names, and that have not used the GPU for as long as it says, are parked: who was idle
 * longest first, one after the other, and no more than are needed by what is measured.
 * They are resumed when the models that needed the room have left, no load waits for the
 * device, and there is room. If they could have made room and were refused, the load is.
 *
 * vacate-gpud does it (docs/hold.md). While a process is resumed no load is admitted on a
 * GPU: both would count on the same room. A server that is killed leaves what it parked on
 * record with its name; the next one of the same user resumes that.
 *
 * Workers of this server are parked and restored when somebody asks for it by a model's
 * name (registry_park.c decides, parking_model.c does it): one HOLD at a time, of either
 * kind. The loop's thread only.
 */
#ifndef VAC_SERVER_PARKING_H
#define VAC_SERVER_PARKING_H

#include "base/buf.h"
#include "hold/choose.h"
#include "hold/idle.h"
#include "server/gpus.h"
#include "wire/hold_frames.h"

struct vac_server;
struct vac_model;
struct vac_device;

#define VAC_PARKING_MOST_USERS 32u
#define VAC_PARKING_REFUSALS   16u

/* A process that this server parked, or is about to; or a worker of its own. */
struct vac_parked {
	struct vac_parked *next;
	pid_t pid;
	uint64_t start_ticks;
	char name[VAC_PROC_NAME_BYTES];
	struct vac_device *device; /* whose room was needed; NULL: not one of this server's */
	uint64_t bytes;            /* that it had there */
	char *for_model;           /* owned; NULL: a server before this one parked it */
	int64_t idle_ms;
	int64_t parked_ns;
	int64_t retry_ns; /* it is not resumed sooner */
	bool unsure;      /* in what state it is: it is resumed at once */
	bool waits;       /* for room, and that was said */
	bool lost;        /* its restore failed */
	bool given_up;    /* the server ends, and it stays parked */

	/* A worker of this server; next: in the queue */
	bool own;
	struct vac_model *model; /* for which it is moved; NULL: the worker is gone */
	enum vac_wire_hold_operation wanted, operation; /* the second is asked next, or was last */
	bool risk;
	bool back;                         /* it went wrong, and is brought back */
	bool unanswered;                   /* vacate-gpud died under it */
	enum vac_wire_held_state after;    /* as it was left */
	struct vac_error why;              /* the first that went wrong; code VAC_OK: nothing */
	struct vac_wire_held_target *held; /* owned; what it went through last; NULL: no answer */
};

/* A process that could not be parked, for a while. */
struct vac_parking_refusal {
	pid_t pid;
	uint64_t start_ticks;
	int64_t until_ns;
	struct vac_error why;
};

struct vac_parking {
	bool on;    /* [guard] names somebody */
	char *text; /* owned: the patterns */
	const char *patterns[VAC_CHOOSE_MOST_PATTERNS];
	int pattern_count;
	uid_t users[VAC_PARKING_MOST_USERS];
	uint32_t user_count;
	char who[VAC_WIRE_WHO_BYTES]; /* "serve PID START", in records */
	struct vac_timer timer;
	struct vac_idle idle;
	struct vac_exchange look; /* WHO */
	int64_t look_ns;          /* when it was asked */
	int64_t next_look_ns;
	struct vac_exchange hold; /* HOLD, of one process: */
	enum vac_wire_hold_operation operation;
	struct vac_parked *at;      /* owned while it is parked, of the list while it is resumed */
	struct vac_wire_held *held; /* owned; room for the answer */
	struct vac_gpus_wait reading;  /* after a resume, before a load is admitted */
	struct vac_parked *list;       /* owned */
	struct vac_parked *queue;      /* owned; workers whose turn has not come, in order */
	const struct vac_parked *told; /* a worker whose end the registry hears of now; or NULL */
	char *wanted;                  /* owned: a load that needs room; NULL: none */
	uint64_t missing_bytes;        /* of that load */
	int64_t next_want_ns;          /* it is not looked at sooner */
	int64_t fresh_ns;              /* readings of GPUs before that know too little */
	struct vac_parking_refusal refusals[VAC_PARKING_REFUSALS];
	/* over the server's life, for the metrics */
	uint64_t parks, park_failures, resumes, resume_failures;
};

/* When the devices are known. Looks for what earlier servers left parked. Wrong users
 * are VAC_E_INVALID. */
int vac_parking_init(struct vac_server *server, struct vac_error *err) VAC_MUST_CHECK;
/* The settings changed. */
int vac_parking_configure(struct vac_server *server, struct vac_error *err) VAC_MUST_CHECK;
void vac_parking_free(struct vac_server *server);

/* The registry's operation lacks; ctx is the server. */
void vac_parking_lacks(void *ctx, struct vac_model *model, uint64_t missing_bytes);
/* The registry's operations park and restore; ctx is the server. */
void vac_parking_park_model(void *ctx, struct vac_model *model);
void vac_parking_restore_model(void *ctx, struct vac_model *model);
/* The next parking of its worker goes on where the driver is untried. */
void vac_parking_allow_risk(struct vac_model *model, bool risk);
/* Before the registry hears of it. */
void vac_parking_worker_gone(struct vac_server *server, const struct vac_worker *worker);
/* NULL is fine. */
void vac_parked_free(struct vac_parked *parked);
/* vacate-gpud is needed. */
bool vac_parking_busy(const struct vac_server *server);
/* The server ends, and nothing more can be resumed. */
bool vac_parking_done(const struct vac_server *server);
void vac_parking_metrics(const struct vac_server *server, struct vac_buf *buf);

#endif
