/* settings.c - the tables of settings, and their values. Any thread; no state. */
#include "cli/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/survey.h"

#define AT(member) offsetof(struct vac_server_options, member)
#define OF(member) offsetof(struct vac_model_settings, member)

static const struct vac_choice backends = {{"cpu", "reference"}, "takes cpu or reference"};
static const struct vac_choice sandboxes = {{"auto", "require", "off"},
					    "takes auto, require or off"};
/* What a device can do of these its worker knows. */
static const struct vac_choice dtypes = {{"float32", "float16", "bfloat16"},
					 "takes float32, float16 or bfloat16"};

const struct vac_setting vac_server_setting_table[] = {
	{"config", "FILE", "to read settings from (" VAC_CONFIG_SYSTEM_FILE "); none: no file",
	 VAC_SET_CONFIG},
	{"host", "ADDRESSES", "to listen on: 127.0.0.1,unix:/PATH (127.0.0.1)", VAC_SET_TEXT,
	 AT(host), "127.0.0.1"},
	{"port", "N", "to listen on (8321); 0: any free one", VAC_SET_PORT, AT(port), "8321"},
	{"api-key-file", "FILE", "of keys, one a line; a request needs one of them", VAC_SET_FILE,
	 AT(api_key_file)},
	{"allow-no-key", "YESNO", "whether other machines may ask without a key (no)", VAC_SET_BOOL,
	 AT(allow_no_key), "no"},
	{"metrics-open", "YESNO", "whether GET /metrics needs no key (no)", VAC_SET_BOOL,
	 AT(metrics_open), "no"},
	{"models", "DIRS", "where models lie besides the HuggingFace cache (a:b); may be repeated",
	 VAC_SET_DIRS},
	{"keep-alive", "TIME", "an idle model stays so long (5m); -1: for ever", VAC_SET_TIME,
	 AT(keep_alive_ms), "5m", .reloads = true},
	{"ram", "SIZE", "that models may take: 80%, 12GB (80%)", VAC_SET_SIZE, AT(ram), "80%",
	 VAC_BOUND_POSITIVE, .reloads = true},
	{"vram", "SIZE", "that models may take of each GPU (90%)", VAC_SET_SIZE, AT(vram), "90%",
	 VAC_BOUND_POSITIVE, .reloads = true},
	{"headroom", "SIZE", "of free memory that no load takes: 512MiB, 5% (5%)", VAC_SET_SIZE,
	 AT(headroom), "5%", .reloads = true},
	{"pin", "MODEL", "once loaded, it stays; may be repeated", VAC_SET_NAMES, .reloads = true},
	{"min-resident", "TIME", "no model is evicted sooner (0)", VAC_SET_TIME,
	 AT(min_resident_ms), "0", VAC_BOUND_NOT_NEGATIVE, .reloads = true},
	{"turn", "TIME", "a busy model answers so long before it makes way (1s)", VAC_SET_TIME,
	 AT(turn_ms), "1s", VAC_BOUND_NOT_NEGATIVE, .reloads = true},
	{"timeout", "TIME", "for a request to be answered (5m); -1: none", VAC_SET_TIME,
	 AT(request_timeout_ms), "5m", VAC_BOUND_NOT_ZERO, .reloads = true},
	{"device", "NAME", "for models: auto (a GPU if there is one), cpu, cuda:N (auto)",
	 VAC_SET_DEVICE, AT(device), "auto", .reloads = true},
	{"threads", "N", "of a worker's compute team (as many as CPUs)", VAC_SET_COUNT,
	 AT(threads)},
	{"backend", "NAME", "cpu, or reference (plain C, slow)", VAC_SET_CHOICE, AT(backend),
	 .choice = &backends},
	{"sandbox", "MODE", "of workers: auto, require or off (auto)", VAC_SET_CHOICE, AT(sandbox),
	 "auto", .choice = &sandboxes},
	{"journal", "FILE", "append receipts, evictions, refusals: a JSON object a line",
	 VAC_SET_FILE, AT(journal)},
	{"journal-max", "BYTES", "of that file, then it is rotated (16MiB); 0: never",
	 VAC_SET_BYTES, AT(journal_max_bytes), "16MiB", .reloads = true},
	{"journal-keep", "N", "rotated files: FILE.1 is the newest (4)", VAC_SET_COUNT,
	 AT(journal_keep), "4", .reloads = true},
	{"max-connections", "N", "open at once (2048)", VAC_SET_COUNT, AT(max_connections), "2048",
	 VAC_BOUND_POSITIVE},
	{"max-queue", "N", "requests that wait for one model (1024)", VAC_SET_COUNT, AT(max_queue),
	 "1024", VAC_BOUND_POSITIVE, .reloads = true},
	{"max-body", "BYTES", "of one request (16MiB)", VAC_SET_BYTES, AT(max_body_bytes), "16MiB",
	 VAC_BOUND_POSITIVE},
	{"max-pending", "BYTES", "of all request bodies at once (256MiB)", VAC_SET_BYTES,
	 AT(max_pending_bytes), "256MiB", VAC_BOUND_POSITIVE},
	{"max-inputs", "N", "texts in one request (2048)", VAC_SET_BYTES, AT(max_inputs), "2048",
	 VAC_BOUND_POSITIVE},
	{"max-input", "BYTES", "of one text (8MiB)", VAC_SET_BYTES, AT(max_input_bytes), "8MiB",
	 VAC_BOUND_POSITIVE},
	{"client-timeout", "TIME", "for a request to arrive whole (30s)", VAC_SET_TIME,
	 AT(client_timeout_ms), "30s", VAC_BOUND_POSITIVE},
	{"idle-timeout", "TIME", "of a connection between requests (2m)", VAC_SET_TIME,
	 AT(idle_timeout_ms), "2m", VAC_BOUND_POSITIVE},
	{"drain-timeout", "TIME", "for running requests after SIGTERM (30s)", VAC_SET_TIME,
	 AT(drain_timeout_ms), "30s", VAC_BOUND_NOT_NEGATIVE},
	{"hello-timeout", "TIME", "for a worker to start (10s)", VAC_SET_TIME, AT(hello_timeout_ms),
	 "10s", VAC_BOUND_POSITIVE},
	{"heartbeat", "TIME", "between signs of life asked of a busy worker (5s)", VAC_SET_TIME,
	 AT(heartbeat_ms), "5s", VAC_BOUND_POSITIVE},
	{"silence-timeout", "TIME", "until a busy worker that is silent is killed (30s)",
	 VAC_SET_TIME, AT(silence_timeout_ms), "30s", VAC_BOUND_POSITIVE},
	{"guard-park", "PATTERNS", "of commands that are parked when a load needs their room",
	 VAC_SET_TEXT, AT(guard_park), .reloads = true},
	{"guard-idle", "TIME", "that they have not used the GPU (10m); 0: whatever they do",
	 VAC_SET_TIME, AT(guard_idle_ms), "10m", VAC_BOUND_NOT_NEGATIVE, .reloads = true},
	{"guard-users", "USERS", "whose processes these are (the server's own)", VAC_SET_TEXT,
	 AT(guard_users), .reloads = true},
	{"guard-risk", "YESNO", "also with a driver that parking was not tried with (no)",
	 VAC_SET_BOOL, AT(guard_risk), "no", .reloads = true},
	{"log-level", "LEVEL", "error, warn, info or debug (info)", VAC_SET_LEVEL, AT(log_level),
	 "info", .reloads = true},
	{"ready-fd", "N", "write \"ready URL\" to that descriptor when serving", VAC_SET_FD,
	 AT(ready_fd)},
};
const size_t vac_server_setting_count =
	sizeof(vac_server_setting_table) / sizeof(vac_server_setting_table[0]);

const struct vac_setting vac_model_setting_table[] = {
	{"pin", "yes|no", "once loaded, it stays", VAC_SET_BOOL, OF(pin), "no"},
	{"priority", "N", "higher ones are evicted later and loaded sooner (0)", VAC_SET_NUMBER,
	 OF(priority), "0"},
	{"keep-alive", "TIME", "it stays so long when idle; -1: for ever", VAC_SET_TIME,
	 OF(keep_alive_ms)},
	{"min-resident", "TIME", "it is not evicted sooner", VAC_SET_TIME, OF(min_resident_ms),
	 .bound = VAC_BOUND_NOT_NEGATIVE},
	{"device", "NAME", "where it is loaded: auto, cpu, cuda:N", VAC_SET_DEVICE, OF(device)},
	{"dtype", "NAME", "that it is computed in", VAC_SET_CHOICE, OF(dtype), .choice = &dtypes},
	{"isolate", "yes|no", "it has a worker of its own", VAC_SET_BOOL, OF(isolate), "no"},
	{"max-batch-tokens", "N", "of one batch", VAC_SET_COUNT, OF(max_batch_tokens),
	 .bound = VAC_BOUND_POSITIVE},
	{"prompt", "TEXT", "put before every text", VAC_SET_ANY, OF(prompt)},
};
const size_t vac_model_setting_count =
	sizeof(vac_model_setting_table) / sizeof(vac_model_setting_table[0]);

_Static_assert(sizeof(vac_server_setting_table) / sizeof(vac_server_setting_table[0]) <=
		       VAC_SERVER_SETTINGS_MOST,
	       "a configuration has room for every setting");
_Static_assert(sizeof(vac_model_setting_table) / sizeof(vac_model_setting_table[0]) <=
		       VAC_MODEL_SETTINGS_MOST,
	       "and for every setting of a model");

/* ---- names ---- */

static char folded(char c)
{
	return c == '_' ? '-' : c;
}

const struct vac_setting *vac_setting_find(const struct vac_setting *table, size_t count,
					   const char *name, size_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		size_t n = 0;

		while (n < bytes && table[i].name[n] == folded(name[n]) && name[n])
			n++;
		if (n == bytes && table[i].name[n] == '\0')
			return &table[i];
	}
	return NULL;
}

void vac_setting_variable(const struct vac_setting *setting, char name[VAC_VARIABLE_BYTES])
{
	size_t n = (size_t)snprintf(name, VAC_VARIABLE_BYTES, "VACATE_%s", setting->name);

	for (size_t i = 0; i < n && i < VAC_VARIABLE_BYTES; i++) {
		if (name[i] == '-')
			name[i] = '_';
		else if (name[i] >= 'a' && name[i] <= 'z')
			name[i] = (char)(name[i] - 'a' + 'A');
	}
}

void vac_setting_key(const struct vac_setting *setting, char key[VAC_VARIABLE_BYTES])
{
	snprintf(key, VAC_VARIABLE_BYTES, "%s", setting->name);
	for (; *key; key++) {
		if (*key == '-')
			*key = '_';
	}
}

/* ---- values ---- */

static bool parse_number(const char *text, unsigned long long most, unsigned long long *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0 && *out <= most && *end == '\0';
}

/* What is wrong with a number within its bound; NULL: nothing. */
static const char *check_bound(enum vac_setting_bound bound, int64_t value)
{
	if (bound == VAC_BOUND_POSITIVE && value <= 0)
		return "must be more than 0";
	if (bound == VAC_BOUND_NOT_NEGATIVE && value < 0)
		return "must not be negative";
	if (bound == VAC_BOUND_NOT_ZERO && value == 0)
		return "must not be 0";
	return NULL;
}

static const char *fill_count(const struct vac_setting *setting, void *to, const char *text)
{
	static const char *const takes[] = {
		[VAC_SET_COUNT] = "takes a number up to 1048576",
		[VAC_SET_PORT] = "takes a number from 0 to 65535",
		[VAC_SET_FD] = "takes the number of an open descriptor",
	};
	unsigned long long most = setting->kind == VAC_SET_PORT ? 65535 : 1u << 20, number;

	if (!parse_number(text, most, &number))
		return takes[setting->kind];
	if (setting->kind == VAC_SET_COUNT)
		*(uint32_t *)to = (uint32_t)number;
	else if (setting->kind == VAC_SET_PORT)
		*(uint16_t *)to = (uint16_t)number;
	else
		*(int *)to = (int)number;
	return check_bound(setting->bound, (int64_t)number);
}

static const char *fill_number(void *to, const char *text)
{
	bool negative = *text == '-';
	unsigned long long number;

	if (!parse_number(text + negative, 1000000, &number))
		return "takes a number from -1000000 to 1000000";
	*(int32_t *)to = negative ? -(int32_t)number : (int32_t)number;
	return NULL;
}

static const char *fill_bytes(const struct vac_setting *setting, void *to, const char *text)
{
	uint64_t bytes;

	if (vac_size_parse_bytes(text, &bytes) != 0 || bytes > SIZE_MAX)
		return "takes a number, or one with KiB, MiB or GiB";
	*(size_t *)to = (size_t)bytes;
	return check_bound(setting->bound, bytes > 0);
}

static const char *fill_size(const struct vac_setting *setting, void *to, const char *text)
{
	struct vac_size *size = to;

	if (vac_size_parse(text, size) != 0)
		return "takes a share such as 80%, or bytes such as 12GB or 512MiB";
	return check_bound(setting->bound, size->is_share ? size->share > 0 : size->bytes > 0);
}

static const char *fill_time(const struct vac_setting *setting, void *to, const char *text)
{
	if (vac_parse_duration_ms(text, to) != 0)
		return "takes a duration such as 90s, 10m or 1h30m";
	return check_bound(setting->bound, *(const int64_t *)to);
}

static const char *fill_bool(void *to, const char *text)
{
	static const char *const words[] = {"yes", "true", "on", "1", "no", "false", "off", "0"};
	const size_t count = sizeof(words) / sizeof(words[0]);

	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, words[i]) == 0) {
			*(bool *)to = i < count / 2;
			return NULL;
		}
	}
	return "takes yes or no";
}

/* Whether there is such a device is the server's to find out. */
static const char *fill_device(void *to, const char *text)
{
	unsigned long long number;

	*(const char **)to = text;
	if (strcmp(text, "auto") == 0 || strcmp(text, "cpu") == 0 ||
	    (strncmp(text, "cuda:", 5) == 0 && (text[5] != '0' || !text[6]) &&
	     parse_number(text + 5, VAC_SURVEY_MOST_DEVICES - 1, &number)))
		return NULL;
	return "takes auto, cpu, or a GPU such as cuda:0";
}

static const char *fill_choice(const struct vac_choice *choice, void *to, const char *text)
{
	for (const char *const *word = choice->words; *word; word++) {
		if (strcmp(text, *word) == 0) {
			*(const char **)to = *word;
			return NULL;
		}
	}
	return choice->takes;
}

const char *vac_setting_fill(const struct vac_setting *setting, void *base, const char *text)
{
	void *to = (char *)base + setting->at;

	switch (setting->kind) {
	case VAC_SET_TEXT:
	case VAC_SET_FILE:
		*(const char **)to = text;
		return *text ? NULL : "must not be empty";
	case VAC_SET_ANY:
		*(const char **)to = *text ? text : NULL;
		return NULL;
	case VAC_SET_COUNT:
	case VAC_SET_PORT:
	case VAC_SET_FD:
		return fill_count(setting, to, text);
	case VAC_SET_NUMBER:
		return fill_number(to, text);
	case VAC_SET_BYTES:
		return fill_bytes(setting, to, text);
	case VAC_SET_SIZE:
		return fill_size(setting, to, text);
	case VAC_SET_TIME:
		return fill_time(setting, to, text);
	case VAC_SET_BOOL:
		return fill_bool(to, text);
	case VAC_SET_CHOICE:
		return fill_choice(setting->choice, to, text);
	case VAC_SET_DEVICE:
		return fill_device(to, text);
	case VAC_SET_LEVEL:
		return vac_log_parse_level(text, to) == 0 ? NULL
							  : "takes error, warn, info or debug";
	case VAC_SET_DIRS:
	case VAC_SET_NAMES:
	case VAC_SET_CONFIG:
		break;
	}
	return NULL;
}

static size_t width_of(enum vac_setting_kind kind)
{
	switch (kind) {
	case VAC_SET_COUNT:
		return sizeof(uint32_t);
	case VAC_SET_NUMBER:
		return sizeof(int32_t);
	case VAC_SET_PORT:
		return sizeof(uint16_t);
	case VAC_SET_FD:
		return sizeof(int);
	case VAC_SET_BYTES:
		return sizeof(size_t);
	case VAC_SET_SIZE:
		return sizeof(struct vac_size);
	case VAC_SET_TIME:
		return sizeof(int64_t);
	case VAC_SET_BOOL:
		return sizeof(bool);
	case VAC_SET_LEVEL:
		return sizeof(enum vac_log_level);
	case VAC_SET_DIRS:
	case VAC_SET_NAMES:
	case VAC_SET_CONFIG:
		return 0;
	default:
		return sizeof(const char *);
	}
}

bool vac_setting_same(const struct vac_setting *setting, const void *a, const void *b)
{
	const char *left = (const char *)a + setting->at, *right = (const char *)b + setting->at;

	switch (setting->kind) {
	case VAC_SET_TEXT:
	case VAC_SET_ANY:
	case VAC_SET_FILE:
	case VAC_SET_DEVICE:
	case VAC_SET_CHOICE: {
		const char *x = *(const char *const *)(const void *)left;
		const char *y = *(const char *const *)(const void *)right;

		return x == y || (x && y && strcmp(x, y) == 0);
	}
	case VAC_SET_SIZE: {
		const struct vac_size *x = (const void *)left, *y = (const void *)right;

		return x->is_share == y->is_share &&
		       (x->is_share ? x->share == y->share : x->bytes == y->bytes);
	}
	default:
		return memcmp(left, right, width_of(setting->kind)) == 0;
	}
}

void vac_setting_copy(const struct vac_setting *setting, void *to, const void *from)
{
	memcpy((char *)to + setting->at, (const char *)from + setting->at, width_of(setting->kind));
}
