/*
 * fuzz_hold_record.c - any bytes as the record of a process: what is taken keeps the
 * rules, and written again is the same text.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hold/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(int truth)
{
	if (!truth)
		abort();
}

static void check_plain(const char *text, size_t limit)
{
	check(strlen(text) < limit);
	for (; *text; text++)
		check(*text >= ' ' && *text <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	/* A copy of its own length, so that a read beyond it is seen. */
	char *text = malloc(bytes ? bytes : 1);
	struct vac_buf again = VAC_BUF_INIT;
	struct vac_record record, second;
	struct vac_error err = {0};

	check(text != NULL);
	if (bytes > 0)
		memcpy(text, data, bytes);
	if (vac_record_parse("R", text, bytes, &record, &err) < 0) {
		check(err.code == VAC_E_CORRUPT && strncmp(err.message, "R: ", 3) == 0);
		check_plain(err.message, sizeof(err.message));
		free(text);
		return 0;
	}
	check(record.pid > 0 && record.by_pid >= 0);
	check(record.state >= VAC_HOLD_UNKNOWN && record.state <= VAC_HOLD_FAILED);
	check(record.intent >= VAC_INTENT_NONE && record.intent <= VAC_INTENT_UNLOCK);
	check(record.device_count <= VAC_HOLD_MOST_DEVICES);
	for (uint32_t i = 0; i < record.device_count; i++) {
		check_plain(record.devices[i].uuid, sizeof(record.devices[i].uuid));
		check(record.devices[i].bytes <= INT64_MAX);
		check(record.devices[i].bytes_valid || record.devices[i].bytes == 0);
	}
	check_plain(record.error, sizeof(record.error));
	/* numbers may have had zeros in front: so the text is as long or shorter */
	vac_record_write(&record, &again);
	check(vac_buf_ok(&again) && again.bytes <= bytes);
	check(vac_record_parse("R", again.data, again.bytes, &second, &err) == 0);
	check(memcmp(&record, &second, sizeof(record)) == 0);
	vac_buf_free(&again);
	free(text);
	return 0;
}
