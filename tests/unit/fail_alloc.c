/* fail_alloc.c - counting and refusing allocations. For tests with one thread. */
#include "fail_alloc.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>

static unsigned long refused = ULONG_MAX, count;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t members, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t bytes);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);

void fail_after(unsigned long n)
{
	refused = n;
	count = 0;
}

void fail_never(void)
{
	fail_after(ULONG_MAX);
}

unsigned long fail_count(void)
{
	return count;
}

static int refuse(void)
{
	if (count++ != refused)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *__wrap_malloc(size_t bytes)
{
	return refuse() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t members, size_t bytes)
{
	return refuse() ? NULL : __real_calloc(members, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
	return refuse() ? NULL : __real_realloc(memory, bytes);
}

char *__wrap_strdup(const char *text)
{
	return refuse() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t bytes)
{
	return refuse() ? NULL : __real_strndup(text, bytes);
}

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return refuse() ? MAP_FAILED : __real_mmap(at, bytes, prot, flags, fd, offset);
}

/* What mmap is called with 64-bit file offsets. */
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return refuse() ? MAP_FAILED : __real_mmap64(at, bytes, prot, flags, fd, offset);
}
