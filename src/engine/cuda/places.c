/*
 * places.c - what of the file system this backend's libraries open while they work: for
 * a worker that confines itself (compute.h, places). Written down from what NVIDIA's
 * driver 580 and its libraries are known to open; part sandbox of tests/gpu/run shows
 * what is missing. Any thread; touches no device.
 */
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/find.h"
#include "engine/cuda/backend.h"
#include "engine/cuda/kernels.h"

#define UUID_LINE "GPU UUID:"

struct adding {
	void (*add)(void *ctx, const char *path, enum vac_place how);
	void *ctx;
};

static void add_library(void *ctx, const char *directory)
{
	const struct adding *to = ctx;
	to->add(to->ctx, directory, VAC_PLACE_LIBRARY);
}

/* Where the loader looks by itself. */
static void add_loader(const struct adding *to)
{
	static const char *const system[] = {"/lib",       "/lib64",     "/usr/lib",
					     "/usr/lib64", "/usr/lib32", "/usr/local/lib"};
	const char *list = getenv("LD_LIBRARY_PATH");
	char directory[PATH_MAX];
	for (size_t i = 0; i < sizeof(system) / sizeof(system[0]); i++)
		to->add(to->ctx, system[i], VAC_PLACE_LIBRARY);
	to->add(to->ctx, "/etc/ld.so.cache", VAC_PLACE_READ);
	while (list && *list) {
		size_t length = strcspn(list, ":");
		if (length > 0 && length < sizeof(directory)) {
			memcpy(directory, list, length);
			directory[length] = '\0';
			to->add(to->ctx, directory, VAC_PLACE_LIBRARY);
		}
		list += length;
		list += *list == ':';
	}
}

static void add_all(const struct adding *to, const char *pattern, enum vac_place how)
{
	glob_t found;
	if (glob(pattern, 0, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		to->add(to->ctx, found.gl_pathv[i], how);
	globfree(&found);
}

/* The file of one GPU's lock, made if nobody has yet: then no directory of others' files
 * has to be opened for it. */
static void add_lock(const struct adding *to, const char *uuid)
{
	struct vac_lock lock;
	if (vac_lock_open_device(&lock, vac_lock_directory(), uuid, NULL) < 0)
		return; /* who takes it will say so */
	vac_lock_release(&lock, false);
	to->add(to->ctx, lock.path, VAC_PLACE_READ);
}

/* Which GPUs there are the kernel's driver tells without libcuda. */
static void add_locks(const struct adding *to)
{
	char line[256], pattern[PATH_MAX];
	glob_t found;
	if (glob("/proc/driver/nvidia/gpus/*/information", 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			FILE *file = fopen(found.gl_pathv[i], "re");
			while (file && fgets(line, sizeof(line), file)) {
				char *uuid = line + strlen(UUID_LINE);
				if (strncmp(line, UUID_LINE, strlen(UUID_LINE)) != 0)
					continue;
				uuid += strspn(uuid, " \t");
				uuid[strcspn(uuid, " \t\n")] = '\0';
				add_lock(to, uuid);
			}
			if (file)
				fclose(file);
		}
		globfree(&found);
	}
	/* those of slices, and of what was there before */
	snprintf(pattern, sizeof(pattern), "%s/vacate-[GM][PI][UG]-*.lock", vac_lock_directory());
	add_all(to, pattern, VAC_PLACE_READ);
}

void vac_cuda_places(void (*add)(void *ctx, const char *path, enum vac_place how), void *ctx)
{
	static const char *const devices[] = {"/dev/nvidiactl", "/dev/nvidia-uvm",
					      "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset",
					      "/dev/dxg"};
	/* of the machine, the driver and this process: nothing of users */
	static const char *const read[] = {
		"/dev/nvidia-caps",
		"/proc/driver/nvidia",
		"/proc/driver/nvidia-caps",
		"/proc/driver/nvidia-nvlink",
		"/proc/driver/nvidia-nvswitch",
		"/proc/devices",
		"/proc/modules",
		"/proc/cpuinfo",
		"/proc/meminfo",
		"/proc/locks",
		"/proc/filesystems",
		"/proc/sys/vm/mmap_min_addr",
		"/proc/sys/vm/overcommit_memory",
		"/proc/self",
		"/sys/devices",
		"/sys/bus/pci",
		"/sys/module",
		"/usr/share/nvidia",
		"/etc/nvidia",
		"/etc/localtime",
	};
	const struct adding to = {add, ctx};
	char directory[PATH_MAX];
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		add(ctx, devices[i], VAC_PLACE_DEVICE);
	add_all(&to, "/dev/nvidia[0-9]*", VAC_PLACE_DEVICE);
	for (size_t i = 0; i < sizeof(read) / sizeof(read[0]); i++)
		add(ctx, read[i], VAC_PLACE_READ);
	/* Its threads' names (task/N/comm): the only file whose refusal was left when an H200's
	 * driver did not start. What else may be written there, task/N/mem too, is this
	 * process's own. */
	add(ctx, "/proc/self/task", VAC_PLACE_WRITE);
	add_loader(&to);
	vac_find_places(add_library, (void *)&to);
	if (vac_cuda_cache_directory(directory))
		add(ctx, directory, VAC_PLACE_WRITE);
	add_locks(&to);
}
