/*
 * normalize.h - the growable buffers of an encoding and the normalizers that
 * use them. Private to text. A scratch belongs to one thread at a time.
 */
#ifndef VAC_TEXT_NORMALIZE_H
#define VAC_TEXT_NORMALIZE_H

#include "base/buf.h"
#include "text/layout.h"

struct vac_encode_scratch {
	struct vac_buf normal;   /* the normalized text */
	struct vac_buf codes[2]; /* code points (uint32_t), from one step to the next */
	struct vac_buf hashes;   /* of the beginnings of a word (uint64_t) */
	struct vac_buf ids;      /* int32_t */
	struct vac_buf types;    /* uint8_t */
};

/* Makes scratch->normal the text as it is after all steps. The text must be
 * valid UTF-8. 0, or -ENOMEM with err set. */
int vac_normalize(const uint8_t *steps, size_t step_count, const char *text, size_t bytes,
		  struct vac_encode_scratch *scratch, struct vac_error *err) VAC_MUST_CHECK;

#endif
