/*
 * size.h - amounts of memory as people write them: "12GB", "512MiB", "80%".
 * Any thread; no state.
 */
#ifndef VAC_BASE_SIZE_H
#define VAC_BASE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* An amount, or a share of a whole that is known only later. */
struct vac_size {
	bool is_share;
	double share;   /* 0 to 1 */
	uint64_t bytes; /* when it is no share */
};

/* "65536", "64KiB", "16MB", "1.5G", "2T": K, M, G and T mean powers of 1024
 * with or without iB, and of 1000 with B alone. -EINVAL for anything else. */
int vac_size_parse_bytes(const char *text, uint64_t *bytes) VAC_MUST_CHECK;
/* The same, or a share: "80%", "2.5%", at most 100%. */
int vac_size_parse(const char *text, struct vac_size *out) VAC_MUST_CHECK;
/* Bytes of it, where it is a share: of whole_bytes. */
uint64_t vac_size_of(const struct vac_size *size, uint64_t whole_bytes);

#endif
