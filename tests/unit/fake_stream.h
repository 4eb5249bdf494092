/*
 * fake_stream.h - copies of the fake driver: what is copied is there, or no longer
 * needed, only when it is waited for. Kernels compute at once, so what a download
 * brings is kept until then, and the source of an upload must be what it was.
 */
#ifndef FAKE_STREAM_H
#define FAKE_STREAM_H

#include <stdbool.h>
#include <stddef.h>

/* Memory that the device reaches by itself. */
void fake_stream_pin(void *at, size_t bytes);
/* Nothing may be on its way to or from it. */
void fake_stream_unpin(void *at);
bool fake_stream_pinned(const void *at, size_t bytes);
/* to NULL: an upload. */
void fake_stream_copy(void *to, const void *from, size_t bytes);
/* Of the last copy. */
long fake_stream_number(void);
/* All up to that one are done. */
void fake_stream_complete(long number);
/* Nothing is under way that was copied to or from pinned memory. */
bool fake_stream_idle(void);
void fake_stream_reset(void);
/* The device is lost: nothing arrives any more. */
void fake_stream_drop(void);

#endif
