/*
 * settings.h - what the operator says of one model: a section of vacate.conf,
 * or a flag such as --pin. Plain data that the registry copies; the strings are
 * owned by the table that they were read into and live until
 * vac_registry_reconfigure() has returned.
 */
#ifndef VAC_SERVER_SETTINGS_H
#define VAC_SERVER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

struct vac_model_settings {
	bool pin;                  /* never evicted, never idle too long, loaded again if lost */
	bool isolate;              /* a worker of its own */
	int32_t priority;          /* 0: as the others; lower ones are evicted first, and a load
				  * with a higher one stands before theirs in line */
	int64_t keep_alive_ms;     /* negative: for ever */
	int64_t min_resident_ms;   /* not evicted sooner */
	uint32_t max_batch_tokens; /* of one batch; 0: as the worker chooses */
	const char *device;        /* "cpu"; NULL: the server's default */
	const char *dtype;  /* that it is computed in, "float32"; NULL: as the worker chooses */
	const char *prompt; /* put before every text; NULL: none */
};

#endif
