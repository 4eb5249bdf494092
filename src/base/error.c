/* error.c - filling struct vac_error. Any thread; no allocation. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int errnum;
} codes[] = {
	[VAC_OK] = {"ok", 0},
	[VAC_E_INVALID] = {"invalid", EINVAL},
	[VAC_E_NOT_FOUND] = {"not_found", ENOENT},
	[VAC_E_UNSUPPORTED] = {"unsupported", ENOTSUP},
	[VAC_E_TOO_LARGE] = {"too_large", E2BIG},
	[VAC_E_NO_ROOM] = {"no_room", ENOMEM},
	[VAC_E_BUSY] = {"busy", EAGAIN},
	[VAC_E_IO] = {"io", EIO},
	[VAC_E_CORRUPT] = {"corrupt", EBADMSG},
	[VAC_E_TIMEOUT] = {"timeout", ETIMEDOUT},
	[VAC_E_GONE] = {"gone", EPIPE},
	[VAC_E_CANCELLED] = {"cancelled", ECANCELED},
	[VAC_E_INTERNAL] = {"internal", EPROTO},
};

int vac_error_errno(enum vac_error_code code)
{
	if ((size_t)code >= sizeof(codes) / sizeof(codes[0]))
		return -EPROTO;
	return -codes[code].errnum;
}

const char *vac_error_name(enum vac_error_code code)
{
	if ((size_t)code >= sizeof(codes) / sizeof(codes[0]))
		return "unknown";
	return codes[code].name;
}

int vac_fail(struct vac_error *err, enum vac_error_code code, const char *fmt, ...)
{
	if (err) {
		va_list ap;

		va_start(ap, fmt);
		err->code = code;
		err->detail[0] = '\0';
		vsnprintf(err->message, sizeof(err->message), fmt, ap);
		va_end(ap);
	}
	return vac_error_errno(code);
}

int vac_fail_errno(struct vac_error *err, int errnum, const char *fmt, ...)
{
	enum vac_error_code code = VAC_E_IO;

	if (errnum == ENOENT || errnum == ENOTDIR)
		code = VAC_E_NOT_FOUND;
	else if (errnum == ENOMEM || errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS ||
		 errnum == EAGAIN)
		code = VAC_E_NO_ROOM;
	if (err) {
		va_list ap;
		size_t n;
		char text[96];

		va_start(ap, fmt);
		err->code = code;
		err->detail[0] = '\0';
		vsnprintf(err->message, sizeof(err->message), fmt, ap);
		va_end(ap);
		n = strlen(err->message);
		snprintf(err->message + n, sizeof(err->message) - n, ": %s",
			 strerror_r(errnum, text, sizeof(text)));
	}
	return vac_error_errno(code);
}

int vac_fail_nomem(struct vac_error *err, const char *what, size_t bytes)
{
	if (bytes == 0)
		return vac_fail(err, VAC_E_NO_ROOM, "out of memory: no room for %s", what);
	return vac_fail(err, VAC_E_NO_ROOM,
			"out of memory: %zu bytes for %s could not be allocated", bytes, what);
}

void vac_error_detail(struct vac_error *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return;
	va_start(ap, fmt);
	vsnprintf(err->detail, sizeof(err->detail), fmt, ap);
	va_end(ap);
}

void vac_error_prefix(struct vac_error *err, const char *fmt, ...)
{
	char old[sizeof(err->message)];
	va_list ap;
	size_t n;

	if (!err)
		return;
	memcpy(old, err->message, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(err->message, sizeof(err->message), fmt, ap);
	va_end(ap);
	n = strlen(err->message);
	snprintf(err->message + n, sizeof(err->message) - n, ": %s", old);
}
