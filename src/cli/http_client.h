/*
 * http_client.h - one HTTP/1.1 request on a connection of its own, or on one that is
 * kept, for the commands that talk to a running server. Blocking, with a deadline.
 */
#ifndef VAC_CLI_HTTP_CLIENT_H
#define VAC_CLI_HTTP_CLIENT_H

#include "cli/http_parse.h"

#define VAC_HTTP_DEFAULT_SERVER "http://127.0.0.1:8321"

struct vac_http_url {
	char text[512];   /* as it is shown in messages: "http://host:port/prefix", "unix:/path" */
	char path[108];   /* of a Unix socket; empty: host and port hold */
	char host[256];   /* name or address, without brackets */
	char port[6];     /* digits */
	char prefix[256]; /* path in front of every target, without the last '/' */
	const char *key;  /* sent as Authorization: Bearer; NULL: none; borrowed */
};

/* "http://HOST[:PORT][/PREFIX]" (port 80), "HOST[:PORT]" (port 8321) or
 * "unix:/PATH"; an IPv6 address stands in brackets. Anything else is
 * VAC_E_INVALID. There is no key in it. */
int vac_http_url_parse(const char *text, struct vac_http_url *url,
		       struct vac_error *err) VAC_MUST_CHECK;

/* Connects and sends one request; the reply can be read from the (non-blocking)
 * descriptor that is returned. */
int vac_http_send(const struct vac_http_url *url, const char *method, const char *target,
		  const char *accept, const char *body, int64_t timeout_ms,
		  struct vac_error *err) VAC_MUST_CHECK;

/* What is done while a reply is waited for. */
struct vac_http_beside {
	int fd;       /* watched for bytes to read; -1: none (any more) */
	int every_ms; /* between two ticks */
	void (*ready)(struct vac_http_beside *beside);
	void (*tick)(struct vac_http_beside *beside);
	void (*over)(struct vac_http_beside *beside); /* the reply is there, or never comes */
};

/* Sends one request and reads the whole reply. target begins with '/'; body
 * and beside may be NULL. timeout_ms covers everything, 0: no limit (connecting
 * has a limit of its own). Errors: VAC_E_GONE nobody answers there,
 * VAC_E_TIMEOUT, VAC_E_CORRUPT not HTTP, VAC_E_TOO_LARGE. response is freed by
 * the caller with vac_http_response_free, also after an error. */
int vac_http_request(const struct vac_http_url *url, const char *method, const char *target,
		     const char *body, int64_t timeout_ms, struct vac_http_beside *beside,
		     struct vac_http_response *response, struct vac_error *err) VAC_MUST_CHECK;

/* A connection that is kept for the next request. */
struct vac_http_kept {
	bool open;
	int fd;
};
/* Asks with GET, on a kept connection where the server has left it open. Errors, limits
 * and response as in vac_http_request(); after an error there is no connection. */
int vac_http_get_kept(const struct vac_http_url *url, struct vac_http_kept *kept,
		      const char *target, int64_t timeout_ms, struct vac_http_response *response,
		      struct vac_error *err) VAC_MUST_CHECK;
void vac_http_kept_close(struct vac_http_kept *kept);

/* Appends text with everything but unreserved characters as %XX. */
void vac_http_escape(struct vac_buf *buf, const char *text);

#endif
