/*
 * fuzz_vacate_conf.c - any bytes as a vacate.conf: whatever is wrong is a problem
 * with a line of the file and a sentence, and what is right is whole.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/modelpath.h"
#include "base/quote.h"
#include "cli/conf_file.h"
#include "cli/config_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool it)
{
	if (!it)
		abort();
}

static uint32_t lines_of(const uint8_t *data, size_t bytes)
{
	uint32_t lines = 1;

	for (size_t i = 0; i < bytes; i++)
		lines += data[i] == '\n';
	return lines;
}

/* The lines alone: what is kept is text of one line. */
static void read_lines(const uint8_t *data, size_t bytes)
{
	struct vac_arena arena = {0};
	struct vac_problems problems;
	struct vac_conf conf;
	struct vac_error err;
	uint32_t lines = lines_of(data, bytes);

	vac_problems_init(&problems, &arena);
	require(vac_conf_parse(&conf, (const char *)data, bytes, &problems, &err) == 0);
	require(conf.first != NULL);
	for (const struct vac_conf_section *s = conf.first; s; s = s->next) {
		require(s->line <= lines && vac_utf8_valid(s->name, strlen(s->name)));
		for (const struct vac_conf_item *item = s->first; item; item = item->next) {
			require(item->line > 0 && item->line <= lines);
			require(strlen(item->key) + strlen(item->value) < VAC_CONF_LINE_BYTES);
			require(vac_utf8_valid(item->value, strlen(item->value)));
			require(item->quoted || !strchr(item->value, '\n'));
		}
	}
	vac_problems_free(&problems);
	vac_arena_free(&arena);
}

/* All of it, through a file, as the server does. */
static void read_meaning(const uint8_t *data, size_t bytes)
{
	static char path[64];
	struct vac_config *config;
	struct vac_error err;
	uint32_t before = 0;
	int fd;

	if (!*path)
		snprintf(path, sizeof(path), "/tmp/vacate-conf-%d", (int)getpid());
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	require(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
	close(fd);
	require(vac_config_read_file(path, &config, &err) == 0 && !config->unreadable);
	unlink(path);
	for (size_t i = 0; i < config->problems.count; i++) {
		const struct vac_problem *problem = &config->problems.items[i];

		require(problem->line >= before && problem->line > 0 &&
			problem->line <= lines_of(data, bytes) && *problem->message);
		before = problem->line;
	}
	for (size_t i = 0; config->problems.count == 0 && i < config->options.model_count; i++) {
		const struct vac_server_model *model = &config->options.models[i];

		require(vac_model_name_ok(model->name));
		for (size_t j = 0; j < model->alias_count; j++)
			require(vac_model_name_ok(model->aliases[j]) &&
				strcmp(model->aliases[j], model->name) != 0);
	}
	vac_config_free(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (bytes > 1 << 16)
		return 0;
	read_lines(data, bytes);
	read_meaning(data, bytes);
	return 0;
}
