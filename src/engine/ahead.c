/*
 * ahead.c - see ahead.h. One thread: POSIX_FADV_WILLNEED queues a window's reading and
 * returns, or waits for room in the queue, so that the disk always has enough to do.
 * Read this way and copied from the page cache a file comes as fast as with O_DIRECT
 * (docs/decisions.md), and the next load finds it there.
 */
#include "engine/ahead.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "memory/meter.h"

#define WINDOW_BYTES ((uint64_t)1 << 20)

struct vac_ahead {
	const struct vac_safetensors *files;
	_Atomic bool stop;
	pthread_t thread;
};

static bool all_there(const struct vac_weight_file *file)
{
	uint64_t cached;
	return vac_meter_cached(file->fd, file->bytes, &cached) == 0 && cached >= file->bytes;
}

static void *ask_for_all(void *arg)
{
	struct vac_ahead *ahead = arg;
	for (size_t i = 0; i < ahead->files->file_count; i++) {
		const struct vac_weight_file *file = &ahead->files->files[i];
		uint64_t at = all_there(file) ? file->bytes : 0;
		for (; at < file->bytes; at += WINDOW_BYTES) {
			if (atomic_load_explicit(&ahead->stop, memory_order_relaxed))
				return NULL;
			/* a file system that cannot is read later, as ever */
			if (posix_fadvise(file->fd, (off_t)at, (off_t)WINDOW_BYTES,
					  POSIX_FADV_WILLNEED) != 0)
				break;
		}
	}
	return NULL;
}

struct vac_ahead *vac_ahead_new(const struct vac_safetensors *files)
{
	sigset_t all, before;
	struct vac_ahead *ahead = calloc(1, sizeof(*ahead));
	if (!ahead)
		return NULL;
	ahead->files = files;
	/* signals are for the threads of the program */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&ahead->thread, NULL, ask_for_all, ahead);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		return ahead;
	free(ahead);
	return NULL;
}

void vac_ahead_free(struct vac_ahead *ahead)
{
	if (!ahead)
		return;
	atomic_store_explicit(&ahead->stop, true, memory_order_relaxed);
	pthread_join(ahead->thread, NULL);
	free(ahead);
}
