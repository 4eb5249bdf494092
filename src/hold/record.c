/*
 * record.c - the text of a record; where records lie is record_files.c. A record is
 * lines "key value" in one order:
 *
 *	vacate-hold 1
 *	process PID START NAMESPACE UID
 *	state parked checkpoint
 *	by PID UID WALL ORDER
 *	who TEXT                          (may be missing)
 *	device GPU-... BYTES SPARE        (any number; "?" for bytes that are not known)
 *	error TEXT                        (may be missing)
 *	end
 */
#include "hold/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_LINE "vacate-hold 1"

/* What NVML counts for a process is not all that comes with it: the first context on a
 * device takes some MiB that are nobody's, and memory is given out in pieces of 2 MiB.
 * 2 %, at least 64 MiB, are more than was ever seen (3.25 MiB, H100); and never more
 * than what was free beside the process when it was parked, since it fitted so. */
#define MARGIN_LEAST_BYTES ((uint64_t)64 << 20)
#define MARGIN_SHARE       50

uint64_t vac_room_margin_bytes(const struct vac_record_device *device)
{
	uint64_t margin = device->bytes / MARGIN_SHARE;

	if (margin < MARGIN_LEAST_BYTES)
		margin = MARGIN_LEAST_BYTES;
	return margin < device->spare_bytes ? margin : device->spare_bytes;
}

static const char *const intents[] = {
	[VAC_INTENT_NONE] = "none",
	[VAC_INTENT_LOCK] = "lock",
	[VAC_INTENT_CHECKPOINT] = "checkpoint",
	[VAC_INTENT_RESTORE] = "restore",
	[VAC_INTENT_UNLOCK] = "unlock",
};

const char *vac_record_intent_name(enum vac_record_intent intent)
{
	return (size_t)intent < sizeof(intents) / sizeof(intents[0]) ? intents[intent] : "unknown";
}

void vac_record_write(const struct vac_record *record, struct vac_buf *to)
{
	vac_buf_printf(to, FIRST_LINE "\nprocess %d %" PRIu64 " %" PRIu64 " %u\n", (int)record->pid,
		       record->start_ticks, record->pid_namespace, (unsigned)record->uid);
	vac_buf_printf(to, "state %s %s\n", vac_hold_state_name(record->state),
		       vac_record_intent_name(record->intent));
	vac_buf_printf(to, "by %d %u %" PRId64 " %" PRId64 "\n", (int)record->by_pid,
		       (unsigned)record->by_uid, record->wall_ns, record->order_ns);
	if (*record->who)
		vac_buf_printf(to, "who %s\n", record->who);
	for (uint32_t i = 0; i < record->device_count; i++) {
		const struct vac_record_device *device = &record->devices[i];

		if (device->bytes_valid)
			vac_buf_printf(to, "device %s %" PRIu64 " %" PRIu64 "\n", device->uuid,
				       device->bytes, device->spare_bytes);
		else
			vac_buf_printf(to, "device %s ? %" PRIu64 "\n", device->uuid,
				       device->spare_bytes);
	}
	if (*record->error)
		vac_buf_printf(to, "error %s\n", record->error);
	vac_buf_puts(to, "end\n");
}

/* The text being read: lines, and words of one line. */
struct reader {
	const char *name;
	const char *at, *end; /* the rest of the text */
	const char *word, *line_end;
	unsigned line; /* its number */
	struct vac_error *err;
};

static int fail(const struct reader *r, const char *what)
{
	return vac_fail(r->err, VAC_E_CORRUPT, "%s: line %u: %s", r->name, r->line, what);
}

static bool next_line(struct reader *r)
{
	const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));

	r->line++;
	if (!newline)
		return false;
	r->word = r->at;
	r->line_end = newline;
	r->at = newline + 1;
	return true;
}

/* Takes one word and the blank behind it. "" and false at the end of the line. */
static bool take(struct reader *r, char *out, size_t size)
{
	const char *blank;
	size_t length;

	if (!r->word || r->word > r->line_end)
		return false;
	blank = memchr(r->word, ' ', (size_t)(r->line_end - r->word));
	length = (size_t)((blank ? blank : r->line_end) - r->word);
	if (length == 0 || length >= size)
		return false;
	memcpy(out, r->word, length);
	out[length] = '\0';
	r->word = blank ? blank + 1 : NULL;
	return memchr(out, '\0', length) == NULL;
}

/* Decimal digits alone, at most limit. */
static bool take_number(struct reader *r, uint64_t limit, uint64_t *out)
{
	char word[24], *end;

	if (!take(r, word, sizeof(word)) || word[strspn(word, "0123456789")] != '\0')
		return false;
	errno = 0;
	*out = strtoull(word, &end, 10);
	return errno == 0 && *end == '\0' && *out <= limit;
}

static bool is_first_word(const struct reader *r, const char *word)
{
	size_t length = strlen(word);

	return (size_t)(r->line_end - r->word) > length && memcmp(r->word, word, length) == 0 &&
	       r->word[length] == ' ';
}

static bool begin(struct reader *r, const char *word)
{
	if (!next_line(r) || !is_first_word(r, word))
		return false;
	r->word += strlen(word) + 1;
	return true;
}

static bool read_process(struct reader *r, struct vac_record *out)
{
	uint64_t pid, uid;

	if (!begin(r, "process") || !take_number(r, INT32_MAX, &pid) ||
	    !take_number(r, UINT64_MAX, &out->start_ticks) ||
	    !take_number(r, UINT64_MAX, &out->pid_namespace) || !take_number(r, UINT32_MAX, &uid))
		return false;
	out->pid = (pid_t)pid;
	out->uid = (uid_t)uid;
	return pid > 0 && !r->word;
}

static bool read_state(struct reader *r, struct vac_record *out)
{
	char state[16], intent[16];
	bool known = false;

	if (!begin(r, "state") || !take(r, state, sizeof(state)) ||
	    !take(r, intent, sizeof(intent)) || r->word)
		return false;
	for (int i = VAC_HOLD_UNKNOWN; i <= VAC_HOLD_FAILED && !known; i++) {
		out->state = (enum vac_hold_state)i;
		known = strcmp(state, vac_hold_state_name(out->state)) == 0;
	}
	if (!known)
		return false;
	for (size_t i = 0; i < sizeof(intents) / sizeof(intents[0]); i++) {
		out->intent = (enum vac_record_intent)i;
		if (strcmp(intent, intents[i]) == 0)
			return true;
	}
	return false;
}

static bool read_by(struct reader *r, struct vac_record *out)
{
	uint64_t pid, uid, wall, order;

	if (!begin(r, "by") || !take_number(r, INT32_MAX, &pid) ||
	    !take_number(r, UINT32_MAX, &uid) || !take_number(r, INT64_MAX, &wall) ||
	    !take_number(r, INT64_MAX, &order))
		return false;
	out->by_pid = (pid_t)pid;
	out->by_uid = (uid_t)uid;
	out->wall_ns = (int64_t)wall;
	out->order_ns = (int64_t)order;
	return !r->word;
}

static bool read_device(struct reader *r, struct vac_record_device *out)
{
	r->word += strlen("device ");
	if (!take(r, out->uuid, sizeof(out->uuid)))
		return false;
	for (const char *c = out->uuid; *c; c++)
		if (*c < '!' || *c > '~')
			return false;
	out->bytes_valid =
		!(r->word && r->line_end - r->word > 1 && r->word[0] == '?' && r->word[1] == ' ');
	if (!out->bytes_valid)
		r->word += 2;
	else if (!take_number(r, INT64_MAX, &out->bytes))
		return false;
	return take_number(r, INT64_MAX, &out->spare_bytes) && !r->word;
}

/* The rest of a line behind that word. */
static bool read_text(struct reader *r, const char *word, char *out, size_t size)
{
	size_t length;

	r->word += strlen(word) + 1;
	length = (size_t)(r->line_end - r->word);
	if (length == 0 || length >= size)
		return false;
	for (size_t i = 0; i < length; i++) /* it goes to terminals */
		if (r->word[i] < ' ' || r->word[i] > '~')
			return false;
	memcpy(out, r->word, length);
	out[length] = '\0';
	return true;
}

static bool is_line(const struct reader *r, const char *line)
{
	return (size_t)(r->line_end - r->word) == strlen(line) &&
	       memcmp(r->word, line, strlen(line)) == 0;
}

int vac_record_parse(const char *name, const void *text, size_t bytes, struct vac_record *out,
		     struct vac_error *err)
{
	struct reader r = {.name = name, .at = text, .end = (const char *)text + bytes, .err = err};
	struct vac_record record = {0};

	if (bytes > VAC_RECORD_LIMIT_BYTES)
		return vac_fail(err, VAC_E_CORRUPT, "%s: %zu bytes are more than a record has",
				name, bytes);
	if (!next_line(&r) || !is_line(&r, FIRST_LINE))
		return fail(&r, "not a record of this version of vacate");
	if (!read_process(&r, &record))
		return fail(&r, "no process is named as it should be");
	if (!read_state(&r, &record))
		return fail(&r, "no state is named as it should be");
	if (!read_by(&r, &record))
		return fail(&r, "it does not say who wrote it");
	if (!next_line(&r))
		return fail(&r, "the record breaks off");
	if (is_first_word(&r, "who")) {
		if (!read_text(&r, "who", record.who, sizeof(record.who)))
			return fail(&r, "what parked it is no plain text of its length");
		if (!next_line(&r))
			return fail(&r, "the record breaks off");
	}
	while (is_first_word(&r, "device")) {
		if (record.device_count == VAC_HOLD_MOST_DEVICES)
			return fail(&r, "too many devices");
		if (!read_device(&r, &record.devices[record.device_count++]))
			return fail(&r, "a device is not named as it should be");
		if (!next_line(&r))
			return fail(&r, "the record breaks off");
	}
	if (is_first_word(&r, "error")) {
		if (!read_text(&r, "error", record.error, sizeof(record.error)))
			return fail(&r, "a reason that is no plain text of its length");
		if (!next_line(&r))
			return fail(&r, "the record breaks off");
	}
	if (!is_line(&r, "end") || r.at != r.end)
		return fail(&r, "something is there that does not belong into a record");
	*out = record;
	return 0;
}
