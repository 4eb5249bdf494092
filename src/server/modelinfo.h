/*
 * modelinfo.h - what a worker said of a model in PLANNED or LOADED, copied out
 * of the frame. Plain data without pointers.
 */
#ifndef VAC_SERVER_MODELINFO_H
#define VAC_SERVER_MODELINFO_H

#include "wire/wire.h"

struct vac_model_info {
	struct vac_plan plan;
	char architecture[64], dtype[16], pooling[24];
	bool normalize;
	uint64_t parameters;
	uint32_t hidden_size, layers, heads, vocab_size, embedding_dimensions, max_tokens;
	uint64_t ledger_bytes;             /* LOADED: what the ledger holds for it */
	int64_t stage_ns[VAC_WIRE_STAGES]; /* LOADED */
};

/* Strings that are too long for the fields are cut. */
/* A worker refused a PLAN or LOAD of dir. A file that is missing or no file is
 * the checkpoint's fault: not the request's, and the model is not missing as
 * long as its directory is there. */
void vac_model_refused(const char *dir, struct vac_error *refusal);
void vac_model_info_copy(struct vac_model_info *to, const struct vac_wire_model *from);

#endif
