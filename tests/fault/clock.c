/*
 * clock.c - a wall clock that jumps: LD_PRELOADed by tests/e2e/test_clock.py.
 * Any thread.
 *
 * VACATE_CLOCK names a file that holds one int64_t, seconds, which the test
 * changes while programs run; they see it added to the time of day. Clocks
 * that cannot be set (CLOCK_MONOTONIC and the like) stay as they are, as they
 * do when an administrator or NTP sets the time.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static const volatile int64_t *offset_s;

static void __attribute__((constructor)) begin(void)
{
	const char *path = getenv("VACATE_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*offset_s), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		offset_s = map;
}

static int64_t offset(void)
{
	return offset_s ? *offset_s : 0;
}

EXPORT int clock_gettime(clockid_t id, struct timespec *out)
{
	static int (*next)(clockid_t, struct timespec *);
	int rc;

	if (!next) {
		void *found = dlsym(RTLD_NEXT, "clock_gettime");

		memcpy(&next, &found, sizeof(found));
	}
	rc = next(id, out);
	if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		out->tv_sec += offset();
	return rc;
}

EXPORT int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	out->tv_sec = now.tv_sec;
	out->tv_usec = now.tv_nsec / 1000;
	return 0;
}

EXPORT time_t time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}

EXPORT int timespec_get(struct timespec *out, int base)
{
	if (base != TIME_UTC)
		return 0;
	clock_gettime(CLOCK_REALTIME, out);
	return base;
}
