/*
 * server.h - the long-lived process: HTTP in, tasks to workers, replies out.
 *
 * One thread does everything: the HTTP sockets, the workers' sockets, signals
 * and timers are in one epoll set (loop.h). It holds no model byte.
 */
#ifndef VAC_SERVER_SERVER_H
#define VAC_SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/size.h"
#include "server/settings.h"

/* A model that the operator says something of. Strings and lists are whose the
 * options are. */
struct vac_server_model {
	const char *name;
	const char *path;           /* its directory; NULL: where models lie; as settings.dir */
	const char *const *aliases; /* other names that requests may give it */
	size_t alias_count;
	struct vac_model_settings settings;
};

/* Times in milliseconds. vac_server_defaults() fills everything. */
struct vac_server_options {
	const char *host; /* addresses, names, unix:/PATH; separated by commas */
	uint16_t port;    /* 0: any free one */
	const char *const *model_dirs;
	size_t model_dir_count;
	const char *hub_cache;    /* NULL: as the environment says */
	int64_t keep_alive_ms;    /* negative: for ever; 0: unload when all is answered */
	const char *backend;      /* NULL: the worker's default */
	uint32_t threads;         /* of a worker; 0: as many as CPUs are allowed */
	const char *sandbox;      /* of workers: "auto", "require", "off"; NULL is "auto" */
	const char *journal;      /* file for what happens; NULL: none */
	size_t journal_max_bytes; /* of that file, before it is rotated; 0: never */
	uint32_t journal_keep;    /* rotated files */
	uint32_t max_connections; /* more wait in the system's queue */
	uint32_t max_queue;       /* calls that wait for or run on one model */
	struct vac_size ram;      /* that models may take, as planned */
	struct vac_size vram;     /* the same of each GPU */
	struct vac_size headroom; /* of free memory that no load may take, of each device */
	const char *device;       /* of models of which no other is said: "auto", "cpu", "cuda:0" */
	int64_t min_resident_ms;  /* that a model has before it is evicted */
	int64_t turn_ms;          /* that a busy model has before it makes way */
	int64_t request_timeout_ms; /* for a task to be answered; negative: none */
	size_t max_body_bytes;      /* of one request */
	size_t max_pending_bytes;   /* of all bodies that are held at once */
	size_t max_inputs;          /* of one request */
	size_t max_input_bytes;     /* of one text */
	int64_t client_timeout_ms;  /* for a request to arrive whole */
	int64_t idle_timeout_ms;    /* of a connection between requests */
	int64_t drain_timeout_ms;   /* from SIGTERM until what still runs is given up */
	int64_t hello_timeout_ms;   /* for a worker to say HELLO */
	int64_t heartbeat_ms;       /* between PINGs of a worker that has work */
	int64_t silence_timeout_ms; /* until a worker that says nothing is killed */
	int ready_fd;               /* gets "ready ADDRESS...\n" and is closed; -1: none */
	const char *api_key_file;   /* NULL: anybody may ask */
	bool allow_no_key;          /* listen to other machines although there are no keys */
	bool metrics_open;          /* GET /metrics needs no key */
	const char *guard_park;  /* commands of processes that may be parked, patterns with commas
				   * between; NULL: none */
	int64_t guard_idle_ms;   /* without use of the GPU; 0: whatever they do */
	const char *guard_users; /* whose; NULL: the server's own */
	bool guard_risk;         /* also with a driver that is untried */
	enum vac_log_level log_level;
	const struct vac_server_model *models; /* no name and no alias twice */
	size_t model_count;
	struct vac_model_settings model_defaults; /* of models that are not among them */

	/* On SIGHUP; NULL: there is nothing to read again. Gives new options, which
	 * differ only where a running server can follow; on error (which it has
	 * logged in detail) those that hold go on holding. reloaded() then says
	 * whether the new ones were taken: the others are not used any more. */
	int (*reload)(void *ctx, const struct vac_server_options **out, struct vac_error *err);
	void (*reloaded)(void *ctx, bool taken);
	void *reload_ctx;
};

void vac_server_defaults(struct vac_server_options *options);

/* Listens, serves, and returns 0 after a SIGTERM or SIGINT was carried out.
 * Changes signal masks, the limit of descriptors and malloc's thresholds of
 * the process: for a program of its own. Logs with vac_log(). */
int vac_server_run(const struct vac_server_options *options, struct vac_error *err) VAC_MUST_CHECK;

#endif
