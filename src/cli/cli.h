/*
 * cli.h - what the commands of the `vacate` program share: the command table,
 * options, exit codes. One thread.
 *
 * A command is one file that defines a struct vac_command and one line in the
 * table of main.c.
 */
#ifndef VAC_CLI_CLI_H
#define VAC_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* What `vacate` exits with; also in vacate(1). */
enum vac_exit {
	VAC_EXIT_OK = 0,
	VAC_EXIT_FAILED = 1,      /* asked and refused, or the answer made no sense */
	VAC_EXIT_USAGE = 2,       /* wrong command, option or argument */
	VAC_EXIT_UNREACHABLE = 3, /* no server there, or it did not answer in time */
	VAC_EXIT_NOT_FOUND = 4,   /* no such model */
	VAC_EXIT_NO_ROOM = 5,     /* no memory or queue for it now; later there may be */
};
/* The exit code that goes with an error. */
enum vac_exit vac_exit_of(enum vac_error_code code);

struct vac_command {
	const char *name;
	const char *arguments; /* "MODEL [options]": behind the name in the usage line */
	const char *summary;   /* one line, without a full stop */
	const char *details;   /* paragraphs for --help, or NULL */
	/* argv[0] is the command's name; returns an enum vac_exit. */
	int (*run)(const struct vac_command *command, int argc, char **argv);
};

extern const struct vac_command vac_command_list;
extern const struct vac_command vac_command_plan;
extern const struct vac_command vac_command_load;
extern const struct vac_command vac_command_unload;
extern const struct vac_command vac_command_ps;
extern const struct vac_command vac_command_top;
extern const struct vac_command vac_command_receipts;
extern const struct vac_command vac_command_events;
extern const struct vac_command vac_command_run;
extern const struct vac_command vac_command_park;
extern const struct vac_command vac_command_resume;
extern const struct vac_command vac_command_guard;
extern const struct vac_command vac_command_serve;
extern const struct vac_command vac_command_config;
extern const struct vac_command vac_command_doctor;

/* An option "--name" (flag is set) or "--name VALUE", "--name=VALUE" (value is
 * set, to a pointer into argv). Exactly one of the two is not NULL. */
struct vac_option {
	const char *name;       /* without the dashes */
	const char *value_name; /* as shown in --help; NULL for a flag */
	const char *help;       /* one line */
	bool *flag;
	const char **value;
};

struct vac_arguments {
	const char **values; /* room for most; filled */
	size_t least, most, count;
};

#define VAC_CONTINUE (-1)

/* Parses argv[1..]. VAC_CONTINUE: options and arguments are filled. Else the
 * command is over and this is its exit code: --help was printed, or the usage
 * was wrong and standard error says how. "--" ends the options. */
int vac_options_parse(const struct vac_command *command, const struct vac_option *options,
		      size_t option_count, struct vac_arguments *arguments, int argc, char **argv);

/* One line on standard error: "vacate NAME: message". Control characters in it
 * are made harmless. Returns VAC_EXIT_USAGE for convenience. */
int vac_usage_error(const struct vac_command *command, const char *fmt, ...) VAC_PRINTF(2, 3);
/* The same for a failure that is not about usage. */
void vac_complain(const struct vac_command *command, const char *fmt, ...) VAC_PRINTF(2, 3);

/* Writes standard output out. 0, or the errno of the first time that this failed: the stream
 * itself remembers only that it did. */
int vac_flush_output(void);

#endif
