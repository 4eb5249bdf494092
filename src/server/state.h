/*
 * state.h - everything the server process holds, and one request in it.
 * Between the files of server/ only; the loop's thread only.
 */
#ifndef VAC_SERVER_STATE_H
#define VAC_SERVER_STATE_H

#include "api/api.h"
#include "server/access.h"
#include "server/budget.h"
#include "server/catalog.h"
#include "server/devices.h"
#include "server/events.h"
#include "server/gpus.h"
#include "server/http.h"
#include "server/journal.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/notify.h"
#include "server/parking.h"
#include "server/plans.h"
#include "server/registry.h"
#include "server/sampler.h"
#include "server/reload.h"
#include "server/server.h"
#include "server/supervisor.h"
#include "server/tell.h"
#include "server/unload.h"

struct request_watch; /* dispatch.c's */

/* Devices of a machine: the CPUs and GPUs. */
#define VAC_SERVER_MAX_DEVICES (1 + VAC_WIRE_MAX_GPUS)
/* Models that LIST shows at most. */
#define VAC_SERVER_MAX_MODELS 4096

/* Lists whose models are looked at, one after the other and a little in each turn of the
 * loop: thousands of models have tens of thousands of files. */
struct vac_listing {
	struct vac_list waiting; /* of vac_request.listed; the first is under way once begun */
	struct vac_timer timer;
	bool begun;
	struct vac_model_entry *entries; /* owned, of the first */
	size_t count, at;
	bool missing; /* a plan of those that were looked at */
};

struct vac_server {
	struct vac_server_options options;
	struct vac_catalog catalog;
	struct vac_loop loop;
	struct vac_access access;
	struct vac_http http;
	struct vac_notify notify;
	struct vac_device devices[VAC_SERVER_MAX_DEVICES];   /* the first is the default */
	struct vac_gpu_meter meters[VAC_SERVER_MAX_DEVICES]; /* of the same numbers */
	uint32_t device_count;
	struct vac_gpus gpus;
	struct vac_gpus_wait first_reading; /* of the start */
	struct vac_parking parking;
	struct vac_registry registry;
	struct vac_supervisor supervisor;
	struct vac_plans plans;
	struct vac_listing listing;
	struct vac_journal journal;
	struct vac_events events;
	struct vac_sampler refused; /* REFUSED events that are told */
	struct vac_metrics metrics;
	struct vac_receipts receipts;
	struct vac_late_receipt *late_receipts; /* unload.c's: a GPU is still to be measured */
	struct vac_reload reload;
	struct vac_timer registry_timer;
	struct vac_timer drain_timer;
	struct vac_timer walk_timer;   /* unload.c: workers' pages are to be walked */
	struct vac_timer events_timer; /* streams that are silent, or that end */
	bool streams_end;              /* nothing happens any more */
	struct vac_source signals;     /* signalfd, owned */
	uint64_t changes;              /* loads and unloads that the service manager knows of */
	bool draining;                 /* SIGTERM came */
	bool gave_up;                  /* the drain's limit is over */
	bool aborted;                  /* a second signal came */
	int64_t started_wall_ns;
};

enum vac_request_stage {
	VAC_REQUEST_READING,   /* the body is arriving */
	VAC_REQUEST_REFUSED,   /* an error stands; what still arrives is thrown away */
	VAC_REQUEST_WORKING,   /* somebody will call vac_request_finish() */
	VAC_REQUEST_STREAMING, /* its reply has begun and goes on; http_stream.c's */
	VAC_REQUEST_DONE,      /* reply is filled */
};

/* One HTTP request. Allocated when its head is there, freed when the reply has
 * left or the connection is gone. */
struct vac_request {
	struct vac_server *server;
	struct vac_request *prev, *next; /* all requests; http.c's */
	/* http.c's */
	struct MHD_Connection *mhd;
	struct vac_connection *connection;
	const struct vac_seat *seat; /* the connection's */
	const char *method, *path;   /* live as long as the request */
	struct vac_buf body;
	size_t held_bytes; /* counted against max_pending_bytes */
	bool suspended;
	bool last; /* the connection ends with its reply */
	enum vac_request_stage stage;
	struct vac_reply reply;
	int64_t arrived_ns; /* the body was complete */
	int64_t timeout_ms; /* from then until it must be answered; not above 0: none */

	/* dispatch's */
	struct vac_call call;
	bool parsed;
	struct vac_waiter waiter;      /* TASK, LOAD */
	struct vac_exchange exchange;  /* TASK */
	struct request_watch *watches; /* UNLOAD, UNLOAD_ALL: owned, one a model */
	size_t watch_count, watches_left;
	struct vac_receipt *done_receipts; /* owned */
	size_t done_receipt_count;
	struct vac_park_watch park_watch; /* PARK */
	const struct vac_model *parked_model;
	struct vac_link listed;         /* LIST */
	struct vac_plan_wait plan_wait; /* LIST, PLAN */
	struct vac_stream stream;       /* EVENTS */
	struct vac_gpus_wait gpus_wait; /* PS */
	int64_t queued_ns;              /* given to the registry */
	int64_t asked_ns;               /* given to the worker */
};

/* ---- http.c ---- */

/* The request as api/ reads it; valid while the request lives. */
void vac_http_describe(struct vac_request *request, struct vac_http_request *out);

/* ---- bodies.c ---- */

/* Counts memory of a request against max_pending_bytes until its reply is there;
 * VAC_E_BUSY when that were too much. */
int vac_http_hold(struct vac_request *request, size_t bytes, struct vac_error *err) VAC_MUST_CHECK;
/* Another whose body has not got on for longest, and who would do well to make way for
 * so many bytes; NULL: nobody. */
struct vac_request *vac_http_slowest(const struct vac_request *but, size_t bytes);

/* ---- http_stream.c ---- */

int vac_http_streams_init(struct vac_server *server) VAC_MUST_CHECK;
/* A request for EVENTS: it is STREAMING when this returns, or has failed. */
void vac_http_open_stream(struct vac_request *request);
/* Begins the reply of a request that is STREAMING; an enum MHD_Result. */
int vac_http_send_stream(struct vac_request *request);
/* Its client left, or is given up. */
void vac_http_stream_left(struct vac_request *request);
/* The API keys were read again: streams whose key is none any more break off. */
void vac_http_recheck_streams(struct vac_server *server);
/* Nothing happens any more: streams end when all is told, slow ones a little
 * later. May be called again and again. */
void vac_http_end_streams(struct vac_server *server);

/* ---- dispatch.c ---- */

/* The request is complete: carries it out. It is DONE when this returns, or
 * will be finished later. */
void vac_dispatch(struct vac_request *request);
/* The client left, or patience ended: gives the request up. Finishes it with
 * the error. */
void vac_dispatch_abandon(struct vac_request *request, const struct vac_error *why);
/* The request's time is over: finishes it with that error. */
void vac_dispatch_expire(struct vac_request *request);
/* Frees what dispatch holds of a request that is DONE (or never began). */
void vac_dispatch_release(struct vac_request *request);
extern const struct vac_registry_ops vac_dispatch_registry_ops;
/* supervisor's gone(). */
void vac_dispatch_worker_gone(void *ctx, struct vac_worker *worker, bool expected,
			      const struct vac_error *why);
/* Renders an outcome and finishes. Outcome's error decides success. */
void vac_dispatch_answer(struct vac_request *request, const struct vac_outcome *outcome);
void vac_dispatch_fail(struct vac_request *request, const struct vac_error *err,
		       uint32_t retry_after_s);

/* The entry of the model that a call names; NULL: err says why not. */
struct vac_model *vac_dispatch_find(struct vac_server *server, const char *name,
				    struct vac_error *err);

/* ---- dispatch_park.c ---- */

/* PARK and RESUME. */
void vac_dispatch_park(struct vac_request *request);
void vac_dispatch_resume(struct vac_request *request);
/* Answers either: what the registry hears of now, or that there was nothing to do. */
void vac_dispatch_held(struct vac_request *request, const struct vac_model *model);

/* ---- load.c ---- */

/* The registry's operations plan, load and forget. */
void vac_load_plan(void *ctx, struct vac_model *model);
void vac_load_begin(void *ctx, struct vac_model *model);
void vac_load_forget(void *ctx, struct vac_model *model);
/* The model that a worker was working for when it died: what it said last, else
 * the only one that it can have been; NULL: nobody, or nobody knows. */
struct vac_model *vac_load_culprit(const struct vac_server *server,
				   const struct vac_worker *worker);

/* ---- views.c ---- */

/* LIST, PLAN, SHOW, PS, RUNNING, LOAD's reply and RECEIPTS. */
void vac_views_list(struct vac_request *request);
/* It is given up; nothing happens where it was no LIST. */
void vac_views_list_left(struct vac_request *request);
int vac_views_init(struct vac_server *server) VAC_MUST_CHECK;
void vac_views_plan(struct vac_request *request, const char *name, const char *dir);
void vac_views_show(struct vac_request *request, const char *name, const char *dir);
void vac_views_ps(struct vac_request *request);
void vac_views_running(struct vac_request *request);
void vac_views_loaded(struct vac_request *request, const struct vac_model *model);
void vac_views_receipts(struct vac_request *request);

#endif
