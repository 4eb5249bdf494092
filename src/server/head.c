/* head.c - see head.h. */
#include "server/head.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct framing {
	unsigned int lengths, encodings;
	bool unknown; /* an encoding that is not "chunked" */
};

static enum MHD_Result look(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct framing *framing = cls;

	(void)kind;
	if (strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0)
		framing->lengths++;
	if (strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
		framing->encodings++;
		framing->unknown = framing->unknown || !value || strcasecmp(value, "chunked") != 0;
	}
	return MHD_YES;
}

int vac_head_check(struct MHD_Connection *mhd, struct vac_error *err)
{
	struct framing framing = {0};

	MHD_get_connection_values(mhd, MHD_HEADER_KIND, look, &framing);
	if (framing.unknown)
		return vac_fail(err, VAC_E_INVALID,
				"Transfer-Encoding: only \"chunked\" is understood");
	if (framing.lengths + framing.encodings > 1)
		return vac_fail(err, VAC_E_INVALID,
				"Content-Length and Transfer-Encoding: one of them may be there, "
				"and once");
	return 0;
}

bool vac_head_body_bytes(struct MHD_Connection *mhd, uint64_t *bytes)
{
	const char *text =
		MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (errno == ERANGE)
		*bytes = UINT64_MAX;
	return *end == '\0' || errno == ERANGE;
}

const char *vac_head_path(const char *target)
{
	const char *path;

	if (strncasecmp(target, "http://", 7) != 0 && strncasecmp(target, "https://", 8) != 0)
		return target;
	path = strchr(strstr(target, "://") + 3, '/');
	return path ? path : "/";
}

size_t vac_head_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
	(void)cls;
	(void)mhd;
	return strstr(text, "%00") ? strlen(text) : MHD_http_unescape(text);
}
