/* test_modelpath.c - names to directories, and the list of what is on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/modelpath.h"
#include "fail_alloc.h"
#include "temp_dir.h"

static const char commit[] = "0123456789abcdef0123456789abcdef01234567";

static int setup(void **state)
{
	(void)state;
	temp_dir_make();
	unsetenv("HF_HUB_CACHE");
	unsetenv("HUGGINGFACE_HUB_CACHE");
	unsetenv("HF_HOME");
	unsetenv("XDG_CACHE_HOME");
	setenv("HOME", temp_path("home"), 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

/* A repository of the hub cache as huggingface_hub lays it out: files are
 * links to blobs. ref NULL: no refs/main. */
static void make_repo(const char *hub, const char *repo, const char *snapshot, const char *ref)
{
	char name[512];

	snprintf(name, sizeof(name), "%s/%s/blobs/beef", hub, repo);
	temp_text(name, "{}");
	snprintf(name, sizeof(name), "%s/%s/snapshots/%s/config.json", hub, repo, snapshot);
	temp_symlink("../../blobs/beef", name);
	if (ref) {
		snprintf(name, sizeof(name), "%s/%s/refs/main", hub, repo);
		temp_text(name, ref);
	}
}

static void expect_dir(const struct vac_model_dirs *where, const char *name, const char *expected)
{
	struct vac_error err = {0};
	char *dir;

	if (vac_model_resolve(where, name, false, &dir, &err) != 0)
		fail_msg("%s: %s", name, err.message);
	assert_string_equal(dir, temp_path(expected));
	free(dir);
}

static void expect_error(const struct vac_model_dirs *where, const char *name, bool allow_path,
			 enum vac_error_code code, const char *part)
{
	struct vac_error err = {0};
	char *dir = (char *)1;

	assert_int_equal(vac_model_resolve(where, name, allow_path, &dir, &err),
			 vac_error_errno(code));
	assert_null(dir);
	assert_int_equal(err.code, code);
	if (!strstr(err.message, part))
		fail_msg("%s: \"%s\" lacks \"%s\"", name, err.message, part);
}

static void test_model_dirs(void **state)
{
	char first[512], second[512];
	const char *dirs[] = {first, second};
	struct vac_model_dirs where = {.dirs = dirs, .dir_count = 2};

	(void)state;
	snprintf(first, sizeof(first), "%s", temp_path("first"));
	snprintf(second, sizeof(second), "%s", temp_path("second"));
	temp_text("first/plain/config.json", "{}");
	temp_text("first/plain/1_Pooling/config.json", "{}");
	temp_text("second/plain/config.json", "{}");
	temp_text("second/org/name/config.json", "{}");
	temp_text("second/org/no-config/other.json", "{}");
	expect_dir(&where, "plain", "first/plain");
	expect_dir(&where, "org/name", "second/org/name");
	expect_error(&where, "org/no-config", false, VAC_E_NOT_FOUND, "\"org/no-config\"");
	expect_error(&where, "absent", false, VAC_E_NOT_FOUND, first);
	expect_error(&where, "absent", false, VAC_E_NOT_FOUND, second);
	expect_error(&where, "absent", false, VAC_E_NOT_FOUND, ".cache/huggingface/hub");
	/* A module's directory is not a model. */
	expect_error(&where, "plain/1_Pooling", false, VAC_E_NOT_FOUND, "1_Pooling");
	/* A directory in the place of config.json does not make a model. */
	temp_mkdir("first/odd/config.json");
	expect_error(&where, "odd", false, VAC_E_NOT_FOUND, "odd");
}

/* Who downloaded one model names its directory. */
static void test_a_place_that_is_a_model(void **state)
{
	char place[512], other[512], model[520];
	const char *dirs[] = {model, other};
	struct vac_model_dirs where = {.dirs = dirs, .dir_count = 2};
	struct vac_model_entry *entries;
	struct vac_error err;
	size_t count;
	char *dir;

	(void)state;
	temp_text("place/minilm/config.json", "{}");
	temp_text("place/minilm/1_Pooling/config.json", "{}");
	temp_text("other/minilm/config.json", "{}");
	temp_text("other/b/config.json", "{}");
	snprintf(other, sizeof(other), "%s", temp_path("other"));
	snprintf(place, sizeof(place), "%s", temp_path("place/minilm"));
	snprintf(model, sizeof(model), "%s//", place);
	assert_int_equal(vac_model_resolve(&where, "minilm", false, &dir, &err), 0);
	assert_string_equal(dir, model);
	free(dir);
	expect_dir(&where, "b", "other/b");
	expect_error(&where, "1_Pooling", false, VAC_E_NOT_FOUND, "\"1_Pooling\"");
	expect_error(&where, "minilm/1_Pooling", false, VAC_E_NOT_FOUND, "1_Pooling");
	assert_int_equal(vac_model_list(&where, 10, &entries, &count, &err), 0);
	assert_int_equal(count, 2);
	assert_string_equal(entries[0].name, "b");
	assert_string_equal(entries[1].name, "minilm");
	assert_string_equal(entries[1].dir, model);
	vac_model_list_free(entries, count);
	for (unsigned long n = 0, rc = 1; rc != 0; n++) {
		fail_after(n);
		rc = vac_model_resolve(&where, "minilm", false, &dir, &err) != 0;
		fail_never();
		if (rc != 0)
			assert_int_equal(err.code, VAC_E_NO_ROOM);
		else
			free(dir);
		assert_true(n < 50);
	}
}

static void test_bad_names(void **state)
{
	static const char *const names[] = {"",       ".",       "..",  "a/..",     "../a/b",
					    "a/../b", "a//b",    "a/",  "a/b/c",    "a\\b",
					    "a\nb",   "a/b\x7f", "a/.", "\xff\xfe", "./..//"};
	struct vac_model_dirs where = {0};
	char long_name[400];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		expect_error(&where, names[i], false, VAC_E_INVALID, "name of a model");
	memset(long_name, 'a', sizeof(long_name));
	long_name[256] = '\0';
	expect_error(&where, long_name, false, VAC_E_INVALID, "aaa...");
	/* Terminal control never reaches a message. */
	expect_error(&where, "a\x1b[2J", false, VAC_E_INVALID, "\"a?[2J\"");
}

static void test_paths(void **state)
{
	static const char *const names[] = {"m", "a/b/c", "m/", "a//b/./c"};
	char place[512];
	const char *dirs[] = {place};
	struct vac_model_dirs where = {.dirs = dirs};
	struct vac_error err = {0};
	char *dir;

	(void)state;
	temp_text("m/config.json", "{}");
	assert_int_equal(vac_model_resolve(&where, temp_path("m"), true, &dir, &err), 0);
	assert_string_equal(dir, temp_path("m"));
	free(dir);
	expect_error(&where, temp_path("m"), false, VAC_E_INVALID, "is a path");
	expect_error(&where, "./m", false, VAC_E_INVALID, "is a path");
	expect_error(&where, "../m", false, VAC_E_INVALID, "is a path");
	expect_error(&where, temp_path("none"), true, VAC_E_NOT_FOUND, "config.json");
	/* As transformers takes it; names that are known go first. */
	temp_text("a/b/c/config.json", "{}");
	temp_text("place/m/config.json", "{}");
	snprintf(place, sizeof(place), "%s", temp_path("place"));
	assert_int_equal(chdir(temp_path(".")), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(vac_model_resolve(&where, names[i], true, &dir, &err), 0);
		assert_string_equal(dir, names[i]);
		free(dir);
		expect_error(&where, names[i], false, i ? VAC_E_INVALID : VAC_E_NOT_FOUND, "");
	}
	expect_error(&where, "a/b", true, VAC_E_NOT_FOUND, "\"a/b\"");
	expect_error(&where, "", true, VAC_E_INVALID, "name of a model");
	where.dir_count = 1;
	expect_dir(&where, "m", "place/m");
	assert_int_equal(vac_model_resolve(&where, "m", true, &dir, &err), 0);
	assert_string_equal(dir, temp_path("place/m"));
	free(dir);
	assert_int_equal(chdir("/"), 0);
}

static void test_hub(void **state)
{
	char hub[512], path[600];
	struct vac_model_dirs where = {.hub_cache = hub};

	(void)state;
	snprintf(hub, sizeof(hub), "%s", temp_path("hub"));
	make_repo("hub", "models--org--name", commit, commit);
	make_repo("hub", "models--org--name", "ffff", NULL);
	snprintf(path, sizeof(path), "hub/models--org--name/snapshots/%s", commit);
	expect_dir(&where, "org/name", path);
	make_repo("hub", "models--single", "abc", "abc\n");
	expect_dir(&where, "single", "hub/models--single/snapshots/abc");
	/* No refs/main: a snapshot pinned by its commit. */
	make_repo("hub", "models--org--pinned", "abc", NULL);
	expect_dir(&where, "org/pinned", "hub/models--org--pinned/snapshots/abc");
	make_repo("hub", "models--org--two", "abc", NULL);
	make_repo("hub", "models--org--two", "abd", NULL);
	expect_error(&where, "org/two", false, VAC_E_NOT_FOUND, "2 snapshots");
	make_repo("hub", "models--org--gone", "abc", "abd");
	expect_error(&where, "org/gone", false, VAC_E_NOT_FOUND, "snapshots/abd");
	make_repo("hub", "models--org--evil", "abc", "../../../m");
	expect_error(&where, "org/evil", false, VAC_E_CORRUPT, "refs/main");
	make_repo("hub", "models--org--empty", "abc", "");
	expect_error(&where, "org/empty", false, VAC_E_CORRUPT, "refs/main");
	temp_mkdir("hub/models--org--bare");
	expect_error(&where, "org/bare", false, VAC_E_NOT_FOUND, "0 snapshots");
	/* "org--name" would be the directory of org/name. */
	expect_error(&where, "org--name", false, VAC_E_NOT_FOUND, "org--name");
	/* A dangling link counts as missing. */
	temp_unlink("hub/models--single/blobs/beef");
	expect_error(&where, "single", false, VAC_E_NOT_FOUND, "no config.json");
}

static void test_environment(void **state)
{
	struct vac_model_dirs where = {0};

	(void)state;
	make_repo("home/.cache/huggingface/hub", "models--m", "a", "a");
	make_repo("xdg/huggingface/hub", "models--m", "b", "b");
	make_repo("hf/hub", "models--m", "c", "c");
	make_repo("old", "models--m", "d", "d");
	make_repo("home/new", "models--m", "e", "e");
	expect_dir(&where, "m", "home/.cache/huggingface/hub/models--m/snapshots/a");
	setenv("XDG_CACHE_HOME", temp_path("xdg"), 1);
	expect_dir(&where, "m", "xdg/huggingface/hub/models--m/snapshots/b");
	setenv("HF_HOME", temp_path("hf"), 1);
	expect_dir(&where, "m", "hf/hub/models--m/snapshots/c");
	setenv("HUGGINGFACE_HUB_CACHE", temp_path("old"), 1);
	expect_dir(&where, "m", "old/models--m/snapshots/d");
	setenv("HF_HUB_CACHE", "~/new", 1);
	expect_dir(&where, "m", "home/new/models--m/snapshots/e");
	setenv("HF_HUB_CACHE", "$HOME/new", 1);
	expect_dir(&where, "m", "home/new/models--m/snapshots/e");
	setenv("HF_HUB_CACHE", "${HOME}/new", 1);
	expect_dir(&where, "m", "home/new/models--m/snapshots/e");
	setenv("HF_HUB_CACHE", "/$NOT_SET_AT_ALL/${x", 1);
	expect_error(&where, "m", false, VAC_E_NOT_FOUND, "/$NOT_SET_AT_ALL/${x");
	unsetenv("HF_HUB_CACHE");
	unsetenv("HUGGINGFACE_HUB_CACHE");
	unsetenv("HF_HOME");
	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
	expect_error(&where, "m", false, VAC_E_NOT_FOUND, "neither --models nor HOME");
}

static void make_listing(char *models, size_t bytes)
{
	snprintf(models, bytes, "%s", temp_path("models"));
	temp_text("models/plain/config.json", "{}");
	temp_text("models/plain/1_Pooling/config.json", "{}");
	temp_text("models/org/name/config.json", "{}");
	temp_text("models/org/deeper/down/config.json", "{}");
	temp_text("models/.hidden/config.json", "{}");
	temp_text("models/new\nline/config.json", "{}");
	temp_symlink("plain", "models/link");
	make_repo("home/.cache/huggingface/hub", "models--org--name", "a", "a");
	make_repo("home/.cache/huggingface/hub", "models--org--other", "a", "a");
	make_repo("home/.cache/huggingface/hub", "models--alone", "a", NULL);
	make_repo("home/.cache/huggingface/hub", "models--a--b--c", "a", "a");
	make_repo("home/.cache/huggingface/hub", "models--org--broken", "a", "b");
	make_repo("home/.cache/huggingface/hub", "datasets--org--data", "a", "a");
}

static void test_list(void **state)
{
	static const struct {
		const char *name, *dir;
	} expected[] = {
		{"alone", "home/.cache/huggingface/hub/models--alone/snapshots/a"},
		{"link", "models/link"},
		{"org/name", "models/org/name"},
		{"org/other", "home/.cache/huggingface/hub/models--org--other/snapshots/a"},
		{"plain", "models/plain"},
	};
	char models[512];
	const char *dirs[] = {models, "/nonexistent/place"};
	struct vac_model_dirs where = {.dirs = dirs, .dir_count = 2};
	struct vac_model_entry *entries;
	struct vac_error err = {0};
	size_t count;
	int fds = count_fds();

	(void)state;
	make_listing(models, sizeof(models));
	assert_int_equal(vac_model_list(&where, 100, &entries, &count, &err), 0);
	for (size_t i = 0; i < count && i < 5; i++) {
		assert_string_equal(entries[i].name, expected[i].name);
		assert_string_equal(entries[i].dir, temp_path(expected[i].dir));
		/* What is listed can be asked for by that name. */
		expect_dir(&where, entries[i].name, expected[i].dir);
	}
	assert_int_equal(count, 5);
	vac_model_list_free(entries, count);
	assert_int_equal(vac_model_list(&where, 2, &entries, &count, &err), 0);
	assert_int_equal(count, 2);
	assert_string_equal(entries[1].name, "link");
	vac_model_list_free(entries, count);
	assert_int_equal(count_fds(), fds);
}

static void test_no_memory(void **state)
{
	char models[512];
	const char *dirs[] = {models};
	struct vac_model_dirs where = {.dirs = dirs, .dir_count = 1};
	static const char *const names[] = {"org/other", "org/name", "alone"};
	struct vac_model_entry *entries;
	struct vac_error err = {0};
	size_t count, failures = 0;
	int rc, fds = count_fds();
	char *dir;

	(void)state;
	make_listing(models, sizeof(models));
	for (size_t i = 0; i < 3; i++) {
		for (unsigned long n = 0;; n++) {
			fail_after(n);
			rc = vac_model_resolve(&where, names[i], false, &dir, &err);
			fail_never();
			assert_int_equal(count_fds(), fds);
			if (rc == 0)
				break;
			assert_int_equal(rc, vac_error_errno(VAC_E_NO_ROOM));
			assert_null(dir);
			failures++;
		}
		free(dir);
	}
	for (unsigned long n = 0;; n++) {
		fail_after(n);
		rc = vac_model_list(&where, 100, &entries, &count, &err);
		fail_never();
		assert_int_equal(count_fds(), fds);
		if (rc == 0)
			break;
		assert_int_equal(rc, vac_error_errno(VAC_E_NO_ROOM));
		assert_null(entries);
		failures++;
	}
	assert_int_equal(count, 5);
	vac_model_list_free(entries, count);
	assert_true(failures > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_model_dirs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_place_that_is_a_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hub, setup, teardown),
		cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
