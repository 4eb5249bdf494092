/*
 * serve_options.h - the command line of `vacate serve`, which `vacate config
 * show` takes as well. One thread.
 */
#ifndef VAC_CLI_SERVE_OPTIONS_H
#define VAC_CLI_SERVE_OPTIONS_H

#include "cli/cli.h"
#include "cli/config_read.h"

/* VAC_CONTINUE: *flags holds what was given, in order (caller frees); else the
 * command is over and this is its exit code. */
int vac_serve_flags(const struct vac_command *command, int argc, char **argv,
		    struct vac_config_flag **flags, size_t *count);
/* The rows of --help, without "--help" itself. */
void vac_serve_help(void);
/* Complains about every problem. VAC_EXIT_OK: there was none; VAC_EXIT_FAILED:
 * the file cannot be read; VAC_EXIT_USAGE: what it, a variable or a flag says is
 * wrong. */
int vac_serve_problems(const struct vac_command *command, const struct vac_config *config);

#endif
