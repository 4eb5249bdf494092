/* hold_world.c - see hold_world.h. */
#include "hold_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct hold_world world;

void hold_world_available(uint64_t bytes)
{
	char text[128];

	snprintf(text, sizeof(text), "MemTotal: %llu kB\nMemAvailable: %llu kB\n",
		 (unsigned long long)(512 * GIB / 1024), (unsigned long long)(bytes / 1024));
	temp_text("root/proc/meminfo", text);
}

int hold_world_begin(void **state)
{
	static char root[4096];

	(void)state;
	memset(&world, 0, sizeof(world));
	fake_hold_install();
	temp_dir_make();
	temp_mkdir("records");
	assert_int_equal(setenv("VACATE_HOLD_DIR", temp_path("records"), 1), 0);
	snprintf(root, sizeof(root), "%s", temp_path("root"));
	hold_world_available(256 * GIB);
	world.descriptors = count_fds();
	assert_int_equal(vac_hold_open(&world.hold, &world.err), 0);
	world.hold.host_root = root;
	world.hold.device_lock_ms = 100;
	return 0;
}

int hold_world_end(void **state)
{
	(void)state;
	for (size_t i = 0; i < world.count; i++) {
		vac_target_close(&world.targets[i]);
		if (waitpid(world.targets[i].pid, NULL, WNOHANG) == 0)
			fake_hold_kill(world.targets[i].pid, true);
	}
	vac_hold_close(&world.hold);
	assert_int_equal(fake_hold.nvml_depth, 0);
	assert_int_equal(count_fds(), world.descriptors);
	assert_false(hold_world_has_locks());
	fake_hold_remove();
	temp_dir_remove();
	unsetenv("VACATE_HOLD_DIR");
	return 0;
}

struct fake_process *hold_world_add(uint64_t bytes)
{
	struct vac_target *target = &world.targets[world.count++];

	assert_true(world.count <= WORLD_MOST);
	assert_int_equal(vac_target_open(fake_hold_child(0), target, &world.err), 0);
	return fake_hold_add(target->pid, bytes);
}

int hold_world_park(void)
{
	memset(&world.err, 0, sizeof(world.err));
	return vac_hold_park(&world.hold, world.targets, world.count, &world.options,
			     world.receipts, &world.err);
}

int hold_world_resume(void)
{
	memset(&world.err, 0, sizeof(world.err));
	return vac_hold_resume(&world.hold, world.targets, world.count, &world.options,
			       world.receipts, &world.err);
}

enum vac_hold_state hold_world_state(size_t target)
{
	enum vac_hold_state state = VAC_HOLD_UNKNOWN;

	assert_int_equal(vac_hold_state(&world.hold, &world.targets[target], &state, &world.err),
			 0);
	return state;
}

void hold_world_expect(int rc, enum vac_error_code code, const struct vac_error *err, ...)
{
	const char *part;
	va_list ap;

	if (rc != vac_error_errno(code) || err->code != code)
		print_error("%d, %s: %s\n", rc, vac_error_name(err->code), err->message);
	assert_int_equal(rc, vac_error_errno(code));
	assert_int_equal(err->code, code);
	va_start(ap, err);
	while ((part = va_arg(ap, const char *)) != NULL) {
		if (!strstr(err->message, part))
			print_error("no \"%s\" in: %s\n", part, err->message);
		assert_non_null(strstr(err->message, part));
	}
	va_end(ap);
}

void hold_world_expect_calls(const char *calls)
{
	static const char *const names[] = {"state", "lock", "checkpoint", "restore", "unlock"};
	char text[1024] = "";
	size_t at = 0;

	for (int i = 0; i < fake_hold.log_count; i++) {
		size_t target = 0;

		while (target < world.count && world.targets[target].pid != fake_hold.log[i].pid)
			target++;
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s %zu", i > 0 ? ", " : "",
				       names[fake_hold.log[i].call], target);
	}
	assert_string_equal(text, calls);
}

bool hold_world_has_locks(void)
{
	DIR *dir = opendir(temp_path("records"));
	struct dirent *entry;
	bool found = false;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		found |= strncmp(entry->d_name, "vacate-process-", 15) == 0;
	closedir(dir);
	return found;
}

bool hold_world_record(size_t target, struct vac_record *out)
{
	return vac_record_find(&world.hold, &world.targets[target], out);
}

pid_t hold_world_hold_lock(const char *path, unsigned seconds)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = open(path, O_RDONLY | O_CREAT, 0444);

		if (fd < 0 || flock(fd, LOCK_EX) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		alarm(seconds);
		pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}
