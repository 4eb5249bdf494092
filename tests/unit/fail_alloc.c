/* fail_alloc.c - counting and refusing allocations. Refuses one thread; counts for all. */
#include "fail_alloc.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

static unsigned long refused = ULONG_MAX;
static atomic_ulong count;
static bool all_later; /* what comes after the refused one is refused, too */
static atomic_long live;

void __real_free(void *memory);
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void __wrap_free(void *memory);
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
	all_later = false;
	count = 0;
}

void fail_from(unsigned long n)
{
	fail_after(n);
	all_later = true;
}

void fail_never(void)
{
	fail_after(ULONG_MAX);
}

unsigned long fail_count(void)
{
	return count;
}

long fail_live(void)
{
	return live;
}

static bool refuse(void)
{
	unsigned long index = count++;

	if (all_later ? index < refused : index != refused)
		return false;
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
	return refuse() ? NULL : counted(__real_malloc(bytes));
}

void *__wrap_calloc(size_t members, size_t bytes)
{
	return refuse() ? NULL : counted(__real_calloc(members, bytes));
}

void *__wrap_realloc(void *memory, size_t bytes)
{
	if (refuse())
		return NULL;
	return memory ? __real_realloc(memory, bytes) : counted(__real_realloc(NULL, bytes));
}

char *__wrap_strdup(const char *text)
{
	return refuse() ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t bytes)
{
	return refuse() ? NULL : counted(__real_strndup(text, bytes));
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
