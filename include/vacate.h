/*
 * vacate.h - models move in, answer, and move out, and leave nothing behind.
 *
 * This header declares the error type that every layer of Vacate fills, and
 * (below it) the public interface of libvacate. The library never prints and
 * never exits: it returns 0 or a negative errno and fills the caller's
 * struct vac_error, if one was given.
 */
#ifndef VACATE_H
#define VACATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What kind of failure it was. The number is stable; it also travels in wire
 * frames. vac_error_errno() gives the errno that functions return for it. */
enum vac_error_code {
	VAC_OK = 0,
	VAC_E_INVALID = 1,     /* malformed or out-of-range argument or request: EINVAL */
	VAC_E_NOT_FOUND = 2,   /* no such model, file or object: ENOENT */
	VAC_E_UNSUPPORTED = 3, /* well formed, but not something Vacate can serve: ENOTSUP */
	VAC_E_TOO_LARGE = 4,   /* longer or larger than a stated limit: E2BIG */
	VAC_E_NO_ROOM = 5,     /* not enough memory on host or device: ENOMEM */
	VAC_E_BUSY = 6,        /* a queue is full or the name is being drained: EAGAIN */
	VAC_E_IO = 7,          /* the system refused to read or write: EIO */
	VAC_E_CORRUPT = 8,     /* a file's content breaks its format's rules: EBADMSG */
	VAC_E_TIMEOUT = 9,     /* a limit of time passed: ETIMEDOUT */
	VAC_E_GONE = 10,       /* the process that should answer died: EPIPE */
	VAC_E_CANCELLED = 11,  /* given up by the caller: ECANCELED */
	VAC_E_INTERNAL = 12,   /* a bug of ours or a library's refusal: EPROTO */
};

/* One failure. message is one sentence: what was wrong, where (file, tensor,
 * byte or JSON position) and what to do. detail is empty or holds what a
 * machine may want to know more (a library's own status, for example).
 * Both are NUL-terminated UTF-8. */
struct vac_error {
	enum vac_error_code code;
	char message[512];
	char detail[256];
};

#ifdef __cplusplus
}
#endif
#endif /* VACATE_H */
