/*
 * browser.h - requests that a web page makes a browser send. A server on loopback
 * without keys trusts the users of its machine, and a page of a stranger that one
 * of them opens is none: it may send requests whose answers it cannot read, and
 * reads answers too when its own name was made to lead to 127.0.0.1. Any thread.
 */
#ifndef VAC_SERVER_BROWSER_H
#define VAC_SERVER_BROWSER_H

#include <stdbool.h>

#include "base/error.h"

/* Of a request's head; what is not there is NULL. */
struct vac_browser_head {
	const char *host, *origin, *fetch_site; /* Host, Origin, Sec-Fetch-Site */
	bool acts; /* it asks for more than an answer that a page cannot read */
};

/* VAC_E_INVALID when a page of another site is behind it. hosts: --host, whose names
 * are the server's own. */
int vac_browser_check(const struct vac_browser_head *head, const char *hosts,
		      struct vac_error *err) VAC_MUST_CHECK;

#endif
