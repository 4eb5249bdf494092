/* kernels.c - compiled kernels, built in or from a cache; see kernels.h. */
#include "engine/cuda/kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"

#define MOST_BYTES ((size_t)64 << 20)
#define PATH_BYTES (PATH_MAX + 256)
#define MAGIC      UINT64_C(0x314c4e4b43414356) /* "VCACKNL1" */

static const struct vac_cuda_cubin *injected;

void vac_cuda_cubins_inject(const struct vac_cuda_cubin *list)
{
	injected = list;
}

const void *vac_cuda_cubin(int architecture, int element)
{
	const struct vac_cuda_cubin *at = injected ? injected : vac_cuda_cubins;
	while (at->image && (at->architecture != architecture || at->element != element))
		at++;
	return at->image;
}

/* What stands before the machine code. */
struct head {
	uint64_t magic, bytes, hash;
};

/* FNV-1a: tells versions and accidents apart, not attackers. */
static uint64_t hash(uint64_t h, const void *data, size_t bytes)
{
	const uint8_t *at = data;
	for (size_t i = 0; i < bytes; i++)
		h = (h ^ at[i]) * UINT64_C(0x100000001b3);
	return h;
}
#define HASH_START UINT64_C(0xcbf29ce484222325)

static uint64_t hash_sources(void)
{
	uint64_t h = HASH_START;
	for (unsigned i = 0; i < vac_cuda_source_count; i++) {
		h = hash(h, vac_cuda_sources[i].name, strlen(vac_cuda_sources[i].name) + 1);
		h = hash(h, vac_cuda_sources[i].text, strlen(vac_cuda_sources[i].text) + 1);
	}
	return h;
}

bool vac_cuda_cache_directory(char out[PATH_MAX])
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	static const char *const below[] = {"", "/vacate", "/kernels"};
	int length;
	if (base && *base == '/')
		length = snprintf(out, PATH_MAX, "%s", base);
	else if (home && *home == '/')
		length = snprintf(out, PATH_MAX, "%s/.cache", home);
	else
		return false;
	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
		if (length < 0 || length >= PATH_MAX - 16)
			return false;
		length += snprintf(out + length, PATH_MAX - (size_t)length, "%s", below[i]);
		if (mkdir(out, 0700) != 0 && errno != EEXIST)
			return false;
	}
	return true;
}

/* Machine code runs with our rights: a file or directory that others may write
 * is not ours. */
static bool ours_alone(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & 022);
}

static bool read_cached(const char *path, void **image, size_t *bytes)
{
	struct vac_buf file = VAC_BUF_INIT;
	struct head head;
	bool good = false;
	if (!ours_alone(path))
		return false;
	if (vac_read_file(path, MOST_BYTES, &file, NULL) == 0 && file.bytes > sizeof(head)) {
		memcpy(&head, file.data, sizeof(head));
		*bytes = file.bytes - sizeof(head);
		good = head.magic == MAGIC && head.bytes == *bytes &&
		       head.hash == hash(HASH_START, file.data + sizeof(head), *bytes);
	}
	*image = good ? malloc(*bytes) : NULL;
	if (*image)
		memcpy(*image, file.data + sizeof(head), *bytes);
	vac_buf_free(&file);
	return *image != NULL;
}

/* Whoever reads sees a whole file or none. A failure only costs time later. */
static bool write_cached(const char path[PATH_BYTES], const void *image, size_t bytes)
{
	char temporary[PATH_BYTES + 48];
	const struct head head = {MAGIC, bytes, hash(HASH_START, image, bytes)};
	/* In a container a worker has the same number each time: one that was killed while it
	 * wrote must not keep all later ones from it. */
	snprintf(temporary, sizeof(temporary), "%s.%ld-%" PRIx64, path, (long)getpid(),
		 (uint64_t)vac_now_ns());
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	bool good = vac_write_full(fd, &head, sizeof(head)) == 0 &&
		    vac_write_full(fd, image, bytes) == 0;
	good = close(fd) == 0 && good;
	good = good && rename(temporary, path) == 0;
	if (!good)
		unlink(temporary);
	return good;
}

/* Where a name is in the cache; false: there is no cache. */
static bool cache_path(const char *name, char out[PATH_BYTES])
{
	char directory[PATH_MAX];
	if (!vac_cuda_cache_directory(directory) || !ours_alone(directory))
		return false;
	snprintf(out, PATH_BYTES, "%s/%s", directory, name);
	return true;
}

bool vac_cuda_cache_get(const char *name, void *out, size_t bytes)
{
	char path[PATH_BYTES];
	void *image;
	size_t there;
	if (!cache_path(name, path) || !read_cached(path, &image, &there))
		return false;
	if (there == bytes)
		memcpy(out, image, bytes);
	free(image);
	return there == bytes;
}

bool vac_cuda_cache_put(const char *name, const void *what, size_t bytes)
{
	char path[PATH_BYTES];
	return cache_path(name, path) && write_cached(path, what, bytes);
}

int vac_cuda_kernels(int driver, int architecture, int element, void **image, size_t *bytes,
		     struct vac_error *err)
{
	char name[80], path[PATH_BYTES];
	const struct vac_nvrtc *nvrtc;
	snprintf(name, sizeof(name), "%016" PRIx64 "-sm_%d-%d-%d", hash_sources(), architecture,
		 element, driver);
	bool cached = cache_path(name, path);
	if (cached && read_cached(path, image, bytes))
		return 0;
	int rc = vac_nvrtc_load(driver / 1000, &nvrtc, err);
	if (rc < 0)
		return rc;
	rc = vac_cuda_compile(nvrtc, architecture, element, image, bytes, err);
	if (rc == 0 && cached)
		write_cached(path, *image, *bytes);
	return rc;
}
