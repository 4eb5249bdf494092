/*
 * config_models.c - what a configuration says of models: [defaults] and [model
 * NAME]. One thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/modelpath.h"
#include "base/quote.h"
#include "cli/conf_file.h"
#include "cli/config_read.h"

static const char *next_key(const void *ctx, size_t i)
{
	const bool *of_one_model = ctx;

	if (i < vac_model_setting_count)
		return vac_model_setting_table[i].name;
	i -= vac_model_setting_count;
	if (!*of_one_model || i > 1)
		return NULL;
	return i == 0 ? "path" : "alias";
}

static const struct vac_setting *find_server_setting(const char *key)
{
	return vac_setting_find(vac_server_setting_table, vac_server_setting_count, key,
				strlen(key));
}

static void unknown_key(struct vac_config *config, const struct vac_conf_item *item,
			bool of_one_model)
{
	const char *nearest = vac_nearest(item->key, next_key, &of_one_model);
	const char *section = of_one_model ? "[model]" : "[defaults]";
	struct vac_quoted shown;
	char key[VAC_VARIABLE_BYTES];

	vac_quote(&shown, item->key, strlen(item->key));
	if (strcmp(item->key, "path") == 0 || strcmp(item->key, "alias") == 0) {
		vac_problem_add(&config->problems, item->line,
				"%s is of one model; it belongs under [model NAME]", shown.text);
	} else if (find_server_setting(item->key)) {
		vac_problem_add(&config->problems, item->line,
				"%s is a setting of the server; it belongs under [server]",
				shown.text);
	} else if (nearest) {
		struct vac_setting named = {.name = nearest};

		vac_setting_key(&named, key);
		vac_problem_add(&config->problems, item->line, "%s has no setting %s; is %s meant?",
				section, shown.text, key);
	} else {
		vac_problem_add(&config->problems, item->line,
				"%s has no setting %s; vacate.conf(5) lists them", section,
				shown.text);
	}
}

/* Sets it in settings, which are filled again when all is known. */
static void take_setting(struct vac_config *config, const struct vac_setting *setting,
			 const struct vac_conf_item *item, struct vac_config_value *values,
			 struct vac_model_settings *settings)
{
	struct vac_config_value *value = &values[setting - vac_model_setting_table];
	char key[VAC_VARIABLE_BYTES];
	const char *wrong;

	vac_setting_key(setting, key);
	if (value->line) {
		vac_problem_add(&config->problems, item->line,
				"%s was set in line %u already; remove one of the two", key,
				value->line);
		return;
	}
	*value = (struct vac_config_value){VAC_SOURCE_FILE, item->line, item->value};
	wrong = vac_setting_fill(setting, settings, item->value);
	if (wrong)
		vac_config_wrong(config, key, item->line, wrong, item->value);
}

/* ---- [defaults] ---- */

void vac_config_take_defaults(struct vac_config *config, const struct vac_conf_section *section)
{
	for (const struct vac_conf_item *item = section->first; item; item = item->next) {
		const struct vac_setting *setting =
			vac_setting_find(vac_model_setting_table, vac_model_setting_count,
					 item->key, strlen(item->key));
		const struct vac_setting *servers =
			setting ? find_server_setting(setting->name) : NULL;

		if (!setting)
			unknown_key(config, item, false);
		else if (servers && servers->kind == setting->kind)
			/* keep_alive is the same there and here. */
			vac_config_set(config, servers, VAC_SOURCE_FILE, item->line, item->value,
				       item->quoted);
		else
			take_setting(config, setting, item, config->defaults,
				     &config->options.model_defaults);
	}
}

/* ---- [model NAME] ---- */

static void take_path(struct vac_config *config, struct vac_config_model *model,
		      const struct vac_conf_item *item)
{
	const char *path = *item->value ? vac_config_path(config, item->value) : NULL;
	struct vac_quoted shown;
	struct vac_error err;
	struct stat st;
	char *dir;

	if (model->path_line) {
		vac_problem_add(&config->problems, item->line,
				"path was set in line %u already; remove one of the two",
				model->path_line);
		return;
	}
	model->path_line = item->line;
	model->path = path;
	if (!*item->value) {
		vac_problem_add(&config->problems, item->line,
				"path must not be empty; name the directory of the model");
		return;
	}
	if (!path)
		return;
	if (stat(path, &st) != 0)
		vac_problem_add(&config->problems, item->line, "path: %s cannot be used: %s",
				vac_quote(&shown, path, strlen(path)), strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		vac_problem_add(&config->problems, item->line, "path: %s is no directory",
				vac_quote(&shown, path, strlen(path)));
	else if (vac_model_resolve(&(struct vac_model_dirs){0}, path, true, &dir, &err) == 0)
		free(dir);
	else
		vac_problem_add(&config->problems, item->line, "path: %s", err.message);
}

static bool grow_aliases(struct vac_config *config, struct vac_config_model *model)
{
	size_t room = model->alias_room ? model->alias_room * 2 : 2;
	const char **names;
	uint32_t *lines;

	if (model->alias_count < model->alias_room)
		return true;
	names = vac_arena_alloc(&config->arena, room * sizeof(*names));
	lines = vac_arena_alloc(&config->arena, room * sizeof(*lines));
	if (!names || !lines) {
		config->problems.no_memory = true;
		return false;
	}
	if (model->alias_count > 0) {
		memcpy(names, model->aliases, model->alias_count * sizeof(*names));
		memcpy(lines, model->alias_lines, model->alias_count * sizeof(*lines));
	}
	model->aliases = names;
	model->alias_lines = lines;
	model->alias_room = room;
	return true;
}

static void take_aliases(struct vac_config *config, struct vac_config_model *model,
			 const struct vac_conf_item *item)
{
	const char *rest = item->value, *name;
	struct vac_quoted shown;

	while ((name = vac_config_next(config, &rest, !item->quoted))) {
		if (!vac_model_name_ok(name)) {
			vac_problem_add(&config->problems, item->line,
					"alias: %s is not the name of a model; names are \"name\" "
					"or \"org/name\"",
					vac_quote(&shown, name, strlen(name)));
			continue;
		}
		if (!grow_aliases(config, model))
			return;
		model->aliases[model->alias_count] = name;
		model->alias_lines[model->alias_count++] = item->line;
	}
}

static void take_model(struct vac_config *config, const struct vac_conf_section *section)
{
	struct vac_config_model *model = vac_arena_alloc(&config->arena, sizeof(*model));
	struct vac_model_settings scratch = {0};
	struct vac_quoted shown;

	if (!model) {
		config->problems.no_memory = true;
		return;
	}
	if (!*section->name)
		vac_problem_add(&config->problems, section->line,
				"[model] needs the name of the model; write [model NAME]");
	else if (!vac_model_name_ok(section->name))
		vac_problem_add(&config->problems, section->line,
				"[model %s]: that is not the name of a model; names are \"name\" "
				"or \"org/name\"",
				vac_quote(&shown, section->name, strlen(section->name)));
	*model = (struct vac_config_model){.name = section->name, .line = section->line};
	for (const struct vac_conf_item *item = section->first; item; item = item->next) {
		const struct vac_setting *setting =
			vac_setting_find(vac_model_setting_table, vac_model_setting_count,
					 item->key, strlen(item->key));

		if (strcmp(item->key, "path") == 0)
			take_path(config, model, item);
		else if (strcmp(item->key, "alias") == 0)
			take_aliases(config, model, item);
		else if (setting)
			take_setting(config, setting, item, model->values, &scratch);
		else
			unknown_key(config, item, true);
	}
	*config->models_last = model;
	config->models_last = &model->next;
	config->model_count++;
}

/* ---- names that mean two things ---- */

struct claim {
	const char *name;
	const struct vac_config_model *model;
	uint32_t line;
	bool alias;
};

static int by_name_and_line(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order)
		return order;
	/* A model's own name comes first: the alias is what is wrong. */
	if (x->alias != y->alias)
		return x->alias - y->alias;
	return (x->line > y->line) - (x->line < y->line);
}

static void collide(struct vac_config *config, const struct claim *first, const struct claim *later)
{
	struct vac_quoted shown;

	vac_quote(&shown, later->name, strlen(later->name));
	if (!later->alias)
		vac_problem_add(&config->problems, later->line,
				"[model %s] begins in line %u already; make one of the two",
				later->name, first->line);
	else if (!first->alias)
		vac_problem_add(&config->problems, later->line,
				"alias: %s is the name of the model in line %u; choose another",
				shown.text, first->line);
	else
		vac_problem_add(&config->problems, later->line,
				"alias: %s is an alias of model %s in line %u already; choose "
				"another",
				shown.text, first->model->name, first->line);
}

static void check_names(struct vac_config *config)
{
	size_t most = 0, count = 0;
	struct claim *claims;

	for (const struct vac_config_model *model = config->models; model; model = model->next)
		most += 1 + model->alias_count;
	claims = calloc(most ? most : 1, sizeof(*claims));
	if (!claims) {
		config->problems.no_memory = true;
		return;
	}
	for (const struct vac_config_model *model = config->models; model; model = model->next) {
		if (*model->name)
			claims[count++] = (struct claim){model->name, model, model->line, false};
		for (size_t i = 0; i < model->alias_count; i++)
			claims[count++] = (struct claim){model->aliases[i], model,
							 model->alias_lines[i], true};
	}
	qsort(claims, count, sizeof(*claims), by_name_and_line);
	for (size_t i = 1, first = 0; i < count; i++) {
		if (strcmp(claims[i].name, claims[first].name) == 0)
			collide(config, &claims[first], &claims[i]);
		else
			first = i;
	}
	free(claims);
}

void vac_config_take_models(struct vac_config *config, const struct vac_conf *conf)
{
	for (const struct vac_conf_section *section = conf->first->next; section;
	     section = section->next) {
		if (strcmp(section->kind, "model") == 0)
			take_model(config, section);
	}
	check_names(config);
}

/* ---- what the server is given ---- */

static void settle(const struct vac_config *config, const struct vac_config_model *model,
		   struct vac_server_model *out)
{
	*out = (struct vac_server_model){
		.name = model->name,
		.path = model->path,
		.aliases = model->aliases,
		.alias_count = model->alias_count,
		.settings = config->options.model_defaults,
	};
	for (size_t i = 0; i < vac_model_setting_count; i++) {
		/* A wrong value is a problem already, and nothing is served with it. */
		if (model->values[i].text)
			(void)vac_setting_fill(&vac_model_setting_table[i], &out->settings,
					       model->values[i].text);
	}
	out->settings.dir = model->path;
}

/* --pin and VACATE_PIN are stronger than a section, [server] is not: what a model's
 * own section says is nearer. */
static void pin(const struct vac_config *config, struct vac_server_model *models, size_t *count,
		const char *name, bool strong)
{
	const struct vac_config_model *section = config->models;
	const size_t pin_at = (size_t)(vac_setting_find(vac_model_setting_table,
							vac_model_setting_count, "pin", 3) -
				       vac_model_setting_table);

	for (size_t i = 0; i < *count; i++) {
		if (strcmp(models[i].name, name) == 0) {
			if (strong || !section || !section->values[pin_at].text)
				models[i].settings.pin = true;
			return;
		}
		section = section ? section->next : NULL;
	}
	models[*count] =
		(struct vac_server_model){.name = name, .settings = config->options.model_defaults};
	models[(*count)++].settings.pin = true;
}

int vac_config_settle_models(struct vac_config *config)
{
	struct vac_server_options *options = &config->options;
	const struct vac_config_value *pins =
		&config->values[find_server_setting("pin") - vac_server_setting_table];
	size_t most = config->model_count + config->pin_count, count = 0;
	struct vac_server_model *models =
		vac_arena_alloc(&config->arena, (most ? most : 1) * sizeof(*models));

	if (!models)
		return -ENOMEM;
	options->model_defaults.keep_alive_ms = options->keep_alive_ms;
	options->model_defaults.min_resident_ms = options->min_resident_ms;
	options->model_defaults.device = options->device;
	for (const struct vac_config_model *model = config->models; model; model = model->next)
		settle(config, model, &models[count++]);
	for (size_t i = 0; i < config->pin_count; i++)
		pin(config, models, &count, config->pins[i], pins->source != VAC_SOURCE_FILE);
	options->models = models;
	options->model_count = count;
	return 0;
}
