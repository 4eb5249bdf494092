/*
 * head.h - what libmicrohttpd lets pass in the head of a request, and should
 * not. The loop's thread only.
 */
#ifndef VAC_SERVER_HEAD_H
#define VAC_SERVER_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct MHD_Connection;

/* VAC_E_INVALID when the head says in two ways where the body ends, or in one that
 * nobody here understands: a proxy in front may have understood it otherwise, and
 * what follows is then another's request. The connection must not go on. */
int vac_head_check(struct MHD_Connection *mhd, struct vac_error *err) VAC_MUST_CHECK;

/* The Content-Length; false when there is none that can be read. */
bool vac_head_body_bytes(struct MHD_Connection *mhd, uint64_t *bytes);

/* The path of a target that may be a whole URL, as proxies send it. */
const char *vac_head_path(const char *target);

/* MHD_OPTION_UNESCAPE_CALLBACK: text with a %00 stays as it is, since what is made
 * of it would end there. */
size_t vac_head_unescape(void *cls, struct MHD_Connection *mhd, char *text);

#endif
