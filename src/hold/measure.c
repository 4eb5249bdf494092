/*
 * measure.c - USS and PSS of many processes until a deadline. The kernel walks a
 * process's pages for them, 6 ms for 800 MiB, and no read of that file can be called
 * off: so a thread reads, and who waits for it goes on without what is not there yet.
 */
#include "hold/usage.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define NS_PER_S 1000000000

struct entry {
	pid_t pid;
	uint32_t at;    /* in the list of holders */
	uint64_t bytes; /* RSS */
	struct vac_usage usage;
};

/* Of the thread and of who waits; the last of the two frees it. */
struct reading {
	pthread_mutex_t lock;
	pthread_cond_t ready;
	uint32_t count, done;
	bool left; /* nobody waits any more */
	bool over; /* the thread reads no more */
	struct entry entries[];
};

static void free_reading(struct reading *reading)
{
	pthread_cond_destroy(&reading->ready);
	pthread_mutex_destroy(&reading->lock);
	free(reading);
}

static void *read_all(void *ctx)
{
	struct reading *reading = ctx;
	bool left = false;

	for (uint32_t i = 0; i < reading->count && !left; i++) {
		struct vac_usage usage;

		(void)!vac_meter_process(reading->entries[i].pid, &usage, NULL);
		pthread_mutex_lock(&reading->lock);
		reading->entries[i].usage = usage;
		reading->done = i + 1;
		left = reading->left;
		pthread_mutex_unlock(&reading->lock);
	}
	pthread_mutex_lock(&reading->lock);
	reading->over = true;
	left = reading->left;
	pthread_cond_signal(&reading->ready);
	pthread_mutex_unlock(&reading->lock);
	if (left)
		free_reading(reading);
	return NULL;
}

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static struct reading *prepare(const struct vac_holders *holders)
{
	struct reading *reading =
		calloc(1, sizeof(*reading) + (size_t)holders->count * sizeof(reading->entries[0]));
	pthread_condattr_t attributes;

	if (!reading)
		return NULL;
	for (uint32_t i = 0; i < holders->count; i++)
		if (holders->list[i].pid > 0)
			reading->entries[reading->count++] =
				(struct entry){.pid = holders->list[i].pid,
					       .at = i,
					       .bytes = holders->list[i].rss_bytes};
	qsort(reading->entries, reading->count, sizeof(reading->entries[0]), compare_entries);
	pthread_mutex_init(&reading->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&reading->ready, &attributes);
	pthread_condattr_destroy(&attributes);
	return reading;
}

void vac_holders_measure(struct vac_holders *holders, int64_t deadline_ns)
{
	const struct timespec deadline = {.tv_sec = deadline_ns / NS_PER_S,
					  .tv_nsec = deadline_ns % NS_PER_S};
	struct reading *reading = holders->count ? prepare(holders) : NULL;
	pthread_attr_t attributes;
	pthread_t thread;
	bool over;

	if (!reading)
		return;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attributes, read_all, reading) != 0) {
		pthread_attr_destroy(&attributes);
		free_reading(reading);
		return;
	}
	pthread_attr_destroy(&attributes);
	pthread_mutex_lock(&reading->lock);
	while (!reading->over &&
	       pthread_cond_timedwait(&reading->ready, &reading->lock, &deadline) != ETIMEDOUT)
		;
	for (uint32_t i = 0; i < reading->done; i++)
		holders->list[reading->entries[i].at].usage = reading->entries[i].usage;
	for (uint32_t i = reading->done; i < reading->count; i++)
		holders->list[reading->entries[i].at].usage_late = true;
	over = reading->over;
	reading->left = true;
	pthread_mutex_unlock(&reading->lock);
	if (over)
		free_reading(reading);
}
