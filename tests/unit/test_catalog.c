/*
 * test_catalog.c - models by name, alias and path, and the list of all.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fail_alloc.h"
#include "server/catalog.h"
#include "temp_dir.h"

static char disk[256], far[256];
static const char *const one_aliases[] = {"first", "org/other"};
static const char *const far_aliases[] = {"two"}; /* also on disk */
static struct vac_server_model models[] = {
	{.name = "org/one", .aliases = one_aliases, .alias_count = 2, .settings = {.priority = 1}},
	{.name = "far/away", .aliases = far_aliases, .alias_count = 1, .settings = {.priority = 2}},
	{.name = "nowhere", .settings = {.priority = 3}},
	{.name = "three", .settings = {.priority = 4}}, /* on disk, and elsewhere */
};
static const char *const dirs[] = {disk};
static const struct vac_server_options options = {
	.model_dirs = dirs,
	.model_dir_count = 1,
	.hub_cache = "/nonexistent",
	.models = models,
	.model_count = 4,
	.model_defaults = {.priority = -7},
};

static int set_up(void **state)
{
	(void)state;
	temp_dir_make();
	temp_text("disk/org/one/config.json", "{}");
	temp_text("disk/two/config.json", "{}");
	temp_text("disk/three/config.json", "{}");
	temp_text("far/config.json", "{}");
	snprintf(disk, sizeof(disk), "%s", temp_path("disk"));
	snprintf(far, sizeof(far), "%s", temp_path("far"));
	models[1].path = models[3].path = far;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

static void test_names(void **state)
{
	struct vac_catalog catalog;

	(void)state;
	assert_int_equal(vac_catalog_init(&catalog, &options, NULL), 0);
	assert_ptr_equal(vac_catalog_find(&catalog, "first"), &models[0]);
	assert_ptr_equal(vac_catalog_find(&catalog, "org/one"), &models[0]);
	assert_null(vac_catalog_find(&catalog, "org"));
	assert_string_equal(vac_catalog_name(&catalog, "org/other"), "org/one");
	assert_string_equal(vac_catalog_name(&catalog, "two"), "far/away");
	assert_string_equal(vac_catalog_name(&catalog, "unknown"), "unknown");
	assert_int_equal(vac_catalog_settings(&catalog, "nowhere")->priority, 3);
	assert_int_equal(vac_catalog_settings(&catalog, "unknown")->priority, -7);
	/* Settings are of names: an alias has none. */
	assert_int_equal(vac_catalog_settings(&catalog, "first")->priority, -7);
	vac_catalog_free(&catalog);
	vac_catalog_free(&catalog);
}

static void assert_dir(const struct vac_catalog *catalog, const char *name, const char *expected)
{
	char *dir;

	assert_int_equal(vac_catalog_resolve(catalog, name, &dir, NULL), 0);
	assert_string_equal(dir, expected);
	free(dir);
}

static void test_places(void **state)
{
	struct vac_catalog catalog;
	struct vac_error err;
	char *dir;

	(void)state;
	assert_int_equal(vac_catalog_init(&catalog, &options, NULL), 0);
	assert_dir(&catalog, "far/away", far);
	assert_dir(&catalog, "three", far);
	assert_dir(&catalog, "org/one", temp_path("disk/org/one"));
	assert_int_equal(vac_catalog_resolve(&catalog, "nowhere", &dir, &err), -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	temp_unlink("far/config.json");
	assert_int_equal(vac_catalog_resolve(&catalog, "far/away", &dir, &err), -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_non_null(strstr(err.message, "model far/away: "));
	assert_non_null(strstr(err.message, "config.json"));
	temp_text("far/config.json", "{}");
	vac_catalog_free(&catalog);
}

static void test_list(void **state)
{
	static const char *const names[] = {"far/away", "org/one", "three"};
	struct vac_model_entry *entries;
	struct vac_catalog catalog;
	size_t count;

	(void)state;
	assert_int_equal(vac_catalog_init(&catalog, &options, NULL), 0);
	assert_int_equal(vac_catalog_list(&catalog, 10, &entries, &count, NULL), 0);
	assert_int_equal(count, 3);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(entries[i].name, names[i]);
	assert_string_equal(entries[0].dir, far);
	assert_string_equal(entries[2].dir, far);
	vac_model_list_free(entries, count);
	assert_int_equal(vac_catalog_list(&catalog, 2, &entries, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_string_equal(entries[0].name, "far/away");
	vac_model_list_free(entries, count);
	vac_catalog_free(&catalog);
}

static void test_without_memory(void **state)
{
	unsigned long failures = 0;

	(void)state;
	for (unsigned long n = 0;; n++) {
		struct vac_model_entry *entries = NULL;
		struct vac_catalog catalog;
		struct vac_error err;
		long live = fail_live();
		size_t count = 0;
		int rc;

		fail_after(n);
		rc = vac_catalog_init(&catalog, &options, &err);
		if (rc == 0)
			rc = vac_catalog_list(&catalog, 10, &entries, &count, &err);
		if (fail_count() <= n) {
			assert_int_equal(rc, 0);
			vac_model_list_free(entries, count);
			vac_catalog_free(&catalog);
			break;
		}
		fail_never();
		failures++;
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(err.code, VAC_E_NO_ROOM);
		vac_catalog_free(&catalog);
		assert_int_equal(fail_live(), live);
	}
	fail_never();
	assert_true(failures > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests_name("catalog", tests, set_up, tear_down);
}
