/*
 * main.c - the `vacate` program: finds the command and runs it. To add one,
 * write its file, declare it in cli.h, and add a line to the table here.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct vac_command *const commands[] = {
	&vac_command_run,      &vac_command_serve,  &vac_command_list,   &vac_command_plan,
	&vac_command_load,     &vac_command_unload, &vac_command_ps,     &vac_command_top,
	&vac_command_receipts, &vac_command_events, &vac_command_park,   &vac_command_resume,
	&vac_command_guard,    &vac_command_config, &vac_command_doctor,
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *file)
{
	fprintf(file, "Usage: vacate COMMAND [options]\n\n"
		      "Serves models that give their memory back.\n\nCommands:\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(file, "  %-9s  %s\n", commands[i]->name, commands[i]->summary);
	fprintf(file, "\nOptions:\n"
		      "  --help     this text; `vacate COMMAND --help` tells more\n"
		      "  --version  the version\n\n"
		      "Environment:\n"
		      "  VACATE_SERVER   the server to ask, like --server\n"
		      "  VACATE_API_KEY  the key to send to it\n"
		      "  NO_COLOR        no colours\n"
		      "  COLUMNS         width of lines where output is not a terminal\n\n"
		      "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no server there,\n"
		      "4 no such model or process, 5 no room for it now.\n");
}

static int run_command(int argc, char **argv)
{
	const char *name = argv[1];

	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		print_help(stdout);
		return VAC_EXIT_OK;
	}
	if (strcmp(name, "--version") == 0) {
		puts("vacate " VAC_VERSION);
		return VAC_EXIT_OK;
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(name, commands[i]->name) == 0)
			return commands[i]->run(commands[i], argc - 1, argv + 1);
	}
	fprintf(stderr, "vacate: %s %s; see `vacate --help`\n",
		name[0] == '-' ? "unknown option" : "unknown command", name);
	return VAC_EXIT_USAGE;
}

/* A descriptor that is opened later must not be taken for standard error. */
static int open_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	int rc, error;

	if (open_standard_descriptors() < 0) {
		fprintf(stderr, "vacate: /dev/null: cannot be opened: %s\n", strerror(errno));
		return VAC_EXIT_FAILED;
	}
	if (argc < 2) {
		print_help(stderr);
		return VAC_EXIT_USAGE;
	}
	rc = run_command(argc, argv);
	/* What a full disk swallowed was not said. A command that failed has given
	 * its reason, which may be this one. */
	error = vac_flush_output();
	if (error != 0 && rc == VAC_EXIT_OK) {
		fprintf(stderr, "vacate: cannot write the output: %s\n", strerror(error));
		return VAC_EXIT_FAILED;
	}
	return rc;
}
