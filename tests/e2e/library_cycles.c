/*
 * library_cycles.c - a program that lives on while models come and go in it:
 * the driver of test_library.py, built against the installed library.
 *
 *	library_cycles BACKEND MODEL ROUNDS VECTORS TEXT ...
 *
 * Each round opens, loads, embeds the texts, unloads and closes, appends the
 * vectors to the file VECTORS, prints its receipt as one line, and waits for a
 * line on standard input, so that somebody else can measure the process.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <vacate.h>

struct cycle {
	struct vacate_options options;
	const char *path;
	const char *const *texts;
	size_t count;
	FILE *vectors;
};

static int embed(const struct cycle *c, struct vacate_model *model, struct vac_error *err)
{
	size_t floats = c->count * vacate_dimensions(model);
	float *vectors = malloc(floats * sizeof(*vectors));
	int rc;

	if (!vectors)
		abort();
	rc = vacate_embed(model, c->texts, c->count, NULL, vectors, err);
	if (rc == 0 && (fwrite(vectors, sizeof(*vectors), floats, c->vectors) != floats ||
			fflush(c->vectors) != 0))
		abort();
	free(vectors);
	return rc;
}

static int round_trip(const struct cycle *c, struct vac_error *err)
{
	struct vacate_receipt receipt = {0};
	struct vacate_model *model;
	uint64_t planned = 0;
	struct vacate *v;
	int rc = vacate_open(&v, &c->options, err);

	if (rc < 0)
		return rc;
	rc = vacate_plan(v, c->path, &planned, err);
	if (rc == 0)
		rc = vacate_load(v, c->path, &model, err);
	if (rc == 0) {
		rc = embed(c, model, err);
		vacate_unload(model, &receipt);
	}
	vacate_close(v);
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %d %" PRIu64 " %" PRId64 "\n", planned,
	       receipt.planned_bytes, receipt.ledger_bytes, receipt.measured,
	       receipt.unaccounted_bytes, receipt.returned_bytes);
	fflush(stdout);
	return rc;
}

int main(int argc, char **argv)
{
	struct vac_error err;
	struct cycle c = {0};
	int rounds, rc = 0;

	if (argc < 6)
		return 2;
	c.options.backend = argv[1];
	c.path = argv[2];
	rounds = atoi(argv[3]);
	c.vectors = fopen(argv[4], "wb");
	c.texts = (const char *const *)argv + 5;
	c.count = (size_t)argc - 5;
	if (!c.vectors)
		return 2;
	for (int i = 0; i < rounds && rc == 0; i++) {
		rc = round_trip(&c, &err);
		if (rc == 0 && getchar() == EOF)
			break;
	}
	fclose(c.vectors);
	if (rc < 0)
		fprintf(stderr, "library_cycles: %s\n", err.message);
	return rc < 0 ? 1 : 0;
}
