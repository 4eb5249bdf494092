/*
 * access.h - who may ask: API keys from a file, read at the start and again on
 * SIGHUP. The loop's thread only.
 */
#ifndef VAC_SERVER_ACCESS_H
#define VAC_SERVER_ACCESS_H

#include "base/keyfile.h"

struct vac_access {
	const char *path; /* of the keys; NULL: anybody may ask; borrowed */
	struct vac_keys keys;
	bool metrics_open;           /* GET /metrics needs no key */
	uint64_t missing, wrong;     /* requests refused for having no key, or another */
	uint64_t foreign;            /* of web pages that are none of ours; browser.h */
	uint64_t reloads, keep_olds; /* files read again; of these, how many were of no use */
};

enum vac_access_verdict { VAC_ACCESS_GRANTED, VAC_ACCESS_MISSING, VAC_ACCESS_WRONG };

/* path NULL: no keys. On error nothing is left. */
int vac_access_open(struct vac_access *access, const char *path, bool metrics_open,
		    struct vac_error *err) VAC_MUST_CHECK;
void vac_access_close(struct vac_access *access);
/* Reads the file again. One that is gone or broken changes nothing, and the log
 * says so. */
void vac_access_reload(struct vac_access *access);
/* Of a request that was granted before: it would be again. */
bool vac_access_holds(const struct vac_access *access, const char *method, const char *path,
		      const char *authorization, const char *api_key);
/* Needs no key: whether somebody is there, and nothing else. */
bool vac_access_is_open(const struct vac_access *access, const char *method, const char *path);
/* Values of the headers Authorization and X-Api-Key, NULL when absent. Counts
 * refusals. */
enum vac_access_verdict vac_access_check(struct vac_access *access, const char *method,
					 const char *path, const char *authorization,
					 const char *api_key);

#endif
