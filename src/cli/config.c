/*
 * config.c - `vacate config`: whether a configuration is right, and what holds
 * and where it came from. One thread.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/serve_options.h"

/* ---- check ---- */

static json_t *problem_json(const struct vac_problem *problem)
{
	json_t *line = problem->line ? json_integer(problem->line) : json_null();

	return json_pack("{s:o, s:s}", "line", line, "message", problem->message);
}

static int print_json(const struct vac_command *command, json_t *json)
{
	int rc = json ? json_dumpf(json, stdout, JSON_INDENT(2)) : -1;

	json_decref(json);
	if (rc != 0) {
		vac_complain(command, "out of memory for the reply");
		return VAC_EXIT_FAILED;
	}
	putchar('\n');
	return VAC_EXIT_OK;
}

static int check_json(const struct vac_command *command, const struct vac_config *config)
{
	const struct vac_problems *problems = &config->problems;
	json_t *errors = json_array();
	int rc;

	for (size_t i = 0; i < problems->count; i++)
		json_array_append_new(errors, problem_json(&problems->items[i]));
	rc = print_json(command, json_pack("{s:s, s:b, s:i, s:o}", "file", config->path, "valid",
					   problems->count == 0, "models", (int)config->model_count,
					   "errors", errors));
	return rc != VAC_EXIT_OK || problems->count > 0 ? VAC_EXIT_FAILED : VAC_EXIT_OK;
}

/* As compilers do, so that editors find the line. */
static int check_text(const struct vac_config *config)
{
	const struct vac_problems *problems = &config->problems;

	for (size_t i = 0; i < problems->count; i++) {
		const struct vac_problem *problem = &problems->items[i];

		if (problem->line)
			fprintf(stderr, "%s:%u: %s\n", config->path, problem->line,
				problem->message);
		else
			fprintf(stderr, "%s\n", problem->message);
	}
	if (problems->omitted > 0)
		fprintf(stderr, "and %zu more\n", problems->omitted);
	if (problems->count > 0)
		return VAC_EXIT_FAILED;
	printf("%s: no errors; %zu model%s\n", config->path, config->model_count,
	       config->model_count == 1 ? "" : "s");
	return VAC_EXIT_OK;
}

static int check(const struct vac_command *command, int argc, char **argv)
{
	bool json = false;
	const char *file = NULL;
	const struct vac_option options[] = {
		{"json", NULL, "print a JSON object", &json, NULL},
	};
	struct vac_arguments arguments = {.values = &file, .most = 1};
	struct vac_config *config;
	struct vac_error err;
	int rc;

	rc = vac_options_parse(command, options, 1, &arguments, argc, argv);
	if (rc != VAC_CONTINUE)
		return rc;
	if (vac_config_read_file(file, &config, &err) < 0) {
		vac_complain(command, "%s", err.message);
		return VAC_EXIT_FAILED;
	}
	if (!config->path) {
		vac_complain(command, "there is no file to check: neither the user's own nor "
				      "" VAC_CONFIG_SYSTEM_FILE " is there; name one");
		rc = VAC_EXIT_FAILED;
	} else {
		rc = json ? check_json(command, config) : check_text(config);
	}
	vac_config_free(config);
	return rc;
}

/* ---- show ---- */

/* Where a value is printed, one after the other. */
struct show {
	const struct vac_config *config;
	json_t *object; /* NULL: text */
};

static bool needs_quotes(const char *text)
{
	size_t bytes = strlen(text);

	if (bytes == 0 || strpbrk(text, "\";\\,\n\t"))
		return true;
	return text[0] == ' ' || text[bytes - 1] == ' ';
}

/* As the file would have it; returns the columns that it took. */
static int put_value(const char *text)
{
	int columns = 2;

	if (!needs_quotes(text))
		return printf("%s", text);
	putchar('"');
	for (; *text; text++, columns++) {
		const char *name = strchr("\"\\;", *text);

		if (*text == '\n' || *text == '\t')
			columns += printf("\\%c", *text == '\n' ? 'n' : 't') - 1;
		else if (name)
			columns += printf("\\%c", *text) - 1;
		else
			putchar(*text);
	}
	putchar('"');
	return columns;
}

static const char *const source_names[] = {
	[VAC_SOURCE_DEFAULT] = "default",
	[VAC_SOURCE_FILE] = "file",
	[VAC_SOURCE_ENVIRONMENT] = "environment",
	[VAC_SOURCE_FLAG] = "flag",
};

static void put(const struct show *show, const char *key, const char *text,
		enum vac_config_source source, const char *origin)
{
	int columns;

	if (show->object) {
		json_t *entry = json_pack("{s:s, s:s, s:s}", "value", text, "source",
					  source_names[source], "origin", origin);
		json_t *list = json_object_get(show->object, key);

		/* A list, when it is said more than once. */
		if (!list)
			json_object_set_new(show->object, key, entry);
		else if (json_is_array(list))
			json_array_append_new(list, entry);
		else
			json_object_set_new(show->object, key, json_pack("[O, o]", list, entry));
		return;
	}
	columns = printf("%s = ", key);
	columns += put_value(text);
	printf("%*s ; %s\n", columns < 40 ? 40 - columns : 0, "", origin);
}

static void put_unset(const struct show *show, const char *key)
{
	if (show->object)
		json_object_set_new(show->object, key, json_null());
	else
		printf("# %s is not set\n", key);
}

static void show_list(const struct show *show, const struct vac_setting *setting, const char *key,
		      const struct vac_config_value *value)
{
	const struct vac_server_options *options = &show->config->options;
	bool dirs = setting->kind == VAC_SET_DIRS;
	const char *const *items = dirs ? options->model_dirs : show->config->pins;
	size_t count = dirs ? options->model_dir_count : show->config->pin_count;
	char origin[VAC_ORIGIN_BYTES];

	if (count == 0)
		put_unset(show, key);
	vac_config_origin(show->config, setting, value, origin);
	for (size_t i = 0; i < count; i++)
		put(show, key, items[i], value->source, origin);
}

static void show_server(const struct show *show)
{
	for (size_t i = 0; i < vac_server_setting_count; i++) {
		const struct vac_setting *setting = &vac_server_setting_table[i];
		const struct vac_config_value *value = &show->config->values[i];
		const char *text = value->text ? value->text : setting->standard;
		char key[VAC_VARIABLE_BYTES], origin[VAC_ORIGIN_BYTES];

		vac_setting_key(setting, key);
		if (setting->kind == VAC_SET_CONFIG || setting->kind == VAC_SET_FD)
			continue; /* not of the file; the first is told above */
		if (setting->kind == VAC_SET_DIRS || setting->kind == VAC_SET_NAMES)
			show_list(show, setting, key, value);
		else if (!text)
			put_unset(show, key);
		else
			put(show, key, text, value->source,
			    vac_config_origin(show->config, setting, value, origin));
	}
}

static void show_values(const struct show *show, const struct vac_config_value *values)
{
	char key[VAC_VARIABLE_BYTES], origin[VAC_ORIGIN_BYTES];

	for (size_t i = 0; i < vac_model_setting_count; i++) {
		if (!values[i].text)
			continue;
		vac_setting_key(&vac_model_setting_table[i], key);
		put(show, key, values[i].text, values[i].source,
		    vac_config_origin(show->config, &vac_model_setting_table[i], &values[i],
				      origin));
	}
}

static void show_model(const struct show *show, const struct vac_config_model *model)
{
	char origin[VAC_ORIGIN_BYTES];

	if (model->path) {
		snprintf(origin, sizeof(origin), "%s:%u", show->config->path, model->path_line);
		put(show, "path", model->path, VAC_SOURCE_FILE, origin);
	}
	for (size_t i = 0; i < model->alias_count; i++) {
		snprintf(origin, sizeof(origin), "%s:%u", show->config->path,
			 model->alias_lines[i]);
		put(show, "alias", model->aliases[i], VAC_SOURCE_FILE, origin);
	}
	show_values(show, model->values);
}

static int show_text(const struct vac_config *config)
{
	const struct show show = {.config = config};

	if (config->path)
		printf("# of %s, the environment and the command line\n[server]\n", config->path);
	else
		printf("# there is no file; of the environment and the command line\n[server]\n");
	show_server(&show);
	printf("\n[defaults]\n");
	show_values(&show, config->defaults);
	for (const struct vac_config_model *model = config->models; model; model = model->next) {
		printf("\n[model %s]\n", model->name);
		show_model(&show, model);
	}
	return VAC_EXIT_OK;
}

static int show_json(const struct vac_command *command, const struct vac_config *config)
{
	json_t *server = json_object(), *defaults = json_object(), *models = json_object();
	struct show show = {.config = config, .object = server};

	show_server(&show);
	show.object = defaults;
	show_values(&show, config->defaults);
	for (const struct vac_config_model *model = config->models; model; model = model->next) {
		show.object = json_object();
		show_model(&show, model);
		json_object_set_new(models, model->name, show.object);
	}
	return print_json(command,
			  json_pack("{s:s?, s:o, s:o, s:o}", "file", config->path, "server", server,
				    "defaults", defaults, "models", models));
}

/* --json is ours, all else is of `vacate serve`. */
static bool take_json(int *argc, char **argv)
{
	int kept = 0;

	for (int i = 0; i < *argc; i++) {
		if (i == 0 || strcmp(argv[i], "--json") != 0)
			argv[kept++] = argv[i];
	}
	if (kept == *argc)
		return false;
	*argc = kept;
	return true;
}

static int show(const struct vac_command *command, int argc, char **argv)
{
	bool json = take_json(&argc, argv);
	struct vac_config_flag *flags;
	struct vac_config *config = NULL;
	struct vac_error err;
	size_t count;
	int rc;

	rc = vac_serve_flags(command, argc, argv, &flags, &count);
	if (rc != VAC_CONTINUE)
		return rc;
	if (vac_config_read(flags, count, &config, &err) < 0) {
		vac_complain(command, "%s", err.message);
		rc = VAC_EXIT_FAILED;
	} else {
		rc = vac_serve_problems(command, config);
		if (rc == VAC_EXIT_OK)
			rc = json ? show_json(command, config) : show_text(config);
	}
	vac_config_free(config);
	free(flags);
	return rc;
}

/* ---- the command ---- */

static void print_help(const struct vac_command *command)
{
	printf("Usage: vacate %s %s\n\n%s.\n\n%s\n\nOptions:\n"
	       "  --json                  print a JSON object\n"
	       "  --help                  this text\n",
	       command->name, command->arguments, command->summary, command->details);
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			print_help(command);
			return VAC_EXIT_OK;
		}
	}
	if (argc > 1 && strcmp(argv[1], "check") == 0)
		return check(command, argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "show") == 0)
		return show(command, argc - 1, argv + 1);
	if (argc > 1)
		return vac_usage_error(command, "%s is neither check nor show", argv[1]);
	return vac_usage_error(command, "what? check or show");
}

const struct vac_command vac_command_config = {
	.name = "config",
	.arguments = "check [FILE] | show [options of vacate serve]",
	.summary = "Checks a configuration file, or shows the settings that hold",
	.details =
		"check reads FILE (without one: the file that the server would read) and tells\n"
		"everything that is wrong with it, each with its line; exit status 1 when\n"
		"something is. No server is needed. show prints what `vacate serve` with the same\n"
		"options would be told by file, environment and command line, as a file, with\n"
		"where each value came from.",
	.run = run,
};
