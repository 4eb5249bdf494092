/*
 * modelpath.c - where models lie on disk. Only names: directories are listed,
 * files are asked for with stat, and the one file that is read is the hub
 * cache's own refs/main. Symbolic links are followed everywhere, since the hub
 * cache consists of them. Any thread.
 */
#include "base/modelpath.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/quote.h"

#define HUB_PREFIX     "models--"
#define COMPONENT_MAX  255u /* bytes: what file systems take */
#define REFS_MAX_BYTES 4096u

/* A growing list of entries while a listing is made. */
struct listing {
	struct vac_model_entry *entries;
	size_t count, capacity;
};

/* 1: it has a config.json, 0: not, negative: the system does not let us know. On
 * the stack, so that "no memory" cannot be mistaken for "no model". A path that
 * is too long for the buffer is too long for the system. */
static int look_for_config(const char *dir, struct vac_error *err)
{
	char path[PATH_MAX];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/config.json", dir);

	if (n <= 0 || (size_t)n >= sizeof(path))
		return 0;
	if (stat(path, &st) == 0)
		return S_ISREG(st.st_mode);
	if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ENAMETOOLONG)
		return 0;
	return vac_fail_errno(err, errno, "%s: cannot be looked at", path);
}

static bool has_config(const char *dir)
{
	return look_for_config(dir, NULL) > 0;
}

/* Opens a directory that may be missing: *out stays NULL then, and also when
 * it may not be read. What else can go wrong is an error. */
static int open_place(const char *path, DIR **out, struct vac_error *err)
{
	*out = opendir(path);
	if (*out || errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP ||
	    errno == ENAMETOOLONG)
		return 0;
	return vac_fail_errno(err, errno, "%s: cannot list", path);
}

/* One component of a name, or one directory entry that may become one. */
static bool component_ok(const char *text, size_t bytes)
{
	if (bytes == 0 || bytes > COMPONENT_MAX || !vac_utf8_valid(text, bytes))
		return false;
	if ((bytes == 1 && text[0] == '.') || (bytes == 2 && memcmp(text, "..", 2) == 0))
		return false;
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x20 || c == 0x7f || c == '\\' || c == '/')
			return false;
	}
	return true;
}

bool vac_model_name_ok(const char *name)
{
	const char *slash = strchr(name, '/');

	if (!slash)
		return component_ok(name, strlen(name));
	return component_ok(name, (size_t)(slash - name)) &&
	       component_ok(slash + 1, strlen(slash + 1));
}

/* The rules of Python's os.path.expandvars, which HF applies to these two
 * variables: $NAME and ${NAME}; what is not set stays as it is written. */
static void expand_vars(const char *text, struct vac_buf *out)
{
	while (*text) {
		const char *name = text + 1, *after, *value = NULL;
		char key[128];
		size_t length;

		if (*text != '$') {
			vac_buf_putc(out, *text++);
			continue;
		}
		if (*name == '{') {
			name++;
			length = strcspn(name, "}");
			after = name[length] ? name + length + 1 : NULL;
		} else {
			length = 0;
			while (isalnum((unsigned char)name[length]) || name[length] == '_')
				length++;
			after = length ? name + length : NULL;
		}
		if (after && length < sizeof(key)) {
			memcpy(key, name, length);
			key[length] = '\0';
			value = getenv(key);
		}
		if (!value) {
			vac_buf_putc(out, *text++);
			continue;
		}
		vac_buf_puts(out, value);
		text = after;
	}
}

/* value with ~ and variables expanded and suffix appended; NULL: no memory. */
static char *expand(const char *value, const char *suffix)
{
	struct vac_buf buf = VAC_BUF_INIT;
	const char *home = getenv("HOME");

	if (value[0] == '~' && (value[1] == '/' || value[1] == '\0') && home) {
		vac_buf_puts(&buf, home);
		value++;
	}
	expand_vars(value, &buf);
	vac_buf_puts(&buf, suffix);
	vac_buf_putc(&buf, '\0');
	if (!vac_buf_ok(&buf)) {
		vac_buf_free(&buf);
		return NULL;
	}
	return (char *)buf.data;
}

static const char *env_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/* In the order that huggingface_hub uses. */
int vac_model_hub_cache(const struct vac_model_dirs *where, char **out, struct vac_error *err)
{
	const char *value;

	*out = NULL;
	if (where->hub_cache)
		*out = strdup(where->hub_cache);
	else if ((value = env_set("HF_HUB_CACHE")) || (value = env_set("HUGGINGFACE_HUB_CACHE")))
		*out = expand(value, "");
	else if ((value = env_set("HF_HOME")))
		*out = expand(value, "/hub");
	else if ((value = env_set("XDG_CACHE_HOME")))
		*out = expand(value, "/huggingface/hub");
	else if ((value = env_set("HOME")))
		*out = vac_path_join(value, ".cache/huggingface/hub");
	else
		return 0;
	return *out ? 0 : vac_fail_nomem(err, "the path of the hub cache", 0);
}

/* What was read of a list is not all of it when the reading ended in an error. */
static int listed(const char *path, int error, struct vac_error *err)
{
	return error ? vac_fail_errno(err, error, "%s: cannot list", path) : 0;
}

/* Counts the entries of a directory, hidden ones aside, up to 1000; *only is
 * set (caller frees) when there is one. */
static int only_entry(const char *path, char **only, unsigned *count, struct vac_error *err)
{
	struct dirent *entry;
	DIR *dir;
	int rc = open_place(path, &dir, err), error = 0;

	*only = NULL;
	*count = 0;
	if (!dir)
		return rc;
	while (rc == 0 && *count < 1000 && (entry = vac_next_entry(dir, &error))) {
		if (entry->d_name[0] == '.')
			continue;
		free(*only);
		*only = strdup(entry->d_name);
		if (!*only)
			rc = vac_fail_nomem(err, path, strlen(entry->d_name));
		++*count;
	}
	closedir(dir);
	if (rc == 0)
		rc = listed(path, error, err);
	if (rc < 0 || *count != 1) {
		free(*only);
		*only = NULL;
	}
	return rc;
}

/* Reads REPO/refs/main. *commit NULL and 0: there is none. */
static int read_refs_main(const char *repo, char **commit, struct vac_error *err)
{
	struct vac_buf buf = VAC_BUF_INIT;
	char *path = vac_path_join(repo, "refs/main");
	struct stat st;
	int rc;

	*commit = NULL;
	if (!path)
		return vac_fail_nomem(err, "a path in the hub cache", 0);
	if (stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
		free(path);
		return 0;
	}
	rc = vac_read_file(path, REFS_MAX_BYTES, &buf, err);
	if (rc != 0)
		goto out;
	while (buf.bytes > 0 && isspace(buf.data[buf.bytes - 1]))
		buf.bytes--;
	if (!component_ok((const char *)buf.data, buf.bytes)) {
		rc = vac_fail(err, VAC_E_CORRUPT,
			      "%s: does not hold the name of a snapshot; download the model again",
			      path);
		goto out;
	}
	vac_buf_putc(&buf, '\0');
	if (vac_buf_ok(&buf))
		*commit = strdup((const char *)buf.data);
	if (!*commit)
		rc = vac_fail_nomem(err, path, buf.bytes);
out:
	vac_buf_free(&buf);
	free(path);
	return rc;
}

/* The snapshot of a hub repository that a user means by its bare name. With no
 * usable one *dir stays NULL and the reason is VAC_E_NOT_FOUND in err. */
static int hub_snapshot(const char *repo, char **dir, struct vac_error *err)
{
	char *snapshots = NULL, *commit = NULL;
	unsigned count;
	int rc;

	*dir = NULL;
	rc = read_refs_main(repo, &commit, err);
	if (rc != 0)
		return rc;
	snapshots = vac_path_join(repo, "snapshots");
	if (!snapshots)
		goto nomem;
	if (!commit) {
		rc = only_entry(snapshots, &commit, &count, err);
		if (rc != 0)
			goto out;
		if (count != 1) {
			rc = vac_fail(err, VAC_E_NOT_FOUND,
				      "%s: has no refs/main and %u snapshots, so that none can be "
				      "chosen; download the model again, or name the snapshot's "
				      "directory",
				      repo, count);
			goto out;
		}
	}
	*dir = vac_path_join(snapshots, commit);
	if (!*dir)
		goto nomem;
	if (!has_config(*dir)) {
		rc = vac_fail(err, VAC_E_NOT_FOUND,
			      "%s: this snapshot has no config.json; download the model again",
			      *dir);
		free(*dir);
		*dir = NULL;
	}
	goto out;
nomem:
	rc = vac_fail_nomem(err, "a path in the hub cache", 0);
out:
	free(commit);
	free(snapshots);
	return rc;
}

/* HUB/models--org--name for a name; NULL with rc 0: "--" in a name is not
 * allowed on the hub, where it would be another model's directory. */
static int hub_repo(const char *hub, const char *name, char **repo, struct vac_error *err)
{
	const char *slash = strchr(name, '/');
	struct vac_buf buf = VAC_BUF_INIT;

	*repo = NULL;
	if (strstr(name, "--"))
		return 0;
	vac_buf_printf(&buf, "%s/" HUB_PREFIX, hub);
	if (slash) {
		vac_buf_put(&buf, name, (size_t)(slash - name));
		vac_buf_puts(&buf, "--");
		name = slash + 1;
	}
	vac_buf_puts(&buf, name);
	vac_buf_putc(&buf, '\0');
	if (!vac_buf_ok(&buf)) {
		vac_buf_free(&buf);
		return vac_fail_nomem(err, "a path in the hub cache", 0);
	}
	*repo = (char *)buf.data;
	return 0;
}

/* The name of a place that is a model itself, as a download of one makes it: its
 * directory's. NULL and 0: no model can have it. */
static int own_name(const char *dir, char **name, struct vac_error *err)
{
	char *real = realpath(dir, NULL);
	const char *last = real ? strrchr(real, '/') + 1 : "";
	int rc = 0;

	*name = NULL;
	if (!real && errno == ENOMEM)
		return vac_fail_nomem(err, "the path of a model", PATH_MAX);
	if (component_ok(last, strlen(last))) {
		*name = strdup(last);
		if (!*name)
			rc = vac_fail_nomem(err, "the name of a model", strlen(last));
	}
	free(real);
	return rc;
}

/* The place is the model of that name: 1, or 0. */
static int find_itself(const char *dir, const char *name, char **out, struct vac_error *err)
{
	char *own;
	int rc = own_name(dir, &own, err);
	bool same = own && strcmp(own, name) == 0;

	free(own);
	if (!same)
		return rc;
	*out = strdup(dir);
	return *out ? 1 : vac_fail_nomem(err, "the path of a model", strlen(dir));
}

/* DIR/name when that is a model. 1: found, 0: not, negative: it cannot be known. A
 * directory inside a model (1_Pooling has a config.json too) is none. */
static int find_below(const char *dir, const char *name, char **out, struct vac_error *err)
{
	const char *slash = strchr(name, '/');
	char *path, *first, *parent;
	int rc = look_for_config(dir, err);

	if (rc != 0)
		return rc < 0 ? rc : find_itself(dir, name, out, err);
	if (slash) {
		first = strndup(name, (size_t)(slash - name));
		parent = first ? vac_path_join(dir, first) : NULL;
		free(first);
		if (!parent)
			return vac_fail_nomem(err, "the path of a model", 0);
		rc = look_for_config(parent, err);
		free(parent);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	path = vac_path_join(dir, name);
	if (!path)
		return vac_fail_nomem(err, "the path of a model", 0);
	rc = look_for_config(path, err);
	if (rc > 0)
		*out = path;
	else
		free(path);
	return rc;
}

static int resolve_path(const char *path, bool allow_path, char **dir, struct vac_error *err)
{
	struct vac_quoted shown;

	if (!allow_path)
		return vac_fail(err, VAC_E_INVALID,
				"%s: is a path where only the name of a model is accepted; start "
				"the server with --models and use the name below that directory",
				vac_quote(&shown, path, strlen(path)));
	if (!has_config(path))
		return vac_fail(err, VAC_E_NOT_FOUND,
				"%s: there is no config.json in it; give the directory that holds "
				"the model's config.json",
				vac_quote(&shown, path, strlen(path)));
	*dir = strdup(path);
	return *dir ? 0 : vac_fail_nomem(err, path, strlen(path));
}

/* The message for a name that is nowhere: every place that was looked at, as
 * far as a message holds them. */
static int fail_not_found(const struct vac_model_dirs *where, const char *hub, const char *name,
			  struct vac_error *err)
{
	struct vac_quoted shown;
	char places[256] = "";
	size_t used = 0;

	for (size_t i = 0; i < where->dir_count && used < sizeof(places); i++)
		used += (size_t)snprintf(places + used, sizeof(places) - used, "%s%s",
					 used ? ", " : "", where->dirs[i]);
	if (hub && used < sizeof(places))
		used += (size_t)snprintf(places + used, sizeof(places) - used, "%s%s",
					 used ? ", " : "", hub);
	if (used >= sizeof(places))
		memcpy(places + sizeof(places) - 4, "...", 4);
	return vac_fail(err, VAC_E_NOT_FOUND,
			"no model %s: no directory of that name with a config.json in %s; download "
			"it there or name its place with --models",
			vac_quote(&shown, name, strlen(name)),
			used ? places : "any place, since neither --models nor HOME is set");
}

bool vac_model_has_part(const char *subdir)
{
	static const char checkpoint[] = "checkpoint-";
	const char *number = subdir + sizeof(checkpoint) - 1;

	if (subdir[0] == '.')
		return false;
	return strncmp(subdir, checkpoint, sizeof(checkpoint) - 1) != 0 || *number == '\0' ||
	       number[strspn(number, "0123456789")] != '\0';
}

static int resolve_name(const struct vac_model_dirs *where, const char *name, char **dir,
			struct vac_error *err)
{
	char *hub = NULL, *repo = NULL;
	struct vac_error refused = {0};
	struct vac_quoted shown;
	struct stat st;
	int rc;

	if (!vac_model_name_ok(name))
		return vac_fail(err, VAC_E_INVALID,
				"%s: is not the name of a model; names are \"name\" or "
				"\"org/name\", without \".\", \"..\", backslashes and control "
				"characters",
				vac_quote(&shown, name, strlen(name)));
	for (size_t i = 0; i < where->dir_count; i++) {
		struct vac_error why;

		rc = find_below(where->dirs[i], name, dir, &why);
		if (rc > 0)
			return 0;
		/* A place that we may not read does not hide the others. */
		if (rc < 0 && refused.code == VAC_OK)
			refused = why;
	}
	rc = vac_model_hub_cache(where, &hub, err);
	if (rc == 0 && hub)
		rc = hub_repo(hub, name, &repo, err);
	if (rc != 0)
		goto out;
	if (repo && stat(repo, &st) == 0 && S_ISDIR(st.st_mode))
		rc = hub_snapshot(repo, dir, err);
	else if (refused.code == VAC_OK)
		rc = fail_not_found(where, hub, name, err);
	if (!*dir && refused.code != VAC_OK) {
		rc = vac_error_errno(refused.code);
		if (err)
			*err = refused;
	}
out:
	free(repo);
	free(hub);
	return rc;
}

int vac_model_resolve(const struct vac_model_dirs *where, const char *name, bool allow_path,
		      char **dir, struct vac_error *err)
{
	int rc;

	*dir = NULL;
	if (name[0] == '/' || strncmp(name, "./", 2) == 0 || strncmp(name, "../", 3) == 0)
		return resolve_path(name, allow_path, dir, err);
	rc = resolve_name(where, name, dir, err);
	/* What nobody knows by that name may be a directory here. */
	if (allow_path && *name && has_config(name) &&
	    (rc == vac_error_errno(VAC_E_INVALID) || rc == vac_error_errno(VAC_E_NOT_FOUND)))
		return resolve_path(name, true, dir, err);
	return rc;
}

/* Takes both strings, also when it fails. */
static int listing_add(struct listing *list, char *name, char *dir, struct vac_error *err)
{
	if (name && dir && list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		void *grown = realloc(list->entries, capacity * sizeof(list->entries[0]));

		if (grown) {
			list->entries = grown;
			list->capacity = capacity;
		}
	}
	if (!name || !dir || list->count == list->capacity) {
		free(name);
		free(dir);
		return vac_fail_nomem(err, "the list of models", 0);
	}
	list->entries[list->count++] = (struct vac_model_entry){.name = name, .dir = dir};
	return 0;
}

/* Adds the models in path; names get "org/" in front when org is given, and
 * without it a directory that is no model is looked into once more. A place
 * that is not there or cannot be read holds none. */
static int list_dir(struct listing *list, const char *path, const char *org, struct vac_error *err)
{
	struct dirent *entry;
	DIR *dir;
	int rc = open_place(path, &dir, err), error = 0;

	if (!dir)
		return rc;
	while (rc == 0 && (entry = vac_next_entry(dir, &error))) {
		char *sub, *name;

		if (entry->d_name[0] == '.' || !component_ok(entry->d_name, strlen(entry->d_name)))
			continue;
		sub = vac_path_join(path, entry->d_name);
		if (!sub) {
			rc = vac_fail_nomem(err, path, 0);
		} else if (has_config(sub)) {
			name = org ? vac_path_join(org, entry->d_name) : strdup(entry->d_name);
			rc = listing_add(list, name, sub, err);
		} else {
			if (!org)
				rc = list_dir(list, sub, entry->d_name, err);
			free(sub);
		}
	}
	closedir(dir);
	return rc < 0 ? rc : listed(path, error, err);
}

/* One directory entry of the hub cache. Broken ones are no models. */
static int list_hub_entry(struct listing *list, const char *hub, const char *file,
			  struct vac_error *err)
{
	const char *name = file + strlen(HUB_PREFIX), *dashes;
	char *repo = vac_path_join(hub, file), *dir, *plain;
	int rc;

	if (!repo)
		return vac_fail_nomem(err, "a path in the hub cache", 0);
	rc = hub_snapshot(repo, &dir, err);
	free(repo);
	if (!dir)
		return rc == -ENOMEM ? rc : 0;
	plain = strdup(name);
	dashes = strstr(name, "--");
	if (plain && dashes) {
		plain[dashes - name] = '/';
		memmove(plain + (dashes - name) + 1, dashes + 2, strlen(dashes + 2) + 1);
	}
	if (plain && (!vac_model_name_ok(plain) || strstr(plain, "--"))) {
		free(plain);
		free(dir);
		return 0;
	}
	return listing_add(list, plain, dir, err);
}

/* One of the --models directories. */
static int list_place(struct listing *list, const char *path, struct vac_error *err)
{
	char *name;
	int rc;

	if (!has_config(path))
		return list_dir(list, path, NULL, err);
	rc = own_name(path, &name, err);
	return name ? listing_add(list, name, strdup(path), err) : rc;
}

static int list_hub(struct listing *list, const char *hub, struct vac_error *err)
{
	struct dirent *entry;
	DIR *dir;
	int rc = open_place(hub, &dir, err), error = 0;

	if (!dir)
		return rc;
	while (rc == 0 && (entry = vac_next_entry(dir, &error)))
		if (strncmp(entry->d_name, HUB_PREFIX, strlen(HUB_PREFIX)) == 0)
			rc = list_hub_entry(list, hub, entry->d_name, err);
	closedir(dir);
	return rc < 0 ? rc : listed(hub, error, err);
}

static int by_name(const void *a, const void *b)
{
	const struct vac_model_entry *left = a, *right = b;

	return strcmp(left->name, right->name);
}

/* Adds the place's models behind the first old_count entries, which are sorted,
 * and keeps of two equal names the older: the place that resolve prefers. */
static void merge_place(struct listing *list, size_t old_count)
{
	size_t kept = old_count;

	for (size_t i = old_count; i < list->count; i++) {
		struct vac_model_entry *entry = &list->entries[i];

		if (old_count &&
		    bsearch(entry, list->entries, old_count, sizeof(*entry), by_name)) {
			free(entry->name);
			free(entry->dir);
		} else {
			list->entries[kept++] = *entry;
		}
	}
	list->count = kept;
	if (kept)
		qsort(list->entries, kept, sizeof(list->entries[0]), by_name);
}

int vac_model_list(const struct vac_model_dirs *where, size_t limit, struct vac_model_entry **out,
		   size_t *count, struct vac_error *err)
{
	struct listing list = {0};
	char *hub = NULL;
	int rc = 0;

	*out = NULL;
	*count = 0;
	for (size_t i = 0; i < where->dir_count; i++) {
		size_t old_count = list.count;

		rc = list_place(&list, where->dirs[i], err);
		if (rc != 0)
			goto err;
		merge_place(&list, old_count);
	}
	rc = vac_model_hub_cache(where, &hub, err);
	if (rc != 0)
		goto err;
	if (hub) {
		size_t old_count = list.count;

		rc = list_hub(&list, hub, err);
		if (rc != 0)
			goto err;
		merge_place(&list, old_count);
	}
	free(hub);
	while (list.count > limit) {
		list.count--;
		free(list.entries[list.count].name);
		free(list.entries[list.count].dir);
	}
	*out = list.entries;
	*count = list.count;
	return 0;
err:
	free(hub);
	vac_model_list_free(list.entries, list.count);
	return rc;
}

void vac_model_list_free(struct vac_model_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(entries[i].name);
		free(entries[i].dir);
	}
	free(entries);
}
