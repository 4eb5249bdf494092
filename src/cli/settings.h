/*
 * settings.h - what can be set, in one table for the server and one for models:
 * name, kind, default, and what it fills. Flags, environment, vacate.conf, help
 * and `vacate config show` all work from these rows. Any thread; no state.
 */
#ifndef VAC_CLI_SETTINGS_H
#define VAC_CLI_SETTINGS_H

#include "server/server.h"

/* Where vacate.conf is looked for when nobody names it, after the user's own. */
#define VAC_CONFIG_SYSTEM_FILE "/etc/vacate/vacate.conf"

enum vac_setting_kind {
	VAC_SET_TEXT,   /* const char *, not empty */
	VAC_SET_ANY,    /* const char *, may be empty: NULL then */
	VAC_SET_FILE,   /* const char *; in a file relative to the file's directory */
	VAC_SET_COUNT,  /* uint32_t */
	VAC_SET_NUMBER, /* int32_t */
	VAC_SET_PORT,   /* uint16_t */
	VAC_SET_FD,     /* int */
	VAC_SET_BYTES,  /* size_t */
	VAC_SET_SIZE,   /* struct vac_size */
	VAC_SET_TIME,   /* int64_t, milliseconds */
	VAC_SET_BOOL,   /* bool */
	VAC_SET_CHOICE, /* const char *, one of choice */
	VAC_SET_LEVEL,  /* enum vac_log_level */
	VAC_SET_DEVICE, /* const char *: auto, cpu, cuda:N */
	VAC_SET_DIRS,   /* a:b, or several times; the configuration keeps the list */
	VAC_SET_NAMES,  /* several times; in a file also "a, b" */
	VAC_SET_CONFIG, /* the file itself: never in it */
};

enum vac_setting_bound {
	VAC_BOUND_NONE,
	VAC_BOUND_POSITIVE,     /* more than 0 */
	VAC_BOUND_NOT_NEGATIVE, /* 0 or more */
	VAC_BOUND_NOT_ZERO,
};

struct vac_choice {
	const char *words[8]; /* ended by NULL */
	const char *takes;    /* the sentence that says so */
};

struct vac_setting {
	const char *name;       /* "keep-alive": --keep-alive, VACATE_KEEP_ALIVE, keep_alive */
	const char *value_name; /* "TIME" */
	const char *help;       /* one line */
	enum vac_setting_kind kind;
	size_t at;            /* of what it fills, into the struct of its table; lists: 0 */
	const char *standard; /* the default as one would write it; NULL: nothing */
	enum vac_setting_bound bound;
	bool reloads;                    /* SIGHUP changes it while the server runs */
	const struct vac_choice *choice; /* CHOICE */
};

/* Of `vacate serve`; at: into struct vac_server_options. */
extern const struct vac_setting vac_server_setting_table[];
extern const size_t vac_server_setting_count;
#define VAC_SERVER_SETTINGS_MOST 64u

/* Of a model, in [defaults] and [model NAME]; at: into struct vac_model_settings.
 * Those that are the server's, too, are given there. "path" and "alias" are not
 * among them: each model has its own. */
extern const struct vac_setting vac_model_setting_table[];
extern const size_t vac_model_setting_count;
#define VAC_MODEL_SETTINGS_MOST 16u

/* By name, '-' and '_' being the same; NULL: there is none. */
const struct vac_setting *vac_setting_find(const struct vac_setting *table, size_t count,
					   const char *name, size_t bytes);
/* Fills base + at. NULL, or what a right value looks like ("takes ..."). Texts
 * are not copied. Not for lists. */
const char *vac_setting_fill(const struct vac_setting *setting, void *base, const char *text);
/* Whether both hold the same. Not for lists. */
bool vac_setting_same(const struct vac_setting *setting, const void *a, const void *b);
/* Copies what it fills. Not for lists. */
void vac_setting_copy(const struct vac_setting *setting, void *to, const void *from);

#define VAC_VARIABLE_BYTES 64u
/* "VACATE_KEEP_ALIVE" */
void vac_setting_variable(const struct vac_setting *setting, char name[VAC_VARIABLE_BYTES]);
/* "keep_alive" */
void vac_setting_key(const struct vac_setting *setting, char key[VAC_VARIABLE_BYTES]);

#endif
