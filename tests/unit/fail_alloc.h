/*
 * fail_alloc.h - makes allocations of the code under test fail, one by one
 * (malloc, calloc, realloc, strdup, strndup, mmap; linked with -Wl,--wrap).
 * The C library's own allocations are left alone. One thread.
 */
#ifndef FAIL_ALLOC_H
#define FAIL_ALLOC_H

/* The next n allocations succeed, and all that follow fail. */
void fail_after(long n);
/* The next n allocations succeed, the one that follows fails, and then none. */
void fail_only(long n);
/* No more failures. */
void fail_never(void);
/* Allocations that failed since fail_after. */
long fail_count(void);
/* Heap blocks that were allocated and not freed by the code under test; only
 * differences mean something (a library's blocks are freed here, too). */
long fail_live(void);

#endif
