/*
 * document.h - docs/openapi.json as the build puts it into the program:
 * constant data that costs no memory until somebody asks for it. Any thread.
 */
#ifndef VAC_API_DOCUMENT_H
#define VAC_API_DOCUMENT_H

#include <stddef.h>

extern const char vac_openapi[];
extern const size_t vac_openapi_bytes;

#endif
