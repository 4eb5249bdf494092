/*
 * serve.c - `vacate serve`: the options of the server, from the environment
 * and the command line, and the server itself. One thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/cli.h"
#include "server/server.h"

#define MAX_MODEL_DIRS 64
#define MAX_PINS       256

enum kind { TEXT, COUNT, PORT, BYTES, SIZE, TIME, DIRS, PIN, BACKEND, SANDBOX, LEVEL, DESCRIPTOR };

/* What is being filled. */
struct serve {
	struct vac_server_options options;
	const char *dirs[MAX_MODEL_DIRS];
	char *owned[MAX_MODEL_DIRS]; /* copies that were split at ':' */
	size_t owned_count;
	const char *pins[MAX_PINS];
	enum vac_log_level level;
};

#define AT(member) offsetof(struct serve, options.member)

/* Each is --name VALUE, --name=VALUE and VACATE_NAME in the environment. */
static const struct setting {
	const char *name, *value_name, *help;
	enum kind kind;
	size_t at; /* offset into struct serve; COUNT: a uint32_t, BYTES: a size_t, TIME: ms */
} settings[] = {
	{"host", "ADDRESS", "to listen on (127.0.0.1)", TEXT, AT(host)},
	{"port", "N", "to listen on (8321); 0: any free one", PORT, AT(port)},
	{"models", "DIRS", "where models lie besides the HuggingFace cache (a:b); may be repeated",
	 DIRS, 0},
	{"keep-alive", "TIME", "an idle model stays so long (5m); -1: for ever", TIME,
	 AT(keep_alive_ms)},
	{"ram", "SIZE", "that models may take: 80%, 12GB (80%)", SIZE, AT(ram)},
	{"headroom", "SIZE", "of free memory that no load takes: 512MiB, 5% (5%)", SIZE,
	 AT(headroom)},
	{"pin", "MODEL", "once loaded, it stays; may be repeated", PIN, 0},
	{"min-resident", "TIME", "no model is evicted sooner (0)", TIME, AT(min_resident_ms)},
	{"turn", "TIME", "a busy model answers so long before it makes way (1s)", TIME,
	 AT(turn_ms)},
	{"timeout", "TIME", "for a request to be answered (5m); -1: none", TIME,
	 AT(request_timeout_ms)},
	{"threads", "N", "of a worker's compute team (as many as CPUs)", COUNT, AT(threads)},
	{"backend", "NAME", "cpu, or reference (plain C, slow)", BACKEND, AT(backend)},
	{"sandbox", "MODE", "of workers: auto, require or off (auto)", SANDBOX, AT(sandbox)},
	{"journal", "FILE", "append each receipt there, one JSON object a line", TEXT, AT(journal)},
	{"max-connections", "N", "open at once (2048)", COUNT, AT(max_connections)},
	{"max-queue", "N", "requests that wait for one model (1024)", COUNT, AT(max_queue)},
	{"max-body", "BYTES", "of one request (16MiB)", BYTES, AT(max_body_bytes)},
	{"max-pending", "BYTES", "of all request bodies at once (256MiB)", BYTES,
	 AT(max_pending_bytes)},
	{"max-inputs", "N", "texts in one request (2048)", BYTES, AT(max_inputs)},
	{"max-input", "BYTES", "of one text (8MiB)", BYTES, AT(max_input_bytes)},
	{"client-timeout", "TIME", "for a request to arrive whole (30s)", TIME,
	 AT(client_timeout_ms)},
	{"idle-timeout", "TIME", "of a connection between requests (2m)", TIME,
	 AT(idle_timeout_ms)},
	{"drain-timeout", "TIME", "for running requests after SIGTERM (30s)", TIME,
	 AT(drain_timeout_ms)},
	{"hello-timeout", "TIME", "for a worker to start (10s)", TIME, AT(hello_timeout_ms)},
	{"heartbeat", "TIME", "between signs of life asked of a busy worker (5s)", TIME,
	 AT(heartbeat_ms)},
	{"silence-timeout", "TIME", "until a busy worker that is silent is killed (30s)", TIME,
	 AT(silence_timeout_ms)},
	{"log-level", "LEVEL", "error, warn, info or debug (info)", LEVEL, 0},
	{"ready-fd", "N", "write \"ready URL\" to that descriptor when serving", DESCRIPTOR,
	 AT(ready_fd)},
};
#define SETTING_COUNT (sizeof(settings) / sizeof(settings[0]))

/* ---- values ---- */

static bool parse_number(const char *text, unsigned long long most, unsigned long long *out,
			 const char **end)
{
	char *stop;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoull(text, &stop, 10);
	*end = stop;
	return errno == 0 && *out <= most;
}

static bool parse_bytes(const char *text, size_t *out)
{
	uint64_t bytes;

	if (vac_size_parse_bytes(text, &bytes) != 0 || bytes > SIZE_MAX)
		return false;
	*out = (size_t)bytes;
	return true;
}

static const char *add_dirs(struct serve *serve, const char *text)
{
	char *copy = strdup(text), *rest = copy, *dir;
	size_t *count = &serve->options.model_dir_count;

	if (!copy || serve->owned_count == MAX_MODEL_DIRS) {
		free(copy);
		return "no memory for the list";
	}
	serve->owned[serve->owned_count++] = copy;
	while ((dir = strsep(&rest, ":"))) {
		if (!*dir)
			continue;
		if (*count == MAX_MODEL_DIRS)
			return "at most 64 directories are taken";
		serve->dirs[(*count)++] = dir;
	}
	return NULL;
}

static const char *add_pin(struct serve *serve, const char *text)
{
	if (!*text)
		return "takes the name of a model";
	if (serve->options.pin_count == MAX_PINS)
		return "may be repeated up to 256 times";
	serve->pins[serve->options.pin_count++] = text;
	return NULL;
}

/* NULL, or what a right value looks like. */
static const char *set(struct serve *serve, const struct setting *setting, const char *text)
{
	char *base = (char *)serve + setting->at;
	unsigned long long number;
	const char *end = "";

	switch (setting->kind) {
	case TEXT:
		*(const char **)(void *)base = text;
		return *text ? NULL : "must not be empty";
	case COUNT:
		if (!parse_number(text, 1u << 20, &number, &end) || *end)
			return "takes a number up to 1048576";
		*(uint32_t *)(void *)base = (uint32_t)number;
		return NULL;
	case PORT:
		if (!parse_number(text, 65535, &number, &end) || *end)
			return "takes a number from 0 to 65535";
		*(uint16_t *)(void *)base = (uint16_t)number;
		return NULL;
	case DESCRIPTOR:
		if (!parse_number(text, 1u << 20, &number, &end) || *end)
			return "takes the number of an open descriptor";
		*(int *)(void *)base = (int)number;
		return NULL;
	case BYTES:
		return parse_bytes(text, (size_t *)(void *)base)
			       ? NULL
			       : "takes a number, or one with KiB, MiB or GiB";
	case SIZE:
		return vac_size_parse(text, (struct vac_size *)(void *)base) == 0
			       ? NULL
			       : "takes a share such as 80%, or bytes such as 12GB or 512MiB";
	case PIN:
		return add_pin(serve, text);
	case TIME:
		return vac_parse_duration_ms(text, (int64_t *)(void *)base) == 0
			       ? NULL
			       : "takes a duration such as 90s, 10m or 1h30m";
	case DIRS:
		return add_dirs(serve, text);
	case BACKEND:
		*(const char **)(void *)base = text;
		return strcmp(text, "cpu") == 0 || strcmp(text, "reference") == 0
			       ? NULL
			       : "takes cpu or reference";
	case SANDBOX:
		return vac_sandbox_parse(text, (enum vac_sandbox_mode *)(void *)base) == 0
			       ? NULL
			       : "takes auto, require or off";
	case LEVEL:
		return vac_log_parse_level(text, &serve->level) == 0
			       ? NULL
			       : "takes error, warn, info or debug";
	}
	return NULL;
}

/* ---- where values come from ---- */

static void variable_name(const struct setting *setting, char *name, size_t room)
{
	size_t n = (size_t)snprintf(name, room, "VACATE_%s", setting->name);

	for (size_t i = 0; i < n && i < room; i++) {
		if (name[i] == '-')
			name[i] = '_';
		else if (name[i] >= 'a' && name[i] <= 'z')
			name[i] = (char)(name[i] - 'a' + 'A');
	}
}

static int read_environment(const struct vac_command *command, struct serve *serve)
{
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		char name[64];
		const char *text, *wrong;

		variable_name(&settings[i], name, sizeof(name));
		text = getenv(name);
		if (!text || !*text)
			continue;
		wrong = set(serve, &settings[i], text);
		if (wrong)
			return vac_usage_error(command, "%s %s, not '%s'", name, wrong, text);
	}
	return VAC_CONTINUE;
}

static void print_help(const struct vac_command *command)
{
	printf("Usage: vacate %s %s\n\n%s.\n\n%s\n\nOptions:\n", command->name, command->arguments,
	       command->summary, command->details);
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s %s", settings[i].name, settings[i].value_name);
		printf("  %-24s  %s\n", left, settings[i].help);
	}
	printf("  %-24s  this text\n", "--help");
}

static const struct setting *find_setting(const char *name, size_t length)
{
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		if (strlen(settings[i].name) == length &&
		    strncmp(settings[i].name, name, length) == 0)
			return &settings[i];
	}
	return NULL;
}

static int read_options(const struct vac_command *command, struct serve *serve, int argc,
			char **argv)
{
	bool own_dirs = false;

	for (int at = 1; at < argc; at++) {
		const char *word = argv[at], *equals, *text, *wrong;
		const struct setting *setting;

		if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
			print_help(command);
			return VAC_EXIT_OK;
		}
		if (strncmp(word, "--", 2) != 0)
			return vac_usage_error(command, "unexpected argument %s", word);
		equals = strchr(word, '=');
		setting = find_setting(word + 2,
				       equals ? (size_t)(equals - word - 2) : strlen(word + 2));
		if (!setting)
			return vac_usage_error(command, "unknown option %s", word);
		text = equals ? equals + 1 : at + 1 < argc ? argv[++at] : NULL;
		if (!text)
			return vac_usage_error(command, "option --%s needs a value (%s)",
					       setting->name, setting->value_name);
		/* The first --models replaces what the environment said. */
		if (setting->kind == DIRS && !own_dirs) {
			own_dirs = true;
			serve->options.model_dir_count = 0;
		}
		wrong = set(serve, setting, text);
		if (wrong)
			return vac_usage_error(command, "--%s %s, not '%s'", setting->name, wrong,
					       text);
	}
	return VAC_CONTINUE;
}

static int check(const struct vac_command *command, const struct vac_server_options *o)
{
	if (o->max_connections == 0 || o->max_queue == 0 || o->max_inputs == 0 ||
	    o->max_input_bytes == 0)
		return vac_usage_error(command, "a limit of 0 would let nothing pass");
	/* Token ids grow twofold on their way into a frame of at most 64 MiB. */
	if (o->max_body_bytes == 0 || o->max_body_bytes > (size_t)32 << 20)
		return vac_usage_error(command, "--max-body takes 1 to 32MiB, not %zu",
				       o->max_body_bytes);
	if (o->max_pending_bytes < o->max_body_bytes)
		return vac_usage_error(command, "--max-pending is less than --max-body");
	if (o->client_timeout_ms <= 0 || o->idle_timeout_ms <= 0 || o->drain_timeout_ms < 0 ||
	    o->hello_timeout_ms <= 0 || o->heartbeat_ms <= 0 || o->silence_timeout_ms <= 0)
		return vac_usage_error(command, "a timeout must be longer than nothing");
	if (o->request_timeout_ms == 0)
		return vac_usage_error(command, "--timeout 0 would let no request be answered");
	if (o->min_resident_ms < 0 || o->turn_ms < 0)
		return vac_usage_error(command,
				       "--min-resident and --turn take no negative time; a model "
				       "that must stay is named with --pin");
	return VAC_CONTINUE;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct serve serve = {.level = VAC_LOG_INFO};
	struct vac_error err;
	int rc;

	vac_server_defaults(&serve.options);
	serve.options.model_dirs = serve.dirs;
	serve.options.pins = serve.pins;
	rc = read_environment(command, &serve);
	if (rc == VAC_CONTINUE)
		rc = read_options(command, &serve, argc, argv);
	if (rc == VAC_CONTINUE)
		rc = check(command, &serve.options);
	if (rc == VAC_CONTINUE) {
		vac_log_init("vacate", serve.level);
		rc = VAC_EXIT_OK;
		if (vac_server_run(&serve.options, &err) < 0) {
			vac_complain(command, "%s", err.message);
			rc = VAC_EXIT_FAILED;
		}
	}
	while (serve.owned_count > 0)
		free(serve.owned[--serve.owned_count]);
	return rc;
}

const struct vac_command vac_command_serve = {
	.name = "serve",
	.arguments = "[options]",
	.summary = "Serves models over HTTP: loads them on demand, unloads them when idle",
	.details = "Every option may also be given in the environment: --keep-alive as\n"
		   "VACATE_KEEP_ALIVE, and so on. SIGTERM ends what runs, unloads what is loaded,\n"
		   "and exits; a second one exits at once. SIGHUP opens the journal anew.",
	.run = run,
};
