/*
 * catalog.h - which models there are, by all their names: what lies on disk and
 * what the configuration says. The loop's thread only.
 */
#ifndef VAC_SERVER_CATALOG_H
#define VAC_SERVER_CATALOG_H

#include "base/modelpath.h"
#include "server/server.h"

struct vac_catalog_name; /* catalog.c's */

struct vac_catalog {
	struct vac_model_dirs dirs;
	const struct vac_server_model *models; /* not owned */
	size_t model_count;
	struct vac_model_settings defaults;
	struct vac_catalog_name *names; /* owned; names and aliases, sorted */
	size_t name_count;
};

/* The options' lists must live as long as the catalog. */
int vac_catalog_init(struct vac_catalog *catalog, const struct vac_server_options *options,
		     struct vac_error *err) VAC_MUST_CHECK;
void vac_catalog_free(struct vac_catalog *catalog);

/* What is configured under that name or alias; NULL: nothing. */
const struct vac_server_model *vac_catalog_find(const struct vac_catalog *catalog,
						const char *name);
/* The model's own name: what the alias stands for, else the name itself. */
const char *vac_catalog_name(const struct vac_catalog *catalog, const char *name);
/* The settings of the model of that name (not an alias). Never NULL. */
const struct vac_model_settings *vac_catalog_settings(const struct vac_catalog *catalog,
						      const char *name);
/* The directory of a model (new string, caller frees) by its own name. */
int vac_catalog_resolve(const struct vac_catalog *catalog, const char *name, char **dir,
			struct vac_error *err) VAC_MUST_CHECK;
/* As vac_model_list(), with the models that the configuration gives a path. */
int vac_catalog_list(const struct vac_catalog *catalog, size_t limit, struct vac_model_entry **out,
		     size_t *count, struct vac_error *err) VAC_MUST_CHECK;

#endif
