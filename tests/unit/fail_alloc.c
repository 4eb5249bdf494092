/* fail_alloc.c - makes allocations of the code under test fail. One thread. */
#include "fail_alloc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static long left = -1; /* allocations that still succeed; negative: all do */
static bool once;      /* the first failure is the last */
static long failed, live;

/* The names that the linker gives to the wrapped functions. */
void __real_free(void *memory);
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void __wrap_free(void *memory);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t bytes);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);

void fail_after(long n)
{
	left = n;
	once = false;
	failed = 0;
}

void fail_only(long n)
{
	fail_after(n);
	once = true;
}

void fail_never(void)
{
	left = -1;
}

long fail_count(void)
{
	return failed;
}

long fail_live(void)
{
	return live;
}

static bool must_fail(void)
{
	if (left < 0)
		return false;
	if (left > 0) {
		left--;
		return false;
	}
	failed++;
	if (once)
		left = -1;
	errno = ENOMEM;
	return true;
}

static void *counted(void *memory)
{
	live += memory != NULL;
	return memory;
}

void __wrap_free(void *memory)
{
	live -= memory != NULL;
	__real_free(memory);
}

void *__wrap_malloc(size_t bytes)
{
	return must_fail() ? NULL : counted(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return must_fail() ? NULL : counted(__real_calloc(count, bytes));
}

void *__wrap_realloc(void *old, size_t bytes)
{
	if (must_fail())
		return NULL;
	return old ? __real_realloc(old, bytes) : counted(__real_realloc(NULL, bytes));
}

char *__wrap_strdup(const char *text)
{
	return must_fail() ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t bytes)
{
	return must_fail() ? NULL : counted(__real_strndup(text, bytes));
}

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return must_fail() ? MAP_FAILED : __real_mmap(at, bytes, prot, flags, fd, offset);
}
