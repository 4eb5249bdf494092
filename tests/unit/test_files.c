/*
 * test_files.c - a model's files on their way to a worker: what is opened and what
 * is not, descriptors beside frames, and files that are found without the system.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "fail_alloc.h"
#include "temp_dir.h"
#include "wire/files.h"

static int make(void **state)
{
	*state = (void *)(uintptr_t)temp_dir_make();
	return 0;
}

static int clean(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

/* What the list says of a name; -1: nothing. *index counts the opened before it. */
static int state_of(const struct vac_wire_files *files, const char *name, uint32_t *index)
{
	struct vac_wire_string list = {(const char *)files->list.data, (uint32_t)files->list.bytes};
	struct vac_wire_file file;

	*index = 0;
	while (vac_wire_next_file(&list, &file)) {
		if (file.name.bytes == strlen(name) &&
		    memcmp(file.name.text, name, file.name.bytes) == 0)
			return (int)file.state;
		*index += file.state == VAC_HANDED_OPEN;
	}
	return -1;
}

static void assert_state(const struct vac_wire_files *files, const char *name, int want)
{
	uint32_t index;

	assert_int_equal(state_of(files, name, &index), want);
}

static struct vac_wire_files *open_files(const char *dir, const struct vac_model_dirs *where)
{
	struct vac_wire_files *files;
	struct vac_error err;

	assert_int_equal(vac_wire_files_open(dir, where, &files, &err), 0);
	return files;
}

static void what_is_opened(void **state)
{
	int before = count_fds();
	struct vac_wire_files *files;
	uint32_t index;
	char text[8] = {0};

	(void)state;
	temp_text("m/config.json", "{}");
	temp_text("m/model.safetensors", "weights");
	temp_text("m/pytorch_model.bin", "pickle");
	temp_text("m/vocab.txt", "a");
	temp_text("m/.hidden.json", "{}");
	temp_text("m/1_Pooling/config.json", "pool");
	temp_text("m/1_Pooling/README.md", "words");
	temp_text("m/1_Pooling/deeper/config.json", "{}");
	temp_text("m/checkpoint-500/config.json", "{}"); /* of training */
	temp_text("m/checkpoint-/config.json", "{}");
	temp_text("m/checkpoint-5a/config.json", "{}");
	temp_mkdir("m/dir.json");
	temp_symlink("nowhere", "m/dangling.json");
	assert_int_equal(mkfifo(temp_path("m/fifo.safetensors"), 0600), 0);
	files = open_files(temp_path("m"), NULL);
	assert_state(files, "config.json", VAC_HANDED_OPEN);
	assert_state(files, "model.safetensors", VAC_HANDED_OPEN);
	assert_state(files, "vocab.txt", VAC_HANDED_OPEN);
	assert_state(files, "pytorch_model.bin", VAC_HANDED_NAMED);
	assert_state(files, ".hidden.json", -1);
	assert_state(files, "1_Pooling/README.md", -1);
	assert_state(files, "1_Pooling/deeper/config.json", -1);
	assert_state(files, "checkpoint-500/config.json", -1);
	assert_state(files, "checkpoint-500", VAC_HANDED_NAMED);
	assert_state(files, "checkpoint-/config.json", VAC_HANDED_OPEN);
	assert_state(files, "checkpoint-5a/config.json", VAC_HANDED_OPEN);
	assert_state(files, "dir.json", VAC_HANDED_SPECIAL);
	assert_state(files, "fifo.safetensors", VAC_HANDED_SPECIAL);
	assert_state(files, "dangling.json", -1);
	assert_int_equal(state_of(files, "1_Pooling/config.json", &index), VAC_HANDED_OPEN);
	assert_int_equal(pread(files->fds[index], text, sizeof(text), 0), 4);
	assert_string_equal(text, "pool");
	assert_int_equal(files->fd_count, 6);
	assert_int_equal(count_fds(), before + 6);
	vac_wire_files_free(files);
	assert_int_equal(count_fds(), before);
}

static void no_directory_has_no_files(void **state)
{
	struct vac_wire_files *files;

	(void)state;
	files = open_files(temp_path("absent"), NULL);
	assert_int_equal(files->count, 0);
	vac_wire_files_free(files);
	vac_wire_files_free(NULL);
}

/* A checkpoint may hold links; it must not choose what is read for it. */
static void links(void **state)
{
	char other[512];
	const char *places[1];
	struct vac_model_dirs where = {.dirs = places, .dir_count = 1, .hub_cache = "/nonexistent"};
	struct vac_wire_files *files;

	(void)state;
	temp_text("secret/id_rsa", "key");
	temp_text("secretly/named.json", "key");
	temp_text("hub/models--a--b/blobs/123", "{}");
	temp_text("hub/models--c--d/blobs/456", "{}");
	temp_mkdir("hub/models--a--b/snapshots/0");
	temp_symlink("../../blobs/123", "hub/models--a--b/snapshots/0/config.json");
	temp_symlink("../../../models--c--d/blobs/456", "hub/models--a--b/snapshots/0/of_c.json");
	temp_symlink("../../../../secret/id_rsa", "hub/models--a--b/snapshots/0/tokenizer.json");
	temp_symlink("../../../../secretly", "hub/models--a--b/snapshots/0/1_Pooling");
	files = open_files(temp_path("hub/models--a--b/snapshots/0"), NULL);
	assert_state(files, "config.json", VAC_HANDED_OPEN);
	assert_state(files, "of_c.json", VAC_HANDED_OUTSIDE);
	assert_state(files, "tokenizer.json", VAC_HANDED_OUTSIDE);
	assert_state(files, "1_Pooling/named.json", VAC_HANDED_OUTSIDE);
	assert_int_equal(files->fd_count, 1);
	vac_wire_files_free(files);

	/* "secret" is no beginning of the path "secretly" */
	snprintf(other, sizeof(other), "%s", temp_path("secret"));
	places[0] = other;
	files = open_files(temp_path("hub/models--a--b/snapshots/0"), &where);
	assert_state(files, "tokenizer.json", VAC_HANDED_OPEN);
	assert_state(files, "1_Pooling/named.json", VAC_HANDED_OUTSIDE);
	vac_wire_files_free(files);

	where.dir_count = 0;
	snprintf(other, sizeof(other), "%s", temp_path("hub"));
	where.hub_cache = other;
	files = open_files(temp_path("hub/models--a--b/snapshots/0"), &where);
	assert_state(files, "of_c.json", VAC_HANDED_OPEN);
	assert_state(files, "tokenizer.json", VAC_HANDED_OUTSIDE);
	vac_wire_files_free(files);

	/* The directory itself may be a link: who made it is no checkpoint. */
	temp_symlink("hub/models--a--b/snapshots/0", "link");
	files = open_files(temp_path("link"), NULL);
	assert_state(files, "config.json", VAC_HANDED_OPEN);
	assert_state(files, "tokenizer.json", VAC_HANDED_OUTSIDE);
	vac_wire_files_free(files);
}

/* A cache whose repository, or its blobs, is on another disk. */
static void moved_cache(void **state)
{
	char hub[512];
	struct vac_model_dirs where = {.hub_cache = hub};
	struct vac_wire_files *files;
	const char *place = "hub/models--a--b/snapshots/0/";

	(void)state;
	snprintf(hub, sizeof(hub), "%s/", temp_path("hub"));
	temp_text("disk/blobs/123", "{}");
	temp_text("disk/other/456", "{}");
	temp_mkdir("hub/models--a--b/snapshots/0");
	temp_symlink("../../disk/blobs", "hub/models--a--b/blobs");
	temp_symlink("../../blobs/123", "hub/models--a--b/snapshots/0/config.json");
	temp_symlink("../../blobs/../other/456", "hub/models--a--b/snapshots/0/tokenizer.json");
	files = open_files(temp_path(place), &where);
	assert_state(files, "config.json", VAC_HANDED_OPEN);
	assert_state(files, "tokenizer.json", VAC_HANDED_OUTSIDE);
	vac_wire_files_free(files);
	/* Not in the cache, the same folders may come from anywhere. */
	files = open_files(temp_path(place), NULL);
	assert_state(files, "config.json", VAC_HANDED_OUTSIDE);
	vac_wire_files_free(files);
	/* Nor does a link that a stranger could make in a cache that all write to. */
	if (geteuid() == 0) {
		assert_int_equal(lchown(temp_path("hub/models--a--b/blobs"), 12345, 12345), 0);
		files = open_files(temp_path(place), &where);
		assert_state(files, "config.json", VAC_HANDED_OUTSIDE);
		vac_wire_files_free(files);
		assert_int_equal(chown(temp_path("hub"), 12345, 12345), 0);
		files = open_files(temp_path(place), &where);
		assert_state(files, "config.json", VAC_HANDED_OPEN);
		vac_wire_files_free(files);
	}

	temp_text("disk/minilm/blobs/789", "{}");
	temp_mkdir("disk/minilm/snapshots/0");
	temp_symlink("../../blobs/789", "disk/minilm/snapshots/0/config.json");
	temp_symlink("../../../blobs/123", "disk/minilm/snapshots/0/tokenizer.json");
	temp_symlink("../disk/minilm", "hub/models--c--d");
	files = open_files(temp_path("hub/models--c--d/snapshots/0"), &where);
	assert_state(files, "config.json", VAC_HANDED_OPEN);
	assert_state(files, "tokenizer.json", VAC_HANDED_OUTSIDE);
	vac_wire_files_free(files);
	if (geteuid() == 0) {
		assert_int_equal(lchown(temp_path("hub/models--c--d"), 54321, 54321), 0);
		files = open_files(temp_path("hub/models--c--d/snapshots/0"), &where);
		assert_state(files, "config.json", VAC_HANDED_OUTSIDE);
		vac_wire_files_free(files);
	}
}

static void limits(void **state)
{
	int before = count_fds();
	struct vac_wire_files *files;
	struct vac_error err;
	char name[32];

	(void)state;
	for (int i = 0; i < VAC_WIRE_MAX_FDS; i++) {
		snprintf(name, sizeof(name), "many/%d.json", i);
		temp_text(name, "{}");
	}
	files = open_files(temp_path("many"), NULL);
	assert_int_equal(files->fd_count, VAC_WIRE_MAX_FDS);
	vac_wire_files_free(files);
	temp_text("many/more.json", "{}");
	assert_int_equal(vac_wire_files_open(temp_path("many"), NULL, &files, &err), -E2BIG);
	assert_non_null(strstr(err.message, "253 files"));
	assert_int_equal(count_fds(), before);
}

/* Frames, descriptors and more frames: each gets what belongs to it. */
static void beside_the_bytes(void **state)
{
	int before = count_fds(), sock[2];
	struct vac_wire_inbox inbox = {0};
	struct vac_wire_files *a, *b;
	char bytes[64];
	size_t got = 0;
	struct stat st, want;

	(void)state;
	temp_text("a/config.json", "a");
	temp_text("b/config.json", "bb");
	a = open_files(temp_path("a"), NULL);
	b = open_files(temp_path("b"), NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	assert_int_equal(send(sock[0], "plain", 5, 0), 5);
	assert_int_equal(vac_wire_send_files(sock[0], "first", 5, a, 0), 5);
	assert_int_equal(vac_wire_send_files(sock[0], "second", 6, b, 0), 6);
	assert_int_equal(send(sock[0], "rest", 4, 0), 4);
	assert_int_equal(fstat(b->fds[0], &want), 0);
	vac_wire_files_free(a);
	vac_wire_files_free(b);
	assert_int_equal(vac_wire_inbox_take(&inbox), -1);
	while (got < 20) {
		ssize_t n = vac_wire_receive(sock[1], bytes + got, sizeof(bytes) - got, 0, &inbox);

		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_memory_equal(bytes, "plainfirstsecondrest", 20);
	assert_int_equal(inbox.count, 2);
	close(vac_wire_inbox_take(&inbox));
	assert_int_equal(fstat(inbox.fds[0], &st), 0);
	assert_int_equal(st.st_ino, want.st_ino);
	assert_int_equal(fcntl(inbox.fds[0], F_GETFD), FD_CLOEXEC);
	vac_wire_inbox_free(&inbox);
	close(sock[0]);
	close(sock[1]);
	assert_int_equal(count_fds(), before);
}

/* A process that may open no more loses some: their frame is told apart from the
 * next one, which gets its own. */
static void cut_short(void **state)
{
	int before = count_fds(), sock[2], fd;
	struct vac_wire_inbox inbox = {0};
	struct vac_wire_files *a, *b;
	struct rlimit limit, low;
	char bytes[16];

	(void)state;
	temp_text("two/config.json", "a");
	temp_text("two/tokenizer.json", "a");
	temp_text("one/config.json", "bb");
	a = open_files(temp_path("two"), NULL);
	b = open_files(temp_path("one"), NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	assert_int_equal(vac_wire_send_files(sock[0], "first", 5, a, 0), 5);
	assert_int_equal(vac_wire_send_files(sock[0], "second", 6, b, 0), 6);
	vac_wire_files_free(a);
	vac_wire_files_free(b);
	fd = dup(sock[1]); /* the lowest that is free */
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(vac_wire_receive(sock[1], bytes, sizeof(bytes), 0, &inbox), 5);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(vac_wire_receive(sock[1], bytes, sizeof(bytes), 0, &inbox), 6);
	assert_int_equal(vac_wire_inbox_take(&inbox), fd);
	assert_int_equal(vac_wire_inbox_take(&inbox), VAC_WIRE_CUT_SHORT);
	close(fd);
	fd = vac_wire_inbox_take(&inbox);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 2);
	close(fd);
	assert_int_equal(vac_wire_inbox_take(&inbox), -1);
	close(sock[0]);
	close(sock[1]);
	assert_int_equal(count_fds(), before);
}

/* What does not read descriptors is not disturbed by them. */
static void plain_receiver(void **state)
{
	int before = count_fds(), sock[2];
	struct vac_wire_files *files;
	char bytes[8];

	(void)state;
	temp_text("p/config.json", "{}");
	files = open_files(temp_path("p"), NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	assert_int_equal(vac_wire_send_files(sock[0], "frame", 5, files, 0), 5);
	vac_wire_files_free(files);
	assert_int_equal(recv(sock[1], bytes, sizeof(bytes), 0), 5);
	close(sock[0]);
	close(sock[1]);
	assert_int_equal(count_fds(), before);
}

static void count_name(void *ctx, const char *name)
{
	assert_true(strcmp(name, "a.json") == 0 || strcmp(name, "b.bin") == 0);
	++*(int *)ctx;
}

static void found_without_the_system(void **state)
{
	int before = count_fds(), fd, names = 0;
	struct vac_handed_dir *handed;
	struct vac_error err;
	uint64_t bytes;
	char path[512];

	(void)state;
	temp_text("real/a.json", "four");
	fd = open(temp_path("real/a.json"), O_RDONLY | O_CLOEXEC);
	handed = vac_handed_new("/not/there//");
	assert_non_null(handed);
	assert_int_equal(vac_handed_add(handed, "a.jsonX", 6, VAC_HANDED_OPEN, fd), 0);
	assert_int_equal(vac_handed_add(handed, "b.bin", 5, VAC_HANDED_NAMED, -1), 0);
	assert_int_equal(vac_handed_add(handed, "s/c.json", 8, VAC_HANDED_SPECIAL, -1), 0);
	assert_int_equal(vac_handed_add(handed, "s/d.json", 8, VAC_HANDED_UNREADABLE, -1), 0);
	assert_int_equal(vac_handed_add(handed, "s/e.json", 8, VAC_HANDED_OUTSIDE, -1), 0);

	fd = vac_open_file("/not/there/a.json", &bytes, &err);
	assert_true(fd >= 0);
	assert_int_equal(bytes, 4);
	close(fd);
	fd = vac_open_file("/not/there/./s/..//a.json", &bytes, &err);
	assert_int_equal(fd, -ENOENT);
	fd = vac_open_file("/not/there/.//a.json", &bytes, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(vac_open_file("/not/there/a.jso", &bytes, &err), -ENOENT);
	assert_int_equal(vac_open_file("/not/there/a.json/", &bytes, &err), -ENOENT);
	assert_int_equal(vac_open_file("/not/there/s", &bytes, &err), -ENOENT);
	assert_non_null(strstr(err.message, "/not/there/s: cannot open"));
	assert_int_equal(vac_open_file("/not/there/s//c.json", &bytes, &err), -EINVAL);
	assert_non_null(strstr(err.message, "is not a regular file"));
	assert_int_equal(vac_open_file("/not/there/s/d.json", &bytes, &err), -EIO);
	assert_non_null(strstr(err.message, "Permission denied"));
	assert_int_equal(vac_open_file("/not/there/s/e.json", &bytes, &err), -EINVAL);
	assert_non_null(strstr(err.message, "leads out of the model's directory"));
	assert_true(vac_file_exists("/not/there/b.bin"));
	assert_false(vac_file_exists("/not/there/c.bin"));
	assert_int_equal(vac_list_dir("/not/there/", count_name, &names), 0);
	assert_int_equal(names, 2);

	/* Everything else is found as ever. */
	assert_int_equal(vac_open_file("/not/therefore/a.json", &bytes, &err), -ENOENT);
	snprintf(path, sizeof(path), "%s", temp_path("real/a.json"));
	assert_true(vac_file_exists(path));
	vac_handed_free(handed);
	vac_handed_free(NULL);
	assert_false(vac_file_exists("/not/there/a.json"));
	assert_int_equal(vac_list_dir("/not/there", count_name, &names), -ENOENT);
	assert_int_equal(count_fds(), before);
}

static void no_memory(void **state)
{
	struct vac_wire_files *files = NULL;
	char hub[512];
	struct vac_model_dirs where = {.hub_cache = hub};
	struct vac_error err;
	int rc = -1, before = count_fds();

	(void)state;
	snprintf(hub, sizeof(hub), "%s", temp_path("."));
	temp_text("disk/1", "{}");
	temp_mkdir("models--n");
	temp_symlink("../disk", "models--n/blobs");
	temp_mkdir("models--n/snapshots/0");
	temp_symlink("../../blobs/1", "models--n/snapshots/0/config.json");
	temp_text("models--n/snapshots/0/sub/config.json", "{}");
	for (unsigned long n = 0; rc < 0; n++) {
		fail_after(n);
		rc = vac_wire_files_open(temp_path("models--n/snapshots/0"), &where, &files, &err);
		fail_never();
		if (rc < 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_int_equal(count_fds(), before);
		}
		assert_true(n < 100);
	}
	assert_state(files, "config.json", VAC_HANDED_OPEN);
	vac_wire_files_free(files);
	assert_int_equal(count_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_opened, make, clean),
		cmocka_unit_test_setup_teardown(no_directory_has_no_files, make, clean),
		cmocka_unit_test_setup_teardown(links, make, clean),
		cmocka_unit_test_setup_teardown(moved_cache, make, clean),
		cmocka_unit_test_setup_teardown(limits, make, clean),
		cmocka_unit_test_setup_teardown(beside_the_bytes, make, clean),
		cmocka_unit_test_setup_teardown(cut_short, make, clean),
		cmocka_unit_test_setup_teardown(plain_receiver, make, clean),
		cmocka_unit_test_setup_teardown(found_without_the_system, make, clean),
		cmocka_unit_test_setup_teardown(no_memory, make, clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
