/*
 * config_read.c - defaults, file, environment and flags, in this order, each
 * over the one before. One thread.
 */
#include "cli/config_read.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/modelpath.h"
#include "base/quote.h"
#include "cli/conf_file.h"
#include "base/journal.h"

#define NO_FILE "none"
/* Token ids grow twofold on their way into a frame of at most 64 MiB. */
#define MOST_BODY_BYTES ((size_t)32 << 20)

/* ---- names of things, for messages ---- */

static void label_of(const struct vac_setting *setting, enum vac_config_source source,
		     char to[VAC_VARIABLE_BYTES])
{
	if (source == VAC_SOURCE_FILE)
		vac_setting_key(setting, to);
	else if (source == VAC_SOURCE_ENVIRONMENT)
		vac_setting_variable(setting, to);
	else
		snprintf(to, VAC_VARIABLE_BYTES, "--%s", setting->name);
}

const char *vac_config_origin(const struct vac_config *config, const struct vac_setting *setting,
			      const struct vac_config_value *value, char to[VAC_ORIGIN_BYTES])
{
	if (value->source == VAC_SOURCE_DEFAULT)
		snprintf(to, VAC_ORIGIN_BYTES, "default");
	else if (value->source == VAC_SOURCE_FILE)
		snprintf(to, VAC_ORIGIN_BYTES, "%s:%u", config->path, value->line);
	else
		label_of(setting, value->source, to);
	return to;
}

void vac_config_wrong(struct vac_config *config, const char *label, uint32_t line,
		      const char *wrong, const char *text)
{
	struct vac_quoted shown;
	/* In a file "port = 80 # web" has no comment. */
	bool comment = line > 0 && (strstr(text, " #") || strstr(text, "\t#"));

	vac_problem_add(&config->problems, line, "%s %s, not %s%s", label, wrong,
			vac_quote(&shown, text, strlen(text)),
			comment ? " (behind a value, a comment begins with ';')" : "");
}

/* ---- lists ---- */

static const char *add_dirs(struct vac_config *config, uint32_t line, const char *text)
{
	size_t *count = &config->options.model_dir_count;

	while (*text) {
		size_t bytes = strcspn(text, ":");
		const char *dir = vac_arena_strndup(&config->arena, text, bytes);

		if (dir && line > 0)
			dir = *dir ? vac_config_path(config, dir) : dir;
		if (!dir) {
			config->problems.no_memory = true;
			return NULL;
		}
		text += bytes + (text[bytes] == ':');
		if (!*dir)
			continue;
		if (*count == VAC_CONFIG_DIRS_MOST)
			return "takes at most 64 directories";
		config->dir_lines[*count] = line;
		config->dirs[(*count)++] = dir;
	}
	return NULL;
}

static const char *add_pin(struct vac_config *config, const char *text)
{
	if (!vac_model_name_ok(text))
		return "takes the name of a model";
	if (config->pin_count == VAC_CONFIG_PINS_MOST)
		return "takes at most 256 names";
	config->pins[config->pin_count++] = text;
	return NULL;
}

/* One name; in a file also several, with commas between. */
static const char *add_pins(struct vac_config *config, const char *text, bool split)
{
	const char *wrong = NULL, *name;

	while (!wrong && (name = vac_config_next(config, &text, split)))
		wrong = add_pin(config, name);
	return wrong;
}

const char *vac_config_next(struct vac_config *config, const char **text, bool split)
{
	size_t bytes, blanks;
	const char *from = *text;
	char *name;

	if (!from)
		return NULL;
	bytes = split ? strcspn(from, ",") : strlen(from);
	*text = from[bytes] ? from + bytes + 1 : NULL;
	blanks = split ? strspn(from, " \t") : 0;
	blanks = blanks < bytes ? blanks : bytes;
	from += blanks;
	bytes -= blanks;
	while (split && bytes > 0 && (from[bytes - 1] == ' ' || from[bytes - 1] == '\t'))
		bytes--;
	name = vac_arena_strndup(&config->arena, from, bytes);
	if (!name)
		config->problems.no_memory = true;
	return name;
}

/* ---- one setting ---- */

static bool is_list(const struct vac_setting *setting)
{
	return setting->kind == VAC_SET_DIRS || setting->kind == VAC_SET_NAMES;
}

static const char *add_to_list(struct vac_config *config, const struct vac_setting *setting,
			       const struct vac_config_value *value, bool quoted)
{
	bool in_file = value->source == VAC_SOURCE_FILE;

	if (!*value->text)
		return "must not be empty";
	if (setting->kind == VAC_SET_DIRS)
		return add_dirs(config, value->line, value->text);
	return add_pins(config, value->text, in_file && !quoted);
}

void vac_config_set(struct vac_config *config, const struct vac_setting *setting,
		    enum vac_config_source source, uint32_t line, const char *text, bool quoted)
{
	struct vac_config_value *value = &config->values[setting - vac_server_setting_table];
	char label[VAC_VARIABLE_BYTES];
	const char *wrong;

	label_of(setting, source, label);
	if (!is_list(setting) && source == VAC_SOURCE_FILE && value->source == source) {
		vac_problem_add(&config->problems, line,
				"%s was set in line %u already; remove one of the two", label,
				value->line);
		return;
	}
	/* A stronger source's list replaces the weaker one's. */
	if (setting->kind == VAC_SET_DIRS && value->source != source)
		config->options.model_dir_count = 0;
	if (setting->kind == VAC_SET_NAMES && value->source != source)
		config->pin_count = 0;
	*value = (struct vac_config_value){.source = source, .line = line, .text = text};
	if (setting->kind == VAC_SET_FILE && source == VAC_SOURCE_FILE && *text) {
		value->text = text = vac_config_path(config, text);
		if (!text)
			return;
	}
	wrong = is_list(setting) ? add_to_list(config, setting, value, quoted)
				 : vac_setting_fill(setting, &config->options, text);
	if (wrong)
		vac_config_wrong(config, label, line, wrong, text);
}

/* ---- the file ---- */

const char *vac_config_path(struct vac_config *config, const char *path)
{
	size_t base_bytes = strlen(config->base), bytes = strlen(path);
	char *joined;

	if (*path == '/')
		return path;
	joined = vac_arena_alloc(&config->arena, base_bytes + bytes + 2);
	if (!joined) {
		config->problems.no_memory = true;
		return NULL;
	}
	memcpy(joined, config->base, base_bytes);
	joined[base_bytes] = '/';
	memcpy(joined + base_bytes + 1, path, bytes + 1);
	return joined;
}

static const char *next_key(const void *ctx, size_t i)
{
	(void)ctx;
	/* The first is the file itself, which cannot be set in it. */
	return i + 1 < vac_server_setting_count ? vac_server_setting_table[i + 1].name : NULL;
}

static void unknown_server_key(struct vac_config *config, const struct vac_conf_item *item)
{
	const char *nearest = vac_nearest(item->key, next_key, NULL);
	struct vac_quoted shown;
	char key[VAC_VARIABLE_BYTES];

	vac_quote(&shown, item->key, strlen(item->key));
	if (vac_setting_find(vac_model_setting_table, vac_model_setting_count, item->key,
			     strlen(item->key)) ||
	    strcmp(item->key, "path") == 0 || strcmp(item->key, "alias") == 0) {
		vac_problem_add(&config->problems, item->line,
				"%s is a setting of models; it belongs under [model NAME]%s",
				shown.text,
				strcmp(item->key, "path") == 0 || strcmp(item->key, "alias") == 0
					? ""
					: " or [defaults]");
	} else if (nearest) {
		vac_setting_key(vac_setting_find(vac_server_setting_table, vac_server_setting_count,
						 nearest, strlen(nearest)),
				key);
		vac_problem_add(&config->problems, item->line,
				"[server] has no setting %s; is %s meant?", shown.text, key);
	} else {
		vac_problem_add(&config->problems, item->line,
				"[server] has no setting %s; `vacate config show` lists them",
				shown.text);
	}
}

static void take_server(struct vac_config *config, const struct vac_conf_section *section)
{
	for (const struct vac_conf_item *item = section->first; item; item = item->next) {
		const struct vac_setting *setting =
			vac_setting_find(vac_server_setting_table, vac_server_setting_count,
					 item->key, strlen(item->key));

		if (!setting || setting->kind == VAC_SET_CONFIG)
			unknown_server_key(config, item);
		else if (setting->kind == VAC_SET_FD)
			vac_problem_add(
				&config->problems, item->line,
				"%s is not set in a file, since a descriptor belongs to who "
				"starts the server; give --%s",
				item->key, setting->name);
		else
			vac_config_set(config, setting, VAC_SOURCE_FILE, item->line, item->value,
				       item->quoted);
	}
}

/* [guard]: what the server's settings call guard-... */
static void take_guard(struct vac_config *config, const struct vac_conf_section *section)
{
	for (const struct vac_conf_item *item = section->first; item; item = item->next) {
		const struct vac_setting *setting = NULL;
		struct vac_quoted shown;
		char name[VAC_VARIABLE_BYTES];
		int n = snprintf(name, sizeof(name), "guard-%s", item->key);

		if (n > 0 && (size_t)n < sizeof(name))
			setting = vac_setting_find(vac_server_setting_table,
						   vac_server_setting_count, name, (size_t)n);
		if (setting)
			vac_config_set(config, setting, VAC_SOURCE_FILE, item->line, item->value,
				       item->quoted);
		else
			vac_problem_add(&config->problems, item->line,
					"[guard] has no setting %s; it has park, idle, users and "
					"risk",
					vac_quote(&shown, item->key, strlen(item->key)));
	}
}

static const char *next_kind(const void *ctx, size_t i)
{
	static const char *const kinds[] = {"server", "defaults", "guard", "model", NULL};

	(void)ctx;
	return kinds[i];
}

static void check_section(struct vac_config *config, const struct vac_conf_section *section,
			  bool known)
{
	const char *nearest = known ? NULL : vac_nearest(section->kind, next_kind, NULL);
	struct vac_quoted shown;

	vac_quote(&shown, section->kind, strlen(section->kind));
	if (!known && nearest)
		vac_problem_add(&config->problems, section->line,
				"there is no section %s; is [%s%s] meant?", shown.text, nearest,
				strcmp(nearest, "model") == 0 ? " NAME" : "");
	else if (!known)
		vac_problem_add(&config->problems, section->line,
				"there is no section %s; there are [server], [defaults], [guard] "
				"and [model NAME]",
				shown.text);
	else if (*section->name)
		vac_problem_add(&config->problems, section->line,
				"[%s] takes no name; only [model NAME] does", section->kind);
}

/* In the order of the file, so that of two settings the later one is too many. */
static void take_sections(struct vac_config *config, const struct vac_conf *conf)
{
	uint32_t server_line = 0, defaults_line = 0, guard_line = 0;

	for (const struct vac_conf_item *item = conf->first->first; item; item = item->next)
		vac_problem_add(&config->problems, item->line,
				"%s stands in no section; put [server], [defaults] or [model NAME] "
				"before it",
				item->key);
	for (const struct vac_conf_section *section = conf->first->next; section;
	     section = section->next) {
		bool server = strcmp(section->kind, "server") == 0;
		bool defaults = strcmp(section->kind, "defaults") == 0;
		bool guard = strcmp(section->kind, "guard") == 0;
		uint32_t *line = server ? &server_line : guard ? &guard_line : &defaults_line;

		if (strcmp(section->kind, "model") == 0)
			continue;
		check_section(config, section, server || defaults || guard);
		if (!server && !defaults && !guard)
			continue;
		if (*line)
			vac_problem_add(&config->problems, section->line,
					"[%s] begins in line %u already; make one of the two",
					section->kind, *line);
		else
			*line = section->line;
		if (server)
			take_server(config, section);
		else if (guard)
			take_guard(config, section);
		else
			vac_config_take_defaults(config, section);
	}
	vac_config_take_models(config, conf);
}

static void check_dirs(struct vac_config *config)
{
	for (size_t i = 0; i < config->options.model_dir_count; i++) {
		const char *dir = config->dirs[i];
		struct vac_quoted shown;
		struct stat st;

		vac_quote(&shown, dir, strlen(dir));
		if (config->dir_lines[i] == 0)
			continue; /* the server says it of a flag */
		if (stat(dir, &st) != 0)
			vac_problem_add(&config->problems, config->dir_lines[i],
					"models: %s cannot be used: %s", shown.text,
					strerror(errno));
		else if (!S_ISDIR(st.st_mode))
			vac_problem_add(&config->problems, config->dir_lines[i],
					"models: %s is no directory", shown.text);
	}
}

/* Its directory, absolute: the place from which the file was named may change. */
static int find_base(struct vac_config *config)
{
	char absolute[PATH_MAX], *copy;

	if (!realpath(config->path, absolute))
		return 0; /* it has gone meanwhile; "." is as good */
	copy = vac_arena_strndup(&config->arena, absolute, strlen(absolute));
	if (!copy)
		return -ENOMEM;
	config->base = dirname(copy);
	return 0;
}

static int read_file(struct vac_config *config, struct vac_error *err)
{
	struct vac_buf text = VAC_BUF_INIT;
	struct vac_error why;
	struct vac_conf conf;
	int rc;

	rc = vac_read_file(config->path, VAC_CONF_FILE_BYTES, &text, &why);
	if (rc == 0)
		rc = find_base(config);
	if (rc == -ENOMEM) {
		vac_buf_free(&text);
		return vac_fail_nomem(err, config->path, 0);
	}
	if (rc < 0) {
		config->unreadable = true;
		vac_problem_add(&config->problems, 0, "%s", why.message);
		vac_buf_free(&text);
		return 0;
	}
	rc = vac_conf_parse(&conf, text.bytes ? (const char *)text.data : "", text.bytes,
			    &config->problems, err);
	if (rc == 0) {
		take_sections(config, &conf);
		check_dirs(config);
	}
	vac_buf_free(&text);
	return rc;
}

/* ---- which file ---- */

static int search(struct vac_config *config, struct vac_error *err)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	struct stat st;
	char path[PATH_MAX];
	int n = 0;

	if (xdg && *xdg == '/')
		n = snprintf(path, sizeof(path), "%s/vacate/vacate.conf", xdg);
	else if (home && *home == '/')
		n = snprintf(path, sizeof(path), "%s/.config/vacate/vacate.conf", home);
	if (n <= 0 || (size_t)n >= sizeof(path) || stat(path, &st) != 0)
		n = snprintf(path, sizeof(path), "%s", VAC_CONFIG_SYSTEM_FILE);
	if (stat(path, &st) != 0)
		return 0;
	config->path = vac_arena_strndup(&config->arena, path, (size_t)n);
	return config->path ? 0 : vac_fail_nomem(err, "a path", (size_t)n);
}

static int find_file(struct vac_config *config, const struct vac_config_flag *flags,
		     size_t flag_count, struct vac_error *err)
{
	const char *variable = getenv("VACATE_CONFIG");
	struct vac_config_value *value = &config->values[0];
	int rc = 0;

	if (variable && *variable)
		*value = (struct vac_config_value){VAC_SOURCE_ENVIRONMENT, 0, variable};
	for (size_t i = 0; i < flag_count; i++) {
		if (flags[i].setting->kind == VAC_SET_CONFIG)
			*value = (struct vac_config_value){VAC_SOURCE_FLAG, 0, flags[i].text};
	}
	if (!value->text)
		rc = search(config, err);
	else if (strcmp(value->text, NO_FILE) != 0)
		config->path = value->text;
	return rc;
}

/* ---- everything ---- */

static void take_environment(struct vac_config *config)
{
	for (size_t i = 0; i < vac_server_setting_count; i++) {
		const struct vac_setting *setting = &vac_server_setting_table[i];
		char name[VAC_VARIABLE_BYTES];
		const char *text;

		vac_setting_variable(setting, name);
		text = setting->kind == VAC_SET_CONFIG ? NULL : getenv(name);
		if (text && *text)
			vac_config_set(config, setting, VAC_SOURCE_ENVIRONMENT, 0, text, false);
	}
}

static const struct vac_config_value *value_of(const struct vac_config *config, const char *name,
					       char label[VAC_VARIABLE_BYTES])
{
	const struct vac_setting *setting = vac_setting_find(
		vac_server_setting_table, vac_server_setting_count, name, strlen(name));
	const struct vac_config_value *value = &config->values[setting - vac_server_setting_table];

	label_of(setting, value->source, label);
	return value;
}

/* What is right alone and wrong together. */
static void check_together(struct vac_config *config)
{
	const struct vac_server_options *o = &config->options;
	char body_label[VAC_VARIABLE_BYTES], pending_label[VAC_VARIABLE_BYTES];
	char keep_label[VAC_VARIABLE_BYTES];
	const struct vac_config_value *body = value_of(config, "max-body", body_label);
	const struct vac_config_value *pending = value_of(config, "max-pending", pending_label);
	const struct vac_config_value *keep = value_of(config, "journal-keep", keep_label);

	if (o->max_body_bytes > MOST_BODY_BYTES)
		vac_problem_add(&config->problems, body->line, "%s takes 1 to 32MiB, not %zu bytes",
				body_label, o->max_body_bytes);
	else if (o->max_pending_bytes > 0 && o->max_pending_bytes < o->max_body_bytes)
		vac_problem_add(&config->problems, pending->line ? pending->line : body->line,
				"%s (%zu bytes) is less than %s (%zu bytes): no request of that "
				"size would be taken",
				pending_label, o->max_pending_bytes, body_label, o->max_body_bytes);
	if (o->journal_keep > VAC_JOURNAL_MAX_KEPT)
		vac_problem_add(&config->problems, keep->line, "%s takes at most %u files, not %u",
				keep_label, VAC_JOURNAL_MAX_KEPT, o->journal_keep);
}

static struct vac_config *make(struct vac_error *err)
{
	struct vac_config *config = calloc(1, sizeof(*config));

	if (!config) {
		vac_fail_nomem(err, "a configuration", sizeof(*config));
		return NULL;
	}
	vac_server_defaults(&config->options);
	vac_problems_init(&config->problems, &config->arena);
	config->arena.chunk_bytes = 8192;
	config->models_last = &config->models;
	config->options.model_dirs = config->dirs;
	config->base = (char *)".";
	return config;
}

static int finish(struct vac_config *config, struct vac_error *err)
{
	if (vac_config_settle_models(config) < 0 || config->problems.no_memory)
		return vac_fail_nomem(err, "the configuration", 0);
	vac_problems_sort(&config->problems);
	return 0;
}

int vac_config_read(const struct vac_config_flag *flags, size_t flag_count, struct vac_config **out,
		    struct vac_error *err)
{
	struct vac_config *config = make(err);
	int rc = config ? find_file(config, flags, flag_count, err) : -ENOMEM;

	if (rc == 0 && config->path)
		rc = read_file(config, err);
	if (rc < 0)
		goto err;
	take_environment(config);
	for (size_t i = 0; i < flag_count; i++) {
		if (flags[i].setting->kind != VAC_SET_CONFIG)
			vac_config_set(config, flags[i].setting, VAC_SOURCE_FLAG, 0, flags[i].text,
				       false);
	}
	check_together(config);
	rc = finish(config, err);
	if (rc < 0)
		goto err;
	*out = config;
	return 0;
err:
	vac_config_free(config);
	return rc;
}

int vac_config_read_file(const char *path, struct vac_config **out, struct vac_error *err)
{
	struct vac_config *config = make(err);
	int rc = config ? 0 : -ENOMEM;

	if (rc == 0 && path)
		config->path = path;
	else if (rc == 0)
		rc = find_file(config, NULL, 0, err);
	if (rc == 0 && config->path)
		rc = read_file(config, err);
	if (rc < 0)
		goto err;
	check_together(config);
	rc = finish(config, err);
	if (rc < 0)
		goto err;
	*out = config;
	return 0;
err:
	vac_config_free(config);
	return rc;
}

bool vac_config_same_dirs(const struct vac_config *a, const struct vac_config *b)
{
	if (a->options.model_dir_count != b->options.model_dir_count)
		return false;
	for (size_t i = 0; i < a->options.model_dir_count; i++) {
		if (strcmp(a->dirs[i], b->dirs[i]) != 0)
			return false;
	}
	return true;
}

void vac_config_free(struct vac_config *config)
{
	if (!config)
		return;
	vac_problems_free(&config->problems);
	vac_arena_free(&config->arena);
	free(config);
}
