/* options.c - options, help and complaints of the commands. One thread. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/format.h"

enum vac_exit vac_exit_of(enum vac_error_code code)
{
	switch (code) {
	case VAC_OK:
		return VAC_EXIT_OK;
	case VAC_E_NOT_FOUND:
		return VAC_EXIT_NOT_FOUND;
	case VAC_E_NO_ROOM:
	case VAC_E_BUSY:
		return VAC_EXIT_NO_ROOM;
	case VAC_E_TIMEOUT:
	case VAC_E_GONE:
		return VAC_EXIT_UNREACHABLE;
	default:
		return VAC_EXIT_FAILED;
	}
}

static void complain(const struct vac_command *command, const char *fmt, va_list ap, bool usage)
{
	char *text = NULL, *clean = NULL;

	if (vasprintf(&text, fmt, ap) >= 0)
		clean = vac_text_fit(text, SIZE_MAX);
	fprintf(stderr, "vacate %s: %s", command->name, clean ? clean : fmt);
	if (usage)
		fprintf(stderr, "; see `vacate %s --help`", command->name);
	fputc('\n', stderr);
	free(clean);
	free(text);
}

int vac_usage_error(const struct vac_command *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(command, fmt, ap, true);
	va_end(ap);
	return VAC_EXIT_USAGE;
}

void vac_complain(const struct vac_command *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(command, fmt, ap, false);
	va_end(ap);
}

static void print_help(const struct vac_command *command, const struct vac_option *options,
		       size_t option_count)
{
	printf("Usage: vacate %s%s%s\n\n%s.\n", command->name, *command->arguments ? " " : "",
	       command->arguments, command->summary);
	if (command->details)
		printf("\n%s\n", command->details);
	printf("\nOptions:\n");
	for (size_t i = 0; i < option_count; i++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s", options[i].name,
			 options[i].value_name ? " " : "",
			 options[i].value_name ? options[i].value_name : "");
		printf("  %-22s  %s\n", left, options[i].help);
	}
	printf("  %-22s  %s\n", "--help", "this text");
}

int vac_flush_output(void)
{
	static int failed;

	if (failed == 0 && fflush(stdout) != 0)
		failed = errno;
	else if (failed == 0 && ferror(stdout))
		failed = EIO;
	return failed;
}

static const struct vac_option *find_option(const struct vac_option *options, size_t count,
					    const char *name, size_t length)
{
	for (size_t i = 0; i < count; i++) {
		if (strlen(options[i].name) == length &&
		    strncmp(options[i].name, name, length) == 0)
			return &options[i];
	}
	return NULL;
}

/* argv[*at] is an option; *at moves on when its value is the next word. */
static int parse_option(const struct vac_command *command, const struct vac_option *options,
			size_t option_count, int argc, char **argv, int *at)
{
	const char *name = argv[*at] + 2, *equals = strchr(name, '=');
	size_t length = equals ? (size_t)(equals - name) : strlen(name);
	const struct vac_option *option = find_option(options, option_count, name, length);

	if (strcmp(argv[*at], "-h") == 0 || strcmp(argv[*at], "--help") == 0) {
		print_help(command, options, option_count);
		return VAC_EXIT_OK;
	}
	if (argv[*at][1] != '-' || !option)
		return vac_usage_error(command, "unknown option %s", argv[*at]);
	if (option->flag) {
		if (equals)
			return vac_usage_error(command, "option --%s takes no value", option->name);
		*option->flag = true;
		return VAC_CONTINUE;
	}
	if (equals) {
		*option->value = equals + 1;
	} else {
		if (*at + 1 >= argc)
			return vac_usage_error(command, "option --%s needs a value (%s)",
					       option->name, option->value_name);
		*option->value = argv[++*at];
	}
	return VAC_CONTINUE;
}

int vac_options_parse(const struct vac_command *command, const struct vac_option *options,
		      size_t option_count, struct vac_arguments *arguments, int argc, char **argv)
{
	bool options_ended = false;

	arguments->count = 0;
	for (int at = 1; at < argc; at++) {
		int rc;

		if (!options_ended && strcmp(argv[at], "--") == 0) {
			options_ended = true;
			continue;
		}
		/* A lone "-" is an argument. */
		if (!options_ended && argv[at][0] == '-' && argv[at][1] != '\0') {
			rc = parse_option(command, options, option_count, argc, argv, &at);
			if (rc != VAC_CONTINUE)
				return rc;
			continue;
		}
		if (arguments->count >= arguments->most)
			return vac_usage_error(command, "unexpected argument %s", argv[at]);
		arguments->values[arguments->count++] = argv[at];
	}
	if (arguments->count < arguments->least)
		return vac_usage_error(command, "an argument is missing: vacate %s %s",
				       command->name, command->arguments);
	return VAC_CONTINUE;
}
