/*
 * kserve_help.h - requests of the Open Inference Protocol, for the tests of api/. After
 * cmocka.h.
 */
#ifndef VAC_TESTS_KSERVE_HELP_H
#define VAC_TESTS_KSERVE_HELP_H

#include "api_help.h"

#define INFER "/v2/models/org/m/infer"

/* pairs: headers and query alike. */
static inline struct vac_http_request ask(const char *method, const char *path,
					  const char *const *pairs, const char *body)
{
	struct vac_http_request request = help_request(method, path, pairs, body);

	request.header = help_find;
	return request;
}

#define TENSOR(rest) "{\"inputs\":[{" rest "}]}"
#define TEXT         "\"name\":\"text\",\"datatype\":\"BYTES\","
#define IDS          "\"name\":\"input_ids\",\"datatype\":\"INT64\","
#define GOOD         "\"inputs\":[{" TEXT "\"shape\":[1],\"data\":[\"x\"]}]"

#endif
