/*
 * embed.c - opens a model in this process, embeds what the command line says,
 * closes it and prints the receipt.
 *
 *	cc embed.c $(pkg-config --cflags --libs vacate) -o embed
 *	./embed sentence-transformers/all-MiniLM-L6-v2 "a sentence" "another one"
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <vacate.h>

static int embed(struct vacate *v, const char *path, const char *const *texts, size_t count,
		 struct vac_error *err)
{
	struct vacate_receipt receipt;
	struct vacate_model *model;
	uint32_t dimensions;
	float *vectors;
	int rc = vacate_load(v, path, &model, err);

	if (rc < 0)
		return rc;
	dimensions = vacate_dimensions(model);
	vectors = malloc(count * dimensions * sizeof(*vectors));
	if (vectors) {
		rc = vacate_embed(model, texts, count, NULL, vectors, err);
		for (size_t i = 0; rc == 0 && i < count; i++)
			printf("%s: %u components, starting with %f %f\n", texts[i], dimensions,
			       vectors[i * dimensions], vectors[i * dimensions + 1]);
	}
	free(vectors);
	vacate_unload(model, &receipt);
	printf("planned %" PRIu64 " bytes, the ledger returned %" PRIu64
	       ", private memory fell by %" PRId64 ", unaccounted %" PRIu64 "\n",
	       receipt.planned_bytes, receipt.ledger_bytes, receipt.returned_bytes,
	       receipt.unaccounted_bytes);
	return rc;
}

int main(int argc, char **argv)
{
	struct vac_error err;
	struct vacate *v;
	int rc;

	if (argc < 3) {
		fprintf(stderr, "usage: embed MODEL TEXT ...\n");
		return 2;
	}
	rc = vacate_open(&v, NULL, &err);
	if (rc == 0) {
		rc = embed(v, argv[1], (const char *const *)argv + 2, (size_t)argc - 2, &err);
		vacate_close(v);
	}
	if (rc < 0)
		fprintf(stderr, "embed: %s\n", err.message);
	return rc < 0 ? 1 : 0;
}
