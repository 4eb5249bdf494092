/*
 * error.h - filling struct vac_error (declared in vacate.h).
 *
 * Functions that can fail return 0 or a negative errno and take a
 * struct vac_error * as their last argument, which may be NULL.
 * Any thread; no allocation.
 */
#ifndef VAC_BASE_ERROR_H
#define VAC_BASE_ERROR_H

#include "vacate.h"

#if defined(__GNUC__)
#define VAC_PRINTF(fmt_index, first) __attribute__((format(printf, fmt_index, first)))
#define VAC_MUST_CHECK               __attribute__((warn_unused_result))
#else
#define VAC_PRINTF(fmt_index, first)
#define VAC_MUST_CHECK
#endif

/* The negative errno that goes with a code (VAC_E_INVALID -> -EINVAL). */
int vac_error_errno(enum vac_error_code code);

/* A short stable name: "invalid", "not_found", ... */
const char *vac_error_name(enum vac_error_code code);

/* Sets err (if not NULL) and returns vac_error_errno(code), so that callers
 * write: return vac_fail(err, VAC_E_CORRUPT, "%s: ...", path); */
int vac_fail(struct vac_error *err, enum vac_error_code code, const char *fmt, ...)
	VAC_PRINTF(3, 4);

/* The same for a failed system call: appends ": " and strerror(errnum).
 * ENOENT becomes VAC_E_NOT_FOUND; what the system has too little of (ENOMEM,
 * EMFILE, EAGAIN of a fork) VAC_E_NO_ROOM, the rest VAC_E_IO. */
int vac_fail_errno(struct vac_error *err, int errnum, const char *fmt, ...) VAC_PRINTF(3, 4);

/* Sets err to "out of memory" naming what was to be allocated, and how many bytes
 * unless that is 0; returns -ENOMEM. */
int vac_fail_nomem(struct vac_error *err, const char *what, size_t bytes);

/* Adds machine detail to an error that is already set. */
void vac_error_detail(struct vac_error *err, const char *fmt, ...) VAC_PRINTF(2, 3);

/* Puts "prefix: " in front of a message that is already set. */
void vac_error_prefix(struct vac_error *err, const char *fmt, ...) VAC_PRINTF(2, 3);

#endif
