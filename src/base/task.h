/*
 * task.h - the vocabulary that requests share from the HTTP edge to the
 * engine: what is asked (task), of what (inputs), and how (options).
 * Plain data; whoever builds a struct owns what it points to.
 */
#ifndef VAC_BASE_TASK_H
#define VAC_BASE_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers travel in wire frames and never change meaning. */
enum vac_task {
	VAC_TASK_EMBED = 1, /* one vector an input: the checkpoint's pooling and normalize */
};
#define VAC_TASK_BIT(task) (UINT32_C(1) << (task))

enum vac_normalize {
	VAC_NORMALIZE_MODEL = 0, /* as the checkpoint's modules.json says */
	VAC_NORMALIZE_ON = 1,    /* L2, whatever the checkpoint says */
	VAC_NORMALIZE_OFF = 2,   /* not, even if the checkpoint has a Normalize module */
};

enum vac_truncation {
	VAC_TRUNCATE_NONE = 0,  /* an input that is too long is an error naming both counts */
	VAC_TRUNCATE_RIGHT = 1, /* tokens beyond the limit are dropped at the end */
	VAC_TRUNCATE_LEFT = 2,  /* ... at the start */
};

struct vac_task_options {
	enum vac_task task;
	enum vac_normalize normalize;
	enum vac_truncation truncation;
	uint32_t dimensions; /* 0: all; else the first so many components, normalized again if
			      * normalizing; above the model's width: VAC_E_INVALID */
};

/* One input: UTF-8 text, or token ids that are taken as they are (special
 * tokens included by the caller if wanted). Exactly one of the two is set;
 * ids == NULL means text. */
struct vac_input {
	const char *text; /* not NUL-terminated */
	size_t text_bytes;
	const int32_t *ids;
	size_t id_count;
};

#endif
