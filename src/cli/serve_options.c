/* serve_options.c - the flags of `vacate serve`. One thread. */
#include "cli/serve_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vac_serve_help(void)
{
	for (size_t i = 0; i < vac_server_setting_count; i++) {
		const struct vac_setting *setting = &vac_server_setting_table[i];
		char left[64];

		snprintf(left, sizeof(left), "--%s %s", setting->name, setting->value_name);
		printf("  %-24s  %s\n", left, setting->help);
	}
}

static void print_help(const struct vac_command *command)
{
	printf("Usage: vacate %s %s\n\n%s.\n\n%s\n\nOptions:\n", command->name, command->arguments,
	       command->summary, command->details);
	vac_serve_help();
	printf("  %-24s  this text\n", "--help");
}

static int read_flag(const struct vac_command *command, int argc, char **argv, int *at,
		     struct vac_config_flag *flag)
{
	const char *word = argv[*at], *equals, *text;
	const struct vac_setting *setting;

	if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
		print_help(command);
		return VAC_EXIT_OK;
	}
	if (strncmp(word, "--", 2) != 0)
		return vac_usage_error(command, "unexpected argument %s", word);
	equals = strchr(word, '=');
	setting = vac_setting_find(vac_server_setting_table, vac_server_setting_count, word + 2,
				   equals ? (size_t)(equals - word - 2) : strlen(word + 2));
	if (!setting)
		return vac_usage_error(command, "unknown option %s", word);
	text = equals ? equals + 1 : *at + 1 < argc ? argv[++*at] : NULL;
	if (!text)
		return vac_usage_error(command, "option --%s needs a value (%s)", setting->name,
				       setting->value_name);
	if (setting->kind == VAC_SET_CONFIG && !*text)
		return vac_usage_error(command, "--%s takes a file, or none", setting->name);
	*flag = (struct vac_config_flag){setting, text};
	return VAC_CONTINUE;
}

int vac_serve_flags(const struct vac_command *command, int argc, char **argv,
		    struct vac_config_flag **flags, size_t *count)
{
	int rc = VAC_CONTINUE;

	*count = 0;
	*flags = calloc((size_t)argc + 1, sizeof(**flags));
	if (!*flags) {
		vac_complain(command, "out of memory for the options");
		return VAC_EXIT_FAILED;
	}
	for (int at = 1; at < argc && rc == VAC_CONTINUE; at++) {
		rc = read_flag(command, argc, argv, &at, &(*flags)[*count]);
		*count += rc == VAC_CONTINUE;
	}
	if (rc != VAC_CONTINUE) {
		free(*flags);
		*flags = NULL;
	}
	return rc;
}

int vac_serve_problems(const struct vac_command *command, const struct vac_config *config)
{
	const struct vac_problems *problems = &config->problems;

	for (size_t i = 0; i < problems->count; i++) {
		const struct vac_problem *problem = &problems->items[i];

		if (problem->line)
			vac_complain(command, "%s:%u: %s", config->path, problem->line,
				     problem->message);
		else if (config->unreadable && i == 0)
			vac_complain(command, "%s", problem->message);
		else
			vac_usage_error(command, "%s", problem->message);
	}
	if (problems->omitted > 0)
		vac_complain(command, "and %zu more", problems->omitted);
	/* A service manager that tries again what failed need not try these again. */
	if (problems->count > 0)
		return config->unreadable ? VAC_EXIT_FAILED : VAC_EXIT_USAGE;
	return VAC_EXIT_OK;
}
