/* access.c - who may ask. The loop's thread only. */
#include "server/access.h"

#include <string.h>
#include <strings.h>

#include "base/log.h"

int vac_access_open(struct vac_access *access, const char *path, bool metrics_open,
		    struct vac_error *err)
{
	int rc = 0;

	*access = (struct vac_access){.path = path, .metrics_open = metrics_open};
	if (path)
		rc = vac_keys_read(path, &access->keys, err);
	if (rc < 0)
		vac_error_prefix(err, "--api-key-file");
	return rc;
}

void vac_access_close(struct vac_access *access)
{
	vac_keys_free(&access->keys);
}

void vac_access_reload(struct vac_access *access)
{
	struct vac_keys keys;
	struct vac_error err;

	if (!access->path)
		return;
	access->reloads++;
	if (vac_keys_read(access->path, &keys, &err) < 0) {
		access->keep_olds++;
		vac_log(VAC_LOG_ERROR, "the API keys stay as they were: %s", err.message);
		return;
	}
	vac_keys_free(&access->keys);
	access->keys = keys;
	vac_log(VAC_LOG_INFO, "%zu API keys read", keys.count);
}

bool vac_access_is_open(const struct vac_access *access, const char *method, const char *path)
{
	static const char *const open[] = {"/healthz", "/health", "/v2/health/live",
					   "/v2/health/ready"};

	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return false;
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
		if (strcmp(path, open[i]) == 0)
			return true;
	}
	return access->metrics_open && strcmp(path, "/metrics") == 0;
}

/* What stands behind "Bearer "; NULL when it is something else. */
static const char *bearer(const char *authorization)
{
	if (!authorization || strncasecmp(authorization, "Bearer", 6) != 0 ||
	    (authorization[6] != ' ' && authorization[6] != '\t'))
		return NULL;
	return authorization + 7 + strspn(authorization + 7, " \t");
}

static bool is_key(const struct vac_access *access, const char *text)
{
	size_t bytes;

	if (!text)
		return false;
	bytes = strlen(text);
	while (bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t'))
		bytes--;
	return vac_keys_match(&access->keys, text, bytes);
}

bool vac_access_holds(const struct vac_access *access, const char *method, const char *path,
		      const char *authorization, const char *api_key)
{
	return !access->path || vac_access_is_open(access, method, path) ||
	       is_key(access, bearer(authorization)) || is_key(access, api_key);
}

enum vac_access_verdict vac_access_check(struct vac_access *access, const char *method,
					 const char *path, const char *authorization,
					 const char *api_key)
{
	if (vac_access_holds(access, method, path, authorization, api_key))
		return VAC_ACCESS_GRANTED;
	if (authorization || api_key) {
		access->wrong++;
		return VAC_ACCESS_WRONG;
	}
	access->missing++;
	return VAC_ACCESS_MISSING;
}
