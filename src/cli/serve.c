/*
 * serve.c - `vacate serve`: reads what the server is told (config_read.h), runs
 * it, and reads it again on SIGHUP. One thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/serve_options.h"

/* Where the settings of a running server are. */
struct serving {
	struct vac_config_flag *flags; /* owned */
	size_t flag_count;
	struct vac_config *first;   /* of the start: what cannot change is there */
	struct vac_config *current; /* that holds now; may be the first */
	struct vac_config *next;    /* given to the server, which has not taken it yet */
};

static void log_problems(const struct vac_config *config)
{
	for (size_t i = 0; i < config->problems.count; i++) {
		const struct vac_problem *problem = &config->problems.items[i];

		if (problem->line)
			vac_log(VAC_LOG_ERROR, "%s:%u: %s", config->path, problem->line,
				problem->message);
		else
			vac_log(VAC_LOG_ERROR, "%s", problem->message);
	}
}

/* What a running server cannot follow stays as it was at the start, and is said. */
static void keep_fixed(struct serving *serving, struct vac_config *next)
{
	struct vac_server_options *now = &serving->first->options;
	char origin[VAC_ORIGIN_BYTES];

	for (size_t i = 0; i < vac_server_setting_count; i++) {
		const struct vac_setting *setting = &vac_server_setting_table[i];
		bool same;

		if (setting->reloads || setting->kind == VAC_SET_CONFIG)
			continue;
		if (setting->kind == VAC_SET_DIRS) {
			same = vac_config_same_dirs(serving->first, next);
			next->options.model_dirs = now->model_dirs;
			next->options.model_dir_count = now->model_dir_count;
		} else {
			same = vac_setting_same(setting, now, &next->options);
			vac_setting_copy(setting, &next->options, now);
		}
		if (!same)
			vac_log(VAC_LOG_WARN,
				"%s: %s needs a restart of the server; until then it stays as it "
				"was",
				vac_config_origin(next, setting, &next->values[i], origin),
				setting->name);
	}
}

static int reload(void *ctx, const struct vac_server_options **out, struct vac_error *err)
{
	struct serving *serving = ctx;
	const char *path = serving->first->path;
	struct vac_config *next;
	size_t count;
	int rc;

	rc = vac_config_read(serving->flags, serving->flag_count, &next, err);
	if (rc < 0)
		return rc;
	count = next->problems.count + next->problems.omitted;
	if (count > 0) {
		log_problems(next);
		rc = vac_fail(err, VAC_E_INVALID,
			      "%s is wrong in %zu place%s; all settings stay as they were",
			      next->path ? next->path : "the configuration", count,
			      count == 1 ? "" : "s");
	} else if (path && !next->path) {
		rc = vac_fail(err, VAC_E_NOT_FOUND,
			      "%s is not there any more; all settings stay as they were", path);
	}
	if (rc < 0) {
		vac_config_free(next);
		return rc;
	}
	keep_fixed(serving, next);
	next->options.reload = serving->first->options.reload;
	next->options.reloaded = serving->first->options.reloaded;
	next->options.reload_ctx = serving;
	serving->next = next;
	*out = &next->options;
	return 0;
}

static void reloaded(void *ctx, bool taken)
{
	struct serving *serving = ctx;
	struct vac_config *loser = taken ? serving->current : serving->next;

	if (taken)
		serving->current = serving->next;
	if (loser != serving->first)
		vac_config_free(loser);
	serving->next = NULL;
}

static int serve(const struct vac_command *command, struct serving *serving)
{
	struct vac_server_options *options = &serving->first->options;
	struct vac_error err;

	options->reload = reload;
	options->reloaded = reloaded;
	options->reload_ctx = serving;
	vac_log_init("vacate", options->log_level);
	if (serving->first->path)
		vac_log(VAC_LOG_INFO, "settings are of %s", serving->first->path);
	if (vac_server_run(options, &err) == 0)
		return VAC_EXIT_OK;
	vac_complain(command, "%s", err.message);
	return VAC_EXIT_FAILED;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct serving serving = {0};
	struct vac_error err;
	int rc;

	rc = vac_serve_flags(command, argc, argv, &serving.flags, &serving.flag_count);
	if (rc != VAC_CONTINUE)
		return rc;
	if (vac_config_read(serving.flags, serving.flag_count, &serving.first, &err) < 0) {
		vac_complain(command, "%s", err.message);
		rc = VAC_EXIT_FAILED;
	} else {
		serving.current = serving.first;
		rc = vac_serve_problems(command, serving.first);
		if (rc == VAC_EXIT_OK)
			rc = serve(command, &serving);
	}
	if (serving.current != serving.first)
		vac_config_free(serving.current);
	vac_config_free(serving.first);
	free(serving.flags);
	return rc;
}

const struct vac_command vac_command_serve = {
	.name = "serve",
	.arguments = "[options]",
	.summary = "Serves models over HTTP: loads them on demand, unloads them when idle",
	.details =
		"Every option may also be given in the environment, --keep-alive as\n"
		"VACATE_KEEP_ALIVE, and in the file, as keep_alive under [server]: "
		"vacate.conf(5).\n"
		"A flag is stronger than the environment, and that than the file. SIGTERM ends\n"
		"what runs, unloads what is loaded, and exits; a second one exits at once. SIGHUP\n"
		"opens the journal anew and reads the file and the API keys again.",
	.run = run,
};
