/*
 * settings.h - what the operator says of one model: a section of vacate.conf,
 * or a flag such as --pin. Plain data. The registry asks for it by name
 * (vac_registry_ops.settings) and copies what it is told, strings included; what
 * it is told must live until that call is over.
 */
#ifndef VAC_SERVER_SETTINGS_H
#define VAC_SERVER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct vac_model_settings {
	bool pin;                  /* never evicted, never idle too long, loaded again if lost */
	bool isolate;              /* a worker of its own */
	int32_t priority;          /* 0: as the others; lower ones are evicted first, and a load
				    * with a higher one stands before theirs in line */
	int64_t keep_alive_ms;     /* negative: for ever */
	int64_t min_resident_ms;   /* not evicted sooner */
	uint32_t max_batch_tokens; /* of one batch, though one sequence always fits; 0: as the
				    * worker chooses */
	const char *device; /* "cpu", "cuda:0"; "auto": the GPU with the most room, if there is
			     * one; NULL: the server's first */
	const char *dtype;  /* that it is computed in, "float32"; NULL: as the worker chooses */
	const char *prompt; /* put before every text; NULL: none */
	const char *dir;    /* of its files; NULL: where its name was found */
};

/* Copies, strings included; -ENOMEM leaves nothing. vac_model_settings_free()
 * frees the strings of such a copy. */
int vac_model_settings_copy(struct vac_model_settings *to,
			    const struct vac_model_settings *from) VAC_MUST_CHECK;
void vac_model_settings_free(struct vac_model_settings *settings);
/* They differ in what only a new load can change; dir aside, which may name
 * what is loaded already. */
bool vac_model_settings_reload(const struct vac_model_settings *a,
			       const struct vac_model_settings *b);

#endif
