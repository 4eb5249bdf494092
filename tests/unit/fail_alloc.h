/*
 * fail_alloc.h - makes one allocation of the program under test fail. The test
 * executable is linked with --wrap for malloc, calloc, realloc, free, strdup,
 * strndup and mmap (fail_alloc_dep in meson.build), so that every call that is compiled
 * into it, static libraries included, is counted; calls from within shared
 * libraries are not. For tests with one thread.
 */
#ifndef VAC_TESTS_FAIL_ALLOC_H
#define VAC_TESTS_FAIL_ALLOC_H

/* The next n allocations succeed, the one after them fails, all later ones
 * succeed again. Starts counting from 0. */
void fail_after(unsigned long n);
/* The same, but all that come after the failed one fail, too. */
void fail_from(unsigned long n);
/* No allocation fails any more. Starts counting from 0. */
void fail_never(void);
/* How many allocations were asked for since, failed ones included: more than
 * n after fail_after(n) means that one was refused. */
unsigned long fail_count(void);
/* Heap blocks allocated and not freed by the code that is counted. Only
 * differences mean something: a library's blocks are freed there, too. */
long fail_live(void);

#endif
