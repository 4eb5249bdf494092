/* fuzz_json.c - the JSON reader: any bytes end in an error or in the end, every
 * event lies within the input, and skipping agrees with reading. */
#include <stdlib.h>

#include "base/json.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(int condition)
{
	if (!condition)
		abort();
}

static void check_text(const struct vac_json *json)
{
	const uint8_t *at = (const uint8_t *)json->text, *end = at + json->text_bytes;

	while (at < end) {
		uint32_t code;
		size_t n = vac_utf8_decode(at, end, &code);

		check(n > 0);
		at += n;
	}
}

/* Reads all events; the last one. */
static enum vac_json_type read_all(const uint8_t *data, size_t bytes, struct vac_error *err)
{
	struct vac_json json;
	enum vac_json_type type;
	size_t before = 0;

	vac_json_init(&json, "input", data, bytes, err);
	do {
		type = vac_json_next(&json);
		check(json.at <= bytes && json.value_at <= bytes);
		if (type != VAC_JSON_ERROR) {
			check(json.at >= before && json.value_at >= before);
			before = json.at;
		}
		if (type == VAC_JSON_KEY || type == VAC_JSON_STRING)
			check_text(&json);
	} while (type != VAC_JSON_ERROR && type != VAC_JSON_END);
	check(vac_json_next(&json) == type);
	vac_json_free(&json);
	return type;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct vac_error err = {0}, skip_err = {0};
	enum vac_json_type last = read_all(data, bytes, &err);
	struct vac_json json;
	int rc;

	check((last == VAC_JSON_ERROR) == (err.code != VAC_OK));
	vac_json_init(&json, "input", data, bytes, &skip_err);
	rc = vac_json_skip(&json);
	if (rc == 0)
		rc = vac_json_expect(&json, VAC_JSON_END, "end");
	check((rc == 0) == (last == VAC_JSON_END));
	vac_json_free(&json);
	return 0;
}
