/*
 * config_read.h - all that a server is told: defaults, vacate.conf, environment and
 * flags, each stronger than the one before, with where every value came from
 * and everything that is wrong. One thread.
 */
#ifndef VAC_CLI_CONFIG_READ_H
#define VAC_CLI_CONFIG_READ_H

#include "cli/problems.h"
#include "cli/settings.h"

#define VAC_CONFIG_DIRS_MOST 64u
#define VAC_CONFIG_PINS_MOST 256u

enum vac_config_source {
	VAC_SOURCE_DEFAULT,
	VAC_SOURCE_FILE,
	VAC_SOURCE_ENVIRONMENT,
	VAC_SOURCE_FLAG,
};

struct vac_config_value {
	enum vac_config_source source;
	uint32_t line;    /* FILE */
	const char *text; /* as it was written; lists: the last of them; NULL: the default */
};

/* A section [model NAME]. */
struct vac_config_model {
	struct vac_config_model *next;
	uint32_t line;
	const char *name, *path; /* path NULL: none was given */
	uint32_t path_line;
	const char **aliases;
	uint32_t *alias_lines;
	size_t alias_count, alias_room;
	struct vac_config_value values[VAC_MODEL_SETTINGS_MOST];
};

/* A flag as it was given. */
struct vac_config_flag {
	const struct vac_setting *setting;
	const char *text;
};

struct vac_config {
	/* What the server takes; its strings and lists live as long as this. */
	struct vac_server_options options;
	const char *path; /* of the file that was read; NULL: none */
	bool unreadable;  /* it could not be read at all; the first problem says why */
	struct vac_config_value values[VAC_SERVER_SETTINGS_MOST];
	struct vac_config_value defaults[VAC_MODEL_SETTINGS_MOST]; /* [defaults] */
	struct vac_config_model *models;                           /* as they stand in the file */
	size_t model_count;
	struct vac_problems problems;

	const char *dirs[VAC_CONFIG_DIRS_MOST];
	const char *pins[VAC_CONFIG_PINS_MOST];
	size_t pin_count;
	uint32_t dir_lines[VAC_CONFIG_DIRS_MOST]; /* 0: not of the file */
	struct vac_config_model **models_last;
	char *base; /* directory of the file, for relative paths */
	struct vac_arena arena;
};

/* Reads everything that the server would. 0: *out is filled, perhaps with
 * problems (then it is fit for looking at only). Negative: no memory. The
 * flags' texts are not copied. */
int vac_config_read(const struct vac_config_flag *flags, size_t flag_count, struct vac_config **out,
		    struct vac_error *err) VAC_MUST_CHECK;
/* Reads only the file (NULL: the one that would be read), as if there were no
 * environment and no flags. No file at all: path stays NULL. */
int vac_config_read_file(const char *path, struct vac_config **out,
			 struct vac_error *err) VAC_MUST_CHECK;
/* Whether both name the same directories of models. */
bool vac_config_same_dirs(const struct vac_config *a, const struct vac_config *b);
/* NULL is fine. */
void vac_config_free(struct vac_config *config);

/* "default", "FILE:12", "VACATE_PORT", "--port". */
#define VAC_ORIGIN_BYTES 4200u
const char *vac_config_origin(const struct vac_config *config, const struct vac_setting *setting,
			      const struct vac_config_value *value, char to[VAC_ORIGIN_BYTES]);

/* ---- between config_read.c and config_models.c ---- */

struct vac_conf;
struct vac_conf_section;
/* [defaults] */
void vac_config_take_defaults(struct vac_config *config, const struct vac_conf_section *section);
/* Every [model NAME] of a file that was read. */
void vac_config_take_models(struct vac_config *config, const struct vac_conf *conf);
/* What options.models and options.model_defaults are, when everything else is
 * known. Negative: no memory. */
int vac_config_settle_models(struct vac_config *config) VAC_MUST_CHECK;
/* Sets one of the server's settings; the problem is noted where it stands. */
void vac_config_set(struct vac_config *config, const struct vac_setting *setting,
		    enum vac_config_source source, uint32_t line, const char *text, bool quoted);
/* Notes "label wrong, not text". */
void vac_config_wrong(struct vac_config *config, const char *label, uint32_t line,
		      const char *wrong, const char *text);
/* The next of a list (split: at commas, without the blanks around), copied; *text
 * is NULL behind the last. NULL: that was it, or no memory. */
const char *vac_config_next(struct vac_config *config, const char **text, bool split);
/* A path of the file, made absolute by the file's place; NULL: no memory. */
const char *vac_config_path(struct vac_config *config, const char *path);

#endif
